//! Which tick of the simulation is run, and what time it is in it.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bevy_app::FixedMain;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleLabel;
use bevy_time::{Fixed, Time};
use netplay_rollback::{InputBytes, InputStatus};

use super::RollbackSettings;
use super::despawn::InTick;
use super::draw::WentBack;
use super::input::InputType;
use super::state::{NotKept, SavedStates};

/// The tick that is run, or is run next.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SimulatedTick(pub(crate) i32);

/// Whether `FixedUpdate` runs a tick that it has run before. Systems there that show something, or read
/// a device, ask for it.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resimulating(pub bool);

/// The newest tick of those that are run again, at whose end a rollback is over.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Corrected(pub(crate) Option<i32>);

/// Goes back to the state before a tick; those up to `newest` are run again.
pub(crate) fn go_back(world: &mut World, tick: i32, newest: i32) -> Result<(), NotKept> {
    SavedStates::scope(world, |world, states| states.load(world, tick))?;
    world.resource_mut::<SimulatedTick>().0 = tick;
    world.resource_mut::<Corrected>().0 = Some(newest);
    world.run_schedule(WentBack);
    Ok(())
}

/// Runs before a match begins from its start: what an earlier one has left is put back.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Begins;

/// Whether a match runs the ticks, and not Bevy's own loop.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Driven(pub(crate) bool);

/// A tick that was run outside of a match.
#[derive(Debug)]
struct PastTick {
    tick: i32,
    time: Time<Fixed>,
    inputs: Vec<InputBytes>,
}

/// What `Time<Fixed>` and the inputs were in each tick of which the state is kept, outside of a match.
#[derive(Resource, Debug, Default)]
pub(crate) struct PastTicks(VecDeque<PastTick>);

impl PastTicks {
    /// Keeps a tick that is run for the first time; gives where its inputs go.
    fn keep(&mut self, tick: i32, time: Time<Fixed>, most: usize) -> &mut Vec<InputBytes> {
        let mut inputs = Vec::new();
        while self.0.len() >= most.max(1) {
            inputs = self.0.pop_front().map(|oldest| oldest.inputs).unwrap_or_default();
        }
        inputs.clear();
        &mut self.0.push_back_mut(PastTick { tick, time, inputs }).inputs
    }

    /// Whether all of these were run outside of a match.
    fn has(&self, mut ticks: Range<i32>) -> bool {
        ticks.all(|tick| self.at(tick).is_some())
    }

    fn at(&self, tick: i32) -> Option<&PastTick> {
        self.0.iter().find(|past| past.tick == tick)
    }
}

/// Keeps the state before the tick that begins, and shows what players do in it; in `FixedFirst`, outside
/// of a match.
pub(crate) fn begin_tick(world: &mut World) {
    let tick = world.resource::<SimulatedTick>().0;
    SavedStates::scope(world, |world, states| {
        states.save(world, tick);
        world.resource_scope(|world, mut past: Mut<'_, PastTicks>| {
            let input_type = world.get_resource::<InputType>().copied();
            if !world.resource::<Resimulating>().0 {
                let time = world.get_resource::<Time<Fixed>>().copied().unwrap_or_default();
                let inputs = past.keep(tick, time, states.kept());
                if let Some(input_type) = input_type {
                    // Outside of a match, those at this machine are all.
                    (input_type.seat)(
                        world,
                        0..world.resource::<RollbackSettings>().0.local_players,
                    );
                    let put = |_, bytes: &[u8]| inputs.extend(InputBytes::new(bytes));
                    (input_type.read)(world, &mut { put });
                }
            }
            if let (Some(input_type), Some(past)) = (input_type, past.at(tick)) {
                let inputs = past.inputs.iter();
                let mut inputs = inputs.map(|input| (input.as_slice(), InputStatus::Confirmed));
                (input_type.show)(world, &mut inputs);
            }
        });
    });
    world.resource_mut::<InTick>().0 = true;
}

/// A tick is over; in `FixedLast`.
pub(crate) fn count(mut tick: ResMut<SimulatedTick>, mut in_tick: ResMut<InTick>) {
    tick.0 += 1;
    in_tick.0 = false;
}

/// Goes back to the state before a tick, does something with it, and runs all ticks since again; outside of
/// a match. `Time` and `Time<Fixed>` are what they were in each, and what they are now after that; the
/// overstep stays.
///
/// # Errors
/// [`NotKept`].
pub(crate) fn run_again(
    world: &mut World,
    from: i32,
    change: impl FnOnce(&mut World),
) -> Result<(), NotKept> {
    let to = world.resource::<SimulatedTick>().0;
    if !world.resource::<PastTicks>().has(from..to) {
        return Err(NotKept(from));
    }
    go_back(world, from, to - 1)?;
    change(world);
    world.resource_mut::<Resimulating>().0 = true;
    keep_time(world, |world| {
        while world.resource::<SimulatedTick>().0 < to {
            let tick = world.resource::<SimulatedTick>().0;
            let Some(time) = world.resource::<PastTicks>().at(tick).map(|past| past.time) else {
                break;
            };
            run_tick(world, time);
        }
    });
    world.resource_mut::<Resimulating>().0 = false;
    Ok(())
}

/// After this, `Time` and `Time<Fixed>` are what they are now.
pub(crate) fn keep_time<R>(world: &mut World, run: impl FnOnce(&mut World) -> R) -> R {
    let (now, now_fixed) = (*world.resource::<Time>(), *world.resource::<Time<Fixed>>());
    let result = run(world);
    world.insert_resource(now_fixed);
    world.insert_resource(now);
    result
}

/// Runs `FixedMain` at this time; the overstep stays.
pub(crate) fn run_tick(world: &mut World, mut time: Time<Fixed>) {
    let overstep = world.resource::<Time<Fixed>>().overstep();
    time.discard_overstep(time.overstep());
    time.accumulate_overstep(overstep);
    world.insert_resource(time.as_generic());
    world.insert_resource(time);
    world.run_schedule(FixedMain);
}

/// What `Time<Fixed>` is in a tick of a match, on every machine: elapsed is the time since tick 0 began,
/// and the tick itself.
pub(crate) fn time_of(tick: i32, timestep: Duration) -> Time<Fixed> {
    let mut time = Time::<Fixed>::from_duration(timestep);
    time.advance_to(timestep.saturating_mul(tick.max(0).unsigned_abs()));
    time.advance_by(timestep);
    time
}
