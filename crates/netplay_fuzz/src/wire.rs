//! Bytes as a peer of a session writes them, with whatever a script puts into them.
//!
//! What is told of ticks is near to the truth more often than not. The bodies of the agreement are
//! fields in any order: which order a session reads is for the fuzzer to find.

use netplay_protocol::cursor::put_varint;
use netplay_rollback::Tick;
use xxhash_rust::xxh3::xxh3_64;

use crate::script::Script;

/// The session of all targets.
pub(crate) const SESSION: u64 = 0x0102_0304_0506_0077;

const HEAD: u8 = 128;
const PART: u8 = 129;
/// Cells that a script may fill at once: more than a block has.
const CELLS_MAX: usize = 1024;

/// What a liar knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) tick: Tick,
    pub(crate) confirmed: Tick,
    /// Who speaks, of how many slots, with how many players each.
    pub(crate) from: usize,
    pub(crate) slots: usize,
    pub(crate) each: usize,
    /// The tick that was told last.
    pub(crate) last: Tick,
}

/// Single bits, low bits first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: u8, count: usize) {
        for i in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let byte = self.bytes.len() - 1;
            self.bytes[byte] |= (value >> i & 1) << (self.used % 8);
            self.used += 1;
        }
    }

    /// A cell that says all its bytes.
    fn whole(&mut self, input: &[u8]) {
        self.put(0b111, 3);
        self.put(input.len() as u8, 8);
        input.iter().for_each(|byte| self.put(*byte, 8));
    }
}

/// So many cells, of which a byte chooses four: as before, another input, nobody.
fn cells(script: &mut Script<'_>, count: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    let mut choices = 0;
    for i in 0..count.min(CELLS_MAX) {
        if i % 4 == 0 {
            choices = script.u8();
        }
        match choices >> (i % 4 * 2) & 3 {
            0 | 1 => bits.put(0, 1),
            2 => bits.whole(&[script.u8()]),
            _ => match script.u8() {
                0..64 => bits.put(0b011, 3),
                len => bits.whole(script.bytes((len % 12).into())),
            },
        }
    }
    bits.bytes
}

/// What an honest peer does at a tick.
fn honest(from: usize, tick: Tick) -> [u8; 1] {
    [((tick >> 3) as u8 ^ from as u8) & 0x7F]
}

fn put_block(flags: u8, lag: Tick, count: usize, bits: &[u8]) -> Vec<u8> {
    let mut out = vec![flags, SESSION as u8];
    put_varint(&mut out, (lag << 1 ^ lag >> 31) as u32 & 0x1F_FFFF);
    put_varint(&mut out, count as u32);
    out.extend_from_slice(bits);
    out
}

impl Known {
    /// A tick, likely near to now or to what is final.
    pub(crate) fn tick(&mut self, script: &mut Script<'_>) -> Tick {
        let (tick, confirmed) = (self.tick, self.confirmed);
        self.last = match script.u8() {
            near @ 0..96 => tick.saturating_add(Tick::from(near) - 48),
            near @ 96..192 => confirmed.saturating_add(Tick::from(near) - 128),
            near @ 192..232 => self.last.saturating_add(Tick::from(near) - 212),
            232..248 => tick.saturating_add(Tick::from(script.u16() as i16)),
            _ => script.u32() as Tick,
        };
        self.last
    }

    fn slot(&self, script: &mut Script<'_>) -> u8 {
        match script.u8() {
            own @ 0..96 => (self.from + usize::from(own) / 64) as u8,
            other => other & 0x1F,
        }
    }

    fn number(script: &mut Script<'_>) -> u32 {
        match script.u8() {
            255 => script.u32(),
            254 => script.u16().into(),
            small => small.into(),
        }
    }

    fn put_tick(&mut self, out: &mut Vec<u8>, script: &mut Script<'_>) {
        out.extend_from_slice(&self.tick(script).to_le_bytes());
    }

    fn put_ballot(&self, out: &mut Vec<u8>, script: &mut Script<'_>) {
        out.extend_from_slice(&Self::number(script).to_le_bytes());
        out.push(self.slot(script));
    }

