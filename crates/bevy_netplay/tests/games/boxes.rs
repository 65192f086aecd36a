//! Boxes that fall, are pushed, and come to rest on each other: floats, with `+ - * /` and `sqrt` only.

use bevy::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, DespawnRollback, Player, PlayerInputs, Rollback, RollbackId,
};
use serde::{Deserialize, Serialize};

use super::{PLAYERS, Pad, Random};

const GRAVITY: f32 = 20.0;
const STEP: f32 = 1.0 / 64.0;
const WALL: f32 = 5.0;
const BOXES_MAX: usize = 24;

/// A box; its place is its middle.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Body {
    pub place: [f32; 2],
    pub speed: [f32; 2],
    pub half: f32,
}

/// A box that a player moves.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Driven(u8);

/// Ticks since the last box fell from the sky.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Since(u32);

pub fn build(app: &mut App) {
    app.rollback::<Body>()
        .rollback::<Driven>()
        .rollback_resource::<Since>()
        .init_resource::<Since>()
        .add_systems(Startup, |mut commands: Commands| {
            for player in 0..PLAYERS {
                let place = [f32::from(player) * 5.0 - 2.5, 2.0];
                let body = Body { place, speed: [0.0; 2], half: 0.75 };
                commands.spawn((Rollback, Driven(player), body));
            }
        })
        .add_systems(FixedUpdate, (drop_boxes, push, fall, collide, limit).chain());
}

fn drop_boxes(mut commands: Commands, mut random: ResMut<Random>, mut since: ResMut<Since>) {
    since.0 += 1;
    if since.0 < 40 {
        return;
    }
    since.0 = 0;
    let x = random.below(1000) as f32 / 250.0 - 2.0;
    let half = 0.5 + random.below(100) as f32 / 250.0;
    commands.spawn((Rollback, Body { place: [x, 14.0], speed: [0.0, -1.0], half }));
}

fn push(inputs: Res<PlayerInputs<Pad>>, mut driven: Query<(&Driven, &mut Body)>) {
    for (driven, mut body) in &mut driven {
        let pad = inputs[Player(driven.0)];
        body.speed[0] += f32::from(pad.x) * 0.6;
        if pad.fire {
            body.speed[1] += 6.0;
        }
    }
}

fn fall(mut bodies: Query<&mut Body>) {
    for mut body in &mut bodies {
        body.speed[1] -= GRAVITY * STEP;
        let [x, y] = body.speed;
        let speed = (x * x + y * y).sqrt();
        // Air slows down what is fast, and the rest a little.
        let left = 1.0 / (1.0 + speed * 0.002);
        body.speed = [x * left * 0.99, y * left];
        for axis in 0..2 {
            body.place[axis] += body.speed[axis] * STEP;
        }
    }
}

/// Pushes boxes apart, one pair after the other: the order counts.
fn collide(mut bodies: Query<(&RollbackId, &mut Body)>) {
    let mut bodies: Vec<_> = bodies.iter_mut().collect();
    bodies.sort_by_key(|(id, _)| **id);
    let mut all: Vec<Body> = bodies.iter().map(|(_, body)| **body).collect();
    for _ in 0..4 {
        for first in 0..all.len() {
            for second in first + 1..all.len() {
                let [mut a, mut b] = [all[first], all[second]];
                part(&mut a, &mut b);
                (all[first], all[second]) = (a, b);
            }
        }
        all.iter_mut().for_each(stay_inside);
    }
    for ((_, body), new) in bodies.iter_mut().zip(all) {
        **body = new;
    }
}

fn part(a: &mut Body, b: &mut Body) {
    let deep = |axis: usize| a.half + b.half - (a.place[axis] - b.place[axis]).abs();
    let (x, y) = (deep(0), deep(1));
    if x <= 0.0 || y <= 0.0 {
        return;
    }
    let (axis, deep) = if x < y { (0, x) } else { (1, y) };
    let way = if a.place[axis] < b.place[axis] { 1.0 } else { -1.0 };
    // By their areas.
    let (heavy, light) = (a.half * a.half, b.half * b.half);
    let (of_a, of_b) = (light / (heavy + light), heavy / (heavy + light));
    a.place[axis] -= way * deep * of_a;
    b.place[axis] += way * deep * of_b;
    let closing = (a.speed[axis] - b.speed[axis]) * way;
    if closing > 0.0 {
        a.speed[axis] -= way * closing * of_a;
        b.speed[axis] += way * closing * of_b;
        // They rub on each other.
        let rub = (a.speed[1 - axis] - b.speed[1 - axis]) * 0.2;
        a.speed[1 - axis] -= rub * of_a;
        b.speed[1 - axis] += rub * of_b;
    }
}

fn stay_inside(body: &mut Body) {
    if body.place[1] < body.half {
        body.place[1] = body.half;
        body.speed = [body.speed[0] * 0.9, body.speed[1].max(0.0)];
    }
    let most = WALL - body.half;
    if body.place[0].abs() > most {
        body.place[0] = body.place[0].clamp(-most, most);
        body.speed[0] = -body.speed[0] / 2.0;
    }
}

/// The oldest box goes if there are too many.
fn limit(mut commands: Commands, boxes: Query<(&RollbackId, Entity, Has<Driven>), With<Body>>) {
    let mut boxes: Vec<_> = boxes.iter().filter(|(.., driven)| !driven).collect();
    boxes.sort();
    for (_, entity, _) in boxes.iter().take(boxes.len().saturating_sub(BOXES_MAX)) {
        commands.entity(*entity).despawn_rollback();
    }
}
