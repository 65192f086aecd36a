//! JSON between a player and the lobby server: one object per WebSocket text frame.
//!
//! The player sends [`ClientMessage`]s, [`ClientMessage::Hello`] first. The server sends
//! [`ServerFrame`]s, numbered from 1 within the player's session, so that a resumed session misses
//! none and repeats none; number 0 is outside of that.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{GameId, LobbyCode, PeerId};
use crate::limits::{CANDIDATE_MAX, LOBBY_MEMBERS_MAX, LOBBY_MESSAGE_MAX, LOBBY_NAME_MAX, SDP_MAX};

/// The path of the lobby's WebSocket.
pub const PATH: &str = "/netplay/v1";

/// The secret with which a session is taken up again: after a dropped socket, after a restart of the
/// game, and after a restart of the server, which reads in it what it has to know. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResumeToken(pub String);

impl core::fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ResumeToken(…)")
    }
}

/// Which session to take up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The session's peer id.
    pub peer: PeerId,
    /// Its secret.
    pub token: ResumeToken,
    /// The number of the last frame that arrived.
    pub seen: u64,
    /// The game was started anew: it knows nothing of the session but this.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub restart: bool,
}

/// What a new lobby is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyOptions {
    /// Members at most, 1 to [`LOBBY_MEMBERS_MAX`].
    pub capacity: u8,
    /// Whether quick join and lists may find it.
    pub public: bool,
    /// What lists show; may be empty.
    #[serde(default)]
    pub name: String,
    /// Seconds for which the seat of a member that vanished is kept, at least the server's grace time. 0:
    /// for that, and not at all once everybody has lost it.
    #[serde(default)]
    pub seat_secs: u16,
}

/// What a player says to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// First message: who I am.
    Hello {
        /// [`crate::PROTOCOL_VERSION`].
        protocol: u16,
        /// Which game's lobbies.
        game: GameId,
        /// The session to take up again, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<Resume>,
    },
    /// Create a lobby and be its host.
    Create {
        /// Chosen by the player, repeated in the answer.
        request: u32,
        /// What it is like.
        options: LobbyOptions,
    },
    /// Join the lobby with this code.
    Join {
        /// Chosen by the player, repeated in the answer.
        request: u32,
        /// The lobby's code.
        code: LobbyCode,
    },
    /// Join a public lobby with this capacity, or create one; atomic.
    QuickJoin {
        /// Chosen by the player, repeated in the answer.
        request: u32,
        /// What it is like if it has to be created; its capacity is looked for.
        options: LobbyOptions,
    },
    /// Show public lobbies with free seats.
    List {
        /// Chosen by the player, repeated in the answer.
        request: u32,
    },
    /// Leave the lobby.
    Leave {
        /// Chosen by the player, repeated in the answer.
        request: u32,
    },
    /// Hand this to another member of my lobby.
    Signal {
        /// The receiver.
        to: PeerId,
        /// Passed on as it is.
        signal: Signal,
    },
    /// I have lost my link to this member.
    ReportLost {
        /// The member.
        peer: PeerId,
    },
    /// I am here, and have received every frame up to this one. The answer is
    /// [`ServerMessage::Alive`].
    KeepAlive {
        /// The number of the last frame that arrived.
        seen: u64,
    },
    /// I will not come back: end my session.
    Goodbye,
}

/// A member of a lobby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub peer: PeerId,
    /// Whether the server has a connection to it now.
    pub online: bool,
    /// Which start of its game this is; counts up.
    pub epoch: u32,
}

/// Which session a player has after its hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// A new one, with another id than any before.
    New,
    /// The one that was asked for; the missed frames follow.
    Continued,
    /// The one that was asked for, as far as it is known: the game or the server was started anew.
    /// Frames count from 1 again, and the lobby is in the welcome.
    Restored,
}

/// A lobby as its members see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyState {
    /// Its code.
    pub code: LobbyCode,
    /// What it is like.
    pub options: LobbyOptions,
    /// The member that leads it.
    pub host: PeerId,
    /// All members, the receiver included, in the order in which they joined.
    pub members: Vec<Member>,
}

/// A lobby as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbySummary {
    /// Its code.
    pub code: LobbyCode,
    /// Its name.
    pub name: String,
    /// Members now.
    pub members: u8,
    /// Members at most.
    pub capacity: u8,
}

