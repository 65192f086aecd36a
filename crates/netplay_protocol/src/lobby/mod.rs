//! JSON between a player and the lobby server: one object per WebSocket text frame.
//!
//! The player sends [`ClientMessage`]s, [`ClientMessage::Hello`] first. The server sends
//! [`ServerFrame`]s, numbered from 1 within the player's session, so that a resumed session misses
//! none and repeats none; number 0 is outside of that.

mod client;
mod error;
mod server;
mod signal;
mod state;

use serde::{Deserialize, Serialize};

pub use client::{ClientMessage, Resume, ResumeToken};
pub use error::{ErrorCode, MessageError};
pub use server::{LeaveReason, ServerFrame, ServerMessage, SessionKind};
pub use signal::{Signal, SignalBody};
pub use state::{LobbyOptions, LobbyState, LobbySummary, Member};

use crate::limits::LOBBY_MESSAGE_MAX;

/// The path of the lobby's WebSocket.
pub const PATH: &str = "/netplay/v1";

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, MessageError> {
    if text.len() > LOBBY_MESSAGE_MAX {
        return Err(MessageError::TooLarge(text.len()));
    }
    serde_json::from_str(text).map_err(|error| MessageError::Json(error.to_string()))
}

fn render<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys and no failing Serialize")
}

#[cfg(test)]
mod tests;
