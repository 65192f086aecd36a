//! Channel 0: what two peers say to each other before and besides game messages.
//!
//! | tag | message | content |
//! |---|---|---|
//! | 1 | `Hello` | `NPLY`, version 2, then: codec 1, game (text), build (text), schema hash 8, lane count 1, lanes (id 1, kind 1), carriers 1, the link: see [`LinkPoint`], 8, 8, 8, 4 |
//! | 2 | `Accept` | nothing: your hello suits me |
//! | 3 | `Schema` | the table of message types, sent when hashes differ |
//! | 4 | `Refuse` | code 1, text: I will not play with you |
//! | 5 | `Credit` | what the game has consumed so far, 8 of channel 2, 8 of reliable messages in datagrams |
//! | 6 | `Bye` | code 1: I am leaving on purpose |
//! | 7 | `Start` | code 1, round 4; an instant 8 for the codes 0, 3 and 5: see [`StartMessage`] |
//! | 8 | `Pause` | code 1; for code 2 the earlier pauses 8, from 8, whether it has an end 1, its end 8: see [`PauseMessage`] |
//!
//! `Hello` keeps its first six bytes after the tag in every future version, so that any two versions
//! can at least name their difference.

use core::time::Duration;

use thiserror::Error;

use crate::MeshTime;
use crate::cursor::{ReadError, Reader, put_text};
use crate::ids::{BuildId, GameId};
use crate::lane::LaneTable;
use crate::limits::{CONTROL_MAX, ID_MAX, LANES_MAX, REFUSAL_TEXT_MAX};
use crate::schema::{Schema, SchemaDifference};

const MAGIC: &[u8; 4] = b"NPLY";
const TAG_HELLO: u8 = 1;
const TAG_ACCEPT: u8 = 2;
const TAG_SCHEMA: u8 = 3;
const TAG_REFUSE: u8 = 4;
const TAG_CREDIT: u8 = 5;
const TAG_BYE: u8 = 6;
const TAG_START: u8 = 7;
const TAG_PAUSE: u8 = 8;

/// A lane's number and delivery kind, as the handshake compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneEntry {
    /// The lane's number.
    pub id: u8,
    /// The lane's [`LaneKind`](crate::lane::LaneKind).
    pub kind: u8,
}

/// What the handshake compares of a game's lanes.
pub fn lane_entries(table: &LaneTable) -> Vec<LaneEntry> {
    table
        .iter()
        .map(|(lane, config)| LaneEntry { id: lane.id(), kind: config.kind as u8 })
        .collect()
}

/// Ways to carry datagrams; the first that both sides have, from the highest bit down, is used.
pub mod carriers {
    /// Channel 1. Everybody has it.
    pub const DATA_CHANNEL: u8 = 1;
    /// RTP packets of a media track, which no congestion window of SCTP holds back.
    pub const RTP: u8 = 2;
}

/// The first thing that each side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// [`crate::codec::Codec::ID`].
    pub codec: u8,
    /// Which game.
    pub game: GameId,
    /// Which build of it.
    pub build: BuildId,
    /// [`Schema::hash`].
    pub schema_hash: u64,
    /// The lanes.
    pub lanes: Vec<LaneEntry>,
    /// The [`carriers`] that it can use.
    pub carriers: u8,
    /// For which link this connection is.
    pub link: LinkPoint,
}

/// For which link a connection is, and where the link goes on if it had another connection before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkPoint {
    /// The number that the speaker gave its link; no other link of its has it.
    pub ours: u64,
    /// The number that the listener gave to the link that goes on; 0 if this link is new.
    pub theirs: u64,
    /// What the speaker has received of channel 2 since the link was made, as credit counts it.
    pub stream: u64,
    /// How many messages about matches it has received on channel 0.
    pub control: u32,
}

