//! The lobby server: sockets around [`netplay_lobby`].
//!
//! It speaks Netplay's protocol at [`netplay_protocol::lobby::PATH`] and answers `GET /health`.
//! All decisions are made by [`netplay_lobby::Directory`]; this crate moves bytes.
//!
//! | to run it | use |
//! |---|---|
//! | as a program | `netplay-server` |
//! | inside a program without a tokio runtime | [`ServerThread`] |
//! | on a tokio runtime | [`Server`], or [`Server::spawn`] for a handle |
//!
//! Guaranteed: every queue, buffer and table is bounded by [`ServerConfig`]; every state of a
//! connection has a deadline; a client that does not read is closed and holds up nobody; a panic
//! in the task of one connection ends that connection only. When a server stops, its tasks end
//! within a second and the port is free. Tokens are never logged.
//!
//! Not guaranteed: that sessions or lobbies survive a restart. Encryption is the business of a
//! proxy in front, to which all players then have one address: the loopback one is exempt from the
//! limit per address, others need [`ServerConfig::max_per_address`].

#![forbid(unsafe_code)]

mod address;
mod config;
mod connection;
mod error;
mod http;
mod hub;
pub mod key_file;
mod listener;
mod outbox;
mod rate_log;
mod server;
mod socket;
mod thread;

pub use config::{DEFAULT_PORT, ServerConfig};
pub use error::BindError;
/// Limits and times of sessions and lobbies.
pub use netplay_lobby::Config as LobbyConfig;
pub use netplay_lobby::{Key, RateLimit, Stats};
pub use server::{Server, ServerHandle};
pub use thread::ServerThread;
