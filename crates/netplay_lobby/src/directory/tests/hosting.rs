//! Who gets in, who is put out, and what members and hosts change.

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::lobby::{
    Changes, ClientMessage, CreateWith, Entry, ErrorCode, InviteToken, JoinWith, LeaveReason,
    LobbyOptions, OptionsChange, Password, PlaceChange, Rejoin, Resume, ServerMessage, Tier, Value,
    Visibility,
};
use netplay_protocol::{BuildId, DataKey, GameId, LobbyCode, PROTOCOL_VERSION, PeerId};

use super::node::{Node, options};
use crate::{Input, RateLimit};

const SECOND: Duration = Duration::from_secs(1);

fn key(name: &str) -> DataKey {
    DataKey::new(name).unwrap()
}

fn set(name: &str, entry: Entry) -> Changes<Entry> {
    [(key(name), Some(entry))].into()
}

fn set_data(changes: Changes<Entry>) -> ClientMessage {
    ClientMessage::SetData { request: 1, revision: None, changes }
}

fn kick(peer: PeerId, rejoin: Rejoin) -> ClientMessage {
    ClientMessage::Kick { request: 1, peer, rejoin }
}

fn place(peer: PeerId, slot: Option<u8>) -> ClientMessage {
    let change = PlaceChange { slot: Some(slot), ..PlaceChange::default() };
    ClientMessage::Place { request: 1, peer, change }
}

fn join(code: LobbyCode, with: JoinWith) -> ClientMessage {
    ClientMessage::Join { request: 1, code, with }
}

fn by_password(text: &str) -> JoinWith {
    JoinWith { password: Some(Password(text.into())), ..JoinWith::default() }
}

fn by_invitation(invite: &InviteToken) -> JoinWith {
    JoinWith { invite: Some(invite.clone()), ..JoinWith::default() }
}

fn to_watch() -> JoinWith {
    JoinWith { spectate: true, ..JoinWith::default() }
}

#[test]
fn what_is_the_hosts_is_refused_to_others() {
    let mut node = Node::new();
    let (_, peers) = node.lobby_of(3, options(3));
    let peer = peers[2];
    let (request, secs) = (1, 10);
    for message in [
        ClientMessage::Update { request, change: OptionsChange::default() },
        set_data(Changes::new()),
        kick(peer, Rejoin::Free),
        place(peer, None),
        ClientMessage::Unban { request, peer },
        ClientMessage::Promote { request, peer },
        ClientMessage::Reserve { request, peers: vec![], secs },
        ClientMessage::ReadyCheck { request, secs },
        ClientMessage::Countdown { request, ms: 1 },
        ClientMessage::CancelCountdown { request },
        ClientMessage::SetPlaying { request, playing: true },
    ] {
        assert_eq!(node.refused(2, message.clone()), ErrorCode::NotHost, "{message:?}");
    }
    node.hello(4);
    let chat = ClientMessage::Chat { request, text: "hello?".into() };
    assert_eq!(node.refused(4, chat), ErrorCode::NotInLobby);
}

#[test]
fn an_update_changes_what_it_names_and_all_are_told() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(2, options(3));
    let change = OptionsChange { name: Some("other".into()), ..OptionsChange::default() };
    node.update(1, change);
    let new = LobbyOptions { name: "other".into(), ..options(3) };
    let told = ServerMessage::OptionsChanged { options: new, password: false };
    assert_eq!(node.take(2), [told]);
    let fewer = OptionsChange { capacity: Some(1), ..OptionsChange::default() };
    let fewer = ClientMessage::Update { request: 1, change: fewer };
    assert_eq!(node.refused(1, fewer), ErrorCode::LobbyFull);
    let none = OptionsChange { capacity: Some(0), ..OptionsChange::default() };
    assert_eq!(
        node.refused(1, ClientMessage::Update { request: 1, change: none }),
        ErrorCode::Malformed
    );
    node.hello(3);
    assert_eq!(node.join(3, code).options.name, "other");
}

