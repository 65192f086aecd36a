//! What the lanes deliver, and when, over a virtual path with a seed for each case.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod config;
    pub mod pair;
}

use core::time::Duration;

use netplay_peer::link::{InputBlock, LinkInput};
use netplay_protocol::Now;
use netplay_protocol::control::lane_entries;
use netplay_protocol::frame::{Body, Frame, MessageId};
use netplay_protocol::lane::{Lane, LaneConfig, LaneKind};
use netplay_protocol::limits::{RELIABLE_WINDOW, STREAM_WINDOW};
use netplay_simnet::Conditions;
use rand_core::Rng;
use support::config::config;
use support::pair::{Pair, Path, for_each_seed};

const MS: Duration = Duration::from_millis(1);
/// A tick at 60 Hz.
const TICK: Duration = Duration::from_micros(16_667);
const UNORDERED: Lane = Lane::custom(0);
const URGENT: Lane = Lane::custom(1);

fn path(rtt_ms: u32, loss: f64) -> Conditions {
    Conditions::perfect().with_delay(MS * rtt_ms / 2).with_loss(loss)
}

/// Two links with two lanes more than there are from the start.
fn pair(conditions: &Conditions, seed: u64) -> Pair {
    let mut config = config();
    config.lanes.set(UNORDERED, LaneConfig::new(LaneKind::ReliableUnordered));
    config.lanes.set(URGENT, LaneConfig::new(LaneKind::Reliable).deadline(100 * MS));
    config.hello.lanes = lane_entries(&config.lanes);
    let mut pair = Pair::new([config.clone(), config], conditions, seed);
    pair.establish();
    pair
}

/// A message with its number and padding.
fn message(number: u32, len: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(len.max(4), 7);
    payload
}

fn number(payload: &[u8]) -> u32 {
    u32::from_le_bytes(payload[..4].try_into().unwrap())
}

fn queue(pair: &mut Pair, side: usize, lane: Lane, key: Option<u16>, payload: &[u8]) {
    let mut frames = Vec::new();
    Frame { lane, body: Body { id: MessageId(0), key, payload } }.put(&mut frames);
    pair.handle(side, LinkInput::Send(frames));
}

fn flush(pair: &mut Pair, side: usize) {
    pair.handle(side, LinkInput::Flush);
}

