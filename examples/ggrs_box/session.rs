//! From the lobby to the ggrs session, and what goes into it.

use bevy::platform::collections::HashMap;
use bevy::prelude::*;
use bevy_ggrs::ggrs::{DesyncDetection, GgrsEvent, PlayerType};
use bevy_ggrs::prelude::*;
use bevy_ggrs::{LocalInputs, LocalPlayers, RunGgrsSystems};
use bevy_netplay::ggrs::{GgrsLobby, NetplayGgrsPlugin, NetplayGgrsSystems};
use bevy_netplay::prelude::*;
use netplay_examples::{Findings, playing};

use crate::bot;
use crate::game::{Coin, Config, Cube, Keys, set_up};

/// Frames between two checksums that ggrs compares.
const CHECKSUM_EVERY: u32 = 10;

/// Players by their handle.
#[derive(Resource, Default)]
pub struct Players(pub Vec<PlayerType<PeerId>>);

/// The keys that are held; `None` until one was pressed: a bot plays.
#[derive(Resource, Default)]
pub struct Held(pub Option<Keys>);

pub fn plugin(app: &mut App) {
    app.add_plugins(NetplayGgrsPlugin)
        .configure_sets(PreUpdate, RunGgrsSystems.in_set(NetplayGgrsSystems::Session))
        .init_resource::<Players>()
        .init_resource::<Held>()
        .add_systems(
            Update,
            start.run_if(playing.and_then(not(resource_exists::<Session<Config>>))),
        )
        .add_systems(Update, hear.run_if(playing.and_then(resource_exists::<Session<Config>>)))
        .add_systems(ReadInputs, read);
}

fn start(mut lobby: GgrsLobby, code: Query<&Lobby>, mut commands: Commands) -> Result {
    if !lobby.is_full() {
        return Ok(());
    }
    let session = lobby
        .session_builder::<Config>()
        .with_desync_detection_mode(DesyncDetection::On { interval: CHECKSUM_EVERY })
        .start_p2p_session(lobby.socket())?;
    let players = lobby.players();
    let code = code.single()?.code.to_string();
    let seed = code.bytes().fold(0, |seed, byte| seed * 37 + u64::from(byte));
    set_up(players.len(), seed, &mut commands);
    commands.insert_resource(Players(players));
    commands.insert_resource(Session::P2P(session));
    Ok(())
}

fn read(
    local: Res<LocalPlayers>,
    held: Res<Held>,
    cubes: Query<&Cube>,
    coins: Query<&Coin>,
    mut commands: Commands,
) {
    let keys = |handle: usize| {
        let cube = cubes.iter().find(|cube| cube.handle == handle);
        held.0.or(cube.map(|cube| bot::steer(cube, &coins))).unwrap_or_default()
    };
    let inputs: HashMap<_, _> = local.0.iter().map(|handle| (*handle, keys(*handle))).collect();
    commands.insert_resource(LocalInputs::<Config>(inputs));
}

/// What ggrs has to say while the game is played.
fn hear(mut session: ResMut<Session<Config>>, mut findings: ResMut<Findings>) {
    let Session::P2P(session) = &mut *session else { return };
    for event in session.events() {
        match event {
            GgrsEvent::DesyncDetected { frame, addr, .. } => {
                warn!("{} has another state in frame {frame}", addr.short());
                findings.differ = true;
            }
            GgrsEvent::Disconnected { addr } => info!("{} plays no more", addr.short()),
            GgrsEvent::NetworkInterrupted { addr, .. } => info!("{} is silent", addr.short()),
            GgrsEvent::NetworkResumed { addr } => info!("{} is back", addr.short()),
            _ => {}
        }
    }
}
