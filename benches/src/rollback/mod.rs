//! `inputs` and `ledger`: what a rollback session sends, and how it fares on bad paths.

mod ggrs;
mod links;
mod netplay;

use std::time::Duration;

use netplay_simnet::Conditions;
use serde::Serialize;

use crate::Result;
use crate::report::{self, Progress, Row};
use crate::stats::rounded;
use netplay::Outcome;

/// What is played.
#[derive(Clone, Debug)]
pub struct Match {
    pub players: usize,
    /// Bytes of an input.
    pub input_len: usize,
    pub keys: Keys,
}

/// What the players do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Another input every ten ticks.
    Active,
    /// Nothing.
    Idle,
    /// Another input every tick, as in fortress's sweep.
    EveryTick,
}

impl Match {
    /// What a player does at a tick.
    fn input(&self, tick: u32, player: usize) -> Vec<u8> {
        let word = match self.keys {
            Keys::Idle => 0,
            // Differently for each player, and not at the same tick.
            Keys::Active => (tick + player as u32 * 3) / 10 * 37 + player as u32,
            Keys::EveryTick => tick.wrapping_mul(31).wrapping_add(player as u32 * 7 + 1),
        };
        let mut bytes = word.to_le_bytes().to_vec();
        bytes.resize(self.input_len, 0);
        bytes
    }
}

/// What one stack sends.
#[derive(Serialize)]
pub struct InputsRow {
    stack: &'static str,
    players: usize,
    one_way_ms: u32,
    input: &'static str,
    packets_per_s: f64,
    bytes_per_s: f64,
    x_ggrs: f64,
}

impl Row for InputsRow {
    const COLUMNS: &'static [&'static str] =
        &["stack", "players", "one_way_ms", "input", "packets_per_s", "bytes_per_s", "x_ggrs"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stack.to_owned(),
            self.players.to_string(),
            self.one_way_ms.to_string(),
            self.input.to_owned(),
            format!("{:.1}", self.packets_per_s),
            format!("{:.0}", self.bytes_per_s),
            format!("{:.2}", self.x_ggrs),
        ]
    }
}

/// Measures what sessions send for a one-byte input.
///
/// # Errors
/// If a match does not begin, or the table cannot be written.
pub fn inputs(quick: bool, json: bool, seconds: Option<u64>) -> Result<()> {
    let seconds = seconds.unwrap_or(if quick { 10 } else { 60 });
    let mut matches = Vec::new();
    for players in [2, 4] {
        for one_way_ms in [0, 25, 50, 100] {
            for keys in [Keys::Active, Keys::Idle] {
                let delay = Duration::from_millis(one_way_ms);
                let game = Match { players, input_len: 1, keys };
                matches.push((game, Conditions::perfect().with_delay(delay)));
            }
        }
    }
    let mut progress = Progress::new(matches.len() as u32 + 1);
    progress.begin("ggrs, in real time");
    let theirs = ggrs::play(&matches, seconds)?;
    let mut rows = Vec::new();
    for ((game, conditions), theirs) in matches.iter().zip(theirs) {
        progress.begin("netplay");
        let ours = netplay::play(game, conditions, seconds, 1)?.sent;
        let directions = (game.players * (game.players - 1)) as f64 * seconds as f64;
        let x_ggrs = ours.bytes as f64 / theirs.bytes as f64;
        for (stack, sent, x_ggrs) in [("netplay", ours, x_ggrs), ("ggrs", theirs, 1.0)] {
            rows.push(InputsRow {
                stack,
                players: game.players,
                one_way_ms: conditions.delay.as_millis() as u32,
                input: if game.keys == Keys::Idle { "idle" } else { "active" },
                packets_per_s: rounded(sent.datagrams as f64 / directions),
                bytes_per_s: rounded(sent.bytes as f64 / directions),
                x_ggrs: rounded(x_ggrs),
            });
        }
    }
    progress.clear();
    report::print("inputs", &rows, json)
}

/// How a session fares on one path.
#[derive(Serialize)]
pub struct LedgerRow {
    stack: &'static str,
    players: usize,
    path: &'static str,
    loss_pct: f64,
    rtt_ms: u32,
    jitter_ms: u32,
    rollbacks_per_100: f64,
    p99_depth: u32,
    kib_per_s: f64,
    lag_mean: f64,
    lag_max: u32,
    stalls_per_min: f64,
}

