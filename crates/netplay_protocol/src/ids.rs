//! Names of peers, lobbies, games and builds.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::limits::{ACCOUNT_MAX, ID_MAX};

/// One player, as the lobby server names it. Stable while the player keeps its session, including
/// reconnects; a restarted process gets a new one.
///
/// 128 bits wide, so that a matchbox peer id is one too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerId(Uuid);

impl PeerId {
    /// The id with these 128 bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The id's 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// Reads what [`Display`](fmt::Display) writes: 36 characters.
    pub(crate) fn from_hyphenated(text: &str) -> Option<Self> {
        (text.len() == 36).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
    }

    /// The first eight hex digits: enough to tell players of one lobby apart in a log or a HUD.
    pub fn short(self) -> String {
        format!("{:08x}", self.as_u128() >> 96)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.short())
    }
}

/// An id that does not follow its rules.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// Empty, or longer than [`ID_MAX`] bytes.
    #[error("{what} has {len} bytes; 1 to {ID_MAX} are allowed")]
    Length {
        /// Which id.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// An account's name has another length, or holds control characters.
    #[error("the name of an account has 1 to {ACCOUNT_MAX} bytes, without control characters")]
    Account,
    /// Holds something else than ASCII letters, digits, `-`, `_`, `.` and `+`.
    #[error("{what} may hold ASCII letters, digits, '-', '_', '.' and '+' only, not {found:?}")]
    Character {
        /// Which id.
        what: &'static str,
        /// The first character that is not allowed.
        found: char,
    },
    /// A lobby code has another length or other characters.
    #[error("a lobby code has eight letters and digits like 7K4Q-M2XA, not {0:?}")]
    Code(String),
}

fn check_id(what: &'static str, text: &str) -> Result<(), InvalidId> {
    if text.is_empty() || text.len() > ID_MAX {
        return Err(InvalidId::Length { what, len: text.len() });
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.+".contains(*c)) {
        Some(found) => Err(InvalidId::Character { what, found }),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`InvalidId`] if it is empty, too long, or holds a character that is not allowed.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check_id($what, &text)?;
                Ok(Self(text))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Which game. Players of different games never see each other's lobbies.
    GameId,
    "a game id"
);
text_id!(
    /// Which build of a game. Players of different builds refuse each other, naming both builds.
    BuildId,
    "a build id"
);
text_id!(
    /// What a value of a lobby or member is called.
    DataKey,
    "the name of a value"
);
text_id!(
    /// What a member is in its team, as the game names it.
    RoleId,
    "a role"
);
text_id!(
    /// Which room of a server that speaks matchbox's protocol. Such a server takes other names too; these
    /// are the ones that look the same in a URL.
    RoomId,
    "the name of a room"
);

/// Who somebody is beyond one session, as who runs the server names its players: the subject of a JWT, or
/// what a join ticket was made for. Any text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

impl AccountId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`InvalidId::Account`].
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        let fits = (1..=ACCOUNT_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(Self(text)) } else { Err(InvalidId::Account) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AccountId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> Self {
        id.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The code by which players join a lobby: eight symbols of an alphabet without 0/O, 1/I/L and U,
/// shown as `7K4Q-M2XA`. 30 symbols give 39 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LobbyCode([u8; Self::LEN]);

impl LobbyCode {
    /// Symbols of a code.
    pub const LEN: usize = 8;

    /// What a symbol can be.
    pub const ALPHABET: &'static [u8; 30] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";

    /// What a room has that is not on a lobby server: a code by which nobody joins. It is shown as dashes,
    /// and no text reads as it.
    pub const NONE: Self = Self([b'-'; Self::LEN]);

    /// Whether it is [`Self::NONE`].
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Makes a code from a random number; equal numbers give equal codes.
    pub fn from_random(mut random: u64) -> Self {
        let base = Self::ALPHABET.len() as u64;
        Self(core::array::from_fn(|_| {
            let symbol = Self::ALPHABET[(random % base) as usize];
            random /= base;
            symbol
        }))
    }
}

impl FromStr for LobbyCode {
    type Err = InvalidId;

    /// Reads a code as a player types it: any case, with or without the dash, spaces around it.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::Code(text.chars().take(32).collect());
        let mut symbols = [0; Self::LEN];
        let mut count = 0;
        for c in text.trim().chars().filter(|c| *c != '-') {
            let c = c.to_ascii_uppercase();
            let symbol = u8::try_from(c).map_err(|_| wrong())?;
            if count == Self::LEN || !Self::ALPHABET.contains(&symbol) {
                return Err(wrong());
            }
            symbols[count] = symbol;
            count += 1;
        }
        if count == Self::LEN { Ok(Self(symbols)) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for LobbyCode {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<LobbyCode> for String {
    fn from(code: LobbyCode) -> Self {
        code.to_string()
    }
}

impl fmt::Display for LobbyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbols = self.0.map(char::from);
        let (head, tail) = symbols.split_at(Self::LEN / 2);
        for c in head {
            write!(f, "{c}")?;
        }
        write!(f, "-")?;
        for c in tail {
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for LobbyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LobbyCode({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_players_type_them() {
        let code = LobbyCode::from_random(0x1234_5678_9ABC_DEF0);
        let shown = code.to_string();
        assert_eq!(shown.len(), 9);
        assert_eq!(shown.parse(), Ok(code));
        assert_eq!(format!("  {}\n", shown.to_lowercase().replace('-', "")).parse(), Ok(code));
    }

    #[test]
    fn wrong_codes_are_refused_with_the_text_that_was_typed() {
        for wrong in ["", "ABCD", "ABCD-EFG0", "ABCD-EFGHJ", "ABCD EFGH", "ÄBCD-EFGH"] {
            assert_eq!(wrong.parse::<LobbyCode>(), Err(InvalidId::Code(wrong.into())));
        }
    }

    #[test]
    fn no_text_is_the_code_of_a_room_without_one() {
        assert!(LobbyCode::NONE.is_none() && !LobbyCode::from_random(7).is_none());
        let shown = LobbyCode::NONE.to_string();
        assert_eq!(shown, "---------");
        assert!(shown.parse::<LobbyCode>().is_err());
    }

    #[test]
    fn game_ids_are_short_plain_words() {
        assert!(GameId::new("my-game_2.0+beta").is_ok());
        assert_eq!(GameId::new(""), Err(InvalidId::Length { what: "a game id", len: 0 }));
        assert_eq!(
            GameId::new("x".repeat(65)),
            Err(InvalidId::Length { what: "a game id", len: 65 })
        );
        assert_eq!(
            GameId::new("a game"),
            Err(InvalidId::Character { what: "a game id", found: ' ' })
        );
    }

    #[test]
    fn peer_ids_are_uuids_in_json() {
        let peer = PeerId::from_u128(0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF);
        let json = serde_json::to_string(&peer).unwrap();
        assert_eq!(json, "\"01234567-89ab-cdef-0123-456789abcdef\"");
        assert_eq!(serde_json::from_str::<PeerId>(&json).unwrap(), peer);
        assert_eq!(peer.short(), "01234567");
    }
}
