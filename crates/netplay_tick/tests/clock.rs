//! How well one player knows another's clock, over virtual paths with a seed for each case.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::time::Duration;

use netplay_protocol::Now;
use netplay_protocol::datagram::Departure;
use netplay_simnet::{Conditions, DriftingClock, Pipe, mix_seed};
use netplay_tick::{Exchange, OffsetFilter};

const MS: Duration = Duration::from_millis(1);
const SEEDS: u64 = 200;

/// A packet on the wire: when it left, and what it says of the newest it has.
type Packet = (Departure, Option<(Now, Duration)>);

/// Two players who send `rate` packets a second to each other; the first has a filter.
struct Pair {
    now: Now,
    clocks: [DriftingClock; 2],
    pipes: [Pipe<Packet>; 2],
    /// The newest departure that the second has heard, and when.
    heard: Option<(Now, Now)>,
    filter: OffsetFilter,
    period: Duration,
    due: [Now; 2],
    ours: std::collections::VecDeque<(Departure, Now)>,
}

impl Pair {
    fn new(conditions: [&Conditions; 2], drift_ppb: [i32; 2], rate: u32, seed: u64) -> Self {
        let period = Duration::from_nanos(1_000_000_000 / u64::from(rate));
        let offset = Duration::from_micros(mix_seed(seed, 5) % 1_000_000_000);
        let phase = Duration::from_micros(mix_seed(seed, 6) % period.as_micros() as u64);
        Self {
            now: Now::ZERO,
            clocks: [
                DriftingClock::new(Duration::from_secs(3), drift_ppb[0]),
                DriftingClock::new(offset, drift_ppb[1]),
            ],
            pipes: [0, 1].map(|i| Pipe::new(conditions[i].clone(), mix_seed(seed, i as u64))),
            heard: None,
            filter: OffsetFilter::new(),
            period,
            due: [Now::ZERO, Now::ZERO + phase],
            ours: std::collections::VecDeque::new(),
        }
    }

    fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            let deadlines = self.pipes.iter().filter_map(Pipe::next_deadline);
            let next = deadlines.chain(self.due).min().unwrap();
            if next > until {
                self.now = until;
                return;
            }
            self.now = next;
            self.deliver();
            for side in 0..2 {
                if self.due[side] <= next {
                    self.due[side] = next + self.period;
                    self.send(side);
                }
            }
        }
    }

    fn send(&mut self, side: usize) {
        let local = self.clocks[side].at(self.now);
        let departure = Departure::at(local);
        let echo = if side == 0 {
            self.ours.push_back((departure, local));
            if self.ours.len() > 600 {
                self.ours.pop_front();
            }
            None
        } else {
            self.heard.take().map(|(departed, arrived)| (departed, local.since(arrived)))
        };
        self.pipes[side].send(self.now, 100, (departure, echo));
    }

    fn deliver(&mut self) {
        while let Some((departure, _)) = self.pipes[0].poll(self.now) {
            // A header names a packet by its number; here its time is as good.
            if let Some((_, departed)) = self.ours.iter().find(|(other, _)| *other == departure) {
                self.heard = Some((*departed, self.clocks[1].at(self.now)));
            }
        }
        while let Some((departure, echo)) = self.pipes[1].poll(self.now) {
            let arrived = self.clocks[0].at(self.now);
            self.filter.take(&Exchange { arrived, departure, echo });
        }
    }

    /// The error of the filter in milliseconds, with its sign.
    fn error_ms(&self) -> Option<f64> {
        let [ours, theirs] = self.clocks.map(|clock| clock.at(self.now));
        let shown = self.filter.peer_time(ours, Departure::at(theirs)) as f64
            + (theirs.as_micros() % 16) as f64;
        let truth = shown - ours.as_micros() as f64;
        Some((self.filter.estimate(ours)?.offset_us - truth) / 1e3)
    }
}

