//! Ships, shots, stars and names.

use std::f32::consts::{PI, TAU};

use bevy::ecs::query::QueryData;
use bevy::prelude::*;
use bevy::transform::TransformSystems;
use bevy::window::PrimaryWindow;
use netplay_examples::canvas::{Canvas, Paint};

use crate::game::{HALF, OwnShip, Pilot, SHIP_RADIUS, Scores, Ship, Shot, toward, wrap};

use super::colors::Colors;
use super::sparks::Sparks;
use super::{backdrop, pixel};

/// How fast what is shown of another's ship comes to where it is said to be, per second.
const CATCH_UP: f32 = 14.0;
/// A ship that is further off than this jumps.
const JUMP: f32 = 90.0;
const STARS: i32 = 110;
const TAIL: f32 = 30.0;
const LABEL_BELOW: f32 = 21.0;
/// Nose, left, notch and right.
const HULL: [Vec2; 4] = [
    Vec2::new(SHIP_RADIUS * 1.3, 0.0),
    Vec2::new(-SHIP_RADIUS * 0.9, SHIP_RADIUS * 0.82),
    Vec2::new(-SHIP_RADIUS * 0.5, 0.0),
    Vec2::new(-SHIP_RADIUS * 0.9, -SHIP_RADIUS * 0.82),
];

/// Where a ship is drawn, which is between the places that the ticks have put it.
#[derive(Component, Clone, Copy, Default)]
pub struct Shown {
    /// Where.
    pub position: Vec2,
    /// Its direction.
    pub heading: f32,
    before: (Vec2, f32),
}

/// A shot's seconds left when it was fired.
#[derive(Component)]
struct FirstLife(f32);

/// The name of this ship.
#[derive(Component)]
struct LabelOf(Entity);

pub fn plugin(app: &mut App) {
    app.add_observer(show_ship)
        .add_observer(show_shot)
        .add_systems(FixedFirst, keep_before)
        .add_systems(Update, (follow, label).chain())
        .add_systems(PostUpdate, paint.in_set(Paint).before(TransformSystems::Propagate));
}

/// A colour, more or less white.
pub fn tinted(color: Srgba, white: f32) -> LinearRgba {
    LinearRgba::from(color.mix(&Srgba::WHITE, white))
}

/// A place, and where it shows again because it is so near to the edge.
pub fn images(at: Vec2, margin: f32) -> impl Iterator<Item = Vec2> {
    let other = |value: f32, half: f32| match value {
        _ if value > half - margin => -2.0 * half,
        _ if value < margin - half => 2.0 * half,
        _ => 0.0,
    };
    let (x, y) = (other(at.x, HALF.x), other(at.y, HALF.y));
    let all = [(true, 0.0, 0.0), (x != 0.0, x, 0.0), (y != 0.0, 0.0, y), (x * y != 0.0, x, y)];
    all.into_iter().filter(|(is, ..)| *is).map(move |(_, x, y)| at + Vec2::new(x, y))
}

fn turn_between(from: f32, to: f32) -> f32 {
    (to - from + PI).rem_euclid(TAU) - PI
}

fn show_ship(event: On<Add, Ship>, ships: Query<&Ship>, mut commands: Commands) {
    let Ok(ship) = ships.get(event.entity) else { return };
    let (position, heading) = (ship.position, ship.heading);
    let shown = Shown { position, heading, before: (position, heading) };
    commands.entity(event.entity).insert(shown);
    commands.spawn((
        LabelOf(event.entity),
        Text2d::default(),
        TextFont::from_font_size(11.0),
        Transform::from_xyz(0.0, 0.0, 2.0),
        Visibility::Hidden,
    ));
}

fn show_shot(event: On<Add, Shot>, shots: Query<&Shot>, mut commands: Commands) {
    if let Ok(shot) = shots.get(event.entity) {
        commands.entity(event.entity).insert(FirstLife(shot.life));
    }
}

fn keep_before(mut ships: Query<(&Ship, &mut Shown)>) {
    for (ship, mut shown) in &mut ships {
        shown.before = (ship.position, ship.heading);
    }
}

