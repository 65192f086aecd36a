//! Checksums of final states, compared between peers.

use std::collections::BTreeMap;

use crate::input::Tick;
use crate::limits::CHECKSUMS_MAX;
use crate::message::Slot;

/// Ours and theirs, by tick.
#[derive(Debug, Default)]
pub(crate) struct Checksums {
    ours: BTreeMap<Tick, u64>,
    /// Not compared yet.
    theirs: BTreeMap<(Tick, Slot), u64>,
    /// Compared with ours of the same ticks.
    compared: BTreeMap<(Tick, Slot), u64>,
}

/// Two peers have different states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) slot: Slot,
    pub(crate) tick: Tick,
    pub(crate) ours: u64,
    pub(crate) theirs: u64,
}

impl Checksums {
    /// The state before `tick`, which is final, has this checksum.
    pub(crate) fn computed(&mut self, tick: Tick, sum: u64) {
        self.ours.insert(tick, sum);
        if self.ours.len() > CHECKSUMS_MAX
            && let Some((oldest, _)) = self.ours.pop_first()
        {
            self.compared = self.compared.split_off(&(oldest + 1, 0));
        }
    }

    /// What others have told of a tick that we have a checksum of.
    pub(crate) fn told(&self, tick: Tick) -> impl Iterator<Item = (Slot, u64)> {
        let told = self.compared.range((tick, 0)..=(tick, Slot::MAX));
        told.map(|((_, slot), sum)| (*slot, *sum))
    }

    /// Ours, the newest ones.
    pub(crate) fn finals(&self) -> impl Iterator<Item = (Tick, u64)> {
        self.ours.iter().map(|(tick, sum)| (*tick, *sum))
    }

    /// A peer's checksum of a final state.
    pub(crate) fn heard(&mut self, slot: Slot, tick: Tick, sum: u64) {
        self.theirs.insert((tick, slot), sum);
        let own = self.theirs.keys().filter(|(_, of)| *of == slot);
        if own.clone().count() > CHECKSUMS_MAX
            && let Some(oldest) = own.min().copied()
        {
            self.theirs.remove(&oldest);
        }
    }

    /// A peer left after this tick: what it has told of later ones knew inputs that nobody else has.
    pub(crate) fn left(&mut self, slot: Slot, last: Tick) {
        self.theirs.retain(|(tick, of), _| *of != slot || *tick <= last + 1);
    }

    /// The next pair that can be compared and differs. Each is told once.
    pub(crate) fn compare(&mut self) -> Option<Difference> {
        let both = |(tick, _): &(Tick, Slot)| self.ours.contains_key(tick);
        while let Some(key) = self.theirs.keys().copied().find(both) {
            let (theirs, ours) = (self.theirs.remove(&key)?, *self.ours.get(&key.0)?);
            self.compared.insert(key, theirs);
            if ours != theirs {
                return Some(Difference { slot: key.1, tick: key.0, ours, theirs });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_told_once() {
        let mut sums = Checksums::default();
        sums.heard(1, 60, 7);
        sums.heard(2, 60, 8);
        assert_eq!(sums.compare(), None);
        sums.computed(60, 7);
        sums.computed(120, 5);
        let difference = Difference { slot: 2, tick: 60, ours: 7, theirs: 8 };
        assert_eq!(sums.compare(), Some(difference));
        assert_eq!(sums.compare(), None);
        assert!(sums.finals().eq([(60, 7), (120, 5)]));
        assert!(sums.told(60).eq([(1, 7), (2, 8)]));
        (0..1000).for_each(|tick| sums.computed(200 + tick, 0));
        assert_eq!(sums.told(60).count(), 0);
    }

    #[test]
    fn what_a_dead_peer_knew_alone_is_no_difference() {
        let mut sums = Checksums::default();
        sums.heard(1, 60, 1);
        sums.heard(1, 120, 1);
        sums.left(1, 118);
        [60, 120].into_iter().for_each(|tick| sums.computed(tick, 2));
        assert_eq!(sums.compare().map(|difference| difference.tick), Some(60));
        assert_eq!(sums.compare(), None);
    }

    #[test]
    fn a_peer_that_tells_too_many_forgets_its_own_only() {
        let mut sums = Checksums::default();
        sums.heard(1, 60, 1);
        (0..1000).for_each(|tick| sums.heard(2, tick, 0));
        assert!(sums.theirs.contains_key(&(60, 1)));
        assert_eq!(sums.theirs.len(), 1 + CHECKSUMS_MAX);
    }
}
