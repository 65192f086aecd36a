//! Where a server is, as players write it, and the URLs of its WebSockets.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

use crate::lobby;
use crate::matchbox::Room;

/// The port of a lobby server, and of a matchbox server, when none is given.
const DEFAULT_PORT: u16 = 3536;

/// The port of one that encrypts, when none is given: that of every server with TLS, most often a proxy.
const ENCRYPTED_PORT: u16 = 443;

/// The address of a server: `ws://HOST[:PORT]`, with port 3536 if none is given, or by TLS `wss://HOST[:PORT]`, with
/// port 443.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    encrypted: bool,
    /// Host and port.
    authority: String,
}

/// What is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{url:?} is no server address: {why}; it looks like ws://192.168.1.20:3536")]
pub struct InvalidAddress {
    /// What was given.
    pub url: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl ServerAddress {
    /// Whether it is reached by TLS.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Host and port, as a socket is opened to it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host alone, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The URL of the lobbies' WebSocket.
    pub fn lobbies(&self) -> String {
        format!("{self}{}", lobby::PATH)
    }

    /// The URL of a room's WebSocket, if it is a server that speaks matchbox's protocol.
    pub fn room(&self, room: &Room) -> String {
        format!("{self}{}", room.path())
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.encrypted { "wss" } else { "ws" }, self.authority)
    }
}

impl FromStr for ServerAddress {
    type Err = InvalidAddress;

    /// Reads an address as a player types it: spaces around it and a slash at its end do not matter.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let url = text.trim();
        let wrong = |why| InvalidAddress { url: url.to_owned(), why };
        let (encrypted, rest) = match url.split_once("://") {
            Some(("ws", rest)) => (false, rest),
            Some(("wss", rest)) => (true, rest),
            Some(_) => return Err(wrong("the scheme has to be ws or wss")),
            None => return Err(wrong("it does not begin with ws:// or wss://")),
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            return Err(wrong("host and port only, no path"));
        }
        if authority.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("it holds a space"));
        }
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        let authority = match port.filter(|_| !authority.ends_with(']')) {
            Some(port) if port.parse::<u16>().is_err() => {
                return Err(wrong("the port is no number"));
            }
            Some(_) => authority.to_owned(),
            None => {
                let port = if encrypted { ENCRYPTED_PORT } else { DEFAULT_PORT };
                format!("{authority}:{port}")
            }
        };
        Ok(Self { encrypted, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RoomId;

    fn lobbies(text: &str) -> String {
        text.parse::<ServerAddress>().unwrap().lobbies()
    }

    #[test]
    fn addresses_get_the_default_port_and_the_path() {
        assert_eq!(lobbies("ws://10.0.0.1:80"), "ws://10.0.0.1:80/netplay/v1");
        assert_eq!(lobbies("ws://host/"), "ws://host:3536/netplay/v1");
        assert_eq!(lobbies(" ws://[::1] "), "ws://[::1]:3536/netplay/v1");
        assert_eq!(lobbies("ws://[::1]:9"), "ws://[::1]:9/netplay/v1");
        assert_eq!(lobbies("wss://lobby.example"), "wss://lobby.example:443/netplay/v1");
        assert_eq!(lobbies("wss://lobby.example:3536/"), "wss://lobby.example:3536/netplay/v1");
    }

    #[test]
    fn hosts_are_named_without_port_and_brackets() {
        let host = |text: &str| text.parse::<ServerAddress>().unwrap().host().to_owned();
        assert_eq!(host("wss://lobby.example"), "lobby.example");
        assert_eq!(host("ws://[::1]:9"), "::1");
    }

    #[test]
    fn rooms_are_one_segment_and_say_how_many_make_a_group() {
        let server: ServerAddress = "ws://host".parse().unwrap();
        let room = Room::new(RoomId::new("my_game").unwrap());
        assert_eq!(server.room(&room), "ws://host:3536/my_game");
        assert_eq!(server.room(&room.next(2)), "ws://host:3536/my_game?next=2");
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        let wrong = [
            "",
            "host:1",
            "http://host",
            "wss://",
            "wss://host/x",
            "ws://",
            "ws://host/x",
            "ws://h:x",
        ];
        for wrong in wrong.into_iter().chain(["ws://a b", "ws://a@b", "ws://h:70000"]) {
            let error = wrong.parse::<ServerAddress>().unwrap_err();
            assert!(error.to_string().contains("ws://192.168.1.20:3536"), "{error}");
        }
    }
}
