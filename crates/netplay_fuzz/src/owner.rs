//! Whoever owns a session: it saves, loads and runs a tiny game as the session says, and holds the
//! session to its word.
//!
//! Asserted, for whatever goes into the session: ticks are run from the state that is there; a state is
//! loaded only if it was saved and is among those that an owner keeps; what is final stays, and is what
//! was run; what is sent is bounded in number and size.

use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::{Now, PeerId};
use netplay_rollback::limits::{BLOCK_MAX, CHECKSUMS_MAX, MESSAGE_MAX, PEERS_MAX, SNAPSHOT_PART};
use netplay_rollback::{
    Event, Input, InputStatus, Output, Player, PlayerInput, Session, SessionConfig, Tick,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Messages that one input may cause: a question to everybody, twice, and what is told to all.
const MESSAGES_MAX: usize = 3 * PEERS_MAX;
/// Messages on the bulk lane that one input may cause: a head and the parts ahead, for each watcher.
const BULK_MAX: usize = 9 * PEERS_MAX;
/// Events that one input may cause, besides differences: everybody leaves and joins.
const EVENTS_MAX: usize = 2 * PEERS_MAX + 4;
/// Ticks that are looked at again and again after they are final.
const WINDOW: Tick = 24;

/// The peer of this index.
pub(crate) const fn peer(index: usize) -> PeerId {
    PeerId::from_u128((index as u128 + 1) << 96)
}

/// The index of a peer.
pub(crate) const fn index(peer: PeerId) -> usize {
    (peer.as_u128() >> 96) as usize - 1
}

/// Which bytes are an input of this game.
pub(crate) fn is_valid(bytes: &[u8]) -> bool {
    bytes.len() <= 8 && bytes.first() != Some(&0xEE)
}

/// Something to be sent.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Block { tick: u16, bytes: Vec<u8>, again: bool },
    Message(Vec<u8>),
    Bulk(Vec<u8>),
}

pub(crate) struct Owner {
    pub(crate) session: Session,
    me: PeerId,
    players: usize,
    /// So many states are kept.
    keeps: usize,
    /// The game, and the tick that it runs next.
    game: u64,
    at: Tick,
    saved: BTreeMap<Tick, u64>,
    /// The state before each tick, and the inputs of each, as last run.
    pub(crate) sums: BTreeMap<Tick, u64>,
    ran: BTreeMap<Tick, u64>,
    confirmed: Tick,
    /// The inputs of ticks that are final.
    pub(crate) finals: BTreeMap<Tick, u64>,
    /// States that it was asked for and has not given.
    wanted: Vec<(Tick, u64)>,
    /// It gives a state as soon as it is asked.
    pub(crate) prompt: bool,
    /// Bytes of a state beyond the game.
    pub(crate) ballast: usize,
    /// It was dropped, or left.
    pub(crate) is_out: bool,
    /// What the last input caused.
    pub(crate) events: Vec<Event>,
    pub(crate) sent: Vec<(PeerId, Sent)>,
}

/// One number for what all players do at a tick.
fn hash<'a>(inputs: impl Iterator<Item = Option<&'a [u8]>>) -> u64 {
    inputs.fold(1, |sum, input| match input {
        Some(bytes) => xxh3_64_with_seed(bytes, sum),
        None => xxh3_64_with_seed(b"not in the match", sum),
    })
}

fn as_run(input: PlayerInput<'_>) -> Option<&[u8]> {
    (input.status != InputStatus::Absent).then_some(input.bytes)
}

