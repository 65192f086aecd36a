//! Runs the ticks of a replay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_time::{Fixed, Real, Time, Virtual};
use netplay_rollback::Player;
use netplay_rollback::recording::{Difference, Header, RecordingFile, ReplayStep, TickInputs};
use netplay_tick::NetTick;

use super::{Replay, ReplayDiffers, ReplayEnded, ReplayError, ReplayFailed, ReplayStatus};
use crate::match_time::{FixedLoop, Match, MatchTick, rate_of};
use crate::rollback::clock::{
    Corrected, Driven, Resimulating, SimulatedTick, keep_time, run_tick, time_of,
};
use crate::rollback::despawn::InTick;
use crate::rollback::events::{SeatedPlayer, SimulationRestored, trigger};
use crate::rollback::input::InputType;
use crate::rollback::seating::fingerprint;
use crate::rollback::session::{Playing, timestep};
use crate::rollback::snapshot;
use crate::rollback::state::SavedStates;
use crate::rollback::types::StateTypes;
use crate::settings::NetplaySettings;

/// Ticks that are read at once.
const BATCH: usize = 240;

/// The nearest a clock comes to a tick that has not run, in ticks.
const BEFORE: f64 = 1e-6;

/// The replay that is played, if any.
#[derive(Resource, Default)]
pub(crate) struct Replaying(Option<Running>);

/// A replay that was refused, or has failed.
#[derive(Component)]
pub(super) struct Over;

/// A replay that is played.
struct Running {
    entity: Entity,
    file: Arc<RecordingFile>,
    input_type: InputType,
    timestep: Duration,
    rate: f64,
    players: Vec<SeatedPlayer>,
    end: i32,
    /// What was read, and comes next.
    steps: VecDeque<ReplayStep>,
    /// Nothing is left to be read.
    read: bool,
    /// The tick that runs next.
    next: i32,
    /// Where the replay is, in ticks: those up to it have run.
    clock: f64,
    seeking: Option<i32>,
    verified: u32,
    /// The last state that is equal.
    equal: Option<i32>,
    difference: Option<Difference>,
    ended: bool,
}

/// What the game wants of a replay in this frame.
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    paused: bool,
    speed: f32,
    most: u32,
    seek: Option<i32>,
}

/// Runs the ticks of a replay that are due.
pub(crate) fn run(world: &mut World) {
    let mut replays = world.query_filtered::<Entity, (With<Replay>, Without<Over>)>();
    let replays: Vec<Entity> = replays.iter(world).collect();
    let mut running = world.resource_mut::<Replaying>().0.take();
    for entity in replays {
        match &running {
            Some(running) if running.entity == entity => {}
            Some(_) => fail(world, entity, ReplayError::Busy),
            None => match begin(world, entity) {
                Ok(begun) => running = Some(begun),
                Err(error) => fail(world, entity, error),
            },
        }
    }
    let Some(mut running) = running else { return };
    let played = frame(world, &mut running);
    let entity = running.entity;
    // An observer may have ended it.
    if world.get::<Replay>(entity).is_none() {
        world.insert_resource(MatchTick(None));
        return;
    }
    match played {
        Ok(wish) => {
            if let Some(mut status) = world.get_mut::<ReplayStatus>(entity) {
                running.show(&mut status, wish);
            }
            world.resource_mut::<Replaying>().0 = Some(running);
        }
        Err(error) => fail(world, entity, error),
    }
}

/// A replay is despawned: the world stays as it is.
pub(crate) fn forget(
    removed: On<Remove, Replay>,
    mut replaying: ResMut<Replaying>,
    tick: Option<ResMut<MatchTick>>,
) {
    let ours = replaying.0.take_if(|running| running.entity == removed.entity).is_some();
    if let Some(mut tick) = tick.filter(|_| ours) {
        tick.0 = None;
    }
}

fn fail(world: &mut World, entity: Entity, error: ReplayError) {
    tracing::error!(%error, "the recording is not played");
    if error != ReplayError::Busy {
        world.insert_resource(MatchTick(None));
    }
    if let Ok(mut replay) = world.get_entity_mut(entity) {
        replay.insert(Over);
        trigger(world, ReplayFailed { entity, error });
    }
}

/// Whether a match is played, or is about to be.
fn is_busy(world: &mut World) -> bool {
    let mut matches = world.query_filtered::<(), With<Match>>();
    world.resource::<Playing>().play.is_some() || matches.iter(world).next().is_some()
}

