//! What clients say to each kind of server, and what of its answers they look at.
//!
//! Answers are looked at and not read: a generator that reads all JSON takes as much as the server that
//! writes it. Tests hold this against the real messages.

use std::time::Duration;

use netplay_protocol::GameId;
use netplay_protocol::lobby::{ClientMessage, PATH, Resume, ResumeToken, ServerMessage};

use crate::serve::Kind;

/// Bytes of a signal as its sender sends it.
pub(crate) const SIGNAL_BYTES: usize = 300;

/// Digits of the time in a signal.
const DIGITS: usize = 15;
const MARK: &str = "t=";

/// What a server said, looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    /// The type of the message, as the server names it; empty if it has none.
    pub(crate) kind: &'a str,
    /// The number of the frame, 0 if it has none.
    pub(crate) seq: u64,
    /// All of it.
    pub(crate) text: &'a str,
}

impl<'a> Said<'a> {
    pub(crate) fn new(server: Kind, text: &'a str) -> Self {
        let looked = match server {
            Kind::Netplay => netplay(text),
            Kind::Matchbox => text.strip_prefix("{\"").and_then(|rest| Some((before(rest)?, 0))),
            Kind::BareRelay => None,
        };
        let (kind, seq) = looked.unwrap_or_default();
        Self { kind, seq, text }
    }

    /// Whether it is a signal of another client.
    pub(crate) fn is_signal(&self) -> bool {
        matches!(self.kind, "signal" | "Signal") || self.kind.is_empty()
    }

    /// The time in a signal, in nanoseconds.
    pub(crate) fn stamp(&self) -> Option<u64> {
        let at = self.text.rfind(MARK)? + MARK.len();
        self.text.get(at..at + DIGITS)?.parse().ok()
    }
}

fn before(text: &str) -> Option<&str> {
    text.split_once('"').map(|(kind, _)| kind)
}

fn netplay(text: &str) -> Option<(&str, u64)> {
    let rest = text.strip_prefix("{\"seq\":")?;
    let (seq, rest) = rest.split_once(',')?;
    let kind = before(rest.strip_prefix("\"message\":{\"type\":\"")?)?;
    Some((kind, seq.parse().ok()?))
}

/// Where clients of a pair connect to.
pub(crate) fn path(server: Kind, pair: usize) -> String {
    match server {
        Kind::Netplay => PATH.to_owned(),
        Kind::Matchbox => format!("/room{pair}"),
        Kind::BareRelay => format!("/{pair}"),
    }
}

/// The first message of a client; other servers expect none. `known` are the peer id and the token of a
/// session to take up, and the last frame of it that came.
pub(crate) fn hello(known: Option<(&str, &str, u64)>) -> String {
    let resume = known.and_then(|(peer, token, seen)| {
        let peer = serde_json::from_value(peer.into()).ok()?;
        Some(Resume { peer, token: ResumeToken(token.to_owned()), seen, restart: false })
    });
    ClientMessage::hello(game(), resume).to_json()
}

/// The game that all clients play.
pub(crate) fn game() -> GameId {
    GameId::new("load-test").unwrap_or_else(|_| unreachable!("this is a game id"))
}

/// The peer id that a server gives to a client in its first message.
pub(crate) fn own_id(said: &Said<'_>) -> Option<String> {
    match said.kind {
        "welcome" => field(said.text, "\"peer\":\""),
        "IdAssigned" => field(said.text, "{\"IdAssigned\":\""),
        _ => None,
    }
}

/// The token in a message that gives one.
pub(crate) fn token(said: &Said<'_>) -> Option<String> {
    match said.kind {
        "welcome" | "token" => field(said.text, "\"token\":\""),
        _ => None,
    }
}

/// The code of the lobby in a `joined`.
pub(crate) fn code(said: &Said<'_>) -> Option<String> {
    field(said.text, "\"code\":\"")
}

fn field(text: &str, before_it: &str) -> Option<String> {
    let (_, rest) = text.split_once(before_it)?;
    before(rest).map(ToOwned::to_owned)
}

/// What a refusal says: code and text.
pub(crate) fn refusal(said: &Said<'_>) -> Option<String> {
    let frame = netplay_protocol::lobby::ServerFrame::from_json(said.text).ok()?;
    match frame.message {
        ServerMessage::Error { code, text, .. } => Some(format!("{code:?}: {text}")),
        _ => None,
    }
}

/// What an idle client says, and how often. The bare relay's clients do as ours do, and hear as much.
pub(crate) fn keep_alive(server: Kind, seen: u64) -> String {
    match server {
        Kind::Netplay => ClientMessage::KeepAlive { seen }.to_json(),
        Kind::Matchbox => "\"KeepAlive\"".to_owned(),
        Kind::BareRelay => format!("k{:029}", 0),
    }
}

/// As often as the server asks for it, and as `matchbox_socket` does.
pub(crate) const fn keep_alive_every(server: Kind) -> Duration {
    match server {
        Kind::Netplay | Kind::BareRelay => Duration::from_secs(5),
        Kind::Matchbox => Duration::from_secs(10),
    }
}

/// A signal to another client; only its time changes.
#[derive(Clone, Debug)]
pub(crate) struct Signal {
    text: Vec<u8>,
    /// Where its time is.
    at: usize,
}

