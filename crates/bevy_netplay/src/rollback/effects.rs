//! Effects of the simulation that are shown once: sounds, flashes, lines in a log.
//!
//! The simulation fires an effect in each run of a tick. It is told once, in the frame in which it was first
//! fired. If a rollback takes it back, and no tick that is run again fires the same one, it is told as
//! cancelled; if another of these ticks fires it, nothing is told.
//!
//! Guaranteed: at the end of each frame, what was told and not cancelled is what the simulation has fired as
//! it stands now, as long as it can be taken back. Not guaranteed: the order of effects of different ticks.

use std::collections::VecDeque;

use bevy_app::{App, FixedFirst, RunFixedMainLoop, RunFixedMainLoopSystems};
use bevy_ecs::prelude::*;

use super::RollbackSystems;
use super::clock::{Begins, SimulatedTick};
use super::draw::WentBack;
use super::events::SimulationRestored;
use super::session::Playing;
use super::state::SavedStates;

/// Effects that can still be taken back; the oldest are then taken for final.
const TOLD_MAX: usize = 4096;

/// An effect to be shown. Read it in `Update`.
#[derive(Message, Clone, Debug, PartialEq, Eq)]
pub struct Fired<E: Send + Sync + 'static> {
    /// The tick of it.
    pub tick: i32,
    /// The effect.
    pub effect: E,
}

/// An effect that was told, and did not happen after all.
#[derive(Message, Clone, Debug, PartialEq, Eq)]
pub struct Cancelled<E: Send + Sync + 'static> {
    /// The tick of it.
    pub tick: i32,
    /// The effect.
    pub effect: E,
}

/// Where the simulation fires effects; add it with [`AddEffects::add_effects`].
///
/// ```
/// # use bevy_app::prelude::*;
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::rollback::{AddEffects, Cancelled, Effects, Fired};
/// #[derive(Clone, PartialEq)]
/// enum Sound {
///     Hit { player: u8 },
///     Goal { player: u8 },
/// }
///
/// fn simulate(mut sounds: ResMut<Effects<Sound>>) {
///     // At once, on a guess.
///     sounds.fire(Sound::Hit { player: 1 });
///     // Only when it is final: nobody wants to hear of a goal that was none.
///     sounds.fire_final(Sound::Goal { player: 1 });
/// }
///
/// fn play(mut fired: MessageReader<Fired<Sound>>, mut cancelled: MessageReader<Cancelled<Sound>>) {
///     for Fired { effect, .. } in fired.read() { /* begin the sound */ }
///     for Cancelled { effect, .. } in cancelled.read() { /* fade it out */ }
/// }
///
/// # let mut app = App::new();
/// app.add_effects::<Sound>().add_systems(FixedUpdate, simulate).add_systems(Update, play);
/// ```
#[derive(Resource, Debug)]
pub struct Effects<E: Send + Sync + 'static> {
    tick: i32,
    /// Fired in this frame.
    fresh: Vec<(i32, E)>,
    /// Told, and may still be taken back; in the order of their ticks but for those of a rollback.
    told: VecDeque<(i32, E)>,
    /// Told, and taken back in this frame.
    taken: Vec<(i32, E)>,
    /// Told once they are final.
    waiting: VecDeque<(i32, E)>,
}

impl<E: Send + Sync + 'static> Default for Effects<E> {
    fn default() -> Self {
        Self {
            tick: 0,
            fresh: Vec::new(),
            told: VecDeque::new(),
            taken: Vec::new(),
            waiting: VecDeque::new(),
        }
    }
}

impl<E: Clone + PartialEq + Send + Sync + 'static> Effects<E> {
    /// Fires an effect in this tick: it is told in this frame, unless it was told before.
    pub fn fire(&mut self, effect: E) {
        self.fresh.push((self.tick, effect));
    }

    /// Fires an effect in this tick that is told once it is final, and is never cancelled.
    pub fn fire_final(&mut self, effect: E) {
        if self.waiting.len() < TOLD_MAX {
            self.waiting.push_back((self.tick, effect));
        }
    }

    /// The simulation goes back to before this tick.
    fn rewind(&mut self, tick: i32) {
        self.fresh.retain(|(at, _)| *at < tick);
        self.waiting.retain(|(at, _)| *at < tick);
        for _ in 0..self.told.len() {
            let Some(told) = self.told.pop_front() else { break };
            if told.0 < tick {
                self.told.push_back(told);
            } else {
                self.taken.push(told);
            }
        }
    }

    /// The frame is over; what is before `kept` cannot be taken back.
    fn settle(&mut self, kept: i32, fired: &mut Vec<Fired<E>>, cancelled: &mut Vec<Cancelled<E>>) {
        for (tick, effect) in self.fresh.drain(..) {
            let same = self.taken.iter().enumerate().filter(|(_, (_, taken))| *taken == effect);
            let nearest = same.min_by_key(|(_, (at, _))| at.abs_diff(tick)).map(|(nth, _)| nth);
            match nearest {
                Some(nth) => _ = self.taken.remove(nth),
                None => fired.push(Fired { tick, effect: effect.clone() }),
            }
            self.told.push_back((tick, effect));
        }
        let gone = self.taken.drain(..);
        cancelled.extend(gone.map(|(tick, effect)| Cancelled { tick, effect }));
        self.told.retain(|(tick, _)| *tick >= kept);
        while self.told.len() > TOLD_MAX {
            self.told.pop_front();
        }
    }
}

