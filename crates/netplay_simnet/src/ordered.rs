//! One direction of a reliable ordered stream.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::Now;

/// One direction of a reliable ordered stream, such as a WebSocket or a reliable channel.
///
/// Guaranteed: every item arrives once, in the order it was sent and not before its delay, unless
/// [`OrderedPipe::cut`] drops it. Not guaranteed: a bound on what is in flight, which is whatever
/// the caller sends within one delay.
#[derive(Clone, Debug)]
pub struct OrderedPipe<T> {
    delay: Duration,
    queue: VecDeque<(Now, T)>,
}

impl<T> OrderedPipe<T> {
    /// An empty pipe.
    pub const fn new(delay: Duration) -> Self {
        Self { delay, queue: VecDeque::new() }
    }

    /// Sends an item, which arrives after the delay and not before those sent earlier.
    pub fn send(&mut self, now: Now, item: T) {
        let earliest = now + self.delay;
        let due = self.queue.back().map_or(earliest, |(last, _)| earliest.max(*last));
        self.queue.push_back((due, item));
    }

    /// The next item that has arrived.
    pub fn poll(&mut self, now: Now) -> Option<T> {
        self.queue.pop_front_if(|(due, _)| *due <= now).map(|(_, item)| item)
    }

    /// When the next item arrives; `None` if nothing is in flight.
    pub fn next_deadline(&self) -> Option<Now> {
        self.queue.front().map(|(due, _)| *due)
    }

    /// Sets the delay of items sent from here on. They do not overtake what is in flight.
    pub const fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Drops what is in flight. The pipe can be used again, as a new connection.
    pub fn cut(&mut self) {
        self.queue.clear();
    }

    /// Items in flight.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(pipe: &mut OrderedPipe<u32>, now: Now) -> Vec<u32> {
        core::iter::from_fn(|| pipe.poll(now)).collect()
    }

    #[test]
    fn items_arrive_after_the_delay_and_in_order() {
        let mut pipe = OrderedPipe::new(Duration::from_millis(10));
        pipe.send(Now::ZERO, 1);
        pipe.send(Now::from_millis(1), 2);
        assert_eq!(pipe.next_deadline(), Some(Now::from_millis(10)));
        assert!(drain(&mut pipe, Now::from_micros(9_999)).is_empty());
        assert_eq!(drain(&mut pipe, Now::from_millis(10)), [1]);
        assert_eq!(pipe.in_flight(), 1);
        assert_eq!(drain(&mut pipe, Now::from_millis(50)), [2]);
        assert_eq!(pipe.next_deadline(), None);
    }

    #[test]
    fn a_shorter_delay_does_not_let_items_overtake() {
        let mut pipe = OrderedPipe::new(Duration::from_millis(100));
        pipe.send(Now::ZERO, 1);
        pipe.set_delay(Duration::ZERO);
        pipe.send(Now::from_millis(1), 2);
        assert!(drain(&mut pipe, Now::from_millis(99)).is_empty());
        assert_eq!(drain(&mut pipe, Now::from_millis(100)), [1, 2]);
    }

    #[test]
    fn a_cut_drops_what_is_in_flight_and_nothing_later() {
        let mut pipe = OrderedPipe::new(Duration::from_millis(100));
        pipe.send(Now::ZERO, 1);
        pipe.cut();
        pipe.set_delay(Duration::from_millis(1));
        pipe.send(Now::from_millis(2), 2);
        assert_eq!(pipe.next_deadline(), Some(Now::from_millis(3)));
        assert_eq!(drain(&mut pipe, Now::from_millis(500)), [2]);
    }

    #[test]
    fn a_delay_without_end_does_not_panic() {
        let mut pipe = OrderedPipe::new(Duration::MAX);
        pipe.send(Now::from_millis(1), 1);
        assert_eq!(pipe.next_deadline(), Some(Now::from_micros(u64::MAX)));
    }
}
