//! Items that wait for their time.
//!
//! Guaranteed: items leave in the order of their due times, and in the order of arrival where those
//! are equal; the memory of items that left is used again. Not guaranteed: a bound on the length.

use core::cmp::Ordering;
use std::collections::BinaryHeap;

use netplay_protocol::Now;

/// A queue ordered by due time, then by arrival.
#[derive(Clone, Debug)]
pub(crate) struct DueQueue<T> {
    heap: BinaryHeap<Entry<T>>,
    pushed: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    due: Now,
    number: u64,
    item: T,
}

impl<T> DueQueue<T> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), pushed: 0 }
    }

    pub(crate) fn push(&mut self, due: Now, item: T) {
        self.heap.push(Entry { due, number: self.pushed, item });
        self.pushed += 1;
    }

    /// The next item that is due at `now`.
    pub(crate) fn pop(&mut self, now: Now) -> Option<T> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.item)
    }

    pub(crate) fn next_due(&self) -> Option<Now> {
        self.heap.peek().map(|entry| entry.due)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.heap.retain(|entry| keep(&entry.item));
    }
}

impl<T> Ord for Entry<T> {
    /// Reversed, because the heap gives its greatest entry first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_by_due_time_then_by_arrival() {
        let mut queue = DueQueue::new();
        for (due, item) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            queue.push(Now::from_millis(due), item);
        }
        assert_eq!(queue.next_due(), Some(Now::from_millis(3)));
        assert_eq!(queue.pop(Now::from_millis(2)), None);
        let order: String = core::iter::from_fn(|| queue.pop(Now::from_millis(5))).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn a_steady_stream_allocates_nothing() {
        let mut queue = DueQueue::new();
        (0..100).for_each(|i| queue.push(Now::from_millis(i), i));
        let capacity = queue.heap.capacity();
        for i in 100..10_000 {
            assert_eq!(queue.pop(Now::from_millis(i)), Some(i - 100));
            queue.push(Now::from_millis(i), i);
        }
        assert_eq!(queue.heap.capacity(), capacity);
    }
}
