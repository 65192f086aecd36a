//! What a lobby is like, and who is in it.

use serde::{Deserialize, Serialize};

use super::MessageError;
use crate::ids::{LobbyCode, PeerId};
use crate::limits::{LOBBY_MEMBERS_MAX, LOBBY_NAME_MAX};

/// What a new lobby is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyOptions {
    /// Members at most, 1 to [`LOBBY_MEMBERS_MAX`].
    pub capacity: u8,
    /// Whether quick join and lists may find it.
    pub public: bool,
    /// What lists show; may be empty.
    #[serde(default)]
    pub name: String,
    /// Seconds for which the seat of a member that vanished is kept, at least the server's grace time. 0:
    /// for that, and not at all once everybody has lost it.
    #[serde(default)]
    pub seat_secs: u16,
}

/// A member of a lobby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub peer: PeerId,
    /// Whether the server has a connection to it now.
    pub online: bool,
    /// Which start of its game this is; counts up.
    pub epoch: u32,
}

/// A lobby as its members see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyState {
    /// Its code.
    pub code: LobbyCode,
    /// What it is like.
    pub options: LobbyOptions,
    /// The member that leads it.
    pub host: PeerId,
    /// All members, the receiver included, in the order in which they joined.
    pub members: Vec<Member>,
}

/// A lobby as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbySummary {
    /// Its code.
    pub code: LobbyCode,
    /// Its name.
    pub name: String,
    /// Members now.
    pub members: u8,
    /// Members at most.
    pub capacity: u8,
}

impl LobbyOptions {
    /// A lobby that quick join and lists find, without a name, where seats are not kept.
    pub const fn public(capacity: u8) -> Self {
        Self { capacity, public: true, name: String::new(), seat_secs: 0 }
    }

    /// A lobby that is joined by code, without a name, where seats are not kept.
    pub const fn private(capacity: u8) -> Self {
        Self { capacity, public: false, name: String::new(), seat_secs: 0 }
    }

    /// The seat of a member that vanished is kept for so long.
    #[must_use]
    pub fn keep_seats(self, seconds: u16) -> Self {
        Self { seat_secs: seconds, ..self }
    }

    /// Checks capacity and name.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        if self.capacity == 0 || self.capacity > LOBBY_MEMBERS_MAX {
            return Err(MessageError::Range { field: "capacity" });
        }
        if self.name.len() > LOBBY_NAME_MAX || self.name.chars().any(char::is_control) {
            return Err(MessageError::Range { field: "name" });
        }
        Ok(())
    }
}
