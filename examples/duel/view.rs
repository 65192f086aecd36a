//! The stage on a screen.

use bevy::camera::ScalingMode;
use bevy::prelude::*;
use bevy::sprite::Anchor;
use bevy_netplay::rollback::LocalInputs;
use netplay_examples::PALETTE;
use netplay_examples::canvas::{self, Canvas, Paint};

use crate::game::{BODY, FLOORS, Fighter, Pad, SPARK, Spark, WAVE, Wave, screen};
use crate::session::Touched;

/// What can be seen.
pub const VIEW: Vec2 = Vec2::new(1040.0, 640.0);
const OUTSIDE: Color = Color::srgb(0.016, 0.014, 0.038);
const DIM: Color = Color::srgb(0.50, 0.54, 0.70);

#[derive(Component)]
struct Hint;

/// A number over a fighter.
#[derive(Component)]
struct Damage(u8);

pub fn plugin(app: &mut App) {
    app.insert_resource(ClearColor(OUTSIDE))
        .add_plugins(canvas::plugin)
        .add_systems(Startup, look)
        .add_systems(Update, (hint, damages, leave))
        .add_systems(PostUpdate, paint.in_set(Paint));
}

fn look(mut commands: Commands) {
    commands.spawn((
        Camera2d,
        Projection::Orthographic(OrthographicProjection {
            scaling_mode: ScalingMode::AutoMin { min_width: VIEW.x, min_height: VIEW.y },
            ..OrthographicProjection::default_2d()
        }),
    ));
    let keys = "a bot plays until you do: arrows or AD run, Up jumps, Space strikes, Enter throws";
    commands.spawn((
        Hint,
        Text2d::new(keys),
        TextColor(DIM),
        TextFont::from_font_size(17.0),
        Anchor::BOTTOM_CENTER,
        Transform::from_xyz(0.0, -VIEW.y / 2.0 + 10.0, 3.0),
    ));
}

fn leave(keys: Res<ButtonInput<KeyCode>>, mut exit: MessageWriter<AppExit>) {
    if keys.just_pressed(KeyCode::Escape) {
        exit.write(AppExit::Success);
    }
}

fn hint(touched: Res<Touched>, mut hint: Single<&mut Visibility, With<Hint>>) {
    hint.set_if_neq(if touched.0 { Visibility::Hidden } else { Visibility::Inherited });
}

fn damages(
    mut commands: Commands,
    fighters: Query<(&Fighter, &Transform), Without<Damage>>,
    mut texts: Query<(Entity, &Damage, &mut Text2d, &mut Transform)>,
) {
    for (fighter, drawn) in &fighters {
        let at = drawn.translation + Vec3::new(0.0, 44.0, 2.0);
        let shown = format!("{} %", fighter.damage);
        match texts.iter_mut().find(|(_, damage, ..)| damage.0 == fighter.player) {
            Some((_, _, mut text, mut place)) => {
                place.translation = at;
                if text.0 != shown {
                    text.0 = shown;
                }
            }
            None => {
                let color = PALETTE[usize::from(fighter.player) % PALETTE.len()];
                commands.spawn((
                    Damage(fighter.player),
                    Text2d::new(shown),
                    TextFont::from_font_size(17.0),
                    TextColor(color.into()),
                    Transform::from_translation(at),
                ));
            }
        }
    }
    for (entity, damage, ..) in &texts {
        if !fighters.iter().any(|(fighter, _)| fighter.player == damage.0) {
            commands.entity(entity).despawn();
        }
    }
}

fn color_of(player: u8) -> LinearRgba {
    PALETTE[usize::from(player) % PALETTE.len()].into()
}

fn paint(
    mut canvas: ResMut<Canvas>,
    fighters: Query<(&Fighter, &Transform)>,
    waves: Query<(&Wave, &Transform)>,
    sparks: Query<&Spark>,
    local: Res<LocalInputs<Pad>>,
    time: Res<Time<Real>>,
) {
    let canvas = &mut *canvas;
    sky(canvas, time.elapsed_secs());
    FLOORS.iter().enumerate().for_each(|(index, floor)| ground(canvas, *floor, index == 0));
    for (wave, at) in &waves {
        let (at, size) = (at.translation.truncate(), screen(IVec2::splat(WAVE)).x);
        let (color, back) = (color_of(wave.by), -f32::from(wave.facing));
        canvas.line(
            at + Vec2::X * back * 46.0,
            at,
            size * 1.4,
            [color.with_alpha(0.0), color.with_alpha(0.5)],
        );
        canvas.glow(at, size * 3.2, color.with_alpha(0.4));
        canvas.disc(at, size, [LinearRgba::WHITE, color], 20);
    }
    for (fighter, at) in &fighters {
        let own = local.players().any(|player| player.0 == fighter.player);
        draw(canvas, fighter, at.translation.truncate(), own);
    }
    for spark in &sparks {
        let age = 1.0 - f32::from(spark.left) / f32::from(SPARK);
        let (at, size) = (screen(spark.place), f32::from(spark.size) * (3.0 + 5.0 * age));
        let light = LinearRgba::rgb(1.0, 0.85, 0.5).with_alpha((1.0 - age) * 0.8);
        canvas.glow(at, size * 1.4, light);
        canvas.ring(at, size, 3.0 * (1.0 - age) + 0.5, light);
        for ray in 0..6 {
            let way = Vec2::from_angle(ray as f32 * 1.047 + f32::from(spark.size));
            let none = light.with_alpha(0.0);
            canvas.line(at + way * size * 0.4, at + way * size * 1.3, 2.5, [light, none]);
        }
    }
}

