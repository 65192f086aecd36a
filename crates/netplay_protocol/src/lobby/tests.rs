use proptest::prelude::*;

use super::*;
use crate::ids::{GameId, LobbyCode, PeerId};
use crate::limits::{LOBBY_MEMBERS_MAX, SDP_MAX};

fn peer(n: u128) -> PeerId {
    PeerId::from_u128(n)
}

fn code() -> LobbyCode {
    "7K4Q-M2XA".parse().unwrap()
}

fn options() -> LobbyOptions {
    LobbyOptions { capacity: 4, public: true, name: "friends".into(), seat_secs: 30 }
}

fn candidate() -> Signal {
    let body = SignalBody::Candidate {
        candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host".into(),
        mid: Some("0".into()),
        mline: None,
    };
    Signal { attempt: 2, body }
}

#[test]
fn golden_json_of_every_client_message() {
    let p = "00000000-0000-0000-0000-000000000007";
    let token = ResumeToken("t".into());
    let resume = Resume { peer: peer(7), token: token.clone(), seen: 3, restart: false };
    let restart = Resume { peer: peer(7), token, seen: 0, restart: true };
    let game = GameId::new("g").unwrap();
    let cases = [
        (
            ClientMessage::Hello { protocol: 1, game: game.clone(), resume: None },
            r#"{"type":"hello","protocol":1,"game":"g"}"#.to_owned(),
        ),
        (
            ClientMessage::Hello { protocol: 1, game: game.clone(), resume: Some(restart) },
            format!(
                r#"{{"type":"hello","protocol":1,"game":"g","resume":{{"peer":"{p}","token":"t","seen":0,"restart":true}}}}"#
            ),
        ),
        (
            ClientMessage::Hello { protocol: 1, game, resume: Some(resume) },
            format!(
                r#"{{"type":"hello","protocol":1,"game":"g","resume":{{"peer":"{p}","token":"t","seen":3}}}}"#
            ),
        ),
        (
            ClientMessage::Create { request: 1, options: options() },
            r#"{"type":"create","request":1,"options":{"capacity":4,"public":true,"name":"friends","seat_secs":30}}"#
                .to_owned(),
        ),
        (
            ClientMessage::Join { request: 1, code: code() },
            r#"{"type":"join","request":1,"code":"7K4Q-M2XA"}"#.to_owned(),
        ),
        (
            ClientMessage::QuickJoin { request: 2, options: options() },
            r#"{"type":"quick_join","request":2,"options":{"capacity":4,"public":true,"name":"friends","seat_secs":30}}"#
                .to_owned(),
        ),
        (ClientMessage::List { request: 9 }, r#"{"type":"list","request":9}"#.to_owned()),
        (ClientMessage::Leave { request: 9 }, r#"{"type":"leave","request":9}"#.to_owned()),
        (
            ClientMessage::Signal { to: peer(7), signal: candidate() },
            format!(
                r#"{{"type":"signal","to":"{p}","signal":{{"attempt":2,"body":{{"kind":"candidate","candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","mid":"0"}}}}}}"#
            ),
        ),
        (
            ClientMessage::ReportLost { peer: peer(7) },
            format!(r#"{{"type":"report_lost","peer":"{p}"}}"#),
        ),
        (ClientMessage::KeepAlive { seen: 5 }, r#"{"type":"keep_alive","seen":5}"#.to_owned()),
        (ClientMessage::Goodbye, r#"{"type":"goodbye"}"#.to_owned()),
    ];
    for (message, json) in cases {
        assert_eq!(message.to_json(), json);
        assert_eq!(ClientMessage::from_json(&json), Ok(message));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one case per message")]
fn golden_json_of_every_server_message() {
    let p = "00000000-0000-0000-0000-000000000007";
    let lobby = LobbyState {
        code: code(),
        options: options(),
        host: peer(7),
        members: vec![Member { peer: peer(7), online: true, epoch: 2 }],
    };
    let summary = LobbySummary { code: code(), name: "friends".into(), members: 1, capacity: 4 };
    let offer = Signal { attempt: 1, body: SignalBody::Offer { sdp: "v=0".into() } };
    let cases = [
        (
            ServerMessage::Welcome {
                peer: peer(7),
                token: ResumeToken("t".into()),
                session: SessionKind::New,
                lobby: None,
                grace_ms: 30_000,
                keep_alive_ms: 5_000,
            },
            format!(
                r#"{{"type":"welcome","peer":"{p}","token":"t","session":"new","grace_ms":30000,"keep_alive_ms":5000}}"#
            ),
        ),
        (
            ServerMessage::Joined { request: 1, lobby },
            format!(
                r#"{{"type":"joined","request":1,"lobby":{{"code":"7K4Q-M2XA","options":{{"capacity":4,"public":true,"name":"friends","seat_secs":30}},"host":"{p}","members":[{{"peer":"{p}","online":true,"epoch":2}}]}}}}"#
            ),
        ),
        (
            ServerMessage::Lobbies { request: 2, lobbies: vec![summary] },
            r#"{"type":"lobbies","request":2,"lobbies":[{"code":"7K4Q-M2XA","name":"friends","members":1,"capacity":4}]}"#
                .to_owned(),
        ),
        (ServerMessage::Alive, r#"{"type":"alive"}"#.to_owned()),
        (
            ServerMessage::Token { token: ResumeToken("t".into()) },
            r#"{"type":"token","token":"t"}"#.to_owned(),
        ),
        (ServerMessage::Left { request: 3 }, r#"{"type":"left","request":3}"#.to_owned()),
        (
            ServerMessage::MemberJoined { peer: peer(7), epoch: 0 },
            format!(r#"{{"type":"member_joined","peer":"{p}","epoch":0}}"#),
        ),
        (
            ServerMessage::MemberLeft { peer: peer(7), reason: LeaveReason::TimedOut },
            format!(r#"{{"type":"member_left","peer":"{p}","reason":"timed_out"}}"#),
        ),
        (
            ServerMessage::MemberOffline { peer: peer(7) },
            format!(r#"{{"type":"member_offline","peer":"{p}"}}"#),
        ),
        (
            ServerMessage::MemberOnline { peer: peer(7), epoch: 1 },
            format!(r#"{{"type":"member_online","peer":"{p}","epoch":1}}"#),
        ),
        (
            ServerMessage::HostChanged { host: peer(7) },
            format!(r#"{{"type":"host_changed","host":"{p}"}}"#),
        ),
        (
            ServerMessage::Signal { from: peer(7), signal: offer },
            format!(
                r#"{{"type":"signal","from":"{p}","signal":{{"attempt":1,"body":{{"kind":"offer","sdp":"v=0"}}}}}}"#
            ),
        ),
        (
            ServerMessage::Error {
                request: Some(1),
                code: ErrorCode::NoSuchLobby,
                text: "none".into(),
                retry_after_ms: None,
            },
            r#"{"type":"error","request":1,"code":"no_such_lobby","text":"none"}"#.to_owned(),
        ),
    ];
    for (message, json) in cases {
        let frame = ServerFrame { seq: 8, message };
        let json = format!(r#"{{"seq":8,"message":{json}}}"#);
        assert_eq!(frame.to_json(), json);
        assert_eq!(ServerFrame::from_json(&json), Ok(frame));
    }
}

#[test]
fn golden_json_of_the_last_words_of_a_link() {
    let cases =
        [(SignalBody::Bye, "bye"), (SignalBody::Lost, "lost"), (SignalBody::Withdraw, "withdraw")];
    for (body, kind) in cases {
        let message = ClientMessage::Signal { to: peer(7), signal: Signal { attempt: 3, body } };
        let json = format!(
            r#"{{"type":"signal","to":"{}","signal":{{"attempt":3,"body":{{"kind":"{kind}"}}}}}}"#,
            "00000000-0000-0000-0000-000000000007"
        );
        assert_eq!(message.to_json(), json);
        assert_eq!(ClientMessage::from_json(&json), Ok(message));
    }
}

#[test]
fn out_of_range_fields_are_refused_by_name() {
    let create = |capacity, name: &str| {
        let options = LobbyOptions { name: name.into(), ..LobbyOptions::public(capacity) };
        ClientMessage::from_json(&ClientMessage::Create { request: 1, options }.to_json())
    };
    assert!(create(LOBBY_MEMBERS_MAX, "").is_ok());
    assert_eq!(create(0, ""), Err(MessageError::Range { field: "capacity" }));
    assert_eq!(create(LOBBY_MEMBERS_MAX + 1, ""), Err(MessageError::Range { field: "capacity" }));
    assert_eq!(create(2, &"x".repeat(65)), Err(MessageError::Range { field: "name" }));
    assert_eq!(create(2, "a\u{7}"), Err(MessageError::Range { field: "name" }));
    let sdp = "x".repeat(SDP_MAX + 1);
    let signal = Signal { attempt: 1, body: SignalBody::Offer { sdp } };
    let message = ClientMessage::Signal { to: peer(1), signal };
    assert_eq!(
        ClientMessage::from_json(&message.to_json()),
        Err(MessageError::Range { field: "sdp" })
    );
}

#[test]
fn foreign_json_and_oversize_are_errors() {
    for text in ["", "null", "[]", "{}", "\"KeepAlive\"", r#"{"type":"warp"}"#, "{\"type\":"] {
        assert!(matches!(ClientMessage::from_json(text), Err(MessageError::Json(_))), "{text}");
        assert!(matches!(ServerFrame::from_json(text), Err(MessageError::Json(_))), "{text}");
    }
    let nested = "[".repeat(10_000);
    assert!(ClientMessage::from_json(&nested).is_err());
    let large = " ".repeat(LOBBY_MESSAGE_MAX + 1);
    assert_eq!(
        ClientMessage::from_json(&large),
        Err(MessageError::TooLarge(LOBBY_MESSAGE_MAX + 1))
    );
}

#[test]
fn an_unknown_error_code_of_a_newer_server_is_readable() {
    let json = r#"{"seq":1,"message":{"type":"error","code":"brand_new","text":"?"}}"#;
    let frame = ServerFrame::from_json(json).unwrap();
    assert!(matches!(frame.message, ServerMessage::Error { code: ErrorCode::Other, .. }));
}

#[test]
fn a_resume_token_is_not_shown_in_logs() {
    assert!(!format!("{:?}", ResumeToken("secret".into())).contains("secret"));
}

proptest! {
    #[test]
    fn any_text_is_a_message_or_an_error(text in ".{0,200}") {
        drop(ClientMessage::from_json(&text));
        drop(ServerFrame::from_json(&text));
    }
}
