//! What a game asks of its lobby, and what it hears of it.

use netplay_protocol::lobby::{Changes, Entry, LeaveReason};

use super::*;
use crate::lobby_client::{LobbyNews, Refused};

const OTHER: PeerId = PeerId::from_u128(2);

/// A client in the lobby.
fn member() -> LobbyClient {
    let mut c = online();
    c.handle(at(0), joined(1, 1));
    drain(&mut c);
    c
}

fn chat(id: u64) -> LobbyInput {
    let message = Box::new(ClientMessage::Chat { request: 0, text: "hi".into() });
    LobbyInput::Request { id, message }
}

/// What the game hears.
fn events(c: &mut LobbyClient) -> Vec<LobbyEvent> {
    let event = |output| match output {
        LobbyOutput::Event(event) => Some(event),
        _ => None,
    };
    drain(c).into_iter().filter_map(event).collect()
}

fn answered(id: u64, refused: Option<ErrorCode>) -> LobbyEvent {
    let refused = refused.map(|code| Refused { code, text: code.to_string(), retry_after: None });
    LobbyEvent::News(LobbyNews::Answered { id, refused })
}

/// The numbers of the chats that were sent.
fn chats(c: &mut LobbyClient) -> Vec<u32> {
    sent(&drain(c)).iter().filter_map(ClientMessage::request).collect()
}

#[test]
fn every_request_is_answered_with_the_number_of_the_game() {
    let mut c = member();
    c.handle(at(0), chat(70));
    c.handle(at(0), chat(71));
    let numbers = chats(&mut c);
    assert_eq!(numbers.len(), 2);
    let refused = ServerMessage::Error {
        request: Some(numbers[0]),
        code: ErrorCode::RateLimited,
        text: ErrorCode::RateLimited.to_string(),
        retry_after_ms: None,
    };
    c.handle(at(1), frame(2, refused));
    c.handle(at(1), frame(3, ServerMessage::Done { request: numbers[1] }));
    assert_eq!(events(&mut c), [answered(70, Some(ErrorCode::RateLimited)), answered(71, None)]);
    c.handle(
        at(1),
        LobbyInput::Request { id: 72, message: Box::new(ClientMessage::Ready { ready: true }) },
    );
    assert_eq!(drain(&mut c).len(), 2, "that has no answer of the server, and is sent");
}

#[test]
fn what_breaks_a_limit_or_cannot_be_said_now_is_refused_here() {
    let mut c = member();
    let long = ClientMessage::Chat { request: 0, text: "x".repeat(100_000) };
    c.handle(at(0), LobbyInput::Request { id: 1, message: Box::new(long) });
    let [LobbyEvent::News(LobbyNews::Answered { id: 1, refused: Some(refused) })] =
        &events(&mut c)[..]
    else {
        panic!("it is answered");
    };
    assert_eq!(refused.code, ErrorCode::Malformed);
    for id in 0..65 {
        c.handle(at(0), chat(id));
    }
    assert_eq!(events(&mut c), [answered(64, Some(ErrorCode::RateLimited))], "64 may wait");
    let mut c = client();
    c.handle(at(0), chat(5));
    assert_eq!(events(&mut c), [answered(5, Some(ErrorCode::NotInLobby))]);
}

#[test]
fn a_request_that_a_dropped_socket_has_lost_is_answered_after_what_was_not_lost() {
    let mut c = member();
    c.handle(at(0), chat(1));
    c.handle(at(0), chat(2));
    let numbers = chats(&mut c);
    c.handle(at(10), LobbyInput::SocketClosed("reset".into()));
    c.handle(c.next_deadline().unwrap(), LobbyInput::Tick);
    c.handle(at(900), LobbyInput::SocketOpened);
    drain(&mut c);
    c.handle(at(900), welcome(SessionKind::Continued));
    assert!(matches!(sent(&drain(&mut c))[..], [ClientMessage::KeepAlive { .. }]), "it asks");
    c.handle(at(901), frame(2, ServerMessage::Done { request: numbers[0] }));
    assert_eq!(events(&mut c), [answered(1, None)], "the server knew of it");
    c.handle(at(901), chat(3));
    drain(&mut c);
    c.handle(at(902), frame(0, ServerMessage::Alive));
    assert_eq!(events(&mut c), [answered(2, Some(ErrorCode::SessionGone))], "but not of this");
    c.handle(at(903), frame(0, ServerMessage::Alive));
    assert_eq!(events(&mut c), [], "and of what was asked since nobody knows yet");
}

#[test]
fn requests_end_with_their_session() {
    for end in [Some(SessionKind::New), Some(SessionKind::Restored), None] {
        let mut c = member();
        c.handle(at(0), chat(1));
        drain(&mut c);
        match end {
            None => c.handle(at(10), LobbyInput::Leave),
            Some(kind) => {
                c.handle(at(10), LobbyInput::SocketClosed("reset".into()));
                c.handle(c.next_deadline().unwrap(), LobbyInput::Tick);
                c.handle(at(900), LobbyInput::SocketOpened);
                c.handle(at(900), welcome(kind));
            }
        }
        assert!(events(&mut c).contains(&answered(1, Some(ErrorCode::SessionGone))), "{end:?}");
    }
}

#[test]
fn the_lobby_is_told_whole_after_every_change() {
    let mut c = member();
    c.handle(at(0), frame(2, ServerMessage::MemberJoined { member: Member::new(OTHER, 0) }));
    let [LobbyEvent::Changed(state), LobbyEvent::MemberJoined(OTHER, 0)] = &events(&mut c)[..]
    else {
        panic!("it has changed, and who is told of members hears it");
    };
    assert_eq!(state.members.len(), 2);
    let changes: Changes<Entry> =
        [(netplay_protocol::DataKey::new("map").unwrap(), Some(Entry::public("desert")))].into();
    c.handle(at(0), frame(3, ServerMessage::DataChanged { revision: 1, changes }));
    let [LobbyEvent::Changed(state)] = &events(&mut c)[..] else { panic!("it has changed") };
    assert_eq!((state.revision, state.data.len()), (1, 1));
    c.handle(at(0), frame(4, ServerMessage::Chat { from: OTHER, text: "hi".into() }));
    let said = LobbyNews::Chat { from: OTHER, text: "hi".into() };
    assert_eq!(events(&mut c), [LobbyEvent::News(said)], "that changes nothing");
    c.handle(at(0), frame(5, ServerMessage::Removed { reason: LeaveReason::Kicked }));
    events(&mut c);
    c.handle(at(0), frame(6, ServerMessage::MemberReady { peer: OTHER, ready: true }));
    assert_eq!(events(&mut c), [], "there is no lobby any more");
}
