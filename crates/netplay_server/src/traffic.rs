//! How much one address may send, whatever it is and over how many connections.
//!
//! Guaranteed: who sends more is neither refused nor closed. What it has sent counts, and nothing more is read from
//! the connection that sent it until the address owes nothing, so that TCP slows the sender down. Others behind
//! the same address get a message through for each such rest.
//!
//! Not guaranteed: that each message counts at once. A connection counts its own in lumps of a few KiB, and what
//! is less than one when it ends is not counted.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use netplay_lobby::{Buckets, RateLimit};

use crate::hub::Clock;

/// Addresses that are remembered at most, 200 bytes each: those who sent something within moments.
const ADDRESSES_MAX: usize = 65_536;

/// See the module. Addresses are given as they count.
pub(crate) struct Traffic {
    bytes: Mutex<Buckets<IpAddr>>,
    clock: Clock,
}

impl Traffic {
    /// The rate is in bytes.
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { bytes: Mutex::new(Buckets::new(limit, ADDRESSES_MAX)), clock: Clock::start() }
    }

    /// So many bytes came from there. Gives how long to read no more.
    pub(crate) fn spend(&self, address: IpAddr, bytes: usize) -> Option<Duration> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Nothing between lock and unlock panics.
        let mut spent = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        spent.spend(&address, bytes, self.clock.now())
    }
}
