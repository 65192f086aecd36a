//! Check mode: a game that plays alone, is rolled back after every tick, and has to come to the same state
//! again; also with its rows in another order, and with all its entities spawned anew.
//!
//! | after | what happens | finds |
//! |---|---|---|
//! | every tick | goes back by some ticks and runs them again | state that is not registered; what a rollback cannot rewind: a `Local`, change detection, a cursor, a random number from outside |
//! | about three of eight | the same, with rollback entities in other rows and tables, and children in another order | results that depend on the order of rows: who is first, sums of floats, ids of what is spawned in that order |
//! | about one of eight | the same, from a state that was written and read back, as who comes later is sent it | what does not survive that: an `Entity` that is not mapped, a component that is not registered |
//!
//! Guaranteed: a tick that came to another state in one of these ways is in [`RollbackCheck`], with its
//! kind. Not guaranteed: that every mistake shows in the ticks that were played: what a system does when
//! two players do something at once is found only if they do. An `Entity` that is not mapped is found when
//! the simulation uses or writes it.

use core::fmt;

use bevy_app::{App, Plugin, RunFixedMainLoop, RunFixedMainLoopSystems};
use bevy_ecs::prelude::*;
use netplay_protocol::PeerId;
use netplay_rollback::Player;
use xxhash_rust::xxh3::xxh3_64;

use super::RollbackSettings;
use super::clock::{SimulatedTick, run_again};
use super::despawn::PlainDespawns;
use super::encoded::EncodedState;
use super::events::{SeatedPlayer, SimulationRestored, trigger};
use super::id::RollbackId;
use super::permute::permute;
use super::session::Playing;
use super::snapshot::{self, SnapshotError};
use super::state::SavedStates;
use super::types::StateTypes;
use super::warnings::{self, RollbackWarning, Watch};

/// Rolls back and runs again after every tick, in ways and by depths that the seed chooses. What differs,
/// and warnings, are in [`RollbackCheck`].
///
/// In about one tick of eight all rollback entities are despawned and spawned anew with their registered
/// components, as for who comes into a match that runs; [`SimulationRestored`] is triggered then, on an
/// entity that is no lobby. In a match, check mode does nothing.
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
///
/// A game whose result depends on the order of rows is told so:
///
/// ```
/// # use bevy_app::prelude::*;
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::rollback::*;
/// # use bevy_time::{TimePlugin, TimeUpdateStrategy};
/// # use serde::{Deserialize, Serialize};
/// # use std::time::Duration;
/// # #[derive(Component, Clone, Copy, Serialize, Deserialize)]
/// # struct Height(i32);
/// # let mut app = App::new();
/// # app.add_plugins(TimePlugin);
/// # app.insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_millis(16)));
/// app.add_plugins((RollbackPlugin::default(), RollbackCheckPlugin { seed: 7 }))
///     .rollback::<Height>()
///     .add_systems(Startup, |mut commands: Commands| {
///         (0..4).for_each(|height| { commands.spawn((Rollback, Height(height))); });
///     })
///     .add_systems(FixedUpdate, |mut heights: Query<&mut Height>| {
///         // Whichever is first: not the same one on another machine.
///         heights.iter_mut().take(1).for_each(|mut height| height.0 -= 1);
///     });
/// (0..100).for_each(|_| app.update());
/// let difference = &app.world().resource::<RollbackCheck>().differences[0];
/// assert_eq!(difference.found_by, FoundBy::OtherRows);
/// assert!(difference.of.ends_with("Height"));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RollbackCheckPlugin {
    /// Chooses what is done after each tick, and how far it goes back.
    pub seed: u64,
}

/// What was done with the state before ticks were run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// It was loaded.
    Rewind,
    /// And entities were put into other rows and tables, children in another order.
    OtherRows,
    /// And it was written, and all entities were spawned anew from that.
    Respawn,
}

/// A type whose values were others when ticks were run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackDifference {
    /// What found it.
    pub found_by: FoundBy,
    /// The tick before which they differed.
    pub tick: i32,
    /// How many ticks were run again; none if a value is another one as soon as it was written and read.
    pub depth: u32,
    /// The component or resource.
    pub of: &'static str,
    /// The first entity that differs, unless it is a resource.
    pub first: Option<RollbackId>,
}

