//! What a pinger process does: one job for one stack.

use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::link::{Link, Process, Role};
use crate::ping::Amount;
use crate::stacks::{Pinger, Setup, StackId};
use crate::stats::percentile;

/// A connection that takes longer has failed.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// A stack that fails this often in a row is not tried again in this repeat.
pub const FAILURES_IN_A_ROW: u32 = 2;
/// What a new connection still allocates or frees after its first message is over by then.
const SETTLE: Duration = Duration::from_millis(100);

/// What a pinger is to measure.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Job {
    /// Round trips over one connection.
    Latency {
        /// How many.
        rounds: u32,
        /// The longest that they may take; fewer are measured otherwise.
        limit: Duration,
    },
    /// Connections one after another, all kept open.
    Connect {
        /// How many.
        rounds: u32,
    },
}

/// What a pinger answers.
#[derive(Serialize, Deserialize)]
pub enum Report {
    /// Answer to [`Job::Latency`].
    Latency(Latency),
    /// Answer to [`Job::Connect`].
    Connect(Connect),
    /// The stack failed, and why.
    Failed(String),
}

/// One repeat of `latency`.
#[derive(Serialize, Deserialize)]
pub struct Latency {
    /// Median round trip, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Round trips measured.
    pub samples: u64,
    /// Pings without a reply.
    pub lost: u64,
}

/// One repeat of `connect`.
#[derive(Serialize, Deserialize)]
pub struct Connect {
    /// Median time to the first message, milliseconds; nothing without connections.
    pub p50_ms: Option<f64>,
    /// 90th percentile, milliseconds; nothing without connections.
    pub p90_ms: Option<f64>,
    /// Resident memory per connection, KiB; nothing where the system does not tell it.
    pub kib_per_peer: Option<f64>,
    /// Connections made.
    pub connects: u64,
    /// Connections that failed.
    pub failed: u64,
    /// Why the last failed one did.
    pub last_failure: Option<String>,
}

/// Starts the peer, takes one job from the parent, and ends the process when it is answered.
pub fn run(stack: StackId, lobby_url: Option<String>, mut parent: Link) -> Result<()> {
    let job = parent.receive_forever()?;
    let (peer, link) = Process::start(Role::Peer, stack, lobby_url.as_deref())?;
    let report = stack
        .stack()
        .pinger(Setup { link, lobby_url })
        .and_then(|mut pinger| {
            let report = do_job(pinger.as_mut(), job);
            // Its runtime would take its time to end; this process ends at once.
            drop(thread::spawn(move || drop(pinger)));
            report
        })
        .unwrap_or_else(|error| Report::Failed(error.to_string()));
    drop(peer);
    parent.send(&report)?;
    std::process::exit(0)
}

fn do_job(pinger: &mut dyn Pinger, job: Job) -> Result<Report> {
    match job {
        Job::Latency { rounds, limit } => latency(pinger, rounds, limit).map(Report::Latency),
        Job::Connect { rounds } => connect(pinger, rounds).map(Report::Connect),
    }
}

fn latency(pinger: &mut dyn Pinger, rounds: u32, limit: Duration) -> Result<Latency> {
    pinger.connect(0, CONNECT_LIMIT)?;
    let warm_up = Amount { rounds: (rounds / 10).max(500), limit: limit / 2, first: 0 };
    pinger.ping_pong(warm_up)?;
    let mut samples = pinger.ping_pong(Amount { rounds, limit, first: 1 << 32 })?;
    let count = samples.round_trips_us.len() as u64;
    let mut at = |percent| {
        percentile(&mut samples.round_trips_us, percent)
            .ok_or_else(|| format!("no reply within {:.0} s", limit.as_secs_f64()))
    };
    Ok(Latency { p50_us: at(50.0)?, p99_us: at(99.0)?, samples: count, lost: samples.lost })
}

fn connect(pinger: &mut dyn Pinger, rounds: u32) -> Result<Connect> {
    // The first connection pays for what all share; it is kept, so that its memory is not reused.
    pinger.connect(0, CONNECT_LIMIT)?;
    thread::sleep(SETTLE);
    let before = resident_kib();
    let mut times_ms = Vec::new();
    let mut failed = 0;
    let mut failed_in_a_row = 0;
    let mut last_failure = None;
    for number in 1..=rounds {
        match pinger.connect(number, CONNECT_LIMIT) {
            Ok(time) => {
                times_ms.push(time.as_secs_f64() * 1e3);
                failed_in_a_row = 0;
            }
            Err(error) => {
                failed += 1;
                failed_in_a_row += 1;
                last_failure = Some(error.to_string());
                if failed_in_a_row == FAILURES_IN_A_ROW {
                    break;
                }
            }
        }
    }
    thread::sleep(SETTLE);
    let kib_per_peer = match (before, resident_kib()) {
        // A failed connection leaves memory behind that belongs to no peer.
        (Some(before), Some(after)) if failed == 0 => Some((after - before) / f64::from(rounds)),
        _ => None,
    };
    Ok(Connect {
        p50_ms: percentile(&mut times_ms, 50.0),
        p90_ms: percentile(&mut times_ms, 90.0),
        kib_per_peer,
        connects: times_ms.len() as u64,
        failed,
        last_failure,
    })
}

/// This process's resident memory, where the system tells it (Linux).
fn resident_kib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    parse_resident_kib(&status)
}

/// In contrast to `/proc/self/statm`, this one needs no page size.
fn parse_resident_kib(status: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_status_file() {
        let status = "Name:\tx\nVmHWM:\t  9999 kB\nVmRSS:\t   12345 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(parse_resident_kib(status), Some(12345.0));
        assert_eq!(parse_resident_kib("Name:\tx\n"), None);
    }
}