/// How two hellos differ. "Ours" is the side that reports.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Other versions of this protocol.
    #[error("protocol version {ours} here, {theirs} there: update the older game")]
    Version {
        /// Our version.
        ours: u16,
        /// Their version.
        theirs: u16,
    },
    /// Other games.
    #[error("game {ours} here, {theirs} there")]
    Game {
        /// Our game.
        ours: GameId,
        /// Their game.
        theirs: GameId,
    },
    /// Other builds of the game.
    #[error("build {ours} here, {theirs} there: all players need one build")]
    Build {
        /// Our build.
        ours: BuildId,
        /// Their build.
        theirs: BuildId,
    },
    /// Other codecs.
    #[error("codec {ours} here, {theirs} there")]
    Codec {
        /// Our codec.
        ours: u8,
        /// Their codec.
        theirs: u8,
    },
    /// Other lanes.
    #[error("the lane tables differ: {ours:?} here, {theirs:?} there")]
    Lanes {
        /// Our lanes.
        ours: Vec<LaneEntry>,
        /// Their lanes.
        theirs: Vec<LaneEntry>,
    },
    /// Other message types.
    #[error("the registered messages differ: {0}")]
    Schema(SchemaDifference),
}

impl Hello {
    /// The first difference that needs no schema table, in the order of [`Mismatch`]'s variants.
    pub fn mismatch(&self, theirs: &Self) -> Option<Mismatch> {
        if self.version != theirs.version {
            Some(Mismatch::Version { ours: self.version, theirs: theirs.version })
        } else if self.game != theirs.game {
            Some(Mismatch::Game { ours: self.game.clone(), theirs: theirs.game.clone() })
        } else if self.build != theirs.build {
            Some(Mismatch::Build { ours: self.build.clone(), theirs: theirs.build.clone() })
        } else if self.codec != theirs.codec {
            Some(Mismatch::Codec { ours: self.codec, theirs: theirs.codec })
        } else if self.lanes != theirs.lanes {
            Some(Mismatch::Lanes { ours: self.lanes.clone(), theirs: theirs.lanes.clone() })
        } else {
            None
        }
    }
}

/// Why a peer leaves on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ByeReason {
    /// It left the lobby or quit.
    Left = 0,
    /// It gave this connection up, and a fresh one may follow.
    Replaced = 1,
    /// The other side broke a rule of the protocol.
    Violation = 2,
}

/// What players say to each other about the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMessage {
    /// Shall we begin at this instant?
    Propose {
        /// Tells proposals apart.
        round: u32,
        /// When.
        start: MeshTime,
    },
    /// We can.
    Ready {
        /// Which proposal.
        round: u32,
    },
    /// We are not in sync yet; ask again.
    NotReady {
        /// Which proposal.
        round: u32,
    },
    /// We begin at this instant.
    Commit {
        /// Which proposal.
        round: u32,
        /// When.
        start: MeshTime,
    },
    /// We know.
    Committed {
        /// Which proposal.
        round: u32,
    },
    /// To somebody who comes later: we play, and began at this instant.
    Running {
        /// Which proposal it was.
        round: u32,
        /// When.
        start: MeshTime,
    },
}

/// A pause that all players of a match share, and what they need to know of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// How long the pauses before this one were in all; to the microsecond.
    pub before: Duration,
    /// At this instant of the shared clock the ticks stand still.
    pub from: MeshTime,
    /// At this instant they go on, if that is agreed on.
    pub until: Option<MeshTime>,
}

/// What players say to each other about pauses of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseMessage {
    /// To the host: pause the match.
    AskHold,
    /// To the host: let it go on.
    AskGo,
    /// From the host: this is the latest pause.
    Agreed(Pause),
}

/// A message of channel 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Who I am.
    Hello(Hello),
    /// A hello of another version, of which only this much can be read.
    HelloOfVersion(u16),
    /// Your hello suits me: send.
    Accept,
    /// My message types, because our hashes differ.
    Schema(Schema),
    /// I will not play with you; the text is for a log.
    Refuse(String),
    /// What the game has consumed since the link opened.
    Credit {
        /// Of channel 2, in [cost](crate::stream::cost).
        stream: u64,
        /// Of reliable messages in datagrams, in bytes and [cost](crate::limits::RELIABLE_MESSAGE_COST).
        reliable: u64,
    },
    /// I am leaving on purpose.
    Bye(ByeReason),
    /// About the start of a match.
    Start(StartMessage),
    /// About pauses of a match.
    Pause(PauseMessage),
}

