//! Which lane goes next into a datagram.
//!
//! Lower priorities first; among equals by weight: each lane has a clock that runs with what it has
//! sent, divided by its weight, and the lane whose clock is behind goes next. Every eighth datagram begins with the
//! highest priority number that waits, so that no lane starves. Shares hold for messages that are small
//! beside a datagram; room that a large one does not fit goes to whoever has a smaller one.

use super::outgoing::Outgoing;

/// How often the last come first.
const REVERSED_EVERY: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Scheduler {
    datagrams: u32,
}

impl Scheduler {
    /// A new datagram begins.
    pub(super) const fn begin(&mut self) -> bool {
        self.datagrams = self.datagrams.wrapping_add(1);
        self.datagrams.is_multiple_of(REVERSED_EVERY)
    }

    /// The lane that goes next among those that `wait`, a bit for each.
    pub(super) fn pick(
        lanes: &[Option<Box<Outgoing>>],
        wait: u16,
        reversed: bool,
    ) -> Option<usize> {
        let waiting = lanes.iter().enumerate().filter(|(i, _)| wait & (1 << i) != 0);
        let waiting = waiting.filter_map(|(i, lane)| Some((i, lane.as_ref()?)));
        let rank = |lane: &Outgoing| {
            let priority = lane.config.priority;
            (if reversed { u8::MAX - priority } else { priority }, lane.clock)
        };
        waiting.min_by_key(|(_, lane)| rank(lane)).map(|(i, _)| i)
    }

    /// Notes that a lane has sent so many bytes in a datagram for which these lanes waited.
    pub(super) fn served(
        lanes: &mut [Option<Box<Outgoing>>],
        served: usize,
        bytes: usize,
        waiting: u16,
    ) {
        let Some(lane) = &mut lanes[served] else { return };
        let weight = u64::from(lane.config.weight.max(1));
        lane.clock += ((bytes as u64) << 16) / weight;
        let (clock, priority) = (lane.clock, lane.config.priority);
        // Who has nothing to send saves nothing up.
        for (i, lane) in lanes.iter_mut().enumerate() {
            if let Some(lane) = lane
                && lane.config.priority == priority
                && waiting & (1 << i) == 0
            {
                lane.clock = lane.clock.max(clock);
            }
        }
    }
}
