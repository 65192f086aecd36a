//! The types of the simulation's state: how each is hashed, and written for another machine.
//!
//! A value is hashed with the id of its entity, and the hashes of a type are added: the order of rows,
//! which differs between machines, does not count. Entities in components are told by their ids.

use std::collections::BTreeMap;

use super::encode::{encode, hash};
use bevy_ecs::component::Mutable;
use bevy_ecs::entity::EntityMapper;
use bevy_ecs::prelude::*;
use bevy_ecs::query::QueryState;
use netplay_protocol::codec::{Bincode, Codec, DecodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3;

use super::despawn::Despawned;
use super::id::RollbackId;

/// Entities by their ids.
pub(crate) type Entities = BTreeMap<RollbackId, Entity>;

/// A type that counts.
pub(crate) trait StateType: Send + Sync {
    fn name(&self) -> &'static str;

    /// Gives every value, encoded, with the id of its entity; in no order.
    fn each(
        &mut self,
        world: &World,
        scratch: &mut Vec<u8>,
        take: &mut dyn FnMut(RollbackId, &[u8]),
    );

    /// Puts a value from another machine into its place.
    fn put(
        &self,
        world: &mut World,
        entities: &Entities,
        id: RollbackId,
        bytes: &[u8],
    ) -> Result<(), DecodeError>;

    /// Another machine's state follows: what is not in it is not here either.
    fn clear(&self, world: &mut World);

    /// A value as text, for reports; entities in it are told by their ids.
    fn show(&self, bytes: &[u8]) -> String;
}

/// The id of an entity that is alive; one that is dead may still be hidden here, and has never been on another
/// machine.
fn id_of(world: &World, entity: Entity) -> Option<RollbackId> {
    let there = world.get_entity(entity).ok().filter(|there| !there.contains::<Despawned>());
    there.and_then(|there| there.get::<RollbackId>()).copied()
}

/// Gives the entity with an id in place of the id.
struct FromId<'e>(&'e Entities);

impl EntityMapper for FromId<'_> {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        let id = RollbackId::new(source.index_u32());
        self.0.get(&id).copied().unwrap_or(Entity::PLACEHOLDER)
    }

    fn set_mapped(&mut self, _: Entity, _: Entity) {}
}

fn show<C: Serialize + DeserializeOwned>(bytes: &[u8]) -> String {
    let value = Bincode::decode::<C>(bytes).map_err(|error| error.to_string());
    let text = value.and_then(|value| ron::to_string(&value).map_err(|error| error.to_string()));
    text.unwrap_or_else(|error| format!("{} bytes ({error})", bytes.len()))
}

fn decode<C: Component + DeserializeOwned>(
    bytes: &[u8],
    entities: &Entities,
) -> Result<C, DecodeError> {
    let mut value = Bincode::decode::<C>(bytes)?;
    C::map_entities(&mut value, &mut FromId(entities));
    Ok(value)
}

struct OfComponent<C: Component>(QueryState<(&'static RollbackId, &'static C), Without<Despawned>>);

impl<C: Component + Clone + Serialize + DeserializeOwned> StateType for OfComponent<C> {
    fn name(&self) -> &'static str {
        core::any::type_name::<C>()
    }

    fn each(
        &mut self,
        world: &World,
        scratch: &mut Vec<u8>,
        take: &mut dyn FnMut(RollbackId, &[u8]),
    ) {
        for (id, value) in self.0.iter(world) {
            encode(value, &|entity| id_of(world, entity), scratch);
            take(*id, scratch);
        }
    }

    fn put(
        &self,
        world: &mut World,
        entities: &Entities,
        id: RollbackId,
        bytes: &[u8],
    ) -> Result<(), DecodeError> {
        let value = decode::<C>(bytes, entities)?;
        if let Some(entity) = entities.get(&id) {
            world.entity_mut(*entity).insert(value);
        }
        Ok(())
    }

    /// Components go with their entities.
    fn clear(&self, _: &mut World) {}

    fn show(&self, bytes: &[u8]) -> String {
        show::<C>(bytes)
    }
}