/// Why a member is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// It left on purpose.
    Left,
    /// It did not come back within the grace time.
    TimedOut,
    /// Every other member lost it while the server had no connection to it.
    Lost,
}

/// Why the server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not JSON, not a known message, or against a rule of its fields.
    #[error("malformed message")]
    Malformed,
    /// Another protocol version.
    #[error("protocol version not supported")]
    Version,
    /// `hello` must come first, and once.
    #[error("hello must come first, and once")]
    Order,
    /// No lobby has this code.
    #[error("no lobby has this code")]
    NoSuchLobby,
    /// The lobby has no free seat.
    #[error("the lobby is full")]
    LobbyFull,
    /// The player is in a lobby already.
    #[error("already in a lobby")]
    AlreadyInLobby,
    /// The player is in no lobby.
    #[error("not in a lobby")]
    NotInLobby,
    /// The receiver is no member of the player's lobby.
    #[error("no such member in this lobby")]
    NoSuchMember,
    /// Too many messages; the socket may be closed.
    #[error("too many messages")]
    RateLimited,
    /// The server is at one of its limits.
    #[error("the server is full")]
    ServerFull,
    /// The lobby is coming back after a restart of the server: its members first.
    #[error("the lobby is coming back: its members first")]
    NotYet,
    /// The session cannot be resumed: start a new one.
    #[error("the session cannot be resumed")]
    SessionGone,
    /// The session was taken up by a newer connection.
    #[error("the session continues on another connection")]
    Superseded,
    /// The player did not read fast enough.
    #[error("the connection was too slow")]
    TooSlow,
    /// A code of a newer server.
    #[error("an error this version does not know")]
    #[serde(other)]
    Other,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answer to `hello`. Its frame has number 0.
    Welcome {
        /// The player's id.
        peer: PeerId,
        /// The secret for a resume.
        token: ResumeToken,
        /// Whether this is the session that was asked for.
        session: SessionKind,
        /// Of a restored session: the lobby that the player is in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lobby: Option<LobbyState>,
        /// How long a session outlives its connection, in milliseconds.
        grace_ms: u32,
        /// How often the server wants to hear from the player at least, in milliseconds.
        keep_alive_ms: u32,
    },
    /// Answer to `create`, `join` and `quick_join`.
    Joined {
        /// The player's number for it.
        request: u32,
        /// The lobby, the player included.
        lobby: LobbyState,
    },
    /// Answer to `list`.
    Lobbies {
        /// The player's number for it.
        request: u32,
        /// Public lobbies with free seats, fullest first.
        lobbies: Vec<LobbySummary>,
    },
    /// Answer to `leave`.
    Left {
        /// The player's number for it.
        request: u32,
    },
    /// Another member joined.
    MemberJoined {
        /// Who.
        peer: PeerId,
        /// Which start of its game this is.
        epoch: u32,
    },
    /// Another member is gone.
    MemberLeft {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: LeaveReason,
    },
    /// The server lost its connection to a member; the member may come back.
    MemberOffline {
        /// Who.
        peer: PeerId,
    },
    /// The member's connection is back, or its game was started anew.
    MemberOnline {
        /// Who.
        peer: PeerId,
        /// Which start of its game this is.
        epoch: u32,
    },
    /// Another member leads the lobby now.
    HostChanged {
        /// Who.
        host: PeerId,
    },
    /// From another member.
    Signal {
        /// The sender, as the server knows it.
        from: PeerId,
        /// As it was sent.
        signal: Signal,
    },
    /// The secret for a resume from now on; the ones before stay valid for a while.
    Token {
        /// The secret.
        token: ResumeToken,
    },
    /// Answer to `keep_alive`, so that a player notices a server that has gone silent. Its frame has
    /// number 0.
    Alive,
    /// Something was refused.
    Error {
        /// The player's number for what was refused, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<u32>,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: String,
        /// When trying again makes sense, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u32>,
    },
}

/// A numbered message of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFrame {
    /// Counts up from 1 within a session; 0 for what belongs to the connection and not to the session:
    /// `welcome`, `alive`, errors before `welcome`, and the error before the server closes.
    pub seq: u64,
    /// What it says.
    pub message: ServerMessage,
}

/// What two peers tell each other through the server to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Which attempt to connect; counts up from 1.
    pub attempt: u32,
    /// What.
    pub body: SignalBody,
}

