//! A lobby in Bevy's terms, from looking for one to the beginning of its match.

#![expect(clippy::print_stdout, reason = "a failing test shows its seed")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::time::Duration;

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use bevy_netplay::prelude::*;
use bevy_netplay::test_kit::TestNet;
use bevy_netplay::{
    Compare, DataKey, Entry, ErrorCode, Field, InviteToken, LobbyError, OptionsChange, Rejoin,
    RequestError, RequestId,
};

const SEED: u64 = 0x10BB;
const STEPS: usize = 600;

/// What was heard, as text.
#[derive(Resource, Default)]
struct Heard(Vec<String>);

/// The last invitation.
#[derive(Resource)]
struct Invited(InviteToken);

fn game(app: &mut App) {
    app.init_resource::<Heard>()
        .add_observer(|chat: On<LobbyChat>, mut heard: ResMut<Heard>| {
            heard.0.push(format!("chat {}", chat.text));
        })
        .add_observer(|start: On<LobbyStart>, mut heard: ResMut<Heard>| {
            heard.0.push(format!("{:?}", start.step));
        })
        .add_observer(|answer: On<LobbyAnswered>, mut heard: ResMut<Heard>| {
            let result = answer.result.as_ref().map_err(|refused| refused.code);
            heard.0.push(format!("{:?} {result:?}", answer.request));
        })
        .add_observer(|invited: On<LobbyInvited>, mut commands: Commands| {
            commands.insert_resource(Invited(invited.invite.clone()));
        })
        .add_observer(|failed: On<LobbyFailed>, mut heard: ResMut<Heard>| {
            let removed = matches!(failed.error, LobbyError::Removed { .. });
            heard.0.push(format!("failed, removed {removed}"));
        });
}

fn net(count: usize) -> TestNet {
    println!("seed {SEED:#x}");
    TestNet::new(SEED, count, game)
}

fn key(name: &str) -> DataKey {
    DataKey::new(name).unwrap()
}

fn details(net: &mut TestNet, index: usize) -> Option<LobbyDetails> {
    let world = net.app(index).world_mut();
    world.query::<&LobbyDetails>().iter(world).next().cloned()
}

fn heard(net: &mut TestNet, index: usize, what: &str) -> bool {
    net.app(index).world().resource::<Heard>().0.iter().any(|heard| heard.contains(what))
}

/// Asks for something in the lobby of an app.
fn ask(
    net: &mut TestNet,
    index: usize,
    request: impl Fn(&LobbyRequests, Entity) -> Result<RequestId, RequestError> + Send + Sync + 'static,
) -> RequestId {
    let world = net.app(index).world_mut();
    let ask = move |lobby: Single<Entity, With<Lobby>>, requests: LobbyRequests| {
        request(&requests, *lobby)
    };
    world.run_system_once(ask).unwrap().unwrap()
}

/// A lobby with two members: the host and a guest.
fn pair(net: &mut TestNet) {
    let create = JoinLobby::create(2)
        .named("duel")
        .value(key("map"), Entry::public("desert"))
        .about_me(key("name"), "Ann");
    net.join(0, create);
    net.step_until(STEPS, |net| net.lobby(0).is_some());
    let code = net.lobby(0).unwrap().code;
    net.join(1, JoinLobby::code(code).about_me(key("name"), "Bob"));
    net.step_until(STEPS, |net| net.connected(0).len() == 1 && net.connected(1).len() == 1);
}

