//! Our players in rooms of matchbox servers: of a stock one, made of matchbox's library, and of our own, which
//! knows groups of `?next=N` too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use matchbox_signaling::SignalingServer;
use netplay_protocol::frame::MessageId;
use netplay_protocol::{Lane, RoomId};
use netplay_transport::{ErrorCode, JoinRequest, LobbyOptions, Network, Room, SessionEvent};
use support::{Player, config, connect, server, until};
use tokio::runtime::Runtime;

const EVENT: MessageId = MessageId(0);

/// A stock server, until it is dropped.
struct Stock {
    runtime: Option<Runtime>,
    url: String,
}

impl Stock {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let mut server = SignalingServer::full_mesh_builder((Ipv4Addr::LOCALHOST, 0)).build();
        let url = format!("ws://{}", server.bind().unwrap());
        runtime.spawn(server.serve());
        drop(entered);
        Self { runtime: Some(runtime), url }
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

fn room() -> Room {
    Room::new(RoomId::new("test").unwrap())
}

fn enter(network: &Network, server: &str, room: Room) -> Player {
    Player::open(network, &config(server), JoinRequest::Room(room))
}

/// Each says something to each, and hears all.
fn talk(players: &mut [&mut Player]) {
    for player in players.iter_mut() {
        player.messages.clear();
        for peer in player.peers.clone() {
            player.session.send(peer, Lane::Reliable, EVENT, b"hello").unwrap();
        }
    }
    let others = players.len() - 1;
    until(players, "everyone hears everyone", |players| {
        players.iter().all(|player| player.messages.len() == others)
    });
}

fn host(player: &Player) -> netplay_protocol::PeerId {
    let host = player.events.iter().rev().find_map(|event| match event {
        SessionEvent::Joined(lobby) => Some(lobby.host),
        SessionEvent::HostChanged(host) => Some(*host),
        _ => None,
    });
    host.unwrap()
}

#[test]
fn two_players_meet_in_a_room_of_a_stock_server_and_it_is_a_lobby_without_a_code() {
    let (stock, network) = (Stock::start(), Network::start().unwrap());
    // A stock server that is made of the library puts all of a room together, whatever `next` says.
    let enter = || enter(&network, &stock.url, room().next(2));
    let (mut a, mut b) = (enter(), enter());
    connect(&mut [&mut a, &mut b]);
    talk(&mut [&mut a, &mut b]);
    assert!(a.code.unwrap().is_none());
    let lobby = a.events.iter().find_map(|event| match event {
        SessionEvent::Joined(lobby) => Some(lobby),
        _ => None,
    });
    let lobby = lobby.unwrap();
    assert_eq!((lobby.options.capacity, lobby.options.name.as_str()), (2, "test"));
    let (me_a, me_b) = (a.me.unwrap(), b.me.unwrap());
    assert_eq!((host(&a), host(&b)), (me_a.min(me_b), me_a.min(me_b)));
}

#[test]
fn three_players_meet_in_a_room_and_hear_who_leaves() {
    let (stock, network) = (Stock::start(), Network::start().unwrap());
    let enter = || enter(&network, &stock.url, room());
    let (mut a, mut b, mut c) = (enter(), enter(), enter());
    connect(&mut [&mut a, &mut b, &mut c]);
    talk(&mut [&mut a, &mut b, &mut c]);
    let gone = b.me.unwrap();
    drop(b);
    until(&mut [&mut a, &mut c], "the others hear that one left", |players| {
        let left = |event: &SessionEvent| matches!(event, SessionEvent::PeerLeft { peer, .. } if *peer == gone);
        players.iter().all(|player| player.events.iter().any(left))
    });
    talk(&mut [&mut a, &mut c]);
    // And meet who comes later.
    let mut d = enter();
    connect(&mut [&mut a, &mut c, &mut d]);
    talk(&mut [&mut a, &mut c, &mut d]);
}

#[test]
fn groups_of_two_meet_and_the_third_waits() {
    let (server, network) = (server(), Network::start().unwrap());
    let enter = || enter(&network, &server.url(), room().next(2));
    let (mut a, mut b) = (enter(), enter());
    connect(&mut [&mut a, &mut b]);
    let mut c = enter();
    until(&mut [&mut c], "it waits in its group", |players| players[0].code.is_some());
    talk(&mut [&mut a, &mut b]);
    let mut d = enter();
    connect(&mut [&mut c, &mut d]);
    talk(&mut [&mut c, &mut d]);
    assert_eq!((a.peers.len(), b.peers.len()), (1, 1), "the groups do not meet");
}

#[test]
fn links_outlive_the_server_and_the_room_begins_anew_when_they_are_over() {
    let (first, network) = (server(), Network::start().unwrap());
    let (url, bind) = (first.url(), first.local_addr());
    let (mut a, mut b) = (enter(&network, &url, room()), enter(&network, &url, room()));
    connect(&mut [&mut a, &mut b]);
    drop(first);
    until(&mut [&mut a, &mut b], "both miss the server", |players| {
        let offline = |event: &SessionEvent| matches!(event, SessionEvent::Offline { retry_in, .. } if *retry_in == Duration::MAX);
        players.iter().all(|player| player.events.iter().any(offline))
    });
    let _second =
        netplay_server::ServerThread::start(netplay_server::ServerConfig::at(bind)).unwrap();
    talk(&mut [&mut a, &mut b]);
    // Who comes now meets nobody who plays, and is not met.
    let mut c = enter(&network, &url, room());
    until(&mut [&mut c], "it enters", |players| players[0].code.is_some());
    talk(&mut [&mut a, &mut b]);
    assert_eq!((a.peers.len(), c.peers.len()), (1, 0));
    let (before, gone) = (a.me.unwrap(), b.me.unwrap());
    drop(b);
    connect(&mut [&mut a, &mut c]);
    talk(&mut [&mut a, &mut c]);
    assert_ne!(a.me.unwrap(), before, "a matchbox server knows no resume");
    let left = |event: &SessionEvent| matches!(event, SessionEvent::PeerLeft { peer, .. } if *peer == gone);
    assert!(a.events.iter().any(left));
}

#[test]
fn a_session_is_in_a_room_or_in_a_lobby() {
    let (server, network) = (server(), Network::start().unwrap());
    for requests in [
        [JoinRequest::Room(room()), JoinRequest::Quick(LobbyOptions::public(2))],
        [JoinRequest::Quick(LobbyOptions::public(2)), JoinRequest::Room(room())],
    ] {
        let [first, second] = requests;
        let mut player = Player::open(&network, &config(&server.url()), first);
        player.session.join(second).unwrap();
        until(&mut [&mut player], "a refusal", |players| {
            let refused = |event: &SessionEvent| {
                let already = ErrorCode::AlreadyInLobby;
                matches!(event, SessionEvent::JoinRefused { code, .. } if *code == already)
            };
            players[0].events.iter().any(refused)
        });
        until(&mut [&mut player], "a place", |players| players[0].code.is_some());
    }
}
