//! Token buckets.
//!
//! A bucket may go into debt: what is refused is paid for too. So a client that is a little over
//! the limit is told to wait, and one that does not listen ends in [`Verdict::Abuse`].

use core::time::Duration;

use netplay_protocol::Now;

use crate::RateLimit;

/// Parts of a token, so that microseconds refill it exactly.
const TOKEN: i64 = 1_000_000;

/// Whether something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes.
    Go,
    /// Not now.
    Wait(Duration),
    /// No, and the client has been told often enough.
    Abuse,
}

/// A bucket, full at first.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    level: i64,
    at: Now,
}

impl Bucket {
    pub(crate) fn new(limit: RateLimit, now: Now) -> Self {
        Self { level: i64::from(limit.burst) * TOKEN, at: now }
    }

    /// Until there is a token to take, if there is none now.
    pub(crate) fn wait(&self, limit: RateLimit, now: Now) -> Option<Duration> {
        let mut then = self.clone();
        match then.take(limit, now) {
            Verdict::Go => None,
            Verdict::Wait(wait) => Some(wait),
            Verdict::Abuse => Some(Duration::from_secs(1)),
        }
    }

    /// Takes one token, without debt: those who do not listen cost the others nothing who share the bucket.
    ///
    /// # Errors
    /// How long until there is one.
    pub(crate) fn take_shared(&mut self, limit: RateLimit, now: Now) -> Result<(), Duration> {
        if let Some(wait) = self.wait(limit, now) {
            return Err(wait);
        }
        self.take(limit, now);
        Ok(())
    }

    /// Takes one token, or says why not.
    pub(crate) fn take(&mut self, limit: RateLimit, now: Now) -> Verdict {
        let full = i64::from(limit.burst) * TOKEN;
        let rate = i64::from(limit.per_second.max(1));
        let passed = i64::try_from(now.since(self.at).as_micros()).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(passed.saturating_mul(rate)).min(full);
        self.at = self.at.max(now);
        self.level -= TOKEN;
        if self.level >= 0 {
            return Verdict::Go;
        }
        if self.level < -full {
            self.level = -full;
            return Verdict::Abuse;
        }
        Verdict::Wait(Duration::from_micros((-self.level / rate).unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { burst: 2, per_second: 10 };

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = Bucket::new(LIMIT, Now::ZERO);
        assert_eq!(bucket.take(LIMIT, Now::ZERO), Verdict::Go);
        assert_eq!(bucket.take(LIMIT, Now::ZERO), Verdict::Go);
        assert_eq!(bucket.take(LIMIT, Now::ZERO), Verdict::Wait(Duration::from_millis(100)));
        assert_eq!(bucket.take(LIMIT, Now::from_millis(200)), Verdict::Go);
    }

    #[test]
    fn who_does_not_listen_is_an_abuser() {
        let mut bucket = Bucket::new(LIMIT, Now::ZERO);
        let verdicts: Vec<_> = (0..5).map(|_| bucket.take(LIMIT, Now::ZERO)).collect();
        assert!(matches!(verdicts[2..4], [Verdict::Wait(_), Verdict::Wait(_)]));
        assert_eq!(verdicts[4], Verdict::Abuse);
    }

    #[test]
    fn a_clock_at_its_end_or_running_backwards_is_harmless() {
        let mut bucket = Bucket::new(LIMIT, Now::from_millis(5));
        assert_eq!(bucket.take(LIMIT, Now::ZERO), Verdict::Go);
        assert_eq!(bucket.take(LIMIT, Now::from_micros(u64::MAX)), Verdict::Go);
    }
}
