//! Entities that die in simulation, and may turn out to live.

use bevy_ecs::prelude::*;
use bevy_ecs::system::EntityCommands;
use bevy_reflect::Reflect;

use super::clock::SimulatedTick;

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
