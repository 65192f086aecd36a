//! Matches that are recorded, and played again: the same, or it is told where not.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod rollback_game;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, RecordMatches, RecordingEnded, RecordingEnding, RecordingFailed, Replay,
    ReplayDiffers, ReplayEnded, ReplayError, ReplayFailed, ReplayStatus, Resimulating,
};
use bevy_netplay::test_kit::TestNet;
use netplay_rollback::recording::Recording;
use rollback_game::{At, Game, Log, bad, game, host, lobby, plugin, status};

/// Ticks between two states that are recorded in these tests, nearly: two seconds of 64 Hz.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(2);

/// What an app has recorded: its files, and what it was told of them.
#[derive(Resource, Clone, Default)]
struct Tapes {
    files: Arc<Mutex<Vec<Vec<u8>>>>,
    ended: Arc<Mutex<Vec<RecordingEnded>>>,
}

impl Tapes {
    fn file(&self, index: usize) -> Vec<u8> {
        self.files.lock().unwrap()[index].clone()
    }

    fn count(&self) -> usize {
        self.files.lock().unwrap().len()
    }

    fn ended(&self) -> Vec<RecordingEnded> {
        self.ended.lock().unwrap().clone()
    }
}

/// A file in memory that takes so many bytes.
struct Tape {
    files: Arc<Mutex<Vec<Vec<u8>>>>,
    index: usize,
    room: usize,
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        self.files.lock().unwrap()[self.index].extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record_within(app: &mut App, room: usize) -> Tapes {
    let tapes = Tapes::default();
    let (files, ended) = (tapes.files.clone(), tapes.ended.clone());
    let record = RecordMatches::new(move |header| {
        header.note = "a test".into();
        let mut all = files.lock().unwrap();
        all.push(Vec::new());
        Ok(Box::new(Tape { files: files.clone(), index: all.len() - 1, room }))
    });
    app.insert_resource(record.snapshot_every(SNAPSHOT_EVERY));
    app.add_observer(move |event: On<RecordingEnded>| {
        ended.lock().unwrap().push(event.event().clone());
    });
    tapes
}

fn record(app: &mut App) -> Tapes {
    record_within(app, usize::MAX)
}

fn end_match(game: &mut Game, index: usize) {
    let entity = lobby(game.net.app(index));
    game.net.app(index).world_mut().trigger(EndMatch { entity });
}

/// A match of two over a bad path, recorded by the first; and the file.
fn recorded_match(name: &str, seed: u64, frames: u32) -> (Game, Vec<u8>) {
    let mut game = Game::new(name, seed, 2, &bad());
    let tapes = record(game.net.app(0));
    game.start();
    game.run(frames);
    game.agree(frames as i32 - 100);
    end_match(&mut game, 0);
    game.run(2);
    (game, tapes.file(0))
}

/// What a replay has told.
#[derive(Resource, Default)]
struct Told {
    differs: Vec<i32>,
    ended: Vec<(i32, RecordingEnding)>,
    failed: Vec<ReplayError>,
}

fn listen(app: &mut App) {
    app.init_resource::<Told>()
        .add_observer(|event: On<ReplayDiffers>, mut told: ResMut<Told>| {
            told.differs.push(event.difference.tick);
        })
        .add_observer(|event: On<ReplayEnded>, mut told: ResMut<Told>| {
            told.ended.push((event.tick, event.ending));
        })
        .add_observer(|event: On<ReplayFailed>, mut told: ResMut<Told>| {
            told.failed.push(event.error.clone());
        })
        .add_systems(FixedUpdate, |again: Res<Resimulating>| assert!(!again.0));
}

/// An app that plays a recording.
struct Player {
    net: TestNet,
    entity: Entity,
}

impl Player {
    fn with(plugins: NetplayPlugins, replay: Replay, change: impl FnOnce(&mut App)) -> Self {
        let mut net = TestNet::new(1, 0, |_| {});
        net.insert(0, plugins, |app| {
            game(app, 1, plugin());
            listen(app);
            change(app);
        });
        let entity = net.app(0).world_mut().spawn(replay).id();
        Self { net, entity }
    }

    /// As fast as it can.
    fn new(file: &[u8]) -> Self {
        let mut replay = Replay::open(file).expect("a recording");
        replay.speed = f32::INFINITY;
        Self::with(NetplayPlugins::new("test"), replay, |_| {})
    }

    fn status(&mut self) -> ReplayStatus {
        self.net.app(0).world().get::<ReplayStatus>(self.entity).cloned().expect("a replay")
    }

