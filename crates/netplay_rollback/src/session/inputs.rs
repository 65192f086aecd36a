//! The inputs of all players, and what of them is final.

use core::ops::Range;

use crate::agreement::Ledger;
use crate::input::{Cell, InputBytes, Tick};
use crate::limits::{BLOCK_TICKS_MAX, HISTORY};
use crate::message::{Mask, Slot, Tail};
use crate::queue::InputQueue;
use crate::run;

/// What every peer knows of the inputs.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) queues: Vec<InputQueue>,
    /// The players of each slot.
    ranges: Vec<Range<usize>>,
    pub(crate) neutral: InputBytes,
    /// Whether bytes are an input of this game.
    validate: fn(&[u8]) -> bool,
    /// The tick that it is.
    pub(crate) tick: Tick,
    /// Peers from whom nothing is taken while it is agreed how they leave.
    frozen: Mask,
    hold: Option<Tick>,
    lead: Tick,
}

impl Inputs {
    /// Everybody plays from tick 0 on.
    pub(crate) fn new(
        counts: impl Iterator<Item = usize>,
        neutral: InputBytes,
        validate: fn(&[u8]) -> bool,
        lead: Tick,
    ) -> Self {
        let mut players = 0;
        let ranges: Vec<_> = counts
            .map(|count| {
                players += count;
                players - count..players
            })
            .collect();
        let queue = || InputQueue::new(0, Cell::Given(neutral.clone()));
        let queues = (0..players).map(|_| queue()).collect();
        let (frozen, hold) = (Mask::default(), None);
        Self { queues, ranges, neutral, validate, tick: -1, frozen, hold, lead }
    }

    pub(crate) fn players(&self, slot: Slot) -> Range<usize> {
        self.ranges[slot].clone()
    }

    pub(crate) fn is_valid(&self, cell: &Cell) -> bool {
        match cell {
            Cell::Given(input) => (self.validate)(input.as_slice()),
            Cell::Absent => true,
            Cell::Missing => false,
        }
    }

    pub(crate) const fn is_frozen(&self, slot: Slot) -> bool {
        self.frozen.contains(slot)
    }

    /// The last tick whose inputs are all known, of players in the match.
    pub(crate) fn known(&self) -> Tick {
        self.queues.iter().map(InputQueue::known).min().unwrap_or(Tick::MAX)
    }

    /// Begins anew at `tick`, with the cells of the tick before.
    pub(crate) fn restart(&mut self, tick: Tick, before: Vec<Cell>) {
        self.queues = before.into_iter().map(|cell| InputQueue::new(tick, cell)).collect();
        (self.frozen, self.hold) = (Mask::default(), None);
    }

    pub(crate) fn leave(&mut self, slot: Slot, last: Tick) {
        for player in self.players(slot) {
            self.queues[player].leave(last);
        }
    }

    /// Whether we were told inputs of a peer after this tick.
    pub(crate) fn is_told_after(&self, slot: Slot, last: Tick) -> bool {
        let mut players = self.players(slot).map(|player| &self.queues[player]);
        players.any(|queue| queue.newest_before(Tick::MAX).is_some_and(|(tick, _)| tick > last))
    }

    /// Nobody knows more of what a peer did before this tick, from which on it plays.
    pub(crate) fn absent_before(&mut self, slot: Slot, from: Tick) {
        for player in self.players(slot) {
            self.queues[player].absent_before(from);
        }
    }

    /// A peer plays from this tick on. Somebody still tells us what happened at the ticks of `told`.
    pub(crate) fn join(&mut self, slot: Slot, from: Tick, told: &Range<Tick>) {
        let kept = self.oldest_needed();
        for player in self.players(slot) {
            self.queues[player].join(from, kept, told);
        }
    }

    fn oldest_needed(&self) -> Tick {
        self.tick - HISTORY
    }

    /// Forgets what is older than the history.
    pub(crate) fn trim(&mut self) {
        let before = self.oldest_needed();
        self.queues.iter_mut().for_each(|queue| queue.trim(before));
    }

    /// The oldest tick of which every player's input is kept.
    pub(crate) fn first_kept(&self) -> Tick {
        self.queues.iter().map(InputQueue::first).max().unwrap_or(0)
    }
}

impl Ledger for Inputs {
    fn tick(&self) -> Tick {
        self.tick
    }

    fn confirmed(&self) -> Tick {
        let known = self.known();
        let held = self.hold.map_or(known, |from| known.min(from - 1));
        // With nobody in the match, it ends where it is.
        if held == Tick::MAX { self.tick } else { held }
    }

    fn held(&self, slot: Slot) -> Tick {
        let held = self.players(slot).map(|player| self.queues[player].held()).min();
        held.unwrap_or(self.tick)
    }

    fn tail(&self, slot: Slot, after: Tick, max: usize) -> Tail {
        let players = self.players(slot);
        let oldest = players.clone().map(|player| self.queues[player].first()).max();
        let first = (after + 1).max(oldest.unwrap_or(0));
        let last = self.held(slot).min(first - 1 + HISTORY);
        let neutral = Cell::Given(self.neutral.clone());
        let cell = |tick: Tick, player: usize| {
            if tick < first { &neutral } else { self.queues[players.start + player].get(tick) }
        };
        let mut bits = Vec::new();
        let count = run::put(&mut bits, max, (first, last), players.len(), cell);
        Tail { first, count: count as u16, bits }
    }

    fn learn(&mut self, tail: &Tail, slot: Slot) {
        let players = self.players(slot);
        // A tail that does not join what we hold leaves a gap, or is of a time far from now, which no
        // honest peer does.
        if tail.first > self.held(slot) + 1 || tail.last() > self.tick + HISTORY * 2 {
            return;
        }
        let mut before = vec![Cell::Given(self.neutral.clone()); players.len()];
        let mut cells = Vec::new();
        let read = run::read(&tail.bits, tail.count.into(), &mut before, |tick, player, cell| {
            cells.push((tail.first + tick as Tick, players.start + player, cell.clone()));
        });
        // Who has just joined was absent before.
        let valid = |cell: &Cell| self.is_valid(cell);
        if read.is_some() && cells.iter().all(|(_, _, cell)| valid(cell)) {
            for (tick, player, cell) in cells {
                self.queues[player].put(tick, &cell);
            }
        }
    }

    fn freeze(&mut self, slots: Mask) {
        self.frozen = slots;
    }

    fn hold(&mut self, from: Option<Tick>) {
        self.hold = from;
    }

    fn lead(&self) -> Tick {
        self.lead
    }
}

const _: () = assert!(BLOCK_TICKS_MAX < HISTORY as usize);
