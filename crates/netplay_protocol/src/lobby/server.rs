//! What the server says.

use serde::{Deserialize, Serialize};

use super::{
    ErrorCode, LobbyState, LobbySummary, MessageError, ResumeToken, Signal, parse, render,
};
use crate::ids::PeerId;
use crate::limits::LOBBY_MEMBERS_MAX;

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
