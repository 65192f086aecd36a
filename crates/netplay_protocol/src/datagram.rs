//! The header of every datagram, on channel 1 or on a media track.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | flags: 1 = acks are valid, 2 = answer at once (ping), 4 = tick is valid, 8 = a clock note follows; others zero |
//! | 1 | 2 | sequence of this datagram, wrapping |
//! | 3 | 3 | time of departure, units of 16 µs on the sender's clock, wrapping after 268 s |
//! | 6 | 2 | ack base: the newest sequence received; also names the datagram whose time is echoed |
//! | 8 | 2 | hold time: from that datagram's arrival to this departure, 16 µs; `0xFFFF` = too long |
//! | 10 | 4 | ack bits: bit `i` = sequence `ack base - 1 - i` was received |
//! | 14 | 2 | the newest tick of the inputs in front of the blocks, wrapping |
//!
//! Blocks follow (see [`crate::block`]); a header alone is a bare ack or a ping. Little-endian.
//!
//! A *clock note* comes before the blocks, in some datagrams:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 16 | 8 | who founded the mesh clock; zero: the sender has none, and the rest is zero |
//! | 24 | 8 | what the sender's copy of it shows at the departure, in microseconds, signed |
//! | 32 | 2 | how much faster it runs than the sender's own clock, in 1/16 parts per million, signed |

use core::time::Duration;

use crate::Now;
use crate::cursor::{ReadError, Reader};

/// Bytes of a header.
pub const HEADER_LEN: usize = 16;

/// Bytes of a clock note.
pub const CLOCK_NOTE_LEN: usize = 18;

/// The resolution of times in the header, in microseconds.
pub const TIME_UNIT_US: u64 = 16;

const FLAG_ACKS: u8 = 1;
const FLAG_PING: u8 = 2;
const FLAG_TICK: u8 = 4;
const FLAG_CLOCK: u8 = 8;
const FLAGS_KNOWN: u8 = FLAG_ACKS | FLAG_PING | FLAG_TICK | FLAG_CLOCK;
const HOLD_UNKNOWN: u16 = u16::MAX;
const DEPARTURE_MASK: u64 = (1 << 24) - 1;

/// A datagram's number. Order is only defined between two that are less than half the range apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sequence(pub u16);

impl Sequence {
    /// The one after.
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// How far `self` is ahead of `other`; negative if behind.
    pub const fn ahead_of(self, other: Self) -> i16 {
        self.0.wrapping_sub(other.0) as i16
    }
}

/// When a datagram left, on its sender's clock, in wrapping units of 16 µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departure(u32);

impl Departure {
    /// The departure at `now`.
    pub const fn at(now: Now) -> Self {
        Self(((now.as_micros() / TIME_UNIT_US) & DEPARTURE_MASK) as u32)
    }

    /// The wrapping 24-bit number on the wire.
    pub const fn units(self) -> u32 {
        self.0
    }
}

/// What the sender has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acks {
    /// The newest sequence received; the datagram whose time is echoed.
    pub base: Sequence,
    /// Bit `i` stands for sequence `base - 1 - i`.
    pub bits: u32,
    /// From the arrival of `base` to the departure of this datagram; `None` beyond about a second.
    pub hold: Option<Duration>,
}

/// The header of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// This datagram's number.
    pub sequence: Sequence,
    /// When it left.
    pub departure: Departure,
    /// What its sender has received; `None` before the first.
    pub acks: Option<Acks>,
    /// Whether the receiver should answer at once, from its network thread.
    pub ping: bool,
    /// The low bits of the newest tick of the inputs that it carries, if it carries any.
    pub tick: Option<u16>,
    /// Whether a clock note follows.
    pub clock: bool,
}

/// Where a player's copy of the mesh clock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockNote {
    /// Who founded the clock; not zero.
    pub founder: u64,
    /// What the copy shows, in microseconds.
    pub mesh: i64,
    /// How much faster it runs than its owner's own clock, in 1/16 parts per million.
    pub rate: i16,
}

/// A copy of the mesh clock as a line over its owner's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockLine {
    /// Where the copy stands at [`Self::at`].
    pub note: ClockNote,
    /// On the owner's clock.
    pub at: Now,
}

impl ClockNote {
    /// Steps of [`Self::rate`] in a part per million.
    pub const RATE_STEPS: f64 = 16.0;

