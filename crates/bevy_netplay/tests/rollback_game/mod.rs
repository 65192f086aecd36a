//! A small game that is rolled back, played by several apps at once.

#![allow(dead_code)] // Each test uses a part of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, AddRollbackInput, DespawnRollback, Desync, LocalInputs, Player, PlayerInputs,
    PlayersJoined, PlayersLeft, ReadInputs, Rollback, RollbackError, RollbackId, RollbackPlugin,
    RollbackStatus, SimulationBegins, SimulationFailed, SimulationRestored, SimulationResumed,
};
use bevy_netplay::test_kit::TestNet;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    x: i8,
    pub fire: bool,
}

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct At(pub i32);

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Fighter(u8);

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bullet {
    by: u8,
    pub left: u8,
}

/// What each player did so far: hits, and a note of it that grows.
#[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Score(Vec<u32>);

/// What one app saw.
#[derive(Resource, Default)]
pub struct Log {
    /// Of each tick as it was last run: a sum of the state after it.
    pub sums: BTreeMap<u32, u64>,
    pub elapsed: BTreeMap<u32, Duration>,
    pub desyncs: Vec<Desync>,
    pub left: Vec<i32>,
    pub joined: Vec<i32>,
    pub restored: Vec<i32>,
    pub begun: u32,
    pub failed: Vec<RollbackError>,
    pub stalled: u32,
    random: u64,
    pub reads: u32,
}

pub fn game(app: &mut App, seed: u64, plugin: RollbackPlugin) {
    app.add_plugins(plugin)
        .add_rollback_input::<Pad>()
        .rollback::<At>()
        .rollback::<Fighter>()
        .rollback::<Bullet>()
        .rollback_resource::<Score>()
        .init_resource::<Score>()
        .rollback_ignore::<Log>()
        .insert_resource(Log { random: seed, ..Log::default() })
        .add_systems(ReadInputs, read)
        .add_systems(FixedUpdate, (enter, steer, fly, note).chain())
        .add_observer(|begins: On<SimulationBegins>, mut commands: Commands| {
            commands.insert_resource(Score(vec![0; begins.players.len()]));
            for seated in &begins.players {
                let number = seated.player.0;
                commands.spawn((Rollback, At(i32::from(number) * 100), Fighter(number)));
            }
        })
        .add_observer(|_: On<SimulationBegins>, mut log: ResMut<Log>| {
            log.begun += 1;
            log.reads = 0;
        })
        .add_observer(|failed: On<SimulationFailed>, mut log: ResMut<Log>| {
            log.failed.push(failed.error.clone());
        })
        .add_observer(|resumed: On<SimulationResumed>, mut log: ResMut<Log>| {
            log.stalled += resumed.ticks;
        })
        .add_observer(|desync: On<Desync>, mut log: ResMut<Log>| log.desyncs.push(desync.clone()))
        .add_observer(|left: On<PlayersLeft>, mut log: ResMut<Log>| log.left.push(left.at))
        .add_observer(|joined: On<PlayersJoined>, mut log: ResMut<Log>| log.joined.push(joined.at))
        .add_observer(|restored: On<SimulationRestored>, mut log: ResMut<Log>| {
            log.restored.push(restored.tick);
        });
}

fn read(mut local: ResMut<LocalInputs<Pad>>, mut log: ResMut<Log>) {
    log.reads += 1;
    for (_, pad) in local.iter_mut() {
        log.random = log.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = log.random >> 40;
        *pad = Pad { x: (random % 7) as i8 - 3, fire: random.is_multiple_of(11) };
    }
}

/// Who has come into the match by this tick has a fighter.
fn enter(
    mut commands: Commands,
    inputs: Res<PlayerInputs<Pad>>,
    fighters: Query<&Fighter>,
    tick: Res<MatchTick>,
    mut score: ResMut<Score>,
) {
    let present = inputs.players().filter(|player| inputs.is_present(*player));
    for player in present.filter(|_| tick.0.is_some()) {
        if fighters.iter().all(|fighter| fighter.0 != player.0) {
            commands.spawn((Rollback, At(i32::from(player.0) * 100), Fighter(player.0)));
            let scores = score.0.len().max(player.index() + 1);
            score.0.resize(scores, 0);
        }
    }
}

