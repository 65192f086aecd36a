//! How many sockets there are, in all and by address, and how fast new ones come.

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;

use crate::arrivals::{Arrival, Arrivals};
use crate::config::ServerConfig;
use crate::files;
use crate::hub::Clock;
use crate::proxies::{self, AddressBlock};

/// Counts sockets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission {
    counts: Arc<Mutex<Counts>>,
    proxies: Arc<[AddressBlock]>,
    clock: Clock,
    max: usize,
    max_per_address: usize,
    limit_loopback: bool,
}

struct Counts {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
    arrivals: Arrivals,
}

/// Counted: a socket, or what came through a proxy's. Dropping it uncounts it.
pub(crate) struct Seat {
    counts: Arc<Mutex<Counts>>,
    /// `None` for a proxy's socket: that is not its client's address.
    address: Option<IpAddr>,
    /// Whether the limits per address hold for it.
    limited: bool,
    /// Whether it counts as a socket.
    socket: bool,
}

impl Seat {
    /// The address, as it counts, if limits hold for it.
    pub(crate) fn limited_address(&self) -> Option<IpAddr> {
        self.address.filter(|_| self.limited)
    }
}

/// What becomes of who asks for a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It gets one.
    Welcome,
    /// Its address has more sockets than allowed: it gets an HTTP answer that says so.
    TooMany,
    /// New ones of its address come too fast: the same, and when to try again.
    TooFast(Duration),
}

/// Whose socket it is.
pub(crate) enum Entry {
    Client(Seat, Verdict),
    /// Each request says for whom it is: see [`Admission::claim`].
    Proxy(Seat),
}

impl Admission {
    /// For as many sockets as the config and the system allow.
    pub(crate) fn of(config: &ServerConfig) -> Self {
        /// Files that are left for what is no socket of a player: the listeners, the runtime, certificates, the
        /// operator.
        const OTHER_FILES: u64 = 64;
        // Those without a WebSocket yet, and those that linger, need room beside the connections.
        let room = config.lobby.max_connections.saturating_add(config.lobby.rooms.max_peers);
        let max = room.saturating_add(room / 4).saturating_add(16);
        // Beyond the files that the system lets us have, nobody could be accepted, not even to be refused.
        let files = files::limit().map(|files| files - OTHER_FILES.min(files / 2));
        Self::new(max.min(files.map_or(usize::MAX, |files| files as usize)), config)
    }

    /// For so many sockets in all.
    fn new(max: usize, config: &ServerConfig) -> Self {
        let arrivals = Arrivals::new(config.new_per_address);
        let counts = Counts { all: 0, by_address: BTreeMap::new(), arrivals };
        Self {
            counts: Arc::new(Mutex::new(counts)),
            proxies: config.trusted_proxies.clone().into(),
            clock: Clock::start(),
            max,
            max_per_address: config.max_per_address,
            limit_loopback: config.limit_loopback,
        }
    }

    /// Whether the next socket would be dropped.
    pub(crate) fn is_full(&self) -> bool {
        lock(&self.counts).all >= self.max
    }

