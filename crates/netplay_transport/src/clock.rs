//! A session's own clock, and its view of the clock that all players share.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use netplay_protocol::Now;
use netplay_protocol::datagram::ClockLine;
use netplay_simnet::DriftingClock;
use netplay_tick::{MeshStatus, MeshTime};

/// A clock that is wrong on purpose, to try a game or to test: see
/// [`SessionConfig::clock_error`](crate::SessionConfig::clock_error).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockError {
    /// How much later it shows.
    pub ahead: Duration,
    /// How much faster it runs, in parts per thousand million: 100 000 are 100 ppm.
    pub drift_ppb: i32,
}

/// The time of one session, as its two threads read it.
#[derive(Clone, Debug)]
pub(crate) enum SessionTime {
    /// The system's monotonic clock since a start, maybe wrong on purpose.
    Real { started: Instant, clock: DriftingClock },
    /// What the network's half was last told, in microseconds.
    Virtual(Arc<AtomicU64>),
}

impl SessionTime {
    pub(crate) fn real(error: Option<ClockError>) -> Self {
        let ClockError { ahead, drift_ppb } = error.unwrap_or_default();
        Self::Real { started: Instant::now(), clock: DriftingClock::new(ahead, drift_ppb) }
    }

    pub(crate) fn at(&self, instant: Instant) -> Now {
        match self {
            Self::Real { started, clock } => {
                let since = instant.saturating_duration_since(*started);
                clock.at(Now::ZERO + since)
            }
            Self::Virtual(now) => Now::from_micros(now.load(Ordering::Acquire)),
        }
    }

    /// When the clock shows this; `None` on a virtual clock, and far in the past.
    pub(crate) fn instant(&self, now: Now) -> Option<Instant> {
        match self {
            Self::Real { started, clock } => {
                let since = clock.when(Now::ZERO, now).unwrap_or(Now::ZERO);
                started.checked_add(since.since(Now::ZERO))
            }
            Self::Virtual(_) => None,
        }
    }

    /// The network's half says what time it is.
    pub(crate) fn note(&self, now: Now) {
        if let Self::Virtual(shared) = self {
            shared.store(now.as_micros(), Ordering::Release);
        }
    }
}

/// Our copy of the clock that all players share, as of a twentieth of a second ago at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeshView {
    pub(crate) line: ClockLine,
    pub(crate) status: MeshStatus,
}

impl MeshView {
    /// What it shows when our own clock shows `now`.
    pub fn show(&self, now: Now) -> MeshTime {
        MeshTime::from_micros(self.line.show(now).mesh)
    }

    /// How fast it runs, in parts of our own clock.
    pub fn rate(&self) -> f64 {
        1.0 + self.line.note.rate_ppm() / 1e6
    }

    /// How well we are in sync.
    pub const fn status(&self) -> &MeshStatus {
        &self.status
    }
}
