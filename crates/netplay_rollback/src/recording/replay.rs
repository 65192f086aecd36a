//! Plays a recording again.

use core::iter::Peekable;

use thiserror::Error;

use super::{Checksums, Recording, TickInputs, Ticks};
use crate::input::Tick;

/// The next thing to do in a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayStep {
    /// Run this tick with [`TickInputs::inputs`].
    Advance(TickInputs),
    /// The state is before this tick, and had this checksum.
    Checksum {
        /// The tick that runs next.
        tick: Tick,
        /// What was recorded.
        sum: u64,
    },
}

/// A game did something else than when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the state before tick {tick} has the checksum {computed:016x}, {recorded:016x} was recorded"
)]
pub struct Difference {
    /// The first state that differs is the one before this tick.
    pub tick: Tick,
    /// What was recorded.
    pub recorded: u64,
    /// What the game computed.
    pub computed: u64,
    /// The last state that was compared and is equal, if any: the fault is in this tick or a later one.
    pub equal: Option<Tick>,
}

/// The steps of a recording, to be done in this order with the state that the replay begins with.
///
/// # Examples
///
/// ```
/// use netplay_rollback::recording::{Recording, ReplayStep};
///
/// /// Runs a game of one number up to a tick.
/// fn state_at(recording: &Recording<'_>, tick: i32) -> u64 {
///     let (mut state, first) = match recording.snapshot_before(tick) {
///         Some(snapshot) => (u64::from(snapshot.bytes[0]), snapshot.tick),
///         None => (0, recording.first_tick()),
///     };
///     for step in recording.replay_from(first).into_iter().flatten() {
///         match step {
///             ReplayStep::Advance(inputs) if inputs.tick() == tick => break,
///             ReplayStep::Advance(inputs) => {
///                 state += inputs.inputs().map(|input| u64::from(input.bytes[0])).sum::<u64>();
///             }
///             ReplayStep::Checksum { sum, .. } => assert_eq!(state, sum),
///         }
///     }
///     state
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    ticks: Ticks<'a>,
    sums: Peekable<Checksums<'a>>,
    next: Tick,
}

impl<'a> Replay<'a> {
    pub(super) fn new(recording: &Recording<'a>, next: Tick) -> Self {
        let mut sums = recording.checksums().peekable();
        while sums.next_if(|(tick, _)| *tick < next).is_some() {}
        Self { ticks: recording.ticks_from(next), sums, next }
    }

    /// The tick that runs next.
    pub const fn next_tick(&self) -> Tick {
        self.next
    }

    /// Runs a game to the end and compares all checksums; gives how many there were. `step` runs a tick,
    /// `checksum` is what the game answers to
    /// [`Output::Checksum`](crate::Output::Checksum).
    ///
    /// # Errors
    /// [`Difference`] for the first state that differs; the game is left in it.
    pub fn verify<G>(
        self,
        game: &mut G,
        mut step: impl FnMut(&mut G, &TickInputs),
        mut checksum: impl FnMut(&G) -> u64,
    ) -> Result<u32, Difference> {
        let (mut count, mut equal) = (0, None);
        for next in self {
            match next {
                ReplayStep::Advance(inputs) => step(game, &inputs),
                ReplayStep::Checksum { tick, sum: recorded } => {
                    let computed = checksum(game);
                    if computed != recorded {
                        return Err(Difference { tick, recorded, computed, equal });
                    }
                    (count, equal) = (count + 1, Some(tick));
                }
            }
        }
        Ok(count)
    }
}

impl Iterator for Replay<'_> {
    type Item = ReplayStep;

    fn next(&mut self) -> Option<ReplayStep> {
        if let Some((tick, sum)) = self.sums.next_if(|(tick, _)| *tick <= self.next) {
            return Some(ReplayStep::Checksum { tick, sum });
        }
        let inputs = self.ticks.next()?;
        self.next = inputs.tick() + 1;
        Some(ReplayStep::Advance(inputs))
    }
}
