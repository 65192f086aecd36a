//! What the store asks of the saved values of one type.

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;

use super::layout::{Layout, Places};
use crate::rollback::encode::IdOf;
use crate::rollback::id::RollbackId;

/// A state that is saved.
pub(super) struct Saving<'a> {
    /// Where the values go.
    pub(super) slot: usize,
    pub(super) layout: &'a Layout,
    /// The slot of the state before, if the entities are the same.
    pub(super) same_as: Option<usize>,
    /// Rows written since this tick have changed after the last save or load.
    pub(super) since: Tick,
    /// The newest state is replaced.
    pub(super) replaces: bool,
}

/// A state that is loaded.
pub(super) struct Loading<'a> {
    pub(super) slot: usize,
    pub(super) layout: &'a Layout,
    /// Rows written since this tick have changed after the state was saved.
    pub(super) since: Tick,
}

/// A state that is read.
pub(super) struct Reading<'a> {
    pub(super) slot: usize,
    pub(super) layout: &'a Layout,
    /// Where its entities are in the layout.
    pub(super) places: &'a Places,
    /// How many states were kept since.
    pub(super) newer: usize,
    /// The ids that entities had.
    pub(super) id_of: IdOf<'a>,
}

impl Reading<'_> {
    /// What a row is called on every machine, if it was alive.
    pub(super) fn alive(&self, row: usize) -> Option<RollbackId> {
        (!self.layout.is_dead(row)).then(|| self.layout.ids[row].in_type())
    }
}

/// Takes a value, encoded, with the id of its entity and its hash.
pub(super) type Take<'a> = &'a mut dyn FnMut(RollbackId, u64, &[u8]);

/// The saved values of one type of component.
pub(super) trait Column: Send + Sync {
    /// Saves the values as they are.
    fn save(&mut self, world: &mut World, saving: &Saving<'_>);
    /// Goes back so many states, before anything is written.
    fn rewind(&mut self, states: usize);
    /// The oldest state is forgotten.
    fn forget_oldest(&mut self);
    /// Writes the values; the entities are where they were.
    fn load_rows(&mut self, world: &mut World, loading: &Loading<'_>);
    /// Gives an entity the component if it had it, with its value, or takes it away; says whether it had to.
    fn fix(&mut self, world: &mut World, entity: Entity, row: usize, loading: &Loading<'_>)
    -> bool;
    /// Takes the component away from an entity that did not have it.
    fn take_away(&mut self, world: &mut World, entity: Entity);
    /// Writes the values; the same entities have the component as had it, in whatever rows.
    fn load_places(&mut self, world: &mut World, places: &Places, loading: &Loading<'_>);
    /// Other entities stand in for those that were despawned: old and new, in the order of the old ones.
    fn replace(&mut self, lost: &[(Entity, Entity)]);
    /// Gives every value as it is in a state that is kept, of entities that are alive in it; in no order.
    fn read(&mut self, reading: &Reading<'_>, scratch: &mut Vec<u8>, take: Take<'_>);
}

/// How ticks are compared in a loop without branches; as `Tick::is_newer_than`, for ticks that the world
/// has not had to clamp: those of one window of prediction.
#[inline]
pub(super) const fn is_newer(tick: Tick, since: Tick, now: Tick) -> bool {
    now.get().wrapping_sub(tick.get()) < now.get().wrapping_sub(since.get())
}
