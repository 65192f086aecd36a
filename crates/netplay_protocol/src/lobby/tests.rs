use proptest::prelude::*;

use super::*;
use crate::ids::{DataKey, PeerId};
use crate::limits::{
    DATA_BYTES_MAX, DATA_KEYS_MAX, DATA_NUMBER_MAX, LOBBY_FRAME_MAX, LOBBY_MEMBERS_MAX,
    LOBBY_MESSAGE_MAX, LOBBY_SPECTATORS_MAX, SDP_MAX,
};

fn peer(n: u128) -> PeerId {
    PeerId::from_u128(n)
}

/// The examples of the protocol's page: whose they are, and their JSON.
fn examples() -> Vec<(&'static str, &'static str)> {
    let blocks = include_str!("protocol.md").split("```json ").skip(1);
    let example = |block: &'static str| {
        let (whose, rest) = block.split_once('\n').unwrap();
        (whose, rest.split_once("\n```").unwrap().0)
    };
    blocks.map(example).collect()
}

#[test]
fn every_example_of_the_protocols_page_is_read_and_written_as_it_stands() {
    let examples = examples();
    assert!(examples.len() > 50);
    for (whose, json) in examples {
        if whose == "client" {
            let message = ClientMessage::from_json(json);
            assert_eq!(message.unwrap_or_else(|error| panic!("{json}: {error}")).to_json(), json);
        } else {
            let json = format!(r#"{{"seq":8,"message":{json}}}"#);
            let frame = ServerFrame::from_json(&json);
            assert_eq!(frame.unwrap_or_else(|error| panic!("{json}: {error}")).to_json(), json);
        }
    }
}

/// The names of the messages, as serde tells them of a name that there is not.
fn names(error: MessageError) -> Vec<String> {
    let text = error.to_string();
    let (_, names) = text.split_once("expected one of ").expect("a list of names");
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_protocols_page_has_an_example_of_every_message() {
    let client = ClientMessage::from_json(r#"{"type":"?"}"#).unwrap_err();
    let server = ServerFrame::from_json(r#"{"seq":1,"message":{"type":"?"}}"#).unwrap_err();
    for (whose, error) in [("client", client), ("server", server)] {
        let names = names(error);
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            let start = format!(r#"{{"type":"{name}""#);
            let has = examples().iter().any(|(of, json)| *of == whose && json.starts_with(&start));
            assert!(has, "no example of the {whose}'s {name}");
        }
    }
}

#[test]
fn out_of_range_fields_are_refused_by_name() {
    let create = |capacity, name: &str| {
        let options = LobbyOptions { name: name.into(), ..LobbyOptions::public(capacity) };
        ClientMessage::from_json(&ClientMessage::create(1, options).to_json())
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

/// The short way of reading signals must not read what the general one does not, or something else.
#[test]
fn signals_are_read_as_the_general_way_reads_them() {
    let values = ["\"x\"", "null", "7", "\"\\u0041\"", "{}", "-1", "70000"];
    let fields = ["sdp", "candidate", "mid", "mline", "kind", "extra"];
    let kinds = ["offer", "answer", "candidate", "bye", "lost", "withdraw", "warp"];
    let to = peer(7);
    let (mut read, mut refused) = (0, 0);
    let mut check = |text: &str| {
        let general: Option<ClientMessage> = serde_json::from_str(text).ok();
        assert_eq!(ClientMessage::from_json(text).ok(), general, "{text}");
        if general.is_some() { read += 1 } else { refused += 1 }
    };
    for kind in kinds {
        for first in fields {
            for second in fields {
                for (a, b) in values.iter().flat_map(|a| values.iter().map(move |b| (a, b))) {
                    let body = format!(r#"{{"kind":"{kind}","{first}":{a},"{second}":{b}}}"#);
                    let signal = format!(r#"{{"attempt":1,"body":{body}}}"#);
                    check(&format!(r#"{{"type":"signal","to":"{to}","signal":{signal}}}"#));
                }
            }
        }
    }
    let body = r#"{"attempt":1,"body":{"kind":"bye"}}"#;
    for text in [
        format!(r#"{{"type":"signal","signal":{body}}}"#),
        format!(r#"{{"type":"signal","to":"{to}","to":"{to}","signal":{body}}}"#),
        format!(r#"{{"type":"signal","type":"signal","to":"{to}","signal":{body}}}"#),
        format!(r#"{{"type":"signal","to":"{to}","signal":{body},"more":[1]}}"#),
        format!(r#"{{"to":"{to}","signal":{body},"type":"signal"}}"#),
        format!(r#"{{"type":"signal","to":"?","signal":{body}}}"#),
        format!(r#"{{"type":"signal","to":"{to}","signal":{body}}} "#),
        format!(r#"{{"type":"signal","to":"{to}","signal":{body}}}x"#),
        format!(r#"{{"type":"signalled","to":"{to}","signal":{body}}}"#),
    ] {
        check(&text);
    }
    assert!(read > 100 && refused > 100, "{read} {refused}");
}

fn of_keys(count: usize, value: &str) -> LobbyData {
    let key = |number| DataKey::new(format!("k{number}")).unwrap();
    (0..count).map(|number| (key(number), Entry::public(value))).collect()
}

#[test]
fn values_have_limits_and_numbers_are_what_javascript_reads() {
    assert!(check_lobby_data(&of_keys(DATA_KEYS_MAX, "x")).is_ok());
    let data = Err(MessageError::Range { field: "data" });
    assert_eq!(check_lobby_data(&of_keys(DATA_KEYS_MAX + 1, "x")), data);
    assert_eq!(check_lobby_data(&of_keys(9, &"x".repeat(DATA_BYTES_MAX / 9))), data);
    let value = Err(MessageError::Range { field: "value" });
    assert!(Value::Number(-DATA_NUMBER_MAX).check().is_ok());
    assert_eq!(Value::Number(DATA_NUMBER_MAX + 1).check(), value);
    assert_eq!(Value::Text("x".repeat(257)).check(), value);
    assert_eq!(Value::Text("a\u{7}".into()).check(), value);
    let json = r#"{"type":"set_member_data","request":1,"changes":{"k":1.5}}"#;
    assert!(matches!(ClientMessage::from_json(json), Err(MessageError::Json(_))));
}

#[test]
fn the_largest_lobby_fits_a_frame_whatever_is_in_it() {
    let worst = |bytes: usize| "\"".repeat(bytes);
    let values = |count: usize, bytes: usize| {
        let key = |number: usize| DataKey::new(format!("{number:064}")).unwrap();
        let each = bytes / count - 64;
        (0..count).map(move |number| (key(number), Value::Text(worst(each))))
    };
    let members = LOBBY_MEMBERS_MAX + LOBBY_SPECTATORS_MAX;
    let member = |number: u8| Member {
        slot: Some(number),
        team: Some(15),
        role: Some(crate::ids::RoleId::new("r".repeat(64)).unwrap()),
        data: values(2, crate::limits::MEMBER_DATA_BYTES_MAX).collect(),
        ..Member::new(PeerId::from_u128(u128::MAX - u128::from(number)), u32::MAX)
    };
    let members: Vec<_> = (0..members).map(member).collect();
    let options = LobbyOptions { name: worst(64), ..LobbyOptions::public(16) };
    let mut lobby = LobbyState::new("7K4Q-M2XA".parse().unwrap(), options, peer(1), members);
    let entry = |(key, value)| (key, Entry { value, tier: Tier::Members });
    lobby.data = values(8, DATA_BYTES_MAX).map(entry).collect();
    let frame = ServerFrame { seq: u64::MAX, message: ServerMessage::Joined { request: 1, lobby } };
    let json = frame.to_json();
    assert!(json.len() <= LOBBY_FRAME_MAX, "{}", json.len());
    assert_eq!(ServerFrame::from_json(&json), Ok(frame));
}

#[test]
fn secrets_are_not_shown_in_logs() {
    let with = JoinWith {
        password: Some(Password("secret".into())),
        invite: Some(InviteToken("secret".into())),
        ..JoinWith::default()
    };
    let code = "7K4Q-M2XA".parse().unwrap();
    let join = ClientMessage::Join { request: 1, code, with };
    let change = OptionsChange { password: Some(Password("secret".into())), ..Default::default() };
    let update = ClientMessage::Update { request: 1, change };
    assert!(!format!("{join:?} {update:?}").contains("secret"));
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
