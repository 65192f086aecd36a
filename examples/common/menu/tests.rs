//! The menu without a screen: what is chosen, and where that leads.

mod hands;

use bevy_netplay::test_kit::TestNet;

use super::*;

const SEED: u64 = 0x3E40;
const STEPS: usize = 1000;

fn net(names: &[&str]) -> TestNet {
    net_with(names, |_| {})
}

fn net_with(names: &[&str], also: fn(&mut App)) -> TestNet {
    println!("seed {SEED:#x}");
    let mut names = names.iter();
    TestNet::new(SEED, names.len(), |app| {
        let name = (*names.next().expect("a name each")).to_owned();
        app.insert_resource(Menu { seats: 2, name, ..default() }).init_resource::<Phase>();
        what_it_does(app);
        also(app);
    })
}

fn menu(net: &mut TestNet, index: usize) -> Mut<'_, Menu> {
    net.app(index).world_mut().resource_mut::<Menu>()
}

fn choose(net: &mut TestNet, index: usize, act: Act) {
    net.app(index).world_mut().write_message(Chosen(act));
    net.step();
}

fn until(net: &mut TestNet, index: usize, screen: Screen) {
    net.step_until(STEPS, |net| menu(net, index).screen == screen);
}

fn plays(net: &mut TestNet, index: usize) -> bool {
    matches!(net.app(index).world().resource::<Phase>(), Phase::Playing { .. })
}

#[test]
fn two_find_each_other_talk_get_ready_and_play() {
    let mut net = net(&["Ann", "Bob"]);
    choose(&mut net, 0, Act::Create);
    until(&mut net, 0, Screen::Lobby);
    net.step_until(STEPS, |net| !menu(net, 1).found.is_empty());
    let found = menu(&mut net, 1).found[0].clone();
    assert_eq!((listed(&found).as_str(), found.members), ("Ann's game   1/2", 1));
    choose(&mut net, 1, Act::Join(found.code.to_string()));
    until(&mut net, 1, Screen::Lobby);
    menu(&mut net, 1).chat = "hello".into();
    choose(&mut net, 1, Act::Say);
    net.step_until(STEPS, |net| menu(net, 0).said == ["Bob: hello"]);
    assert_eq!(menu(&mut net, 1).chat, "");
    choose(&mut net, 0, Act::Ready);
    choose(&mut net, 1, Act::Ready);
    choose(&mut net, 0, Act::Start);
    net.step_until(STEPS, |net| menu(net, 1).countdown.is_some());
    // The match begins for both, once the countdown is over.
    net.step_until(STEPS, |net| plays(net, 0) && plays(net, 1));
    for index in 0..2 {
        assert_eq!(menu(&mut net, index).screen, Screen::Away);
        assert_eq!(menu(&mut net, index).countdown, None);
    }
}

#[test]
fn who_is_not_ready_any_more_stops_the_countdown() {
    let mut net = net(&["Ann", "Bob"]);
    choose(&mut net, 0, Act::CreatePrivate);
    until(&mut net, 0, Screen::Lobby);
    menu(&mut net, 1).code = menu(&mut net, 0).code.clone();
    choose(&mut net, 1, Act::JoinByCode);
    until(&mut net, 1, Screen::Lobby);
    choose(&mut net, 0, Act::Ready);
    choose(&mut net, 1, Act::Ready);
    choose(&mut net, 0, Act::Start);
    net.step_until(STEPS, |net| menu(net, 0).countdown.is_some());
    choose(&mut net, 1, Act::Ready);
    net.step_until(STEPS, |net| menu(net, 0).countdown.is_none());
    assert!(menu(&mut net, 0).note.contains("not ready any more"));
    assert!(!plays(&mut net, 0));
    choose(&mut net, 1, Act::Back);
    assert_eq!(menu(&mut net, 1).screen, Screen::Main);
    net.step_until(STEPS, |net| members(net, 0) == 1);
}

fn members(net: &mut TestNet, index: usize) -> usize {
    let world = net.app(index).world_mut();
    let mut lobbies = world.query::<&LobbyDetails>();
    lobbies.iter(world).map(|lobby| lobby.members.len()).sum()
}

#[test]
fn when_the_host_is_gone_before_it_begins_the_match_the_next_one_does() {
    let mut net = net(&["Ann", "Bob"]);
    choose(&mut net, 0, Act::Create);
    until(&mut net, 0, Screen::Lobby);
    choose(&mut net, 1, Act::Quick);
    until(&mut net, 1, Screen::Lobby);
    choose(&mut net, 0, Act::Ready);
    choose(&mut net, 1, Act::Ready);
    choose(&mut net, 0, Act::Start);
    net.step_until(STEPS, |net| menu(net, 1).countdown.is_some());
    // Ann's game hangs, and is ended when the countdown is over.
    let mut steps = 0..STEPS;
    while menu(&mut net, 1).countdown.is_some() {
        steps.next().expect("the countdown is over");
        net.step_only(1);
    }
    assert!(!plays(&mut net, 1));
    net.remove(0);
    net.step_until(STEPS, |net| plays(net, 0));
}

#[test]
fn two_choices_in_one_frame_ask_for_one_lobby() {
    let mut net = net(&["Ann"]);
    net.app(0).world_mut().write_message(Chosen(Act::Create));
    choose(&mut net, 0, Act::Create);
    until(&mut net, 0, Screen::Lobby);
    let world = net.app(0).world_mut();
    assert_eq!(world.query::<&JoinLobby>().iter(world).count(), 1);
}

#[test]
fn why_somebody_is_not_let_in_stays_to_be_read() {
    let mut net = net(&["Ann"]);
    for (code, why) in [("nonsense", "code"), ("7K4Q-M2XA", "no lobby has the code")] {
        menu(&mut net, 0).code = code.into();
        choose(&mut net, 0, Act::JoinByCode);
        net.step_until(STEPS, |net| menu(net, 0).note.contains(why));
        until(&mut net, 0, Screen::Main);
        (0..200).for_each(|_| net.step());
        assert!(menu(&mut net, 0).note.contains(why), "{}", menu(&mut net, 0).note);
    }
}
