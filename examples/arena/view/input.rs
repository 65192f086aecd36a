//! The keys.

use bevy::input::InputSystems;
use bevy::prelude::*;
use bevy_netplay::prelude::*;
use netplay_examples::playing;

use crate::game::{Controls, Say};

const LEFT: [KeyCode; 2] = [KeyCode::ArrowLeft, KeyCode::KeyA];
const RIGHT: [KeyCode; 2] = [KeyCode::ArrowRight, KeyCode::KeyD];
const THRUST: [KeyCode; 3] = [KeyCode::ArrowUp, KeyCode::KeyW, KeyCode::ShiftLeft];
const FIRE: [KeyCode; 2] = [KeyCode::Space, KeyCode::Enter];
const LINES: [&str; 6] = ["hi there", "catch me", "nice one", "ouch!", "well played", "once more?"];

/// Keys that went down since the last tick: a short tap counts even if no tick saw it held.
#[derive(Resource, Default)]
struct Taps {
    left: bool,
    right: bool,
    thrust: bool,
    fire: bool,
}

pub fn plugin(app: &mut App) {
    // Before the ticks of the same frame.
    app.init_resource::<Taps>()
        .add_systems(PreUpdate, (fly, talk.run_if(playing), pause, quit).after(InputSystems))
        .add_systems(FixedLast, |mut taps: ResMut<Taps>| *taps = Taps::default());
}

fn fly(keys: Res<ButtonInput<KeyCode>>, mut taps: ResMut<Taps>, mut controls: ResMut<Controls>) {
    taps.left |= keys.any_just_pressed(LEFT);
    taps.right |= keys.any_just_pressed(RIGHT);
    taps.thrust |= keys.any_just_pressed(THRUST);
    taps.fire |= keys.any_just_pressed(FIRE);
    let tapped = taps.left || taps.right || taps.thrust || taps.fire;
    if !controls.human && !tapped {
        return;
    }
    let left = taps.left || keys.any_pressed(LEFT);
    let right = taps.right || keys.any_pressed(RIGHT);
    *controls = Controls {
        turn: f32::from(left) - f32::from(right),
        thrust: taps.thrust || keys.any_pressed(THRUST),
        fire: taps.fire || keys.any_pressed(FIRE),
        human: true,
    };
}

fn talk(keys: Res<ButtonInput<KeyCode>>, mut say: MessageWriter<Say>, mut next: Local<usize>) {
    if keys.just_pressed(KeyCode::KeyT) {
        say.write(Say(LINES[*next % LINES.len()].into()));
        *next += 1;
    }
}

/// A pause for all, or its end.
fn pause(
    keys: Res<ButtonInput<KeyCode>>,
    lobby: Option<Single<(Entity, &Match)>>,
    mut commands: Commands,
) {
    let Some((entity, of)) = lobby.map(Single::into_inner) else { return };
    if !keys.just_pressed(KeyCode::KeyP) {
        return;
    }
    if of.timeline.pause().is_some_and(|pause| pause.until.is_none()) {
        commands.trigger(ResumeMatch { entity });
    } else {
        commands.trigger(PauseMatch { entity });
    }
}

fn quit(keys: Res<ButtonInput<KeyCode>>, mut exit: MessageWriter<AppExit>) {
    if keys.just_pressed(KeyCode::Escape) {
        exit.write(AppExit::Success);
    }
}
