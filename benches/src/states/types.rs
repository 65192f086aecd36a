//! What a type costs that no entity has.

use bevy::app::FixedMain;
use bevy::prelude::*;
use bevy_netplay::rollback::{AddRollback, RollbackPlugin};
use serde::{Deserialize, Serialize};

use super::micros;
use crate::report::Row;
use crate::stats::median;

/// Types that are registered: each takes the compiler 2 s.
const TYPES: u32 = 30;
/// Ticks of one round.
const TICKS: u32 = 60;

/// One of many types, by the digits of its number.
#[derive(Component, Clone, Copy, Serialize, Deserialize)]
struct Nth<const TENS: u8, const ONES: u8>(u32);

fn ten<const TENS: u8>(app: &mut App) {
    app.rollback::<Nth<TENS, 0>>()
        .rollback::<Nth<TENS, 1>>()
        .rollback::<Nth<TENS, 2>>()
        .rollback::<Nth<TENS, 3>>()
        .rollback::<Nth<TENS, 4>>()
        .rollback::<Nth<TENS, 5>>()
        .rollback::<Nth<TENS, 6>>()
        .rollback::<Nth<TENS, 7>>()
        .rollback::<Nth<TENS, 8>>()
        .rollback::<Nth<TENS, 9>>();
}

/// What many registered types cost in each tick outside of a match, with no entity that has them.
#[derive(Serialize)]
pub struct TypesRow {
    registered: u32,
    us_per_tick: f64,
    us_per_type: f64,
}

impl Row for TypesRow {
    const COLUMNS: &'static [&'static str] = &["registered", "us_per_tick", "us_per_type"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.registered.to_string(),
            format!("{:.1}", self.us_per_tick),
            format!("{:.3}", self.us_per_type),
        ]
    }
}

/// A tick of a game without systems, with these types and without any, in turn.
pub(super) fn types(rounds: usize) -> TypesRow {
    let app = || {
        let mut app = App::new();
        app.add_plugins(RollbackPlugin::default());
        app
    };
    let (mut with, mut without) = (app(), app());
    ten::<0>(&mut with);
    ten::<1>(&mut with);
    ten::<2>(&mut with);
    let mut times: [Vec<f64>; 2] = Default::default();
    for round in 0..rounds + 3 {
        for (app, times) in [&mut with, &mut without].into_iter().zip(&mut times) {
            for _ in 0..TICKS {
                let tick = micros(|| app.world_mut().run_schedule(FixedMain));
                // The first ones find memory.
                if round >= 3 {
                    times.push(tick);
                }
            }
        }
    }
    let [with, without] = times.map(|times| median(times).unwrap_or_default());
    TypesRow {
        registered: TYPES,
        us_per_tick: with,
        us_per_type: (with - without).max(0.0) / f64::from(TYPES),
    }
}
