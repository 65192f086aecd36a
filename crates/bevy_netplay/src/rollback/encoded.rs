//! A state as other machines can read and compare it: every value, encoded, and a tree of hashes over them:
//! one of all, one of each type, one of each bucket of ids, one of each value.

use std::collections::VecDeque;
use std::ops::Range;

use bevy_ecs::prelude::*;

use super::despawn::Despawned;
use super::encode::hash;
use super::id::{Rollback, RollbackId};
use super::state::{NotKept, States};
use super::types::{StateTypes, checksum};

/// Hashes of a type: between the sum of all its values and the values.
pub(crate) const BUCKETS: usize = 256;

/// Bytes of values that are kept of a state; of larger ones some values have their hash only.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// States that are kept: a checksum is compared a network path later, and at one a second that is soon.
const KEPT: usize = 6;

/// A value of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) id: RollbackId,
    pub(crate) hash: u64,
    /// Where its bytes are, if there was room for them.
    bytes: Option<Range<usize>>,
}

/// A state, encoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct EncodedState {
    /// The tick that follows it.
    pub(crate) tick: i32,
    /// The entities that are alive, in the order of their ids.
    pub(crate) alive: Vec<RollbackId>,
    /// Of each type, in the order of their names.
    types: Vec<Vec<Value>>,
    bytes: Vec<u8>,
}

impl EncodedState {
    /// The state that is kept before a tick.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn of(states: &mut States, types: &StateTypes, tick: i32) -> Result<Self, NotKept> {
        let mut state = Self::default();
        state.take(states, types, tick, usize::MAX)?;
        Ok(state)
    }

    /// The state of the world as it is, before this tick.
    pub(crate) fn now(world: &mut World, types: &mut StateTypes, tick: i32) -> Self {
        let mut alive = world.query_filtered::<&RollbackId, (With<Rollback>, Without<Despawned>)>();
        let alive = alive.iter(world).copied().collect();
        let mut state = Self { tick, alive, ..Self::default() };
        let mut scratch = Vec::new();
        for of in types.iter_mut() {
            let mut values = Vec::new();
            of.each(world, &mut scratch, &mut |id, bytes| {
                let start = state.bytes.len();
                state.bytes.extend_from_slice(bytes);
                let bytes = Some(start..state.bytes.len());
                let hash = hash(id, &state.bytes[start..]);
                values.push(Value { id, hash, bytes });
            });
            state.types.push(values);
        }
        state.sort();
        state
    }

    fn sort(&mut self) {
        self.alive.sort_unstable();
        self.types.iter_mut().for_each(|values| values.sort_unstable_by_key(|value| value.id));
    }

    /// Takes the state that is kept before a tick, with so many bytes of values.
    fn take(
        &mut self,
        states: &mut States,
        types: &StateTypes,
        tick: i32,
        most: usize,
    ) -> Result<(), NotKept> {
        self.tick = tick;
        self.alive.clear();
        self.bytes.clear();
        self.types.resize_with(types.len(), Vec::new);
        self.types.iter_mut().for_each(Vec::clear);
        let Self { types: values, bytes: all, alive, .. } = self;
        let put_alive = |id| alive.push(id);
        states.read(tick, types.columns(), put_alive, |nth, id, hash, bytes| {
            let start = all.len();
            let fits = bytes.len() <= most.saturating_sub(start);
            if fits {
                all.extend_from_slice(bytes);
            }
            let bytes = fits.then(|| start..start + bytes.len());
            values[nth].push(Value { id, hash, bytes });
        })?;
        self.sort();
        Ok(())
    }

    /// The sum of each type.
    pub(crate) fn sums(&self) -> impl Iterator<Item = u64> {
        let sum = |values: &Vec<Value>| {
            values.iter().fold(0_u64, |sum, value| sum.wrapping_add(value.hash))
        };
        self.types.iter().map(sum)
    }

    /// One number for all of it.
    pub(crate) fn checksum(&self) -> u64 {
        checksum(self.sums())
    }

    /// The sums of the buckets of a type.
    pub(crate) fn buckets(&self, of: usize) -> Vec<u64> {
        let mut buckets = vec![0_u64; BUCKETS];
        for value in self.values(of) {
            let bucket = &mut buckets[bucket(value.id)];
            *bucket = bucket.wrapping_add(value.hash);
        }
        buckets
    }

    /// A state of these values, for tests.
    #[cfg(test)]
    pub(crate) fn from_values(tick: i32, types: &[Vec<(u32, Vec<u8>)>]) -> Self {
        let mut state = Self { tick, ..Self::default() };
        for values in types {
            let mut put = |(id, bytes): &(u32, Vec<u8>)| {
                let (id, start) = (RollbackId::new(*id), state.bytes.len());
                state.bytes.extend_from_slice(bytes);
                let hash = hash(id, bytes);
                Value { id, hash, bytes: Some(start..start + bytes.len()) }
            };
            let values = values.iter().map(&mut put).collect();
            state.types.push(values);
        }
        state
    }

    /// How many types there are.
    pub(crate) fn types(&self) -> usize {
        self.types.len()
    }

    /// The values of a type, in the order of their ids.
    pub(crate) fn values(&self, of: usize) -> &[Value] {
        self.types.get(of).map_or(&[], Vec::as_slice)
    }

    /// What a value is, encoded.
    pub(crate) fn bytes(&self, value: &Value) -> Option<&[u8]> {
        self.bytes.get(value.bytes.clone()?)
    }
}

/// The bucket of an id.
pub(crate) const fn bucket(id: RollbackId) -> usize {
    id.get() as usize % BUCKETS
}

/// The last final states.
#[derive(Debug, Default)]
pub(crate) struct FinalStates {
    kept: VecDeque<EncodedState>,
}

impl FinalStates {
    /// Takes the state that is kept before a tick, in place of the oldest; gives its checksum.
    pub(crate) fn take(
        &mut self,
        states: &mut States,
        types: &StateTypes,
        tick: i32,
    ) -> Result<u64, NotKept> {
        let full = self.kept.len() >= KEPT;
        let mut state = if full { self.kept.pop_front() } else { None }.unwrap_or_default();
        state.take(states, types, tick, BYTES_MAX)?;
        let sum = state.checksum();
        self.kept.push_back(state);
        Ok(sum)
    }

    /// The state before a tick.
    pub(crate) fn get(&self, tick: i32) -> Option<&EncodedState> {
        self.kept.iter().find(|state| state.tick == tick)
    }
}
