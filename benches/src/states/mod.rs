//! `rollback`: what it costs to keep the state of a world and to go back to it, beside bevy_ggrs.

mod churn;
mod ggrs;
mod netplay;
mod types;

use std::time::Instant;

use bevy::ecs::schedule::{ScheduleLabel, SingleThreadedExecutor};
use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::allocations::Counter;
use crate::report::{self, Progress, Row, optional, table};
use crate::stats::median;

pub use churn::{ChurnRow, DespawnedRow};
pub use types::TypesRow;

/// Ticks of one rollback.
const DEPTH: i32 = 8;

/// Saves whose allocations are counted.
const SAVES: u32 = 60;

/// What the entities are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Three components of 12, 12 and 4 bytes.
    Plain,
    /// One with 64 numbers on the heap.
    Heap,
}

#[derive(Component, Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Position([f32; 3]);
#[derive(Component, Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Velocity([f32; 3]);
#[derive(Component, Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Health(u32);

/// Numbers on the heap, whose memory a copy uses again.
#[derive(Component, Debug, Serialize, Deserialize)]
pub struct Numbers(Vec<u32>);

impl Clone for Numbers {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }

    fn clone_from(&mut self, other: &Self) {
        self.0.clone_from(&other.0);
    }
}

/// One world, driven tick by tick.
trait Side {
    fn name(&self) -> &'static str;
    fn world(&mut self) -> &mut World;
    /// Keeps the state before this tick.
    fn save(&mut self, tick: i32);
    /// Goes back to it.
    fn load(&mut self, tick: i32);
    /// Runs the game's systems for this tick.
    fn advance(&mut self, tick: i32);
}

/// The tick that runs.
#[derive(Resource, Clone, Copy, Default)]
struct Now(i32);

/// Every how many-th entity changes in a tick.
#[derive(Resource, Clone, Copy)]
struct Every(usize);

fn change_plain(
    every: Res<'_, Every>,
    mut all: Query<'_, '_, (&mut Position, &mut Velocity, &mut Health)>,
) {
    for (mut position, mut velocity, mut health) in all.iter_mut().step_by(every.0) {
        for axis in 0..3 {
            velocity.0[axis] = velocity.0[axis] * 0.99 + 0.01;
            position.0[axis] += velocity.0[axis];
        }
        health.0 = health.0.wrapping_mul(31).wrapping_add(7);
    }
}

fn change_heap(every: Res<'_, Every>, mut all: Query<'_, '_, &mut Numbers>) {
    for mut numbers in all.iter_mut().step_by(every.0) {
        for number in numbers.0.iter_mut().take(8) {
            *number = number.wrapping_mul(31).wrapping_add(7);
        }
    }
}

/// The game: one system, in a schedule of either side.
fn build(app: &mut App, schedule: impl ScheduleLabel + Clone, kind: Kind, changing_pct: usize) {
    app.insert_resource(Every(100 / changing_pct));
    match kind {
        Kind::Plain => app.add_systems(schedule.clone(), change_plain),
        Kind::Heap => app.add_systems(schedule.clone(), change_heap),
    };
    app.edit_schedule(schedule, |schedule| {
        schedule.set_executor(SingleThreadedExecutor::new());
    });
}

fn spawn(world: &mut World, entities: usize, kind: Kind, marker: impl Bundle + Clone) {
    for number in 0..entities as u32 {
        let at = number as f32;
        let mut entity = world.spawn(marker.clone());
        match kind {
            Kind::Plain => entity.insert((
                Position([at, 0.0, -at]),
                Velocity([1.0, 0.5, 0.25]),
                Health(number),
            )),
            Kind::Heap => entity.insert(Numbers((0..64).map(|digit| digit * number).collect())),
        };
    }
}

/// Every value of a world, so that both sides can be compared.
fn digest(world: &mut World) -> u64 {
    let mut sum = 0_u64;
    let mut add = |number: u32, place: u64| {
        let mixed = (u64::from(number) ^ place << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        sum = sum.wrapping_add(mixed ^ mixed >> 29);
    };
    for (position, velocity, health) in world.query::<(&Position, &Velocity, &Health)>().iter(world)
    {
        let floats = position.0.iter().chain(&velocity.0);
        floats.enumerate().for_each(|(place, value)| add(value.to_bits(), place as u64));
        add(health.0, 9);
    }
    for numbers in world.query::<&Numbers>().iter(world) {
        numbers.0.iter().enumerate().for_each(|(place, number)| add(*number, place as u64));
    }
    sum
}

fn micros(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / 1e3
}

/// What one side took in one round.
#[derive(Default)]
struct Times {
    save: Vec<f64>,
    load: Vec<f64>,
    rollback: Vec<f64>,
    advance: Vec<f64>,
}

/// Some ticks, and then a rollback of [`DEPTH`].
fn round(side: &mut dyn Side, tick: &mut i32, times: &mut Times) {
    for _ in 0..DEPTH {
        let now = *tick;
        times.save.push(micros(|| side.save(now)));
        times.advance.push(micros(|| side.advance(now)));
        *tick += 1;
    }
    side.save(*tick);
    let (load, all) = rollback(side, *tick);
    times.load.push(load);
    times.rollback.push(all);
}

/// A rollback of [`DEPTH`], from the state before a tick that is kept already: what the load took, and all of it.
fn rollback(side: &mut dyn Side, tick: i32) -> (f64, f64) {
    let from = tick - DEPTH;
    let mut load = 0.0;
    let all = micros(|| {
        load = micros(|| side.load(from));
        for again in from..tick {
            // The state that was loaded is there already.
            if again > from {
                side.save(again);
            }
            side.advance(again);
        }
        side.save(tick);
    });
    (load, all)
}

/// Allocations of a save, as long as no entity comes or goes.
fn allocations(side: &mut dyn Side, tick: &mut i32) -> f64 {
    let mut sum = 0;
    for _ in 0..SAVES {
        let counter = Counter::start();
        side.save(*tick);
        sum += counter.allocations();
        drop(counter);
        side.advance(*tick);
        *tick += 1;
    }
    sum as f64 / f64::from(SAVES)
}

/// One stack's cost.
#[derive(Serialize)]
pub struct StatesRow {
    stack: &'static str,
    entities: usize,
    changing_pct: usize,
    kind: &'static str,
    save_us: f64,
    load_us: f64,
    rollback8_us: f64,
    allocations: f64,
    x_save: Option<f64>,
    x_load: Option<f64>,
    x_rollback8: Option<f64>,
}

impl Row for StatesRow {
    const COLUMNS: &'static [&'static str] = &[
        "stack",
        "entities",
        "changing_pct",
        "kind",
        "save_us",
        "load_us",
        "rollback8_us",
        "allocations",
        "x_save",
        "x_load",
        "x_rollback8",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stack.to_owned(),
            self.entities.to_string(),
            self.changing_pct.to_string(),
            self.kind.to_owned(),
            format!("{:.1}", self.save_us),
            format!("{:.1}", self.load_us),
            format!("{:.1}", self.rollback8_us),
            format!("{:.1}", self.allocations),
            optional(self.x_save, 0),
            optional(self.x_load, 0),
            optional(self.x_rollback8, 0),
        ]
    }
}

