//! What a host and its guests can make of a lobby, in Bevy's terms.

#![expect(clippy::print_stdout, reason = "a failing test shows its seed")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::time::Duration;

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use bevy_netplay::prelude::*;
use bevy_netplay::test_kit::TestNet;
use bevy_netplay::{
    Compare, DataKey, Entry, ErrorCode, Field, InviteToken, LobbyError, LobbyInvitation, Member,
    PlaceChange, RequestError, RequestId,
};

const SEED: u64 = 0x1057;
const STEPS: usize = 600;

/// What was heard.
#[derive(Resource, Default)]
struct Heard {
    answers: Vec<(RequestId, Option<ErrorCode>)>,
    starts: Vec<StartStep>,
    hosts: Vec<PeerId>,
    refused: Option<ErrorCode>,
    invitation: Option<(RequestId, InviteToken)>,
}

fn game(app: &mut App) {
    app.init_resource::<Heard>()
        .add_observer(|answer: On<LobbyAnswered>, mut heard: ResMut<Heard>| {
            let refused = answer.result.as_ref().err().map(|refused| refused.code);
            heard.answers.push((answer.request, refused));
        })
        .add_observer(|start: On<LobbyStart>, mut heard: ResMut<Heard>| {
            heard.starts.push(start.step.clone());
        })
        .add_observer(|changed: On<HostChanged>, mut heard: ResMut<Heard>| {
            heard.hosts.push(changed.host);
        })
        .add_observer(|failed: On<LobbyFailed>, mut heard: ResMut<Heard>| {
            if let LobbyError::Refused { code, .. } = &failed.error {
                heard.refused = Some(*code);
            }
        })
        .add_observer(|made: On<LobbyInvitation>, mut heard: ResMut<Heard>| {
            heard.invitation = Some((made.request, made.invite.clone()));
        });
}

fn net(count: usize) -> TestNet {
    println!("seed {SEED:#x}");
    TestNet::new(SEED, count, game)
}

fn key(name: &str) -> DataKey {
    DataKey::new(name).unwrap()
}

fn heard(net: &mut TestNet, index: usize) -> &Heard {
    net.app(index).world().resource::<Heard>()
}

fn details(net: &mut TestNet, index: usize) -> LobbyDetails {
    let world = net.app(index).world_mut();
    world.query::<&LobbyDetails>().single(world).expect("it is in a lobby").clone()
}

fn member(net: &mut TestNet, of: usize, seen_by: usize) -> Member {
    let peer = net.id(of).unwrap();
    details(net, seen_by).member(peer).expect("it is in the lobby").clone()
}

/// Asks for something in the lobby of an app, and waits for the answer.
fn ask(
    net: &mut TestNet,
    index: usize,
    request: impl Fn(&LobbyRequests, Entity) -> Result<RequestId, RequestError> + Send + Sync + 'static,
) -> Result<(), ErrorCode> {
    let ask = move |lobby: Single<Entity, With<Lobby>>, requests: LobbyRequests| {
        request(&requests, *lobby)
    };
    let id = net.app(index).world_mut().run_system_once(ask).unwrap().unwrap();
    let answer = |net: &mut TestNet| {
        heard(net, index).answers.iter().find(|(request, _)| *request == id).copied()
    };
    net.step_until(STEPS, |net| answer(net).is_some());
    answer(net).and_then(|(_, refused)| refused).map_or(Ok(()), Err)
}

/// These are in a lobby, the first one as its host.
fn meet(net: &mut TestNet, lobby: JoinLobby, count: usize) {
    net.join(0, lobby);
    net.step_until(STEPS, |net| net.lobby(0).is_some());
    let code = net.lobby(0).unwrap().code;
    for index in 1..count {
        net.join(index, JoinLobby::code(code));
        net.step_until(STEPS, |net| net.lobby(index).is_some());
    }
}

/// Why the next attempt of this app is refused.
fn refused(net: &mut TestNet, index: usize, join: JoinLobby) -> ErrorCode {
    let entity = net.join(index, join);
    net.step_until(STEPS, |net| heard(net, index).refused.is_some());
    net.app(index).world_mut().despawn(entity);
    net.app(index).world_mut().resource_mut::<Heard>().refused.take().unwrap()
}

#[test]
fn the_host_sets_values_and_each_member_its_own() {
    let mut net = net(2);
    meet(&mut net, JoinLobby::create(2), 2);
    let map = |requests: &LobbyRequests, lobby| {
        requests.set(lobby, key("map"), Some(Entry::public("desert")))
    };
    assert_eq!(ask(&mut net, 1, map), Err(ErrorCode::NotHost));
    assert_eq!(ask(&mut net, 0, map), Ok(()));
    assert_eq!(
        ask(&mut net, 1, |requests, lobby| requests.set_mine(lobby, key("n"), Some("Bob".into()))),
        Ok(())
    );
    let said = |net: &mut TestNet| {
        let bob = member(net, 1, 0);
        LobbyDetails::says(&bob, "n").map(str::to_owned)
    };
    net.step_until(STEPS, |net| said(net).as_deref() == Some("Bob"));
    net.step_until(STEPS, |net| details(net, 1).data.contains_key(&key("map")));
    assert_eq!(
        ask(&mut net, 1, |requests, lobby| requests.set_mine(lobby, key("n"), None)),
        Ok(())
    );
    net.step_until(STEPS, |net| said(net).is_none());
    assert_eq!(ask(&mut net, 0, |requests, lobby| requests.set(lobby, key("map"), None)), Ok(()));
    net.step_until(STEPS, |net| details(net, 1).data.is_empty());
}

