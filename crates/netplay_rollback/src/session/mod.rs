//! The session: one peer's part in a match.
//!
//! | comes in | does |
//! |---|---|
//! | a tick of the clock | takes local inputs, tells them to everybody, runs again what was run with wrong guesses, runs the new tick |
//! | an input block | keeps what is new; the next tick uses it |
//! | a link that is gone, a peer that left | everybody who is left agrees on its last input (see `agreement`) |
//! | a peer without a state | one peer feeds it until it can play; nobody waits |
//!
//! Ticks come from the clock that all players share, so a session has no clock of its own. A player
//! whose simulation has to wait goes on telling its inputs: nobody waits for who waits.

mod checksums;
mod config;
mod feed;
mod inputs;
mod io;
mod messages;
mod remote;
mod simulation;
mod tick;
mod watch;

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use netplay_protocol::{Now, PeerId};

use crate::agreement::{Agreement, Effect, Ledger};
use crate::input::{Cell, InputBytes, Player, Tick};
use crate::limits::{BLOCK_MAX, DELAY_MAX, PEERS_MAX, SNAPSHOT_MAX};
use crate::message::{Decision, Leave, Mask, Message, Slot};
use checksums::Checksums;
pub(crate) use config::check_roster;
pub use config::{ConfigError, Role, Seat, SessionConfig};
use feed::Feeds;
use inputs::Inputs;
pub use io::{Event, Input, Output, PlayerInput, Refusals, Stats};
use remote::{Arrived, Remote, Scratch};
use simulation::Simulation;
use watch::Watching;

/// A local input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalInputError {
    /// No player of that number sits here.
    #[error("player {0} is not one of ours")]
    NotOurs(u8),
    /// It is too long, or not one that the others would take.
    #[error("an input of {0} bytes is not valid")]
    Invalid(usize),
}

/// One peer's part in a match.
///
/// Drive it with [`Self::handle`], then do what [`Self::poll_output`] says until it says nothing.
///
/// # Examples
///
/// ```
/// use netplay_protocol::{Now, PeerId};
/// use netplay_rollback::{Input, Output, Player, Seat, Session, SessionConfig};
///
/// let me = PeerId::from_u128(1);
/// let roster = vec![Seat { peer: me, players: 1 }];
/// let mut session = Session::new(SessionConfig::new(7, me, me, roster))?;
///
/// let mut position = 0;
/// for tick in 0..3 {
///     session.add_local_input(Player(0), &[tick as u8])?;
///     session.handle(Now::ZERO, Input::Tick(tick));
///     while let Some(output) = session.poll_output() {
///         if let Output::Advance(tick) = output {
///             position += session.inputs(tick).map(|input| u32::from(input.bytes[0])).sum::<u32>();
///         }
///     }
/// }
/// assert_eq!(position, 3);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    id: u64,
    epoch: u32,
    me: PeerId,
    /// Our slot; `None` for a spectator.
    slot: Option<Slot>,
    roster: Vec<PeerId>,
    inputs: Inputs,
    simulation: Simulation,
    agreement: Agreement,
    remotes: Vec<Remote>,
    checksums: Checksums,
    feeds: Feeds,
    /// Until we have all that was before we play; for a spectator always.
    watching: Option<Watching>,
    /// The next tick that players who catch up need, and the view in which they said so.
    wants: BTreeMap<Slot, (u32, Tick)>,
    spectators_up: BTreeSet<PeerId>,
    linked: Mask,
    local: Vec<Option<InputBytes>>,
    delay: Tick,
    /// The tick to which the clock last came by a leap.
    woke: Tick,
    next_delay: Option<(Tick, u8)>,
    stalled_since: Option<Tick>,
    ended: bool,
    stats: Stats,
    late: Vec<bool>,
    scratch: Scratch,
    bits: Vec<u8>,
    /// Buffers of blocks that were sent.
    spare: Vec<Vec<u8>>,
    outputs: VecDeque<Output>,
}

