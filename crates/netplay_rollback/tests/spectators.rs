//! Those who watch: they see what was played, at any time, and nobody waits for them.

mod support;

use netplay_rollback::limits::FEED_AHEAD;
use netplay_rollback::{Event, Role, SessionConfig, Tick};
use netplay_simnet::Conditions;
use support::forge::{self, FED, FEED, SESSION, WATCH};
use support::single::{Single, config};
use support::world::{MS, Setup, World};

const NOW: Role = Role::Spectator { delay: 0, from_start: false };

fn setup(peers: usize) -> Setup {
    let conditions = Conditions::perfect().with_delay(MS * 25).with_loss(0.02);
    Setup { peers, conditions, ballast: 200_000, ..Setup::default() }
}

/// The tick that a spectator shows next.
fn shows(world: &World, node: usize) -> Tick {
    world.node(node).session.current()
}

/// It has shown the match up to so many ticks ago. What it has shown is compared as it goes.
fn follows(world: &World, node: usize, behind: Tick) {
    let shows = shows(world, node);
    assert!(shows > world.tick() - behind, "node {node} shows {shows} at {}", world.tick());
}

#[test]
fn spectators_come_and_go_and_see_what_was_played() {
    for seed in 0..5 {
        let mut world = World::new(setup(3), seed);
        world.start(3, Role::Spectator { delay: 0, from_start: true });
        world.start(4, Role::Spectator { delay: 60, from_start: true });
        world.run(MS * 2_000);
        world.start(5, NOW);
        world.start(6, Role::Spectator { delay: 30, from_start: false });
        world.run(MS * 1_000);
        // One of them came from the first tick on, and has never taken a state.
        follows(&world, 3, 25);
        assert_eq!(world.node(3).count(|event| matches!(event, Event::Restored(_))), 0);
        world.kill(3);
        world.start(7, NOW);
        world.run(MS * 2_500);
        for (node, behind) in [(4, 90), (5, 25), (6, 60), (7, 25)] {
            follows(&world, node, behind);
        }
        assert!(shows(&world, 4) <= world.tick() - 60, "it sees what it is not to see yet");
        world.check_inputs();
        for player in 0..3 {
            let stats = world.node(player).session.stats();
            assert_eq!(stats.stalls, 0, "seed {seed}: {stats:?}");
        }
    }
}

#[test]
fn the_start_is_not_held_up_by_spectators() {
    let mut world = World::new(setup(2), 3);
    for spectator in 2..10 {
        world.start(spectator, Role::Spectator { delay: 0, from_start: true });
        // They hear nothing and say nothing.
        world.cut(0, spectator, true);
        world.cut(1, spectator, true);
    }
    world.run(MS * 3_000);
    for player in 0..2 {
        let session = &world.node(player).session;
        assert!(session.confirmed() > world.tick() - 10, "{:?}", session.stats());
        assert_eq!(session.stats().stalls, 0);
    }
}

#[test]
fn a_spectator_whose_feeder_dies_is_fed_by_another() {
    for seed in 0..10 {
        let mut world = World::new(setup(4), seed);
        world.run(MS * 500);
        world.start(4, NOW);
        world.run(MS * 1_500);
        // Whoever it is: one after the other dies, the host at last.
        for dies in [3, 2, 1] {
            world.kill(dies);
            world.run(MS * 6_000);
            follows(&world, 4, 25);
        }
        world.check_inputs();
    }
}

#[test]
fn the_host_is_not_the_feeder_while_there_is_another() {
    let mut world = World::new(setup(3), 4);
    (3..8).for_each(|spectator| world.start(spectator, NOW));
    world.run(MS * 2_000);
    assert_eq!(world.node(0).snapshots, 0);
    assert!(world.node(1).snapshots + world.node(2).snapshots >= 1);
}

#[test]
fn a_spectator_that_confirms_nothing_is_not_sent_more() {
    let mut single = Single::new(SessionConfig { prediction: 8, ..config(2, 0, Role::Player) });
    single.link(2, true);
    single.tick(0);
    single.message(2, &forge::message(WATCH, &[&0_i32.to_le_bytes(), &[0; 6]]));
    let (mut told, mut fed) = (0, 0);
    for tick in 0..3_000 {
        let input = forge::inputs(&[&[tick as u8]]);
        single.block(1, tick, &forge::block(2, SESSION as u8, 1, 1, &input));
        single.tick(tick);
        for feed in single.said(2, FEED) {
            told += i32::from(u16::from_le_bytes([feed[9], feed[10]]));
        }
        single.messages.clear();
        // It takes the first second.
        if tick == 60 {
            fed = told;
            single.message(2, &forge::message(FED, &[&fed.to_le_bytes()]));
        }
    }
    assert!(fed > 40, "{fed}");
    assert!(told <= fed + FEED_AHEAD + 1, "{told} ticks told, {fed} taken");
    assert!(told >= fed + FEED_AHEAD - 3, "{told} ticks told, {fed} taken");
}

#[test]
fn a_spectator_that_stood_still_for_long_goes_on_with_a_new_state() {
    let mut world = World::new(Setup { rate: 240, ..setup(2) }, 5);
    world.start(2, Role::Spectator { delay: 0, from_start: true });
    world.run(MS * 2_000);
    // Nothing reaches it for longer than inputs are kept: 17 s at this rate.
    world.cut(0, 2, true);
    world.cut(1, 2, true);
    world.run(MS * 25_000);
    world.find(0, 2);
    world.find(1, 2);
    world.run(MS * 5_000);
    follows(&world, 2, 60);
    assert_eq!(world.node(2).count(|event| matches!(event, Event::Restored(_))), 1);
}

#[test]
fn a_spectator_that_comes_late_with_the_first_state_gets_another() {
    let mut world = World::new(Setup { rate: 240, ..setup(2) }, 6);
    world.run(MS * 20_000);
    world.start(2, Role::Spectator { delay: 0, from_start: true });
    world.run(MS * 3_000);
    follows(&world, 2, 60);
}

#[test]
fn who_watches_is_told_by_one_peer_only() {
    let mut world = World::new(setup(4), 7);
    world.start(4, NOW);
    world.run(MS * 3_000);
    let feeders = world.nodes.values().filter(|node| node.snapshots > 0);
    assert_eq!(feeders.count(), 1);
}
