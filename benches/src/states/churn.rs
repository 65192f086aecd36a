//! Entities that come and go in simulation.

use bevy::ecs::schedule::{ScheduleLabel, SingleThreadedExecutor};
use bevy::prelude::*;
use serde::Serialize;

use super::{
    DEPTH, Health, Now, Position, Side, Times, Velocity, digest, ggrs, micros, netplay, rollback,
};
use crate::Result;
use crate::allocations::Counter;
use crate::report::Row;
use crate::stats::median;

/// Entities that are there at a time.
const ENTITIES: u32 = 1_000;
/// Entities that come, and that go, in a tick.
const EACH_TICK: u32 = 100;
/// Ticks that an entity lives.
const LIFE: u32 = ENTITIES / EACH_TICK;
/// Ticks before each report in which it is measured.
const WINDOW: i32 = 20;
/// Ticks in which the state is kept before the first entity of [`Start::Dying`] dies.
const STILL: u32 = 20;

/// How a world begins, and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Every tick some entities come, and as many go.
    Churning,
    /// None comes; most die within the ticks of one rollback.
    Dying,
}

impl Start {
    /// When each of the entities that are there at first dies.
    fn deaths(self) -> Vec<u32> {
        let dying = DEPTH as u32 * EACH_TICK;
        let death = |number: u32| match self {
            Self::Churning => number / EACH_TICK,
            Self::Dying if number < dying => STILL + number / EACH_TICK,
            Self::Dying => u32::MAX,
        };
        (0..ENTITIES).map(death).collect()
    }
}

fn entity<M: Component + Default>(number: u32, death: u32) -> impl Bundle {
    let at = number as f32;
    (M::default(), Position([at, 0.0, -at]), Velocity([1.0, 0.5, 0.25]), Health(death))
}

fn fly(mut all: Query<'_, '_, (&mut Position, &Velocity)>) {
    for (mut position, velocity) in &mut all {
        (0..3).for_each(|axis| position.0[axis] += velocity.0[axis]);
    }
}

/// The game: everything moves, and whose time has come dies. Health is the tick of death.
pub(super) fn build<M: Component + Default>(
    app: &mut App,
    schedule: impl ScheduleLabel + Clone,
    start: Start,
    despawn: fn(&mut EntityCommands<'_>),
) {
    let turn = move |now: Res<'_, Now>,
                     mut commands: Commands<'_, '_>,
                     all: Query<'_, '_, (Entity, &Health)>| {
        let now = now.0 as u32;
        for (entity, health) in &all {
            if health.0 <= now {
                despawn(&mut commands.entity(entity));
            }
        }
        if start == Start::Churning {
            (0..EACH_TICK).for_each(|number| {
                commands.spawn(entity::<M>(number, now + LIFE));
            });
        }
    };
    app.add_systems(schedule.clone(), (fly, turn).chain());
    app.edit_schedule(schedule, |schedule| {
        schedule.set_executor(SingleThreadedExecutor::new());
    });
    for (number, death) in start.deaths().into_iter().enumerate() {
        app.world_mut().spawn(entity::<M>(number as u32, death));
    }
}

/// What one stack costs at one tick of a game in which entities come and go.
#[derive(Serialize)]
pub struct ChurnRow {
    stack: &'static str,
    tick: i32,
    save_us: f64,
    rollback8_us: f64,
    live_mib: f64,
}

impl Row for ChurnRow {
    const COLUMNS: &'static [&'static str] =
        &["stack", "tick", "save_us", "rollback8_us", "live_mib"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stack.to_owned(),
            self.tick.to_string(),
            format!("{:.1}", self.save_us),
            format!("{:.1}", self.rollback8_us),
            format!("{:.2}", self.live_mib),
        ]
    }
}

/// Plays one side, and reports at these ticks.
fn play(side: &mut dyn Side, reports: &[i32], counter: Option<&Counter>) -> Vec<ChurnRow> {
    let mut rows = Vec::new();
    let mut times = Times::default();
    for now in 0..=reports.last().copied().unwrap_or(0) {
        let save = micros(|| side.save(now));
        if let Some(report) = reports.iter().find(|report| (0..WINDOW).contains(&(*report - now))) {
            times.save.push(save);
            times.rollback.push(rollback(side, now).1);
            if *report == now {
                rows.push(ChurnRow {
                    stack: side.name(),
                    tick: now,
                    save_us: median(times.save.drain(..)).unwrap_or_default(),
                    rollback8_us: median(times.rollback.drain(..)).unwrap_or_default(),
                    live_mib: counter.map_or(0.0, |counter| counter.live() as f64 / 1048576.0),
                });
            }
        }
        side.advance(now);
        // As an app does after every frame.
        side.world().clear_trackers();
    }
    rows
}

/// Each side alone, with a clock and then with a counter of what it takes. In turns, the one that touches more and
/// more memory takes the processor's caches from the other, which then seems to become slower too (6 times, when
/// this was measured).
pub(super) fn churn(quick: bool) -> Result<Vec<ChurnRow>> {
    let reports: &[i32] = if quick { &[60, 600, 2_400] } else { &[60, 600, 1_800, 3_600] };
    let mut rows = Vec::new();
    let mut digests = Vec::new();
    for make in [netplay::churning, ggrs::churning] {
        let mut side = make(Start::Churning);
        let timed = play(side.as_mut(), reports, None);
        digests.push(digest(side.world()));
        drop(side);
        let counter = Counter::start();
        let counted = play(make(Start::Churning).as_mut(), reports, Some(&counter));
        let both = timed.into_iter().zip(counted);
        rows.extend(both.map(|(row, counted)| ChurnRow { live_mib: counted.live_mib, ..row }));
    }
    same(&digests)?;
    // As they are compared; of a tick ours stays first.
    rows.sort_by_key(|row| row.tick);
    Ok(rows)
}

fn same(digests: &[u64]) -> Result<()> {
    if digests.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err("the sides have come to different states".into());
    }
    Ok(())
}

/// A rollback over entities that were despawned in its ticks.
#[derive(Serialize)]
pub struct DespawnedRow {
    entities: u32,
    rollback8_us: f64,
    ggrs_rollback8_us: f64,
    x_rollback8: f64,
}

impl Row for DespawnedRow {
    const COLUMNS: &'static [&'static str] =
        &["entities", "rollback8_us", "ggrs_rollback8_us", "x_rollback8"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.entities.to_string(),
            format!("{:.1}", self.rollback8_us),
            format!("{:.1}", self.ggrs_rollback8_us),
            format!("{:.1}", self.x_rollback8),
        ]
    }
}

/// Rolls back over the same deaths again and again.
pub(super) fn despawned(rounds: usize) -> Result<DespawnedRow> {
    let mut sides = [netplay::churning(Start::Dying), ggrs::churning(Start::Dying)];
    let end = STILL as i32 + DEPTH;
    for side in &mut sides {
        for now in 0..end {
            side.save(now);
            side.advance(now);
        }
        side.save(end);
    }
    let mut times: [Vec<f64>; 2] = Default::default();
    for round in 0..rounds + 3 {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            let (_load, all) = rollback(side.as_mut(), end);
            side.world().clear_trackers();
            // The first ones find memory.
            if round >= 3 {
                times.push(all);
            }
        }
    }
    same(&sides.each_mut().map(|side| digest(side.world())))?;
    let [ours, theirs] = times.map(|times| median(times).unwrap_or_default());
    Ok(DespawnedRow {
        entities: DEPTH as u32 * EACH_TICK,
        rollback8_us: ours,
        ggrs_rollback8_us: theirs,
        x_rollback8: theirs / ours,
    })
}
