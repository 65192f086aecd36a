//! Runs peer links over WebRTC on a background runtime.
//!
//! A game holds a [`Session`]: it sends, receives and asks for lobbies, and never waits for the
//! network. The other half runs on a [`Network`], a tokio runtime of its own: it keeps the WebSocket
//! to the lobby server, makes connections, stamps packets as they arrive, answers pings, and keeps
//! links alive even while the game loads or is stopped in a debugger.
//!
//! ```no_run
//! use netplay_protocol::{BuildId, GameId, Lane, frame::MessageId, schema::Schema};
//! use netplay_transport::{JoinRequest, LobbyOptions, Network, Polled, SessionConfig, SessionEvent};
//!
//! let network = Network::start()?;
//! let config = SessionConfig::new(GameId::new("my-game")?, BuildId::new("1")?, Schema::default());
//! let mut session = network.open(&config)?;
//! session.join(JoinRequest::Quick(LobbyOptions::public(2)))?;
//! loop {
//!     while let Some(polled) = session.poll() {
//!         match polled {
//!             Polled::Event(SessionEvent::PeerConnected(peer)) => {
//!                 session.send(peer, Lane::Reliable, MessageId(0), b"hello")?;
//!             }
//!             Polled::Event(event) => println!("{event:?}"),
//!             Polled::Packet(packet) => {
//!                 for message in packet.messages() {
//!                     println!("{:?}: {:?}", message.from, message.payload);
//!                 }
//!             }
//!             // Of games with rollback.
//!             Polled::Inputs(_) => {}
//!         }
//!     }
//!     session.flush();
//!     session.wait(std::time::Duration::from_millis(16));
//! }
//! # #[expect(unreachable_code, reason = "an endless example")]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Players can meet in a room of any server that speaks matchbox's protocol instead
//! ([`JoinRequest::Room`]): `config.server` is its address then, and
//! `Room::new(RoomId::new("my-game")?).next(2)` stands for `ws://host:3536/my-game?next=2`. Such a server
//! has no lobbies, codes or sessions; [`netplay_peer::room_client`] says what that means.
//!
//! A [`LinkConditioner`] makes links worse than they are, for trying a game: from the first packet on
//! by [`SessionConfig::conditioner`], or while a link lives by [`Session::condition`].
//!
//! Guaranteed: each lane keeps its promise ([`LaneKind`]) while the link lives; every queue is bounded,
//! with the policies in [`queues`]; the end of a network leaves no thread, task or socket. Not guaranteed: that a reliable message sent just
//! before a link ends arrives.
//!
//! The WebRTC library (`webrtc` 0.21.1) is used with a remedy for each of its measured traps:
//!
//! | trap | remedy here |
//! |---|---|
//! | connecting takes 400 ms | a short check interval, negotiated channels, a few wakes once connected |
//! | a connect takes a second when an ICE check overtakes its candidate | peer-reflexive pairs are taken at once |
//! | a message that arrives before the channel is open is lost, and the channel never opens | the side whose association is established last speaks first |
//! | one lost datagram while connecting costs a second, or hangs the DTLS handshake | the first 16 are sent twice |
//! | some connects under loss hang | a deadline for each step, and a fresh attempt |
//! | the tail of a burst of over 256 messages is parked | messages of one flush share packets; a datagram leaves every 50 ms |
//! | SCTP's window and its timer of a second hold unreliable packets back too | RTP packets of a media track carry datagrams; channel 1 has a lifetime |
//! | two receive buffers of 96 KiB per connection, for offload that games never use | offload is switched off |
//! | bursts overflow the socket's default buffers | our own runtime asks for 4 MiB |
//! | unbounded sending by default | credit for the reliable channel, and a limit on the library's buffer |
//! | a stalled reader throttles all channels | every channel is always read; credit holds the sender back |
//! | a dropped handle leaves its driver running | connections are always closed |
//! | one wake per message | one wake per flush |

#![forbid(unsafe_code)]

mod clock;
mod conditioner;
mod config;
mod event;
pub mod memory;
mod native;
mod outbox;
pub mod queues;
mod session;
mod session_core;
mod stats;
mod timekeeper;

pub use clock::{ClockError, MeshView};
pub use conditioner::LinkConditioner;
pub use config::{Addresses, LOCAL_SERVER, SessionConfig};
pub use event::{CommandError, EndReason, Message, OpenError, SendError, SessionEvent};
pub use native::Network;
pub use netplay_peer::lanes::LaneStats;
pub use netplay_peer::{
    CloseReason, InterruptReason, JoinRequest, LobbyNews, Refused, SavedSession,
};
pub use netplay_protocol::RoomId;
pub use netplay_protocol::lane::{Lane, LaneConfig, LaneKind, LaneTable};
pub use netplay_protocol::lobby::{
    ErrorCode, LeaveReason, LobbyOptions, LobbyState, LobbySummary, ResumeToken, Visibility,
};
pub use netplay_protocol::matchbox::Room;
pub use netplay_simnet::{Conditions, InvalidConditions, Jitter, Loss, Rate, Reorder};
pub use netplay_tick::{MeshStatus, MeshTime, OutOfSync, PairStatus, PathEstimate, StartError};
pub use queues::memory_per_peer;
pub use session::{InboundInputs, InboundPacket, Polled, Session};
pub use stats::LinkStats;
