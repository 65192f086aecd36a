//! Warnings that name the fix, before players see a desync: state that the simulation writes and that is not
//! rolled back, and systems whose order nobody has decided.
//!
//! In debug builds, and in check mode. Both are found in what the systems of the fixed schedules declare,
//! when these are built; it costs nothing after that.
//!
//! Guaranteed: each is told once. Not found: what exclusive systems, observers and commands write, and what
//! is written through `EntityMut`.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use bevy_app::{
    App, FixedFirst, FixedLast, FixedPostUpdate, FixedPreUpdate, FixedUpdate, RunFixedMainLoop,
    RunFixedMainLoopSystems,
};
use bevy_ecs::archetype::ArchetypeGeneration;
use bevy_ecs::component::ComponentId;
use bevy_ecs::prelude::*;
use bevy_ecs::query::Access;
use bevy_ecs::schedule::{InternedScheduleLabel, ScheduleLabel, SystemKey};
use bevy_ecs::system::System;

use super::id::Rollback;
use super::{seating, session};

/// Something that is likely to differ between players one day.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RollbackWarning {
    /// The simulation writes a component of rollback entities that is not registered.
    Component {
        /// The component.
        of: String,
        /// A system that writes it.
        by: String,
    },
    /// The simulation writes a resource that is not registered.
    Resource {
        /// The resource.
        of: String,
        /// A system that writes it.
        by: String,
    },
    /// Two systems use the same registered state, one of them writes it, and nothing says which runs first.
    Ambiguous {
        /// The systems.
        systems: [String; 2],
        /// The components and resources; none if one of the systems has the whole world.
        on: Vec<String>,
    },
}

impl fmt::Display for RollbackWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component { of, by } => write!(
                f,
                "{of} is written by {by} in simulation and is on rollback entities, but is not rolled \
                 back: add app.rollback::<{of}>(), or app.rollback_ignore::<{of}>() if it is only shown"
            ),
            Self::Resource { of, by } => write!(
                f,
                "{of} is written by {by} in simulation, but is not rolled back: add \
                 app.rollback_resource::<{of}>(), or app.rollback_ignore::<{of}>() if it is only shown"
            ),
            Self::Ambiguous { systems: [a, b], on } => {
                let what = if on.is_empty() { "the world".to_owned() } else { on.join(", ") };
                write!(
                    f,
                    "{a} and {b} use {what} in any order: order them with .chain(), .before() or \
                     .after(), or say with .ambiguous_with() that it does not matter"
                )
            }
        }
    }
}

/// A system of a fixed schedule.
struct Declared {
    name: String,
    /// What it uses; unknown of an exclusive system.
    access: Option<Access>,
}

/// What is watched, and what was found.
#[derive(Resource)]
pub(crate) struct Watch {
    on: bool,
    registered: BTreeSet<ComponentId>,
    ignored: BTreeSet<ComponentId>,
    /// By schedule.
    systems: [BTreeMap<SystemKey, Declared>; 5],
    /// Fixed schedules that are built anew in this frame.
    building: BTreeSet<usize>,
    /// What is written and not registered, and by which system.
    suspects: BTreeMap<ComponentId, String>,
    /// Archetypes from here on were not looked at.
    seen: ArchetypeGeneration,
    pub(crate) found: Vec<RollbackWarning>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            on: false,
            registered: BTreeSet::new(),
            ignored: BTreeSet::new(),
            systems: Default::default(),
            building: BTreeSet::new(),
            suspects: BTreeMap::new(),
            seen: ArchetypeGeneration::initial(),
            found: Vec::new(),
        }
    }
}

/// What is rolled back.
pub(crate) fn register<C: Component>(world: &mut World) {
    let id = world.register_component::<C>();
    world.get_resource_or_init::<Watch>().registered.insert(id);
}

/// What is not, on purpose.
pub(crate) fn ignore<C: Component>(world: &mut World) {
    let id = world.register_component::<C>();
    world.get_resource_or_init::<Watch>().ignored.insert(id);
}

/// Looks for mistakes from now on, if it has not begun already.
pub(crate) fn watch(app: &mut App) {
    let mut watch = app.world_mut().get_resource_or_init::<Watch>();
    if core::mem::replace(&mut watch.on, true) {
        return;
    }
    app.add_systems(
        RunFixedMainLoop,
        (
            read_systems
                .in_set(RunFixedMainLoopSystems::BeforeFixedMainLoop)
                .before(seating::begin)
                .before(session::run),
            look.in_set(RunFixedMainLoopSystems::AfterFixedMainLoop),
        ),
    );
}

fn schedules() -> [InternedScheduleLabel; 5] {
    [
        FixedFirst.intern(),
        FixedPreUpdate.intern(),
        FixedUpdate.intern(),
        FixedPostUpdate.intern(),
        FixedLast.intern(),
    ]
}

/// Whether there is a schedule that is to be built anew.
fn is_changed(world: &World, label: InternedScheduleLabel) -> bool {
    let schedule = world.get_resource::<Schedules>().and_then(|all| all.get(label));
    schedule.is_some_and(Schedule::is_changed)
}

