//! The coordinator: which jobs, in which order, how long, and what becomes of their results.

use std::time::{Duration, Instant};

use crate::Result;
use crate::link::{Process, Role};
use crate::pinger::{CONNECT_LIMIT, Connect, FAILURES_IN_A_ROW, Job, Latency, Report};
use crate::report::{self, ConnectRow, LatencyRow, Progress};
use crate::stacks::StackId;
use crate::stats::{median, rounded};

/// `--quick` promises 120 s; the rest is for ending.
const QUICK_BUDGET: Duration = Duration::from_secs(110);
/// The longest that one repeat's round trips may take.
const LOOP_LIMIT: Duration = Duration::from_secs(60);
/// The same with `--quick`: three repeats of five stacks, each with half of it as warm-up, stay in the budget.
const QUICK_LOOP_LIMIT: Duration = Duration::from_secs(4);
/// Starting processes and ending them, in a job.
const OVERHEAD_LIMIT: Duration = Duration::from_secs(10);

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bench {
    /// Round-trip time.
    Latency,
    /// Time to connect, and memory.
    Connect,
}

/// One call of the program.
pub struct Plan {
    /// What is measured.
    pub bench: Bench,
    /// Whether the whole call must end within 120 s.
    pub quick: bool,
    /// Whether to print a line of JSON.
    pub json: bool,
    /// How often every stack is measured.
    pub repeats: u32,
    /// Round trips or connections per repeat.
    pub rounds: u32,
}

impl Plan {
    fn job(&self) -> Job {
        let rounds = self.rounds;
        match self.bench {
            Bench::Latency => Job::Latency { rounds, limit: self.loop_limit() },
            Bench::Connect => Job::Connect { rounds },
        }
    }

    fn loop_limit(&self) -> Duration {
        if self.quick { QUICK_LOOP_LIMIT } else { LOOP_LIMIT }
    }

    /// A job that takes longer hangs.
    fn job_limit(&self) -> Duration {
        let measuring = match self.bench {
            Bench::Latency => CONNECT_LIMIT + self.loop_limit() * 3 / 2,
            Bench::Connect => CONNECT_LIMIT * (self.rounds + 1),
        };
        OVERHEAD_LIMIT + measuring
    }
}

/// What one stack gave in all repeats.
struct Results {
    stack: StackId,
    reports: Vec<Report>,
    /// Repeats in a row, up to the latest, that gave nothing.
    failed_in_a_row: u32,
}

/// Measures round-trip times and prints them.
///
/// # Errors
///
/// If any repeat of any stack failed; the table has the others.
pub fn latency(plan: &Plan) -> Result<()> {
    let (results, outcome) = measure(plan);
    let mut rows: Vec<LatencyRow> = results
        .iter()
        .filter_map(|results| {
            let repeats: Vec<&Latency> = results.reports.iter().filter_map(as_latency).collect();
            Some(LatencyRow {
                stack: results.stack.to_string(),
                p50_us: rounded(median(repeats.iter().map(|r| r.p50_us))?),
                p99_us: rounded(median(repeats.iter().map(|r| r.p99_us))?),
                samples: repeats.iter().map(|r| r.samples).sum(),
                repeats: repeats.len(),
                lost: repeats.iter().map(|r| r.lost).sum(),
                x_raw: None,
            })
        })
        .collect();
    let raw = StackId::RawUdp.to_string();
    if let Some(raw_us) = rows.iter().find(|row| row.stack == raw).map(|row| row.p50_us) {
        for row in &mut rows {
            row.x_raw = Some(rounded(row.p50_us / raw_us));
        }
    }
    report::print("latency", &rows, plan.json)?;
    outcome
}

