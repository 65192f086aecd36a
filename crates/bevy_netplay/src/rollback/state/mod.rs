//! Saved states: what rollback entities and resources were before each of the last ticks.
//!
//! Each registered type is kept in one of two ways: small plain types as copies of whole columns
//! ([`dense`]), all others as a mirror with a log of what was replaced ([`undo`]).
//!
//! Guaranteed: after a load, every rollback entity has the registered components that it had, with the
//! values that they had; entities that were spawned later are gone. Rows that differ from what was saved
//! count as changed, and no others that were not written since. Nothing is allocated while the entities
//! and their components stay the same.
//! Not guaranteed: the order of rows in their tables.

mod column;
mod dense;
mod layout;
#[cfg(test)]
mod tests;
mod undo;

use std::collections::VecDeque;
use std::sync::Arc;

use bevy_ecs::change_detection::Tick;
use bevy_ecs::component::{ComponentId, Mutable, StorageType};
use bevy_ecs::prelude::*;
use bevy_ecs::query::QueryState;

use crate::rollback::despawn::Despawned;
use crate::rollback::encode::{Encode, encode};
use crate::rollback::id::{NextId, Rollback, RollbackId};
use column::{Column, Loading, Reading, Saving};
use dense::Dense;
use layout::{Layout, Live, Places, table_of};
use undo::Undo;

/// Types up to this size are copied whole; a larger one that does not change costs less in a log.
const DENSE_MAX: usize = 64;

/// Whether a type is copied whole.
const fn is_dense<C: Component>() -> bool {
    let table = matches!(C::STORAGE_TYPE, StorageType::Table);
    table && !core::mem::needs_drop::<C>() && size_of::<C>() <= DENSE_MAX
}

/// A state that is kept.
struct Frame {
    /// The tick that runs next.
    tick: i32,
    slot: usize,
    layout: Arc<Layout>,
    /// What is written from this change tick on was written after the state.
    since: Tick,
    /// The id that was to be given next.
    next_id: NextId,
}

/// Where a world has its [`States`].
#[derive(Resource)]
pub(crate) struct SavedStates(Option<Box<States>>);

impl SavedStates {
    pub(crate) fn new(states: States) -> Self {
        Self(Some(Box::new(states)))
    }

    /// Lends them out while the world is changed. `World::resource_scope` would move them out of their
    /// table and back, and note a removal each time, which takes memory until somebody clears those.
    ///
    /// # Panics
    /// If they are lent out already, or were never there.
    pub(crate) fn scope<T>(world: &mut World, run: impl FnOnce(&mut World, &mut States) -> T) -> T {
        let lent = world.resource_mut::<Self>().0.take();
        let mut states = lent.expect("saved states are used by one at a time");
        let result = run(world, &mut states);
        world.resource_mut::<Self>().0 = Some(states);
        result
    }

    /// The tick before which the oldest state was kept.
    pub(crate) fn oldest(&self) -> Option<i32> {
        self.0.as_ref()?.oldest()
    }

    /// Forgets all states: the world is another one.
    pub(crate) fn forget_all(&mut self) {
        if let Some(states) = &mut self.0 {
            states.forget_all();
        }
    }
}

/// The saved states of a world.
pub(crate) struct States {
    /// The oldest first.
    frames: VecDeque<Frame>,
    columns: Vec<Box<dyn Column>>,
    /// Resources, each with its id and component.
    resources: Vec<(ComponentId, RollbackId)>,
    live: Live,
    dead: QueryState<(Entity, &'static Despawned)>,
    /// For reuse.
    buried: Vec<Entity>,
    places: Places,
    scratch: Vec<u8>,
    /// For reuse: the columns in which two tables differ.
    differ: Vec<usize>,
    /// In which rows of the layout the entity that is there was found.
    found: Vec<bool>,
    spare: Vec<usize>,
    slots: usize,
    /// What is written from this change tick on was written after the last save or load.
    since: Tick,
    /// The column of [`NextId`].
    next_id: usize,
}

/// A state that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no state before tick {0} is kept")]
pub struct NotKept(pub i32);

impl States {
    /// Keeps so many states.
    pub(crate) fn new(world: &mut World, kept: usize) -> Self {
        world.register_disabling_component::<Despawned>();
        world.init_resource::<NextId>();
        let (live, dead) = (world.query_filtered(), world.query());
        let since = world.increment_change_tick();
        let mut states = Self {
            frames: VecDeque::new(),
            columns: Vec::new(),
            resources: Vec::new(),
            live,
            dead,
            buried: Vec::new(),
            places: Places::default(),
            scratch: Vec::new(),
            found: Vec::new(),
            differ: Vec::new(),
            spare: (0..kept).collect(),
            slots: kept,
            since,
            next_id: 0,
        };
        states.register::<Despawned>(world, None);
        states.next_id = states.register_resource::<NextId>(world, Some(encode::<NextId>));
        states
    }

