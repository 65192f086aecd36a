//! A match: the machine of `netplay_rollback`, the world that it saves, loads and runs, and the links.
//!
//! At every tick of the clock that the players share: read what the local players do, tell it to
//! everybody at once, go back and run again what was run with wrong guesses, and run the new tick.
//!
//! Guaranteed: a tick of a match begins with the registered state that it began with on every other
//! machine, the same inputs and the same `Time<Fixed>`. Not guaranteed: what the simulation makes of
//! anything else.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_time::{Fixed, Time};
use netplay_protocol::{Now, PeerId};
use netplay_rollback::{Event, Input, Output, Player, Seat, Session};
use netplay_tick::NetTick;

use super::RollbackPlugin;
use super::clock::{Driven, Resimulating, SimulatedTick, go_back, keep_time, run_tick, time_of};
use super::delay::{self, Chooser};
use super::despawn::InTick;
use super::desync::{self, DesyncPolicy, Desyncs, Tell};
use super::encoded::EncodedState;
use super::events::{
    InputDelayChanged, NoQuorum, PlayersJoined, PlayersLeft, RollbackError, SeatedPlayer,
    SimulationRestored, SimulationResumed, SimulationStalled, trigger,
};
use super::input::InputType;
use super::pace::{self, Began, Pace};
use super::record::{self, Recording};
use super::seating::{self, is_nobody};
use super::snapshot;
use super::state::SavedStates;
use super::status::RollbackStatus;
use super::types::StateTypes;
use super::wire::{self, Bulk, Carrier, Machine, Said};
use crate::match_time::{FixedLoop, Match, MatchTick, rate_of};

/// Messages that wait until a reliable lane has room for them; a peer that lets more wait is lost.
const WAITING_MAX: usize = 1024;

/// Of a peer whose process has ended as far as the lobby server can see, nothing is heard for so long: it
/// plays nowhere else. Three ticks at 60 Hz; who lives after all comes back like anybody who was dropped.
const GONE_AFTER: Duration = Duration::from_millis(50);

/// Our part in a match.
pub(crate) struct Play {
    pub(crate) lobby: Entity,
    pub(crate) session: Session,
    pub(crate) seats: Vec<Seat>,
    pub(crate) me: PeerId,
    timestep: Duration,
    /// The first tick that was never run.
    fresh: i32,
    /// When inputs of each peer last came.
    heard: BTreeMap<PeerId, Now>,
    /// Peers to which the lobby server has no connection.
    offline: BTreeMap<PeerId, Now>,
    /// Chooses the input delay, if it may change.
    pub(crate) delay: Option<Chooser>,
    /// What this machine can simulate.
    pub(crate) pace: Pace,
    /// Messages that wait for room.
    waiting: BTreeMap<PeerId, VecDeque<(Carrier, Vec<u8>)>>,
    /// Where our state differs from that of others.
    pub(crate) desyncs: Desyncs,
    /// We have no seat.
    pub(crate) watches: bool,
    /// Nothing more is played of this match.
    refused: bool,
    /// The machine has dropped us: another one is to begin.
    pub(crate) dropped: bool,
    /// What is written of it, if the game wants that.
    pub(crate) recording: Option<Recording>,
}

impl Play {
    pub(crate) fn new(
        lobby: Entity,
        me: PeerId,
        session: Session,
        seats: Vec<Seat>,
        timestep: Duration,
        settings: &RollbackPlugin,
    ) -> Self {
        Self {
            lobby,
            session,
            seats,
            me,
            timestep,
            fresh: 0,
            heard: BTreeMap::new(),
            offline: BTreeMap::new(),
            delay: Chooser::new(settings, rate_of(timestep)),
            pace: Pace::new(settings.prediction),
            waiting: BTreeMap::new(),
            desyncs: Desyncs::default(),
            watches: false,
            refused: false,
            dropped: false,
            recording: None,
        }
    }

    /// All who play: not those of free seats.
    pub(crate) fn players(&self) -> impl Iterator<Item = SeatedPlayer> {
        let peers = self
            .seats
            .iter()
            .flat_map(|seat| core::iter::repeat_n(seat.peer, usize::from(seat.players)));
        let seated = |(index, peer)| SeatedPlayer {
            player: Player(index as u8),
            peer,
            local: peer == self.me,
        };
        peers.enumerate().filter(|(_, peer)| !is_nobody(*peer)).map(seated)
    }

