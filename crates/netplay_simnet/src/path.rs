//! Decides what happens to each packet of one direction; holds no packets.
//!
//! Guaranteed: every packet takes the same number of random draws whatever the conditions, so that a
//! change of one setting leaves what the others do to the same packets as it was: two runs that
//! differ in delay lose the same packets. Not guaranteed: times that never go back; a packet sent
//! "earlier" than the last is treated as any other.

use core::time::Duration;

use netplay_protocol::Now;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::conditions::{Conditions, Jitter, Loss, Rate, Surge};
use crate::network::mix_seed;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// What happened to the packets of one direction since it was made.
///
/// `sent + duplicated` is `delivered + lost + overflowed` and what is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeStats {
    /// Packets that were given to `send`.
    pub sent: u64,
    /// Packets and copies that `poll` returned.
    pub delivered: u64,
    /// Packets that the loss model lost, that were sent while blocked, or that were dropped in flight
    /// by a cut, a block or the removal of a node.
    pub lost: u64,
    /// Copies that were made.
    pub duplicated: u64,
    /// Packets that found the queue of the rate limit, or the pipe itself, full.
    pub overflowed: u64,
}

impl PipeStats {
    /// Packets and copies that are still under way.
    pub const fn in_flight(&self) -> u64 {
        (self.sent + self.duplicated).saturating_sub(self.delivered + self.lost + self.overflowed)
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            overflowed: self.overflowed + other.overflowed,
        }
    }
}

/// What becomes of one packet.
pub(crate) enum Fate {
    /// It never arrives.
    Dropped,
    /// It arrives at `at`, and once more at `copy` if that is set.
    Arrives { at: Now, copy: Option<Now> },
}

/// The state of one direction that outlives a packet.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    conditions: Conditions,
    rng: ChaCha8Rng,
    stats: PipeStats,
    /// Of packets and copies that are in flight.
    bytes: u64,
    blocked: bool,
    /// Gilbert–Elliott: in the bad state.
    bad: bool,
    /// Clumped jitter: the extra delay of the last packet.
    clump: Duration,
    /// Clumped jitter: when the last packet arrives.
    floor: Now,
    /// Surge: when the last packet was sent, when the surge ends, and its extra delay.
    last_sent: Now,
    surge_until: Now,
    surge: Duration,
    /// Rate: the bottleneck is busy until so many nanoseconds after the start of the clock.
    busy_until: u128,
}

impl Path {
    /// Packets and copies that one direction holds at most; what comes on top overflows.
    pub(crate) const MAX_IN_FLIGHT: u64 = 65_536;
    /// Their bytes that one direction holds at most; a packet that does not fit overflows.
    pub(crate) const MAX_BYTES_IN_FLIGHT: u64 = 16 * 1024 * 1024;

    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions: conditions.validated(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            stats: PipeStats::default(),
            bytes: 0,
            blocked: false,
            bad: false,
            clump: Duration::ZERO,
            floor: Now::ZERO,
            last_sent: Now::ZERO,
            surge_until: Now::ZERO,
            surge: Duration::ZERO,
            busy_until: 0,
        }
    }

    pub(crate) fn send(&mut self, now: Now, len_bytes: usize) -> Fate {
        let draws = Draws::new(&mut self.rng);
        self.stats.sent += 1;
        if self.blocked {
            self.stats.lost += 1;
            return Fate::Dropped;
        }
        // This packet is in flight already, so the limit itself still fits.
        if self.stats.in_flight() > Self::MAX_IN_FLIGHT || !self.has_bytes(len_bytes) {
            self.stats.overflowed += 1;
            return Fate::Dropped;
        }
        let Some(departure) = self.departure(now, len_bytes) else {
            self.stats.overflowed += 1;
            return Fate::Dropped;
        };
        if self.loses(&draws) {
            self.stats.lost += 1;
            return Fate::Dropped;
        }
        let departure = departure + self.surge(now, &draws.burst);
        let at = self.arrival(departure, &draws.first);
        self.bytes += len_bytes as u64;
        let has_room = self.stats.in_flight() < Self::MAX_IN_FLIGHT && self.has_bytes(len_bytes);
        let copy = (has_room && draws.duplicate.chance(self.conditions.duplicate)).then(|| {
            self.stats.duplicated += 1;
            self.bytes += len_bytes as u64;
            self.arrival(departure, &draws.copy)
        });
        Fate::Arrives { at, copy }
    }

    /// A packet of this length has left the queue of the caller.
    pub(crate) fn delivered(&mut self, len_bytes: usize) {
        self.stats.delivered += 1;
        self.bytes = self.bytes.saturating_sub(len_bytes as u64);
    }

    pub(crate) const fn bytes_in_flight(&self) -> u64 {
        self.bytes
    }

    const fn has_bytes(&self, len_bytes: usize) -> bool {
        self.bytes.saturating_add(len_bytes as u64) <= Self::MAX_BYTES_IN_FLIGHT
    }

    pub(crate) fn stats(&self) -> PipeStats {
        self.stats
    }

    pub(crate) fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    pub(crate) fn set_conditions(&mut self, conditions: Conditions) {
        let conditions = conditions.validated();
        if conditions == self.conditions {
            return;
        }
        self.conditions = conditions;
        self.bad = false;
        self.clump = Duration::ZERO;
        self.floor = Now::ZERO;
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Counts everything in flight as lost; the caller drops it.
    pub(crate) fn cut(&mut self) {
        self.stats.lost += self.stats.in_flight();
        self.bytes = 0;
        self.floor = Now::ZERO;
        self.busy_until = 0;
    }

    /// When the packet is through the bottleneck; `None` if it does not fit.
    fn departure(&mut self, now: Now, len_bytes: usize) -> Option<Now> {
        let Some(Rate { bytes_per_second, queue_bytes }) = self.conditions.rate else {
            return Some(now);
        };
        if bytes_per_second == 0 {
            return None;
        }
        let (len, rate) = (len_bytes as u128, u128::from(bytes_per_second));
        let now_nanos = u128::from(now.as_micros()) * 1000;
        let wait = self.busy_until.saturating_sub(now_nanos);
        let waiting_bytes = wait.saturating_mul(rate).div_ceil(NANOS_PER_SECOND);
        if wait > 0 && waiting_bytes + len > u128::from(queue_bytes) {
            return None;
        }
        let takes = (len * NANOS_PER_SECOND).div_ceil(rate);
        self.busy_until = (now_nanos + wait).saturating_add(takes);
        let micros = u64::try_from(self.busy_until.div_ceil(1000)).unwrap_or(u64::MAX);
        Some(Now::from_micros(micros))
    }

    fn loses(&mut self, draws: &Draws) -> bool {
        match self.conditions.loss {
            Loss::None => false,
            Loss::Random { probability } => draws.loss.chance(probability),
            Loss::Bursts { enter, leave, loss_good, loss_bad } => {
                let change = if self.bad { leave } else { enter };
                self.bad ^= draws.burst.chance(change);
                draws.loss.chance(if self.bad { loss_bad } else { loss_good })
            }
        }
    }

    /// What a surge adds. The chance that one has begun grows with the time since the last packet.
    fn surge(&mut self, now: Now, draw: &Draw) -> Duration {
        let Some(Surge { every, lasts, max }) = &self.conditions.surge else {
            return Duration::ZERO;
        };
        let passed = now.since(self.last_sent).as_micros() as f64;
        self.last_sent = self.last_sent.max(now);
        let chance = passed / (every.as_micros() as f64).max(1.0);
        if now >= self.surge_until && Draw(mix_seed(draw.0, 1)).chance(chance) {
            self.surge_until = now + *lasts;
            self.surge = Draw(mix_seed(draw.0, 2)).up_to(*max);
        }
        if now < self.surge_until { self.surge } else { Duration::ZERO }
    }

    fn arrival(&mut self, departure: Now, draws: &ArrivalDraws) -> Now {
        let earliest = departure + self.conditions.delay;
        let arrival = match self.conditions.jitter {
            Jitter::None => earliest,
            Jitter::Independent { max } => earliest + draws.jitter.up_to(max),
            Jitter::Queues { p95 } => earliest + draws.jitter.queued(p95),
            Jitter::Clumped { max, correlation } => {
                if !draws.clump.chance(correlation) {
                    self.clump = draws.jitter.up_to(max);
                }
                self.floor = self.floor.max(earliest + self.clump);
                self.floor
            }
        };
        match &self.conditions.reorder {
            Some(reorder) if draws.reorder.chance(reorder.probability) => arrival + reorder.extra,
            _ => arrival,
        }
    }
}

