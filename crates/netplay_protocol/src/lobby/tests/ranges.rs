//! Numbers and sizes at their limits and beyond.

use super::super::*;
use crate::limits::{
    CHAT_MAX, COUNTDOWN_MAX, DATA_KEYS_MAX, FILTERS_MAX, LOBBY_MEMBERS_MAX, LOBBY_NAME_MAX,
    LOBBY_SPECTATORS_MAX, LOGIN_MAX, MEMBER_DATA_KEYS_MAX, PASSWORD_MAX, READY_CHECK_MAX,
    RESERVATION_MAX, SEARCH_SKIP_MAX, SORTS_MAX, TEAMS_MAX,
};

fn refused(json: &str) -> Option<MessageError> {
    ClientMessage::from_json(json).err()
}

#[test]
fn every_number_is_taken_up_to_its_limits_and_refused_by_name_beyond() {
    let peer = "00000000-0000-0000-0000-000000000008";
    let options = r#""visibility":"public","name":"","seat_secs":0"#;
    let cases: [(&str, u64, u64, String); 9] = [
        (
            "secs",
            1,
            READY_CHECK_MAX.into(),
            r#"{"type":"ready_check","request":1,"secs":N}"#.into(),
        ),
        ("ms", 0, COUNTDOWN_MAX.into(), r#"{"type":"countdown","request":1,"ms":N}"#.into()),
        (
            "secs",
            0,
            RESERVATION_MAX.into(),
            r#"{"type":"reserve","request":1,"peers":[],"secs":N}"#.into(),
        ),
        ("secs", 1, RESERVATION_MAX.into(), r#"{"type":"invite","request":1,"secs":N}"#.into()),
        ("skip", 0, SEARCH_SKIP_MAX.into(), r#"{"type":"search","request":1,"skip":N}"#.into()),
        (
            "capacity",
            1,
            LOBBY_MEMBERS_MAX.into(),
            format!(r#"{{"type":"create","request":1,"options":{{"capacity":N,{options}}}}}"#),
        ),
        (
            "spectators",
            0,
            LOBBY_SPECTATORS_MAX.into(),
            format!(
                r#"{{"type":"create","request":1,"options":{{"capacity":2,"spectators":N,{options}}}}}"#
            ),
        ),
        (
            "slot",
            0,
            u64::from(LOBBY_MEMBERS_MAX) - 1,
            format!(r#"{{"type":"place","request":1,"peer":"{peer}","change":{{"slot":N}}}}"#),
        ),
        (
            "team",
            0,
            u64::from(TEAMS_MAX) - 1,
            format!(r#"{{"type":"place","request":1,"peer":"{peer}","change":{{"team":N}}}}"#),
        ),
    ];
    for (field, least, most, json) in cases {
        let with = |number: &str| json.replace('N', number);
        for number in [least, most] {
            assert_eq!(refused(&with(&number.to_string())), None, "{number} in {json}");
        }
        let beyond = least.checked_sub(1).into_iter().chain([most + 1]);
        for number in beyond {
            let json = with(&number.to_string());
            assert_eq!(refused(&json), Some(MessageError::Range { field }), "{json}");
        }
        for number in ["-1", "1.5", "1e99", "18446744073709551616", "\"1\"", "true", "[]"] {
            let error = refused(&with(number));
            assert!(matches!(error, Some(MessageError::Json(_))), "{number} in {json}: {error:?}");
        }
    }
}

/// What a message with so many of something is.
type Write<'a> = &'a dyn Fn(usize) -> String;

/// These are taken up to their limits and refused beyond, by name.
fn have_limits(cases: &[(&'static str, usize, Write<'_>)]) {
    for (field, most, json) in cases {
        assert_eq!(refused(&json(*most)), None, "{}", json(*most));
        let beyond = json(most + 1);
        assert_eq!(refused(&beyond), Some(MessageError::Range { field }), "{beyond}");
    }
}

#[test]
fn every_list_is_taken_up_to_its_limit_and_refused_by_name_beyond() {
    let list = |item: &str, count: usize| vec![item; count].join(",");
    let keys = |kind: &str, count: usize| {
        let keys: Vec<_> = (0..count).map(|number| format!(r#""k{number}":null"#)).collect();
        format!(r#"{{"type":"{kind}","request":1,"changes":{{{}}}}}"#, keys.join(","))
    };
    let filters = |count| {
        let filters = list(r#"{"field":"free","compare":"ge","value":2}"#, count);
        format!(r#"{{"type":"search","request":1,"filters":[{filters}]}}"#)
    };
    let sort = |count| {
        let sort = list(r#"{"field":"members","order":"descending"}"#, count);
        format!(r#"{{"type":"search","request":1,"sort":[{sort}]}}"#)
    };
    let peers = |count| {
        let peers = list(r#""00000000-0000-0000-0000-000000000009""#, count);
        format!(r#"{{"type":"reserve","request":1,"peers":[{peers}],"secs":1}}"#)
    };
    have_limits(&[
        ("filters", FILTERS_MAX, &filters),
        ("sort", SORTS_MAX, &sort),
        ("peers", LOBBY_MEMBERS_MAX.into(), &peers),
        ("changes", 2 * DATA_KEYS_MAX, &|count| keys("set_data", count)),
        ("changes", 2 * MEMBER_DATA_KEYS_MAX, &|count| keys("set_member_data", count)),
    ]);
}

#[test]
fn every_text_is_taken_up_to_its_limit_and_refused_by_name_beyond() {
    let login = |kind: &str, count: usize| {
        let text = "x".repeat(count);
        format!(r#"{{"type":"hello","protocol":1,"game":"g","login":{{"{kind}":"{text}"}}}}"#)
    };
    let with = |before: &str, count: usize| format!(r#"{{{before}:"{}"}}"#, "x".repeat(count));
    let create = r#""capacity":2,"visibility":"public","name":"","seat_secs":0"#;
    let create = format!(r#""type":"create","request":1,"options":{{{create}}},"password""#);
    let join = r#""type":"join","request":1,"code":"7K4Q-M2XA","password""#;
    have_limits(&[
        ("login", LOGIN_MAX, &|count| login("jwt", count)),
        ("login", LOGIN_MAX, &|count| login("ticket", count)),
        ("password", PASSWORD_MAX, &|count| with(join, count)),
        ("password", PASSWORD_MAX, &|count| with(&create, count)),
        ("text", CHAT_MAX, &|count| with(r#""type":"chat","request":1,"text""#, count)),
    ]);
}

#[test]
fn changed_options_have_the_same_limits() {
    let options = LobbyOptions::public(2);
    let applied = |change: OptionsChange| change.applied(&options).map(|_| ());
    let field = |field| Err(MessageError::Range { field });
    for capacity in [0, LOBBY_MEMBERS_MAX + 1, u8::MAX] {
        let change = OptionsChange { capacity: Some(capacity), ..OptionsChange::default() };
        assert_eq!(applied(change), field("capacity"));
    }
    let spectators = Some(LOBBY_SPECTATORS_MAX + 1);
    let change = OptionsChange { spectators, ..OptionsChange::default() };
    assert_eq!(applied(change), field("spectators"));
    let password = Some(Password("x".repeat(PASSWORD_MAX + 1)));
    let change = OptionsChange { password, ..OptionsChange::default() };
    assert_eq!(applied(change), field("password"));
    let name = Some("x".repeat(LOBBY_NAME_MAX + 1));
    assert_eq!(applied(OptionsChange { name, ..OptionsChange::default() }), field("name"));
    assert_eq!(applied(OptionsChange::default()), Ok(()));
}