impl Signal {
    /// Of [`SIGNAL_BYTES`] bytes.
    pub(crate) fn to(server: Kind, peer: &str) -> Self {
        let (begin, end) = match server {
            Kind::Netplay => (
                format!(
                    "{{\"type\":\"signal\",\"to\":\"{peer}\",\"signal\":{{\"attempt\":1,\"body\":\
                     {{\"kind\":\"candidate\",\"candidate\":\""
                ),
                "\",\"mid\":\"0\"}}}",
            ),
            Kind::Matchbox => (
                format!("{{\"Signal\":{{\"receiver\":\"{peer}\",\"data\":{{\"IceCandidate\":\""),
                "\"}}}",
            ),
            Kind::BareRelay => (String::new(), ""),
        };
        let fixed = begin.len() + end.len() + MARK.len() + DIGITS;
        let filling = "candidate 1 udp 2130706431 ".chars().cycle();
        let filling: String = filling.take(SIGNAL_BYTES.saturating_sub(fixed)).collect();
        let at = begin.len() + filling.len() + MARK.len();
        let text = format!("{begin}{filling}{MARK}{:0DIGITS$}{end}", 0).into_bytes();
        Self { text, at }
    }

    /// It with this time, in nanoseconds.
    pub(crate) fn stamped(&mut self, mut nanos: u64) -> &[u8] {
        for digit in self.text[self.at..self.at + DIGITS].iter_mut().rev() {
            *digit = b'0' + (nanos % 10) as u8;
            nanos /= 10;
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use netplay_protocol::PeerId;
    use netplay_protocol::lobby::{ServerFrame, Signal as RealSignal, SignalBody};
    use netplay_protocol::matchbox::{Event, Request};

    use super::*;

    const PEER: &str = "00000000-0000-4000-8000-000000000007";

    #[test]
    fn a_signal_has_its_size_is_understood_and_arrives_with_its_time() {
        for server in Kind::ALL {
            let mut signal = Signal::to(server, PEER);
            let text = core::str::from_utf8(signal.stamped(123_456_789)).unwrap().to_owned();
            assert_eq!(text.len(), SIGNAL_BYTES, "{server}");
            let relayed = match server {
                Kind::Netplay => match ClientMessage::from_json(&text).unwrap() {
                    ClientMessage::Signal { to, signal } => {
                        let message = ServerMessage::Signal { from: to, signal };
                        ServerFrame { seq: 77, message }.to_json()
                    }
                    other => panic!("{other:?}"),
                },
                Kind::Matchbox => match Request::from_json(&text).unwrap() {
                    Request::Signal { receiver, data } => {
                        Event::Signal { sender: receiver, data }.to_json()
                    }
                    Request::KeepAlive => panic!(),
                },
                Kind::BareRelay => text,
            };
            let said = Said::new(server, &relayed);
            assert!(said.is_signal(), "{relayed}");
            assert_eq!(said.stamp(), Some(123_456_789), "{relayed}");
            assert_eq!(said.seq, if server == Kind::Netplay { 77 } else { 0 });
        }
    }

    #[test]
    fn answers_are_looked_at_as_the_server_writes_them() {
        let frames = include_str!("../../../netplay_protocol/src/lobby/protocol.md");
        let mut kinds = Vec::new();
        let messages = frames.split("```json server\n").skip(1);
        for message in messages.filter_map(|rest| rest.lines().next()) {
            let message: ServerMessage = serde_json::from_str(message).unwrap();
            let text = ServerFrame { seq: 9, message: message.clone() }.to_json();
            let said = Said::new(Kind::Netplay, &text);
            assert_eq!(said.seq, 9);
            assert_eq!(said.is_signal(), matches!(message, ServerMessage::Signal { .. }));
            match message {
                ServerMessage::Welcome { peer, token: secret, .. } => {
                    assert_eq!(own_id(&said), Some(peer.to_string()));
                    assert_eq!(token(&said), Some(secret.0));
                }
                ServerMessage::Token { token: secret } => assert_eq!(token(&said), Some(secret.0)),
                ServerMessage::Joined { lobby, .. } => {
                    assert_eq!(code(&said), Some(lobby.code.to_string()));
                }
                ServerMessage::Error { text, .. } => {
                    assert!(refusal(&said).is_some_and(|said| said.ends_with(&text)));
                }
                _ => assert_eq!(own_id(&said), None),
            }
            kinds.push(said.kind.to_owned());
        }
        assert!(kinds.len() > 20 && kinds.iter().all(|kind| !kind.is_empty()), "{kinds:?}");
    }

    #[test]
    fn what_clients_say_is_understood() {
        let resume = hello(Some((PEER, "secret", 4)));
        let ClientMessage::Hello { resume: Some(resume), .. } =
            ClientMessage::from_json(&resume).unwrap()
        else {
            panic!("{resume}")
        };
        assert_eq!((resume.peer.to_string().as_str(), resume.seen), (PEER, 4));
        assert!(ClientMessage::from_json(&hello(None)).is_ok());
        assert!(ClientMessage::from_json(&keep_alive(Kind::Netplay, 3)).is_ok());
        assert!(Request::from_json(&keep_alive(Kind::Matchbox, 3)).is_ok());
        let id = Event::IdAssigned(PeerId::from_u128(7)).to_json();
        let id = own_id(&Said::new(Kind::Matchbox, &id));
        assert_eq!(id, Some(PeerId::from_u128(7).to_string()));
        assert!(RealSignal { attempt: 1, body: SignalBody::Bye }.check().is_ok());
    }
}