/// Checks that the recording is one of this game; then the world is as it was at its beginning.
fn begin(world: &mut World, entity: Entity) -> Result<Running, ReplayError> {
    if is_busy(world) {
        return Err(ReplayError::Busy);
    }
    let Some(replay) = world.get::<Replay>(entity) else { return Err(ReplayError::Busy) };
    let (file, any_build) = (replay.file.clone(), replay.any_build);
    let input_type = check(world, file.header(), any_build)?;
    let recording = file.recording();
    let first = recording.snapshots().next().filter(|state| state.tick == recording.first_tick());
    let first = first.ok_or(ReplayError::NoState)?;
    let mut running = Running {
        entity,
        file: file.clone(),
        input_type,
        timestep: timestep(world),
        rate: file.header().rate.per_second().into(),
        players: players(file.header()),
        end: recording.end_tick(),
        steps: VecDeque::new(),
        read: false,
        next: first.tick,
        clock: f64::from(first.tick) - 1.0,
        seeking: None,
        verified: 0,
        equal: None,
        difference: None,
        ended: false,
    };
    // Nobody plays here; and a match that follows begins with an empty world.
    (input_type.seat)(world, 0..0);
    world.resource_mut::<Playing>().again = true;
    running.restore(world, first.tick, first.bytes)?;
    Ok(running)
}

/// Whether a recording with this header is one of this game.
fn check(world: &World, header: &Header, any_build: bool) -> Result<InputType, ReplayError> {
    let settings = world.get_resource::<NetplaySettings>();
    let (game, build) = settings.map_or(("", ""), |of| (of.game.as_str(), of.build.as_str()));
    if game != header.game.as_str() {
        let recorded = header.game.as_str().into();
        return Err(ReplayError::Game { ours: game.into(), recorded });
    }
    if build != header.build.as_str() {
        let (ours, recorded) = (build.to_owned(), header.build.as_str().to_owned());
        if !any_build {
            return Err(ReplayError::Build { ours, recorded });
        }
        tracing::warn!(ours, recorded, "the recording is of another build");
    }
    let input_type = world.get_resource::<InputType>().copied().ok_or(ReplayError::Types)?;
    if fingerprint(world) != header.schema || (input_type.neutral)() != header.neutral {
        return Err(ReplayError::Types);
    }
    let (ours, recorded) = (rate_of(timestep(world)).per_second(), header.rate.per_second());
    if ours != recorded {
        return Err(ReplayError::Rate { ours, recorded });
    }
    Ok(input_type)
}

/// All who played; nobody of them is here.
fn players(header: &Header) -> Vec<SeatedPlayer> {
    let seats = header.roster.iter();
    let peers = seats.flat_map(|seat| core::iter::repeat_n(seat.peer, seat.players.into()));
    let seated = |(index, peer)| SeatedPlayer { player: Player(index as u8), peer, local: false };
    peers.enumerate().map(seated).collect()
}

/// One frame.
fn frame(world: &mut World, running: &mut Running) -> Result<Wish, ReplayError> {
    // A match that begins needs the world.
    if is_busy(world) {
        return Err(ReplayError::Busy);
    }
    let Some(mut replay) = world.get_mut::<Replay>(running.entity) else {
        return Ok(Wish::default());
    };
    let seek = replay.bypass_change_detection().seek.take();
    let (paused, speed, most) = (replay.paused, replay.speed, replay.ticks_per_frame.max(1));
    let wish = Wish { paused, speed, most, seek };
    // Bevy's own loop runs no tick meanwhile.
    world.resource_scope(|world, mut fixed_loop: Mut<'_, FixedLoop>| {
        fixed_loop.hold(&mut world.resource_mut::<Time<Virtual>>());
    });
    world.resource_mut::<Driven>().0 = true;
    let played = keep_time(world, |world| running.play(world, wish));
    world.resource_mut::<Driven>().0 = false;
    let fraction = (running.clock + 1.0 - f64::from(running.next)).clamp(0.0, 1.0);
    let timestep = running.timestep;
    let rest = timestep.mul_f64(fraction).min(timestep.saturating_sub(Duration::from_nanos(1)));
    let mut fixed = world.resource_mut::<Time<Fixed>>();
    let before = fixed.overstep();
    fixed.discard_overstep(before);
    fixed.accumulate_overstep(rest);
    played.map(|()| wish)
}

impl Running {
    /// Goes where the game wants it, or runs what is due.
    fn play(&mut self, world: &mut World, wish: Wish) -> Result<(), ReplayError> {
        if let Some(tick) = wish.seek {
            self.seek(world, tick, wish.most)?;
        }
        let mut most = wish.most;
        if let Some(target) = self.seeking {
            while self.next < target && most > 0 && self.tick(world)? {
                most -= 1;
            }
            self.clock = f64::from(self.next) - 1.0;
            self.seeking = self.seeking.filter(|_| self.next < target);
        } else if !wish.paused {
            let since = world.resource::<Time<Real>>().delta().as_secs_f64();
            let speed = f64::from(wish.speed.max(0.0));
            // Infinitely fast: as much as a frame may do.
            let ticks = if speed.is_finite() { since * speed * self.rate } else { most.into() };
            self.clock += ticks;
            while f64::from(self.next) <= self.clock && most > 0 && self.tick(world)? {
                most -= 1;
            }
            // What is beyond that is left out.
            self.clock = self.clock.min(f64::from(self.next) - BEFORE);
        }
        self.note_end(world);
        Ok(())
    }