fn profile(name: &str) -> Conditions {
    Conditions::CLOCK_PROFILES.into_iter().find(|(other, _)| *other == name).unwrap().1
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

fn drifts(seed: u64, ppm: u64) -> [i32; 2] {
    [0, 1].map(|i| (mix_seed(seed, 20 + i) % (2000 * ppm + 1)) as i32 - ppm as i32 * 1000)
}

#[test]
fn the_error_stays_below_the_limits_on_every_path() {
    for (name, p95_limit, p999_limit) in [
        ("lan", 1.0, 2.0),
        ("zero", 1.0, 2.0),
        ("rtt60_j20", 1.0, 2.0),
        ("rtt80_bursty", 1.0, 2.0),
        ("rtt120_j50_loss5", 2.0, 4.0),
    ] {
        let path = profile(name);
        let (mut errors, mut honest) = (Vec::new(), 0_usize);
        for seed in 0..SEEDS {
            let mut pair = Pair::new([&path, &path], drifts(seed, 50), 60, seed);
            pair.run(Duration::from_secs(10));
            for _ in 0..500 {
                pair.run(100 * MS);
                let error = pair.error_ms().unwrap().abs();
                let estimate = pair.filter.estimate(pair.clocks[0].at(pair.now)).unwrap();
                honest += usize::from(error <= estimate.uncertainty.as_secs_f64() * 1e3);
                errors.push(error);
            }
        }
        let (p50, p95) = (quantile(&mut errors, 0.5), quantile(&mut errors, 0.95));
        let p999 = quantile(&mut errors, 0.999);
        let share = honest as f64 / errors.len() as f64;
        println!(
            "{name}: p50 {p50:.3}, p95 {p95:.3}, p99.9 {p999:.3} ms; within its uncertainty: {share:.3}"
        );
        assert!(p95 <= p95_limit && p999 <= p999_limit, "{name}: {p95} {p999}");
        assert!(share > 0.9, "{name}: the uncertainty says too little: {share}");
    }
}

#[test]
fn a_burst_of_a_tenth_of_a_second_moves_the_estimate_by_less_than_a_millisecond() {
    let path = profile("rtt60_j20");
    let mut worst = 0.0_f64;
    for seed in 0..SEEDS {
        let mut pair = Pair::new([&path, &path], drifts(seed, 50), 60, seed);
        pair.run(Duration::from_secs(12));
        let before = pair.error_ms().unwrap();
        for side in 0..=(seed % 2) as usize {
            pair.pipes[side].set_conditions(path.clone().with_delay(130 * MS));
        }
        for step in 0..20 {
            pair.run(20 * MS);
            if step == 9 {
                pair.pipes.iter_mut().for_each(|pipe| pipe.set_conditions(path.clone()));
            }
            worst = worst.max((pair.error_ms().unwrap() - before).abs());
        }
    }
    println!("moved by {worst:.3} ms at most");
    assert!(worst <= 1.0, "{worst}");
}

#[test]
fn there_is_an_estimate_within_300_ms_from_a_few_probes() {
    let path = profile("rtt60_j20");
    let mut errors = Vec::new();
    for seed in 0..SEEDS {
        let mut pair = Pair::new([&path, &path], drifts(seed, 50), 20, seed);
        pair.run(300 * MS);
        errors.push(pair.error_ms().unwrap().abs());
    }
    let p95 = quantile(&mut errors, 0.95);
    println!("after 300 ms: p95 {p95:.2} ms");
    assert!(p95 <= 10.0, "{p95}");
}

#[test]
fn a_path_that_becomes_longer_and_short_again_leaves_little_error_two_windows_later() {
    let mut worst = [0.0_f64; 2];
    for seed in 0..SEEDS {
        let path = |rtt| Conditions::perfect().with_delay(MS * rtt / 2).with_queues(10 * MS);
        let mut pair = Pair::new([&path(30), &path(30)], drifts(seed, 100), 60, seed);
        pair.run(Duration::from_secs(15));
        for rtt in [300, 30] {
            pair.pipes.iter_mut().for_each(|pipe| pipe.set_conditions(path(rtt)));
            for _ in 0..200 {
                pair.run(100 * MS);
                worst[0] = worst[0].max(pair.error_ms().unwrap().abs());
            }
            for _ in 0..50 {
                pair.run(100 * MS);
                worst[1] = worst[1].max(pair.error_ms().unwrap().abs());
            }
        }
    }
    println!("during a step {:.2} ms, two windows later {:.2} ms", worst[0], worst[1]);
    assert!(worst[0] <= 135.0 && worst[1] <= 4.0, "{worst:?}");
}

#[test]
fn a_path_that_becomes_longer_right_after_the_start_does_not_invent_a_drift() {
    let mut worst = 0.0_f64;
    for seed in 0..SEEDS {
        let lan = Conditions::perfect().with_queues(MS / 2);
        let bad = Conditions::perfect().with_delay(30 * MS).with_queues(20 * MS).with_loss(0.05);
        let mut pair = Pair::new([&lan, &lan], drifts(seed, 100), 20, seed);
        pair.run(300 * MS + MS * (seed * 7) as u32);
        // One direction first.
        pair.pipes[(seed % 2) as usize].set_conditions(bad.clone());
        pair.run(MS * (seed % 300) as u32);
        pair.pipes.iter_mut().for_each(|pipe| pipe.set_conditions(bad.clone()));
        for _ in 0..90 {
            pair.run(100 * MS);
            worst = worst.max(pair.error_ms().unwrap().abs());
        }
    }
    println!("wrong by {worst:.3} ms at most");
    assert!(worst <= 4.0, "{worst}");
}

#[test]
fn an_asymmetric_path_shifts_the_clock_by_half_the_difference_and_no_more() {
    for seed in 0..SEEDS {
        let path = |ms| Conditions::perfect().with_delay(MS * ms).with_queues(5 * MS);
        let mut pair = Pair::new([&path(10), &path(190)], drifts(seed, 50), 60, seed);
        pair.run(Duration::from_secs(5));
        let mut errors = Vec::new();
        for _ in 0..100 {
            pair.run(100 * MS);
            errors.push(pair.error_ms().unwrap());
        }
        let (low, high) = (quantile(&mut errors, 0.0), quantile(&mut errors, 1.0));
        assert!(low >= -91.5 && high <= -88.5, "half of 180 ms: {low} to {high}");
        assert!(high - low <= 2.0, "stable: {low} to {high}");
    }
}

#[test]
fn any_two_clocks_and_rates_are_followed_for_ten_minutes() {
    for (rate, conditions) in [
        (10, profile("zero")),
        (15, profile("rtt60_j20")),
        (60, profile("zero")),
        (60, profile("rtt60_j20")),
        (128, profile("rtt80_bursty")),
    ] {
        for seed in 0..4 {
            let drift = if seed % 2 == 0 { [500_000, -500_000] } else { [-500_000, 500_000] };
            let mut pair = Pair::new([&conditions, &conditions], drift, rate, seed);
            let mut worst = 0.0_f64;
            for step in 0..600 {
                pair.run(Duration::from_secs(1));
                if step > 10 {
                    worst = worst.max(pair.error_ms().unwrap().abs());
                }
            }
            println!("{rate} Hz, ±500 ppm: {worst:.3} ms");
            assert!(worst <= 3.0, "{rate} Hz, seed {seed}: {worst}");
            let drift = pair.filter.estimate(pair.clocks[0].at(pair.now)).unwrap().drift_ppm;
            assert!((drift.abs() - 1000.0).abs() < 100.0, "{drift}");
        }
    }
}

#[test]
fn a_clock_that_stood_still_is_noticed_and_measured_anew() {
    let path = profile("rtt60_j20");
    for seed in 0..SEEDS {
        let mut pair = Pair::new([&path, &path], drifts(seed, 50), 60, seed);
        pair.run(Duration::from_secs(8));
        let side = (seed % 2) as usize;
        pair.clocks[side].skip(pair.now, Duration::from_millis(100 + seed * 20));
        pair.run(Duration::from_secs(1));
        assert!(pair.filter.restarts() > 0);
        assert!(pair.error_ms().unwrap().abs() < 5.0, "{:?}", pair.error_ms());
    }
}
