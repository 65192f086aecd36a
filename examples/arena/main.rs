//! Arena: two to eight ships that fly and shoot.
//!
//! ```text
//! cargo run --release --example arena                            # you, and one more window
//! cargo run --release --example arena -- --players 4             # four windows
//! cargo run --release --example arena -- --conditions bad-hotel  # two, on a bad network
//! cargo run --release --example arena -- --menu                  # two windows, with a lobby to meet in
//! cargo run --release --example arena -- --players 4 --headless --seconds 10 --json
//! ```

mod bot;
mod game;
mod view;

use bevy::prelude::*;
use clap::Parser;
use netplay_examples::{Example, Mode, PlayArgs};

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
    Example::new("arena", Args::parse().play).run(|app, mode| {
        if mode == Mode::Window {
            app.add_plugins(view::ViewPlugin);
        }
        app.add_plugins(game::GamePlugin);
    })
}
