//! A match: the ticks of all players on one clock.
//!
//! Before [`StartMatch`] and after [`EndMatch`], `FixedUpdate` runs as Bevy always runs it. From the
//! moment on at which a match is agreed on, it is held until the instant of tick 0, which is the same
//! for all players; then the clock that all share decides which tick it is, and nothing else does:
//!
//! - A pause or another speed of `Time<Virtual>` changes what is shown, and no tick. [`PauseMatch`] asks for
//!   a pause of all.
//! - A frame that took long runs the ticks it missed, up to a quarter of a second. What is beyond is
//!   left out, and [`MatchTick`] jumps.
//! - `Time<Fixed>::overstep_fraction` is the part of the current tick that has passed, as always.
//!
//! While `FixedUpdate` runs in a match, the delta of `Time<Virtual>` is zero; before and after it is what
//! Bevy made it.

use std::ops::Range;
use std::time::{Duration, Instant};

use bevy_ecs::prelude::*;
use bevy_reflect::Reflect;
use bevy_time::{Fixed, Real, Time, Virtual};
use netplay_protocol::MeshTime;
use netplay_tick::{Advance, NetTick, Pacer, PacingProfile, Pause, TickRate, Timeline};
use netplay_transport::{OutOfSync, StartError};

use crate::lobby::LobbySession;
use crate::rollback::InputType;

/// Asks for a match with all connected players of a lobby; trigger it on the lobby, as its host. What
/// follows is [`MatchBegins`] on the lobbies of all players, or [`StartFailed`] on ours.
#[derive(EntityEvent, Clone, Debug)]
pub struct StartMatch {
    /// The lobby.
    pub entity: Entity,
}

/// Ends the match of a lobby for us; trigger it on the lobby. Another may start.
#[derive(EntityEvent, Clone, Debug)]
pub struct EndMatch {
    /// The lobby.
    pub entity: Entity,
}

/// Asks for a pause of the match for all players; trigger it on the lobby. The host's plugin grants it:
/// [`MatchHeld`] on the lobbies of all, and from an agreed instant on no tick runs anywhere.
#[derive(EntityEvent, Clone, Debug)]
pub struct PauseMatch {
    /// The lobby.
    pub entity: Entity,
}

/// Asks for the end of a pause; trigger it on the lobby. [`MatchGoesOn`] follows on the lobbies of all.
#[derive(EntityEvent, Clone, Debug)]
pub struct ResumeMatch {
    /// The lobby.
    pub entity: Entity,
}

/// A pause was agreed on: it begins about a quarter of a second later, in the same tick everywhere.
#[derive(EntityEvent, Clone, Debug)]
pub struct MatchHeld {
    /// The lobby.
    pub entity: Entity,
}

/// The end of a pause was agreed on.
#[derive(EntityEvent, Clone, Debug)]
pub struct MatchGoesOn {
    /// The lobby.
    pub entity: Entity,
}

/// A match was agreed on: tick 0 is about half a second away.
#[derive(EntityEvent, Clone, Debug)]
pub struct MatchBegins {
    /// The lobby; it has a [`Match`] now.
    pub entity: Entity,
}

/// The match that we asked for does not begin.
#[derive(EntityEvent, Clone, Debug)]
pub struct StartFailed {
    /// The lobby.
    pub entity: Entity,
    /// Why.
    pub error: StartError,
}

/// The match of a lobby. Only the plugin writes it.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// The instant of tick 0 by this machine's clock, as it was known when the match was agreed on: for a countdown.
    pub begins: Instant,
    /// Which tick it is at an instant: the start, the ticks per second (those of `Time<Fixed>` when the
    /// match was agreed on), and the pauses.
    pub timeline: Timeline,
    /// The others played already when we came.
    pub running: bool,
}

/// How fast the game may run to stay with the others; put it on the lobby. `FIGHTING` is ±0.5 %,
/// `DEFAULT` +1 % and −0.5 %, `CASUAL` ±5 %.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct Pacing(pub PacingProfile);

