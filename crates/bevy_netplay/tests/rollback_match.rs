//! Matches that are rolled back, in several apps at once: everybody comes to the same state, whoever is
//! killed, comes back or watches.

mod rollback_game;

use std::time::Duration;

use bevy::diagnostic::DiagnosticsStore;
use bevy::prelude::*;
use bevy_netplay::ROLLBACK_DEPTH;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::{
    AddEffects, Effects, Fired, PlayerInputs, PredictionLimited, RollbackCheck,
    RollbackCheckPlugin, RollbackPlugin,
};
use bevy_netplay::test_kit::Spent;
use rollback_game::{Game, Log, Pad, bad, lobby, plugin, status};

#[test]
fn everybody_comes_to_the_same_state_over_a_bad_path() {
    for (seed, count) in [(1, 2), (2, 4)] {
        let mut game = Game::new("bad", seed, count, &bad());
        game.start();
        game.run(900);
        game.agree(800);
        for i in 0..count {
            let status = status(&mut game.net, i);
            assert_eq!(status.players.len(), count);
            assert_eq!(status.players.iter().filter(|seated| seated.local).count(), 1);
            assert!(status.playing && status.stats.rollbacks > 100, "{status:?}");
            assert_eq!(status.stats.refused.total(), 0, "{status:?}");
            let world = game.net.app(i).world();
            let depth = world.resource::<DiagnosticsStore>().get(&ROLLBACK_DEPTH).unwrap();
            assert!(depth.values().any(|depth| *depth >= 1.0), "{depth:?}");
            let timestep = game.net.app(i).world().resource::<Time<Fixed>>().timestep();
            let log = game.log(i);
            assert!(log.sums.keys().copied().eq(0..log.sums.len() as u32), "no tick is left out");
            // Time is that of the match, the same everywhere.
            assert!(log.elapsed.iter().all(|(tick, at)| *at == timestep * (tick + 1)));
        }
    }
}

#[test]
fn inputs_are_read_once_for_each_tick() {
    let mut game = Game::new("reads", 3, 2, &bad());
    game.start();
    game.run(300);
    for i in 0..2 {
        let ticks = status(&mut game.net, i).tick + 1;
        assert_eq!(game.log(i).reads as i32, ticks);
    }
}

/// A shot that is told once it is final: who fired it.
#[derive(Clone, Debug, PartialEq)]
struct Shot(u8);

/// The shots that were told, by their ticks.
#[derive(Resource, Default)]
struct Shots(Vec<(i32, u8)>);

#[test]
fn what_is_told_when_it_is_final_is_told_alike_even_in_frames_without_a_tick() {
    let settings = RollbackPlugin { delay: 0, delay_max: 0, ..plugin() };
    let mut game = Game::with("final", 17, 2, &bad(), settings);
    for i in 0..2 {
        let app = game.net.app(i);
        // Two of three frames have none.
        app.insert_resource(Time::<Fixed>::from_hz(20.0)).init_resource::<Shots>();
        app.add_effects::<Shot>().add_systems(
            FixedUpdate,
            |inputs: Res<PlayerInputs<Pad>>, mut shots: ResMut<Effects<Shot>>| {
                let fires = inputs.players().filter(|player| inputs[*player].fire);
                fires.for_each(|player| shots.fire_final(Shot(player.0)));
            },
        );
        app.add_systems(
            Update,
            |mut fired: MessageReader<Fired<Shot>>, mut shots: ResMut<Shots>| {
                shots.0.extend(fired.read().map(|fired| (fired.tick, fired.effect.0)));
            },
        );
    }
    game.start();
    game.run(1500);
    game.agree(400);
    let told = [0, 1].map(|i| {
        let shots = &game.net.app(i).world().resource::<Shots>().0;
        shots.iter().copied().filter(|(tick, _)| *tick < 400).collect::<Vec<_>>()
    });
    assert!(told[0].len() > 40, "{told:?}");
    assert_eq!(told[0], told[1]);
}

#[test]
fn inputs_wait_as_long_as_keeps_them_in_time_for_all_alike() {
    let ms = Duration::from_millis;
    let path = Conditions::perfect().with_delay(ms(50)).with_queues(ms(5));
    let settings = RollbackPlugin { delay_max: 6, prediction: 24, ..plugin() };
    let mut game = Game::with("delay", 15, 2, &path, settings);
    game.start();
    game.run(600);
    let delays = |game: &mut Game| [0, 1].map(|i| status(&mut game.net, i).delay);
    let [ours, theirs] = delays(&mut game);
    assert!(
        ours == theirs && (4..=5).contains(&ours),
        "{ours} and {theirs} ticks, of 50 ms and a frame"
    );
    let before = status(&mut game.net, 0).stats.rollbacks;
    game.run(300);
    let more = status(&mut game.net, 0).stats.rollbacks - before;
    assert!(more <= 10, "{more} rollbacks in 300 ticks");
    // Who comes back uses it too.
    let guest = 1 - rollback_game::host(&mut game.net);
    let saved = game.kill(guest);
    game.run(120);
    game.add_as(guest, settings, &saved);
    game.net.step_until(240, |net| status(net, guest).playing);
    game.run(120);
    assert_eq!(delays(&mut game), [ours, ours]);
    game.agree(900);
}