    fn replay(&mut self) -> Mut<'_, Replay> {
        self.net.app(0).world_mut().get_mut::<Replay>(self.entity).expect("a replay")
    }

    fn plays_on(&mut self) -> ReplayStatus {
        let entity = self.entity;
        let ended = |net: &mut TestNet| {
            net.app(0).world().get::<ReplayStatus>(entity).is_some_and(|status| status.ended)
        };
        self.net.step_until(200, ended);
        self.status()
    }

    fn told(&mut self) -> &Told {
        self.net.app(0).world().resource::<Told>()
    }

    fn log(&mut self) -> &Log {
        self.net.app(0).world().resource::<Log>()
    }
}

/// All ticks of the replay came to the state to which they came in the match; up to this one, that is what
/// is final.
fn assert_same(player: &mut Player, game: &mut Game, index: usize, last: i32) {
    let status = player.status();
    let played = player.log();
    let ticks = status.first as u32..status.end as u32;
    assert!(played.sums.keys().copied().eq(ticks.clone()), "no tick is left out");
    assert!(status.end > last && last > status.first + 100, "{last}: {status:?}");
    let log = game.log(index);
    for tick in ticks.start..=last as u32 {
        assert_eq!(played.sums[&tick], log.sums[&tick], "after tick {tick}");
        assert_eq!(played.elapsed[&tick], log.elapsed[&tick], "in tick {tick}");
    }
}

#[test]
fn a_match_that_was_recorded_is_played_again_the_same() {
    for seed in [31, 32] {
        let mut game = Game::new("record", seed, 2, &bad());
        let tapes = [0, 1].map(|i| record(game.net.app(i)));
        game.start();
        game.run(900);
        game.agree(800);
        let last = [0, 1].map(|i| {
            let status = status(&mut game.net, i);
            assert!(status.stats.rollbacks > 100, "{status:?}");
            end_match(&mut game, i);
            status.confirmed
        });
        game.run(2);
        for (i, tapes) in tapes.iter().enumerate() {
            let [ended] = &tapes.ended()[..] else { panic!("{:?}", tapes.ended()) };
            assert!(ended.ticks.start == 0 && ended.error.is_none(), "{ended:?}");
            let (end, file) = (ended.ticks.end, tapes.file(0));
            assert_eq!(ended.bytes, file.len() as u64);
            let recording = Recording::read(&file).expect("a recording");
            assert_eq!(recording.ending(), RecordingEnding::Finished);
            assert_eq!(recording.header().note, "a test");
            let states: Vec<i32> = recording.snapshots().map(|state| state.tick).collect();
            eprintln!("{} bytes, states before ticks {states:?}", file.len());
            assert!(states[0] == 0 && states.len() >= 6, "{states:?}");

            let mut player = Player::new(&file);
            let status = player.plays_on();
            assert_eq!((status.tick, status.difference), (end, None));
            assert!(status.verified as i32 >= last[i] / 10, "{status:?}");
            assert_eq!(status.players.len(), 2);
            assert_same(&mut player, &mut game, i, last[i]);
            assert_eq!(player.told().ended, [(end, RecordingEnding::Finished)]);
            assert_eq!((player.log().reads, player.log().begun), (0, 0));
            assert_eq!(player.log().restored, [0]);
        }
    }
}

#[test]
fn recording_changes_nothing_in_the_match() {
    let run = |records: bool| {
        let mut game = Game::new(&format!("same-{records}"), 33, 2, &bad());
        if records {
            record(game.net.app(0));
        }
        game.start();
        game.run(600);
        game.agree(500);
        let last = status(&mut game.net, 0).confirmed as u32;
        let sums = game.log(0).sums.range(..=last).map(|(tick, sum)| (*tick, *sum)).collect();
        let again: Vec<_> = game.log(0).elapsed.values().copied().collect();
        (sums, again, status(&mut game.net, 0).stats)
    };
    let (plain, recorded): ((Vec<_>, _, _), _) = (run(false), run(true));
    assert_eq!(plain, recorded);
}

