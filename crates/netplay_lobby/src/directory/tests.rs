//! One test a rule; limits, sessions and random runs are in their own files.

mod accounts;
mod admission;
mod hosting;
mod leading;
mod limits;
mod model;
mod node;
mod random;
mod restart;
mod search;
mod sessions;
mod start;

use netplay_protocol::PeerId;
use netplay_protocol::limits::LOBBY_LIST_MAX;
use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, LeaveReason, LobbySummary, MemberData, ServerMessage, Visibility,
};

use node::{Node, joins, members, options, signal};

#[test]
fn a_lobby_is_created_and_joined_by_code() {
    let mut node = Node::new();
    let (a, b) = (node.hello(1), node.hello(2));
    let created = node.create(1, options(2));
    assert_eq!((created.host, members(&created)), (a, vec![(a, true)]));
    let joined = node.join(2, created.code);
    assert_eq!((joined.host, members(&joined)), (a, vec![(a, true), (b, true)]));
    assert_eq!(node.take(1), [joins(b, 1)]);
}

#[test]
fn a_full_lobby_refuses_and_a_seat_of_an_offline_member_stays_taken() {
    let mut node = Node::new();
    node.hello(1);
    node.hello(2);
    node.hello(3);
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.disconnect(2);
    node.say(3, ClientMessage::join(9, lobby.code));
    assert_eq!(node.error(3), (Some(9), ErrorCode::LobbyFull));
}

#[test]
fn lobbies_of_other_games_do_not_exist() {
    let mut node = Node::new();
    node.hello(1);
    node.hello_game(2, "other");
    let lobby = node.create(1, options(2));
    node.say(2, ClientMessage::join(1, lobby.code));
    assert_eq!(node.error(2), (Some(1), ErrorCode::NoSuchLobby));
    assert_eq!(node.list(2), []);
    let other = node.quick(2, options(2));
    assert_ne!(other.code, lobby.code);
}

#[test]
fn quick_join_takes_the_fullest_then_the_oldest_of_its_capacity() {
    let mut node = Node::new();
    for connection in 1..=8 {
        node.hello(connection);
    }
    node.create(1, options(4));
    let fuller = node.create(2, options(4));
    node.join(3, fuller.code);
    node.create(4, options(3));
    assert_eq!(node.quick(5, options(4)).code, fuller.code);
    let mut private = options(2);
    private.visibility = Visibility::Private;
    let hidden = node.create(6, private);
    let fresh = node.quick(7, options(2));
    assert_ne!(fresh.code, hidden.code, "private lobbies are found by code only");
    assert_eq!(node.quick(8, options(2)).code, fresh.code);
}

#[test]
fn quick_join_prefers_the_older_of_two_equals() {
    let mut node = Node::new();
    for connection in 1..=3 {
        node.hello(connection);
    }
    let older = node.create(1, options(4));
    node.create(2, options(4));
    assert_eq!(node.quick(3, options(4)).code, older.code);
}

#[test]
fn a_lobby_where_nobody_is_online_is_found_by_code_only() {
    let mut node = Node::new();
    node.hello(1);
    node.hello(2);
    let lobby = node.create(1, options(3));
    node.disconnect(1);
    assert_eq!(node.list(2), []);
    assert_ne!(node.quick(2, options(3)).code, lobby.code);
    node.say(2, ClientMessage::Leave { request: 1 });
    node.take(2);
    assert_eq!(node.join(2, lobby.code).code, lobby.code);
}

#[test]
fn lists_show_open_public_lobbies_fullest_first() {
    let mut node = Node::new();
    for connection in 1..=6 {
        node.hello(connection);
    }
    let one = node.create(1, options(4));
    let two = node.create(2, options(8));
    node.join(3, two.code);
    let full = node.create(4, options(1));
    let mut private = options(3);
    private.visibility = Visibility::Private;
    node.create(5, private);
    let summary = |code, members, capacity| {
        let name = "a game".to_owned();
        LobbySummary {
            code,
            name,
            members,
            capacity,
            password: false,
            playing: false,
            data: MemberData::new(),
        }
    };
    assert_eq!(node.list(6), [summary(two.code, 2, 8), summary(one.code, 1, 4)]);
    node.say(6, ClientMessage::join(1, full.code));
    assert_eq!(node.error(6), (Some(1), ErrorCode::LobbyFull));
}

#[test]
fn a_list_is_bounded() {
    let mut node = Node::new();
    let count = u64::try_from(LOBBY_LIST_MAX).unwrap() + 10;
    for connection in 1..=count {
        node.hello(connection);
        node.create(connection, options(2 + u8::try_from(connection % 3).unwrap()));
    }
    assert_eq!(node.list(1).len(), LOBBY_LIST_MAX);
}

#[test]
fn who_is_in_a_lobby_cannot_enter_another() {
    let mut node = Node::new();
    node.hello(1);
    let lobby = node.create(1, options(2));
    let enter = [
        ClientMessage::create(1, options(2)),
        ClientMessage::quick_join(1, options(2)),
        ClientMessage::join(1, lobby.code),
    ];
    for message in enter {
        node.say(1, message);
        assert_eq!(node.error(1), (Some(1), ErrorCode::AlreadyInLobby));
    }
}

