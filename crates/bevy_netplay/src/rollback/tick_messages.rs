//! Messages between systems of the simulation.
//!
//! Bevy's `MessageReader` has a cursor of its own, which no rollback takes back. Here a message belongs to
//! the tick in which it was written, and every system that asks gets all of them.

use bevy_app::{App, FixedFirst};
use bevy_ecs::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::clock::Begins;
use super::{AddRollback, RollbackSystems};

/// Messages of the simulation, of this tick and of the last one; rolled back.
///
/// Add it with [`AddTickMessages::add_tick_messages`].
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::rollback::TickMessages;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Hit(u8);
///
/// fn strike(mut hits: ResMut<TickMessages<Hit>>) {
///     hits.write(Hit(1));
/// }
///
/// /// Runs after `strike`.
/// fn suffer(hits: Res<TickMessages<Hit>>) {
///     for Hit(player) in hits.read() {
///         // ...
///     }
/// }
/// ```
#[derive(Resource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickMessages<M: Send + Sync + 'static> {
    now: Vec<M>,
    last: Vec<M>,
}

impl<M: Send + Sync + 'static> Default for TickMessages<M> {
    fn default() -> Self {
        Self { now: Vec::new(), last: Vec::new() }
    }
}

impl<M: Send + Sync + 'static> TickMessages<M> {
    /// Writes a message of this tick.
    pub fn write(&mut self, message: M) {
        self.now.push(message);
    }

    /// What was written in this tick so far, by systems that run earlier.
    pub fn read(&self) -> core::slice::Iter<'_, M> {
        self.now.iter()
    }

    /// What was written in the last tick, for systems that run before those that write.
    pub fn read_last(&self) -> core::slice::Iter<'_, M> {
        self.last.iter()
    }
}

/// Adds messages of the simulation.
pub trait AddTickMessages {
    /// Adds [`TickMessages`] of this type, and rolls them back.
    fn add_tick_messages<M>(&mut self) -> &mut Self
    where
        M: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;
}

impl AddTickMessages for App {
    fn add_tick_messages<M>(&mut self) -> &mut Self
    where
        M: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.init_resource::<TickMessages<M>>()
            .rollback_resource::<TickMessages<M>>()
            .add_systems(FixedFirst, turn::<M>.after(RollbackSystems::Save))
            .add_systems(Begins, |mut messages: ResMut<TickMessages<M>>| {
                *messages = TickMessages::default();
            })
    }
}

/// A tick begins. What is empty stays untouched, so that it costs nothing to keep.
fn turn<M: Clone + Send + Sync + 'static>(mut messages: ResMut<TickMessages<M>>) {
    if !messages.now.is_empty() || !messages.last.is_empty() {
        let messages = &mut *messages;
        core::mem::swap(&mut messages.now, &mut messages.last);
        messages.now.clear();
    }
}
