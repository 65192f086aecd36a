//! What can go wrong with a lobby.

use netplay_protocol::Lane;
use netplay_protocol::ids::InvalidId;
use netplay_protocol::schema::SchemaError;
use netplay_transport::{CommandError, EndReason, ErrorCode, LeaveReason, OpenError};
use thiserror::Error;

/// Why a player is not in a lobby. All of these are final for the lobby entity: despawn it, and spawn
/// another [`JoinLobby`](crate::JoinLobby) to try again. A server that cannot be reached is not among
/// them: that is [`LobbyOffline`](crate::LobbyOffline), and the plugin keeps trying.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LobbyError {
    /// The lobby server refuses.
    #[error("{text}")]
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: String,
    },
    /// We are not in the lobby any more: its host has put us out, or it is closed.
    #[error("{}", removed(*reason))]
    Removed {
        /// Why.
        reason: LeaveReason,
    },
    /// The server's address is malformed.
    #[error(transparent)]
    Server(#[from] OpenError),
    /// The game id or build id in [`NetplaySettings`](crate::NetplaySettings) breaks its rules.
    #[error("in NetplaySettings: {0}")]
    Settings(#[from] InvalidId),
    /// The registered messages do not make a schema.
    #[error("add_net_message: {0}")]
    Messages(#[from] SchemaError),
    /// A message was registered on a lane that is not defined.
    #[error("{message} is on the {lane} lane, which is not defined: call App::add_lane")]
    NoSuchLane {
        /// The message type.
        message: &'static str,
        /// The lane.
        lane: Lane,
    },
    /// A message with keys was registered on a lane without.
    #[error("{message} has keys, and the {lane} lane is not of the kind LaneKind::Sequenced")]
    NoKeys {
        /// The message type.
        message: &'static str,
        /// The lane.
        lane: Lane,
    },
    /// The system gives no thread for the network.
    #[error("no background thread for the network: {0}")]
    Runtime(String),
    /// The session did not take the command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The session ended by itself.
    #[error(transparent)]
    Ended(#[from] EndReason),
}

const fn removed(reason: LeaveReason) -> &'static str {
    match reason {
        LeaveReason::Kicked => "the host has put us out of the lobby",
        LeaveReason::Banned => "the host has put us out of the lobby for good",
        _ => "the lobby is closed",
    }
}