#[test]
fn nobody_enters_a_locked_lobby_but_for_whom_a_seat_is_reserved() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, options(3));
    let (friend, _) = (node.hello(2), node.hello(3));
    node.update(1, OptionsChange { locked: Some(true), ..OptionsChange::default() });
    let invite = node.invite(1, None);
    assert_eq!(node.refused(3, join(code, by_invitation(&invite))), ErrorCode::Locked);
    assert!(node.list(3).is_empty());
    let reserve = ClientMessage::Reserve { request: 1, peers: vec![friend], secs: 10 };
    node.done(1, reserve);
    assert_eq!(node.join(2, code).members.len(), 2);
}

#[test]
fn a_reserved_seat_is_free_for_nobody_else_until_its_time_is_over() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, options(2));
    let friend = node.hello(2);
    node.hello(3);
    let reserve = |count: usize| {
        let peers = (0..count).map(|n| PeerId::from_u128(n as u128)).chain([friend]).collect();
        ClientMessage::Reserve { request: 1, peers, secs: 10 }
    };
    assert_eq!(node.refused(1, reserve(1)), ErrorCode::LobbyFull, "one seat is free");
    node.done(1, reserve(0));
    assert_eq!(node.refused(3, join(code, JoinWith::default())), ErrorCode::LobbyFull);
    assert!(node.list(3).is_empty());
    assert_ne!(node.quick(3, options(2)).code, code);
    node.say(3, ClientMessage::Leave { request: 1 });
    for _ in 0..3 {
        node.wait(4 * SECOND);
        (1..=3).for_each(|of| node.say(of, ClientMessage::KeepAlive { seen: 0 }));
    }
    node.take(3);
    assert_eq!(node.list(3).len(), 1, "it is found again");
    node.join(3, code);
}

#[test]
fn a_password_lets_in_and_guesses_of_all_together_are_few() {
    let mut node = Node::with(|config| config.passwords = RateLimit { burst: 2, per_second: 1 });
    node.hello(1);
    let with = CreateWith { password: Some(Password("sesame".into())), ..CreateWith::default() };
    node.say(1, ClientMessage::Create { request: 1, options: options(4), with });
    let Some(ServerMessage::Joined { lobby, .. }) = node.take(1).pop() else { panic!("created") };
    assert!(lobby.password);
    let code = lobby.code;
    for of in 2..=5 {
        node.hello(of);
    }
    assert_ne!(node.quick(5, options(4)).code, code, "quick join knows no password");
    assert!(node.list(2).iter().any(|found| found.code == code && found.password));
    assert_eq!(node.refused(2, join(code, JoinWith::default())), ErrorCode::WrongPassword);
    assert_eq!(node.refused(2, join(code, by_password("Sesame"))), ErrorCode::WrongPassword);
    assert_eq!(node.refused(3, join(code, by_password(""))), ErrorCode::WrongPassword);
    assert_eq!(node.refused(4, join(code, by_password("sesame"))), ErrorCode::RateLimited);
    let invite = node.invite(1, None);
    node.join_with(3, code, by_invitation(&invite));
    node.wait(SECOND);
    node.join_with(4, code, by_password("sesame"));
    node.update(
        1,
        OptionsChange { password: Some(Password("".into())), ..OptionsChange::default() },
    );
    node.join(2, code);
}