    /// Counts a socket; `None` if it is to be dropped without an answer.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Entry> {
        let mut counts = lock(&self.counts);
        if counts.all >= self.max {
            return None;
        }
        if self.proxies.iter().any(|block| block.contains(address)) {
            counts.all += 1;
            return Some(Entry::Proxy(self.seat(None, true)));
        }
        let address = block(address);
        let verdict = self.count(&mut counts, address)?;
        counts.all += 1;
        Some(Entry::Client(self.seat(Some(address), true), verdict))
    }

    /// Counts the client of a request that came through this proxy's socket, and gives what becomes of it.
    pub(crate) fn claim(&self, proxy: IpAddr, headers: &HeaderMap) -> (Option<Seat>, Verdict) {
        /// A proxy's client always gets an answer, because the socket is there already. Longer than it
        /// takes to be let in again.
        const LATER: Duration = Duration::from_secs(10);
        let address = block(proxies::client(&self.proxies, proxy, headers));
        match self.count(&mut lock(&self.counts), address) {
            Some(verdict) => (Some(self.seat(Some(address), false)), verdict),
            None => (None, Verdict::TooFast(LATER)),
        }
    }

    /// Counts one more of this address.
    fn count(&self, counts: &mut Counts, address: IpAddr) -> Option<Verdict> {
        let limited = self.limits(address);
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        // An answer costs a task: who comes on regardless gets none.
        if limited && here >= self.max_per_address.saturating_mul(2) {
            return None;
        }
        let arrival = match limited {
            true => counts.arrivals.arrive(address, self.clock.now()),
            false => Arrival::Welcome,
        };
        let verdict = match arrival {
            Arrival::Flood => return None,
            Arrival::Early(wait) => Verdict::TooFast(wait),
            Arrival::Welcome if limited && here >= self.max_per_address => Verdict::TooMany,
            Arrival::Welcome => Verdict::Welcome,
        };
        counts.by_address.insert(address, here + 1);
        Some(verdict)
    }

    fn seat(&self, address: Option<IpAddr>, socket: bool) -> Seat {
        let limited = address.is_some_and(|address| self.limits(address));
        Seat { counts: self.counts.clone(), address, limited, socket }
    }

    fn limits(&self, address: IpAddr) -> bool {
        self.limit_loopback || !address.is_loopback()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if self.socket {
            counts.all = counts.all.saturating_sub(1);
        }
        let Some(address) = self.address else { return };
        if let Some(here) = counts.by_address.get_mut(&address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.by_address.remove(&address);
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
    use axum::http::HeaderValue;
    use netplay_lobby::RateLimit;

    use super::*;

    const UNLIMITED: RateLimit = RateLimit { burst: 1000, per_second: 1000 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn admission(
        max: usize,
        max_per_address: usize,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Admission {
        let mut config =
            ServerConfig { max_per_address, new_per_address: UNLIMITED, ..ServerConfig::default() };
        change(&mut config);
        Admission::new(max, &config)
    }

    fn enter(admission: &Admission, address: &str) -> Option<(Seat, Verdict)> {
        match admission.enter(ip(address))? {
            Entry::Client(seat, verdict) => Some((seat, verdict)),
            Entry::Proxy(_) => panic!("{address} is no proxy"),
        }
    }

    fn verdict(entered: &Option<(Seat, Verdict)>) -> Option<Verdict> {
        entered.as_ref().map(|(_, verdict)| *verdict)
    }

    #[test]
    fn one_address_is_answered_up_to_twice_its_limit() {
        let admission = admission(100, 1, |_| {});
        let seats: Vec<_> = (0..3).map(|_| enter(&admission, "192.0.2.1")).collect();
        let verdicts: Vec<_> = seats.iter().map(verdict).collect();
        assert_eq!(verdicts, [Some(Verdict::Welcome), Some(Verdict::TooMany), None]);
        assert_eq!(verdict(&enter(&admission, "192.0.2.2")), Some(Verdict::Welcome));
        drop(seats);
        assert_eq!(verdict(&enter(&admission, "192.0.2.1")), Some(Verdict::Welcome));
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_ipv4_is_ipv4() {
        assert_eq!(block(ip("2001:db8::1")), block(ip("2001:db8::ffff:2")));
        assert_ne!(block(ip("2001:db8::1")), block(ip("2001:db8:0:1::1")));
        assert_eq!(block(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn loopback_is_exempt_unless_asked_for() {
        let rate = |config: &mut ServerConfig| {
            config.new_per_address = RateLimit { burst: 2, per_second: 1 };
        };
        let lenient = admission(100, 1, rate);
        let seats: Vec<_> = (0..5).map(|_| enter(&lenient, "127.0.0.1")).collect();
        assert!(seats.iter().all(|seat| verdict(seat) == Some(Verdict::Welcome)));
        let strict = admission(100, 1, |config| config.limit_loopback = true);
        let _seat = enter(&strict, "::1");
        assert_eq!(verdict(&enter(&strict, "::1")), Some(Verdict::TooMany));
    }

    #[test]
    fn all_addresses_together_are_bounded_and_nothing_stays_behind() {
        let admission = admission(2, 10, |_| {});
        let seats = [enter(&admission, "192.0.2.1"), enter(&admission, "192.0.2.2")];
        assert!(enter(&admission, "192.0.2.3").is_none());
        drop(seats);
        assert!(lock(&admission.counts).by_address.is_empty());
        assert_eq!(lock(&admission.counts).all, 0);
    }

    #[test]
    fn who_comes_and_goes_too_fast_is_told_when_to_come_again() {
        let admission = admission(100, 10, |config| {
            config.new_per_address = RateLimit { burst: 2, per_second: 1 };
        });
        let verdicts: Vec<_> = (0..5).map(|_| verdict(&enter(&admission, "2001:db8::1"))).collect();
        assert_eq!(verdicts[..2], [Some(Verdict::Welcome); 2]);
        assert!(matches!(verdicts[2..4], [Some(Verdict::TooFast(_)), Some(Verdict::TooFast(_))]));
        assert_eq!(verdicts[4], None);
        assert_eq!(verdict(&enter(&admission, "2001:db8::2")), None, "the same /64");
        assert_eq!(verdict(&enter(&admission, "2001:db8:0:1::")), Some(Verdict::Welcome));
    }

    #[test]
    fn a_proxys_sockets_count_for_their_clients() {
        let admission = admission(100, 1, |config| {
            config.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
        });
        let proxy = ip("192.0.2.1");
        let mut sockets = Vec::new();
        for _ in 0..10 {
            let Some(Entry::Proxy(seat)) = admission.enter(proxy) else {
                panic!("a proxy has no limit of its own")
            };
            sockets.push(seat);
        }
        let claim = |client: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_static(client));
            admission.claim(proxy, &headers)
        };
        let (first, welcome) = claim("198.51.100.1");
        assert_eq!(welcome, Verdict::Welcome);
        let (second, too_many) = claim("198.51.100.1");
        assert_eq!(too_many, Verdict::TooMany);
        assert!(matches!(claim("198.51.100.1"), (None, Verdict::TooFast(_))));
        assert_eq!(claim("198.51.100.2").1, Verdict::Welcome);
        assert_eq!(lock(&admission.counts).all, 10);
        drop((first, second, sockets));
        assert!(lock(&admission.counts).by_address.is_empty());
        assert_eq!(lock(&admission.counts).all, 0);
    }
}