/// What a tick takes on this machine.
#[derive(Resource, Clone, Copy)]
struct Burden(Duration);

/// The limits that were told.
#[derive(Resource, Clone, Debug, Default)]
struct Limits(Vec<u8>);

#[test]
fn a_machine_that_is_too_slow_predicts_less_and_says_so_and_nobody_waits_for_it() {
    let ms = Duration::from_millis;
    let mut game = Game::new("slow", 16, 2, &Conditions::perfect().with_delay(ms(60)));
    game.net
        .app(1)
        .insert_resource(Burden(ms(6)))
        .init_resource::<Limits>()
        .add_systems(FixedUpdate, |burden: Res<Burden>, mut spent: ResMut<Spent>| {
            spent.0 += burden.0;
        })
        .add_observer(|limited: On<PredictionLimited>, mut limits: ResMut<Limits>| {
            limits.0.push(limited.prediction);
        });
    game.start();
    game.run(330);
    let slow = status(&mut game.net, 1);
    assert!(slow.prediction <= 2, "a rollback of more takes longer than a frame: {slow:?}");
    assert_eq!(status(&mut game.net, 0).prediction, 8);
    assert!(slow.confirmed > 250, "the ticks go on: {slow:?}");
    let stalled = game.log(0).stalled;
    game.run(120);
    assert_eq!(game.log(0).stalled, stalled, "the other one does not wait");
    game.net.app(1).insert_resource(Burden(ms(0)));
    game.run(600);
    let limits = game.net.app(1).world().resource::<Limits>().0.clone();
    assert!(limits[0] < 8 && limits.ends_with(&[6, 7, 8]), "{limits:?}");
    assert_eq!(status(&mut game.net, 1).prediction, 8);
    game.agree(900);
}

#[test]
fn a_player_that_is_killed_is_left_out_at_once_and_comes_back_with_the_state_of_the_others() {
    let mut game = Game::new("killed", 4, 3, &bad());
    game.start();
    game.run(300);
    let saved = game.kill(1);
    game.run(60);
    let left = game.log(0).left.clone();
    assert_eq!(left.len(), 1, "all agree on it in less than a second");
    game.run(120);
    game.start_again(1, &saved);
    game.net.step_until(240, |net| status(net, 1).playing);
    game.run(300);
    game.agree(700);
    for i in [0, 2] {
        let log = game.log(i);
        assert_eq!((log.left.clone(), log.joined.len()), (left.clone(), 1), "app {i}");
        eprintln!("app {i} waited for {} ticks", log.stalled);
        assert!(log.stalled <= 20, "app {i} waited for {} ticks", log.stalled);
    }
    let log = game.log(1);
    assert_eq!((log.restored.len(), log.begun), (1, 0));
}

#[test]
fn with_four_tenths_of_a_second_of_prediction_nobody_waits_for_who_is_killed() {
    for seed in 20..24 {
        let settings = RollbackPlugin { prediction: 24, ..plugin() };
        let mut game = Game::with("patient", seed, 4, &bad(), settings);
        game.start();
        game.run(300);
        let before = [0, 2, 3].map(|i| game.log(i).stalled);
        let saved = game.kill(1);
        game.run(180);
        game.start_again(1, &saved);
        game.net.step_until(240, |net| status(net, 1).playing);
        game.run(200);
        game.agree(600);
        for (i, before) in [0, 2, 3].into_iter().zip(before) {
            let waited = game.log(i).stalled - before;
            assert!(waited <= 1, "app {i} waited for {waited} ticks, seed {seed}");
        }
    }
}

#[test]
fn of_two_players_either_may_be_killed_and_come_back() {
    for (seed, killed) in [(5, 0), (6, 1)] {
        let mut game = Game::new("two", seed, 2, &bad());
        game.start();
        game.run(300);
        let saved = game.kill(killed);
        game.run(120);
        assert_eq!(game.log(0).left.len(), 1, "who is left goes on, host or not");
        game.start_again(killed, &saved);
        game.net.step_until(240, |net| status(net, killed).playing);
        game.run(300);
        game.agree(600);
    }
}

