//! Sparks, waves and flashes.

use std::f32::consts::TAU;

use bevy::prelude::*;
use netplay_examples::canvas::Canvas;

use crate::game::{Burst, Ship, wrap};

use super::backdrop::hash;
use super::colors::Colors;
use super::scene::{Shown, images, tinted};

/// Sparks at a time; new ones wait until there is room.
const SPARKS_MAX: usize = 700;
const BURST_SPARKS: usize = 46;
const WAVE_SECONDS: f32 = 0.55;
const FLASH_SECONDS: f32 = 0.16;
/// Sparks per second behind a burning engine.
const EXHAUST: f32 = 55.0;

struct Spark {
    position: Vec2,
    velocity: Vec2,
    color: LinearRgba,
    size: f32,
    age: f32,
    life: f32,
}

struct Wave {
    position: Vec2,
    color: LinearRgba,
    age: f32,
}

/// What flies about and fades.
#[derive(Resource, Default)]
pub struct Sparks {
    sparks: Vec<Spark>,
    waves: Vec<Wave>,
    drawn: i32,
}

pub fn plugin(app: &mut App) {
    app.init_resource::<Sparks>().add_systems(Update, (burst, burn, age).chain());
}

impl Sparks {
    /// Another number between 0 and 1.
    fn random(&mut self) -> f32 {
        self.drawn = self.drawn.wrapping_add(1);
        hash(self.drawn, 77)
    }

    fn add(&mut self, spark: Spark) {
        if self.sparks.len() < SPARKS_MAX {
            self.sparks.push(spark);
        }
    }

    /// Paints all.
    pub fn paint(&self, canvas: &mut Canvas) {
        for spark in &self.sparks {
            let left = 1.0 - spark.age / spark.life;
            let color = spark.color.with_alpha(left * left);
            let tail = spark.velocity * 0.03;
            let none = color.with_alpha(0.0);
            for at in images(spark.position, 12.0) {
                canvas.line(at - tail, at, spark.size, [none, color]);
                canvas.disc(at, spark.size * 0.5, [color; 2], 6);
            }
        }
        for wave in &self.waves {
            let part = wave.age / WAVE_SECONDS;
            let left = (1.0 - part) * (1.0 - part);
            let radius = 8.0 + 62.0 * (1.0 - (1.0 - part).powi(3));
            let none = wave.color.with_alpha(0.0);
            let rim = wave.color.with_alpha(0.75 * left);
            for at in images(wave.position, radius + 8.0) {
                canvas.arc(at, radius, 9.0, (0.0, TAU), [none, rim, none]);
                if wave.age < FLASH_SECONDS {
                    let flash = 1.0 - wave.age / FLASH_SECONDS;
                    canvas.glow(at, 46.0, LinearRgba::new(1.0, 0.95, 0.85, flash));
                }
            }
        }
    }
}

fn burst(mut bursts: MessageReader<Burst>, colors: Res<Colors>, mut sparks: ResMut<Sparks>) {
    for Burst { position, pilot } in bursts.read().copied() {
        let color = colors.of(pilot);
        sparks.waves.push(Wave { position, color: color.into(), age: 0.0 });
        for _ in 0..BURST_SPARKS {
            let way = Vec2::from_angle(sparks.random() * TAU);
            let speed = 40.0 + 240.0 * sparks.random().powi(2);
            let white = sparks.random() * 0.8;
            let spark = Spark {
                position: wrap(position + way * 5.0),
                velocity: way * speed,
                color: tinted(color, white),
                size: 1.4 + 1.6 * sparks.random(),
                age: 0.0,
                life: 0.35 + 0.75 * sparks.random(),
            };
            sparks.add(spark);
        }
    }
}

fn burn(
    ships: Query<(&Ship, &Shown)>,
    mut sparks: ResMut<Sparks>,
    mut due: Local<f32>,
    time: Res<Time>,
) {
    *due += EXHAUST * time.delta_secs().min(0.1);
    let count = due.floor();
    *due -= count;
    for (ship, shown) in ships.iter().filter(|(ship, _)| ship.thrusting) {
        for _ in 0..count as u32 {
            let back = -Vec2::from_angle(shown.heading + (sparks.random() - 0.5) * 0.5);
            let heat = sparks.random();
            let spark = Spark {
                position: wrap(shown.position + back * 13.0),
                velocity: ship.velocity * 0.4 + back * (70.0 + 70.0 * sparks.random()),
                color: LinearRgba::new(1.0, 0.32 + 0.35 * heat, 0.08 + 0.2 * heat, 1.0),
                size: 1.2 + sparks.random(),
                age: 0.0,
                life: 0.2 + 0.3 * sparks.random(),
            };
            sparks.add(spark);
        }
    }
}

fn age(mut sparks: ResMut<Sparks>, time: Res<Time>) {
    let dt = time.delta_secs();
    for spark in &mut sparks.sparks {
        spark.age += dt;
        spark.position = wrap(spark.position + spark.velocity * dt);
        spark.velocity *= (-2.2 * dt).exp();
    }
    sparks.sparks.retain(|spark| spark.age < spark.life);
    for wave in &mut sparks.waves {
        wave.age += dt;
    }
    sparks.waves.retain(|wave| wave.age < WAVE_SECONDS);
}
