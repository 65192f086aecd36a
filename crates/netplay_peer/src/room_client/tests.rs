use netplay_protocol::RoomId;
use proptest::prelude::*;

use super::*;

const ME: PeerId = PeerId::from_u128(5);
const A: PeerId = PeerId::from_u128(2);
const B: PeerId = PeerId::from_u128(9);

fn at(ms: u64) -> Now {
    Now::from_millis(ms)
}

fn room() -> Room {
    Room::new(RoomId::new("r").unwrap())
}

fn drain(client: &mut RoomClient) -> Vec<LobbyOutput> {
    core::iter::from_fn(|| client.poll_output()).collect()
}

/// All but what the lobby is like then.
fn events(client: &mut RoomClient) -> Vec<LobbyEvent> {
    let event = |output| match output {
        LobbyOutput::Event(LobbyEvent::Changed(_)) => None,
        LobbyOutput::Event(event) => Some(event),
        _ => None,
    };
    drain(client).into_iter().filter_map(event).collect()
}

/// The server says this; what it comes to.
fn hear(client: &mut RoomClient, event: &Event) -> Vec<LobbyEvent> {
    client.handle(at(1), LobbyInput::SocketText(event.to_json()));
    events(client)
}

fn signal(attempt: u32, body: SignalBody) -> Signal {
    Signal { attempt, body }
}

fn offer() -> Signal {
    signal(1, SignalBody::Offer { sdp: "v=0".into() })
}

fn from(sender: PeerId, signal: &Signal) -> Event {
    Event::Signal { sender, data: Data::of(signal) }
}

fn assigned() -> LobbyInput {
    LobbyInput::SocketText(Event::IdAssigned(ME).to_json())
}

/// In the room, alone.
fn inside() -> RoomClient {
    let mut c = RoomClient::new(7);
    c.handle(at(0), LobbyInput::Join(JoinRequest::Room(room())));
    c.handle(at(0), LobbyInput::SocketOpened);
    c.handle(at(0), assigned());
    drain(&mut c);
    c
}

/// In the room with one who came after us, and to whom a link is established.
fn linked() -> RoomClient {
    let mut c = inside();
    hear(&mut c, &Event::NewPeer(B));
    c.handle(at(1), LobbyInput::Linked { peer: B, linked: true });
    drain(&mut c);
    c
}

fn left(peer: PeerId, reason: LeaveReason) -> LobbyEvent {
    LobbyEvent::MemberLeft(peer, reason)
}

#[test]
fn who_enters_is_told_of_a_lobby_without_a_code() {
    let mut c = RoomClient::new(7);
    c.handle(at(0), LobbyInput::Join(JoinRequest::Room(room().next(3))));
    assert_eq!(drain(&mut c), [LobbyOutput::OpenSocket]);
    assert_eq!(c.room().unwrap().path(), "/r?next=3");
    c.handle(at(1), LobbyInput::SocketOpened);
    assert_eq!(drain(&mut c), [], "the server speaks first");
    c.handle(at(2), assigned());
    let events = events(&mut c);
    let [LobbyEvent::Online { me: ME }, LobbyEvent::Joined(lobby)] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(lobby.code.is_none());
    assert_eq!((lobby.options.capacity, lobby.host), (3, ME));
    assert_eq!(lobby.members, [LobbyMember::new(ME, 0)]);
}

#[test]
fn of_two_players_the_one_who_was_there_makes_the_offer() {
    let mut c = inside();
    assert_eq!(hear(&mut c, &Event::NewPeer(B)), [LobbyEvent::MemberJoined(B, 0)]);
    assert!(c.came_after_us(B));
    let joined = LobbyEvent::MemberJoined(A, 0);
    let heard = LobbyEvent::Signal(A, offer());
    let events = hear(&mut c, &from(A, &offer()));
    assert_eq!(events, [joined, LobbyEvent::HostChanged(A), heard.clone()]);
    assert!(!c.came_after_us(A));
    assert_eq!(hear(&mut c, &from(A, &offer())), [heard], "met once");
    assert_eq!(hear(&mut c, &Event::NewPeer(A)), []);
}

