//! Lobbies as a pure state machine: commands in, effects out.
//!
//! A [`Directory`] holds all sessions and lobbies of one server node. Whoever drives it passes
//! every event of its sockets with [`Directory::handle`] or [`Directory::handle_signal`], then takes [`Output`]s with
//! [`Directory::poll_output`] until there is none, and passes [`Input::Tick`] at
//! [`Directory::next_deadline`].
//!
//! | module | what is inside |
//! |---|---|
//! | `config` | every limit and time, each with its reason |
//! | `io` | what goes in and what comes out |
//! | `rate` | token buckets; [`Buckets`] are many of them |
//! | `log` | the numbered frames that a resume replays |
//! | `lobby` | one lobby, and the index of open lobbies of one game |
//! | `token` | resume tokens, which outlive a server |
//! | `directory` | the rules: greeting, sessions, lobbies, signals |
//! | [`matchbox`] | another machine beside it: rooms of players with `matchbox_socket`, with rules of their own |
//!
//! Guaranteed: the same seed and the same inputs give the same outputs. No input makes it panic.
//! Memory is bounded by [`Config`]. Outputs of one connection are in the order in which the client
//! must see them. Frames of a session are numbered 1, 2, 3, … and a resume repeats none and misses
//! none. Frame number 0 belongs to the connection and not to the session: `welcome`, errors before
//! it, and the error that precedes a [`Output::Close`].
//!
//! A directory with the key of the one before ([`Directory::with_key`]) takes up that one's players: each
//! brings a token that says what it was, and a lobby is back with the first of its members.
//!
//! Not guaranteed: that a client is who it says it is (a session is whoever holds its token), that
//! what it reports about another is true, or that anything but that survives the process.

#![forbid(unsafe_code)]

mod config;
mod directory;
mod io;
mod lobby;
mod log;
pub mod matchbox;
mod rate;
mod token;

pub use config::{Config, RateLimit, RoomLimits};
pub use directory::Directory;
pub use io::{ConnectionId, Input, LobbyView, Output, Stats, TicketFor};
pub use rate::Buckets;
pub use token::Key;
