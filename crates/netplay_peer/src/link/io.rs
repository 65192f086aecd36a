//! What goes into a link and what comes out.

use core::time::Duration;

use netplay_protocol::control::{Hello, Mismatch, PauseMessage, StartMessage};
use netplay_protocol::datagram::{ClockLine, ClockNote, Departure, HEADER_LEN};
use netplay_protocol::lobby::Signal;
use netplay_protocol::schema::Schema;
use netplay_protocol::{LaneTable, Now};
use thiserror::Error;

use super::driver::{Channel, ConnectionId, DriverCommand, DriverEvent};
use super::liveness::LivenessConfig;
use super::negotiation::{LINK_DEADLINE, Step};

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The other player left on purpose.
    #[error("the player left")]
    Left,
    /// Nothing was heard for too long, or the connection broke.
    #[error("the connection was lost")]
    Lost,
    /// No connection could be made in time.
    #[error("no connection within {LINK_DEADLINE:?}: still waiting for {0}")]
    ConnectTimeout(Step),
    /// The two games do not fit.
    #[error("{0}")]
    Refused(Mismatch),
    /// The other game refuses ours.
    #[error("the other game refuses: {0}")]
    RefusedByPeer(String),
    /// The other side broke the protocol.
    #[error("the other side broke the protocol: {0}")]
    Violation(&'static str),
    /// The other side began anew.
    #[error("the other side began a new connection")]
    Replaced,
    /// The other player's game was started anew.
    #[error("the player's game was started anew")]
    Restarted,
    /// We ended it.
    #[error("we left")]
    Ended,
}

/// Why nothing is heard on a link that lives, as far as is known when it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InterruptReason {
    /// Nothing but the silence is known: a dead path, or a game that was stopped.
    #[error("nothing is heard")]
    Silence,
    /// The connection failed; another one is tried.
    #[error("the connection failed")]
    ConnectionFailed,
    /// The lobby server has lost its connection to the player too: its game or its network is gone.
    #[error("the lobby server has lost the player too")]
    Offline,
}

/// What all links of a game share.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// What we say first.
    pub hello: Hello,
    /// The game's message types.
    pub schema: Schema,
    /// The game's lanes; `hello` names them.
    pub lanes: LaneTable,
    /// How long silence may last.
    pub liveness: LivenessConfig,
}

/// What can happen to a link.
#[derive(Debug)]
pub enum LinkInput {
    /// Begin to connect.
    Start,
    /// From the other member, through the lobby server.
    Signal(Signal),
    /// From the driver.
    Driver(DriverEvent),
    /// A packet arrived.
    Packet {
        /// On which connection; packets of an earlier one are dropped.
        connection: ConnectionId,
        /// On which channel.
        channel: Channel,
        /// Its bytes.
        packet: Vec<u8>,
    },
    /// Our game sends these frames, on lanes that ride in datagrams. They leave with the next flush.
    Send(Vec<u8>),
    /// A rollback session tells its inputs with the next flush. Inputs that have not left are
    /// superseded.
    Inputs(InputBlock),
    /// Our game has said what it had to say for now.
    Flush,
    /// A packet's buffer that was sent.
    Recycle(Vec<u8>),
    /// Our game sends a packet of channel 2. Ask [`Link::can_send_stream`](super::Link::can_send_stream) first.
    SendStream(Vec<u8>),
    /// Measure the round trip now.
    Ping,
    /// Our game has consumed this much since the link was made.
    Consumed {
        /// Of channel 2.
        stream: u64,
        /// Of reliable lanes in datagrams.
        reliable: u64,
    },
    /// Where our copy of the mesh clock stands, for the other side; `None`: there is none. Without this
    /// input nothing is said about clocks.
    Clock(Option<ClockLine>),
    /// Say this about the start of a match.
    Match(StartMessage),
    /// Say this about a pause of the match.
    Pause(PauseMessage),
    /// This machine has other addresses than before.
    NetworkChanged,
    /// The lobby server lost (`true`) or regained its connection to the member.
    Offline(bool),
    /// End the link, for this reason.
    Close(CloseReason),
    /// Time passed.
    Tick,
}

/// What a rollback session tells at one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputBlock {
    /// The low bits of its newest tick.
    pub tick: u16,
    /// At most [`INPUTS_MAX`](netplay_protocol::limits::INPUTS_MAX) bytes that only the session knows.
    pub bytes: Vec<u8>,
    /// After how long it goes into a second datagram, if at all.
    pub again: Option<Duration>,
}

/// A packet to send: bare headers need no buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet {
    /// A header without frames.
    Bare([u8; HEADER_LEN]),
    /// Anything else. The buffer goes back to its pool when it was sent.
    Full(Vec<u8>),
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bare(bytes) => bytes,
            Self::Full(bytes) => bytes,
        }
    }
}

/// What a link wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkOutput {
    /// For the driver.
    Driver(DriverCommand),
    /// For the other member, through the lobby server.
    Signal(Signal),
    /// Send this.
    Transmit {
        /// On which connection.
        connection: ConnectionId,
        /// On which channel.
        channel: Channel,
        /// What.
        packet: Packet,
    },
    /// What a datagram tells about the other side's clock.
    Clock(ClockSample),
    /// For the game.
    Event(LinkEvent),
    /// A packet's buffer that is no longer needed, for a pool.
    Unused(Vec<u8>),
}

/// What a datagram tells about its sender's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// When it arrived, on our clock.
    pub arrived: Now,
    /// When it left, on theirs.
    pub departure: Departure,
    /// Of the datagram of ours that it is the first to confirm: when that left, on our clock, and how
    /// long ago it had arrived there.
    pub echo: Option<(Now, Duration)>,
    /// Where its sender's copy of the mesh clock stands, if it says so; `None` inside: it has none.
    pub note: Option<Option<ClockNote>>,
}

/// What a game hears of a link.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Messages can be sent and will be received.
    Established,
    /// Nothing heard for a while.
    Interrupted {
        /// Why, as far as is known.
        reason: InterruptReason,
        /// For so long until now.
        silence: Duration,
    },
    /// Heard again, perhaps on another connection.
    Resumed {
        /// After so long.
        silence: Duration,
    },
    /// Over.
    Closed(CloseReason),
    /// The other side says this about the start of a match.
    Match(StartMessage),
    /// The other side says this about a pause of the match.
    Pause(PauseMessage),
    /// Game messages, checked.
    Deliver(Delivery),
    /// The other side's rollback session tells its inputs.
    Inputs {
        /// The low bits of their newest tick.
        tick: u16,
        /// What only the session knows.
        bytes: Vec<u8>,
        /// Whether another datagram had them too.
        again: bool,
    },
    /// The answer to a ping.
    Pong(Duration),
}

/// Game messages that arrived in one packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whether their sender waits until they are consumed.
    pub reliable: bool,
    /// When they arrived.
    pub arrived: Now,
    /// Holds the frames.
    pub packet: Vec<u8>,
    /// Where the frames begin.
    pub offset: usize,
    /// What to count as consumed once the game has read them; zero for lossy lanes.
    pub cost: u64,
    /// Whether it counts for channel 2.
    pub stream: bool,
}
