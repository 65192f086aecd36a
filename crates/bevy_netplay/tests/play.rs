//! What a game sees, over the in-memory network: finding each other, sending, leaving, losing.

#![expect(clippy::print_stdout, reason = "a failing test shows its seed")]

use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::test_kit::TestNet;
use bevy_netplay::{CloseReason, ErrorCode, LobbyConnection, LobbyError, QueueError, SendError};
use netplay_simnet::Conditions;
use serde::{Deserialize, Serialize};

const SEED: u64 = 0x5EED;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Shout(String);

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Position(u32);

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Blob(Vec<u8>);

/// Every lifecycle event, in order, as text.
#[derive(Resource, Default, Debug)]
struct Journal(Vec<String>);

#[derive(Resource, Default)]
struct Inbox {
    shouts: Vec<String>,
    positions: Vec<u32>,
    blobs: Vec<usize>,
}

fn game(app: &mut bevy_app::App) {
    app.init_resource::<Journal>()
        .init_resource::<Inbox>()
        .add_net_message::<Shout>(Lane::Reliable)
        .add_net_message::<Position>(Lane::Unreliable)
        .add_net_message::<Blob>(Lane::Bulk)
        .add_observer(|e: On<PeerConnected>, mut j: ResMut<Journal>| {
            j.0.push(format!("connected {}", e.id.short()));
        })
        .add_observer(|e: On<PeerInterrupted>, mut j: ResMut<Journal>| {
            assert!(e.silence >= Duration::from_secs(1), "{:?}", e.silence);
            j.0.push(format!("interrupted {}: {}", e.id.short(), e.reason));
        })
        .add_observer(|e: On<PeerResumed>, mut j: ResMut<Journal>| {
            j.0.push(format!("resumed {}", e.id.short()));
        })
        .add_observer(|e: On<PeerDisconnected>, mut j: ResMut<Journal>| {
            j.0.push(format!("disconnected {}: {}", e.id.short(), e.reason));
        })
        .add_observer(|e: On<LobbyFailed>, mut j: ResMut<Journal>| {
            j.0.push(format!("failed: {}", e.error));
        })
        .add_observer(|_: On<LobbyOffline>, mut j: ResMut<Journal>| j.0.push("offline".into()))
        .add_systems(
            bevy_app::Update,
            |mut shouts: MessageReader<Received<Shout>>,
             mut positions: MessageReader<Received<Position>>,
             mut blobs: MessageReader<Received<Blob>>,
             mut inbox: ResMut<Inbox>| {
                inbox.shouts.extend(shouts.read().map(|m| m.message.0.clone()));
                inbox.positions.extend(positions.read().map(|m| m.message.0));
                inbox.blobs.extend(blobs.read().map(|m| m.message.0.len()));
            },
        );
}

fn players(count: usize) -> TestNet {
    println!("seed {SEED:#x}");
    let mut net = TestNet::new(SEED, count, game);
    net.connect_all();
    net
}

fn journal(net: &mut TestNet, index: usize) -> Vec<String> {
    std::mem::take(&mut net.app(index).world_mut().resource_mut::<Journal>().0)
}

fn inbox(net: &mut TestNet, index: usize) -> Inbox {
    std::mem::take(&mut net.app(index).world_mut().resource_mut::<Inbox>())
}

fn steps(net: &mut TestNet, seconds: f32) {
    for _ in 0..(seconds * 60.0) as usize {
        net.step();
    }
}

#[test]
fn four_players_meet_and_everyone_hears_everyone() {
    let mut net = players(4);
    for index in 0..4 {
        net.send(index, Shout(format!("from {index}")));
        net.send(index, Position(index as u32));
    }
    steps(&mut net, 0.2);
    for index in 0..4 {
        let mut heard = inbox(&mut net, index);
        heard.shouts.sort();
        heard.positions.sort_unstable();
        let others = (0..4).filter(|i| *i != index);
        assert_eq!(heard.shouts, others.clone().map(|i| format!("from {i}")).collect::<Vec<_>>());
        assert_eq!(heard.positions, others.map(|i| i as u32).collect::<Vec<_>>());
    }
}

