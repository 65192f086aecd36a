//! What goes into a lobby client, and what comes out.

use core::time::Duration;

use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, LeaveReason, LobbyOptions, LobbyState, LobbySummary, ResumeToken,
    Search, Signal,
};
use netplay_protocol::matchbox::Room;
use netplay_protocol::{LobbyCode, PeerId};

use super::requests::LobbyNews;

/// Where a player wants to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinRequest {
    /// A new one.
    Create(LobbyOptions),
    /// The one with this code.
    Code(LobbyCode),
    /// Any public one of this capacity, or a new one.
    Quick(LobbyOptions),
    /// With everything that the others leave out: `create`, `join` or `quick_join`, with any number.
    Ask(Box<ClientMessage>),
    /// No lobby, but a room on a server that speaks matchbox's protocol; see
    /// [`room_client`](crate::room_client) for what it cannot do.
    Room(Room),
}

/// With what a game that is started anew takes up its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSession {
    /// Who we are.
    pub peer: PeerId,
    /// Its secret.
    pub token: ResumeToken,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LobbyInput {
    /// Connect and join.
    Join(JoinRequest),
    /// Ask for public lobbies.
    Search(Search),
    /// Ask for something in our lobby.
    Request {
        /// The game's number for it.
        id: u64,
        /// What, with any number. What enters a lobby or ends the session is not meant.
        message: Box<ClientMessage>,
    },
    /// Leave the lobby and end the session; the socket closes.
    Leave,
    /// Hand this to another member.
    Signal {
        /// The receiver.
        to: PeerId,
        /// What.
        signal: Signal,
    },
    /// Tell the server that our link to a member is lost.
    ReportLost(PeerId),
    /// Our link to a member is established, or not any more.
    Linked {
        /// Whose.
        peer: PeerId,
        /// Which.
        linked: bool,
    },
    /// The socket is open.
    SocketOpened,
    /// A text frame arrived.
    SocketText(String),
    /// The socket closed or could not be opened; why, for people.
    SocketClosed(String),
    /// A link is silent: the socket may be dead too.
    Doubt,
    /// This machine has other addresses than before: the socket is as good as dead.
    NetworkChanged,
    /// Time passed.
    Tick,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LobbyOutput {
    /// Open a socket to the server; answer with opened or closed.
    OpenSocket,
    /// Send a text frame.
    SendText(String),
    /// Close the socket, after what was sent. No answer needed.
    CloseSocket,
    /// For the mesh.
    Event(LobbyEvent),
}

/// What the mesh hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LobbyEvent {
    /// The server has a session for us.
    Online {
        /// Our id.
        me: PeerId,
    },
    /// The server cannot be reached; we try again.
    Offline {
        /// Why, for people.
        why: String,
        /// When we try again, from now. [`Duration::MAX`]: not while links live; see
        /// [`room_client`](crate::room_client).
        retry_in: Duration,
    },
    /// We are in a lobby.
    Joined(LobbyState),
    /// The server is back, and we are still in our lobby, of which this is known there.
    Restored(LobbyState),
    /// With what a game that is started anew takes up this session from now on.
    Saved(SavedSession),
    /// We are not let into the lobby; we do not try again by ourselves.
    JoinRefused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: String,
    },
    /// The server no longer knows the lobby that we are in.
    LobbyGone,
    /// We are put out of the lobby, or it is closed.
    Removed(LeaveReason),
    /// Public lobbies.
    Lobbies {
        /// Those that fit, in the order that was asked for.
        lobbies: Vec<LobbySummary>,
        /// Whether others come after these.
        more: bool,
    },
    /// The lobby that we are in is another now.
    Changed(LobbyState),
    /// Something happened in it, or was answered.
    News(LobbyNews),
    /// A member joined, in this start of its game.
    MemberJoined(PeerId, u32),
    /// A member is gone.
    MemberLeft(PeerId, LeaveReason),
    /// The server lost its connection to a member.
    MemberOffline(PeerId),
    /// The server has one again, to this start of its game.
    MemberOnline(PeerId, u32),
    /// Another host.
    HostChanged(PeerId),
    /// From another member.
    Signal(PeerId, Signal),
}
