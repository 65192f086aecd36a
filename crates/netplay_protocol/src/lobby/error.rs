//! Why something is refused.

use serde::{Deserialize, Serialize};
use thiserror::Error;

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
    /// The server lets in only who shows who it is, and this does not.
    #[error("a valid login is needed")]
    Unauthorized,
    /// The account has as many sessions as one may have.
    #[error("the account is in use elsewhere")]
    AccountInUse,
    /// No lobby has this code.
    #[error("no lobby has this code")]
    NoSuchLobby,
    /// The lobby is for another build of the game.
    #[error("the lobby is for another build of the game")]
    WrongBuild,
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
    /// Only the host may do this.
    #[error("only the host may do this")]
    NotHost,
    /// The lobby has a password, and this is not it.
    #[error("the password is wrong, or missing")]
    WrongPassword,
    /// Nobody gets in.
    #[error("the lobby is locked")]
    Locked,
    /// A match runs, and nobody gets in as a player while it does.
    #[error("the match has begun")]
    Playing,
    /// Only who is invited gets in; the invitation is missing, for another lobby, or too old.
    #[error("an invitation is needed")]
    NotInvited,
    /// The host has put the player out, and does not want it back; or who runs the server does not.
    #[error("banned")]
    Banned,
    /// The values have changed more often than the player knew.
    #[error("the values have changed meanwhile")]
    Conflict,
    /// The seat is taken.
    #[error("the seat is taken")]
    SeatTaken,
    /// It does not fit what goes on in the lobby: a ready check or a countdown runs, or does not.
    #[error("not now")]
    NotNow,
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

impl ErrorCode {
    /// With which code a WebSocket is closed for this reason: RFC 6455's where it has one, else 4000 and up.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::SessionGone => 1000,
            Self::Order => 1002,
            Self::RateLimited | Self::Malformed => 1008,
            Self::ServerFull | Self::LobbyFull => 1013,
            Self::Version => 4001,
            Self::Superseded => 4002,
            Self::TooSlow => 4003,
            Self::Unauthorized => 4004,
            Self::AccountInUse => 4005,
            Self::Banned => 4006,
            // No connection ends for these.
            _ => 4000,
        }
    }
}

/// Why a JSON message was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// More bytes than [`LOBBY_MESSAGE_MAX`](crate::limits::LOBBY_MESSAGE_MAX) of a player, or
    /// [`LOBBY_FRAME_MAX`](crate::limits::LOBBY_FRAME_MAX) of the server.
    #[error("the message has {0} bytes, which is too many")]
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
