//! The rows of the menu on the screen. They are made once; the ones without content are hidden.

use bevy::prelude::*;
use bevy_netplay::prelude::*;

use super::Menu;
use super::page::{Item, page};

const ROWS: usize = 24;
const GROUND: Color = Color::srgb(0.03, 0.04, 0.08);
const PANEL: Color = Color::srgb(0.06, 0.08, 0.14);
const BUTTON: Color = Color::srgb(0.11, 0.15, 0.25);
const FOCUS: Color = Color::srgb(0.20, 0.42, 0.62);
const PLAIN: Color = Color::srgb(0.85, 0.90, 0.97);
const DIM: Color = Color::srgb(0.58, 0.65, 0.77);

/// The whole menu.
#[derive(Component)]
struct Ground;

/// A row, from the top.
#[derive(Component)]
pub(super) struct Row {
    pub(super) number: usize,
    text: Entity,
}

/// What is on the page now.
#[derive(Resource, Default)]
pub(super) struct Page(pub(super) Vec<Item>);

impl Page {
    /// The rows that can be chosen.
    pub(super) fn choices(&self) -> impl Iterator<Item = (usize, &Item)> {
        self.0.iter().enumerate().filter(|(_, item)| item.can_be_chosen())
    }

    /// The one that is.
    pub(super) fn focused(&self, focus: usize) -> Option<(usize, &Item)> {
        self.choices().nth(focus)
    }
}

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Page>().add_systems(Startup, spawn).add_systems(PostUpdate, show);
}

fn spawn(mut commands: Commands) {
    let ground = Node {
        position_type: PositionType::Absolute,
        width: percent(100),
        height: percent(100),
        align_items: AlignItems::Center,
        justify_content: JustifyContent::Center,
        ..default()
    };
    let panel = Node {
        flex_direction: FlexDirection::Column,
        width: px(420),
        padding: UiRect::axes(px(22), px(18)),
        row_gap: px(5),
        border_radius: BorderRadius::all(px(8)),
        ..default()
    };
    let panel = commands.spawn((panel, BackgroundColor(PANEL))).id();
    commands.spawn((ground, BackgroundColor(GROUND), GlobalZIndex(100), Ground)).add_child(panel);
    for number in 0..ROWS {
        let text = (Text::default(), TextFont::from_font_size(15.0), TextColor(PLAIN));
        let text = commands.spawn(text).id();
        let node = Node {
            display: Display::None,
            padding: UiRect::axes(px(10), px(4)),
            border_radius: BorderRadius::all(px(4)),
            ..default()
        };
        let row = commands.spawn((node, BackgroundColor(Color::NONE), Row { number, text })).id();
        commands.entity(row).add_child(text);
        commands.entity(panel).add_child(row);
    }
}

fn show(
    menu: Res<Menu>,
    lobbies: Query<(&Lobby, &LobbyDetails)>,
    mut shown: ResMut<Page>,
    mut ground: Single<&mut Node, (With<Ground>, Without<Row>)>,
    mut rows: Query<(&Row, &mut Node, &mut BackgroundColor)>,
    mut texts: Query<(&mut Text, &mut TextFont, &mut TextColor)>,
) {
    let items = page(&menu, lobbies.iter().next());
    if items == shown.0 && !menu.is_changed() {
        return;
    }
    shown.0 = items;
    ground.display = if shown.0.is_empty() { Display::None } else { Display::Flex };
    let focused = shown.focused(menu.focus).map(|(number, _)| number);
    for (row, mut node, mut color) in &mut rows {
        let item = shown.0.get(row.number);
        node.display = if item.is_some() { Display::Flex } else { Display::None };
        let (Some(item), Ok((mut text, mut font, mut ink))) = (item, texts.get_mut(row.text))
        else {
            continue;
        };
        let (words, size, tint, ground) = look(item, &menu, focused == Some(row.number));
        (text.0, ink.0, color.0) = (words, tint, ground);
        *font = TextFont::from_font_size(size);
    }
}

/// Text, its size and colour, and the colour behind it.
fn look(item: &Item, menu: &Menu, focused: bool) -> (String, f32, Color, Color) {
    let ground = if focused { FOCUS } else { BUTTON };
    match item {
        Item::Title(text) => (text.clone(), 22.0, PLAIN, Color::NONE),
        Item::Text(text) => (text.clone(), 14.0, DIM, Color::NONE),
        Item::Button(text, _) => (text.clone(), 15.0, PLAIN, ground),
        Item::Field(label, field, _) => {
            let cursor = if focused { "_" } else { "" };
            (format!("{label}: {}{cursor}", menu.text(*field)), 15.0, PLAIN, ground)
        }
    }
}
