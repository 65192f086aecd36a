//! What the random runs have found: players of before a restart who return to a lobby that is not what
//! their tokens say.

use core::time::Duration;

use netplay_protocol::lobby::{ClientMessage, ErrorCode, JoinWith, OptionsChange, Rejoin};
use netplay_protocol::{LobbyCode, PeerId};

use crate::directory::tests::node::{Node, options};

const SECOND: Duration = Duration::from_secs(1);

fn kick(peer: PeerId, rejoin: Rejoin) -> ClientMessage {
    ClientMessage::Kick { request: 1, peer, rejoin }
}

fn room(capacity: u8) -> OptionsChange {
    OptionsChange { capacity: Some(capacity), ..OptionsChange::default() }
}

fn locked() -> OptionsChange {
    OptionsChange { locked: Some(true), ..OptionsChange::default() }
}

/// These come back with what they took last, on connections with numbers ten higher.
fn come_back(node: &mut Node, connections: &[u64]) {
    for of in connections {
        assert!(!node.resume_over(*of, 10 + of, 0), "it is restored");
    }
}

#[test]
fn what_a_host_decides_after_a_restart_is_not_undone_by_who_returns_late() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(3, options(4));
    // The others do not take the tokens that tell of this.
    (5..8).for_each(|capacity| node.update(1, room(capacity)));
    node.restart_server();
    come_back(&mut node, &[2, 3]);
    node.wait(11 * SECOND);
    node.take(12);
    node.done(12, kick(peers[2], Rejoin::Never));
    node.update(12, locked());
    node.take(13);
    come_back(&mut node, &[1]);
    node.hello(20);
    assert_eq!(node.refused(20, ClientMessage::join(1, code)), ErrorCode::Locked);
    assert_eq!(node.refused(13, ClientMessage::join(1, code)), ErrorCode::Banned);
}

#[test]
fn after_a_restart_no_more_are_there_than_the_newest_options_allow() {
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let mut node = Node::new();
        let (code, _) = node.lobby_of(3, options(3));
        // It keeps the token that says that it is there, and the second one an older one, too.
        node.say(3, ClientMessage::Leave { request: 1 });
        node.take(1);
        node.update(1, room(2));
        node.restart_server();
        come_back(&mut node, &order);
        let lobby = node.directory.lobbies.get(code).expect("it is back");
        assert_eq!((lobby.len(), lobby.spectators()), (2, 0), "{order:?}");
    }
}

/// Its host puts somebody out, and invites it.
fn put_out_and_invite(node: &mut Node, host: u64, (of, peer): (u64, PeerId), code: LobbyCode) {
    node.done(host, kick(peer, Rejoin::Invited));
    node.take(of);
    let invite = Some(node.invite(host, None));
    node.join_with(of, code, JoinWith { invite, ..JoinWith::default() });
    node.take(host);
}

#[test]
fn who_was_invited_back_keeps_its_place_over_a_restart() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(2, options(3));
    put_out_and_invite(&mut node, 1, (2, peers[1]), code);
    node.restart_server();
    come_back(&mut node, &[1, 2]);
    assert_eq!(node.directory.lobby(code).expect("it is back").state.members.len(), 2);
}

#[test]
fn who_was_invited_back_keeps_its_place_when_another_returns_late() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(3, options(3));
    node.restart_server();
    come_back(&mut node, &[1, 2]);
    node.wait(11 * SECOND);
    node.take(11);
    put_out_and_invite(&mut node, 11, (12, peers[1]), code);
    come_back(&mut node, &[3]);
    assert_eq!(node.directory.lobby(code).expect("it is back").state.members.len(), 3);
}

#[test]
fn who_left_since_a_restart_is_not_back_by_an_older_token() {
    for kicked in [false, true] {
        let mut node = Node::new();
        let (_, peers) = node.lobby_of(2, options(3));
        node.restart_server();
        come_back(&mut node, &[1, 2]);
        node.lobby(12);
        node.take(11);
        if kicked {
            node.done(11, kick(peers[1], Rejoin::Free));
        } else {
            node.say(12, ClientMessage::Leave { request: 1 });
            node.take(11);
        }
        node.update(11, locked());
        node.say(12, ClientMessage::Goodbye);
        // The token of its connection 2 is of the server before.
        node.resume_over(2, 22, 0);
        assert_eq!(node.lobby(22), None, "kicked: {kicked}");
    }
}

#[test]
fn who_is_banned_stays_out_after_a_second_restart() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(3, options(4));
    node.done(1, kick(peers[2], Rejoin::Never));
    // The second one has not taken the token that says so, and hears of it from the first one's.
    node.restart_server();
    come_back(&mut node, &[2, 1]);
    node.take(12);
    node.restart_server();
    come_back(&mut node, &[12]);
    come_back(&mut node, &[3]);
    assert_eq!(node.lobby(13), None);
    node.wait(11 * SECOND);
    assert_eq!(node.refused(13, ClientMessage::join(1, code)), ErrorCode::Banned);
}

#[test]
fn who_was_put_out_and_is_back_first_does_not_keep_its_host_out() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(2, options(2));
    node.done(1, kick(peers[1], Rejoin::Never));
    node.update(1, room(1));
    node.restart_server();
    come_back(&mut node, &[2, 1]);
    let lobby = node.directory.lobbies.get(code).expect("it is back");
    assert!(lobby.has(peers[0]) && !lobby.has(peers[1]), "{:?}", lobby.members());
}

#[test]
fn a_reservation_that_was_used_is_over_after_a_restart_too() {
    for order in [[1, 2], [2, 1]] {
        let mut node = Node::new();
        let (code, _) = node.lobby_of(1, options(3));
        let friend = node.hello(2);
        node.done(1, ClientMessage::Reserve { request: 1, peers: vec![friend], secs: 600 });
        node.join(2, code);
        node.take(1);
        node.restart_server();
        come_back(&mut node, &order);
        node.wait(11 * SECOND);
        node.hello(20);
        assert_eq!(node.join(20, code).members.len(), 3, "{order:?}: one seat is free");
    }
}
