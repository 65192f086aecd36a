mod ranges;

use proptest::prelude::*;

use super::*;
use crate::ids::{DataKey, PeerId};
use crate::limits::{
    CANDIDATE_MAX, DATA_BYTES_MAX, DATA_KEYS_MAX, DATA_NUMBER_MAX, LOBBY_FRAME_MAX,
    LOBBY_MEMBERS_MAX, LOBBY_MESSAGE_MAX, LOBBY_SPECTATORS_MAX, SDP_MAX,
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

/// What is passed on as it came must be what the general way reads, and who receives it must read the same.
/// Gives whether it is passed on.
fn relayed_is_what_was_sent(text: &str) -> bool {
    let Some((to, raw)) = RawSignal::read(text) else { return false };
    let Ok(ClientMessage::Signal { to: read, signal }) = ClientMessage::from_json(text) else {
        panic!("{text} is no signal")
    };
    assert_eq!(to, read);
    let from = peer(9);
    let mut written = Vec::new();
    raw.write_frame(u64::MAX, from, &mut written);
    let json = String::from_utf8(written).unwrap();
    assert!(json.len() <= LOBBY_MESSAGE_MAX, "{} bytes", json.len());
    let message = ServerMessage::Signal { from, signal };
    assert_eq!(ServerFrame::from_json(&json), Ok(ServerFrame { seq: u64::MAX, message }), "{text}");
    true
}

#[test]
fn signals_are_passed_on_as_the_general_way_reads_them() {
    let values =
        ["\"x\"", "null", "7", "\"\\u0041\"", "\"\\ud800\"", "{}", "[[[1]]]", "-1", "70000"];
    let fields = ["sdp", "candidate", "mid", "mline", "kind", "extra"];
    let kinds = ["offer", "answer", "candidate", "bye", "lost", "withdraw", "warp"];
    let to = peer(7);
    let (mut relayed, mut others) = (0, 0);
    let mut check = |text: &str| match relayed_is_what_was_sent(text) {
        true => relayed += 1,
        false => others += 1,
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
    assert!(relayed > 50 && others > 100, "{relayed} {others}");
}

#[test]
fn a_signal_that_is_too_long_anywhere_is_not_passed_on_as_it_came() {
    let sent = |body| {
        let message = ClientMessage::Signal { to: peer(7), signal: Signal { attempt: 1, body } };
        relayed_is_what_was_sent(&message.to_json())
    };
    let offer = |bytes: usize| SignalBody::Offer { sdp: "x".repeat(bytes) };
    assert!(sent(offer(SDP_MAX)) && !sent(offer(SDP_MAX + 1)));
    let quotes = |bytes: usize| SignalBody::Answer { sdp: "\"".repeat(bytes) };
    assert!(sent(quotes(SDP_MAX / 2)) && !sent(quotes(LOBBY_MESSAGE_MAX / 2 - 80)));
    let candidate = |bytes: usize, mid: usize| SignalBody::Candidate {
        candidate: "x".repeat(bytes),
        mid: Some("m".repeat(mid)),
        mline: Some(u16::MAX),
    };
    assert!(sent(candidate(CANDIDATE_MAX, 64)));
    assert!(!sent(candidate(CANDIDATE_MAX + 1, 0)) && !sent(candidate(0, 65)));
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
fn the_protocols_page_says_what_each_code_means_and_what_it_closes_with() {
    let rows = include_str!("protocol.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let mut names = Vec::new();
    for row in rows {
        let [name, closes, meaning] =
            row.trim_end_matches(" |").split(" | ").collect::<Vec<_>>()[..]
        else {
            panic!("{row}: three columns")
        };
        let name = name.trim_end_matches('`');
        let code: ErrorCode = serde_json::from_str(&format!("{name:?}")).unwrap();
        assert!(code != ErrorCode::Other || name == "other", "{name} is no code");
        let expected = match closes {
            "–" => 4000,
            number => number.parse().unwrap(),
        };
        assert_eq!((code.close_code(), code.to_string()), (expected, meaning.to_owned()), "{name}");
        names.push(name);
    }
    // Each variant has one `#[error("…")]`, and those of `MessageError` are three.
    let variants = include_str!("error.rs").matches("#[error(").count() - 3;
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), variants, "all of them: {names:?}");
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
    fn what_clients_write_is_passed_on_as_it_came(sdp in "[^\\p{Cc}]{0,200}", attempt: u32) {
        let signal = Signal { attempt, body: SignalBody::Offer { sdp: format!("v=0\r\n{sdp}") } };
        let message = ClientMessage::Signal { to: peer(7), signal };
        prop_assert!(relayed_is_what_was_sent(&message.to_json()) || sdp.contains('\\'));
    }

    #[test]
    fn any_text_is_a_message_or_an_error(text in ".{0,200}") {
        drop(ClientMessage::from_json(&text));
        drop(ServerFrame::from_json(&text));
    }
}
