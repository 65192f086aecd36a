//! How far another player's clock is ahead of ours.
//!
//! Every datagram says when it left and, of one datagram of ours, when it arrived there. Each is a
//! *one-way difference*: the delay plus or minus the offset of the clocks. Queues only ever add to a
//! delay, so the smallest difference of each direction within ten seconds is near the bare path, and
//! half the difference of the two is the offset; a smoothed round-trip time would follow every queue.
//!
//! The clocks also drift apart, by up to 10 ms in those ten seconds. Levelling the differences of both
//! directions with a wrong drift lowers the sum of their minima, whatever the sign of the error; so
//! the drift is where that sum is largest. It is a concave function (a sum of minima of lines), and a
//! search of one dimension finds it. The idea of a line below all delays is that of Moon, Skelly and
//! Towsley, "Estimation and removal of clock skew from network delay measurements" (1999); using one
//! slope for both directions is ours.
//!
//! Guaranteed: the offset is wrong by half the difference of the two directions' bare delays at most,
//! and by what [`PathEstimate::uncertainty`] says of the rest in most cases. A clock that is set, or
//! that stood still, shows as a negative round trip, and the filter begins anew.

mod minima;

use core::time::Duration;

use netplay_protocol::Now;
use netplay_protocol::datagram::{Departure, TIME_UNIT_US};

use minima::Minima;

/// Two clocks of 500 ppm, and some.
const DRIFT_MAX: f64 = 1.2e-3;
/// Steps of the search: the last one is ten nanoseconds in ten seconds.
const SEARCH_STEPS: u32 = 30;
const GOLDEN: f64 = 0.618_033_988_75;
/// Time between two fits, in microseconds.
const FIT_EVERY_US: f64 = 100_000.0;
/// Below this span of measurements a drift cannot be told from jitter.
const SPAN_FOR_DRIFT_US: f64 = 1_000_000.0;
/// What part of the window has to speak against the drift known so far (none at first). When the path
/// becomes longer, only what came before is on the ground: a drift that is read from so short a stretch
/// and carried on over the rest of the window would be wrong by more than no drift at all.
const PRIOR_WEIGHT: f64 = 0.3;
/// The known drift follows the measured one with this time constant, in seconds.
const PRIOR_SECONDS: f64 = 20.0;
/// A round trip this far below zero, in microseconds, is none: a clock has been set. Times on the
/// wire are cut to 16 µs, three of them in a round trip.
const IMPOSSIBLE_US: f64 = -300.0;
/// The error is below this part of the spread of the lowest values in nine of ten cases, on the paths of
/// the tests.
const SPREAD: f64 = 0.7;
/// What the resolution of times on the wire leaves open.
const RESOLUTION_US: f64 = 2.0 * TIME_UNIT_US as f64;

/// What one datagram of the other player tells about the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When it arrived, on our clock.
    pub arrived: Now,
    /// When it left, on theirs.
    pub departure: Departure,
    /// Of the datagram of ours whose arrival it confirms for the first time: when that left, on our
    /// clock, and how long ago it had arrived there when this one left.
    pub echo: Option<(Now, Duration)>,
}

/// What a filter says about the path to another player and about its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PathEstimate {
    /// Their clock minus ours, in microseconds. Where their clock begins is not known: it is a count
    /// that only this filter uses, see [`OffsetFilter::peer_time`].
    pub offset_us: f64,
    /// About how wrong that is for reasons that show; the asymmetry of the path is not in it.
    pub uncertainty: Duration,
    /// How much faster their clock runs, in parts per million.
    pub drift_ppm: f32,
    /// Half of the smallest round trip in the window.
    pub delay_min: Duration,
    /// One-way delay towards us of the latest datagrams, smoothed with a gain of 1/8.
    pub delay: Duration,
    /// Mean excess of that over the smallest, smoothed with a gain of 1/16.
    pub jitter: Duration,
}

/// The line that was fitted.
#[derive(Clone, Copy, Debug)]
struct Fit {
    at: f64,
    offset: f64,
    drift: f64,
    /// Smallest differences at that time, towards them and towards us.
    forth: f64,
    back: f64,
    spread: f64,
}

