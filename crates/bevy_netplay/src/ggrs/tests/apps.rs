//! Whole apps, one of which sends what it likes.

use ::ggrs::SessionState;
use bevy_app::{App, PreUpdate};
use bevy_ecs::prelude::*;
use netplay_protocol::Lane;
use netplay_protocol::frame::MessageId;

use super::super::socket::QUEUE_MAX;
use super::super::wire::{Body, Packet};
use super::super::{GgrsLobby, GgrsSockets, NetplayGgrsPlugin, NetplayGgrsSystems};
use super::Game;
use crate::lobby::LobbySession;
use crate::peer::PeerStats;
use crate::test_kit::TestNet;

#[derive(Resource)]
struct Session(::ggrs::P2PSession<Game>);

fn game(app: &mut App) {
    app.add_plugins(NetplayGgrsPlugin)
        .add_systems(PreUpdate, (start, play).chain().in_set(NetplayGgrsSystems::Session));
}

fn start(mut lobby: GgrsLobby, session: Option<Res<Session>>, mut commands: Commands) {
    if lobby.is_full() && session.is_none() {
        let session = lobby.session_builder();
        commands.insert_resource(Session(session.start_p2p_session(lobby.socket()).unwrap()));
    }
}

fn play(session: Option<ResMut<Session>>) {
    let Some(mut session) = session else { return };
    let session = &mut session.bypass_change_detection().0;
    session.poll_remote_clients();
    if session.current_state() == SessionState::Running {
        for handle in session.local_player_handles() {
            session.add_local_input(handle, 1).unwrap();
        }
        for request in session.advance_frame().unwrap() {
            if let ::ggrs::GgrsRequest::SaveGameState { cell, frame } = request {
                cell.save(frame, Some(0), None);
            }
        }
    }
}

fn frame(net: &mut TestNet, index: usize) -> i32 {
    net.app(index).world().get_resource::<Session>().map_or(0, |s| s.0.current_frame())
}

fn pair() -> TestNet {
    let mut net = TestNet::new(11, 2, game);
    net.connect_all();
    net.step_until(100, |net| frame(net, 0) > 10 && frame(net, 1) > 10);
    net
}

#[test]
fn bytes_that_are_no_message_are_counted_and_the_session_goes_on() {
    let mut net = pair();
    let before = frame(&mut net, 1);
    let to = net.id(1).unwrap();
    let mut bytes = Vec::new();
    for number in 0..600_u32 {
        let world = net.app(0).world_mut();
        let mut session = world.query::<&LobbySession>().single(world).unwrap().lock();
        bytes.push(number.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
        bytes.truncate(40);
        bytes.rotate_right(1);
        session.send(to, Lane::Unreliable, MessageId(0), &bytes).unwrap();
        drop(session);
        net.step();
    }
    let world = net.app(1).world_mut();
    let stats = world.query::<&PeerStats>().single(world).unwrap();
    assert!(stats.undecodable > 100, "{stats:?}");
    assert!(frame(&mut net, 1) > before + 500);
}

#[test]
fn a_flood_of_messages_grows_no_queue() {
    let mut net = pair();
    for _ in 0..60 {
        for _ in 0..500 {
            net.send(0, Packet { magic: 1, body: Body::KeepAlive });
        }
        net.step();
        let sockets = net.app(1).world().resource::<GgrsSockets>();
        assert!(sockets.open[0].wire.lock().waiting() <= 2 * QUEUE_MAX);
    }
    let counts = net.app(1).world().resource::<GgrsSockets>().counts();
    assert!(counts.refused > 1000 && counts.dropped > 1000, "{counts:?}");
    let before = frame(&mut net, 1);
    net.step_until(200, |net| frame(net, 1) > before + 60);
}

#[test]
fn a_session_that_is_dropped_leaves_no_queue_behind() {
    let mut net = pair();
    net.app(0).world_mut().remove_resource::<Session>();
    net.app(0).world_mut().resource_mut::<GgrsSockets>().open.iter().for_each(|socket| {
        assert!(socket.wire.is_alone());
    });
    net.step();
    // A new one has started.
    assert_eq!(net.app(0).world().resource::<GgrsSockets>().open.len(), 1);
}