/// The tick that `FixedUpdate` is in; between its runs, the last one. `None` outside of a match and
/// before tick 0.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchTick(pub Option<NetTick>);

/// Whether we are in sync with the other players, and why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
pub enum SyncState {
    /// No clock is shared yet.
    #[default]
    NoClock,
    /// The other players' clocks are not known well enough yet.
    Uncertain,
    /// Our copy of the clock is on its way to where the others are.
    Apart,
    /// The clock is shared, but our game is more than half a tick off; it catches up.
    CatchingUp,
    /// The clock is shared, and our game is at its tick.
    InSync,
    /// The same, in a pause that all agreed on.
    Held,
}

/// How well we are in sync with the other players of a lobby. Only the plugin writes it.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Reflect)]
#[reflect(Component)]
pub struct SyncStatus {
    /// Whether, and why not.
    pub state: SyncState,
    /// How far our copy of the clock is behind the median of all, in milliseconds.
    pub clock_error_ms: f32,
    /// About how well the other clocks are known.
    pub uncertainty: Duration,
    /// In a match: how far our game is behind the clock, in milliseconds.
    pub tick_error_ms: f32,
    /// In a match: how fast our game runs, 1 being its own clock.
    pub speed: f32,
    /// What the last jumps of our game left out, since the match began.
    pub skipped: Duration,
    /// Our game shows itself paused, or slower or faster than it is.
    pub presentation_differs: bool,
}

/// Moves our game along the clock.
#[derive(Component)]
pub(crate) struct MatchPacer {
    pacer: Pacer,
    /// The last tick that has run or was left out.
    done: Option<NetTick>,
}

/// What the fixed loop of this frame will do.
#[derive(Resource, Default)]
pub(crate) struct FixedLoop {
    /// The next tick to run.
    next: NetTick,
    /// What `Time<Virtual>` was before, while a match drives the loop.
    held: Option<Time<Virtual>>,
    /// When the tick after those begins, from this frame on.
    due_in: Option<Duration>,
    /// What a rollback session has to run, in place of Bevy's loop.
    due: DueTicks,
    /// Whether it does.
    rolls_back: bool,
}

/// The ticks that a rollback session has to run in this frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct DueTicks {
    /// Only the last one, if the game stood still for long.
    pub(crate) ticks: Range<i32>,
    /// The match pauses.
    pub(crate) held: bool,
}

/// What a frame writes waits for a tick that begins within this time, and leaves with what it writes.
const NEAR: Duration = Duration::from_millis(8);

impl FixedLoop {
    /// Whether a tick of a match begins soon.
    pub(crate) fn tick_is_near(&self) -> bool {
        self.due_in.is_some_and(|due| due <= NEAR)
    }

    /// Bevy's own loop runs no tick in this frame; [`restore`] gives the time back.
    pub(crate) fn hold(&mut self, virtual_time: &mut Time<Virtual>) {
        self.held.get_or_insert(*virtual_time);
        virtual_time.advance_by(Duration::ZERO);
    }

    pub(crate) fn take_due(&mut self) -> DueTicks {
        let end = self.due.ticks.end;
        core::mem::replace(&mut self.due, DueTicks { ticks: end..end, held: false })
    }
}

/// Whether a match without rollback drives the run of `FixedMain` that we are in.
pub(crate) fn in_tick(fixed_loop: Res<FixedLoop>) -> bool {
    fixed_loop.held.is_some() && !fixed_loop.rolls_back
}

/// A match began: from here on it drives `FixedUpdate`.
pub(crate) fn begin(world: &mut World, lobby: Entity, start: MeshTime, running: bool) {
    let rate = world.get_resource::<Time<Fixed>>().map(|time| rate_of(time.timestep()));
    let rate = rate.unwrap_or_default();
    let Ok(mut entity) = world.get_entity_mut(lobby) else { return };
    let begins = entity
        .get_mut::<LobbySession>()
        .and_then(|mut session| session.bypass_change_detection().get_mut().instant_of(start));
    let Some(begins) = begins else {
        tracing::error!(%start, "a match out of reach was agreed on");
        return;
    };
    let profile = entity.get::<Pacing>().copied().unwrap_or_default().0;
    let pacer = MatchPacer { pacer: Pacer::new(profile), done: None };
    entity.insert((Match { begins, timeline: Timeline::new(start, rate), running }, pacer));
    tracing::info!(%start, rate = rate.per_second(), "a match begins");
    world.trigger(MatchBegins { entity: lobby });
}

