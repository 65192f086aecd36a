//! `netplay-bench lobby`: the servers side by side.

use std::time::{Duration, Instant};

use crate::report::{self, Row, count, name, number, progress};
use crate::serve::Limits;
use crate::stats::median;
use crate::team::{Processors, Team};
use crate::worker::{Command, Reply};
use crate::{Kind, Options, Result, half};

/// Matchbox's server gets no more: each that enters costs it as much as there are.
const MATCHBOX_MAX: usize = 2000;

/// Clients that send signals at most, two a pair, and signals under way in each pair.
const TALKING: usize = 1000;
const WINDOW: usize = 8;

/// Cycles of joins at once.
pub(crate) const JOINS_AT_ONCE: usize = 64;

/// Lobbies among which is searched at most, and searches in a second.
const LOBBIES: usize = 10_000;
const SEARCHES_PER_SECOND: f64 = 50.0;

/// How long clients may take to come back.
const BACK: Duration = Duration::from_secs(60);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) rounds: u32,
    /// Of each part.
    pub(crate) time: Duration,
    /// Between the last connection and the reading of memory: a round of keep-alives of each.
    settle: Duration,
}

impl Plan {
    pub(crate) fn new(options: &Options) -> Self {
        let (connections, rounds, secs, settle) =
            if options.quick { (1000, 2, 2.0, 1.0) } else { (19_500, 3, 5.0, 7.0) };
        Self {
            connections: options.connections.unwrap_or(connections) as usize,
            rounds: options.rounds.unwrap_or(rounds),
            time: Duration::from_secs_f64(secs),
            settle: Duration::from_secs_f64(settle),
        }
    }

    fn connections(&self, kind: Kind) -> usize {
        match kind {
            Kind::Matchbox => self.connections.min(MATCHBOX_MAX),
            _ => self.connections,
        }
    }

    /// How many send signals: an even number.
    pub(crate) fn talking(&self, kind: Kind) -> usize {
        self.connections(kind).min(TALKING) / 2 * 2
    }

    fn lobbies(&self) -> usize {
        LOBBIES.min(self.connections * 2 / 3)
    }

    pub(crate) fn ms(&self) -> u64 {
        self.time.as_millis() as u64
    }
}

/// What a round of one server gave.
#[derive(Default)]
struct Round {
    kib: f64,
    anonymous_kib: f64,
    connects_per_s: f64,
    connect_p99_ms: Option<f64>,
    joins_per_s: f64,
    join_p99_ms: Option<f64>,
    /// For each second that the server worked.
    joins_per_cpu_s: f64,
    signals_per_cpu_s: f64,
    signals_per_s: f64,
    half: Steady,
    half_rate: Steady,
    server_busy_pct: f64,
    worker_busy_pct: f64,
    search_p99_ms: Option<f64>,
    back_s: Option<f64>,
    refused: u64,
    lost: u64,
    missing: u64,
}

/// Signals at a steady rate.
#[derive(Default)]
struct Steady {
    per_second: Option<f64>,
    p99_ms: Option<f64>,
    second_p99_ms: Option<f64>,
    late_p99_ms: Option<f64>,
    /// How much of its processor the server used.
    busy_pct: Option<f64>,
}

impl Round {
    /// Adds what went wrong, and says it.
    fn troubles(&mut self, what: &str, reply: &Reply) {
        self.refused += reply.refused;
        self.lost += reply.lost;
        self.missing += reply.missing;
        if let Some(why) = &reply.last_failure {
            let Reply { refused, lost, missing, .. } = reply;
            eprintln!("  {what}: {refused} refused, {lost} lost, {missing} missing; last: {why}");
        }
    }
}

/// Measures the servers in turn, and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (plan, began, on) = (Plan::new(options), Instant::now(), Processors::choose());
    let kinds: Vec<Kind> = match options.server.as_slice() {
        [] => Kind::ALL.to_vec(),
        some => some.to_vec(),
    };
    let mut rounds: Vec<(Kind, Vec<Round>)> =
        kinds.iter().map(|kind| (*kind, Vec::new())).collect();
    let mut failed = 0;
    for number in 1..=plan.rounds {
        for (kind, rounds) in &mut rounds {
            progress(began, &format!("{kind}, round {number} of {}", plan.rounds));
            match round(*kind, &plan, on, began) {
                Ok(round) => rounds.push(round),
                Err(error) => {
                    failed += 1;
                    progress(began, &format!("error: {kind}, round {number}: {error}"));
                }
            }
        }
    }
    eprintln!(
        "netplay's limits of signals, messages and bytes are raised: see the README of netplay_load"
    );
    let tables = tables(&rounds, &plan);
    report::print("lobby", &tables, options.json)?;
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} rounds failed").into()),
    }
}

