//! Who leaves the match, and when it counts, as the survivors agree on it.

mod support;

use core::time::Duration;

use netplay_protocol::PeerId;
use netplay_rollback::{Event, Role, Tick};
use netplay_simnet::Conditions;
use support::world::{MS, Setup, World, peer};

fn setup(peers: usize) -> Setup {
    let conditions = Conditions::perfect().with_delay(MS * 20);
    Setup { peers, conditions, change_every: 3, ..Setup::default() }
}

/// Who left, and from which tick on, as a node says.
fn left(world: &World, node: usize) -> Vec<(PeerId, Tick)> {
    let events = world.node(node).events.iter().map(|(_, event)| event);
    let left = events.filter_map(|event| match event {
        Event::Left { peer, at } => Some((*peer, *at)),
        _ => None,
    });
    left.collect()
}

fn has(world: &World, node: usize, event: &Event) -> bool {
    world.node(node).events.iter().any(|(_, found)| found == event)
}

/// Runs until it holds, or fails after so long.
fn until(world: &mut World, most: Duration, what: &str, holds: impl Fn(&World) -> bool) {
    let deadline = world.now + most;
    while !holds(world) {
        world.step();
        if world.now >= deadline {
            let nodes: Vec<_> = world
                .nodes
                .iter()
                .map(|(at, node)| (at, node.session.confirmed(), node.events.clone()))
                .collect();
            panic!("{what}: not within {most:?}: {nodes:?}");
        }
    }
}

/// These play, and nobody else, and they go on.
fn play_on(world: &mut World, nodes: &[usize], what: &str) {
    let here: Vec<PeerId> = nodes.iter().map(|node| peer(*node)).collect();
    until(world, MS * 9_000, what, |world| {
        nodes.iter().all(|node| {
            let session = &world.node(*node).session;
            let near = session.confirmed() > world.tick() - 20;
            session.is_playing() && near && session.members().eq(here.iter().copied())
        })
    });
    world.run(MS * 500);
    world.check_inputs();
}

#[test]
fn a_drop_counts_from_the_newest_input_that_any_survivor_holds() {
    for holder in [0, 1, 3] {
        let mut world = World::new(setup(4), 5);
        world.run(MS * 1_000);
        // Only one of the three hears what player 2 does now.
        for other in [0, 1, 3].into_iter().filter(|other| *other != holder) {
            world.cut(other, 2, true);
        }
        world.run(MS * 700);
        world.kill(2);
        world.run(MS * 300);
        let held: Vec<Tick> =
            [0, 1, 3].iter().map(|node| world.node(*node).session.confirmed()).collect();
        let newest = world.node(holder).session.confirmed();
        assert_eq!(held.iter().filter(|tick| **tick < newest - 30).count(), 2, "{held:?}");
        play_on(&mut world, &[0, 1, 3], "after the drop");
        for node in [0, 1, 3] {
            assert_eq!(left(&world, node), [(peer(2), newest + 1)], "node {node}");
        }
    }
}

#[test]
fn inputs_of_who_drops_that_no_message_has_room_for_follow_in_others() {
    for holder in [0, 1] {
        // 64 bytes, which change all the time, for twenty seconds.
        let noise = Setup { change_every: 1, input_max: 64, ..setup(5) };
        let mut world = World::new(noise, 11);
        world.run(MS * 500);
        for other in [0, 1, 2].into_iter().filter(|other| *other != holder) {
            world.cut(other, 3, true);
            world.cut(other, 4, true);
        }
        world.run(MS * 20_000);
        let newest = world.node(holder).session.confirmed();
        assert!(newest > 20 * 60, "{newest}");
        world.kill(3);
        world.kill(4);
        play_on(&mut world, &[0, 1, 2], "after the drop");
        for node in [0, 1, 2] {
            let left = left(&world, node);
            assert_eq!(left.len(), 2, "node {node}");
            assert!(left.iter().all(|(_, at)| *at > newest), "node {node}: {left:?}, {newest}");
        }
    }
}

#[test]
fn of_two_players_the_host_decides() {
    let mut world = World::new(setup(2), 6);
    world.run(MS * 1_000);
    world.lose(0, 1, 500);
    play_on(&mut world, &[0], "the host");
    assert!(has(&world, 1, &Event::NoQuorum), "{:?}", world.node(1).events);
    assert!(world.node(1).session.is_stalled());
    // The other one hears that it was dropped when there is a path again.
    world.find(0, 1);
    until(&mut world, MS * 1_000, "the guest", |world| has(world, 1, &Event::Dropped));
}

