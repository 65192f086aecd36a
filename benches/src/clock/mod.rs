//! `clock` and `pacing`: how well players agree on the time, beside what others do. Simulated: only so
//! is the truth known, and only so do all meet the same delays.

mod models;
mod sim;

use std::time::Duration;

use netplay_protocol::Now;
use netplay_protocol::datagram::{Departure, TIME_UNIT_US};
use netplay_simnet::Conditions;
use netplay_tick::{MeshTime, OffsetFilter, Pacer, PacingProfile};
use serde::Serialize;

use crate::Result;
use crate::report::{self, Progress, Row, optional};
use crate::stats::{percentile, rounded};
use models::{
    Controller, Ema, Estimator, Ggpo, GgpoPacing, LastPing, Ntp8, Sample, Slew, Slippi,
    SlippiPacing, Step,
};
use sim::{Happened, Player, Sim};

/// Drift of the two clocks against each other, parts per million.
const PPM: i32 = 100;
/// How far apart the games are at the start of `pacing`, in microseconds.
const APART_US: f64 = 50_000.0;
/// What is measured: from here on.
const CLOCK_FROM: Duration = Duration::from_secs(10);
const PACING_FROM: Duration = Duration::from_secs(5);

/// How well one algorithm does on one path.
#[derive(Serialize)]
pub struct ClockRow {
    profile: &'static str,
    algorithm: &'static str,
    p95_ms: Option<f64>,
    p999_ms: Option<f64>,
    runs: u64,
}

impl Row for ClockRow {
    const COLUMNS: &'static [&'static str] = &["profile", "algorithm", "p95_ms", "p999_ms", "runs"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.profile.to_owned(),
            self.algorithm.to_owned(),
            optional(self.p95_ms, 2),
            optional(self.p999_ms, 2),
            self.runs.to_string(),
        ]
    }
}

/// How well one algorithm holds two games together.
#[derive(Serialize)]
pub struct PacingRow {
    profile: &'static str,
    algorithm: &'static str,
    p95_ms: Option<f64>,
    p999_ms: Option<f64>,
    skips: f64,
    max_speed_change_pct: Option<f64>,
    runs: u64,
}

impl Row for PacingRow {
    const COLUMNS: &'static [&'static str] =
        &["profile", "algorithm", "p95_ms", "p999_ms", "skips", "max_speed_change_pct", "runs"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.profile.to_owned(),
            self.algorithm.to_owned(),
            optional(self.p95_ms, 2),
            optional(self.p999_ms, 2),
            format!("{:.2}", self.skips),
            optional(self.max_speed_change_pct, 3),
            self.runs.to_string(),
        ]
    }
}

/// Measures how far each algorithm is wrong about the other player's clock.
///
/// # Errors
/// If the table cannot be written.
pub fn clock(quick: bool, json: bool, runs: Option<u64>) -> Result<()> {
    let runs = runs.unwrap_or(if quick { 40 } else { 200 });
    let mut progress = Progress::new(Conditions::CLOCK_PROFILES.len() as u32);
    let mut rows = Vec::new();
    for (profile, conditions) in Conditions::CLOCK_PROFILES {
        progress.begin(profile);
        let mut errors: Vec<Vec<f64>> = Vec::new();
        for seed in 0..runs {
            let of_run = clock_errors(&conditions, seed);
            errors.resize_with(of_run.len(), Vec::new);
            errors.iter_mut().zip(of_run).for_each(|(all, one)| all.extend(one));
        }
        rows.extend(CLOCKS.iter().zip(errors).map(|(algorithm, mut errors)| ClockRow {
            profile,
            algorithm,
            p95_ms: percentile(&mut errors, 95.0).map(rounded),
            p999_ms: percentile(&mut errors, 99.9).map(rounded),
            runs,
        }));
    }
    progress.clear();
    report::print("clock", &rows, json)
}

const CLOCKS: [&str; 6] = ["netplay", "last_ping", "ema", "ntp8", "slippi", "ggpo"];