    /// The column of [`NextId`].
    pub(crate) const fn next_id(&self) -> usize {
        self.next_id
    }

    /// Saves this type of component from now on; gives its column. What cannot be encoded is not read.
    pub(crate) fn register<C: Component<Mutability = Mutable> + Clone>(
        &mut self,
        world: &mut World,
        encode: Option<Encode<C>>,
    ) -> usize {
        // A constant, so that only one of the two is compiled.
        self.columns.push(if const { is_dense::<C>() } {
            Box::new(Dense::<C>::new(world, self.slots, encode))
        } else {
            Box::new(Undo::<C, _>::in_place(world, encode))
        });
        self.columns.len() - 1
    }

    /// Saves this type of immutable component from now on: it is inserted again where it differs, which
    /// runs its hooks.
    pub(crate) fn register_immutable<C: Component + Clone>(
        &mut self,
        world: &mut World,
        encode: Option<Encode<C>>,
    ) -> usize {
        self.columns.push(Box::new(Undo::<C, _>::inserted(world, encode)));
        self.columns.len() - 1
    }

    /// Saves a resource from now on, whether it is there or not.
    pub(crate) fn register_resource<R: Resource<Mutability = Mutable> + Clone>(
        &mut self,
        world: &mut World,
        encode: Option<Encode<R>>,
    ) -> usize {
        let id = RollbackId::of_resource(self.resources.len() as u32);
        let component = world.register_component::<R>();
        self.resources.push((component, id));
        self.register::<R>(world, encode)
    }

    /// Resources are components of entities of their own, which get an id when they appear.
    fn mark_resources(&self, world: &mut World) {
        for (component, id) in &self.resources {
            if let Some(entity) = world.resource_entities().get(*component)
                && let Ok(mut entity) = world.get_entity_mut(entity)
                && !entity.contains::<RollbackId>()
            {
                entity.insert(*id);
            }
        }
    }

    /// Keeps the state as it is, before this tick, in place of any other that was kept for it. Of later
    /// ticks there is none: those are forgotten by the load that goes back.
    pub(crate) fn save(&mut self, world: &mut World, tick: i32) {
        self.mark_resources(world);
        debug_assert!(
            self.frames.back().is_none_or(|frame| frame.tick <= tick),
            "later states are loaded first"
        );
        let replaces = self.frames.back().is_some_and(|frame| frame.tick == tick);
        if replaces && let Some(frame) = self.frames.pop_back() {
            self.spare.push(frame.slot);
        }
        let next_id = *world.resource::<NextId>();
        let before = self.frames.back().filter(|frame| frame.next_id == next_id);
        let before = before.map(|frame| (frame.slot, frame.layout.clone()));
        let same = before.filter(|(_, layout)| layout.is_current(world, &mut self.live));
        let (same_as, layout) = match same {
            Some((slot, layout)) => (Some(slot), layout),
            None => (None, Arc::new(Layout::of(world, &mut self.live))),
        };
        let slot = self.free_slot();
        let saving = Saving { slot, layout: &layout, same_as, since: self.since, replaces };
        self.columns.iter_mut().for_each(|column| column.save(world, &saving));
        self.since = world.increment_change_tick();
        self.frames.push_back(Frame { tick, slot, layout, since: self.since, next_id });
        self.bury(world);
    }

