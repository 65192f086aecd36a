//! Limits: what is refused, and when a client is closed.

use core::net::IpAddr;
use core::time::Duration;

use netplay_protocol::limits::SDP_MAX;
use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, MessageError, RawSignal, Resume, ServerFrame, ServerMessage,
    SessionKind, SignalBody,
};

use super::node::{Node, options, signal};
use crate::{ConnectionId, Input, RateLimit};

#[test]
fn options_out_of_range_are_malformed() {
    let mut node = Node::new();
    node.hello(1);
    for capacity in [0, 17, 255] {
        node.say(1, ClientMessage::quick_join(4, options(capacity)));
        assert_eq!(node.error(1), (Some(4), ErrorCode::Malformed));
    }
}

#[test]
fn an_oversize_signal_is_malformed() {
    let mut node = Node::new();
    node.hello(1);
    let b = node.hello(2);
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(1);
    let mut large = signal(1);
    large.body = SignalBody::Offer { sdp: "x".repeat(SDP_MAX + 1) };
    node.say(1, ClientMessage::Signal { to: b, signal: large });
    assert_eq!(node.error(1), (None, ErrorCode::Malformed));
}

#[test]
fn a_signal_that_would_not_fit_the_receivers_limit_is_refused_to_the_sender() {
    let mut node = Node::new();
    node.hello(1);
    let b = node.hello(2);
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(1);
    let mut escaped = signal(1);
    escaped.body = SignalBody::Offer { sdp: "\"".repeat(8 * 1024) };
    node.say(1, ClientMessage::Signal { to: b, signal: escaped });
    assert_eq!(node.error(1), (None, ErrorCode::Malformed));
    assert_eq!(node.take(2), []);
    let mut large = signal(1);
    large.body = SignalBody::Offer { sdp: "x".repeat(SDP_MAX) };
    node.say(1, ClientMessage::Signal { to: b, signal: large });
    let frames = node.take_frames(2);
    assert!(ServerFrame::from_json(&frames[0].to_json()).is_ok());
}

#[test]
fn error_texts_are_short_whatever_they_quote() {
    let mut node = Node::new();
    node.hello(1);
    let error = MessageError::Json("é".repeat(8000));
    node.input(Input::Malformed { connection: ConnectionId(1), error });
    let [ServerMessage::Error { text, .. }] = &node.take(1)[..] else { panic!("one error") };
    assert!(text.len() <= 200);
}

#[test]
fn a_message_too_many_is_refused_and_abuse_is_closed() {
    let mut node = Node::with(|config| {
        config.messages = RateLimit { burst: 3, per_second: 1 };
    });
    node.hello(1);
    node.list(1);
    node.list(1);
    for request in 0..3 {
        node.say(1, ClientMessage::search(request));
        let [ServerMessage::Error { request: answered, code, retry_after_ms, .. }] =
            &node.take(1)[..]
        else {
            panic!("one error");
        };
        assert_eq!((*answered, *code), (Some(request), ErrorCode::RateLimited));
        assert!(retry_after_ms.is_some_and(|after| after >= 1000));
    }
    node.say(1, ClientMessage::search(4));
    assert_eq!(node.closed(1), Some(ErrorCode::RateLimited));
}

#[test]
fn a_client_that_waits_as_told_goes_on() {
    let mut node = Node::with(|config| {
        config.messages = RateLimit { burst: 3, per_second: 1 };
    });
    node.hello(1);
    node.list(1);
    node.list(1);
    node.say(1, ClientMessage::search(1));
    assert_eq!(node.error(1).1, ErrorCode::RateLimited);
    node.wait(Duration::from_secs(2));
    assert_eq!(node.list(1), []);
}

#[test]
fn guessing_codes_is_slow_while_other_messages_pass() {
    let mut node = Node::with(|config| {
        config.joins = RateLimit { burst: 2, per_second: 1 };
    });
    node.hello(1);
    let guess = |number| ClientMessage::join(1, netplay_protocol::LobbyCode::from_random(number));
    let mut errors = Vec::new();
    for number in 0..3 {
        node.say(1, guess(number));
        errors.push(node.error(1).1);
    }
    assert_eq!(errors, [ErrorCode::NoSuchLobby, ErrorCode::NoSuchLobby, ErrorCode::RateLimited]);
    assert_eq!(node.list(1), []);
}

