//! Duel: two to four fighters on a floating stage, simulated by every player, with rollback.
//!
//! ```text
//! cargo run --release --example duel                              # you, and one more window
//! cargo run --release --example duel -- --players 4               # four windows
//! cargo run --release --example duel -- --conditions wifi         # two, on a bad network
//! cargo run --release --example duel -- --menu                    # two windows, with a lobby to meet in
//! cargo run --release --example duel -- --desync-at 600           # one of two cheats: what is reported then
//! cargo run --release --example duel -- --players 2 --headless --seconds 15 --json
//! cargo run --release --example duel -- --record duel.npr         # what you play, as a file
//! cargo run --release --example duel -- --replay duel.npr         # Space pauses, arrows seek
//! cargo run --release --example duel -- --replay duel.npr --headless --json   # is it still the same?
//! cargo run --release --example duel -- --check 10000             # no match: does each tick come to the same state again?
//! ```

mod bot;
mod check;
mod game;
mod hud;
mod proof;
mod replay;
mod session;
mod view;

use std::path::PathBuf;

use bevy::prelude::*;
use bevy_netplay::rollback::RecordMatches;
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

    /// What these grow to while the path makes more than one in a hundred inputs late; no more than --delay
    /// leaves them as they are.
    #[arg(long, value_name = "TICKS", default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=20))]
    delay_max: u8,

    /// Ticks that may run on guesses of what the others do; with 0 every tick waits for them.
    #[arg(long, value_name = "TICKS", default_value_t = 24, value_parser = clap::value_parser!(u8).range(0..=32))]
    prediction: u8,

    /// At this tick the first player's machine changes its state behind the others' back.
    #[arg(long, value_name = "TICK")]
    desync_at: Option<u32>,

    /// Record the match in this file. Of several players on this machine the first does so.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Play this recording instead of a match. Space pauses, Left and Right go back and on by 5 s, Up and
    /// Down set the speed. With --headless it runs as fast as it can, and the exit status tells whether
    /// this game still comes to the recorded states.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["record", "server", "players", "seconds", "desync_at"])]
    replay: Option<PathBuf>,

    /// Begin the replay with this tick.
    #[arg(long, value_name = "TICK", requires = "replay")]
    seek: Option<i32>,

    /// How fast the replay is shown, 0 to 8 times as fast as the match.
    #[arg(long, value_name = "X", requires = "replay", value_parser = replay::speed)]
    speed: Option<f32>,

    /// Plays no match, but so many ticks of four bots in check mode; the exit status tells whether each
    /// tick came to the same state whenever it was run again.
    #[arg(long, value_name = "TICKS")]
    check: Option<u32>,

    /// Decides what check mode does after each tick.
    #[arg(long, value_name = "SEED", default_value_t = 1, requires = "check")]
    check_seed: u64,
}

fn main() -> AppExit {
    let args = Args::parse();
    let Args {
        play,
        delay,
        delay_max,
        prediction,
        desync_at,
        record,
        replay,
        seek,
        speed,
        check,
        check_seed,
    } = args;
    if let Some(ticks) = check {
        return check::run(ticks, check_seed);
    }
    if let Some(file) = replay {
        return replay::run(play, &file, seek, speed);
    }
    let desync = desync_at.map(|tick| format!("--desync-at={tick}"));
    let flags = [("delay", delay), ("delay-max", delay_max), ("prediction", prediction)]
        .map(|(flag, ticks)| format!("--{flag}={ticks}"));
    let flags = flags.into_iter().chain(desync);
    Example::new("duel", play).seats(4).flags(flags).run(|app, mode| {
        app.add_plugins((game::plugin, proof::plugin));
        session::build(app, (delay, delay_max), prediction, desync_at);
        if let Some(file) = record {
            app.insert_resource(RecordMatches::to_file(file));
        }
        if mode == Mode::Window {
            app.add_plugins((view::plugin, hud::plugin));
        }
    })
}
