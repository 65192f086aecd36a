//! The ice on a screen, and the keys.

use bevy::camera::ScalingMode;
use bevy::input::InputSystems;
use bevy::prelude::*;
use bevy::sprite::Anchor;
use bevy_ggrs::ggrs::PlayerType;
use bevy_ggrs::prelude::*;
use bevy_ggrs::{ConfirmedFrameCount, LocalPlayers, RollbackFrameCount, RunGgrsSystems};
use bevy_netplay::prelude::*;
use netplay_examples::canvas::{self, Canvas, Paint};
use netplay_examples::{PALETTE, Phase};

use crate::game::{BOX, COIN, Coin, Config, Cube, FINE, HALF, Keys};
use crate::proof::Ledger;
use crate::session::{Held, Players};

const OUTSIDE: Color = Color::srgb(0.012, 0.016, 0.035);
const ICE: LinearRgba = LinearRgba::rgb(0.009, 0.016, 0.034);
const LINES: LinearRgba = LinearRgba::rgb(0.016, 0.028, 0.058);
const EDGE: LinearRgba = LinearRgba::rgb(0.06, 0.11, 0.2);
const GOLD: LinearRgba = LinearRgba::rgb(1.0, 0.62, 0.12);
const PLAIN: Color = Color::srgb(0.80, 0.85, 0.93);
const DIM: Color = Color::srgb(0.45, 0.52, 0.66);
/// Space around the ice, and above it for the text.
const MARGIN: f32 = 12.0;
const TOP: f32 = 46.0;

const UP: [KeyCode; 2] = [KeyCode::ArrowUp, KeyCode::KeyW];
const DOWN: [KeyCode; 2] = [KeyCode::ArrowDown, KeyCode::KeyS];
const LEFT: [KeyCode; 2] = [KeyCode::ArrowLeft, KeyCode::KeyA];
const RIGHT: [KeyCode; 2] = [KeyCode::ArrowRight, KeyCode::KeyD];
const DASH: [KeyCode; 2] = [KeyCode::Space, KeyCode::Enter];

#[derive(Component)]
struct Status;

#[derive(Component)]
struct Hint;

#[derive(Component)]
struct Score(usize);

pub fn plugin(app: &mut App) {
    app.insert_resource(ClearColor(OUTSIDE))
        .add_plugins(canvas::plugin)
        .add_systems(Startup, look)
        .add_systems(PreUpdate, keys.after(InputSystems).before(RunGgrsSystems))
        .add_systems(Update, (status, scores, hint))
        .add_systems(PostUpdate, paint.in_set(Paint));
}

fn half() -> Vec2 {
    HALF.as_vec2() / FINE as f32
}

fn look(mut commands: Commands) {
    let size = 2.0 * half() + Vec2::new(2.0 * MARGIN, MARGIN + TOP);
    commands.spawn((
        Camera2d,
        Transform::from_xyz(0.0, (TOP - MARGIN) / 2.0, 0.0),
        Projection::Orthographic(OrthographicProjection {
            scaling_mode: ScalingMode::AutoMin { min_width: size.x, min_height: size.y },
            ..OrthographicProjection::default_2d()
        }),
    ));
    let mut write = |what, color, at: Vec2| {
        let font = TextFont::from_font_size(18.0);
        let text = (Text2d::new(what), TextColor(color), font, Anchor::CENTER_LEFT);
        commands.spawn((text, Transform::from_translation(at.extend(1.0)))).id()
    };
    let status = write("", PLAIN, Vec2::new(-half().x, half().y + TOP / 2.0));
    let keys = "a bot plays until you do: arrows or WASD push, Space dashes";
    let hint = write(keys, DIM, Vec2::new(-half().x, -half().y) + Vec2::splat(20.0));
    commands.entity(status).insert(Status);
    commands.entity(hint).insert(Hint);
}

fn keys(
    input: Res<ButtonInput<KeyCode>>,
    mut held: ResMut<Held>,
    mut exit: MessageWriter<AppExit>,
) {
    if input.just_pressed(KeyCode::Escape) {
        exit.write(AppExit::Success);
    }
    let all = [(UP, Keys::UP), (DOWN, Keys::DOWN), (LEFT, Keys::LEFT), (RIGHT, Keys::RIGHT)];
    let pressed = all.into_iter().chain([(DASH, Keys::DASH)]);
    let pressed = pressed.filter(|(keys, _)| input.any_pressed(*keys));
    let pressed = pressed.fold(0, |all, (_, key)| all | key);
    if held.0.is_some() || pressed != 0 {
        held.0 = Some(Keys(pressed));
    }
}

fn paint(
    mut canvas: ResMut<Canvas>,
    cubes: Query<&Cube>,
    coins: Query<&Coin>,
    local: Res<LocalPlayers>,
    time: Res<Time<Real>>,
) {
    let canvas = &mut *canvas;
    ground(canvas);
    for coin in &coins {
        let swing = (time.elapsed_secs() * 3.0 + f32::from(coin.number)).sin() * 0.12 + 1.0;
        let (at, size) = (screen(coin.place), screen(IVec2::splat(COIN)).x * swing);
        canvas.glow(at, size * 3.0, GOLD.with_alpha(0.35));
        canvas.disc(at, size, [GOLD, GOLD * 0.7], 24);
        canvas.ring(at, size * 0.6, 1.5, GOLD * 0.4);
    }
    for cube in &cubes {
        draw(canvas, cube, local.0.contains(&cube.handle));
    }
}