#[test]
fn a_lobby_is_found_by_its_values_and_its_members_know_each_other() {
    let mut net = net(2);
    let desert = LobbySearch::all().with(Field::Data(key("map")), Compare::Eq, "desert");
    let browse = net.app(1).world_mut().spawn(BrowseLobbies::new(desert)).id();
    let create = JoinLobby::create(2)
        .named("duel")
        .value(key("map"), Entry::public("desert"))
        .about_me(key("name"), "Ann");
    net.join(0, create);
    let found = move |net: &mut TestNet| {
        net.app(1).world().get::<FoundLobbies>(browse).cloned().unwrap_or_default()
    };
    net.step_until(STEPS, |net| !found(net).lobbies.is_empty());
    let lobby = found(&mut net).lobbies.remove(0);
    assert_eq!((lobby.name.as_str(), lobby.members, lobby.capacity), ("duel", 1, 2));
    net.app(1).world_mut().despawn(browse);
    net.join(1, JoinLobby::code(lobby.code).about_me(key("name"), "Bob"));
    net.step_until(STEPS, |net| details(net, 0).is_some_and(|lobby| lobby.members.len() == 2));
    for index in 0..2 {
        let lobby = details(&mut net, index).expect("it is in the lobby");
        let names: Vec<_> =
            lobby.members.iter().map(|member| LobbyDetails::says(member, "name")).collect();
        assert_eq!(names, [Some("Ann"), Some("Bob")]);
    }
}

#[test]
fn a_search_that_finds_nothing_says_so_and_another_one_is_made_at_once() {
    let mut net = net(2);
    net.join(0, JoinLobby::create(2));
    net.step_until(STEPS, |net| net.lobby(0).is_some());
    let none = LobbySearch::all().with(Field::Capacity, Compare::Eq, 9);
    let mut browse = BrowseLobbies::new(none);
    browse.every = Duration::from_secs(3600);
    let browse = net.app(1).world_mut().spawn(browse).id();
    for _ in 0..60 {
        net.step();
    }
    assert_eq!(*net.app(1).world().get::<FoundLobbies>(browse).unwrap(), FoundLobbies::default());
    net.app(1).world_mut().get_mut::<BrowseLobbies>(browse).unwrap().search = LobbySearch::all();
    net.step_until(60, |net| {
        !net.app(1).world().get::<FoundLobbies>(browse).unwrap().lobbies.is_empty()
    });
}

#[test]
fn members_chat_get_ready_and_the_host_counts_down_to_the_match() {
    let mut net = net(2);
    pair(&mut net);
    ask(&mut net, 1, |requests, lobby| requests.chat(lobby, "hello"));
    net.step_until(STEPS, |net| heard(net, 0, "chat hello") && heard(net, 1, "chat hello"));
    ask(&mut net, 0, |requests, lobby| requests.ready_check(lobby, Duration::from_secs(5)));
    net.step_until(STEPS, |net| heard(net, 1, "ReadyCheck(5s)"));
    for index in 0..2 {
        ask(&mut net, index, |requests, lobby| requests.ready(lobby, true));
    }
    net.step_until(STEPS, |net| heard(net, 0, "AllReady") && heard(net, 1, "AllReady"));
    ask(&mut net, 0, |requests, lobby| requests.countdown(lobby, Duration::from_millis(500)));
    net.step_until(STEPS, |net| heard(net, 0, "Playing") && heard(net, 1, "Playing"));
    assert!(heard(&mut net, 1, "Countdown(500ms)"));
    assert!(details(&mut net, 1).is_some_and(|lobby| lobby.playing));
}

#[test]
fn what_is_the_hosts_is_refused_to_a_guest_by_its_answer() {
    let mut net = net(2);
    pair(&mut net);
    let lock = |requests: &LobbyRequests, lobby| {
        requests.update(lobby, OptionsChange { locked: Some(true), ..Default::default() })
    };
    let refused = ask(&mut net, 1, lock);
    let refused = format!("{refused:?} Err({:?})", ErrorCode::NotHost);
    net.step_until(STEPS, |net| heard(net, 1, &refused));
    let done = format!("{:?} Ok(())", ask(&mut net, 0, lock));
    net.step_until(STEPS, |net| heard(net, 0, &done));
    net.step_until(STEPS, |net| details(net, 1).is_some_and(|lobby| lobby.options.locked));
}

