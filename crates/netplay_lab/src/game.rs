//! The game that the lab plays: nothing but messages, numbered, to everybody in every tick.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netplay_protocol::frame::MessageId;
use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, PeerId};
use netplay_transport::{
    JoinRequest, Lane, Network, Polled, SavedSession, Session, SessionConfig, SessionEvent,
};
use serde::{Deserialize, Serialize};

/// Between two messages to a peer.
pub const TICK: Duration = Duration::from_millis(16);
/// Nothing of a peer's game for so long is worth a line.
pub const GAP: Duration = Duration::from_millis(100);
/// How often a player says how it is.
const BEAT: Duration = Duration::from_secs(1);

/// What a player tells the lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The lobby server has a session for it.
    Online,
    /// The lobby server cannot be reached.
    Offline,
    /// It is in the lobby with this code.
    Joined {
        /// The code.
        code: String,
    },
    /// A link is there.
    Connected,
    /// A link is silent.
    Interrupted,
    /// It is heard again.
    Resumed,
    /// A link is over.
    Closed {
        /// Why.
        reason: String,
    },
    /// A peer's game is heard again after a gap.
    Again {
        /// How long it was.
        gap_ms: f64,
    },
    /// Once a second: how long ago the peer was heard that was silent the longest.
    Beat {
        /// So long.
        silent_ms: f64,
    },
    /// Something that must not happen.
    Wrong {
        /// What.
        what: String,
    },
}

/// A line of a player.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds of Unix time: all processes of a machine share it.
    pub at_ms: f64,
    /// Whom it is about, if about one peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Milliseconds of Unix time.
pub fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

struct Link {
    sent: u32,
    received: u32,
    heard: Option<Instant>,
}

/// One player.
pub struct Player {
    session: Session,
    links: BTreeMap<PeerId, Link>,
    /// What it has to tell.
    pub lines: Vec<Line>,
    /// With what it takes up its session when it is started anew.
    pub saved: Option<SavedSession>,
    beat: Instant,
}

/// The game's configuration.
pub fn config(server: &str) -> Result<SessionConfig, Box<dyn std::error::Error>> {
    let entry = |name: &str, lane| SchemaEntry { name: name.into(), lane };
    let schema = vec![entry("event", Lane::Reliable), entry("state", Lane::Unreliable)];
    let schema = Schema::new(schema)?;
    let mut config = SessionConfig::new(GameId::new("netplay-lab")?, BuildId::new("1")?, schema);
    config.server = server.to_owned();
    Ok(config)
}

impl Player {
    /// Opens a session and asks for a lobby.
    pub fn open(
        network: &Network,
        config: &SessionConfig,
        request: JoinRequest,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let session = network.open(config)?;
        session.join(request)?;
        let (links, lines, saved, beat) = (BTreeMap::new(), Vec::new(), None, Instant::now());
        Ok(Self { session, links, lines, saved, beat })
    }

    /// Links that live.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    fn tell(&mut self, peer: Option<PeerId>, event: Event) {
        let peer = peer.map(|peer| peer.short().to_string());
        self.lines.push(Line { at_ms: now_ms(), peer, event });
    }

    /// Takes what has arrived.
    pub fn poll(&mut self) {
        while let Some(polled) = self.session.poll() {
            match polled {
                Polled::Event(event) => self.event(event),
                Polled::Packet(packet) => {
                    let now = Instant::now();
                    let numbers = packet.messages().map(|message| {
                        let number = message.payload.first_chunk().map(|n| u32::from_le_bytes(*n));
                        (message.from, message.lane, number)
                    });
                    for (from, lane, number) in numbers.collect::<Vec<_>>() {
                        self.message(now, from, lane, number);
                    }
                }
                Polled::Inputs(_) => {}
            }
        }
        if self.beat.elapsed() >= BEAT {
            self.beat = Instant::now();
            let silence = self.links.values().filter_map(|link| Some(link.heard?.elapsed()));
            let silent_ms = silence.max().unwrap_or_default().as_secs_f64() * 1e3;
            self.tell(None, Event::Beat { silent_ms });
        }
    }

    fn message(&mut self, now: Instant, from: PeerId, lane: Lane, number: Option<u32>) {
        let Some(link) = self.links.get_mut(&from) else {
            return self.tell(Some(from), Event::Wrong { what: "a message without a link".into() });
        };
        let gap = link.heard.replace(now).map(|heard| now - heard).filter(|gap| *gap >= GAP);
        let expected = link.received;
        if lane == Lane::Reliable {
            link.received += 1;
        }
        if let Some(gap) = gap {
            self.tell(Some(from), Event::Again { gap_ms: gap.as_secs_f64() * 1e3 });
        }
        if lane == Lane::Reliable && number != Some(expected) {
            let what = format!("message {number:?} where {expected} was next");
            self.tell(Some(from), Event::Wrong { what });
        }
    }

    fn event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Online { .. } => self.tell(None, Event::Online),
            SessionEvent::Offline { .. } => self.tell(None, Event::Offline),
            SessionEvent::Joined(lobby) => {
                self.tell(None, Event::Joined { code: lobby.code.to_string() });
            }
            SessionEvent::LobbyGone => {
                self.tell(None, Event::Wrong { what: "the lobby is gone".into() });
            }
            SessionEvent::JoinRefused { text, .. } => {
                self.tell(None, Event::Wrong { what: format!("no lobby: {text}") });
            }
            SessionEvent::Ended(reason) => {
                self.tell(None, Event::Wrong { what: reason.to_string() });
            }
            SessionEvent::Saved(saved) => self.saved = Some(saved),
            SessionEvent::PeerConnected(peer) => {
                self.links.insert(peer, Link { sent: 0, received: 0, heard: None });
                self.tell(Some(peer), Event::Connected);
            }
            SessionEvent::PeerInterrupted { peer, .. } => self.tell(Some(peer), Event::Interrupted),
            SessionEvent::PeerResumed { peer, .. } => self.tell(Some(peer), Event::Resumed),
            SessionEvent::PeerClosed { peer, reason } if self.links.remove(&peer).is_some() => {
                self.tell(Some(peer), Event::Closed { reason: reason.to_string() });
            }
            _ => {}
        }
    }

    /// Sends a number on each lane to everybody.
    pub fn send(&mut self) {
        for (peer, link) in &mut self.links {
            let payload = link.sent.to_le_bytes();
            if self.session.send(*peer, Lane::Reliable, MessageId(0), &payload).is_ok() {
                link.sent += 1;
            }
            // What does not fit is lost, as on the way.
            let _ = self.session.send(*peer, Lane::Unreliable, MessageId(1), &payload);
        }
        self.session.flush();
    }

    /// Waits for something to arrive.
    pub fn wait(&mut self, time: Duration) {
        self.session.wait(time);
    }
}
