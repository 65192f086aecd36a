//! A mesh of many nodes: order, partitions, removal, independence of pairs.

use core::time::Duration;

use netplay_protocol::Now;
use netplay_simnet::{Conditions, Delivery, Network, Pipe};

type Net = Network<u16, u32>;

const LEN: usize = 100;

fn network(conditions: Conditions, seed: u64) -> Net {
    Network::new(conditions, seed, |node: u16| u64::from(node))
}

fn slow() -> Conditions {
    Conditions::perfect().with_delay(Duration::from_millis(20))
}

fn drain(network: &mut Net, now: Now) -> Vec<Delivery<u16, u32>> {
    core::iter::from_fn(|| network.poll(now)).collect()
}

/// Everybody sends to everybody every 10 ms for 2 s.
fn busy_run(seed: u64, set: impl FnOnce(&mut Net)) -> Vec<(Now, Delivery<u16, u32>)> {
    let mut network = network(Conditions::bad_hotel(), seed);
    set(&mut network);
    let mut arrivals = Vec::new();
    for step in 0..200 {
        let now = Now::from_millis(10 * u64::from(step));
        arrivals.extend(drain(&mut network, now).into_iter().map(|d| (now, d)));
        for from in 0..4 {
            for to in (0..4).filter(|to| *to != from) {
                network.send(now, from, to, LEN, step);
            }
        }
    }
    let end = Now::from_millis(60_000);
    arrivals.extend(drain(&mut network, end).into_iter().map(|d| (end, d)));
    let stats = network.total_stats();
    assert_eq!(stats.delivered, arrivals.len() as u64);
    assert_eq!((stats.in_flight(), network.in_flight()), (0, 0));
    arrivals
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for seed in [1, 2, 77] {
        println!("seed {seed}");
        let run = busy_run(seed, |_| {});
        assert!(run.len() > 1000);
        assert_eq!(run, busy_run(seed, |_| {}));
        assert_ne!(run, busy_run(seed + 1, |_| {}));
    }
}

#[test]
fn one_pair_does_not_change_what_happens_to_the_others() {
    let seed = 5;
    println!("seed {seed}");
    let others = |run: Vec<(Now, Delivery<u16, u32>)>| -> Vec<_> {
        run.into_iter().filter(|(_, d)| (d.from, d.to) != (1, 2)).collect()
    };
    let plain = busy_run(seed, |_| {});
    let changed = busy_run(seed, |network| {
        // Makes the directions in another order, too.
        network.set_conditions(3, 0, Conditions::bad_hotel());
        network.block(1, 2, true);
    });
    assert_ne!(plain, changed);
    assert_eq!(others(plain), others(changed));
}

#[test]
fn the_two_directions_of_a_pair_have_their_own_luck() {
    let run = busy_run(8, |_| {});
    let arrived = |from, to| -> Vec<u32> {
        run.iter().filter(|(_, d)| (d.from, d.to) == (from, to)).map(|(_, d)| d.item).collect()
    };
    assert_ne!(arrived(0, 1), arrived(1, 0));
}

#[test]
fn packets_arrive_in_due_order_over_all_pairs_then_in_sending_order() {
    let mut network = network(slow(), 1);
    network.set_conditions(1, 2, Conditions::perfect());
    network.send(Now::ZERO, 3, 2, LEN, 0);
    network.send(Now::ZERO, 0, 1, LEN, 1);
    network.send(Now::from_millis(5), 1, 2, LEN, 2);
    network.send(Now::from_millis(5), 2, 2, LEN, 3);
    assert_eq!(network.next_deadline(), Some(Now::from_millis(5)));
    let order: Vec<u32> =
        drain(&mut network, Now::from_millis(25)).iter().map(|delivery| delivery.item).collect();
    assert_eq!(order, [2, 0, 1, 3]);
    assert_eq!(network.next_deadline(), None);
}

#[test]
fn a_pair_behaves_as_a_pipe() {
    // Nothing here is drawn, so the seeds do not matter.
    let conditions = slow().with_rate(15_000, 2_000);
    let mut network = network(conditions.clone(), 3);
    let mut pipe = Pipe::new(conditions, 4);
    for item in 0..500 {
        let now = Now::from_millis(u64::from(item) * 5);
        network.send(now, 0, 1, LEN, item);
        pipe.send(now, LEN, item);
    }
    while let Some(due) = pipe.next_deadline() {
        assert_eq!(network.next_deadline(), Some(due));
        assert_eq!(network.poll(due).map(|d| d.item), pipe.poll(due));
    }
    assert_eq!(network.stats(0, 1), pipe.stats());
    assert!(pipe.stats().overflowed > 0);
}

#[test]
fn a_blocked_direction_delivers_nothing_until_it_is_opened() {
    let mut network = network(slow(), 1);
    network.send(Now::ZERO, 1, 2, LEN, 0);
    network.send(Now::ZERO, 2, 1, LEN, 1);
    network.block(1, 2, true);
    assert!(network.is_blocked(1, 2) && !network.is_blocked(2, 1));
    network.send(Now::from_millis(1), 1, 2, LEN, 2);
    let through = drain(&mut network, Now::from_millis(100));
    assert_eq!(through, [Delivery { from: 2, to: 1, item: 1 }]);
    assert_eq!(network.stats(1, 2).lost, 2);

    network.block(1, 2, false);
    network.send(Now::from_millis(100), 1, 2, LEN, 3);
    let through = drain(&mut network, Now::from_millis(120));
    assert_eq!(through, [Delivery { from: 1, to: 2, item: 3 }]);
}

#[test]
fn a_removed_node_loses_what_is_in_flight_both_ways() {
    let mut network = network(slow(), 1);
    network.block(1, 3, true);
    for (from, to) in [(1, 2), (2, 1), (2, 3), (3, 2)] {
        network.send(Now::ZERO, from, to, LEN, 0);
    }
    network.remove(1);
    let pairs: Vec<_> = drain(&mut network, Now::from_millis(100))
        .iter()
        .map(|delivery| (delivery.from, delivery.to))
        .collect();
    assert_eq!(pairs, [(2, 3), (3, 2)]);
    assert_eq!(network.stats(1, 2).lost, 1);
    assert_eq!(network.total_stats().in_flight(), 0);
    assert!(network.is_blocked(1, 3), "blocks outlive a removal");
}

#[test]
fn conditions_of_one_direction_override_the_default() {
    let mut network = network(slow(), 1);
    network.set_conditions(1, 2, Conditions::perfect().with_loss(7.0));
    assert_eq!(network.conditions(1, 2), Conditions::perfect().with_loss(1.0));
    assert_eq!(network.conditions(2, 1), slow());
    network.send(Now::ZERO, 1, 2, LEN, 0);
    network.send(Now::ZERO, 2, 1, LEN, 1);
    assert_eq!(drain(&mut network, Now::from_millis(100)).len(), 1);

    network.set_all_conditions(&Conditions::perfect());
    network.send(Now::from_millis(100), 1, 2, LEN, 2);
    network.send(Now::from_millis(100), 8, 9, LEN, 3);
    assert_eq!(drain(&mut network, Now::from_millis(100)).len(), 2);
}
