//! One process: a session, its game, and what it has shown so far.

use std::collections::BTreeMap;

use netplay_protocol::{Now, PeerId};
use netplay_rollback::{Event, Input, Output, Player, Session, Tick};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::game::Game;

/// Something that leaves a node.
pub enum Sent {
    Block { to: PeerId, tick: u16, bytes: Vec<u8>, again: bool },
    Message { to: PeerId, bytes: Vec<u8> },
    Bulk { to: PeerId, bytes: Vec<u8> },
}

pub struct Node {
    pub peer: PeerId,
    pub session: Session,
    pub game: Game,
    pub saved: BTreeMap<Tick, Game>,
    /// Ticks that it may run on predictions.
    pub prediction: usize,
    /// The checksum of the state before each tick, as last run.
    pub sums: BTreeMap<Tick, u64>,
    /// States before ticks up to this one were compared with those of the others.
    pub compared: Tick,
    pub events: Vec<(Now, Event)>,
    /// What our players did, by the tick at which it counts.
    pub did: BTreeMap<(Player, Tick), Vec<u8>>,
    /// The last tick for which our players have done something.
    sampled: Tick,
    pub ours: Vec<Player>,
    /// Ticks between two changes of an input.
    pub change_every: Tick,
    /// Bytes of an input, at most.
    pub input_max: usize,
    rng: ChaCha8Rng,
    held: Vec<Vec<u8>>,
    /// Its clock is wrong by so much, in microseconds.
    pub offset: i64,
    pub frozen_until: Now,
    pub next_tick: Tick,
    /// The most states that were kept at once.
    pub most_saved: usize,
    pub snapshots: u32,
    /// What was given then: the state before which tick.
    pub given: Vec<(Tick, Vec<u8>)>,
    /// A game that does not do the same as the others.
    pub cheats: bool,
}

impl Node {
    pub fn new(
        session: Session,
        peer: PeerId,
        game: Game,
        ours: Vec<Player>,
        rng: ChaCha8Rng,
    ) -> Self {
        let held = vec![vec![0]; ours.len()];
        Self {
            peer,
            session,
            game,
            saved: BTreeMap::new(),
            prediction: 8,
            sums: BTreeMap::new(),
            compared: -1,
            events: Vec::new(),
            did: BTreeMap::new(),
            sampled: -1,
            ours,
            change_every: 10,
            input_max: 1,
            rng,
            held,
            offset: 0,
            frozen_until: Now::ZERO,
            next_tick: 0,
            most_saved: 0,
            snapshots: 0,
            given: Vec::new(),
            cheats: false,
        }
    }

    /// When its clock shows the next tick, at so many ticks per second.
    pub fn due(&self, rate: u64) -> Now {
        let micros = i64::from(self.next_tick) * 1_000_000 / rate as i64 + self.offset;
        Now::from_micros(micros.max(0) as u64).max(self.frozen_until)
    }

    /// The clock has come to `tick`.
    pub fn tick(&mut self, now: Now, tick: Tick) -> Vec<Sent> {
        self.next_tick = tick + 1;
        for (index, player) in self.ours.clone().into_iter().enumerate() {
            if self.rng.next_u32().is_multiple_of(self.change_every as u32) {
                let len = 1 + self.rng.next_u32() as usize % self.input_max;
                let held = &mut self.held[index];
                held.resize(len, 0);
                held.iter_mut().for_each(|byte| *byte ^= 1 << (self.rng.next_u32() % 8));
            }
            self.session.add_local_input(player, &self.held[index]).unwrap();
        }
        let sent = self.handle(now, Input::Tick(tick));
        let counts = tick + self.session.delay();
        // Until we are in the match, what we do does not count.
        let ours = if self.session.is_playing() { &self.ours[..] } else { &[] };
        // After a gap in time or a shorter delay, the session has filled some ticks itself.
        if counts > self.sampled {
            for (player, held) in ours.iter().zip(&self.held) {
                self.did.insert((*player, counts), held.clone());
            }
            self.sampled = counts;
        }
        sent
    }

    pub fn handle(&mut self, now: Now, input: Input<'_>) -> Vec<Sent> {
        self.session.handle(now, input);
        let mut sent = Vec::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Save(tick) => {
                    self.saved.insert(tick, self.game.clone());
                    // As documented: it asks for no more than these.
                    if self.saved.len() > self.prediction + 2 {
                        self.saved.pop_first();
                    }
                    self.most_saved = self.most_saved.max(self.saved.len());
                }
                Output::Checksum(tick) => {
                    let sum = self.saved[&tick].checksum();
                    self.session.handle(now, Input::Checksum { tick, sum });
                }
                Output::Load(tick) => {
                    self.saved.split_off(&(tick + 1));
                    self.game = self.saved[&tick].clone();
                }
                Output::Advance(tick) => self.run(tick),
                Output::Snapshot(tick) => {
                    self.snapshots += 1;
                    let bytes = self.saved[&tick].to_bytes();
                    self.session.handle(now, Input::Snapshot { tick, bytes: &bytes });
                    self.given.push((tick, bytes));
                }
                Output::Restore { tick, bytes } => {
                    self.game = Game::from_bytes(&bytes, self.game.players.len());
                    (self.compared, self.sums) = (tick - 1, BTreeMap::new());
                    self.sums.insert(tick, self.game.checksum());
                }
                Output::Block { to, tick, bytes, again } => {
                    sent.push(Sent::Block { to, tick, bytes, again });
                }
                Output::Message { to, bytes } => sent.push(Sent::Message { to, bytes }),
                Output::Bulk { to, bytes } => sent.push(Sent::Bulk { to, bytes }),
                Output::Event(event) => self.events.push((now, event)),
            }
        }
        sent
    }

    fn run(&mut self, tick: Tick) {
        let Self { session, game, .. } = self;
        assert!(session.inputs(tick).count() == game.players.len(), "tick {tick} has no inputs");
        game.step(session.inputs(tick));
        if self.cheats && tick == 100 {
            game.sum += 1;
        }
        self.sums.insert(tick + 1, game.checksum());
    }

    pub fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| is(event)).count()
    }
}
