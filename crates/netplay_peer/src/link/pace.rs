//! How much may be on its way: the window that our datagrams keep to.
//!
//! A carrier without congestion control of its own needs one, and a carrier with one (SCTP) must not
//! be given more than it takes, because it queues the rest. The window reacts to *delay*: when the
//! round trip grows by more than the path's own variation, a queue is filling, and the window
//! shrinks. Single losses do not shrink it; on a radio they say nothing about load, and every game
//! library that halves its rate for them stutters. Loss of a quarter of all datagrams does.
//!
//! Guaranteed: whatever happens, [`FLOOR_RATE`] may be sent: what a game needs at the least to stay
//! in touch. Not guaranteed: fairness to other traffic on the same path.

use core::time::Duration;

use netplay_protocol::Now;
use netplay_protocol::limits::DATAGRAM_MAX;

/// Bytes per second that may always be sent: 50 in each of 60 ticks, which a modem carries.
pub const FLOOR_RATE: u64 = 3_000;
/// What may be saved up of it: one datagram.
const BUCKET: i64 = DATAGRAM_MAX as i64;
/// As QUIC begins (RFC 9002 §7.2), rounded up.
const FIRST_WINDOW: usize = 16 * 1024;
/// Where a queue pushes the window at most: one datagram.
const LEAST_WINDOW: usize = DATAGRAM_MAX;
/// Where loss alone pushes it at most; lossy radio is no reason to fall silent.
const LOSSY_WINDOW: usize = 4 * DATAGRAM_MAX;
/// Fewer datagrams of full size than a receive queue of the WebRTC library holds (256), and than are
/// remembered.
const MOST_WINDOW: usize = 192 * 1024;
/// Growth of the round trip that no quiet path shows.
const QUEUE_MIN: Duration = Duration::from_millis(20);
/// The base round trip is the smallest of at least this long; routes change.
const BASE_AGE: Duration = Duration::from_secs(10);
/// Rounds in which the window shrinks and the round trip stays: then it is no queue of ours, but
/// another route or another's queue, and becomes the base.
const PLATEAU: u32 = 4;
/// A share of lost datagrams that shrinks the window, over at least so many.
const LOSS: f32 = 0.25;
const LOSS_OF: u32 = 8;

/// The window of one link.
#[derive(Debug)]
pub struct Pace {
    window: usize,
    /// Doubling per round trip, until a queue shows.
    opening: bool,
    bucket: i64,
    filled_at: Now,
    /// Smallest round trips of the current and the last period.
    base: [Option<Duration>; 2],
    base_since: Now,
    round_ends: Now,
    round_min: Option<Duration>,
    /// Rounds in a row with about this round trip, in which it was taken for a queue.
    plateau: u32,
    plateau_at: Duration,
    arrived: u32,
    lost: u32,
    /// Whether the window held something back in this round.
    limited: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            window: FIRST_WINDOW,
            opening: true,
            bucket: BUCKET,
            filled_at: Now::ZERO,
            base: [None; 2],
            base_since: Now::ZERO,
            round_ends: Now::ZERO,
            round_min: None,
            plateau: 0,
            plateau_at: Duration::ZERO,
            arrived: 0,
            lost: 0,
            limited: false,
        }
    }
}

impl Pace {
    /// Bytes that may be on their way.
    pub const fn window(&self) -> usize {
        self.window
    }

    /// Whether a datagram may leave now.
    pub fn may_send(&mut self, now: Now, in_flight: usize) -> bool {
        self.refill(now);
        let may = in_flight < self.window || self.bucket > 0;
        self.limited |= !may;
        may
    }

    /// A datagram of so many bytes leaves.
    pub fn sent(&mut self, bytes: usize) {
        self.bucket = (self.bucket - bytes as i64).max(-BUCKET);
    }

    /// When a datagram may leave even if nothing is acknowledged until then.
    pub fn next(&self, now: Now) -> Now {
        let missing = u64::try_from(1 - self.bucket).unwrap_or(0);
        now + Duration::from_micros(missing * 1_000_000 / FLOOR_RATE + 1)
    }

    fn refill(&mut self, now: Now) {
        let micros = now.since(self.filled_at).as_micros().min(1_000_000) as u64;
        let earned = micros * FLOOR_RATE / 1_000_000;
        if earned > 0 {
            self.bucket = (self.bucket + earned as i64).min(BUCKET);
            // What is left over counts for the next time.
            let rest = micros - earned * 1_000_000 / FLOOR_RATE;
            self.filled_at = now - Duration::from_micros(rest);
        }
    }

