//! One direction of one path, for datagrams.

use netplay_protocol::Now;

use crate::conditions::Conditions;
use crate::path::{Fate, Path, PipeStats};
use crate::queue::DueQueue;

/// One direction of one path, for datagrams.
///
/// Guaranteed while the conditions stay the same:
/// - Without [`Reorder`](crate::Reorder), and with [`Jitter::None`](crate::Jitter::None) or
///   [`Jitter::Clumped`](crate::Jitter::Clumped), packets arrive in the order they were sent. With
///   [`Jitter::Independent`](crate::Jitter::Independent) they may overtake each other.
/// - No packet arrives before the delay, or later than the delay, the largest jitter, the reorder
///   extra and the wait for the rate together.
///
/// At most [`Pipe::MAX_IN_FLIGHT`] packets and [`Pipe::MAX_BYTES_IN_FLIGHT`] are held. As in the queue
/// of a router, the newest is dropped where it does not fit, and counted as overflowed.
#[derive(Clone, Debug)]
pub struct Pipe<T> {
    path: Path,
    /// Each with its length.
    queue: DueQueue<(usize, T)>,
}

impl<T> Pipe<T> {
    /// Packets and copies that are in flight at most.
    pub const MAX_IN_FLIGHT: u64 = Path::MAX_IN_FLIGHT;

    /// Their bytes at most: two seconds of 8 MB each.
    pub const MAX_BYTES_IN_FLIGHT: u64 = Path::MAX_BYTES_IN_FLIGHT;

    /// An empty pipe. The conditions are [validated](Conditions::validated).
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self { path: Path::new(conditions, seed), queue: DueQueue::new() }
    }

    /// Sends a packet of `len_bytes`, which only the limits of rate and memory look at.
    ///
    /// The item is cloned only where the packet is duplicated.
    pub fn send(&mut self, now: Now, len_bytes: usize, item: T)
    where
        T: Clone,
    {
        if let Fate::Arrives { at, copy } = self.path.send(now, len_bytes) {
            let copy = copy.map(|copy_at| (copy_at, item.clone()));
            self.queue.push(at, (len_bytes, item));
            if let Some((copy_at, item)) = copy {
                self.queue.push(copy_at, (len_bytes, item));
            }
        }
    }

    /// The next packet that has arrived: by time of arrival, then by order of sending.
    pub fn poll(&mut self, now: Now) -> Option<T> {
        let (len_bytes, item) = self.queue.pop(now)?;
        self.path.delivered(len_bytes);
        Some(item)
    }

    /// When the next packet arrives; `None` if nothing is in flight.
    pub fn next_deadline(&self) -> Option<Now> {
        self.queue.next_due()
    }

    /// The conditions that packets are sent under, validated.
    pub fn conditions(&self) -> &Conditions {
        self.path.conditions()
    }

    /// Sets the conditions for packets sent from here on, [validated](Conditions::validated).
    ///
    /// What is in flight keeps its time of arrival, so packets sent after a cut in delay or rate may
    /// overtake it. A burst of loss or a clump of jitter that was going on ends, unless the
    /// conditions are those that hold already: then nothing changes.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.path.set_conditions(conditions);
    }

    /// Drops what is in flight, and counts it as lost.
    pub fn cut(&mut self) {
        self.path.cut();
        self.queue.clear();
    }

    /// What happened to the packets so far.
    pub fn stats(&self) -> PipeStats {
        self.path.stats()
    }

    /// Packets and copies that are in flight.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    /// The bytes of those.
    pub const fn bytes_in_flight(&self) -> u64 {
        self.path.bytes_in_flight()
    }
}
