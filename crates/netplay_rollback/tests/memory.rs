//! What a match holds in memory, counted by an allocator: it does not grow with its length, nor with
//! what a liar sends.
//!
//! `cargo test -p netplay_rollback --release --test memory -- --nocapture` shows the figures.

#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]
#![expect(clippy::print_stdout, reason = "it measures")]

mod support;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;

use netplay_rollback::{Role, Tick};
use netplay_simnet::Conditions;
use rand_core::Rng;
use support::malice::Malice;
use support::world::{MS, Setup, World};

/// Passes everything to the system's allocator, and counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Forgets what only the tests remember.
fn forget(world: &mut World) {
    world.forget_oracle();
    for node in world.nodes.values_mut() {
        node.events = Vec::new();
        node.did = BTreeMap::new();
        node.sums = BTreeMap::new();
    }
}

fn run_to(world: &mut World, tick: Tick) {
    while world.tick() < tick {
        world.step();
        if world.tick() % 1000 == 0 {
            forget(world);
        }
    }
    forget(world);
}

/// Two players over a path that fails now and then, for so many ticks. Every minute one of them stands
/// still, is cut off or dies and returns.
fn play(ticks: Tick, seed: u64) -> (usize, usize) {
    let conditions = Conditions::perfect().with_delay(MS * 20).with_jitter(MS * 5).with_loss(0.02);
    let setup = Setup { conditions, rate: 240, input_max: 3, ..Setup::default() };
    let mut world = World::new(setup, seed);
    let (tenth, mut begun) = (ticks / 10, 0);
    for tick in (0..ticks).step_by(10_000) {
        run_to(&mut world, tick);
        if tick == tenth {
            begun = IN_USE.load(Ordering::Relaxed);
        }
        match world.rng.next_u32() % 4 {
            0 => world.nodes.get_mut(&1).expect("it plays").frozen_until = world.now + MS * 700,
            1 => {
                world.cut(0, 1, true);
                world.run(MS * 600);
                world.cut(0, 1, false);
            }
            2 => {
                world.kill(1);
                world.run(MS * 2_500);
                world.start(1, Role::Returning);
            }
            _ => {}
        }
    }
    run_to(&mut world, ticks);
    world.run(MS * 5_000);
    forget(&mut world);
    let ended = IN_USE.load(Ordering::Relaxed);
    assert!(world.nodes.values().all(|node| node.session.confirmed() > ticks), "nobody plays");
    (begun, ended)
}

fn flat(ticks: Tick) {
    let (begun, ended) = play(ticks, 1);
    println!("{begun} bytes in use after {} ticks, {ended} after {ticks}", ticks / 10);
    assert!(ended < begun + begun / 20, "{begun} bytes grew to {ended}");
}

/// One test, as they share the allocator.
#[test]
fn memory_is_flat_over_a_million_ticks_and_under_a_liar() {
    flat(1_000_000);
    let before = IN_USE.load(Ordering::Relaxed);
    let mut most = 0;
    for (seed, blocks) in [(1, false), (2, true), (3, true)] {
        let setup = Setup { peers: 3, input_max: 3, ..Setup::default() };
        let mut world = World::new(setup, seed);
        world.run(MS * 500);
        world.corrupt(2, Malice { blocks, one_in: 10, invents: 20 });
        world.start(3, Role::Spectator { delay: 0, from_start: false });
        for _ in 0..120 {
            world.run(MS * 500);
            forget(&mut world);
            most = most.max(IN_USE.load(Ordering::Relaxed) - before);
        }
    }
    println!("{most} bytes for three peers and one who watches, one of whom lies");
    assert!(most < 4 * 1024 * 1024, "{most} bytes");
}
