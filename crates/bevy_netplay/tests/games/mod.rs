//! Small games of different kinds, played in check mode by a script that a seed decides.

pub mod boxes;
pub mod family;
pub mod shooter;

use bevy::prelude::*;
use bevy_netplay::rollback::{AddRollback, AddRollbackInput, LocalInputs, ReadInputs};
use serde::{Deserialize, Serialize};

use crate::rollback_kit;

/// Players of each game.
pub const PLAYERS: u8 = 2;

/// What a player does in a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    pub x: i8,
    pub fire: bool,
}

/// A random number generator, for games and for the script.
#[derive(Resource, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

#[derive(Resource)]
struct Script(Random);

/// A game in check mode, with the players' script.
pub fn game(seed: u64, build: impl FnOnce(&mut App)) -> App {
    let mut app = rollback_kit::app(seed);
    app.add_rollback_input::<Pad>()
        .rollback_resource::<Random>()
        .insert_resource(Random(seed))
        .insert_resource(Script(Random(seed ^ 0x5EED)))
        .add_systems(ReadInputs, read);
    build(&mut app);
    app
}

/// A player goes on for some ticks, and then does something else.
fn read(mut local: ResMut<LocalInputs<Pad>>, mut script: ResMut<Script>) {
    for (_, pad) in local.iter_mut() {
        if script.0.below(9) == 0 {
            pad.x = script.0.below(3) as i8 - 1;
        }
        pad.fire = script.0.below(12) == 0;
    }
}