    /// From where it is, or from a recorded state that is nearer by more than the ticks of a frame.
    fn seek(&mut self, world: &mut World, tick: i32, most: u32) -> Result<(), ReplayError> {
        let file = self.file.clone();
        let recording = file.recording();
        let target = tick.clamp(recording.first_tick(), self.end);
        let state = recording.snapshot_before(target).ok_or(ReplayError::NoState)?;
        let nearer = i64::from(state.tick) - i64::from(self.next) > i64::from(most);
        if target < self.next || nearer {
            self.restore(world, state.tick, state.bytes)?;
        }
        (self.seeking, self.ended) = (Some(target), false);
        Ok(())
    }

    /// Puts a recorded state in place of what is there.
    fn restore(&mut self, world: &mut World, tick: i32, bytes: &[u8]) -> Result<(), ReplayError> {
        let read = world.resource_scope(|world, mut types: Mut<'_, StateTypes>| {
            snapshot::read(world, &mut types, bytes)
        });
        read.map_err(|error| ReplayError::State { tick, error })?;
        world.resource_mut::<SavedStates>().forget_all();
        world.resource_mut::<SimulatedTick>().0 = tick;
        world.resource_mut::<Corrected>().0 = None;
        world.resource_mut::<MatchTick>().0 = (tick > 0).then(|| NetTick::ZERO.plus(tick - 1));
        (self.next, self.read) = (tick, false);
        self.steps.clear();
        let (entity, players) = (self.entity, self.players.clone());
        trigger(world, SimulationRestored { entity, tick, players });
        world.flush();
        self.compare(world);
        Ok(())
    }

    /// Runs the next tick. `false` at the end.
    fn tick(&mut self, world: &mut World) -> Result<bool, ReplayError> {
        self.refill();
        let Some(step) = self.steps.pop_front() else { return Ok(false) };
        if let ReplayStep::Advance(inputs) = step {
            self.advance(world, &inputs)?;
        }
        self.compare(world);
        Ok(true)
    }

    fn advance(&mut self, world: &mut World, inputs: &TickInputs) -> Result<(), ReplayError> {
        let tick = inputs.tick();
        if let Some(wrong) = inputs.inputs().find(|input| !(self.input_type.validate)(input.bytes))
        {
            return Err(ReplayError::Input { tick, player: wrong.player.0 });
        }
        world.resource_mut::<SimulatedTick>().0 = tick;
        world.resource_mut::<MatchTick>().0 = Some(NetTick::ZERO.plus(tick));
        world.resource_mut::<Resimulating>().0 = false;
        let mut shown = inputs.inputs().map(|input| (input.bytes, input.status));
        (self.input_type.show)(world, &mut shown);
        world.resource_mut::<InTick>().0 = true;
        run_tick(world, time_of(tick, self.timestep));
        // Nothing brings back what has died.
        SavedStates::scope(world, |world, states| states.bury_all(world));
        self.next = tick + 1;
        Ok(())
    }

    /// Compares the state with what was recorded of it.
    fn compare(&mut self, world: &mut World) {
        self.refill();
        while let Some(ReplayStep::Checksum { tick, sum: recorded }) = self.steps.front() {
            let (tick, recorded) = (*tick, *recorded);
            self.steps.pop_front();
            let computed =
                world.resource_scope(|world, mut types: Mut<'_, StateTypes>| types.checksum(world));
            if computed == recorded {
                (self.verified, self.equal) = (self.verified + 1, Some(tick));
            } else if self.difference.is_none() {
                let difference = Difference { tick, recorded, computed, equal: self.equal };
                tracing::error!(%difference, "the replay is not what was recorded");
                self.difference = Some(difference);
                trigger(world, ReplayDiffers { entity: self.entity, difference });
            }
        }
    }

    /// Reads on. It stops after a tick, so that what belongs to the state after it is read next.
    fn refill(&mut self) {
        if self.read || !self.steps.is_empty() {
            return;
        }
        self.read = true;
        let recording = self.file.recording();
        let mut ticks = 0;
        for step in recording.replay_from(self.next).into_iter().flatten() {
            ticks += usize::from(matches!(step, ReplayStep::Advance(_)));
            self.steps.push_back(step);
            if ticks == BATCH {
                self.read = false;
                break;
            }
        }
    }

    fn note_end(&mut self, world: &mut World) {
        if self.next >= self.end && !self.ended {
            self.ended = true;
            let ending = self.file.recording().ending();
            trigger(world, ReplayEnded { entity: self.entity, tick: self.end, ending });
        }
    }

    fn show(&self, status: &mut Mut<'_, ReplayStatus>, wish: Wish) {
        let recording = self.file.recording();
        let new = ReplayStatus {
            tick: self.next,
            first: recording.first_tick(),
            end: self.end,
            paused: wish.paused,
            speed: wish.speed,
            seeking: self.seeking,
            ended: self.ended,
            ending: Some(recording.ending()),
            verified: self.verified,
            difference: self.difference,
            players: self.players.clone(),
        };
        status.set_if_neq(new);
    }
}
