//! What a link asks of a WebRTC library, and what it hears back.
//!
//! A *driver* is the shell around such a library. It makes a connection with three pre-negotiated
//! data channels, takes the commands of one connection in order, and reports events. It need not
//! filter: a link ignores the events of connections that it has dropped.

use netplay_protocol::lobby::SignalBody;

/// Names one connection of a link; each attempt has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// The three pre-negotiated data channels, whose numbers are their ids, and the media track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Reliable, ordered: the handshake, credit, goodbye.
    Control = 0,
    /// Unordered, partially reliable.
    Datagrams = 1,
    /// Reliable, ordered: bulk messages.
    Stream = 2,
    /// RTP packets of a media track: datagrams that no congestion window of SCTP holds back. Not
    /// every peer has it.
    Media = 3,
}

impl Channel {
    /// The data channels, in the order of their ids.
    pub const DATA: [Self; 3] = [Self::Control, Self::Datagrams, Self::Stream];
}

/// For the driver. Commands of one connection are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverCommand {
    /// Make a connection and describe it as an offer.
    Offer {
        /// The new connection's name.
        connection: ConnectionId,
    },
    /// Make a connection for this offer and describe it as an answer.
    Answer {
        /// The new connection's name.
        connection: ConnectionId,
        /// The other side's offer, unchecked.
        sdp: String,
    },
    /// The other side's answer, unchecked.
    SetAnswer {
        /// For which connection.
        connection: ConnectionId,
        /// The answer.
        sdp: String,
    },
    /// One candidate of the other side, unchecked.
    AddCandidate {
        /// For which connection.
        connection: ConnectionId,
        /// Always [`SignalBody::Candidate`].
        candidate: SignalBody,
    },
    /// Close the connection and free everything of it.
    Drop {
        /// Which connection.
        connection: ConnectionId,
    },
}

/// How far a connection is between descriptions and open channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// ICE looks for a path.
    Checking,
    /// DTLS handshake.
    Securing,
    /// SCTP handshake and channels.
    OpeningChannels,
}

/// From the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverEvent {
    /// The local description, offer or answer.
    Described {
        /// Of which connection.
        connection: ConnectionId,
        /// The description.
        sdp: String,
    },
    /// A local candidate.
    Candidate {
        /// Of which connection.
        connection: ConnectionId,
        /// Always [`SignalBody::Candidate`].
        candidate: SignalBody,
    },
    /// The connection got further.
    Progress {
        /// Which connection.
        connection: ConnectionId,
        /// What it is busy with now.
        phase: Phase,
    },
    /// All three channels are open.
    ChannelsOpen {
        /// Of which connection.
        connection: ConnectionId,
    },
    /// The connection failed or closed, or could not be made.
    Failed {
        /// Which connection.
        connection: ConnectionId,
        /// Why, for a log.
        why: String,
    },
}

impl DriverEvent {
    /// Whose event it is.
    pub const fn connection(&self) -> ConnectionId {
        match self {
            Self::Described { connection, .. }
            | Self::Candidate { connection, .. }
            | Self::Progress { connection, .. }
            | Self::ChannelsOpen { connection }
            | Self::Failed { connection, .. } => *connection,
        }
    }
}
