//! Where two machines differ, found in one and a half round trips: both tell the sums of all types, then
//! those of the buckets of each type that differs, then the values in the buckets that differ.
//!
//! Both do the same at once, so nobody has to ask. Guaranteed: what is named differs. Not guaranteed: that
//! all of it is named; there are limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rollback::encoded::{BUCKETS, EncodedState, Value, bucket};
use crate::rollback::id::RollbackId;

/// Types that are looked into.
const TYPES_MAX: usize = 8;
/// Buckets of a type that are looked into.
const BUCKETS_MAX: usize = 16;
/// Values of a type that are told, and bytes of them: a message on the reliable lane.
const VALUES_MAX: usize = 256;
const BYTES_MAX: usize = 16 * 1024;
/// Differences of a type that are named.
const NAMED_MAX: usize = 16;

/// What two machines tell each other about their states before a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tell {
    /// The sum of each type.
    Types { tick: i32, sums: Vec<u64> },
    /// The sums of the buckets of a type.
    Buckets { tick: i32, of: u16, sums: Vec<u64> },
    /// Values of a type, in the order of their ids: id, hash, and bytes if there is room.
    Values { tick: i32, of: u16, all: bool, values: Vec<(u32, u64, Option<Vec<u8>>)> },
}

impl Tell {
    pub(crate) const fn tick(&self) -> i32 {
        match self {
            Self::Types { tick, .. } | Self::Buckets { tick, .. } | Self::Values { tick, .. } => {
                *tick
            }
        }
    }
}

/// What one machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// No such value.
    Nothing,
    /// A value whose bytes were not kept or not sent.
    Hash(u64),
    /// An encoded value.
    Bytes(Vec<u8>),
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The place of the type.
    pub(crate) of: usize,
    pub(crate) id: RollbackId,
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
}

/// How far a type is.
enum Stage {
    Buckets,
    Values(Vec<usize>),
    Done,
}

/// Two states that are compared.
pub(crate) struct Inquiry {
    state: EncodedState,
    /// The types that differ, once it is known.
    types: Option<BTreeMap<usize, Stage>>,
    differences: Vec<Difference>,
}

impl Inquiry {
    /// Begins; gives what the other machine is told.
    pub(crate) fn new(state: EncodedState) -> (Self, Tell) {
        let tell = Tell::Types { tick: state.tick, sums: state.sums().collect() };
        (Self { state, types: None, differences: Vec::new() }, tell)
    }

    pub(crate) const fn state(&self) -> &EncodedState {
        &self.state
    }

