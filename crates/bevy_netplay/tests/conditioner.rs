//! The link conditioner as a component, over the in-memory network: inserting, changing, removing it.

#![expect(clippy::print_stdout, reason = "a failing test shows its seed")]

use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_netplay::NetplayPlugins;
use bevy_netplay::prelude::*;
use bevy_netplay::test_kit::{STEP, TestNet};
use serde::{Deserialize, Serialize};

const SEED: u64 = 0xC0;

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Position(u32);

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Shot(u32);

fn game(app: &mut bevy_app::App) {
    app.add_net_message::<Position>(Lane::Unreliable).add_net_message::<Shot>(Lane::Reliable);
}

fn pair() -> TestNet {
    println!("seed {SEED:#x}");
    let mut net = TestNet::new(SEED, 2, game);
    net.connect_all();
    net
}

fn delay(millis: u64) -> Conditions {
    Conditions::perfect().with_delay(Duration::from_millis(millis))
}

/// The only peer of an app.
fn peer(net: &mut TestNet, index: usize) -> EntityWorldMut<'_> {
    let (entity, _) = net.connected(index)[0];
    net.app(index).world_mut().entity_mut(entity)
}

/// How many steps a message takes from one app to the other, by its lane.
fn steps<M: NetMessageOf>(net: &mut TestNet, from: usize, number: u32) -> u32 {
    net.send(from, M::new(number));
    for step in 1..200 {
        net.step();
        if net.received::<M>(1 - from).iter().any(|m| m.message == M::new(number)) {
            return step;
        }
    }
    panic!("it never arrives");
}

trait NetMessageOf: bevy_netplay::NetMessage + Clone + PartialEq {
    fn new(number: u32) -> Self;
}

impl NetMessageOf for Position {
    fn new(number: u32) -> Self {
        Self(number)
    }
}

impl NetMessageOf for Shot {
    fn new(number: u32) -> Self {
        Self(number)
    }
}

/// Whole steps in so much time. An app looks at the start of a step, so the rest costs no more.
fn frames(millis: u64) -> u32 {
    (Duration::from_millis(millis).as_nanos() / STEP.as_nanos()) as u32
}

#[test]
fn inserting_changing_and_removing_the_component_acts_on_both_lanes() {
    let mut net = pair();
    let quick = [steps::<Position>(&mut net, 0, 1), steps::<Shot>(&mut net, 0, 1)];
    peer(&mut net, 0).insert(LinkConditioner::outgoing(delay(100)));
    let slow = [steps::<Position>(&mut net, 0, 2), steps::<Shot>(&mut net, 0, 2)];
    assert_eq!(slow, quick.map(|steps| steps + frames(100)));
    assert_eq!(steps::<Position>(&mut net, 1, 2), quick[0], "only what app 0 sends");

    let mut entity = peer(&mut net, 0);
    let mut conditioner = entity.get_mut::<LinkConditioner>().unwrap();
    conditioner.outgoing = delay(200);
    conditioner.incoming = delay(50);
    assert_eq!(steps::<Position>(&mut net, 0, 3), quick[0] + frames(200));
    assert_eq!(steps::<Position>(&mut net, 1, 3), quick[0] + frames(50));

    peer(&mut net, 0).remove::<LinkConditioner>();
    let back = [steps::<Position>(&mut net, 0, 4), steps::<Shot>(&mut net, 0, 4)];
    assert_eq!(back, quick);
}

#[test]
fn the_conditions_of_both_ends_add_up() {
    let mut net = pair();
    let quick = steps::<Position>(&mut net, 0, 1);
    peer(&mut net, 0).insert(LinkConditioner::new(delay(50)));
    peer(&mut net, 1).insert(LinkConditioner::new(delay(100)));
    for from in [0, 1] {
        net.step();
        assert_eq!(steps::<Position>(&mut net, from, 2), quick + frames(150));
    }
}

/// Which of a thousand unreliable messages arrive under this conditioner.
fn arrivals(conditioner: LinkConditioner) -> Vec<u32> {
    let mut net = pair();
    peer(&mut net, 0).insert(conditioner);
    let mut arrived = Vec::new();
    for number in 0..1030 {
        if number < 1000 {
            net.send(0, Position(number));
        }
        net.step();
        arrived.extend(net.received::<Position>(1).iter().map(|m| m.message.0));
    }
    // Messages stay readable for two frames.
    arrived.sort_unstable();
    arrived.dedup();
    arrived
}

#[test]
fn loss_is_as_asked_and_the_same_for_the_same_seed() {
    let lossy = LinkConditioner::outgoing(Conditions::perfect().with_loss(0.2)).with_seed(SEED);
    let arrived = arrivals(lossy.clone());
    // A small message rides in two datagrams, and is lost with both: 4 %, with a deviation of 6.
    assert!((930..990).contains(&arrived.len()), "{} of 1000 at 20 % loss", arrived.len());
    assert_eq!(arrived, arrivals(lossy.clone()));
    assert_ne!(arrived, arrivals(lossy.with_seed(SEED + 1)));
}

#[test]
fn the_default_of_the_settings_conditions_connecting_and_is_on_every_peer() {
    let connect = |plugins: fn() -> NetplayPlugins| {
        let mut net = TestNet::new(SEED, 0, game);
        for _ in 0..2 {
            let index = net.add(plugins(), game);
            net.join(index, JoinLobby::quick(2));
        }
        let mut steps = 0;
        while net.connected(0).len() + net.connected(1).len() < 2 {
            net.step();
            steps += 1;
            assert!(steps < 600, "not connected");
        }
        (net, steps)
    };
    let (_, quick) = connect(|| NetplayPlugins::new("test"));
    let conditioned =
        || NetplayPlugins::new("test").conditioner(LinkConditioner::outgoing(delay(200)));
    let (mut net, slow) = connect(conditioned);
    assert!(slow >= quick + frames(400), "{slow} steps, {quick} without");
    for index in [0, 1] {
        let conditioner = peer(&mut net, index).get::<LinkConditioner>().cloned();
        assert_eq!(conditioner, Some(LinkConditioner::outgoing(delay(200))));
    }
    let conditioned = steps::<Position>(&mut net, 0, 1);
    peer(&mut net, 0).remove::<LinkConditioner>();
    assert_eq!(steps::<Position>(&mut net, 0, 2) + frames(200), conditioned);
}
