//! The simulation. It runs in ggrs' schedule, on whole numbers: the same on every machine.

use bevy::prelude::*;
use bevy_ggrs::ggrs::InputStatus;
use bevy_ggrs::prelude::*;
use bevy_netplay::PeerId;
use serde::{Deserialize, Serialize};

/// ggrs' configuration: as before, but for whose ids players have.
pub type Config = GgrsConfig<Keys, PeerId>;

/// What places and speeds are counted in: this many to a unit on the screen.
pub const FINE: i32 = 256;
/// Half the ice.
pub const HALF: IVec2 = IVec2::new(480 * FINE, 270 * FINE);
/// Half a box's side.
pub const BOX: i32 = 22 * FINE;
/// Half a coin's size.
pub const COIN: i32 = 11 * FINE;
/// Coins on the ice.
const COINS: u8 = 3;
/// What a key adds to the speed each frame.
const PUSH: i32 = 80;
/// Of the speed, this part is lost each frame.
const FRICTION: i32 = 32;
/// What a dash adds to the speed, and its frames until the next.
const DASH: i32 = 8 * FINE;
const DASH_EVERY: u8 = 60;
/// Within so many frames after a dash, who is hit loses a coin to the one who hits.
const DASH_LASTS: u8 = 20;

/// The keys of one player in one frame.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys(pub u8);

impl Keys {
    pub const UP: u8 = 1;
    pub const DOWN: u8 = 2;
    pub const LEFT: u8 = 4;
    pub const RIGHT: u8 = 8;
    pub const DASH: u8 = 16;

    fn has(self, key: u8) -> bool {
        self.0 & key != 0
    }

    /// Where to; each part -1, 0 or 1.
    fn way(self) -> IVec2 {
        let axis = |plus, minus| i32::from(self.has(plus)) - i32::from(self.has(minus));
        IVec2::new(axis(Self::RIGHT, Self::LEFT), axis(Self::UP, Self::DOWN))
    }
}

/// A player's box.
#[derive(Component, Clone, Copy, Debug, Default, Hash)]
#[require(Rollback)]
pub struct Cube {
    /// Whose it is.
    pub handle: usize,
    pub place: IVec2,
    pub speed: IVec2,
    /// Frames until it can dash again.
    pub rest: u8,
    pub coins: u16,
    /// Its player has left.
    pub is_left: bool,
}

impl Cube {
    /// Whether it is in the middle of a dash.
    pub const fn dashes(&self) -> bool {
        self.rest > DASH_EVERY - DASH_LASTS
    }
}

/// A coin that waits for a box.
#[derive(Component, Clone, Copy, Debug, Default, Hash)]
#[require(Rollback)]
pub struct Coin {
    pub number: u8,
    pub place: IVec2,
}

/// Where the next coins will be. It is rolled back with the rest.
#[derive(Resource, Clone, Copy, Debug, Default, Hash)]
pub struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: i32) -> i32 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % sides.unsigned_abs() as u64) as i32
    }

    /// A place where a coin can lie.
    fn place(&mut self) -> IVec2 {
        let room = HALF - IVec2::splat(2 * BOX);
        IVec2::new(self.roll(2 * room.x), self.roll(2 * room.y)) - room
    }
}

pub fn plugin(app: &mut App) {
    app.add_plugins(GgrsPlugin::<Config>::default())
        .init_resource::<Dice>()
        .rollback_component_with_copy::<Cube>()
        .rollback_component_with_copy::<Coin>()
        .rollback_resource_with_copy::<Dice>()
        .checksum_component_with_hash::<Cube>()
        .checksum_component_with_hash::<Coin>()
        .checksum_resource_with_hash::<Dice>()
        .add_systems(GgrsSchedule, (push, slide, bump, collect).chain());
}

