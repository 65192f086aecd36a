//! Duel: two to four fighters on a floating stage, simulated by every player, with rollback.
//!
//! ```text
//! cargo run --release --example duel                              # you, and one more window
//! cargo run --release --example duel -- --players 4               # four windows
//! cargo run --release --example duel -- --conditions wifi         # two, on a bad network
//! cargo run --release --example duel -- --desync-at 600           # one of two cheats: what is reported then
//! cargo run --release --example duel -- --players 2 --headless --seconds 15 --json
//! ```

mod bot;
mod game;
mod hud;
mod proof;
mod session;
mod view;

use bevy::prelude::*;
use clap::Parser;
use netplay_examples::{Example, Mode, PlayArgs};

/// Two to four fighters on a floating stage. Who is thrown off it loses a fall to who threw.
///
/// Arrow keys or AD run, Up or W jumps (twice in the air), Space strikes, Enter or E throws a wave. Until a
/// key is pressed, a bot plays.
#[derive(Parser)]
#[command(name = "duel", version)]
struct Args {
    #[command(flatten)]
    play: PlayArgs,

    /// Ticks that inputs wait before they count.
    #[arg(long, value_name = "TICKS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=20))]
    delay: u8,

    /// Ticks that may run on guesses of what the others do; with 0 every tick waits for them.
    #[arg(long, value_name = "TICKS", default_value_t = 24, value_parser = clap::value_parser!(u8).range(0..=32))]
    prediction: u8,

    /// At this tick the first player's machine changes its state behind the others' back.
    #[arg(long, value_name = "TICK")]
    desync_at: Option<u32>,
}

fn main() -> AppExit {
    let args = Args::parse();
    let Args { play, delay, prediction, desync_at } = args;
    let desync = desync_at.map(|tick| format!("--desync-at={tick}"));
    let flags = [format!("--delay={delay}"), format!("--prediction={prediction}")];
    let flags = flags.into_iter().chain(desync);
    Example::new("duel", play).flags(flags).run(|app, mode| {
        app.add_plugins((game::plugin, proof::plugin));
        session::build(app, delay, prediction, desync_at);
        if mode == Mode::Window {
            app.add_plugins((view::plugin, hud::plugin));
        }
    })
}
