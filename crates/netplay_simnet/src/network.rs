//! Every direction between any number of nodes.

use std::collections::BTreeMap;

use netplay_protocol::Now;

use crate::conditions::Conditions;
use crate::path::{Fate, Path, PipeStats};
use crate::queue::DueQueue;

/// A full mesh: one direction, as a [`Pipe`](crate::Pipe), from every node to every node.
///
/// Nodes need no registration: a direction comes into being when it is first used, with the default
/// conditions. Its random numbers depend on the seed of the network and the two nodes alone, so the
/// traffic of one pair never changes what happens to another.
///
/// Guaranteed: packets are delivered in the order of their arrival over the whole network, and of
/// sending where that is equal. Not guaranteed: memory for a pair is not given back, even when a
/// node is removed.
#[derive(Clone, Debug)]
pub struct Network<K, T> {
    default: Conditions,
    seed: u64,
    number_of: fn(K) -> u64,
    paths: BTreeMap<(K, K), Path>,
    /// Each with its length.
    queue: DueQueue<(usize, Delivery<K, T>)>,
}

/// A packet that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<K, T> {
    /// The node that sent it.
    pub from: K,
    /// The node that it is for.
    pub to: K,
    /// What was sent.
    pub item: T,
}

impl<K: Ord + Copy, T: Clone> Network<K, T> {
    /// An empty network whose directions start with these conditions.
    ///
    /// `number_of` tells nodes apart for the random numbers: the same node must always give the same
    /// number. Pairs of nodes with equal numbers share their luck; nothing else goes wrong.
    pub fn new(default: Conditions, seed: u64, number_of: fn(K) -> u64) -> Self {
        Self { default, seed, number_of, paths: BTreeMap::new(), queue: DueQueue::new() }
    }

    /// Sends a packet of `len_bytes`, which only the limits of rate and memory look at.
    ///
    /// The item is cloned only where the packet is duplicated. A node may send to itself.
    pub fn send(&mut self, now: Now, from: K, to: K, len_bytes: usize, item: T) {
        if let Fate::Arrives { at, copy } = self.path(from, to).send(now, len_bytes) {
            let copy = copy.map(|copy_at| (copy_at, item.clone()));
            self.queue.push(at, (len_bytes, Delivery { from, to, item }));
            if let Some((copy_at, item)) = copy {
                self.queue.push(copy_at, (len_bytes, Delivery { from, to, item }));
            }
        }
    }

    /// The next packet that has arrived anywhere.
    pub fn poll(&mut self, now: Now) -> Option<Delivery<K, T>> {
        let (len_bytes, delivery) = self.queue.pop(now)?;
        self.path(delivery.from, delivery.to).delivered(len_bytes);
        Some(delivery)
    }

    /// When the next packet arrives; `None` if nothing is in flight.
    pub fn next_deadline(&self) -> Option<Now> {
        self.queue.next_due()
    }

    /// The conditions of one direction, validated.
    pub fn conditions(&self, from: K, to: K) -> Conditions {
        match self.paths.get(&(from, to)) {
            Some(path) => path.conditions().clone(),
            None => self.default.clone().validated(),
        }
    }

    /// Sets the conditions of one direction for packets sent from here on, as
    /// [`Pipe::set_conditions`](crate::Pipe::set_conditions) does.
    pub fn set_conditions(&mut self, from: K, to: K, conditions: Conditions) {
        self.path(from, to).set_conditions(conditions);
    }

    /// Sets the conditions of every direction, those that were set on their own and those not yet
    /// used included.
    pub fn set_all_conditions(&mut self, conditions: &Conditions) {
        self.default = conditions.clone();
        for path in self.paths.values_mut() {
            path.set_conditions(conditions.clone());
        }
    }

    /// Blocks one direction, or opens it again.
    ///
    /// From the moment it is blocked nothing arrives: what is in flight is dropped, and what is sent
    /// later is lost.
    pub fn block(&mut self, from: K, to: K, blocked: bool) {
        let path = self.path(from, to);
        path.set_blocked(blocked);
        if blocked {
            path.cut();
            self.queue.retain(|(_, delivery)| (delivery.from, delivery.to) != (from, to));
        }
    }

    /// Whether one direction is blocked.
    pub fn is_blocked(&self, from: K, to: K) -> bool {
        self.paths.get(&(from, to)).is_some_and(Path::is_blocked)
    }

    /// Drops what is in flight to and from a node, and counts it as lost.
    ///
    /// The conditions and blocks of its directions stay, in case it comes back.
    pub fn remove(&mut self, node: K) {
        for ((from, to), path) in &mut self.paths {
            if *from == node || *to == node {
                path.cut();
            }
        }
        self.queue.retain(|(_, delivery)| delivery.from != node && delivery.to != node);
    }

    /// What happened to the packets of one direction so far.
    pub fn stats(&self, from: K, to: K) -> PipeStats {
        self.paths.get(&(from, to)).map_or_else(PipeStats::default, Path::stats)
    }

    /// What happened to all packets so far.
    pub fn total_stats(&self) -> PipeStats {
        self.paths.values().map(Path::stats).fold(PipeStats::default(), PipeStats::plus)
    }

    /// Packets and copies that are in flight anywhere.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn path(&mut self, from: K, to: K) -> &mut Path {
        let Self { default, seed, number_of, .. } = self;
        self.paths.entry((from, to)).or_insert_with(|| {
            let seed = mix_seed(mix_seed(*seed, number_of(from)), number_of(to));
            Path::new(default.clone(), seed)
        })
    }
}

/// Makes one seed of a seed and a number: for many pipes that share one seed and not their luck. The
/// two do not commute. It is the finisher of SplitMix64.
pub const fn mix_seed(seed: u64, number: u64) -> u64 {
    let mut z = (seed ^ number.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_of_each_pair_has_its_own_seed() {
        let mut seeds = std::collections::BTreeSet::new();
        for seed in 0..20 {
            for from in 0..20 {
                seeds.extend((0..20).map(|to| mix_seed(mix_seed(seed, from), to)));
            }
        }
        assert_eq!(seeds.len(), 20 * 20 * 20);
    }
}