impl fmt::Display for RollbackDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found_by, tick, depth, of, first } = self;
        write!(f, "{of}")?;
        if let Some(first) = first {
            write!(f, " of the entity with rollback id {}", first.get())?;
        }
        write!(f, " differs before tick {tick}, ")?;
        if *depth > 0 {
            write!(f, "after a rollback of {depth} ticks")?;
        }
        f.write_str(match found_by {
            FoundBy::Rewind => {
                ": is there state that is not registered, a Local, change detection, a message reader, \
                 a run condition with a memory, the order of rows, or anything else that a rollback \
                 cannot rewind?"
            }
            FoundBy::OtherRows => {
                " with rows in another order: sort by RollbackId where the order counts, as where \
                 something is spawned"
            }
            FoundBy::Respawn if *depth == 0 => {
                "as soon as it was written and read: is all of it serialized?"
            }
            FoundBy::Respawn => {
                " with all entities spawned anew: is there an Entity that is not mapped, or does the \
                 simulation need a component that is not registered?"
            }
        })
    }
}

/// What check mode has done and found.
#[derive(Resource, Clone, Debug, Default)]
pub struct RollbackCheck {
    /// Ticks that were run again.
    pub resimulated: u64,
    /// How often rows were put into another order.
    pub permuted: u64,
    /// How often all entities were spawned anew.
    pub respawned: u64,
    /// Entities that were despawned in simulation without
    /// [`despawn_rollback`](super::DespawnRollback::despawn_rollback).
    pub plain_despawns: u64,
    /// The first differences, at most 16.
    pub differences: Vec<RollbackDifference>,
    /// What is likely to differ one day.
    pub warnings: Vec<RollbackWarning>,
    random: u64,
    /// The tick before which it went back last.
    checked: Option<i32>,
    /// From this tick on, rows are in the order in which they are now.
    rows_since: i32,
}

const DIFFERENCES_MAX: usize = 16;

impl RollbackCheck {
    /// Panics if anything differed, if entities were despawned in simulation as if no rollback could come,
    /// if there are warnings, or if nothing was run again.
    ///
    /// # Panics
    /// With the first differences, and the warnings.
    pub fn assert_same(&self) {
        let lines = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join("\n");
        assert!(
            self.differences.is_empty(),
            "ticks that are run again come to another state:\n{}",
            lines(&mut self.differences.iter().map(ToString::to_string))
        );
        let plain = self.plain_despawns;
        assert!(plain == 0, "{plain} entities were despawned without despawn_rollback()");
        assert!(
            self.warnings.is_empty(),
            "{}",
            lines(&mut self.warnings.iter().map(ToString::to_string))
        );
        assert!(self.resimulated > 0, "no tick was run again: does FixedUpdate run?");
    }

    /// Whether ticks were run again, nothing differed, no entity was despawned in simulation as if no
    /// rollback could come, and there are no warnings.
    pub fn is_same(&self) -> bool {
        let found = self.differences.len() + self.warnings.len();
        found == 0 && self.plain_despawns == 0 && self.resimulated > 0
    }

    /// The next number of a sequence that the seed decides (splitmix64).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn note(&mut self, difference: RollbackDifference) {
        if self.differences.len() < DIFFERENCES_MAX {
            tracing::error!("{difference}");
            self.differences.push(difference);
        }
    }
}

impl Plugin for RollbackCheckPlugin {
    fn build(&self, app: &mut App) {
        warnings::watch(app);
        app.insert_resource(RollbackCheck { random: self.seed, ..RollbackCheck::default() })
            .add_systems(
                RunFixedMainLoop,
                check.in_set(RunFixedMainLoopSystems::AfterFixedMainLoop).after(warnings::look),
            );
    }
}

/// Checks the tick that was run last, if any was since the last time; outside of a match.
fn check(world: &mut World) {
    let now = world.resource::<SimulatedTick>().0;
    let alone = world.resource::<Playing>().play.is_none();
    let mut check = world.remove_resource::<RollbackCheck>().unwrap_or_default();
    if alone && check.checked.replace(now) != Some(now) {
        check.rows_since = check.rows_since.min(now);
        check_tick(world, &mut check, now);
    }
    check.plain_despawns = world.resource::<PlainDespawns>().0;
    check.warnings.clone_from(&world.resource::<Watch>().found);
    world.insert_resource(check);
}

/// Goes back, and then perhaps once more in another way: what that finds, the first did not.
fn check_tick(world: &mut World, check: &mut RollbackCheck, now: i32) {
    let before = Values::of(world);
    if !again(world, check, FoundBy::Rewind, now, &before) {
        return;
    }
    match check.next() % 8 {
        0..3 => _ = again(world, check, FoundBy::OtherRows, now, &before),
        3 => _ = again(world, check, FoundBy::Respawn, now, &before),
        _ => {}
    }
}