#[test]
fn a_hidden_lobby_is_entered_by_invitation_and_each_opens_what_it_says() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, LobbyOptions::hidden(4));
    let (b, c) = (node.hello(2), node.hello(3));
    assert_eq!(node.refused(2, join(code, JoinWith::default())), ErrorCode::NotInvited);
    let for_b = node.invite(1, Some(b));
    let told = node.take(2);
    let [ServerMessage::Invited { lobby, invite, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((lobby.code, invite), (code, &for_b));
    node.join_with(2, code, by_invitation(&for_b));
    let invite = ClientMessage::Invite { request: 1, to: Some(c), secs: 60 };
    assert_eq!(node.refused(2, invite), ErrorCode::NotHost, "the lobby is not public");
    // An invitation to another lobby, a forged one, and one that is too old.
    node.hello(4);
    let other = node.create(4, LobbyOptions::hidden(2));
    let elsewhere = node.invite(4, None);
    assert_eq!(node.refused(3, join(code, by_invitation(&elsewhere))), ErrorCode::NotInvited);
    let forged = InviteToken(format!("{}x", for_b.0));
    assert_eq!(node.refused(3, join(code, by_invitation(&forged))), ErrorCode::NotInvited);
    for _ in 0..5 {
        (1..=4).for_each(|of| node.say(of, ClientMessage::KeepAlive { seen: 0 }));
        node.wait(13 * SECOND);
    }
    node.take(3);
    let late = join(other.code, by_invitation(&elsewhere));
    assert_eq!(node.refused(3, late), ErrorCode::NotInvited);
}

#[test]
fn one_session_stands_for_who_was_invited_and_has_the_seat_that_was_kept() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, LobbyOptions::hidden(3));
    // As a game does it: a session for the lobby it is in, and another one for the next.
    let b = node.hello(2);
    node.create(2, options(2));
    node.say(1, ClientMessage::Reserve { request: 1, peers: vec![b], secs: 60 });
    node.update(1, OptionsChange { locked: Some(true), ..OptionsChange::default() });
    let invite = node.invite(1, Some(b));
    for of in 3..=5 {
        node.hello(of);
    }
    node.join_with(3, code, by_invitation(&invite));
    node.update(1, OptionsChange { locked: Some(false), ..OptionsChange::default() });
    assert_eq!(node.refused(4, join(code, by_invitation(&invite))), ErrorCode::NotInvited);
    // It itself may come all the same.
    node.say(2, ClientMessage::Leave { request: 1 });
    node.take(2);
    node.join_with(2, code, by_invitation(&invite));
    // What was made before somebody was put out lets nobody in who stands for it.
    let old = node.invite(1, Some(b));
    node.wait(SECOND);
    node.say(1, ClientMessage::Kick { request: 1, peer: b, rejoin: Rejoin::Invited });
    assert_eq!(node.refused(5, join(code, by_invitation(&old))), ErrorCode::NotInvited);
}

#[test]
fn after_a_restart_of_the_server_an_invitation_lets_in_only_whom_it_is_for() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, LobbyOptions::hidden(3));
    let friend = node.hello(2);
    let invite = node.invite(1, Some(friend));
    let sessions = [1, 2].map(|of| (of, node.session(of)));
    node.restart_server();
    for (of, (peer, token)) in sessions {
        node.connect(10 + of);
        node.say_hello(10 + of, Some(Resume { peer, token, seen: 0, restart: false }));
        node.welcomed(10 + of);
    }
    node.say(11, ClientMessage::KeepAlive { seen: 0 });
    node.wait(11 * SECOND);
    node.hello(13);
    assert_eq!(node.refused(13, join(code, by_invitation(&invite))), ErrorCode::NotInvited);
    node.take(12);
    node.join_with(12, code, by_invitation(&invite));
}

#[test]
fn members_of_public_lobbies_invite_who_is_there() {
    let mut node = Node::new();
    node.lobby_of(2, options(4));
    let c = node.hello(3);
    node.hello_game(4, "other");
    node.invite(2, Some(c));
    assert!(matches!(node.take(3)[..], [ServerMessage::Invited { .. }]));
    for stranger in [node.session(4).0, PeerId::from_u128(7)] {
        let invite = ClientMessage::Invite { request: 1, to: Some(stranger), secs: 60 };
        assert_eq!(node.refused(2, invite), ErrorCode::NoSuchMember);
    }
}

