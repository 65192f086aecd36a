//! Who leads when the host is offline.

use core::time::Duration;

use netplay_protocol::lobby::{ClientMessage, LobbyOptions, ServerMessage};
use netplay_protocol::{LobbyCode, PeerId};

use super::node::{Node, options};

const SECOND: Duration = Duration::from_secs(1);

/// A lobby of three that keeps seats; an offline host leads on for five seconds.
fn lobby() -> (Node, LobbyCode, Vec<PeerId>) {
    let mut node = Node::with(|config| config.grace = 5 * SECOND);
    let (code, peers) = node.lobby_of(3, LobbyOptions { seat_secs: 600, ..options(3) });
    (node, code, peers)
}

/// Lets time pass in which these are not silent.
fn wait(node: &mut Node, seconds: u32, online: &[u64]) {
    for _ in 0..seconds {
        node.wait(SECOND);
        online.iter().for_each(|of| node.say(*of, ClientMessage::KeepAlive { seen: 0 }));
    }
}

/// Who leads by now, if somebody heard of another one.
fn new_host(node: &mut Node, connection: u64) -> Option<PeerId> {
    node.take(connection).into_iter().rev().find_map(|message| match message {
        ServerMessage::HostChanged { host, .. } => Some(host),
        _ => None,
    })
}

#[test]
fn an_offline_host_leads_on_for_a_while_and_then_who_is_there_longest() {
    let (mut node, code, peers) = lobby();
    node.disconnect(1);
    wait(&mut node, 4, &[2, 3]);
    assert_eq!(new_host(&mut node, 3), None);
    wait(&mut node, 2, &[2, 3]);
    assert_eq!(new_host(&mut node, 3), Some(peers[1]));
    node.done(2, ClientMessage::SetPlaying { request: 1, playing: true });
    // It has its seat, hears who leads, and leads no more.
    assert!(node.resume_over(1, 11, 3));
    assert_eq!(new_host(&mut node, 11), Some(peers[1]));
    let lobby = node.directory.lobby(code).unwrap().state;
    assert_eq!((lobby.host, lobby.term, lobby.members.len()), (peers[1], 1, 3));
}

#[test]
fn a_host_that_is_back_in_time_leads_on() {
    let (mut node, _, _) = lobby();
    node.disconnect(1);
    wait(&mut node, 4, &[2, 3]);
    assert!(node.resume_over(1, 11, 3));
    wait(&mut node, 20, &[11, 2, 3]);
    node.disconnect(11);
    wait(&mut node, 4, &[2, 3]);
    assert_eq!(new_host(&mut node, 2), None, "the time begins anew");
}

#[test]
fn where_nobody_is_online_who_comes_back_leads_when_the_host_does_not() {
    let (mut node, _, peers) = lobby();
    (1..=3).for_each(|connection| node.disconnect(connection));
    node.wait(60 * SECOND);
    assert!(node.resume_over(3, 13, 3));
    wait(&mut node, 4, &[13]);
    assert_eq!(new_host(&mut node, 13), None);
    wait(&mut node, 2, &[13]);
    assert_eq!(new_host(&mut node, 13), Some(peers[2]));
}

#[test]
fn who_is_offline_and_made_host_leads_for_the_same_while() {
    let (mut node, _, peers) = lobby();
    node.disconnect(2);
    wait(&mut node, 30, &[1, 3]);
    node.take(1);
    node.done(1, ClientMessage::Promote { request: 1, peer: peers[1] });
    assert_eq!(new_host(&mut node, 3), Some(peers[1]));
    wait(&mut node, 6, &[1, 3]);
    assert_eq!(new_host(&mut node, 3), Some(peers[0]));
}

#[test]
fn in_a_match_a_host_leads_until_all_others_have_lost_it() {
    let (mut node, code, peers) = lobby();
    node.done(1, ClientMessage::SetPlaying { request: 1, playing: true });
    node.disconnect(1);
    wait(&mut node, 20, &[2, 3]);
    let lost = ClientMessage::ReportLost { peer: peers[0] };
    node.say(2, lost.clone());
    assert_eq!(new_host(&mut node, 2), None, "it plays on with one of them");
    node.say(3, lost);
    assert_eq!(new_host(&mut node, 2), Some(peers[1]));
    assert_eq!(node.directory.lobby(code).unwrap().state.members.len(), 3, "it has its seat");
}