#[test]
fn the_lobby_has_who_is_there_in_the_order_in_which_they_came() {
    let mut c = inside();
    let mut seen = Vec::new();
    let mut see = |c: &mut RoomClient| {
        for output in drain(c) {
            if let LobbyOutput::Event(LobbyEvent::Changed(lobby)) = output {
                let members = lobby.members.iter().map(|member| (member.peer, member.online));
                seen.push((members.collect::<Vec<_>>(), lobby.host));
            }
        }
    };
    for event in [Event::NewPeer(B), from(A, &offer()), Event::PeerLeft(A)] {
        c.handle(at(1), LobbyInput::SocketText(event.to_json()));
        see(&mut c);
    }
    c.handle(at(1), LobbyInput::Linked { peer: B, linked: true });
    c.handle(at(1), LobbyInput::SocketText(Event::PeerLeft(B).to_json()));
    see(&mut c);
    let [me, a, b] = [(ME, true), (A, true), (B, true)];
    let expected =
        [(vec![me, b], ME), (vec![a, me, b], A), (vec![me, b], ME), (vec![me, (B, false)], ME)];
    assert_eq!(seen, expected);
}

#[test]
fn only_an_offer_of_a_player_of_ours_is_met() {
    let mut c = inside();
    assert_eq!(hear(&mut c, &from(A, &signal(1, SignalBody::Bye))), []);
    let foreign = format!(r#"{{"Signal":{{"sender":"{A}","data":{{"Offer":"v=0"}}}}}}"#);
    for text in [foreign.as_str(), "{", "", r#""KeepAlive""#] {
        c.handle(at(1), LobbyInput::SocketText(text.into()));
        assert_eq!(drain(&mut c), [], "{text}");
    }
    assert_eq!(hear(&mut c, &Event::NewPeer(ME)), [], "nobody meets itself");
    assert_eq!(hear(&mut c, &Event::IdAssigned(A)), [], "once is enough");
}

#[test]
fn signals_go_to_who_is_there() {
    let mut c = linked();
    c.handle(at(2), LobbyInput::Signal { to: B, signal: offer() });
    let request = Request::Signal { receiver: B, data: Data::of(&offer()) };
    assert_eq!(drain(&mut c), [LobbyOutput::SendText(request.to_json())]);
    c.handle(at(2), LobbyInput::Signal { to: A, signal: offer() });
    hear(&mut c, &Event::PeerLeft(B));
    c.handle(at(2), LobbyInput::Signal { to: B, signal: offer() });
    assert_eq!(drain(&mut c), []);
}

#[test]
fn who_loses_its_socket_has_left_once_its_link_is_over() {
    let mut c = linked();
    assert_eq!(hear(&mut c, &Event::PeerLeft(B)), [LobbyEvent::MemberOffline(B)]);
    c.handle(at(2), LobbyInput::Linked { peer: B, linked: false });
    assert_eq!(events(&mut c), [left(B, LeaveReason::Lost)]);
    hear(&mut c, &Event::NewPeer(A));
    let gone = hear(&mut c, &Event::PeerLeft(A));
    assert_eq!(gone, [left(A, LeaveReason::Left), LobbyEvent::HostChanged(ME)]);
}

#[test]
fn a_lost_link_to_who_is_there_is_no_goodbye() {
    let mut c = linked();
    c.handle(at(2), LobbyInput::Linked { peer: B, linked: false });
    assert_eq!(drain(&mut c), []);
    assert_eq!(hear(&mut c, &Event::PeerLeft(B)), [left(B, LeaveReason::Left)]);
}

#[test]
fn while_a_link_lives_a_lost_socket_stays_lost() {
    let mut c = linked();
    hear(&mut c, &Event::NewPeer(A));
    c.handle(at(2), LobbyInput::SocketClosed("reset".into()));
    // The one whose link is not established can never be.
    let events_then = events(&mut c);
    let [gone, LobbyEvent::HostChanged(ME), LobbyEvent::Offline { retry_in, .. }] =
        &events_then[..]
    else {
        panic!("{events_then:?}");
    };
    assert_eq!((gone, *retry_in), (&left(A, LeaveReason::Lost), Duration::MAX));
    assert_eq!(c.next_deadline(), None);
    for input in [LobbyInput::Tick, LobbyInput::Doubt, LobbyInput::NetworkChanged] {
        c.handle(at(100_000), input);
        assert_eq!(drain(&mut c), []);
    }
    // With the last link it begins anew.
    c.handle(at(100_000), LobbyInput::Linked { peer: B, linked: false });
    let events_then = events(&mut c);
    assert_eq!(events_then[0], left(B, LeaveReason::Lost));
    let LobbyEvent::Offline { retry_in, .. } = events_then[1] else { panic!("{events_then:?}") };
    let back = c.next_deadline().unwrap();
    assert_eq!(back, at(100_000) + retry_in);
    c.handle(back, LobbyInput::Tick);
    assert_eq!(drain(&mut c), [LobbyOutput::OpenSocket]);
    c.handle(back, LobbyInput::SocketOpened);
    c.handle(back, LobbyInput::SocketText(Event::IdAssigned(A).to_json()));
    assert_eq!(events(&mut c)[0], LobbyEvent::Online { me: A }, "with another id");
}

#[test]
fn a_socket_lost_without_links_is_tried_again_with_growing_pauses() {
    let mut c = inside();
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        c.handle(now, LobbyInput::SocketClosed("refused".into()));
        let [LobbyEvent::Offline { retry_in, .. }] = events(&mut c)[..] else { panic!("one") };
        pauses.push(retry_in);
        now = c.next_deadline().unwrap();
        c.handle(now, LobbyInput::Tick);
        assert_eq!(drain(&mut c), [LobbyOutput::OpenSocket]);
    }
    assert!(pauses[0] < Duration::from_secs(1) && pauses[9] > Duration::from_secs(2), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(8)), "{pauses:?}");
}