#[test]
fn who_is_put_out_comes_back_as_its_host_says() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(2, options(2));
    let b = peers[1];
    let back = |node: &mut Node, with| {
        node.say(2, ClientMessage::Join { request: 1, code, with });
        match node.take(2).pop() {
            Some(ServerMessage::Joined { .. }) => None,
            Some(ServerMessage::Error { code, .. }) => Some(code),
            other => panic!("{other:?}"),
        }
    };
    let old = node.invite(1, None);
    node.done(1, kick(b, Rejoin::Free));
    assert_eq!(node.take(2), [ServerMessage::Removed { reason: LeaveReason::Kicked }]);
    assert_eq!(back(&mut node, JoinWith::default()), None);
    node.wait(SECOND);
    node.take(1);
    let told = node.done(1, kick(b, Rejoin::Invited));
    assert_eq!(told, [ServerMessage::MemberLeft { peer: b, reason: LeaveReason::Kicked }]);
    assert_eq!(back(&mut node, by_invitation(&old)), Some(ErrorCode::NotInvited));
    assert_ne!(node.quick(2, options(2)).code, code);
    node.say(2, ClientMessage::Leave { request: 1 });
    let new = node.invite(1, None);
    assert_eq!(back(&mut node, by_invitation(&new)), None);
    node.take(1);
    node.done(1, kick(b, Rejoin::Never));
    assert_eq!(node.take(2), [ServerMessage::Removed { reason: LeaveReason::Banned }]);
    let newest = node.invite(1, None);
    assert_eq!(back(&mut node, by_invitation(&newest)), Some(ErrorCode::Banned));
    node.done(1, ClientMessage::Unban { request: 1, peer: b });
    assert_eq!(back(&mut node, JoinWith::default()), None);
    let host = node.session(1).0;
    node.take(1);
    assert_eq!(node.refused(1, kick(host, Rejoin::Free)), ErrorCode::NoSuchMember);
}

#[test]
fn who_is_promoted_leads_and_knows_what_only_hosts_know() {
    let mut node = Node::new();
    let (_, peers) = node.lobby_of(2, options(2));
    node.done(1, set_data(set("seed", Entry::host(7))));
    assert_eq!(node.take(2), [ServerMessage::DataChanged { revision: 1, changes: Changes::new() }]);
    let promote = ClientMessage::Promote { request: 1, peer: peers[1] };
    let told = node.done(1, promote.clone());
    let changed = ServerMessage::HostChanged { host: peers[1], term: 1 };
    assert_eq!(told, std::slice::from_ref(&changed));
    let changes = set("seed", Entry::host(7));
    assert_eq!(node.take(2), [changed, ServerMessage::DataChanged { revision: 1, changes }]);
    assert_eq!(node.refused(1, promote), ErrorCode::NotHost);
}

#[test]
fn values_are_seen_by_whom_they_are_for_and_change_hands() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(2, options(3));
    let all =
        [("map", Entry::public("desert")), ("rule", Entry::members(3)), ("seed", Entry::host(7))];
    let changes: Changes<Entry> = all.map(|(name, entry)| (key(name), Some(entry))).into();
    node.done(1, set_data(changes));
    let seen = |node: &mut Node| match &node.take(2)[..] {
        [ServerMessage::DataChanged { changes, .. }] => changes.clone(),
        other => panic!("{other:?}"),
    };
    let names = |changes: &Changes<Entry>| {
        changes.iter().map(|(key, entry)| (key.to_string(), entry.is_some())).collect::<Vec<_>>()
    };
    let now = seen(&mut node);
    assert_eq!(names(&now), [("map".into(), true), ("rule".into(), true)]);
    node.hello(3);
    let found = node.list(3).remove(0).data;
    assert_eq!(found, BTreeMap::from([(key("map"), Value::from("desert"))]));
    // What is not for members any more is gone for them.
    node.done(1, set_data(set("map", Entry::host("desert"))));
    assert_eq!(names(&seen(&mut node)), [("map".into(), false)]);
    assert!(node.list(3)[0].data.is_empty());
    let joined = node.join(3, code);
    assert_eq!(joined.data.keys().map(DataKey::as_str).collect::<Vec<_>>(), ["rule"]);
    assert_eq!((joined.revision, joined.data[&key("rule")].tier), (2, Tier::Members));
}

