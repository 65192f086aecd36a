//! Times, as options.

use core::str::FromStr;
use core::time::Duration;

use clap::Args;
use netplay_server::ServerConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::listed::listed;

/// A time as it is written in options: more than nothing, and a day at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub(crate) struct Seconds(Duration);

#[derive(Debug, Error)]
#[error("it has to be seconds, more than 0 and 86400 at most")]
pub(crate) struct NoSeconds;

impl TryFrom<f64> for Seconds {
    type Error = NoSeconds;

    fn try_from(seconds: f64) -> Result<Self, NoSeconds> {
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if !time.is_zero() && seconds <= 86_400.0 => Ok(Self(time)),
            _ => Err(NoSeconds),
        }
    }
}

impl FromStr for Seconds {
    type Err = NoSeconds;

    fn from_str(text: &str) -> Result<Self, NoSeconds> {
        text.parse::<f64>().map_err(|_| NoSeconds)?.try_into()
    }
}

impl From<Seconds> for f64 {
    fn from(seconds: Seconds) -> Self {
        seconds.0.as_secs_f64()
    }
}

listed! {
    /// All of them.
    Times, Seconds, "SECONDS";
    /// From the open socket to the WebSocket, that of TLS included: a bad mobile link needs about a second.
    handshake_timeout, "NETPLAY_HANDSHAKE_TIMEOUT", handshake_timeout;
    /// From the WebSocket to the first message: a bad mobile link needs about a second.
    hello_timeout, "NETPLAY_HELLO_TIMEOUT", lobby.hello_timeout;
    /// How long one message may wait for a player who does not read: a mobile link that changes masts stalls for a
    /// few seconds.
    write_timeout, "NETPLAY_WRITE_TIMEOUT", write_timeout;
    /// How often players speak at least. Who misses three is gone: one may be late, two may meet a Wi-Fi roam.
    keep_alive, "NETPLAY_KEEP_ALIVE", lobby.keep_alive;
    /// How long a player is remembered whose connection ended, and how long a host leads on whose seat is kept for
    /// longer: a phone that changes networks or a laptop that wakes up is back within seconds.
    grace, "NETPLAY_GRACE", lobby.grace;
    /// How long a seat may be kept at most, whatever a lobby wants: it holds a session.
    seat_max, "NETPLAY_SEAT_MAX", lobby.seat_max;
    /// After a restart, how long a lobby waits for its members before others may enter: they come back within 7.5 s.
    returning, "NETPLAY_RETURNING", lobby.returning;
    /// How long a player may come back to a session after the server was restarted: longer than anybody plays.
    resume_lifetime, "NETPLAY_RESUME_LIFETIME", lobby.token_lifetime;
    /// How long a lobby lives at most: longer than anybody plays, and one that was forgotten goes.
    lobby_lifetime, "NETPLAY_LOBBY_LIFETIME", lobby.lobby_lifetime;
    /// How long a join ticket is good at most: from your backend to the player's game.
    ticket_lifetime, "NETPLAY_TICKET_LIFETIME", lobby.ticket_lifetime;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_finite_and_not_nothing() {
        for wrong in ["0", "-1", "nan", "inf", "86401", "1e300", "", "5s"] {
            assert!(wrong.parse::<Seconds>().is_err(), "{wrong}");
        }
        assert_eq!("0.25".parse::<Seconds>().unwrap(), Seconds(Duration::from_millis(250)));
    }
}