#[test]
fn reliable_messages_keep_their_order_and_number_through_a_bad_path() {
    let mut net = players(2);
    net.network.set_conditions(
        &Conditions::perfect()
            .with_delay(Duration::from_millis(40))
            .with_jitter(Duration::from_millis(20))
            .with_loss(0.2)
            .with_duplicates(0.1),
    );
    for i in 0..500 {
        net.send(0, Shout(i.to_string()));
        net.send(0, Position(i));
        net.step();
    }
    steps(&mut net, 1.0);
    let heard = inbox(&mut net, 1);
    assert_eq!(heard.shouts, (0..500).map(|i| i.to_string()).collect::<Vec<_>>());
    let mut positions = heard.positions.clone();
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), heard.positions.len(), "an unreliable message came twice");
    assert!((330..=480).contains(&positions.len()), "{} of 500 at 20 % loss", positions.len());
}

#[test]
fn large_messages_arrive_whole_and_oversized_ones_are_refused() {
    let mut net = players(2);
    net.send(0, Blob(vec![7; 200_000]));
    steps(&mut net, 0.5);
    assert_eq!(inbox(&mut net, 1).blobs, [200_000]);

    let (peer, _) = net.connected(0)[0];
    let world = net.app(0).world_mut();
    use bevy_ecs::system::RunSystemOnce;
    let error = world
        .run_system_once(move |mut out: NetWriter<Blob>| out.to(peer, Blob(vec![0; 300_000])))
        .unwrap();
    assert!(matches!(error, Err(SendError::Encode(_))), "{error:?}");
}

#[test]
fn a_receiver_that_stops_its_frames_gets_every_reliable_message_later() {
    let mut net = players(2);
    let mut accepted = 0;
    let (peer, _) = net.connected(0)[0];
    let mut refused = false;
    for i in 0..2000_u32 {
        use bevy_ecs::system::RunSystemOnce;
        let text = format!("{i:0>1000}");
        let sent = net
            .app(0)
            .world_mut()
            .run_system_once(move |mut out: NetWriter<Shout>| out.to(peer, Shout(text.clone())))
            .unwrap();
        match sent {
            Ok(()) => accepted += 1,
            Err(error) => {
                assert_eq!(error, SendError::Queue(QueueError::QueueFull));
                refused = true;
                break;
            }
        }
        net.step_only(0);
    }
    assert!(refused, "2 MB into a game that does not read");
    assert_eq!(journal(&mut net, 0).len(), 1, "the network threads keep the link alive");
    steps(&mut net, 3.0);
    let heard = inbox(&mut net, 1).shouts;
    assert_eq!(heard.len(), accepted);
    assert!(heard.is_sorted());
}

#[test]
fn a_killed_player_is_reported_once_and_the_others_play_on() {
    let mut net = players(4);
    let dead = net.id(3).unwrap();
    for i in 0..4 {
        journal(&mut net, i);
    }
    net.network.kill(dead);
    for _ in 0..300 {
        for i in 0..3 {
            net.app(i).update();
        }
        net.network.advance(bevy_netplay::test_kit::STEP);
    }
    for i in 0..3 {
        assert_eq!(
            journal(&mut net, i),
            [
                format!("interrupted {}: the lobby server has lost the player too", dead.short()),
                format!("disconnected {}: the connection was lost", dead.short())
            ]
        );
        assert_eq!(net.connected(i).len(), 2);
    }
    net.send(0, Shout("still here".into()));
    for _ in 0..20 {
        for i in 0..3 {
            net.app(i).update();
        }
        net.network.advance(bevy_netplay::test_kit::STEP);
    }
    assert_eq!(inbox(&mut net, 1).shouts, ["still here"]);
}

#[test]
fn the_seat_of_a_killed_player_is_free_for_its_next_process() {
    let mut net = players(2);
    let code = net.lobby(0).unwrap().code;
    let dead = net.id(1).unwrap();
    net.network.kill(dead);
    for _ in 0..240 {
        net.app(0).update();
        net.network.advance(bevy_netplay::test_kit::STEP);
    }
    let again = net.add(NetplayPlugins::new("test"), game);
    net.join(again, JoinLobby::code(code));
    net.step_until(120, |net| net.connected(again).len() == 1 && net.connected(0).len() == 1);
}