fn sky(canvas: &mut Canvas, time: f32) {
    let half = VIEW * 0.8;
    let (above, below) =
        (LinearRgba::rgb(0.006, 0.008, 0.030), LinearRgba::rgb(0.035, 0.014, 0.060));
    let corners = [-half, Vec2::new(half.x, -half.y), half, Vec2::new(-half.x, half.y)];
    canvas.quad(corners, [below, below, above, above]);
    // Stars that drift, each by its number.
    for star in 0..70_u32 {
        let random = star.wrapping_mul(2_654_435_761);
        let (x, y) = ((random & 0xFFFF) as f32 / 65_535.0, (random >> 16) as f32 / 65_535.0);
        let speed = 2.0 + (star % 5) as f32 * 1.5;
        let x = (x * 2.0 * half.x + time * speed).rem_euclid(2.0 * half.x) - half.x;
        let at = Vec2::new(x, (y * 2.0 - 1.0) * half.y);
        let light = 0.25 + 0.2 * (time * 0.7 + star as f32).sin();
        let color = LinearRgba::rgb(0.6, 0.65, 0.9).with_alpha(light);
        canvas.disc(at, 0.8 + (star % 3) as f32 * 0.5, [color; 2], 6);
    }
}

fn ground(canvas: &mut Canvas, (left, right, height): (i32, i32, i32), main: bool) {
    let (left, right, top) = (left as f32, right as f32, height as f32);
    let deep = if main { 46.0 } else { 12.0 };
    let inset = if main { 60.0 } else { 14.0 };
    let (light, dark) =
        (LinearRgba::rgb(0.055, 0.070, 0.150), LinearRgba::rgb(0.012, 0.014, 0.040));
    let corners = [
        Vec2::new(left + inset, top - deep),
        Vec2::new(right - inset, top - deep),
        Vec2::new(right, top),
        Vec2::new(left, top),
    ];
    canvas.quad(corners, [dark, dark, light, light]);
    let edge = LinearRgba::rgb(0.22, 0.34, 0.75);
    canvas.line(Vec2::new(left, top), Vec2::new(right, top), 9.0, [edge.with_alpha(0.12); 2]);
    canvas.line(Vec2::new(left, top), Vec2::new(right, top), 3.0, [edge; 2]);
}

fn draw(canvas: &mut Canvas, fighter: &Fighter, at: Vec2, own: bool) {
    let color = color_of(fighter.player);
    let color = if fighter.away { color * 0.2 } else { color };
    let shown = if fighter.grace % 8 > 3 { 0.35 } else { 1.0 };
    let (side, facing) = (screen(BODY), f32::from(fighter.facing));
    // It leans into its run, and lies back when it is hit.
    let lean = if fighter.stun > 0 {
        -facing * 9.0
    } else {
        (fighter.speed.x as f32 / 256.0).clamp(-5.0, 5.0) * 1.8
    };
    canvas.glow(at, side.y * 2.1, color.with_alpha(0.20 * shown));
    let dark = (color * 0.35).with_alpha(shown);
    let hips = at + Vec2::new(0.0, -side.y * 0.30);
    let stride = if fighter.lands { fighter.place.x as f32 / 256.0 * 0.12 } else { 0.9 };
    for leg in [0.0, std::f32::consts::PI] {
        let foot = at + Vec2::new((stride + leg).sin() * 9.0, -side.y + 2.0);
        canvas.line(hips, foot, 6.0, [dark, color.with_alpha(shown)]);
        canvas.disc(foot, 3.4, [color.with_alpha(shown); 2], 10);
    }
    let neck = at + Vec2::new(lean, side.y * 0.35);
    canvas.line(hips, neck, 15.0, [dark, color.with_alpha(shown)]);
    canvas.disc(hips, 7.5, [dark; 2], 14);
    let head = neck + Vec2::new(lean * 0.4, 9.0);
    canvas.disc(head, 9.5, [(color * 1.1).with_alpha(shown), color.with_alpha(shown)], 22);
    let eye = LinearRgba::rgb(0.01, 0.01, 0.03).with_alpha(shown);
    canvas.disc(head + Vec2::new(facing * 4.0, 1.5), 2.2, [eye; 2], 10);
    let reach = if fighter.strike > 0 { 30.0 } else { 11.0 };
    let hand = neck + Vec2::new(facing * reach, -5.0);
    canvas.line(neck + Vec2::new(0.0, -3.0), hand, 5.5, [color.with_alpha(shown); 2]);
    if fighter.strike > 0 {
        let light = LinearRgba::rgb(1.0, 0.95, 0.8).with_alpha(f32::from(fighter.strike) / 9.0);
        let from = if facing > 0.0 { -0.9 } else { std::f32::consts::PI - 0.9 };
        canvas.arc(at, 40.0, 12.0, (from, 1.8), [light.with_alpha(0.0), light, light * 0.2]);
    }
    if own {
        let over = at + Vec2::new(0.0, 62.0);
        let corner = |x: f32, y: f32| over + Vec2::new(x, y);
        canvas.triangle([corner(-6.0, 5.0), corner(6.0, 5.0), corner(0.0, -4.0)], [color; 3]);
    }
}
