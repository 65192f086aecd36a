//! How fast a client may speak: by itself, and together with all others of its address. And how many sessions
//! without a connection are kept for an address.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::lobby::ClientMessage;
use netplay_protocol::{Now, PeerId};

use crate::config::Config;
use crate::rate::{Bucket, Buckets, Verdict};

/// Addresses that are remembered at most, 100 bytes each. One that searches now and then is remembered for a
/// fiftieth of a second.
const ADDRESSES_MAX: usize = 65_536;

/// Which rate a message counts against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Signal,
    Join,
    Search,
    Chat,
    Invite,
}

impl Kind {
    pub(super) fn of(message: &ClientMessage) -> Self {
        match message {
            ClientMessage::Signal { .. } => Self::Signal,
            ClientMessage::Join { .. } => Self::Join,
            ClientMessage::Search { .. } | ClientMessage::QuickJoin { .. } => Self::Search,
            ClientMessage::Chat { .. } => Self::Chat,
            ClientMessage::Invite { .. } => Self::Invite,
            _ => Self::Message,
        }
    }
}

/// Of one client. A session that is taken up again has those of before: a new connection makes nobody faster.
#[derive(Clone, Debug)]
pub(super) struct Rates {
    messages: Bucket,
    signals: Bucket,
    joins: Bucket,
    searches: Bucket,
    chat: Bucket,
    invites: Bucket,
}

impl Rates {
    pub(super) fn new(config: &Config, now: Now) -> Self {
        Self {
            messages: Bucket::new(config.messages, now),
            signals: Bucket::new(config.signals, now),
            joins: Bucket::new(config.joins, now),
            searches: Bucket::new(config.searches, now),
            chat: Bucket::new(config.chat, now),
            invites: Bucket::new(config.invites, now),
        }
    }

    /// Signals do not count as messages: there are many of them, and at once.
    pub(super) fn take(&mut self, kind: Kind, config: &Config, now: Now) -> Verdict {
        if kind == Kind::Signal {
            return self.signals.take(config.signals, now);
        }
        let verdict = self.messages.take(config.messages, now);
        if verdict != Verdict::Go {
            return verdict;
        }
        match kind {
            Kind::Message | Kind::Signal => Verdict::Go,
            Kind::Join => self.joins.take(config.joins, now),
            Kind::Search => self.searches.take(config.searches, now),
            Kind::Chat => self.chat.take(config.chat, now),
            Kind::Invite => self.invites.take(config.invites, now),
        }
    }
}

/// Of all clients of an address together.
pub(super) struct Addresses {
    guesses: Buckets<IpAddr>,
    searches: Buckets<IpAddr>,
    /// Sessions that were connected from there and are offline, and since when.
    offline: BTreeMap<IpAddr, BTreeSet<(Now, PeerId)>>,
}

impl Addresses {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            guesses: Buckets::new(config.address_guesses, ADDRESSES_MAX),
            searches: Buckets::new(config.address_searches, ADDRESSES_MAX),
            offline: BTreeMap::new(),
        }
    }

    /// A session is offline since then. Gives the one that ends, if there are too many.
    pub(super) fn offline(
        &mut self,
        address: IpAddr,
        since: (Now, PeerId),
        config: &Config,
    ) -> Option<PeerId> {
        let here = self.offline.entry(address).or_default();
        here.insert(since);
        let first = here.first().filter(|_| here.len() > config.offline_per_address)?;
        Some(first.1)
    }

    /// It is connected again, or ends.
    pub(super) fn no_longer_offline(&mut self, address: IpAddr, since: (Now, PeerId)) {
        if let Some(here) = self.offline.get_mut(&address) {
            here.remove(&since);
            if here.is_empty() {
                self.offline.remove(&address);
            }
        }
    }

    /// Sessions that are offline, of all addresses.
    #[cfg(test)]
    pub(super) fn all_offline(&self) -> usize {
        self.offline.values().map(BTreeSet::len).sum()
    }

    /// Whether one of them may say this. A join costs nothing yet: see [`Self::guessed`].
    pub(super) fn check(&mut self, kind: Kind, address: IpAddr, now: Now) -> Verdict {
        let wait = match kind {
            Kind::Join => self.guesses.wait(&address, now),
            Kind::Search => self.searches.take(&address, now).err(),
            Kind::Message | Kind::Signal | Kind::Chat | Kind::Invite => None,
        };
        wait.map_or(Verdict::Go, Verdict::Wait)
    }

    /// One of them asked for a lobby by a code that none has.
    pub(super) fn guessed(&mut self, address: IpAddr, now: Now) {
        // Asked before it came here.
        let _ = self.guesses.take(&address, now);
    }
}
