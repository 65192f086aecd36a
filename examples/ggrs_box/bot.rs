//! Plays while nobody is at the keys: goes for the nearest coin, and dashes when the way is long.

use bevy::prelude::*;

use crate::game::{Coin, Cube, FINE, Keys};

/// How far ahead a bot sees itself, in frames.
const AHEAD: i32 = 18;
/// Off by less than this, it does not steer.
const CLOSE: i32 = 8 * FINE;
/// Off by more than this, it dashes.
const FAR: i32 = 220 * FINE;

/// The keys for this box.
pub fn steer(cube: &Cube, coins: &Query<&Coin>) -> Keys {
    let from = cube.place + cube.speed * AHEAD;
    // Several bots go for different coins.
    let wish = |coin: &&Coin| {
        let far = (coin.place - cube.place).abs().element_sum();
        far + i32::from(usize::from(coin.number) != cube.handle % 3) * 100 * FINE
    };
    let Some(coin) = coins.iter().min_by_key(wish) else { return Keys::default() };
    let way = coin.place - from;
    let mut keys = 0;
    let mut steer = |off: i32, plus, minus| {
        if off.abs() > CLOSE {
            keys |= if off > 0 { plus } else { minus };
        }
    };
    steer(way.x, Keys::RIGHT, Keys::LEFT);
    steer(way.y, Keys::UP, Keys::DOWN);
    if way.abs().max_element() > FAR {
        keys |= Keys::DASH;
    }
    Keys(keys)
}