    fn free_slot(&mut self) -> usize {
        loop {
            if let Some(slot) = self.spare.pop() {
                return slot;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.spare.push(frame.slot);
            self.columns.iter_mut().for_each(|column| column.forget_oldest());
        }
    }

    fn forget_all(&mut self) {
        while !self.frames.is_empty() {
            self.forget_oldest();
        }
    }

    /// Ends the entities that were dead before the oldest state.
    fn bury(&mut self, world: &mut World) {
        if let Some(oldest) = self.oldest() {
            self.bury_before(world, oldest);
        }
    }

    /// Ends all entities that are dead: nothing goes back any more.
    pub(crate) fn bury_all(&mut self, world: &mut World) {
        self.bury_before(world, i32::MAX);
    }

    /// Ends the entities that died before this tick: nothing goes back to before it any more.
    pub(crate) fn bury_before(&mut self, world: &mut World, tick: i32) {
        let old = |(_, despawned): &(Entity, &Despawned)| despawned.tick < tick;
        self.buried.extend(self.dead.iter(world).filter(old).map(|(entity, _)| entity));
        for entity in self.buried.drain(..) {
            // Its parent may have taken it along.
            let _ = world.try_despawn(entity);
        }
    }

    /// Goes back to the state that was kept before this tick; later ones are forgotten.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn load(&mut self, world: &mut World, tick: i32) -> Result<(), NotKept> {
        let place = self.frames.iter().position(|frame| frame.tick == tick).ok_or(NotKept(tick))?;
        self.mark_resources(world);
        let later = self.frames.len() - 1 - place;
        self.columns.iter_mut().for_each(|column| column.rewind(later));
        let forgotten = self.frames.drain(place + 1..).map(|frame| frame.slot);
        self.spare.extend(forgotten);
        let Some(frame) = self.frames.back() else { return Err(NotKept(tick)) };
        let (layout, slot, since) = (frame.layout.clone(), frame.slot, frame.since);
        let loading = Loading { slot, layout: &layout, since };
        let same_ids = frame.next_id == *world.resource::<NextId>();
        if same_ids && layout.is_current(world, &mut self.live) {
            self.columns.iter_mut().for_each(|column| column.load_rows(world, &loading));
        } else {
            self.load_changed(world, &loading);
        }
        self.since = world.increment_change_tick();
        if let Some(frame) = self.frames.back_mut() {
            frame.since = self.since;
        }
        Ok(())
    }

    /// The entities are not what they were: brings back those, and then their values.
    fn load_changed(&mut self, world: &mut World, loading: &Loading<'_>) {
        let layout = loading.layout;
        self.places.fill(layout);
        self.found.clear();
        self.found.resize(layout.entities.len(), false);
        let now = Layout::of(world, &mut self.live);
        let mut moved = Vec::new();
        for span in &now.spans {
            for at in span.start..span.start + span.len {
                let entity = &now.entities[at];
                let Some(row) = self.places.row(layout, *entity) else {
                    self.end(world, *entity);
                    continue;
                };
                self.found[row] = true;
                if now.ids[at] != layout.ids[row]
                    && let Some(mut id) = world.get_mut::<RollbackId>(*entity)
                {
                    *id = layout.ids[row];
                }
                if layout.spans[layout.span_at(row)].table != span.table {
                    moved.push((*entity, row));
                }
            }
        }
        let lost = self.respawn(world, layout, &mut moved);
        self.fix(world, &moved, loading);
        let named = if lost.is_empty() { None } else { self.rename(&lost) };
        let loading = Loading { layout: named.as_deref().unwrap_or(layout), ..*loading };
        self.places.fill(loading.layout);
        let Self { columns, places, .. } = self;
        columns.iter_mut().for_each(|column| column.load_places(world, places, &loading));
    }

    /// Gives entities the components that they had in these rows. Entities that went from one table to
    /// another differ in the same types.
    fn fix(&mut self, world: &mut World, moved: &[(Entity, usize)], loading: &Loading<'_>) {
        let Self { columns, differ, .. } = self;
        let mut last = None;
        for (entity, row) in moved {
            let then = loading.layout.spans[loading.layout.span_at(*row)].table;
            let way = (table_of(world, *entity), then);
            if last == Some(way) {
                for column in differ.iter() {
                    columns[*column].fix(world, *entity, *row, loading);
                }
            } else {
                last = Some(way);
                differ.clear();
            }
            // The first one on its way; or a component has brought another one with it.
            if table_of(world, *entity) != Some(then) {
                for (place, column) in columns.iter_mut().enumerate() {
                    if column.fix(world, *entity, *row, loading) && !differ.contains(&place) {
                        differ.push(place);
                    }
                }
            }
        }
    }

