mod requests;

use netplay_protocol::lobby::{LobbyOptions, Member, ResumeToken, Signal};

use super::*;
use crate::backoff::{BACKOFF, FIRST_SPREAD};

const ME: PeerId = PeerId::from_u128(1);

fn at(ms: u64) -> Now {
    Now::from_millis(ms)
}

fn client() -> LobbyClient {
    LobbyClient::new(GameId::new("g").unwrap(), None, 7)
}

fn code() -> LobbyCode {
    "7K4Q-M2XA".parse().unwrap()
}

fn frame(seq: u64, message: ServerMessage) -> LobbyInput {
    LobbyInput::SocketText(ServerFrame { seq, message }.to_json())
}

fn welcome(session: SessionKind) -> LobbyInput {
    let lobby = (session == SessionKind::Restored).then(lobby);
    welcome_with(session, lobby)
}

fn welcome_with(session: SessionKind, lobby: Option<LobbyState>) -> LobbyInput {
    let (peer, token) = (ME, ResumeToken("t".into()));
    let (grace_ms, keep_alive_ms) = (30_000, 5_000);
    let message = ServerMessage::Welcome { peer, token, session, lobby, grace_ms, keep_alive_ms };
    frame(0, message)
}

fn lobby() -> LobbyState {
    LobbyState::new(code(), LobbyOptions::public(2), ME, vec![Member::new(ME, 0)])
}

/// The lobby with another member.
fn with(member: &Member) -> LobbyState {
    LobbyState { members: vec![Member::new(ME, 0), member.clone()], ..lobby() }
}

fn joined(seq: u64, request: u32) -> LobbyInput {
    frame(seq, ServerMessage::Joined { request, lobby: lobby() })
}

fn saved(token: &str) -> LobbyEvent {
    LobbyEvent::Saved(SavedSession { peer: ME, token: ResumeToken(token.into()) })
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
    c.handle(at(0), welcome(SessionKind::New));
    assert_eq!(sent(&drain(&mut c)).last(), Some(&ClientMessage::join(1, code())));
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
    assert!(pauses[0] <= FIRST_SPREAD, "{pauses:?}");
    assert!(pauses[1] <= BACKOFF * 3, "{pauses:?}");
    assert!(pauses[11] >= BACKOFF_MAX / 2, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= BACKOFF_MAX * 3 / 2), "{pauses:?}");
    drain(&mut c);
    c.handle(now, LobbyInput::Leave);
    assert_eq!(c.next_deadline(), None);
    assert_eq!(drain(&mut c), [LobbyOutput::CloseSocket]);
}

/// When a client is online again whose socket closes now, if the server answers from some time on.
fn back_at(seed: u64, server_from: Now) -> Vec<Now> {
    let mut c = LobbyClient::new(GameId::new("g").unwrap(), None, seed);
    c.handle(at(0), LobbyInput::Join(JoinRequest::Code(code())));
    c.handle(at(0), LobbyInput::SocketOpened);
    c.handle(at(0), welcome(SessionKind::New));
    let mut tries = Vec::new();
    c.handle(at(0), LobbyInput::SocketClosed("reset".into()));
    while !c.is_online() {
        let now = c.next_deadline().unwrap();
        c.handle(now, LobbyInput::Tick);
        tries.push(now);
        if now < server_from {
            c.handle(now, LobbyInput::SocketClosed("connection refused".into()));
        } else {
            c.handle(now, LobbyInput::SocketOpened);
            c.handle(now, welcome(SessionKind::Restored));
        }
    }
    tries
}

#[test]
fn players_whose_server_dies_spread_their_first_try_and_one_alone_is_soon_back() {
    let mut waves = [0_u32; 8];
    for seed in 0..400 {
        let tries = back_at(seed, at(0));
        let [first] = tries[..] else { panic!("seed {seed}: {tries:?}") };
        assert!(first <= at(0) + FIRST_SPREAD, "seed {seed}: {first}");
        waves[first.as_micros() as usize / 100_000] += 1;
    }
    println!("first tries in each tenth of a second: {waves:?}");
    // An even spread is 53 in each.
    assert!(waves.iter().all(|wave| *wave <= 80), "{waves:?}");
}

