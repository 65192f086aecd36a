//! Token buckets.
//!
//! A [`Bucket`] may go into debt: what is refused is paid for too. So a client that is a little over
//! the limit is told to wait, and one that does not listen ends in [`Verdict::Abuse`].
//!
//! [`Buckets`] are many, by what they are for: an address, an account. One that is full is forgotten.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

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

/// Buckets for as many as come, each full at first.
///
/// Guaranteed: one is remembered until it is full again, and so many at most: beyond them, new ones are not
/// limited.
#[derive(Clone, Debug)]
pub struct Buckets<K> {
    /// When each is full again.
    full: BTreeMap<K, Now>,
    /// The same, the first one first.
    order: BTreeSet<(Now, K)>,
    max: usize,
    /// How long a token takes.
    token: Duration,
    /// How long an empty bucket takes to be full.
    whole: Duration,
}

impl<K: Ord + Clone> Buckets<K> {
    /// Remembers `max` buckets.
    pub fn new(limit: RateLimit, max: usize) -> Self {
        let token = Duration::from_secs(1) / limit.per_second.max(1);
        let whole = token.saturating_mul(limit.burst.max(1));
        Self { full: BTreeMap::new(), order: BTreeSet::new(), max, token, whole }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none; how long until there is one.
    pub fn take(&mut self, key: &K, now: Now) -> Result<(), Duration> {
        self.forget(now);
        if let Some(wait) = self.wait(key, now) {
            return Err(wait);
        }
        self.change(key, 1, now);
        Ok(())
    }

    /// Takes so many tokens, whether there are as many or not. Gives how long it takes until nothing is owed, if
    /// something is.
    pub fn spend(&mut self, key: &K, tokens: u32, now: Now) -> Option<Duration> {
        self.forget(now);
        let missing = self.change(key, tokens, now)?;
        missing.checked_sub(self.whole).filter(|owed| !owed.is_zero())
    }

    /// Forgets those that are full.
    fn forget(&mut self, now: Now) {
        while let Some((full, first)) = self.order.first()
            && *full <= now
        {
            self.full.remove(first);
            self.order.pop_first();
        }
    }

    /// Gives how long the bucket takes to be full, if it is remembered.
    fn change(&mut self, key: &K, tokens: u32, now: Now) -> Option<Duration> {
        let known = self.full.get(key).copied();
        match known {
            Some(known) => drop(self.order.remove(&(known, key.clone()))),
            None if self.full.len() >= self.max => return None,
            None => {}
        }
        let missing = self.missing(known, tokens, now);
        let full = now + missing;
        self.full.insert(key.clone(), full);
        self.order.insert((full, key.clone()));
        Some(missing)
    }

    /// How long until there is a token, if there is none.
    pub fn wait(&self, key: &K, now: Now) -> Option<Duration> {
        let missing = self.missing(self.full.get(key).copied(), 1, now);
        missing.checked_sub(self.whole).filter(|wait| !wait.is_zero())
    }

    /// How long it takes to be full when so many tokens are taken.
    fn missing(&self, known: Option<Now>, tokens: u32, now: Now) -> Duration {
        let known = known.map_or(Duration::ZERO, |full| full.since(now));
        known.saturating_add(self.token.saturating_mul(tokens))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.full.len()
    }

    /// Whether all are full.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(max: usize) -> Buckets<u32> {
        Buckets::new(RateLimit { burst: 3, per_second: 10 }, max)
    }

    #[test]
    fn each_key_has_its_own_bucket() {
        let (mut buckets, now) = (buckets(10), Now::from_millis(500));
        let taken: Vec<_> = (0..4).map(|_| buckets.take(&1, now)).collect();
        assert_eq!(taken[..3], [Ok(()); 3]);
        let wait = Duration::from_millis(100);
        assert_eq!((taken[3], buckets.wait(&1, now)), (Err(wait), Some(wait)));
        assert_eq!((buckets.wait(&2, now), buckets.take(&2, now)), (None, Ok(())));
        let later = now + wait;
        assert_eq!((buckets.wait(&1, later), buckets.take(&1, later)), (None, Ok(())));
    }

    #[test]
    fn who_is_refused_without_end_still_gets_what_comes_back() {
        let mut buckets = buckets(10);
        let at = Now::from_millis;
        let taken = (0..10_000).filter(|ms| buckets.take(&1, at(*ms)).is_ok()).count();
        assert_eq!(taken, 3 + 99);
    }

    #[test]
    fn a_full_bucket_is_forgotten_and_more_than_are_remembered_are_not_limited() {
        let mut buckets = buckets(1000);
        let at = Now::from_millis;
        for key in 0..1010 {
            assert_eq!(buckets.take(&key, at(0)), Ok(()));
        }
        assert_eq!(buckets.len(), 1000);
        assert_eq!(buckets.take(&7, at(50)), Ok(()));
        assert_eq!(buckets.take(&2000, at(150)), Ok(()));
        assert_eq!(buckets.len(), 2, "7 has another 50 ms");
        assert_eq!(buckets.take(&2000, Now::from_micros(u64::MAX)), Ok(()));
        assert_eq!((buckets.len(), buckets.order.len()), (1, 1));
    }

    #[test]
    fn what_is_spent_is_owed_and_paid_off() {
        let (mut buckets, now) = (buckets(10), Now::from_millis(500));
        assert_eq!(buckets.spend(&1, 3, now), None);
        assert_eq!(buckets.spend(&1, 20, now), Some(Duration::from_secs(2)));
        let later = now + Duration::from_secs(1);
        assert_eq!(buckets.spend(&1, 1, later), Some(Duration::from_millis(1100)));
        assert_eq!(buckets.spend(&2, 1, later), None);
        assert_eq!(buckets.spend(&1, 1, later + Duration::from_millis(1100 + 100)), None);
    }

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
