//! Netplay's wire format: everything that two processes must agree on, and nothing else.
//!
//! | module | what is on the wire |
//! |---|---|
//! | [`ids`] | names of peers, lobbies, games and builds |
//! | [`limits`] | every size and count that a reader enforces, each with its reason |
//! | [`datagram`] | the 16-byte header of datagrams |
//! | [`lane`] | how messages travel, and how a game chooses |
//! | [`frame`] | game messages inside a packet |
//! | [`block`] | runs of messages and fragments inside a datagram |
//! | [`stream`] | packets of channel 2: whole frames, or pieces of a large one |
//! | [`control`] | channel 0: the handshake, credit, goodbye |
//! | [`schema`] | the registered messages of a game, their hash and their differences |
//! | [`codec`] | how a game's own types become bytes |
//! | [`address`] | where a server's WebSockets are |
//! | [`lobby`] | JSON between a player and the lobby server |
//! | [`matchbox`] | JSON between a `matchbox_socket` player and the same server |
//!
//! Guaranteed: decoding any bytes gives a value or an error; it does not panic and allocates at
//! most a small multiple of what [`limits`] allow. Nothing here reads a clock or draws a random
//! number. Not guaranteed: that a decoded value is *true*; a peer may say anything.

#![forbid(unsafe_code)]

pub mod address;
pub mod block;
pub mod codec;
pub mod control;
pub mod cursor;
pub mod datagram;
pub mod frame;
pub mod ids;
pub mod lane;
pub mod limits;
pub mod lobby;
pub mod matchbox;
pub mod schema;
pub mod stream;
pub mod time;

pub use address::{InvalidAddress, ServerAddress};
pub use ids::{AccountId, BuildId, DataKey, GameId, LobbyCode, PeerId, RoleId, RoomId};
pub use lane::{Lane, LaneConfig, LaneKind, LaneTable};
pub use time::{MeshTime, Now};

/// The version of everything in this crate. Peers and servers refuse another one by name.
pub const PROTOCOL_VERSION: u16 = 1;