/// The random numbers of one packet.
struct Draws {
    burst: Draw,
    loss: Draw,
    duplicate: Draw,
    first: ArrivalDraws,
    copy: ArrivalDraws,
}

/// The random numbers of one arrival.
struct ArrivalDraws {
    clump: Draw,
    jitter: Draw,
    reorder: Draw,
}

/// One uniform random number.
struct Draw(u64);

impl Draws {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            burst: Draw(rng.next_u64()),
            loss: Draw(rng.next_u64()),
            duplicate: Draw(rng.next_u64()),
            first: ArrivalDraws::new(rng),
            copy: ArrivalDraws::new(rng),
        }
    }
}

impl ArrivalDraws {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            clump: Draw(rng.next_u64()),
            jitter: Draw(rng.next_u64()),
            reorder: Draw(rng.next_u64()),
        }
    }
}

impl Draw {
    /// True with this probability: never at 0, always at 1.
    fn chance(&self, probability: f64) -> bool {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        ((self.0 >> 11) as f64 * STEP) < probability
    }

    /// Gamma distributed with shape 2, as the sum of two exponential waits; 95 % are below `p95`.
    fn queued(&self, p95: Duration) -> Duration {
        // The 95th percentile of this distribution in units of its scale.
        const P95: f64 = 4.743_864_518;
        const STEP: f64 = 1.0 / (1_u64 << 32) as f64;
        let uniform = |bits: u64| ((bits & u64::from(u32::MAX)) + 1) as f64 * STEP;
        // The same on every platform, which the standard library does not promise of its own.
        let waits = -libm::log(uniform(self.0) * uniform(self.0 >> 32));
        Duration::from_micros((waits * p95.as_micros() as f64 / P95) as u64)
    }

    /// Uniform from zero to `max`, both included, in microseconds.
    fn up_to(&self, max: Duration) -> Duration {
        let max = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        let scaled = (u128::from(self.0) * (u128::from(max) + 1)) >> 64;
        Duration::from_micros(u64::try_from(scaled).unwrap_or(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_never_at_zero_and_always_at_one() {
        for draw in [Draw(0), Draw(u64::MAX)] {
            assert!(!draw.chance(0.0));
            assert!(draw.chance(1.0));
        }
    }

    #[test]
    fn up_to_reaches_both_ends() {
        let max = Duration::from_micros(7);
        assert_eq!(Draw(0).up_to(max), Duration::ZERO);
        assert_eq!(Draw(u64::MAX).up_to(max), max);
        let longest = Duration::from_micros(u64::MAX);
        assert_eq!(Draw(u64::MAX).up_to(Duration::MAX), longest);
    }
}
