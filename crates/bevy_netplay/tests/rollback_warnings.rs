//! What is likely to differ between players is told before it does, with the fix.

mod rollback_kit;

use bevy::prelude::*;
use bevy_netplay::rollback::{
    AddDrawn, AddRollback, Drawn, Rollback, RollbackSystems, RollbackWarning,
};
use rollback_kit::{app, play};
use serde::{Deserialize, Serialize};

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct At(i32);

impl Drawn for At {
    fn transform(&self) -> Transform {
        Transform::from_xyz(self.0 as f32, 0.0, 0.0)
    }
}

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Heat(u32);

#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Score(u32);

fn game(seed: u64) -> App {
    let mut app = app(seed);
    app.rollback::<At>().init_resource::<Score>().add_systems(Startup, |mut commands: Commands| {
        commands.spawn((Rollback, At(0), Heat(0)));
        // Nobody's business: it is not simulated.
        commands.spawn(Heat(0));
    });
    app
}

fn warnings(app: &mut App) -> Vec<RollbackWarning> {
    play(app, 30).warnings.clone()
}

fn heat(mut all: Query<&mut Heat>) {
    all.iter_mut().for_each(|mut heat| heat.0 += 1);
}

fn score(mut score: ResMut<Score>) {
    score.0 += 1;
}

fn go(mut all: Query<&mut At>) {
    all.iter_mut().for_each(|mut at| at.0 += 1);
}

fn turn(mut all: Query<&mut At>) {
    all.iter_mut().for_each(|mut at| at.0 = -at.0);
}

fn look(all: Query<&At>) {
    assert!(!all.is_empty());
}

#[test]
fn a_component_that_is_written_and_not_registered_is_told_once_with_the_fix() {
    let mut app = game(1);
    app.add_systems(FixedUpdate, heat);
    let warnings = warnings(&mut app);
    let [RollbackWarning::Component { of, by }] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(of.ends_with("::Heat") && by.ends_with("::heat"), "{of} {by}");
    let text = warnings[0].to_string();
    for part in [format!(".rollback::<{of}>()"), format!(".rollback_ignore::<{of}>()")] {
        assert!(text.contains(&part), "{text}");
    }
}

#[test]
fn a_component_that_comes_later_is_told_then() {
    let mut app = app(2);
    app.rollback::<At>().add_systems(FixedUpdate, heat);
    assert_eq!(warnings(&mut app), []);
    app.world_mut().spawn(Heat(0));
    assert_eq!(warnings(&mut app), []);
    app.world_mut().spawn((Rollback, Heat(0)));
    assert_eq!(warnings(&mut app).len(), 1);
}

#[test]
fn a_system_that_comes_later_is_looked_at_then() {
    let mut app = game(3);
    app.add_systems(FixedUpdate, go);
    assert_eq!(warnings(&mut app), []);
    app.add_systems(FixedUpdate, heat);
    assert_eq!(warnings(&mut app).len(), 1);
    app.add_systems(FixedUpdate, turn);
    assert_eq!(warnings(&mut app).len(), 2);
}

#[test]
fn a_resource_that_is_written_and_not_registered_is_told_with_the_fix() {
    let mut app = game(4);
    app.add_systems(FixedUpdate, score);
    let warnings = warnings(&mut app);
    let [RollbackWarning::Resource { of, by }] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(of.ends_with("::Score") && by.ends_with("::score"), "{of} {by}");
    assert!(warnings[0].to_string().contains(&format!(".rollback_resource::<{of}>()")));
}

#[test]
fn what_is_registered_or_ignored_is_not_told() {
    let mut app = game(5);
    app.rollback_resource::<Score>()
        .rollback_ignore::<Heat>()
        .add_systems(FixedUpdate, (heat, score));
    assert_eq!(warnings(&mut app), []);
    play(&mut app, 30).assert_same();
}

#[test]
fn what_bevy_and_the_plugin_write_is_not_told() {
    #[derive(Message)]
    struct Hit;

    let mut app = game(6);
    app.add_drawn::<At>().add_message::<Hit>().add_systems(
        FixedUpdate,
        (
            go,
            |mut out: MessageWriter<Hit>| _ = out.write(Hit),
            |mut time: ResMut<Time<Virtual>>| time.set_relative_speed(1.0),
        )
            .chain(),
    );
    assert_eq!(warnings(&mut app), []);
}

#[test]
fn systems_that_use_the_same_state_in_any_order_are_told_with_the_fix() {
    let mut app = game(7);
    app.add_systems(FixedUpdate, (go, turn));
    let found = warnings(&mut app);
    let [RollbackWarning::Ambiguous { systems, on }] = &found[..] else { panic!("{found:?}") };
    let mut systems = systems.clone();
    systems.sort();
    assert!(systems[0].ends_with("::go") && systems[1].ends_with("::turn"), "{systems:?}");
    assert!(on.len() == 1 && on[0].ends_with("::At"), "{on:?}");
    let text = found[0].to_string();
    assert!(text.contains(".chain()") && text.contains(".ambiguous_with()"), "{text}");

    let mut reads = game(8);
    reads.add_systems(FixedUpdate, (go, look));
    assert_eq!(warnings(&mut reads).len(), 1);
}

#[test]
fn systems_whose_order_is_decided_or_does_not_matter_are_not_told() {
    let mut app = game(9);
    app.add_systems(FixedUpdate, (go, turn).chain());
    app.add_systems(FixedUpdate, (look.after(turn), look.after(turn)));
    app.add_systems(FixedPostUpdate, turn);
    assert_eq!(warnings(&mut app), []);
    let mut agreed = game(10);
    agreed.add_systems(FixedUpdate, (go, turn.ambiguous_with(go)));
    assert_eq!(warnings(&mut agreed), []);
    // They share only what is not rolled back.
    let mut other = game(11);
    other.rollback_ignore::<Heat>().add_systems(FixedUpdate, (heat, heat));
    assert_eq!(warnings(&mut other), []);
}

#[test]
fn a_system_with_the_whole_world_is_told_if_its_order_is_open() {
    fn all(world: &mut World) {
        world.query::<&mut At>().iter_mut(world).for_each(|mut at| at.0 += 1);
    }

    let mut app = game(12);
    app.add_systems(FixedUpdate, (all, go));
    let found = warnings(&mut app);
    assert!(
        matches!(&found[..], [RollbackWarning::Ambiguous { on, .. }] if on.is_empty()),
        "{found:?}"
    );
    // The state is kept in the same schedule.
    let mut first = game(13);
    first.add_systems(FixedFirst, go);
    assert_eq!(warnings(&mut first).len(), 1);
    let mut after = game(14);
    after.add_systems(FixedFirst, go.after(RollbackSystems::Save));
    assert_eq!(warnings(&mut after), []);
}

#[test]
#[should_panic(expected = "is not rolled back")]
fn a_test_of_a_game_fails_with_warnings() {
    let mut app = game(15);
    app.add_systems(FixedUpdate, heat);
    play(&mut app, 30).assert_same();
}