/// The filter for one other player.
#[derive(Clone, Debug, Default)]
pub struct OffsetFilter {
    /// Their latest time, unwrapped, and when we heard it.
    heard: Option<(f64, f64)>,
    forth: Minima,
    back: Minima,
    /// The drift known so far, and for how many seconds it was watched.
    drift: f64,
    watched: f64,
    fit: Option<Fit>,
    delay: Option<f64>,
    jitter: f64,
    restarts: u32,
}

impl OffsetFilter {
    /// A filter that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what a datagram tells, in the order of arrival; gives the datagram's own one-way delay
    /// as far as it is known.
    pub fn take(&mut self, exchange: &Exchange) -> Option<Duration> {
        let arrived = exchange.arrived.as_micros() as f64;
        let theirs = self.unwrap(arrived, exchange.departure);
        let half = self.delay_min_us();
        let back = arrived - theirs;
        self.back.add(arrived - half, back, -self.drift);
        let mut forth = None;
        if let Some((departed, hold)) = exchange.echo {
            let (departed, hold) = (departed.as_micros() as f64, hold.as_micros() as f64);
            let value = theirs - hold - departed;
            let at = f64::midpoint(departed, arrived - hold);
            self.forth.add(at, value, self.drift);
            forth = Some((at, value));
        }
        self.expire(arrived);
        let fresh = self.fit.is_none_or(|fit| arrived - fit.at >= FIT_EVERY_US);
        if self.has_turned_back(arrived) {
            self.restart(arrived, back, forth);
        } else if fresh {
            self.fit(arrived);
        }
        self.note_delay(arrived, back)
    }

    /// The other player's clock when it wrote `departure`, in the count that this filter uses.
    pub fn peer_time(&self, arrived: Now, departure: Departure) -> i64 {
        let arrived = arrived.as_micros() as f64;
        self.nearest(arrived, departure) as i64
    }

    /// What is known at `now`; `None` before one datagram was answered.
    pub fn estimate(&self, now: Now) -> Option<PathEstimate> {
        let fit = self.fit?;
        let micros = |us: f64| Duration::from_micros(us.max(0.0) as u64);
        let delay_min = f64::midpoint(fit.forth, fit.back).max(0.0);
        // What lies above the ground does so by less than the whole bare path; where little is known,
        // that is all that can be said.
        let points = self.forth.len().min(self.back.len());
        let few = if points < 3 { delay_min / 2.0 } else { 0.0 };
        let above = (fit.spread * SPREAD + few).min(delay_min);
        let age = (now.as_micros() as f64 - fit.at).max(0.0);
        let drifted = age * if self.watched < 10.0 { 1e-4 } else { 1e-5 };
        Some(PathEstimate {
            offset_us: fit.offset + fit.drift * (now.as_micros() as f64 - fit.at),
            uncertainty: micros(above + drifted + RESOLUTION_US),
            drift_ppm: (fit.drift * 1e6) as f32,
            delay_min: micros(delay_min),
            delay: micros(self.delay.unwrap_or(0.0)),
            jitter: micros(self.jitter),
        })
    }

    /// How often a clock was set or stood still, as far as it showed.
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Their time nearest to what it must be by now: the wire has 24 bits, 268 s.
    fn unwrap(&mut self, arrived: f64, departure: Departure) -> f64 {
        let theirs = self.nearest(arrived, departure);
        self.heard = Some((theirs, arrived));
        theirs
    }

    fn nearest(&self, arrived: f64, departure: Departure) -> f64 {
        let unit = TIME_UNIT_US as f64;
        let range = f64::from(1 << 24) * unit;
        let wrapped = f64::from(departure.units()) * unit;
        let Some((theirs, heard)) = self.heard else {
            return wrapped;
        };
        let expected = theirs + (arrived - heard);
        wrapped + ((expected - wrapped) / range).round() * range
    }

