//! The lobby server: sockets around [`netplay_lobby`].
//!
//! It speaks Netplay's protocol at [`netplay_protocol::lobby::PATH`], matchbox's at every other path of one
//! segment, and answers `GET /health`. All decisions are made by [`netplay_lobby::Directory`] and
//! [`netplay_lobby::matchbox::Rooms`]; this crate moves bytes.
//!
//! | WebSocket at | for |
//! |---|---|
//! | `/netplay/v1` | Netplay's own players |
//! | `/`, `/ROOM`, `/ROOM?next=N` | players with `matchbox_socket` 0.15, unchanged |
//!
//! Matchbox sockets are never pinged, because the client logs each ping, and not closed for silence: TCP's
//! own keep-alive finds the dead after about two minutes, in which they hold a place of a `?next=N` group. A
//! URL that names no room (`next=0`, a name that is too long) gets HTTP 400, and a full room or server close
//! code 1013. Binary and malformed frames are skipped, but count.
//!
//! | to run it | use |
//! |---|---|
//! | as a program | `netplay-server` |
//! | inside a program without a tokio runtime | [`ServerThread`] |
//! | on a tokio runtime | [`Server`], or [`Server::spawn`] for a handle |
//!
//! Guaranteed: every queue, buffer and table is bounded by [`ServerConfig`]; every state of a
//! connection has a deadline, except that a matchbox player may be silent; a client that does not
//! read is closed and holds up nobody; a panic in the task of one connection ends that connection only. When a server stops, its port is free at once, and
//! its tasks end within a second and what [`ServerConfig::back_per_second`] takes. Tokens are never logged.
//!
//! Not guaranteed: that sessions or lobbies survive a restart without the key of before. To a server behind a proxy all players have one
//! address, unless the proxy is one of [`ServerConfig::trusted_proxies`]; only the loopback address is exempt
//! from the limits per address.

#![forbid(unsafe_code)]

mod address;
mod admin;
mod arrivals;
mod config;
mod connection;
mod counts;
mod error;
pub mod files;
mod http;
mod hub;
pub mod key_file;
mod listener;
mod login;
mod origin;
mod outbox;
mod proxies;
mod rate_log;
mod reload;
mod rooms;
mod server;
mod socket;
mod thread;
mod tls;
mod traffic;

pub use config::{AdminConfig, DEFAULT_PORT, ServerConfig};
pub use error::BindError;
pub use login::{JwtConfig, JwtError, JwtKeys};
/// Limits and times of sessions, lobbies and rooms.
pub use netplay_lobby::Config as LobbyConfig;
pub use netplay_lobby::matchbox::RoomStats;
pub use netplay_lobby::{Key, RateLimit, RoomLimits, Stats};
pub use origin::{NoOrigin, Origin};
pub use proxies::{AddressBlock, NoAddressBlock};
pub use reload::Reload;
pub use server::{Server, ServerHandle};
pub use thread::ServerThread;
pub use tls::{TlsError, TlsFiles};
