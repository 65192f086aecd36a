//! The menu by keyboard and by mouse, without a screen: rows have their places from the test.

use bevy::input::ButtonState;
use bevy::input::keyboard::{Key, KeyCode, KeyboardInput};
use bevy::ui::UiGlobalTransform;
use bevy::window::PrimaryWindow;

use super::super::rows::{Page, Row};
use super::*;

/// How high a row is here.
const HEIGHT: f32 = 20.0;

fn with_hands(names: &[&str]) -> TestNet {
    let mut net = net_with(names, |app| {
        app.add_message::<KeyboardInput>().init_resource::<ButtonInput<MouseButton>>();
        app.add_plugins((rows::plugin, input::plugin));
        let window = Window { resolution: (800, 600).into(), ..default() };
        app.world_mut().spawn((window, PrimaryWindow));
    });
    // The rows are there, and what is on them.
    (0..3).for_each(|_| net.step());
    net
}

fn press(net: &mut TestNet, index: usize, logical_key: Key, text: Option<&str>) {
    let event = KeyboardInput {
        key_code: KeyCode::KeyA,
        logical_key,
        state: ButtonState::Pressed,
        text: text.map(Into::into),
        repeat: false,
        window: Entity::PLACEHOLDER,
    };
    net.app(index).world_mut().write_message(event);
    net.step();
}

fn write(net: &mut TestNet, index: usize, text: &str) {
    for letter in text.chars() {
        let letter = letter.to_string();
        press(net, index, Key::Character(letter.as_str().into()), Some(&letter));
    }
}

/// Which row this is, if it can be chosen.
fn row(net: &mut TestNet, index: usize, of: &str) -> Option<usize> {
    let page = net.app(index).world().resource::<Page>();
    let is_it = |item: &page::Item| match item {
        page::Item::Button(text, _) => text.starts_with(of),
        page::Item::Field(label, ..) => *label == of,
        page::Item::Title(_) | page::Item::Text(_) => false,
    };
    page.choices().find(|(_, item)| is_it(item)).map(|(number, _)| number)
}

/// Goes to this row by the arrow.
fn go(net: &mut TestNet, index: usize, to: &str) {
    net.step_until(STEPS, |net| row(net, index, to).is_some());
    let to = row(net, index, to);
    for _ in 0..24 {
        let focus = menu(net, index).focus;
        if net.app(index).world().resource::<Page>().focused(focus).map(|(at, _)| at) == to {
            return;
        }
        press(net, index, Key::ArrowDown, None);
    }
    panic!("the arrow does not lead there");
}

fn enter(net: &mut TestNet, index: usize, on: &str) {
    go(net, index, on);
    press(net, index, Key::Enter, Some("\r"));
}

/// Moves the mouse to this row, and presses its button there.
fn click(net: &mut TestNet, index: usize, on: &str) {
    net.step_until(STEPS, |net| row(net, index, on).is_some());
    let number = row(net, index, on).expect("it is there");
    let world = net.app(index).world_mut();
    let mut rows = world.query::<(&Row, &mut ComputedNode, &mut UiGlobalTransform)>();
    for (row, mut node, mut place) in rows.iter_mut(world) {
        node.size = Vec2::new(400.0, HEIGHT);
        *place = UiGlobalTransform::from_xy(400.0, (row.number as f32 + 0.5) * HEIGHT);
    }
    let mut windows = world.query::<&mut Window>();
    let at = Vec2::new(350.0, (number as f32 + 0.5) * HEIGHT);
    windows
        .single_mut(world)
        .expect("one window")
        .set_physical_cursor_position(Some(at.as_dvec2()));
    world.resource_mut::<ButtonInput<MouseButton>>().press(MouseButton::Left);
    net.step();
    let mut buttons = net.app(index).world_mut().resource_mut::<ButtonInput<MouseButton>>();
    buttons.reset_all();
}

#[test]
fn by_keyboard_one_names_oneself_meets_talks_and_begins_a_match() {
    let mut net = with_hands(&["", "Bo"]);
    go(&mut net, 0, "your name");
    write(&mut net, 0, "Anne");
    press(&mut net, 0, Key::Backspace, None);
    enter(&mut net, 0, "make a private lobby");
    until(&mut net, 0, Screen::Lobby);
    let code = menu(&mut net, 0).code.to_lowercase();
    go(&mut net, 1, "your name");
    write(&mut net, 1, "b");
    go(&mut net, 1, "join by code");
    write(&mut net, 1, &code);
    press(&mut net, 1, Key::Enter, Some("\r"));
    until(&mut net, 1, Screen::Lobby);
    go(&mut net, 1, "say");
    write(&mut net, 1, "hi all");
    press(&mut net, 1, Key::Enter, Some("\r"));
    net.step_until(STEPS, |net| menu(net, 0).said == ["Bob: hi all"]);
    enter(&mut net, 1, "ready");
    enter(&mut net, 0, "ready");
    enter(&mut net, 0, "begin the match");
    net.step_until(STEPS, |net| plays(net, 0) && plays(net, 1));
    let names: Vec<_> = {
        let world = net.app(1).world_mut();
        let details = world.query::<&LobbyDetails>().single(world).expect("one lobby");
        let names = details.members.iter().map(|member| LobbyDetails::says(member, NAME));
        names.map(|name| name.unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names, ["Ann", "Bob"]);
}

#[test]
fn by_mouse_one_makes_a_lobby_joins_a_listed_one_gets_ready_and_leaves() {
    let mut net = with_hands(&["Ann", "Bob"]);
    click(&mut net, 0, "make a lobby");
    until(&mut net, 0, Screen::Lobby);
    click(&mut net, 1, "Ann's game");
    until(&mut net, 1, Screen::Lobby);
    click(&mut net, 1, "ready");
    net.step_until(STEPS, |net| row(net, 1, "not ready any more").is_some());
    click(&mut net, 1, "leave");
    until(&mut net, 1, Screen::Main);
    net.step_until(STEPS, |net| members(net, 0) == 1);
}
