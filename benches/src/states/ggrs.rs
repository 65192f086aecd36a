//! bevy_ggrs: its schedules driven directly, without the session of ggrs.

use bevy::ecs::schedule::{ScheduleLabel, SingleThreadedExecutor};
use bevy::prelude::*;
use bevy_ggrs::{
    AdvanceWorld, ConfirmedFrameCount, LoadWorld, Rollback, RollbackApp, RollbackFrameCount,
    SaveWorld, SnapshotPlugin,
};

use super::{Cell, Health, Kind, Numbers, Position, Side, Velocity, build, spawn};

struct Ggrs(App);

pub(super) fn side(cell: &Cell) -> Box<dyn Side> {
    let mut app = App::new();
    app.add_plugins(SnapshotPlugin);
    match cell.kind {
        Kind::Plain => app
            .rollback_component_with_copy::<Position>()
            .rollback_component_with_copy::<Velocity>()
            .rollback_component_with_copy::<Health>(),
        Kind::Heap => app.rollback_component_with_clone::<Numbers>(),
    };
    build(&mut app, AdvanceWorld, cell.kind, cell.changing_pct);
    one_thread(&mut app, SaveWorld);
    one_thread(&mut app, LoadWorld);
    app.finish();
    app.cleanup();
    spawn(app.world_mut(), cell.entities, cell.kind, Rollback);
    Box::new(Ggrs(app))
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
        world.insert_resource(ConfirmedFrameCount(tick - 10));
        world.run_schedule(SaveWorld);
    }

    fn load(&mut self, tick: i32) {
        let world = self.0.world_mut();
        world.insert_resource(RollbackFrameCount(tick));
        world.run_schedule(LoadWorld);
    }

    fn advance(&mut self) {
        self.0.world_mut().run_schedule(AdvanceWorld);
    }
}
