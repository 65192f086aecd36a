//! How much this machine can simulate.
//!
//! A rollback runs several ticks in one frame. Where that takes more time than there is, the next frame has
//! more ticks to run, and so on. So what may run on predictions is limited while simulation takes most of the
//! time: our players then see others later, and the ticks go on. What no machine can do is run a tick that
//! takes longer than a tick: then it falls behind, and the others wait for it.

use std::time::{Duration, Instant};

use bevy_ecs::prelude::*;
use bevy_time::{Real, Time};

use super::events::{PredictionLimited, trigger};
use super::session::Play;
use crate::test_kit::Spent;

/// A share of the time for the simulation above which less may be predicted, and one below which more.
const TOO_MUCH: f64 = 0.8;
const ENOUGH_LEFT: f64 = 0.5;

/// The shares are those of so much time.
const WINDOW: Duration = Duration::from_secs(1);

/// What simulation takes.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Ticks of prediction that the settings allow, and what is allowed now.
    most: u8,
    limit: u8,
    spent: Duration,
    passed: Duration,
    ticks: u32,
    /// The most that were run again at once.
    deepest: u32,
}

impl Pace {
    pub(crate) const fn new(prediction: u8) -> Self {
        Self {
            most: prediction,
            limit: prediction,
            spent: Duration::ZERO,
            passed: Duration::ZERO,
            ticks: 0,
            deepest: 0,
        }
    }

    /// Ticks that may run on predictions now.
    pub(crate) const fn limit(&self) -> u8 {
        self.limit
    }

    /// A frame was so long, in which so many ticks took so much time. Gives the mean time of a tick if the
    /// limit changes.
    pub(crate) fn note(&mut self, frame: Duration, ticks: u32, took: Duration) -> Option<Duration> {
        self.spent += took;
        self.passed += frame;
        self.ticks += ticks;
        self.deepest = self.deepest.max(ticks);
        if self.passed < WINDOW {
            return None;
        }
        let share = self.spent.as_secs_f64() / self.passed.as_secs_f64();
        let tick = self.spent / self.ticks.max(1);
        let deepest = self.deepest.min(self.limit.into()) as u8;
        let before = self.limit;
        if share > TOO_MUCH && self.most > 0 {
            // What was not used is no limit.
            self.limit = (deepest / 2).max(1);
        } else if share < ENOUGH_LEFT && self.limit < self.most {
            self.limit += 1;
        }
        (self.spent, self.passed) = (Duration::ZERO, Duration::ZERO);
        (self.ticks, self.deepest) = (0, 0);
        (self.limit != before).then_some(tick)
    }
}

/// When the simulation of a frame began.
pub(crate) struct Began(Instant, Duration);

impl Began {
    pub(crate) fn now(world: &World) -> Self {
        Self(Instant::now(), world.get_resource::<Spent>().map_or(Duration::ZERO, |spent| spent.0))
    }

    fn elapsed(&self, world: &World) -> Duration {
        world.get_resource::<Spent>().map_or_else(|| self.0.elapsed(), |spent| spent.0 - self.1)
    }
}

/// So many ticks ran since then. Who is not in the match yet hurries to be.
pub(crate) fn step(world: &mut World, play: &mut Play, ticks: u32, began: &Began) {
    let took = began.elapsed(world);
    if !play.session.is_playing() {
        return;
    }
    let frame = world.get_resource::<Time<Real>>().map_or(Duration::ZERO, Time::delta);
    let before = play.pace.limit();
    let Some(tick_took) = play.pace.note(frame, ticks, took) else { return };
    let prediction = play.pace.limit();
    play.session.limit_prediction(prediction);
    if prediction < before {
        tracing::warn!(
            ?tick_took,
            prediction,
            "this machine is too slow to run so many ticks again"
        );
    }
    trigger(world, PredictionLimited { entity: play.lobby, prediction, tick_took });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const NONE: [u8; 0] = [];

    /// Seconds of frames of 16 ms, each with so many ticks of so long; the limits after changes.
    fn seconds(pace: &mut Pace, count: u32, ticks: u32, tick: Duration) -> Vec<u8> {
        let mut limits = Vec::new();
        for _ in 0..count * 63 {
            if pace.note(MS * 16, ticks, tick * ticks).is_some() {
                limits.push(pace.limit());
            }
        }
        limits
    }

    #[test]
    fn what_takes_most_of_the_time_is_halved_and_comes_back_one_by_one() {
        let mut pace = Pace::new(8);
        assert_eq!(seconds(&mut pace, 5, 6, MS), NONE, "6 of 16 ms");
        assert_eq!(seconds(&mut pace, 1, 6, MS * 3), [3], "18 of 16 ms, 6 ticks deep");
        assert_eq!(seconds(&mut pace, 5, 4, MS * 3), NONE, "12 of 16 ms");
        assert_eq!(seconds(&mut pace, 9, 4, MS), [4, 5, 6, 7, 8]);
        assert_eq!(pace.limit(), 8);
    }

    #[test]
    fn one_tick_of_prediction_is_left_to_the_slowest_machine_and_none_to_lockstep() {
        let mut pace = Pace::new(8);
        seconds(&mut pace, 9, 3, MS * 40);
        assert_eq!(pace.limit(), 1);
        let mut lockstep = Pace::new(0);
        assert_eq!(seconds(&mut lockstep, 9, 3, MS * 40), NONE);
    }
}
