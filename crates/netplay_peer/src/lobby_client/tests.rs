use netplay_protocol::lobby::{Member, ResumeToken};

use super::*;

const ME: PeerId = PeerId::from_u128(1);

fn at(ms: u64) -> Now {
    Now::from_millis(ms)
}

fn client() -> LobbyClient {
    LobbyClient::new(GameId::new("g").unwrap(), 7)
}

fn code() -> LobbyCode {
    "7K4Q-M2XA".parse().unwrap()
}

fn frame(seq: u64, message: ServerMessage) -> LobbyInput {
    LobbyInput::SocketText(ServerFrame { seq, message }.to_json())
}

fn welcome(resumed: bool) -> LobbyInput {
    let token = ResumeToken("t".into());
    let message =
        ServerMessage::Welcome { peer: ME, token, resumed, grace_ms: 30_000, keep_alive_ms: 5_000 };
    frame(0, message)
}

fn joined(seq: u64, request: u32) -> LobbyInput {
    let options = LobbyOptions::public(2);
    let members = vec![Member { peer: ME, online: true }];
    let lobby = LobbyState { code: code(), options, host: ME, members };
    frame(seq, ServerMessage::Joined { request, lobby })
}

fn drain(client: &mut LobbyClient) -> Vec<LobbyOutput> {
    core::iter::from_fn(|| client.poll_output()).collect()
}

fn sent(outputs: &[LobbyOutput]) -> Vec<ClientMessage> {
    let texts = outputs.iter().filter_map(|output| match output {
        LobbyOutput::SendText(text) => Some(ClientMessage::from_json(text).unwrap()),
        _ => None,
    });
    texts.collect()
}

/// A client that is online and wants the lobby with [`code`].
fn online() -> LobbyClient {
    let mut c = client();
    c.handle(at(0), LobbyInput::Join(JoinRequest::Code(code())));
    c.handle(at(0), LobbyInput::SocketOpened);
    c.handle(at(0), welcome(false));
    assert_eq!(
        sent(&drain(&mut c)).last(),
        Some(&ClientMessage::Join { request: 1, code: code() })
    );
    c
}

#[test]
fn an_unreachable_server_is_tried_again_with_growing_spread_pauses_until_told_to_stop() {
    let mut c = client();
    c.handle(at(0), LobbyInput::Join(JoinRequest::Code(code())));
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(drain(&mut c), [LobbyOutput::OpenSocket]);
        c.handle(now, LobbyInput::SocketClosed("connection refused".into()));
        let [LobbyOutput::Event(LobbyEvent::Offline { retry_in, .. })] = drain(&mut c)[..] else {
            panic!("one event per failure");
        };
        pauses.push(retry_in);
        now = c.next_deadline().unwrap();
        c.handle(now, LobbyInput::Tick);
    }
    assert!(pauses[0] <= BACKOFF_FIRST * 3 / 2, "{pauses:?}");
    assert!(pauses[11] >= BACKOFF_MAX / 2, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= BACKOFF_MAX * 3 / 2), "{pauses:?}");
    drain(&mut c);
    c.handle(now, LobbyInput::Leave);
    assert_eq!(c.next_deadline(), None);
    assert_eq!(drain(&mut c), [LobbyOutput::CloseSocket]);
}

#[test]
fn a_server_that_never_answers_is_given_up_after_the_deadline() {
    let mut c = client();
    c.handle(at(0), LobbyInput::Join(JoinRequest::Code(code())));
    c.handle(at(10), LobbyInput::SocketOpened);
    drain(&mut c);
    let deadline = c.next_deadline().unwrap();
    c.handle(deadline, LobbyInput::Tick);
    assert!(matches!(
        &drain(&mut c)[..],
        [LobbyOutput::CloseSocket, LobbyOutput::Event(LobbyEvent::Offline { .. })]
    ));
}

#[test]
fn a_dropped_socket_resumes_the_session_and_repeats_no_frame() {
    let mut c = online();
    c.handle(at(1), joined(1, 1));
    drain(&mut c);
    c.handle(at(2), LobbyInput::SocketClosed("reset".into()));
    let now = c.next_deadline().unwrap();
    c.handle(now, LobbyInput::Tick);
    drain(&mut c);
    c.handle(now, LobbyInput::SocketOpened);
    let hello = sent(&drain(&mut c)).remove(0);
    let resume = Resume { peer: ME, token: ResumeToken("t".into()), seen: 1 };
    let game = GameId::new("g").unwrap();
    assert_eq!(hello, ClientMessage::Hello { protocol: 1, game, resume: Some(resume) });
    c.handle(now, welcome(true));
    c.handle(now, joined(1, 1));
    let other = PeerId::from_u128(2);
    c.handle(now, frame(2, ServerMessage::MemberJoined { peer: other }));
    let outputs = drain(&mut c);
    let events: Vec<_> =
        outputs.into_iter().filter(|o| matches!(o, LobbyOutput::Event(_))).collect();
    assert_eq!(
        events,
        [
            LobbyOutput::Event(LobbyEvent::Online { me: ME }),
            LobbyOutput::Event(LobbyEvent::MemberJoined(other))
        ]
    );
}

