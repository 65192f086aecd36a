//! Keeps a flood of troubles from becoming a flood of log lines.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Lines in a second at most.
const LINES: u32 = 5;

/// Says whether a line may be written.
pub(crate) struct RateLog {
    state: Mutex<State>,
}

struct State {
    since: Instant,
    lines: u32,
    held_back: u64,
}

impl RateLog {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { since: Instant::now(), lines: 0, held_back: 0 }) }
    }

    /// If a line may be written: how many were held back since the last.
    pub(crate) fn line(&self) -> Option<u64> {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.since) >= Duration::from_secs(1) {
            state.since = now;
            state.lines = 0;
        }
        if state.lines == LINES {
            state.held_back += 1;
            return None;
        }
        state.lines += 1;
        Some(core::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gives_a_few_lines_a_second_and_a_count() {
        let log = RateLog::new();
        let now = Instant::now();
        let written = (0..100).filter_map(|_| log.line_at(now)).count();
        assert_eq!(written, 5);
        assert_eq!(log.line_at(now + Duration::from_secs(2)), Some(95));
    }
}
