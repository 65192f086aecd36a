//! Boxes on ice that collect coins: a game written with `bevy_ggrs`, over Netplay lobbies.
//!
//! ```text
//! cargo run --release --example ggrs_box                              # you, and one more window
//! cargo run --release --example ggrs_box -- --players 4               # four windows
//! cargo run --release --example ggrs_box -- --conditions wifi         # two, on a bad network
//! cargo run --release --example ggrs_box -- --players 4 --headless --seconds 10 --json
//! ```
//!
//! A game that was written for `bevy_matchbox` changes in these places; simulation, inputs, snapshots and
//! checksums stay as they are. Before:
//!
//! ```ignore
//! type Config = GgrsConfig<Keys, matchbox_socket::PeerId>;
//!
//! fn main() {
//!     App::new()
//!         .add_plugins((DefaultPlugins, GgrsPlugin::<Config>::default()))
//!         .add_systems(Startup, |mut commands: Commands| {
//!             let room = "ws://127.0.0.1:3536/ggrs_box?next=2";
//!             commands.insert_resource(MatchboxSocket::new_unreliable(room));
//!         })
//!         .add_systems(Update, start.run_if(not(resource_exists::<Session<Config>>)));
//! }
//!
//! fn start(mut socket: ResMut<MatchboxSocket>, mut commands: Commands) {
//!     socket.update_peers();
//!     let players = socket.players();
//!     if players.len() < 2 {
//!         return;
//!     }
//!     let mut builder = SessionBuilder::<Config>::new().with_num_players(2).unwrap();
//!     for (handle, player) in players.into_iter().enumerate() {
//!         builder = builder.add_player(player, handle).unwrap();
//!     }
//!     let session = builder.start_p2p_session(socket.take_channel(0).unwrap()).unwrap();
//!     commands.insert_resource(Session::P2P(session));
//! }
//! ```
//!
//! After:
//!
//! ```ignore
//! type Config = GgrsConfig<Keys, bevy_netplay::PeerId>;
//!
//! fn main() {
//!     App::new()
//!         .add_plugins((DefaultPlugins, GgrsPlugin::<Config>::default()))
//!         .add_plugins((NetplayPlugins::new("ggrs_box"), NetplayGgrsPlugin))
//!         .configure_sets(PreUpdate, RunGgrsSystems.in_set(NetplayGgrsSystems::Session))
//!         .add_systems(Startup, |mut commands: Commands| { commands.spawn(JoinLobby::quick(2)); })
//!         .add_systems(Update, start.run_if(not(resource_exists::<Session<Config>>)));
//! }
//!
//! fn start(mut lobby: GgrsLobby, mut commands: Commands) -> Result {
//!     if lobby.is_full() {
//!         let session = lobby.session_builder::<Config>().start_p2p_session(lobby.socket())?;
//!         commands.insert_resource(Session::P2P(session));
//!     }
//!     Ok(())
//! }
//! ```

mod bot;
mod game;
mod proof;
mod session;
mod view;

use bevy::prelude::*;
use clap::Parser;
use netplay_examples::{Example, Mode, PlayArgs};

/// Two to eight boxes on ice that collect coins, simulated by every player with rollback.
///
/// Arrow keys or WASD push, Space dashes. Until a key is pressed, a bot plays.
#[derive(Parser)]
#[command(name = "ggrs_box", version)]
struct Args {
    #[command(flatten)]
    play: PlayArgs,
}

fn main() -> AppExit {
    Example::new("ggrs_box", Args::parse().play).keeps_time().run(|app, mode| {
        if mode == Mode::Window {
            app.add_plugins(view::plugin);
        }
        app.add_plugins((game::plugin, session::plugin, proof::plugin));
    })
}
