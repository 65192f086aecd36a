//! Resume tokens: what a server has to know of a player to take it up again, signed by the server.
//!
//! Guaranteed: nobody without the key makes or changes one. Not guaranteed: that it is used once, or by
//! the player it was made for: it is a secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use netplay_protocol::lobby::{LobbyOptions, ResumeToken};
use netplay_protocol::{GameId, LobbyCode, PeerId};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

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
    pub(crate) game: GameId,
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
    /// Members with smaller numbers have been there longer.
    pub(crate) number: u32,
    pub(crate) host: PeerId,
    /// How often the lobby has had another host: the newest statement counts.
    pub(crate) term: u32,
}

impl Key {
    fn mac(&self, payload: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        mac.update(payload.as_bytes());
        mac
    }

    pub(crate) fn sign(&self, statement: &Statement) -> ResumeToken {
        let json = serde_json::to_vec(statement).expect("plain fields are always JSON");
        let mut token = URL_SAFE_NO_PAD.encode(json);
        let tag = self.mac(&token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(tag, &mut token);
        ResumeToken(token)
    }

    /// What it says, if it was signed with this key.
    pub(crate) fn read(&self, token: &ResumeToken) -> Option<Statement> {
        let (payload, tag) = token.0.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        self.mac(payload).verify_slice(&tag).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
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
            number: 2,
            host: peer,
            term: 3,
        };
        let game = GameId::new("game").unwrap();
        Statement { peer, game, boot: 9, epoch: 1, count: 4, expires: 100, seat: Some(seat) }
    }

    #[test]
    fn a_token_is_read_with_its_own_key_only() {
        let (key, other) = (Key([1; 32]), Key([2; 32]));
        let token = key.sign(&statement());
        assert_eq!(key.read(&token), Some(statement()));
        assert_eq!(other.read(&token), None);
        assert!(!format!("{key:?} {token:?}").contains('1'), "secrets are not shown");
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