impl StartMessage {
    fn write(&self, out: &mut Vec<u8>) {
        let (code, round, start) = match self {
            Self::Propose { round, start } => (0, round, Some(start)),
            Self::Ready { round } => (1, round, None),
            Self::NotReady { round } => (2, round, None),
            Self::Commit { round, start } => (3, round, Some(start)),
            Self::Committed { round } => (4, round, None),
            Self::Running { round, start } => (5, round, Some(start)),
        };
        out.extend_from_slice(&[TAG_START, code]);
        out.extend_from_slice(&round.to_le_bytes());
        if let Some(start) = start {
            out.extend_from_slice(&start.as_micros().to_le_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let (code, round) = (reader.u8()?, reader.u32()?);
        let mut start = || Ok(MeshTime::from_micros(reader.u64()? as i64));
        Ok(match code {
            0 => Self::Propose { round, start: start()? },
            1 => Self::Ready { round },
            2 => Self::NotReady { round },
            3 => Self::Commit { round, start: start()? },
            4 => Self::Committed { round },
            5 => Self::Running { round, start: start()? },
            value => {
                return Err(ReadError::Unknown { what: "start message", value: value.into() });
            }
        })
    }
}

impl PauseMessage {
    fn write(&self, out: &mut Vec<u8>) {
        let pause = match self {
            Self::AskHold => return out.extend_from_slice(&[TAG_PAUSE, 0]),
            Self::AskGo => return out.extend_from_slice(&[TAG_PAUSE, 1]),
            Self::Agreed(pause) => pause,
        };
        out.extend_from_slice(&[TAG_PAUSE, 2]);
        let before = u64::try_from(pause.before.as_micros()).unwrap_or(u64::MAX);
        out.extend_from_slice(&before.to_le_bytes());
        out.extend_from_slice(&pause.from.as_micros().to_le_bytes());
        out.push(u8::from(pause.until.is_some()));
        if let Some(until) = pause.until {
            out.extend_from_slice(&until.as_micros().to_le_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(match reader.u8()? {
            0 => Self::AskHold,
            1 => Self::AskGo,
            2 => {
                let before = Duration::from_micros(reader.u64()?);
                let from = MeshTime::from_micros(reader.u64()? as i64);
                let until = match reader.u8()? {
                    0 => None,
                    1 => Some(MeshTime::from_micros(reader.u64()? as i64)),
                    value => {
                        return Err(ReadError::Unknown { what: "pause end", value: value.into() });
                    }
                };
                Self::Agreed(Pause { before, from, until })
            }
            value => {
                return Err(ReadError::Unknown { what: "pause message", value: value.into() });
            }
        })
    }
}

impl Control {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => hello.write(out),
            Self::HelloOfVersion(version) => write_hello_prefix(out, *version),
            Self::Accept => out.push(TAG_ACCEPT),
            Self::Schema(schema) => {
                out.push(TAG_SCHEMA);
                schema.write(out);
            }
            Self::Refuse(text) => {
                out.push(TAG_REFUSE);
                let mut end = text.len().min(REFUSAL_TEXT_MAX);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                put_text(out, &text[..end]);
            }
            Self::Credit { stream, reliable } => {
                out.push(TAG_CREDIT);
                out.extend_from_slice(&stream.to_le_bytes());
                out.extend_from_slice(&reliable.to_le_bytes());
            }
            Self::Bye(reason) => out.extend_from_slice(&[TAG_BYE, *reason as u8]),
            Self::Start(message) => message.write(out),
            Self::Pause(message) => message.write(out),
        }
    }

    /// Reads one message that takes all of `bytes`.
    ///
    /// # Errors
    /// [`ReadError`]: not one well-formed message.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        if bytes.len() > CONTROL_MAX {
            return Err(ReadError::TooLong { len: bytes.len(), max: CONTROL_MAX });
        }
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            TAG_HELLO => return Self::read_hello(reader),
            TAG_ACCEPT => Self::Accept,
            TAG_SCHEMA => Self::Schema(Schema::read(&mut reader)?),
            TAG_REFUSE => Self::Refuse(reader.text(REFUSAL_TEXT_MAX)?.to_owned()),
            TAG_CREDIT => Self::Credit { stream: reader.u64()?, reliable: reader.u64()? },
            TAG_BYE => Self::Bye(match reader.u8()? {
                0 => ByeReason::Left,
                1 => ByeReason::Replaced,
                2 => ByeReason::Violation,
                value => {
                    return Err(ReadError::Unknown { what: "bye reason", value: value.into() });
                }
            }),
            TAG_PAUSE => Self::Pause(PauseMessage::read(&mut reader)?),
            TAG_START => Self::Start(StartMessage::read(&mut reader)?),
            tag => {
                return Err(ReadError::Unknown { what: "control message", value: tag.into() });
            }
        };
        reader.finish()?;
        Ok(message)
    }

    fn read_hello(mut reader: Reader<'_>) -> Result<Self, ReadError> {
        if reader.bytes(MAGIC.len())? != MAGIC {
            return Err(ReadError::Unknown { what: "hello", value: 0 });
        }
        let version = reader.u16()?;
        if version != crate::PROTOCOL_VERSION {
            return Ok(Self::HelloOfVersion(version));
        }
        let codec = reader.u8()?;
        let game = GameId::new(reader.text(ID_MAX)?).map_err(|_| ReadError::Text)?;
        let build = BuildId::new(reader.text(ID_MAX)?).map_err(|_| ReadError::Text)?;
        let schema_hash = reader.u64()?;
        let count = usize::from(reader.u8()?);
        if count > LANES_MAX {
            return Err(ReadError::TooLong { len: count, max: LANES_MAX });
        }
        let mut lanes = Vec::with_capacity(count);
        for _ in 0..count {
            lanes.push(LaneEntry { id: reader.u8()?, kind: reader.u8()? });
        }
        let carriers = reader.u8()?;
        let link = LinkPoint {
            ours: reader.u64()?,
            theirs: reader.u64()?,
            stream: reader.u64()?,
            control: reader.u32()?,
        };
        reader.finish()?;
        Ok(Self::Hello(Hello { version, codec, game, build, schema_hash, lanes, carriers, link }))
    }
}