/// Reads what new systems declare: they are in the graph until their schedule is built.
fn read_systems(world: &mut World) {
    for (index, label) in schedules().into_iter().enumerate() {
        if !is_changed(world, label) {
            continue;
        }
        let read = world.try_schedule_scope(label, |world, schedule| {
            let graph = schedule.graph_mut();
            graph.initialize(world);
            let keys: Vec<SystemKey> = graph.systems.iter().map(|(key, ..)| key).collect();
            let new = keys.into_iter().filter_map(|key| {
                let system = graph.systems.get_mut(key)?;
                // The state of an exclusive system would be lost.
                let access = (!system.is_exclusive())
                    .then(|| system.initialize(world).combined_access().clone());
                Some((key, Declared { name: system.name().to_string(), access }))
            });
            new.collect::<Vec<_>>()
        });
        let mut watch = world.resource_mut::<Watch>();
        watch.building.insert(index);
        watch.systems[index].extend(read.into_iter().flatten());
    }
}

/// Looks at schedules that were built, and at archetypes that came up.
pub(crate) fn look(world: &mut World) {
    world.resource_scope(|world, mut watch: Mut<'_, Watch>| {
        let labels = schedules();
        let before = watch.found.len();
        let building = core::mem::take(&mut watch.building);
        for index in building {
            if is_changed(world, labels[index]) {
                // No tick was run yet.
                watch.building.insert(index);
            } else if has_names(world) {
                watch.find_writes(world, index);
                watch.find_ambiguities(world, index, labels[index]);
            }
        }
        watch.find_suspects(world);
        watch.found[before..].iter().for_each(|found| tracing::warn!("{found}"));
    });
}

/// Without names nobody can be told what to do, nor Bevy's own types be told from those of the game.
fn has_names(world: &World) -> bool {
    let id = world.component_id::<Rollback>();
    id.is_some_and(|id| name(world, id).ends_with("Rollback"))
}

fn name(world: &World, id: ComponentId) -> String {
    world.components().get_name(id).map(|name| name.to_string()).unwrap_or_default()
}

/// What the game does not simulate itself: time, messages, and what we write.
fn is_ours(name: &str) -> bool {
    ["bevy_netplay::", "bevy_time::", "bevy_ecs::"].iter().any(|ours| name.starts_with(ours))
}

impl Watch {
    /// Notes what is written and not registered.
    fn find_writes(&mut self, world: &World, index: usize) {
        let Self { registered, ignored, systems, suspects, .. } = self;
        for system in systems[index].values().filter(|system| !is_ours(&system.name)) {
            let writes = system.access.as_ref().and_then(|access| access.try_writes().ok());
            for id in writes.into_iter().flat_map(|writes| writes.iter()) {
                let known = registered.contains(&id) || ignored.contains(&id);
                if !known && !is_ours(&name(world, id)) {
                    suspects.entry(id).or_insert_with(|| system.name.clone());
                }
            }
        }
        // Archetypes that were there before may have what is a suspect only now.
        self.seen = ArchetypeGeneration::initial();
    }

    /// Warns of suspects that are state: resources that exist, and components on rollback entities.
    fn find_suspects(&mut self, world: &World) {
        let since = core::mem::replace(&mut self.seen, world.archetypes().generation());
        let Some(rollback) = world.component_id::<Rollback>() else { return };
        let new = world.archetypes()[since..].iter();
        let new: Vec<_> = new.filter(|archetype| archetype.contains(rollback)).collect();
        let Self { registered, ignored, suspects, found, .. } = self;
        suspects.retain(|id, by| {
            if registered.contains(id) || ignored.contains(id) {
                return false;
            }
            let (of, by) = (name(world, *id), by.clone());
            if world.resource_entities().get(*id).is_some() {
                found.push(RollbackWarning::Resource { of, by });
            } else if new.iter().any(|archetype| archetype.contains(*id)) {
                found.push(RollbackWarning::Component { of, by });
            } else {
                return true;
            }
            ignored.insert(*id);
            false
        });
    }

    /// Warns of systems of a schedule that may run in any order, though it counts.
    fn find_ambiguities(&mut self, world: &World, index: usize, label: InternedScheduleLabel) {
        let schedule = world.get_resource::<Schedules>().and_then(|all| all.get(label));
        let pairs = schedule.into_iter().flat_map(|it| it.graph().conflicting_systems().iter());
        for (a, b, on) in pairs {
            let systems = &self.systems[index];
            let (Some(a), Some(b)) = (systems.get(a), systems.get(b)) else { continue };
            let state: Vec<String> = on
                .iter()
                .filter(|id| self.registered.contains(id))
                .map(|id| name(world, *id))
                .collect();
            // With the whole world: whatever the other one uses.
            let counts = if on.is_empty() {
                self.uses_state(a) && self.uses_state(b)
            } else {
                !state.is_empty()
            };
            let systems = [a.name.clone(), b.name.clone()];
            let warning = RollbackWarning::Ambiguous { systems, on: state };
            if counts && !(is_ours(&a.name) && is_ours(&b.name)) && !self.found.contains(&warning) {
                self.found.push(warning);
            }
        }
    }

    fn uses_state(&self, system: &Declared) -> bool {
        let uses = |access: &Access| self.registered.iter().any(|id| access.has_read(*id));
        system.access.as_ref().is_none_or(uses)
    }
}