/// Runs some of the last ticks again, and compares the state that follows with what it was. Whether it is
/// the same.
fn again(
    world: &mut World,
    check: &mut RollbackCheck,
    found_by: FoundBy,
    now: i32,
    before: &Values,
) -> bool {
    let kept = world.resource::<SavedStates>().oldest().unwrap_or(now);
    let depth = 1 + check.next() % u64::from((now - kept).max(1).unsigned_abs());
    let from = now - depth as i32;
    let mut at =
        RollbackDifference { found_by, tick: now, depth: depth as u32, of: "", first: None };
    let mut same = true;
    let ran = run_again(world, from, |world| match found_by {
        FoundBy::Rewind => {}
        FoundBy::OtherRows => {
            (check.permuted, check.rows_since) = (check.permuted + 1, from);
            permute(world, &mut || check.next());
        }
        FoundBy::Respawn => {
            (check.respawned, check.rows_since) = (check.respawned + 1, from);
            same = respawn(world, check, from);
        }
    });
    if ran.is_err() || !same {
        return false;
    }
    check.resimulated += depth;
    let after = Values::of(world);
    if *before == after {
        return true;
    }
    // These ticks were run with rows in another order before. If that is why they differ, they do not
    // when they are run once more.
    if from < check.rows_since
        && run_again(world, from, |_| {}).is_ok()
        && Values::of(world) == after
    {
        at.found_by = FoundBy::OtherRows;
    }
    before.note_others(&after, check, at);
    false
}

/// Writes the state, and takes it as if another player had sent it. Whether it is the same then.
fn respawn(world: &mut World, check: &mut RollbackCheck, tick: i32) -> bool {
    let before = Values::of(world);
    let read = world.resource_scope(|world, mut types: Mut<'_, StateTypes>| {
        let bytes = snapshot::write(&EncodedState::now(world, &mut types, tick));
        snapshot::read(world, &mut types, &bytes)
    });
    world.resource_mut::<SavedStates>().forget_all();
    let at = RollbackDifference {
        found_by: FoundBy::Respawn,
        tick,
        depth: 0,
        of: "the whole state",
        first: None,
    };
    if let Err(error) = read {
        tracing::error!(%error, "a state that was written cannot be read");
        let of = if let SnapshotError::Value { of, .. } = error { of } else { at.of };
        check.note(RollbackDifference { of, ..at });
        return false;
    }
    restored(world, tick);
    let after = Values::of(world);
    before.note_others(&after, check, at);
    before == after
}

/// Tells the game, which adds what its new entities need.
fn restored(world: &mut World, tick: i32) {
    let peer = PeerId::from_u128(0);
    let seated = |number| SeatedPlayer { player: Player(number), peer, local: true };
    let players = (0..world.resource::<RollbackSettings>().0.local_players).map(seated).collect();
    let entity = world.spawn_empty().id();
    trigger(world, SimulationRestored { entity, tick, players });
    world.flush();
    world.despawn(entity);
}

/// All values that count: of each type the hashes, by the ids of their entities.
#[derive(PartialEq, Eq)]
struct Values(Vec<(&'static str, Vec<(RollbackId, u64)>)>);

impl Values {
    fn of(world: &mut World) -> Self {
        world.resource_scope(|world, mut types: Mut<'_, StateTypes>| {
            let mut scratch = Vec::new();
            let values = types.iter_mut().map(|of| {
                let mut values = Vec::new();
                let mut take = |id, bytes: &[u8]| values.push((id, xxh3_64(bytes)));
                of.each(world, &mut scratch, &mut take);
                values.sort_unstable();
                (of.name(), values)
            });
            Self(values.collect())
        })
    }

    /// Notes each type whose values are others in `again`.
    fn note_others(&self, again: &Self, check: &mut RollbackCheck, at: RollbackDifference) {
        let types = self.0.iter().zip(&again.0);
        for ((of, before), (_, again)) in types.filter(|(before, again)| before != again) {
            let alike = before.iter().zip(again).take_while(|(before, again)| before == again);
            let place = alike.count();
            let first = [before.get(place), again.get(place)];
            let first = first.into_iter().flatten().map(|(id, _)| *id).min();
            check.note(RollbackDifference { of, first: first.filter(|id| id.get() > 0), ..at });
        }
    }
}