fn write_hello_prefix(out: &mut Vec<u8>, version: u16) {
    out.push(TAG_HELLO);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&version.to_le_bytes());
}

impl Hello {
    fn write(&self, out: &mut Vec<u8>) {
        write_hello_prefix(out, self.version);
        out.push(self.codec);
        put_text(out, self.game.as_str());
        put_text(out, self.build.as_str());
        out.extend_from_slice(&self.schema_hash.to_le_bytes());
        let lanes = &self.lanes[..self.lanes.len().min(LANES_MAX)];
        out.push(lanes.len() as u8);
        for lane in lanes {
            out.extend_from_slice(&[lane.id, lane.kind]);
        }
        out.push(self.carriers);
        for number in [self.link.ours, self.link.theirs, self.link.stream] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.link.control.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Lane;
    use crate::schema::SchemaEntry;

    fn hello() -> Hello {
        Hello {
            version: 1,
            codec: 1,
            game: GameId::new("game").unwrap(),
            build: BuildId::new("1.0").unwrap(),
            schema_hash: 0x0102_0304_0506_0708,
            lanes: lane_entries(&LaneTable::default()),
            carriers: carriers::DATA_CHANNEL,
            link: LinkPoint { ours: 1, theirs: 2, stream: 3, control: 4 },
        }
    }

    fn written(message: &Control) -> Vec<u8> {
        let mut out = Vec::new();
        message.write(&mut out);
        out
    }

    #[test]
    fn golden_bytes_of_every_message() {
        let schema = Schema::new(vec![SchemaEntry { name: "m".into(), lane: Lane::Reliable }]);
        let cases: [(Control, &[u8]); 13] = [
            (
                Control::Hello(hello()),
                b"\x01NPLY\x01\x00\x01\x04game\x031.0\x08\x07\x06\x05\x04\x03\x02\x01\x04\x00\x00\x01\x01\x02\x02\x03\x04\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0",
            ),
            (Control::HelloOfVersion(7), b"\x01NPLY\x07\x00"),
            (Control::Accept, b"\x02"),
            (Control::Schema(schema.unwrap()), b"\x03\x01\x00\x01m\x02"),
            (Control::Refuse("no".into()), b"\x04\x02no"),
            (
                Control::Credit { stream: 258, reliable: 3 },
                b"\x05\x02\x01\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00",
            ),
            (Control::Bye(ByeReason::Violation), b"\x06\x02"),
            (
                Control::Start(StartMessage::Propose {
                    round: 5,
                    start: MeshTime::from_micros(-2),
                }),
                b"\x07\x00\x05\x00\x00\x00\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            ),
            (Control::Start(StartMessage::Committed { round: 1 }), b"\x07\x04\x01\x00\x00\x00"),
            (
                Control::Start(StartMessage::Running {
                    round: 5,
                    start: MeshTime::from_micros(2),
                }),
                b"\x07\x05\x05\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00",
            ),
            (Control::Pause(PauseMessage::AskGo), b"\x08\x01"),
            (
                Control::Pause(PauseMessage::Agreed(Pause {
                    before: Duration::from_micros(2),
                    from: MeshTime::from_micros(3),
                    until: None,
                })),
                b"\x08\x02\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0",
            ),
            (
                Control::Pause(PauseMessage::Agreed(Pause {
                    before: Duration::ZERO,
                    from: MeshTime::from_micros(3),
                    until: Some(MeshTime::from_micros(4)),
                })),
                b"\x08\x02\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01\x04\0\0\0\0\0\0\0",
            ),
        ];
        for (message, bytes) in cases {
            assert_eq!(written(&message), bytes, "{message:?}");
            assert_eq!(Control::read(bytes), Ok(message));
        }
    }

    #[test]
    fn a_hello_of_another_version_still_names_its_version() {
        assert_eq!(
            Control::read(b"\x01NPLY\x09\x00whatever follows"),
            Ok(Control::HelloOfVersion(9))
        );
    }

    #[test]
    fn the_first_difference_is_named() {
        let ours = hello();
        assert_eq!(ours.mismatch(&ours), None);
        let theirs = Hello { build: BuildId::new("2.0").unwrap(), codec: 9, ..hello() };
        assert_eq!(
            ours.mismatch(&theirs).unwrap().to_string(),
            "build 1.0 here, 2.0 there: all players need one build"
        );
    }

    #[test]
    fn a_long_refusal_is_cut_between_characters() {
        let long = Control::Refuse("ä".repeat(200));
        assert_eq!(Control::read(&written(&long)), Ok(Control::Refuse("ä".repeat(127))));
    }

    #[test]
    fn the_largest_schema_fits_a_control_message() {
        let entries = (0..crate::limits::SCHEMA_ENTRIES_MAX).map(|i| SchemaEntry {
            name: format!("{i:0width$}", width = 90),
            lane: Lane::Reliable,
        });
        let bytes = written(&Control::Schema(Schema::new(entries.collect()).unwrap()));
        assert!(bytes.len() <= CONTROL_MAX, "{}", bytes.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = Control::read(&bytes) {
                prop_assert_eq!(Control::read(&written(&message)), Ok(message));
            }
        }

        #[test]
        fn any_flip_of_a_hello_is_a_message_or_an_error(place in 0..30_usize, value: u8) {
            let mut bytes = written(&Control::Hello(hello()));
            let place = place % bytes.len();
            bytes[place] = value;
            drop(Control::read(&bytes));
        }
    }
}
