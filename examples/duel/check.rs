//! Check mode: four bots play here, without a lobby. After every tick the game is rolled back and runs
//! again, also with its rows in another order and with all entities spawned anew; it has to come to the
//! same state.

use std::time::Duration;

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_netplay::rollback::{
    LocalInputs, Player, ReadInputs, RollbackCheck, RollbackCheckPlugin, RollbackPlugin,
};

use crate::bot;
use crate::game::{self, Fighter, Pad, RATE};

const PLAYERS: u8 = 4;

/// Plays so many ticks; an error if a tick came to another state, or if there are warnings.
pub fn run(ticks: u32, seed: u64) -> AppExit {
    let mut app = App::new();
    let tick = Duration::from_secs_f64(1.0 / RATE);
    app.add_plugins((MinimalPlugins, game::plugin))
        .insert_resource(TimeUpdateStrategy::ManualDuration(tick))
        .add_plugins(RollbackPlugin { local_players: PLAYERS, ..default() })
        .add_plugins(RollbackCheckPlugin { seed })
        .add_systems(Startup, |mut commands: Commands| {
            let players: Vec<_> = (0..PLAYERS).map(Player).collect();
            game::set_up(&players, &mut commands);
        })
        .add_systems(ReadInputs, read);
    (0..ticks).for_each(|_| app.update());
    let check = app.world().resource::<RollbackCheck>();
    check.differences.iter().for_each(|difference| eprintln!("{difference}"));
    check.warnings.iter().for_each(|warning| eprintln!("{warning}"));
    eprintln!(
        "{ticks} ticks with seed {seed}, {} run again, {} times with rows in another order, {} times with \
         all entities spawned anew: {} differences, {} warnings",
        check.resimulated,
        check.permuted,
        check.respawned,
        check.differences.len(),
        check.warnings.len(),
    );
    if check.is_same() { AppExit::Success } else { AppExit::error() }
}

fn read(mut local: ResMut<LocalInputs<Pad>>, fighters: Query<&Fighter>, mut tick: Local<u32>) {
    *tick += 1;
    let fighters: Vec<Fighter> = fighters.iter().copied().collect();
    for (player, pad) in local.iter_mut() {
        let own = fighters.iter().find(|fighter| fighter.player == player.0);
        *pad = own.map(|own| bot::play(own, &fighters, *tick)).unwrap_or_default();
    }
}
