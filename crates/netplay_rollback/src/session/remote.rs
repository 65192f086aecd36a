//! Input blocks to and from one other peer.

use netplay_protocol::cursor::Reader;

use crate::agreement::Ledger;
use crate::block::{Head, Malformed, NUMBERS};
use crate::input::{Cell, Tick};
use crate::limits::{AHEAD_MAX, BLOCK_BUDGET, BLOCK_MAX, BLOCK_TICKS_MAX};
use crate::message::Slot;
use crate::queue::Put;
use crate::run;
use crate::session::Refusals;
use crate::session::inputs::Inputs;

/// Bytes of the largest head of a block.
const HEAD_MAX: usize = 8;
/// Ticks that are tried at first when only the newest are told.
const NEWEST: Tick = 64;

/// Blocks of which it is remembered whether they came, and how many of the newest do not count yet:
/// they may only be late.
const WATCHED: u32 = 128;
const MAYBE_LATE: u32 = 8;
/// Lost blocks among those watched from which on we want everything twice; once it is none, no more.
const TWICE_FROM: u32 = 2;

/// How one other peer stands.
#[derive(Debug)]
pub(crate) struct Remote {
    /// The last tick up to which it knows our inputs.
    pub(crate) acked: Tick,
    /// The same, but only as it said: who joins does not know yet what was before.
    pub(crate) knows: Tick,
    /// The last tick before it played.
    joined: Tick,
    /// It wants our blocks twice.
    pub(crate) twice: bool,
    /// The number of our next block.
    number: u8,
    /// The newest tick that any of its blocks was for.
    newest: Tick,
    /// The number of its newest block, once one has come.
    last: Option<u8>,
    /// Which of the last blocks came, the newest in the lowest bit.
    came: u128,
    wants_twice: bool,
    /// How far behind the clock its newest input usually is, in 1/16 ticks.
    lag: Tick,
}

impl Remote {
    /// It knows our inputs up to this tick.
    pub(crate) const fn new(acked: Tick) -> Self {
        let (twice, wants_twice) = (false, false);
        let (knows, joined, newest, came) = (-1, acked, acked, u128::MAX);
        let (number, last, lag) = (0, None, 0);
        Self { acked, knows, joined, twice, number, newest, last, came, wants_twice, lag }
    }

    /// The first tick at which it plays.
    pub(crate) const fn first(&self) -> Tick {
        self.joined + 1
    }

    /// Whether it does not know yet what was before it played.
    pub(crate) const fn catches_up(&self) -> bool {
        self.knows < self.joined
    }

    /// Blocks of the last 120 that did not come.
    pub(crate) const fn lost(&self) -> u32 {
        WATCHED - MAYBE_LATE - (self.came >> MAYBE_LATE).count_ones()
    }

    /// Whether its inputs are older than usual at this tick.
    pub(crate) const fn is_late(&self, tick: Tick) -> bool {
        (tick - self.newest) * 16 > self.lag * 2 + 3 * 16
    }

    /// A block with this number and newest tick came.
    fn note(&mut self, number: u8, newest: Tick, tick: Tick) {
        let ahead = self.last.map_or(0, |last| number.wrapping_sub(last) % NUMBERS);
        if newest - self.newest >= Tick::from(NUMBERS / 2) {
            // A pause is not a loss.
            (self.came, self.last) = (u128::MAX, Some(number));
        } else if ahead < NUMBERS / 2 {
            self.came = self.came << ahead | 1;
            self.last = Some(number);
        } else {
            self.came |= 1 << (NUMBERS - ahead);
        }
        if newest > self.newest {
            self.newest = newest;
            let lag = ((tick - newest) * 16).clamp(0, 16 * 64);
            self.lag += (lag - self.lag) / 8;
        }
        let lost = self.lost();
        self.wants_twice = lost >= TWICE_FROM || self.wants_twice && lost > 0;
    }

