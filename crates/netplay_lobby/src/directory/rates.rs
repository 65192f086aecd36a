//! How fast a client may speak: by itself, and together with all others of its address.

use core::net::IpAddr;

use netplay_protocol::Now;
use netplay_protocol::lobby::ClientMessage;

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
}

impl Addresses {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            guesses: Buckets::new(config.address_guesses, ADDRESSES_MAX),
            searches: Buckets::new(config.address_searches, ADDRESSES_MAX),
        }
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