#[test]
fn who_comes_while_others_play_watches_and_nobody_waits() {
    let mut game = Game::new("watch", 7, 2, &bad());
    game.start();
    game.run(300);
    let before = [0, 1].map(|i| game.log(i).stalled);
    game.add(2, plugin());
    game.net.join(2, JoinLobby::quick(3));
    game.net.step_until(300, |net| status(net, 2).simulated > 0);
    game.run(300);
    game.agree(500);
    let watches = status(&mut game.net, 2);
    assert!(!watches.playing && watches.players.iter().all(|seated| !seated.local));
    assert_eq!(watches.players.len(), 2);
    assert_eq!([0, 1].map(|i| game.log(i).stalled), before);
    // It goes as it came.
    game.net.remove(2);
    game.run(120);
    game.agree(700);
    assert_eq!([0, 1].map(|i| game.log(i).stalled), before);
}

#[test]
fn who_comes_while_others_play_takes_a_free_seat_and_leaves_it_to_the_next() {
    let settings = RollbackPlugin { seats: 3, prediction: 24, ..plugin() };
    let mut game = Game::with("seats", 12, 2, &bad(), settings);
    game.start();
    game.run(300);
    assert_eq!(status(&mut game.net, 0).players.len(), 2);
    let before = [0, 1].map(|i| game.log(i).stalled);
    for (joined, number) in [(1, 2), (2, 2)] {
        game.add(2, plugin());
        game.net.join(2, JoinLobby::quick(3));
        game.net.step_until(400, |net| status(net, 2).playing);
        game.run(200);
        game.agree(300);
        for i in 0..3 {
            let status = status(&mut game.net, i);
            assert_eq!(status.players.len(), 3, "app {i}");
            assert_eq!(
                status.players.iter().position(|seated| seated.local),
                Some([0, 1, number][i])
            );
        }
        assert_eq!((game.log(0).joined.len(), game.log(1).joined.len()), (joined, joined));
        assert_eq!((game.log(2).begun, game.log(2).restored.len()), (0, 1), "one state is enough");
        assert!(game.log(2).reads > 150, "it plays");
        // It leaves for good, and its seat is free again.
        game.remove(2);
        game.run(200);
        assert_eq!(game.log(0).left.len(), joined);
    }
    for (i, before) in before.into_iter().enumerate() {
        let waited = game.log(i).stalled - before;
        assert!(waited <= 4, "app {i} waited for {waited} ticks, at two joins and two leaves");
    }
}

#[test]
fn who_took_a_free_seat_is_killed_and_comes_back_to_it_also_after_the_host_has_gone() {
    let settings = RollbackPlugin { seats: 4, ..plugin() };
    let mut game = Game::with("seat", 13, 3, &bad(), settings);
    game.capacity = 4;
    game.start();
    game.run(200);
    game.add(3, plugin());
    game.net.join(3, JoinLobby::quick(4));
    game.net.step_until(400, |net| status(net, 3).playing);
    game.run(100);
    let host = rollback_game::host(&mut game.net);
    game.remove(host);
    game.run(200);
    let late = game.net.len() - 1;
    let saved = game.kill(late);
    game.run(120);
    game.start_again(late, &saved);
    game.net.step_until(400, |net| status(net, late).playing);
    game.run(200);
    game.agree(600);
    for i in 0..game.net.len() {
        let status = status(&mut game.net, i);
        assert!(status.playing && status.players.len() == 4, "{status:?}");
        assert_eq!(status.players[3].local, i == late);
    }
}

#[test]
fn who_finds_no_free_seat_watches_until_there_is_one() {
    let settings = RollbackPlugin { seats: 3, ..plugin() };
    let mut game = Game::with("full", 14, 3, &Conditions::perfect(), settings);
    game.capacity = 4;
    game.start();
    game.run(200);
    game.add(3, plugin());
    game.net.join(3, JoinLobby::quick(4));
    game.net.step_until(400, |net| status(net, 3).simulated > 0);
    game.run(100);
    assert!(!status(&mut game.net, 3).playing);
    game.remove(1);
    game.net.step_until(600, |net| status(net, 2).playing);
    game.run(200);
    game.agree(400);
    assert_eq!(status(&mut game.net, 2).players.len(), 3);
    assert_eq!(game.log(2).restored.len(), 2, "once to watch, once to play");
}