    /// A tail that ends with the tick that was told last.
    fn put_tail(&self, out: &mut Vec<u8>, script: &mut Script<'_>) {
        let count = u16::from(script.u8());
        let first = self.last.wrapping_add(1).wrapping_sub(count.into());
        let bits = cells(script, usize::from(count) * self.each);
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&(bits.len() as u16).to_le_bytes());
        out.extend_from_slice(&bits);
    }

    /// Fields until a script has enough of them.
    fn put_fields(&mut self, out: &mut Vec<u8>, script: &mut Script<'_>) {
        for _ in 0..24 {
            match script.u8() {
                count @ 0..48 => out.push(count % 4),
                48..80 => out.push(self.slot(script)),
                80..128 => self.put_tick(out, script),
                128..160 => self.put_tail(out, script),
                160..176 => self.put_ballot(out, script),
                176..192 => out.extend_from_slice(&[script.u8(), 0]),
                192..208 => out.extend_from_slice(&Self::number(script).to_le_bytes()),
                208..216 => out.extend_from_slice(script.short()),
                _ => break,
            }
        }
    }

    /// A reliable message of this kind.
    pub(crate) fn message(&mut self, script: &mut Script<'_>, kind: u8) -> Vec<u8> {
        let mut out = vec![kind];
        out.extend_from_slice(&(SESSION as u32).to_le_bytes());
        if (1..=9).contains(&kind) {
            out.extend_from_slice(&Self::number(script).to_le_bytes());
            if (2..=7).contains(&kind) {
                self.put_ballot(&mut out, script);
            }
        }
        match kind {
            0 => {
                self.put_tick(&mut out, script);
                out.extend_from_slice(&script.u64().to_le_bytes());
            }
            1 => out.extend_from_slice(&[script.u8(), 0]),
            2 | 7 => {
                out.extend_from_slice(&[script.u8(), 0]);
                self.put_fields(&mut out, script);
            }
            3 => {
                self.put_tick(&mut out, script);
                self.put_fields(&mut out, script);
            }
            6 | 12 => self.put_tick(&mut out, script),
            9 => {
                out.push(script.u8() & 1);
                out.extend_from_slice(&Self::number(script).to_le_bytes());
            }
            10 => {
                self.put_tick(&mut out, script);
                out.extend_from_slice(&[script.u8(), 0]);
            }
            11 => {
                self.put_tick(&mut out, script);
                let count = u16::from(script.u8());
                out.extend_from_slice(&count.to_le_bytes());
                let players = self.slots * self.each;
                out.extend_from_slice(&cells(script, usize::from(count) * players));
            }
            14 => {
                self.put_tick(&mut out, script);
                out.push(script.u8());
            }
            5 | 8 | 13 => {}
            _ => self.put_fields(&mut out, script),
        }
        out
    }

    /// An input block, and the low bits of its newest tick.
    pub(crate) fn block(&mut self, script: &mut Script<'_>) -> (u16, Vec<u8>) {
        let newest = self.tick(script);
        let flags = script.u8();
        let known = self.tick(script);
        let lag = newest.wrapping_sub(known);
        let count = match script.u8() {
            255 => usize::from(script.u16()),
            count => count.into(),
        };
        let bits = match flags {
            _ if flags & 4 != 0 => Vec::new(),
            128.. => script.short().to_vec(),
            _ => cells(script, count * self.each),
        };
        (newest as u16, put_block(flags & 15, lag, count, &bits))
    }

    /// The block of an honest peer that tells all ticks of so many up to this one.
    pub(crate) fn honest_block(&self, newest: Tick, known: Tick, count: usize) -> (u16, Vec<u8>) {
        let mut bits = Bits::default();
        for tick in newest + 1 - count as Tick..=newest {
            (0..self.each).for_each(|_| bits.whole(&honest(self.from, tick)));
        }
        (newest as u16, put_block(2, newest - known, count, &bits.bytes))
    }

    /// A snapshot, whole unless the script wants otherwise: its head and its parts.
    pub(crate) fn snapshot(&mut self, script: &mut Script<'_>) -> Vec<Vec<u8>> {
        let kind = script.u8();
        let len = match kind & 3 {
            3 => 65_536 + usize::from(script.u8()),
            _ => 8 + usize::from(kind >> 4),
        };
        let state = vec![kind; len];
        let mut head = vec![HEAD];
        head.extend_from_slice(&(SESSION as u32).to_le_bytes());
        self.put_tick(&mut head, script);
        let claimed = if kind & 4 == 0 { len as u32 } else { Self::number(script) };
        head.extend_from_slice(&claimed.to_le_bytes());
        head.extend_from_slice(&xxh3_64(&state).to_le_bytes());
        head.extend_from_slice(&Self::number(script).to_le_bytes());
        head.extend_from_slice(&[script.u8(), 0]);
        head.extend_from_slice(&cells(script, self.slots * self.each));
        let mut messages = vec![head];
        for (place, part) in state.chunks(65_536).enumerate() {
            messages.push(Self::part(place as u16, part));
        }
        messages
    }

    /// One part of a snapshot.
    pub(crate) fn part(place: u16, bytes: &[u8]) -> Vec<u8> {
        let session = (SESSION as u32).to_le_bytes();
        [&[PART][..], &session, &place.to_le_bytes(), bytes].concat()
    }
}
