//! The input block, which one peer tells another in the datagram of every tick: see [`crate::protocol`].

use netplay_protocol::cursor::{Reader, put_varint};

use crate::input::Tick;
use crate::limits::{BLOCK_MAX, BLOCK_TICKS_MAX, HISTORY};

const TWICE: u8 = 1;
const FROM_NEUTRAL: u8 = 2;
const IDLE: u8 = 4;

/// Blocks to a peer are counted in the rest of the flags.
const NUMBER_SHIFT: u8 = 3;
/// After so many the count begins anew.
pub(crate) const NUMBERS: u8 = 32;

/// Why a block is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Bytes,
    Session,
}

/// A block without its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) twice: bool,
    pub(crate) from_neutral: bool,
    pub(crate) idle: bool,
    /// Which of the sender's blocks to us this is, below [`NUMBERS`].
    pub(crate) number: u8,
    /// The newest tick of the block.
    pub(crate) newest: Tick,
    /// The last tick up to which the sender knows our inputs.
    pub(crate) known: Tick,
    pub(crate) count: usize,
}

const fn zigzag(value: i32) -> u32 {
    (value << 1 ^ value >> 31) as u32
}

const fn unzigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

impl Head {
    /// Appends the head.
    pub(crate) fn put(&self, out: &mut Vec<u8>, session: u8) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.push(
            flag(self.twice, TWICE)
                | flag(self.from_neutral, FROM_NEUTRAL)
                | flag(self.idle, IDLE)
                | self.number << NUMBER_SHIFT,
        );
        out.push(session);
        let lag = (self.newest - self.known).clamp(-HISTORY * 2, HISTORY * 2);
        put_varint(out, zigzag(lag));
        put_varint(out, self.count as u32);
    }

    /// Reads a head; what remains in the reader are the inputs. `near` is a tick that the newest one
    /// is near to.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        session: u8,
        low: u16,
        near: Tick,
    ) -> Result<Self, Malformed> {
        let flags = reader.u8().map_err(|_| Malformed::Bytes)?;
        if reader.u8().map_err(|_| Malformed::Bytes)? != session {
            return Err(Malformed::Session);
        }
        let lag = unzigzag(reader.varint().map_err(|_| Malformed::Bytes)?);
        let count = reader.varint().map_err(|_| Malformed::Bytes)? as usize;
        let idle = flags & IDLE != 0;
        if lag.abs() > HISTORY * 2
            || count > BLOCK_TICKS_MAX
            || reader.rest().len() > BLOCK_MAX
            || (idle && !reader.is_empty())
        {
            return Err(Malformed::Bytes);
        }
        let newest = near + Tick::from(low.wrapping_sub(near as u16) as i16);
        Ok(Self {
            twice: flags & TWICE != 0,
            from_neutral: flags & FROM_NEUTRAL != 0,
            idle,
            number: flags >> NUMBER_SHIFT,
            newest,
            known: newest - lag,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes_of_a_head() {
        let head = Head {
            twice: true,
            from_neutral: false,
            idle: true,
            number: 3,
            newest: 70_000,
            known: 69_993,
            count: 8,
        };
        let mut out = Vec::new();
        head.put(&mut out, 0xAB);
        assert_eq!(out, [5 + 24, 0xAB, 14, 8]);
        let read = |low: u16, near| Head::read(&mut Reader::new(&out), 0xAB, low, near);
        assert_eq!(read(70_000_u32 as u16, 69_000), Ok(head));
        assert_eq!(Head::read(&mut Reader::new(&out), 1, 0, 0), Err(Malformed::Session));
    }

    proptest! {
        #[test]
        fn heads_come_back(
            (twice, from_neutral) in any::<(bool, bool)>(), number in 0..NUMBERS, newest in 0..1_000_000,
            lag in -8192..=8192, count in 0..512_usize
        ) {
            let known = newest - lag;
            let head = Head { twice, from_neutral, idle: true, number, newest, known, count };
            let mut out = Vec::new();
            head.put(&mut out, 3);
            prop_assert_eq!(Head::read(&mut Reader::new(&out), 3, newest as u16, newest - 99), Ok(head));
        }

        #[test]
        fn any_bytes_are_a_head_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = Head::read(&mut Reader::new(&bytes), 0, 0, 0);
        }
    }
}
