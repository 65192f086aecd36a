//! Where what is written stands. Rows are made once; the ones without content are hidden.

use bevy::prelude::*;

/// Ordinary text.
pub const PLAIN: Color = Color::srgb(0.78, 0.84, 0.94);
/// Text that nobody has to read twice.
pub const DIM: Color = Color::srgb(0.50, 0.57, 0.70);
/// What wants attention.
pub const WARM: Color = Color::srgb(1.0, 0.75, 0.40);
/// What is well.
pub const GOOD: Color = Color::srgb(0.50, 0.90, 0.58);
/// Rows of the chat.
pub const CHAT_ROWS: usize = 4;

const PANEL: Color = Color::srgba(0.02, 0.03, 0.07, 0.62);
const TITLE_PANEL: Color = Color::srgba(0.02, 0.03, 0.07, 0.85);
const EDGE: f32 = 8.0;
const SMALL: f32 = 12.0;

/// A list on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Code and connection, top left.
    Lobby,
    /// The links, below.
    Links,
    /// Points, top right.
    Scores,
    /// What was said, bottom left.
    Chat,
    /// Keys, at the bottom.
    Hint,
    /// In the middle, while nobody plays.
    Title,
}

/// A row of a list.
#[derive(Component)]
pub struct Row {
    /// Of which list.
    pub area: Area,
    /// Its place in the list.
    pub number: usize,
    /// The entity with the text.
    pub text: Entity,
    /// The entity with the colour before it.
    pub swatch: Entity,
}

/// The panel in the middle.
#[derive(Component)]
pub struct Title;

pub fn spawn(mut commands: Commands) {
    let pad = px(EDGE);
    let corner = Node { position_type: PositionType::Absolute, ..panel() };
    let top_left = Node { top: pad, left: pad, ..corner.clone() };
    let panel = commands.spawn((top_left, BackgroundColor(PANEL))).id();
    rows(&mut commands, panel, Area::Lobby, 2);
    rows(&mut commands, panel, Area::Links, 9);
    let top_right = Node { top: pad, right: pad, ..corner.clone() };
    let panel = commands.spawn((top_right, BackgroundColor(PANEL))).id();
    rows(&mut commands, panel, Area::Scores, 9);
    let bottom_left = Node { bottom: px(EDGE + 34.0), left: pad, ..corner.clone() };
    let panel = commands.spawn(bottom_left).id();
    rows(&mut commands, panel, Area::Chat, CHAT_ROWS);
    let bottom = Node {
        bottom: px(EDGE / 2.0),
        width: percent(100),
        align_items: AlignItems::Center,
        ..corner.clone()
    };
    let panel = commands.spawn(bottom).id();
    rows(&mut commands, panel, Area::Hint, 2);
    let middle = Node {
        width: percent(100),
        height: percent(100),
        align_items: AlignItems::Center,
        justify_content: JustifyContent::Center,
        ..corner
    };
    let inner = Node {
        align_items: AlignItems::Center,
        padding: UiRect::axes(px(26), px(16)),
        row_gap: px(6),
        ..self::panel()
    };
    let panel = commands.spawn((inner, BackgroundColor(TITLE_PANEL))).id();
    commands.spawn((middle, Title, Visibility::Hidden)).add_child(panel);
    rows(&mut commands, panel, Area::Title, 3);
}

fn panel() -> Node {
    Node {
        flex_direction: FlexDirection::Column,
        padding: UiRect::axes(px(7), px(5)),
        row_gap: px(2),
        border_radius: BorderRadius::all(px(5)),
        ..default()
    }
}

fn rows(commands: &mut Commands, panel: Entity, area: Area, count: usize) {
    for number in 0..count {
        let size = match (area, number) {
            (Area::Title, 0) => 24.0,
            (Area::Title, 1) => 20.0,
            (Area::Title, _) | (Area::Lobby, 0) => 14.0,
            _ => SMALL,
        };
        // A column of its own for the colours, but only in lists that have some.
        let has_swatch =
            !matches!(area, Area::Hint | Area::Title) && (area, number) != (Area::Lobby, 0);
        let swatch = Node {
            width: px(8),
            height: px(8),
            flex_shrink: 0.0,
            border_radius: BorderRadius::all(px(2)),
            display: if has_swatch { Display::Flex } else { Display::None },
            ..default()
        };
        let swatch = commands.spawn((swatch, BackgroundColor(Color::NONE))).id();
        let shadow = TextShadow { offset: Vec2::ONE, color: Color::srgba(0.0, 0.0, 0.02, 0.8) };
        let text = (
            Text::default(),
            TextFont::from_font_size(size),
            TextColor(PLAIN),
            TextLayout::linebreak(LineBreak::NoWrap),
            shadow,
        );
        let text = commands.spawn(text).id();
        let row = Node {
            display: Display::None,
            align_items: AlignItems::Center,
            column_gap: px(6),
            ..default()
        };
        let row = commands.spawn((row, Row { area, number, text, swatch })).id();
        commands.entity(row).add_children(&[swatch, text]);
        commands.entity(panel).add_child(row);
    }
}
