//! The time that pure crates are given, and the time that all players share.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// Microseconds of a monotonic clock since the process (or the simulation) started.
///
/// Pure machines never read a clock: whoever drives them passes `Now`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(u64);

impl Now {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// A time `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// A time `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1000)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    /// Saturates at the end of time, 584 thousand years from the start.
    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Now {
    type Output = Self;

    /// Saturates at the start.
    fn sub(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Microseconds on the mesh clock, which all players share. Where it begins has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshTime(i64);

impl MeshTime {
    /// So many microseconds on the mesh clock.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds on the mesh clock.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// So much later; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time since `earlier`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(if micros > 0 { micros as u64 } else { 0 })
    }
}

impl fmt::Display for MeshTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.0 as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Now::ZERO - Duration::from_secs(1), Now::ZERO);
        assert_eq!(Now::from_micros(u64::MAX) + Duration::MAX, Now::from_micros(u64::MAX));
        assert_eq!(Now::ZERO.since(Now::from_millis(5)), Duration::ZERO);
    }

    #[test]
    fn display_shows_seconds() {
        assert_eq!(Now::from_micros(1_000_042).to_string(), "1.000042s");
    }
}
