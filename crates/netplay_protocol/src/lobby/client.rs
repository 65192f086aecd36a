//! What a player says.

use serde::{Deserialize, Serialize};

use super::{LobbyOptions, MessageError, Signal, parse, render};
use crate::ids::{GameId, LobbyCode, PeerId};

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
