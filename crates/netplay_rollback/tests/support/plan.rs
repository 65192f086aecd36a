//! A random match: a network, and what goes wrong in it. Plans shrink, so that a failure shows what it
//! needs and nothing else.

use core::time::Duration;

use netplay_protocol::Now;
use netplay_rollback::{Input, Role};
use netplay_simnet::Conditions;
use proptest::prelude::*;

use super::world::{MS, Setup, World, peer};

/// What goes wrong, with times in milliseconds and nodes counted modulo their number.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A process dies, and perhaps another one of its peer starts later.
    Kill { node: usize, back_after: Option<u64> },
    /// A process stands still.
    Freeze { node: usize, lasts: u64 },
    /// Nothing passes between two nodes, for less time than it takes to lose each other.
    Cut { a: usize, b: usize, lasts: u64 },
    /// A player leaves properly.
    Leave { node: usize },
    /// Somebody takes a seat that was free from the start.
    Come { seat: usize },
    /// The host changes the input delay.
    Delay { ticks: u8 },
    /// Somebody watches from now on.
    Watch { delay: u16 },
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub setup: Setup,
    /// Each with the milliseconds that pass before it.
    pub faults: Vec<(u64, Fault)>,
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let loss = (0.0..0.2_f64, any::<bool>());
    let delay = (0..100_u32, 0..40_u32);
    let rest = (0.0..0.1_f64, 0.0..0.1_f64);
    (loss, delay, rest).prop_map(|((loss, bursts), (delay, jitter), (twice, reorder))| {
        let conditions = Conditions::perfect()
            .with_delay(MS * delay)
            .with_jitter(MS * jitter)
            .with_duplicates(twice)
            .with_reorder(reorder, MS * 20);
        if bursts { conditions.with_bursts(loss / 4.0, 0.3) } else { conditions.with_loss(loss) }
    })
}

