//! Ships, bullets and rocks: spawned, hit, dead in the same tick, and counted.

use bevy::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, DespawnRollback, Player, PlayerInputs, Rollback, RollbackId,
};
use serde::{Deserialize, Serialize};

use super::{PLAYERS, Pad, Random};

const WIDTH: i32 = 200;
const HEIGHT: i32 = 120;

#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At(pub i32, pub i32);

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ship {
    player: u8,
    /// Ticks until it can fire.
    rest: u8,
}

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bullet {
    by: u8,
}

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rock {
    life: u8,
    drift: i8,
}

/// Who has hit a rock, in this order: a type with memory of its own.
#[derive(Component, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hits(Vec<u32>);

/// What each player has, and how many rocks there were.
#[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub players: [u32; PLAYERS as usize],
    pub rocks: u32,
}

pub fn build(app: &mut App) {
    app.rollback::<At>()
        .rollback::<Ship>()
        .rollback::<Bullet>()
        .rollback::<Rock>()
        .rollback::<Hits>()
        .rollback_resource::<Score>()
        .init_resource::<Score>()
        .add_systems(Startup, |mut commands: Commands| {
            for player in 0..PLAYERS {
                let at = At(i32::from(player) * WIDTH / 2 + 50, 0);
                commands.spawn((Rollback, Ship { player, rest: 0 }, at));
            }
        })
        .add_systems(FixedUpdate, (steer, come, fly, drift, hit).chain());
}

fn steer(
    mut commands: Commands,
    inputs: Res<PlayerInputs<Pad>>,
    mut ships: Query<(&RollbackId, &mut Ship, &mut At)>,
) {
    let mut ships: Vec<_> = ships.iter_mut().collect();
    ships.sort_by_key(|(id, ..)| **id);
    for (_, ship, at) in &mut ships {
        let pad = inputs[Player(ship.player)];
        at.0 = (at.0 + i32::from(pad.x) * 3).clamp(0, WIDTH);
        ship.rest = ship.rest.saturating_sub(1);
        if pad.fire && ship.rest == 0 {
            ship.rest = 6;
            for side in [-4, 0, 4] {
                let at = At(at.0 + side, at.1 + 4);
                commands.spawn((Rollback, Bullet { by: ship.player }, at));
            }
        }
    }
}

fn come(mut commands: Commands, mut random: ResMut<Random>, mut score: ResMut<Score>) {
    if random.below(7) == 0 {
        let at = At(random.below(WIDTH as u64) as i32, HEIGHT);
        let rock = Rock { life: random.below(3) as u8 + 1, drift: random.below(5) as i8 - 2 };
        commands.spawn((Rollback, rock, at, Hits::default()));
        score.rocks += 1;
    }
}

fn fly(mut commands: Commands, mut bullets: Query<(Entity, &mut At), With<Bullet>>) {
    for (entity, mut at) in &mut bullets {
        at.1 += 3;
        if at.1 > HEIGHT {
            commands.entity(entity).despawn_rollback();
        }
    }
}

fn drift(mut commands: Commands, mut rocks: Query<(Entity, &Rock, &mut At)>) {
    for (entity, rock, mut at) in &mut rocks {
        at.0 += i32::from(rock.drift);
        at.1 -= 1;
        if at.1 < 0 {
            commands.entity(entity).despawn_rollback();
        }
    }
}

/// A bullet hits the first rock that it touches, by their ids; a rock that dies breaks into smaller ones.
fn hit(
    mut commands: Commands,
    bullets: Query<(&RollbackId, Entity, &Bullet, &At)>,
    mut rocks: Query<(&RollbackId, Entity, &mut Rock, &mut Hits, &At), Without<Bullet>>,
    mut score: ResMut<Score>,
) {
    let mut bullets: Vec<_> = bullets.iter().collect();
    bullets.sort_by_key(|(id, ..)| **id);
    let mut rocks: Vec<_> = rocks.iter_mut().collect();
    rocks.sort_by_key(|(id, ..)| **id);
    for (id, bullet, Bullet { by }, at) in bullets {
        let touched = rocks.iter_mut().find(|(_, _, rock, _, there)| {
            rock.life > 0 && (at.0 - there.0).abs() < 7 && (at.1 - there.1).abs() < 5
        });
        let Some((_, entity, rock, hits, there)) = touched else { continue };
        commands.entity(bullet).despawn_rollback();
        rock.life -= 1;
        hits.0.push(id.get());
        score.players[usize::from(*by)] += 1;
        if rock.life == 0 {
            commands.entity(*entity).despawn_rollback();
            if rock.drift != 0 && there.1 > 20 {
                for drift in [-rock.drift, rock.drift / 2] {
                    let part = (Rock { life: 1, drift }, At(there.0, there.1 - 8));
                    commands.spawn((Rollback, part, Hits(hits.0.clone())));
                }
            }
        }
    }
}