#[test]
fn the_smaller_part_of_a_split_waits_and_is_told() {
    let mut world = World::new(setup(5), 7);
    world.run(MS * 1_000);
    for (a, b) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
        world.lose(a, b, 500);
    }
    // Three of five go on, and not the two with the host.
    play_on(&mut world, &[2, 3, 4], "the majority");
    for node in [0, 1] {
        assert!(has(&world, node, &Event::NoQuorum), "{:?}", world.node(node).events);
    }
    let before = world.node(0).session.confirmed();
    world.run(MS * 3_000);
    assert_eq!(world.node(0).session.confirmed(), before);
    for (a, b) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
        world.find(a, b);
    }
    for node in [0, 1] {
        until(&mut world, MS * 2_000, "the rest", |world| has(world, node, &Event::Dropped));
    }
    play_on(&mut world, &[2, 3, 4], "the majority again");
}

#[test]
fn half_of_a_view_goes_on_with_the_host_only() {
    let mut world = World::new(setup(4), 8);
    world.run(MS * 1_000);
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        world.lose(a, b, 500);
    }
    play_on(&mut world, &[0, 1], "the half with the host");
    assert!(has(&world, 2, &Event::NoQuorum) && has(&world, 3, &Event::NoQuorum));
    assert!(world.node(2).session.is_stalled() && world.node(3).session.is_stalled());
}

#[test]
fn two_who_die_at_once_leave_and_the_rest_plays_on() {
    for (a, b) in [(0, 1), (0, 4), (3, 4), (1, 3)] {
        let mut world = World::new(setup(5), 9);
        world.run(MS * 1_000);
        world.kill(a);
        world.kill(b);
        let rest: Vec<usize> = (0..5).filter(|node| *node != a && *node != b).collect();
        play_on(&mut world, &rest, "after two deaths");
        let first = left(&world, rest[0]);
        assert_eq!(first.len(), 2);
        assert!(rest.iter().all(|node| left(&world, *node) == first), "{a} and {b}");
    }
}

#[test]
fn a_pair_that_loses_each_other_only_loses_one_of_them() {
    let mut world = World::new(setup(4), 10);
    world.run(MS * 1_000);
    world.lose(1, 2, 100);
    until(&mut world, MS * 5_000, "one of them", |world| {
        has(world, 1, &Event::Dropped) != has(world, 2, &Event::Dropped)
    });
    let stays = if has(&world, 1, &Event::Dropped) { 2 } else { 1 };
    world.nodes.remove(&(3 - stays));
    play_on(&mut world, &[0, stays, 3], "the others");
}

/// The coordinator of four falls silent after so many messages of the agreement that `begin` causes,
/// and dies; how many messages it had left.
fn dies_after(count: usize, cut: Option<(usize, usize)>, joins: bool) -> usize {
    let about = format!("the coordinator dies after {count} messages, cut {cut:?}, joins {joins}");
    let mut world = World::new(setup(4), 11);
    world.run(MS * 1_000);
    world.kill(3);
    if joins {
        play_on(&mut world, &[0, 1, 2], &about);
        world.start(3, Role::Returning);
    }
    world.falls_silent = Some((0, count));
    // Some time in which who comes back gets the match.
    world.run(MS * if joins { 200 } else { 0 });
    if let Some((a, b)) = cut {
        world.cut(a, b, true);
    }
    world.run(MS * 2_600);
    let left = world.falls_silent.map_or(0, |(_, left)| left);
    world.kill(0);
    if let Some((a, b)) = cut {
        world.cut(a, b, false);
    }
    world.falls_silent = None;
    let rest: &[usize] = if joins { &[1, 2, 3] } else { &[1, 2] };
    play_on(&mut world, rest, &about);
    left
}

#[test]
fn a_coordinator_that_dies_after_any_message_leaves_an_agreement() {
    for joins in [false, true] {
        for cut in [None, Some((0, 1)), Some((0, 2)), Some((0, 3))] {
            for count in 0.. {
                if dies_after(count, cut, joins) > 0 {
                    // It does not lead to a join of whom it cannot hear.
                    let unheard = joins && cut == Some((0, 3));
                    assert!(count > 3 || unheard, "nothing was agreed on: {cut:?} {joins}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_coordinator_that_has_heard_of_no_earlier_ballot_is_told() {
    let mut world = World::new(setup(6), 12);
    world.run(MS * 1_000);
    // Node 0 asks again whenever one more dies that should have answered; 1 hears of nothing.
    world.cut(0, 1, true);
    for dies in [5, 4, 3] {
        world.kill(dies);
        world.run(MS * 2_200);
    }
    world.kill(0);
    world.cut(0, 1, false);
    play_on(&mut world, &[1, 2], "the last two");
}