    /// Ticks that were run so far, again or not.
    const fn ran(&self) -> u64 {
        let stats = self.session.stats();
        stats.advanced + stats.resimulated
    }

    /// Whether a peer is in the match now.
    pub(crate) fn is_member(&self, peer: PeerId) -> bool {
        self.session.members().any(|member| member == peer)
    }

    fn players_of(&self, peer: PeerId) -> Vec<Player> {
        let theirs = self.players().filter(|seated| seated.peer == peer);
        theirs.map(|seated| seated.player).collect()
    }

    /// Inputs came.
    pub(crate) fn block(&mut self, now: Now, from: PeerId, tick: u16, bytes: &[u8], again: bool) {
        self.heard.insert(from, now);
        if let Some(chooser) = self.delay.as_mut().filter(|_| self.session.is_playing()) {
            chooser.note(now, from, tick, self.session.tick(), self.session.delay());
        }
        self.session.handle(now, Input::Block { from, tick, bytes, again });
    }

    /// A message of the machine came.
    pub(crate) fn message(&mut self, now: Now, from: PeerId, carrier: Carrier, bytes: &[u8]) {
        let input = match carrier {
            Carrier::Reliable => Input::Message { from, bytes },
            Carrier::Bulk => Input::Bulk { from, bytes },
        };
        self.session.handle(now, input);
    }

    /// A player tells what it has where we differ.
    pub(crate) fn hear(&mut self, from: PeerId, tell: Tell) {
        if self.seats.iter().any(|seat| seat.peer == from) {
            self.desyncs.hear(from, tell);
        }
    }

    /// The lobby server has lost a peer, or has it again.
    pub(crate) fn set_offline(&mut self, now: Now, peer: PeerId, offline: bool) {
        if offline {
            self.offline.insert(peer, now);
        } else {
            self.offline.remove(&peer);
        }
    }

    /// Whether the lobby server has lost a peer.
    pub(crate) fn is_offline(&self, peer: PeerId) -> bool {
        self.offline.contains_key(&peer)
    }

    /// Finds who has ended: the lobby server has lost it, and so have we.
    fn find_gone(&mut self, now: Now) {
        let Self { offline, heard, session, .. } = self;
        offline.retain(|peer, since| {
            let last = heard.get(peer).map_or(*since, |heard| (*heard).max(*since));
            let gone = now.since(last) >= GONE_AFTER;
            if gone {
                tracing::info!(?peer, "a player's game has ended");
                session.handle(now, Input::Gone(*peer));
            }
            !gone
        });
    }
}

/// The match that is played, if any: only one world is simulated.
#[derive(Resource, Default)]
pub(crate) struct Playing {
    pub(crate) play: Option<Play>,
    /// A match was played before.
    pub(crate) again: bool,
}

/// Runs the ticks that are due.
pub(crate) fn run(world: &mut World) {
    // Taken out, for observers of the game look at the world in the middle of it.
    let Some(mut play) = world.resource_mut::<Playing>().play.take() else { return };
    let due = world.resource_mut::<FixedLoop>().take_due();
    let Some(now) = wire::now(world, play.lobby) else { return record::end(world, &mut play) };
    if !world.entity(play.lobby).contains::<Match>() {
        leave(world, &mut play, now);
        record::end(world, &mut play);
        world.entity_mut(play.lobby).remove::<RollbackStatus>();
        return;
    }
    flush_waiting(world, &mut play);
    world.resource_mut::<Driven>().0 = true;
    let (began, ran) = (Began::now(world), play.ran());
    keep_time(world, |world| {
        for tick in due.ticks.clone() {
            read_inputs(world, &mut play);
            let last = tick + 1 == due.ticks.end;
            play.session.handle(now, if last { Input::Tick(tick) } else { Input::Passed(tick) });
            perform(world, &mut play, now, last);
        }
        play.session.handle(now, Input::Deadline);
        if !due.held {
            play.find_gone(now);
        }
        perform(world, &mut play, now, false);
        // Where no tick has to be guessed, hardly a state is kept, which would do it.
        let first = play.session.settled() + 1;
        SavedStates::scope(world, |world, states| states.bury_before(world, first));
    });
    world.resource_mut::<Driven>().0 = false;
    let ran = play.ran() - ran;
    pace::step(world, &mut play, ran as u32, &began);
    delay::step(world, &mut play, now);
    record::follow(world, &mut play);
    if follow_policy(world, &mut play, now) {
        record::end(world, &mut play);
        return;
    }
    if play.dropped {
        record::end(world, &mut play);
        if !play.refused {
            seating::come_back(world, play.lobby);
        }
    } else {
        world.resource_mut::<Playing>().play = Some(play);
    }
}

