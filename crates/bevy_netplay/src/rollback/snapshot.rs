//! The whole simulated state as bytes: for who joins a match that runs.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | entities, and then for each its id (4), in their order |
//! | 4 | types, and then each of them, in the order of their names |
//! | 4, in a type | values, and then for each: id (4), length (4), and the value as the codec writes it; in the order of ids |
//!
//! Written little-endian. All players of a match register the same types, which was checked before.

use bevy_ecs::prelude::*;
use netplay_protocol::cursor::{ReadError, Reader};
use thiserror::Error;

use super::despawn::Despawned;
use super::encode::VALUE_MAX;
use super::encoded::EncodedState;
use super::id::{Rollback, RollbackId};
use super::types::{Entities, StateTypes};

/// Why a snapshot is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It ends too early, or goes on.
    #[error("the snapshot has another length than it says")]
    Length,
    /// It has other types.
    #[error("the snapshot has {theirs} types, this game has {ours}")]
    Types {
        /// Ours.
        ours: usize,
        /// In the snapshot.
        theirs: usize,
    },
    /// A value is none of its type.
    #[error("a value of {of} cannot be read: {why}")]
    Value {
        /// The type.
        of: &'static str,
        /// Why.
        why: String,
    },
}

impl From<ReadError> for SnapshotError {
    fn from(_: ReadError) -> Self {
        Self::Length
    }
}

/// A state for another machine.
pub(crate) fn write(state: &EncodedState) -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, state.alive.len());
    state.alive.iter().for_each(|id| out.extend_from_slice(&id.get().to_le_bytes()));
    put_u32(&mut out, state.types());
    for of in 0..state.types() {
        put_u32(&mut out, state.values(of).len());
        for value in state.values(of) {
            let bytes = state.bytes(value).unwrap_or_default();
            out.extend_from_slice(&value.id.get().to_le_bytes());
            put_u32(&mut out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
    out
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    // Limits far below keep it in range.
    out.extend_from_slice(&(value as u32).to_le_bytes());
}

/// Puts this state in place of ours.
///
/// # Errors
/// [`SnapshotError`]; what the world holds then is no state that anybody had.
pub(crate) fn read(
    world: &mut World,
    types: &mut StateTypes,
    bytes: &[u8],
) -> Result<(), SnapshotError> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32()? as usize;
    if count > reader.rest().len() / 4 {
        return Err(SnapshotError::Length);
    }
    let ids = (0..count).map(|_| Ok(RollbackId::new(reader.u32()?)));
    let ids = ids.collect::<Result<Vec<_>, ReadError>>()?;
    let (ours, theirs) = (types.len(), reader.u32()? as usize);
    if ours != theirs {
        return Err(SnapshotError::Types { ours, theirs });
    }
    despawn_all(world);
    types.iter_mut().for_each(|of| of.clear(world));
    let entities: Entities = ids.into_iter().map(|id| (id, world.spawn(id).id())).collect();
    for of in types.iter_mut() {
        for _ in 0..reader.u32()? {
            let (id, len) = (RollbackId::new(reader.u32()?), reader.u32()? as usize);
            if len > VALUE_MAX {
                return Err(SnapshotError::Length);
            }
            let value = reader.bytes(len)?;
            let wrong = |why: String| SnapshotError::Value { of: of.name(), why };
            of.put(world, &entities, id, value).map_err(|error| wrong(error.to_string()))?;
        }
    }
    // Last, so that who looks for the marker finds everything else.
    for entity in entities.values() {
        if let Ok(mut entity) = world.get_entity_mut(*entity) {
            entity.insert(Rollback);
        }
    }
    if reader.rest().is_empty() { Ok(()) } else { Err(SnapshotError::Length) }
}

/// Ends all entities that are simulated.
pub(crate) fn despawn_all(world: &mut World) {
    let mut all = world.query_filtered::<Entity, (With<Rollback>, Allow<Despawned>)>();
    let all: Vec<Entity> = all.iter(world).collect();
    for entity in all {
        // Its parent may have taken it along.
        let _ = world.try_despawn(entity);
    }
}