/// Puts boxes and coins on the ice, the same for all players.
pub fn set_up(players: usize, seed: u64, commands: &mut Commands) {
    let mut dice = Dice(seed);
    for handle in 0..players {
        // Side by side, in the middle.
        let x = (2 * handle as i32 + 1 - players as i32) * 2 * BOX;
        commands.spawn(Cube { handle, place: IVec2::new(x, 0), ..default() });
    }
    for number in 0..COINS {
        commands.spawn(Coin { number, place: dice.place() });
    }
    commands.insert_resource(dice);
}

fn push(mut cubes: Query<&mut Cube>, inputs: Res<PlayerInputs<Config>>) {
    for mut cube in &mut cubes {
        let (keys, status) = inputs[cube.handle];
        cube.is_left = status == InputStatus::Disconnected;
        let way = keys.way();
        cube.rest = cube.rest.saturating_sub(1);
        cube.speed += way * PUSH;
        if keys.has(Keys::DASH) && cube.rest == 0 && way != IVec2::ZERO {
            cube.rest = DASH_EVERY;
            cube.speed += way * DASH;
        }
    }
}

fn slide(mut cubes: Query<&mut Cube>) {
    for mut cube in &mut cubes {
        let speed = cube.speed - cube.speed / FRICTION;
        cube.speed = speed;
        cube.place += speed;
        let room = HALF - IVec2::splat(BOX);
        let inside = cube.place.clamp(-room, room);
        // A wall takes half of the speed.
        if inside.x != cube.place.x {
            cube.speed.x /= -2;
        }
        if inside.y != cube.place.y {
            cube.speed.y /= -2;
        }
        cube.place = inside;
    }
}

fn bump(mut cubes: Query<&mut Cube>) {
    let mut cubes: Vec<_> = cubes.iter_mut().collect();
    // The order of a query is not the same everywhere.
    cubes.sort_by_key(|cube| cube.handle);
    for second in 1..cubes.len() {
        let (before, rest) = cubes.split_at_mut(second);
        for first in before {
            bump_two(first, &mut rest[0]);
        }
    }
}

/// Two boxes in one place are pushed apart, and swap what brought them together.
fn bump_two(a: &mut Cube, b: &mut Cube) {
    let way = b.place - a.place;
    let overlap = IVec2::splat(2 * BOX) - way.abs();
    if overlap.x <= 0 || overlap.y <= 0 {
        return;
    }
    let axis = if overlap.x < overlap.y { IVec2::X } else { IVec2::Y };
    let side = axis * if (way * axis).element_sum() < 0 { -1 } else { 1 };
    let apart = (overlap * axis).element_sum() / 2 + 1;
    a.place -= side * apart;
    b.place += side * apart;
    let closing = ((a.speed - b.speed) * side).element_sum();
    if closing <= 0 {
        return;
    }
    a.speed -= side * closing;
    b.speed += side * closing;
    match (a.dashes(), b.dashes()) {
        (true, false) => steal(a, b),
        (false, true) => steal(b, a),
        _ => {}
    }
}

const fn steal(thief: &mut Cube, from: &mut Cube) {
    if from.coins > 0 {
        from.coins -= 1;
        thief.coins += 1;
        // One coin a dash.
        thief.rest = DASH_EVERY - DASH_LASTS;
    }
}

fn collect(mut cubes: Query<&mut Cube>, mut coins: Query<&mut Coin>, mut dice: ResMut<Dice>) {
    let mut cubes: Vec<_> = cubes.iter_mut().collect();
    cubes.sort_by_key(|cube| cube.handle);
    let mut coins: Vec<_> = coins.iter_mut().collect();
    coins.sort_by_key(|coin| coin.number);
    for coin in &mut coins {
        let near = |cube: &&mut Mut<Cube>| {
            (cube.place - coin.place).abs().max_element() < BOX + COIN && !cube.is_left
        };
        if let Some(cube) = cubes.iter_mut().find(near) {
            cube.coins = cube.coins.saturating_add(1);
            coin.place = dice.place();
        }
    }
}
