//! What others do, as small models after their sources: how far the other player's clock is ahead, and
//! how a game is held together.
//!
//! All get every packet of the game (60 a second), more than most of them ask for. What they leave to
//! the caller is done well: the time that the other side held an answer back is taken out of every
//! round trip, and times have no rounding but GGPO's own.

use std::collections::VecDeque;

/// A game's frame, in microseconds.
pub const FRAME_US: f64 = 1e6 / 60.0;

/// What one packet of the other player tells, in microseconds; each time on the clock of who notes it.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When the packet left.
    pub their_departure: f64,
    /// When it arrived.
    pub our_arrival: f64,
    /// Of the newest packet of ours that it confirms for the first time: when that left, and when it
    /// arrived there.
    pub echo: Option<(f64, f64)>,
    /// Where the other game was when the packet left.
    pub their_position: f64,
    /// Where ours is.
    pub our_position: f64,
    /// By how many frames the other side believes that it is ahead.
    pub their_advantage: f64,
}

impl Sample {
    /// Round trip without the time that the answer was held back.
    fn rtt(&self) -> Option<f64> {
        let (departure, arrival) = self.echo?;
        Some((self.our_arrival - departure) - (self.their_departure - arrival))
    }

    /// Their clock minus ours, if both ways took the same time.
    fn offset(&self) -> Option<f64> {
        let (departure, arrival) = self.echo?;
        Some(((arrival - departure) + (self.their_departure - self.our_arrival)) / 2.0)
    }
}

/// Estimates how far the other player's clock is ahead.
pub trait Estimator {
    /// Takes a packet.
    fn take(&mut self, sample: &Sample);
    /// The estimate at this time of ours, in microseconds.
    fn offset(&self, now: f64) -> Option<f64>;
}

/// The latest round trip, halved: NetplayJS, and GGPO without its frames.
#[derive(Default)]
pub struct LastPing(Option<f64>);

impl Estimator for LastPing {
    fn take(&mut self, sample: &Sample) {
        self.0 = sample.offset().or(self.0);
    }

    fn offset(&self, _now: f64) -> Option<f64> {
        self.0
    }
}

/// The same, smoothed with a gain of 1/8.
#[derive(Default)]
pub struct Ema(Option<f64>);

impl Estimator for Ema {
    fn take(&mut self, sample: &Sample) {
        if let Some(offset) = sample.offset() {
            let smooth = self.0.unwrap_or(offset);
            self.0 = Some(smooth + (offset - smooth) / 8.0);
        }
    }

    fn offset(&self, _now: f64) -> Option<f64> {
        self.0
    }
}

/// The one of the last eight with the shortest round trip: NTP's clock filter (RFC 5905 §10).
#[derive(Default)]
pub struct Ntp8(VecDeque<(f64, f64)>);

impl Estimator for Ntp8 {
    fn take(&mut self, sample: &Sample) {
        if let (Some(rtt), Some(offset)) = (sample.rtt(), sample.offset()) {
            self.0.push_back((rtt, offset));
            if self.0.len() > 8 {
                self.0.pop_front();
            }
        }
    }

    fn offset(&self, _now: f64) -> Option<f64> {
        let best = self.0.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        best.map(|(_, offset)| *offset)
    }
}

/// Slippi: the mean of the middle third of the last 30 packets, each with the half of the last ping.
#[derive(Default)]
pub struct Slippi {
    ping: f64,
    ring: VecDeque<f64>,
}

impl Estimator for Slippi {
    fn take(&mut self, sample: &Sample) {
        self.ping = sample.rtt().unwrap_or(self.ping);
        self.ring.push_back(sample.their_departure + self.ping / 2.0 - sample.our_arrival);
        if self.ring.len() > 30 {
            self.ring.pop_front();
        }
    }

    fn offset(&self, _now: f64) -> Option<f64> {
        middle_third(&self.ring)
    }
}

fn middle_third(ring: &VecDeque<f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = ring.iter().copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let third = sorted.len() / 3;
    let middle = sorted.get(third..sorted.len() - third).filter(|middle| !middle.is_empty())?;
    Some(middle.iter().sum::<f64>() / middle.len() as f64)
}

/// GGPO: the other is where its last packet says plus a whole round trip, which is measured once a
/// second.
#[derive(Default)]
pub struct Ggpo {
    rtt: f64,
    asked: f64,
    offset: Option<f64>,
}

impl Estimator for Ggpo {
    fn take(&mut self, sample: &Sample) {
        if let Some(rtt) = sample.rtt()
            && sample.our_arrival - self.asked >= 1e6
        {
            (self.rtt, self.asked) = (rtt, sample.our_arrival);
        }
        self.offset = Some(sample.their_departure + self.rtt - sample.our_arrival);
    }

    fn offset(&self, _now: f64) -> Option<f64> {
        self.offset
    }
}

/// What a controller does in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// How far the game goes, in microseconds of its own time.
    pub advance: f64,
    /// Frames that are left out or repeated.
    pub skips: u32,
}

/// Holds two games together.
pub trait Controller {
    /// Takes a packet.
    fn take(&mut self, sample: &Sample);
    /// A frame of so many microseconds that ends at this time of ours; `position` is where the game was
    /// at its beginning.
    fn frame(&mut self, now: f64, passed: f64, number: u32, position: f64) -> Step;
    /// By how many frames we believe to be ahead, for the packet.
    fn advantage(&self) -> f64 {
        0.0
    }
}