    /// A datagram got its verdict; `rtt` is the latest sample.
    pub fn verdict(&mut self, now: Now, arrived: bool, rtt: Option<Duration>) {
        if arrived {
            self.arrived += 1;
        } else {
            self.lost += 1;
        }
        let Some(rtt) = rtt else { return };
        self.round_min = Some(self.round_min.map_or(rtt, |min| min.min(rtt)));
        if now.since(self.base_since) >= BASE_AGE {
            self.base = [None, self.base[0]];
            self.base_since = now;
        }
        self.base[0] = Some(self.base[0].map_or(rtt, |min| min.min(rtt)));
        if now >= self.round_ends {
            self.end_round();
            self.round_ends = now + rtt;
        }
    }

    fn end_round(&mut self) {
        let base = self.base.iter().flatten().min().copied().unwrap_or_default();
        let rtt = self.round_min.take().unwrap_or(base);
        let verdicts = self.arrived + self.lost;
        let lossy = verdicts >= LOSS_OF && self.lost as f32 > LOSS * verdicts as f32;
        let queued = rtt.saturating_sub(base) > QUEUE_MIN.max(base / 4);
        if queued && self.is_plateau(rtt) {
            self.base = [Some(rtt), None];
            self.window = self.window.max(FIRST_WINDOW);
        } else if lossy || queued {
            self.opening = false;
            let least = if queued { LEAST_WINDOW } else { LOSSY_WINDOW };
            self.window = self.window.min((self.window * 3 / 4).max(least));
        } else if self.limited {
            let more = if self.opening { self.window } else { 2 * DATAGRAM_MAX };
            self.window = (self.window + more).min(MOST_WINDOW);
        }
        if !queued {
            self.plateau = 0;
        }
        if verdicts >= LOSS_OF {
            (self.arrived, self.lost) = (0, 0);
        }
        self.limited = false;
    }

    /// Whether the round trip has stayed where it is although the window shrinks.
    fn is_plateau(&mut self, rtt: Duration) -> bool {
        if self.plateau > 0 && rtt.abs_diff(self.plateau_at) <= self.plateau_at / 10 {
            self.plateau += 1;
        } else {
            (self.plateau, self.plateau_at) = (1, rtt);
        }
        if self.plateau < PLATEAU {
            return false;
        }
        self.plateau = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now::from_millis(ms)
    }

    /// Rounds of ten datagrams that are held back, at this round trip.
    fn rounds(pace: &mut Pace, from: u64, count: u64, rtt: u64, lost_of_ten: u32) -> u64 {
        let mut now = from;
        for _ in 0..count {
            pace.may_send(at(now), usize::MAX);
            pace.sent(10 * DATAGRAM_MAX);
            pace.may_send(at(now), usize::MAX);
            for i in 0..10 {
                pace.verdict(at(now), i >= lost_of_ten, Some(Duration::from_millis(rtt)));
            }
            now += rtt;
        }
        now
    }

    #[test]
    fn the_window_opens_while_no_queue_shows_and_closes_when_one_does() {
        let mut pace = Pace::default();
        let mut now = rounds(&mut pace, 0, 10, 30, 0);
        assert_eq!(pace.window(), MOST_WINDOW);
        // A queue of our own is as long as what is on its way.
        for _ in 0..30 {
            let queue = pace.window() as u64 / 500;
            now = rounds(&mut pace, now, 1, 30 + queue, 0);
        }
        assert!(pace.window() < 16_000, "{}", pace.window());
    }

    #[test]
    fn loss_of_a_tenth_does_not_close_the_window_and_loss_of_a_third_does() {
        let mut pace = Pace::default();
        let now = rounds(&mut pace, 0, 10, 30, 1);
        assert_eq!(pace.window(), MOST_WINDOW);
        rounds(&mut pace, now, 30, 30, 4);
        assert_eq!(pace.window(), LOSSY_WINDOW);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut pace = Pace::default();
        for i in 0..1000 {
            assert!(pace.may_send(at(i * 16), 0));
            pace.sent(200);
            pace.verdict(at(i * 16), true, Some(Duration::from_millis(30)));
        }
        assert_eq!(pace.window(), FIRST_WINDOW);
    }

    #[test]
    fn the_floor_rate_may_be_sent_whatever_is_on_its_way() {
        let mut pace = Pace::default();
        let mut sent = 0;
        for ms in 0..10_000 {
            while pace.may_send(at(ms), usize::MAX) {
                pace.sent(300);
                sent += 300;
            }
        }
        assert!((29_000..33_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_route_with_a_longer_round_trip_is_taken_for_one_after_a_few_round_trips() {
        let mut pace = Pace::default();
        let now = rounds(&mut pace, 0, 10, 1, 0);
        let now = rounds(&mut pace, now, 6, 120, 0);
        assert!(pace.window() >= FIRST_WINDOW, "{}", pace.window());
        rounds(&mut pace, now, 6, 125, 0);
        assert!(pace.window() > FIRST_WINDOW, "{}", pace.window());
    }
}
