//! Games that are rolled back after every tick come to the same state again.

mod rollback_kit;

use std::time::Duration;

use bevy::prelude::*;
use bevy::time::{TimePlugin, TimeUpdateStrategy};
use bevy_netplay::rollback::{
    AddRollback, DespawnRollback, Resimulating, Rollback, RollbackCheckPlugin, RollbackId,
    RollbackPlugin,
};
use rollback_kit::{app, play};
use serde::{Deserialize, Serialize};

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct At(i32, i32);

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Speed(i32, i32);

/// Where it has been.
#[derive(Component, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trail(Vec<At>);

#[derive(Resource, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> i32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 33) % end) as i32
    }
}

/// A shooter: bullets are spawned, fly, hit and die.
fn shooter(app: &mut App) {
    app.rollback::<At>()
        .rollback::<Speed>()
        .rollback::<Trail>()
        .rollback_resource::<Random>()
        .insert_resource(Random(7))
        .add_systems(Startup, |mut commands: Commands<'_, '_>| {
            (0..8).for_each(|x| {
                commands.spawn((Rollback, At(x * 100, 0), Trail(Vec::new())));
            });
        })
        .add_systems(FixedUpdate, (shoot, fly, hit).chain());
}

fn shoot(
    mut commands: Commands<'_, '_>,
    mut random: ResMut<'_, Random>,
    ships: Query<'_, '_, (&RollbackId, &At), With<Trail>>,
) {
    let mut ships: Vec<_> = ships.iter().collect();
    ships.sort();
    for (_, at) in ships {
        if random.below(4) == 0 {
            commands.spawn((Rollback, *at, Speed(random.below(21) - 10, 3)));
        }
    }
}

impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

fn fly(mut bullets: Query<'_, '_, (&mut At, &Speed)>) {
    for (mut at, speed) in &mut bullets {
        at.0 += speed.0;
        at.1 += speed.1;
    }
}

fn hit(
    mut commands: Commands<'_, '_>,
    bullets: Query<'_, '_, (Entity, &RollbackId, &At), With<Speed>>,
    mut ships: Query<'_, '_, (&RollbackId, &mut Trail)>,
) {
    let mut dead: Vec<_> = bullets.iter().filter(|(.., at)| at.1 > 60).collect();
    dead.sort_by_key(|(_, id, _)| **id);
    for (entity, id, at) in dead {
        commands.entity(entity).despawn_rollback();
        for (ship, mut trail) in &mut ships {
            if ship.get() % 8 == id.get() % 8 {
                trail.0.push(*at);
                if trail.0.len() > 20 {
                    trail.0.clear();
                }
            }
        }
    }
}

#[test]
fn a_shooter_comes_to_the_same_state_again_from_any_depth() {
    for seed in [1, 2, 3] {
        let mut app = app(seed);
        shooter(&mut app);
        let check = play(&mut app, 800);
        check.assert_same();
        assert!(check.resimulated > 4_000, "{}", check.resimulated);
        // What died is gone once it is too late to bring it back.
        let world = app.world_mut();
        let entities = world.query::<&RollbackId>().iter(world).count();
        let bullets = world.query::<&Speed>().iter(world).count();
        assert!(bullets > 20 && entities < 200, "{bullets} bullets, {entities} entities");
    }
}

/// Turrets that ride on tanks, which come and go.
#[test]
fn children_ride_along_and_die_with_their_parents() {
    #[derive(Component, Clone, Copy, Serialize, Deserialize)]
    struct Age(u32);

    let mut app = app(4);
    app.rollback::<At>().rollback::<Age>().rollback_immutable::<ChildOf>().add_systems(
        FixedUpdate,
        (
            |mut commands: Commands<'_, '_>, tanks: Query<'_, '_, &Age>| {
                if tanks.iter().count() < 5 {
                    let turret = (Rollback, At(0, 1));
                    commands.spawn((Rollback, At(0, 0), Age(0), children![turret]));
                }
            },
            |mut commands: Commands<'_, '_>, mut tanks: Query<'_, '_, (Entity, &mut Age)>| {
                for (tank, mut age) in &mut tanks {
                    age.0 += 1;
                    if age.0 > 17 {
                        commands.entity(tank).despawn_rollback();
                    }
                }
            },
            |tanks: Query<'_, '_, (&Age, &Children)>, mut turrets: Query<'_, '_, &mut At>| {
                for (age, children) in &tanks {
                    for child in children {
                        if let Ok(mut at) = turrets.get_mut(*child) {
                            at.0 += age.0 as i32;
                        }
                    }
                }
            },
        )
            .chain(),
    );
    play(&mut app, 1_000).assert_same();
}

#[test]
fn time_is_what_it_was_in_a_tick_that_is_run_again() {
    #[derive(Component, Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Times(Vec<(Duration, Duration)>);

    let mut app = app(5);
    app.rollback::<Times>()
        .add_systems(Startup, |mut commands: Commands<'_, '_>| {
            commands.spawn((Rollback, Times(Vec::new())));
        })
        .add_systems(FixedUpdate, |time: Res<'_, Time>, mut times: Query<'_, '_, &mut Times>| {
            times.iter_mut().for_each(|mut times| times.0.push((time.elapsed(), time.delta())));
        });
    play(&mut app, 200).assert_same();
    let world = app.world_mut();
    let times = world.query::<&Times>().single(world).cloned().map(|times| times.0);
    let times = times.expect("there is one");
    assert!(times.len() > 150);
    for (tick, (elapsed, delta)) in times.iter().enumerate() {
        assert_eq!(
            (*elapsed, *delta),
            (Duration::from_micros(15_625) * (tick as u32 + 1), Duration::from_micros(15_625))
        );
    }
}

#[test]
fn systems_can_ask_whether_a_tick_runs_again() {
    #[derive(Resource, Default)]
    struct Runs(u32, u32);

    let mut app = app(11);
    app.init_resource::<Runs>().add_systems(
        FixedUpdate,
        |again: Res<'_, Resimulating>, mut runs: ResMut<'_, Runs>| {
            runs.0 += u32::from(!again.0);
            runs.1 += u32::from(again.0);
        },
    );
    let resimulated = play(&mut app, 100).resimulated;
    let runs = app.world().resource::<Runs>();
    assert!((95..=100).contains(&runs.0), "{}", runs.0);
    assert_eq!(u64::from(runs.1), resimulated);
}

#[test]
fn types_may_be_registered_before_the_plugin_is_there() {
    let mut app = App::new();
    app.add_plugins(TimePlugin)
        .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_micros(15_625)));
    shooter(&mut app);
    app.add_plugins((RollbackPlugin::default(), RollbackCheckPlugin { seed: 9 }));
    play(&mut app, 200).assert_same();
}