fn setup(peers: impl Strategy<Value = usize>) -> impl Strategy<Value = Setup> {
    let numbers = (1..=2_u8, 0..=12_u8, 0..=4_u8, 1..=20_i32, 1..=5_usize);
    let rates = prop_oneof![4 => Just(60), 1 => Just(30), 1 => Just(128)];
    (peers, conditions(), numbers, rates, 0..200_000_usize).prop_map(
        |(peers, conditions, (each, prediction, delay, change_every, input_max), rate, ballast)| {
            Setup {
                peers,
                absent: 0,
                players_each: if peers <= 8 { each } else { 1 },
                rate,
                prediction,
                delay,
                change_every,
                input_max,
                ballast,
                conditions,
                checksum_every: None,
                bulk_rate: 2_500_000,
            }
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    let node = 0..16_usize;
    prop_oneof![
        3 => (node.clone(), prop::option::weighted(0.7, 0..4_000_u64))
            .prop_map(|(node, back_after)| Fault::Kill { node, back_after }),
        2 => (node.clone(), 10..3_000_u64).prop_map(|(node, lasts)| Fault::Freeze { node, lasts }),
        2 => (node.clone(), node.clone(), 10..1_500_u64)
            .prop_map(|(a, b, lasts)| Fault::Cut { a, b, lasts }),
        1 => node.prop_map(|node| Fault::Leave { node }),
        1 => (0..=6_u8).prop_map(|ticks| Fault::Delay { ticks }),
        1 => (0..100_u16).prop_map(|delay| Fault::Watch { delay }),
    ]
}

pub fn plan(peers: impl Strategy<Value = usize>) -> impl Strategy<Value = Plan> {
    let faults = prop::collection::vec((100..2_500_u64, fault()), 0..6);
    (any::<u64>(), setup(peers), faults).prop_map(|(seed, setup, faults)| Plan {
        seed,
        setup,
        faults,
    })
}

/// The same with seats that are free at first, which some take.
pub fn plan_with_seats(peers: impl Strategy<Value = usize>) -> impl Strategy<Value = Plan> {
    let come = (100..2_500_u64, (0..16_usize).prop_map(|seat| Fault::Come { seat }));
    (plan(peers), 1..16_usize, prop::collection::vec((0..7_usize, come), 1..5)).prop_map(
        |(mut plan, absent, comes)| {
            plan.setup.absent = 1 + absent % (plan.setup.peers - 1);
            for (place, come) in comes {
                plan.faults.insert(place.min(plan.faults.len()), come);
            }
            plan
        },
    )
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Runs a plan; panics where the oracle does not hold.
pub fn run(plan: &Plan) -> World {
    let mut world = World::new(plan.setup.clone(), plan.seed);
    let mut later: Vec<(Now, Fault)> = Vec::new();
    let mut watchers = plan.setup.peers;
    for (after, fault) in &plan.faults {
        let until = world.now + ms(*after);
        run_until(&mut world, until, &mut later);
        begin(&mut world, fault, &mut later, &mut watchers);
    }
    while let Some(last) = later.iter().map(|(at, _)| *at).max() {
        // What begins and ends in one moment takes a step too.
        let until = last.max(world.now + ms(1));
        run_until(&mut world, until, &mut later);
    }
    let calm = world.now + ms(9_000);
    run_until(&mut world, calm, &mut later);
    // A burst of losses may hold back anybody for a moment.
    let deadline = world.now + ms(2_000);
    while world.now < deadline && behind(&world).is_some() {
        world.step();
    }
    settled(&world);
    world
}

/// A player who is too far behind the clock, and by how much.
fn behind(world: &World) -> Option<String> {
    let setup = &world.setup;
    let travels = setup.conditions.delay + MS * 80;
    let allowed = travels.as_micros() as i32 * i32::from(setup.rate) / 1_000_000 + 12;
    let players = world.nodes.iter().filter(|(index, _)| **index < setup.peers);
    let mut behind = players.map(|(index, node)| (index, world.tick() - node.session.confirmed()));
    let (index, ticks) = behind.find(|(_, ticks)| *ticks > allowed)?;
    Some(format!("node {index} is {ticks} ticks behind, {allowed} allowed"))
}

fn run_until(world: &mut World, until: Now, later: &mut Vec<(Now, Fault)>) {
    while world.now < until {
        world.step();
        while let Some(at) = later.iter().position(|(at, _)| *at <= world.now) {
            let (_, fault) = later.remove(at);
            end(world, &fault);
        }
    }
}

/// What a fault begins with. Its end is put off as the fault again.
fn begin(world: &mut World, fault: &Fault, later: &mut Vec<(Now, Fault)>, watchers: &mut usize) {
    let peers = world.setup.peers;
    match *fault {
        Fault::Kill { node, back_after } => {
            let node = node % peers;
            if !world.nodes.contains_key(&node) || world.players_left() < 2 {
                return;
            }
            world.kill(node);
            if let Some(after) = back_after {
                later.push((world.now + ms(after), Fault::Kill { node, back_after }));
            }
        }
        Fault::Freeze { node, lasts } => {
            let until = world.now + ms(lasts);
            if let Some(node) = world.nodes.get_mut(&(node % peers)) {
                node.frozen_until = until;
            }
        }
        Fault::Cut { a, b, lasts } => {
            let (a, b) = (a % peers, b % peers);
            if a != b {
                world.cut(a, b, true);
                later.push((world.now + ms(lasts), Fault::Cut { a, b, lasts }));
            }
        }
        Fault::Leave { node } => {
            if world.players_left() > 1 {
                world.leave(node % peers);
            }
        }
        Fault::Come { seat } => {
            let absent = world.setup.absent.max(1);
            world.come(peers - absent + seat % absent);
        }
        Fault::Delay { ticks } => {
            let host = world.host();
            world.give(host, Input::Delay(ticks));
        }
        Fault::Watch { delay } => {
            world.start(*watchers, Role::Spectator { delay, from_start: false });
            *watchers += 1;
        }
    }
}

fn end(world: &mut World, fault: &Fault) {
    match *fault {
        Fault::Kill { node, .. } if world.players_left() > 0 => world.start(node, Role::Returning),
        Fault::Cut { a, b, .. } => world.cut(a, b, false),
        _ => {}
    }
}

/// Nine calm seconds after the last fault, all is well.
fn settled(world: &World) {
    world.check_inputs();
    let setup = &world.setup;
    assert_eq!(behind(world), None);
    let mut members = None;
    for (index, node) in &world.nodes {
        let session = &node.session;
        let about = format!("node {index}: {:?} {:?}", node.events, session.stats());
        assert_eq!(session.stats().refused.malformed, 0, "{about}");
        if *index >= setup.peers {
            assert!(session.confirmed() > 0, "a spectator sees nothing: {about}");
            continue;
        }
        assert!(session.is_playing(), "{about}");
        let here: Vec<_> = session.members().collect();
        let alive: Vec<_> =
            world.nodes.keys().filter(|at| **at < setup.peers).map(|at| peer(*at)).collect();
        assert_eq!(here, alive, "who plays: {about}");
        assert_eq!(*members.get_or_insert(here.clone()), here, "{about}");
    }
}
