//! Games that are written with `matchbox_socket` or `bevy_matchbox` 0.15, on Netplay's lobby server.
//!
//! The game keeps its sockets, channels and packets. What changes is how its players meet: in a lobby with a
//! code, by quick join, over a WebSocket that may break for a while without anybody noticing.
//!
//! ```no_run
//! use std::time::Duration;
//! use matchbox_socket::WebRtcSocketBuilder;
//! use netplay_matchbox::{BuildId, GameId, LobbyStatus, NetplaySignaller};
//!
//! # fn spawn(message_loop: matchbox_socket::MessageLoopFuture) {}
//! let signaller = NetplaySignaller::quick(GameId::new("my-game")?, 2).build(BuildId::new("1")?);
//! let lobby = signaller.lobby();
//! let (socket, message_loop) = WebRtcSocketBuilder::new("ws://127.0.0.1:3536")  // was: ws://…:3536/my_game?next=2
//!     .signaller_builder(signaller)                                             // new
//!     .add_reliable_channel()
//!     .build();
//! spawn(message_loop); // as before
//!
//! loop {
//!     // As before: socket.update_peers(), socket.channel_mut(0).receive(), …
//!     match lobby.status() {
//!         LobbyStatus::Joining => {}
//!         LobbyStatus::Joined { code, .. } => println!("others join with {code}"),
//!         LobbyStatus::Ended(why) => break println!("{why}"),
//!     }
//!     std::thread::sleep(Duration::from_millis(16));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With `bevy_matchbox` the builder is given to `MatchboxSocket::from`, and the [`LobbyHandle`] is kept in a
//! resource.
//!
//! | matchbox | here |
//! |---|---|
//! | `ws://host:3536/my_game?next=4` | [`NetplaySignaller::quick`]`(game, 4)`, `ws://host:3536` |
//! | `wss://host/…` | `wss://host`; [`NetplaySignaller::trusting`] for a certificate of your own |
//! | `ws://host:3536/room` | [`NetplaySignaller::create_private`]`(game, 4)`, and [`NetplaySignaller::code`]`(game, code)` for the others |
//! | `NewPeer`: makes the offer | who was in the lobby before the other |
//! | `PeerLeft` | the member left, was put out, or did not come back in time |
//! | `reconnect_attempts` | how often the server is tried until it is reached for the first time |
//! | `signaling_keep_alive_interval` | without meaning: the lobby's own keep-alives run |
//!
//! All members of such a lobby have to be matchbox players with the same channels. Netplay's own players
//! speak otherwise over WebRTC: give the two another [`GameId`] or [`BuildId`].
//!
//! Each socket has a thread of its own, `netplay-matchbox`, which keeps the WebSocket. `matchbox_socket` lets
//! the game poll its message loop, `bevy_matchbox` does so on Bevy's task pool: neither has the reactor of
//! tokio that our WebSocket library needs, and what they poll stands still while the game does. So the
//! session stays alive while a game loads.
//!
//! Guaranteed: of two players exactly one makes the offer, once, whatever sockets and servers die meanwhile;
//! the id stays; a WebSocket that was lost is taken up again with everything that was said meanwhile, and so
//! is one to a server that was started anew with the same key; every queue is bounded. Dropping the
//! `WebRtcSocket` leaves the lobby, and the thread ends within a second.
//!
//! Not guaranteed: that a pair connects whose offer or answer was under way when the *server* died:
//! matchbox has no second attempt. Nor that the lobby survives a server without the key:
//! [`LobbyError::SessionLost`] ends the signalling, connections live on as they do in matchbox, and the game builds
//! another socket if it wants to meet others. Nor that a hostile member does no harm: `matchbox_socket` panics
//! on an SDP that is none. In browsers `matchbox_socket` runs, but this crate does not: native only.

#![forbid(unsafe_code)]

mod handle;
mod introductions;
mod signaller;
mod task;
mod translate;

pub use handle::{LobbyError, LobbyHandle, LobbyStatus};
pub use netplay_protocol::lobby::{ErrorCode, JoinTicket, Jwt, LeaveReason, Login};
pub use netplay_protocol::{BuildId, GameId, InvalidAddress, LobbyCode};
pub use netplay_socket::ServerError;
pub use signaller::{LobbySignaller, NetplaySignaller};
