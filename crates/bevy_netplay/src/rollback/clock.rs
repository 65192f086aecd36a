//! Which tick of the simulation is run, and what time it is in it.

use std::collections::VecDeque;

use bevy_app::FixedMain;
use bevy_ecs::prelude::*;
use bevy_time::{Fixed, Time};

use super::state::{NotKept, States};

/// The tick that is run, or is run next.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SimulatedTick(pub(crate) i32);

/// Whether `FixedUpdate` runs a tick that it has run before. Systems there that show something, or read
/// a device, ask for it.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resimulating(pub bool);

/// What `Time<Fixed>` was in each tick of which the state is kept.
#[derive(Resource, Debug, Default)]
pub(crate) struct TickTimes(VecDeque<(i32, Time<Fixed>)>);

impl TickTimes {
    /// Keeps the time of a tick that is run for the first time.
    fn keep(&mut self, tick: i32, time: Time<Fixed>, most: usize) {
        if self.0.back().is_some_and(|(kept, _)| *kept >= tick) {
            return;
        }
        self.0.push_back((tick, time));
        while self.0.len() > most {
            self.0.pop_front();
        }
    }

    fn at(&self, tick: i32) -> Option<Time<Fixed>> {
        self.0.iter().find(|(kept, _)| *kept == tick).map(|(_, time)| *time)
    }
}

/// Keeps the state before the tick that begins; in `FixedFirst`.
pub(crate) fn save(world: &mut World) {
    let tick = world.resource::<SimulatedTick>().0;
    world.resource_scope(|world, mut states: Mut<'_, States>| {
        states.save(world, tick);
        let time = world.get_resource::<Time<Fixed>>().copied().unwrap_or_default();
        world.resource_mut::<TickTimes>().keep(tick, time, states.kept());
    });
}

/// A tick is over; in `FixedLast`.
pub(crate) fn count(mut tick: ResMut<SimulatedTick>) {
    tick.0 += 1;
}

/// Goes back to the state before a tick, and runs all ticks since again. `Time` and `Time<Fixed>` are what
/// they were in each, and what they are now after that; the overstep stays.
///
/// # Errors
/// [`NotKept`].
pub(crate) fn run_again(world: &mut World, from: i32) -> Result<(), NotKept> {
    let to = world.resource::<SimulatedTick>().0;
    world.resource_scope(|world, mut states: Mut<'_, States>| states.load(world, from))?;
    world.resource_mut::<SimulatedTick>().0 = from;
    let (now, now_fixed) = (*world.resource::<Time>(), *world.resource::<Time<Fixed>>());
    world.resource_mut::<Resimulating>().0 = true;
    while world.resource::<SimulatedTick>().0 < to {
        let tick = world.resource::<SimulatedTick>().0;
        let Some(mut fixed) = world.resource::<TickTimes>().at(tick) else { break };
        fixed.discard_overstep(fixed.overstep());
        fixed.accumulate_overstep(now_fixed.overstep());
        world.insert_resource(fixed.as_generic());
        world.insert_resource(fixed);
        world.run_schedule(FixedMain);
    }
    world.resource_mut::<Resimulating>().0 = false;
    world.insert_resource(now_fixed);
    world.insert_resource(now);
    Ok(())
}
