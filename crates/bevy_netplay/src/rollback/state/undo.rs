//! Types with memory of their own, or large ones: a mirror of the last state, and a log of the values that
//! were replaced in it since the oldest one. What does not change costs nothing but a look at its tick.
//!
//! Not seen: a write that goes past change detection. What a value of the last state is on other machines,
//! and its hash, are kept with it once they were asked for, unless it names entities.

use std::collections::VecDeque;

use bevy_ecs::change_detection::Tick;
use bevy_ecs::component::{Mutable, StorageType};
use bevy_ecs::prelude::*;
use bevy_ecs::query::QueryState;

use super::column::{Column, Loading, Reading, Saving, Take, is_newer};
use super::layout::{Hidden, Places};
use crate::rollback::encode::{Encode, hash};
use crate::rollback::id::RollbackId;

/// Rows of a block, which is skipped if none has changed.
const BLOCK: usize = 16;

/// The value of an entity in the last state.
struct Kept<C> {
    entity: Entity,
    value: C,
    told: Option<Told>,
}

/// What a value is on other machines, of an entity that is called so.
struct Told {
    id: RollbackId,
    hash: u64,
    bytes: Box<[u8]>,
}

/// The last state.
pub(super) struct Mirror<C> {
    /// By the index of the entity.
    kept: Vec<Option<Kept<C>>>,
    /// By the index of the entity: in which round it was written by [`Column::rewind`].
    dirty: Vec<u32>,
    round: u32,
}

impl<C> Mirror<C> {
    fn get(&self, entity: Entity) -> Option<&C> {
        let kept = self.kept.get(entity.index_u32() as usize)?.as_ref()?;
        (kept.entity == entity).then_some(&kept.value)
    }

    /// Whether the value was written in this round.
    fn is_dirty(&self, entity: Entity) -> bool {
        self.dirty.get(entity.index_u32() as usize) == Some(&self.round)
    }
}

