//! A match in several apps at once: tick 0 at one instant, then the same tick everywhere.

use std::time::Duration;

use bevy_app::{App, FixedUpdate, Update};
use bevy_ecs::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::test_kit::{STEP, TestNet};
use bevy_netplay::{Pacing, PacingProfile, PauseMatch, ResumeMatch, StartError};
use bevy_time::{Fixed, Time, TimeUpdateStrategy, Virtual};
use serde::{Deserialize, Serialize};

/// The ticks that `FixedUpdate` has run, and what went wrong.
#[derive(Resource, Default)]
struct Log {
    ticks: Vec<NetTick>,
    began: u32,
    failed: Vec<StartError>,
    /// Runs of `FixedUpdate` outside of a match.
    free_runs: u32,
    presented: Duration,
}

fn count(tick: Res<MatchTick>, mut log: ResMut<Log>) {
    match tick.0 {
        Some(tick) => log.ticks.push(tick),
        None => log.free_runs += 1,
    }
}

fn apps(seed: u64, count_of: usize, conditions: &Conditions) -> TestNet {
    let mut net = TestNet::new(seed, count_of, |app| {
        app.init_resource::<Log>()
            .add_systems(FixedUpdate, count)
            .add_systems(Update, |time: Res<Time>, mut log: ResMut<Log>| {
                log.presented += time.delta();
            })
            .add_observer(|_: On<MatchBegins>, mut log: ResMut<Log>| log.began += 1)
            .add_observer(|event: On<StartFailed>, mut log: ResMut<Log>| {
                log.failed.push(event.error.clone());
            });
    });
    net.connect_all();
    net.network.set_conditions(conditions);
    for _ in 0..120 {
        net.step();
    }
    net
}

fn log(app: &mut App) -> &Log {
    app.world().resource::<Log>()
}

fn lobby(app: &mut App) -> Entity {
    let world = app.world_mut();
    let mut lobbies = world.query_filtered::<Entity, With<Lobby>>();
    lobbies.single(world).expect("one lobby")
}

fn host(net: &mut TestNet) -> usize {
    let is_host = |net: &mut TestNet, i| net.lobby(i).is_some_and(|lobby| lobby.is_host());
    (0..net.len()).find(|i| is_host(net, *i)).expect("somebody leads")
}

fn start(net: &mut TestNet, from: usize) {
    let entity = lobby(net.app(from));
    net.app(from).world_mut().trigger(StartMatch { entity });
}

fn status(net: &mut TestNet, index: usize) -> SyncStatus {
    let entity = lobby(net.app(index));
    *net.app(index).world().get::<SyncStatus>(entity).expect("the lobby has it")
}

fn bad() -> Conditions {
    let ms = Duration::from_millis;
    Conditions::perfect().with_delay(ms(30)).with_queues(ms(20)).with_loss(0.02)
}

/// Starts a match and plays for some frames.
fn play(net: &mut TestNet, frames: u32) {
    let host = host(net);
    start(net, host);
    net.step_until(300, |net| (0..net.len()).all(|i| !log(net.app(i)).ticks.is_empty()));
    for _ in 0..frames {
        net.step();
    }
}

#[test]
fn all_games_begin_with_tick_zero_and_are_in_the_same_tick_ever_after() {
    let mut net = apps(3, 3, &bad());
    assert!((0..3).all(|i| log(net.app(i)).free_runs > 100), "before, it runs as always");
    assert!((0..3).all(|i| status(&mut net, i).state == SyncState::InSync));
    play(&mut net, 300);
    for _ in 0..300 {
        net.step();
        let last: Vec<_> =
            (0..3).map(|i| *log(net.app(i)).ticks.last().expect("the match runs")).collect();
        assert!(last.iter().all(|tick| tick.ahead_of(last[0]).abs() <= 1), "{last:?}");
    }
    for i in 0..3 {
        let log = log(net.app(i));
        assert_eq!(log.began, 1);
        assert!(log.ticks.iter().map(|tick| tick.0).eq(0..log.ticks.len() as u32), "each once");
        // 64 a second for about ten seconds.
        assert!((630..650).contains(&log.ticks.len()), "{}", log.ticks.len());
        let status = status(&mut net, i);
        assert_eq!((status.state, status.skipped), (SyncState::InSync, Duration::ZERO));
        assert!((status.speed - 1.0).abs() <= 0.01, "{status:?}");
    }
}

