//! Inputs are read once for each tick, however long frames are: no press is lost, none counts twice.

use std::time::Duration;

use bevy::prelude::*;
use bevy::time::{TimePlugin, TimeUpdateStrategy};
use bevy_netplay::rollback::{
    AddRollback, AddRollbackInput, LocalInputs, Player, PlayerInputs, ReadInputs, RollbackCheck,
    RollbackCheckPlugin, RollbackPlugin, TickButtons,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pad {
    jump: bool,
    holds: bool,
}

/// What the simulation saw, of the ticks as they were run the first time.
#[derive(Resource, Default)]
struct Seen {
    ticks: u32,
    jumps: u32,
    held: u32,
}

const TICK: Duration = Duration::from_micros(15_625);

fn app(frame: Duration) -> App {
    let mut app = App::new();
    app.add_plugins((TimePlugin, RollbackPlugin::default()))
        .add_rollback_input::<Pad>()
        .insert_resource(TimeUpdateStrategy::ManualDuration(frame))
        .init_resource::<ButtonInput<KeyCode>>()
        .init_resource::<Seen>()
        .rollback_ignore::<Seen>()
        .add_systems(
            ReadInputs,
            |keys: Res<TickButtons<KeyCode>>, mut local: ResMut<LocalInputs<Pad>>| {
                let (jump, holds) =
                    (keys.just_pressed(KeyCode::Space), keys.pressed(KeyCode::Space));
                local.set(Pad { jump, holds });
            },
        )
        .add_systems(FixedUpdate, |inputs: Res<PlayerInputs<Pad>>, mut seen: ResMut<Seen>| {
            let Pad { jump, holds } = inputs[Player(0)];
            seen.ticks += 1;
            seen.jumps += u32::from(jump);
            seen.held += u32::from(holds);
        });
    app
}

/// A frame in which the key is pressed, released, both or nothing.
fn frame(app: &mut App, presses: bool, releases: bool) {
    let mut keys = app.world_mut().resource_mut::<ButtonInput<KeyCode>>();
    keys.clear();
    if presses {
        keys.press(KeyCode::Space);
    }
    if releases {
        keys.release(KeyCode::Space);
    }
    app.update();
}

#[test]
fn a_press_counts_once_with_no_tick_one_or_several_in_a_frame() {
    for (name, length) in
        [("a fifth", TICK / 5), ("one", TICK), ("two", TICK * 2), ("1.3", TICK * 13 / 10)]
    {
        let mut app = app(length);
        for _ in 0..50 {
            frame(&mut app, true, true);
            (0..20).for_each(|_| frame(&mut app, false, false));
        }
        let seen = app.world().resource::<Seen>();
        assert_eq!((seen.jumps, seen.held), (50, 50), "{name} of a tick in a frame");
    }
}

#[test]
fn a_key_that_is_held_is_held_in_every_tick() {
    let mut app = app(TICK * 2);
    frame(&mut app, true, false);
    (0..9).for_each(|_| frame(&mut app, false, false));
    let seen = app.world().resource::<Seen>();
    // The first frame of an app has no time.
    assert_eq!((seen.ticks, seen.jumps, seen.held), (18, 1, 18));
}

#[test]
fn a_tick_that_is_run_again_has_the_inputs_that_it_had() {
    #[derive(Resource, Clone, Default, Serialize, Deserialize)]
    struct Height(u64);

    use bevy_netplay::rollback::AddRollback as _;
    let mut app = app(TICK);
    app.add_plugins(RollbackCheckPlugin { seed: 1 })
        .init_resource::<Height>()
        .rollback_resource::<Height>()
        .add_systems(FixedUpdate, |inputs: Res<PlayerInputs<Pad>>, mut height: ResMut<Height>| {
            height.0 = height.0.wrapping_mul(3) + u64::from(inputs[Player(0)].jump);
        });
    for i in 0..300 {
        frame(&mut app, i % 3 == 0, i % 3 == 1);
    }
    app.world().resource::<RollbackCheck>().assert_same();
}