#[test]
fn four_hundred_players_are_back_seven_seconds_after_a_server_that_was_away_for_three() {
    let last = (0..400).map(|seed| *back_at(seed, at(3000)).last().unwrap()).max().unwrap();
    println!("the last one is back {last} after the death of the server");
    assert!(last <= at(10_000), "{last}");
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
    let resume = Resume { peer: ME, token: ResumeToken("t".into()), seen: 1, restart: false };
    let game = GameId::new("g").unwrap();
    assert_eq!(hello, ClientMessage::hello(game, Some(resume)));
    c.handle(now, welcome(SessionKind::Continued));
    c.handle(now, joined(1, 1));
    let other = PeerId::from_u128(2);
    let other_member = Member::new(other, 2);
    let member = other_member.clone();
    c.handle(now, frame(2, ServerMessage::MemberJoined { member }));
    let outputs = drain(&mut c);
    let events: Vec<_> =
        outputs.into_iter().filter(|o| matches!(o, LobbyOutput::Event(_))).collect();
    assert_eq!(
        events,
        [
            LobbyOutput::Event(LobbyEvent::Online { me: ME }),
            LobbyOutput::Event(saved("t")),
            LobbyOutput::Event(LobbyEvent::Changed(with(&other_member))),
            LobbyOutput::Event(LobbyEvent::MemberJoined(other, 2))
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
    c.handle(now, welcome(SessionKind::Continued));
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
    c.handle(now, welcome(SessionKind::New));
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
    for seq in 2..=150 {
        c.handle(at(1), frame(seq, ServerMessage::HostChanged { host: ME, term: 1 }));
    }
    let seen: Vec<_> = sent(&drain(&mut c))
        .into_iter()
        .filter_map(|m| match m {
            ClientMessage::KeepAlive { seen } => Some(seen),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [64, 128]);
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

#[test]
fn a_server_started_anew_that_knows_the_lobby_is_no_news_for_the_match() {
    let mut c = online();
    c.handle(at(1), joined(1, 1));
    c.handle(at(2), LobbyInput::SocketClosed("reset".into()));
    let now = c.next_deadline().unwrap();
    c.handle(now, LobbyInput::Tick);
    c.handle(now, LobbyInput::SocketOpened);
    drain(&mut c);
    c.handle(now, welcome(SessionKind::Restored));
    let outputs = drain(&mut c);
    let events: Vec<_> =
        outputs.iter().filter(|o| matches!(o, LobbyOutput::Event(_))).cloned().collect();
    assert_eq!(
        events,
        [
            LobbyOutput::Event(LobbyEvent::Online { me: ME }),
            LobbyOutput::Event(saved("t")),
            LobbyOutput::Event(LobbyEvent::Restored(lobby())),
        ]
    );
    assert_eq!(sent(&outputs), []);
    // Its frames count from 1 again.
    let other = PeerId::from_u128(2);
    let member = Member::new(other, 0);
    let changed = LobbyOutput::Event(LobbyEvent::Changed(with(&member)));
    c.handle(now, frame(1, ServerMessage::MemberJoined { member }));
    let joined = LobbyOutput::Event(LobbyEvent::MemberJoined(other, 0));
    assert_eq!(drain(&mut c), [changed, joined]);
}

#[test]
fn a_game_started_anew_takes_up_its_session_and_its_lobby() {
    let mut c = client();
    c.resume(SavedSession { peer: ME, token: ResumeToken("old".into()) });
    c.handle(at(0), LobbyInput::Join(JoinRequest::Quick(LobbyOptions::public(2))));
    c.handle(at(0), LobbyInput::SocketOpened);
    let hello = sent(&drain(&mut c)).remove(0);
    let ClientMessage::Hello { resume: Some(resume), .. } = hello else { panic!("{hello:?}") };
    assert!(resume.restart && resume.seen == 0 && resume.token.0 == "old");
    c.handle(at(1), welcome(SessionKind::Restored));
    let outputs = drain(&mut c);
    assert!(outputs.contains(&LobbyOutput::Event(LobbyEvent::Joined(lobby()))), "{outputs:?}");
    assert_eq!(sent(&outputs), [], "it is where it wants to be");
    // From now on a dropped socket is only that.
    c.handle(at(2), LobbyInput::SocketClosed("reset".into()));
    let now = c.next_deadline().unwrap();
    c.handle(now, LobbyInput::Tick);
    c.handle(now, LobbyInput::SocketOpened);
    let hello = sent(&drain(&mut c)).remove(0);
    let ClientMessage::Hello { resume: Some(resume), .. } = hello else { panic!("{hello:?}") };
    assert!(!resume.restart);
}

#[test]
fn a_session_that_cannot_be_taken_up_is_a_new_one_and_the_wish_stays() {
    for answer in [welcome(SessionKind::New), welcome_with(SessionKind::Restored, None)] {
        let mut c = client();
        c.resume(SavedSession { peer: ME, token: ResumeToken("old".into()) });
        c.handle(at(0), LobbyInput::Join(JoinRequest::Code(code())));
        c.handle(at(0), LobbyInput::SocketOpened);
        drain(&mut c);
        c.handle(at(1), answer);
        assert_eq!(sent(&drain(&mut c)), [ClientMessage::join(1, code())]);
    }
}

#[test]
fn another_secret_is_used_from_then_on() {
    let mut c = online();
    c.handle(at(1), frame(1, ServerMessage::Token { token: ResumeToken("new".into()) }));
    assert_eq!(drain(&mut c), [LobbyOutput::Event(saved("new"))]);
    c.handle(at(2), LobbyInput::SocketClosed("reset".into()));
    c.handle(c.next_deadline().unwrap(), LobbyInput::Tick);
    c.handle(at(9000), LobbyInput::SocketOpened);
    let hello = sent(&drain(&mut c)).remove(0);
    let ClientMessage::Hello { resume: Some(resume), .. } = hello else { panic!("{hello:?}") };
    assert_eq!(resume.token.0, "new");
}

#[test]
fn another_network_gives_another_socket_at_once_and_the_session_goes_on() {
    let mut c = online();
    c.handle(at(1), joined(1, 1));
    drain(&mut c);
    c.handle(at(2), LobbyInput::NetworkChanged);
    assert_eq!(drain(&mut c), [LobbyOutput::CloseSocket, LobbyOutput::OpenSocket]);
    c.handle(at(3), LobbyInput::SocketOpened);
    let hello = sent(&drain(&mut c)).remove(0);
    let ClientMessage::Hello { resume: Some(resume), .. } = hello else { panic!("{hello:?}") };
    assert_eq!((resume.peer, resume.seen), (ME, 1));
}

#[test]
fn a_socket_in_doubt_is_given_up_within_a_second_unless_the_server_answers() {
    for answers in [true, false] {
        let mut c = online();
        drain(&mut c);
        c.handle(at(100), LobbyInput::Doubt);
        assert!(matches!(sent(&drain(&mut c))[..], [ClientMessage::KeepAlive { .. }]));
        c.handle(at(150), LobbyInput::Doubt);
        assert_eq!(drain(&mut c), [], "one question is enough");
        if answers {
            c.handle(at(200), frame(0, ServerMessage::Alive));
        }
        assert_eq!(c.next_deadline(), Some(at(700)));
        c.handle(at(700), LobbyInput::Tick);
        assert_eq!(c.is_online(), answers);
        if !answers {
            drain(&mut c);
            c.handle(at(701), LobbyInput::Doubt);
            assert_eq!(drain(&mut c), [LobbyOutput::OpenSocket], "not after a pause");
        }
    }
}