#[test]
fn fixed_update_is_held_between_the_agreement_and_tick_zero() {
    let mut net = apps(4, 2, &Conditions::perfect());
    let host = host(&mut net);
    start(&mut net, host);
    net.step_until(60, |net| (0..2).all(|i| log(net.app(i)).began == 1));
    net.step();
    let free: Vec<_> = (0..2).map(|i| log(net.app(i)).free_runs).collect();
    net.step_until(120, |net| !log(net.app(0)).ticks.is_empty());
    assert_eq!(free, (0..2).map(|i| log(net.app(i)).free_runs).collect::<Vec<_>>());
}

#[test]
fn a_pause_or_another_speed_changes_what_is_shown_and_no_tick() {
    let mut net = apps(5, 2, &Conditions::perfect());
    play(&mut net, 10);
    net.app(0).world_mut().resource_mut::<Time<Virtual>>().pause();
    net.app(1).world_mut().resource_mut::<Time<Virtual>>().set_relative_speed(3.0);
    let ticks = |net: &mut TestNet, i| log(net.app(i)).ticks.len();
    let (before, shown) =
        ([ticks(&mut net, 0), ticks(&mut net, 1)], [0, 1].map(|i| log(net.app(i)).presented));
    for _ in 0..60 {
        net.step();
    }
    for (i, before) in before.into_iter().enumerate() {
        let ran = ticks(&mut net, i) - before;
        assert!((63..=65).contains(&ran), "{ran} ticks in a second");
        assert!(status(&mut net, i).presentation_differs);
    }
    let presented = [0, 1].map(|i| log(net.app(i)).presented - shown[i]);
    // The frame in which it was paused was shown before.
    assert!(presented[0] <= STEP, "{presented:?}");
    assert!(presented[1] >= STEP * 175, "{presented:?}");
}

#[test]
fn a_pause_that_anybody_asks_for_holds_all_in_the_same_tick() {
    let mut net = apps(13, 3, &bad());
    play(&mut net, 60);
    let asks = (host(&mut net) + 1) % 3;
    let last = |net: &mut TestNet, i: usize| *log(net.app(i)).ticks.last().expect("it runs");
    for _ in 0..3 {
        let entity = lobby(net.app(asks));
        net.app(asks).world_mut().trigger(PauseMatch { entity });
        net.step_until(120, |net| (0..3).all(|i| status(net, i).state == SyncState::Held));
        let held: Vec<_> = (0..3).map(|i| last(&mut net, i)).collect();
        assert!(held.iter().all(|tick| *tick == held[0]), "{held:?}");
        (0..120).for_each(|_| net.step());
        assert!((0..3).all(|i| last(&mut net, i) == held[0]));
        net.app(asks).world_mut().trigger(ResumeMatch { entity });
        net.step_until(120, |net| (0..3).all(|i| status(net, i).state == SyncState::InSync));
        (0..60).for_each(|_| net.step());
        let now: Vec<_> = (0..3).map(|i| last(&mut net, i)).collect();
        assert!(now.iter().all(|tick| tick.ahead_of(now[0]).abs() <= 1), "{now:?}");
        assert!((55..=80).contains(&now[0].ahead_of(held[0])), "{now:?} {held:?}");
    }
    for i in 0..3 {
        let log = log(net.app(i));
        assert!(log.ticks.iter().map(|tick| tick.0).eq(0..log.ticks.len() as u32), "each once");
        assert_eq!(status(&mut net, i).skipped, Duration::ZERO);
    }
}

