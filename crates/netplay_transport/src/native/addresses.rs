//! Notices that this machine has other addresses than before: another Wi-Fi, a cable, a phone that
//! leaves the house.
//!
//! Looked at twice a second, which costs some 50 µs each. A change that is missed shows within a second
//! as silence on the links.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rtc::shared::ifaces::ifaces;

use crate::config::Addresses;

const EVERY: Duration = Duration::from_millis(500);

pub(super) struct AddressWatch {
    known: Option<BTreeSet<IpAddr>>,
    /// `None`: not of interest, because all players run on this machine.
    look_at: Option<Instant>,
}

impl AddressWatch {
    pub(super) fn new(addresses: Addresses, now: Instant) -> Self {
        match addresses {
            Addresses::All => Self { known: current(), look_at: Some(now + EVERY) },
            Addresses::Loopback => Self { known: None, look_at: None },
        }
    }

    /// When to look again.
    pub(super) const fn next_look(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks if it is time; whether there is an address that was not there before. An address that goes away alone is no reason: links that used it will be silent.
    pub(super) fn changed(&mut self, now: Instant) -> bool {
        if self.look_at.is_none_or(|at| now < at) {
            return false;
        }
        self.look_at = Some(now + EVERY);
        let Some(new) = current() else { return false };
        let news = self.known.as_ref().is_some_and(|known| !new.is_subset(known));
        self.known = Some(new);
        news
    }
}

/// The addresses with which others reach this machine; `None` if the system does not say.
fn current() -> Option<BTreeSet<IpAddr>> {
    let interfaces = ifaces().ok()?.into_iter();
    let addresses = interfaces.filter_map(|interface| Some(interface.addr?.ip()));
    Some(addresses.filter(|address| !address.is_loopback()).collect())
}