#[test]
fn signals_have_their_own_limit() {
    let mut node = Node::with(|config| {
        config.signals = RateLimit { burst: 2, per_second: 1 };
    });
    node.hello(1);
    let b = node.hello(2);
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(1);
    for _ in 0..3 {
        node.say(1, ClientMessage::Signal { to: b, signal: signal(1) });
    }
    assert_eq!(node.take(2).len(), 2);
    assert_eq!(node.error(1).1, ErrorCode::RateLimited);
    assert_eq!(node.list(1), []);
}

#[test]
fn malformed_messages_are_answered_and_counted() {
    let mut node = Node::with(|config| {
        config.messages = RateLimit { burst: 2, per_second: 1 };
    });
    node.hello(1);
    let error = MessageError::Range { field: "capacity" };
    node.input(Input::Malformed { connection: ConnectionId(1), error: error.clone() });
    assert_eq!(node.error(1), (None, ErrorCode::Malformed));
    for _ in 0..3 {
        node.input(Input::Malformed { connection: ConnectionId(1), error: error.clone() });
    }
    assert_eq!(node.closed(1), Some(ErrorCode::RateLimited));
}

#[test]
fn a_full_node_refuses_connections_sessions_and_lobbies() {
    let mut node = Node::with(|config| {
        config.max_connections = 3;
        config.max_sessions = 2;
        config.max_lobbies = 1;
    });
    node.hello(1);
    node.hello(2);
    node.connect(3);
    node.connect(4);
    assert_eq!(node.closed(4), Some(ErrorCode::ServerFull));
    node.say_hello(3, None);
    assert_eq!(node.closed(3), Some(ErrorCode::ServerFull));
    node.create(1, options(2));
    node.say(2, ClientMessage::create(1, options(2)));
    let [ServerMessage::Error { code, retry_after_ms, .. }] = &node.take(2)[..] else {
        panic!("one error");
    };
    assert_eq!((*code, *retry_after_ms), (ErrorCode::ServerFull, Some(5000)));
}

fn guess(number: u64) -> ClientMessage {
    ClientMessage::join(1, netplay_protocol::LobbyCode::from_random(number))
}

#[test]
fn new_connections_and_new_sessions_guess_no_faster() {
    let mut node = Node::with(|config| {
        config.address_guesses = RateLimit { burst: 4, per_second: 1 };
    });
    let code = {
        node.hello(1);
        node.create(1, options(8)).code
    };
    let [here, there] = [1, 2].map(|last| Some(IpAddr::from([192, 0, 2, last])));
    let come = |node: &mut Node, connection, address| {
        node.connect_from(connection, address);
        node.say_hello(connection, None);
        node.welcomed(connection);
    };
    for connection in 10..14 {
        come(&mut node, connection, here);
        assert_eq!(node.refused(connection, guess(connection)), ErrorCode::NoSuchLobby);
        node.say(connection, ClientMessage::Goodbye);
    }
    come(&mut node, 14, here);
    assert_eq!(node.refused(14, guess(14)), ErrorCode::RateLimited);
    come(&mut node, 15, there);
    assert_eq!(node.refused(15, guess(15)), ErrorCode::NoSuchLobby, "another address");
    node.wait(Duration::from_secs(1));
    // A code that a lobby has costs nothing.
    for connection in 20..24 {
        come(&mut node, connection, here);
        node.join(connection, code);
    }
    assert_eq!(node.refused(14, guess(16)), ErrorCode::NoSuchLobby);
    assert_eq!(node.refused(14, guess(17)), ErrorCode::RateLimited);
}

#[test]
fn searches_have_limits_of_their_own_by_connection_and_by_address() {
    let mut node = Node::with(|config| {
        config.searches = RateLimit { burst: 2, per_second: 1 };
        config.address_searches = RateLimit { burst: 3, per_second: 1 };
    });
    let here = Some(IpAddr::from([192, 0, 2, 1]));
    for connection in [1, 2] {
        node.connect_from(connection, here);
        node.say_hello(connection, None);
        node.welcomed(connection);
    }
    node.list(1);
    node.list(1);
    assert_eq!(node.refused(1, ClientMessage::search(1)), ErrorCode::RateLimited);
    node.list(2);
    assert_eq!(node.refused(2, ClientMessage::search(1)), ErrorCode::RateLimited, "the address");
    let quick = ClientMessage::quick_join(1, options(2));
    assert_eq!(node.refused(2, quick), ErrorCode::RateLimited);
    node.hello(3);
    node.list(3);
    node.create(1, options(2));
}

