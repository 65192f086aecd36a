//! Follows the mesh clock by running a little faster or slower.
//!
//! The position that a pacer gives is a time on the mesh clock, and what the game's tick comes from.
//! It runs at the clock's own rate plus a share of what it is off by, so it has no steady error.
//!
//! Guaranteed: never backwards; a speed within the profile's limits, except for one jump forward after
//! a gap of more than [`GAP`], and a halt where the clock fell back by more than that.

use core::time::Duration;

use netplay_protocol::Now;

use crate::MeshTime;

/// A pause of the game, or an error, beyond which the pacer does not run after the clock.
pub const GAP: Duration = Duration::from_millis(250);
/// The share of the error that goes in a second.
const GAIN: f64 = 3.0;

/// How much faster or slower than its own clock a game may run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PacingProfile {
    /// Parts of one, at most, when behind.
    pub faster: f64,
    /// Parts of one, at most, when ahead.
    pub slower: f64,
}

impl PacingProfile {
    /// ±0.5 %: nobody feels it in the timing of a combo.
    pub const FIGHTING: Self = Self { faster: 0.005, slower: 0.005 };
    /// +1 %, −0.5 %, as Slippi's.
    pub const DEFAULT: Self = Self { faster: 0.01, slower: 0.005 };
    /// ±5 %.
    pub const CASUAL: Self = Self { faster: 0.05, slower: 0.05 };
    /// ±10 %: before a match, where nobody sees it.
    pub const BEFORE_MATCH: Self = Self { faster: 0.1, slower: 0.1 };
}

impl Default for PacingProfile {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One step of a pacer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advance {
    /// Where the game is.
    pub position: MeshTime,
    /// How fast it went there, in parts of its own clock.
    pub speed: f64,
    /// How far it is still behind the clock, in microseconds; negative if ahead.
    pub error_us: f64,
    /// What was left out by a jump.
    pub skipped: Option<Duration>,
}

/// Follows the mesh clock.
#[derive(Clone, Debug)]
pub struct Pacer {
    profile: PacingProfile,
    /// When it was last advanced, and where it was then, in microseconds.
    at: Option<(f64, f64)>,
    /// The clock was set back, and has not come to where we are.
    waits: bool,
}

impl Pacer {
    /// A pacer that begins where the clock is.
    pub const fn new(profile: PacingProfile) -> Self {
        Self { profile, at: None, waits: false }
    }

    /// A pacer of a game that is elsewhere at `now`.
    pub const fn starting_at(profile: PacingProfile, now: Now, position: MeshTime) -> Self {
        let at = Some((now.as_micros() as f64, position.as_micros() as f64));
        Self { profile, at, waits: false }
    }

    /// Changes the limits.
    pub const fn set_profile(&mut self, profile: PacingProfile) {
        self.profile = profile;
    }

    /// Moves on to `now`, towards `target` on a clock that runs at `rate`.
    pub fn advance(&mut self, now: Now, target: MeshTime, rate: f64) -> Advance {
        let (now, target) = (now.as_micros() as f64, target.as_micros() as f64);
        let gap = GAP.as_micros() as f64;
        let Some((at, position)) = self.at else {
            self.at = Some((now, target));
            return Self::step(target, target, rate, None);
        };
        let passed = (now - at).max(0.0);
        let own = position + passed * rate;
        let behind = target - own;
        if passed > gap || behind > gap {
            let to = target.max(position);
            self.at = Some((now, to));
            let skipped = (to - own > gap).then(|| Duration::from_micros((to - own) as u64));
            return Self::step(to, target, rate, skipped);
        }
        self.waits = behind < -gap || (self.waits && behind < 0.0);
        if self.waits {
            self.at = Some((now, position));
            return Self::step(position, target, 0.0, None);
        }
        let seconds = passed / 1e6;
        let share = (GAIN * seconds).min(1.0);
        let least = (1.0 - self.profile.slower) * passed;
        let most = (1.0 + self.profile.faster) * passed;
        let step = (passed * rate + behind * share).clamp(least, most);
        self.at = Some((now, position + step));
        let speed = if passed > 0.0 { step / passed } else { rate };
        Self::step(position + step, target, speed, None)
    }

    fn step(position: f64, target: f64, speed: f64, skipped: Option<Duration>) -> Advance {
        let error_us = target - position;
        Advance { position: MeshTime::from_micros(position as i64), speed, error_us, skipped }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(us: u64) -> Now {
        Now::from_micros(us)
    }

    fn mesh(us: i64) -> MeshTime {
        MeshTime::from_micros(us)
    }

    #[test]
    fn a_steady_drift_leaves_no_error() {
        let mut pacer = Pacer::new(PacingProfile::FIGHTING);
        let mut error = 0.0;
        for frame in 0..600_u64 {
            let now = frame * 16_667;
            // A clock that runs 500 ppm faster, which the mesh clock says.
            let target = mesh((now as f64 * 1.0005) as i64 + if frame > 100 { 5_000 } else { 0 });
            error = pacer.advance(at(now), target, 1.0005).error_us;
        }
        assert!(error.abs() < 20.0, "{error}");
    }

    #[test]
    fn fifty_milliseconds_are_made_good_before_a_match_in_less_than_a_second_and_a_half() {
        let mut pacer = Pacer::new(PacingProfile::BEFORE_MATCH);
        pacer.advance(at(0), mesh(0), 1.0);
        let mut error = f64::INFINITY;
        for frame in 1..=90_u64 {
            let now = frame * 16_667;
            error = pacer.advance(at(now), mesh(now as i64 + 50_000), 1.0).error_us;
        }
        assert!(error < 8_333.0, "{error}");
    }

    #[test]
    fn a_game_that_stood_still_is_back_at_once_and_is_told_what_it_missed() {
        let mut pacer = Pacer::new(PacingProfile::DEFAULT);
        pacer.advance(at(0), mesh(1_000_000), 1.0);
        let back = pacer.advance(at(30_000_000), mesh(31_000_000), 1.0);
        assert_eq!((back.position, back.skipped), (mesh(31_000_000), None), "time went on");
        let step = pacer.advance(at(30_016_000), mesh(61_016_000), 1.0);
        assert_eq!(step.position, mesh(61_016_000));
        assert_eq!(step.skipped, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_clock_that_was_set_back_is_waited_for() {
        let mut pacer = Pacer::new(PacingProfile::DEFAULT);
        pacer.advance(at(0), mesh(5_000_000), 1.0);
        let mut last = mesh(5_000_000);
        for frame in 1..=240_u64 {
            let now = frame * 16_667;
            let step = pacer.advance(at(now), mesh(2_000_000 + now as i64), 1.0);
            assert!(step.position >= last);
            last = step.position;
        }
        assert!(last.as_micros() - 6_000_000 < 1_000, "{last}");
    }

    proptest! {
        #[test]
        fn never_backwards_and_within_the_limits(
            steps in prop::collection::vec((0_u64..300_000, -400_000_i64..400_000), 1..200),
            rate in 0.999..1.001_f64,
        ) {
            let mut pacer = Pacer::new(PacingProfile::DEFAULT);
            let (mut now, mut last) = (0, None);
            for (passed, error) in steps {
                now += passed;
                let target = mesh((now as f64 * rate) as i64 + error);
                let step = pacer.advance(at(now), target, rate);
                prop_assert!(last.is_none_or(|last| step.position >= last));
                let jumped = step.skipped.is_some() || passed > 250_000;
                let waits = step.speed == 0.0;
                prop_assert!(jumped || waits || last.is_none() || (0.994_999..1.010_001).contains(&step.speed));
                last = Some(step.position);
            }
        }
    }
}