/// All players agreed on this pause, or on its end.
pub(crate) fn pause(world: &mut World, lobby: Entity, pause: Pause) {
    let Some(mut of) = world.get_mut::<Match>(lobby) else { return };
    of.timeline.set_pause(pause);
    match pause.until {
        None => world.trigger(MatchHeld { entity: lobby }),
        Some(_) => world.trigger(MatchGoesOn { entity: lobby }),
    }
}

/// The nearest rate to a timestep. Ticks are counted on the clock, so what a timestep is rounded by
/// adds up to nothing.
pub(crate) fn rate_of(timestep: Duration) -> TickRate {
    let per_second = (1.0 / timestep.as_secs_f64()).round();
    let per_second = per_second.clamp(f64::from(TickRate::MIN), f64::from(TickRate::MAX));
    TickRate::new(per_second as u16).unwrap_or_default()
}

pub(crate) fn start_match(
    event: On<StartMatch>,
    mut commands: Commands,
    lobbies: Query<&LobbySession>,
) {
    let asked = lobbies.get(event.entity).ok().map(|session| session.lock().start_match());
    if !matches!(asked, Some(Ok(()))) {
        commands.trigger(StartFailed { entity: event.entity, error: StartError::NoClock });
    }
}

pub(crate) fn pause_match(event: On<PauseMatch>, lobbies: Query<&LobbySession>) {
    ask_pause(lobbies.get(event.entity).ok(), true);
}

pub(crate) fn resume_match(event: On<ResumeMatch>, lobbies: Query<&LobbySession>) {
    ask_pause(lobbies.get(event.entity).ok(), false);
}

fn ask_pause(session: Option<&LobbySession>, pause: bool) {
    if let Some(Err(error)) = session.map(|session| session.lock().pause_match(pause)) {
        tracing::warn!(%error, "the pause could not be asked for");
    }
}

pub(crate) fn end_match(
    event: On<EndMatch>,
    mut commands: Commands,
    lobbies: Query<&LobbySession>,
    mut tick: ResMut<MatchTick>,
) {
    let Ok(session) = lobbies.get(event.entity) else { return };
    if let Err(error) = session.lock().end_match() {
        tracing::debug!(%error, "the session is over");
    }
    tick.0 = None;
    commands.entity(event.entity).remove::<(Match, MatchPacer)>();
}

/// Refreshes what is known of the clock.
pub(crate) fn refresh_status(
    mut lobbies: Query<(&LobbySession, &mut SyncStatus)>,
    virtual_time: Option<Res<Time<Virtual>>>,
) {
    let differs = virtual_time.is_some_and(|time| time.is_paused() || time.relative_speed() != 1.0);
    for (session, mut status) in &mut lobbies {
        let view = session.lock().mesh();
        let mut new = *status;
        new.presentation_differs = differs;
        new.state = match view {
            None => SyncState::NoClock,
            Some(view) => {
                new.clock_error_ms = (view.status().error_us / 1e3) as f32;
                new.uncertainty = view.status().uncertainty;
                match view.status().out_of_sync() {
                    Some(OutOfSync::Uncertain) => SyncState::Uncertain,
                    Some(OutOfSync::Apart) => SyncState::Apart,
                    None => SyncState::InSync,
                }
            }
        };
        status.set_if_neq(new);
    }
}