#[test]
fn a_game_that_stands_still_catches_up_or_leaves_ticks_out_and_says_so() {
    let mut net = apps(6, 2, &Conditions::perfect());
    play(&mut net, 60);
    // A fifth of a second: every tick runs.
    (0..12).for_each(|_| net.step_only(1));
    net.step();
    let log_of = |net: &mut TestNet| log(net.app(0)).ticks.clone();
    let all = log_of(&mut net);
    assert!(all.iter().map(|tick| tick.0).eq(0..all.len() as u32));
    // Five seconds: only the last one.
    (0..300).for_each(|_| net.step_only(1));
    (0..3).for_each(|_| net.step());
    let all = log_of(&mut net);
    assert!(all.is_sorted_by(|a, b| b.is_after(*a)));
    let [a, b] = [0, 1].map(|i| *log(net.app(i)).ticks.last().expect("it runs"));
    assert!(a.ahead_of(b).abs() <= 1, "{a} {b}");
    let skipped = status(&mut net, 0).skipped;
    assert!((4.8..5.2).contains(&skipped.as_secs_f64()), "{skipped:?}");
    assert_eq!(status(&mut net, 1).skipped, Duration::ZERO);
}

#[test]
fn after_the_match_fixed_update_runs_as_always_and_another_match_may_start() {
    let mut net = apps(7, 2, &Conditions::perfect());
    play(&mut net, 60);
    for i in 0..2 {
        let entity = lobby(net.app(i));
        net.app(i).world_mut().trigger(EndMatch { entity });
    }
    net.step();
    let free = log(net.app(0)).free_runs;
    for _ in 0..60 {
        net.step();
    }
    assert!((62..=66).contains(&(log(net.app(0)).free_runs - free)));
    assert_eq!(net.app(0).world().resource::<MatchTick>().0, None);
    (0..2).for_each(|i| net.app(i).world_mut().resource_mut::<Log>().ticks.clear());
    play(&mut net, 10);
    assert_eq!(log(net.app(1)).ticks[0], NetTick::ZERO);
    assert_eq!(log(net.app(1)).began, 2);
}

#[test]
fn a_match_that_is_started_before_there_is_a_clock_begins_when_there_is() {
    let mut net = TestNet::new(11, 3, |app| {
        app.init_resource::<Log>().add_systems(FixedUpdate, count);
    });
    net.connect_all();
    let host = host(&mut net);
    start(&mut net, host);
    net.step_until(120, |net| (0..3).all(|i| log(net.app(i)).ticks.len() > 5));
}

#[derive(serde::Serialize, serde::Deserialize, Clone, Debug)]
struct Stamped(Option<u32>);

#[test]
fn messages_carry_the_tick_they_were_written_in() {
    let mut net = TestNet::new(12, 2, |app| {
        app.init_resource::<Log>().add_net_message::<Stamped>(Lane::Reliable).add_systems(
            FixedUpdate,
            (count, |tick: Res<MatchTick>, mut out: NetWriter<Stamped>| {
                out.to_all(Stamped(tick.0.map(|tick| tick.0)));
            }),
        );
    });
    net.connect_all();
    net.network.set_conditions(&bad());
    let (mut outside, mut inside) = (0, 0);
    let mut hear = |net: &mut TestNet| {
        for received in net.received::<Stamped>(1) {
            let stamp = received.message.0.map(NetTick);
            assert_eq!(received.tick, stamp);
            *if stamp.is_some() { &mut inside } else { &mut outside } += 1;
        }
    };
    for _ in 0..60 {
        net.step();
        hear(&mut net);
    }
    let host = host(&mut net);
    start(&mut net, host);
    for _ in 0..300 {
        net.step();
        hear(&mut net);
    }
    assert!(outside > 30 && inside > 150, "{outside} {inside}");
}

#[test]
fn only_the_host_starts_a_match() {
    let mut net = apps(8, 2, &Conditions::perfect());
    let other = 1 - host(&mut net);
    start(&mut net, other);
    net.step_until(10, |net| !log(net.app(other)).failed.is_empty());
    assert_eq!(log(net.app(other)).failed, [StartError::NotHost]);
    for _ in 0..60 {
        net.step();
    }
    assert!((0..2).all(|i| log(net.app(i)).began == 0));
}

#[test]
fn a_player_alone_may_play() {
    let mut net = TestNet::new(9, 1, |app| {
        app.init_resource::<Log>().add_systems(FixedUpdate, count);
    });
    net.join(0, JoinLobby::quick(1));
    net.step_until(60, |net| net.lobby(0).is_some());
    start(&mut net, 0);
    net.step_until(120, |net| log(net.app(0)).ticks.len() > 30);
}

