//! JSON between a `matchbox_socket` 0.15 player and the server: one value per WebSocket text frame.
//!
//! The player sends [`Request`]s, the server [`Event`]s. The rules are in `netplay_lobby::matchbox`.
//!
//! Types of our own and not those of `matchbox_protocol`: a peer is a [`PeerId`] here as elsewhere,
//! signals can be compared, and the pure crates depend on nothing more. Golden JSON holds them.
//!
//! Guaranteed: the `data` of a signal leaves as the text that came, to the byte. Not guaranteed: that
//! it means anything; only that it is JSON.

use core::num::NonZeroU8;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{PeerId, RoomId};
use crate::limits::{LOBBY_MEMBERS_MAX, LOBBY_MESSAGE_MAX};
use crate::lobby::{MessageError, Signal, parse, render};

/// A room, as a player asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its name. Rooms with the same name and another `next` are different rooms.
    pub name: RoomId,
    /// So many who come one after the other are a group of their own; `None`: all who come meet.
    pub next: Option<NonZeroU8>,
}

impl Room {
    /// All who come meet.
    pub const fn new(name: RoomId) -> Self {
        Self { name, next: None }
    }

    /// So many who come one after the other are a group, brought into the range from 1 to
    /// [`LOBBY_MEMBERS_MAX`]. Not every server knows groups: the one that is made of matchbox's library as it
    /// stands does not.
    #[must_use]
    pub fn next(self, players: u8) -> Self {
        Self { next: NonZeroU8::new(players.clamp(1, LOBBY_MEMBERS_MAX)), ..self }
    }

    /// The path and the query of its URL.
    pub fn path(&self) -> String {
        match self.next {
            Some(next) => format!("/{}?next={next}", self.name),
            None => format!("/{}", self.name),
        }
    }
}

/// What one player tells another: any JSON, which the server does not look into.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Data(Box<RawValue>);

impl Data {
    /// The JSON text.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// What one of our own players tells another in such a room.
    pub fn of(signal: &Signal) -> Self {
        Self(RawValue::from_string(render(signal)).expect("what was rendered as JSON is JSON"))
    }

    /// Reads what [`Self::of`] wrote.
    ///
    /// # Errors
    /// [`MessageError`]: it is somebody else's, or a field is out of its range.
    pub fn signal(&self) -> Result<Signal, MessageError> {
        let signal: Signal = parse(self.as_json(), LOBBY_MESSAGE_MAX)?;
        signal.check()?;
        Ok(signal)
    }
}

impl PartialEq for Data {
    /// By their text: two values that mean the same may differ.
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for Data {}

/// What a player says to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Hand this to another player of my room.
    Signal {
        /// Who.
        receiver: PeerId,
        /// What.
        data: Data,
    },
    /// Nothing: it keeps proxies from closing an idle socket. Never answered.
    KeepAlive,
}

/// What the server says to a player.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The player's own id: first, and exactly once. A second one makes the 0.15 client panic.
    IdAssigned(PeerId),
    /// A newcomer, to whom the receiver makes an offer.
    NewPeer(PeerId),
    /// A player is gone.
    PeerLeft(PeerId),
    /// From another player.
    Signal {
        /// The sender, as the server knows it.
        sender: PeerId,
        /// As it was sent.
        data: Data,
    },
}

impl Request {
    /// Reads one request.
    ///
    /// # Errors
    /// [`MessageError`]: more than [`crate::limits::LOBBY_MESSAGE_MAX`] bytes, or malformed.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        parse(text, LOBBY_MESSAGE_MAX)
    }

    /// Writes the request.
    pub fn to_json(&self) -> String {
        render(self)
    }
}

