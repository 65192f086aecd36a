//! Plays while nobody is at the keys: chases the nearest ship, shoots when it is ahead, says
//! something now and then.

use bevy::prelude::*;

use crate::game::{Controls, OwnShip, Say, Ship, toward};

const LINES: [&str; 5] = ["hello", "close one", "over here", "nice shot", "again!"];
/// World units within which a bot turns aside.
const CLOSE: f32 = 110.0;
/// Seconds between two lines.
const TALK_EVERY: f32 = 3.0;

/// Sets the controls, unless someone plays.
pub fn steer(
    own: Query<&Ship, With<OwnShip>>,
    others: Query<&Ship, Without<OwnShip>>,
    mut controls: ResMut<Controls>,
    mut say: MessageWriter<Say>,
    mut talked: Local<(f32, usize)>,
    time: Res<Time>,
) {
    if controls.human {
        return;
    }
    let Ok(ship) = own.single() else { return };
    let nearest = others
        .iter()
        .map(|other| toward(ship.position, other.position + other.velocity * 0.3))
        .min_by(|a, b| a.length_squared().total_cmp(&b.length_squared()));
    let Some(way) = nearest else {
        *controls = Controls::default();
        return;
    };
    // Too close: fly past instead of into each other.
    let wanted = if way.length() < CLOSE { way.perp().to_angle() } else { way.to_angle() };
    let off = (wanted - ship.heading + std::f32::consts::PI).rem_euclid(std::f32::consts::TAU)
        - std::f32::consts::PI;
    controls.turn = (off * 3.0).clamp(-1.0, 1.0);
    controls.thrust = off.abs() < 0.6
        && (way.length() > 140.0 || way.length() < CLOSE || ship.velocity.length() < 60.0);
    controls.fire = off.abs() < 0.18 && way.length() < 360.0;
    let (last, line) = &mut *talked;
    if time.elapsed_secs() - *last > TALK_EVERY {
        *last = time.elapsed_secs();
        say.write(Say(LINES[*line % LINES.len()].into()));
        *line += 1;
    }
}
