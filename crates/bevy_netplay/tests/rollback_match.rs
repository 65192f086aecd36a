//! Matches that are rolled back, in several apps at once: everybody comes to the same state.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, AddRollbackInput, DespawnRollback, Desync, LocalInputs, Player, PlayerInputs,
    PlayersJoined, PlayersLeft, ReadInputs, Rollback, RollbackId, RollbackPlugin, RollbackStatus,
    SimulationBegins, SimulationRestored,
};
use bevy_netplay::test_kit::TestNet;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pad {
    x: i8,
    fire: bool,
}

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct At(i32);

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Fighter(u8);

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bullet {
    by: u8,
    left: u8,
}

/// What each player did so far: hits, and a note of it that grows.
#[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Score(Vec<u32>);

/// What one app saw.
#[derive(Resource, Default)]
struct Log {
    /// Of each tick as it was last run: a sum of the state after it.
    sums: BTreeMap<u32, u64>,
    elapsed: BTreeMap<u32, Duration>,
    desyncs: u32,
    left: Vec<i32>,
    joined: Vec<i32>,
    restored: Vec<i32>,
    random: u64,
    reads: u32,
}

fn game(app: &mut App, seed: u64, plugin: RollbackPlugin) {
    app.add_plugins(plugin)
        .add_rollback_input::<Pad>()
        .rollback::<At>()
        .rollback::<Fighter>()
        .rollback::<Bullet>()
        .rollback_resource::<Score>()
        .init_resource::<Score>()
        .insert_resource(Log { random: seed, ..Log::default() })
        .add_systems(ReadInputs, read)
        .add_systems(FixedUpdate, (steer, fly, note).chain())
        .add_observer(|begins: On<SimulationBegins>, mut commands: Commands| {
            commands.insert_resource(Score(vec![0; begins.players.len()]));
            for seated in &begins.players {
                let number = seated.player.0;
                commands.spawn((Rollback, At(i32::from(number) * 100), Fighter(number)));
            }
        })
        .add_observer(|_: On<Desync>, mut log: ResMut<Log>| log.desyncs += 1)
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
        *pad = Pad { x: (random % 7) as i8 - 3, fire: random % 11 == 0 };
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

fn lobby(app: &mut App) -> Entity {
    let world = app.world_mut();
    world.query_filtered::<Entity, With<Lobby>>().single(world).expect("one lobby")
}

fn status(net: &mut TestNet, index: usize) -> RollbackStatus {
    let entity = lobby(net.app(index));
    net.app(index).world().get::<RollbackStatus>(entity).cloned().unwrap_or_default()
}

fn plugin() -> RollbackPlugin {
    RollbackPlugin { checksum_every: 10, ..Default::default() }
}

fn connected(seed: u64, count: usize, conditions: &Conditions) -> TestNet {
    println!("seed {seed}");
    let mut number = seed;
    let mut net = TestNet::new(seed, count, |app| {
        number += 1;
        game(app, number, plugin());
    });
    net.connect_all();
    net.network.set_conditions(conditions);
    (0..120).for_each(|_| net.step());
    net
}

fn host(net: &mut TestNet) -> usize {
    let is_host = |net: &mut TestNet, i| net.lobby(i).is_some_and(|lobby| lobby.is_host());
    (0..net.len()).find(|i| is_host(net, *i)).expect("somebody leads")
}

fn start(net: &mut TestNet) {
    let host = host(net);
    let entity = lobby(net.app(host));
    net.app(host).world_mut().trigger(StartMatch { entity });
}

fn bad() -> Conditions {
    let ms = Duration::from_millis;
    Conditions::perfect().with_delay(ms(30)).with_queues(ms(20)).with_loss(0.05)
}

/// All apps have the same state after every tick that is final for all, from the first to this one on.
fn agree(net: &mut TestNet, at_least: i32) {
    let confirmed: Vec<i32> = (0..net.len()).map(|i| status(net, i).confirmed).collect();
    let last = *confirmed.iter().min().expect("somebody plays");
    assert!(last >= at_least, "{confirmed:?}");
    let sums: Vec<_> = (0..net.len())
        .map(|i| {
            let log = net.app(i).world().resource::<Log>();
            assert_eq!(log.desyncs, 0, "app {i}");
            log.sums.clone()
        })
        .collect();
    for (i, others) in sums.iter().enumerate().skip(1) {
        for (tick, sum) in others.iter().filter(|(tick, _)| **tick as i32 <= last) {
            if let Some(first) = sums[0].get(tick) {
                assert_eq!(sum, first, "app {i} after tick {tick} of {last}");
            }
        }
    }
}

#[test]
fn everybody_comes_to_the_same_state_over_a_bad_path() {
    for (seed, count) in [(1, 2), (2, 4)] {
        let mut net = connected(seed, count, &bad());
        start(&mut net);
        (0..900).for_each(|_| net.step());
        agree(&mut net, 800);
        for i in 0..count {
            let status = status(&mut net, i);
            assert_eq!(status.players.len(), count);
            assert_eq!(status.players.iter().filter(|seated| seated.local).count(), 1);
            assert!(status.playing && status.stats.rollbacks > 100, "{status:?}");
            assert_eq!(status.stats.refused.total(), 0, "{status:?}");
            let timestep = net.app(i).world().resource::<Time<Fixed>>().timestep();
            let log = net.app(i).world().resource::<Log>();
            assert!(log.sums.keys().copied().eq(0..log.sums.len() as u32), "no tick is left out");
            // Time is that of the match, the same everywhere.
            assert!(log.elapsed.iter().all(|(tick, at)| *at == timestep * (tick + 1)));
        }
    }
}