/// Adds effects of the simulation.
pub trait AddEffects {
    /// Adds [`Effects`] of this type, and the messages [`Fired`] and [`Cancelled`].
    fn add_effects<E: Clone + PartialEq + Send + Sync + 'static>(&mut self) -> &mut Self;
}

impl AddEffects for App {
    fn add_effects<E: Clone + PartialEq + Send + Sync + 'static>(&mut self) -> &mut Self {
        self.init_resource::<Effects<E>>()
            .add_message::<Fired<E>>()
            .add_message::<Cancelled<E>>()
            .init_schedule(WentBack)
            .add_systems(FixedFirst, begin_tick::<E>.after(RollbackSystems::Save))
            .add_systems(WentBack, rewind::<E>)
            .add_systems(Begins, forget::<E>)
            .add_observer(restored::<E>)
            .add_systems(
                RunFixedMainLoop,
                tell::<E>.in_set(RunFixedMainLoopSystems::AfterFixedMainLoop),
            )
    }
}

fn begin_tick<E: Send + Sync + 'static>(tick: Res<SimulatedTick>, mut effects: ResMut<Effects<E>>) {
    effects.tick = tick.0;
}

fn rewind<E: Clone + PartialEq + Send + Sync + 'static>(
    tick: Res<SimulatedTick>,
    mut effects: ResMut<Effects<E>>,
) {
    effects.rewind(tick.0);
}

/// Another state takes the place of ours: what was told since then is told again, or was none.
fn restored<E: Clone + PartialEq + Send + Sync + 'static>(
    restored: On<SimulationRestored>,
    mut effects: ResMut<Effects<E>>,
) {
    effects.rewind(restored.tick);
}

fn forget<E: Send + Sync + 'static>(mut effects: ResMut<Effects<E>>) {
    *effects = Effects::default();
}

fn tell<E: Clone + PartialEq + Send + Sync + 'static>(
    states: Res<SavedStates>,
    playing: Res<Playing>,
    tick: Res<SimulatedTick>,
    mut effects: ResMut<Effects<E>>,
    mut fired: MessageWriter<Fired<E>>,
    mut cancelled: MessageWriter<Cancelled<E>>,
) {
    let (mut new, mut gone) = (Vec::new(), Vec::new());
    let kept = states.oldest().unwrap_or(tick.0);
    effects.settle(kept, &mut new, &mut gone);
    let last = playing.play.as_ref().map_or(kept - 1, |play| play.session.settled());
    while let Some((tick, effect)) = effects.waiting.pop_front_if(|(at, _)| *at <= last) {
        new.push(Fired { tick, effect });
    }
    fired.write_batch(new);
    cancelled.write_batch(gone);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks and effects.
    type Told = Vec<(i32, u8)>;

    /// Fires these, and ends the frame: what is told, and what is cancelled.
    fn frame(effects: &mut Effects<u8>, ticks: &[(i32, &[u8])]) -> (Told, Told) {
        for (tick, all) in ticks {
            effects.tick = *tick;
            all.iter().for_each(|effect| effects.fire(*effect));
        }
        let (mut fired, mut cancelled) = (Vec::new(), Vec::new());
        effects.settle(0, &mut fired, &mut cancelled);
        (
            fired.into_iter().map(|fired| (fired.tick, fired.effect)).collect(),
            cancelled.into_iter().map(|gone| (gone.tick, gone.effect)).collect(),
        )
    }

    #[test]
    fn what_is_fired_again_is_told_once() {
        let mut effects = Effects::default();
        assert_eq!(frame(&mut effects, &[(1, &[7]), (2, &[8, 8])]).0, [(1, 7), (2, 8), (2, 8)]);
        effects.rewind(2);
        assert_eq!(frame(&mut effects, &[(2, &[8, 8]), (3, &[9])]), (vec![(3, 9)], vec![]));
    }

    #[test]
    fn what_is_not_fired_again_is_cancelled_and_what_comes_in_its_place_is_told() {
        let mut effects = Effects::default();
        frame(&mut effects, &[(1, &[7]), (2, &[8, 8])]);
        effects.rewind(1);
        effects.rewind(1);
        let told = frame(&mut effects, &[(1, &[6]), (2, &[8]), (3, &[])]);
        assert_eq!(told, (vec![(1, 6)], vec![(1, 7), (2, 8)]));
    }

    #[test]
    fn what_a_rollback_moves_to_another_tick_is_the_same() {
        let mut effects = Effects::default();
        frame(&mut effects, &[(1, &[7]), (4, &[7])]);
        effects.rewind(1);
        assert_eq!(frame(&mut effects, &[(3, &[7]), (5, &[7])]), (vec![], vec![]));
        effects.rewind(4);
        assert_eq!(frame(&mut effects, &[(4, &[])]), (vec![], vec![(5, 7)]));
    }

    #[test]
    fn what_was_fired_and_taken_back_in_one_frame_is_not_told() {
        let mut effects = Effects { tick: 1, ..Effects::default() };
        effects.fire(7);
        effects.rewind(1);
        assert_eq!(frame(&mut effects, &[(1, &[8])]), (vec![(1, 8)], vec![]));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut effects = Effects::default();
        let many = vec![0_u8; 10_000];
        frame(&mut effects, &[(1, &many)]);
        assert_eq!(effects.told.len(), TOLD_MAX);
        effects.settle(2, &mut Vec::new(), &mut Vec::new());
        assert_eq!(effects.told.len(), 0);
    }
}