/// Does what is to be done where our state differs from that of others; whether the match is over for us.
fn follow_policy(world: &mut World, play: &mut Play, now: Now) -> bool {
    let policy = desync::run(world, play, now);
    if policy == DesyncPolicy::Continue {
        return false;
    }
    leave(world, play, now);
    play.dropped = policy == DesyncPolicy::Resync;
    if play.dropped {
        tracing::warn!("the state of the other players is taken");
    } else {
        seating::refuse(world, play.lobby, RollbackError::Desync);
    }
    !play.dropped
}

/// Says that we leave.
pub(crate) fn leave(world: &mut World, play: &mut Play, now: Now) {
    play.session.handle(now, Input::Leave);
    perform(world, play, now, true);
}

fn read_inputs(world: &mut World, play: &mut Play) {
    let Some(input_type) = world.get_resource::<InputType>().copied() else { return };
    (input_type.read)(world, &mut |player, bytes| {
        if let Err(error) = play.session.add_local_input(player, bytes) {
            tracing::warn!(%error, ?player, "an input is not taken");
        }
    });
}

/// Does what the machine wants done. Blocks leave before the simulation runs: they have waited long enough.
fn perform(world: &mut World, play: &mut Play, now: Now, mut flush: bool) {
    while let Some(output) = play.session.poll_output() {
        let simulates = matches!(output, Output::Load(_) | Output::Save(_) | Output::Advance(_));
        if simulates && core::mem::take(&mut flush) {
            wire::flush(world, play.lobby);
        }
        match output {
            Output::Save(tick) => {
                SavedStates::scope(world, |world, states| states.save(world, tick));
            }
            Output::Checksum(tick) => checksum(world, play, now, tick),
            Output::Load(tick) => {
                if let Err(error) = go_back(world, tick, play.fresh - 1) {
                    // A broken promise of ours; the way back is that of who was dropped.
                    tracing::error!(%error, "the match is joined anew");
                    play.dropped = true;
                }
            }
            Output::Advance(tick) => advance(world, play, tick),
            Output::Snapshot(tick) => give_snapshot(world, play, now, tick),
            Output::Restore { tick, bytes } => restore(world, play, tick, &bytes),
            Output::Block { to, tick, bytes, again } => {
                let again = again.then_some(play.timestep / 2);
                wire::send_inputs(world, play.lobby, to, tick, &bytes, again);
                play.session.recycle(bytes);
            }
            Output::Message { to, bytes } => say(world, play, to, Carrier::Reliable, bytes),
            Output::Bulk { to, bytes } => say(world, play, to, Carrier::Bulk, bytes),
            Output::Event(event) => tell(world, play, now, event),
        }
    }
    if flush {
        wire::flush(world, play.lobby);
    }
}

/// Runs one tick, with what the machine knows or guesses of it.
fn advance(world: &mut World, play: &mut Play, tick: i32) {
    world.resource_mut::<SimulatedTick>().0 = tick;
    world.resource_mut::<MatchTick>().0 = Some(NetTick::ZERO.plus(tick));
    world.resource_mut::<Resimulating>().0 = tick < play.fresh;
    play.fresh = play.fresh.max(tick + 1);
    if let Some(input_type) = world.get_resource::<InputType>().copied() {
        let inputs = play.session.inputs(tick);
        (input_type.show)(world, &mut inputs.map(|input| (input.bytes, input.status)));
    }
    world.resource_mut::<InTick>().0 = true;
    run_tick(world, time_of(tick, play.timestep));
    world.resource_mut::<Resimulating>().0 = false;
}

/// Gives the checksum of a state that is kept and final.
fn checksum(world: &mut World, play: &mut Play, now: Now, tick: i32) {
    let sum = SavedStates::scope(world, |world, states| {
        play.desyncs.take(states, world.resource::<StateTypes>(), tick)
    });
    match sum {
        Ok(sum) => play.session.handle(now, Input::Checksum { tick, sum }),
        Err(error) => tracing::error!(%error, "no checksum"),
    }
}