#[test]
fn who_takes_its_session_up_again_has_spent_what_it_has_spent() {
    let mut node = Node::with(|config| config.chat = RateLimit { burst: 2, per_second: 1 });
    node.hello(1);
    node.create(1, options(2));
    let chat = || ClientMessage::Chat { request: 1, text: "buy this".into() };
    node.done(1, chat());
    node.done(1, chat());
    node.disconnect(1);
    node.resume_over(1, 2, 0);
    node.take(2);
    assert_eq!(node.refused(2, chat()), ErrorCode::RateLimited);
    // The older connection is still there.
    node.resume_over(2, 3, 0);
    node.take(3);
    assert_eq!(node.refused(3, chat()), ErrorCode::RateLimited);
}

#[test]
fn a_signal_that_is_passed_on_as_it_came_has_the_rules_of_the_message() {
    let mut node = Node::with(|config| {
        config.signals = RateLimit { burst: 3, per_second: 1 };
    });
    let (a, b, stranger) = (node.hello(1), node.hello(2), node.hello(3));
    let lobby = node.create(1, options(2));
    node.join(2, lobby.code);
    node.take(1);
    let send = |node: &mut Node, connection, to| {
        let text = ClientMessage::Signal { to, signal: signal(1) }.to_json();
        let (to, signal) = RawSignal::read(&text).expect("as clients write it");
        node.signal(connection, to, signal);
    };
    send(&mut node, 1, b);
    assert_eq!(node.take(2), [ServerMessage::Signal { from: a, signal: signal(1) }]);
    send(&mut node, 1, stranger);
    assert_eq!(node.error(1), (None, ErrorCode::NoSuchMember));
    send(&mut node, 1, a);
    assert_eq!(node.error(1), (None, ErrorCode::NoSuchMember));
    send(&mut node, 1, b);
    assert_eq!(node.error(1), (None, ErrorCode::RateLimited));
    send(&mut node, 3, a);
    assert_eq!(node.error(3), (None, ErrorCode::NotInLobby));
    node.connect(4);
    send(&mut node, 4, a);
    assert_eq!(node.closed(4), Some(ErrorCode::Order));
    assert!(node.take(2).is_empty() && node.take(3).is_empty());
}

#[test]
fn an_address_keeps_so_many_sessions_without_a_connection_and_the_oldest_ends() {
    let mut node = Node::with(|config| config.offline_per_address = 2);
    let [here, there] = [1, 2].map(|number| Some(IpAddr::from([192, 0, 2, number])));
    for (connection, address) in [(1, here), (2, here), (3, here), (4, there), (5, None)] {
        node.connect_from(connection, address);
        node.say_hello(connection, None);
        node.welcomed(connection);
        node.create(connection, options(1).keep_seats(3600));
    }
    for connection in 1..=5 {
        node.disconnect(connection);
        node.wait(Duration::from_millis(1));
    }
    let stats = node.directory.stats();
    assert_eq!((stats.sessions, stats.lobbies), (4, 4), "the first of three has ended");
    let back = |node: &mut Node, old, new| {
        let (peer, token) = node.session(old);
        node.connect_from(new, here);
        let seen = 2;
        node.say_hello(new, Some(Resume { peer, token, seen, restart: false }));
        node.welcomed(new).1 == SessionKind::Continued
    };
    assert!(!back(&mut node, 1, 11));
    // Who is back counts no more, and then as the newest.
    assert!(back(&mut node, 2, 12));
    node.wait(Duration::from_millis(1));
    node.disconnect(12);
    node.disconnect(11);
    assert!(!back(&mut node, 3, 13), "the longest of three");
    assert!(node.resume_over(4, 14, 2) && node.resume_over(5, 15, 2), "of other addresses");
}

#[test]
fn whoever_begins_with_what_is_no_message_is_closed() {
    let mut node = Node::new();
    node.connect(1);
    let error = MessageError::Json("no".into());
    node.input(Input::Malformed { connection: ConnectionId(1), error });
    assert_eq!(node.closed(1), Some(ErrorCode::Malformed));
}