    fn delay_min_us(&self) -> f64 {
        self.fit.map_or(0.0, |fit| f64::midpoint(fit.forth, fit.back).max(0.0))
    }

    fn expire(&mut self, now: f64) {
        self.forth.expire(now);
        self.back.expire(now);
    }

    fn has_turned_back(&self, now: f64) -> bool {
        let (Some(forth), Some(back)) = (self.forth.span(), self.back.span()) else {
            return false;
        };
        let drift = self.fit.map_or(self.drift, |fit| fit.drift);
        // While the drift is not known, it lowers the sum by what it makes of the span.
        let span = forth.1.max(back.1) - forth.0.min(back.0);
        let unknown = if self.watched < 2.0 { 2.0 * DRIFT_MAX * span } else { 0.0 };
        let round_trip = self.forth.lowest(now, drift) + self.back.lowest(now, -drift);
        round_trip < IMPOSSIBLE_US - unknown
    }

    /// A clock was set: what was measured before is of another clock. Its drift is the same.
    fn restart(&mut self, now: f64, back: f64, forth: Option<(f64, f64)>) {
        self.restarts = self.restarts.saturating_add(1);
        self.forth.clear();
        self.back.clear();
        self.back.add(now, back, 0.0);
        if let Some((at, value)) = forth {
            self.forth.add(at, value, 0.0);
        }
        self.fit = None;
        self.delay = None;
        self.fit(now);
    }

    fn fit(&mut self, now: f64) {
        let (Some(forth), Some(back)) = (self.forth.span(), self.back.span()) else {
            return;
        };
        let (first, last) = (forth.0.max(back.0), forth.1.min(back.1));
        let span = (last - first).max(0.0);
        let middle = f64::midpoint(first, last);
        let drift = if span < SPAN_FOR_DRIFT_US { self.drift } else { self.search(middle, span) };
        let (forth, back) = (self.forth.lowest(middle, drift), self.back.lowest(middle, -drift));
        if let Some(before) = self.fit {
            let seconds = (now - before.at).clamp(0.0, 1e6) / 1e6;
            if span >= SPAN_FOR_DRIFT_US {
                self.watched += seconds;
                let constant = self.watched.clamp(1.0, PRIOR_SECONDS);
                self.drift += (drift - self.drift) * (seconds / constant).min(1.0);
            }
        }
        let spread = self.forth.spread(middle, drift) + self.back.spread(middle, -drift);
        let offset = (forth - back) / 2.0 + drift * (now - middle);
        self.fit = Some(Fit { at: now, offset, drift, forth, back, spread });
    }

    /// The drift that raises the sum of the two minima the most, with some trust in the known one.
    fn search(&self, middle: f64, span: f64) -> f64 {
        let score = |drift: f64| {
            self.forth.lowest(middle, drift) + self.back.lowest(middle, -drift)
                - PRIOR_WEIGHT * span * (drift - self.drift).abs()
        };
        // Golden section: each step needs one new value.
        let (mut low, mut high) = (-DRIFT_MAX, DRIFT_MAX);
        let (mut left, mut right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        let (mut at_left, mut at_right) = (score(left), score(right));
        for _ in 0..SEARCH_STEPS {
            if at_left < at_right {
                (low, left, at_left) = (left, right, at_right);
                right = low + GOLDEN * (high - low);
                at_right = score(right);
            } else {
                (high, right, at_right) = (right, left, at_left);
                left = high - GOLDEN * (high - low);
                at_left = score(left);
            }
        }
        f64::midpoint(low, high)
    }

    fn note_delay(&mut self, now: f64, back: f64) -> Option<Duration> {
        let fit = self.fit?;
        // What the clocks' offset explains of the difference is not delay.
        let delay = (back + fit.offset + fit.drift * (now - fit.at)).max(0.0);
        let excess = (delay - self.delay_min_us()).max(0.0);
        self.jitter += (excess - self.jitter) / 16.0;
        let smooth = self.delay.unwrap_or(delay);
        self.delay = Some(smooth + (delay - smooth) / 8.0);
        Some(Duration::from_micros(delay as u64))
    }
}
