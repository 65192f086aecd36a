//! Arena: two to eight ships that fly and shoot.
//!
//! ```text
//! cargo run --release --example arena                            # you, and one more window
//! cargo run --release --example arena -- --players 4             # four windows
//! cargo run --release --example arena -- --conditions bad-hotel  # two, on a bad network
//! cargo run --release --example arena -- --players 4 --headless --seconds 10 --json
//! ```

mod bot;
mod game;
mod view;

use std::time::Duration;

use bevy::app::ScheduleRunnerPlugin;
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy_netplay::prelude::*;
use clap::Parser;
use netplay_examples::{Launcher, Mode, PlayArgs, PlayPlugin};

/// The game says itself what happens to its players; the WebRTC library warns of what is normal while
/// connecting.
const LOG: &str = "warn,bevy_netplay=off,rtc=error,rtc_ice=error,rtc_dtls=error,arena=info";

/// Two to eight ships that fly and shoot, over direct connections between the players.
///
/// Arrow keys or WASD fly, Space shoots, T says something. Until a key is pressed, a bot plays.
#[derive(Parser)]
#[command(name = "arena", version)]
struct Args {
    #[command(flatten)]
    play: PlayArgs,
}

fn main() -> AppExit {
    let mut args = Args::parse().play;
    let mode = args.settle();
    let launcher = match Launcher::new(&args) {
        Ok(launcher) => launcher,
        Err(error) => {
            eprintln!("The lobby server cannot be started: {error}");
            return AppExit::error();
        }
    };
    let mut netplay = NetplayPlugins::new("netplay-arena")
        .build_id(env!("CARGO_PKG_VERSION"))
        .server(launcher.server());
    if launcher.all_here() {
        netplay = netplay.on_this_machine();
    }
    if let Some(conditioner) = args.conditioner() {
        netplay = netplay.conditioner(conditioner);
    }
    if let Some(path) = &args.resume {
        netplay = netplay.resume_file(path);
    }
    let log = LogPlugin { filter: LOG.into(), ..default() };
    let mut app = App::new();
    match mode {
        Mode::Headless => {
            let frame = Duration::from_secs_f64(1.0 / 60.0);
            app.add_plugins((MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(frame)), log));
        }
        Mode::Window => {
            app.add_plugins(view::window_plugins(&args).set(log)).add_plugins(view::ViewPlugin);
        }
    }
    app.add_plugins((netplay, PlayPlugin::new(args, launcher), game::GamePlugin)).run()
}
