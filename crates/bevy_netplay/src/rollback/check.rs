//! Check mode: a game that plays alone, is rolled back after every tick, and has to come to the same state
//! again.
//!
//! Found: state that is not registered, systems that read what a rollback cannot rewind (a `Local`, change
//! detection, a random number from outside), and whatever else differs when a tick is run twice.

use bevy_app::{App, Plugin, RunFixedMainLoop, RunFixedMainLoopSystems};
use bevy_ecs::prelude::*;

use super::clock::{SimulatedTick, run_again};
use super::despawn::PlainDespawns;
use super::state::States;
use super::types::StateTypes;

/// Rolls back and runs again after every tick, by a depth that the seed chooses. Differences are in
/// [`RollbackCheck`].
///
/// ```
/// # use bevy_app::prelude::*;
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::rollback::*;
/// # use bevy_time::{TimePlugin, TimeUpdateStrategy};
/// # use serde::{Deserialize, Serialize};
/// # use std::time::Duration;
/// #[derive(Component, Clone, Copy, Serialize, Deserialize)]
/// struct Height(i32);
///
/// # let mut app = App::new();
/// # app.add_plugins(TimePlugin);
/// # app.insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_millis(16)));
/// app.add_plugins((RollbackPlugin::default(), RollbackCheckPlugin { seed: 7 }))
///     .rollback::<Height>()
///     .add_systems(Startup, |mut commands: Commands| { commands.spawn((Rollback, Height(9))); })
///     .add_systems(FixedUpdate, |mut heights: Query<&mut Height>| {
///         heights.iter_mut().for_each(|mut height| height.0 -= 1);
///     });
/// (0..100).for_each(|_| app.update());
/// app.world().resource::<RollbackCheck>().assert_same();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RollbackCheckPlugin {
    /// Chooses how far each rollback goes.
    pub seed: u64,
}

/// A type whose values were others when a tick was run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackDifference {
    /// The tick after which they differed.
    pub tick: i32,
    /// How many ticks were run again.
    pub depth: u32,
    /// The component or resource.
    pub of: &'static str,
}

/// What check mode has done and found.
#[derive(Resource, Clone, Debug, Default)]
pub struct RollbackCheck {
    /// Ticks that were run again.
    pub resimulated: u64,
    /// Entities that were despawned in simulation without
    /// [`despawn_rollback`](super::DespawnRollback::despawn_rollback).
    pub plain_despawns: u64,
    /// The first differences, at most 16.
    pub differences: Vec<RollbackDifference>,
    random: u64,
    /// The last tick before which it went back.
    checked: Option<i32>,
}

const DIFFERENCES_MAX: usize = 16;

impl RollbackCheck {
    /// Panics if anything differed, if entities were despawned in simulation as if no rollback could come,
    /// or if nothing was run again.
    ///
    /// # Panics
    /// With the first differences.
    pub fn assert_same(&self) {
        assert!(
            self.differences.is_empty(),
            "ticks that are run again come to another state: {:#?}",
            self.differences
        );
        let plain = self.plain_despawns;
        assert!(plain == 0, "{plain} entities were despawned without despawn_rollback()");
        assert!(self.resimulated > 0, "no tick was run again: does FixedUpdate run?");
    }

    /// The next number of a sequence that the seed decides (splitmix64).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}

impl Plugin for RollbackCheckPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(RollbackCheck { random: self.seed, ..RollbackCheck::default() })
            .add_systems(
                RunFixedMainLoop,
                check.in_set(RunFixedMainLoopSystems::AfterFixedMainLoop),
            );
    }
}

/// Rolls back from the tick that begins next, if any was run since the last time.
fn check(world: &mut World) {
    let now = world.resource::<SimulatedTick>().0;
    let mut check = world.remove_resource::<RollbackCheck>().unwrap_or_default();
    if check.checked.is_none_or(|checked| checked < now) {
        check.checked = Some(now);
        rewind(world, &mut check, now);
    }
    world.insert_resource(check);
}

/// Runs some of the last ticks again, and compares the state that follows with what it was.
fn rewind(world: &mut World, check: &mut RollbackCheck, now: i32) {
    let kept = world.resource::<States>().oldest().unwrap_or(now);
    let depth = 1 + check.next() % u64::from((now - kept).max(1).unsigned_abs());
    let before = sums(world);
    if run_again(world, now - depth as i32).is_err() {
        return;
    }
    check.resimulated += depth;
    check.plain_despawns = world.resource::<PlainDespawns>().0;
    let again = sums(world);
    let other = before.iter().zip(&again).filter(|(before, again)| before != again);
    let room = DIFFERENCES_MAX.saturating_sub(check.differences.len());
    let found = other.take(room).map(|((of, _), _)| RollbackDifference {
        tick: now,
        depth: depth as u32,
        of,
    });
    check.differences.extend(found);
}

fn sums(world: &mut World) -> Vec<(&'static str, u64)> {
    world.resource_scope(|world, mut types: Mut<'_, StateTypes>| types.sums(world))
}