fn round(kind: Kind, plan: &Plan, on: Processors, began: Instant) -> Result<Round> {
    let say = |text: String| progress(began, &format!("  {text}"));
    let connections = plan.connections(kind);
    let mut round = Round::default();
    let mut team = Team::start(kind, on, Limits::Raised)?;
    let before = team.usage();
    let opened = team.open(connections)?;
    round.connects_per_s = opened.count as f64 / opened.secs;
    round.connect_p99_ms = opened.latency.percentile_ms(99.0);
    round.troubles("open", &opened);
    std::thread::sleep(plan.settle);
    let after = team.usage();
    let each = |before: f64, after: f64| (after - before) / connections as f64;
    round.kib = each(before.rss_kib, after.rss_kib);
    round.anonymous_kib = each(before.anonymous_kib, after.anonymous_kib);
    let (rate, kib) = (round.connects_per_s, round.kib);
    say(format!("{connections} connections at {rate:.0}/s, {kib:.2} KiB each"));

    let command = Command::Joins { at_once: JOINS_AT_ONCE, cycles: u64::MAX, ms: plan.ms() };
    let joins = team.ask(&command, plan.time)?;
    round.joins_per_cpu_s = joins.reply.all as f64 / joins.server_cpu_s;
    let joins = joins.reply;
    round.joins_per_s = joins.count as f64 / joins.secs.max(f64::MIN_POSITIVE);
    round.join_p99_ms = joins.latency.percentile_ms(99.0);
    round.troubles("joins", &joins);
    say(format!("{:.0} joins/s; held up for {:.1} s", round.joins_per_s, joins.held_up_secs));

    signals(&mut team, kind, plan, &mut round)?;
    let (rate, half) = (round.signals_per_s, &round.half);
    let at_half = half.per_second.zip(half.p99_ms);
    let at_half = at_half.map(|(rate, p99)| format!("; half busy by {rate:.0}/s, p99 {p99:.2} ms"));
    say(format!("{rate:.0} signals/s{}", at_half.unwrap_or_default()));

    if kind == Kind::Netplay {
        finding(&mut team, plan, &mut round)?;
        let (search, back) = (round.search_p99_ms, round.back_s);
        say(format!("search p99 {search:.2?} ms; back after {back:.2?} s"));
    }
    Ok(round)
}

/// Signals as fast as they come back, at half load, and at half of the first rate.
fn signals(team: &mut Team, kind: Kind, plan: &Plan, round: &mut Round) -> Result<()> {
    let (clients, ms) = (plan.talking(kind), plan.ms());
    team.ask(&Command::Pair { clients }, Duration::ZERO)?;
    let full = team.ask(&Command::Signals { clients, window: WINDOW, ms }, plan.time)?;
    round.signals_per_s = full.reply.count as f64 / full.reply.secs;
    round.signals_per_cpu_s = full.reply.all as f64 / full.server_cpu_s;
    round.server_busy_pct = full.server_busy_pct;
    round.worker_busy_pct = full.worker_busy_pct;
    round.troubles("signals", &full.reply);
    if round.signals_per_s < 1.0 {
        return Err("no signals arrived".into());
    }
    if let Some(per_second) = half::find(team, clients)? {
        round.half = steady(team, clients, per_second, plan, round)?;
    }
    round.half_rate = steady(team, clients, round.signals_per_s / 2.0, plan, round)?;
    team.ask(&Command::Part { clients }, Duration::ZERO)?;
    Ok(())
}

fn steady(
    team: &mut Team,
    clients: usize,
    per_second: f64,
    plan: &Plan,
    round: &mut Round,
) -> Result<Steady> {
    let answer = team.ask(&Command::Paced { clients, per_second, ms: plan.ms() }, plan.time)?;
    round.troubles("steady signals", &answer.reply);
    Ok(Steady {
        per_second: Some(per_second),
        p99_ms: answer.reply.latency.percentile_ms(99.0),
        second_p99_ms: answer.reply.second_p99_ms,
        late_p99_ms: answer.reply.late.percentile_ms(99.0),
        busy_pct: Some(answer.server_busy_pct),
    })
}

/// Searches, and a restart with all those lobbies.
fn finding(team: &mut Team, plan: &Plan, round: &mut Round) -> Result<()> {
    let (lobbies, all) = (plan.lobbies(), plan.connections);
    team.ask(&Command::Lobbies { from: 0, to: lobbies }, Duration::ZERO)?;
    let (from, to, per_second) = (lobbies, all, SEARCHES_PER_SECOND);
    let command = Command::Searches { from, to, per_second, ms: plan.ms() };
    let searches = team.ask(&command, plan.time)?.reply;
    round.search_p99_ms = searches.latency.percentile_ms(99.0);
    round.troubles("search", &searches);
    let (took, back) = team.restart(BACK)?;
    round.back_s = Some(took.as_secs_f64());
    // Each connection was lost once, as it was to be; these are more.
    round.troubles("restart", &Reply { lost: 0, ..back });
    Ok(())
}

