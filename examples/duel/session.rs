//! The match: its settings, who is in it, and what goes into it.

use std::path::Path;

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::{
    Desync, LocalInputs, PlayersJoined, PlayersLeft, ReadInputs, RecordingEnded, Resimulating,
    RollbackPlugin, SimulationBegins, SimulationFailed, SimulationRestored, SimulationResumed,
    SimulationStalled, TickButtons,
};
use netplay_examples::Findings;

use crate::bot;
use crate::game::{Fighter, Pad, set_up};

/// The tick at which this machine changes its state, if any.
#[derive(Resource, Clone, Copy)]
struct DesyncAt(u32);

/// Whether somebody has touched the keys: a bot plays until then.
#[derive(Resource, Default)]
pub struct Touched(pub bool);

/// Seats of a match: who comes while it runs takes one that is free.
const SEATS: u8 = 4;

pub fn build(app: &mut App, (delay, delay_max): (u8, u8), prediction: u8, desync_at: Option<u32>) {
    app.add_plugins(RollbackPlugin { seats: SEATS, delay, delay_max, prediction, ..default() })
        .init_resource::<Touched>()
        .add_observer(recorded)
        .add_systems(ReadInputs, read)
        .add_observer(begin)
        .add_observer(|restored: On<SimulationRestored>| {
            info!("comes into the match at tick {}", restored.tick);
        })
        .add_observer(|failed: On<SimulationFailed>| error!("no match: {}", failed.error))
        .add_observer(|stalled: On<SimulationStalled>| {
            let players: Vec<u8> = stalled.players.iter().map(|player| player.0 + 1).collect();
            info!("waits for the inputs of players {players:?}");
        })
        .add_observer(|resumed: On<SimulationResumed>| {
            info!("goes on, after {} ticks", resumed.ticks);
        })
        .add_observer(|left: On<PlayersLeft>| {
            info!("{} plays no more, from tick {} on", left.peer.short(), left.at);
        })
        .add_observer(|joined: On<PlayersJoined>| {
            info!("{} plays from tick {} on", joined.peer.short(), joined.at);
        })
        .add_observer(differs);
    if let Some(tick) = desync_at {
        app.insert_resource(DesyncAt(tick)).add_systems(FixedUpdate, cheat);
    }
}

fn begin(begins: On<SimulationBegins>, mut commands: Commands) {
    let players: Vec<_> = begins.players.iter().map(|seated| seated.player).collect();
    info!("a match of {} begins", players.len());
    set_up(&players, &mut commands);
}

fn differs(desync: On<Desync>, mut findings: ResMut<Findings>) {
    warn!("{} came to another state before tick {}", desync.peer.short(), desync.tick);
    desync.differences.iter().for_each(|difference| warn!("{difference}"));
    if let Some(dump) = &desync.dump {
        warn!("all of it is in {}", dump.display());
    }
    findings.differ = true;
}

fn recorded(ended: On<RecordingEnded>) {
    let RecordingEnded { path, ticks, bytes, error, .. } = &*ended;
    let path = path.as_deref().unwrap_or(Path::new("")).display();
    let (from, to) = (ticks.start, ticks.end);
    match error {
        None => info!("ticks {from} to {to} are recorded in {path}: {bytes} bytes"),
        Some(error) => warn!("{error}; what is recorded in {path} ends before tick {to}"),
    }
}

/// What the players at this machine do in the next tick.
fn read(
    keys: Res<TickButtons<KeyCode>>,
    mut touched: ResMut<Touched>,
    mut local: ResMut<LocalInputs<Pad>>,
    fighters: Query<&Fighter>,
    tick: Res<MatchTick>,
) {
    use KeyCode::{
        ArrowDown, ArrowLeft, ArrowRight, ArrowUp, Enter, KeyA, KeyD, KeyE, KeyS, KeyW, Space,
    };
    let all = [
        (&[ArrowLeft, KeyA][..], Pad::LEFT),
        (&[ArrowRight, KeyD], Pad::RIGHT),
        (&[ArrowDown, KeyS], Pad::DOWN),
        (&[ArrowUp, KeyW], Pad::JUMP),
        (&[Space], Pad::STRIKE),
        (&[Enter, KeyE], Pad::WAVE),
    ];
    let pressed = all.into_iter().filter(|(keys_of, _)| keys.any_pressed(keys_of.iter().copied()));
    let pressed = pressed.fold(0, |pad, (_, button)| pad | button);
    touched.0 |= pressed != 0;
    let fighters: Vec<Fighter> = fighters.iter().copied().collect();
    let tick = tick.0.map_or(0, |tick| tick.ahead_of(NetTick::ZERO).unsigned_abs());
    for (player, pad) in local.iter_mut() {
        let own = fighters.iter().find(|fighter| fighter.player == player.0);
        *pad = match own {
            Some(own) if !touched.0 => bot::play(own, &fighters, tick),
            _ => Pad(pressed),
        };
    }
}

/// The first player's machine does something that the others' do not.
fn cheat(
    at: Res<DesyncAt>,
    tick: Res<MatchTick>,
    local: Res<LocalInputs<Pad>>,
    again: Res<Resimulating>,
    mut fighters: Query<&mut Fighter>,
) {
    let first = local.players().any(|player| player.0 == 0);
    let due = tick.0.is_some_and(|tick| tick.ahead_of(NetTick::ZERO) == at.0 as i32);
    if first && due {
        for mut fighter in fighters.iter_mut().filter(|fighter| fighter.player == 0) {
            fighter.damage += 100;
            if !again.0 {
                info!("this machine changes its state, in tick {}", at.0);
            }
        }
    }
}