fn steer(
    mut commands: Commands,
    inputs: Res<PlayerInputs<Pad>>,
    mut fighters: Query<(&RollbackId, &Fighter, &mut At)>,
) {
    let mut fighters: Vec<_> = fighters.iter_mut().collect();
    fighters.sort_by_key(|(id, ..)| **id);
    for (_, fighter, mut at) in fighters {
        let pad = inputs[Player(fighter.0)];
        at.0 += i32::from(pad.x);
        if pad.fire {
            commands.spawn((Rollback, *at, Bullet { by: fighter.0, left: 40 }));
        }
    }
}

fn fly(
    mut commands: Commands,
    mut bullets: Query<(Entity, &RollbackId, &mut Bullet, &mut At), Without<Fighter>>,
    fighters: Query<(&Fighter, &At)>,
    mut score: ResMut<Score>,
) {
    let mut bullets: Vec<_> = bullets.iter_mut().collect();
    bullets.sort_by_key(|(_, id, ..)| **id);
    for (entity, _, mut bullet, mut at) in bullets {
        at.0 += 5;
        bullet.left -= 1;
        let hit = fighters
            .iter()
            .any(|(other, there)| other.0 != bullet.by && (at.0 - there.0).abs() < 5);
        if hit {
            score.0[usize::from(bullet.by)] += 1;
        }
        if hit || bullet.left == 0 {
            commands.entity(entity).despawn_rollback();
        }
    }
}

fn note(
    all: Query<(&RollbackId, &At)>,
    score: Res<Score>,
    tick: Res<MatchTick>,
    time: Res<Time>,
    mut log: ResMut<Log>,
) {
    let Some(tick) = tick.0 else { return };
    let tick = tick.ahead_of(NetTick::ZERO) as u32;
    let each = all.iter().map(|(id, at)| i64::from(id.get()) * 1_000_003 + i64::from(at.0));
    let scores = score.0.iter().fold(7_u64, |sum, hits| sum * 31 + u64::from(*hits));
    log.sums.insert(tick, each.fold(scores, |sum, one| sum.wrapping_add((one * one) as u64)));
    log.elapsed.insert(tick, time.elapsed());
}

pub fn lobby(app: &mut App) -> Entity {
    let world = app.world_mut();
    world.query_filtered::<Entity, With<Lobby>>().single(world).expect("one lobby")
}

pub fn status(net: &mut TestNet, index: usize) -> RollbackStatus {
    let world = net.app(index).world_mut();
    world.query::<&RollbackStatus>().iter(world).next().cloned().unwrap_or_default()
}

/// Inputs wait for two ticks whatever the path, so that there is something to roll back.
pub fn plugin() -> RollbackPlugin {
    RollbackPlugin { checksum_every: 10, delay_max: 2, ..Default::default() }
}

pub fn host(net: &mut TestNet) -> usize {
    let is_host = |net: &mut TestNet, i| net.lobby(i).is_some_and(|lobby| lobby.is_host());
    (0..net.len()).find(|i| is_host(net, *i)).expect("somebody leads")
}

pub fn bad() -> Conditions {
    let ms = Duration::from_millis;
    Conditions::perfect().with_delay(ms(30)).with_queues(ms(20)).with_loss(0.05)
}

/// Several players, each with a resume file.
pub struct Game {
    pub net: TestNet,
    files: Vec<PathBuf>,
    seed: u64,
    /// Of the lobby.
    pub capacity: u8,
}

impl Game {
    /// Connected, over these paths, and in sync.
    pub fn new(name: &str, seed: u64, count: usize, conditions: &Conditions) -> Self {
        Self::with(name, seed, count, conditions, plugin())
    }