#[test]
fn who_is_restored_late_records_from_there() {
    let mut game = Game::new("record-late", 34, 3, &bad());
    let first = record(game.net.app(1));
    game.start();
    game.run(300);
    let saved = game.kill(1);
    game.run(120);
    game.start_again(1, &saved);
    let tapes = record(game.net.app(1));
    game.net.step_until(240, |net| status(net, 1).playing);
    game.run(400);
    game.agree(700);
    let last = status(&mut game.net, 1).confirmed;
    end_match(&mut game, 1);
    game.run(2);
    let from = game.log(1).restored.clone();
    let [ended] = &tapes.ended()[..] else { panic!("{:?}", tapes.ended()) };
    assert_eq!((ended.ticks.start, from.len()), (from[0], 1));
    let mut player = Player::new(&tapes.file(0));
    let status = player.plays_on();
    assert_eq!((status.first, status.tick, status.difference), (from[0], ended.ticks.end, None));
    assert!(status.verified > 30, "{status:?}");
    assert_same(&mut player, &mut game, 1, last);
    // What was written before the kill was cut, and can be played.
    let mut player = Player::new(&first.file(0));
    let status = player.plays_on();
    assert!(status.tick > 100 && status.verified > 9, "{status:?}");
    assert!(matches!(status.ending, Some(RecordingEnding::Cut { .. })), "{status:?}");
    assert_eq!(status.difference, None);
}

#[test]
fn who_watches_records_the_same() {
    let mut game = Game::new("record-watch", 35, 2, &bad());
    game.start();
    game.run(200);
    game.add(2, plugin());
    let tapes = record(game.net.app(2));
    game.net.join(2, JoinLobby::quick(3));
    game.net.step_until(300, |net| status(net, 2).simulated > 0);
    game.run(400);
    let entity = lobby(game.net.app(2));
    game.net.app(2).world_mut().despawn(entity);
    game.run(2);
    let [ended] = &tapes.ended()[..] else { panic!("{:?}", tapes.ended()) };
    assert!(ended.error.is_none() && ended.ticks.len() > 300, "{ended:?}");
    let mut player = Player::new(&tapes.file(0));
    assert_eq!(player.plays_on().difference, None);
    assert_same(&mut player, &mut game, 0, ended.ticks.end - 1);
}

#[test]
fn each_match_is_a_recording_of_its_own() {
    let mut game = Game::new("record-two", 36, 2, &Conditions::perfect());
    let host = host(&mut game.net);
    let tapes = record(game.net.app(host));
    for number in 1..=2 {
        game.start();
        game.run(200);
        for i in 0..2 {
            end_match(&mut game, i);
        }
        game.run(60);
        assert_eq!((tapes.count(), tapes.ended().len()), (number, number));
    }
    for number in 0..2 {
        let status = Player::new(&tapes.file(number)).plays_on();
        assert!(status.tick > 100 && status.difference.is_none(), "{status:?}");
    }
}

#[test]
fn a_recording_is_complete_when_the_game_ends() {
    let mut game = Game::new("record-exit", 37, 2, &bad());
    let tapes = record(game.net.app(0));
    game.start();
    game.run(200);
    game.net.app(0).world_mut().write_message(AppExit::Success);
    game.run(1);
    assert_eq!(tapes.ended().len(), 1);
    let file = tapes.file(0);
    let recording = Recording::read(&file).expect("a recording");
    assert_eq!(recording.ending(), RecordingEnding::Finished);
}

#[test]
fn what_cannot_be_written_ends_the_recording_and_not_the_match() {
    let mut game = Game::new("record-full", 38, 2, &bad());
    let tapes = record_within(game.net.app(0), 1_500);
    game.net.app(1).insert_resource(RecordMatches::new(|_| Err(io::ErrorKind::NotFound.into())));
    let refused = Arc::new(Mutex::new(Vec::new()));
    let seen = refused.clone();
    game.net.app(1).add_observer(move |event: On<RecordingEnded>| {
        seen.lock().unwrap().push(event.error.clone());
    });
    game.start();
    game.run(600);
    game.agree(500);
    let [ended] = &tapes.ended()[..] else { panic!("{:?}", tapes.ended()) };
    let is = |error: &Option<RecordingFailed>, expected: io::ErrorKind| matches!(error, Some(RecordingFailed::Write { kind, .. }) if *kind == expected);
    assert!(is(&ended.error, io::ErrorKind::StorageFull), "{ended:?}");
    let refused = refused.lock().unwrap();
    assert!(refused.len() == 1 && is(&refused[0], io::ErrorKind::NotFound), "{refused:?}");
    let status = Player::new(&tapes.file(0)).plays_on();
    assert!(status.tick > 0 && status.difference.is_none(), "{status:?}");
}

