//! How many ticks an input waits before it counts.
//!
//! With a delay of `d` ticks, an input is late if its way takes longer than `d` ticks: then the other
//! side has to predict it. The chooser looks for the smallest delay with which a share of inputs below
//! the target is late, from the delays of the datagrams as they came. A datagram that was lost counts
//! as its inputs did: they came with a later one.
//!
//! All players use one delay, the largest that any of them wants, from an agreed tick on: so nobody
//! has an advantage. One player decides and tells it as a [`DelayChange`].
//!
//! Guaranteed: at most one change in [`InputDelayConfig::hold`]; up as soon as that allows, down only
//! after a delay smaller by one would have held half the target for as long.

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::{Now, PeerId};

use crate::{NetTick, TickRate};

/// Bins of a millisecond. What takes longer is late whatever the delay.
const BINS: usize = 500;
/// What is left of a sample's weight after a second: half after ten.
const DECAY: f64 = 0.933;
/// Fewer samples say nothing about one in a hundred.
const SAMPLES_MIN: f64 = 60.0;
/// Datagrams lost in a row that are still counted.
const LOST_MAX: u32 = 16;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputDelayConfig {
    /// The share of inputs that may be late; 0.01 by default.
    pub target: f64,
    /// The smallest delay, in ticks; 0 by default.
    pub min: u8,
    /// The largest, in ticks; 8 by default. More is not played but watched.
    pub max: u8,
    /// Time between two changes; 10 s by default.
    pub hold: Duration,
}

impl Default for InputDelayConfig {
    fn default() -> Self {
        Self { target: 0.01, min: 0, max: 8, hold: Duration::from_secs(10) }
    }
}

/// From this tick on, all players use this delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayChange {
    /// The first tick with the new delay.
    pub at: NetTick,
    /// In ticks.
    pub delay: u8,
}

/// The delays of one player's inputs, by the millisecond.
#[derive(Clone, Debug)]
struct Delays {
    bins: Box<[f64; BINS]>,
    late: f64,
    total: f64,
    decayed: Option<Now>,
    /// How many ticks that player wants.
    wants: u8,
}

impl Default for Delays {
    fn default() -> Self {
        Self { bins: Box::new([0.0; BINS]), late: 0.0, total: 0.0, decayed: None, wants: 0 }
    }
}

impl Delays {
    fn decay(&mut self, now: Now) {
        let since = *self.decayed.get_or_insert(now);
        let seconds = now.since(since).as_secs();
        if seconds == 0 {
            return;
        }
        self.decayed = Some(since + Duration::from_secs(seconds));
        let mut left = 1.0;
        for _ in 0..seconds.min(200) {
            left *= DECAY;
        }
        self.bins.iter_mut().for_each(|bin| *bin *= left);
        (self.late, self.total) = (self.late * left, self.total * left);
    }

    fn add(&mut self, delay: Duration) {
        self.total += 1.0;
        match self.bins.get_mut(delay.as_millis() as usize) {
            Some(bin) => *bin += 1.0,
            None => self.late += 1.0,
        }
    }

    /// The share of inputs that take longer than this.
    fn later_than(&self, limit: Duration) -> f64 {
        if self.total < 1.0 {
            return 0.0;
        }
        // A bin's inputs took up to a millisecond more.
        let first = limit.as_millis() as usize;
        let beyond: f64 = self.bins.iter().skip(first).sum();
        (beyond + self.late) / self.total
    }
}

/// Chooses the input delay of one match.
#[derive(Clone, Debug)]
pub struct InputDelay {
    config: InputDelayConfig,
    rate: TickRate,
    peers: BTreeMap<PeerId, Delays>,
    current: u8,
    changed: Option<Now>,
    /// Since when a smaller delay would do.
    lower_since: Option<Now>,
}

impl InputDelay {
    /// Begins with this delay, in ticks.
    pub fn new(config: InputDelayConfig, rate: TickRate, delay: u8) -> Self {
        let current = delay.clamp(config.min, config.max.max(config.min));
        let peers = BTreeMap::new();
        Self { config, rate, peers, current, changed: None, lower_since: None }
    }

    /// The delay in use or agreed on, in ticks.
    pub const fn delay(&self) -> u8 {
        self.current
    }

    /// A datagram of a player came after this one-way delay (and what the clock may be wrong by), and
    /// so many before it were lost in a row.
    pub fn note(&mut self, now: Now, peer: PeerId, delay: Duration, lost: u32) {
        let delays = self.peers.entry(peer).or_default();
        delays.decay(now);
        for behind in 0..=lost.min(LOST_MAX) {
            delays.add(delay + self.rate.tick_len() * behind);
        }
    }

    /// A player wants so many ticks, by its own measurement.
    pub fn heard(&mut self, peer: PeerId, wants: u8) {
        self.peers.entry(peer).or_default().wants = wants;
    }