/// The errors of all algorithms in one run of a minute, in milliseconds.
fn clock_errors(conditions: &Conditions, seed: u64) -> Vec<Vec<f64>> {
    let mut sim = Sim::new(conditions, PPM, seed);
    let mut algorithms: Vec<Box<dyn Estimator>> = vec![
        Box::new(Netplay::default()),
        Box::new(LastPing::default()),
        Box::new(Ema::default()),
        Box::new(Ntp8::default()),
        Box::new(Slippi::default()),
        Box::new(Ggpo::default()),
    ];
    let mut errors = vec![Vec::new(); algorithms.len()];
    let mut until = Now::ZERO;
    while until < Now::from_millis(60_000) {
        until = until + Duration::from_millis(100);
        while let Some(happened) = sim.next(until) {
            match happened {
                Happened::Packet(0, sample) => {
                    algorithms.iter_mut().for_each(|algorithm| algorithm.take(&sample));
                }
                Happened::Packet(..) => {}
                Happened::Frame(player) => sim.send(player),
            }
        }
        if until < Now::ZERO + CLOCK_FROM {
            continue;
        }
        let (ours, theirs) = (sim.local(0), sim.local(1));
        for (errors, algorithm) in errors.iter_mut().zip(&algorithms) {
            if let Some(offset) = algorithm.offset(ours) {
                errors.push((offset - (theirs - ours)).abs() / 1e3);
            }
        }
    }
    errors
}

/// Ours, behind the resolution of the wire.
#[derive(Default)]
struct Netplay {
    filter: OffsetFilter,
    /// The whole turns of the wire's 24 bits that the filter cannot know.
    turns: f64,
}

impl Estimator for Netplay {
    fn take(&mut self, sample: &Sample) {
        let now = |us: f64| Now::from_micros(us as u64);
        let units = |us: f64| (us / TIME_UNIT_US as f64).floor() * TIME_UNIT_US as f64;
        let echo = sample.echo.map(|(departed, arrived)| {
            let hold = units(sample.their_departure - arrived);
            (now(departed), Duration::from_micros(hold as u64))
        });
        let (arrived, departure) =
            (now(sample.our_arrival), Departure::at(now(sample.their_departure)));
        self.filter.take(&netplay_tick::Exchange { arrived, departure, echo });
        let counted = self.filter.peer_time(arrived, departure) as f64;
        self.turns = units(sample.their_departure) - counted;
    }

    fn offset(&self, now: f64) -> Option<f64> {
        let estimate = self.filter.estimate(Now::from_micros(now as u64))?;
        Some(estimate.offset_us + self.turns)
    }
}

/// Measures how well each algorithm holds two games together.
///
/// # Errors
/// If the table cannot be written.
pub fn pacing(quick: bool, json: bool, runs: Option<u64>) -> Result<()> {
    let runs = runs.unwrap_or(if quick { 20 } else { 200 });
    let mut progress = Progress::new(Conditions::CLOCK_PROFILES.len() as u32);
    let mut rows = Vec::new();
    for (profile, conditions) in Conditions::CLOCK_PROFILES {
        progress.begin(profile);
        for algorithm in CLOCKS {
            let (mut apart, mut changes, mut skips) = (Vec::new(), Vec::new(), 0);
            for seed in 0..runs {
                let run = pace(&conditions, algorithm, seed);
                apart.extend(run.apart_ms);
                changes.push(run.max_change * 100.0);
                skips += run.skips;
            }
            rows.push(PacingRow {
                profile,
                algorithm,
                p95_ms: percentile(&mut apart, 95.0).map(rounded),
                p999_ms: percentile(&mut apart, 99.9).map(rounded),
                skips: f64::from(skips) / runs as f64,
                max_speed_change_pct: percentile(&mut changes, 100.0),
                runs,
            });
        }
    }
    progress.clear();
    report::print("pacing", &rows, json)
}

/// What a run of two minutes gave after its first five seconds.
struct Paced {
    apart_ms: Vec<f64>,
    /// Frames left out or repeated, both players together.
    skips: u32,
    /// The largest change of speed between two frames' ends, in parts of one.
    max_change: f64,
}