/// All values of rollback entities.
type All<C> = QueryState<(Entity, Ref<'static, C>, Hidden), With<RollbackId>>;

/// Writes values of the mirror into the world.
pub(super) trait Write<C: Component>: Send + Sync {
    /// Writes those that were written since, or are dirty.
    fn write(&mut self, world: &mut World, mirror: &Mirror<C>, since: Tick);
}

/// Writes a value over the one that is there.
pub(super) struct InPlace<C: Component<Mutability = Mutable>>(
    QueryState<(Entity, &'static mut C, Hidden), With<RollbackId>>,
);

impl<C: Component<Mutability = Mutable> + Clone> Write<C> for InPlace<C> {
    fn write(&mut self, world: &mut World, mirror: &Mirror<C>, since: Tick) {
        let now = world.change_tick();
        if C::STORAGE_TYPE == StorageType::SparseSet {
            for (entity, mut value, _) in self.0.iter_mut(world) {
                if (is_newer(value.last_changed(), since, now) || mirror.is_dirty(entity))
                    && let Some(kept) = mirror.get(entity)
                {
                    value.clone_from(kept);
                }
            }
            return;
        }
        for (entities, mut values, _) in self.0.contiguous_iter_mut(world).into_iter().flatten() {
            for (row, entity) in entities.iter().enumerate() {
                let changed = is_newer(values.changed_ticks_slice()[row], since, now);
                if (changed || mirror.is_dirty(*entity))
                    && let Some(kept) = mirror.get(*entity)
                {
                    values.bypass_change_detection()[row].clone_from(kept);
                    values.changed_ticks_slice_mut()[row] = now;
                }
            }
        }
    }
}

/// Inserts a value in place of the one that is there, which runs its hooks.
pub(super) struct Inserted<C: Component> {
    query: All<C>,
    /// For reuse.
    entities: Vec<Entity>,
}

impl<C: Component + Clone> Write<C> for Inserted<C> {
    fn write(&mut self, world: &mut World, mirror: &Mirror<C>, since: Tick) {
        let now = world.change_tick();
        self.entities.clear();
        for (entity, value, _) in self.query.iter(world) {
            if is_newer(value.last_changed(), since, now) || mirror.is_dirty(entity) {
                self.entities.push(entity);
            }
        }
        for entity in &self.entities {
            if let Some(value) = mirror.get(*entity)
                && let Ok(mut entity) = world.get_entity_mut(*entity)
            {
                entity.insert(value.clone());
            }
        }
    }
}

/// The values of one type in the last state, and what they were before.
pub(super) struct Undo<C: Component, W> {
    /// Taken out while it is iterated.
    query: Option<All<C>>,
    write: W,
    encode: Option<Encode<C>>,
    mirror: Mirror<C>,
    /// What was replaced, the oldest first: the entity, and its value if it had one.
    log: VecDeque<(Entity, Option<C>)>,
    /// Of each state that is kept, how many values were replaced after it.
    states: VecDeque<usize>,
    /// Values whose memory is used again.
    spare: Vec<C>,
    /// By the index of the entity: in which round it was seen.
    seen: Vec<u32>,
    round: u32,
    /// Entities that are looked at, for reuse.
    looked_at: Vec<Entity>,
    /// Entities whose values were replaced since the state that is read, each with the place of the first
    /// replacement in the log.
    replaced: Vec<(Entity, usize)>,
}

impl<C: Component<Mutability = Mutable> + Clone> Undo<C, InPlace<C>> {
    pub(super) fn in_place(world: &mut World, encode: Option<Encode<C>>) -> Self {
        let write = InPlace(world.query_filtered());
        Self::new(world, write, encode)
    }
}

impl<C: Component + Clone> Undo<C, Inserted<C>> {
    pub(super) fn inserted(world: &mut World, encode: Option<Encode<C>>) -> Self {
        let write = Inserted { query: world.query_filtered(), entities: Vec::new() };
        Self::new(world, write, encode)
    }
}

impl<C: Component + Clone, W: Write<C>> Undo<C, W> {
    fn new(world: &mut World, write: W, encode: Option<Encode<C>>) -> Self {
        Self {
            query: Some(world.query_filtered()),
            write,
            encode,
            mirror: Mirror { kept: Vec::new(), dirty: Vec::new(), round: 0 },
            log: VecDeque::new(),
            states: VecDeque::new(),
            spare: Vec::new(),
            seen: Vec::new(),
            round: 0,
            looked_at: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Notes that a value was replaced after the newest state that is kept.
    fn note(&mut self, entity: Entity, old: Option<C>) {
        if self.states.is_empty() {
            self.spare.extend(old);
        } else {
            self.log.push_back((entity, old));
        }
    }

    fn copy(&mut self, value: &C) -> C {
        match self.spare.pop() {
            Some(mut spare) => {
                spare.clone_from(value);
                spare
            }
            None => value.clone(),
        }
    }

    /// Takes a value that has changed into the mirror.
    fn take(&mut self, entity: Entity, value: &C) {
        let index = entity.index_u32() as usize;
        if index >= self.mirror.kept.len() {
            self.mirror.kept.resize_with(index + 1, || None);
        }
        let mut fresh = self.copy(value);
        if let Some(kept) = self.mirror.kept[index].as_mut().filter(|kept| kept.entity == entity) {
            core::mem::swap(&mut kept.value, &mut fresh);
            kept.told = None;
            self.note(entity, Some(fresh));
            return;
        }
        // An index is used again for another entity.
        let fresh = Kept { entity, value: fresh, told: None };
        if let Some(old) = self.mirror.kept[index].replace(fresh) {
            self.note(old.entity, Some(old.value));
        }
        self.note(entity, None);
    }

    /// Finds what was replaced since a state, and what it was in that state.
    fn find_replaced(&mut self, newer: usize) {
        let since = self.states.len() - newer.min(self.states.len()) - 1;
        let count: usize = self.states.range(since..).sum();
        let first = self.log.len() - count;
        self.replaced.clear();
        let log = self.log.range(first..).enumerate();
        self.replaced.extend(log.map(|(place, (entity, _))| (*entity, first + place)));
        self.replaced.sort_unstable();
        self.replaced.dedup_by_key(|(entity, _)| *entity);
    }

    /// Entities that have lost the component, or are gone.
    fn take_losses(&mut self) {
        for index in 0..self.mirror.kept.len() {
            if self.seen.get(index) != Some(&self.round)
                && let Some(old) = self.mirror.kept[index].take()
            {
                self.note(old.entity, Some(old.value));
            }
        }
    }

    /// Takes what has changed since the last save; the same entities have the component.
    fn take_changes(&mut self, world: &World, since: Tick) {
        let now = world.read_change_tick();
        let Some(mut query) = self.query.take() else { return };
        for (entities, values, _) in query.contiguous_iter(world).into_iter().flatten() {
            let (ticks, values) = (values.changed_ticks_slice(), values.into_inner());
            for (block, of_block) in ticks.chunks(BLOCK).enumerate() {
                let changed = of_block.iter().map(|tick| is_newer(*tick, since, now));
                if !changed.fold(false, |any, changed| any | changed) {
                    continue;
                }
                for (row, tick) in of_block.iter().enumerate() {
                    if is_newer(*tick, since, now) {
                        let row = block * BLOCK + row;
                        self.take(entities[row], &values[row]);
                    }
                }
            }
        }
        self.query = Some(query);
    }

    /// Takes what has changed since the last save, and what is not there any more.
    fn catch_up(&mut self, world: &World, since: Tick) {
        let now = world.read_change_tick();
        self.round = self.round.wrapping_add(1).max(1);
        let Some(mut query) = self.query.take() else { return };
        for (entity, value, _) in query.iter(world) {
            // It may have become a rollback entity long after the value was written.
            if is_newer(value.last_changed(), since, now) || self.mirror.get(entity).is_none() {
                self.take(entity, &value);
            }
            mark_at(&mut self.seen, entity.index_u32() as usize, self.round);
        }
        self.query = Some(query);
        self.take_losses();
    }

    /// Gives and takes components that do not show in the table of an entity.
    fn fix_all(&mut self, world: &mut World) {
        let Some(query) = &mut self.query else { return };
        let mut entities = core::mem::take(&mut self.looked_at);
        entities.clear();
        entities.extend(query.iter(world).map(|(entity, ..)| entity));
        entities.extend(self.mirror.kept.iter().flatten().map(|kept| kept.entity));
        entities.iter().for_each(|entity| {
            self.give_or_take(world, *entity);
        });
        self.looked_at = entities;
    }

    /// Whether it had to.
    fn give_or_take(&self, world: &mut World, entity: Entity) -> bool {
        let Ok(mut here) = world.get_entity_mut(entity) else { return false };
        match (self.mirror.get(entity), here.contains::<C>()) {
            (Some(value), false) => {
                here.insert(value.clone());
                true
            }
            (None, true) => {
                here.remove::<C>();
                true
            }
            _ => false,
        }
    }

    /// Writes the mirror's value if it is not the one that is there.
    fn write_changed(&mut self, world: &mut World, loading: &Loading<'_>) {
        if C::STORAGE_TYPE == StorageType::SparseSet {
            self.fix_all(world);
        }
        self.write.write(world, &self.mirror, loading.since);
    }
}

fn mark_at(rounds: &mut Vec<u32>, index: usize, round: u32) {
    if index >= rounds.len() {
        rounds.resize(index + 1, 0);
    }
    rounds[index] = round;
}

impl<C: Component + Clone, W: Write<C>> Column for Undo<C, W> {
    fn save(&mut self, world: &mut World, saving: &Saving<'_>) {
        if saving.replaces {
            self.states.pop_back();
        }
        let noted = self.log.len();
        // What is replaced may have had other entities than the state before it.
        let same = saving.same_as.is_some() && !saving.replaces;
        if same && C::STORAGE_TYPE == StorageType::Table {
            self.take_changes(world, saving.since);
        } else {
            self.catch_up(world, saving.since);
        }
        if let Some(count) = self.states.back_mut() {
            *count += self.log.len() - noted;
        }
        self.states.push_back(0);
    }

    fn rewind(&mut self, states: usize) {
        let Mirror { kept, dirty, round } = &mut self.mirror;
        *round = round.wrapping_add(1).max(1);
        let mut noted = 0;
        for _ in 0..states {
            self.states.pop_back();
            // What was replaced after the state that is the newest now.
            noted += self.states.back_mut().map_or(0, core::mem::take);
        }
        // Of each entity the oldest is what it was; the later ones are of states that are forgotten.
        for (entity, old) in self.log.drain(self.log.len().saturating_sub(noted)..) {
            let index = entity.index_u32() as usize;
            if dirty.get(index) == Some(round) {
                self.spare.extend(old);
                continue;
            }
            mark_at(dirty, index, *round);
            let replaced = match old {
                Some(value) => kept[index].replace(Kept { entity, value, told: None }),
                None => kept[index].take(),
            };
            self.spare.extend(replaced.map(|kept| kept.value));
        }
    }

    fn forget_oldest(&mut self) {
        for _ in 0..self.states.pop_front().unwrap_or(0) {
            let old = self.log.pop_front().and_then(|(_, old)| old);
            self.spare.extend(old);
        }
    }

    fn load_rows(&mut self, world: &mut World, loading: &Loading<'_>) {
        self.write_changed(world, loading);
    }

    fn fix(&mut self, world: &mut World, entity: Entity, _: usize, _: &Loading<'_>) -> bool {
        self.give_or_take(world, entity)
    }

    fn take_away(&mut self, world: &mut World, entity: Entity) {
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.remove::<C>();
        }
    }

    fn load_places(&mut self, world: &mut World, _: &Places, loading: &Loading<'_>) {
        self.write_changed(world, loading);
    }

    fn replace(&mut self, lost: &[(Entity, Entity)]) {
        for (entity, _) in &mut self.log {
            if let Ok(place) = lost.binary_search_by_key(entity, |(old, _)| *old) {
                *entity = lost[place].1;
            }
        }
        let all = &mut self.mirror.kept;
        let mut moved = Vec::new();
        // All are taken before any is put: a new one may have the index of another old one.
        for (old, new) in lost {
            let kept = all.get_mut(old.index_u32() as usize);
            moved.push((*new, kept.and_then(|kept| kept.take_if(|kept| kept.entity == *old))));
        }
        for (new, kept) in moved {
            let index = new.index_u32() as usize;
            if index >= all.len() {
                // The log names it, too.
                all.resize_with(index + 1, || None);
            }
            if let Some(kept) = kept {
                all[index] = Some(Kept { entity: new, ..kept });
            }
        }
    }

    fn read(&mut self, reading: &Reading<'_>, scratch: &mut Vec<u8>, take: Take<'_>) {
        let Some(encode) = self.encode else { return };
        self.find_replaced(reading.newer);
        let id_of = |entity| {
            let row = reading.places.row(reading.layout, entity)?;
            reading.alive(row)
        };
        for (entity, place) in &self.replaced {
            if let (Some(id), Some(value)) = (id_of(*entity), &self.log[*place].1) {
                encode(value, reading.id_of, scratch);
                take(id, hash(id, scratch), scratch);
            }
        }
        for kept in self.mirror.kept.iter_mut().flatten() {
            let replaced = self.replaced.binary_search_by_key(&kept.entity, |(entity, _)| *entity);
            let Some(id) = id_of(kept.entity).filter(|_| replaced.is_err()) else { continue };
            if let Some(told) = kept.told.as_ref().filter(|told| told.id == id) {
                take(id, told.hash, &told.bytes);
                continue;
            }
            let names_entities = encode(&kept.value, reading.id_of, scratch);
            let hash = hash(id, scratch);
            take(id, hash, scratch);
            if !names_entities {
                kept.told = Some(Told { id, hash, bytes: scratch.as_slice().into() });
            }
        }
    }
}