/// Of a place on the ice.
fn screen(place: IVec2) -> Vec2 {
    place.as_vec2() / FINE as f32
}

fn ground(canvas: &mut Canvas) {
    let half = half();
    canvas.rectangle(-half, half, ICE);
    for step in 1..16 {
        let x = half.x * (step as f32 / 8.0 - 1.0);
        canvas.line(Vec2::new(x, -half.y), Vec2::new(x, half.y), 1.5, [LINES; 2]);
    }
    for step in 1..9 {
        let y = half.y * (step as f32 / 4.5 - 1.0);
        canvas.line(Vec2::new(-half.x, y), Vec2::new(half.x, y), 1.5, [LINES; 2]);
    }
    let corners = [-half, Vec2::new(half.x, -half.y), half, Vec2::new(-half.x, half.y)];
    canvas.outline(&corners, 3.0, EDGE);
}

fn draw(canvas: &mut Canvas, cube: &Cube, is_own: bool) {
    let side = screen(IVec2::splat(BOX)).x;
    let at = screen(cube.place);
    let color = LinearRgba::from(PALETTE[cube.handle % PALETTE.len()]);
    let color = if cube.is_left { color * 0.25 } else { color };
    if cube.dashes() {
        let back = at - screen(cube.speed) * 8.0;
        canvas.line(back, at, side * 1.6, [color.with_alpha(0.0), color.with_alpha(0.45)]);
    }
    canvas.glow(at, side * 2.6, color.with_alpha(0.22));
    // A lid that is lit from above, on a darker body.
    let deep = Vec2::new(0.0, -6.0);
    canvas.rectangle(at + deep - side, at + deep + side, (color * 0.35).with_alpha(1.0));
    canvas.rectangle(at - side, at + side, color);
    canvas.rectangle(at - side * 0.72, at + side * 0.72, (color * 0.72).with_alpha(1.0));
    if is_own {
        let corner = |x: f32, y: f32| at + side * Vec2::new(x, y);
        let corners = [corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)];
        canvas.outline(&corners, 2.5, LinearRgba::WHITE);
    }
    if cube.rest > 0 {
        let left = f32::from(cube.rest) / 60.0;
        let bar = at + Vec2::new(-side, -side - 11.0);
        canvas.line(bar, bar + Vec2::X * 2.0 * side * left, 3.0, [color; 2]);
    }
}

fn hint(held: Res<Held>, mut hint: Single<&mut Visibility, With<Hint>>) {
    hint.set_if_neq(if held.0.is_some() { Visibility::Hidden } else { Visibility::Inherited });
}

/// The coins of each box, written on it.
fn scores(
    mut commands: Commands,
    cubes: Query<&Cube>,
    mut texts: Query<(&Score, &mut Text2d, &mut Transform)>,
) {
    for cube in &cubes {
        let at = screen(cube.place).extend(2.0);
        match texts.iter_mut().find(|(score, ..)| score.0 == cube.handle) {
            Some((_, mut text, mut place)) => {
                place.translation = at;
                let coins = cube.coins.to_string();
                if text.0 != coins {
                    text.0 = coins;
                }
            }
            None => {
                let font = TextFont::from_font_size(24.0);
                let text = (Text2d::new("0"), font, TextColor(Color::srgb(0.01, 0.02, 0.04)));
                commands.spawn((Score(cube.handle), text, Transform::from_translation(at)));
            }
        }
    }
}

fn status(
    phase: Res<Phase>,
    lobby: Query<&Lobby>,
    session: Option<Res<Session<Config>>>,
    players: Res<Players>,
    (frame, confirmed): (Res<RollbackFrameCount>, Res<ConfirmedFrameCount>),
    ledger: Res<Ledger>,
    mut text: Single<&mut Text2d, With<Status>>,
) {
    let Some(Session::P2P(session)) = session.as_deref() else {
        let code = lobby.iter().next().map(|lobby| format!("lobby {}, ", lobby.code));
        text.0 = format!("{}waiting for players", code.unwrap_or_default());
        return;
    };
    let remote = players.0.iter().enumerate().filter(|(_, player)| **player != PlayerType::Local);
    let pings: Vec<_> = remote
        .filter_map(|(handle, _)| session.network_stats(handle).ok())
        .map(|stats| format!("{} ms", stats.ping))
        .collect();
    let guessed = (frame.0 - confirmed.0).max(0);
    text.0 = format!(
        "frame {}    {guessed} guessed    {} rollbacks    ping {}",
        frame.0,
        ledger.rollbacks,
        pings.join(", ")
    );
    if phase.is_ending() {
        text.0 = "the end".into();
    }
}
