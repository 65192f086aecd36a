//! Ready checks, countdowns and matches.

use core::time::Duration;

use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, JoinWith, LobbyOptions, PlaceChange, ServerMessage,
};

use super::node::{Node, options};

const SECOND: Duration = Duration::from_secs(1);
const CHECK: ClientMessage = ClientMessage::ReadyCheck { request: 1, secs: 10 };
const COUNTDOWN: ClientMessage = ClientMessage::Countdown { request: 1, ms: 3000 };
const PLAYING: ServerMessage = ServerMessage::Playing { playing: true };

fn ready(ready: bool) -> ClientMessage {
    ClientMessage::Ready { ready }
}

fn ends(node: &mut Node, connection: u64) -> Option<(bool, usize)> {
    node.take(connection).into_iter().find_map(|message| match message {
        ServerMessage::ReadyCheckEnds { passed, missing } => Some((passed, missing.len())),
        _ => None,
    })
}

#[test]
fn a_ready_check_is_passed_when_all_players_are_ready() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(2, LobbyOptions { spectators: 1, ..options(2) });
    node.hello(3);
    node.join_with(3, code, JoinWith { spectate: true, ..JoinWith::default() });
    node.say(1, ready(true));
    node.take(1);
    assert_eq!(node.done(1, CHECK), [ServerMessage::ReadyCheckBegins { ms: 10_000 }]);
    node.say(2, ready(true));
    assert_eq!(ends(&mut node, 2), None, "nobody is ready until it says so again");
    node.say(1, ready(true));
    assert_eq!(ends(&mut node, 3), Some((true, 0)), "who watches is not waited for");
}

#[test]
fn who_says_no_ends_it_and_so_does_time() {
    let mut node = Node::new();
    node.lobby_of(3, options(3));
    node.done(1, CHECK);
    assert_eq!(node.refused(1, CHECK), ErrorCode::NotNow);
    assert_eq!(node.refused(1, COUNTDOWN), ErrorCode::NotNow);
    let begin = ClientMessage::SetPlaying { request: 1, playing: true };
    assert_eq!(node.refused(1, begin), ErrorCode::NotNow);
    node.say(2, ready(true));
    node.say(3, ready(false));
    assert_eq!(ends(&mut node, 1), Some((false, 2)));
    node.done(1, CHECK);
    node.say(1, ready(true));
    node.wait(9 * SECOND);
    (1..=3).for_each(|of| node.say(of, ClientMessage::KeepAlive { seen: 0 }));
    assert_eq!(ends(&mut node, 1), None);
    node.wait(2 * SECOND);
    assert_eq!(ends(&mut node, 1), Some((false, 2)));
}

#[test]
fn who_is_gone_is_not_waited_for() {
    let mut node = Node::new();
    let (_, peers) = node.lobby_of(3, LobbyOptions { spectators: 1, ..options(3) });
    node.done(1, CHECK);
    node.say(1, ready(true));
    node.say(2, ClientMessage::Leave { request: 1 });
    assert_eq!(ends(&mut node, 1), None);
    let change = PlaceChange { slot: Some(None), ..PlaceChange::default() };
    node.done(3, ClientMessage::Place { request: 1, peer: peers[2], change });
    assert_eq!(ends(&mut node, 1), Some((true, 0)));
}

#[test]
fn a_countdown_ends_with_the_match() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(2, LobbyOptions { no_late_join: true, ..options(3) });
    assert_eq!(node.done(1, COUNTDOWN), [ServerMessage::CountdownBegins { ms: 3000 }]);
    node.wait(SECOND);
    node.hello(3);
    let late = node.join(3, code);
    assert_eq!(late.countdown_ms, Some(2000));
    node.wait(2 * SECOND);
    assert_eq!(node.take(3), [PLAYING]);
    node.take(1);
    assert_eq!(node.refused(1, CHECK), ErrorCode::NotNow, "a match runs");
    node.take(2);
    node.hello(4);
    node.say(3, ClientMessage::Leave { request: 1 });
    assert!(node.list(4).is_empty());
    assert_eq!(node.refused(4, ClientMessage::join(1, code)), ErrorCode::Playing);
    node.take(1);
    node.done(1, ClientMessage::SetPlaying { request: 1, playing: false });
    assert!(!node.join(4, code).playing);
}

#[test]
fn a_countdown_is_cancelled_when_a_player_goes_or_is_offline_or_not_ready_or_the_host_says_so() {
    let mut node = Node::new();
    node.lobby_of(3, options(3));
    let cancelled = |node: &mut Node| {
        let told = node.take(1);
        assert!(told.contains(&ServerMessage::CountdownCancelled), "{told:?}");
        node.wait(4 * SECOND);
        (1..=3).for_each(|of| node.say(of, ClientMessage::KeepAlive { seen: 0 }));
        assert!(!node.take(1).contains(&PLAYING));
    };
    node.say(2, ready(true));
    node.take(1);
    node.done(1, COUNTDOWN);
    node.say(2, ready(false));
    cancelled(&mut node);
    node.done(1, COUNTDOWN);
    node.say(3, ClientMessage::Leave { request: 1 });
    cancelled(&mut node);
    node.done(1, COUNTDOWN);
    node.disconnect(2);
    cancelled(&mut node);
    node.done(1, COUNTDOWN);
    let cancel = ClientMessage::CancelCountdown { request: 1 };
    assert_eq!(node.done(1, cancel.clone()), [ServerMessage::CountdownCancelled]);
    assert_eq!(node.refused(1, cancel), ErrorCode::NotNow);
}
