//! bevy_ggrs: its schedules driven directly, without the session of ggrs.

use bevy::ecs::schedule::{ScheduleLabel, SingleThreadedExecutor};
use bevy::prelude::*;
use bevy_ggrs::prelude::RollbackDespawnCommandExtension;
use bevy_ggrs::{
    AdvanceWorld, ConfirmedFrameCount, LoadWorld, Rollback, RollbackApp, RollbackFrameCount,
    SaveWorld, SnapshotPlugin,
};

use super::{
    Cell, DEPTH, Health, Kind, Now, Numbers, Position, Side, Velocity, build, churn, spawn,
};

struct Ggrs(App);

fn app(kind: Kind) -> App {
    let mut app = App::new();
    app.add_plugins(SnapshotPlugin).init_resource::<Now>();
    match kind {
        Kind::Plain => app
            .rollback_component_with_copy::<Position>()
            .rollback_component_with_copy::<Velocity>()
            .rollback_component_with_copy::<Health>(),
        Kind::Heap => app.rollback_component_with_clone::<Numbers>(),
    };
    app
}

pub(super) fn side(cell: &Cell) -> Box<dyn Side> {
    let mut app = app(cell.kind);
    build(&mut app, AdvanceWorld, cell.kind, cell.changing_pct);
    ready(&mut app);
    spawn(app.world_mut(), cell.entities, cell.kind, Rollback);
    Box::new(Ggrs(app))
}

/// A world in which entities come and go.
pub(super) fn churning(start: churn::Start) -> Box<dyn Side> {
    let mut app = app(Kind::Plain);
    // A plain despawn takes as long or longer there: measured.
    churn::build::<Rollback>(&mut app, AdvanceWorld, start, |entity| entity.despawn_rollback());
    ready(&mut app);
    Box::new(Ggrs(app))
}

fn ready(app: &mut App) {
    one_thread(app, SaveWorld);
    one_thread(app, LoadWorld);
    app.finish();
    app.cleanup();
}

fn one_thread(app: &mut App, schedule: impl ScheduleLabel) {
    app.edit_schedule(schedule, |schedule| {
        schedule.set_executor(SingleThreadedExecutor::new());
    });
}

impl Side for Ggrs {
    fn name(&self) -> &'static str {
        "bevy_ggrs"
    }

    fn world(&mut self) -> &mut World {
        self.0.world_mut()
    }

    fn save(&mut self, tick: i32) {
        let world = self.0.world_mut();
        world.insert_resource(RollbackFrameCount(tick));
        // What a rollback cannot go back to any more is final.
        let mut confirmed = world.resource_mut::<ConfirmedFrameCount>();
        confirmed.0 = confirmed.0.max(tick - DEPTH);
        world.run_schedule(SaveWorld);
    }

    fn load(&mut self, tick: i32) {
        let world = self.0.world_mut();
        world.insert_resource(RollbackFrameCount(tick));
        world.run_schedule(LoadWorld);
    }

    fn advance(&mut self, tick: i32) {
        let world = self.0.world_mut();
        world.resource_mut::<Now>().0 = tick;
        // As its own session does: a tick has the number of the state after it.
        world.insert_resource(RollbackFrameCount(tick + 1));
        world.run_schedule(AdvanceWorld);
    }
}
