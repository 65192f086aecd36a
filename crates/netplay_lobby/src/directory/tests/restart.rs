//! A server or a game that is started anew.

use core::time::Duration;

use std::collections::BTreeMap;

use netplay_protocol::limits::{ACCOUNT_MAX, LOBBY_MESSAGE_MAX, LOBBY_NAME_MAX, LOGIN_MAX};
use netplay_protocol::lobby::{
    ClientMessage, Entry, ErrorCode, InviteToken, JoinWith, Jwt, LeaveReason, LobbyOptions, Login,
    MemberData, Rejoin, Resume, ServerMessage, SessionKind, Visibility,
};
use netplay_protocol::{AccountId, BuildId, DataKey, GameId, PROTOCOL_VERSION, PeerId};

use super::node::{Node, joins, members, options, signal};
use crate::{ConnectionId, Input};

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
    let leads = |m: &_| matches!(m, ServerMessage::HostChanged { host, term: 1.. } if *host == b);
    assert!(told.iter().any(leads), "{told:?}");
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

fn kick(peer: PeerId, rejoin: Rejoin) -> ClientMessage {
    ClientMessage::Kick { request: 9, peer, rejoin }
}

fn by_invitation(invite: InviteToken) -> JoinWith {
    JoinWith { invite: Some(invite), ..JoinWith::default() }
}

#[test]
fn who_was_put_out_stays_out_after_a_restart_of_the_server_whoever_returns_first() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let mut node = Node::new();
        let (code, peers) = node.lobby_of(3, options(4));
        // It keeps what it had before that.
        node.say(1, kick(peers[2], Rejoin::Never));
        node.take(1);
        node.take(2);
        node.restart_server();
        for of in order {
            assert_eq!(resume(&mut node, of, 10 + of, false), SessionKind::Restored);
        }
        node.wait(11 * SECOND);
        let seen = node.directory.lobby(code).expect("it is back").state;
        let there: Vec<_> = seen.members.iter().map(|member| member.peer).collect();
        assert_eq!(there, peers[..2], "{order:?}");
        let mut told = node.take(13);
        told.retain(|message| matches!(message, ServerMessage::Removed { .. }));
        let was_let_in = node.lobby(13).is_some();
        let removed = ServerMessage::Removed { reason: LeaveReason::Banned };
        assert_eq!(told, Vec::from_iter(was_let_in.then_some(removed)), "{order:?}");
        let join = ClientMessage::join(1, code);
        assert_eq!(node.refused(13, join), ErrorCode::Banned);
    }
}

#[test]
fn an_invitation_of_before_a_restart_is_none_for_who_was_put_out() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(2, options(3));
    let old = node.invite(1, None);
    node.done(1, kick(peers[1], Rejoin::Invited));
    node.take(2);
    node.restart_server();
    resume(&mut node, 1, 11, false);
    resume(&mut node, 2, 12, false);
    node.wait(11 * SECOND);
    let join = |invite| ClientMessage::Join { request: 1, code, with: by_invitation(invite) };
    assert_eq!(node.refused(12, join(old)), ErrorCode::NotInvited);
    node.take(11);
    let new = node.invite(11, Some(peers[1]));
    node.take(12);
    assert_eq!(node.join_with(12, code, by_invitation(new)).members.len(), 2);
}

#[test]
fn seats_are_kept_over_a_restart_of_the_server_for_as_long_as_was_said() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, LobbyOptions { locked: true, ..options(2) });
    let friend = node.hello(3);
    node.take(3);
    node.done(1, ClientMessage::Reserve { request: 2, peers: vec![friend], secs: 60 });
    node.restart_server();
    resume(&mut node, 3, 13, false);
    resume(&mut node, 1, 11, false);
    node.wait(11 * SECOND);
    node.hello(20);
    assert_eq!(node.refused(20, ClientMessage::join(1, code)), ErrorCode::Locked);
    assert_eq!(node.join(13, code).members.len(), 2);
}

#[test]
fn no_term_has_two_hosts_over_a_restart_whoever_returns_first() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(3, options(4).keep_seats(600));
    node.disconnect(2);
    node.say(1, ClientMessage::Leave { request: 9 });
    let led = node.directory.lobby(code).expect("it is there").state;
    assert_eq!((led.host, led.term), (peers[2], 1));
    node.take(3);
    node.restart_server();
    resume(&mut node, 2, 12, false);
    node.wait(11 * SECOND);
    let mut told = node.take(12);
    let Some(ServerMessage::HostChanged { host, term }) = told.pop() else { panic!("{told:?}") };
    assert!(host == peers[1] && term > led.term, "{term}");
    resume(&mut node, 3, 13, false);
    let late = node.lobby(13).expect("it is back");
    assert_eq!((late.host, late.term), (host, term));
}

