//! The simulation: what `FixedUpdate` does, on whole numbers, the same on every machine.

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::{
    AddDrawn, AddRollback, AddRollbackInput, DespawnRollback, Drawn, Player, PlayerInputs,
    Rollback, RollbackId,
};
use serde::{Deserialize, Serialize};

/// Ticks per second.
pub const RATE: f64 = 60.0;
/// What places and speeds are counted in: so many to a unit on the screen.
pub const FINE: i32 = 256;
/// Half a fighter's size.
pub const BODY: IVec2 = IVec2::new(15 * FINE, 26 * FINE);
/// Floors: their left and right end and their height, in units. One can jump through all but the first.
pub const FLOORS: [(i32, i32, i32); 4] =
    [(-360, 360, -140), (-300, -150, -20), (150, 300, -20), (-80, 80, 90)];
/// Who is further from the middle than this has fallen.
const ABYSS: IVec2 = IVec2::new(640 * FINE, 460 * FINE);

const RUN: i32 = 5 * FINE;
const PUSH: i32 = FINE * 3 / 4;
const AIR_PUSH: i32 = FINE / 3;
const GRAVITY: i32 = FINE * 5 / 8;
const JUMP: i32 = 14 * FINE;
const FALL: i32 = 16 * FINE;
const JUMPS: u8 = 2;
/// Ticks in which a strike hits, and until the next one.
const STRIKE: u8 = 7;
const STRIKE_REST: u8 = 22;
const STRIKE_REACH: IVec2 = IVec2::new(46 * FINE, 30 * FINE);
const WAVE_REST: u8 = 70;
const WAVE_LIFE: u8 = 55;
const WAVE_SPEED: i32 = 8 * FINE;
/// Half the size of a wave.
pub const WAVE: i32 = 11 * FINE;
/// Ticks in which who comes back cannot be hit.
const GRACE: u8 = 90;

/// What a player does in a tick.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pad(pub u8);

impl Pad {
    pub const LEFT: u8 = 1;
    pub const RIGHT: u8 = 2;
    pub const DOWN: u8 = 4;
    pub const JUMP: u8 = 8;
    pub const STRIKE: u8 = 16;
    pub const WAVE: u8 = 32;

    const fn has(self, button: u8) -> bool {
        self.0 & button != 0
    }
}

/// A player's body.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[require(Rollback)]
pub struct Fighter {
    pub player: u8,
    pub place: IVec2,
    pub speed: IVec2,
    /// 1 to the right, -1 to the left.
    pub facing: i8,
    /// What it has taken: the more, the further it flies.
    pub damage: u16,
    pub falls: u16,
    pub wins: u16,
    /// Ticks of the strike that are left, and until the next strike or wave.
    pub strike: u8,
    pub rest: u8,
    /// Ticks without control.
    pub stun: u8,
    pub grace: u8,
    pub jumps: u8,
    pub lands: bool,
    /// Its player is not in the match.
    pub away: bool,
    /// Who hit it last; itself for nobody.
    by: u8,
    /// Whom this strike has hit.
    has_hit: u8,
    held: Pad,
}

/// A wave that flies.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[require(Rollback)]
pub struct Wave {
    pub by: u8,
    pub place: IVec2,
    pub facing: i8,
    pub left: u8,
}

/// Light where something was hit. Simulated, so that it is taken back with a hit that was none.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[require(Rollback)]
pub struct Spark {
    pub place: IVec2,
    pub left: u8,
    pub size: u8,
}

/// Ticks that a spark lives.
pub const SPARK: u8 = 16;

impl Drawn for Fighter {
    fn transform(&self) -> Transform {
        Transform::from_translation(screen(self.place).extend(0.0))
    }
}

impl Drawn for Wave {
    fn transform(&self) -> Transform {
        Transform::from_translation(screen(self.place).extend(0.0))
    }
}

/// Of a place on the stage.
pub fn screen(place: IVec2) -> Vec2 {
    place.as_vec2() / FINE as f32
}

pub fn plugin(app: &mut App) {
    app.add_rollback_input::<Pad>()
        .rollback::<Fighter>()
        .rollback::<Wave>()
        .rollback::<Spark>()
        .add_drawn::<Fighter>()
        .add_drawn::<Wave>()
        .insert_resource(Time::<Fixed>::from_hz(RATE))
        .add_systems(FixedUpdate, (enter, control, throw, fly, hit, wave_hits, walk, glow).chain());
}