/// Sets the overstep of `Time<Fixed>` to what the clock says, in a match.
pub(crate) fn drive(
    mut lobbies: Query<(&LobbySession, &Match, &mut MatchPacer, &mut SyncStatus)>,
    real: Res<Time<Real>>,
    mut virtual_time: ResMut<Time<Virtual>>,
    mut fixed: ResMut<Time<Fixed>>,
    mut fixed_loop: ResMut<FixedLoop>,
    rollback: Option<Res<InputType>>,
) {
    (fixed_loop.due_in, fixed_loop.rolls_back) = (None, rollback.is_some());
    let Some((session, of, mut pacer, mut status)) = lobbies.iter_mut().next() else { return };
    fixed_loop.hold(&mut virtual_time);
    let (before, timestep) = (fixed.overstep(), fixed.timestep());
    fixed.discard_overstep(before);
    let mut session = session.lock();
    let Some(view) = session.mesh() else { return };
    // With a renderer, the time of the frame; never a clock read here.
    let frame: Instant = real.last_update().unwrap_or_else(|| real.startup());
    let own = session.at(frame);
    let step = pacer.pacer.advance(own, view.show(own), view.rate());
    let rate = of.timeline.rate();
    note_step(&mut status, &step, rate, of.timeline.is_held(step.position));
    let Some((tick, fraction)) = of.timeline.at(step.position) else {
        // Held until tick 0.
        return;
    };
    let most = i32::from(rate.per_second() / 4).max(1);
    // Before tick 0 nothing was done, which is tick -1; who comes later leaves out what was before.
    let came_late = tick.ahead_of(NetTick::ZERO) > most || tick.ahead_of(NetTick::ZERO) < 0;
    let before = if came_late { tick } else { NetTick::ZERO };
    let done = pacer.done.unwrap_or(before.plus(-1));
    let due = tick.ahead_of(done).max(0);
    let runs = if due > most && fixed_loop.rolls_back {
        // The session knows what was missed.
        1
    } else if due > most {
        let left_out = rate.tick_len() * (due - 1).unsigned_abs();
        status.skipped += left_out;
        tracing::warn!(?left_out, "ticks are left out, because the game stood still");
        1
    } else {
        due.unsigned_abs()
    };
    if due > 0 {
        pacer.done = Some(tick);
    }
    fixed_loop.next = tick.plus(1 - runs as i32);
    if !of.timeline.is_held(step.position) && tick == pacer.done.unwrap_or(tick) {
        fixed_loop.due_in = Some(rate.tick_len().mul_f64(1.0 - fraction));
    }
    let rest = timestep.mul_f64(fraction).min(timestep.saturating_sub(Duration::from_nanos(1)));
    if fixed_loop.rolls_back {
        let end = tick.ahead_of(NetTick::ZERO) + 1;
        let held = of.timeline.is_held(step.position);
        fixed_loop.due = DueTicks { ticks: end - runs as i32..end, held };
        fixed.accumulate_overstep(rest);
    } else {
        fixed.accumulate_overstep(timestep * runs + rest);
    }
}

fn note_step(status: &mut Mut<SyncStatus>, step: &Advance, rate: TickRate, held: bool) {
    let mut new = **status;
    new.tick_error_ms = (step.error_us / 1e3) as f32;
    new.speed = step.speed as f32;
    let half_a_tick = 5e5 / f64::from(rate.per_second());
    if new.state == SyncState::InSync && step.error_us.abs() > half_a_tick {
        new.state = SyncState::CatchingUp;
    } else if new.state == SyncState::InSync && held {
        new.state = SyncState::Held;
    }
    status.set_if_neq(new);
}

/// A tick of a match begins.
pub(crate) fn count_tick(mut fixed_loop: ResMut<FixedLoop>, mut tick: ResMut<MatchTick>) {
    tick.0 = Some(fixed_loop.next);
    fixed_loop.next = fixed_loop.next.plus(1);
}

/// Gives `Time<Virtual>` back what it was.
pub(crate) fn restore(
    mut fixed_loop: ResMut<FixedLoop>,
    mut virtual_time: ResMut<Time<Virtual>>,
    mut time: ResMut<Time>,
) {
    if let Some(held) = fixed_loop.held.take() {
        *virtual_time = held;
        *time = held.as_generic();
    }
}
