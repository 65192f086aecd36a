//! What is known of one player's inputs.

use core::ops::Range;
use std::collections::VecDeque;

use crate::input::{Cell, InputBytes, Tick};

/// What became of an input that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    New,
    /// It was here already.
    Known,
    /// Another one is here for the same tick; the first one stays.
    Differs,
    /// The player is not in the match at that tick, or was given up before it.
    Closed,
}

/// The inputs of one player, from the oldest that is kept.
///
/// Guaranteed: a cell that is known never changes, except for those after the tick at which the player
/// is agreed to have left.
#[derive(Debug)]
pub(crate) struct InputQueue {
    first: Tick,
    cells: VecDeque<Cell>,
    /// The first tick that is not known.
    next: Tick,
    /// From here on the player is not in the match.
    absent_from: Option<Tick>,
}

const MISSING: Cell = Cell::Missing;
const ABSENT: Cell = Cell::Absent;

impl InputQueue {
    /// A player who is in the match from `first` on. `before` is the cell of the tick before.
    pub(crate) fn new(first: Tick, before: Cell) -> Self {
        let cells = VecDeque::from([before]);
        Self { first: first - 1, cells, next: first, absent_from: None }
    }

    /// Of a tick before those that are kept nothing is known.
    pub(crate) fn get(&self, tick: Tick) -> &Cell {
        if self.absent_from.is_some_and(|from| tick >= from) {
            return &ABSENT;
        }
        let index = usize::try_from(tick - self.first).ok();
        index.and_then(|index| self.cells.get(index)).unwrap_or(&MISSING)
    }

    /// The last tick up to which everything is known; `Tick::MAX` for who is not in the match.
    pub(crate) const fn known(&self) -> Tick {
        match self.absent_from {
            Some(from) if self.next >= from => Tick::MAX,
            _ => self.next - 1,
        }
    }

    /// The last tick up to which everything is known and the player may have played.
    pub(crate) const fn held(&self) -> Tick {
        self.next - 1
    }

    /// The oldest tick that is kept.
    pub(crate) const fn first(&self) -> Tick {
        self.first
    }

    /// The newest known input before a tick.
    pub(crate) fn newest_before(&self, tick: Tick) -> Option<(Tick, &InputBytes)> {
        let from = (tick - 1).min(self.first + self.cells.len() as Tick - 1);
        (self.first..=from).rev().find_map(|tick| match self.get(tick) {
            Cell::Given(input) => Some((tick, input)),
            Cell::Missing | Cell::Absent => None,
        })
    }

    /// Takes an input of a tick that is not before those kept.
    pub(crate) fn put(&mut self, tick: Tick, cell: &Cell) -> Put {
        if self.absent_from.is_some_and(|from| tick >= from) {
            return Put::Closed;
        }
        if tick < self.first {
            return Put::Known;
        }
        let index = (tick - self.first) as usize;
        match self.cells.get(index) {
            Some(Cell::Missing) => self.cells[index] = cell.clone(),
            Some(here) => return if here == cell { Put::Known } else { Put::Differs },
            None => {
                self.cells.resize(index, Cell::Missing);
                self.cells.push_back(cell.clone());
            }
        }
        self.go_on();
        Put::New
    }

    /// Takes an input that is final. What was taken for absence may have been an earlier process; and
    /// who tells may not have known what we do, and nobody else did.
    pub(crate) fn tell(&mut self, tick: Tick, cell: &Cell) {
        let index = usize::try_from(tick - self.first).ok();
        match index.and_then(|index| self.cells.get_mut(index)) {
            Some(here @ (Cell::Absent | Cell::Given(_))) => *here = cell.clone(),
            _ => {
                self.put(tick, cell);
            }
        }
    }

    /// Nobody knows more of what was before `from`, at which the player joins: it was not there.
    pub(crate) fn absent_before(&mut self, from: Tick) {
        let (first, end) = ((self.next - self.first).max(0), (from - self.first).max(0));
        let known = self.cells.len().min(end as usize);
        for cell in self.cells.range_mut((first as usize).min(known)..known) {
            if *cell == Cell::Missing {
                *cell = Cell::Absent;
            }
        }
        self.cells.resize(self.cells.len().max(end as usize), Cell::Absent);
        self.go_on();
    }

    fn go_on(&mut self) {
        while self.absent_from != Some(self.next) && !matches!(self.get(self.next), Cell::Missing) {
            self.next += 1;
        }
    }

    /// The player left: its last input is that of `last`. It may still be on its way.
    pub(crate) fn leave(&mut self, last: Tick) {
        self.cells.truncate((last + 1 - self.first).max(1) as usize);
        self.next = self.next.min(last + 1);
        self.absent_from = Some(last + 1);
    }