/// Our own ship is drawn between its last two ticks. Another's is drawn where it flies by itself,
/// and comes softly to where it is said to be: packets do not arrive as regularly as ticks.
fn follow(
    mut ships: Query<(&Ship, &mut Shown, Has<OwnShip>)>,
    time: Res<Time>,
    fixed: Res<Time<Fixed>>,
) {
    let dt = time.delta_secs();
    let part = fixed.overstep_fraction();
    let lag = fixed.timestep().as_secs_f32() * (1.0 - part);
    for (ship, mut shown, own) in &mut ships {
        if own {
            let (position, heading) = shown.before;
            shown.position = wrap(position + toward(position, ship.position) * part);
            shown.heading = heading + turn_between(heading, ship.heading) * part;
            continue;
        }
        let target = ship.position - ship.velocity * lag;
        let flown = shown.position + ship.velocity * dt;
        let off = toward(flown, target);
        let share = 1.0 - (-CATCH_UP * dt).exp();
        let step = if off.length() > JUMP { off } else { off * share };
        shown.position = wrap(flown + step);
        shown.heading += turn_between(shown.heading, ship.heading) * (1.5 * share).min(1.0);
    }
}

fn label(
    mut labels: Query<(
        Entity,
        &LabelOf,
        &mut Text2d,
        &mut TextColor,
        &mut Transform,
        &mut Visibility,
    )>,
    ships: Query<(&Shown, &Pilot, Has<OwnShip>)>,
    scores: Res<Scores>,
    colors: Res<Colors>,
    window: Single<&Window, With<PrimaryWindow>>,
    mut commands: Commands,
) {
    let pixel = pixel(&window);
    for (entity, of, mut text, mut color, mut transform, mut visibility) in &mut labels {
        let Ok((shown, Pilot(pilot), own)) = ships.get(of.0) else {
            commands.entity(entity).despawn();
            continue;
        };
        let Some(id) = *pilot else { continue };
        let name = if own { "you".into() } else { id.short() };
        let new = format!("{name} {}", scores.0.get(&id).copied().unwrap_or(0));
        if text.0 != new {
            text.0 = new;
        }
        let white = if own { 0.75 } else { 0.25 };
        color.set_if_neq(TextColor(tinted(colors.of(id), white).with_alpha(0.9).into()));
        // Letters keep their size on the screen, whatever the window's.
        let mut below = LABEL_BELOW + 6.0 * pixel;
        if shown.position.y - below < 8.0 * pixel - HALF.y {
            below = -below;
        }
        let side = (HALF.x - 34.0 * pixel).max(0.0);
        transform.translation.x = shown.position.x.clamp(-side, side);
        transform.translation.y = shown.position.y - below;
        transform.translation.z = if own { 3.0 } else { 2.0 };
        transform.scale = Vec3::splat(pixel);
        visibility.set_if_neq(Visibility::Inherited);
    }
}

#[derive(QueryData)]
struct ShipLook {
    ship: &'static Ship,
    shown: &'static Shown,
    pilot: &'static Pilot,
    own: Has<OwnShip>,
}

fn paint(
    mut canvas: ResMut<Canvas>,
    ships: Query<ShipLook>,
    shots: Query<(&Shot, &FirstLife)>,
    sparks: Res<Sparks>,
    colors: Res<Colors>,
    window: Single<&Window, With<PrimaryWindow>>,
    (time, fixed): (Res<Time>, Res<Time<Fixed>>),
) {
    let now = time.elapsed_secs_wrapped();
    let pixel = pixel(&window);
    let canvas = &mut *canvas;
    stars(canvas, now, pixel);
    let lag = fixed.timestep().as_secs_f32() * (1.0 - fixed.overstep_fraction());
    for (shot, first) in &shots {
        let at = wrap(shot.position - shot.velocity * lag);
        for at in images(at, TAIL + 4.0) {
            streak(canvas, at, shot, first.0, colors.of(shot.by));
        }
    }
    sparks.paint(canvas);
    for look in &ships {
        let color = look.pilot.0.map_or(Srgba::WHITE, |id| colors.of(id));
        for at in images(look.shown.position, 30.0) {
            ship(canvas, at, &look, color, now, pixel);
        }
    }
}

fn stars(canvas: &mut Canvas, now: f32, pixel: f32) {
    for star in 0..STARS {
        let random = |what| backdrop::hash(star, what);
        let at = (Vec2::new(random(1), random(2)) * 2.0 - 1.0) * HALF;
        let size = (0.6 + 1.1 * random(3).powi(3)).max(0.55 * pixel);
        let twinkle = 0.75 + 0.25 * (now * (0.6 + 2.0 * random(4)) + TAU * random(5)).sin();
        let light = (0.12 + 0.6 * random(6).powi(2)) * twinkle;
        let blue = LinearRgba::new(0.6, 0.75, 1.0, light);
        canvas.rectangle(at - size, at + size, blue);
    }
}