    /// A player is gone.
    pub fn remove(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// What we want, by our own measurement: the smallest delay that keeps the target.
    pub fn wants(&self) -> u8 {
        self.smallest(self.config.target)
    }

    fn smallest(&self, target: f64) -> u8 {
        let most = self.config.max.max(self.config.min);
        let enough = |delay: &u8| {
            let limit = self.rate.tick_len() * u32::from(*delay);
            let known = self.peers.values().filter(|delays| delays.total >= SAMPLES_MIN);
            known.into_iter().all(|delays| delays.later_than(limit) <= target)
        };
        (self.config.min..=most).find(enough).unwrap_or(most)
    }

    fn largest_wanted(&self, target: f64) -> u8 {
        let others = self.peers.values().map(|delays| delays.wants).max().unwrap_or(0);
        let most = self.config.max.max(self.config.min);
        self.smallest(target).max(others).clamp(self.config.min, most)
    }

    /// For the player who decides: whether the delay changes, from the tick `lead` ticks after `tick`.
    /// The lead has to be long enough for the news to arrive.
    pub fn decide(&mut self, now: Now, tick: NetTick, lead: u16) -> Option<DelayChange> {
        let wanted = self.largest_wanted(self.config.target);
        let safe = self.largest_wanted(self.config.target / 2.0);
        if safe < self.current {
            self.lower_since.get_or_insert(now);
        } else {
            self.lower_since = None;
        }
        if self.changed.is_some_and(|at| now.since(at) < self.config.hold) {
            return None;
        }
        let long = |since: Now| now.since(since) >= self.config.hold;
        let delay = if wanted > self.current {
            wanted
        } else if self.lower_since.is_some_and(long) {
            safe
        } else {
            return None;
        };
        (self.changed, self.lower_since) = (Some(now), None);
        self.current = delay;
        Some(DelayChange { at: tick.plus(i32::from(lead)), delay })
    }

    /// For the others: the one who decides has told a change.
    pub fn follow(&mut self, now: Now, change: DelayChange) {
        self.current = change.delay.clamp(self.config.min, self.config.max.max(self.config.min));
        self.changed = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId::from_u128(1);
    const MS: Duration = Duration::from_millis(1);

    fn ticks(
        delay: &mut InputDelay,
        from: u64,
        count: u64,
        of: impl Fn(u64) -> (Duration, u32),
    ) -> Vec<DelayChange> {
        let mut changes = Vec::new();
        for i in from..from + count {
            let now = Now::from_micros(i * 16_667);
            let (took, lost) = of(i);
            delay.note(now, PEER, took, lost);
            changes.extend(delay.decide(now, NetTick(i as u32), 20));
        }
        changes
    }

    fn chooser() -> InputDelay {
        InputDelay::new(InputDelayConfig::default(), TickRate::default(), 0)
    }

    #[test]
    fn the_smallest_delay_that_keeps_one_in_a_hundred_is_chosen() {
        let mut delay = chooser();
        // 40 ms, and one in two hundred 90 ms: three ticks are enough.
        let changes = ticks(&mut delay, 0, 600, |i| (MS * if i % 200 == 199 { 90 } else { 40 }, 0));
        assert_eq!(changes, [DelayChange { at: NetTick(59 + 20), delay: 3 }]);
        // One in twenty: it takes six.
        let changes = ticks(&mut delay, 600, 1200, |i| (MS * if i % 20 == 0 { 90 } else { 40 }, 0));
        assert_eq!(changes.last().map(|change| change.delay), Some(6));
    }

    #[test]
    fn inputs_of_lost_datagrams_come_with_the_next() {
        let mut delay = chooser();
        ticks(&mut delay, 0, 600, |i| (MS * 30, u32::from(i % 20 == 0) * 3));
        // 30 ms and three ticks of 16.7 ms.
        assert_eq!(delay.wants(), 5);
    }

    #[test]
    fn it_goes_down_slowly_and_never_changes_twice_in_ten_seconds() {
        let mut delay = chooser();
        let mut changes = ticks(&mut delay, 0, 600, |_| (MS * 60, 0));
        changes.extend(ticks(&mut delay, 600, 12_000, |i| {
            // Ten seconds calm, then one bad second, for three minutes.
            (MS * if i / 60 % 11 == 10 { 60 } else { 20 }, 0)
        }));
        assert!(changes.len() <= 2, "{changes:?}");
        let calm = ticks(&mut delay, 12_600, 6_000, |_| (MS * 20, 0));
        assert_eq!(calm.last().map(|change| change.delay), Some(2));
    }

    #[test]
    fn the_largest_wish_counts_and_limits_hold() {
        let mut delay = chooser();
        ticks(&mut delay, 0, 600, |_| (MS * 20, 0));
        delay.heard(PEER, 200);
        let change = delay.decide(Now::from_millis(60_000), NetTick(3600), 20).unwrap();
        assert_eq!(change, DelayChange { at: NetTick(3620), delay: 8 });
        delay.follow(Now::ZERO, DelayChange { at: NetTick(0), delay: 99 });
        assert_eq!(delay.delay(), 8);
    }
}