    /// Ends an entity that was spawned later. That of a resource stays, and loses it.
    fn end(&mut self, world: &mut World, entity: Entity) {
        if world.get::<RollbackId>(entity).is_some_and(|id| id.is_resource()) {
            self.columns.iter_mut().for_each(|column| column.take_away(world, entity));
        } else {
            let _ = world.try_despawn(entity);
        }
    }

    /// Spawns what is gone and was not dead yet; gives the old and the new entities, in the order of the old ones.
    fn respawn(
        &mut self,
        world: &mut World,
        layout: &Layout,
        moved: &mut Vec<(Entity, usize)>,
    ) -> Vec<(Entity, Entity)> {
        let mut lost = Vec::new();
        for (row, found) in self.found.iter().enumerate() {
            if *found || layout.is_dead(row) {
                continue;
            }
            let old = layout.entities[row];
            let id = layout.ids[row];
            // It may have stopped being one that is rolled back.
            let here = world.get_entity(old).is_ok();
            let mut new = if here { world.entity_mut(old) } else { world.spawn_empty() };
            // That of a resource is none of the simulation's entities.
            if id.is_resource() {
                new.insert(id)
            } else {
                new.insert((id, Rollback))
            };
            let new = new.id();
            moved.push((new, row));
            if !here {
                lost.push((old, new));
            }
        }
        lost.sort_unstable();
        self.columns.iter_mut().for_each(|column| column.replace(&lost));
        lost
    }

    /// In all states that are kept, other entities stand in for those that were lost. Gives the newest
    /// layout.
    fn rename(&mut self, lost: &[(Entity, Entity)]) -> Option<Arc<Layout>> {
        for frame in &mut self.frames {
            let mut layout = Layout::clone(&frame.layout);
            let renamed = lost.iter().filter(|(old, new)| layout.replace(*old, *new)).count();
            if renamed > 0 {
                frame.layout = Arc::new(layout);
            }
        }
        self.frames.back().map(|frame| frame.layout.clone())
    }

    /// Reads the state that is kept before this tick: the ids of the entities that are alive, in no order, and
    /// of each of these columns every value, encoded, with its entity's id and its hash.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn read(
        &mut self,
        tick: i32,
        columns: impl Iterator<Item = usize>,
        mut alive: impl FnMut(RollbackId),
        mut take: impl FnMut(usize, RollbackId, u64, &[u8]),
    ) -> Result<(), NotKept> {
        let place = self.frames.iter().position(|frame| frame.tick == tick).ok_or(NotKept(tick))?;
        let frame = &self.frames[place];
        let (slot, layout) = (frame.slot, frame.layout.clone());
        self.places.fill(&layout);
        let Self { places, scratch, .. } = self;
        let id_of = |entity| {
            let row = places.row(&layout, entity).filter(|row| !layout.is_dead(*row))?;
            Some(layout.ids[row])
        };
        let newer = self.frames.len() - 1 - place;
        let reading = Reading { slot, layout: &layout, places, newer, id_of: &id_of };
        for span in layout.spans.iter().filter(|span| !span.dead) {
            let ids = layout.ids[span.start..].iter().take(span.len);
            ids.filter(|id| !id.is_resource()).for_each(|id| alive(*id));
        }
        for (nth, column) in columns.enumerate() {
            let take = &mut |id, hash, bytes: &[u8]| take(nth, id, hash, bytes);
            self.columns[column].read(&reading, scratch, take);
        }
        Ok(())
    }

    /// How many states are kept.
    pub(crate) const fn kept(&self) -> usize {
        self.slots
    }

    /// The oldest state.
    pub(crate) fn oldest(&self) -> Option<i32> {
        self.frames.front().map(|frame| frame.tick)
    }
}