#[test]
fn the_dead_are_forgotten_also_without_checksums() {
    use bevy_netplay::rollback::Despawned;
    let settings = RollbackPlugin { checksum_every: 0, ..plugin() };
    let mut game = Game::with("dead", 18, 2, &Conditions::perfect(), settings);
    game.add(2, RollbackPlugin { local_players: 0, ..plugin() });
    game.net.join(2, JoinLobby::quick(3));
    game.net.step_until(300, |net| (0..3).all(|i| net.connected(i).len() == 2));
    game.run(60);
    game.start();
    game.run(600);
    for i in 0..3 {
        let world = game.net.app(i).world_mut();
        let dead = world.query::<&Despawned>().iter(world).count();
        assert!(dead < 20, "app {i} keeps {dead} that have died");
    }
}

/// What can be told, and not be read.
#[derive(Component, Clone, serde::Serialize)]
struct Secret(u8);

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("it is a secret"))
    }
}

#[test]
fn who_cannot_read_the_state_of_the_others_says_so_and_asks_no_more() {
    use bevy_netplay::rollback::{AddRollback as _, Rollback, RollbackError, SimulationBegins};
    let mut game = Game::new("secret", 17, 2, &Conditions::perfect());
    for i in 0..2 {
        game.net.app(i).rollback::<Secret>().add_observer(
            |_: On<SimulationBegins>, mut commands: Commands| {
                commands.spawn((Rollback, Secret(7)));
            },
        );
    }
    game.start();
    game.run(200);
    game.add(2, plugin());
    game.net.app(2).rollback::<Secret>();
    game.net.join(2, JoinLobby::quick(3));
    game.net.step_until(600, |net| !net.app(2).world().resource::<Log>().failed.is_empty());
    game.run(200);
    let failed = &game.log(2).failed;
    assert!(matches!(failed[..], [RollbackError::Snapshot(_)]), "{failed:?}");
    assert_eq!(game.log(0).stalled, 0);
}

#[test]
fn who_has_no_players_watches_from_the_start() {
    let mut game = Game::new("nobody", 8, 2, &bad());
    game.add(2, RollbackPlugin { local_players: 0, ..plugin() });
    game.net.join(2, JoinLobby::quick(3));
    game.net.step_until(300, |net| (0..3).all(|i| net.connected(i).len() == 2));
    game.run(60);
    game.start();
    game.run(400);
    game.agree(300);
    let watches = status(&mut game.net, 2);
    assert!(!watches.playing && watches.players.len() == 2);
    assert_eq!((game.log(2).begun, game.log(2).restored.len()), (1, 0));
}

#[test]
fn a_second_match_begins_anew() {
    let mut game = Game::new("second", 9, 2, &Conditions::perfect());
    for _ in 0..2 {
        game.start();
        game.run(200);
        game.agree(100);
        for i in 0..2 {
            let entity = lobby(game.net.app(i));
            game.net.app(i).world_mut().trigger(EndMatch { entity });
        }
        game.run(60);
        for i in 0..2 {
            assert_eq!(status(&mut game.net, i).players, [], "the status goes with the match");
            let mut log = game.net.app(i).world_mut().resource_mut::<Log>();
            assert!(!log.sums.is_empty());
            log.sums.clear();
        }
    }
    assert_eq!(game.log(0).begun, 2);
}

#[test]
fn check_mode_leaves_a_match_alone_and_goes_on_after_it() {
    let mut game = Game::new("check", 11, 2, &Conditions::perfect());
    for i in 0..2 {
        RollbackCheckPlugin { seed: 11 }.build(game.net.app(i));
    }
    let check =
        |game: &mut Game, i: usize| game.net.app(i).world().resource::<RollbackCheck>().clone();
    game.run(30);
    assert!(check(&mut game, 0).resimulated > 0);
    game.start();
    game.run(150);
    let resimulated = check(&mut game, 0).resimulated;
    game.run(150);
    assert_eq!(check(&mut game, 0).resimulated, resimulated);
    game.agree(200);
    for i in 0..2 {
        let entity = lobby(game.net.app(i));
        game.net.app(i).world_mut().trigger(EndMatch { entity });
    }
    game.run(200);
    for i in 0..2 {
        check(&mut game, i).assert_same();
        assert!(check(&mut game, i).resimulated > resimulated + 200);
    }
}

#[test]
fn games_that_roll_back_other_things_do_not_play_with_each_other() {
    #[derive(Component, Clone, serde::Serialize, serde::Deserialize)]
    struct Other;

    use bevy_netplay::rollback::{AddRollback as _, RollbackError};
    let mut game = Game::new("other", 10, 2, &Conditions::perfect());
    let host = rollback_game::host(&mut game.net);
    game.net.app(1 - host).rollback::<Other>();
    game.start();
    game.run(120);
    assert_eq!(game.log(1 - host).failed, [RollbackError::Types]);
}
