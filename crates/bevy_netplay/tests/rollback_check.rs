//! Check mode finds what a rollback cannot rewind, and what differs between machines: one example of each
//! thing that is not supported in simulation.

mod rollback_kit;

use bevy::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, DespawnRollback, FoundBy, Rollback, RollbackId, SimulationRestored,
};
use rollback_kit::{app, play};
use serde::{Deserialize, Serialize};

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct At(i32);

#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Count(u32);

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Mark;

/// One entity that counts.
fn counter(seed: u64) -> App {
    let mut app = app(seed);
    app.rollback::<Count>().add_systems(Startup, |mut commands: Commands| {
        commands.spawn((Rollback, Count(0), At(0)));
    });
    app
}

fn name<T>() -> &'static str {
    core::any::type_name::<T>()
}

/// What found the first difference, and in which type.
fn found(app: &mut App) -> (FoundBy, &'static str) {
    let found = play(app, 100).differences.first().expect("something differs");
    (found.found_by, found.of)
}

fn count_up(mut all: Query<&mut Count>) {
    all.iter_mut().for_each(|mut count| count.0 += 1);
}

#[test]
fn state_that_is_not_registered_is_found() {
    let mut app = counter(6);
    app.add_systems(FixedUpdate, |mut all: Query<(&mut Count, &mut At)>| {
        for (mut count, mut at) in &mut all {
            at.0 += 1;
            count.0 += at.0 as u32;
        }
    });
    assert_eq!(found(&mut app), (FoundBy::Rewind, name::<Count>()));
}

#[test]
fn a_resource_that_is_not_registered_is_found() {
    #[derive(Resource, Default)]
    struct Score(u32);

    let mut app = counter(12);
    app.init_resource::<Score>().add_systems(
        FixedUpdate,
        |mut all: Query<&mut Count>, mut score: ResMut<Score>| {
            score.0 += 1;
            all.iter_mut().for_each(|mut count| count.0 += score.0);
        },
    );
    assert_eq!(found(&mut app), (FoundBy::Rewind, name::<Count>()));
}

#[test]
fn a_local_is_found() {
    let mut app = counter(7);
    app.add_systems(FixedUpdate, |mut calls: Local<u32>, mut all: Query<&mut Count>| {
        *calls += 1;
        all.iter_mut().for_each(|mut count| count.0 += *calls);
    });
    assert_eq!(found(&mut app), (FoundBy::Rewind, name::<Count>()));
}

#[test]
fn change_detection_across_ticks_is_found() {
    let mut app = counter(8);
    app.rollback::<At>().add_systems(
        FixedUpdate,
        (
            |mut moved: Query<&mut Count, Changed<At>>| {
                moved.iter_mut().for_each(|mut count| count.0 += 1);
            },
            |mut all: Query<&mut At>, time: Res<Time>| {
                // It moves in every eighth tick.
                if (time.elapsed().as_micros() / 15_625).is_multiple_of(8) {
                    all.iter_mut().for_each(|mut at| at.0 += 1);
                }
            },
        )
            .chain(),
    );
    assert_eq!(found(&mut app), (FoundBy::Rewind, name::<Count>()));
}

#[test]
fn a_message_reader_across_ticks_is_found() {
    #[derive(Message)]
    struct Ping;

    let mut app = counter(9);
    app.add_message::<Ping>().add_systems(
        FixedUpdate,
        (
            |mut pings: MessageReader<Ping>, mut all: Query<&mut Count>| {
                let heard = pings.read().count() as u32;
                all.iter_mut().for_each(|mut count| count.0 += heard);
            },
            |mut out: MessageWriter<Ping>| {
                out.write(Ping);
            },
        )
            .chain(),
    );
    assert_eq!(found(&mut app), (FoundBy::Rewind, name::<Count>()));
}

#[test]
fn a_run_condition_with_a_memory_is_found() {
    let mut app = counter(10);
    let mut calls = 0;
    let every_third = move || {
        calls += 1;
        calls % 3 == 0
    };
    app.add_systems(FixedUpdate, count_up.run_if(every_third));
    assert_eq!(found(&mut app), (FoundBy::Rewind, name::<Count>()));
}