    /// The nearest rate that can be told.
    pub fn rate_of(ppm: f64) -> i16 {
        let most = f64::from(i16::MAX);
        (ppm * Self::RATE_STEPS).round().clamp(-most, most) as i16
    }

    /// The rate in parts per million.
    pub fn rate_ppm(&self) -> f64 {
        f64::from(self.rate) / Self::RATE_STEPS
    }

    /// Writes a note, or that there is no clock.
    pub fn write(note: Option<&Self>, out: &mut [u8; CLOCK_NOTE_LEN]) {
        let Self { founder, mesh, rate } = note.copied().unwrap_or(Self::NONE);
        out[..8].copy_from_slice(&founder.to_le_bytes());
        out[8..16].copy_from_slice(&mesh.to_le_bytes());
        out[16..].copy_from_slice(&rate.to_le_bytes());
    }

    /// Reads a note; `None`: the sender has no clock.
    ///
    /// # Errors
    /// [`ReadError::Truncated`]; [`ReadError::Unknown`] if there is no founder but a time.
    pub fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, ReadError> {
        let (founder, mesh, rate) = (reader.u64()?, reader.u64()? as i64, reader.u16()? as i16);
        let note = Self { founder, mesh, rate };
        if founder == 0 && note != Self::NONE {
            return Err(ReadError::Unknown { what: "clock note", value: mesh as u32 });
        }
        Ok((founder != 0).then_some(note))
    }

    const NONE: Self = Self { founder: 0, mesh: 0, rate: 0 };
}

impl ClockLine {
    /// Where the copy stands at `now`.
    pub fn show(&self, now: Now) -> ClockNote {
        let passed = now.as_micros() as f64 - self.at.as_micros() as f64;
        let mesh = passed * (1.0 + self.note.rate_ppm() / 1e6);
        ClockNote { mesh: self.note.mesh.saturating_add(mesh.round() as i64), ..self.note }
    }
}

impl Header {
    /// Writes the header into the first [`HEADER_LEN`] bytes of a packet.
    pub fn write(&self, out: &mut [u8; HEADER_LEN]) {
        let mut flags = 0;
        let (mut base, mut hold, mut bits) = (0, 0, 0);
        if let Some(acks) = &self.acks {
            flags |= FLAG_ACKS;
            base = acks.base.0;
            bits = acks.bits;
            hold = acks
                .hold
                .and_then(|hold| u16::try_from(hold.as_micros() as u64 / TIME_UNIT_US).ok())
                .unwrap_or(HOLD_UNKNOWN);
        }
        if self.ping {
            flags |= FLAG_PING;
        }
        if self.tick.is_some() {
            flags |= FLAG_TICK;
        }
        if self.clock {
            flags |= FLAG_CLOCK;
        }
        out[0] = flags;
        out[1..3].copy_from_slice(&self.sequence.0.to_le_bytes());
        out[3..6].copy_from_slice(&self.departure.0.to_le_bytes()[..3]);
        out[6..8].copy_from_slice(&base.to_le_bytes());
        out[8..10].copy_from_slice(&hold.to_le_bytes());
        out[10..14].copy_from_slice(&bits.to_le_bytes());
        out[14..16].copy_from_slice(&self.tick.unwrap_or(0).to_le_bytes());
    }

    /// Reads a header from the front of a packet; the frames are what the reader has left.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] below 16 bytes; [`ReadError::Unknown`] for an unknown flag, or for a
    /// field that its flag says is absent and that is not zero.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let flags = reader.u8()?;
        let sequence = Sequence(reader.u16()?);
        let departure = Departure(reader.u24()?);
        let base = Sequence(reader.u16()?);
        let hold = reader.u16()?;
        let bits = reader.u32()?;
        let tick = reader.u16()?;
        let absent_but_set = (flags & FLAG_ACKS == 0 && (base.0 != 0 || hold != 0 || bits != 0))
            || (flags & FLAG_TICK == 0 && tick != 0);
        if flags & !FLAGS_KNOWN != 0 || absent_but_set {
            return Err(ReadError::Unknown { what: "datagram flags", value: flags.into() });
        }
        let acks = (flags & FLAG_ACKS != 0).then(|| Acks {
            base,
            bits,
            hold: (hold != HOLD_UNKNOWN)
                .then(|| Duration::from_micros(u64::from(hold) * TIME_UNIT_US)),
        });
        Ok(Self {
            sequence,
            departure,
            acks,
            ping: flags & FLAG_PING != 0,
            tick: (flags & FLAG_TICK != 0).then_some(tick),
            clock: flags & FLAG_CLOCK != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            sequence: Sequence(0x1234),
            departure: Departure::at(Now::from_micros(0x0056_789A * TIME_UNIT_US)),
            acks: Some(Acks {
                base: Sequence(0xBCDE),
                bits: 0x8000_0001,
                hold: Some(Duration::from_micros(3 * TIME_UNIT_US)),
            }),
            ping: true,
            tick: Some(0x0102),
            clock: true,
        }
    }

