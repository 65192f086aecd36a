//! How many sockets there are, in all and by address.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts sockets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission {
    counts: Arc<Mutex<Counts>>,
    max: usize,
    max_per_address: usize,
    limit_loopback: bool,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// A counted socket; dropping it uncounts it.
pub(crate) struct Seat {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
    /// Whether its address has more sockets than allowed. Such a socket gets an HTTP answer that
    /// says so, and no WebSocket.
    pub(crate) over: bool,
}

impl Admission {
    pub(crate) fn new(max: usize, max_per_address: usize, limit_loopback: bool) -> Self {
        Self { counts: Arc::default(), max, max_per_address, limit_loopback }
    }

    /// Counts a socket; `None` if it is to be dropped without an answer.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Seat> {
        let address = block(address);
        let limited = self.limit_loopback || !address.is_loopback();
        let mut counts = lock(&self.counts);
        if counts.all >= self.max {
            return None;
        }
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        // An answer costs a task: who comes on regardless gets none.
        if limited && here >= self.max_per_address.saturating_mul(2) {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, here + 1);
        let over = limited && here >= self.max_per_address;
        Some(Seat { counts: self.counts.clone(), address, over })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all = counts.all.saturating_sub(1);
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    // Nothing between lock and unlock panics; two numbers are never half changed.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one address: an IPv6 customer has a whole /64.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_is_answered_up_to_twice_its_limit() {
        let admission = Admission::new(100, 1, false);
        let seats: Vec<_> = (0..3).map(|_| admission.enter(ip("192.0.2.1"))).collect();
        let over: Vec<_> = seats.iter().map(|seat| seat.as_ref().map(|seat| seat.over)).collect();
        assert_eq!(over, [Some(false), Some(true), None]);
        assert!(admission.enter(ip("192.0.2.2")).is_some_and(|seat| !seat.over));
        drop(seats);
        assert!(admission.enter(ip("192.0.2.1")).is_some_and(|seat| !seat.over));
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_ipv4_is_ipv4() {
        assert_eq!(block(ip("2001:db8::1")), block(ip("2001:db8::ffff:2")));
        assert_ne!(block(ip("2001:db8::1")), block(ip("2001:db8:0:1::1")));
        assert_eq!(block(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn loopback_is_exempt_unless_asked_for() {
        let admission = Admission::new(100, 1, false);
        let seats: Vec<_> = (0..5).filter_map(|_| admission.enter(ip("127.0.0.1"))).collect();
        assert!(seats.len() == 5 && seats.iter().all(|seat| !seat.over));
        let strict = Admission::new(100, 1, true);
        let _seat = strict.enter(ip("::1"));
        assert!(strict.enter(ip("::1")).is_some_and(|seat| seat.over));
    }

    #[test]
    fn all_addresses_together_are_bounded_and_nothing_stays_behind() {
        let admission = Admission::new(2, 10, false);
        let seats = [admission.enter(ip("192.0.2.1")), admission.enter(ip("192.0.2.2"))];
        assert!(admission.enter(ip("192.0.2.3")).is_none());
        drop(seats);
        assert!(lock(&admission.counts).by_address.is_empty());
        assert_eq!(lock(&admission.counts).all, 0);
    }
}