#[test]
fn going_to_a_tick_comes_to_the_state_of_the_straight_run() {
    let (mut game, file) = recorded_match("seek", 39, 800);
    let mut player = Player::new(&file);
    player.replay().paused = true;
    player.replay().ticks_per_frame = 10;
    player.net.step();
    let end = player.status().end;
    for target in [300, 301, 290, 650, 640, 7, 0, 129, 690, 500] {
        player.net.app(0).world_mut().resource_mut::<Log>().sums.clear();
        player.replay().seek(target);
        let mut frames = 0;
        loop {
            let before = player.log().sums.len();
            player.net.step();
            frames += 1;
            assert!(player.log().sums.len() - before <= 10, "at most so many in a frame");
            let status = player.status();
            if status.seeking.is_none() {
                assert_eq!(status.tick, target);
                break;
            }
            assert!(status.seeking == Some(target) && frames < 30, "{status:?}");
        }
        eprintln!("to {target}: {frames} frames, {} ticks", player.log().sums.len());
        // Two seconds and what one player is late at most, from a state or from where it was.
        assert!(player.log().sums.len() <= 160, "it begins with a state that is near");
        player.replay().seek(target + 1);
        player.net.step();
        let (played, log) = (player.log(), game.log(0));
        assert!(played.sums.contains_key(&(target as u32)));
        for (tick, sum) in &played.sums {
            assert_eq!(*sum, log.sums[tick], "after tick {tick}, on the way to {target}");
        }
    }
    player.replay().seek(i32::MAX);
    let status = player.plays_on();
    assert_eq!((status.tick, status.difference), (end, None));
    // From the end it can be played again.
    player.replay().paused = false;
    player.replay().seek(i32::MIN);
    player.net.step();
    assert!(!player.status().ended);
    player.plays_on();
    assert_eq!(player.told().ended.len(), 2);
}

#[test]
fn a_replay_runs_at_the_speed_of_the_match_or_another() {
    let (_, file) = recorded_match("speed", 40, 500);
    let mut player = Player::new(&file);
    player.replay().speed = 1.0;
    (0..2).for_each(|_| player.net.step());
    let ticks = |player: &mut Player, frames: u32| {
        let before = player.status().tick;
        (0..frames).for_each(|_| player.net.step());
        player.status().tick - before
    };
    // 64 ticks a second, 60 frames a second.
    assert!((63..=65).contains(&ticks(&mut player, 60)));
    player.replay().speed = 0.5;
    assert!((31..=33).contains(&ticks(&mut player, 60)));
    let fraction = player.net.app(0).world().resource::<Time<Fixed>>().overstep_fraction();
    assert!((0.0..1.0).contains(&fraction), "{fraction}");
    player.replay().speed = 4.0;
    assert!((62..=66).contains(&ticks(&mut player, 15)));
    player.replay().ticks_per_frame = 2;
    assert_eq!(ticks(&mut player, 10), 20);
    player.replay().paused = true;
    assert_eq!(ticks(&mut player, 10), 0);
    assert!(player.status().paused);
    for speed in [0.0, -3.0, f32::NAN] {
        (player.replay().paused, player.replay().speed) = (false, speed);
        assert_eq!(ticks(&mut player, 5), 0);
    }
    // Time goes on for what is drawn.
    let elapsed = player.net.app(0).world().resource::<Time>().elapsed();
    player.net.step();
    assert!(player.net.app(0).world().resource::<Time>().elapsed() > elapsed);
}

#[test]
fn a_simulation_that_was_changed_is_found_with_the_tick() {
    let (_, file) = recorded_match("changed", 41, 500);
    let mut replay = Replay::open(file).expect("a recording");
    replay.speed = f32::INFINITY;
    let mut player = Player::with(NetplayPlugins::new("test"), replay, |app| {
        app.add_systems(FixedUpdate, |tick: Res<MatchTick>, mut all: Query<&mut At>| {
            if tick.0 == Some(NetTick::ZERO.plus(195)) {
                all.iter_mut().for_each(|mut at| at.0 += 1);
            }
        });
    });
    let status = player.plays_on();
    let difference = status.difference.expect("it is found");
    assert_eq!((difference.tick, difference.equal), (200, Some(190)));
    assert_eq!(player.told().differs, [200], "once");
    assert_ne!(difference.computed, difference.recorded);
    assert_eq!(status.tick, status.end, "it goes on");
}

