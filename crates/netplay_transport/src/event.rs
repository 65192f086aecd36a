//! What a game hears from its session, and what it can get wrong.

use core::time::Duration;

use netplay_peer::{CloseReason, InterruptReason, LobbyNews, SavedSession};
use netplay_protocol::lobby::{ErrorCode, LeaveReason, LobbyState, LobbySummary};
use netplay_protocol::{Lane, MeshTime, Now, PeerId};
use netplay_tick::{Pause, StartError};
use thiserror::Error;

/// Something that happened; see [`Session::poll`](crate::Session::poll).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The lobby server has a session for us.
    Online {
        /// Our id.
        me: PeerId,
    },
    /// The lobby server cannot be reached; we try again. A running match goes on.
    Offline {
        /// Why, for people.
        why: String,
        /// When we try again, from now. [`Duration::MAX`]: not while a link lives, as a room on a matchbox
        /// server knows no resume.
        retry_in: Duration,
    },
    /// We are in a lobby.
    Joined(LobbyState),
    /// The server is back, perhaps started anew; we are in our lobby, as far as it is known there by now.
    /// Members who are not in it yet may come back too.
    Restored(LobbyState),
    /// With what a game that is started anew takes up this session, from now on: for
    /// [`SessionConfig::resume`](crate::SessionConfig::resume). A secret.
    Saved(SavedSession),
    /// We are not let in. The session stays; the game may ask again.
    JoinRefused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: String,
    },
    /// The server no longer knows our lobby. Links live on; we ask for the lobby by its code.
    LobbyGone,
    /// We are put out of the lobby, or it is closed; links end. The session stays, and may ask for another.
    Removed(LeaveReason),
    /// The answer to [`Session::search`](crate::Session::search).
    Lobbies {
        /// Those that fit, in the order that was asked for.
        lobbies: Vec<LobbySummary>,
        /// Whether others come after these.
        more: bool,
    },
    /// Our lobby is another now: members, values, what it is like.
    LobbyChanged(LobbyState),
    /// Something happened in our lobby, or a request is answered.
    LobbyNews(LobbyNews),
    /// Another member leads the lobby.
    HostChanged(PeerId),
    /// Another member is there; a link to it is being made.
    PeerFound(PeerId),
    /// Messages to this peer can be sent and will be received.
    PeerConnected(PeerId),
    /// Nothing was heard from this peer for a while.
    PeerInterrupted {
        /// Who.
        peer: PeerId,
        /// Why, as far as is known.
        reason: InterruptReason,
        /// For how long until now.
        silence: Duration,
    },
    /// It was heard again.
    PeerResumed {
        /// Who.
        peer: PeerId,
        /// For how long nothing was heard.
        silence: Duration,
    },
    /// The link to this peer is over; it was connected before or not.
    PeerClosed {
        /// Whose.
        peer: PeerId,
        /// Why.
        reason: CloseReason,
    },
    /// The lobby server has lost its connection to the member: its process ended, or its network is gone.
    /// Its link may live on.
    PeerOffline(PeerId),
    /// The lobby server has a connection to the member again.
    PeerOnline(PeerId),
    /// The member left the lobby. Its link has ended by then.
    PeerLeft {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: LeaveReason,
    },
    /// The answer to [`Session::ping`](crate::Session::ping), measured between network threads.
    Pong {
        /// By whom.
        peer: PeerId,
        /// The round trip.
        rtt: Duration,
    },
    /// A match begins.
    MatchBegins {
        /// Tick 0 is at this instant of the clock that all share.
        start: MeshTime,
        /// The others play already: we were not there when it was agreed on.
        running: bool,
    },
    /// All players agreed on a pause of the match, or on its end.
    MatchPause(Pause),
    /// The match that we wanted to start does not begin.
    StartFailed(StartError),
    /// The session is over by itself.
    Ended(EndReason),
}

/// Why a session ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The game did not look at its events for so long that they would grow without bound.
    #[error("the game did not read its events")]
    EventsOverflowed,
    /// The session goes on in another start of the game: the newest one counts.
    #[error("the session goes on in another start of this game")]
    Superseded,
    /// The network thread of the session failed; a bug of ours.
    #[error("the network task failed")]
    TaskFailed,
}

/// A message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// From whom.
    pub from: PeerId,
    /// On which lane.
    pub lane: Lane,
    /// When its packet arrived, stamped by the network thread on the session's clock.
    pub arrived: Now,
    /// Which message type.
    pub id: netplay_protocol::frame::MessageId,
    /// The encoded message.
    pub payload: &'a [u8],
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// No established link to this peer.
    #[error("no connection to this player")]
    NotConnected,
    /// More bytes than the lane carries.
    #[error("the message has {len} bytes; the {lane} lane carries {max}")]
    TooLarge {
        /// Encoded size in bytes.
        len: usize,
        /// The lane's limit in bytes.
        max: usize,
        /// The lane.
        lane: Lane,
    },
    /// More bytes of inputs than a datagram has room for.
    #[error("the inputs have {len} bytes; a datagram has room for {max}")]
    InputsTooLarge {
        /// Their size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The game has not defined this lane.
    #[error("the {lane} lane is not defined: add it to the lanes of the session")]
    NoSuchLane {
        /// The lane.
        lane: Lane,
    },
    /// Only sequenced lanes have keys.
    #[error("the {lane} lane has no keys: only on sequenced lanes the newest of each key wins")]
    NoKeys {
        /// The lane.
        lane: Lane,
    },
    /// Too many reliable messages wait: the peer's game does not read, or the path is too slow.
    /// Send less, or try again later; nothing was queued.
    #[error("the queue of reliable messages to this player is full")]
    QueueFull,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Too many commands wait for the network thread.
    #[error("too many commands wait")]
    Busy,
    /// The session is over.
    #[error("the session is over")]
    Ended,
}

/// Why no session could be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The lobby server's address is no WebSocket URL.
    #[error("{url:?} is no lobby server address: {why}; it looks like ws://192.168.1.20:3536")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// [`SessionConfig::trusted_certificates`](crate::SessionConfig::trusted_certificates) cannot be used.
    #[error("the certificates to trust cannot be used: {0}")]
    Certificate(String),
}
