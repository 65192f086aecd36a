//! What saved states take from the allocator: nothing, while entities and components stay the same; and no
//! more after a minute than after ten seconds, when entities come and go.

#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]

use core::cell::Cell;
use std::alloc::{GlobalAlloc, Layout, System};
use std::thread::LocalKey;

use bevy::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, DespawnRollback, Rollback, RollbackPlugin, RollbackWorld,
};
use serde::{Deserialize, Serialize};

/// Passes everything to the system's allocator, and counts for each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

fn add(counter: &'static LocalKey<Cell<usize>>, more: usize) {
    // A thread that ends has no counters any more.
    let _ = counter.try_with(|counter| counter.set(counter.get().wrapping_add(more)));
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(&ALLOCATIONS, 1);
        add(&LIVE, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(&LIVE, layout.size().wrapping_neg());
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

/// When an entity dies.
#[derive(Component, Clone, Copy, Serialize, Deserialize)]
struct Death(i32);

/// One tick of a game in which 100 entities come and 100 go.
fn come_and_go(world: &mut World, now: i32) {
    let mut all = world.query::<(Entity, &Death, &mut Trail)>();
    let mut dying = Vec::new();
    for (entity, death, mut trail) in all.iter_mut(world) {
        trail.0[0] += 1;
        dying.extend((death.0 <= now).then_some(entity));
    }
    for entity in dying {
        world.entity_mut(entity).despawn_rollback();
    }
    (0..100).for_each(|_| {
        world.spawn((Rollback, At(0.0, 0.0), Death(now + 10), Trail(vec![0; 16])));
    });
}

#[test]
fn memory_stays_the_same_while_entities_come_and_go() {
    let before = LIVE.get();
    let mut app = App::new();
    app.add_plugins(RollbackPlugin::default())
        .rollback::<At>()
        .rollback::<Death>()
        .rollback::<Trail>();
    let world = app.world_mut();
    let mut live = Vec::new();
    for now in 0..=3600 {
        world.save_rollback(now);
        if now >= 8 && now % 7 == 0 {
            world.load_rollback(now - 8).expect("the state is kept");
            for again in now - 8..now {
                world.save_rollback(again);
                come_and_go(world, again);
            }
            world.save_rollback(now);
        }
        if now == 600 || now == 3600 {
            live.push(LIVE.get() - before);
            let alive = world.query::<&Death>().iter(world).count();
            assert_eq!(alive, 1000, "tick {now}");
        }
        come_and_go(world, now);
        // As an app does after every frame.
        world.clear_trackers();
    }
    let [early, late] = live[..] else { panic!("two ticks are measured") };
    eprintln!("{early} bytes after 600 ticks, {late} after 3600");
    assert!(late <= early + early / 10, "{early} bytes have become {late}");
}
