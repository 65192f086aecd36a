//! A process that stands still for long, with its link up: a debugger, a hidden tab.

mod support;

use netplay_rollback::Event;
use netplay_simnet::Conditions;
use support::world::{MS, Setup, World, peer};

fn world(peers: usize, rate: u16) -> World {
    let conditions = Conditions::perfect().with_delay(MS * 20);
    World::new(Setup { peers, rate, conditions, ..Setup::default() }, 1)
}

#[test]
fn who_stands_still_for_longer_than_inputs_are_kept_is_dropped_and_the_others_go_on() {
    for still in [0, 2] {
        for rate in [60, 240] {
            let mut world = world(3, rate);
            world.run(MS * 1_000);
            let wakes = world.now + MS * 80_000;
            world.nodes.get_mut(&still).unwrap().frozen_until = wakes;
            world.run(MS * 79_000);
            let rest: Vec<usize> = (0..3).filter(|node| *node != still).collect();
            for node in &rest {
                let session = &world.node(*node).session;
                let near = session.confirmed() > world.tick() - 20;
                assert!(
                    near,
                    "{still} at {rate}: {} {:?}",
                    session.confirmed(),
                    world.node(*node).events
                );
                assert!(session.members().eq(rest.iter().map(|node| peer(*node))));
            }
            world.run(MS * 2_000);
            world.check_inputs();
            let events = &world.node(still).events;
            assert!(events.iter().any(|(_, event)| *event == Event::Dropped), "{events:?}");
        }
    }
}

#[test]
fn who_stands_still_for_less_goes_on_with_the_others() {
    let mut world = world(3, 60);
    world.run(MS * 1_000);
    world.nodes.get_mut(&1).unwrap().frozen_until = world.now + MS * 50_000;
    world.run(MS * 75_000);
    for node in world.nodes.values() {
        assert!(node.session.confirmed() > world.tick() - 20, "{:?}", node.events);
        assert_eq!(node.session.members().count(), 3);
    }
    world.check_inputs();
}

#[test]
fn with_nobody_left_to_decide_a_match_ends_before_it_forgets_inputs() {
    let mut world = world(2, 240);
    world.run(MS * 1_000);
    world.nodes.get_mut(&0).unwrap().frozen_until = world.now + MS * 30_000;
    world.run(MS * 29_000);
    let events = &world.node(1).events;
    assert!(events.iter().any(|(_, event)| *event == Event::NoQuorum), "{events:?}");
    assert!(events.iter().any(|(_, event)| *event == Event::Dropped), "{events:?}");
}
