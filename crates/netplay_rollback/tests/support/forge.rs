//! Bytes as a peer writes them, built by hand: what a liar sends, and a second opinion on the format.

use netplay_protocol::cursor::put_varint;
use netplay_rollback::Tick;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

/// The session of all tests.
pub const SESSION: u64 = 77;

pub const REPORT: u8 = 1;
pub const PROPOSE: u8 = 2;
pub const PROMISE: u8 = 3;
pub const ACCEPT: u8 = 4;
pub const ACCEPTED: u8 = 5;
pub const TOO_LATE: u8 = 6;
pub const DECIDED: u8 = 7;
pub const WANT: u8 = 9;
pub const WATCH: u8 = 10;
pub const FEED: u8 = 11;
pub const FED: u8 = 12;
pub const DELAY: u8 = 14;
pub const HEAD: u8 = 128;
pub const PART: u8 = 129;

/// Single bits, low bits first.
#[derive(Default)]
pub struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    pub fn put(&mut self, value: u32, count: u32) -> &mut Self {
        for i in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            self.bytes[self.used / 8] |= ((value >> i & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
        self
    }

    /// A cell that says all its bytes.
    pub fn whole(&mut self, input: &[u8]) -> &mut Self {
        self.put(0b111, 3).put(input.len() as u32, 8);
        input.iter().for_each(|byte| {
            self.put(u32::from(*byte), 8);
        });
        self
    }

    pub fn finish(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

/// Inputs, each told whole.
pub fn inputs(inputs: &[&[u8]]) -> Vec<u8> {
    let mut bits = Bits::default();
    inputs.iter().for_each(|input| {
        bits.whole(input);
    });
    bits.finish()
}

/// A block whose newest tick and last known tick differ by `lag`.
pub fn block(flags: u8, session: u8, lag: i32, count: u32, bits: &[u8]) -> Vec<u8> {
    let mut out = vec![flags, session];
    put_varint(&mut out, (lag << 1 ^ lag >> 31) as u32);
    put_varint(&mut out, count);
    out.extend_from_slice(bits);
    out
}

/// A message of this kind, on either lane.
pub fn message(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let session = (SESSION as u32).to_le_bytes();
    [&[kind][..], &session, &fields.concat()].concat()
}

pub fn ballot(round: u32, slot: u8) -> Vec<u8> {
    [&round.to_le_bytes()[..], &[slot]].concat()
}

/// A message of the agreement.
pub fn agree(kind: u8, view: u32, fields: &[&[u8]]) -> Vec<u8> {
    message(kind, &[&view.to_le_bytes(), &fields.concat()])
}

pub fn tail(first: Tick, count: u16, bits: &[u8]) -> Vec<u8> {
    let len = (bits.len() as u16).to_le_bytes();
    [&first.to_le_bytes()[..], &count.to_le_bytes(), &len, bits].concat()
}

/// What every entry of a list says, after how many they are.
fn list(entries: &[Vec<u8>]) -> Vec<u8> {
    [&[entries.len() as u8][..], &entries.concat()].concat()
}

/// Drops (slot, last tick) and joins (slot, first tick, process).
pub fn decision(leaves: &[(u8, Tick)], joins: &[(u8, Tick, u32)]) -> Vec<u8> {
    let leave = |(slot, last): &(u8, Tick)| [&[*slot][..], &last.to_le_bytes()].concat();
    let join = |(slot, from, epoch): &(u8, Tick, u32)| {
        [&[*slot][..], &from.to_le_bytes(), &epoch.to_le_bytes()].concat()
    };
    let leaves = list(&leaves.iter().map(leave).collect::<Vec<_>>());
    [leaves, list(&joins.iter().map(join).collect::<Vec<_>>())].concat()
}

pub fn propose(view: u32, (round, slot): (u32, u8), joins: u16, leaves: &[(u8, Tick)]) -> Vec<u8> {
    let leave = |(slot, held): &(u8, Tick)| [&[*slot][..], &held.to_le_bytes()].concat();
    let leaves = list(&leaves.iter().map(leave).collect::<Vec<_>>());
    agree(PROPOSE, view, &[&ballot(round, slot), &joins.to_le_bytes(), &leaves])
}

pub fn accept(view: u32, (round, slot): (u32, u8), decision: &[u8]) -> Vec<u8> {
    accept_with(view, (round, slot), decision, &[])
}

/// With inputs of who leaves.
pub fn accept_with(
    view: u32,
    (round, slot): (u32, u8),
    decision: &[u8],
    tails: &[(u8, Vec<u8>)],
) -> Vec<u8> {
    let tail = |(slot, tail): &(u8, Vec<u8>)| [&[*slot][..], tail].concat();
    let tails = list(&tails.iter().map(tail).collect::<Vec<_>>());
    agree(ACCEPT, view, &[&ballot(round, slot), decision, &tails])
}

/// What its sender holds of one peer that leaves, and what it has accepted.
pub fn promise(
    view: u32,
    (round, slot): (u32, u8),
    tick: Tick,
    (of, last, tail): (u8, Tick, &[u8]),
    accepted: &[u8],
) -> Vec<u8> {
    let held = [&[1, of][..], &last.to_le_bytes(), tail].concat();
    agree(PROMISE, view, &[&ballot(round, slot), &tick.to_le_bytes(), &held, accepted])
}

pub fn decided(view: u32, (round, slot): (u32, u8), members: u16, decision: &[u8]) -> Vec<u8> {
    agree(DECIDED, view, &[&ballot(round, slot), &members.to_le_bytes(), decision, &[0]])
}

pub fn feed(first: Tick, count: u16, bits: &[u8]) -> Vec<u8> {
    message(FEED, &[&first.to_le_bytes(), &count.to_le_bytes(), bits])
}

pub fn head(tick: Tick, len: u32, hash: u64, view: u32, members: u16, before: &[u8]) -> Vec<u8> {
    let numbers = [&tick.to_le_bytes()[..], &len.to_le_bytes(), &hash.to_le_bytes()].concat();
    message(HEAD, &[&numbers, &view.to_le_bytes(), &members.to_le_bytes(), before])
}

/// What a liar knows of the match, so that what it invents is near to the truth.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub slots: u8,
    pub own: u8,
    pub tick: Tick,
    pub view: u32,
}

pub fn below(rng: &mut ChaCha8Rng, end: u32) -> u32 {
    rng.next_u32() % end.max(1)
}

fn any_tick(rng: &mut ChaCha8Rng, tick: Tick) -> Tick {
    match below(rng, 8) {
        0 => Tick::MAX / 2 - 1,
        1 => -(below(rng, 5000) as Tick),
        2 => rng.next_u32() as Tick,
        3 => tick + below(rng, 5000) as Tick,
        _ => tick + below(rng, 80) as Tick - 40,
    }
}

fn any_slot(rng: &mut ChaCha8Rng, known: &Known) -> u8 {
    if below(rng, 6) == 0 { below(rng, 18) as u8 } else { below(rng, known.slots.into()) as u8 }
}

fn any_mask(rng: &mut ChaCha8Rng, known: &Known) -> u16 {
    let all = if below(rng, 6) == 0 { u16::MAX } else { (1_u32 << known.slots) as u16 - 1 };
    rng.next_u32() as u16 & all
}

fn any_view(rng: &mut ChaCha8Rng, known: &Known) -> u32 {
    match below(rng, 10) {
        0 => u32::MAX,
        1 => u32::MAX / 2,
        2 => known.view + 1 + below(rng, 3),
        3 => known.view.saturating_sub(1),
        _ => known.view,
    }
}

fn any_ballot(rng: &mut ChaCha8Rng, known: &Known) -> (u32, u8) {
    let round = match below(rng, 12) {
        0 => u32::MAX,
        1 => below(rng, 2000),
        _ => below(rng, 5),
    };
    (round, if below(rng, 3) == 0 { any_slot(rng, known) } else { known.own })
}

fn any_bits(rng: &mut ChaCha8Rng, most: u32) -> Vec<u8> {
    let mut bytes = vec![0; below(rng, most) as usize];
    if below(rng, 2) == 0 {
        rng.fill_bytes(&mut bytes);
    }
    bytes
}

fn any_tail(rng: &mut ChaCha8Rng, known: &Known) -> (Tick, Vec<u8>) {
    let first = any_tick(rng, known.tick);
    let count = below(rng, 40) as u16;
    // Idle cells, or a length that does not fit.
    let bits = if below(rng, 4) == 0 {
        any_bits(rng, 300)
    } else {
        let mut bits = Bits::default();
        bits.whole(&[rng.next_u32() as u8]);
        (1..count).for_each(|_| {
            bits.put(0, 1);
        });
        bits.finish()
    };
    (first.saturating_add(count.into()).saturating_sub(1), tail(first, count, &bits))
}

fn any_decision(rng: &mut ChaCha8Rng, known: &Known) -> Vec<u8> {
    let leaves: Vec<_> =
        (0..below(rng, 3)).map(|_| (any_slot(rng, known), any_tick(rng, known.tick))).collect();
    let joins: Vec<_> = (0..below(rng, 2))
        .map(|_| (any_slot(rng, known), any_tick(rng, known.tick), rng.next_u32()))
        .collect();
    decision(&leaves, &joins)
}

/// A reliable message that looks like one.
pub fn any_message(rng: &mut ChaCha8Rng, known: &Known) -> Vec<u8> {
    let view = any_view(rng, known);
    let (round, slot) = any_ballot(rng, known);
    let number = ballot(round, slot);
    let tick = any_tick(rng, known.tick).to_le_bytes();
    match below(rng, 16) as u8 {
        0 => message(0, &[&tick, &rng.next_u64().to_le_bytes()]),
        REPORT => agree(REPORT, view, &[&any_mask(rng, known).to_le_bytes()]),
        PROPOSE => {
            let leave = |rng: &mut ChaCha8Rng| (any_slot(rng, known), any_tick(rng, known.tick));
            let leaves: Vec<_> = (0..below(rng, 4)).map(|_| leave(rng)).collect();
            propose(view, (round, slot), any_mask(rng, known), &leaves)
        }
        PROMISE => {
            let (last, tail) = any_tail(rng, known);
            let last = if below(rng, 4) == 0 { any_tick(rng, known.tick) } else { last };
            let of = any_slot(rng, known);
            let accepted = if below(rng, 2) == 0 {
                vec![0]
            } else {
                [&[1][..], &number, &any_decision(rng, known)].concat()
            };
            promise(view, (round, slot), any_tick(rng, known.tick), (of, last, &tail), &accepted)
        }
        ACCEPT => {
            let tail = |rng: &mut ChaCha8Rng| (any_slot(rng, known), any_tail(rng, known).1);
            let tails: Vec<_> = (0..below(rng, 3)).map(|_| tail(rng)).collect();
            accept_with(view, (round, slot), &any_decision(rng, known), &tails)
        }
        ACCEPTED => agree(ACCEPTED, view, &[&number]),
        TOO_LATE => agree(TOO_LATE, view, &[&number, &tick]),
        DECIDED => {
            let members = any_mask(rng, known);
            decided(view, (round, slot), members, &any_decision(rng, known))
        }
        8 => agree(8, view, &[]),
        WANT => agree(WANT, view, &[&[below(rng, 2) as u8], &rng.next_u32().to_le_bytes()]),
        WATCH => {
            let delay = (rng.next_u32() as u16).to_le_bytes();
            message(WATCH, &[&tick, &delay, &view.to_le_bytes()])
        }
        FEED => feed(any_tick(rng, known.tick), rng.next_u32() as u16, &any_bits(rng, 9000)),
        FED => message(FED, &[&tick]),
        13 => message(13, &[]),
        DELAY => message(DELAY, &[&tick, &[below(rng, 70) as u8]]),
        _ => message(below(rng, 256) as u8, &[&any_bits(rng, 99)]),
    }
}

/// A block that looks like one, and the low bits of its newest tick.
pub fn any_block(rng: &mut ChaCha8Rng, known: &Known) -> (u16, Vec<u8>) {
    let tick = any_tick(rng, known.tick) as u16;
    let flags = below(rng, 9) as u8;
    let lag = if below(rng, 4) == 0 { rng.next_u32() as i32 % 9000 } else { below(rng, 20) as i32 };
    let count = if below(rng, 4) == 0 { below(rng, 600) } else { below(rng, 20) };
    let session = if below(rng, 8) == 0 { rng.next_u32() as u8 } else { SESSION as u8 };
    let most = if below(rng, 20) == 0 { 1300 } else { 40 };
    (tick, block(flags, session, lag, count, &any_bits(rng, most)))
}

/// A message on the bulk lane that looks like one.
pub fn any_bulk(rng: &mut ChaCha8Rng, known: &Known) -> Vec<u8> {
    match below(rng, 4) {
        0 => message(PART, &[&(below(rng, 4) as u16).to_le_bytes(), &any_bits(rng, 70_000)]),
        1 => {
            let (tick, len) = (any_tick(rng, known.tick), below(rng, 20_000_000));
            let (view, members) = (any_view(rng, known), any_mask(rng, known));
            head(tick, len, rng.next_u64(), view, members, &any_bits(rng, 30))
        }
        _ => message(rng.next_u32() as u8 | 128, &[&any_bits(rng, 40)]),
    }
}
