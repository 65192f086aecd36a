//! Rollback: the game's own `FixedUpdate`, run again for past ticks.
//!
//! Add [`RollbackPlugin`], register what a rollback has to bring back, and spawn simulated entities with
//! [`Rollback`]:
//!
//! | what | how |
//! |---|---|
//! | components | [`AddRollback::rollback`]; [`AddRollback::rollback_immutable`] for immutable ones, such as `ChildOf` |
//! | resources | [`AddRollback::rollback_resource`] |
//! | entities that die | [`DespawnRollback::despawn_rollback`] in place of `despawn` |
//! | a test that all of it holds | [`RollbackCheckPlugin`] |
//!
//! | schedule | set | what happens |
//! |---|---|---|
//! | `FixedFirst` | [`RollbackSystems::Save`] | the state before the tick is kept |
//! | `FixedUpdate` | | the game's simulation; [`Resimulating`] says if it ran this tick before |
//! | `FixedLast` | [`RollbackSystems::Count`] | the tick is over |
//!
//! Guaranteed: a tick that is run again begins with the registered state it began with before, at the
//! same `Time`. Not guaranteed: that systems which read anything else do the same again, and the order of
//! rows in queries; sort by [`RollbackId`] where the order counts.

mod check;
mod clock;
mod despawn;
mod hash;
mod id;
mod state;

use bevy_app::{App, FixedFirst, FixedLast, Plugin};
use bevy_ecs::component::Mutable;
use bevy_ecs::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use check::{RollbackCheck, RollbackCheckPlugin, RollbackDifference};
pub use clock::Resimulating;
pub use despawn::{DespawnRollback, Despawned};
pub use id::{Rollback, RollbackId};
pub use state::NotKept;

use clock::{SimulatedTick, TickTimes};
use hash::Hashes;
use id::NextId;
use state::States;

/// Where the plugin does its work, inside of a tick.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RollbackSystems {
    /// In `FixedFirst`: the state is kept.
    Save,
    /// In `FixedLast`: the tick is over.
    Count,
}

/// Keeps the state before each of the last ticks.
#[derive(Clone, Copy, Debug)]
pub struct RollbackPlugin {
    /// How many states are kept; ten by default: eight ticks of prediction, and two.
    pub states: usize,
}

impl Default for RollbackPlugin {
    fn default() -> Self {
        Self { states: 10 }
    }
}

impl Plugin for RollbackPlugin {
    fn build(&self, app: &mut App) {
        let states = States::new(app.world_mut(), self.states);
        app.insert_resource(states)
            .init_resource::<Hashes>()
            .init_resource::<SimulatedTick>()
            .init_resource::<TickTimes>()
            .init_resource::<Resimulating>()
            .register_type::<Rollback>()
            .register_type::<RollbackId>()
            .register_type::<Despawned>()
            .add_systems(FixedFirst, clock::save.in_set(RollbackSystems::Save))
            .add_systems(FixedLast, clock::count.in_set(RollbackSystems::Count));
        app.world_mut().resource_scope(|world, mut hashes: Mut<'_, Hashes>| {
            hashes.register::<NextId>(world);
        });
    }
}

/// Registers what is rolled back.
///
/// All players of a match register the same.
///
/// # Panics
/// Every method panics without [`RollbackPlugin`].
pub trait AddRollback {
    /// Rolls back a component of [`Rollback`] entities: small plain types as whole columns, others by
    /// what has changed. For the latter a write that bypasses change detection is lost.
    fn rollback<C>(&mut self) -> &mut Self
    where
        C: Component<Mutability = Mutable> + Clone + Serialize + DeserializeOwned;

    /// Rolls back an immutable component: it is inserted again where it differs, which runs its hooks.
    fn rollback_immutable<C>(&mut self) -> &mut Self
    where
        C: Component + Clone + Serialize + DeserializeOwned;

    /// Rolls back a resource: its value, and whether it is there.
    fn rollback_resource<R>(&mut self) -> &mut Self
    where
        R: Resource<Mutability = Mutable> + Clone + Serialize + DeserializeOwned;
}

/// Keeps and loads states by hand: what the plugin does around every tick, for tools and measurements.
///
/// # Panics
/// Every method panics without [`RollbackPlugin`].
pub trait RollbackWorld {
    /// Keeps the state as it is, before this tick. Ticks only grow, but for a load.
    fn save_rollback(&mut self, tick: i32);

    /// Goes back to the state before this tick, and forgets later ones.
    ///
    /// # Errors
    /// [`NotKept`].
    fn load_rollback(&mut self, tick: i32) -> Result<(), NotKept>;
}

impl RollbackWorld for World {
    fn save_rollback(&mut self, tick: i32) {
        self.resource_scope(|world, mut states: Mut<'_, States>| states.save(world, tick));
    }

    fn load_rollback(&mut self, tick: i32) -> Result<(), NotKept> {
        self.resource_scope(|world, mut states: Mut<'_, States>| states.load(world, tick))
    }
}

fn register(app: &mut App, add: impl FnOnce(&mut World, &mut States, &mut Hashes)) {
    app.world_mut().resource_scope(|world, mut states: Mut<'_, States>| {
        world.resource_scope(|world, mut hashes: Mut<'_, Hashes>| {
            add(world, &mut states, &mut hashes);
        });
    });
}

impl AddRollback for App {
    fn rollback<C>(&mut self) -> &mut Self
    where
        C: Component<Mutability = Mutable> + Clone + Serialize + DeserializeOwned,
    {
        register(self, |world, states, hashes| {
            states.register::<C>(world);
            hashes.register::<C>(world);
        });
        self
    }

    fn rollback_immutable<C>(&mut self) -> &mut Self
    where
        C: Component + Clone + Serialize + DeserializeOwned,
    {
        register(self, |world, states, hashes| {
            states.register_immutable::<C>(world);
            hashes.register::<C>(world);
        });
        self
    }

    fn rollback_resource<R>(&mut self) -> &mut Self
    where
        R: Resource<Mutability = Mutable> + Clone + Serialize + DeserializeOwned,
    {
        register(self, |world, states, hashes| {
            states.register_resource::<R>(world);
            hashes.register::<R>(world);
        });
        self
    }
}