/// The fighters of a match, each in its corner.
pub fn set_up(players: &[Player], commands: &mut Commands) {
    for player in players {
        commands.spawn(fighter(player.0));
    }
}

/// Who has come into a match that runs gets a fighter.
fn enter(
    mut commands: Commands,
    of: Option<Res<MatchTick>>,
    inputs: Res<PlayerInputs<Pad>>,
    fighters: Query<&Fighter>,
) {
    let in_match = of.is_some_and(|of| of.0.is_some());
    let present = inputs.players().filter(|player| in_match && inputs.is_present(*player));
    for player in present {
        if fighters.iter().all(|fighter| fighter.player != player.0) {
            commands.spawn(fighter(player.0));
        }
    }
}

fn fighter(player: u8) -> Fighter {
    let x = [-240, 240, -90, 90][usize::from(player % 4)] * FINE;
    Fighter {
        player,
        place: IVec2::new(x, 160 * FINE),
        speed: IVec2::ZERO,
        facing: if x < 0 { 1 } else { -1 },
        damage: 0,
        falls: 0,
        wins: 0,
        strike: 0,
        rest: 0,
        stun: 0,
        grace: GRACE,
        jumps: JUMPS,
        lands: false,
        away: false,
        by: player,
        has_hit: 0,
        held: Pad(0),
    }
}

fn control(mut fighters: Query<&mut Fighter>, inputs: Res<PlayerInputs<Pad>>) {
    for mut fighter in &mut fighters {
        let (player, fighter) = (Player(fighter.player), &mut *fighter);
        fighter.away = !inputs.is_present(player);
        let pad = inputs[player];
        let pressed = |button| pad.has(button) && !fighter.held.has(button);
        let (jump, strike) = (pressed(Pad::JUMP), pressed(Pad::STRIKE));
        fighter.held = pad;
        for ticks in [&mut fighter.rest, &mut fighter.strike, &mut fighter.grace] {
            *ticks = ticks.saturating_sub(1);
        }
        fighter.stun = fighter.stun.saturating_sub(1);
        if fighter.stun > 0 {
            continue;
        }
        let way = i32::from(pad.has(Pad::RIGHT)) - i32::from(pad.has(Pad::LEFT));
        let push = if fighter.lands { PUSH } else { AIR_PUSH };
        let wish = way * RUN;
        fighter.speed.x += (wish - fighter.speed.x).clamp(-push, push);
        if way != 0 && fighter.strike == 0 {
            fighter.facing = way as i8;
        }
        if jump && fighter.jumps > 0 {
            fighter.jumps -= 1;
            fighter.speed.y = JUMP;
        }
        if strike && fighter.rest == 0 {
            (fighter.strike, fighter.rest, fighter.has_hit) = (STRIKE, STRIKE_REST, 0);
            fighter.speed.x += i32::from(fighter.facing) * 4 * FINE;
        }
    }
}

/// Waves begin.
fn throw(mut commands: Commands, mut fighters: Query<(&RollbackId, &mut Fighter)>) {
    let mut fighters: Vec<_> = fighters.iter_mut().collect();
    // What is spawned gets its id in this order, which is the same everywhere; that of rows is not.
    fighters.sort_by_key(|(id, _)| **id);
    for (_, fighter) in &mut fighters {
        if fighter.held.has(Pad::WAVE) && fighter.rest == 0 && fighter.stun == 0 {
            fighter.rest = WAVE_REST;
            let place = fighter.place + IVec2::new(i32::from(fighter.facing) * 24 * FINE, 0);
            commands.spawn(Wave {
                by: fighter.player,
                place,
                facing: fighter.facing,
                left: WAVE_LIFE,
            });
        }
    }
}

fn fly(mut commands: Commands, mut waves: Query<(Entity, &mut Wave)>) {
    for (entity, mut wave) in &mut waves {
        wave.place.x += i32::from(wave.facing) * WAVE_SPEED;
        wave.left -= 1;
        if wave.left == 0 {
            commands.entity(entity).despawn_rollback();
        }
    }
}

