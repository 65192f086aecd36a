//! Types with memory of their own, or large ones: a mirror of the last state, and a log of the values that
//! were replaced in it since the oldest one. What does not change costs nothing but a look at its tick.
//!
//! Not seen: a write that goes past change detection. What a value of the last state is on other machines,
//! and its hash, are kept with it once they were asked for, unless it names entities.

use std::collections::VecDeque;

use bevy_ecs::change_detection::Tick;
use bevy_ecs::component::StorageType;
use bevy_ecs::prelude::*;
use bevy_ecs::query::QueryState;
use bevy_ecs::world::EntityWorldMut;

use super::column::{Column, Loading, Reading, Saving, Take, is_newer};
use super::layout::{Hidden, Places};
use crate::rollback::encode::{Encode, hash};
use crate::rollback::id::RollbackId;

/// The value of an entity in the last state.
struct Kept<C> {
    entity: Entity,
    value: C,
    told: Option<Told>,
}

/// What a value is on other machines.
struct Told {
    hash: u64,
    bytes: Box<[u8]>,
}

/// All values of rollback entities.
type All<C> = QueryState<(Entity, Ref<'static, C>, Hidden), With<RollbackId>>;

/// Writes a value over another one: in place, or with the hooks of an immutable component.
pub(super) type Write<C> = fn(&mut EntityWorldMut<'_>, &C);

/// The values of one type in the last state, and what they were before.
pub(super) struct Undo<C: Component> {
    /// Taken out while it is iterated.
    query: Option<All<C>>,
    write: Write<C>,
    encode: Option<Encode<C>>,
    /// By the index of the entity.
    mirror: Vec<Option<Kept<C>>>,
    /// What was replaced, the oldest first: the entity, and its value if it had one.
    log: VecDeque<(Entity, Option<C>)>,
    /// Of each state that is kept, how many values were replaced after it.
    states: VecDeque<usize>,
    /// Values whose memory is used again.
    spare: Vec<C>,
    /// By the index of the entity: in which round it was seen, or written by [`Column::rewind`].
    seen: Vec<u32>,
    dirty: Vec<u32>,
    round: u32,
    /// Entities whose values are written.
    writes: Vec<Entity>,
    /// Entities whose values were replaced since the state that is read, each with the place of the first
    /// replacement in the log.
    replaced: Vec<(Entity, usize)>,
}

impl<C: Component + Clone> Undo<C> {
    pub(super) fn new(world: &mut World, write: Write<C>, encode: Option<Encode<C>>) -> Self {
        Self {
            query: Some(world.query_filtered()),
            write,
            encode,
            mirror: Vec::new(),
            log: VecDeque::new(),
            states: VecDeque::new(),
            spare: Vec::new(),
            seen: Vec::new(),
            dirty: Vec::new(),
            round: 0,
            writes: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Notes that a value was replaced, for the newest state that is kept.
    fn note(&mut self, entity: Entity, old: Option<C>) {
        if let Some(count) = self.states.back_mut() {
            *count += 1;
            self.log.push_back((entity, old));
        } else {
            self.spare.extend(old);
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
        if index >= self.mirror.len() {
            self.mirror.resize_with(index + 1, || None);
        }
        let fresh = Kept { entity, value: self.copy(value), told: None };
        match self.mirror[index].replace(fresh) {
            Some(old) if old.entity == entity => self.note(entity, Some(old.value)),
            old => {
                // An index is used again for another entity.
                if let Some(old) = old {
                    self.note(old.entity, Some(old.value));
                }
                self.note(entity, None);
            }
        }
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

    fn kept(&self, entity: Entity) -> Option<&C> {
        let kept = self.mirror.get(entity.index_u32() as usize)?.as_ref()?;
        (kept.entity == entity).then_some(&kept.value)
    }

    /// Entities that have lost the component, or are gone.
    fn take_losses(&mut self) {
        for index in 0..self.mirror.len() {
            if self.seen.get(index) != Some(&self.round)
                && let Some(old) = self.mirror[index].take()
            {
                self.note(old.entity, Some(old.value));
            }
        }
    }

    /// Takes what has changed since the last save, and what is not there any more.
    fn catch_up(&mut self, world: &World, since: Tick, look_for_losses: bool) {
        let now = world.read_change_tick();
        self.round = self.round.wrapping_add(1).max(1);
        let Some(mut query) = self.query.take() else { return };
        if let Ok(chunks) = query.contiguous_iter(world) {
            for (entities, values, _) in chunks {
                let ticks = values.changed_ticks_slice();
                for ((entity, value), tick) in entities.iter().zip(values.iter()).zip(ticks) {
                    self.see(*entity, value, is_newer(*tick, since, now), look_for_losses);
                }
            }
        } else {
            for (entity, value, _) in query.iter(world) {
                let changed = is_newer(value.last_changed(), since, now);
                self.see(entity, &value, changed, look_for_losses);
            }
        }
        self.query = Some(query);
        if look_for_losses {
            self.take_losses();
        }
    }

    fn see(&mut self, entity: Entity, value: &C, changed: bool, mark: bool) {
        // It may have become a rollback entity long after the value was written.
        if changed || self.kept(entity).is_none() {
            self.take(entity, value);
        }
        if mark {
            let index = entity.index_u32() as usize;
            mark_at(&mut self.seen, index, self.round);
        }
    }

    /// Gives and takes components that do not show in the table of an entity.
    fn fix_all(&mut self, world: &mut World) {
        let Some(query) = &mut self.query else { return };
        self.writes.clear();
        self.writes.extend(query.iter(world).map(|(entity, ..)| entity));
        self.writes.extend(self.mirror.iter().flatten().map(|kept| kept.entity));
        let writes = core::mem::take(&mut self.writes);
        writes.iter().for_each(|entity| self.give_or_take(world, *entity));
        self.writes = writes;
    }

    fn give_or_take(&self, world: &mut World, entity: Entity) {
        let Ok(mut here) = world.get_entity_mut(entity) else { return };
        match self.kept(entity) {
            Some(value) if !here.contains::<C>() => {
                here.insert(value.clone());
            }
            Some(_) => {}
            None => {
                here.remove::<C>();
            }
        }
    }

    /// Writes the mirror's value if it is not the one that is there.
    fn write_changed(&mut self, world: &mut World, loading: &Loading<'_>) {
        if C::STORAGE_TYPE == StorageType::SparseSet {
            self.fix_all(world);
        }
        let Some(query) = &mut self.query else { return };
        let now = world.read_change_tick();
        self.writes.clear();
        for (entity, value, _) in query.iter(world) {
            let changed = is_newer(value.last_changed(), loading.since, now);
            let index = entity.index_u32() as usize;
            if changed || self.dirty.get(index) == Some(&self.round) {
                self.writes.push(entity);
            }
        }
        for entity in &self.writes {
            if let Some(value) = self.kept(*entity)
                && let Ok(mut entity) = world.get_entity_mut(*entity)
            {
                (self.write)(&mut entity, value);
            }
        }
    }
}

fn mark_at(rounds: &mut Vec<u32>, index: usize, round: u32) {
    if index >= rounds.len() {
        rounds.resize(index + 1, 0);
    }
    rounds[index] = round;
}

impl<C: Component + Clone> Column for Undo<C> {
    fn save(&mut self, world: &mut World, saving: &Saving<'_>) {
        if saving.replaces {
            self.states.pop_back();
        }
        let losses = saving.same_as.is_none() || C::STORAGE_TYPE == StorageType::SparseSet;
        self.catch_up(world, saving.since, losses);
        self.states.push_back(0);
    }

    fn rewind(&mut self, states: usize) {
        self.round = self.round.wrapping_add(1).max(1);
        for _ in 0..states {
            self.states.pop_back();
            // What was replaced after the state that is the newest now.
            let count = self.states.back_mut().map_or(0, core::mem::take);
            for _ in 0..count {
                let Some((entity, old)) = self.log.pop_back() else { break };
                let index = entity.index_u32() as usize;
                mark_at(&mut self.dirty, index, self.round);
                let here = &mut self.mirror[index];
                let replaced = match old {
                    Some(value) => here.replace(Kept { entity, value, told: None }),
                    None => here.take(),
                };
                self.spare.extend(replaced.map(|kept| kept.value));
            }
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

    fn fix(&mut self, world: &mut World, entity: Entity, _: usize, _: &Loading<'_>) {
        self.give_or_take(world, entity);
    }

    fn take_away(&mut self, world: &mut World, entity: Entity) {
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.remove::<C>();
        }
    }

    fn load_places(&mut self, world: &mut World, _: &Places, loading: &Loading<'_>) {
        self.write_changed(world, loading);
    }

    fn replace(&mut self, old: Entity, new: Entity) {
        for (entity, _) in &mut self.log {
            if *entity == old {
                *entity = new;
            }
        }
        let (from, to) = (old.index_u32() as usize, new.index_u32() as usize);
        let is_old = |kept: &mut Kept<C>| kept.entity == old;
        if let Some(mut kept) = self.mirror.get_mut(from).and_then(|kept| kept.take_if(is_old)) {
            kept.entity = new;
            if to >= self.mirror.len() {
                self.mirror.resize_with(to + 1, || None);
            }
            self.mirror[to] = Some(kept);
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
        for kept in self.mirror.iter_mut().flatten() {
            let replaced = self.replaced.binary_search_by_key(&kept.entity, |(entity, _)| *entity);
            let Some(id) = id_of(kept.entity).filter(|_| replaced.is_err()) else { continue };
            if let Some(told) = &kept.told {
                take(id, told.hash, &told.bytes);
                continue;
            }
            let names_entities = encode(&kept.value, reading.id_of, scratch);
            let hash = hash(id, scratch);
            take(id, hash, scratch);
            if !names_entities {
                kept.told = Some(Told { hash, bytes: scratch.as_slice().into() });
            }
        }
    }
}