    /// The same, with these settings.
    pub fn with(
        name: &str,
        seed: u64,
        count: usize,
        conditions: &Conditions,
        settings: RollbackPlugin,
    ) -> Self {
        eprintln!("seed {seed}");
        let mut game = Self {
            net: TestNet::new(seed, 0, |_| {}),
            files: Vec::new(),
            seed,
            capacity: count as u8 + 1,
        };
        // One more, for who comes later.
        for i in 0..=count {
            let file = format!("netplay-rollback-{name}-{i}-{}", std::process::id());
            game.files.push(std::env::temp_dir().join(file));
        }
        for i in 0..count {
            game.add(i, settings);
            game.net.join(i, JoinLobby::quick(game.capacity));
        }
        let all = |net: &mut TestNet| (0..count).all(|i| net.connected(i).len() == count - 1);
        game.net.step_until(600, all);
        game.net.network.set_conditions(conditions);
        game.run(120);
        game
    }

    /// Another app, with the resume file of its place.
    pub fn add(&mut self, i: usize, plugin: RollbackPlugin) {
        self.seed += 1;
        let seed = self.seed;
        let mut plugins = NetplayPlugins::new("test");
        if let Some(file) = self.files.get(i) {
            plugins = plugins.resume_file(file);
        }
        self.net.insert(i, plugins, |app| game(app, seed, plugin));
    }

    pub fn start(&mut self) {
        let host = host(&mut self.net);
        let entity = lobby(self.net.app(host));
        self.net.app(host).world_mut().trigger(StartMatch { entity });
    }

    pub fn run(&mut self, frames: u32) {
        (0..frames).for_each(|_| self.net.step());
    }

    pub fn log(&mut self, i: usize) -> &Log {
        self.net.app(i).world().resource::<Log>()
    }

    /// A player leaves for good; those after it move up.
    pub fn remove(&mut self, i: usize) {
        self.net.remove(i);
        let file = self.files.remove(i);
        let _ = std::fs::remove_file(&file);
        self.files.push(file);
    }

    /// Kills a player's process; those after it move up. Gives what brings it back.
    pub fn kill(&mut self, i: usize) -> Vec<u8> {
        let id = self.net.id(i).expect("it has an id");
        let saved = std::fs::read(&self.files[i]).expect("there is a resume file");
        self.net.network.kill(id);
        self.net.remove(i);
        // Another one that comes in its place is somebody else.
        let _ = std::fs::remove_file(&self.files[i]);
        saved
    }

    /// Starts it again.
    pub fn start_again(&mut self, i: usize, saved: &[u8]) {
        self.add_as(i, plugin(), saved);
    }

    /// Starts it again with other settings.
    pub fn add_as(&mut self, i: usize, plugin: RollbackPlugin, saved: &[u8]) {
        std::fs::write(&self.files[i], saved).expect("the file can be written");
        self.add(i, plugin);
        self.net.join(i, JoinLobby::quick(self.capacity));
    }

    /// All apps have the same state after every tick from this one on that is final for all.
    pub fn agree_from(&mut self, first: u32) {
        let confirmed = (0..self.net.len()).map(|i| status(&mut self.net, i).confirmed);
        let last = confirmed.min().expect("somebody plays") as u32;
        assert!(last > first, "only {last} ticks are confirmed");
        let mut sums = BTreeMap::new();
        for i in 0..self.net.len() {
            for (tick, sum) in self.log(i).sums.range(first..=last) {
                assert_eq!(sums.entry(*tick).or_insert(*sum), sum, "app {i} after tick {tick}");
            }
        }
    }

    /// All apps have the same state after every tick that is final for all; the last of these is this one
    /// or a later one.
    pub fn agree(&mut self, at_least: i32) {
        let confirmed: Vec<i32> =
            (0..self.net.len()).map(|i| status(&mut self.net, i).confirmed).collect();
        let last = *confirmed.iter().min().expect("somebody plays");
        assert!(last >= at_least, "{confirmed:?}");
        let mut sums = BTreeMap::new();
        for i in 0..self.net.len() {
            let log = self.log(i);
            assert!(log.desyncs.is_empty(), "app {i}: {:?}", log.desyncs);
            for (tick, sum) in log.sums.range(..=last as u32) {
                let first = sums.entry(*tick).or_insert(*sum);
                assert_eq!(first, sum, "app {i} after tick {tick} of {last}");
            }
        }
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}