/// The content of a [`Signal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SignalBody {
    /// An SDP offer.
    Offer {
        /// The session description.
        sdp: String,
    },
    /// An SDP answer.
    Answer {
        /// The session description.
        sdp: String,
    },
    /// One ICE candidate.
    Candidate {
        /// The candidate line, as RFC 8839 writes it.
        candidate: String,
        /// The media section it belongs to, by name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mid: Option<String>,
        /// The media section it belongs to, by place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mline: Option<u16>,
    },
    /// I end the link. The number is that of the last attempt that I know of.
    Bye,
    /// I have given up the link: nothing was heard for too long. The number is as in `Bye`.
    Lost,
    /// I end this attempt; the link lives on.
    Withdraw,
}

/// Why a JSON message was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// More than [`LOBBY_MESSAGE_MAX`] bytes.
    #[error("the message has {0} bytes; {LOBBY_MESSAGE_MAX} are allowed")]
    TooLarge(usize),
    /// Not JSON, or not a known message.
    #[error("the message is malformed: {0}")]
    Json(String),
    /// A field is out of its range.
    #[error("{field} is out of its range")]
    Range {
        /// Which field.
        field: &'static str,
    },
}

impl LobbyOptions {
    /// A lobby that quick join and lists find, without a name, where seats are not kept.
    pub const fn public(capacity: u8) -> Self {
        Self { capacity, public: true, name: String::new(), seat_secs: 0 }
    }

    /// A lobby that is joined by code, without a name, where seats are not kept.
    pub const fn private(capacity: u8) -> Self {
        Self { capacity, public: false, name: String::new(), seat_secs: 0 }
    }

    /// The seat of a member that vanished is kept for so long.
    #[must_use]
    pub fn keep_seats(self, seconds: u16) -> Self {
        Self { seat_secs: seconds, ..self }
    }

    /// Checks capacity and name.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        if self.capacity == 0 || self.capacity > LOBBY_MEMBERS_MAX {
            return Err(MessageError::Range { field: "capacity" });
        }
        if self.name.len() > LOBBY_NAME_MAX || self.name.chars().any(char::is_control) {
            return Err(MessageError::Range { field: "name" });
        }
        Ok(())
    }
}

impl Signal {
    /// Checks the sizes of SDP and candidate.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        match &self.body {
            SignalBody::Offer { sdp } | SignalBody::Answer { sdp } if sdp.len() > SDP_MAX => {
                Err(MessageError::Range { field: "sdp" })
            }
            SignalBody::Candidate { candidate, mid, .. }
                if candidate.len() > CANDIDATE_MAX
                    || mid.as_ref().is_some_and(|mid| mid.len() > 64) =>
            {
                Err(MessageError::Range { field: "candidate" })
            }
            _ => Ok(()),
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, MessageError> {
    if text.len() > LOBBY_MESSAGE_MAX {
        return Err(MessageError::TooLarge(text.len()));
    }
    serde_json::from_str(text).map_err(|error| MessageError::Json(error.to_string()))
}

fn render<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys and no failing Serialize")
}

impl ClientMessage {
    /// Reads and checks one message.
    ///
    /// # Errors
    /// [`MessageError`]: too large, malformed, or a field out of its range.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        let message = parse(text)?;
        match &message {
            Self::Create { options, .. } | Self::QuickJoin { options, .. } => options.check()?,
            Self::Signal { signal, .. } => signal.check()?,
            _ => {}
        }
        Ok(message)
    }

    /// Writes the message.
    pub fn to_json(&self) -> String {
        render(self)
    }
}

impl ServerFrame {
    /// Reads and checks one frame. A list of lobbies is what is largest, and it is bounded too.
    ///
    /// # Errors
    /// [`MessageError`]: too large, malformed, or a field out of its range.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        let frame: Self = parse(text)?;
        match &frame.message {
            ServerMessage::Joined { lobby, .. }
            | ServerMessage::Welcome { lobby: Some(lobby), .. } => {
                lobby.options.check()?;
                if lobby.members.len() > usize::from(LOBBY_MEMBERS_MAX) {
                    return Err(MessageError::Range { field: "members" });
                }
            }
            ServerMessage::Signal { signal, .. } => signal.check()?,
            _ => {}
        }
        Ok(frame)
    }

    /// Writes the frame.
    pub fn to_json(&self) -> String {
        render(self)
    }
}

#[cfg(test)]
mod tests;
