//! One session whose peers are the test itself.

use netplay_protocol::{Now, PeerId};
use netplay_rollback::{Event, Input, Output, Player, Role, Seat, Session, SessionConfig, Tick};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::forge::SESSION;
use super::world::peer;

/// The settings of the peer `me` in a match of so many, the first of whom is the host.
pub fn config(peers: usize, me: usize, role: Role) -> SessionConfig {
    let roster = (0..peers).map(|of| Seat { peer: peer(of), players: 1 }).collect();
    SessionConfig { role, ..SessionConfig::new(SESSION, peer(me), peer(0), roster) }
}

pub struct Single {
    pub session: Session,
    pub now: Now,
    pub events: Vec<Event>,
    /// Reliable messages that it sent.
    pub messages: Vec<(PeerId, Vec<u8>)>,
    /// Messages on the bulk lane that it sent.
    pub bulk: Vec<(PeerId, Vec<u8>)>,
    pub blocks: u64,
    /// States that it asked for.
    pub snapshots: u64,
    /// States that it took.
    pub restored: Vec<Tick>,
}

impl Single {
    pub fn new(config: SessionConfig) -> Self {
        Self {
            session: Session::new(config).unwrap(),
            now: Now::ZERO,
            events: Vec::new(),
            messages: Vec::new(),
            bulk: Vec::new(),
            blocks: 0,
            snapshots: 0,
            restored: Vec::new(),
        }
    }

    /// A player of a match of so many, who is not the host.
    pub fn player(peers: usize) -> Self {
        Self::new(config(peers, 1, Role::Player))
    }

    pub fn handle(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        let mut wanted = Vec::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Event(event) => self.events.push(event),
                Output::Message { to, bytes } => self.messages.push((to, bytes)),
                Output::Bulk { to, bytes } => self.bulk.push((to, bytes)),
                Output::Block { .. } => self.blocks += 1,
                Output::Restore { tick, .. } => self.restored.push(tick),
                Output::Snapshot(tick) => wanted.push(tick),
                Output::Advance(tick) => assert!(self.session.inputs(tick).count() > 0),
                Output::Save(_) | Output::Checksum(_) | Output::Load(_) => {}
            }
        }
        for tick in wanted {
            self.snapshots += 1;
            self.handle(Input::Snapshot { tick, bytes: &[7; 100] });
        }
    }

    /// The clock comes to this tick, 60 a second.
    pub fn tick(&mut self, tick: Tick) {
        self.now = Now::from_micros(tick.max(0) as u64 * 16_667);
        self.handle(Input::Tick(tick));
        if self.session.next_deadline().is_some_and(|at| at <= self.now) {
            self.handle(Input::Deadline);
        }
    }

    pub fn ticks(&mut self, ticks: impl IntoIterator<Item = Tick>) {
        ticks.into_iter().for_each(|tick| self.tick(tick));
    }

    pub fn block(&mut self, from: usize, newest: Tick, bytes: &[u8]) {
        self.handle(Input::Block { from: peer(from), tick: newest as u16, bytes, again: false });
    }

    pub fn message(&mut self, from: usize, bytes: &[u8]) {
        self.handle(Input::Message { from: peer(from), bytes });
    }

    pub fn bulk(&mut self, from: usize, bytes: &[u8]) {
        self.handle(Input::Bulk { from: peer(from), bytes });
    }

    pub fn link(&mut self, other: usize, up: bool) {
        self.handle(Input::Link { peer: peer(other), up });
    }

    /// What a player did at a tick, if that is final.
    pub fn did(&self, player: usize, tick: Tick) -> Option<Vec<u8>> {
        self.session.final_inputs(tick).nth(player).flatten().map(<[u8]>::to_vec)
    }

    /// Messages of this kind to a peer.
    pub fn said(&self, to: usize, kind: u8) -> Vec<Vec<u8>> {
        let to_it = self.messages.iter().filter(|(at, bytes)| *at == peer(to) && bytes[0] == kind);
        to_it.map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Some local input for the tick that comes next, of the first of so many players who is ours.
    pub fn input(&mut self, players: u8, rng: &mut ChaCha8Rng) {
        let bytes = rng.next_u32().to_le_bytes();
        let bytes = &bytes[..(bytes[3] % 4).into()];
        (0..players).any(|player| self.session.add_local_input(Player(player), bytes).is_ok());
    }

    /// What the lobby server says of a peer: it is the host, or it is gone.
    pub fn lobby(&mut self, other: usize, gone: bool) {
        let other = peer(other);
        self.handle(if gone { Input::Gone(other) } else { Input::Host(other) });
    }
}
