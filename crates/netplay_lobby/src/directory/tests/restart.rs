//! A server or a game that is started anew.

use core::time::Duration;

use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, LeaveReason, Resume, ServerMessage, SessionKind,
};

use super::node::{Node, joins, members, options, signal};

const SECOND: Duration = Duration::from_secs(1);

/// Takes up the session of one connection on a new one.
fn resume(node: &mut Node, old: u64, new: u64, restart: bool) -> SessionKind {
    let (peer, token) = node.session(old);
    node.connect(new);
    node.say_hello(new, Some(Resume { peer, token, seen: 0, restart }));
    let (again, kind) = node.welcomed(new);
    assert_eq!(again == peer, kind != SessionKind::New);
    kind
}

#[test]
fn a_server_started_anew_takes_up_its_players_and_their_lobby() {
    let mut node = Node::new();
    let (a, b, c) = (node.hello(1), node.hello(2), node.hello(3));
    let lobby = node.create(1, options(4));
    node.join(2, lobby.code);
    node.join(3, lobby.code);
    for connection in 1..=3 {
        node.take(connection);
    }
    node.restart_server();
    assert_eq!(resume(&mut node, 3, 13, false), SessionKind::Restored);
    let back = node.lobby(13).expect("it is in the lobby again");
    assert_eq!((back.code, back.options, back.host), (lobby.code, lobby.options, a));
    assert_eq!(back.members.len(), 1, "the others are not back yet");
    assert_eq!(resume(&mut node, 1, 11, false), SessionKind::Restored);
    assert_eq!(resume(&mut node, 2, 12, false), SessionKind::Restored);
    let back = node.lobby(12).expect("it is in the lobby again");
    assert_eq!(members(&back), [(a, true), (b, true), (c, true)], "in the old order");
    assert_eq!(node.take(13), [joins(a, 0), joins(b, 1),]);
    node.say(11, ClientMessage::Signal { to: c, signal: signal(1) });
    assert_eq!(node.take(13), [ServerMessage::Signal { from: a, signal: signal(1) }]);
    node.wait(12 * SECOND);
    assert!(node.take(13).is_empty(), "the host stays");
}

#[test]
fn strangers_enter_a_lobby_that_comes_back_after_its_members() {
    let mut node = Node::new();
    node.hello(1);
    let b = node.hello(2);
    let lobby = node.create(1, options(3));
    node.join(2, lobby.code);
    node.take(1);
    node.take(2);
    node.restart_server();
    resume(&mut node, 2, 12, false);
    node.hello(5);
    node.say(5, ClientMessage::join(1, lobby.code));
    assert_eq!(node.error(5), (Some(1), ErrorCode::NotYet));
    assert_ne!(node.quick(5, options(3)).code, lobby.code);
    node.say(5, ClientMessage::Leave { request: 2 });
    node.take(5);
    node.wait(9 * SECOND);
    node.say(12, ClientMessage::KeepAlive { seen: 0 });
    node.say(5, ClientMessage::KeepAlive { seen: 0 });
    node.wait(2 * SECOND);
    let told = node.take(12);
    assert!(told.contains(&ServerMessage::HostChanged { host: b, term: 1 }), "{told:?}");
    assert_eq!(node.join(5, lobby.code).members.len(), 2);
    assert_eq!(resume(&mut node, 1, 11, false), SessionKind::Restored, "late, and there is room");
    assert_eq!(node.lobby(11).expect("there").host, b, "the newer host counts");
}

#[test]
fn without_the_key_of_the_server_before_everybody_is_a_stranger() {
    let mut node = Node::new();
    node.hello(1);
    node.create(1, options(2));
    node.take(1);
    node.restart_server_with_another_key();
    assert_eq!(resume(&mut node, 1, 11, false), SessionKind::New);
}

#[test]
fn a_token_expires() {
    for (wait, kind) in [(3599, SessionKind::Restored), (3600, SessionKind::New)] {
        let mut node = Node::with(|config| config.token_lifetime = 3600 * SECOND);
        node.hello(1);
        node.restart_server();
        node.wait(wait * SECOND);
        assert_eq!(resume(&mut node, 1, 11, false), kind);
    }
}