/// Nobody tells us any ticks.
const TOLD_NOTHING: Range<Tick> = 0..0;

impl Session {
    /// A session before its first tick.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: SessionConfig) -> Result<Self, ConfigError> {
        let neutral = config.check()?;
        let slots = config.roster.len();
        let counts = config.roster.iter().map(|seat| usize::from(seat.players));
        // Half a second, so that everybody hears of a first tick before it comes.
        let lead = Tick::from(config.rate.per_second() / 2).max(8);
        let mut inputs = Inputs::new(counts, neutral, config.validate, lead);
        let roster: Vec<PeerId> = config.roster.iter().map(|seat| seat.peer).collect();
        let find = |peer| roster.iter().position(|other| *other == peer);
        let (slot, host) = (find(config.me), find(config.host).unwrap_or(0));
        let all: Mask = (0..slots).collect();
        let absent: Mask = config.absent.iter().filter_map(|peer| find(*peer)).collect();
        let absent = absent.without(slot.into_iter().collect());
        let plays = config.role == Role::Player;
        // Who watches has no part in the agreement: its place is one that nobody has.
        let mut agreement = Agreement::new(slot.unwrap_or(usize::from(u8::MAX)), host, all, absent);
        let watching = match config.role {
            Role::Player => None,
            Role::Returning => Some(Watching::new(0, None)),
            Role::Spectator { delay, from_start } => {
                Some(Watching::new(delay, from_start.then_some(0)))
            }
        };
        let linked = if plays { all.without(absent) } else { Mask::default() };
        absent.iter().for_each(|slot| inputs.leave(slot, -1));
        if !plays {
            let others = all.without(slot.into_iter().collect()).without(absent);
            agreement.restore(0, others);
            others.iter().for_each(|slot| agreement.set_lost(slot, true));
        }
        let local = slot.map_or(0, |slot| inputs.players(slot).len());
        Ok(Self {
            id: config.id,
            epoch: config.epoch,
            me: config.me,
            slot,
            roster,
            late: vec![false; inputs.queues.len()],
            inputs,
            simulation: Simulation::new(config.prediction, config.checksum_every, config.predictor),
            agreement,
            remotes: (0..slots).map(|_| Remote::new(-1)).collect(),
            checksums: Checksums::default(),
            feeds: Feeds::default(),
            watching,
            wants: BTreeMap::new(),
            spectators_up: BTreeSet::new(),
            linked,
            local: vec![None; local],
            delay: config.delay.into(),
            woke: -1,
            next_delay: None,
            stalled_since: None,
            ended: false,
            stats: Stats::default(),
            scratch: Scratch::default(),
            bits: Vec::new(),
            spare: Vec::new(),
            outputs: VecDeque::new(),
        })
    }

    /// What a local player does at the tick that is handled next. Of a player for whom nothing is
    /// given, the last input is repeated.
    ///
    /// # Errors
    /// [`LocalInputError`].
    pub fn add_local_input(&mut self, player: Player, bytes: &[u8]) -> Result<(), LocalInputError> {
        let players = self.slot.map_or(0..0, |slot| self.inputs.players(slot));
        if !players.contains(&player.index()) {
            return Err(LocalInputError::NotOurs(player.0));
        }
        let invalid = LocalInputError::Invalid(bytes.len());
        let input = InputBytes::new(bytes).ok_or(invalid)?;
        if !self.inputs.is_valid(&Cell::Given(input.clone())) {
            return Err(invalid);
        }
        self.local[player.index() - players.start] = Some(input);
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes back the buffer of a block that was sent. With that, and inputs of at most 22 bytes, a tick
    /// allocates nothing once the history is full.
    pub fn recycle(&mut self, mut block: Vec<u8>) {
        if self.spare.len() < PEERS_MAX && block.capacity() <= 2 * BLOCK_MAX {
            block.clear();
            self.spare.push(block);
        }
    }

    /// When to send the next [`Input::Deadline`].
    pub const fn next_deadline(&self) -> Option<Now> {
        self.agreement.next_deadline()
    }

    /// The inputs of all players for a tick as it is to be run, or was run last. Empty for ticks that
    /// are not run yet or long final.
    pub fn inputs(&self, tick: Tick) -> impl Iterator<Item = PlayerInput<'_>> {
        self.simulation.inputs(tick).into_iter().flatten()
    }

    /// The final inputs of a tick, for a recording: `None` in place of who was not in the match. Empty
    /// for ticks that are not final or no longer kept.
    pub fn final_inputs(&self, tick: Tick) -> impl Iterator<Item = Option<&[u8]>> {
        let queues = &self.inputs.queues[..];
        let known = tick <= self.confirmed()
            && queues.iter().all(|queue| *queue.get(tick) != Cell::Missing);
        let queues = if known { queues } else { &[] };
        queues.iter().map(move |queue| match queue.get(tick) {
            Cell::Given(input) => Some(input.as_slice()),
            Cell::Absent | Cell::Missing => None,
        })
    }

    /// The checksums of our newest final states, by the tick after them, for a recording.
    pub fn final_checksums(&self) -> impl Iterator<Item = (Tick, u64)> {
        self.checksums.finals()
    }

    /// The checksums that others have told of a state that we have a checksum of, if it is one of the newest:
    /// for whom to follow after [`Event::Desync`].
    pub fn checksums_of(&self, tick: Tick) -> impl Iterator<Item = (PeerId, u64)> {
        self.checksums.told(tick).filter_map(|(slot, sum)| Some((*self.roster.get(slot)?, sum)))
    }

    /// Runs at most so many ticks on predictions from now on, and never more than the settings allow: for
    /// a machine that is too slow to run more of them again.
    pub fn limit_prediction(&mut self, ticks: u8) {
        self.simulation.limit = ticks.into();
    }

    /// Asks for the bytes of a final state, for a recording: an [`Output::Snapshot`] comes with one of
    /// the next ticks. It may be of a past state, of which the owner then gives the bytes as it does for
    /// who joins.
    pub const fn want_snapshot(&mut self) {
        self.simulation.snapshot_wanted = true;
    }

    /// The last tick whose inputs are final.
    pub fn confirmed(&self) -> Tick {
        self.inputs.confirmed()
    }

    /// The last tick that was run with what is final: nothing goes back to before the one after it. It may be
    /// earlier than [`Session::confirmed`], which says what is known: ticks are run again at the next tick.
    pub fn settled(&self) -> Tick {
        self.simulation.settled().min(self.confirmed())
    }

    /// The tick that is run next.
    pub const fn current(&self) -> Tick {
        self.simulation.current()
    }

    /// The last tick that was handled.
    pub const fn tick(&self) -> Tick {
        self.inputs.tick
    }

    /// Whether our players are in the match.
    pub fn is_playing(&self) -> bool {
        let watches = self.watching.as_ref().is_some_and(|watching| watching.last.is_none());
        !self.ended && self.slot.is_some() && !watches
    }

    /// Whether the simulation waits for inputs.
    pub const fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// The peers who play.
    pub fn members(&self) -> impl Iterator<Item = PeerId> {
        self.agreement.members().iter().filter_map(|slot| self.roster.get(slot).copied())
    }

    /// Our input delay in ticks.
    pub const fn delay(&self) -> Tick {
        self.delay
    }

    /// What it has done so far.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn slot_of(&self, peer: PeerId) -> Option<Slot> {
        self.roster.iter().position(|other| *other == peer)
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Takes one input; then drain [`Self::poll_output`].
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        if self.ended {
            return;
        }
        match input {
            Input::Tick(tick) => self.advance(tick, true),
            Input::Passed(tick) => self.advance(tick, false),
            Input::Block { from, tick, bytes, again } => {
                self.block(from, Arrived { tick, bytes, again });
            }
            Input::Message { from, bytes } => self.message(from, bytes),
            Input::Bulk { from, bytes } => self.bulk(from, bytes),
            Input::Link { peer, up } => self.link(peer, up),
            Input::Gone(peer) => {
                if let Some(slot) = self.slot_of(peer).filter(|slot| Some(*slot) != self.slot) {
                    self.agreement.set_gone(slot);
                }
            }
            Input::Host(peer) => {
                if let Some(slot) = self.slot_of(peer) {
                    self.agreement.set_host(slot);
                }
            }
            Input::Seat { of, peer } => self.seat(of, peer),
            Input::Checksum { tick, sum } => self.checksum(tick, sum),
            Input::Snapshot { tick, bytes } => self.snapshot(tick, bytes),
            Input::Delay(delay) => self.change_delay(delay),
            Input::Leave => self.leave(),
            Input::Deadline => {}
        }
        self.agreed();
        if !self.ended {
            self.agreement.set_held_up(self.held_up());
            self.agreement.step(now, &mut self.inputs);
            self.agreed();
        }
    }

    fn block(&mut self, from: PeerId, block: Arrived<'_>) {
        let slot = self.slot_of(from).filter(|slot| self.agreement.members().contains(*slot));
        let (Some(slot), Some(me)) = (slot, self.slot) else {
            self.stats.refused.foreign += 1;
            return;
        };
        // Until it is agreed that we play, blocks say nothing to us.
        if slot == me || !self.is_playing() {
            return;
        }
        let Self { remotes, inputs, scratch, stats, id, .. } = self;
        remotes[slot].read(inputs, (slot, me), *id as u8, block, scratch, &mut stats.refused);
    }

    fn link(&mut self, peer: PeerId, up: bool) {
        if let Some(slot) = self.slot_of(peer) {
            self.linked.set(slot, up);
            self.agreement.set_lost(slot, !up);
            if up {
                self.agreement.tell_newest(slot);
            }
        } else if up {
            self.spectators_up.insert(peer);
        } else {
            self.spectators_up.remove(&peer);
        }
        if !up {
            self.feeds.remove(peer);
            if let Some(watching) =
                self.watching.as_mut().filter(|watching| watching.feeder == Some(peer))
            {
                watching.feeder = None;
            }
        }
    }

    /// A seat is another peer's.
    fn seat(&mut self, of: PeerId, peer: PeerId) {
        let free = self
            .slot_of(of)
            .filter(|slot| Some(*slot) != self.slot && !self.agreement.members().contains(*slot));
        let Some(slot) = free.filter(|_| self.slot_of(peer).is_none() && peer != self.me) else {
            return;
        };
        // Of who had it before, nothing counts any more.
        self.link(of, false);
        self.wants.remove(&slot);
        let up = self.spectators_up.remove(&peer);
        self.feeds.remove(peer);
        self.roster[slot] = peer;
        if up {
            self.link(peer, true);
        }
        // Until it is told who plays, who comes later asks everybody who has a seat.
        if self.watching.as_ref().is_some_and(|watching| watching.next.is_none()) {
            let members = Mask(self.agreement.members().0 | Mask::of(slot).0);
            self.agreement.restore(self.agreement.view(), members);
        }
    }

    fn snapshot(&mut self, tick: Tick, bytes: &[u8]) {
        if bytes.is_empty() || bytes.len() > SNAPSHOT_MAX {
            self.stats.refused.limit += 1;
            return;
        }
        let view = (self.agreement.view(), self.agreement.members());
        self.feeds.snapshot(tick, bytes, &self.inputs, view);
    }

    fn change_delay(&mut self, delay: u8) {
        let delay = delay.min(DELAY_MAX);
        let at = self.inputs.tick + self.inputs.lead();
        self.next_delay = Some((at, delay));
        self.say_all(&Message::Delay { at, delay });
        self.event(Event::Delay { at, delay });
    }

    fn leave(&mut self) {
        self.say_all(&Message::Leave);
        self.ended = true;
    }

    /// Does what the agreement wants.
    fn agreed(&mut self) {
        while let Some(effect) = self.agreement.poll() {
            match effect {
                Effect::Say { to, view, agree } => {
                    if self.linked.contains(to) && Some(to) != self.slot {
                        self.say(to, &Message::Agree { view, agree });
                    }
                }
                Effect::Decided { decision, members } => self.decided(&decision, members),
                Effect::NoQuorum => self.event(Event::NoQuorum),
            }
        }
    }

    /// The next view begins.
    fn decided(&mut self, decision: &Decision, members: Mask) {
        let me = self.slot;
        let joined = decision.joins.iter().find(|join| Some(join.slot) == me).map(|join| join.from);
        if !self.is_playing() {
            // Who fed us, and nobody else, may have known what is undone by its death.
            let undone = |leave: &Leave| self.inputs.is_told_after(leave.slot, leave.last);
            if decision.leaves.iter().any(undone) {
                if joined.is_some() {
                    return self.dropped();
                }
                self.watching.iter_mut().for_each(Watching::restart);
                return;
            }
        } else if decision.leaves.iter().any(|leave| Some(leave.slot) == me) {
            return self.dropped();
        }
        if let Some(from) = joined {
            self.begin_to_play(from, members, decision.joined());
        } else if !self.is_playing() {
            return;
        }
        // Of several who leave, one may have had inputs of the others that nobody has who stays.
        let first = decision.leaves.iter().map(|leave| leave.last).min();
        for leave in decision.leaves.iter().filter(|_| joined.is_none()) {
            self.inputs.leave(leave.slot, leave.last);
            self.checksums.left(leave.slot, first.unwrap_or(leave.last));
            let (peer, at) = (self.roster[leave.slot], leave.last + 1);
            if let Some(watching) = self.watching.as_mut().filter(|w| w.feeder == Some(peer)) {
                watching.feeder = None;
            }
            self.event(Event::Left { peer, at });
        }
        for join in &decision.joins {
            if joined.is_none() {
                let told = self.watching.as_ref().and_then(Watching::told);
                self.inputs.join(join.slot, join.from, &told.unwrap_or(TOLD_NOTHING));
            }
            self.remotes[join.slot] = Remote::new(join.from - 1);
            let peer = self.roster[join.slot];
            self.feeds.joins(peer, join.from);
            self.event(Event::Joined { peer, at: join.from });
        }
    }

    /// It is agreed that we play from this tick on. What happens before it still comes from our
    /// feeder, the rest from the players themselves.
    fn begin_to_play(&mut self, from: Tick, members: Mask, joined: Mask) {
        let Some(me) = self.slot else { return };
        for slot in 0..self.roster.len() {
            self.remotes[slot] = Remote::new(from - 1);
            if slot != me && !members.contains(slot) {
                self.inputs.leave(slot, from - 1);
            }
        }
        self.inputs.join(me, from, &TOLD_NOTHING);
        if let Some(watching) = &mut self.watching {
            watching.ends(from - 1, members.without(joined), joined.without(Mask::of(me)));
        }
    }

    fn dropped(&mut self) {
        self.ended = true;
        self.event(Event::Dropped);
    }

    fn say(&mut self, to: Slot, message: &Message) {
        let (to, bytes) = (self.roster[to], message.encode(self.id));
        self.outputs.push_back(Output::Message { to, bytes });
    }

    fn say_all(&mut self, message: &Message) {
        let own: Mask = self.slot.into_iter().collect();
        for slot in self.agreement.members().and(self.linked).without(own).iter() {
            self.say(slot, message);
        }
    }
}
