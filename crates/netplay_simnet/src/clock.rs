//! A clock that is wrong: set to something else, too fast or too slow, standing still at times.

use core::time::Duration;

use netplay_protocol::Now;

const NANOS: i128 = 1_000_000_000;

/// The clock of one node, over the true time of the simulation.
///
/// Guaranteed: it never goes back, whatever it is told; the same calls give the same times on every
/// platform. Times are whole nanoseconds inside and whole microseconds outside.
///
/// ```
/// use core::time::Duration;
/// use netplay_protocol::Now;
/// use netplay_simnet::DriftingClock;
///
/// let mut clock = DriftingClock::new(Duration::from_secs(7), 100_000);
/// assert_eq!(clock.at(Now::from_millis(10_000)), Now::from_millis(17_001));
/// clock.pause(Now::from_millis(10_000));
/// assert_eq!(clock.at(Now::from_millis(40_000)), Now::from_millis(17_001));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DriftingClock {
    /// What it showed when it was last told something, in nanoseconds, and when that was.
    shown: i128,
    since: Now,
    drift_ppb: i32,
    paused: bool,
}

impl DriftingClock {
    /// A clock that shows `offset` at the start and runs faster than true time by so many parts per
    /// thousand million (100 000 are 100 ppm); slower if negative.
    pub const fn new(offset: Duration, drift_ppb: i32) -> Self {
        Self { shown: offset.as_nanos() as i128, since: Now::ZERO, drift_ppb, paused: false }
    }

    /// What it shows at this true time.
    pub fn at(&self, now: Now) -> Now {
        let micros = self.nanos(now) / 1000;
        Now::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn nanos(&self, now: Now) -> i128 {
        if self.paused {
            return self.shown;
        }
        let passed = now.since(self.since).as_nanos() as i128;
        self.shown + (passed * (NANOS + i128::from(self.drift_ppb)) / NANOS).max(0)
    }

    /// Goes on from here with another drift.
    pub fn set_drift(&mut self, now: Now, drift_ppb: i32) {
        self.settle(now);
        self.drift_ppb = drift_ppb;
    }

    /// Stands still from here, as a clock does in a machine that is suspended.
    pub fn pause(&mut self, now: Now) {
        self.settle(now);
        self.paused = true;
    }

    /// Runs on from where it stood.
    pub fn resume(&mut self, now: Now) {
        self.settle(now);
        self.paused = false;
    }

    /// Jumps ahead.
    pub fn skip(&mut self, now: Now, by: Duration) {
        self.settle(now);
        self.shown = self.shown.saturating_add(by.as_nanos() as i128);
    }

    /// The true time at which it shows `local`, to the microsecond; `None` while it stands still, or
    /// if that is past.
    pub fn when(&self, now: Now, local: Now) -> Option<Now> {
        let wanted = i128::from(local.as_micros()) * 1000 - self.nanos(now);
        if self.paused || wanted < 0 {
            return None;
        }
        let rate = NANOS + i128::from(self.drift_ppb);
        let true_nanos = (wanted * NANOS + rate - 1) / rate.max(1);
        let micros = u64::try_from((true_nanos + 999) / 1000).ok()?;
        Some(now + Duration::from_micros(micros))
    }

    fn settle(&mut self, now: Now) {
        self.shown = self.nanos(now);
        self.since = self.since.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn five_hundred_ppm_are_three_hundred_milliseconds_in_ten_minutes() {
        let end = Now::from_millis(600_000);
        let shown = |ppb| DriftingClock::new(Duration::ZERO, ppb).at(end);
        assert_eq!(shown(500_000), Now::from_millis(600_300));
        assert_eq!(shown(-500_000), Now::from_millis(599_700));
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_tells_when_it_will_show_a_time(
            steps in prop::collection::vec((0_u64..1_000_000, 0..5_u8, -500_000..500_000_i32), 1..50)
        ) {
            let mut clock = DriftingClock::new(Duration::from_secs(1), 0);
            let (mut now, mut last) = (Now::ZERO, Now::ZERO);
            for (passed, what, drift) in steps {
                now = now + Duration::from_micros(passed);
                match what {
                    0 => clock.set_drift(now, drift),
                    1 => clock.pause(now),
                    2 => clock.resume(now),
                    3 => clock.skip(now, Duration::from_micros(passed)),
                    _ => {}
                }
                prop_assert!(clock.at(now) >= last);
                last = clock.at(now);
                let soon = last + Duration::from_micros(passed);
                if let Some(when) = clock.when(now, soon) {
                    prop_assert!(clock.at(when) >= soon);
                    prop_assert!(clock.at(when).since(soon) <= Duration::from_micros(1));
                }
            }
        }
    }
}
