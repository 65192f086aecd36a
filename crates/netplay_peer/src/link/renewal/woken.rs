//! What queued up while we did not run.
//!
//! A process that was stopped, or a machine that slept, finds the signals of all that time at once, and among
//! them offers that the other side has long replaced. They are held for a moment, until the last of
//! them is here. Then the newest offer counts and the ones before it do not, nor does any that was withdrawn.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::Now;
use netplay_protocol::limits::CANDIDATES_MAX;
use netplay_protocol::lobby::{Signal, SignalBody};

/// From waking until what waited for us is here: it is all in the socket, and is read in a few milliseconds.
const SETTLE: Duration = Duration::from_millis(50);
/// An offer with all its candidates. The oldest go first.
const HELD_MAX: usize = CANDIDATES_MAX + 1;

/// Signals that are held after we woke.
#[derive(Debug, Default)]
pub(super) struct Woken {
    until: Now,
    held: VecDeque<Signal>,
}

impl Woken {
    /// We did not run for a while, and do again.
    pub(super) fn woke(&mut self, now: Now) {
        self.until = now + SETTLE;
    }

    /// Holds a signal; gives it back if there is no reason to.
    pub(super) fn hold(&mut self, now: Now, signal: Signal) -> Option<Signal> {
        if now >= self.until && self.held.is_empty() {
            return Some(signal);
        }
        if self.held.len() == HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back(signal);
        None
    }

    /// When to call [`Self::release`].
    pub(super) fn next_deadline(&self) -> Option<Now> {
        (!self.held.is_empty()).then_some(self.until)
    }

    /// What counts of the signals that were held, in their order.
    pub(super) fn release(&mut self, now: Now) -> Vec<Signal> {
        if now < self.until {
            return Vec::new();
        }
        let numbers = |of: fn(&SignalBody) -> bool| {
            let signals = self.held.iter().filter(move |signal| of(&signal.body));
            signals.map(|signal| signal.attempt).max().unwrap_or(0)
        };
        let newest = numbers(is_offer);
        let withdrawn = numbers(|body| *body == SignalBody::Withdraw);
        let counts = |signal: &Signal| {
            !is_offer(&signal.body) || signal.attempt >= newest && signal.attempt > withdrawn
        };
        core::mem::take(&mut self.held).into_iter().filter(counts).collect()
    }
}

fn is_offer(body: &SignalBody) -> bool {
    matches!(body, SignalBody::Offer { .. })
}