    /// A player who is not in the match is from this tick on; what is not known before it, it was not,
    /// except that somebody still tells the ticks of `told`. `kept` is the oldest tick that anybody may
    /// still ask for.
    pub(crate) fn join(&mut self, from: Tick, kept: Tick, told: &Range<Tick>) {
        if self.first + (self.cells.len() as Tick) < kept {
            (self.first, self.cells) = (kept.min(from - 1), VecDeque::new());
        }
        self.cells.truncate((self.next - self.first).max(0) as usize);
        let first = self.first;
        let mut fill = |end: Tick, cell: Cell| {
            let len = (end.min(from) - first).max(0) as usize;
            self.cells.resize(len.max(self.cells.len()), cell);
        };
        fill(told.start, Cell::Absent);
        fill(told.end, Cell::Missing);
        fill(from, Cell::Absent);
        (self.absent_from, self.next) = (None, self.next.max(self.first).min(from));
        self.go_on();
    }

    /// Forgets the ticks before this one, but not what is not known yet.
    pub(crate) fn trim(&mut self, before: Tick) {
        while self.first < before && self.first < self.next - 1 && self.cells.pop_front().is_some()
        {
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(byte: u8) -> Cell {
        Cell::Given(InputBytes::new(&[byte]).unwrap())
    }

    fn queue() -> InputQueue {
        InputQueue::new(0, given(0))
    }

    #[test]
    fn inputs_may_come_in_any_order_and_the_first_for_a_tick_stays() {
        let mut queue = queue();
        assert_eq!(queue.put(2, &given(2)), Put::New);
        assert_eq!(queue.known(), -1);
        assert_eq!(queue.put(0, &given(9)), Put::New);
        assert_eq!(queue.put(1, &given(1)), Put::New);
        assert_eq!(queue.known(), 2);
        assert_eq!(queue.put(1, &given(1)), Put::Known);
        assert_eq!(queue.put(1, &given(7)), Put::Differs);
        assert_eq!(queue.get(1), &given(1));
        assert_eq!(queue.get(3), &Cell::Missing);
        assert_eq!(queue.newest_before(9), Some((2, &InputBytes::new(&[2]).unwrap())));
    }

    #[test]
    fn who_leaves_is_absent_after_its_last_input_and_may_come_back() {
        let mut queue = queue();
        (0..5).for_each(|tick| assert_eq!(queue.put(tick, &given(1)), Put::New));
        assert_eq!(queue.held(), 4);
        queue.leave(3);
        assert_eq!((queue.get(3), queue.get(4)), (&given(1), &Cell::Absent));
        assert_eq!((queue.known(), queue.held()), (Tick::MAX, 3));
        assert_eq!(queue.put(4, &given(1)), Put::Closed);
        queue.join(10, 0, &(0..0));
        assert_eq!((queue.get(9), queue.get(10)), (&Cell::Absent, &Cell::Missing));
        assert_eq!(queue.known(), 9);
        assert_eq!(queue.put(10, &given(5)), Put::New);
        assert_eq!(queue.known(), 10);
    }

    #[test]
    fn what_is_still_told_of_who_joins_is_not_taken_for_absence() {
        let mut queue = queue();
        (0..3).for_each(|tick| assert_eq!(queue.put(tick, &given(1)), Put::New));
        queue.leave(20);
        queue.join(30, 0, &(3..10));
        assert_eq!(
            (queue.known(), queue.get(9), queue.get(10)),
            (2, &Cell::Missing, &Cell::Absent)
        );
        (3..6).for_each(|tick| assert_eq!(queue.put(tick, &given(1)), Put::New));
        (6..10).for_each(|tick| assert_eq!(queue.put(tick, &Cell::Absent), Put::New));
        assert_eq!((queue.known(), queue.get(30)), (29, &Cell::Missing));
    }

    #[test]
    fn what_was_told_of_who_was_absent_is_not_forgotten_when_it_joins() {
        let mut queue = queue();
        (0..3).for_each(|tick| assert_eq!(queue.put(tick, &given(1)), Put::New));
        queue.leave(2);
        // Ticks up to 7 were told, and that it played at none of 3 to 7.
        queue.join(30, 0, &(8..10));
        assert_eq!((queue.known(), queue.get(7)), (7, &Cell::Absent));
        (8..10).for_each(|tick| assert_eq!(queue.put(tick, &Cell::Absent), Put::New));
        assert_eq!((queue.known(), queue.get(30)), (29, &Cell::Missing));
    }

    #[test]
    fn who_was_away_for_very_long_leaves_no_gap_to_fill() {
        let mut queue = queue();
        queue.put(0, &given(1));
        queue.leave(0);
        queue.join(1_000_000, 999_000, &(0..0));
        assert_eq!(queue.first(), 999_000);
        assert_eq!(queue.get(999_999), &Cell::Absent);
        assert_eq!(queue.put(1_000_000, &given(5)), Put::New);
    }

    #[test]
    fn what_is_forgotten_is_missing_and_the_last_known_input_stays() {
        let mut queue = queue();
        (0..5).for_each(|tick| assert_eq!(queue.put(tick, &given(1)), Put::New));
        queue.trim(3);
        assert_eq!((queue.get(2), queue.get(3)), (&Cell::Missing, &given(1)));
        queue.trim(99);
        assert_eq!((queue.first(), queue.get(4)), (4, &given(1)));
        assert_eq!(queue.put(1, &given(9)), Put::Known);
    }
}