#[test]
fn a_game_started_anew_has_its_seat_and_the_others_hear_of_it() {
    let mut node = Node::new();
    let (a, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2).keep_seats(30));
    node.join(2, lobby.code);
    node.take(1);
    node.take(2);
    node.disconnect(2);
    node.say(1, ClientMessage::ReportLost { peer: b });
    assert_eq!(resume(&mut node, 2, 12, true), SessionKind::Restored);
    let back = node.lobby(12).expect("its seat was kept");
    assert_eq!((back.host, members(&back)), (a, vec![(a, true), (b, true)]));
    assert_eq!(back.members[1].epoch, 1);
    assert_eq!(
        node.take(1),
        [
            ServerMessage::MemberOffline { peer: b },
            ServerMessage::MemberOnline { peer: b, epoch: 1 },
        ]
    );
}

#[test]
fn a_seat_is_kept_as_long_as_the_lobby_says_and_no_longer() {
    let mut node = Node::with(|config| config.grace = 10 * SECOND);
    let (_, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2).keep_seats(60));
    node.join(2, lobby.code);
    node.disconnect(2);
    node.take(1);
    node.say(1, ClientMessage::ReportLost { peer: b });
    let stay = |node: &mut Node, seconds: u32| {
        for _ in 0..seconds {
            node.wait(SECOND);
            node.say(1, ClientMessage::KeepAlive { seen: 0 });
        }
        node.take(1).into_iter().filter(|m| *m != ServerMessage::Alive).collect::<Vec<_>>()
    };
    assert_eq!(stay(&mut node, 59), []);
    let reason = LeaveReason::TimedOut;
    assert_eq!(stay(&mut node, 1), [ServerMessage::MemberLeft { peer: b, reason }]);
    assert_eq!(resume(&mut node, 2, 12, true), SessionKind::New);
}

#[test]
fn of_two_games_with_one_token_the_newest_wins_and_the_other_is_told() {
    let mut node = Node::new();
    let (_, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(2);
    node.take(1);
    assert_eq!(resume(&mut node, 2, 12, true), SessionKind::Restored);
    assert_eq!(node.closed(2), Some(ErrorCode::Superseded));
    assert_eq!(node.take(1), [ServerMessage::MemberOnline { peer: b, epoch: 1 }]);
    // The older one tries again, as a client whose socket closed does.
    let (peer, token) = node.session(2);
    node.connect(22);
    node.say_hello(22, Some(Resume { peer, token, seen: 2, restart: false }));
    assert_eq!(node.closed(22), Some(ErrorCode::Superseded));
    assert_eq!(node.closed(12), None, "the newest one goes on");
}

#[test]
fn a_goodbye_is_final() {
    let mut node = Node::new();
    node.hello(1);
    node.create(1, options(2));
    node.take(1);
    node.say(1, ClientMessage::Goodbye);
    for restart in [false, true] {
        assert_eq!(resume(&mut node, 1, 11 + u64::from(restart), restart), SessionKind::New);
    }
}

#[test]
fn another_lobby_with_the_code_of_a_lobby_of_before_is_not_mistaken_for_it() {
    let mut node = Node::new();
    node.hello(1);
    node.hello(2);
    let lobby = node.create(1, options(2));
    node.take(1);
    // Two lobbies at different times of the same server, under one code.
    let old = node.session(1);
    node.say(1, ClientMessage::Goodbye);
    node.use_code_again(2, lobby.code, options(2));
    node.restart_server();
    assert_eq!(resume(&mut node, 2, 12, false), SessionKind::Restored);
    assert!(node.lobby(12).is_some());
    let (peer, token) = old;
    node.connect(11);
    node.say_hello(11, Some(Resume { peer, token, seen: 0, restart: false }));
    assert_eq!(node.welcomed(11).1, SessionKind::Restored);
    assert!(node.lobby(11).is_none(), "its lobby is not there any more");
}
