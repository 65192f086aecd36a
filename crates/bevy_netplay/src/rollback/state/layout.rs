//! Which rollback entities there are, in which tables and rows: what columns of values refer to.

use bevy_ecs::prelude::*;
use bevy_ecs::query::QueryState;
use bevy_ecs::storage::TableId;

use crate::rollback::despawn::Despawned;
use crate::rollback::id::RollbackId;

/// Entities that are disabled are saved too.
pub(super) type Hidden = (Has<bevy_ecs::entity_disabling::Disabled>, Has<Despawned>);
/// All rollback entities, those of resources too.
pub(super) type Live = QueryState<(Entity, &'static RollbackId, Hidden), With<RollbackId>>;

/// No span.
const NONE: u32 = u32::MAX;

/// Rows of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) table: TableId,
    /// The first row, counted over all tables.
    pub(super) start: usize,
    pub(super) len: usize,
    /// Whether its entities were despawned in simulation.
    pub(super) dead: bool,
}

/// The entities as they were at one instant.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pub(super) spans: Vec<Span>,
    /// Of each table, which span it is; queries visit tables in any order.
    tables: Vec<u32>,
    pub(super) entities: Vec<Entity>,
    pub(super) ids: Vec<RollbackId>,
}

/// The table of an entity that is there.
pub(super) fn table_of(world: &World, entity: Entity) -> Option<TableId> {
    world.get_entity(entity).ok().map(|entity| entity.location().table_id)
}

/// Compares in blocks, which is many times faster than `==` on entities.
fn same(a: &[Entity], b: &[Entity]) -> bool {
    const BLOCK: usize = 64;
    let differ = |(a, b): (&Entity, &Entity)| a.to_bits() ^ b.to_bits();
    a.len() == b.len()
        && a.chunks(BLOCK)
            .zip(b.chunks(BLOCK))
            .all(|(a, b)| a.iter().zip(b).map(differ).fold(0, |all, bits| all | bits) == 0)
}

impl Layout {
    /// The entities as they are.
    pub(super) fn of(world: &World, live: &mut Live) -> Self {
        let mut layout = Self::default();
        let Ok(chunks) = live.contiguous_iter(world) else { return layout };
        for (entities, ids, (_, dead)) in chunks {
            let Some(table) = entities.first().and_then(|first| table_of(world, *first)) else {
                continue;
            };
            let (start, len) = (layout.entities.len(), entities.len());
            if table.as_usize() >= layout.tables.len() {
                layout.tables.resize(table.as_usize() + 1, NONE);
            }
            layout.tables[table.as_usize()] = layout.spans.len() as u32;
            layout.spans.push(Span { table, start, len, dead });
            layout.entities.extend_from_slice(entities);
            layout.ids.extend_from_slice(ids);
        }
        layout
    }

    /// Whether the entities are as they were: then values can be copied by row. Their ids are the same if no
    /// id was given since.
    pub(super) fn is_current(&self, world: &World, live: &mut Live) -> bool {
        let Ok(chunks) = live.contiguous_iter(world) else { return false };
        let mut seen = 0;
        for (entities, ..) in chunks {
            let Some(first) = entities.first() else { continue };
            let Some(span) = self.span_of(world, *first) else { return false };
            let span = &self.spans[span];
            if !same(&self.entities[span.start..span.start + span.len], entities) {
                return false;
            }
            seen += 1;
        }
        seen == self.spans.len()
    }

    /// The span of the table that an entity is in.
    pub(super) fn span_of(&self, world: &World, entity: Entity) -> Option<usize> {
        let span = *self.tables.get(table_of(world, entity)?.as_usize())?;
        (span != NONE).then_some(span as usize)
    }

    /// The span that a row is in.
    pub(super) fn span_at(&self, row: usize) -> usize {
        self.spans.partition_point(|span| span.start + span.len <= row)
    }

    /// Whether the entity at a row was despawned in simulation by then.
    pub(super) fn is_dead(&self, row: usize) -> bool {
        self.spans.get(self.span_at(row)).is_some_and(|span| span.dead)
    }

    /// Another entity stands in for one that was despawned.
    pub(super) fn replace(&mut self, old: Entity, new: Entity) -> bool {
        let found = self.entities.iter_mut().find(|entity| **entity == old);
        found.map(|entity| *entity = new).is_some()
    }
}

/// Where in a layout each entity is, found by its index.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The round in which the place was written, and the place.
    rows: Vec<(u32, u32)>,
    round: u32,
}

impl Places {
    /// Fills it from a layout. Who stands in for a lost entity may have the index of one that was dead in it,
    /// and is gone by now: the later one of an index counts.
    pub(super) fn fill(&mut self, layout: &Layout) {
        self.round = self.round.wrapping_add(1).max(1);
        let made = |entity: Entity| entity.generation().to_bits();
        for (row, entity) in layout.entities.iter().enumerate() {
            let index = entity.index_u32() as usize;
            if index >= self.rows.len() {
                self.rows.resize(index + 1, (0, 0));
            }
            let (round, other) = self.rows[index];
            if round != self.round || made(layout.entities[other as usize]) < made(*entity) {
                self.rows[index] = (self.round, row as u32);
            }
        }
    }

    /// The row of an entity in the layout.
    pub(super) fn row(&self, layout: &Layout, entity: Entity) -> Option<usize> {
        let (round, row) = *self.rows.get(entity.index_u32() as usize)?;
        let row = row as usize;
        (round == self.round && layout.entities[row] == entity).then_some(row)
    }
}