/// Any estimate, and a proportional slew of at most 1 %, 5 % in the first five seconds.
pub struct Slew<E> {
    estimator: E,
    /// Where the other game was at a time of its clock.
    theirs: Option<(f64, f64)>,
}

impl<E: Estimator> Slew<E> {
    /// With this estimate.
    pub const fn new(estimator: E) -> Self {
        Self { estimator, theirs: None }
    }
}

impl<E: Estimator> Controller for Slew<E> {
    fn take(&mut self, sample: &Sample) {
        self.estimator.take(sample);
        self.theirs = Some((sample.their_departure, sample.their_position));
    }

    fn frame(&mut self, now: f64, passed: f64, number: u32, position: f64) -> Step {
        let most = if number < 300 { 0.05 } else { 0.01 };
        let ahead = self
            .theirs
            .zip(self.estimator.offset(now))
            .map(|((at, there), offset)| position + passed - (there + now + offset - at));
        // Both sides move, half of the way each.
        let speed = ahead.map_or(0.0, |ahead| (-ahead / 2.0 / 1e6 * 3.0).clamp(-most, most));
        Step { advance: passed * (1.0 + speed), skips: 0 }
    }
}

/// Slippi: looks every 30 frames; slows by up to 0.5 % and speeds up by up to 1 %, in proportion up to
/// three frames, outside of a dead zone of −0.25 to 8 ms; skips frames in the first two seconds and
/// when far behind.
#[derive(Default)]
pub struct SlippiPacing {
    ping: f64,
    /// How far we are ahead, by the latest packets.
    ring: VecDeque<f64>,
    speed: f64,
    pending: u32,
}

impl Controller for SlippiPacing {
    fn take(&mut self, sample: &Sample) {
        self.ping = sample.echo.and(sample.rtt()).unwrap_or(self.ping);
        self.ring.push_back(sample.our_position - (sample.their_position + self.ping / 2.0));
        if self.ring.len() > 30 {
            self.ring.pop_front();
        }
    }

    fn frame(&mut self, _now: f64, passed: f64, number: u32, _position: f64) -> Step {
        let ahead = middle_third(&self.ring).unwrap_or(0.0);
        if number.is_multiple_of(30) {
            if number <= 120 && ahead > 10_000.0 {
                self.pending = ((ahead / FRAME_US).round() as u32).min(5);
            } else if number > 120 && ahead < -26_700.0 {
                self.pending = ((-ahead / FRAME_US) as u32).min(3);
            }
            let limit = 3.0 * FRAME_US;
            self.speed = if ahead < -250.0 {
                0.01 * (-ahead / limit).min(1.0)
            } else if ahead > 8_000.0 {
                -0.005 * (ahead / limit).min(1.0)
            } else {
                0.0
            };
        }
        let advance = passed * (1.0 + self.speed);
        if self.pending == 0 {
            return Step { advance, skips: 0 };
        }
        if number <= 120 {
            // Ahead: a frame is held.
            self.pending -= 1;
            return Step { advance: 0.0, skips: 1 };
        }
        if number.is_multiple_of(5) {
            self.pending -= 1;
            return Step { advance: advance + FRAME_US, skips: 1 };
        }
        Step { advance, skips: 0 }
    }
}

/// GGPO: averages both sides' advantage over 40 frames, and sleeps half the difference in whole
/// frames if that is three to nine, at most every 240 frames.
#[derive(Default)]
pub struct GgpoPacing {
    estimator: Ggpo,
    ours: VecDeque<f64>,
    theirs: VecDeque<f64>,
    remote: Option<(f64, f64)>,
    their_advantage: f64,
    /// Told once a second, as a number of frames.
    told: f64,
    slept: u32,
    sleep: u32,
}

impl Controller for GgpoPacing {
    fn take(&mut self, sample: &Sample) {
        self.estimator.take(sample);
        self.their_advantage = sample.their_advantage;
        let frames = (sample.their_position / FRAME_US).floor();
        self.remote = Some((frames, (self.estimator.rtt / FRAME_US).floor()));
    }

    fn frame(&mut self, _now: f64, passed: f64, number: u32, position: f64) -> Step {
        if self.sleep > 0 {
            self.sleep -= 1;
            return Step { advance: 0.0, skips: 1 };
        }
        let ours = (position / FRAME_US).floor();
        // The advantage of whoever has the lower frame: how far the other is ahead.
        let advantage = self.remote.map_or(0.0, |(frame, rtt)| frame + rtt - ours);
        if number.is_multiple_of(60) {
            self.told = advantage.clamp(-128.0, 127.0);
        }
        for (ring, value) in [(&mut self.ours, advantage), (&mut self.theirs, self.their_advantage)]
        {
            ring.push_back(value);
            if ring.len() > 40 {
                ring.pop_front();
            }
        }
        let mean = |ring: &VecDeque<f64>| ring.iter().sum::<f64>() / ring.len() as f64;
        let (mine, other) = (mean(&self.ours), mean(&self.theirs));
        // Only who is ahead sleeps.
        if mine < other && number - self.slept >= 240 && self.ours.len() == 40 {
            let frames = ((other - mine) / 2.0 + 0.5) as u32;
            if frames >= 3 {
                self.sleep = frames.min(9);
                self.slept = number;
            }
        }
        Step { advance: passed, skips: 0 }
    }

    fn advantage(&self) -> f64 {
        self.told
    }
}