impl Owner {
    pub(crate) fn new(config: SessionConfig) -> Self {
        let (me, keeps) = (config.me, usize::from(config.prediction) + 2);
        let players = config.roster.iter().map(|seat| usize::from(seat.players)).sum();
        Self {
            session: Session::new(config).expect("the settings are valid"),
            me,
            players,
            keeps,
            game: 1,
            at: 0,
            saved: BTreeMap::new(),
            sums: BTreeMap::new(),
            ran: BTreeMap::new(),
            confirmed: -1,
            finals: BTreeMap::new(),
            wanted: Vec::new(),
            prompt: true,
            ballast: 0,
            is_out: false,
            events: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Gives an input to the session, and does what it says. What it sends and tells is in
    /// [`Self::sent`] and [`Self::events`] until the next one.
    pub(crate) fn handle(&mut self, now: Now, input: Input<'_>) {
        self.events.clear();
        self.sent.clear();
        let known = self.confirmed;
        let ticks = matches!(input, Input::Tick(tick) if tick > self.session.tick());
        self.session.handle(now, input);
        while let Some(output) = self.session.poll_output() {
            assert!(!self.is_out, "a session that has ended says {output:?}");
            self.output(now, output);
        }
        self.is_out |= self.events.contains(&Event::Dropped) || matches!(input, Input::Leave);
        self.check_bounds();
        if !self.is_out {
            self.check_confirmed();
            if ticks {
                self.check_finals();
                self.check_run(known);
            }
        }
    }

    fn output(&mut self, now: Now, output: Output) {
        match output {
            Output::Save(tick) => {
                assert_eq!(tick, self.at, "another state is to be saved than is there");
                self.saved.insert(tick, self.game);
                if self.saved.len() > self.keeps {
                    self.saved.pop_first();
                }
            }
            Output::Checksum(tick) => {
                assert!(tick <= self.session.confirmed() + 1, "a state that is not final");
                let sum = *self.saved.get(&tick).expect("a checksum of a state that is not kept");
                self.session.handle(now, Input::Checksum { tick, sum });
            }
            Output::Load(tick) => {
                self.saved.split_off(&(tick + 1));
                self.game = *self.saved.get(&tick).expect("a state is loaded that is not kept");
                self.at = tick;
            }
            Output::Advance(tick) => self.advance(tick),
            Output::Snapshot(tick) => {
                assert!(tick <= self.session.confirmed() + 1, "a state that is not final");
                let game = *self.saved.get(&tick).expect("a state is asked for that is not kept");
                self.wanted.push((tick, game));
                if self.prompt {
                    self.give_snapshots(now);
                }
            }
            Output::Restore { tick, bytes } => self.restore(tick, &bytes),
            Output::Block { to, tick, bytes, again } => {
                assert!(bytes.len() <= BLOCK_MAX + 8, "a block of {} bytes", bytes.len());
                self.sent.push((to, Sent::Block { tick, bytes, again }));
            }
            Output::Message { to, bytes } => {
                assert!(bytes.len() <= MESSAGE_MAX, "a message of {} bytes", bytes.len());
                self.sent.push((to, Sent::Message(bytes)));
            }
            Output::Bulk { to, bytes } => {
                assert!(bytes.len() <= SNAPSHOT_PART + 7, "a part of {} bytes", bytes.len());
                self.sent.push((to, Sent::Bulk(bytes)));
            }
            Output::Event(event) => self.events.push(event),
        }
    }

    fn advance(&mut self, tick: Tick) {
        assert_eq!(tick, self.at, "another tick is to be run than is next");
        let inputs = self.session.inputs(tick).inspect(|input| assert!(is_valid(input.bytes)));
        let inputs: Vec<PlayerInput<'_>> = inputs.collect();
        let players = inputs.iter().map(|input| input.player.index());
        assert!(players.eq(0..self.players), "{inputs:?}");
        let ran = hash(inputs.into_iter().map(as_run));
        self.ran.insert(tick, ran);
        self.game = xxh3_64_with_seed(&ran.to_le_bytes(), self.game);
        self.at += 1;
        self.sums.insert(self.at, self.game);
    }

    fn restore(&mut self, tick: Tick, bytes: &[u8]) {
        let (game, rest) = bytes.split_first_chunk().unwrap_or((&[0; 8], bytes));
        self.game = u64::from_le_bytes(*game) ^ xxh3_64(&rest[..rest.len().min(1)]);
        self.at = tick;
        self.confirmed = tick - 1;
        self.saved.clear();
        self.wanted.clear();
        self.finals.clear();
        self.ran.clear();
        self.sums = BTreeMap::from([(tick, self.game)]);
    }

    /// Gives the states that were asked for.
    pub(crate) fn give_snapshots(&mut self, now: Now) {
        for (tick, game) in core::mem::take(&mut self.wanted) {
            let rest = if self.ballast == 0 { Vec::new() } else { vec![0; self.ballast] };
            let seed = game ^ xxh3_64(&rest[..rest.len().min(1)]);
            let bytes = [&seed.to_le_bytes()[..], &rest].concat();
            self.session.handle(now, Input::Snapshot { tick, bytes: &bytes });
        }
    }

    /// What our players do at the tick that comes next.
    pub(crate) fn act(&mut self, bytes: &[u8]) {
        for player in 0..self.players {
            // Refused if the player is not ours, or the bytes are no input.
            let _ = self.session.add_local_input(Player(player as u8), bytes);
        }
    }

    fn check_bounds(&self) {
        let count = |of: fn(&Sent) -> bool| self.sent.iter().filter(|(_, sent)| of(sent)).count();
        assert!(count(|sent| matches!(sent, Sent::Message(_))) <= MESSAGES_MAX, "{:?}", self.sent);
        assert!(count(|sent| matches!(sent, Sent::Bulk(_))) <= BULK_MAX);
        assert!(count(|sent| matches!(sent, Sent::Block { .. })) < PEERS_MAX);
        let told: BTreeSet<PeerId> = self.sent.iter().map(|(to, _)| *to).collect();
        assert!(!told.contains(&self.me), "it speaks to itself: {:?}", self.sent);
        let differences = |event: &&Event| matches!(event, Event::Desync { .. });
        let different = self.events.iter().filter(differences).count();
        assert!(different <= CHECKSUMS_MAX * PEERS_MAX);
        assert!(self.events.len() - different <= EVENTS_MAX, "{:?}", self.events);
    }

    fn final_inputs(&self, tick: Tick) -> Option<u64> {
        let mut inputs = self.session.final_inputs(tick).peekable();
        inputs.peek()?;
        Some(hash(inputs))
    }

    /// What was final is the same, if it is still kept.
    fn check_finals(&self) {
        for (tick, hash) in &self.finals {
            let now = self.final_inputs(*tick);
            assert!(now.is_none_or(|now| now == *hash), "the final inputs of {tick} have changed");
        }
    }

    /// What is final stays final.
    fn check_confirmed(&mut self) {
        let confirmed = self.session.confirmed();
        assert!(confirmed >= self.confirmed, "{confirmed} after {}", self.confirmed);
        if confirmed == self.confirmed {
            return;
        }
        for tick in (self.confirmed + 1).max(confirmed - WINDOW)..=confirmed {
            if let Some(hash) = self.final_inputs(tick) {
                self.finals.insert(tick, hash);
            }
        }
        self.confirmed = confirmed;
        for kept in [&mut self.finals, &mut self.ran, &mut self.sums] {
            while kept.first_key_value().is_some_and(|(tick, _)| *tick < confirmed - WINDOW) {
                kept.pop_first();
            }
        }
    }

    /// After a tick of the clock, what was final before was run as it is.
    fn check_run(&self, known: Tick) {
        for (tick, hash) in self.finals.range(..=known.min(self.at - 1)) {
            let ran = self.ran.get(tick);
            assert!(ran.is_none_or(|ran| ran == hash), "tick {tick} was run otherwise");
        }
    }
}
