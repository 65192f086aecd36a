//! One clock for two to eight players, over virtual paths with a seed for each case.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test says what it measured")]

mod support {
    pub mod world;
}

use core::time::Duration;

use netplay_protocol::Now;
use netplay_protocol::datagram::Departure;
use netplay_simnet::Conditions;
use netplay_tick::MeshTime;
use support::world::{Packet, World, id, quantile, range};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn profile(name: &str) -> Conditions {
    Conditions::CLOCK_PROFILES.into_iter().find(|(other, _)| *other == name).unwrap().1
}

fn play(world: &mut World) {
    world.nodes.iter_mut().for_each(|node| node.mesh.set_playing(true));
}

/// Runs the games at 60 frames a second; the distances of the two furthest games in milliseconds, the
/// speeds, and the jumps.
fn pace(world: &mut World, seconds: u32) -> (Vec<f64>, Vec<f64>, usize) {
    let (mut apart, mut speeds, mut jumps) = (Vec::new(), Vec::new(), 0);
    let mut last = vec![MeshTime::from_micros(i64::MIN); world.nodes.len()];
    for _ in 0..seconds * 60 {
        world.run(Duration::from_micros(16_667));
        let mut positions = Vec::new();
        for (node, last) in last.iter_mut().enumerate() {
            let step = world.frame(node).unwrap();
            assert!(step.position >= *last, "never backwards");
            *last = step.position;
            positions.push(step.position.as_micros() as f64 / 1e3);
            speeds.push((step.speed - 1.0).abs() * 100.0);
            jumps += usize::from(step.skipped.is_some());
        }
        apart.push(range(&positions));
    }
    (apart, speeds, jumps)
}

/// Two, four and eight players on this path.
fn stay_together(name: &str) {
    for (count, seeds) in [(2, 200), (4, 200), (8, 200)] {
        let (mut apart, mut speeds, mut jumps) = (Vec::new(), Vec::new(), 0);
        for seed in 0..seeds {
            let mut world = World::new(seed, count, 100, 60, &profile(name));
            world.run(SECOND * 3);
            play(&mut world);
            pace(&mut world, 5);
            let (a, s, j) = pace(&mut world, 6);
            apart.extend(a);
            speeds.extend(s);
            jumps += j;
        }
        let p50 = quantile(&mut apart, 0.5);
        let (p95, p999) = (quantile(&mut apart, 0.95), quantile(&mut apart, 0.999));
        let fastest = quantile(&mut speeds, 1.0);
        println!(
            "{name}, {count} players: furthest two apart p50 {p50:.3}, p95 {p95:.3}, \
             p99.9 {p999:.3} ms; speed within {fastest:.3} %"
        );
        assert!(p999 <= 4.0, "{name}, {count}: {p999}");
        assert!(fastest <= 1.0, "{name}, {count}: {fastest}");
        assert_eq!(jumps, 0);
    }
}

#[test]
fn the_games_of_all_players_stay_together_within_four_milliseconds() {
    stay_together("rtt60_j20");
}

#[test]
fn and_so_they_do_where_delays_come_in_bursts() {
    stay_together("rtt80_bursty");
}

#[test]
fn and_so_they_do_with_loss() {
    stay_together("rtt120_j50_loss5");
}

#[test]
fn any_tick_rate_and_no_delay_at_all_are_fine() {
    for rate in [10, 15, 60, 128] {
        for seed in 0..50 {
            let mut world = World::new(seed, 3, 100, rate, &profile("zero"));
            world.run(SECOND * 5);
            play(&mut world);
            pace(&mut world, 5);
            let (mut apart, _, jumps) = pace(&mut world, 5);
            let worst = quantile(&mut apart, 1.0);
            assert!(worst < 0.3 && jumps == 0, "{rate} Hz, seed {seed}: {worst}");
        }
    }
}

#[test]
fn five_hundred_parts_in_a_million_for_ten_minutes_stay_within_a_tick() {
    for seed in 0..4 {
        let mut world = World::new(seed, 2, 1, 60, &profile("rtt60_j20"));
        world.nodes[0].clock.set_drift(Now::ZERO, 500_000);
        world.nodes[1].clock.set_drift(Now::ZERO, -500_000);
        world.run(SECOND * 5);
        play(&mut world);
        let (mut apart, _, jumps) = pace(&mut world, 600);
        let worst = quantile(&mut apart, 1.0);
        println!("±500 ppm, ten minutes: {worst:.3} ms apart at most");
        assert!(worst < 16.7 && jumps == 0, "seed {seed}: {worst}");
    }
}