fn controller(algorithm: &str) -> Option<Box<dyn Controller>> {
    Some(match algorithm {
        "last_ping" => Box::new(Slew::new(LastPing::default())),
        "ema" => Box::new(Slew::new(Ema::default())),
        "ntp8" => Box::new(Slew::new(Ntp8::default())),
        "slippi" => Box::new(SlippiPacing::default()),
        "ggpo" => Box::new(GgpoPacing::default()),
        _ => return None,
    })
}

fn pace(conditions: &Conditions, algorithm: &str, seed: u64) -> Paced {
    let mut sim = Sim::new(conditions, PPM, seed);
    sim.players[0].position = APART_US;
    let mut controllers = [controller(algorithm), controller(algorithm)];
    let mut ours = Ours::default();
    // Each player's position at its last frame, and what it had to be there.
    let (mut frames, mut lasts, mut speeds) = ([0_u32; 2], [None; 2], [1.0; 2]);
    let mut paced = Paced { apart_ms: Vec::new(), skips: 0, max_change: 0.0 };
    let (from, end) = (Now::ZERO + PACING_FROM, Now::from_millis(120_000));
    let mut until = Now::ZERO;
    while until < end {
        until = until + Duration::from_millis(20);
        while let Some(happened) = sim.next(until) {
            let player = match happened {
                Happened::Packet(player, sample) => {
                    if let Some(controller) = &mut controllers[player] {
                        controller.take(&sample);
                    }
                    continue;
                }
                Happened::Frame(player) => player,
            };
            let now = sim.local(player);
            let passed = now - lasts[player].unwrap_or(now);
            let step = match &mut controllers[player] {
                Some(controller) => {
                    let position = sim.players[player].position;
                    controller.frame(now, passed, frames[player], position)
                }
                None => ours.frame(&mut sim, player, passed),
            };
            sim.players[player].position += step.advance;
            sim.players[player].advantage =
                controllers[player].as_ref().map_or(0.0, |controller| controller.advantage());
            sim.send(player);
            if passed > 0.0 && step.skips == 0 {
                speeds[player] = step.advance / passed;
                if sim.now >= from {
                    paced.max_change = paced.max_change.max((speeds[player] - 1.0).abs());
                }
            }
            if sim.now >= from {
                paced.skips += step.skips;
            }
            frames[player] += 1;
            lasts[player] = Some(now);
        }
        if until >= from {
            // Between frames a game goes on at its speed.
            let at = |player: usize| {
                let since = lasts[player].map_or(0.0, |last| sim.local(player) - last);
                sim.players[player].position + since * speeds[player]
            };
            paced.apart_ms.push((at(0) - at(1)).abs() / 1e3);
        }
    }
    paced
}

/// Ours: both games follow the mesh clock from where they are when there is one, by up to 5 % in the
/// first five seconds.
#[derive(Default)]
struct Ours {
    /// What the mesh clock showed when the first game began, in microseconds.
    start: Option<f64>,
    pacers: [Option<Pacer>; 2],
}

impl Ours {
    fn frame(&mut self, sim: &mut Sim, player: usize, passed: f64) -> Step {
        let local = Now::from_micros(sim.local(player) as u64);
        let playing = sim.now >= Now::ZERO + PACING_FROM;
        let Player { mesh, position, .. } = &mut sim.players[player];
        mesh.set_playing(playing);
        let Some(target) = mesh.show(local) else {
            return Step { advance: passed, skips: 0 };
        };
        let start = *self.start.get_or_insert(target.as_micros() as f64 - *position);
        let here = MeshTime::from_micros((start + *position) as i64);
        let pacer = self.pacers[player]
            .get_or_insert_with(|| Pacer::starting_at(PacingProfile::CASUAL, local, here));
        if playing {
            pacer.set_profile(PacingProfile::DEFAULT);
        }
        let step = pacer.advance(local, target, mesh.rate());
        let advance = step.position.as_micros() as f64 - start - *position;
        Step { advance, skips: u32::from(step.skipped.is_some()) }
    }
}
