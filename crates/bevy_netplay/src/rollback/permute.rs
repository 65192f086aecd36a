//! Other orders of rows: what the tables of another machine, or a rollback, may make of them.

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use super::despawn::Despawned;
use super::id::{Rollback, RollbackId};

/// Some entities have it, and are therefore in tables of their own.
#[derive(Component, Clone, Copy)]
struct Aside;

/// Puts all rollback entities into other rows, and some of them into other tables, in an order that the
/// numbers decide; children are listed in another order, too. Entities and their components stay what they
/// are.
pub(crate) fn permute(world: &mut World, random: &mut dyn FnMut() -> u64) {
    let mut query = world
        .query_filtered::<(&RollbackId, Entity), (With<Rollback>, Allow<Despawned>, Allow<Disabled>)>();
    let mut all: Vec<(RollbackId, Entity)> = query.iter(world).map(|(id, at)| (*id, at)).collect();
    // From here on the numbers alone decide.
    all.sort_unstable();
    shuffle(&mut all, random);
    all.iter().for_each(|(_, entity)| change_sides(world, *entity));
    shuffle(&mut all, random);
    let some = all.len() / 2;
    all.iter().take(some).for_each(|(_, entity)| change_sides(world, *entity));
    all.iter().for_each(|(_, entity)| mix_children(world, *entity, random));
}

/// Swaps each with one that is not behind it (Fisher-Yates).
fn shuffle<T>(all: &mut [T], random: &mut dyn FnMut() -> u64) {
    for last in (1..all.len()).rev() {
        all.swap(last, (random() % (last as u64 + 1)) as usize);
    }
}

/// Moves an entity to the end of another table.
fn change_sides(world: &mut World, entity: Entity) {
    let Ok(mut entity) = world.get_entity_mut(entity) else { return };
    if entity.contains::<Aside>() {
        entity.remove::<Aside>();
    } else {
        entity.insert(Aside);
    }
}

fn mix_children(world: &mut World, parent: Entity, random: &mut dyn FnMut() -> u64) {
    let Some(mut children) = world.get_mut::<Children>(parent) else { return };
    for last in (1..children.len()).rev() {
        children.swap(last, (random() % (last as u64 + 1)) as usize);
    }
}
