//! Plays while nobody is at the keys: goes for the nearest fighter, strikes when it is near, and does not
//! run over the edge.

use bevy::prelude::*;

use crate::game::{FINE, FLOORS, Fighter, Pad};

/// The buttons for this fighter at this tick.
pub fn play(fighter: &Fighter, all: &[Fighter], tick: u32) -> Pad {
    let others = all.iter().filter(|other| other.player != fighter.player && !other.away);
    let far = |other: &&Fighter| (other.place - fighter.place).abs().element_sum();
    let Some(target) = others.min_by_key(far) else { return Pad::default() };
    let mut pad = 0;
    let way = target.place - fighter.place;
    let (left, right, floor) = FLOORS[0];
    let x = fighter.place.x / FINE;
    let mut run = |wish: i32| pad |= if wish > 0 { Pad::RIGHT } else { Pad::LEFT };
    let ahead = x + fighter.speed.x / FINE * 8;
    // Back over the stage first.
    if ahead < left + 20 || ahead > right - 20 {
        run(-x);
    } else if way.x.abs() > 34 * FINE || way.x.signum() != i32::from(fighter.facing) {
        run(way.x);
    }
    // Every bot has a mind of its own.
    let mood = tick / 7 + u32::from(fighter.player) * 3;
    let below = fighter.place.y / FINE < floor;
    let falls = fighter.speed.y < 0 && !fighter.lands;
    let above = way.y > 40 * FINE && fighter.lands;
    if (below && falls || above) && tick % 8 == u32::from(fighter.player) {
        pad |= Pad::JUMP;
    }
    if way.y < -60 * FINE && fighter.lands {
        pad |= Pad::DOWN;
    }
    let near = way.abs().cmplt(IVec2::new(60, 34) * FINE).all();
    let faces = way.x.signum() == i32::from(fighter.facing);
    if near && faces && tick.is_multiple_of(5) {
        pad |= Pad::STRIKE;
    } else if !near && faces && way.y.abs() < 30 * FINE && mood.is_multiple_of(11) {
        pad |= Pad::WAVE;
    }
    Pad(pad)
}
