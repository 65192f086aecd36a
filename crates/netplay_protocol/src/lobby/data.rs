//! What a game says about its lobbies and players: named values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::MessageError;
use crate::ids::DataKey;
use crate::limits::{
    DATA_BYTES_MAX, DATA_KEYS_MAX, DATA_NUMBER_MAX, DATA_TEXT_MAX, MEMBER_DATA_BYTES_MAX,
    MEMBER_DATA_KEYS_MAX,
};

/// A number or a text. In JSON it is just that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Whole, and no further from zero than [`DATA_NUMBER_MAX`].
    Number(i64),
    /// At most [`DATA_TEXT_MAX`] bytes, without control characters.
    Text(String),
}

/// Who sees a value of a lobby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Everybody who finds the lobby. Searches look at these.
    #[default]
    Public,
    /// Its members.
    Members,
    /// Its host: for who leads it next.
    Host,
}

/// A value of a lobby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What.
    pub value: Value,
    /// For whom.
    #[serde(default)]
    pub tier: Tier,
}

/// The values of a lobby.
pub type LobbyData = BTreeMap<DataKey, Entry>;
/// The values of a member, which all members see.
pub type MemberData = BTreeMap<DataKey, Value>;
/// Values that are set, and those that are removed.
pub type Changes<T> = BTreeMap<DataKey, Option<T>>;

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Value {
    /// The number, if it is one.
    pub const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Number(_) => None,
            Self::Text(text) => Some(text),
        }
    }

    /// What it counts against the limits.
    fn bytes(&self) -> usize {
        match self {
            Self::Number(_) => 8,
            Self::Text(text) => text.len(),
        }
    }

    /// Checks its size.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        let fits = match self {
            Self::Number(number) => (-DATA_NUMBER_MAX..=DATA_NUMBER_MAX).contains(number),
            Self::Text(text) => text.len() <= DATA_TEXT_MAX && !text.chars().any(char::is_control),
        };
        if fits { Ok(()) } else { Err(MessageError::Range { field: "value" }) }
    }
}

impl Entry {
    /// For everybody.
    pub fn public(value: impl Into<Value>) -> Self {
        Self { value: value.into(), tier: Tier::Public }
    }

    /// For members.
    pub fn members(value: impl Into<Value>) -> Self {
        Self { value: value.into(), tier: Tier::Members }
    }

    /// For the host.
    pub fn host(value: impl Into<Value>) -> Self {
        Self { value: value.into(), tier: Tier::Host }
    }
}

/// Checks the values of a lobby.
///
/// # Errors
/// [`MessageError::Range`]: too many, too large together, or one is out of its range.
pub fn check_lobby_data(data: &LobbyData) -> Result<(), MessageError> {
    let values = data.iter().map(|(key, entry)| (key, &entry.value));
    check(values, DATA_KEYS_MAX, DATA_BYTES_MAX)
}

/// Checks the values of a member.
///
/// # Errors
/// As of [`check_lobby_data`].
pub fn check_member_data(data: &MemberData) -> Result<(), MessageError> {
    check(data.iter(), MEMBER_DATA_KEYS_MAX, MEMBER_DATA_BYTES_MAX)
}

fn check<'a>(
    values: impl Iterator<Item = (&'a DataKey, &'a Value)>,
    keys_max: usize,
    bytes_max: usize,
) -> Result<(), MessageError> {
    let (mut keys, mut bytes) = (0, 0);
    for (key, value) in values {
        value.check()?;
        keys += 1;
        bytes += key.as_str().len() + value.bytes();
    }
    if keys > keys_max || bytes > bytes_max {
        return Err(MessageError::Range { field: "data" });
    }
    Ok(())
}

/// Applies changes to values.
pub fn apply<T: Clone>(data: &mut BTreeMap<DataKey, T>, changes: &Changes<T>) {
    for (key, change) in changes {
        match change {
            Some(value) => drop(data.insert(key.clone(), value.clone())),
            None => drop(data.remove(key)),
        }
    }
}