#[test]
fn who_is_put_out_hears_it_and_the_host_plays_on() {
    let mut net = net(2);
    pair(&mut net);
    let guest = net.id(1).unwrap();
    ask(&mut net, 0, move |requests, lobby| requests.kick(lobby, guest, Rejoin::Never));
    net.step_until(STEPS, |net| heard(net, 1, "failed, removed true"));
    net.step_until(STEPS, |net| net.connected(0).is_empty() && net.connected(1).is_empty());
    assert!(!heard(&mut net, 0, "failed"));
}

#[test]
fn who_is_invited_leaves_its_lobby_and_has_the_seat_that_was_kept() {
    let mut net = net(3);
    net.join(0, JoinLobby::create_hidden(2));
    let elsewhere = net.join(1, JoinLobby::create(2));
    net.step_until(STEPS, |net| net.lobby(0).is_some() && net.lobby(1).is_some());
    let (code, friend) = (net.lobby(0).unwrap().code, net.id(1).unwrap());
    let minute = Duration::from_secs(60);
    ask(&mut net, 0, move |requests, lobby| requests.reserve(lobby, vec![friend], minute));
    ask(&mut net, 0, move |requests, lobby| requests.invite(lobby, Some(friend), minute));
    net.step_until(STEPS, |net| net.app(1).world().contains_resource::<Invited>());
    let invite = net.app(1).world_mut().remove_resource::<Invited>().unwrap().0;
    net.app(1).world_mut().despawn(elsewhere);
    net.join(1, JoinLobby::code(code).invited(invite.clone()));
    net.step_until(STEPS, |net| net.connected(0).len() == 1 && net.connected(1).len() == 1);
    // Nobody else comes by it.
    net.join(2, JoinLobby::code(code).invited(invite));
    net.step_until(STEPS, |net| heard(net, 2, "failed, removed false"));
}

#[test]
fn a_host_takes_back_what_it_asked_for_and_values_only_change_as_they_were_seen() {
    let mut net = net(2);
    pair(&mut net);
    for index in 0..2 {
        ask(&mut net, index, |requests, lobby| requests.ready(lobby, true));
    }
    net.step_until(STEPS, |net| {
        details(net, 0).is_some_and(|lobby| lobby.members.iter().all(|member| member.ready))
    });
    ask(&mut net, 0, |requests, lobby| requests.countdown(lobby, Duration::from_secs(60)));
    net.step_until(STEPS, |net| heard(net, 1, "Countdown"));
    ask(&mut net, 0, |requests, lobby| requests.cancel_countdown(lobby));
    net.step_until(STEPS, |net| heard(net, 1, "Cancelled"));
    let seen = details(&mut net, 0).unwrap().revision;
    let set = move |requests: &LobbyRequests, lobby| {
        let changes = [(key("map"), Some(Entry::public("forest")))].into();
        requests.set_all_if(lobby, seen, changes)
    };
    let (first, second) = (ask(&mut net, 0, set), ask(&mut net, 0, set));
    let conflict = ErrorCode::Conflict;
    net.step_until(STEPS, |net| heard(net, 0, &format!("{second:?} Err({conflict:?})")));
    assert!(heard(&mut net, 0, &format!("{first:?} Ok(())")));
    let guest = net.id(1).unwrap();
    ask(&mut net, 0, move |requests, lobby| requests.kick(lobby, guest, Rejoin::Never));
    net.step_until(STEPS, |net| heard(net, 1, "failed, removed true"));
    let unban = ask(&mut net, 0, move |requests, lobby| requests.unban(lobby, guest));
    net.step_until(STEPS, |net| heard(net, 0, &format!("{unban:?} Ok(())")));
}

#[test]
fn quick_join_takes_a_lobby_with_the_same_public_values_only() {
    let mut net = net(3);
    for (index, map) in ["desert", "forest", "desert"].into_iter().enumerate() {
        net.join(index, JoinLobby::quick(4).value(key("map"), Entry::public(map)));
        net.step_until(STEPS, |net| net.lobby(index).is_some());
    }
    let code = |net: &mut TestNet, index| net.lobby(index).unwrap().code;
    assert_eq!(code(&mut net, 0), code(&mut net, 2));
    assert_ne!(code(&mut net, 0), code(&mut net, 1));
}
