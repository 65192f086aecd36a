//! What every example's `main` does.

use std::time::Duration;

use bevy::app::ScheduleRunnerPlugin;
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy::winit::WinitSettings;
use bevy_netplay::prelude::*;

use crate::args::{Mode, PlayArgs};
use crate::children::Launcher;
use crate::menu::MenuPlugin;
use crate::play::PlayPlugin;
use crate::tiling::{Tile, TilingPlugin};

/// An example that runs with these flags.
pub struct Example {
    name: &'static str,
    args: PlayArgs,
    keeps_time: bool,
    seats: u8,
}

/// Players of one lobby that is made in the menu, if the game does not say.
const SEATS: u8 = 8;

impl Example {
    /// The example of this name, which is its program's too.
    pub const fn new(name: &'static str, args: PlayArgs) -> Self {
        Self { name, args, keeps_time: false, seats: SEATS }
    }

    /// The game has a clock of its own, and is played by those with whom it begins: the lobby has a seat
    /// for each of them, and no match is started.
    #[must_use]
    pub const fn keeps_time(mut self) -> Self {
        self.keeps_time = true;
        self
    }

    /// Lobbies that are made in the menu have so many seats; 8 by default.
    #[must_use]
    pub const fn seats(mut self, seats: u8) -> Self {
        self.seats = seats;
        self
    }

    /// The game's own flags, which hold for all players on this machine.
    #[must_use]
    pub fn flags(mut self, flags: impl IntoIterator<Item = String>) -> Self {
        self.args.more = flags.into_iter().collect();
        self
    }

    /// Adds the game to an app, in a window or without, and runs it.
    pub fn run(mut self, game: impl FnOnce(&mut App, Mode)) -> AppExit {
        let mode = self.args.settle();
        let launcher = match Launcher::new(&self.args) {
            Ok(launcher) => launcher,
            Err(error) => {
                eprintln!("The lobby server cannot be started: {error}");
                return AppExit::error();
            }
        };
        let mut app = self.app(mode, Duration::from_secs_f64(1.0 / 60.0));
        app.add_plugins(self.netplay(Some(&launcher)));
        if self.args.menu {
            let name = format!("player {}", self.args.child.unwrap_or_default() + 1);
            app.add_plugins(MenuPlugin { seats: self.seats, name });
        }
        app.add_plugins(PlayPlugin::new(self.args, launcher, self.keeps_time));
        game(&mut app, mode);
        app.run()
    }

    /// Adds the game to an app, in a window or without, and runs it by itself: without a lobby or other
    /// players. Without a window, frames follow each other at once.
    pub fn run_alone(mut self, game: impl FnOnce(&mut App, Mode)) -> AppExit {
        let mode = self.args.settle_mode();
        let mut app = self.app(mode, Duration::ZERO);
        app.add_plugins(self.netplay(None));
        game(&mut app, mode);
        app.run()
    }

    /// With this time between two frames, if there is no window.
    fn app(&self, mode: Mode, frame: Duration) -> App {
        let mut app = App::new();
        let log = LogPlugin { filter: log_filter(self.name), ..default() };
        match mode {
            Mode::Headless => {
                app.add_plugins((MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(frame)), log));
            }
            Mode::Window => {
                let tile = Tile::of(self.name, &self.args);
                let window = WindowPlugin { primary_window: Some(tile.window()), ..default() };
                app.add_plugins(DefaultPlugins.set(window).set(log).add(TilingPlugin(tile)))
                    // Players beside each other on one screen: all but one are out of focus.
                    .insert_resource(WinitSettings::continuous());
            }
        }
        app
    }

    fn netplay(&self, launcher: Option<&Launcher>) -> NetplayPlugins {
        let mut netplay = NetplayPlugins::new(format!("netplay-{}", self.name))
            .build_id(env!("CARGO_PKG_VERSION"));
        if let Some(launcher) = launcher {
            netplay = netplay.server(launcher.server());
            if launcher.all_here() {
                netplay = netplay.on_this_machine();
            }
        }
        if let Some(conditioner) = self.args.conditioner() {
            netplay = netplay.conditioner(conditioner);
        }
        if let Some(path) = &self.args.resume {
            netplay = netplay.resume_file(path);
        }
        netplay
    }
}

/// The game says itself what happens to its players; the WebRTC library warns of what is normal while
/// connecting.
fn log_filter(name: &str) -> String {
    format!("warn,bevy_netplay=off,rtc=error,rtc_ice=error,rtc_dtls=error,{name}=info")
}