#[test]
fn a_stopped_process_is_interrupted_and_comes_back_without_loss() {
    let mut net = players(2);
    let (a, b) = (net.id(0).unwrap(), net.id(1).unwrap());
    journal(&mut net, 0);
    journal(&mut net, 1);
    net.network.freeze(b, true);
    for i in 0..600 {
        if i % 6 == 0 {
            net.send(0, Shout(i.to_string()));
        }
        net.step_only(0);
    }
    net.network.freeze(b, false);
    steps(&mut net, 1.0);
    assert_eq!(
        journal(&mut net, 0),
        [format!("interrupted {}: nothing is heard", b.short()), format!("resumed {}", b.short())]
    );
    assert_eq!(journal(&mut net, 1), Vec::<String>::new(), "{} never stopped", a.short());
    assert_eq!(inbox(&mut net, 1).shouts.len(), 100);
}

#[test]
fn leaving_is_told_apart_from_being_lost() {
    let mut net = players(2);
    let gone = net.id(1).unwrap();
    journal(&mut net, 0);
    let world = net.app(1).world_mut();
    let lobby = world.query_filtered::<Entity, With<JoinLobby>>().single(world).unwrap();
    world.entity_mut(lobby).despawn();
    steps(&mut net, 1.0);
    assert_eq!(journal(&mut net, 0), [format!("disconnected {}: the player left", gone.short())]);
    assert!(net.connected(1).is_empty(), "the peers go with the lobby");
}

#[test]
fn a_game_that_despawns_a_peer_ends_its_link() {
    let mut net = players(2);
    let (peer, _) = net.connected(0)[0];
    journal(&mut net, 1);
    net.app(0).world_mut().entity_mut(peer).despawn();
    steps(&mut net, 0.5);
    assert!(net.connected(0).is_empty());
    let left = net.id(0).unwrap();
    assert_eq!(journal(&mut net, 1), [format!("disconnected {}: the player left", left.short())]);
}

#[test]
fn a_match_goes_on_without_the_lobby_server() {
    let mut net = players(3);
    for i in 0..3 {
        journal(&mut net, i);
    }
    net.network.set_server_up(false);
    steps(&mut net, 30.0);
    net.send(0, Shout("no server needed".into()));
    steps(&mut net, 0.2);
    for i in 1..3 {
        assert_eq!(inbox(&mut net, i).shouts, ["no server needed"]);
        assert!(journal(&mut net, i).iter().all(|entry| entry == "offline"));
    }
}

#[test]
fn a_server_that_comes_up_late_is_found() {
    println!("seed {SEED:#x}");
    let mut net = TestNet::new(SEED, 2, game);
    net.network.set_server_up(false);
    net.join(0, JoinLobby::quick(2));
    net.join(1, JoinLobby::quick(2));
    steps(&mut net, 5.0);
    assert!(journal(&mut net, 0).len() >= 2, "every failed try is an event");
    net.network.set_server_up(true);
    net.step_until(60 * 20, |net| net.connected(0).len() == 1 && net.connected(1).len() == 1);
}

#[test]
fn a_wrong_code_and_a_full_lobby_are_refused_with_the_reason() {
    let mut net = players(2);
    let code = net.lobby(0).unwrap().code;
    let late = net.add(NetplayPlugins::new("test"), game);
    net.join(late, JoinLobby::code(code));
    net.step_until(60, |net| journal(net, late) == ["failed: the lobby is full"]);
    let world = net.app(late).world_mut();
    let connection = world.query::<&LobbyConnection>().single(world).unwrap();
    assert_eq!(*connection, LobbyConnection::Failed);

    let lost = net.add(NetplayPlugins::new("test"), |app| {
        game(app);
        app.add_observer(|e: On<LobbyFailed>| {
            assert!(matches!(e.error, LobbyError::Refused { code: ErrorCode::NoSuchLobby, .. }));
        });
    });
    net.join(lost, JoinLobby::code("2222-2222".parse().unwrap()));
    net.step_until(60, |net| journal(net, lost) == ["failed: no lobby has the code 2222-2222"]);
}