#[test]
fn steps_of_the_delay_leave_the_games_together() {
    let mut worst = [0.0_f64; 2];
    for seed in 0..50 {
        let path = |rtt| Conditions::perfect().with_delay(MS * rtt / 2).with_queues(10 * MS);
        let mut world = World::new(seed, 2, 100, 60, &path(30));
        world.run(SECOND * 5);
        play(&mut world);
        pace(&mut world, 10);
        for rtt in [300, 30] {
            world.network.set_all_conditions(&path(rtt));
            let (mut during, ..) = pace(&mut world, 20);
            let (mut after, ..) = pace(&mut world, 5);
            worst[0] = worst[0].max(quantile(&mut during, 1.0));
            worst[1] = worst[1].max(quantile(&mut after, 1.0));
        }
    }
    println!("apart during a step {:.2} ms, two windows later {:.2} ms", worst[0], worst[1]);
    assert!(worst[0] <= 135.0 && worst[1] <= 4.0, "{worst:?}");
}

#[test]
fn a_player_that_stood_still_for_thirty_seconds_is_back_in_a_second_and_disturbs_nobody() {
    // Either only its process stood still, or its clock too.
    for clock_stops in [false, true] {
        for (count, seeds) in [(2, 50), (4, 50)] {
            for seed in 0..seeds {
                let mut world = World::new(seed, count, 100, 60, &profile("rtt60_j20"));
                world.run(SECOND * 5);
                play(&mut world);
                pace(&mut world, 5);
                let now = world.now;
                world.nodes[1].stopped = true;
                if clock_stops {
                    world.nodes[1].clock.pause(now);
                }
                let others: Vec<_> = (0..count).filter(|node| *node != 1).collect();
                let mut before = Vec::new();
                for _ in 0..30 * 60 {
                    world.run(Duration::from_micros(16_667));
                    before = others
                        .iter()
                        .map(|node| world.frame(*node).unwrap().position.as_micros() as f64)
                        .collect();
                }
                let now = world.now;
                world.nodes[1].clock.resume(now);
                world.nodes[1].stopped = false;
                world.run(SECOND);
                let positions: Vec<_> = (0..count)
                    .map(|node| world.frame(node).unwrap().position.as_micros() as f64)
                    .collect();
                let case = format!("clock stops: {clock_stops}, {count} players, seed {seed}");
                assert!(range(&positions) / 1e3 < 8.0, "{case}: {positions:?}");
                for (node, before) in others.iter().zip(before) {
                    let moved = positions[*node] - before - 1e6;
                    assert!(moved.abs() < 3_000.0, "{case}: another was moved by {moved} µs");
                }
            }
        }
    }
}

#[test]
fn a_player_leaves_and_nobody_notices_a_step() {
    for seed in 0..50 {
        let mut world = World::new(seed, 4, 100, 60, &profile("rtt60_j20"));
        world.run(SECOND * 5);
        play(&mut world);
        pace(&mut world, 5);
        // The founder among them.
        for gone in [0, 2] {
            world.nodes[gone].stopped = true;
            world.nodes.iter_mut().for_each(|node| node.mesh.remove(id(gone)));
            let mut last: Option<Vec<f64>> = None;
            for _ in 0..120 {
                world.run(Duration::from_micros(16_667));
                let shown: Vec<_> = [1, 3].map(|node| world.mesh(node).unwrap()).into();
                if let Some(last) = last {
                    for (now, before) in shown.iter().zip(last) {
                        let step = now - before - 16_667.0;
                        assert!(step.abs() < 60.0, "seed {seed}: {step} µs");
                    }
                }
                assert!(range(&shown) / 1e3 < 4.0);
                last = Some(shown);
            }
        }
    }
}

#[test]
fn a_newcomer_adopts_the_clock_of_a_running_match() {
    for seed in 0..50 {
        let mut world = World::new(seed, 4, 100, 60, &profile("rtt60_j20"));
        // The one with the lowest id, which would found a clock if it came first.
        world.nodes[0].stopped = true;
        world.run(SECOND * 5);
        assert!(world.mesh(1).is_none(), "the lowest id has not spoken");
        (1..4).for_each(|node| world.nodes[node].mesh.remove(id(0)));
        world.run(SECOND * 5);
        (1..4).for_each(|node| world.nodes[node].mesh.set_playing(true));
        let before = world.mesh(1).unwrap();
        world.nodes[0].stopped = false;
        (1..4).for_each(|node| world.nodes[node].mesh.add(id(0)));
        world.run(SECOND);
        assert!(world.apart_ms() < 8.0, "seed {seed}: {}", world.apart_ms());
        assert!((world.mesh(1).unwrap() - before - 1e6).abs() < 1_000.0);
    }
}

/// What the honest players lose of their agreement, in milliseconds, when player 0 lies.
fn harm(count: usize, seed: u64, lie: impl Fn(Now, usize, &mut Packet) + 'static) -> (f64, World) {
    let mut world = World::new(seed, count, 50, 60, &profile("rtt60_j20"));
    world.run(SECOND * 5);
    play(&mut world);
    pace(&mut world, 10);
    world.nodes[0].lie = Some(Box::new(lie));
    let mut worst = 0.0_f64;
    for _ in 0..30 * 60 {
        world.run(Duration::from_micros(16_667));
        let shown: Vec<_> = (1..count).map(|node| world.mesh(node).unwrap()).collect();
        worst = worst.max(range(&shown) / 1e3);
    }
    (worst, world)
}

