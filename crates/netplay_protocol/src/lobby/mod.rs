//! JSON between a player and the lobby server: one object per WebSocket text frame.
//!
//! The player sends [`ClientMessage`]s, [`ClientMessage::Hello`] first. The server sends
//! [`ServerFrame`]s, numbered from 1 within the player's session, so that a resumed session misses
//! none and repeats none; number 0 is outside of that.
#![doc = include_str!("protocol.md")]

mod client;
mod data;
mod error;
mod replica;
mod search;
mod server;
mod signal;
mod state;

use serde::{Deserialize, Serialize};

pub use client::{
    ClientMessage, CreateWith, InviteToken, JoinTicket, JoinWith, Jwt, Login, Password, Rejoin,
    Resume, ResumeToken,
};
pub use data::{
    Changes, Entry, LobbyData, MemberData, Tier, Value, apply, check_lobby_data, check_member_data,
};
pub use error::{ErrorCode, MessageError};
use search::check_filters;
pub use search::{Compare, Field, Filter, Order, Search, Sort};
pub use server::{LeaveReason, ServerFrame, ServerMessage, SessionKind};
pub use signal::{RawSignal, Signal, SignalBody};
pub use state::{
    LobbyOptions, LobbyState, LobbySummary, Member, OptionsChange, PlaceChange, Visibility,
    check_password,
};

/// The path of the lobby's WebSocket.
pub const PATH: &str = "/netplay/v1";

pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str, max: usize) -> Result<T, MessageError> {
    if text.len() > max {
        return Err(MessageError::TooLarge(text.len()));
    }
    serde_json::from_str(text).map_err(|error| MessageError::Json(error.to_string()))
}

pub(crate) fn render<T: Serialize>(value: &T) -> String {
    let mut text = Vec::new();
    render_into(value, &mut text);
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Appends it.
pub(crate) fn render_into<T: Serialize>(value: &T, text: &mut Vec<u8>) {
    // Most messages fit: what grows is copied.
    text.reserve(512);
    serde_json::to_writer(text, value)
        .expect("these types have string keys and no failing Serialize");
}

#[cfg(test)]
mod tests;
