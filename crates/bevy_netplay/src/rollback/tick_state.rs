//! States of the simulation: Bevy's `States`, turned between two ticks and rolled back.

use bevy_app::{App, FixedFirst};
use bevy_ecs::prelude::*;
use bevy_state::prelude::{OnEnter, OnExit, OnTransition, State, States};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::clock::Begins;
use super::{AddRollback, RollbackSystems};

/// The state that the simulation is in; rolled back.
///
/// Add it with [`AddTickState::add_tick_state`], in place of `init_state`. What is set counts from the
/// beginning of the next tick on: then `OnExit`, `OnTransition` and `OnEnter` run, also when that tick is
/// run again, so what they do has to be simulation. `in_state` works in `FixedUpdate`.
///
/// Not supported: computed states, sub-states, and entities that are despawned with a state.
#[derive(Resource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickState<S> {
    now: S,
    next: Option<S>,
    /// Whether `OnEnter` of the first one has run.
    entered: bool,
}

impl<S: States> TickState<S> {
    /// The state.
    pub const fn get(&self) -> &S {
        &self.now
    }

    /// Another one from the next tick on.
    pub fn set(&mut self, next: S) {
        self.next = Some(next);
    }
}

/// Adds states of the simulation.
pub trait AddTickState {
    /// Adds [`TickState`] of this type, which begins with the default in every match, and rolls it back.
    fn add_tick_state<S>(&mut self) -> &mut Self
    where
        S: States + Default + Serialize + DeserializeOwned;
}

impl AddTickState for App {
    fn add_tick_state<S>(&mut self) -> &mut Self
    where
        S: States + Default + Serialize + DeserializeOwned,
    {
        let begin = |mut commands: Commands<'_, '_>| {
            let (now, next) = (S::default(), None);
            commands.insert_resource(TickState { now, next, entered: false });
        };
        self.insert_resource(TickState { now: S::default(), next: None, entered: false })
            .insert_resource(State::new(S::default()))
            .rollback_resource::<TickState<S>>()
            .add_systems(FixedFirst, turn::<S>.after(RollbackSystems::Save))
            .add_systems(Begins, begin)
    }
}

/// A tick begins: what was set counts, and `State` is what it is here, also after a rollback.
fn turn<S: States>(world: &mut World) {
    let here = world.resource::<TickState<S>>();
    let (before, next, entered) = (here.now.clone(), here.next.clone(), here.entered);
    let entering = next.filter(|next| *next != before);
    if entering.is_some() || !entered || here.next.is_some() {
        let mut here = world.resource_mut::<TickState<S>>();
        (here.next, here.entered) = (None, true);
    }
    if !entered {
        show(world, &before);
        let _ = world.try_run_schedule(OnEnter(before.clone()));
    }
    let Some(entered) = entering else { return show(world, &before) };
    let _ = world.try_run_schedule(OnExit(before.clone()));
    show(world, &entered);
    world.resource_mut::<TickState<S>>().now = entered.clone();
    let transition = OnTransition { exited: before, entered: entered.clone() };
    let _ = world.try_run_schedule(transition);
    let _ = world.try_run_schedule(OnEnter(entered));
}

/// Puts it where `in_state` looks.
fn show<S: States>(world: &mut World, now: &S) {
    if world.get_resource::<State<S>>().is_none_or(|shown| shown.get() != now) {
        world.insert_resource(State::new(now.clone()));
    }
}