/// Measures connect times and memory, and prints them.
///
/// # Errors
///
/// If any repeat of any stack failed, or any connection; the table has the others.
pub fn connect(plan: &Plan) -> Result<()> {
    let (results, outcome) = measure(plan);
    let mut rows: Vec<ConnectRow> = results
        .iter()
        .filter_map(|results| {
            let repeats: Vec<&Connect> = results.reports.iter().filter_map(as_connect).collect();
            let of = |value: fn(&Connect) -> Option<f64>| {
                median(repeats.iter().filter_map(|repeat| value(repeat))).map(rounded)
            };
            (!repeats.is_empty()).then(|| ConnectRow {
                stack: results.stack.to_string(),
                p50_ms: of(|r| r.p50_ms),
                p90_ms: of(|r| r.p90_ms),
                kib_per_peer: of(|r| r.kib_per_peer),
                connects: repeats.iter().map(|r| r.connects).sum(),
                failed: repeats.iter().map(|r| r.failed).sum(),
                repeats: repeats.len(),
                x_matchbox: None,
            })
        })
        .collect();
    let matchbox = StackId::Matchbox.to_string();
    if let Some(matchbox_ms) =
        rows.iter().find(|row| row.stack == matchbox).and_then(|row| row.p50_ms)
    {
        for row in &mut rows {
            // A thousandth is what a small ratio differs in.
            row.x_matchbox = row.p50_ms.map(|ms| (ms / matchbox_ms * 1e3).round() / 1e3);
        }
    }
    report::print("connect", &rows, plan.json)?;
    outcome
}

fn as_latency(report: &Report) -> Option<&Latency> {
    match report {
        Report::Latency(latency) => Some(latency),
        _ => None,
    }
}

fn as_connect(report: &Report) -> Option<&Connect> {
    match report {
        Report::Connect(connect) => Some(connect),
        _ => None,
    }
}

/// Runs all jobs, the stacks taking turns within each repeat. The second value is an error if
/// something failed.
fn measure(plan: &Plan) -> (Vec<Results>, Result<()>) {
    let started = Instant::now();
    let mut all: Vec<Results> = StackId::ALL
        .iter()
        .filter(|stack| stack.stack().measures(plan.bench))
        .map(|stack| Results { stack: *stack, reports: Vec::new(), failed_in_a_row: 0 })
        .collect();
    let mut progress = Progress::new(plan.repeats * all.len() as u32);
    let mut failures = 0;
    for repeat in 1..=plan.repeats {
        for results in &mut all {
            let stack = results.stack;
            progress.begin(&format!("{stack}, repeat {repeat} of {}", plan.repeats));
            if results.failed_in_a_row == FAILURES_IN_A_ROW {
                continue;
            }
            let limit = if plan.quick {
                plan.job_limit().min(QUICK_BUDGET.saturating_sub(started.elapsed()))
            } else {
                plan.job_limit()
            };
            let report = run_job(stack, plan.job(), limit);
            results.failed_in_a_row += 1;
            match report.unwrap_or_else(|error| Report::Failed(error.to_string())) {
                Report::Failed(error) => {
                    failures += 1;
                    progress.say(&format!("error: {stack}, repeat {repeat}: {error}"));
                }
                report => {
                    if let Some(failure) = failed_connection(&report) {
                        failures += 1;
                        progress.say(&format!("error: {stack}, repeat {repeat}: {failure}"));
                    }
                    results.failed_in_a_row = 0;
                    results.reports.push(report);
                }
            }
        }
    }
    progress.clear();
    let outcome = match failures {
        0 => Ok(()),
        n => Err(format!("{n} jobs failed at least in part").into()),
    };
    (all, outcome)
}

fn failed_connection(report: &Report) -> Option<&str> {
    as_connect(report)?.last_failure.as_deref()
}

/// Runs one job in a process of its own.
fn run_job(stack: StackId, job: Job, limit: Duration) -> Result<Report> {
    if limit.is_zero() {
        return Err("not started, because the time for --quick is over".into());
    }
    let lobby = stack.stack().lobby()?;
    let lobby_url = lobby.as_ref().map(|lobby| lobby.url.as_str());
    let (_process, mut link) = Process::start(Role::Pinger, stack, lobby_url)?;
    link.send(&job)?;
    link.receive(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_latency_loops_fit_in_the_budget() {
        let longest = QUICK_LOOP_LIMIT * 3 / 2 * 3 * StackId::ALL.len() as u32;
        assert!(longest < QUICK_BUDGET, "{longest:?}");
    }
}
