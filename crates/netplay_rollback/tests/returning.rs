//! How fast a player who comes back is in play, and that nobody waits for it.
//!
//! `cargo test -p netplay_rollback --release --test returning -- --nocapture` shows the figures.

#![expect(clippy::print_stdout, reason = "it measures")]

mod support;

use netplay_protocol::Now;
use netplay_rollback::{Event, Role, Tick};
use netplay_simnet::Conditions;
use support::world::{MS, Setup, World};

const MIB: usize = 1024 * 1024;

/// (Only input blocks are lost here: the reliable lane of these tests does not model what it repeats.)
/// A player of so many dies and starts again, once the others have dropped it. Milliseconds from its
/// start until it plays with everything known, and the most ticks that anybody else waited.
fn returns(peers: usize, loss: f64, seed: u64) -> (u64, u32) {
    let conditions = Conditions::perfect().with_delay(MS * 30).with_loss(loss);
    // 20 Mbit/s.
    let bulk_rate = 2_500_000;
    let setup = Setup { peers, conditions, ballast: MIB, bulk_rate, ..Setup::default() };
    let mut world = World::new(setup, seed);
    world.run(MS * 2_000);
    let dies = peers - 1;
    world.kill(dies);
    world.run(MS * 3_000);
    let begun = world.now;
    world.start(dies, Role::Returning);
    // From its first tick on, of which the others were told.
    let first = |world: &World| {
        let told = world.node(0).events.iter().find_map(|(_, event)| match event {
            Event::Joined { at, .. } => Some(*at),
            _ => None,
        });
        told.unwrap_or(Tick::MAX)
    };
    let plays = |world: &World| {
        let session = &world.node(dies).session;
        let near = session.current() >= session.tick() && session.confirmed() > session.tick() - 12;
        near && session.is_playing() && session.tick() >= first(world)
    };
    while !plays(&world) {
        world.step();
        assert!(world.now < begun + MS * 10_000, "{peers} players, seed {seed}: not in play");
    }
    let took = (world.now.as_micros() - begun.as_micros()) / 1000;
    world.run(MS * 1_000);
    world.check_inputs();
    (took, waited(&world, dies, begun))
}

/// The most ticks that a node other than this one waited at once, from a moment on.
fn waited(world: &World, but: usize, from: Now) -> u32 {
    let others = world.nodes.iter().filter(|(at, _)| **at != but);
    let events = others.flat_map(|(_, node)| &node.events).filter(|(at, _)| *at > from);
    let waits = events.filter_map(|(_, event)| match event {
        Event::Resumed(ticks) => Some(*ticks),
        _ => None,
    });
    assert!(world.nodes.values().all(|node| !node.session.is_stalled()));
    waits.max().unwrap_or(0)
}

fn measure(peers: usize, loss: f64, seeds: u64) -> (u64, u32) {
    let all: Vec<(u64, u32)> = (0..seeds).map(|seed| returns(peers, loss, seed)).collect();
    let mut took: Vec<u64> = all.iter().map(|(took, _)| *took).collect();
    took.sort_unstable();
    let waited = all.iter().map(|(_, waited)| *waited).max().unwrap_or(0);
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{peers} players, {:.0} % loss: in play after {median} ms (median), {worst} ms (worst of {seeds}); the others waited {waited} ticks at most",
        loss * 100.0
    );
    (worst, waited)
}

#[test]
fn a_player_with_a_state_of_a_megabyte_is_in_play_in_two_seconds_and_nobody_waits() {
    for peers in [2, 4, 8] {
        let (worst, waited) = measure(peers, 0.0, 10);
        assert!(worst <= 2_000, "{worst} ms");
        assert!(waited <= 1, "{waited} ticks");
    }
}

#[test]
fn a_player_returns_on_a_path_that_loses_packets() {
    for peers in [2, 4] {
        let (worst, _) = measure(peers, 0.05, 10);
        assert!(worst <= 3_000, "{worst} ms");
    }
}