#[test]
fn leaving_frees_the_seat_and_the_last_one_frees_the_lobby() {
    let mut node = Node::new();
    let (a, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(1);
    node.say(1, ClientMessage::Leave { request: 5 });
    assert_eq!(node.take(1), [ServerMessage::Left { request: 5 }]);
    assert_eq!(
        node.take(2),
        [
            ServerMessage::MemberLeft { peer: a, reason: LeaveReason::Left },
            ServerMessage::HostChanged { host: b, term: 1 },
        ]
    );
    node.say(2, ClientMessage::Leave { request: 6 });
    assert_eq!(node.directory.stats().lobbies, 0);
    node.say(2, ClientMessage::Leave { request: 7 });
    node.take_last(2, ServerMessage::Left { request: 6 });
    assert_eq!(node.error(2), (Some(7), ErrorCode::NotInLobby));
}

#[test]
fn the_longest_standing_online_member_becomes_host() {
    let mut node = Node::new();
    node.hello(1);
    node.hello(2);
    let c = node.hello(3);
    let lobby = node.create(1, options(3));
    node.join(2, lobby.code);
    node.join(3, lobby.code);
    node.disconnect(2);
    node.say(1, ClientMessage::Goodbye);
    assert_eq!(node.take(3).last(), Some(&ServerMessage::HostChanged { host: c, term: 1 }));
}

#[test]
fn without_anybody_online_the_longest_standing_member_becomes_host() {
    let mut node = Node::new();
    node.hello(1);
    let b = node.hello(2);
    node.hello(3);
    let lobby = node.create(1, options(3));
    node.join(2, lobby.code);
    node.join(3, lobby.code);
    node.disconnect(2);
    node.disconnect(3);
    node.say(1, ClientMessage::Leave { request: 1 });
    assert_eq!(node.directory.lobbies.get(lobby.code).unwrap().host, b);
}

#[test]
fn signals_reach_members_of_the_same_lobby_only() {
    let mut node = Node::new();
    let (a, b, c) = (node.hello(1), node.hello(2), node.hello(3));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.create(3, options(2));
    node.take(1);
    node.say(1, ClientMessage::Signal { to: b, signal: signal(7) });
    assert_eq!(node.take(2), [ServerMessage::Signal { from: a, signal: signal(7) }]);
    for stranger in [a, c, PeerId::from_u128(1)] {
        node.say(1, ClientMessage::Signal { to: stranger, signal: signal(7) });
        assert_eq!(node.error(1), (None, ErrorCode::NoSuchMember));
    }
    assert_eq!(node.take(3), []);
}

#[test]
fn who_is_in_no_lobby_has_nobody_to_signal() {
    let mut node = Node::new();
    node.hello(1);
    let b = node.hello(2);
    node.say(1, ClientMessage::Signal { to: b, signal: signal(1) });
    assert_eq!(node.error(1), (None, ErrorCode::NotInLobby));
    node.say(1, ClientMessage::ReportLost { peer: b });
    assert_eq!(node.error(1), (None, ErrorCode::NotInLobby));
}

#[test]
fn a_member_that_everybody_lost_is_removed_at_once() {
    let mut node = Node::new();
    let (_, b, _) = (node.hello(1), node.hello(2), node.hello(3));
    let lobby = node.create(1, options(3));
    node.join(2, lobby.code);
    node.join(3, lobby.code);
    node.say(1, ClientMessage::ReportLost { peer: b });
    node.say(3, ClientMessage::ReportLost { peer: b });
    assert!(!node.take(1).iter().any(is_left), "an online member cannot be voted out");
    node.disconnect(2);
    assert_eq!(
        node.take(1),
        [
            ServerMessage::MemberOffline { peer: b },
            ServerMessage::MemberLeft { peer: b, reason: LeaveReason::Lost }
        ]
    );
    assert_eq!(node.directory.stats().sessions, 2);
}

#[test]
fn one_member_that_still_has_it_keeps_it() {
    let mut node = Node::new();
    let (_, b, _) = (node.hello(1), node.hello(2), node.hello(3));
    let lobby = node.create(1, options(3));
    node.join(2, lobby.code);
    node.join(3, lobby.code);
    node.disconnect(2);
    node.say(1, ClientMessage::ReportLost { peer: b });
    assert!(!node.take(1).iter().any(is_left));
    node.say(3, ClientMessage::Leave { request: 1 });
    assert!(node.take(1).iter().any(is_left), "who has left has no say any more");
}

#[test]
fn reports_are_forgotten_when_the_member_is_back() {
    let mut node = Node::new();
    let (_, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.say(1, ClientMessage::ReportLost { peer: b });
    assert!(node.resume_over(2, 12, 1));
    node.say(1, ClientMessage::ReportLost { peer: b });
    node.disconnect(12);
    assert_eq!(node.directory.stats().sessions, 1, "it was reported after the take-over");

    let b = node.hello(3);
    node.join(3, lobby.code);
    node.disconnect(3);
    assert!(node.resume_over(3, 13, 1));
    node.disconnect(13);
    assert_eq!(node.directory.stats().sessions, 2);
    node.take(1);
    node.say(1, ClientMessage::ReportLost { peer: b });
    assert_eq!(node.take(1), [ServerMessage::MemberLeft { peer: b, reason: LeaveReason::Lost }]);
}

#[test]
fn a_report_counts_again_when_its_reporter_is_back() {
    let mut node = Node::new();
    let (_, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.say(1, ClientMessage::ReportLost { peer: b });
    node.disconnect(1);
    node.disconnect(2);
    assert_eq!(node.directory.stats().sessions, 2, "nobody is online to know");
    assert!(node.resume_over(1, 11, 2));
    let reason = LeaveReason::Lost;
    assert!(node.take(11).contains(&ServerMessage::MemberLeft { peer: b, reason }));
}

fn is_left(message: &ServerMessage) -> bool {
    matches!(message, ServerMessage::MemberLeft { .. })
}