    #[test]
    fn golden_bytes_of_a_full_header() {
        let mut bytes = [0; HEADER_LEN];
        header().write(&mut bytes);
        assert_eq!(
            bytes,
            [
                0x0F, 0x34, 0x12, 0x9A, 0x78, 0x56, 0xDE, 0xBC, 0x03, 0x00, 0x01, 0x00, 0x00, 0x80,
                0x02, 0x01
            ]
        );
        assert_eq!(Header::read(&mut Reader::new(&bytes)), Ok(header()));
    }

    #[test]
    fn golden_bytes_of_a_first_datagram() {
        let first = Header {
            sequence: Sequence(0),
            departure: Departure::at(Now::from_micros(16)),
            acks: None,
            ping: false,
            tick: None,
            clock: false,
        };
        let mut bytes = [0xFF; HEADER_LEN];
        first.write(&mut bytes);
        assert_eq!(bytes, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Header::read(&mut Reader::new(&bytes)), Ok(first));
    }

    #[test]
    fn a_long_hold_is_sent_as_unknown() {
        let mut header = header();
        header.acks = header.acks.map(|acks| Acks { hold: Some(Duration::from_secs(2)), ..acks });
        let mut bytes = [0; HEADER_LEN];
        header.write(&mut bytes);
        let read = Header::read(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(read.acks.unwrap().hold, None);
    }

    #[test]
    fn unknown_flags_and_stray_fields_are_refused() {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = 16;
        assert!(Header::read(&mut Reader::new(&bytes)).is_err());
        bytes[0] = 0;
        bytes[14] = 1;
        assert!(Header::read(&mut Reader::new(&bytes)).is_err());
        assert_eq!(Header::read(&mut Reader::new(&bytes[..15])), Err(ReadError::Truncated));
    }

    #[test]
    fn sequences_keep_their_order_over_the_wrap() {
        assert_eq!(Sequence(u16::MAX).next(), Sequence(0));
        assert_eq!(Sequence(2).ahead_of(Sequence(u16::MAX)), 3);
        assert_eq!(Sequence(u16::MAX).ahead_of(Sequence(2)), -3);
    }

    #[test]
    fn golden_bytes_of_a_clock_note() {
        let note = ClockNote { founder: 0x0102, mesh: -2, rate: ClockNote::rate_of(-100.0) };
        let mut bytes = [0xAA; CLOCK_NOTE_LEN];
        ClockNote::write(Some(&note), &mut bytes);
        let f = 0xFF;
        let expected = [2, 1, 0, 0, 0, 0, 0, 0, 0xFE, f, f, f, f, f, f, f, 0xC0, 0xF9];
        assert_eq!(bytes, expected);
        assert_eq!(ClockNote::read(&mut Reader::new(&bytes)), Ok(Some(note)));
        ClockNote::write(None, &mut bytes);
        assert_eq!(bytes, [0; CLOCK_NOTE_LEN]);
        assert_eq!(ClockNote::read(&mut Reader::new(&bytes)), Ok(None));
        bytes[9] = 1;
        assert!(ClockNote::read(&mut Reader::new(&bytes)).is_err());
        assert_eq!(ClockNote::read(&mut Reader::new(&bytes[1..])), Err(ReadError::Truncated));
    }

    #[test]
    fn a_clock_line_goes_on_at_its_rate() {
        let note = ClockNote { founder: 1, mesh: -500_000, rate: ClockNote::rate_of(1000.0) };
        let line = ClockLine { note, at: Now::from_millis(7_000) };
        assert_eq!(line.show(Now::from_millis(8_000)).mesh, 501_000);
        assert_eq!(line.show(Now::from_millis(6_000)).mesh, -1_501_000);
    }

    proptest! {
        #[test]
        fn any_sixteen_bytes_are_a_header_or_an_error(bytes: [u8; HEADER_LEN]) {
            if let Ok(header) = Header::read(&mut Reader::new(&bytes)) {
                let mut again = [0; HEADER_LEN];
                header.write(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
