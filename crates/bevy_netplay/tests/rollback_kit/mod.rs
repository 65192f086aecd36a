//! A game that plays alone in check mode.

use std::time::Duration;

use bevy::prelude::*;
use bevy::time::{TimePlugin, TimeUpdateStrategy};
use bevy_netplay::rollback::{RollbackCheck, RollbackCheckPlugin, RollbackPlugin};
use bevy_netplay::test_kit::on_one_thread;

/// With two players, if the game has an input.
pub fn app(seed: u64) -> App {
    eprintln!("seed {seed}");
    let plugin = RollbackPlugin { local_players: 2, ..RollbackPlugin::default() };
    let mut app = App::new();
    app.add_plugins((TimePlugin, plugin, RollbackCheckPlugin { seed }))
        .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_micros(15_625)));
    app
}

pub fn play(app: &mut App, frames: u32) -> &RollbackCheck {
    on_one_thread(app);
    (0..frames).for_each(|_| app.update());
    app.world().resource::<RollbackCheck>()
}
