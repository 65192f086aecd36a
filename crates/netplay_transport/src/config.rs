//! What a session needs to know.

use core::time::Duration;

use netplay_peer::link::liveness::LivenessConfig;
use netplay_peer::{LinkConfig, SavedSession};
use netplay_protocol::codec::{Bincode, Codec};
use netplay_protocol::control::{Hello, LinkPoint, carriers, lane_entries};
use netplay_protocol::lobby::Login;
use netplay_protocol::schema::Schema;
use netplay_protocol::{
    BuildId, GameId, InvalidAddress, LaneTable, PROTOCOL_VERSION, ServerAddress,
};

use crate::clock::ClockError;
use crate::conditioner::LinkConditioner;
use crate::event::OpenError;

/// The address of a lobby server on this machine, as `netplay-server` listens by default.
pub const LOCAL_SERVER: &str = "ws://127.0.0.1:3536";

/// Which of this machine's addresses other players may connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Every network interface, and loopback for players on the same machine.
    #[default]
    All,
    /// Loopback only: all players run on this machine.
    Loopback,
}

impl Addresses {
    pub(crate) fn to_bind(self) -> Vec<String> {
        let addresses: &[&str] = match self {
            // A wildcard stands for every interface but loopback.
            Self::All => &["0.0.0.0:0", "[::]:0", "127.0.0.1:0"],
            Self::Loopback => &["127.0.0.1:0"],
        };
        addresses.iter().map(|address| (*address).to_owned()).collect()
    }
}

/// What a session needs to know about the game and the network.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The lobby server, or the matchbox server of a room: `ws://HOST[:PORT]`, with port 3536 if none is given, or
    /// `wss://HOST[:PORT]` by TLS, with port 443.
    pub server: String,
    /// Certificates to trust besides those of the authorities that browsers know, in PEM: the one of an authority
    /// of your own, or the server's if it has signed that itself. `None` by default. For `wss` only.
    pub trusted_certificates: Option<Vec<u8>>,
    /// Which game. Players of different games never meet.
    pub game: GameId,
    /// Which build of it. Players of different builds refuse each other.
    pub build: BuildId,
    /// The game's messages.
    pub schema: Schema,
    /// The game's lanes. Their kinds have to be equal on all peers.
    pub lanes: LaneTable,
    /// The codec of the messages' payloads.
    pub codec: u8,
    /// Which of this machine's addresses other players may connect to.
    pub addresses: Addresses,
    /// Whether datagrams may ride on a media track, between two native peers that both may; true by
    /// default. Without, they ride on a data channel, as they do towards browsers.
    pub media: bool,
    /// What is wrong with our clock, to try what a game does then; nothing by default. Not on a
    /// [`MemoryNetwork`](crate::memory::MemoryNetwork).
    pub clock_error: Option<ClockError>,
    /// Silence after which a peer is reported as interrupted; 1 s by default.
    pub interrupted_after: Duration,
    /// Silence after which a peer is lost; 15 s by default.
    pub lost_after: Duration,
    /// Silence after which a peer is lost whose connection to the lobby server is closed too; 2 s
    /// by default.
    pub lost_after_offline: Duration,
    /// Bad conditions for the links to all peers, from the first packet on; none by default.
    /// [`Session::condition`](crate::Session::condition) changes them for one peer.
    pub conditioner: Option<LinkConditioner>,
    /// With which we show the lobby server who we are, if it wants to know; nothing by default.
    pub login: Option<Login>,
    /// The session of an earlier start of this game, to be taken up with its id and its lobby.
    pub resume: Option<SavedSession>,
}

impl SessionConfig {
    /// A session of this game on a server of this machine, with the defaults for the rest.
    pub fn new(game: GameId, build: BuildId, schema: Schema) -> Self {
        let liveness = LivenessConfig::default();
        Self {
            server: LOCAL_SERVER.into(),
            trusted_certificates: None,
            game,
            build,
            schema,
            lanes: LaneTable::default(),
            codec: Bincode::ID,
            addresses: Addresses::default(),
            media: true,
            interrupted_after: liveness.interrupted_after,
            lost_after: liveness.lost_after,
            lost_after_offline: liveness.lost_after_offline,
            conditioner: None,
            login: None,
            resume: None,
            clock_error: None,
        }
    }

    pub(crate) fn link_config(&self) -> LinkConfig {
        LinkConfig {
            hello: Hello {
                version: PROTOCOL_VERSION,
                codec: self.codec,
                game: self.game.clone(),
                build: self.build.clone(),
                schema_hash: self.schema.hash(),
                lanes: lane_entries(&self.lanes),
                carriers: carriers::DATA_CHANNEL,
                link: LinkPoint::default(),
            },
            schema: self.schema.clone(),
            lanes: self.lanes.clone(),
            liveness: LivenessConfig {
                interrupted_after: self.interrupted_after,
                lost_after: self.lost_after,
                lost_after_offline: self.lost_after_offline,
            },
        }
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> Result<ServerAddress, OpenError> {
        let wrong = |InvalidAddress { url, why }| OpenError::Url { url, why: why.to_owned() };
        self.server.parse().map_err(wrong)
    }
}
