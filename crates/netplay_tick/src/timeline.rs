//! Which tick it is at an instant of the shared clock, with the pauses that all players agreed on.

use netplay_protocol::MeshTime;
use netplay_protocol::control::Pause;

use crate::{NetTick, TickRate};

/// The ticks of one match.
///
/// ```
/// use core::time::Duration;
/// use netplay_tick::{MeshTime, NetTick, Pause, TickRate, Timeline};
///
/// let at = |ms: i64| MeshTime::from_micros(ms * 1000);
/// let mut line = Timeline::new(at(0), TickRate::new(10).unwrap());
/// line.set_pause(Pause { before: Duration::ZERO, from: at(1_000), until: Some(at(61_000)) });
/// assert_eq!(line.at(at(30_000)), Some((NetTick(10), 0.0)));
/// assert_eq!(line.at(at(61_150)), Some((NetTick(11), 0.5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    start: MeshTime,
    rate: TickRate,
    pause: Option<Pause>,
}

impl Timeline {
    /// Tick 0 begins at `start`.
    pub const fn new(start: MeshTime, rate: TickRate) -> Self {
        Self { start, rate, pause: None }
    }

    /// The instant of tick 0.
    pub const fn start(&self) -> MeshTime {
        self.start
    }

    /// Ticks per second.
    pub const fn rate(&self) -> TickRate {
        self.rate
    }

    /// The latest pause.
    pub const fn pause(&self) -> Option<Pause> {
        self.pause
    }

    /// The latest pause is this one. Pauses before it are over: [`Self::at`] no longer tells of instants
    /// within them.
    pub const fn set_pause(&mut self, pause: Pause) {
        self.pause = Some(pause);
    }

    /// The tick at this instant and how much of it has passed, 0 to 1; `None` before the start.
    pub fn at(&self, now: MeshTime) -> Option<(NetTick, f64)> {
        let Some(pause) = self.pause else { return self.rate.at(self.start, now) };
        let run = if now < pause.from { now } else { pause.from };
        let after = pause.until.map(|until| now.since(until)).unwrap_or_default();
        let played = (run.since(self.start) + after).saturating_sub(pause.before);
        (now >= self.start).then(|| self.rate.at(self.start, self.start.plus(played)))?
    }

    /// Whether a pause holds the ticks at this instant.
    pub fn is_held(&self, now: MeshTime) -> bool {
        self.pause.is_some_and(|Pause { from, until, .. }| {
            now >= from && until.is_none_or(|until| now < until)
        })
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(ms: i64) -> MeshTime {
        MeshTime::from_micros(ms * 1000)
    }

    #[test]
    fn pauses_one_after_another_each_hold_the_ticks() {
        let mut line = Timeline::new(at(0), TickRate::new(10).unwrap());
        for i in 0..5 {
            let (before, from) = (Duration::from_secs(i as u64), at(i * 2000 + 1000));
            line.set_pause(Pause { before, from, until: None });
            assert!(!line.is_held(at(i * 2000 + 999)) && line.is_held(at(i * 2000 + 1500)));
            line.set_pause(Pause { before, from, until: Some(at(i * 2000 + 2000)) });
            assert!(!line.is_held(at(i * 2000 + 2000)));
        }
        assert_eq!(line.at(at(10_000)), Some((NetTick(50), 0.0)));
    }

    #[test]
    fn a_pause_without_sense_gives_a_tick_all_the_same() {
        let mut line = Timeline::new(at(0), TickRate::default());
        let ends = [i64::MIN, -1, 0, 1, i64::MAX].map(MeshTime::from_micros);
        for before in [Duration::ZERO, Duration::from_micros(u64::MAX)] {
            for from in ends {
                for until in ends.map(Some).into_iter().chain([None]) {
                    line.set_pause(Pause { before, from, until });
                    for now in ends {
                        assert_eq!(line.at(now).is_some(), now >= at(0));
                    }
                }
            }
        }
    }
}
