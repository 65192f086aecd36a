//! How a value of the state is written for other machines, and hashed: with the ids of entities in place of
//! the entities, which are others on every machine.

use bevy_ecs::entity::EntityMapper;
use bevy_ecs::prelude::*;
use netplay_protocol::codec::{Bincode, Codec};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::id::RollbackId;

/// Bytes of one value: a component of a megabyte is a world, and belongs into several.
pub(crate) const VALUE_MAX: usize = 1024 * 1024;

/// Gives the rollback id of an entity, if it has one and is alive: who comes later has never seen the dead.
pub(crate) type IdOf<'a> = &'a dyn Fn(Entity) -> Option<RollbackId>;

/// Writes a value; gives whether it names entities.
pub(crate) type Encode<C> = fn(&C, IdOf<'_>, &mut Vec<u8>) -> bool;

/// Puts ids in place of entities.
struct ById<'a> {
    id_of: IdOf<'a>,
    used: bool,
}

impl EntityMapper for ById<'_> {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        self.used = true;
        let id = (self.id_of)(source).map_or(0, RollbackId::get);
        Entity::from_raw_u32(id).unwrap_or(Entity::PLACEHOLDER)
    }

    fn set_mapped(&mut self, _: Entity, _: Entity) {}
}

/// [`Encode`] of a type.
pub(crate) fn encode<C: Component + Clone + Serialize>(
    value: &C,
    id_of: IdOf<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let mut value = value.clone();
    let mut by_id = ById { id_of, used: false };
    C::map_entities(&mut value, &mut by_id);
    out.clear();
    // What cannot be written counts as if it were empty, on every machine.
    if Bincode::encode(&value, out, VALUE_MAX).is_err() {
        out.clear();
    }
    by_id.used
}

/// The hash of a value of an entity. Those of a type are added: the order of rows does not count.
pub(crate) fn hash(id: RollbackId, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, id.get().into())
}
