//! Pairs send each other signals through the server.

use std::time::{Duration, Instant};

use super::speech::{self, Said, Signal};
use super::world::{Flow, Phase, World, partner};
use crate::Result;
use crate::stats::Histogram;

/// How long what is under way in the end may take.
const DRAIN: Duration = Duration::from_secs(3);

/// What came of it.
#[derive(Default)]
pub(crate) struct Relayed {
    /// Signals that arrived while it counted.
    pub(crate) count: u64,
    /// Those that were too early or too late to count too.
    pub(crate) all: u64,
    /// From when it was to be sent, to when it was here.
    pub(crate) latency: Histogram,
    /// The same for each second.
    pub(crate) seconds: Vec<Histogram>,
    /// How late signals were sent: what the generator itself adds to `latency`.
    pub(crate) late: Histogram,
    /// Signals that never came.
    pub(crate) missing: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) last_failure: Option<String>,
    /// For how long it counted.
    pub(crate) time: Duration,
}

/// How signals are sent.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// Each pair has so many under way, half of them each way: who gets one sends one.
    Window(usize),
    /// So many a second, whatever comes back, each client in its turn.
    Paced(f64),
}

/// Signals between the first clients.
pub(crate) struct Signals {
    way: Way,
    /// To each client's partner.
    signals: Vec<Signal>,
    warm_up: Duration,
    time: Duration,
    began: Option<Instant>,
    sent: u64,
    received: u64,
    pub(crate) result: Relayed,
}

impl Signals {
    /// Between the first `clients` clients, for this time after a warm-up.
    pub(crate) fn new(world: &World, clients: usize, way: Way, time: Duration) -> Self {
        let to = |who| Signal::to(world.server, &world.clients[partner(who)].peer);
        Self {
            way,
            signals: (0..clients).map(to).collect(),
            warm_up: (time / 8).min(Duration::from_secs(1)),
            time,
            began: None,
            sent: 0,
            received: 0,
            result: Relayed { time, ..Relayed::default() },
        }
    }

    fn send(&mut self, world: &mut World, who: usize, at: Instant) {
        self.sent += 1;
        let nanos = world.nanos(at);
        world.say(who, self.signals[who].stamped(nanos));
    }

    /// In which second a signal of this time counts, if it does.
    fn second(&self, at: Instant) -> Option<usize> {
        let since = at.checked_duration_since(self.began? + self.warm_up)?;
        (since < self.time).then_some(since.as_secs() as usize)
    }

    /// Sends what is due.
    fn paced(&mut self, world: &mut World, began: Instant, per_second: f64, now: Instant) {
        let end = began + self.warm_up + self.time;
        loop {
            let due = began + Duration::from_secs_f64(self.sent as f64 / per_second);
            if due > now || due >= end || self.signals.is_empty() {
                return;
            }
            let who = self.sent as usize % self.signals.len();
            self.result.late.add(now - due);
            self.send(world, who, due);
        }
    }
}

impl Phase for Signals {
    fn tick(&mut self, world: &mut World, now: Instant) -> Result<Flow> {
        let Some(began) = self.began else {
            self.began = Some(now);
            if let Way::Window(window) = self.way {
                for who in 0..self.signals.len() {
                    (0..window / 2).for_each(|_| self.send(world, who, now));
                }
            }
            return Ok(Flow::Spin);
        };
        let end = began + self.warm_up + self.time;
        if now >= end && (self.received >= self.sent || now >= end + DRAIN) {
            self.result.missing = self.sent.saturating_sub(self.received);
            for second in &self.result.seconds {
                self.result.latency.merge(second);
            }
            return Ok(Flow::Over);
        }
        if let Way::Paced(per_second) = self.way {
            self.paced(world, began, per_second, now);
            return Ok(Flow::Spin);
        }
        Ok(Flow::Wait(Duration::from_millis(20)))
    }

    fn heard(&mut self, world: &mut World, who: usize, said: Said<'_>, now: Instant) {
        if said.kind == "error" {
            self.result.refused += 1;
            self.result.last_failure = speech::refusal(&said);
        }
        // The bare relay's keep-alives have no time.
        let Some(nanos) = said.stamp().filter(|_| said.is_signal()) else { return };
        self.received += 1;
        self.result.all += 1;
        let sent = world.began + Duration::from_nanos(nanos);
        let second = match self.way {
            // What arrives counts, for a rate; what was to be sent, for a delay.
            Way::Window(_) => self.second(now),
            Way::Paced(_) => self.second(sent),
        };
        if let Some(second) = second {
            self.result.count += 1;
            self.result
                .seconds
                .resize_with(self.result.seconds.len().max(second + 1), Histogram::default);
            self.result.seconds[second].add(now.saturating_duration_since(sent));
        }
        let end = self.began.map(|began| began + self.warm_up + self.time);
        if matches!(self.way, Way::Window(_)) && end.is_some_and(|end| now < end) {
            self.send(world, who, now);
        }
    }

    fn lost(&mut self, _world: &mut World, _who: usize, why: &str) {
        self.result.lost += 1;
        self.result.last_failure = Some(why.to_owned());
    }
}
