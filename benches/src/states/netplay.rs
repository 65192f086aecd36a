//! Our saved states, without the session.

use bevy::ecs::schedule::ScheduleLabel;
use bevy::prelude::*;
use bevy_netplay::rollback::{AddRollback, Rollback, RollbackPlugin, RollbackWorld};

use super::{Cell, Health, Kind, Numbers, Position, Side, Velocity, build, spawn};

#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
struct Advance;

struct Netplay(App);

pub(super) fn side(cell: &Cell) -> Box<dyn Side> {
    let mut app = App::new();
    app.add_plugins(RollbackPlugin::default()).init_schedule(Advance);
    match cell.kind {
        Kind::Plain => app.rollback::<Position>().rollback::<Velocity>().rollback::<Health>(),
        Kind::Heap => app.rollback::<Numbers>(),
    };
    build(&mut app, Advance, cell.kind, cell.changing_pct);
    spawn(app.world_mut(), cell.entities, cell.kind, Rollback);
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

    fn advance(&mut self) {
        self.0.world_mut().run_schedule(Advance);
    }
}
