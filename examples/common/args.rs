//! The flags that every example has.

use std::path::PathBuf;

use bevy_netplay::prelude::*;
use clap::Args;

/// Most players of one game on one machine.
const PLAYERS_MAX: i64 = 8;
/// How long a game without a window lasts if it is not told.
const HEADLESS_SECONDS: f32 = 30.0;

/// The flags that every example has.
#[derive(Args, Clone, Debug)]
pub struct PlayArgs {
    /// How many players on this machine, 1 to 8. This process is one; the others are opened beside it.
    /// With 1, it prints its lobby's code and waits for players from elsewhere. [default: 2, or 1
    /// with --join]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=PLAYERS_MAX))]
    players: Option<u8>,

    /// The lobby server, like ws://192.168.1.20:3536. Without it, one is started inside this process
    /// for the players on this machine.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,

    /// Join the lobby with this code instead of making one; needs --server.
    #[arg(long, value_name = "CODE", requires = "server")]
    pub join: Option<LobbyCode>,

    /// Begin with a menu: nickname, lobbies to browse and make, join by code, quick match, chat. The other players
    /// on this machine get one each.
    #[arg(long, conflicts_with_all = ["join", "headless", "resume", "seconds"])]
    pub menu: bool,

    /// Where this player's way back is kept: killed and started again with the same file, it is in the
    /// same lobby, in its seat. One file for each player.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,

    /// Play under bad network conditions: perfect, lan, wifi, mobile or bad-hotel; or parts like
    /// delay=40ms,jitter=10ms,loss=5%,burst=6,duplicate=1%,reorder=1%/40ms,rate=480kbit; or both, like
    /// wifi,delay=80ms. They hold for what each player on this machine sends, so that a round trip
    /// pays a delay twice.
    #[arg(long, value_name = "PRESET|SPEC")]
    pub conditions: Option<Conditions>,

    /// Play without a window; bots are at the keys.
    #[arg(long)]
    pub headless: bool,

    /// End after so many seconds of play, counted from when all players are connected, and print a
    /// summary. The exit status tells whether the players connected and agree.
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: Option<f32>,

    /// Print the summary as one JSON object, on the last line.
    #[arg(long)]
    pub json: bool,

    /// The game's own flags, for the players that are opened beside this one.
    #[arg(skip)]
    pub more: Vec<String>,

    /// Set by the process that opened this one: this player's number.
    #[arg(long, hide = true)]
    pub child: Option<u8>,
}

fn seconds(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("a number of seconds between 0 and 86400".into()),
    }
}

/// With or without a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a window.
    Window,
    /// Without.
    Headless,
}

impl PlayArgs {
    /// Decides between window and headless, and how long it lasts. Says on standard error what was
    /// decided for the user.
    pub fn settle(&mut self) -> Mode {
        if self.menu && !has_display() {
            self.menu = false;
            eprintln!("A menu needs a display.");
        }
        let mode = self.settle_mode();
        if mode == Mode::Headless && self.seconds.is_none() {
            self.seconds = Some(HEADLESS_SECONDS);
            if self.child.is_none() {
                eprintln!(
                    "It ends after {HEADLESS_SECONDS} s of play; --seconds S sets another time."
                );
            }
        }
        mode
    }

    /// Decides between window and headless only.
    pub fn settle_mode(&mut self) -> Mode {
        if !self.headless && !has_display() {
            self.headless = true;
            eprintln!("There is no display, so this game plays without a window.");
        }
        if self.headless { Mode::Headless } else { Mode::Window }
    }

    /// What the links suffer, if anything. Each player has its own luck.
    pub fn conditioner(&self) -> Option<LinkConditioner> {
        let conditions = self.conditions.clone()?;
        let seed = u64::from(self.child.unwrap_or_default());
        Some(LinkConditioner::outgoing(conditions).with_seed(seed))
    }

    /// Whether an earlier start of this player has left a way back.
    pub fn comes_back(&self) -> bool {
        self.resume.as_ref().is_some_and(|path| path.exists())
    }

    /// How many players are on this machine.
    pub fn players(&self) -> u8 {
        self.players.unwrap_or(if self.join.is_some() { 1 } else { 2 })
    }

    /// How many players have to be there before the game begins; `None` if nobody knows.
    pub fn expected(&self) -> Option<u8> {
        Some(self.players()).filter(|players| *players > 1)
    }
}

#[cfg(all(unix, not(target_os = "macos")))]
fn has_display() -> bool {
    std::env::var_os("DISPLAY").is_some_and(|display| !display.is_empty())
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
const fn has_display() -> bool {
    true
}