impl Event {
    /// Reads one event.
    ///
    /// # Errors
    /// [`MessageError`]: more than [`crate::limits::LOBBY_MESSAGE_MAX`] bytes, or malformed.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        parse(text, LOBBY_MESSAGE_MAX)
    }

    /// Writes the event.
    pub fn to_json(&self) -> String {
        render(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::SDP_MAX;
    use crate::lobby::SignalBody;

    const P: &str = "00000000-0000-4000-8000-000000000007";

    fn peer() -> PeerId {
        PeerId::from_u128(0x4000_8000_0000_0000_0007)
    }

    fn data(json: &str) -> Data {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn golden_json_of_every_request() {
        let offer = data(r#"{"Offer":"v=0\r\n"}"#);
        let cases = [
            (
                Request::Signal { receiver: peer(), data: offer },
                format!(r#"{{"Signal":{{"receiver":"{P}","data":{{"Offer":"v=0\r\n"}}}}}}"#),
            ),
            (Request::KeepAlive, r#""KeepAlive""#.to_owned()),
        ];
        for (request, json) in cases {
            assert_eq!(request.to_json(), json);
            assert_eq!(Request::from_json(&json), Ok(request));
        }
    }

    #[test]
    fn golden_json_of_every_event() {
        let candidate = data(r#"{"IceCandidate":"null"}"#);
        let cases = [
            (Event::IdAssigned(peer()), format!(r#"{{"IdAssigned":"{P}"}}"#)),
            (Event::NewPeer(peer()), format!(r#"{{"NewPeer":"{P}"}}"#)),
            (Event::PeerLeft(peer()), format!(r#"{{"PeerLeft":"{P}"}}"#)),
            (
                Event::Signal { sender: peer(), data: candidate },
                format!(r#"{{"Signal":{{"sender":"{P}","data":{{"IceCandidate":"null"}}}}}}"#),
            ),
        ];
        for (event, json) in cases {
            assert_eq!(event.to_json(), json);
            assert_eq!(Event::from_json(&json), Ok(event));
        }
    }

    #[test]
    fn data_of_any_kind_passes_to_the_byte() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for json in [r#"{ "b":1.0,  "a":[1e2, "\u00e9"] }"#, "null", "7", r#""text""#, &deep] {
            let text = format!(r#"{{"Signal":{{"data":{json},"receiver":"{P}"}}}}"#);
            let Ok(Request::Signal { data, .. }) = Request::from_json(&text) else {
                panic!("{text} is a signal")
            };
            assert_eq!(data.as_json(), json);
            let event = Event::Signal { sender: peer(), data }.to_json();
            assert!(event.ends_with(&format!(r#""data":{json}}}}}"#)), "{event}");
        }
    }

    #[test]
    fn our_own_signals_are_data_and_those_of_others_are_not_ours() {
        let signal = Signal { attempt: 2, body: SignalBody::Offer { sdp: "v=0\r\n".into() } };
        let sent = Request::Signal { receiver: peer(), data: Data::of(&signal) }.to_json();
        let Ok(Request::Signal { data, .. }) = Request::from_json(&sent) else { panic!("{sent}") };
        assert_eq!(data.signal(), Ok(signal));
        assert!(matches!(data_of_others().signal(), Err(MessageError::Json(_))));
        let sdp = "x".repeat(SDP_MAX + 1);
        let large = Signal { attempt: 1, body: SignalBody::Answer { sdp } };
        assert_eq!(Data::of(&large).signal(), Err(MessageError::Range { field: "sdp" }));
    }

    fn data_of_others() -> Data {
        data(r#"{"Offer":"v=0\r\n"}"#)
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let unfinished = format!(r#"{{"Signal":{{"receiver":"{P}","data":{{"a":}}}}}}"#);
        let no_data = format!(r#"{{"Signal":{{"receiver":"{P}"}}}}"#);
        let no_peer = r#"{"Signal":{"receiver":"me","data":1}}"#;
        for text in ["", "{", "null", r#""Fly""#, no_peer, &no_data, &unfinished] {
            assert!(matches!(Request::from_json(text), Err(MessageError::Json(_))), "{text}");
        }
        let large = " ".repeat(LOBBY_MESSAGE_MAX + 1);
        assert_eq!(Request::from_json(&large), Err(MessageError::TooLarge(large.len())));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = Request::from_json(&text);
            let _ = Event::from_json(&text);
        }
    }
}
