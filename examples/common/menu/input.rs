//! Keys and mouse in the menu.

use bevy::input::ButtonState;
use bevy::input::keyboard::{Key, KeyboardInput};
use bevy::prelude::*;
use bevy::ui::UiGlobalTransform;
use bevy::window::PrimaryWindow;

use super::page::Item;
use super::rows::{Page, Row};
use super::{Chosen, Field, Menu, Screen};

/// Letters of a line.
const LINE: usize = 60;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(Update, (keys, mouse).run_if(|menu: Res<Menu>| menu.screen != Screen::Away));
}

fn keys(
    mut events: MessageReader<KeyboardInput>,
    page: Res<Page>,
    mut menu: ResMut<Menu>,
    mut chosen: MessageWriter<Chosen>,
) {
    for event in events.read().filter(|event| event.state == ButtonState::Pressed) {
        let choices = page.choices().count().max(1);
        let focused = page.focused(menu.focus).map(|(_, item)| item.clone());
        match &event.logical_key {
            Key::ArrowDown | Key::Tab => menu.focus = (menu.focus + 1) % choices,
            Key::ArrowUp => menu.focus = (menu.focus + choices - 1) % choices,
            // Held down, it would choose on the next screen too.
            Key::Enter if event.repeat => {}
            Key::Enter => {
                if let Some(Item::Button(_, act) | Item::Field(_, _, Some(act))) = focused {
                    chosen.write(Chosen(act));
                }
            }
            Key::Backspace => {
                if let Some(Item::Field(_, field, _)) = focused {
                    menu.field(field).pop();
                }
            }
            _ => {
                if let (Some(Item::Field(_, field, _)), Some(text)) = (focused, &event.text) {
                    typed(&mut menu, field, text);
                }
            }
        }
    }
}

fn typed(menu: &mut Menu, field: Field, text: &str) {
    let line = menu.field(field);
    let room = LINE.saturating_sub(line.chars().count());
    line.extend(text.chars().filter(|c| !c.is_control()).take(room));
}

fn mouse(
    window: Single<&Window, With<PrimaryWindow>>,
    buttons: Res<ButtonInput<MouseButton>>,
    rows: Query<(&Row, &ComputedNode, &UiGlobalTransform)>,
    page: Res<Page>,
    mut menu: ResMut<Menu>,
    mut chosen: MessageWriter<Chosen>,
    mut last: Local<Option<Vec2>>,
) {
    let Some(at) = window.physical_cursor_position() else { return };
    let pressed = buttons.just_pressed(MouseButton::Left);
    // A mouse that lies still leaves the choice to the keys.
    if last.replace(at) == Some(at) && !pressed {
        return;
    }
    let under = rows.iter().find(|(_, node, place)| node.contains_point(**place, at));
    let Some(number) = under.map(|(row, ..)| row.number) else { return };
    let Some((focus, (_, item))) =
        page.choices().enumerate().find(|(_, (choice, _))| *choice == number)
    else {
        return;
    };
    if menu.focus != focus {
        menu.focus = focus;
    }
    if pressed && let Item::Button(_, act) = item {
        chosen.write(Chosen(act.clone()));
    }
}