/// Strikes hit.
fn hit(mut commands: Commands, mut fighters: Query<&mut Fighter>) {
    let mut fighters: Vec<_> = fighters.iter_mut().collect();
    fighters.sort_by_key(|fighter| fighter.player);
    for first in 0..fighters.len() {
        for second in 0..fighters.len() {
            let striker = *fighters[first];
            let target = *fighters[second];
            let front = striker.place + IVec2::new(i32::from(striker.facing) * 30 * FINE, 0);
            let near = (target.place - front).abs().cmple(STRIKE_REACH).all();
            let new = striker.has_hit & (1 << target.player) == 0;
            if first != second && striker.strike > 0 && near && new && can_be_hit(&target) {
                fighters[first].has_hit |= 1 << target.player;
                throw_back(&mut fighters[second], striker.player, striker.facing, 9);
                spark(&mut commands, (front + target.place) / 2, 9);
            }
        }
    }
}

fn wave_hits(
    mut commands: Commands,
    waves: Query<(Entity, &RollbackId, &Wave)>,
    mut fighters: Query<&mut Fighter>,
) {
    let mut waves: Vec<_> = waves.iter().filter(|(.., wave)| wave.left > 0).collect();
    waves.sort_by_key(|(_, id, _)| **id);
    let mut fighters: Vec<_> = fighters.iter_mut().collect();
    fighters.sort_by_key(|fighter| fighter.player);
    for (entity, _, wave) in waves {
        let touches = |fighter: &&mut Mut<Fighter>| {
            let room = BODY + IVec2::splat(WAVE);
            fighter.player != wave.by
                && can_be_hit(fighter)
                && (fighter.place - wave.place).abs().cmple(room).all()
        };
        if let Some(target) = fighters.iter_mut().find(touches) {
            throw_back(target, wave.by, wave.facing, 6);
            spark(&mut commands, wave.place, 6);
            commands.entity(entity).despawn_rollback();
        }
    }
}

fn can_be_hit(fighter: &Fighter) -> bool {
    fighter.grace == 0 && !fighter.away
}

fn throw_back(target: &mut Fighter, by: u8, facing: i8, damage: u16) {
    target.damage = (target.damage + damage).min(999);
    target.by = by;
    let far = i32::from(target.damage) * FINE / 12;
    target.speed = IVec2::new(i32::from(facing) * (4 * FINE + far), 5 * FINE + far / 2);
    target.stun = (10 + target.damage / 6).min(50) as u8;
    target.lands = false;
}

fn spark(commands: &mut Commands, place: IVec2, size: u8) {
    commands.spawn(Spark { place, left: SPARK, size });
}

/// Everybody moves, lands and falls.
fn walk(mut commands: Commands, mut fighters: Query<&mut Fighter>) {
    let mut fighters: Vec<_> = fighters.iter_mut().collect();
    fighters.sort_by_key(|fighter| fighter.player);
    let mut winners = Vec::new();
    for fighter in &mut fighters {
        if fighter.away {
            continue;
        }
        let feet = fighter.place.y - BODY.y;
        fighter.speed.y = (fighter.speed.y - GRAVITY).max(-FALL);
        let speed = fighter.speed;
        fighter.place += speed;
        land(fighter, feet);
        if fighter.place.abs().cmpgt(ABYSS).any() {
            spark(&mut commands, fighter.place.clamp(-ABYSS, ABYSS), 40);
            winners.extend((fighter.by != fighter.player).then_some(fighter.by));
            let (falls, wins) = (fighter.falls.saturating_add(1), fighter.wins);
            **fighter = Fighter { falls, wins, ..self::fighter(fighter.player) };
        }
    }
    for winner in winners {
        if let Some(fighter) = fighters.iter_mut().find(|fighter| fighter.player == winner) {
            fighter.wins = fighter.wins.saturating_add(1);
        }
    }
}

/// Stops on a floor that the feet, which were here, have come to from above.
fn land(fighter: &mut Fighter, feet: i32) {
    fighter.lands = false;
    let through = fighter.held.has(Pad::DOWN);
    for (index, (left, right, height)) in FLOORS.into_iter().enumerate() {
        let over = (left * FINE..=right * FINE).contains(&fighter.place.x);
        let height = height * FINE;
        let crosses = feet >= height && fighter.place.y - BODY.y <= height;
        if over && crosses && fighter.speed.y <= 0 && !(through && index > 0) {
            fighter.place.y = height + BODY.y;
            fighter.speed.y = 0;
            (fighter.lands, fighter.jumps) = (true, JUMPS);
        }
    }
}

fn glow(mut commands: Commands, mut sparks: Query<(Entity, &mut Spark)>) {
    for (entity, mut spark) in &mut sparks {
        spark.left -= 1;
        if spark.left == 0 {
            commands.entity(entity).despawn_rollback();
        }
    }
}
