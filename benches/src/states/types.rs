//! What a type costs that no entity has.

use bevy::app::FixedMain;
use bevy::prelude::*;
use bevy_netplay::rollback::{AddRollback, RollbackPlugin};
use serde::{Deserialize, Serialize};

use super::micros;
use crate::report::Row;
use crate::stats::median;

/// Types that are registered.
const TYPES: u32 = 300;
/// Ticks of one round.
const TICKS: u32 = 60;

/// One of many types, by the digits of its number.
#[derive(Component, Clone, Copy, Serialize, Deserialize)]
struct Nth<const HUNDREDS: u8, const TENS: u8, const ONES: u8>(u32);

/// Calls a generic function with each digit.
macro_rules! each_digit {
    ($function:ident, $app:ident $(, $before:ident)*) => {
        each_digit!(@ $function, $app, { $($before),* }, 0 1 2 3 4 5 6 7 8 9)
    };
    (@ $function:ident, $app:ident, $before:tt, $($digit:literal)*) => {
        $(each_digit!(@one $function, $app, $before, $digit);)*
    };
    (@one $function:ident, $app:ident, { $($before:ident),* }, $digit:literal) => {
        $function::<$({ $before },)* $digit>($app)
    };
}

/// On its own, for one function with all of them takes the compiler longer.
#[inline(never)]
fn register<const HUNDREDS: u8, const TENS: u8, const ONES: u8>(app: &mut App) {
    app.rollback::<Nth<HUNDREDS, TENS, ONES>>();
}

fn ten<const HUNDREDS: u8, const TENS: u8>(app: &mut App) {
    each_digit!(register, app, HUNDREDS, TENS);
}

fn hundred<const HUNDREDS: u8>(app: &mut App) {
    each_digit!(ten, app, HUNDREDS);
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
    hundred::<0>(&mut with);
    hundred::<1>(&mut with);
    hundred::<2>(&mut with);
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
