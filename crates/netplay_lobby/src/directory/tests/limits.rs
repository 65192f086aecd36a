//! Limits: what is refused, and when a client is closed.

use core::time::Duration;

use netplay_protocol::limits::SDP_MAX;
use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, MessageError, ServerFrame, ServerMessage, SignalBody,
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
