//! How fast new connections of one address may come.
//!
//! Guaranteed: an address is remembered until its buckets are full again, a few seconds, and so many addresses
//! at most; beyond them, new ones are not limited here.

use core::net::IpAddr;
use core::time::Duration;

use netplay_lobby::{Buckets, RateLimit};
use netplay_protocol::Now;

/// Addresses that are remembered at most: 200 bytes each. An address that comes once is remembered for
/// 20 ms by default, so that this takes three million connections a second.
const ADDRESSES_MAX: usize = 65_536;

/// See the module. Addresses are given as they count: see `block` of the sockets' counts. There are two buckets
/// of the same size for each: who has used up the connections is told so, and who has used up that too is not.
pub(crate) struct Arrivals {
    connections: Buckets<IpAddr>,
    /// For answers that say no.
    refusals: Buckets<IpAddr>,
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
        let buckets = || Buckets::new(limit, ADDRESSES_MAX);
        Self { connections: buckets(), refusals: buckets() }
    }

    /// A connection comes.
    pub(crate) fn arrive(&mut self, address: IpAddr, now: Now) -> Arrival {
        match self.connections.take(&address, now) {
            Ok(()) => Arrival::Welcome,
            Err(wait) => match self.refusals.take(&address, now) {
                Ok(()) => Arrival::Early(wait),
                Err(_) => Arrival::Flood,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_in_then_told_when_to_come_then_dropped() {
        let (mut arrivals, now) =
            (Arrivals::new(RateLimit { burst: 3, per_second: 10 }), Now::ZERO);
        let ip = |number: u32| IpAddr::V4(number.into());
        let all: Vec<_> = (0..8).map(|_| arrivals.arrive(ip(1), now)).collect();
        let early = Arrival::Early(Duration::from_millis(100));
        assert_eq!(all[..3], [Arrival::Welcome; 3]);
        assert_eq!(all[3..6], [early; 3]);
        assert_eq!(all[6..], [Arrival::Flood; 2]);
        assert_eq!(arrivals.arrive(ip(2), now), Arrival::Welcome, "another address");
    }
}
