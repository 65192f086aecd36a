//! What a lobby is like, and who is in it.

use serde::{Deserialize, Serialize};

use super::{LobbyData, MemberData, MessageError, Password};
use crate::ids::{AccountId, LobbyCode, PeerId, RoleId};
use crate::limits::{
    LOBBY_MEMBERS_MAX, LOBBY_NAME_MAX, LOBBY_SPECTATORS_MAX, PASSWORD_MAX, TEAMS_MAX,
};

/// Who gets into a lobby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Whoever searches, joins quickly, or has its code.
    #[default]
    Public,
    /// Whoever has its code, or is invited.
    Private,
    /// Whoever is invited, or has a reserved seat.
    Hidden,
}

/// What a new lobby is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyOptions {
    /// Players at most, 1 to [`LOBBY_MEMBERS_MAX`].
    pub capacity: u8,
    /// Who gets in.
    #[serde(default)]
    pub visibility: Visibility,
    /// What searches show; may be empty.
    #[serde(default)]
    pub name: String,
    /// Seconds for which the seat of a member that vanished is kept, at least the server's grace time. 0:
    /// for that, and not at all once everybody has lost it.
    #[serde(default)]
    pub seat_secs: u16,
    /// Members at most that only watch, beside the players.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spectators: u8,
    /// Nobody gets in, whatever it has, but those with a reserved seat.
    #[serde(default, skip_serializing_if = "is_default")]
    pub locked: bool,
    /// While a match runs nobody gets in as a player, but those with a reserved seat.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_late_join: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What the host changes about a lobby; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OptionsChange {
    /// Not less than players are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u8>,
    /// Who gets in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// What searches show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`LobbyOptions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seat_secs: Option<u16>,
    /// Not less than watch now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spectators: Option<u8>,
    /// Whether anybody gets in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
    /// As in [`LobbyOptions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_late_join: Option<bool>,
    /// What who comes has to know; the empty password is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
}

/// A member of a lobby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub peer: PeerId,
    /// Whether the server has a connection to it now.
    pub online: bool,
    /// Which start of its game this is; counts up.
    pub epoch: u32,
    /// Who it is, if it has shown that to the server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub account: Option<AccountId>,
    /// Its seat, from 0, which no other member has; `None`: it only watches.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slot: Option<u8>,
    /// Its team, from 0 to 15.
    #[serde(default, skip_serializing_if = "is_default")]
    pub team: Option<u8>,
    /// What it is there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role: Option<RoleId>,
    /// Whether it says that it is ready.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready: bool,
    /// What it says about itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data: MemberData,
}

/// Where a member is put; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlaceChange {
    /// As a player on this seat, which must be free; `Some(None)` (in JSON `null`): as a spectator.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub slot: Option<Option<u8>>,
    /// Into this team, or none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub team: Option<Option<u8>>,
    /// As this, or nothing special.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub role: Option<Option<RoleId>>,
}

/// Tells a field that is `null` from one that is not there.
fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A lobby as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyState {
    /// Its code.
    pub code: LobbyCode,
    /// What it is like.
    pub options: LobbyOptions,
    /// Whether it has a password.
    #[serde(default, skip_serializing_if = "is_default")]
    pub password: bool,
    /// The member that leads it.
    pub host: PeerId,
    /// Greater with every other host, also after a restart of the server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub term: u32,
    /// All members, the receiver included, in the order in which they joined.
    pub members: Vec<Member>,
    /// Whether its match runs, as its host says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub playing: bool,
    /// How often its values have changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: u64,
    /// Its values, as far as the receiver may see them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data: LobbyData,
    /// A ready check runs, for so many milliseconds more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready_check_ms: Option<u32>,
    /// A countdown runs, for so many milliseconds more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub countdown_ms: Option<u32>,
}