    /// Appends the block for the peer `to` at this tick, and gives its newest tick: what it does not
    /// know of our players, as far as it fits; else the oldest at even ticks and the newest at odd ones.
    pub(crate) fn block(
        &mut self,
        inputs: &Inputs,
        (me, to): (Slot, Slot),
        session: u8,
        bits: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Tick {
        let players = inputs.players(me);
        let own = &inputs.queues[players.start];
        let (first, newest) = ((self.acked + 1).max(own.first() + 1), own.held());
        let whole = (newest + 1 - first).max(0);
        let count = whole.min(BLOCK_TICKS_MAX as Tick);
        let cell = |tick: Tick, player: usize| inputs.queues[players.start + player].get(tick);
        let mut run = Run { first, count, from_neutral: false };
        bits.clear();
        if !run::is_idle((first, first + count - 1), players.len(), cell) {
            run = Self::oldest(inputs, me, first, count, bits);
        }
        if run.count < whole && inputs.tick % 2 != 0 {
            run = Self::newest(inputs, me, newest, bits);
        }
        let last = run.first + run.count - 1;
        let head = Head {
            twice: self.wants_twice,
            from_neutral: run.from_neutral,
            idle: bits.is_empty(),
            number: self.number,
            newest: last,
            known: inputs.held(to),
            count: run.count as usize,
        };
        self.number = (self.number + 1) % NUMBERS;
        head.put(out, session);
        out.extend_from_slice(bits);
        last
    }

    fn oldest(inputs: &Inputs, me: Slot, first: Tick, count: Tick, bits: &mut Vec<u8>) -> Run {
        let players = inputs.players(me);
        let cell = |tick: Tick, player: usize| inputs.queues[players.start + player].get(tick);
        let mut put = |room: usize, count: Tick| {
            bits.clear();
            run::put(bits, room, (first, first + count - 1), players.len(), cell) as Tick
        };
        let mut count = put(BLOCK_BUDGET, count);
        if count == 0 {
            count = put(BLOCK_MAX - HEAD_MAX, 1);
        }
        Run { first, count, from_neutral: false }
    }

    /// As many of the newest ticks as fit, told from the neutral input: what comes before them may
    /// not be known.
    fn newest(inputs: &Inputs, me: Slot, newest: Tick, bits: &mut Vec<u8>) -> Run {
        let players = inputs.players(me);
        let neutral = Cell::Given(inputs.neutral.clone());
        let known = newest - inputs.queues[players.start].first();
        let mut length = NEWEST.min(known);
        loop {
            let first = newest + 1 - length;
            let cell = |tick: Tick, player: usize| {
                if tick < first {
                    &neutral
                } else {
                    inputs.queues[players.start + player].get(tick)
                }
            };
            let room = if length > 1 { BLOCK_BUDGET } else { BLOCK_MAX - HEAD_MAX };
            bits.clear();
            let count = run::put(bits, room, (first, newest), players.len(), cell) as Tick;
            if count == length || length == 1 {
                return Run { first, count, from_neutral: true };
            }
            length = (length / 2).max(1);
        }
    }
}

/// The ticks of a block.
struct Run {
    first: Tick,
    count: Tick,
    from_neutral: bool,
}

/// A block as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived<'a> {
    /// The low bits of its newest tick.
    pub(crate) tick: u16,
    pub(crate) bytes: &'a [u8],
    /// Whether it is the second copy.
    pub(crate) again: bool,
}

/// What is read before it is believed; kept, so that a block that comes allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The tick before those of the block, of each player of the peer.
    before: Vec<Cell>,
    /// (tick, player, cell).
    cells: Vec<(Tick, usize, Cell)>,
}

impl Remote {
    /// Takes a block of the peer `from`.
    pub(crate) fn read(
        &mut self,
        inputs: &mut Inputs,
        (from, me): (Slot, Slot),
        session: u8,
        block: Arrived<'_>,
        scratch: &mut Scratch,
        refused: &mut Refusals,
    ) {
        let mut reader = Reader::new(block.bytes);
        let head = match Head::read(&mut reader, session, block.tick, inputs.tick) {
            Ok(head) => head,
            Err(Malformed::Session) => return refused.session += 1,
            Err(Malformed::Bytes) => return refused.malformed += 1,
        };
        if head.newest > inputs.tick + AHEAD_MAX || head.known > inputs.held(me) {
            return refused.ahead += 1;
        }
        let first = head.newest + 1 - head.count as Tick;
        if !Self::cells(inputs, from, first, &head, reader.rest(), scratch) {
            return refused.malformed += 1;
        }
        self.acked = self.acked.max(head.known);
        self.knows = self.knows.max(head.known);
        self.twice = head.twice;
        if !block.again {
            self.note(head.number, head.newest, inputs.tick);
        }
        if inputs.is_frozen(from) {
            return;
        }
        for (tick, player, cell) in scratch.cells.drain(..) {
            match inputs.queues[player].put(tick, &cell) {
                Put::New | Put::Known => {}
                Put::Closed => refused.absent += 1,
                Put::Differs => refused.contradictions += 1,
            }
        }
    }

    /// The cells of a block; `false` if it is malformed. What is told from a tick that we do not know
    /// or keep is of no use, and no fault either.
    fn cells(
        inputs: &Inputs,
        from: Slot,
        first: Tick,
        head: &Head,
        bits: &[u8],
        scratch: &mut Scratch,
    ) -> bool {
        let Scratch { before, cells } = scratch;
        let players = inputs.players(from);
        cells.clear();
        before.clear();
        before.extend(players.clone().map(|player| match head.from_neutral {
            true => Cell::Given(inputs.neutral.clone()),
            false => inputs.queues[player].get(first - 1).clone(),
        }));
        if before.contains(&Cell::Missing) {
            return true;
        }
        if head.idle {
            for tick in first..=head.newest {
                let same = before.iter().zip(players.clone());
                cells.extend(same.map(|(cell, player)| (tick, player, cell.clone())));
            }
        } else {
            let read = run::read(bits, head.count, before, |tick, player, cell| {
                cells.push((first + tick as Tick, players.start + player, cell.clone()));
            });
            if read.is_none() {
                return false;
            }
        }
        let valid = |cell: &Cell| matches!(cell, Cell::Given(_)) && inputs.is_valid(cell);
        cells.iter().all(|(_, _, cell)| valid(cell))
    }
}
