//! Greeting, resuming and ending sessions.

use core::time::Duration;

use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, LeaveReason, Resume, ResumeToken, ServerMessage, SessionKind,
};
use netplay_protocol::{GameId, PROTOCOL_VERSION};

use super::node::{Node, options, signal};
use crate::Stats;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn hello_must_come_first_and_once() {
    let mut node = Node::new();
    node.connect(1);
    node.say(1, ClientMessage::search(1));
    assert_eq!(node.closed(1), Some(ErrorCode::Order));
    node.hello(2);
    node.say_hello(2, None);
    assert_eq!(node.closed(2), Some(ErrorCode::Order));
    node.say(2, ClientMessage::search(1));
    assert_eq!(node.take(2).len(), 1, "only the error: a closed connection is ignored");
}

#[test]
fn who_does_not_greet_is_closed_at_the_deadline() {
    let mut node = Node::new();
    node.connect(1);
    node.wait(5 * SECOND - Duration::from_micros(1));
    assert_eq!(node.closed(1), None);
    node.wait(Duration::from_micros(1));
    assert_eq!(node.closed(1), Some(ErrorCode::Order));
}

#[test]
fn another_version_is_refused_by_name() {
    let mut node = Node::new();
    node.connect(1);
    let game = GameId::new("game").unwrap();
    node.say(
        1,
        ClientMessage::Hello { protocol: 999, game, build: None, resume: None, login: None },
    );
    let frames = node.take_frames(1);
    let ServerMessage::Error { code: ErrorCode::Version, text, .. } = &frames[0].message else {
        panic!("{frames:?}");
    };
    assert_eq!(frames[0].seq, 0);
    assert!(text.contains("version 999"), "{text}");
    assert!(text.contains(&format!("version {PROTOCOL_VERSION}")), "{text}");
    assert_eq!(node.closed(1), Some(ErrorCode::Version));
}

#[test]
fn silence_takes_a_session_offline_and_then_ends_it() {
    let mut node = Node::new();
    let (_, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(1);
    let mut told = Vec::new();
    for _ in 0..50 {
        node.wait(SECOND);
        node.say(1, ClientMessage::KeepAlive { seen: 0 });
        let mut frames = node.take(1);
        assert_eq!(frames.pop(), Some(ServerMessage::Alive));
        told.append(&mut frames);
    }
    assert_eq!(node.closed(2), Some(ErrorCode::TooSlow));
    assert_eq!(node.closed(1), None);
    let reason = LeaveReason::TimedOut;
    assert_eq!(
        told,
        [ServerMessage::MemberOffline { peer: b }, ServerMessage::MemberLeft { peer: b, reason }]
    );
}

#[test]
fn a_resume_within_the_grace_keeps_the_peer_and_misses_no_frame() {
    let mut node = Node::new();
    let (a, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.disconnect(2);
    node.say(1, ClientMessage::Signal { to: b, signal: signal(3) });
    node.take(1);
    node.wait(5 * SECOND);
    assert!(node.resume_over(2, 12, 2));
    let frames = node.take_frames(12);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].seq, 3);
    assert_eq!(frames[0].message, ServerMessage::Signal { from: a, signal: signal(3) });
    assert_eq!(node.take(1), [ServerMessage::MemberOnline { peer: b, epoch: 0 }]);
}

#[test]
fn after_the_grace_the_session_is_gone() {
    let mut node = Node::with(|config| config.grace = 10 * SECOND);
    let a = node.hello(1);
    node.disconnect(1);
    node.wait(10 * SECOND);
    assert_eq!(node.directory.stats(), Stats::default());
    assert!(!node.resume_over(1, 2, 0));
    node.say(2, ClientMessage::create(1, options(1)));
    let frames = node.take_frames(2);
    assert_eq!(frames[0].seq, 1, "a fresh session counts from 1");
    let ServerMessage::Joined { lobby, .. } = &frames[0].message else { panic!("{frames:?}") };
    assert_ne!(lobby.host, a);
}

