//! Buttons by ticks instead of frames: a press counts in one tick, whether a frame has none, one or several.

use core::hash::Hash;

use bevy_app::{App, PreUpdate};
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleLabel;
use bevy_input::{ButtonInput, InputSystems};

/// What was pressed since the last tick that was read: `ButtonInput`, for [`ReadInputs`](super::ReadInputs).
///
/// There for `KeyCode` and `MouseButton` as soon as the game has an input type; others with
/// [`AddTickButtons`].
///
/// Guaranteed: a press counts in exactly one tick as [just pressed](Self::just_pressed), the next that is
/// read, and in that tick as [pressed](Self::pressed) though it may be released by then.
#[derive(Resource, Debug)]
pub struct TickButtons<T> {
    held: Vec<T>,
    fresh: Vec<T>,
}

impl<T> Default for TickButtons<T> {
    fn default() -> Self {
        Self { held: Vec::new(), fresh: Vec::new() }
    }
}

impl<T: Copy + Eq> TickButtons<T> {
    /// Whether it is held, or was pressed since the last tick.
    pub fn pressed(&self, button: T) -> bool {
        self.held.contains(&button) || self.fresh.contains(&button)
    }

    /// Whether any of these is.
    pub fn any_pressed(&self, buttons: impl IntoIterator<Item = T>) -> bool {
        buttons.into_iter().any(|button| self.pressed(button))
    }

    /// Whether it was pressed since the last tick.
    pub fn just_pressed(&self, button: T) -> bool {
        self.fresh.contains(&button)
    }

    /// Whether any of these was.
    pub fn any_just_pressed(&self, buttons: impl IntoIterator<Item = T>) -> bool {
        buttons.into_iter().any(|button| self.just_pressed(button))
    }
}

/// A tick was read: what was pressed before it is not new any more.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InputsRead;

/// Adds buttons of other kinds.
pub trait AddTickButtons {
    /// [`TickButtons`] for a kind of button that has a `ButtonInput` resource.
    fn add_tick_buttons<T: Copy + Eq + Hash + Send + Sync + 'static>(&mut self) -> &mut Self;
}

impl AddTickButtons for App {
    fn add_tick_buttons<T: Copy + Eq + Hash + Send + Sync + 'static>(&mut self) -> &mut Self {
        self.init_resource::<TickButtons<T>>()
            .add_systems(
                PreUpdate,
                collect::<T>.after(InputSystems).run_if(resource_exists::<ButtonInput<T>>),
            )
            .add_systems(InputsRead, |mut buttons: ResMut<TickButtons<T>>| buttons.fresh.clear())
    }
}

fn collect<T: Copy + Eq + Hash + Send + Sync + 'static>(
    input: Res<ButtonInput<T>>,
    mut buttons: ResMut<TickButtons<T>>,
) {
    let TickButtons { held, fresh } = &mut *buttons;
    held.clear();
    held.extend(input.get_pressed());
    for button in input.get_just_pressed() {
        if !fresh.contains(button) {
            fresh.push(*button);
        }
    }
}