fn later(departure: Departure, micros: i64) -> Departure {
    let units = i64::from(departure.units()) + micros / 16;
    Departure::at(Now::from_micros((units.rem_euclid(1 << 24) * 16) as u64))
}

#[test]
fn a_liar_among_four_moves_the_others_by_less_than_a_millisecond_and_is_told() {
    let honest: Vec<f64> = (0..100).map(|seed| harm(4, seed, |_, _, _| ()).0).collect();
    let lies: [fn(Now, usize, &mut Packet); 4] = [
        // About the common clock.
        |_, _, packet| {
            if let Some(Some(report)) = &mut packet.report {
                report.mesh += 80_000;
            }
        },
        // Another thing to each.
        |_, to, packet| {
            if let Some(Some(report)) = &mut packet.report {
                report.mesh += 40_000 * to as i64;
            }
        },
        // About how long it held packets, to each another thing.
        |_, to, packet| {
            if let Some((_, Some(hold))) = &mut packet.ack {
                *hold += MS * 15 * to as u32;
            }
        },
        // A clock that runs away by half a percent.
        |now, _, packet| {
            packet.departure = later(packet.departure, now.as_micros() as i64 / 200);
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let (mut worst, mut told) = (0.0_f64, 0);
        for seed in 0..100 {
            let (apart, world) = harm(4, seed, lie);
            worst = worst.max(apart - honest[seed as usize]);
            let tells = |node: usize| {
                let pair = world.nodes[node].mesh.pair(world.local(node), id(0)).unwrap();
                pair.disagrees
            };
            told += (1..4).filter(|node| tells(*node)).count();
            let accused = (1..4).any(|node| {
                let honest = (1..4).filter(|other| *other != node);
                honest.into_iter().any(|other| {
                    let pair = world.nodes[node].mesh.pair(world.local(node), id(other));
                    pair.unwrap().disagrees
                })
            });
            assert!(!accused, "lie {number}, seed {seed}: an honest player is accused");
        }
        println!("lie {number}: the others are {worst:.3} ms further apart; told by {told} of 300");
        assert!(worst <= 1.0, "lie {number}: {worst}");
        assert!(number == 3 || told > 250, "lie {number} is told by {told} of 300");
    }
}

#[test]
fn a_liar_of_two_moves_the_other_no_faster_than_the_slew_limit() {
    for seed in 0..50 {
        let mut world = World::new(seed, 2, 50, 60, &profile("rtt60_j20"));
        world.run(SECOND * 5);
        play(&mut world);
        pace(&mut world, 5);
        // Whether the liar has founded the clock or not.
        let (liar, honest) = if seed % 2 == 0 { (1, 0) } else { (0, 1) };
        world.nodes[liar].lie = Some(Box::new(|now, _, packet| {
            if let Some(Some(report)) = &mut packet.report {
                report.mesh += now.as_micros() as i64 % 7_000_000;
            }
        }));
        let mut last = world.mesh(honest).unwrap();
        for _ in 0..600 {
            world.run(Duration::from_micros(16_667));
            let shown = world.mesh(honest).unwrap();
            let speed = (shown - last) / 16_667.0 - 1.0;
            assert!(speed.abs() < 0.0025, "seed {seed}: {speed}");
            last = shown;
        }
    }
}

#[test]
fn an_asymmetric_pair_shows_from_three_players_on_and_moves_nobody_much() {
    for seed in 0..50 {
        let path = Conditions::perfect().with_delay(MS * 30).with_queues(10 * MS);
        let mut world = World::new(seed, 4, 50, 60, &path);
        world.network.set_conditions(0, 1, path.clone().with_delay(MS * 70));
        world.run(SECOND * 20);
        let residual = |node: usize, other: usize| {
            world.nodes[node].mesh.pair(world.local(node), id(other)).unwrap()
        };
        for (node, other) in [(0, 1), (1, 0)] {
            let pair = residual(node, other);
            let ms = pair.residual_us.abs() / 1e3;
            assert!((ms - 20.0).abs() < 3.0 && pair.disagrees, "half of 40 ms: {ms}");
        }
        for (node, other) in [(2, 3), (0, 2), (1, 3), (3, 0)] {
            assert!(!residual(node, other).disagrees);
        }
        assert!(world.apart_ms() < 3.0, "seed {seed}: {}", world.apart_ms());
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(11, 4, 100, 60, &profile("rtt120_j50_loss5"));
        world.run(SECOND * 10);
        (0..4).map(|node| world.mesh(node).unwrap().to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