fn tables(rounds: &[(Kind, Vec<Round>)], plan: &Plan) -> Vec<(&'static str, Vec<Row>)> {
    let bare = rounds.iter().find(|(kind, _)| *kind == Kind::BareRelay);
    let bare = bare.map(|(_, rounds)| rounds.as_slice()).unwrap_or_default();
    let some = || rounds.iter().filter(|(_, rounds)| !rounds.is_empty());
    let rows = some().map(|(kind, rounds)| {
        let of = |value: fn(&Round) -> f64| number(median(rounds.iter().map(value)));
        let ratio = |of: fn(&Round) -> f64| {
            number(median(rounds.iter().zip(bare).map(|(round, bare)| of(round) / of(bare))))
        };
        vec![
            ("server", name(kind)),
            ("connections", count(plan.connections(*kind))),
            ("kib_per_connection", of(|round| round.kib)),
            ("joins_per_s", of(|round| round.joins_per_s)),
            ("signals_per_s", of(|round| round.signals_per_s)),
            ("outstanding", count(plan.talking(*kind) / 2 * WINDOW)),
            ("p99_ms", number(median(rounds.iter().filter_map(|round| round.half.p99_ms)))),
            ("x_bare_relay", ratio(|round| round.signals_per_s)),
            ("x_bare_relay_cpu", ratio(|round| round.signals_per_cpu_s)),
        ]
    });
    let more = some().map(|(kind, rounds)| {
        let of = |value: fn(&Round) -> f64| number(median(rounds.iter().map(value)));
        let maybe =
            |value: fn(&Round) -> Option<f64>| number(median(rounds.iter().filter_map(value)));
        let all = |value: fn(&Round) -> u64| count(rounds.iter().map(value).sum::<u64>());
        let lobbies = if *kind == Kind::Netplay { plan.lobbies() } else { 0 };
        vec![
            ("server", name(kind)),
            ("connects_per_s", of(|round| round.connects_per_s)),
            ("connect_p99_ms", maybe(|round| round.connect_p99_ms)),
            ("anonymous_kib", of(|round| round.anonymous_kib)),
            ("joins_at_once", count(JOINS_AT_ONCE)),
            ("join_p99_ms", maybe(|round| round.join_p99_ms)),
            ("joins_per_cpu_s", of(|round| round.joins_per_cpu_s)),
            ("signals_per_cpu_s", of(|round| round.signals_per_cpu_s)),
            ("half_per_s", maybe(|round| round.half.per_second)),
            ("half_busy_pct", maybe(|round| round.half.busy_pct)),
            ("second_p99_ms", maybe(|round| round.half.second_p99_ms)),
            ("late_p99_ms", maybe(|round| round.half.late_p99_ms)),
            ("half_rate_p99_ms", maybe(|round| round.half_rate.p99_ms)),
            ("half_rate_busy_pct", maybe(|round| round.half_rate.busy_pct)),
            ("server_busy_pct", of(|round| round.server_busy_pct)),
            ("worker_busy_pct", of(|round| round.worker_busy_pct)),
            ("lobbies", count(lobbies)),
            ("search_p99_ms", maybe(|round| round.search_p99_ms)),
            ("back_s", maybe(|round| round.back_s)),
            ("refused", all(|round| round.refused)),
            ("lost", all(|round| round.lost)),
            ("missing", all(|round| round.missing)),
        ]
    });
    vec![("rows", rows.collect()), ("more", more.collect())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_explained_and_a_signal_has_the_size_that_is_told() {
        let plan = Plan {
            connections: 50,
            rounds: 1,
            time: Duration::from_secs(1),
            settle: Duration::ZERO,
        };
        let rounds = [(Kind::Netplay, vec![Round::default()])];
        for (_, rows) in tables(&rounds, &plan) {
            for (column, _) in &rows[0] {
                let explained = crate::HELP.lines().any(|line| {
                    let before = line.trim_start().split("  ").next().unwrap_or_default();
                    line.starts_with("  ") && before.split(", ").any(|name| name == *column)
                });
                assert!(explained, "{column} is not in the help");
            }
        }
        use crate::worker::SIGNAL_BYTES;
        assert!(crate::HELP.contains(&format!("signals of {SIGNAL_BYTES} bytes")));
    }
}