#[test]
fn who_comes_back_late_from_a_later_term_finds_an_even_later_one() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(2, options(4).keep_seats(600));
    // The host's token is of before.
    node.disconnect(1);
    node.directory.change(code, |lobby| lobby.promote(peers[1]));
    node.directory.tell_token(peers[1]);
    node.say(2, ClientMessage::KeepAlive { seen: 0 });
    node.take(2);
    node.restart_server();
    resume(&mut node, 1, 11, false);
    node.wait(11 * SECOND);
    node.say(11, ClientMessage::KeepAlive { seen: 0 });
    node.take(11);
    resume(&mut node, 2, 12, false);
    let late = node.lobby(12).expect("it is back");
    assert!(late.host == peers[0] && late.term > 1, "{late:?}");
    let told = node.take(11);
    let term = late.term;
    let news = ServerMessage::HostChanged { host: peers[0], term };
    assert!(told.contains(&news), "{told:?}");
}

#[test]
fn a_lobby_that_its_operator_closed_is_brought_back_by_nobody() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(2, options(3));
    node.restart_server();
    resume(&mut node, 1, 11, false);
    node.input(Input::Close { code });
    assert_eq!(node.directory.stats().lobbies, 0);
    assert_eq!(resume(&mut node, 2, 12, false), SessionKind::Restored);
    assert_eq!((node.lobby(12), node.directory.stats().lobbies), (None, 0));
}

#[test]
fn a_lobby_lives_no_longer_for_a_restart_of_the_server() {
    let mut node = Node::with(|config| config.lobby_lifetime = 100 * SECOND);
    let (code, _) = node.lobby_of(2, options(3).keep_seats(600));
    node.wait(10 * SECOND);
    node.restart_server();
    node.wait(60 * SECOND);
    resume(&mut node, 1, 11, false);
    node.wait(29 * SECOND);
    assert!(node.directory.lobby(code).is_some());
    node.wait(2 * SECOND);
    assert!(node.directory.lobby(code).is_none());
    assert_eq!(resume(&mut node, 2, 12, false), SessionKind::Restored);
    assert_eq!(node.lobby(12), None, "its time is over");
}

/// The largest that everything may be: what the server gives must be short enough to be brought back.
#[test]
fn the_largest_token_fits_into_hello_with_the_largest_login() {
    let mut node = Node::new();
    let key = |number: usize| DataKey::new(format!("{number:02}{}", "k".repeat(30))).unwrap();
    let text = "\"".repeat(256);
    let long = |number: usize| AccountId::new(format!("{number:0>ACCOUNT_MAX$}")).unwrap();
    node.directory.handle(node.now, Input::Tick);
    node.connect(1);
    let connection = ConnectionId(1);
    node.input(Input::LoggedIn {
        connection,
        account: Ok(AccountId::new("\"".repeat(ACCOUNT_MAX)).unwrap()),
    });
    let hello = |resume, login| ClientMessage::Hello {
        protocol: PROTOCOL_VERSION,
        game: GameId::new("g".repeat(64)).unwrap(),
        build: Some(BuildId::new("b".repeat(64)).unwrap()),
        resume,
        login,
    };
    node.say(1, hello(None, Some(Login::Jwt(Jwt("a.b.c".into())))));
    node.welcomed(1);
    let options = LobbyOptions {
        name: "\"".repeat(LOBBY_NAME_MAX),
        visibility: Visibility::Private,
        ..options(16)
    };
    node.create(1, options);
    let mut data = BTreeMap::new();
    for number in 0..7 {
        data.insert(key(number), Some(Entry::members(text.as_str())));
    }
    node.done(1, ClientMessage::SetData { request: 1, revision: None, changes: data });
    let member = MemberData::from([
        (key(0), text.as_str().into()),
        (key(1), "\"".repeat(190).as_str().into()),
    ]);
    let changes = member.into_iter().map(|(key, value)| (key, Some(value))).collect();
    node.done(1, ClientMessage::SetMemberData { request: 1, changes });
    let peers = (0..15).map(PeerId::from_u128).collect();
    node.done(1, ClientMessage::Reserve { request: 1, peers, secs: 60 });
    for number in 0..64 {
        node.wait(SECOND);
        let connection = ConnectionId(100);
        node.connect(100);
        node.input(Input::LoggedIn { connection, account: Ok(long(number)) });
        node.say(100, hello(None, Some(Login::Jwt(Jwt("a.b.c".into())))));
        let (peer, _) = node.welcomed(100);
        node.say(1, kick(peer, Rejoin::Never));
        node.say(100, ClientMessage::Goodbye);
    }
    node.take(1);
    let (peer, token) = node.session(1);
    let login = Login::Jwt(Jwt("x".repeat(LOGIN_MAX)));
    let resume = Resume { peer, token, seen: u64::MAX, restart: true };
    let bytes = hello(Some(resume), Some(login)).to_json().len();
    assert!(bytes <= LOBBY_MESSAGE_MAX, "{bytes} bytes");
    assert!(bytes > LOBBY_MESSAGE_MAX / 2, "{bytes} bytes: this is not the largest");
}
