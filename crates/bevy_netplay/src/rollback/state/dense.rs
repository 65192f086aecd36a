//! Small plain types: every state has a copy of every value, in the order of the tables.
//!
//! A copy of a row of bytes costs less than to find out which of them have changed.

use bevy_ecs::component::Mutable;
use bevy_ecs::prelude::*;
use bevy_ecs::query::QueryState;

use super::column::{Column, Loading, Reading, Saving, Take, is_newer};
use super::layout::{Hidden, Layout, Places};
use crate::rollback::encode::{Encode, hash};
use crate::rollback::id::RollbackId;

/// No rows of a span have the component.
const NONE: u32 = u32::MAX;

struct Rows<C> {
    values: Vec<C>,
    /// Of each span of the layout, where its values begin.
    starts: Vec<u32>,
}

/// The values of one type in every state that is kept.
pub(super) struct Dense<C: Component<Mutability = Mutable>> {
    read: QueryState<(Entity, &'static C, Hidden), With<RollbackId>>,
    write: QueryState<(Entity, &'static mut C, Hidden), With<RollbackId>>,
    slots: Vec<Rows<C>>,
    encode: Option<Encode<C>>,
    /// For reuse: the first entity of each table, and where its values begin.
    tables: Vec<(Entity, u32)>,
}

impl<C: Component<Mutability = Mutable> + Clone> Dense<C> {
    pub(super) fn new(world: &mut World, slots: usize, encode: Option<Encode<C>>) -> Self {
        let rows = || Rows { values: Vec::new(), starts: Vec::new() };
        Self {
            read: world.query_filtered(),
            write: world.query_filtered(),
            slots: (0..slots).map(|_| rows()).collect(),
            encode,
            tables: Vec::new(),
        }
    }

    /// The value at a row of a layout.
    fn at(&self, slot: usize, layout: &Layout, row: usize) -> Option<&C> {
        let span = layout.span_at(row);
        let rows = &self.slots[slot];
        let start = *rows.starts.get(span)?;
        let offset = row - layout.spans[span].start;
        (start != NONE).then(|| &rows.values[start as usize + offset])
    }
}

impl<C: Component<Mutability = Mutable> + Clone> Column for Dense<C> {
    fn save(&mut self, world: &mut World, saving: &Saving<'_>) {
        let mut rows = core::mem::replace(
            &mut self.slots[saving.slot],
            Rows { values: Vec::new(), starts: Vec::new() },
        );
        rows.values.clear();
        rows.starts.clear();
        if let Some(before) = saving.same_as {
            rows.starts.extend_from_slice(&self.slots[before].starts);
        } else {
            rows.starts.resize(saving.layout.spans.len(), NONE);
        }
        let chunks = self.read.contiguous_iter(world);
        for (entities, values, _) in chunks.into_iter().flatten() {
            let Some(first) = entities.first() else { continue };
            if saving.same_as.is_none()
                && let Some(span) = saving.layout.span_of(world, *first)
            {
                rows.starts[span] = rows.values.len() as u32;
            }
            rows.values.extend_from_slice(values);
        }
        self.slots[saving.slot] = rows;
    }

    fn rewind(&mut self, _: usize) {}

    fn forget_oldest(&mut self) {}

    fn load_rows(&mut self, world: &mut World, loading: &Loading<'_>) {
        let now = world.change_tick();
        let Self { write, slots, tables, .. } = self;
        let rows = &slots[loading.slot];
        // Where the rows of each chunk begin; the world cannot be asked while it is written.
        tables.clear();
        for (entities, ..) in self.read.contiguous_iter(world).into_iter().flatten() {
            let span = entities.first().and_then(|first| loading.layout.span_of(world, *first));
            let start = span.and_then(|span| rows.starts.get(span));
            tables.extend(entities.first().map(|first| (*first, start.copied().unwrap_or(NONE))));
        }
        let chunks = write.contiguous_iter_mut(world);
        for (entities, mut values, _) in chunks.into_iter().flatten() {
            let first = entities.first();
            let Some((_, start)) = tables.iter().find(|(entity, _)| Some(entity) == first) else {
                continue;
            };
            let here = values.bypass_change_detection();
            let start = *start as usize;
            if let Some(saved) = rows.values.get(start..start.saturating_add(here.len())) {
                here.clone_from_slice(saved);
            }
            for tick in values.changed_ticks_slice_mut() {
                *tick = if is_newer(*tick, loading.since, now) { now } else { *tick };
            }
        }
    }

    fn fix(
        &mut self,
        world: &mut World,
        entity: Entity,
        row: usize,
        loading: &Loading<'_>,
    ) -> bool {
        let value = self.at(loading.slot, loading.layout, row);
        let Ok(mut entity) = world.get_entity_mut(entity) else { return false };
        match (value, entity.contains::<C>()) {
            (Some(value), false) => {
                entity.insert(value.clone());
                true
            }
            (None, true) => {
                entity.remove::<C>();
                true
            }
            _ => false,
        }
    }

    fn take_away(&mut self, world: &mut World, entity: Entity) {
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.remove::<C>();
        }
    }

    fn load_places(&mut self, world: &mut World, places: &Places, loading: &Loading<'_>) {
        let now = world.change_tick();
        let rows = &self.slots[loading.slot];
        let layout = loading.layout;
        let chunks = self.write.contiguous_iter_mut(world);
        for (entities, mut values, _) in chunks.into_iter().flatten() {
            let here = values.bypass_change_detection();
            // The entities of a table were mostly in one table then, too.
            let mut span = 0;
            for (entity, value) in entities.iter().zip(here) {
                let Some(row) = places.row(layout, *entity) else { continue };
                let of = &layout.spans[span];
                if row < of.start || row >= of.start + of.len {
                    span = layout.span_at(row);
                }
                let start = rows.starts.get(span).copied().unwrap_or(NONE);
                if start != NONE {
                    let saved = &rows.values[start as usize + row - layout.spans[span].start];
                    value.clone_from(saved);
                }
            }
            for tick in values.changed_ticks_slice_mut() {
                *tick = if is_newer(*tick, loading.since, now) { now } else { *tick };
            }
        }
    }

    fn replace(&mut self, _: &[(Entity, Entity)]) {}

    fn read(&mut self, reading: &Reading<'_>, scratch: &mut Vec<u8>, take: Take<'_>) {
        let Some(encode) = self.encode else { return };
        let rows = &self.slots[reading.slot];
        for (span, start) in reading.layout.spans.iter().zip(&rows.starts) {
            if *start == NONE || span.dead {
                continue;
            }
            let values = rows.values[*start as usize..].iter().take(span.len);
            for (id, value) in reading.layout.ids[span.start..].iter().zip(values) {
                let id = id.in_type();
                encode(value, reading.id_of, scratch);
                take(id, hash(id, scratch), scratch);
            }
        }
    }
}
