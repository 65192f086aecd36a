//! Our saved states, without the session.

use bevy::ecs::schedule::ScheduleLabel;
use bevy::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, DespawnRollback, Rollback, RollbackPlugin, RollbackWorld,
};

use super::{Cell, Health, Kind, Now, Numbers, Position, Side, Velocity, build, churn, spawn};

#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
struct Advance;

struct Netplay(App);

fn app(kind: Kind) -> App {
    let mut app = App::new();
    app.add_plugins(RollbackPlugin::default()).init_schedule(Advance).init_resource::<Now>();
    match kind {
        Kind::Plain => app.rollback::<Position>().rollback::<Velocity>().rollback::<Health>(),
        Kind::Heap => app.rollback::<Numbers>(),
    };
    app
}

pub(super) fn side(cell: &Cell) -> Box<dyn Side> {
    let mut app = app(cell.kind);
    build(&mut app, Advance, cell.kind, cell.changing_pct);
    spawn(app.world_mut(), cell.entities, cell.kind, Rollback);
    Box::new(Netplay(app))
}

/// A world in which entities come and go.
pub(super) fn churning(start: churn::Start) -> Box<dyn Side> {
    let mut app = app(Kind::Plain);
    churn::build::<Rollback>(&mut app, Advance, start, |entity| entity.despawn_rollback());
    Box::new(Netplay(app))
}

impl Side for Netplay {
    fn name(&self) -> &'static str {
        "netplay"
    }

    fn world(&mut self) -> &mut World {
        self.0.world_mut()
    }

    fn save(&mut self, tick: i32) {
        self.0.world_mut().save_rollback(tick);
    }

    fn load(&mut self, tick: i32) {
        self.0.world_mut().load_rollback(tick).expect("the state is kept");
    }

    fn advance(&mut self, tick: i32) {
        let world = self.0.world_mut();
        world.resource_mut::<Now>().0 = tick;
        world.run_schedule(Advance);
    }
}