#[test]
fn what_is_not_a_recording_of_this_game_is_refused() {
    #[derive(Component, Clone, serde::Serialize, serde::Deserialize)]
    struct Other;

    let (_, file) = recorded_match("other", 42, 300);
    let failed = |plugins: NetplayPlugins, any_build: bool, change: fn(&mut App)| {
        let mut replay = Replay::open(&*file).expect("a recording");
        replay.any_build = any_build;
        let mut player = Player::with(plugins, replay, change);
        (0..3).for_each(|_| player.net.step());
        assert!(player.log().sums.is_empty() || player.told().failed.is_empty());
        player.net.app(0).world_mut().resource_mut::<Told>().failed.pop()
    };
    let test = || NetplayPlugins::new("test");
    let names = |ours: &str, recorded: &str| (ours.to_owned(), recorded.to_owned());
    let (ours, recorded) = names("chess", "test");
    let game = failed(NetplayPlugins::new("chess"), true, |_| {});
    assert_eq!(game, Some(ReplayError::Game { ours, recorded }));
    let (ours, recorded) = names("2", "0");
    let build = failed(test().build_id("2"), false, |_| {});
    assert_eq!(build, Some(ReplayError::Build { ours, recorded }));
    assert_eq!(failed(test().build_id("2"), true, |_| {}), None);
    let types = failed(test(), false, |app| {
        app.rollback::<Other>();
    });
    assert_eq!(types, Some(ReplayError::Types));
    let rate = failed(test(), false, |app| {
        app.insert_resource(Time::<Fixed>::from_hz(30.0));
    });
    assert_eq!(rate, Some(ReplayError::Rate { ours: 30, recorded: 64 }));
    assert_eq!(failed(test(), false, |_| {}), None);
    assert!(Replay::open(&b"no recording"[..]).is_err());
}

#[test]
fn a_file_that_was_cut_or_damaged_is_played_up_to_there() {
    let (_, file) = recorded_match("cut", 43, 500);
    let whole = Recording::read(&file).expect("a recording").end_tick();
    for len in [file.len() / 3, file.len() / 2, file.len() - 1] {
        let end = Recording::read(&file[..len]).expect("a recording").end_tick();
        let mut player = Player::new(&file[..len]);
        let status = player.plays_on();
        assert_eq!((status.tick, status.difference), (end, None), "cut to {len}");
        assert!(end <= whole && matches!(status.ending, Some(RecordingEnding::Cut { .. })));
        let mut damaged = file.clone();
        damaged[len - 20] ^= 1;
        let mut player = Player::new(&damaged);
        let status = player.plays_on();
        assert!(status.tick <= whole && status.difference.is_none(), "{status:?}");
        assert!(matches!(status.ending, Some(RecordingEnding::Damaged { .. })), "{status:?}");
    }
    // Cut before its first state.
    let header = (0..file.len()).find(|len| Replay::open(&file[..*len]).is_ok());
    let mut player = Player::new(&file[..header.expect("somewhere the header is whole")]);
    player.net.step();
    assert_eq!(player.told().failed, [ReplayError::NoState]);
}

#[test]
fn a_match_that_begins_ends_a_replay_and_only_one_is_played() {
    let (_, file) = recorded_match("before", 44, 300);
    let mut game = Game::new("after", 45, 2, &Conditions::perfect());
    listen(game.net.app(0));
    let spawn = |game: &mut Game| {
        let replay = Replay::open(&*file).expect("a recording");
        game.net.app(0).world_mut().spawn(replay).id()
    };
    spawn(&mut game);
    game.run(60);
    let ticks = game.log(0).sums.len();
    assert!((60..70).contains(&ticks), "{ticks} ticks");
    let second = spawn(&mut game);
    game.run(2);
    let failed = |game: &mut Game| game.net.app(0).world().resource::<Told>().failed.clone();
    assert_eq!(failed(&mut game), [ReplayError::Busy]);
    game.net.app(0).world_mut().despawn(second);
    game.net.app(0).world_mut().resource_mut::<Log>().sums.clear();
    game.start();
    game.net.step_until(60, |net| net.app(0).world().resource::<Told>().failed.len() == 2);
    game.net.app(0).world_mut().resource_mut::<Log>().sums.clear();
    game.run(400);
    game.agree(250);
}

#[test]
fn a_replay_that_is_despawned_is_over() {
    let (_, file) = recorded_match("despawn", 46, 300);
    let mut player = Player::new(&file);
    player.replay().speed = 1.0;
    (0..30).for_each(|_| player.net.step());
    assert!(player.net.app(0).world().resource::<MatchTick>().0.is_some());
    let entity = player.entity;
    player.net.app(0).world_mut().despawn(entity);
    player.net.step();
    assert_eq!(player.net.app(0).world().resource::<MatchTick>().0, None);
    // Another one begins.
    let replay = Replay::open(file).expect("a recording");
    player.entity = player.net.app(0).world_mut().spawn(replay).id();
    (0..30).for_each(|_| player.net.step());
    assert!(player.status().tick > 20 && player.told().failed.is_empty());
}
