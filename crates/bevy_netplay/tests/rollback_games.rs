//! Games of different kinds come to the same state again in check mode: after every rollback, with rows in
//! any order, and with all entities spawned anew.
//!
//! Two thousand ticks each; as many as wished with
//! `NETPLAY_TICKS=10000 cargo test -p bevy_netplay --test rollback_games`.

mod games;
mod rollback_kit;

use std::time::Instant;

use bevy::prelude::*;
use bevy_netplay::rollback::{RollbackCheck, RollbackId};
use games::{boxes, family, game, shooter};
use rollback_kit::play;

fn ticks() -> u32 {
    let ticks = std::env::var("NETPLAY_TICKS");
    ticks.map_or(2_000, |ticks| ticks.parse().expect("NETPLAY_TICKS is a number"))
}

/// Plays it, and gives how many rollback entities there are.
fn assert_same(name: &str, app: &mut App) -> usize {
    let (begin, ticks) = (Instant::now(), ticks());
    let check: RollbackCheck = play(app, ticks).clone();
    eprintln!(
        "{name}: {ticks} ticks, {} run again, {} other orders of rows, {} times spawned anew, {:?}",
        check.resimulated,
        check.permuted,
        check.respawned,
        begin.elapsed(),
    );
    check.assert_same();
    assert!(check.permuted > u64::from(ticks / 4));
    assert!(check.respawned > u64::from(ticks / 12));
    let world = app.world_mut();
    world.query::<&RollbackId>().iter(world).filter(|id| !id.is_resource()).count()
}

#[test]
fn boxes_that_fall_and_stack_come_to_the_same_state_again() {
    let mut app = game(31, boxes::build);
    let there = assert_same("boxes", &mut app);
    assert!((20..=26).contains(&there), "{there}");
    let world = app.world_mut();
    let mut bodies = world.query::<&boxes::Body>();
    let resting = bodies.iter(world).filter(|body| body.speed[1].abs() < 1.0);
    let highest = resting.map(|body| body.place[1]).fold(0.0, f32::max);
    assert!(highest > 2.5, "they lie on each other: {highest}");
}

#[test]
fn a_shooter_comes_to_the_same_state_again() {
    let mut app = game(32, shooter::build);
    let there = assert_same("shooter", &mut app);
    assert!(there < 300, "{there}");
    let score = app.world().resource::<shooter::Score>();
    assert!(score.rocks > 200 && score.players.iter().all(|hits| *hits > 20), "{score:?}");
}

#[test]
fn families_come_to_the_same_state_again() {
    let mut app = game(33, family::build);
    let there = assert_same("families", &mut app);
    assert!(there < 200, "{there}");
    let deaths = app.world().resource::<family::Deaths>().0;
    assert!(deaths > 50, "{deaths}");
    let world = app.world_mut();
    assert!(world.query::<&family::Friend>().iter(world).count() > 0);
}
