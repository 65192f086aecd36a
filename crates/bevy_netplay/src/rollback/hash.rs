//! A number for each type of the simulation's state, the same on every peer that has the same state.
//!
//! Every value is hashed with the id of its entity, and the hashes of a type are added: the order of rows,
//! which differs between peers, does not count. Entities in components are hashed by their ids.

use bevy_ecs::entity::EntityMapper;
use bevy_ecs::prelude::*;
use bevy_ecs::query::QueryState;
use netplay_protocol::codec::{Bincode, Codec};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::despawn::Despawned;
use super::id::RollbackId;

/// Bytes of one value: a component of a megabyte is a world, and belongs into several.
const VALUE_MAX: usize = 1024 * 1024;

/// A type that counts.
trait TypeHash: Send + Sync {
    fn name(&self) -> &'static str;
    fn sum(&mut self, world: &World, scratch: &mut Vec<u8>) -> u64;
}

struct Hashed<C: Component>(QueryState<(&'static RollbackId, &'static C), Without<Despawned>>);

/// Gives an entity its rollback id in place of its own.
struct ById<'w>(&'w World);

impl EntityMapper for ById<'_> {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        let id = self.0.get::<RollbackId>(source).map_or(0, |id| id.get());
        Entity::from_raw_u32(id).unwrap_or(Entity::PLACEHOLDER)
    }

    fn set_mapped(&mut self, _: Entity, _: Entity) {}
}

impl<C: Component + Clone + Serialize> TypeHash for Hashed<C> {
    fn name(&self) -> &'static str {
        core::any::type_name::<C>()
    }

    fn sum(&mut self, world: &World, scratch: &mut Vec<u8>) -> u64 {
        let mut sum = 0_u64;
        for (id, value) in self.0.iter(world) {
            let mut value = value.clone();
            C::map_entities(&mut value, &mut ById(world));
            scratch.clear();
            // What cannot be written counts as if it were empty, on every peer.
            if Bincode::encode(&value, scratch, VALUE_MAX).is_err() {
                scratch.clear();
            }
            sum = sum.wrapping_add(xxh3_64_with_seed(scratch, id.get().into()));
        }
        sum
    }
}

/// All types that count.
#[derive(Resource, Default)]
pub(crate) struct Hashes {
    /// By their names.
    types: Vec<Box<dyn TypeHash>>,
    scratch: Vec<u8>,
}

impl Hashes {
    pub(crate) fn register<C: Component + Clone + Serialize>(&mut self, world: &mut World) {
        let hashed = Box::new(Hashed::<C>(world.query_filtered()));
        let place = self.types.partition_point(|other| other.name() < hashed.name());
        self.types.insert(place, hashed);
    }

    /// The sum of each type, in the same order on every peer.
    pub(crate) fn sums(&mut self, world: &World) -> Vec<(&'static str, u64)> {
        let Self { types, scratch } = self;
        types.iter_mut().map(|of| (of.name(), of.sum(world, scratch))).collect()
    }
}