fn row(side: &dyn Side, cell: &Cell, times: &Times, allocations: f64) -> StatesRow {
    let [save, load, rollback, advance] =
        [&times.save, &times.load, &times.rollback, &times.advance]
            .map(|times| median(times.iter().copied()).unwrap_or_default());
    StatesRow {
        stack: side.name(),
        entities: cell.entities,
        changing_pct: cell.changing_pct,
        kind: if cell.kind == Kind::Plain { "plain" } else { "heap" },
        save_us: save,
        load_us: load,
        rollback8_us: (rollback - f64::from(DEPTH) * advance).max(0.0),
        allocations,
        x_save: None,
        x_load: None,
        x_rollback8: None,
    }
}

struct Cell {
    entities: usize,
    changing_pct: usize,
    kind: Kind,
}

/// Both sides, a round of each in turn.
fn measure(cell: &Cell, rounds: usize) -> Result<[StatesRow; 2]> {
    let mut ours = netplay::side(cell);
    let mut theirs = ggrs::side(cell);
    let (mut tick, mut their_tick) = (0, 0);
    let (mut times, mut their_times) = (Times::default(), Times::default());
    for round_number in 0..rounds + 3 {
        if round_number == 3 {
            // The first ones find memory.
            (times, their_times) = (Times::default(), Times::default());
        }
        round(ours.as_mut(), &mut tick, &mut times);
        round(theirs.as_mut(), &mut their_tick, &mut their_times);
    }
    if digest(ours.world()) != digest(theirs.world()) {
        return Err("the two sides have come to different states".into());
    }
    let counted = allocations(ours.as_mut(), &mut tick);
    let mut ours = row(ours.as_ref(), cell, &times, counted);
    let counted = allocations(theirs.as_mut(), &mut their_tick);
    let theirs = row(theirs.as_ref(), cell, &their_times, counted);
    ours.x_save = Some(theirs.save_us / ours.save_us);
    ours.x_load = Some(theirs.load_us / ours.load_us);
    ours.x_rollback8 = Some(theirs.rollback8_us / ours.rollback8_us.max(0.1));
    Ok([ours, theirs])
}

/// Everything that is measured.
#[derive(Serialize)]
struct Report {
    bench: &'static str,
    rows: Vec<StatesRow>,
    churn: Vec<ChurnRow>,
    despawned: DespawnedRow,
    types: TypesRow,
}

/// Measures all cells, and then the rest.
///
/// # Errors
/// If the sides differ in the end, or the table cannot be written.
pub fn states(quick: bool, json: bool, rounds: Option<u32>) -> Result<()> {
    let rounds = rounds.unwrap_or(if quick { 8 } else { 30 }) as usize;
    let mut cells = Vec::new();
    for kind in [Kind::Plain, Kind::Heap] {
        for entities in [1_000, 10_000] {
            for changing_pct in [1, 10, 100] {
                cells.push(Cell { entities, changing_pct, kind });
            }
        }
    }
    let mut progress = Progress::new(cells.len() as u32 + 3);
    let mut rows = Vec::new();
    for cell in &cells {
        progress.begin(&format!("{} entities, {} % changing", cell.entities, cell.changing_pct));
        rows.extend(measure(cell, rounds)?);
    }
    progress.begin("entities that come and go");
    let churn = churn::churn(quick)?;
    progress.begin("entities that come back");
    let despawned = churn::despawned(rounds)?;
    progress.begin("many types");
    let types = types::types(rounds);
    progress.clear();
    let report = Report { bench: "rollback", rows, churn, despawned, types };
    let tables = [
        table(&report.rows),
        table(&report.churn),
        table(std::slice::from_ref(&report.despawned)),
        table(std::slice::from_ref(&report.types)),
    ];
    report::print_all(&tables, json.then_some(&report))
}
