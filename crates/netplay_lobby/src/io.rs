//! What goes into a [`Directory`](crate::Directory) and what comes out.

use core::net::IpAddr;

use netplay_protocol::lobby::{ClientMessage, ErrorCode, LobbyState, MessageError, Rejoin};
use netplay_protocol::{AccountId, BuildId, GameId, LobbyCode, PeerId};
use serde::{Deserialize, Serialize};

/// One socket, as the shell names it. The shell never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A socket is open.
    Connected {
        /// Which.
        connection: ConnectionId,
        /// From where, as addresses count: an IPv6 customer has a whole /64. Without it, the limits per address
        /// do not hold.
        address: Option<IpAddr>,
    },
    /// A client said this.
    Message {
        /// On which socket.
        connection: ConnectionId,
        /// What.
        message: ClientMessage,
    },
    /// A client said something that is no message.
    Malformed {
        /// On which socket.
        connection: ConnectionId,
        /// Why it is none.
        error: MessageError,
    },
    /// A socket is closed. Unknown and already closed ones are ignored.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// Who runs the server closes a lobby: its members are put out.
    Close {
        /// Which.
        code: LobbyCode,
    },
    /// Who runs the server puts a member out of its lobby.
    PutOut {
        /// Of which.
        code: LobbyCode,
        /// Whom.
        peer: PeerId,
        /// How it may come back.
        rejoin: Rejoin,
    },
    /// What the shell has found of the JWT in the `hello` that comes next on this socket.
    LoggedIn {
        /// Which.
        connection: ConnectionId,
        /// Who it is, or why it counts for nothing.
        account: Result<AccountId, String>,
    },
    /// Who runs the server does not want this account: its sessions end.
    Ban {
        /// Which.
        account: AccountId,
        /// Until this Unix time, in seconds.
        until: u64,
    },
    /// It may come again.
    Unban {
        /// Which.
        account: AccountId,
    },
    /// It is [`Directory::next_deadline`](crate::Directory::next_deadline) or later.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// Send this frame.
    Send {
        /// On which socket.
        connection: ConnectionId,
        /// The JSON of a [`ServerFrame`](netplay_protocol::lobby::ServerFrame), as UTF-8. A session's log has it
        /// too, until the client confirms it.
        text: &'a [u8],
        /// Of a refusal that is sent for the first time: why.
        refused: Option<ErrorCode>,
    },
    /// Send what is still waiting, then close. The directory has forgotten this connection:
    /// nothing more is sent to it, and what it says is ignored.
    Close {
        /// Which socket.
        connection: ConnectionId,
        /// Why, for programs. After a goodbye, [`ErrorCode::SessionGone`].
        code: ErrorCode,
        /// Why, for people.
        text: String,
    },
}

/// For whom a join ticket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketFor {
    /// Who it shows the player to be.
    pub account: AccountId,
    /// For which game.
    pub game: GameId,
    /// Which lobby it opens, as an invitation of the host does.
    #[serde(default)]
    pub lobby: Option<LobbyCode>,
    /// How long it is good, in seconds; [`Config::ticket_lifetime`](crate::Config::ticket_lifetime) at most,
    /// which it is without.
    #[serde(default)]
    pub secs: Option<u64>,
}

/// How much a [`Directory`](crate::Directory) holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open connections, those without a session included.
    pub connections: usize,
    /// Sessions, those without a connection included.
    pub sessions: usize,
    /// Lobbies.
    pub lobbies: usize,
    /// Accounts that have sessions.
    pub accounts: usize,
    /// Bytes of JSON in the logs of all sessions.
    pub log_bytes: usize,
}

/// A lobby as who runs the server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LobbyView {
    /// Of which game.
    pub game: GameId,
    /// Of which build of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildId>,
    /// As its host sees it.
    #[serde(flatten)]
    pub state: LobbyState,
}