#[test]
fn members_change_their_places_and_the_host_everybodys() {
    let mut net = net(2);
    meet(&mut net, JoinLobby::create(4), 2);
    let [host, guest] = [0, 1].map(|index| net.id(index).unwrap());
    let to = |peer, slot, team| {
        move |requests: &LobbyRequests, lobby| {
            let change = PlaceChange { slot: Some(Some(slot)), team: Some(Some(team)), role: None };
            requests.place(lobby, peer, change)
        }
    };
    assert_eq!(ask(&mut net, 1, to(guest, 3, 1)), Ok(()));
    assert_eq!(ask(&mut net, 1, to(host, 2, 1)), Err(ErrorCode::NotHost));
    net.step_until(STEPS, |net| member(net, 1, 0).slot == Some(3));
    assert_eq!(ask(&mut net, 0, to(guest, 2, 5)), Ok(()));
    net.step_until(STEPS, |net| member(net, 1, 1).slot == Some(2));
    assert_eq!(member(&mut net, 1, 1).team, Some(5));
}

#[test]
fn a_host_lets_another_lead_who_begins_and_ends_the_match() {
    let mut net = net(3);
    meet(&mut net, JoinLobby::create(3).no_late_join(), 2);
    let guest = net.id(1).unwrap();
    let begins = |requests: &LobbyRequests, lobby| requests.set_playing(lobby, true);
    assert_eq!(ask(&mut net, 1, begins), Err(ErrorCode::NotHost));
    assert_eq!(ask(&mut net, 0, move |requests, lobby| requests.promote(lobby, guest)), Ok(()));
    net.step_until(STEPS, |net| (0..2).all(|index| heard(net, index).hosts == [guest]));
    assert!(net.lobby(1).is_some_and(|lobby| lobby.is_host()));
    assert_eq!(ask(&mut net, 0, begins), Err(ErrorCode::NotHost));
    assert_eq!(ask(&mut net, 1, begins), Ok(()));
    net.step_until(STEPS, |net| heard(net, 0).starts == [StartStep::Playing]);
    let code = net.lobby(0).unwrap().code;
    assert_eq!(refused(&mut net, 2, JoinLobby::code(code)), ErrorCode::Playing);
    assert_eq!(ask(&mut net, 1, |requests, lobby| requests.set_playing(lobby, false)), Ok(()));
    net.step_until(STEPS, |net| heard(net, 0).starts == [StartStep::Playing, StartStep::Over]);
    net.join(2, JoinLobby::code(code));
    net.step_until(STEPS, |net| net.lobby(2).is_some());
}

#[test]
fn a_password_keeps_out_who_does_not_have_it() {
    let mut net = net(2);
    meet(&mut net, JoinLobby::create(2).password("open"), 1);
    let code = net.lobby(0).unwrap().code;
    assert_eq!(refused(&mut net, 1, JoinLobby::code(code)), ErrorCode::WrongPassword);
    assert_eq!(
        refused(&mut net, 1, JoinLobby::code(code).password("shut")),
        ErrorCode::WrongPassword
    );
    net.join(1, JoinLobby::code(code).password("open"));
    net.step_until(STEPS, |net| net.lobby(1).is_some());
}

#[test]
fn who_watches_has_no_seat_and_a_lobby_has_room_for_so_many() {
    let mut net = net(3);
    let lobby = JoinLobby::create(1).spectators(1).keep_seats(Duration::from_secs(40));
    meet(&mut net, lobby, 1);
    let lobby = net.lobby(0).unwrap();
    assert_eq!(lobby.seats_kept, Duration::from_secs(40));
    assert_eq!(refused(&mut net, 1, JoinLobby::code(lobby.code)), ErrorCode::LobbyFull);
    net.join(1, JoinLobby::code(lobby.code).spectate());
    net.step_until(STEPS, |net| net.lobby(1).is_some());
    assert_eq!(member(&mut net, 1, 1).slot, None);
    assert_eq!(refused(&mut net, 2, JoinLobby::code(lobby.code).spectate()), ErrorCode::LobbyFull);
}

#[test]
fn an_invitation_for_whoever_has_it_opens_a_hidden_lobby() {
    let mut net = net(2);
    meet(&mut net, JoinLobby::create_hidden(2), 1);
    let code = net.lobby(0).unwrap().code;
    refused(&mut net, 1, JoinLobby::code(code));
    let minute = Duration::from_secs(60);
    let invited = ask(&mut net, 0, move |requests, lobby| requests.invite(lobby, None, minute));
    assert_eq!(invited, Ok(()));
    net.step_until(STEPS, |net| heard(net, 0).invitation.is_some());
    let (request, invite) = heard(&mut net, 0).invitation.clone().unwrap();
    assert!(heard(&mut net, 0).answers.contains(&(request, None)));
    net.join(1, JoinLobby::code(code).invited(invite));
    net.step_until(STEPS, |net| net.lobby(1).is_some());
}

#[test]
fn quick_join_takes_only_lobbies_where_what_is_asked_for_holds() {
    let mut net = net(3);
    let rated = |rating: i64| JoinLobby::create(2).value(key("rating"), Entry::public(rating));
    for (index, rating) in [(0, 900), (1, 1500)] {
        net.join(index, rated(rating));
        net.step_until(STEPS, |net| net.lobby(index).is_some());
    }
    let quick = JoinLobby::quick(2).only(Field::Data(key("rating")), Compare::Ge, 1200);
    net.join(2, quick);
    net.step_until(STEPS, |net| net.lobby(2).is_some());
    let code = |net: &mut TestNet, index| net.lobby(index).unwrap().code;
    assert_eq!(code(&mut net, 2), code(&mut net, 1));
}
