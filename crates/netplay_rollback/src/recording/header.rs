//! What was played, and by whom.

use netplay_protocol::cursor::{ReadError, Reader, put_text};
use netplay_protocol::limits::ID_MAX;
use netplay_protocol::{BuildId, GameId, PROTOCOL_VERSION, PeerId};
use netplay_tick::TickRate;
use thiserror::Error;

use super::RecordingError;
use crate::input::{InputBytes, Tick};
use crate::limits::{INPUT_MAX, PEERS_MAX, RECORDING_NOTE_MAX, RECORDING_TICKS_END};
use crate::message::{put_tick, read_tick};
use crate::session::{ConfigError, Seat, SessionConfig, check_roster};

/// What is recorded: everything but the state before the first tick that a game needs to play it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Netplay's protocol version at the time of the recording.
    pub protocol: u16,
    /// Which game.
    pub game: GameId,
    /// Which build of it: another one may do something else with the same inputs.
    pub build: BuildId,
    /// The hash of the messages that the game has registered.
    pub schema: u64,
    /// The match: [`SessionConfig::id`].
    pub session: u64,
    /// Ticks per second.
    pub rate: TickRate,
    /// Ticks between two checksums; 0 for none.
    pub checksum_every: u16,
    /// The first tick that is recorded: 0, or where a snapshot was taken over.
    pub first_tick: Tick,
    /// When that was, in seconds since 1970, as the caller says; 0 if it does not.
    pub unix_seconds: u64,
    /// All who play, in the order of the players.
    pub roster: Vec<Seat>,
    /// What counts as the input of a player who is not there.
    pub neutral: Vec<u8>,
    /// Anything else that belongs to the match, such as its map; at most [`RECORDING_NOTE_MAX`] bytes.
    pub note: String,
}

impl Header {
    /// The header of a match that is recorded from tick 0, without a time or a note.
    pub fn new(config: &SessionConfig, game: GameId, build: BuildId, schema: u64) -> Self {
        Self {
            protocol: PROTOCOL_VERSION,
            game,
            build,
            schema,
            session: config.id,
            rate: config.rate,
            checksum_every: config.checksum_every,
            first_tick: 0,
            unix_seconds: 0,
            roster: config.roster.clone(),
            neutral: config.neutral.clone(),
            note: String::new(),
        }
    }

    /// How many players there are, and the neutral input.
    pub(super) fn check(&self) -> Result<(usize, InputBytes), HeaderError> {
        let players = check_roster(&self.roster)?;
        let neutral = InputBytes::new(&self.neutral).ok_or(HeaderError::Neutral)?;
        if self.note.len() > RECORDING_NOTE_MAX {
            return Err(HeaderError::Note(self.note.len()));
        }
        if !(0..RECORDING_TICKS_END).contains(&self.first_tick) {
            return Err(HeaderError::FirstTick(self.first_tick));
        }
        Ok((players, neutral))
    }

    /// Appends a header that was checked.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.protocol.to_le_bytes());
        put_text(out, self.game.as_str());
        put_text(out, self.build.as_str());
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.session.to_le_bytes());
        out.extend_from_slice(&self.rate.per_second().to_le_bytes());
        out.extend_from_slice(&self.checksum_every.to_le_bytes());
        put_tick(out, self.first_tick);
        out.extend_from_slice(&self.unix_seconds.to_le_bytes());
        out.push(self.roster.len() as u8);
        for seat in &self.roster {
            out.extend_from_slice(&seat.peer.as_u128().to_le_bytes());
            out.push(seat.players);
        }
        out.push(self.neutral.len() as u8);
        out.extend_from_slice(&self.neutral);
        out.extend_from_slice(&(self.note.len() as u16).to_le_bytes());
        out.extend_from_slice(self.note.as_bytes());
    }

    /// Reads a header and checks it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, RecordingError> {
        let mut reader = Reader::new(bytes);
        let header = Self::read_fields(&mut reader)?;
        reader.finish()?;
        header.check()?;
        Ok(header)
    }

    fn read_fields(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let protocol = reader.u16()?;
        let game = GameId::new(reader.text(ID_MAX)?).map_err(|_| ReadError::Text)?;
        let build = BuildId::new(reader.text(ID_MAX)?).map_err(|_| ReadError::Text)?;
        let (schema, session, rate) = (reader.u64()?, reader.u64()?, reader.u16()?);
        let unknown = ReadError::Unknown { what: "tick rate", value: rate.into() };
        let rate = TickRate::new(rate).ok_or(unknown)?;
        let (checksum_every, first_tick) = (reader.u16()?, read_tick(reader)?);
        let unix_seconds = reader.u64()?;
        let seats = read_len(reader.u8()?.into(), PEERS_MAX)?;
        let roster = (0..seats).map(|_| read_seat(reader)).collect::<Result<_, _>>()?;
        let len = read_len(reader.u8()?.into(), INPUT_MAX)?;
        let neutral = reader.bytes(len)?.to_vec();
        let len = read_len(reader.u16()?.into(), RECORDING_NOTE_MAX)?;
        let note = core::str::from_utf8(reader.bytes(len)?).map_err(|_| ReadError::Text)?.into();
        Ok(Self {
            protocol,
            game,
            build,
            schema,
            session,
            rate,
            checksum_every,
            first_tick,
            unix_seconds,
            roster,
            neutral,
            note,
        })
    }
}

const fn read_len(len: usize, max: usize) -> Result<usize, ReadError> {
    if len > max { Err(ReadError::TooLong { len, max }) } else { Ok(len) }
}

fn read_seat(reader: &mut Reader<'_>) -> Result<Seat, ReadError> {
    let (low, high) = (reader.u64()?, reader.u64()?);
    let peer = PeerId::from_u128(u128::from(high) << 64 | u128::from(low));
    Ok(Seat { peer, players: reader.u8()? })
}

/// Why nothing can be recorded with such a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// No session has such a roster.
    #[error(transparent)]
    Roster(#[from] ConfigError),
    /// The neutral input is too long.
    #[error("the neutral input has more than {INPUT_MAX} bytes")]
    Neutral,
    /// The note is too long.
    #[error("a note of {0} bytes; {RECORDING_NOTE_MAX} are the most")]
    Note(usize),
    /// A recording does not begin there.
    #[error("a recording cannot begin with tick {0}")]
    FirstTick(Tick),
}