#[test]
fn a_wrong_token_gets_a_fresh_session_and_harms_nobody() {
    let mut node = Node::new();
    let a = node.hello(1);
    let mut wrong = node.token(1).0;
    wrong.replace_range(31.., if wrong.ends_with('0') { "1" } else { "0" });
    for (connection, token) in [(2, wrong), (3, String::new()), (4, "é".repeat(16))] {
        node.connect(connection);
        let resume = Resume { peer: a, token: ResumeToken(token), seen: 0, restart: false };
        node.say_hello(connection, Some(resume));
        let (peer, session) = node.welcomed(connection);
        assert!(peer != a && session == SessionKind::New);
    }
    assert_eq!(node.closed(1), None);
    assert_eq!(node.list(1), []);
}

#[test]
fn a_session_of_another_game_is_not_taken_up() {
    let mut node = Node::new();
    let a = node.hello_game(1, "other");
    assert!(!node.resume_over(1, 2, 0), "connection 2 greets for another game");
    assert_eq!(node.closed(1), None, "{a} goes on");
}

#[test]
fn a_resume_over_a_live_connection_supersedes_it() {
    let mut node = Node::new();
    let (_, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(1);
    assert!(node.resume_over(2, 12, 1));
    let frames = node.take_frames(2);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].seq, 0, "it is no frame of the session");
    assert!(matches!(frames[0].message, ServerMessage::Error { code: ErrorCode::Superseded, .. }));
    assert_eq!(node.closed(2), Some(ErrorCode::Superseded));
    node.disconnect(2);
    assert_eq!(node.take(1), [], "the member was never offline");
    node.say(1, ClientMessage::Signal { to: b, signal: signal(1) });
    assert_eq!(node.take(12).len(), 1);
}

#[test]
fn a_log_that_does_not_reach_back_restores_the_session_without_its_frames() {
    let mut node = Node::with(|config| config.log_frames = 2);
    let (_, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.disconnect(2);
    for attempt in 1..=3 {
        node.say(1, ClientMessage::Signal { to: b, signal: signal(attempt) });
    }
    node.take(1);
    assert!(!node.resume_over(2, 12, 1));
    assert_eq!(node.take(1), [ServerMessage::MemberOnline { peer: b, epoch: 0 }]);
    assert_eq!(node.directory.stats().sessions, 2);
    assert_eq!(node.take(12), [], "the lobby is in the welcome");
}

#[test]
fn all_logs_together_are_bounded() {
    let mut node = Node::with(|config| config.log_bytes_total = 700);
    for connection in 1..=20 {
        node.hello(connection);
        node.list(connection);
        assert!(node.directory.stats().log_bytes <= 700);
    }
    assert!(!node.resume_over(20, 40, 0), "its log had no room");
    assert!(node.resume_over(1, 41, 0), "the log of an earlier one is untouched");
}

#[test]
fn confirmed_frames_are_forgotten() {
    let mut node = Node::new();
    node.hello(1);
    node.list(1);
    assert!(node.directory.stats().log_bytes > 0);
    node.say(1, ClientMessage::KeepAlive { seen: 1 });
    assert_eq!(node.directory.stats().log_bytes, 0);
    assert!(node.resume_over(1, 2, 1));
}

#[test]
fn goodbye_ends_the_session_at_once() {
    let mut node = Node::new();
    let (_, b) = (node.hello(1), node.hello(2));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(1);
    node.say(2, ClientMessage::Goodbye);
    assert_eq!(node.closed(2), Some(ErrorCode::SessionGone));
    let reason = LeaveReason::Left;
    assert_eq!(node.take(1), [ServerMessage::MemberLeft { peer: b, reason }]);
    assert!(!node.resume_over(2, 12, 0));
}

#[test]
fn goodbye_is_heard_from_a_client_that_is_over_its_rate() {
    let mut node = Node::new();
    node.hello(1);
    for request in 0..70 {
        node.say(1, ClientMessage::Leave { request });
    }
    node.say(1, ClientMessage::Goodbye);
    assert_eq!(node.directory.stats(), Stats::default());
}

#[test]
fn a_second_use_of_a_connection_number_replaces_the_first() {
    let mut node = Node::new();
    node.hello(1);
    node.hello(1);
    assert_eq!(node.directory.stats().connections, 1);
    node.wait(60 * SECOND);
    assert_eq!(node.directory.stats(), Stats::default());
}

#[test]
fn what_closed_or_unknown_connections_say_is_ignored() {
    let mut node = Node::new();
    node.disconnect(5);
    node.say(5, ClientMessage::Goodbye);
    node.say_hello(5, None);
    assert_eq!(node.directory.stats(), Stats::default());
    assert_eq!(node.take(5), []);
}
