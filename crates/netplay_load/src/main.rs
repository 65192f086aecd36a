//! `netplay-load`: the load test of the lobby server as a program of its own, without Bevy. The same as
//! `netplay-bench lobby`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use netplay_load::{HELP, Options, Role};

/// The lobby server under load, beside matchbox's and a bare relay
#[derive(Parser)]
#[command(name = "netplay-load", version, after_help = HELP, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    role: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// A process of a run
    #[command(hide = true)]
    LobbyRole(Role),
}

fn main() -> ExitCode {
    let Cli { options, role } = Cli::parse();
    let done = match role {
        Some(Command::LobbyRole(role)) => netplay_load::play(role),
        None => netplay_load::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netplay-load: {error}");
            ExitCode::FAILURE
        }
    }
}