#[test]
fn a_server_that_gives_no_id_or_says_something_else_is_given_up_and_explained() {
    for says in [None, Some("hello"), Some(r#"{"NewPeer":"x"}"#)] {
        let mut c = RoomClient::new(7);
        c.handle(at(0), LobbyInput::Join(JoinRequest::Room(room())));
        c.handle(at(0), LobbyInput::SocketOpened);
        drain(&mut c);
        match says {
            Some(text) => c.handle(at(1), LobbyInput::SocketText(text.into())),
            None => c.handle(c.next_deadline().unwrap(), LobbyInput::Tick),
        }
        let outputs = drain(&mut c);
        let [LobbyOutput::CloseSocket, LobbyOutput::Event(LobbyEvent::Offline { why, .. })] =
            &outputs[..]
        else {
            panic!("{outputs:?}");
        };
        assert!(why.contains("matchbox"), "{why}");
    }
}

#[test]
fn the_server_hears_of_us_every_ten_seconds() {
    let mut c = inside();
    for n in 1..4 {
        assert_eq!(c.next_deadline(), Some(at(n * 10_000)));
        c.handle(at(n * 10_000), LobbyInput::Tick);
        assert_eq!(drain(&mut c), [LobbyOutput::SendText(r#""KeepAlive""#.into())]);
    }
}

#[test]
fn who_leaves_is_in_no_room_and_may_enter_another() {
    let mut c = linked();
    let join = || LobbyInput::Join(JoinRequest::Room(room()));
    c.handle(at(2), join());
    let refused = events(&mut c);
    let [LobbyEvent::JoinRefused { code: ErrorCode::AlreadyInLobby, .. }] = &refused[..] else {
        panic!("{refused:?}");
    };
    c.handle(at(2), LobbyInput::Leave);
    assert_eq!(drain(&mut c), [LobbyOutput::CloseSocket]);
    assert!(c.is_idle() && c.next_deadline().is_none() && c.room().is_none());
    c.handle(at(3), join());
    assert_eq!(drain(&mut c), [LobbyOutput::OpenSocket]);
}

#[test]
fn nothing_grows_with_what_the_server_says() {
    let mut c = inside();
    for i in 100..10_000 {
        hear(&mut c, &Event::NewPeer(PeerId::from_u128(i)));
        hear(&mut c, &from(PeerId::from_u128(i + 100_000), &offer()));
    }
    assert_eq!(c.members.len(), OTHERS_MAX);
}

fn any_peer() -> impl Strategy<Value = PeerId> {
    (1_u128..6).prop_map(PeerId::from_u128)
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any_peer().prop_map(Event::IdAssigned),
        any_peer().prop_map(Event::NewPeer),
        any_peer().prop_map(Event::PeerLeft),
        any_peer().prop_map(|peer| from(peer, &offer())),
        any_peer().prop_map(|peer| from(peer, &signal(1, SignalBody::Bye))),
    ]
}

fn any_input() -> impl Strategy<Value = LobbyInput> {
    prop_oneof![
        3 => Just(LobbyInput::SocketOpened),
        8 => any_event().prop_map(|event| LobbyInput::SocketText(event.to_json())),
        1 => Just(LobbyInput::SocketText("{".into())),
        2 => Just(LobbyInput::SocketClosed("reset".into())),
        2 => Just(LobbyInput::Join(JoinRequest::Room(room()))),
        1 => Just(LobbyInput::Leave),
        1 => Just(LobbyInput::NetworkChanged),
        1 => Just(LobbyInput::Doubt),
        3 => Just(LobbyInput::Tick),
        4 => (any_peer(), any::<bool>())
            .prop_map(|(peer, linked)| LobbyInput::Linked { peer, linked }),
        2 => any_peer().prop_map(|to| LobbyInput::Signal { to, signal: offer() }),
    ]
}

proptest! {
    /// What the mesh relies on, whatever happens in whatever order.
    #[test]
    fn whoever_is_met_leaves_once_and_nobody_else_is_heard(
        inputs in prop::collection::vec(any_input(), 0..80),
    ) {
        let mut c = RoomClient::new(7);
        let (mut now, mut me) = (at(0), None);
        let mut there = std::collections::BTreeSet::new();
        let mut shown = None;
        for input in inputs {
            let leaves = matches!(input, LobbyInput::Leave);
            now = if input == LobbyInput::Tick { c.next_deadline().unwrap_or(now) } else { now };
            c.handle(now, input);
            for output in drain(&mut c) {
                match output {
                    LobbyOutput::Event(LobbyEvent::Online { me: id }) => {
                        prop_assert!(there.is_empty(), "nobody of an earlier time in the room");
                        me = Some(id);
                    }
                    LobbyOutput::Event(LobbyEvent::Joined(lobby) | LobbyEvent::Changed(lobby)) => {
                        shown = Some(lobby);
                    }
                    LobbyOutput::Event(LobbyEvent::MemberJoined(peer, _)) => {
                        prop_assert!(Some(peer) != me && there.insert(peer));
                    }
                    LobbyOutput::Event(LobbyEvent::MemberLeft(peer, _)) => {
                        prop_assert!(there.remove(&peer));
                    }
                    LobbyOutput::Event(LobbyEvent::MemberOffline(peer) | LobbyEvent::Signal(peer, _)) => {
                        prop_assert!(there.contains(&peer));
                    }
                    LobbyOutput::Event(LobbyEvent::HostChanged(host)) => {
                        prop_assert!(Some(host) == me || there.contains(&host));
                    }
                    _ => {}
                }
            }
            if leaves {
                // Its mesh ends all links.
                there.clear();
            }
            prop_assert_eq!(there.len(), c.members.len());
            if c.me.is_some() {
                prop_assert_eq!(shown.clone(), c.lobby(), "who looks at it knows all");
            }
            let waits = !matches!(c.state, State::Idle | State::Cut);
            prop_assert_eq!(c.next_deadline().is_some(), waits);
            prop_assert!(c.state != State::Cut || c.has_links(), "a cut room comes back");
        }
    }
}