#[test]
fn players_of_other_builds_do_not_meet_and_a_code_of_theirs_says_why() {
    let mut net = TestNet::new(SEED, 0, game);
    net.add(NetplayPlugins::new("test").build_id("1.0"), game);
    net.add(NetplayPlugins::new("test").build_id("1.1"), game);
    let third = net.add(NetplayPlugins::new("test").build_id("1.1"), game);
    net.join(0, JoinLobby::quick(2));
    net.join(1, JoinLobby::quick(2));
    steps(&mut net, 2.0);
    let code = net.lobby(0).unwrap().code;
    assert_ne!(code, net.lobby(1).unwrap().code);
    assert!(journal(&mut net, 0).is_empty());
    net.join(third, JoinLobby::code(code));
    let why = "failed: the lobby is for build 1.0, and this is build 1.1";
    net.step_until(60, |net| journal(net, third) == [why]);
}

#[test]
fn other_messages_are_refused_on_both_sides_by_name() {
    let mut net = TestNet::new(SEED, 0, game);
    net.add(NetplayPlugins::new("test"), game);
    net.add(NetplayPlugins::new("test"), |app| {
        app.init_resource::<Journal>()
            .add_net_message::<Shout>(Lane::Unreliable)
            .add_net_message::<Position>(Lane::Unreliable)
            .add_observer(|e: On<PeerDisconnected>, mut j: ResMut<Journal>| {
                assert!(matches!(e.reason, CloseReason::Refused(_)));
                j.0.push(e.reason.to_string());
            });
    });
    net.join(0, JoinLobby::quick(2));
    net.join(1, JoinLobby::quick(2));
    steps(&mut net, 2.0);
    let entry = journal(&mut net, 1).remove(0);
    assert!(entry.contains("only they have play::Blob"), "{entry}");
    assert!(entry.contains("play::Shout is unreliable here and reliable there"), "{entry}");
    let entry = journal(&mut net, 0).remove(0);
    assert!(entry.contains("only we have play::Blob"), "{entry}");
}

#[test]
fn a_message_that_was_not_registered_is_an_error_that_says_what_to_do() {
    #[derive(Serialize, Deserialize)]
    struct Stranger;

    let mut net = players(2);
    let (peer, _) = net.connected(0)[0];
    use bevy_ecs::system::RunSystemOnce;
    let error = net
        .app(0)
        .world_mut()
        .run_system_once(move |mut out: NetWriter<Stranger>| out.to(peer, Stranger))
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().ends_with("is not registered: call App::add_net_message"), "{error}");
}

#[test]
fn bad_settings_fail_the_lobby_and_not_the_app() {
    let mut net = TestNet::new(SEED, 0, game);
    net.add(NetplayPlugins::new("my game!"), game);
    net.add(NetplayPlugins::new("test").server("localhost:3536"), game);
    for (index, text) in [(0, "a game id may hold"), (1, "it does not begin with ws://")] {
        net.join(index, JoinLobby::quick(2));
        net.step();
        net.step();
        let entries = journal(&mut net, index);
        assert!(entries.len() == 1 && entries[0].contains(text), "{entries:?}");
    }
}

#[test]
fn statistics_show_the_path() {
    let mut net = players(2);
    net.network.set_conditions(
        &Conditions::perfect().with_delay(Duration::from_millis(30)).with_loss(0.1),
    );
    for i in 0..600 {
        net.send(0, Position(i));
        net.step();
    }
    let world = net.app(0).world_mut();
    let stats = world.query::<&PeerStats>().single(world).unwrap();
    let rtt = stats.rtt().unwrap();
    assert!(rtt.abs_diff(Duration::from_millis(60)) < Duration::from_millis(4), "{rtt:?}");
    assert!((0.04..0.18).contains(&stats.link.loss), "{}", stats.link.loss);
    assert_eq!(stats.messages_sent, 600);
}