impl Row for LedgerRow {
    const COLUMNS: &'static [&'static str] = &[
        "stack",
        "players",
        "path",
        "loss_pct",
        "rtt_ms",
        "jitter_ms",
        "rollbacks_per_100",
        "p99_depth",
        "kib_per_s",
        "lag_mean",
        "lag_max",
        "stalls_per_min",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stack.to_owned(),
            self.players.to_string(),
            self.path.to_owned(),
            self.loss_pct.to_string(),
            self.rtt_ms.to_string(),
            self.jitter_ms.to_string(),
            format!("{:.1}", self.rollbacks_per_100),
            self.p99_depth.to_string(),
            format!("{:.2}", self.kib_per_s),
            format!("{:.2}", self.lag_mean),
            self.lag_max.to_string(),
            format!("{:.1}", self.stalls_per_min),
        ]
    }
}

/// Players, path, loss in per cent, round trip and jitter in ms; then what fortress-rollback 0.12
/// publishes for it (docs/tuning.md): rollbacks per 100 frames, 99th percentile of their depth, KiB/s
/// of each player, mean and largest confirmation lag, stalls per minute.
type Published = (usize, &'static str, f64, u32, u32, (f64, u32, f64, f64, u32, f64));

const FORTRESS: [Published; 6] = [
    (2, "lan", 0.0, 10, 0, (0.10, 1, 4.73, 1.0, 2, 0.0)),
    (2, "wifi", 1.0, 50, 20, (66.65, 4, 5.24, 2.62, 8, 0.0)),
    (2, "mobile", 5.0, 100, 20, (71.06, 7, 5.86, 4.33, 8, 15.0)),
    (4, "wifi", 1.0, 50, 20, (97.23, 4, 17.78, 6.12, 8, 69.38)),
    (4, "severe", 15.0, 200, 20, (119.51, 6, 6.95, 6.69, 8, 2064.38)),
    (16, "regional", 1.0, 100, 20, (144.91, 4, 117.09, 7.39, 8, 1218.42)),
];

/// Plays the rows of fortress-rollback's published table.
///
/// # Errors
/// If a match does not begin, or the table cannot be written.
pub fn ledger(quick: bool, json: bool, seconds: Option<u64>) -> Result<()> {
    let seconds = seconds.unwrap_or(if quick { 20 } else { 120 });
    let mut progress = Progress::new(FORTRESS.len() as u32);
    let mut rows = Vec::new();
    for (players, path, loss_pct, rtt_ms, jitter_ms, published) in FORTRESS {
        progress.begin(path);
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let mut conditions = Conditions::perfect().with_delay(ms(rtt_ms) / 2);
        if jitter_ms > 0 {
            conditions = conditions.with_jitter(ms(jitter_ms));
        }
        if loss_pct > 0.0 {
            conditions = conditions.with_loss(loss_pct / 100.0);
        }
        let game = Match { players, input_len: 4, keys: Keys::EveryTick };
        let outcome = netplay::play(&game, &conditions, seconds, 1)?;
        let row = |stack, figures: (f64, u32, f64, f64, u32, f64)| {
            let (rollbacks_per_100, p99_depth, kib_per_s, lag_mean, lag_max, stalls_per_min) =
                figures;
            LedgerRow {
                stack,
                players,
                path,
                loss_pct,
                rtt_ms,
                jitter_ms,
                rollbacks_per_100,
                p99_depth,
                kib_per_s,
                lag_mean,
                lag_max,
                stalls_per_min,
            }
        };
        rows.push(row("netplay", figures(outcome, players)));
        rows.push(row("fortress", published));
    }
    progress.clear();
    report::print("ledger", &rows, json)
}

fn figures(mut outcome: Outcome, players: usize) -> (f64, u32, f64, f64, u32, f64) {
    outcome.depths.sort_unstable();
    let p99 = (outcome.depths.len() * 99).div_ceil(100).saturating_sub(1);
    let depth = outcome.depths.get(p99).copied().unwrap_or(0);
    let ticks = outcome.lags.len().max(1) as f64;
    let lag: f64 = outcome.lags.iter().map(|lag| f64::from(*lag)).sum::<f64>() / ticks;
    let per_player = players as f64 * outcome.seconds;
    (
        rounded(100.0 * outcome.rollbacks as f64 / outcome.advanced.max(1) as f64),
        depth,
        rounded(outcome.sent.bytes as f64 / 1024.0 / per_player),
        rounded(lag),
        outcome.lags.iter().copied().max().unwrap_or(0),
        rounded(outcome.stalled as f64 / per_player * 60.0),
    )
}
