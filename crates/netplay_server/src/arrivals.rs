//! How fast new connections of one address may come.
//!
//! Guaranteed: an address is remembered until its bucket is full again, a few seconds, and so many addresses
//! at most; beyond them, new ones are not limited here.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use netplay_lobby::RateLimit;

/// Addresses that are remembered at most: 100 bytes each. An address that comes once is remembered for
/// 20 ms by default, so that this takes three million connections a second.
const ADDRESSES_MAX: usize = 65_536;

/// See the module. Addresses are given as they count: see `block` of the sockets' counts.
pub(crate) struct Arrivals {
    buckets: BTreeMap<IpAddr, Bucket>,
    /// When each bucket is full again, the first one first.
    full: BTreeSet<(Instant, IpAddr)>,
    /// How long a token takes.
    token: Duration,
    /// How long an empty bucket takes to be full.
    whole: Duration,
}

/// Two of the same size: who has used up the connections is told so, and who has used up that too is not.
#[derive(Clone, Copy)]
struct Bucket {
    /// When it is full again.
    connections: Instant,
    /// The same for answers that say no.
    refusals: Instant,
}

impl Bucket {
    fn full(&self) -> Instant {
        self.connections.max(self.refusals)
    }
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is let in.
    Welcome,
    /// It is told to come again after this time.
    Early(Duration),
    /// It is not worth an answer.
    Flood,
}

impl Arrivals {
    pub(crate) fn new(limit: RateLimit) -> Self {
        let token = Duration::from_secs(1) / limit.per_second.max(1);
        let whole = token.saturating_mul(limit.burst.max(1));
        Self { buckets: BTreeMap::new(), full: BTreeSet::new(), token, whole }
    }

    /// A connection comes.
    pub(crate) fn arrive(&mut self, address: IpAddr, now: Instant) -> Arrival {
        while let Some(&(full, first)) = self.full.first()
            && full <= now
        {
            self.full.pop_first();
            self.buckets.remove(&first);
        }
        let known = self.buckets.get(&address).copied();
        if known.is_none() && self.buckets.len() >= ADDRESSES_MAX {
            return Arrival::Welcome;
        }
        let mut bucket = known.unwrap_or(Bucket { connections: now, refusals: now });
        let arrival = match self.take(&mut bucket.connections, now) {
            Ok(()) => Arrival::Welcome,
            Err(wait) => match self.take(&mut bucket.refusals, now) {
                Ok(()) => Arrival::Early(wait),
                Err(_) => Arrival::Flood,
            },
        };
        if let Some(known) = known {
            self.full.remove(&(known.full(), address));
        }
        self.buckets.insert(address, bucket);
        self.full.insert((bucket.full(), address));
        arrival
    }

    /// Takes a token out of a bucket; an error says when there is one.
    fn take(&self, full: &mut Instant, now: Instant) -> Result<(), Duration> {
        let missing = full.saturating_duration_since(now) + self.token;
        if missing > self.whole {
            return Err(missing - self.whole);
        }
        *full = now + missing;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        assert_eq!(self.buckets.len(), self.full.len());
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn arrivals() -> Arrivals {
        Arrivals::new(RateLimit { burst: 3, per_second: 10 })
    }

    #[test]
    fn a_burst_is_let_in_then_told_when_to_come_then_dropped() {
        let (mut arrivals, now) = (arrivals(), Instant::now());
        let all: Vec<_> = (0..8).map(|_| arrivals.arrive(ip(1), now)).collect();
        let early = Arrival::Early(Duration::from_millis(100));
        assert_eq!(all[..3], [Arrival::Welcome; 3]);
        assert_eq!(all[3..6], [early; 3]);
        assert_eq!(all[6..], [Arrival::Flood; 2]);
        assert_eq!(arrivals.arrive(ip(2), now), Arrival::Welcome, "another address");
    }

    #[test]
    fn who_is_refused_without_end_still_gets_what_comes_back() {
        let (mut arrivals, begin) = (arrivals(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        let let_in =
            (0..10_000).filter(|ms| arrivals.arrive(ip(1), at(*ms)) == Arrival::Welcome).count();
        assert_eq!(let_in, 3 + 99);
    }

    #[test]
    fn an_address_is_forgotten_when_its_bucket_is_full() {
        let (mut arrivals, now) = (arrivals(), Instant::now());
        for number in 0..1000 {
            arrivals.arrive(ip(number), now);
        }
        assert_eq!(arrivals.remembered(), 1000);
        arrivals.arrive(ip(7), now + Duration::from_millis(50));
        arrivals.arrive(ip(1000), now + Duration::from_millis(150));
        assert_eq!(arrivals.remembered(), 2, "7 has another 50 ms");
    }

    #[test]
    fn more_addresses_than_are_remembered_are_let_in() {
        let (mut arrivals, now) = (arrivals(), Instant::now());
        for number in 0..ADDRESSES_MAX as u32 + 10 {
            assert_eq!(arrivals.arrive(ip(number), now), Arrival::Welcome);
        }
        assert_eq!(arrivals.remembered(), ADDRESSES_MAX);
    }
}
