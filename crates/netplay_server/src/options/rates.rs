//! How fast things may happen, as options.

use core::str::FromStr;

use clap::Args;
use netplay_server::{RateLimit, ServerConfig};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::listed::listed;

/// A rate as it is written in options: how many at once, and how many come back in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Rate(RateLimit);

#[derive(Debug, Error)]
#[error(
    "it has to be two whole numbers, more than 0: 60:10 is 60 at once, and 10 in a second from then on"
)]
pub(crate) struct NoRate;

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or(NoRate);
        let (burst, per_second) = text.split_once(':').ok_or(NoRate)?;
        Ok(Self(RateLimit { burst: number(burst)?, per_second: number(per_second)? }))
    }
}

impl TryFrom<String> for Rate {
    type Error = NoRate;

    fn try_from(text: String) -> Result<Self, NoRate> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(Rate(RateLimit { burst, per_second }): Rate) -> Self {
        format!("{burst}:{per_second}")
    }
}

listed! {
    /// All of them.
    Rates, Rate, "BURST:PER_SECOND";
    /// Messages of one player, signals excepted. Players click; programs that do more are broken or hostile.
    messages, "NETPLAY_MESSAGES", lobby.messages;
    /// Signals of one player. To connect to 15 others at once takes about 330.
    signals, "NETPLAY_SIGNALS", lobby.signals;
    /// Joins by code of one player: nobody types faster.
    joins, "NETPLAY_JOINS", lobby.joins;
    /// Codes of one address that no lobby has: whoever opens connections without end guesses no faster.
    address_guesses, "NETPLAY_ADDRESS_GUESSES", lobby.address_guesses;
    /// Searches and quick joins of one player: a list that is refreshed every two seconds, and a player who changes
    /// what it shows.
    searches, "NETPLAY_SEARCHES", lobby.searches;
    /// The same of all players behind one address: a hundred who look at the list.
    address_searches, "NETPLAY_ADDRESS_SEARCHES", lobby.address_searches;
    /// Bytes of messages of all players behind one address: 250 who all connect to fifteen others send 26 MB. Who
    /// goes over is read no faster.
    address_bytes, "NETPLAY_ADDRESS_BYTES", address_bytes;
    /// Wrong passwords for one lobby, of everybody together: who has many addresses would guess faster.
    wrong_passwords, "NETPLAY_WRONG_PASSWORDS", lobby.passwords;
    /// Lines of chat of one player.
    chat, "NETPLAY_CHAT", lobby.chat;
    /// Invitations of one player: each is shown to somebody.
    invites, "NETPLAY_INVITES", lobby.invites;
    /// Messages of all sessions of an account together: several do not make a faster one.
    account_messages, "NETPLAY_ACCOUNT_MESSAGES", lobby.account_messages;
    /// Messages of all members of a lobby together that every member is told of: sixteen who all turn a knob.
    lobby_messages, "NETPLAY_LOBBY_MESSAGES", lobby.lobby_messages;
    /// New sessions of the whole server. Who takes up a session of before is not counted.
    new_sessions, "NETPLAY_NEW_SESSIONS", lobby.new_sessions;
    /// Messages of one player with matchbox_socket, whatever they are: when 63 others come at once, each is about 22.
    matchbox_messages, "NETPLAY_MATCHBOX_MESSAGES", lobby.rooms.signals;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_two_numbers_and_is_written_as_it_is_read() {
        let rate: Rate = "60:10".parse().unwrap();
        assert_eq!(rate, Rate(RateLimit { burst: 60, per_second: 10 }));
        assert_eq!(String::from(rate), "60:10");
        for wrong in
            ["", "60", "60:", ":10", "0:1", "1:0", "-1:1", "1:2:3", "1.5:2", "4294967296:1"]
        {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_that_is_given_is_the_servers_and_the_others_stay() {
        let mut config = ServerConfig::default();
        let expected = RateLimit { burst: 7, per_second: 3 };
        let given = Rates { chat: Some("7:3".parse().unwrap()), ..Rates::default() };
        given.over(Rates::of(&config)).put(&mut config);
        let mut default = ServerConfig::default();
        assert_ne!(default, config);
        default.lobby.chat = expected;
        assert_eq!(default, config);
    }
}
