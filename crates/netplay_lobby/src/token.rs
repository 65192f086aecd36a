//! What the server gives to players and believes when they bring it back, signed by the server: resume
//! tokens, which say what it has to know of a player to take it up again, invitations, and join tickets. And
//! what it keeps of passwords.
//!
//! Guaranteed: nobody without the key makes or changes one, or reads a password in one. Not guaranteed: that
//! a resume token or an invitation is used once, or by the player it was made for: it is a secret.

use core::time::Duration;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use netplay_protocol::lobby::{
    InviteToken, JoinTicket, LobbyData, LobbyOptions, MemberData, Password, Rejoin, ResumeToken,
};
use netplay_protocol::{AccountId, GameId, LobbyCode, Now, PeerId, RoleId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::lobby::Realm;

/// With which a server signs its tokens. A server that is started with the key of the one before
/// takes up that one's players.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Statement {
    pub(crate) peer: PeerId,
    #[serde(flatten)]
    pub(crate) realm: Realm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<AccountId>,
    /// Which start of the server made it.
    pub(crate) boot: u64,
    /// Which start of the player's game it is for.
    pub(crate) epoch: u32,
    /// Within which count of frames: it begins anew when a session is restored.
    pub(crate) count: u64,
    /// In seconds of Unix time.
    pub(crate) expires: u64,
    pub(crate) seat: Option<Seat>,
}

/// A member's place in a lobby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    /// Which lobby: codes may be used again.
    pub(crate) lobby: u64,
    pub(crate) code: LobbyCode,
    pub(crate) options: LobbyOptions,
    /// Its password, as [`Key::password`] keeps it.
    pub(crate) password: Option<String>,
    /// Whether a match ran.
    #[serde(default)]
    pub(crate) playing: bool,
    /// Who was put out and may not simply come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) put_out: Vec<Outcast>,
    /// For whom seats are kept, and until when, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) reserved: BTreeMap<PeerId, u64>,
    /// When these five were decided, in microseconds of Unix time: the newest statement counts.
    #[serde(default)]
    pub(crate) settings: u64,
    /// When the lobby is closed, in seconds of Unix time.
    #[serde(default)]
    pub(crate) closes: Option<u64>,
    /// Members with smaller numbers have been there longer.
    pub(crate) number: u32,
    pub(crate) slot: Option<u8>,
    pub(crate) team: Option<u8>,
    pub(crate) role: Option<RoleId>,
    pub(crate) data: MemberData,
    pub(crate) host: PeerId,
    /// Greater with every other host: the newest statement counts.
    pub(crate) term: u32,
    /// The host's: how often the lobby's values had changed, and the values.
    pub(crate) revision: u64,
    pub(crate) lobby_data: LobbyData,
}

/// Somebody who was put out of a lobby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcast {
    pub(crate) peer: PeerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<AccountId>,
    pub(crate) rejoin: Rejoin,
}

/// A time by the server's clock and by everybody's: tokens outlive the former.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Now,
    /// When the server's clock began, in seconds of Unix time.
    pub(crate) epoch_unix: u64,
}

impl Moment {
    /// In seconds of Unix time.
    pub(crate) fn unix_secs(self) -> u64 {
        self.unix_of(self.now)
    }

    /// The same of another time.
    pub(crate) fn unix_of(self, at: Now) -> u64 {
        self.epoch_unix.saturating_add(at.since(Now::ZERO).as_secs())
    }

    /// By the server's clock; what is past is now.
    pub(crate) fn at_unix(self, secs: u64) -> Now {
        let since = Duration::from_secs(secs.saturating_sub(self.epoch_unix));
        self.now.max(Now::ZERO + since)
    }

    /// In microseconds of Unix time: later on a server that was started later.
    pub(crate) fn unix_micros(self) -> u64 {
        let since = self.now.since(Now::ZERO).as_micros() as u64;
        self.epoch_unix.saturating_mul(1_000_000).saturating_add(since)
    }
}

/// What an invitation says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invitation {
    pub(crate) lobby: u64,
    /// For whom, if not for whoever has it.
    pub(crate) to: Option<PeerId>,
    /// In microseconds of the server that made it.
    pub(crate) made: u64,
    /// Which start of the server that was.
    pub(crate) boot: u64,
    /// In seconds of Unix time.
    pub(crate) expires: u64,
}

/// What a join ticket says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    /// No other ticket has it.
    pub(crate) id: u64,
    /// Which start of the server made it. Another one does not know which were used.
    pub(crate) boot: u64,
    pub(crate) account: AccountId,
    pub(crate) game: GameId,
    pub(crate) lobby: Option<LobbyCode>,
    /// In seconds of Unix time.
    pub(crate) expires: u64,
}

/// What a signature is for: what was signed for one thing says nothing as another.
#[derive(Clone, Copy)]
enum For {
    Resume,
    Invitation,
    Password,
    Ticket,
}

impl Key {
    fn mac(&self, of: For, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        mac.update(&[of as u8]);
        mac.update(payload);
        mac
    }