fn streak(canvas: &mut Canvas, at: Vec2, shot: &Shot, first_life: f32, color: Srgba) {
    let way = shot.velocity.normalize_or_zero();
    let flown = (first_life - shot.life).max(0.0) * shot.velocity.length();
    // It fades in its last moments.
    let light = (shot.life * 6.0).clamp(0.0, 1.0);
    let glow = tinted(color, 0.1);
    let tail = at - way * TAIL.min(flown);
    canvas.glow(at, 11.0, glow.with_alpha(0.35 * light));
    canvas.line(tail, at, 3.4, [glow.with_alpha(0.0), glow.with_alpha(0.85 * light)]);
    let head = tinted(color, 0.75).with_alpha(light);
    canvas.line(at - way * 7.0f32.min(flown), at, 2.2, [head.with_alpha(0.0), head]);
    canvas.disc(at, 2.1, [head; 2], 10);
}

fn ship(canvas: &mut Canvas, at: Vec2, look: &ShipLookItem, color: Srgba, now: f32, pixel: f32) {
    let ahead = Vec2::from_angle(look.shown.heading);
    let place = |corner: Vec2| at + ahead.rotate(corner);
    let strong = tinted(color, if look.own { 0.55 } else { 0.12 });
    canvas.glow(at, 34.0, tinted(color, 0.0).with_alpha(if look.own { 0.30 } else { 0.20 }));
    if look.ship.thrusting {
        flame(canvas, place, now);
    }
    let hull = HULL.map(place);
    let [nose, left, notch, right] = hull;
    let light = tinted(color, 0.1).with_alpha(if look.own { 0.85 } else { 0.60 });
    let dark = tinted(color.mix(&Srgba::BLACK, 0.72), 0.0).with_alpha(0.9);
    canvas.triangle([nose, left, notch], [light, dark, dark]);
    canvas.triangle([nose, notch, right], [light, dark, dark]);
    canvas.outline(&hull, 1.7f32.max(1.3 * pixel), strong);
    if look.own {
        let faint = LinearRgba::new(1.0, 1.0, 1.0, 0.38);
        for part in 0..4 {
            let from = now * 0.5 + part as f32 * TAU / 4.0;
            canvas.arc(at, 24.0, 1.1f32.max(pixel), (from, TAU / 9.0), [faint; 3]);
        }
    }
    if look.ship.shielded {
        let pulse = 0.7 + 0.3 * (now * 16.0).sin();
        let rim = tinted(color, 0.5).with_alpha(0.8 * pulse);
        let (inner, none) = (rim.with_alpha(0.04), rim.with_alpha(0.0));
        canvas.disc(at, 14.0, [none, inner], 24);
        canvas.arc(at, 17.5, 7.0, (0.0, TAU), [inner, rim.with_alpha(0.3 * pulse), none]);
        canvas.ring(at, 17.5, 1.2f32.max(pixel), rim);
    }
}

fn flame(canvas: &mut Canvas, place: impl Fn(Vec2) -> Vec2, now: f32) {
    let flicker = backdrop::hash((now * 40.0) as i32, 5) + 0.4 * (now * 53.0).sin();
    let long = 15.0 + 7.0 * flicker;
    let back = |x: f32, y: f32| place(Vec2::new(-SHIP_RADIUS * 0.6 - x, y));
    canvas.glow(back(6.0, 0.0), 17.0, LinearRgba::new(1.0, 0.35, 0.08, 0.5));
    let (hot, end) = (LinearRgba::new(1.0, 0.40, 0.08, 0.95), LinearRgba::new(1.0, 0.1, 0.02, 0.0));
    canvas.triangle([back(0.0, 5.0), back(0.0, -5.0), back(long, 0.0)], [hot, hot, end]);
    let (white, end) = (LinearRgba::new(1.0, 0.93, 0.70, 1.0), LinearRgba::new(1.0, 0.6, 0.1, 0.1));
    canvas.triangle([back(0.0, 2.6), back(0.0, -2.6), back(long * 0.55, 0.0)], [white, white, end]);
}
