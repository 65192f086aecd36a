//! `netplay-lab`: real processes under real faults.
//!
//! ```text
//! cargo run --release --bin netplay-lab -- recover          # the whole table, about ten minutes
//! cargo run --release --bin netplay-lab -- recover --quick  # two minutes
//! ```
//!
//! What needs network namespaces needs root, `ip`, `nft` and `conntrack`; without them these rows say
//! that they were skipped, and why. Nothing leaves the machine.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

mod game;
mod network;
mod process;
mod recover;
mod roles;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use netplay_protocol::LobbyCode;
use recover::Row;

/// Real processes under real faults: what Netplay survives, and how soon it is back.
#[derive(Parser)]
#[command(name = "netplay-lab", version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Measures, for each fault, how long it takes from its end until all players hear each other again.
    ///
    /// Columns of --json: fault, runs, p50_ms, worst_ms, links_lost, wrong, limit_ms, note.
    Recover {
        /// Fewer runs, and 25 matches instead of 100.
        #[arg(long)]
        quick: bool,
        /// Only faults whose name has this in it.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// The rows as one JSON object, on the last line.
        #[arg(long)]
        json: bool,
    },
    #[command(hide = true)]
    Server { bind: SocketAddr, key: PathBuf },
    #[command(hide = true)]
    Player {
        server: String,
        #[arg(long)]
        join: Option<LobbyCode>,
        #[arg(long)]
        resume: Option<PathBuf>,
    },
    #[command(hide = true)]
    Crowd { server: String, matches: usize },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().role {
        Role::Recover { quick, only, json } => recover(quick, only.as_deref(), json),
        Role::Server { bind, key } => roles::server(bind, &key).map(|()| true),
        Role::Player { server, join, resume } => {
            roles::player(&server, join, resume).map(|()| true)
        }
        Role::Crowd { server, matches } => roles::crowd(&server, matches).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("netplay-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

type Measure = Box<dyn Fn() -> Result<Row, Box<dyn Error>>>;

/// Every fault: its name, whether it needs namespaces, and how it is measured.
fn faults(quick: bool) -> Vec<(&'static str, bool, Measure)> {
    let few = move |full: usize, fewer: usize| if quick { fewer } else { full };
    let outage = |name: &'static str, ms: u64, runs: usize| -> (&'static str, bool, Measure) {
        let time = Duration::from_millis(ms);
        (name, true, Box::new(move || recover::outage(name, time, runs)))
    };
    let (killed, stopped, rebound) = (few(20, 3), few(5, 1), few(50, 3));
    let (moved, flaps, matches) = (few(50, 3), few(60, 10), few(100, 25));
    let servers = few(3, 1);
    vec![
        ("player killed, started again", false, Box::new(move || recover::player_killed(killed))),
        ("player stopped 3 s", false, Box::new(move || recover::player_stopped(stopped))),
        (
            "lobby server killed 3 s",
            false,
            Box::new(move || recover::server_killed(matches, servers)),
        ),
        ("lobby server stopped", false, Box::new(move || recover::server_stopped(few(3, 1)))),
        outage("path cut 0.5 s", 500, few(5, 1)),
        outage("path cut 2 s", 2000, few(5, 1)),
        outage("path cut 5 s", 5000, few(5, 1)),
        outage("path cut 10 s", 10_000, few(3, 1)),
        ("address changed", true, Box::new(move || recover::address_changed(moved))),
        ("NAT rebinding", true, Box::new(move || recover::nat_rebound(rebound))),
        ("flapping 1 s / 1 s", true, Box::new(move || recover::flapping(flaps))),
    ]
}

/// Prints a row for each fault; whether all is as it should be.
fn recover(quick: bool, only: Option<&str>, json: bool) -> Result<bool, Box<dyn Error>> {
    let missing = network::missing();
    println!(
        "{:30} {:>4} {:>9} {:>9} {:>9} {:>6} {:>6}  ",
        "fault", "runs", "p50 ms", "worst ms", "limit ms", "lost", "wrong"
    );
    let mut rows = Vec::new();
    for (name, namespaces, measure) in faults(quick) {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        if let Some(why) = missing.as_ref().filter(|_| namespaces) {
            println!("{name:30} skipped, because {why}");
            continue;
        }
        let row = measure().map_err(|error| format!("{name}: {error}"))?;
        let held = if row.holds() { "" } else { "  <- not as it should be" };
        println!(
            "{:30} {:>4} {:>9.0} {:>9.0} {:>9.0} {:>6} {:>6}  {}{held}",
            row.fault,
            row.runs,
            row.p50_ms,
            row.worst_ms,
            row.limit_ms,
            row.links_lost,
            row.wrong,
            row.note
        );
        rows.push(row);
    }
    if json {
        println!("{}", serde_json::json!({ "bench": "recover", "rows": rows }));
    }
    Ok(rows.iter().all(Row::holds))
}