/// Gives the bytes of a state that is kept.
fn give_snapshot(world: &mut World, play: &mut Play, now: Now, tick: i32) {
    let state = SavedStates::scope(world, |world, states| {
        EncodedState::of(states, world.resource::<StateTypes>(), tick)
    });
    match state {
        Ok(state) => {
            let bytes = snapshot::write(&state);
            tracing::debug!(tick, bytes = bytes.len(), "a snapshot");
            record::note_state(world, play, tick, &bytes);
            play.session.handle(now, Input::Snapshot { tick, bytes: &bytes });
        }
        Err(error) => tracing::error!(%error, "no snapshot"),
    }
}

fn restore(world: &mut World, play: &mut Play, tick: i32, bytes: &[u8]) {
    let read = world.resource_scope(|world, mut types: Mut<'_, StateTypes>| {
        snapshot::read(world, &mut types, bytes)
    });
    if let Err(error) = read {
        tracing::error!(%error, "another player's state is not taken");
        play.dropped = true;
        play.refused = seating::note_unreadable(world, play.lobby, error);
        return;
    }
    world.resource_mut::<SavedStates>().forget_all();
    world.resource_mut::<SimulatedTick>().0 = tick;
    play.fresh = tick;
    trigger(
        world,
        SimulationRestored { entity: play.lobby, tick, players: play.players().collect() },
    );
    record::begin(world, play, tick, bytes);
}

/// Sends a message, after those that wait.
fn say(world: &mut World, play: &mut Play, to: PeerId, carrier: Carrier, bytes: Vec<u8>) {
    let waiting = play.waiting.entry(to).or_default();
    if waiting.len() >= WAITING_MAX {
        tracing::warn!(peer = ?to, "a player takes no messages, and is not waited for");
        waiting.clear();
        wire::disconnect(world, play.lobby, to);
        return;
    }
    waiting.push_back((carrier, bytes));
    flush_to(world, play.lobby, to, waiting);
}

fn flush_waiting(world: &mut World, play: &mut Play) {
    for (to, waiting) in &mut play.waiting {
        flush_to(world, play.lobby, *to, waiting);
    }
    play.waiting.retain(|_, waiting| !waiting.is_empty());
}

fn flush_to(world: &World, lobby: Entity, to: PeerId, waiting: &mut VecDeque<(Carrier, Vec<u8>)>) {
    while let Some((carrier, bytes)) = waiting.pop_front() {
        let (said, bytes) = match carrier {
            Carrier::Reliable => {
                let told = Machine(bytes);
                (wire::say(world, lobby, to, &told), told.0)
            }
            Carrier::Bulk => {
                let bulk = Bulk(bytes);
                (wire::say(world, lobby, to, &bulk), bulk.0)
            }
        };
        if said == Said::Full {
            waiting.push_front((carrier, bytes));
            return;
        }
    }
}

/// Tells the game.
fn tell(world: &mut World, play: &mut Play, now: Now, event: Event) {
    let entity = play.lobby;
    match event {
        Event::Stalled(players) => trigger(world, SimulationStalled { entity, players }),
        Event::Resumed(ticks) => trigger(world, SimulationResumed { entity, ticks }),
        Event::Left { peer, at } => {
            let players = play.players_of(peer);
            trigger(world, PlayersLeft { entity, peer, players, at });
        }
        Event::Joined { peer, at } => {
            let players = play.players_of(peer);
            delay::tell_again(world, play, now);
            trigger(world, PlayersJoined { entity, peer, players, at });
        }
        Event::Desync { peer, tick, ours, theirs } => {
            if let Some(told) = play.desyncs.begin(now, peer, tick, (ours, theirs)) {
                wire::say(world, entity, peer, &told);
            }
        }
        Event::Delay { at, delay } => {
            play.delay.iter_mut().for_each(|chooser| chooser.follow(now, at, delay));
            trigger(world, InputDelayChanged { entity, at, delay });
        }
        Event::NoQuorum => trigger(world, NoQuorum { entity }),
        Event::Restored(_) => {}
        Event::Dropped => play.dropped = true,
    }
}

/// The timestep of a match: that of `Time<Fixed>`.
pub(crate) fn timestep(world: &World) -> Duration {
    world.resource::<Time<Fixed>>().timestep()
}
