//! What a session is started with.

use netplay_protocol::PeerId;
use netplay_tick::TickRate;
use thiserror::Error;

use crate::input::InputBytes;
use crate::limits::{DELAY_MAX, PEERS_MAX, PLAYERS_MAX, PREDICTION_MAX, WATCH_DELAY_MAX};
use crate::predict::{Predictor, RepeatLast};

/// A peer and how many players sit at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The peer.
    pub peer: PeerId,
    /// Its players, at least 1.
    pub players: u8,
}

/// How we take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We play from tick 0 on.
    Player,
    /// We are in the roster, but the match runs already: we get a snapshot, catch up and play.
    Returning,
    /// We watch, so many ticks behind.
    Spectator {
        /// In ticks, at most [`WATCH_DELAY_MAX`]; 0 shows everything as soon as it is final.
        delay: u16,
        /// Whether we have the state of tick 0; else a snapshot is asked for.
        from_start: bool,
    },
}

/// The settings of a session. `id`, `roster`, `absent`, `neutral`, `rate` and `checksum_every` have to be
/// equal on all peers; `roster` but for peers who took a seat since ([`Input::Seat`](crate::Input::Seat)).
#[derive(Debug)]
pub struct SessionConfig {
    /// Names the match: another number for every match of these peers.
    pub id: u64,
    /// Who we are.
    pub me: PeerId,
    /// The host of the lobby.
    pub host: PeerId,
    /// All who play, in the order of the players.
    pub roster: Vec<Seat>,
    /// Of these, the seats that nobody has at tick 0, or, for who comes later, has by now: any name may
    /// stand for a peer who comes later, as [`Role::Returning`]. None by default.
    pub absent: Vec<PeerId>,
    /// How we take part.
    pub role: Role,
    /// Tells our process from earlier ones of the same peer: any number that they did not have. 0 by
    /// default.
    pub epoch: u32,
    /// Ticks per second.
    pub rate: TickRate,
    /// Ticks that may run on predictions; at 0 every tick waits for all inputs. 8 by default.
    pub prediction: u8,
    /// Ticks that our inputs wait before they count. 0 by default.
    pub delay: u8,
    /// What counts as the input of a player who is not there; empty by default.
    pub neutral: Vec<u8>,
    /// Whether bytes from another peer are an input of this game; everything is by default.
    pub validate: fn(&[u8]) -> bool,
    /// Ticks between two checksums that are compared; 0 for none. A second by default.
    pub checksum_every: u16,
    /// Guesses inputs that have not come; repeats the last one by default.
    pub predictor: Box<dyn Predictor>,
}

impl SessionConfig {
    /// The defaults for this match.
    pub fn new(id: u64, me: PeerId, host: PeerId, roster: Vec<Seat>) -> Self {
        let rate = TickRate::default();
        Self {
            id,
            me,
            host,
            roster,
            absent: Vec::new(),
            role: Role::Player,
            epoch: 0,
            rate,
            prediction: 8,
            delay: 0,
            neutral: Vec::new(),
            validate: |_| true,
            checksum_every: rate.per_second(),
            predictor: Box::new(RepeatLast),
        }
    }

    /// The neutral input.
    pub(crate) fn check(&self) -> Result<InputBytes, ConfigError> {
        check_roster(&self.roster)?;
        let listed = self.roster.iter().any(|seat| seat.peer == self.me);
        let comes_later = self.absent.contains(&self.me) && self.role == Role::Player;
        if listed == matches!(self.role, Role::Spectator { .. }) || comes_later {
            return Err(ConfigError::Role);
        }
        if self.roster.iter().all(|seat| self.absent.contains(&seat.peer)) {
            return Err(ConfigError::Absent);
        }
        if self.prediction > PREDICTION_MAX {
            return Err(ConfigError::Prediction(self.prediction));
        }
        if let Role::Spectator { delay, .. } = self.role
            && delay > WATCH_DELAY_MAX
        {
            return Err(ConfigError::WatchDelay(delay));
        }
        if self.delay > DELAY_MAX {
            return Err(ConfigError::Delay(self.delay));
        }
        let neutral = InputBytes::new(&self.neutral).ok_or(ConfigError::Neutral)?;
        if (self.validate)(&self.neutral) { Ok(neutral) } else { Err(ConfigError::Neutral) }
    }
}

/// How many players there are.
pub(crate) fn check_roster(roster: &[Seat]) -> Result<usize, ConfigError> {
    let players: usize = roster.iter().map(|seat| usize::from(seat.players)).sum();
    let mut peers: Vec<PeerId> = roster.iter().map(|seat| seat.peer).collect();
    peers.sort();
    peers.dedup();
    if peers.len() != roster.len() || roster.iter().any(|seat| seat.players == 0) {
        return Err(ConfigError::Roster);
    }
    if players == 0 || players > PLAYERS_MAX || peers.len() > PEERS_MAX {
        return Err(ConfigError::Players(players));
    }
    Ok(players)
}

/// Why there is no session with these settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A peer is listed twice, or has no players.
    #[error("every peer is in the roster once, with at least one player")]
    Roster,
    /// Too many players, or none.
    #[error("{0} players; a match has 1 to {PLAYERS_MAX}")]
    Players(usize),
    /// Who plays has to be in the roster, and who watches not; who is absent comes later.
    #[error(
        "who plays has to be in the roster, and who watches must not be; who is absent comes later"
    )]
    Role,
    /// Nobody is there at tick 0.
    #[error("somebody has to be there at tick 0")]
    Absent,
    /// Too many ticks of prediction.
    #[error("{0} ticks of prediction; {PREDICTION_MAX} are the most")]
    Prediction(u8),
    /// A spectator too far behind.
    #[error("a spectator {0} ticks behind; {WATCH_DELAY_MAX} are the most")]
    WatchDelay(u16),
    /// Too much input delay.
    #[error("{0} ticks of input delay; {DELAY_MAX} are the most")]
    Delay(u8),
    /// The neutral input is too long or no valid input.
    #[error("the neutral input is no valid input")]
    Neutral,
}