#[test]
fn of_two_who_change_a_value_they_know_one_is_told_of_the_other() {
    let mut node = Node::new();
    node.lobby_of(1, options(2));
    let with = |revision| {
        let changes = set("map", Entry::public("desert"));
        ClientMessage::SetData { request: 1, revision: Some(revision), changes }
    };
    node.done(1, with(0));
    assert_eq!(node.refused(1, with(0)), ErrorCode::Conflict);
    node.done(1, with(1));
    let many = (0..30).map(|n| (key(&format!("k{n}")), Some(Entry::public(1)))).collect();
    assert_eq!(node.refused(1, set_data(many)), ErrorCode::Malformed, "too many values");
}

#[test]
fn a_member_says_what_it_likes_about_itself_within_limits() {
    let mut node = Node::new();
    let (_, peers) = node.lobby_of(2, options(2));
    let change = |text: &str, count: usize| {
        let key = |n| key(&format!("k{n}"));
        let changes = (0..count).map(|n| (key(n), Some(Value::from(text)))).collect();
        ClientMessage::SetMemberData { request: 1, changes }
    };
    node.done(2, change("Bob", 1));
    let told = node.take(1);
    let [ServerMessage::MemberChanged { member }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((member.peer, member.data.len()), (peers[1], 1));
    assert_eq!(node.refused(2, change("x", 9)), ErrorCode::Malformed);
    assert_eq!(node.refused(2, change(&"x".repeat(200), 3)), ErrorCode::Malformed);
}

#[test]
fn seats_are_taken_by_one_and_who_has_none_watches() {
    let mut node = Node::new();
    let options = LobbyOptions { spectators: 1, ..options(2) };
    let (code, peers) = node.lobby_of(2, options);
    node.hello(3);
    node.hello(4);
    let watching = node.join_with(3, code, to_watch());
    assert_eq!(
        watching.members.iter().map(|m| m.slot).collect::<Vec<_>>(),
        [Some(0), Some(1), None]
    );
    assert_eq!(node.refused(4, join(code, to_watch())), ErrorCode::LobbyFull);
    node.take(2);
    let c = node.session(3).0;
    assert_eq!(node.refused(3, place(c, Some(0))), ErrorCode::SeatTaken);
    assert_eq!(node.refused(3, place(c, Some(9))), ErrorCode::SeatTaken, "there is none");
    assert_eq!(node.refused(2, place(peers[1], None)), ErrorCode::LobbyFull, "one may watch");
    node.say(2, ClientMessage::Leave { request: 1 });
    node.done(3, place(c, Some(1)));
    let b = node.join_with(2, code, to_watch());
    assert_eq!(b.members.last().unwrap().slot, None);
    node.take(1);
    // The host puts others somewhere else.
    node.done(1, place(peers[1], None));
    assert_eq!(node.refused(1, place(PeerId::from_u128(1), None)), ErrorCode::NoSuchMember);
}

#[test]
fn builds_are_apart_and_a_code_of_another_says_which() {
    let mut node = Node::new();
    node.hello(1);
    let game = GameId::new("game").unwrap();
    let build = BuildId::new("2").unwrap();
    node.connect(2);
    let (protocol, build, resume) = (PROTOCOL_VERSION, Some(build), None);
    node.say(2, ClientMessage::Hello { protocol, game, build, resume, login: None });
    node.welcomed(2);
    let lobby = node.create(1, options(2));
    assert!(node.list(2).is_empty());
    node.say(2, ClientMessage::join(1, lobby.code));
    let told = node.take(2);
    let [ServerMessage::Error { code: ErrorCode::WrongBuild, text, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(text.contains("build 2"), "{text}");
    assert_ne!(node.quick(2, options(2)).code, lobby.code);
}

#[test]
fn chat_reaches_all_members_and_nobody_floods_them() {
    let mut node = Node::new();
    let (_, peers) = node.lobby_of(2, options(2));
    let chat = || ClientMessage::Chat { request: 1, text: "hello".into() };
    let said = ServerMessage::Chat { from: peers[0], text: "hello".into() };
    assert_eq!(node.done(1, chat()), std::slice::from_ref(&said));
    assert_eq!(node.take(2), [said]);
    (0..4).for_each(|_| drop(node.done(1, chat())));
    assert_eq!(node.refused(1, chat()), ErrorCode::RateLimited);
    assert_eq!(node.take(2).len(), 4);
    let long = ClientMessage::Chat { request: 1, text: "x".repeat(501) };
    node.wait(2 * SECOND);
    assert_eq!(node.refused(1, long), ErrorCode::Malformed);
}

#[test]
fn a_lobby_that_was_open_for_as_long_as_lobbies_are_is_closed() {
    let mut node = Node::with(|config| config.lobby_lifetime = 9 * SECOND);
    node.lobby_of(2, options(3));
    node.wait(8 * SECOND);
    (1..=2).for_each(|of| node.say(of, ClientMessage::KeepAlive { seen: 0 }));
    node.take(2);
    node.wait(2 * SECOND);
    let reason = LeaveReason::Closed;
    assert_eq!(node.take(2).last(), Some(&ServerMessage::Removed { reason }));
    assert_eq!((node.directory.stats().lobbies, node.directory.stats().sessions), (0, 2));
    node.create(2, options(2));
}

#[test]
fn after_a_restart_of_the_server_a_lobby_is_what_it_was() {
    let mut node = Node::new();
    let options = LobbyOptions { visibility: Visibility::Private, spectators: 1, ..options(4) };
    let (code, peers) = node.lobby_of(3, options);
    node.done(1, set_data(set("seed", Entry::host(7))));
    node.update(
        1,
        OptionsChange { password: Some(Password("sesame".into())), ..Default::default() },
    );
    let change = PlaceChange { slot: Some(Some(3)), team: Some(Some(1)), role: None };
    node.done(2, ClientMessage::Place { request: 1, peer: peers[1], change });
    node.done(1, place(peers[2], None));
    (1..=3).for_each(|of| drop(node.take(of)));
    let before = node.directory.lobbies.get(code).unwrap().state(code, node.now, peers[0]);
    node.restart_server();
    for of in [3, 2, 1] {
        let (peer, token) = node.session(of);
        node.connect(10 + of);
        node.say_hello(10 + of, Some(Resume { peer, token, seen: 0, restart: false }));
        node.welcomed(10 + of);
    }
    let after = node.directory.lobbies.get(code).unwrap().state(code, node.now, peers[0]);
    assert_eq!(after, before);
    node.wait(11 * SECOND);
    node.hello(20);
    assert_eq!(node.refused(20, join(code, by_password("open"))), ErrorCode::WrongPassword);
    node.join_with(20, code, by_password("sesame"));
}

#[test]
fn who_returns_to_a_smaller_lobby_than_it_left_has_one_of_its_seats() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(2, options(4));
    node.done(1, place(peers[1], Some(3)));
    (1..=2).for_each(|of| drop(node.take(of)));
    let (peer, token) = node.session(2);
    node.disconnect(2);
    node.take(1);
    node.done(1, place(peers[1], Some(1)));
    node.update(1, OptionsChange { capacity: Some(2), ..Default::default() });
    let (host, hosts) = node.session(1);
    node.restart_server();
    for (of, peer, token) in [(11, host, hosts), (12, peer, token)] {
        node.connect(of);
        node.say_hello(of, Some(Resume { peer, token, seen: 0, restart: false }));
        node.welcomed(of);
    }
    let lobby = node.directory.lobbies.get(code).expect("it is back");
    let slots: Vec<_> = lobby.members().iter().map(|member| member.slot).collect();
    assert_eq!((lobby.options.capacity, slots), (2, vec![Some(0), Some(1)]));
}

#[test]
fn quick_join_takes_the_next_lobby_if_the_best_one_has_put_the_player_out() {
    let mut node = Node::new();
    let (best, peers) = node.lobby_of(3, options(4));
    node.hello(4);
    let next = node.create(4, options(4));
    node.done(1, kick(peers[2], Rejoin::Never));
    node.take(3);
    assert_ne!(best, next.code);
    assert_eq!(node.quick(3, options(4)).code, next.code);
}

#[test]
fn who_runs_the_server_sees_all_lobbies_and_closes_them_and_puts_members_out() {
    let mut node = Node::new();
    let (code, peers) = node.lobby_of(2, LobbyOptions::private(4));
    node.done(1, set_data(set("seed", Entry::host(7))));
    node.hello_game(3, "other");
    let other = node.create(3, LobbyOptions::private(2)).code;
    let all = node.directory.lobbies(None, 10);
    let mut codes = [code, other];
    codes.sort_unstable();
    assert_eq!(all.iter().map(|of| of.state.code).collect::<Vec<_>>(), codes);
    let after = node.directory.lobbies(Some(codes[0]), 10);
    assert_eq!(after, all[1..]);
    let view = node.directory.lobby(code).unwrap();
    assert_eq!((view.game.as_str(), view.state.data.len()), ("game", 1));
    node.input(Input::PutOut { code, peer: peers[1], rejoin: Rejoin::Never });
    let removed = |reason| ServerMessage::Removed { reason };
    assert_eq!(node.take(2).last(), Some(&removed(LeaveReason::Banned)));
    assert_eq!(node.refused(2, join(code, JoinWith::default())), ErrorCode::Banned);
    node.input(Input::Close { code });
    assert_eq!(node.take(1).last(), Some(&removed(LeaveReason::Closed)));
    // Of one that there is not, and of somebody who is not in it.
    node.input(Input::Close { code });
    node.input(Input::PutOut { code: other, peer: peers[0], rejoin: Rejoin::Free });
    assert_eq!(node.directory.stats().lobbies, 1);
}

#[test]
fn a_token_of_before_is_no_way_back_for_who_was_put_out() {
    let mut node = Node::new();
    let (_, peers) = node.lobby_of(2, options(3));
    node.restart_server();
    assert!(!node.resume_over(1, 11, 0) && !node.resume_over(2, 12, 0), "they are restored");
    assert!(node.lobby(12).is_some());
    node.take(11);
    node.done(11, kick(peers[1], Rejoin::Never));
    node.say(12, ClientMessage::Goodbye);
    // The token of its connection 2 is of the server before.
    node.resume_over(2, 22, 0);
    assert_eq!(node.lobby(22), None);
}

#[test]
fn who_came_to_watch_does_not_join_a_match_that_nobody_may_join_late() {
    let mut node = Node::new();
    let (code, _) =
        node.lobby_of(1, LobbyOptions { no_late_join: true, spectators: 2, ..options(3) });
    node.done(1, ClientMessage::SetPlaying { request: 1, playing: true });
    let watcher = node.hello(2);
    node.say(2, join(code, to_watch()));
    node.take(2);
    assert_eq!(node.refused(2, place(watcher, Some(1))), ErrorCode::Playing);
    node.take(1);
    node.done(1, place(watcher, Some(1)));
}

#[test]
fn after_a_restart_the_newest_password_counts_and_a_match_that_ran_runs_whoever_returns_first() {
    for first in [1, 2] {
        let mut node = Node::new();
        let (code, _) = node.lobby_of(2, LobbyOptions { no_late_join: true, ..options(4) });
        let password = Some(Password("sesame".into()));
        node.update(1, OptionsChange { password, ..Default::default() });
        node.done(1, ClientMessage::SetPlaying { request: 1, playing: true });
        node.take(1);
        // Connection 2 never took the token that says so.
        node.restart_server();
        for of in [first, 3 - first] {
            assert!(!node.resume_over(of, 10 + of, 0), "it is restored");
        }
        node.wait(11 * SECOND);
        node.hello(20);
        assert_eq!(node.refused(20, ClientMessage::join(1, code)), ErrorCode::Playing);
        assert_ne!(node.quick(20, options(4)).code, code);
        node.say(20, ClientMessage::Leave { request: 1 });
        node.take(20);
        node.take(11);
        node.done(11, ClientMessage::SetPlaying { request: 1, playing: false });
        assert_eq!(node.refused(20, ClientMessage::join(1, code)), ErrorCode::WrongPassword);
    }
}