    /// What differs, as far as it is known.
    pub(crate) fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// The types that differ, as far as it is known.
    pub(crate) fn types(&self) -> impl Iterator<Item = usize> {
        self.types.iter().flat_map(|types| types.keys().copied())
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_done(&self) -> bool {
        let done = |stage: &Stage| matches!(stage, Stage::Done);
        self.types.as_ref().is_some_and(|types| types.values().all(done))
    }

    /// The other machine has told something; gives what it is told.
    pub(crate) fn hear(&mut self, told: Tell) -> Vec<Tell> {
        if told.tick() != self.state.tick {
            return Vec::new();
        }
        match told {
            Tell::Types { sums, .. } if self.types.is_none() => self.compare_types(&sums),
            Tell::Buckets { of, sums, .. } => {
                self.compare_buckets(of.into(), &sums).into_iter().collect()
            }
            Tell::Values { of, all, values, .. } => {
                self.compare_values(of.into(), all, &values);
                Vec::new()
            }
            Tell::Types { .. } => Vec::new(),
        }
    }

    fn compare_types(&mut self, theirs: &[u64]) -> Vec<Tell> {
        let ours = self.state.sums().zip(theirs).enumerate();
        let differ = ours.filter(|(_, (ours, theirs))| ours != *theirs).map(|(of, _)| of);
        let differ: Vec<usize> = differ.take(TYPES_MAX).collect();
        self.types = Some(differ.iter().map(|of| (*of, Stage::Buckets)).collect());
        let tick = self.state.tick;
        let tell = |of: usize| Tell::Buckets { tick, of: of as u16, sums: self.state.buckets(of) };
        differ.into_iter().map(tell).collect()
    }

    fn compare_buckets(&mut self, of: usize, theirs: &[u64]) -> Option<Tell> {
        let stage = self.types.as_mut()?.get_mut(&of)?;
        if !matches!(stage, Stage::Buckets) || theirs.len() != BUCKETS {
            return None;
        }
        let ours = self.state.buckets(of);
        let differ = (0..BUCKETS).filter(|bucket| ours[*bucket] != theirs[*bucket]);
        let differ: Vec<usize> = differ.take(BUCKETS_MAX).collect();
        let (mut values, mut room, mut all) = (Vec::new(), BYTES_MAX, true);
        for value in in_buckets(self.state.values(of), &differ) {
            if values.len() == VALUES_MAX {
                all = false;
                break;
            }
            let bytes = self.state.bytes(value).filter(|bytes| bytes.len() <= room);
            room -= bytes.map_or(0, <[u8]>::len);
            values.push((value.id.get(), value.hash, bytes.map(<[u8]>::to_vec)));
        }
        *stage = Stage::Values(differ);
        Some(Tell::Values { tick: self.state.tick, of: of as u16, all, values })
    }

    fn compare_values(&mut self, of: usize, all: bool, values: &[(u32, u64, Option<Vec<u8>>)]) {
        let Some(stage) = self.types.as_mut().and_then(|types| types.get_mut(&of)) else { return };
        let Stage::Values(buckets) = stage else { return };
        let last = if all { u32::MAX } else { values.last().map_or(0, |(id, ..)| *id) };
        let mut sides: BTreeMap<RollbackId, (Side, Side)> = BTreeMap::new();
        for value in in_buckets(self.state.values(of), buckets) {
            if value.id.get() <= last {
                let ours = self.state.bytes(value).map(<[u8]>::to_vec);
                let ours = ours.map_or(Side::Hash(value.hash), Side::Bytes);
                sides.insert(value.id, (ours, Side::Nothing));
            }
        }
        let hashes = self.state.values(of);
        for (id, hash, bytes) in values {
            let id = RollbackId::new(*id);
            let same = hashes.binary_search_by_key(&id, |value| value.id);
            if same.is_ok_and(|place| hashes[place].hash == *hash) {
                sides.remove(&id);
                continue;
            }
            let theirs = bytes.clone().map_or(Side::Hash(*hash), Side::Bytes);
            sides.entry(id).or_insert((Side::Nothing, Side::Nothing)).1 = theirs;
        }
        *stage = Stage::Done;
        let named = sides.into_iter().take(NAMED_MAX);
        self.differences.extend(named.map(|(id, (ours, theirs))| Difference {
            of,
            id,
            ours,
            theirs,
        }));
    }
}

/// The values in these buckets.
fn in_buckets<'a>(values: &'a [Value], buckets: &'a [usize]) -> impl Iterator<Item = &'a Value> {
    values.iter().filter(|value| buckets.contains(&bucket(value.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Values = Vec<(u32, Vec<u8>)>;

    fn state(types: &[Values]) -> EncodedState {
        EncodedState::from_values(60, types)
    }

    /// Two machines compare; gives what each finds, and how many paths it took.
    fn compare(ours: &[Values], theirs: &[Values]) -> ([Vec<Difference>; 2], usize) {
        let (mut a, first) = Inquiry::new(state(ours));
        let (mut b, second) = Inquiry::new(state(theirs));
        let (mut to_b, mut to_a, mut paths) = (vec![first], vec![second], 0);
        while !to_a.is_empty() || !to_b.is_empty() {
            paths += 1;
            let next_b = to_a.drain(..).flat_map(|tell| a.hear(tell)).collect();
            let next_a = to_b.drain(..).flat_map(|tell| b.hear(tell)).collect();
            (to_a, to_b) = (next_a, next_b);
        }
        assert!(a.is_done() && b.is_done());
        ([a.differences, b.differences], paths)
    }

    fn many(count: u32) -> Values {
        (1..=count).map(|id| (id, id.to_le_bytes().to_vec())).collect()
    }

    #[test]
    fn the_type_the_entity_and_both_values_are_found_in_one_and_a_half_round_trips() {
        let (same, ours, mut theirs) = (many(50), many(10_000), many(10_000));
        theirs[6_999].1 = vec![9];
        let ([a, b], paths) = compare(&[same.clone(), ours], &[same, theirs]);
        assert_eq!(paths, 3);
        let (ours, theirs) = (Side::Bytes(7_000_u32.to_le_bytes().to_vec()), Side::Bytes(vec![9]));
        let id = RollbackId::new(7_000);
        let expected = Difference { of: 1, id, ours: ours.clone(), theirs: theirs.clone() };
        assert_eq!(a, [expected]);
        assert_eq!(b, [Difference { of: 1, id, ours: theirs, theirs: ours }]);
    }

    #[test]
    fn an_entity_that_only_one_has_is_named() {
        let (ours, theirs) = (many(3), many(4));
        let ([a, _], _) = compare(&[ours], &[theirs]);
        let theirs = Side::Bytes(4_u32.to_le_bytes().to_vec());
        let id = RollbackId::new(4);
        assert_eq!(a, [Difference { of: 0, id, ours: Side::Nothing, theirs }]);
    }

    #[test]
    fn when_everything_differs_messages_and_names_stay_within_their_limits() {
        let types: Vec<Values> = (0..10).map(|_| many(6_000)).collect();
        let other: Vec<Values> = types
            .iter()
            .map(|values| values.iter().map(|(id, _)| (*id, vec![1; 300])).collect())
            .collect();
        let (mut a, _) = Inquiry::new(state(&types));
        let (mut b, sums) = Inquiry::new(state(&other));
        let buckets = a.hear(sums);
        assert_eq!(buckets.len(), TYPES_MAX);
        b.hear(Inquiry::new(state(&types)).1);
        for tell in buckets {
            for values in b.hear(tell) {
                let Tell::Values { values, all, .. } = &values else { panic!("{values:?}") };
                assert_eq!((values.len(), *all), (VALUES_MAX, false));
                let bytes: usize =
                    values.iter().filter_map(|(.., b)| Some(b.as_ref()?.len())).sum();
                assert!(bytes <= BYTES_MAX, "{bytes}");
            }
        }
    }

    #[test]
    fn what_was_not_asked_for_or_is_of_another_tick_is_not_taken() {
        let (mut inquiry, _) = Inquiry::new(state(&[many(3)]));
        let values = || Tell::Values { tick: 60, of: 0, all: true, values: Vec::new() };
        assert_eq!(inquiry.hear(values()), []);
        assert_eq!(inquiry.hear(Tell::Types { tick: 61, sums: vec![1] }), []);
        assert_eq!(inquiry.hear(Tell::Types { tick: 60, sums: Vec::new() }), []);
        assert!(inquiry.is_done());
        assert_eq!(inquiry.hear(Tell::Buckets { tick: 60, of: 9, sums: vec![0; 7] }), []);
        assert_eq!(inquiry.hear(values()), []);
        assert_eq!(inquiry.differences(), []);
    }
}
