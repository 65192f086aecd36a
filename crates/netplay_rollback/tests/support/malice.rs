//! A peer that lies: it damages, repeats and invents what it sends.

use netplay_rollback::Tick;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::forge::{self, Known, below};
use super::node::Sent;
use super::world::peer;

/// How it lies.
#[derive(Clone, Copy, Debug)]
pub struct Malice {
    /// Damages and invents input blocks too: others may then get different inputs from it.
    pub blocks: bool,
    /// Does so with each so many of its messages.
    pub one_in: u32,
    /// Invents so many messages at each of its ticks.
    pub invents: u32,
}

pub struct Liar {
    pub malice: Malice,
    rng: ChaCha8Rng,
    /// What it has sent, to be sent again.
    old: Vec<(bool, Vec<u8>)>,
}

impl Liar {
    pub fn new(malice: Malice, seed: u64) -> Self {
        Self { malice, rng: ChaCha8Rng::seed_from_u64(seed), old: Vec::new() }
    }

    /// What it really sends.
    pub fn corrupt(&mut self, sent: Vec<Sent>) -> Vec<Sent> {
        let mut out = Vec::new();
        for mut sent in sent {
            let lies = below(&mut self.rng, self.malice.one_in) == 0;
            match &mut sent {
                Sent::Block { bytes, .. } if lies && self.malice.blocks => self.damage(bytes),
                // One that is too long, or of another session, is no contradiction.
                Sent::Block { bytes, .. } if lies => match below(&mut self.rng, 3) {
                    0 => bytes[1] ^= 1,
                    1 => bytes.resize(1300, 0),
                    _ => continue,
                },
                Sent::Message { bytes, .. } | Sent::Bulk { bytes, .. } if lies => {
                    match below(&mut self.rng, 4) {
                        0 => continue,
                        1 => bytes.truncate(below(&mut self.rng, bytes.len() as u32) as usize),
                        _ => self.damage(bytes),
                    }
                }
                _ => {}
            }
            match &sent {
                Sent::Message { bytes, .. } => self.remember(false, bytes),
                Sent::Bulk { bytes, .. } => self.remember(true, bytes),
                Sent::Block { .. } => {}
            }
            out.push(sent);
        }
        out
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        for _ in 0..1 + below(&mut self.rng, 3) {
            let at = below(&mut self.rng, bytes.len() as u32) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << below(&mut self.rng, 8);
            }
        }
    }

    fn remember(&mut self, bulk: bool, bytes: &[u8]) {
        if self.old.len() == 50 {
            let at = below(&mut self.rng, 50) as usize;
            self.old.swap_remove(at);
        }
        if bytes.len() < 3000 {
            self.old.push((bulk, bytes.to_vec()));
        }
    }

    /// What it invents at a tick.
    pub fn invent(&mut self, own: usize, slots: usize, nodes: &[usize], tick: Tick) -> Vec<Sent> {
        let mut out = Vec::new();
        for _ in 0..self.malice.invents {
            let rng = &mut self.rng;
            let view = below(rng, 5);
            let known = Known { slots: slots as u8, own: own as u8, tick, view };
            let to = peer(nodes[below(rng, nodes.len() as u32) as usize]);
            out.push(match below(rng, 8) {
                0 => {
                    let bytes = forge::any_bulk(rng, &known);
                    Sent::Bulk { to, bytes }
                }
                1 if self.malice.blocks => {
                    let (tick, bytes) = forge::any_block(rng, &known);
                    Sent::Block { to, tick, bytes, again: false }
                }
                2 if !self.old.is_empty() => {
                    let at = below(rng, self.old.len() as u32) as usize;
                    match self.old[at].clone() {
                        (true, bytes) => Sent::Bulk { to, bytes },
                        (false, bytes) => Sent::Message { to, bytes },
                    }
                }
                // The same to all: a proposal and what follows from it.
                3 => {
                    let bytes = forge::any_message(rng, &known);
                    out.extend(nodes.iter().map(|node| {
                        let bytes = bytes.clone();
                        Sent::Message { to: peer(*node), bytes }
                    }));
                    continue;
                }
                _ => Sent::Message { to, bytes: forge::any_message(rng, &known) },
            });
        }
        out
    }
}
