//! `netplay-bench`: transports side by side, on one machine, in one call.
//!
//! Three kinds of process take part, all from this one executable:
//!
//! - the *coordinator* is what a user starts. It plans the jobs, runs them one after another, keeps
//!   the time and prints the result. It also hosts a stack's signaling server, so that the server
//!   is in no measured process.
//! - a *pinger* does one job for one stack: it measures. It is a fresh process for each job, so that
//!   no stack inherits threads or memory from another, and a stack that panics or hangs costs one
//!   job.
//! - a *peer* is the pinger's other end: it answers.
//!
//! A child ends when its parent ends, because it exits when its standard input closes. Everything
//! that waits has a deadline.
//!
//! A new stack is one file in `stacks` and one variant of [`stacks::StackId`].
//!
//! `carriers` and `lanes` are of another kind: they measure one-way delays on bad links, of many
//! connections side by side and in one process, because both ends must read one clock. A
//! [`forwarder`] is the only way between the ends, [`delivery`] has what delivers, [`cells`] runs
//! them.
//!
//! [`clock`] and [`pacing`](clock::pacing) are simulated: there the truth is known. [`states`] measures what
//! happens within one world. `lobby` is in a crate of its own, `netplay_load`, which needs no Bevy.

mod allocations;
mod carriers;
mod cells;
mod cli;
mod clock;
mod delivery;
mod forwarder;
mod harness;
mod lanes;
mod link;
mod ping;
mod pinger;
mod report;
mod rollback;
mod stacks;
mod states;
mod stats;

use std::process::ExitCode;

/// Any error, as text for the person who reads it.
type Error = Box<dyn std::error::Error + Send + Sync>;
/// A result whose error is text for the person who reads it.
type Result<T, E = Error> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netplay-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
