//! From ticks to frames: where a simulated thing is drawn.
//!
//! A frame lies between two ticks, so that a thing is drawn between where it was after the last two. If a
//! rollback has moved it, it is drawn where it was, and from there on nearer and nearer to where it is.

use core::time::Duration;

use bevy_app::{App, FixedLast, RunFixedMainLoop, RunFixedMainLoopSystems};
use bevy_ecs::component::Mutable;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleLabel;
use bevy_math::{Quat, Vec3};
use bevy_time::{Fixed, Time, Virtual};
use bevy_transform::components::Transform;

use super::RollbackSystems;
use super::clock::{Corrected, SimulatedTick};
use super::despawn::Despawned;

/// A simulated component that says where its entity is.
///
/// Simulate a component of your own, and let `Transform` be drawn only: it is written in every frame.
pub trait Drawn: Component<Mutability = Mutable> {
    /// Where it is drawn.
    fn transform(&self) -> Transform;
}

/// How an entity with a [`Drawn`] component is drawn; added by the plugin, and not rolled back.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
pub struct DrawSmoothly {
    /// After so long, of a correction a third is left (1/e). 80 ms by default; zero for none.
    pub settles: Duration,
    /// A correction by more than this is shown at once, in the unit of the game; 100 by default.
    pub snaps: f32,
    before: Option<Transform>,
    now: Option<Transform>,
    /// Where it was drawn for the newest tick, before a rollback that is under way.
    shown: Option<Transform>,
    off: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Offset {
    translation: Vec3,
    rotation: Quat,
}

impl Default for DrawSmoothly {
    fn default() -> Self {
        Self {
            settles: Duration::from_millis(80),
            snaps: 100.0,
            before: None,
            now: None,
            shown: None,
            off: Offset { translation: Vec3::ZERO, rotation: Quat::IDENTITY },
        }
    }
}

impl DrawSmoothly {
    /// The simulation came to this, at the end of a tick; `corrected` is whether that is the newest tick
    /// of a rollback.
    fn step(&mut self, now: Transform, corrected: bool) {
        self.before = self.now.replace(now);
        if let Some(shown) = self.shown.take_if(|_| corrected) {
            self.off.translation += shown.translation - now.translation;
            self.off.rotation *= shown.rotation * now.rotation.inverse();
            if self.off.translation.length() > self.snaps {
                self.off = Self::default().off;
            }
        }
    }

    /// The simulation goes back to this.
    fn rewind(&mut self, now: Transform) {
        self.shown = self.shown.or(self.now);
        self.now = Some(now);
    }

    /// Where it is drawn at this part of the tick; `delta` since the last frame.
    fn draw(&mut self, fraction: f32, delta: Duration) -> Option<Transform> {
        let now = self.now?;
        let before = self.before.unwrap_or(now);
        let left = if self.settles.is_zero() {
            0.0
        } else {
            (-delta.as_secs_f32() / self.settles.as_secs_f32()).exp()
        };
        self.off.translation *= left;
        self.off.rotation = Quat::IDENTITY.slerp(self.off.rotation, left);
        Some(Transform {
            translation: before.translation.lerp(now.translation, fraction) + self.off.translation,
            rotation: self.off.rotation * before.rotation.slerp(now.rotation, fraction),
            scale: before.scale.lerp(now.scale, fraction),
        })
    }
}

/// The simulation has gone back to an earlier state.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WentBack;

/// Draws simulated things.
pub trait AddDrawn {
    /// Writes `Transform` of every entity with this component, in every frame.
    fn add_drawn<C: Drawn>(&mut self) -> &mut Self;
}

impl AddDrawn for App {
    fn add_drawn<C: Drawn>(&mut self) -> &mut Self {
        self.register_required_components::<C, DrawSmoothly>()
            .register_required_components::<C, Transform>()
            .init_schedule(WentBack)
            .add_systems(WentBack, rewind::<C>)
            .add_systems(FixedLast, step::<C>.before(RollbackSystems::Count))
            .add_systems(
                RunFixedMainLoop,
                draw::<C>
                    .in_set(RunFixedMainLoopSystems::AfterFixedMainLoop)
                    .after(crate::match_time::restore),
            )
    }
}

fn rewind<C: Drawn>(mut all: Query<(&C, &mut DrawSmoothly), Allow<Despawned>>) {
    all.iter_mut().for_each(|(at, mut smoothly)| smoothly.rewind(at.transform()));
}

fn step<C: Drawn>(
    mut all: Query<(&C, &mut DrawSmoothly)>,
    tick: Res<SimulatedTick>,
    corrected: Res<Corrected>,
) {
    let corrected = corrected.0 == Some(tick.0);
    all.iter_mut().for_each(|(at, mut smoothly)| smoothly.step(at.transform(), corrected));
}

fn draw<C: Drawn>(
    mut all: Query<(&mut Transform, &mut DrawSmoothly), With<C>>,
    fixed: Res<Time<Fixed>>,
    time: Res<Time<Virtual>>,
) {
    let (fraction, delta) = (fixed.overstep_fraction(), time.delta());
    for (mut transform, mut smoothly) in &mut all {
        if let Some(drawn) = smoothly.draw(fraction, delta) {
            transform.set_if_neq(drawn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(16);

    fn at(x: f32) -> Transform {
        Transform::from_xyz(x, 0.0, 0.0)
    }

    fn x(smoothly: &mut DrawSmoothly, fraction: f32) -> f32 {
        smoothly.draw(fraction, FRAME).expect("a tick was run").translation.x
    }

    #[test]
    fn a_frame_is_drawn_between_two_ticks() {
        let mut smoothly = DrawSmoothly::default();
        assert_eq!(smoothly.draw(0.5, FRAME), None);
        smoothly.step(at(10.0), false);
        assert_eq!(x(&mut smoothly, 0.5), 10.0);
        smoothly.step(at(20.0), false);
        assert_eq!(x(&mut smoothly, 0.25), 12.5);
    }

    #[test]
    fn a_correction_is_not_seen_at_once_and_not_any_more_by_and_by() {
        let mut smoothly = DrawSmoothly::default();
        for tick in 0..5 {
            smoothly.step(at(tick as f32), false);
        }
        // Two ticks are run again, from the state before them: it went the other way.
        smoothly.rewind(at(2.0));
        smoothly.step(at(1.0), false);
        smoothly.step(at(0.0), true);
        assert_eq!(smoothly.draw(1.0, Duration::ZERO), Some(at(4.0)));
        let soon = x(&mut smoothly, 1.0);
        assert!((3.0..4.0).contains(&soon), "{soon}");
        let later = (0..60).map(|_| x(&mut smoothly, 1.0)).last().expect("60 frames");
        assert!(later.abs() < 0.01, "{later}");
    }

    #[test]
    fn a_large_correction_is_seen_at_once() {
        let mut smoothly = DrawSmoothly { snaps: 3.0, ..DrawSmoothly::default() };
        smoothly.step(at(0.0), false);
        smoothly.step(at(10.0), false);
        smoothly.rewind(at(0.0));
        smoothly.step(at(1.0), true);
        assert_eq!(x(&mut smoothly, 1.0), 1.0);
    }
}