/// Numbers of the messages that a side has received on a lane, with their times.
fn arrivals(pair: &Pair, side: usize, lane: Lane) -> Vec<(u32, Now)> {
    let side = &pair.sides[side];
    let all = side.received.iter().zip(&side.times).filter(|((on, _), _)| *on == lane);
    all.map(|((_, payload), time)| (number(payload), *time)).collect()
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// One message of `len` bytes a tick both ways; how long each took, sorted.
fn latencies(
    lane: Lane,
    len: usize,
    conditions: &Conditions,
    seed: u64,
    ticks: u32,
) -> Vec<Duration> {
    let mut pair = pair(conditions, seed);
    let mut sent = Vec::new();
    for i in 0..ticks {
        sent.push(pair.now);
        for side in 0..2 {
            queue(&mut pair, side, lane, None, &message(i, len));
            flush(&mut pair, side);
        }
        pair.run(TICK);
    }
    pair.run(Duration::from_secs(5));
    let mut took = Vec::new();
    for side in 0..2 {
        let arrived = arrivals(&pair, side, lane);
        if lane == Lane::Reliable {
            assert!(arrived.iter().map(|(n, _)| *n).eq(0..ticks), "all, once, in order");
        }
        took.extend(arrived.iter().map(|(n, at)| at.since(sent[*n as usize])));
    }
    took.sort();
    took
}

/// Checks that 99 of 100 reliable messages arrive within `limit` ms; what was measured.
fn repaired_within(limit: u32, what: &str, conditions: &Conditions) -> String {
    let mut all = Vec::new();
    for seed in 0..10 {
        all.extend(latencies(Lane::Reliable, 200, conditions, seed, 1200));
    }
    all.sort();
    let (p50, p99, max) = (quantile(&all, 0.5), quantile(&all, 0.99), all[all.len() - 1]);
    assert!(p99 <= MS * limit, "{what}: p99 {p99:?}");
    format!("{what}: p50 {p50:?}, p99 {p99:?}, max {max:?} of {}", all.len())
}

#[test]
fn reliable_messages_are_repaired_within_ninety_milliseconds_at_five_percent_loss() {
    for (loss, limit) in [(0.02, 90), (0.05, 90), (0.1, 130), (0.2, 250)] {
        println!("{}", repaired_within(limit, &format!("loss {loss}"), &path(30, loss)));
    }
}

#[test]
fn reliable_messages_are_repaired_quickly_on_a_long_path_that_rarely_loses() {
    // Some stretches of two seconds have no loss; messages ride twice in them as well.
    println!("{}", repaired_within(130, "loss 0.02, 120 ms", &path(120, 0.02)));
}

#[test]
fn reliable_messages_are_repaired_after_bursts_too() {
    for (rtt, limit) in [(30, 180), (120, 300)] {
        // Four in a row on average.
        let conditions = path(rtt, 0.0).with_bursts(0.25 * 0.05 / 0.95, 0.25);
        println!("{}", repaired_within(limit, &format!("bursts, {rtt} ms"), &conditions));
    }
}

#[test]
fn the_newest_state_is_at_most_the_path_and_sixty_milliseconds_old() {
    for len in [200, 1100] {
        let mut ages = Vec::new();
        for seed in 0..10 {
            let mut pair = pair(&path(120, 0.05), seed);
            let mut sent = Vec::new();
            for i in 0..1200 {
                sent.push(pair.now);
                for side in 0..2 {
                    queue(&mut pair, side, Lane::Sequenced, None, &message(i, len));
                    flush(&mut pair, side);
                }
                pair.run(TICK);
                if i > 30
                    && let Some((newest, _)) = arrivals(&pair, 1, Lane::Sequenced).last()
                {
                    ages.push(pair.now.since(sent[*newest as usize]));
                }
            }
        }
        ages.sort();
        let p99 = quantile(&ages, 0.99);
        println!("{len} B: p50 {:?}, p99 {p99:?}", quantile(&ages, 0.5));
        assert!(p99 <= 60 * MS + 60 * MS, "{len} B: {p99:?}");
    }
}

#[test]
fn a_million_reliable_messages_over_two_hundred_paths_arrive_once_and_in_order() {
    let mut total = 0;
    for_each_seed(200, |_, rng| {
        let mut below = |limit: u32| rng.next_u32() % limit;
        let conditions = Conditions::perfect()
            .with_delay(MS * below(100))
            .with_jitter(MS * below(40))
            .with_loss(f64::from(below(25)) / 100.0)
            .with_duplicates(f64::from(below(20)) / 100.0)
            .with_reorder(f64::from(below(20)) / 100.0, MS * below(60));
        let mut pair = pair(&conditions, u64::from(below(u32::MAX)));
        let mut next = 0;
        while next < 5000 {
            for _ in 0..=below(25) {
                let len = if below(100) == 0 { below(3000) } else { below(100) };
                for lane in [Lane::Reliable, UNORDERED] {
                    queue(&mut pair, 0, lane, None, &message(next, len as usize));
                }
                next += 1;
            }
            flush(&mut pair, 0);
            pair.run(TICK);
        }
        pair.run(Duration::from_secs(60));
        let stats = pair.sides[0].link.lane_stats(Lane::Reliable);
        assert_eq!(pair.ends(), [None, None]);
        let ordered: Vec<_> = arrivals(&pair, 1, Lane::Reliable).iter().map(|(n, _)| *n).collect();
        // What the queue refused never had a number.
        assert_eq!(ordered.len() as u64 + stats.refused, u64::from(next), "{stats:?}");
        assert!(ordered.is_sorted_by(|a, b| a < b), "in order, once");
        let mut unordered: Vec<_> = arrivals(&pair, 1, UNORDERED).iter().map(|(n, _)| *n).collect();
        unordered.sort_unstable();
        assert!(unordered.is_sorted_by(|a, b| a < b), "once");
        total += ordered.len() + unordered.len();
    });
    println!("{total} messages");
    assert!(total > 1_000_000, "{total}");
}

#[test]
fn acks_and_headers_add_no_datagram_to_one_per_tick() {
    let mut pair = pair(&path(30, 0.0), 1);
    let mut before = [[0; 2]; 2];
    for i in 0..660 {
        // The first measurement of the path is over by then.
        if i == 60 {
            before = [0, 1].map(|side: usize| pair.sides[side].datagrams_sent);
        }
        for side in 0..2 {
            queue(&mut pair, side, Lane::Sequenced, None, &message(i, 100));
            queue(&mut pair, side, Lane::Reliable, None, &message(i, 20));
            flush(&mut pair, side);
        }
        pair.run(TICK);
    }
    for (side, [datagrams, bytes]) in before.into_iter().enumerate() {
        let [all, all_bytes] = pair.sides[side].datagrams_sent;
        assert_eq!(all - datagrams, 600, "one per tick");
        // Header 16, two blocks of 5, and 2 with each message.
        assert_eq!((all_bytes - bytes) / 600, 16 + 5 + 2 + 100 + 5 + 2 + 20);
    }
}

fn input_block(tick: u16, again: Option<Duration>) -> LinkInput {
    LinkInput::Inputs(InputBlock { tick, bytes: tick.to_le_bytes().to_vec(), again })
}

#[test]
fn inputs_ride_in_the_datagram_of_their_tick_and_once_more_if_they_ask_for_it() {
    let mut pair = pair(&path(30, 0.0), 1);
    pair.run(MS * 500);
    let before = pair.sides[0].datagrams_sent[0];
    for tick in 0..120 {
        // The first of these does not leave: it is superseded.
        pair.handle(0, input_block(9, None));
        pair.handle(0, input_block(tick, (tick >= 60).then_some(TICK / 2)));
        queue(&mut pair, 0, Lane::Reliable, None, &message(tick.into(), 8));
        flush(&mut pair, 0);
        flush(&mut pair, 1);
        pair.run(TICK);
    }
    let sent = pair.sides[0].datagrams_sent[0] - before;
    assert!((180..=200).contains(&sent), "one a tick, then two: {sent}");
    let inputs = &pair.sides[1].inputs;
    let firsts: Vec<u16> = inputs.iter().filter(|(.., again)| !again).map(|i| i.1).collect();
    assert_eq!(firsts, (0..120).collect::<Vec<u16>>());
    for (_, tick, bytes, again) in inputs {
        assert_eq!(*bytes, tick.to_le_bytes());
        assert!(!again || *tick >= 60);
    }
    let copies = inputs.iter().filter(|(.., again)| *again).count();
    assert!((59..=60).contains(&copies), "{copies}");
    assert_eq!(arrivals(&pair, 1, Lane::Reliable).len(), 120);
}

#[test]
fn inputs_leave_at_every_tick_however_much_waits() {
    let mut pair = pair(&path(30, 0.0), 1);
    for tick in 0..60 {
        for number in 0..20 {
            queue(&mut pair, 0, Lane::Reliable, None, &message(number, 1000));
        }
        pair.handle(0, input_block(tick, None));
        flush(&mut pair, 0);
        pair.run(TICK);
    }
    pair.run(MS * 100);
    assert_eq!(pair.sides[1].inputs.len(), 60);
}

#[test]
fn a_game_that_reads_nothing_stops_its_sender_at_the_window() {
    let mut pair = pair(&path(10, 0.0), 1);
    pair.sides[1].reads = false;
    let mut refused = 0;
    for i in 0..3000 {
        queue(&mut pair, 0, Lane::Reliable, None, &message(i, 1000));
        flush(&mut pair, 0);
        pair.run(TICK);
        refused = pair.sides[0].link.lane_stats(Lane::Reliable).refused;
    }
    assert!(refused > 1000, "{refused}");
    assert_eq!(pair.ends(), [None, None]);
    let held: usize = pair.sides[1].received.iter().map(|(_, payload)| payload.len()).sum();
    assert!(held as u64 <= RELIABLE_WINDOW, "{held}");
    // It reads on, and all that was taken arrives.
    let consumed = pair.sides[1].consumed;
    assert_eq!(consumed, [0, 0]);
    pair.sides[1].reads = true;
    let cost = held as u64 + pair.sides[1].received.len() as u64 * (2 + 1 + 64);
    pair.sides[1].consumed[1] = cost;
    let input = LinkInput::Consumed { stream: 0, reliable: cost };
    pair.handle(1, input);
    pair.run(Duration::from_secs(60));
    let stats = pair.sides[0].link.lane_stats(Lane::Reliable);
    assert_eq!(stats.queued_messages, 0);
    assert_eq!(pair.sides[1].received.len() as u64 + stats.refused, 3000);
    const { assert!(STREAM_WINDOW > RELIABLE_WINDOW) };
}

#[test]
fn a_late_reliable_message_is_given_up_and_holds_nothing_up() {
    for_each_seed(20, |seed, _| {
        let mut pair = pair(&path(30, 0.2), seed);
        for i in 0..600 {
            queue(&mut pair, 0, URGENT, None, &message(i, 300));
            flush(&mut pair, 0);
            pair.run(TICK);
        }
        pair.run(Duration::from_secs(5));
        let arrived = arrivals(&pair, 1, URGENT);
        assert!(arrived.is_sorted_by_key(|(n, _)| *n), "in order");
        let stats = pair.sides[0].link.lane_stats(URGENT);
        assert_eq!(stats.queued_messages, 0);
        assert!(arrived.len() as u64 + stats.dropped_late >= 600);
        assert!(arrived.len() > 500, "{}", arrived.len());
    });
}

#[test]
fn each_key_of_a_sequenced_lane_has_its_own_newest_state() {
    for_each_seed(20, |seed, _| {
        let mut pair = pair(&path(60, 0.1).with_jitter(20 * MS), seed);
        for i in 0..300 {
            for key in 0..40_u16 {
                queue(
                    &mut pair,
                    0,
                    Lane::Sequenced,
                    Some(key),
                    &message(i * 40 + u32::from(key), 12),
                );
            }
            flush(&mut pair, 0);
            pair.run(TICK);
        }
        pair.run(Duration::from_secs(3));
        let arrived = arrivals(&pair, 1, Lane::Sequenced);
        for key in 0..40 {
            let mut of_key = arrived.iter().map(|(n, _)| *n).filter(|n| n % 40 == key);
            assert!(of_key.clone().is_sorted_by(|a, b| a < b), "never an older one");
            assert_eq!(of_key.next_back(), Some(299 * 40 + key), "the last one arrives");
        }
    });
}

#[test]
fn on_a_thin_link_states_stay_fresh_and_events_arrive() {
    // 128 kbit/s with a queue of 16 KiB that takes a second to drain; the game wants 480 kbit/s.
    let conditions = path(60, 0.0).with_rate(16_000, 16 * 1024);
    let mut pair = pair(&conditions, 3);
    let (mut sent, mut ages) = (Vec::new(), Vec::new());
    for i in 0..1800_u32 {
        sent.push(pair.now);
        queue(&mut pair, 0, Lane::Sequenced, None, &message(i, 1000));
        if i % 10 == 0 {
            queue(&mut pair, 0, Lane::Reliable, None, &message(i, 50));
        }
        flush(&mut pair, 0);
        flush(&mut pair, 1);
        pair.run(TICK);
        if i > 600
            && let Some((newest, _)) = arrivals(&pair, 1, Lane::Sequenced).last()
        {
            ages.push(pair.now.since(sent[*newest as usize]));
        }
    }
    pair.run(Duration::from_secs(5));
    ages.sort();
    let took = arrivals(&pair, 1, Lane::Reliable);
    let mut took: Vec<_> = took.iter().map(|(n, at)| at.since(sent[*n as usize])).collect();
    took.sort();
    println!(
        "state age p50 {:?} p99 {:?}; events p50 {:?} p99 {:?}",
        quantile(&ages, 0.5),
        quantile(&ages, 0.99),
        quantile(&took, 0.5),
        quantile(&took, 0.99)
    );
    assert_eq!(took.len(), 180);
    assert!(quantile(&ages, 0.99) < 700 * MS, "{:?}", quantile(&ages, 0.99));
}

#[test]
fn a_burst_beyond_the_window_of_messages_takes_a_few_round_trips() {
    let mut pair = pair(&path(4, 0.0), 1);
    pair.run(Duration::from_secs(1));
    let start = pair.now;
    for i in 0..4000 {
        queue(&mut pair, 0, Lane::Reliable, None, &message(i, 4));
    }
    flush(&mut pair, 0);
    pair.run(Duration::from_secs(2));
    let got = arrivals(&pair, 1, Lane::Reliable);
    assert_eq!(got.len(), 4000);
    let took = got[3999].1.since(start);
    assert!(took < 100 * MS, "{took:?}");
}

#[test]
fn after_an_outage_the_newest_state_of_every_key_arrives() {
    let mut pair = pair(&path(30, 0.0), 1);
    let tick = |pair: &mut Pair, value: u32| {
        for key in 0..700_u16 {
            queue(pair, 0, Lane::Sequenced, Some(key), &message(value, 8));
        }
        flush(pair, 0);
        pair.run(TICK);
    };
    for value in 0..60 {
        tick(&mut pair, value);
    }
    pair.set_path(Path::Dead);
    for value in 60..115 {
        tick(&mut pair, value);
    }
    pair.set_path(Path::Carries);
    for value in 115..135 {
        tick(&mut pair, value);
    }
    pair.run(Duration::from_secs(5));
    let newest = arrivals(&pair, 1, Lane::Sequenced).iter().filter(|(n, _)| *n == 134).count();
    assert_eq!(newest, 700);
    assert_eq!(pair.sides[0].link.lane_stats(Lane::Sequenced).queued_messages, 0);
}
