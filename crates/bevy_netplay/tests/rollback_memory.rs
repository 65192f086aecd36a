//! What saved states take from the allocator: nothing, while entities and components stay the same.

#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]

use core::cell::Cell;
use std::alloc::{GlobalAlloc, Layout, System};

use bevy::prelude::*;
use bevy_netplay::rollback::{AddRollback, Rollback, RollbackPlugin, RollbackWorld};
use serde::{Deserialize, Serialize};

/// Passes everything to the system's allocator, and counts for each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Component, Clone, Copy, Serialize, Deserialize)]
struct At(f32, f32);

/// The derived `clone_from` would allocate: it does not use the memory that is there.
#[derive(Component, Serialize, Deserialize)]
struct Trail(Vec<u32>);

impl Clone for Trail {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }

    fn clone_from(&mut self, other: &Self) {
        self.0.clone_from(&other.0);
    }
}

#[derive(Resource, Clone, Copy, Default, Serialize, Deserialize)]
struct Score(u32);

fn change(world: &mut World, every: usize) {
    let mut all = world.query::<(&mut At, &mut Trail)>();
    for (mut at, mut trail) in all.iter_mut(world).step_by(every) {
        at.0 += 1.0;
        trail.0[0] += 1;
    }
    world.resource_mut::<Score>().0 += 1;
}

#[test]
fn saves_and_loads_allocate_nothing_while_no_entity_comes_or_goes() {
    for every in [1, 10, 100] {
        let mut app = App::new();
        app.add_plugins(RollbackPlugin::default())
            .init_resource::<Score>()
            .rollback::<At>()
            .rollback::<Trail>()
            .rollback_resource::<Score>();
        let world = app.world_mut();
        (0..500).for_each(|_| {
            world.spawn((Rollback, At(0.0, 0.0), Trail(vec![0; 16])));
        });
        let mut counted = 0;
        let mut tick = 0;
        for round in 0..60 {
            for _ in 0..8 {
                let before = ALLOCATIONS.get();
                world.save_rollback(tick);
                counted += if round < 30 { 0 } else { ALLOCATIONS.get() - before };
                change(world, every);
                tick += 1;
            }
            world.save_rollback(tick);
            let before = ALLOCATIONS.get();
            world.load_rollback(tick - 5).expect("the state is kept");
            counted += if round < 30 { 0 } else { ALLOCATIONS.get() - before };
            tick -= 5;
            // As an app does after every frame.
            world.clear_trackers();
        }
        assert_eq!(counted, 0, "every {every}th changes");
        assert_eq!(world.resource::<Score>().0, tick as u32);
    }
}
