//! One player's view of the network, as pure state machines.
//!
//! [`Mesh`] is the whole of it: a [`lobby_client::LobbyClient`] that keeps the WebSocket to the lobby
//! server up (or a [`room_client::RoomClient`] for a room of a matchbox server), and one [`link::Link`] per other member that negotiates a connection, exchanges the
//! handshake, numbers and acknowledges datagrams, and notices when the other side is gone. What rides
//! in the datagrams is the business of [`lanes::Lanes`].
//!
//! Nothing here reads a clock, opens a socket, starts a thread or draws a random number. Every
//! machine is driven the same way:
//!
//! 1. `handle(now, input)`;
//! 2. `poll_output()` until it gives `None`, doing what each output says;
//! 3. at `next_deadline()`, `handle(now, Tick)`.
//!
//! A shell does the I/O: `netplay_transport` with tokio and WebRTC, a test with a virtual network.

#![forbid(unsafe_code)]

mod backoff;
mod introducer;
pub mod lanes;
pub mod link;
pub mod lobby_client;
pub mod mesh;
pub mod room_client;
mod spare;

pub use introducer::SocketTarget;
pub use link::{CloseReason, InterruptReason, Link, LinkConfig};
pub use lobby_client::{JoinRequest, LobbyClient, LobbyNews, Refused, SavedSession};
pub use mesh::{Mesh, MeshEvent, MeshInput, MeshOutput};
pub use room_client::RoomClient;
