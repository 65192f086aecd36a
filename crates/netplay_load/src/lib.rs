//! The load test of the lobby server, beside matchbox's server and a relay that does nothing else.
//!
//! `netplay-bench lobby` calls [`run`]. Three kinds of process take part, all from the one executable:
//!
//! - the *coordinator* plans, keeps the time, reads what the system says of the server, and prints;
//! - a *server*, bound to the first processor: see [`Kind`];
//! - a *worker*, bound to the second: thousands of clients in one thread, from addresses 127.x.y.z with at most
//!   50 connections each.
//!
//! The program that calls [`run`] gives its hidden subcommand [`ROLE`] to [`play`]. All processes end with the
//! one that started them, and everything that waits has a deadline. Nothing leaves the loopback network.
//!
//! Guaranteed: a delay is measured from when a message was to be sent, not from when it was (`late_p99_ms` is
//! the difference). Not guaranteed: that the generator is never the limit: `server_busy_pct` tells, which is
//! near 100 if it is not. Memory in the kernel (sockets, their buffers) is not counted.

#![forbid(unsafe_code)]

mod half;
mod hostile;
mod machine;
mod process;
mod report;
mod run;
mod serve;
mod soak;
mod stats;
mod team;
mod worker;

use clap::{Args, Subcommand};

pub use process::ROLE;
pub use serve::{Kind, Serve};
pub use stats::{Histogram, median, rounded};
pub use worker::Work;

/// Any error, as text for the person who reads it.
pub type Error = Box<dyn core::error::Error + Send + Sync>;
/// A result whose error is text for the person who reads it.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Take fewer connections and less time, and end within 120 s
    #[arg(long)]
    pub quick: bool,
    /// Print the rows as JSON on the last line
    #[arg(long)]
    pub json: bool,
    /// Connections to each server; matchbox's gets 2000 at most [default: 19500, with --quick 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(4..=19_500))]
    pub connections: Option<u32>,
    /// How often every server is started and measured [default: 3, with --quick 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// Only this server, as often as it is named
    #[arg(long, value_enum)]
    pub server: Vec<Kind>,
    /// Instead: what honest players notice of clients that mean harm
    #[arg(long, conflicts_with = "soak")]
    pub hostile: bool,
    /// Instead: whether memory grows while so many lobbies come and go
    #[arg(long, value_name = "CYCLES", num_args = 0..=1, default_missing_value = "1000000", value_parser = clap::value_parser!(u64).range(100..))]
    pub soak: Option<u64>,
}

/// Another role of this program, as a process of a run.
#[derive(Args)]
pub struct Role {
    #[command(subcommand)]
    role: Roles,
}

#[derive(Subcommand)]
enum Roles {
    /// A server that is measured
    Serve(Serve),
    /// A load generator
    Worker(Work),
}

/// The columns, for `--help`.
pub const HELP: &str = "\
Columns:
  server              netplay: our lobby server, with its default limits; matchbox: matchbox_signaling 0.15, full
                      mesh; bare_relay: a WebSocket relay on the same libraries without anything else
  connections         open at once, each with a session; all say now and then that they are there, as players do
  kib_per_connection  KiB; growth of the server's resident memory for each, idle, after a round of keep-alives
  joins_per_s         netplay: joins by code, in cycles of create, join, leave, leave over connections that are
                      there; the others have no lobbies: second connections to a new room, in cycles of
                      connect, connect, close both
  signals_per_s       signals of 300 bytes that arrive at the partner, while all connections are open
  outstanding         signals under way at once: 8 for each of at most 500 pairs
  p99_ms              milliseconds; 99th percentile from when a signal was to be sent to when it was there, at
                      half_per_s, sent at a steady rate whatever comes back
  x_bare_relay        signals_per_s divided by those of bare_relay in the same round
  x_bare_relay_cpu    the same of signals_per_cpu_s: on a machine that does other things too it says more

Second table, in the JSON `more`:
  connects_per_s      connections with a session a second, 128 at once
  connect_p99_ms      milliseconds; from the first packet to the session, 99th percentile
  anonymous_kib       KiB; as kib_per_connection, without pages of files
  joins_at_once       cycles under way at once
  join_p99_ms         milliseconds from the request (matchbox, bare_relay: the first packet) to the answer
  joins_per_cpu_s, signals_per_cpu_s  joins and signals for each second of its processor that the server used
  half_per_s          half load: signals a second that keep the server's processor busy half of the time, found by
                      trying
  half_busy_pct       per cent of its processor that the server used then
  second_p99_ms       milliseconds; 99th percentile of each second then, and the median of them: without what
                      comes every few seconds
  late_p99_ms         milliseconds; how late the generator was then, 99th percentile: part of p99_ms
  half_rate_p99_ms    as p99_ms, at half of signals_per_s: sent one by one, so many keep a server busy all the time
  half_rate_busy_pct  per cent of its processor that the server used then
  server_busy_pct     per cent of its processor that the server used at signals_per_s
  worker_busy_pct     the same of the generator
  lobbies             that are open while others search
  search_p99_ms       milliseconds; searches, 50 a second: any, by value and nearness, by text and free seats
  back_s              seconds from kill -9 of the server, which is started again at once with the same key, until
                      the last of all connections has its session again
  refused, lost, missing  messages that the server refused, connections that were lost, signals and
                      answers that never came, sessions that were not taken up; all rounds together

Servers run in turn, one at a time and anew in each round; columns are medians over the rounds.

--hostile (rows): honest players send signals at half load (half_per_s), alone and with attackers.
  attackers           without, with
  honest_per_s        signals of honest players a second
  attacks_per_s       acts of attackers a second, a quarter of the honest ones
  p50_ms, p99_ms      milliseconds, as above, of honest signals
  x_without           p99_ms with attackers divided by that without, in the same round: 2 at most, if the machine is
                      quiet
  second_p99_ms, late_p99_ms  milliseconds; as above
  refused, lost, missing  of honest players
Second table, in the JSON `attacks`, all rounds together:
  attack              flood: text that is no message; half_open: requests without an end; never_reads: searches
                      whose answers are not read; oversized: frames that claim 1 MiB; wrong_protocol: another
                      version, or no hello; forged_signals: to players of other lobbies; code_guessing;
                      searches: for what no lobby has
  connections, messages  that they made and sent
  refused, closed     answers that are errors, connections that the server closed
  harmed              signals they got from players, and lobbies they got into: 0 if all is well

--soak (rows): cycles of create, join, leave, leave
  cycles              that were made since the row before
  joins_per_s         in them
  held_up_s           seconds in which the server's limits of rates allowed no more
  rss_kib             KiB; the server's resident memory after them
  files               open files of the server
  drift_pct           per cent by which rss_kib is above that of the first row; a run of 100 000 cycles or more fails
                      above 10, which a leak of 120 bytes a cycle would reach in a million
  refused, lost       as above";

/// Measures, and prints what came of it.
///
/// # Errors
/// If something could not be measured; the tables have the rest.
pub fn run(options: &Options) -> Result<()> {
    if options.hostile {
        return hostile::run(options);
    }
    match options.soak {
        Some(cycles) => soak::run(options, cycles),
        None => run::run(options),
    }
}

/// Plays a role in a run, until the process that started this one ends.
///
/// # Errors
/// If a server cannot listen, or a worker does not understand what it is told.
pub fn play(role: Role) -> Result<()> {
    match role.role {
        Roles::Serve(what) => serve::serve(&what),
        Roles::Worker(work) => worker::work(&work),
    }
}