/// A lobby as a search shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbySummary {
    /// Its code.
    pub code: LobbyCode,
    /// Its name.
    pub name: String,
    /// Players now.
    pub members: u8,
    /// Players at most.
    pub capacity: u8,
    /// Whether it has a password.
    #[serde(default, skip_serializing_if = "is_default")]
    pub password: bool,
    /// Whether its match runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub playing: bool,
    /// Its public values.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data: MemberData,
}

impl Member {
    /// Online, without a seat, and nothing said about it.
    pub fn new(peer: PeerId, epoch: u32) -> Self {
        let (slot, team, role, data) = (None, None, None, MemberData::new());
        Self { peer, online: true, epoch, account: None, slot, team, role, ready: false, data }
    }
}

impl LobbyState {
    /// A lobby with these members, in which nothing has happened yet.
    pub const fn new(
        code: LobbyCode,
        options: LobbyOptions,
        host: PeerId,
        members: Vec<Member>,
    ) -> Self {
        Self {
            code,
            options,
            password: false,
            host,
            term: 0,
            members,
            playing: false,
            revision: 0,
            data: LobbyData::new(),
            ready_check_ms: None,
            countdown_ms: None,
        }
    }
}

impl LobbyOptions {
    /// A lobby that quick join and searches find, without a name, where seats are not kept.
    pub const fn public(capacity: u8) -> Self {
        Self::new(capacity, Visibility::Public)
    }

    /// A lobby that is joined by code, without a name, where seats are not kept.
    pub const fn private(capacity: u8) -> Self {
        Self::new(capacity, Visibility::Private)
    }

    /// A lobby that is joined by invitation, without a name, where seats are not kept.
    pub const fn hidden(capacity: u8) -> Self {
        Self::new(capacity, Visibility::Hidden)
    }

    const fn new(capacity: u8, visibility: Visibility) -> Self {
        Self {
            capacity,
            visibility,
            name: String::new(),
            seat_secs: 0,
            spectators: 0,
            locked: false,
            no_late_join: false,
        }
    }

    /// The seat of a member that vanished is kept for so long.
    #[must_use]
    pub fn keep_seats(self, seconds: u16) -> Self {
        Self { seat_secs: seconds, ..self }
    }

    /// Checks capacity, spectators and name.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        if self.capacity == 0 || self.capacity > LOBBY_MEMBERS_MAX {
            return Err(MessageError::Range { field: "capacity" });
        }
        if self.spectators > LOBBY_SPECTATORS_MAX {
            return Err(MessageError::Range { field: "spectators" });
        }
        if self.name.len() > LOBBY_NAME_MAX || self.name.chars().any(char::is_control) {
            return Err(MessageError::Range { field: "name" });
        }
        Ok(())
    }
}

impl OptionsChange {
    /// What becomes of these options.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn applied(&self, options: &LobbyOptions) -> Result<LobbyOptions, MessageError> {
        let old = options.clone();
        let new = LobbyOptions {
            capacity: self.capacity.unwrap_or(old.capacity),
            visibility: self.visibility.unwrap_or(old.visibility),
            name: self.name.clone().unwrap_or(old.name),
            seat_secs: self.seat_secs.unwrap_or(old.seat_secs),
            spectators: self.spectators.unwrap_or(old.spectators),
            locked: self.locked.unwrap_or(old.locked),
            no_late_join: self.no_late_join.unwrap_or(old.no_late_join),
        };
        new.check()?;
        self.password.as_ref().map_or(Ok(()), |password| check_password(&password.0))?;
        Ok(new)
    }
}

impl PlaceChange {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        if self.slot.flatten().is_some_and(|slot| slot >= LOBBY_MEMBERS_MAX) {
            return Err(MessageError::Range { field: "slot" });
        }
        if self.team.flatten().is_some_and(|team| team >= TEAMS_MAX) {
            return Err(MessageError::Range { field: "team" });
        }
        Ok(())
    }
}

/// Checks a password's length.
///
/// # Errors
/// [`MessageError::Range`].
pub fn check_password(password: &str) -> Result<(), MessageError> {
    if password.len() > PASSWORD_MAX {
        return Err(MessageError::Range { field: "password" });
    }
    Ok(())
}