struct OfResource<R>(core::marker::PhantomData<fn(R)>);

impl<R> StateType for OfResource<R>
where
    R: Resource<Mutability = Mutable> + Clone + Serialize + DeserializeOwned,
{
    fn name(&self) -> &'static str {
        core::any::type_name::<R>()
    }

    fn each(
        &mut self,
        world: &World,
        scratch: &mut Vec<u8>,
        take: &mut dyn FnMut(RollbackId, &[u8]),
    ) {
        if let Some(value) = world.get_resource::<R>() {
            encode(value, &|entity| id_of(world, entity), scratch);
            take(RollbackId::default(), scratch);
        }
    }

    fn put(
        &self,
        world: &mut World,
        entities: &Entities,
        _: RollbackId,
        bytes: &[u8],
    ) -> Result<(), DecodeError> {
        world.insert_resource(decode::<R>(bytes, entities)?);
        Ok(())
    }

    fn clear(&self, world: &mut World) {
        world.remove_resource::<R>();
    }

    fn show(&self, bytes: &[u8]) -> String {
        show::<R>(bytes)
    }
}

/// One number for the sums of all types.
pub(crate) fn checksum(sums: impl Iterator<Item = u64>) -> u64 {
    let mut hash = Xxh3::new();
    sums.for_each(|sum| hash.update(&sum.to_le_bytes()));
    hash.digest()
}

/// A type, and the column of the saved states that has its values.
struct Registered {
    of: Box<dyn StateType>,
    column: usize,
}

/// All types that count.
#[derive(Resource, Default)]
pub(crate) struct StateTypes {
    /// By their names.
    types: Vec<Registered>,
    scratch: Vec<u8>,
}

impl StateTypes {
    pub(crate) fn register<C>(&mut self, world: &mut World, column: usize)
    where
        C: Component + Clone + Serialize + DeserializeOwned,
    {
        self.add(Box::new(OfComponent::<C>(world.query_filtered())), column);
    }

    pub(crate) fn register_resource<R>(&mut self, column: usize)
    where
        R: Resource<Mutability = Mutable> + Clone + Serialize + DeserializeOwned,
    {
        self.add(Box::new(OfResource::<R>(core::marker::PhantomData)), column);
    }

    fn add(&mut self, of: Box<dyn StateType>, column: usize) {
        let place = self.types.partition_point(|other| other.of.name() < of.name());
        self.types.insert(place, Registered { of, column });
    }

    /// The column of each type, in the same order on every machine.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> {
        self.types.iter().map(|registered| registered.column)
    }

    /// A type by its place in this order.
    pub(crate) fn get(&self, place: usize) -> Option<&dyn StateType> {
        self.types.get(place).map(|registered| &*registered.of as &dyn StateType)
    }

    /// Each type, in the same order on every machine.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut dyn StateType> {
        self.types.iter_mut().map(|registered| &mut *registered.of as &mut dyn StateType)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.types.len()
    }

    /// The sum of each type, in the same order on every machine.
    pub(crate) fn sums(&mut self, world: &World) -> Vec<(&'static str, u64)> {
        let Self { types, scratch } = self;
        let sum = |Registered { of, .. }: &mut Registered| {
            let mut sum = 0_u64;
            of.each(world, scratch, &mut |id, bytes| {
                sum = sum.wrapping_add(hash(id, bytes));
            });
            (of.name(), sum)
        };
        types.iter_mut().map(sum).collect()
    }

    /// One number for all of it.
    pub(crate) fn checksum(&mut self, world: &World) -> u64 {
        checksum(self.sums(world).iter().map(|(_, sum)| *sum))
    }

    /// Names the set of types.
    pub(crate) fn fingerprint(&self, input: &str) -> u64 {
        let mut hash = Xxh3::new();
        let names = self.types.iter().map(|registered| registered.of.name());
        for name in core::iter::once(input).chain(names) {
            hash.update(name.as_bytes());
            hash.update(&[0]);
        }
        hash.digest()
    }
}
