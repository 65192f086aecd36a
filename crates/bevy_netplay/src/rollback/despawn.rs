//! Entities that die in simulation, and may turn out to live.

use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::system::EntityCommands;
use bevy_ecs::world::DeferredWorld;
use bevy_reflect::Reflect;

use super::clock::SimulatedTick;
use super::id::RollbackId;

/// The entity was despawned in simulation: queries do not see it any more, and once its death is final it
/// is gone. [`DespawnRollback::despawn_rollback`] adds it.
///
/// It disables the entity and all its children, which therefore keep their ids and components while a
/// rollback can bring them back.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Reflect)]
#[reflect(Component)]
pub struct Despawned {
    /// The tick in which it died.
    pub(crate) tick: i32,
}

/// Despawns rollback entities so that a rollback brings them back.
pub trait DespawnRollback {
    /// Despawns the entity and its children. After a plain `despawn` a rollback can only bring back another
    /// entity with the same registered components.
    fn despawn_rollback(&mut self);
}

impl DespawnRollback for EntityCommands<'_> {
    fn despawn_rollback(&mut self) {
        self.queue(|mut entity: EntityWorldMut<'_>| entity.despawn_rollback());
    }
}

impl DespawnRollback for EntityWorldMut<'_> {
    fn despawn_rollback(&mut self) {
        let tick = self.world().get_resource::<SimulatedTick>().map_or(0, |tick| tick.0);
        let entity = self.id();
        self.world_scope(|world| hide(world, entity, Despawned { tick }));
    }
}

fn hide(world: &mut World, entity: Entity, despawned: Despawned) {
    let Ok(mut here) = world.get_entity_mut(entity) else { return };
    if here.contains::<Despawned>() {
        return;
    }
    here.insert(despawned);
    let children: Vec<Entity> =
        here.get::<Children>().map(|children| children.iter().collect()).unwrap_or_default();
    children.into_iter().for_each(|child| hide(world, child, despawned));
}

/// Whether a tick is being simulated.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InTick(pub(crate) bool);

/// Entities that were despawned in simulation as if no rollback could come.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlainDespawns(pub(crate) u64);

/// Finds plain despawns, and says once what to write instead; when [`Rollback`](super::Rollback) is removed.
///
/// A hook, for an observer would make every removal of any component of a rollback entity slower.
pub(super) fn find_plain_despawns(mut world: DeferredWorld<'_>, context: HookContext) {
    let in_tick = world.get_resource::<InTick>().is_some_and(|in_tick| in_tick.0);
    if !in_tick || world.get::<Despawned>(context.entity).is_some() {
        return;
    }
    let id = world.get::<RollbackId>(context.entity).map_or(0, |id| id.get());
    let Some(mut found) = world.get_resource_mut::<PlainDespawns>() else { return };
    found.0 += 1;
    if found.0 == 1 {
        tracing::error!(
            tick = world.get_resource::<SimulatedTick>().map_or(0, |tick| tick.0),
            id,
            "an entity was despawned in simulation: use despawn_rollback() in place of despawn(), or a \
             rollback brings back another entity, with its registered components only"
        );
    }
}