#[test]
fn the_overstep_is_the_part_of_the_tick_that_has_passed() {
    let mut net = apps(10, 2, &Conditions::perfect());
    let entity = lobby(net.app(0));
    net.app(0).world_mut().entity_mut(entity).insert(Pacing(PacingProfile::FIGHTING));
    play(&mut net, 60);
    let mut fractions = Vec::new();
    for _ in 0..600 {
        net.step();
        fractions.push(net.app(0).world().resource::<Time<Fixed>>().overstep_fraction());
    }
    assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
    let mean = fractions.iter().sum::<f32>() / fractions.len() as f32;
    assert!((mean - 0.5).abs() < 0.05, "{mean}");
}

/// Says which frame it is, from where a game does that.
#[derive(Serialize, Deserialize, Clone)]
struct FromFrame(u32);

/// The same from `FixedUpdate`.
#[derive(Serialize, Deserialize, Clone)]
struct FromTick(u32);

#[derive(Resource, Default)]
struct Frame(u32);

/// What has arrived, and how many frames late it was at most.
#[derive(Resource, Clone, Copy, Debug, Default)]
struct Heard {
    frames: u32,
    ticks: u32,
    latest: u32,
}

fn hear(
    frame: Res<Frame>,
    mut frames: MessageReader<Received<FromFrame>>,
    mut ticks: MessageReader<Received<FromTick>>,
    mut heard: ResMut<Heard>,
) {
    for message in frames.read() {
        heard.frames += 1;
        heard.latest = heard.latest.max(frame.0 - message.message.0);
    }
    for message in ticks.read() {
        heard.ticks += 1;
        heard.latest = heard.latest.max(frame.0 - message.message.0);
    }
}

/// One frame of both apps, 240 of them a second.
fn short_frame(net: &mut TestNet) {
    for i in 0..2 {
        net.app(i).world_mut().resource_mut::<Frame>().0 += 1;
        net.app(i).update();
    }
    net.network.advance(Duration::from_micros(4_167));
}

#[test]
fn in_a_match_what_frames_write_leaves_with_the_next_tick_in_one_packet() {
    let mut net = TestNet::new(12, 2, |app| {
        app.add_net_message::<FromFrame>(Lane::Unreliable)
            .add_net_message::<FromTick>(Lane::Unreliable)
            .init_resource::<Frame>()
            .init_resource::<Log>()
            .add_systems(Update, |frame: Res<Frame>, mut out: NetWriter<FromFrame>| {
                out.to_all(FromFrame(frame.0));
            })
            .add_systems(FixedUpdate, |frame: Res<Frame>, mut out: NetWriter<FromTick>| {
                out.to_all(FromTick(frame.0));
            })
            .init_resource::<Heard>()
            .add_systems(FixedUpdate, count)
            .add_systems(Update, hear);
    });
    net.connect_all();
    for i in 0..2 {
        let world = net.app(i).world_mut();
        // Shorter than 8 ms, so that the next tick is always near.
        world.resource_mut::<Time<Fixed>>().set_timestep_hz(128.0);
        let frame = Duration::from_micros(4_167);
        world.insert_resource(TimeUpdateStrategy::ManualDuration(frame));
    }
    (0..480).for_each(|_| short_frame(&mut net));
    let second = |net: &mut TestNet| {
        let sent = |net: &mut TestNet| {
            let world = net.app(0).world_mut();
            world.query::<&PeerStats>().single(world).expect("one peer").link.datagrams_sent
        };
        *net.app(1).world_mut().resource_mut::<Heard>() = Heard::default();
        let before = sent(net);
        (0..240).for_each(|_| short_frame(net));
        (sent(net) - before, *net.app(1).world().resource::<Heard>())
    };
    let (packets, heard) = second(&mut net);
    assert!(packets >= 235 && heard.frames >= 235, "outside of a match: {packets} {heard:?}");
    let host = host(&mut net);
    start(&mut net, host);
    (0..480).for_each(|_| short_frame(&mut net));
    let (packets, heard) = second(&mut net);
    println!("in a match: {packets} packets, {heard:?}");
    assert!((120..=150).contains(&packets), "one a tick: {packets}");
    assert!(heard.frames >= 236 && heard.ticks >= 126 && heard.latest <= 4, "{heard:?}");
}
