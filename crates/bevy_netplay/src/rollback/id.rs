//! Which entities are rolled back, and what they are called on every peer.

use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;
use bevy_reflect::Reflect;
use serde::{Deserialize, Serialize};

use super::despawn::find_plain_despawns;

/// Marks an entity whose registered components are rolled back. Spawn it in simulation, or before the
/// match begins in the same order on every peer. To roll it back no more, remove it together with its
/// [`RollbackId`]; a rollback to before that gives it both again.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
#[component(on_remove = find_plain_despawns)]
#[reflect(Component)]
#[require(RollbackId)]
pub struct Rollback;

/// The name of a rollback entity, which is the same on every peer: an [`Entity`] is not.
///
/// Given when [`Rollback`] is added, from a counter that is rolled back too: commands are applied in the
/// same order everywhere. A clone of an entity gets one of its own.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Reflect)]
#[component(on_add = give_id, clone_behavior = Ignore)]
#[reflect(Component)]
pub struct RollbackId(u32);

/// Ids from here on are those of resources, by the order in which they were registered.
const RESOURCES: u32 = 0xFFFF_0000;

impl RollbackId {
    /// The id with this number.
    pub(crate) const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The id of a resource.
    pub(crate) const fn of_resource(number: u32) -> Self {
        Self(RESOURCES + number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The id that a value is told with: that of a resource says nothing, for there is one of a type.
    pub(crate) const fn in_type(self) -> Self {
        if self.is_resource() { Self(0) } else { self }
    }

    /// Whether it is the id of a resource.
    pub const fn is_resource(self) -> bool {
        self.0 >= RESOURCES
    }
}

/// The id that is given next; rolled back like a component.
#[derive(Resource, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NextId(pub(crate) u32);

impl Default for NextId {
    /// From 1 on: 0 is the id that is not given yet.
    fn default() -> Self {
        Self(1)
    }
}

fn give_id(mut world: DeferredWorld<'_>, context: HookContext) {
    let given = world.get::<RollbackId>(context.entity).is_some_and(|id| id.0 != 0);
    if given {
        return;
    }
    let Some(mut next) = world.get_resource_mut::<NextId>() else { return };
    let id = next.0;
    next.0 += 1;
    if let Some(mut here) = world.get_mut::<RollbackId>(context.entity) {
        here.0 = id;
    }
}