    fn seal(&self, of: For, statement: &impl Serialize) -> String {
        let json = serde_json::to_vec(statement).expect("plain fields are always JSON");
        let mut token = URL_SAFE_NO_PAD.encode(json);
        let tag = self.mac(of, token.as_bytes()).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(tag, &mut token);
        token
    }

    fn open<T: DeserializeOwned>(&self, of: For, token: &str) -> Option<T> {
        let (payload, tag) = token.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        self.mac(of, payload.as_bytes()).verify_slice(&tag).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    pub(crate) fn sign(&self, statement: &Statement) -> ResumeToken {
        ResumeToken(self.seal(For::Resume, statement))
    }

    /// What it says, if it was signed with this key.
    pub(crate) fn read(&self, token: &ResumeToken) -> Option<Statement> {
        self.open(For::Resume, &token.0)
    }

    pub(crate) fn invite(&self, invitation: &Invitation) -> InviteToken {
        InviteToken(self.seal(For::Invitation, invitation))
    }

    /// What it says, if it was signed with this key.
    pub(crate) fn read_invite(&self, token: &InviteToken) -> Option<Invitation> {
        self.open(For::Invitation, &token.0)
    }

    pub(crate) fn ticket(&self, ticket: &Ticket) -> JoinTicket {
        JoinTicket(self.seal(For::Ticket, ticket))
    }

    /// What it says, if it was signed with this key.
    pub(crate) fn read_ticket(&self, token: &JoinTicket) -> Option<Ticket> {
        self.open(For::Ticket, &token.0)
    }

    /// What is kept of a lobby's password. The empty one is none.
    pub(crate) fn password(&self, lobby: u64, password: &Password) -> Option<String> {
        let tag = self.password_mac(lobby, password).finalize().into_bytes();
        (!password.0.is_empty()).then(|| URL_SAFE_NO_PAD.encode(tag))
    }

    /// Whether it is the one of which this was kept.
    pub(crate) fn is_password(&self, lobby: u64, password: &Password, kept: &str) -> bool {
        let kept = URL_SAFE_NO_PAD.decode(kept).unwrap_or_default();
        self.password_mac(lobby, password).verify_slice(&kept).is_ok()
    }

    fn password_mac(&self, lobby: u64, password: &Password) -> Hmac<Sha256> {
        let mut mac = self.mac(For::Password, &lobby.to_le_bytes());
        mac.update(password.0.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statement() -> Statement {
        let peer = PeerId::from_u128(7);
        let seat = Seat {
            lobby: 1,
            code: LobbyCode::from_random(5),
            options: LobbyOptions::public(4),
            playing: true,
            put_out: Vec::new(),
            reserved: BTreeMap::new(),
            settings: 3,
            closes: Some(9),
            password: None,
            number: 2,
            slot: Some(1),
            team: None,
            role: None,
            data: MemberData::new(),
            host: peer,
            term: 3,
            revision: 0,
            lobby_data: LobbyData::new(),
        };
        let realm = Realm { game: GameId::new("game").unwrap(), build: None };
        Statement {
            peer,
            realm,
            account: None,
            boot: 9,
            epoch: 1,
            count: 4,
            expires: 100,
            seat: Some(seat),
        }
    }

    #[test]
    fn a_token_is_read_with_its_own_key_only() {
        let (key, other) = (Key([1; 32]), Key([2; 32]));
        let token = key.sign(&statement());
        assert_eq!(key.read(&token), Some(statement()));
        assert_eq!(other.read(&token), None);
        assert!(!format!("{key:?} {token:?}").contains('1'), "secrets are not shown");
    }

    #[test]
    fn what_was_signed_for_one_thing_says_nothing_as_another() {
        let key = Key([1; 32]);
        let token = key.sign(&statement());
        assert_eq!(key.read_invite(&InviteToken(token.0)), None);
        let password = Password("secret".into());
        let kept = key.password(1, &password).unwrap();
        assert!(key.is_password(1, &password, &kept));
        assert!(!key.is_password(2, &password, &kept), "it is another lobby's");
        assert!(!key.is_password(1, &Password("Secret".into()), &kept));
        assert!(!key.is_password(1, &password, "?"));
        assert_eq!(key.password(1, &Password(String::new())), None);
    }

    proptest! {
        #[test]
        fn a_changed_token_says_nothing(place: prop::sample::Index, to in "[ -~]") {
            let key = Key([1; 32]);
            let token = key.sign(&statement()).0;
            let place = place.index(token.len());
            let mut changed = token.clone();
            changed.replace_range(place..=place, &to);
            prop_assume!(changed != token);
            // The last character of base64 has bits that say nothing.
            let says = key.read(&ResumeToken(changed));
            prop_assert!(says.is_none() || place == token.len() - 1);
        }

        #[test]
        fn any_text_is_no_token(text in ".*") {
            prop_assert_eq!(Key([1; 32]).read(&ResumeToken(text)), None);
        }
    }
}