#[test]
fn a_plain_despawn_in_simulation_is_found() {
    let mut app = app(10);
    app.rollback::<At>().add_systems(
        FixedUpdate,
        |mut commands: Commands, all: Query<(Entity, &At)>| {
            for (entity, at) in &all {
                if at.0 == 3 {
                    commands.entity(entity).despawn();
                }
            }
            commands.spawn((Rollback, At(3)));
        },
    );
    let check = play(&mut app, 50);
    assert!(check.plain_despawns > 10 && check.resimulated > 0, "{check:?}");
    // Outside of simulation it is nobody's business.
    let mut other = self::app(11);
    other.rollback::<At>().add_systems(Update, |mut commands: Commands| {
        let entity = commands.spawn((Rollback, At(0))).id();
        commands.entity(entity).despawn();
    });
    assert_eq!(play(&mut other, 50).plain_despawns, 0);
}

/// Who follows another entity.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Unmapped(Entity);

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Mapped(#[entities] Entity);

/// Counts up while its target is there.
fn follower<T: Component + Copy>(
    app: &mut App,
    target: fn(Entity) -> T,
    of: impl Fn(&T) -> Entity + Send + Sync + 'static,
) {
    app.rollback::<Count>()
        .rollback::<At>()
        .add_systems(Startup, move |mut commands: Commands| {
            let there = commands.spawn((Rollback, At(1))).id();
            commands.spawn((Rollback, Count(0), target(there)));
        })
        .add_systems(FixedUpdate, move |mut all: Query<(&mut Count, &T)>, ats: Query<&At>| {
            for (mut count, target) in &mut all {
                count.0 += ats.get(of(target)).map_or(0, |at| at.0 as u32);
            }
        });
}

#[test]
fn an_entity_that_is_not_mapped_is_found() {
    let mut wrong = app(13);
    wrong.rollback::<Unmapped>();
    follower(&mut wrong, Unmapped, |target| target.0);
    assert_eq!(found(&mut wrong), (FoundBy::Respawn, name::<Count>()));
    let mut right = app(13);
    right.rollback::<Mapped>();
    follower(&mut right, Mapped, |target| target.0);
    play(&mut right, 200).assert_same();
}

#[test]
fn an_entity_that_died_is_nobody_on_every_machine() {
    let mut app = app(14);
    app.rollback::<Mapped>();
    follower(&mut app, Mapped, |target| target.0);
    app.add_systems(
        FixedPostUpdate,
        |mut commands: Commands, targets: Query<(Entity, &At)>, counts: Query<&Count>| {
            for (entity, _) in targets.iter().filter(|_| counts.iter().any(|count| count.0 > 50)) {
                commands.entity(entity).despawn_rollback();
            }
        },
    );
    play(&mut app, 200).assert_same();
}

/// Several entities that differ.
fn crowd(seed: u64) -> App {
    let mut app = app(seed);
    app.rollback::<Count>().rollback::<At>().rollback::<Mark>().add_systems(
        Startup,
        |mut commands: Commands| {
            for place in 0..8 {
                let mut entity = commands.spawn((Rollback, Count(0), At(place)));
                // In another table.
                if place % 2 == 1 {
                    entity.insert(Mark);
                }
            }
        },
    );
    app
}

#[test]
fn a_system_in_which_the_first_row_wins_is_found() {
    let mut wrong = crowd(15);
    wrong.add_systems(FixedUpdate, |mut all: Query<(&At, &mut Count)>| {
        if let Some((_, mut count)) = all.iter_mut().find(|(at, _)| at.0 > 2) {
            count.0 += 1;
        }
    });
    assert_eq!(found(&mut wrong), (FoundBy::OtherRows, name::<Count>()));
    let mut right = crowd(15);
    right.add_systems(FixedUpdate, |mut all: Query<(&RollbackId, &At, &mut Count)>| {
        let matches = all.iter_mut().filter(|(_, at, _)| at.0 > 2);
        if let Some((.., mut count)) = matches.min_by_key(|(id, ..)| **id) {
            count.0 += 1;
        }
    });
    play(&mut right, 200).assert_same();
}

#[test]
fn what_is_spawned_in_the_order_of_rows_is_found() {
    let mut wrong = crowd(16);
    wrong.add_systems(FixedUpdate, |mut commands: Commands, all: Query<&At, With<Count>>| {
        all.iter().take(6).for_each(|at| _ = commands.spawn((Rollback, *at)));
    });
    let differences = &play(&mut wrong, 100).differences;
    let found =
        |of| differences.iter().any(|found| (found.found_by, found.of) == (FoundBy::OtherRows, of));
    assert!(found(name::<At>()), "{differences:?}");
}

#[test]
fn a_sum_of_floats_in_the_order_of_rows_is_found() {
    #[derive(Resource, Clone, Copy, Default, Serialize, Deserialize)]
    struct Middle(f32);

    let mut app = crowd(17);
    app.rollback_resource::<Middle>().init_resource::<Middle>().add_systems(
        FixedUpdate,
        |all: Query<&At>, mut middle: ResMut<Middle>| {
            middle.0 = all.iter().map(|at| 1.0 / (at.0 as f32 + 3.0)).sum();
        },
    );
    let differences = &play(&mut app, 200).differences;
    let found = differences.first().expect("sums differ");
    assert_eq!(
        (found.found_by, found.of, found.first),
        (FoundBy::OtherRows, name::<Middle>(), None)
    );
}

#[test]
fn the_order_of_children_is_found() {
    let mut app = app(18);
    app.rollback::<Count>()
        .rollback_immutable::<ChildOf>()
        .add_systems(Startup, |mut commands: Commands| {
            let child = || (Rollback, Count(0));
            commands.spawn((Rollback, children![child(), child(), child()]));
        })
        .add_systems(FixedUpdate, |parents: Query<&Children>, mut counts: Query<&mut Count>| {
            for first in parents.iter().filter_map(|children| children.first()) {
                counts.get_mut(*first).expect("a child counts").0 += 1;
            }
        });
    assert_eq!(found(&mut app), (FoundBy::OtherRows, name::<Count>()));
}

#[test]
fn the_entity_and_the_tick_that_differ_are_named() {
    let mut app = counter(19);
    app.add_systems(FixedUpdate, |mut calls: Local<u32>, mut all: Query<&mut Count>| {
        *calls += 1;
        all.iter_mut().for_each(|mut count| count.0 = *calls);
    });
    let difference = play(&mut app, 20).differences[0];
    assert_eq!(difference.first.map(RollbackId::get), Some(1));
    let text = difference.to_string();
    assert!(text.contains("rollback id 1 differs before tick") && text.contains("Local"), "{text}");
}

#[test]
fn a_component_that_the_simulation_needs_and_late_joiners_do_not_get_is_found() {
    let game = |app: &mut App| {
        app.add_systems(FixedPreUpdate, |mut commands: Commands, all: Query<(Entity, &Count)>| {
            for (entity, _) in all.iter().filter(|(_, count)| count.0 == 0) {
                commands.entity(entity).insert(Mark);
            }
        })
        .add_systems(FixedUpdate, |mut all: Query<&mut Count, With<Mark>>| {
            all.iter_mut().for_each(|mut count| count.0 += 1);
        });
    };
    let mut wrong = counter(20);
    game(&mut wrong);
    assert_eq!(found(&mut wrong), (FoundBy::Respawn, name::<Count>()));
    // Who adds it for them does well.
    let mut right = counter(20);
    game(&mut right);
    right.add_observer(
        |_: On<SimulationRestored>, mut commands: Commands, all: Query<Entity, With<Count>>| {
            all.iter().for_each(|entity| _ = commands.entity(entity).insert(Mark));
        },
    );
    let check = play(&mut right, 200);
    check.assert_same();
    assert!(check.respawned > 10 && check.permuted > 30, "{check:?}");
}

#[test]
fn what_is_not_serialized_is_found() {
    #[derive(Component, Clone, Copy, Serialize, Deserialize)]
    struct Half {
        seen: u32,
        #[serde(skip)]
        hidden: u32,
    }

    let mut app = app(21);
    app.rollback::<Half>()
        .add_systems(Startup, |mut commands: Commands| {
            commands.spawn((Rollback, Half { seen: 0, hidden: 0 }));
        })
        .add_systems(FixedUpdate, |mut all: Query<&mut Half>| {
            for mut half in &mut all {
                half.hidden += 1;
                half.seen += half.hidden;
            }
        });
    assert_eq!(found(&mut app), (FoundBy::Respawn, name::<Half>()));
}

#[test]
fn a_value_that_is_another_one_when_it_was_written_and_read_is_found_at_once() {
    #[derive(Component, Clone, Copy, Serialize, Deserialize)]
    struct Rounded(#[serde(deserialize_with = "rounded")] u32);

    fn rounded<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        u32::deserialize(from).map(|value| value / 2 * 2)
    }

    let mut app = app(22);
    app.rollback::<Rounded>().add_systems(Startup, |mut commands: Commands| {
        commands.spawn((Rollback, Rounded(7)));
    });
    let differences = play(&mut app, 100).differences.clone();
    assert_eq!(differences.len(), 1, "{differences:?}");
    let found = differences[0];
    assert_eq!((found.found_by, found.of, found.depth), (FoundBy::Respawn, name::<Rounded>(), 0));
}
