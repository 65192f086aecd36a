//! What is counted for those who watch a server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netplay_lobby::Stats;
use netplay_lobby::matchbox::RoomStats;
use netplay_protocol::lobby::ErrorCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Messages of players, those that are none included.
    pub(crate) received: u64,
    /// Frames to players.
    pub(crate) sent: u64,
    /// Connections that were opened.
    pub(crate) opened: u64,
    refused: BTreeMap<String, u64>,
    closed: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn refused(&mut self, code: ErrorCode) {
        *self.refused.entry(name(code)).or_default() += 1;
    }

    pub(crate) fn closed(&mut self, code: ErrorCode) {
        *self.closed.entry(name(code)).or_default() += 1;
    }
}

/// What becomes of sockets and WebSockets, of both kinds of players, since the start.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Tallied>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Tallied {
    closed: BTreeMap<u16, u64>,
    refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// The server closes a WebSocket with this code.
    pub(crate) fn closed(&self, code: u16) {
        *self.lock().closed.entry(code).or_default() += 1;
    }

    /// A socket becomes no WebSocket.
    pub(crate) fn refused(&self, why: &'static str) {
        *self.lock().refused.entry(why).or_default() += 1;
    }

    pub(crate) fn get(&self) -> Tallied {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tallied> {
        // Nothing between lock and unlock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The code as the protocol writes it.
fn name(code: ErrorCode) -> String {
    let name = serde_json::to_value(code).ok();
    name.as_ref().and_then(|name| name.as_str()).unwrap_or("other").to_owned()
}

/// All of it in the text format of Prometheus.
pub(crate) fn text(lobby: Stats, rooms: RoomStats, counts: &Counts, tallied: Tallied) -> String {
    let mut registry = Registry::with_prefix("netplay");
    for (name, help, value) in [
        ("connections", "Open connections of players", lobby.connections),
        ("sessions", "Sessions, those without a connection included", lobby.sessions),
        ("lobbies", "Lobbies", lobby.lobbies),
        ("accounts", "Accounts of players that have sessions", lobby.accounts),
        ("log_bytes", "Bytes that wait for players to confirm them", lobby.log_bytes),
        ("matchbox_peers", "Players with matchbox_socket", rooms.peers),
        ("matchbox_rooms", "Rooms of players with matchbox_socket", rooms.rooms),
    ] {
        registry.register(name, help, ConstGauge::new(value as u64));
    }
    for (name, help, value) in [
        ("messages_received", "Messages of players", counts.received),
        ("frames_sent", "Frames to players", counts.sent),
        ("connections_opened", "Connections of players that were opened", counts.opened),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
    let closed = tallied.closed.into_iter().map(|(code, count)| (code.to_string(), count));
    let refused = tallied.refused.into_iter().map(|(why, count)| (why.to_owned(), count));
    for (name, help, label, by_label) in [
        ("refused", "Requests of players that were refused", "code", counts.refused.clone()),
        ("closed", "Connections of players that the lobby closed", "code", counts.closed.clone()),
        ("websockets_closed", "WebSockets that the server closed", "close_code", closed.collect()),
        ("sockets_refused", "Sockets that became no WebSocket", "why", refused.collect()),
    ] {
        let family = Family::<[(&str, String); 1], Counter>::default();
        for (value, count) in by_label {
            family.get_or_create(&[(label, value)]).inc_by(count);
        }
        registry.register(name, help, family);
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}
