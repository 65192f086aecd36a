//! What a player probably does at a tick whose input has not come.

use core::fmt;

use crate::input::{Cell, InputBytes, Player, Tick};
use crate::queue::InputQueue;

/// Guesses inputs.
///
/// A wrong guess costs a rollback and nothing else: a predictor need not give the same on all peers.
pub trait Predictor: fmt::Debug + Send + Sync + 'static {
    /// The probable input of `player` at `tick`. What is no valid input is replaced by the neutral one.
    fn predict(&mut self, tick: Tick, player: Player, history: &History<'_>) -> InputBytes;
}

/// The player goes on with what it did last.
#[derive(Clone, Copy, Debug, Default)]
pub struct RepeatLast;

impl Predictor for RepeatLast {
    fn predict(&mut self, _: Tick, _: Player, history: &History<'_>) -> InputBytes {
        history.last().map(|(_, input)| input.clone()).unwrap_or_default()
    }
}

/// What is known of a player before the tick to be predicted.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    queue: &'a InputQueue,
    tick: Tick,
    neutral: &'a InputBytes,
}

impl<'a> History<'a> {
    pub(crate) const fn new(queue: &'a InputQueue, tick: Tick, neutral: &'a InputBytes) -> Self {
        Self { queue, tick, neutral }
    }

    /// The newest input that is known, and its tick; `None` if none is kept.
    pub fn last(&self) -> Option<(Tick, &'a InputBytes)> {
        self.queue.newest_before(self.tick)
    }

    /// The input of an earlier tick; `None` if it is not known or not kept.
    pub fn get(&self, tick: Tick) -> Option<&'a InputBytes> {
        match self.queue.get(tick) {
            Cell::Given(input) if tick < self.tick => Some(input),
            _ => None,
        }
    }

    /// What counts as the input of a player who is not there.
    pub const fn neutral(&self) -> &'a InputBytes {
        self.neutral
    }
}