#[test]
fn signals_said_while_the_socket_is_away_are_sent_after_the_resume() {
    let mut c = online();
    c.handle(at(1), joined(1, 1));
    c.handle(at(2), LobbyInput::SocketClosed("reset".into()));
    let signal = Signal { attempt: 1, body: netplay_protocol::lobby::SignalBody::Bye };
    let to = PeerId::from_u128(2);
    c.handle(at(3), LobbyInput::Signal { to, signal: signal.clone() });
    let now = c.next_deadline().unwrap();
    c.handle(now, LobbyInput::Tick);
    c.handle(now, LobbyInput::SocketOpened);
    drain(&mut c);
    c.handle(now, welcome(true));
    assert_eq!(sent(&drain(&mut c)), [ClientMessage::Signal { to, signal }]);
}

#[test]
fn a_server_without_memory_is_reported_and_asked_for_the_lobby_by_its_code() {
    let mut c = online();
    c.handle(at(1), joined(1, 1));
    c.handle(at(2), LobbyInput::SocketClosed("reset".into()));
    let now = c.next_deadline().unwrap();
    c.handle(now, LobbyInput::Tick);
    c.handle(now, LobbyInput::SocketOpened);
    drain(&mut c);
    c.handle(now, welcome(false));
    let outputs = drain(&mut c);
    assert!(outputs.contains(&LobbyOutput::Event(LobbyEvent::LobbyGone)));
    assert!(matches!(sent(&outputs)[..], [ClientMessage::Join { .. }]));
}

#[test]
fn a_refused_join_is_reported_once_and_not_repeated() {
    let mut c = online();
    let refusal = ServerMessage::Error {
        request: Some(1),
        code: ErrorCode::NoSuchLobby,
        text: "no such lobby".into(),
        retry_after_ms: None,
    };
    c.handle(at(1), frame(1, refusal));
    let [LobbyOutput::Event(LobbyEvent::JoinRefused { code, .. })] = &drain(&mut c)[..] else {
        panic!("one event");
    };
    assert_eq!(*code, ErrorCode::NoSuchLobby);
    c.handle(c.next_deadline().unwrap(), LobbyInput::Tick);
    assert!(sent(&drain(&mut c)).iter().all(|m| matches!(m, ClientMessage::KeepAlive { .. })));
}

#[test]
fn a_full_server_is_asked_again_when_it_says() {
    let mut c = online();
    let refusal = ServerMessage::Error {
        request: Some(1),
        code: ErrorCode::ServerFull,
        text: "full".into(),
        retry_after_ms: Some(3000),
    };
    c.handle(at(1000), frame(1, refusal));
    assert!(drain(&mut c).contains(&LobbyOutput::CloseSocket));
    assert_eq!(c.next_deadline(), Some(at(4000)));
}

#[test]
fn foreign_text_closes_the_socket_and_is_explained() {
    let mut c = client();
    c.handle(at(0), LobbyInput::Join(JoinRequest::Code(code())));
    c.handle(at(0), LobbyInput::SocketOpened);
    drain(&mut c);
    c.handle(at(0), LobbyInput::SocketText(r#"{"IdAssigned":"x"}"#.into()));
    let outputs = drain(&mut c);
    let [LobbyOutput::CloseSocket, LobbyOutput::Event(LobbyEvent::Offline { why, .. })] =
        &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert!(why.contains("does not speak Netplay's protocol"), "{why}");
}

#[test]
fn what_was_seen_is_said_often_enough_for_the_server_to_forget() {
    let mut c = online();
    c.handle(at(1), joined(1, 1));
    drain(&mut c);
    for seq in 2..=40 {
        c.handle(at(1), frame(seq, ServerMessage::HostChanged { host: ME }));
    }
    let seen: Vec<_> = sent(&drain(&mut c))
        .into_iter()
        .filter_map(|m| match m {
            ClientMessage::KeepAlive { seen } => Some(seen),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [16, 32]);
}

#[test]
fn a_server_that_goes_silent_is_noticed_and_one_that_answers_is_kept() {
    let mut c = online();
    for _ in 0..10 {
        let now = c.next_deadline().unwrap();
        c.handle(now, LobbyInput::Tick);
        c.handle(now, frame(0, ServerMessage::Alive));
        assert!(matches!(sent(&drain(&mut c))[..], [ClientMessage::KeepAlive { .. }]));
    }
    let silent_since = c.next_deadline().unwrap();
    // A process that was stopped for a minute asks before it judges.
    c.handle(silent_since + Duration::from_secs(60), LobbyInput::Tick);
    for _ in 1..UNANSWERED_MAX {
        c.handle(c.next_deadline().unwrap(), LobbyInput::Tick);
        assert!(c.is_online());
    }
    drain(&mut c);
    c.handle(c.next_deadline().unwrap(), LobbyInput::Tick);
    let outputs = drain(&mut c);
    let [LobbyOutput::CloseSocket, LobbyOutput::Event(LobbyEvent::Offline { why, .. })] =
        &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert!(why.contains("silent"), "{why}");
}

#[test]
fn messages_for_an_absent_socket_are_bounded() {
    let mut c = online();
    c.handle(at(1), LobbyInput::SocketClosed("reset".into()));
    for i in 0..10_000 {
        c.handle(at(2), LobbyInput::ReportLost(PeerId::from_u128(i)));
    }
    assert_eq!(c.unsent.len(), UNSENT_MAX);
}
