//! What a match holds in memory, counted by an allocator: it does not grow with its length, nor with
//! what a liar sends.
//!
//! `cargo test -p netplay_rollback --release --test memory -- --nocapture` shows the figures.

#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]
#![expect(clippy::print_stdout, reason = "it measures")]

mod support;

use core::cell::Cell;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, VecDeque};
use std::thread::LocalKey;

use netplay_protocol::Now;
use netplay_rollback::limits::HISTORY;
use netplay_rollback::{Input, Output, Player, Role, Session, SessionConfig, Tick};
use netplay_simnet::Conditions;
use rand_core::Rng;
use support::malice::Malice;
use support::single::config;
use support::world::{MS, Setup, World, peer};

/// Passes everything to the system's allocator, and counts for each thread: every test has its own.
struct Counting;

thread_local! {
    static IN_USE: Cell<usize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn add(counter: &'static LocalKey<Cell<usize>>, more: usize) {
    // A thread that ends has no counters any more.
    let _ = counter.try_with(|counter| counter.set(counter.get().wrapping_add(more)));
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(&IN_USE, layout.size());
        add(&ALLOCATIONS, 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(&IN_USE, layout.size().wrapping_neg());
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
            begun = IN_USE.get();
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
    let ended = IN_USE.get();
    assert!(world.nodes.values().all(|node| node.session.confirmed() > ticks), "nobody plays");
    (begun, ended)
}

fn flat(ticks: Tick) {
    let (begun, ended) = play(ticks, 1);
    println!("{begun} bytes in use after {} ticks, {ended} after {ticks}", ticks / 10);
    assert!(ended < begun + begun / 20, "{begun} bytes grew to {ended}");
}

/// Two sessions that reach each other three ticks late, as an owner drives them that gives buffers back:
/// every input that changes is guessed wrong.
struct Pair {
    sessions: [Session; 2],
    /// Blocks on their way: to whom, at which tick they arrive, what the header says.
    flying: VecDeque<(usize, Tick, u16, Vec<u8>)>,
    rollbacks: u32,
}

impl Pair {
    fn new() -> Self {
        let session = |me| {
            let settings = config(2, me, Role::Player);
            Session::new(SessionConfig { checksum_every: 0, ..settings }).expect("it is valid")
        };
        Self { sessions: [0, 1].map(session), flying: VecDeque::new(), rollbacks: 0 }
    }

    fn tick(&mut self, tick: Tick) {
        let now = Now::from_micros(tick as u64 * 16_667);
        for me in 0..2 {
            let session = &mut self.sessions[me];
            let buttons = (tick / 3 * (me as Tick + 1)).to_le_bytes();
            session.add_local_input(Player(me as u8), &buttons).expect("it is ours");
            session.handle(now, Input::Tick(tick));
            while let Some(output) = session.poll_output() {
                match output {
                    Output::Block { tick: low, bytes, .. } => {
                        self.flying.push_back((1 - me, tick + 3, low, bytes));
                    }
                    Output::Advance(tick) => assert_eq!(session.inputs(tick).count(), 2),
                    Output::Load(_) => self.rollbacks += 1,
                    Output::Save(_) => {}
                    output => panic!("{output:?} in the steady state"),
                }
            }
        }
        while let Some((to, at, low, bytes)) = self.flying.pop_front() {
            if at > tick {
                self.flying.push_front((to, at, low, bytes));
                break;
            }
            let from = peer(1 - to);
            let block = Input::Block { from, tick: low, bytes: &bytes, again: false };
            self.sessions[to].handle(now, block);
            self.sessions[1 - to].recycle(bytes);
        }
    }
}

#[test]
fn a_tick_of_the_steady_state_allocates_nothing() {
    let mut pair = Pair::new();
    // Until the history is full.
    (0..HISTORY + 500).for_each(|tick| pair.tick(tick));
    let (before, rollbacks) = (ALLOCATIONS.get(), pair.rollbacks);
    (HISTORY + 500..HISTORY + 2_500).for_each(|tick| pair.tick(tick));
    assert!(pair.rollbacks > rollbacks + 1_000, "{} rollbacks", pair.rollbacks - rollbacks);
    assert!(pair.sessions[0].confirmed() > HISTORY + 2_490);
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
fn memory_is_flat_over_a_million_ticks_and_under_a_liar() {
    flat(1_000_000);
    let before = IN_USE.get();
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
            most = most.max(IN_USE.get() - before);
        }
    }
    println!("{most} bytes for three peers and one who watches, one of whom lies");
    assert!(most < 4 * 1024 * 1024, "{most} bytes");
}
