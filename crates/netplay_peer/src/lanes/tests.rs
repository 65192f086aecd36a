//! Lanes by themselves: fragments, numbers that wrap, shares of a datagram, a change of carrier, and a
//! peer that sends nonsense.

use core::time::Duration;

use netplay_protocol::block::{self, Fragment, Number, put_fragment, put_void};
use netplay_protocol::datagram::HEADER_LEN;
use netplay_protocol::frame::{Body, Frames, MessageId};
use netplay_protocol::lane::{LaneConfig, LaneKind};
use netplay_protocol::limits::{
    DATAGRAM_MAX, FRAGMENT_LEN, RELIABLE_MESSAGE_MAX, RELIABLE_WINDOW_MESSAGES, SEQUENCED_KEYS_MAX,
};
use netplay_simnet::{Conditions, Pipe};
use proptest::prelude::*;

use super::*;
use crate::link::datagrams::DatagramFlow;

const UNORDERED: Lane = Lane::custom(0);
const A: Lane = Lane::custom(1);
const B: Lane = Lane::custom(2);
const LOW: Lane = Lane::custom(3);

fn table() -> LaneTable {
    let mut table = LaneTable::default();
    table.set(UNORDERED, LaneConfig::new(LaneKind::ReliableUnordered));
    table
}

fn push(lanes: &mut Lanes, lane: Lane, key: Option<u16>, payload: &[u8]) -> Result<(), QueueFull> {
    lanes.push(Now::ZERO, &Frame { lane, body: Body { id: MessageId(1), key, payload } })
}

/// Fills a datagram; gives its blocks.
fn fill(lanes: &mut Lanes, slot: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; HEADER_LEN];
    lanes.fill(slot, &mut out, DATAGRAM_MAX, false).then(|| out.split_off(HEADER_LEN))
}

fn payloads(frames: &[u8]) -> Vec<(Lane, Vec<u8>)> {
    Frames::new(frames).map(|f| f.unwrap()).map(|f| (f.lane, f.body.payload.to_vec())).collect()
}

fn receive(lanes: &mut Lanes, blocks: &[u8]) -> Result<Vec<(Lane, Vec<u8>)>, Violation> {
    let mut delivered = Delivered::default();
    lanes.receive(blocks, &mut delivered)?;
    let mut all = payloads(&delivered.reliable);
    all.extend(payloads(&delivered.lossy));
    Ok(all)
}

/// One side of a link on a carrier that can be swapped.
struct End {
    flow: DatagramFlow,
    lanes: Lanes,
    to_me: Pipe<Vec<u8>>,
    got: Vec<(Lane, u32)>,
}

impl End {
    fn new(seed: u64, conditions: &Conditions) -> Self {
        let to_me = Pipe::new(conditions.clone(), seed);
        Self { flow: DatagramFlow::new(), lanes: Lanes::new(&table()), to_me, got: Vec::new() }
    }

    fn settle(&mut self, now: Now) {
        self.flow.tick(now);
        while let Some(verdict) = self.flow.poll_verdict() {
            if verdict.arrived {
                self.lanes.arrived(verdict.slot);
            } else {
                self.lanes.lost(verdict.slot);
            }
        }
    }

    fn take(&mut self, now: Now) {
        while let Some(packet) = self.to_me.poll(now) {
            let received = self.flow.receive(now, &packet).unwrap();
            if received.blocks.is_some() {
                let all = receive(&mut self.lanes, &packet[HEADER_LEN..]).unwrap();
                let number = |p: &[u8]| u32::from_le_bytes(p[..4].try_into().unwrap());
                self.got.extend(all.iter().map(|(lane, payload)| (*lane, number(payload))));
            }
        }
        self.settle(now);
    }

    /// One datagram, with or without blocks.
    fn send(&mut self, now: Now, to: &mut Pipe<Vec<u8>>) {
        let slot = self.flow.next_slot();
        self.settle(now);
        let mut packet = vec![0; HEADER_LEN];
        self.lanes.fill(slot, &mut packet, DATAGRAM_MAX, true);
        self.flow.stamp(now, false, false, None, &mut packet);
        to.send(now, packet.len(), packet);
    }

    fn swap_carrier(&mut self, seed: u64, conditions: &Conditions) {
        self.flow = DatagramFlow::new();
        self.to_me = Pipe::new(conditions.clone(), seed);
        self.lanes.path_changed();
    }
}

#[test]
fn a_change_of_carrier_loses_and_doubles_nothing() {
    for seed in 0..50 {
        println!("seed {seed}");
        let conditions = Conditions::perfect()
            .with_delay(Duration::from_millis(40))
            .with_jitter(Duration::from_millis(15))
            .with_loss(0.1);
        let (mut a, mut b) = (End::new(seed, &conditions), End::new(seed + 1000, &conditions));
        for tick in 0..1000_u32 {
            let now = Now::from_millis(u64::from(tick) * 16);
            if tick < 600 {
                let mut payload = tick.to_le_bytes().to_vec();
                payload.resize(if tick.is_multiple_of(50) { 3000 } else { 60 }, 7);
                for lane in [Lane::Unreliable, Lane::Sequenced, Lane::Reliable, UNORDERED] {
                    push(&mut a.lanes, lane, None, &payload).unwrap();
                }
            }
            if tick % 90 == 89 && tick < 600 {
                a.swap_carrier(seed + u64::from(tick), &conditions);
                b.swap_carrier(seed + u64::from(tick) + 1, &conditions);
            }
            a.take(now);
            b.take(now);
            a.send(now, &mut b.to_me);
            b.send(now, &mut a.to_me);
        }
        let on = |wanted| b.got.iter().filter(move |(lane, _)| *lane == wanted).map(|(_, n)| *n);
        assert!(on(Lane::Reliable).eq(0..600), "all, once, in order");
        let mut unordered: Vec<_> = on(UNORDERED).collect();
        unordered.sort_unstable();
        assert!(unordered.into_iter().eq(0..600), "all, once");
        assert!(on(Lane::Sequenced).is_sorted(), "never an older one");
        assert_eq!(on(Lane::Sequenced).next_back(), Some(599));
        let mut effects: Vec<_> = on(Lane::Unreliable).collect();
        effects.sort_unstable();
        assert!(effects.is_sorted_by(|a, b| a < b), "at most once");
    }
}

#[test]
fn numbers_wrap() {
    let (mut a, mut b) = (Lanes::new(&table()), Lanes::new(&table()));
    let lanes = [Lane::Unreliable, Lane::Sequenced, Lane::Reliable, UNORDERED];
    for i in 0..200_000_u32 {
        for lane in lanes {
            push(&mut a, lane, None, &i.to_le_bytes()).unwrap();
        }
        let slot = i as usize % SENT;
        let got = receive(&mut b, &fill(&mut a, slot).unwrap()).unwrap();
        assert_eq!(got.len(), 4, "{i}");
        assert!(got.iter().all(|(_, payload)| *payload == i.to_le_bytes()));
        a.arrived(slot);
        let cost = u64::from(i + 1) * 2 * (6 + 64);
        if let Some(credit) = b.consumed(cost) {
            a.credited(credit).unwrap();
        }
    }
    assert_eq!(a.stats(Lane::Reliable).queued_messages, 0);
}

/// Saturated lanes over many datagrams that all arrive; the bytes of each.
fn shares(lanes: &[(Lane, u8, u16, usize)], datagrams: usize) -> Vec<usize> {
    let mut table = LaneTable::default();
    for (lane, priority, weight, _) in lanes {
        let config = LaneConfig::new(LaneKind::Unreliable).priority(*priority).weight(*weight);
        table.set(*lane, config.queue(1000, 1_000_000));
    }
    let (mut a, mut b) = (Lanes::new(&table), Lanes::new(&table));
    let mut bytes = vec![0; lanes.len()];
    for _ in 0..datagrams {
        for (lane, .., len) in lanes {
            while a.stats(*lane).queued_messages < 100 {
                push(&mut a, *lane, None, &vec![1; *len]).unwrap();
            }
        }
        for (lane, payload) in receive(&mut b, &fill(&mut a, 0).unwrap()).unwrap() {
            let place = lanes.iter().position(|(of, ..)| *of == lane).unwrap();
            bytes[place] += payload.len();
        }
    }
    bytes
}

#[test]
fn lanes_of_one_priority_share_by_weight_within_a_tenth() {
    for (a, b, long, short) in [(1, 1, 50, 50), (3, 1, 100, 100), (1, 5, 30, 120), (2, 1, 150, 20)]
    {
        let bytes = shares(&[(A, 1, a, long), (B, 1, b, short)], 3000);
        // What counts is what they take in datagrams, with their headers.
        let taken = |i: usize, len: usize| bytes[i] as f64 * (len as f64 + 2.0) / len as f64;
        let share = taken(0, long) / (taken(0, long) + taken(1, short));
        let wanted = f64::from(a) / f64::from(a + b);
        println!("weights {a}:{b}, {long} and {short} B: {share:.3}, wanted {wanted:.3}");
        assert!((share / wanted - 1.0).abs() < 0.1, "{share} instead of {wanted}");
    }
}

#[test]
fn a_lane_of_low_priority_gets_its_turn() {
    let bytes = shares(&[(A, 0, 1, 100), (LOW, 9, 1, 100)], 800);
    assert!(bytes[0] > bytes[1] * 4, "the first comes first: {bytes:?}");
    assert!(bytes[1] >= 800 / 8 * 900, "every eighth datagram begins with the last: {bytes:?}");
}

#[test]
fn a_full_unreliable_lane_drops_its_oldest_and_a_full_reliable_one_refuses() {
    let mut table = LaneTable::default();
    table.set(Lane::Unreliable, LaneConfig::new(LaneKind::Unreliable).queue(3, 1000));
    table.set(Lane::Reliable, LaneConfig::new(LaneKind::Reliable).queue(3, 1000));
    let (mut a, mut b) = (Lanes::new(&table), Lanes::new(&table));
    for i in 0..5_u8 {
        push(&mut a, Lane::Unreliable, None, &[i]).unwrap();
        let result = push(&mut a, Lane::Reliable, None, &[i]);
        assert_eq!(result.is_ok(), i < 3);
    }
    let got = receive(&mut b, &fill(&mut a, 0).unwrap()).unwrap();
    let on = |lane| got.iter().filter(move |(of, _)| *of == lane).map(|(_, payload)| payload[0]);
    assert!(on(Lane::Unreliable).eq([2, 3, 4]));
    assert!(on(Lane::Reliable).eq([0, 1, 2]));
    assert_eq!(a.stats(Lane::Unreliable).dropped_full, 2);
    assert_eq!(a.stats(Lane::Reliable).refused, 2);
}

#[test]
fn a_superseded_state_is_not_sent() {
    let (mut a, mut b) = (Lanes::new(&table()), Lanes::new(&table()));
    for i in 0..10_u8 {
        for key in [1, 2] {
            push(&mut a, Lane::Sequenced, Some(key), &[i]).unwrap();
        }
    }
    let got = receive(&mut b, &fill(&mut a, 0).unwrap()).unwrap();
    assert_eq!(got, [(Lane::Sequenced, vec![9]), (Lane::Sequenced, vec![9])]);
    assert_eq!(a.stats(Lane::Sequenced).superseded, 18);
    assert_eq!(fill(&mut a, 1), None, "nothing is left to send");
    a.lost(0);
    let again = receive(&mut b, &fill(&mut a, 1).unwrap()).unwrap();
    assert_eq!(again, [], "what came already is not delivered again");
    a.arrived(1);
    assert_eq!(a.stats(Lane::Sequenced).queued_messages, 0);
}

/// Fills datagrams until nothing is due; all arrive but those for which `loses` says so. Gives what was
/// delivered, before and after the lost are sent again.
fn exchange(a: &mut Lanes, b: &mut Lanes, loses: impl Fn(usize) -> bool) -> Vec<(Lane, Vec<u8>)> {
    let (mut got, mut sent) = (Vec::new(), Vec::new());
    while let Some(blocks) = fill(a, sent.len()) {
        if !loses(sent.len()) {
            got.extend(receive(b, &blocks).unwrap());
        }
        sent.push(blocks);
    }
    for slot in 0..sent.len() {
        if loses(slot) { a.lost(slot) } else { a.arrived(slot) }
    }
    while let Some(blocks) = fill(a, 0) {
        got.extend(receive(b, &blocks).unwrap());
        a.arrived(0);
    }
    got
}

#[test]
fn states_with_and_without_a_key_share_a_datagram() {
    let (mut a, mut b) = (Lanes::new(&table()), Lanes::new(&table()));
    push(&mut a, Lane::Sequenced, None, &[1, 2, 3]).unwrap();
    push(&mut a, Lane::Sequenced, Some(900), &[4, 5, 6]).unwrap();
    assert_eq!(exchange(&mut a, &mut b, |_| false).len(), 2);
}

#[test]
fn cut_states_that_the_receiver_gave_up_are_sent_whole_again() {
    let (mut a, mut b) = (Lanes::new(&table()), Lanes::new(&table()));
    for key in 0..8_u16 {
        push(&mut a, Lane::Sequenced, Some(key), &vec![key as u8; 1500]).unwrap();
    }
    let got = exchange(&mut a, &mut b, |slot| [0, 3, 5, 8, 11].contains(&slot));
    let mut keys: Vec<_> = got.iter().map(|(_, payload)| payload[0]).collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..8));
    assert_eq!(a.stats(Lane::Sequenced).queued_messages, 0);
}

#[test]
fn a_cut_state_that_is_written_faster_than_it_leaves_is_delivered_now_and_then() {
    let (mut a, mut b) = (Lanes::new(&table()), Lanes::new(&table()));
    let mut got = Vec::new();
    for tick in 0..120_u8 {
        push(&mut a, Lane::Sequenced, Some(1), &[tick; 2500]).unwrap();
        // Two of the three datagrams that it takes.
        for slot in [0, 1].map(|i| usize::from(tick) * 2 + i) {
            if let Some(blocks) = fill(&mut a, slot) {
                got.extend(receive(&mut b, &blocks).unwrap());
                a.arrived(slot);
            }
        }
    }
    assert!(got.len() > 50, "{}", got.len());
    assert!(got.iter().all(|(_, payload)| payload.iter().all(|byte| *byte == payload[0])));
    assert!(got.is_sorted_by(|a, b| a.1[0] < b.1[0]));
}

#[test]
fn more_keys_than_a_lane_may_have_are_counted_and_none_is_lost_silently() {
    let mut table = table();
    table.set(Lane::Sequenced, LaneConfig::new(LaneKind::Sequenced).queue(2000, 1 << 20));
    let (mut a, mut b) = (Lanes::new(&table), Lanes::new(&table));
    for key in 0..2000 {
        push(&mut a, Lane::Sequenced, Some(key), b"state").unwrap();
    }
    let got = exchange(&mut a, &mut b, |slot| slot == 0).len();
    assert_eq!(got as u64 + a.stats(Lane::Sequenced).dropped_full, 2000);
    assert_eq!(got, SEQUENCED_KEYS_MAX);
}

#[test]
fn states_beyond_the_bytes_of_a_lane_push_out_the_ones_written_the_longest_ago() {
    let mut table = table();
    table.set(Lane::Sequenced, LaneConfig::new(LaneKind::Sequenced).queue(100, 10_000));
    let (mut a, mut b) = (Lanes::new(&table), Lanes::new(&table));
    for key in 0..40 {
        push(&mut a, Lane::Sequenced, Some(key), &[key as u8; 500]).unwrap();
    }
    let stats = a.stats(Lane::Sequenced);
    assert!(stats.queued_bytes <= 10_000, "{stats:?}");
    let got = exchange(&mut a, &mut b, |slot| slot == 0);
    assert_eq!(got.len() as u64 + stats.dropped_full, 40);
    assert!(got.iter().all(|(_, payload)| payload[0] >= 20), "the newest stay");
    assert_eq!(a.stats(Lane::Sequenced).queued_bytes, 0);
}

#[test]
fn more_keys_than_a_lane_may_have_forget_the_oldest() {
    let (mut a, mut b) = (Lanes::new(&table()), Lanes::new(&table()));
    let mut delivered = 0;
    let keys = SEQUENCED_KEYS_MAX as u16 * 3;
    for key in 0..keys {
        push(&mut a, Lane::Sequenced, Some(key), &[1]).unwrap();
        let slot = usize::from(key) % SENT;
        delivered += receive(&mut b, &fill(&mut a, slot).unwrap()).unwrap().len();
        a.arrived(slot);
    }
    assert_eq!(delivered, usize::from(keys));
}

fn cut(payload: &[u8]) -> Vec<Vec<u8>> {
    let mut body = Vec::new();
    Body { id: MessageId(1), key: None, payload }.put(&mut body);
    let count = body.len().div_ceil(FRAGMENT_LEN) as u8;
    let parts = body.chunks(FRAGMENT_LEN).enumerate().map(|(i, bytes)| {
        let mut out = Vec::new();
        let part = Fragment { keyed: false, index: i as u8, count, bytes };
        put_fragment(&mut out, Lane::Reliable, Number::default(), part);
        out
    });
    parts.collect()
}

#[test]
fn what_no_honest_peer_sends_is_a_violation() {
    let refused = |blocks: &[u8]| receive(&mut Lanes::new(&table()), blocks).unwrap_err();
    let message = |lane: Lane, key: Option<u16>, number: u32| {
        let mut out = Vec::new();
        block::begin_messages(&mut out, lane, key.is_some(), Number::new(number));
        Body { id: MessageId(1), key, payload: b"x" }.put(&mut out);
        out
    };
    assert_eq!(refused(&[0x0F, 0, 0, 0, 1, 1, 0]), Violation::LANE);
    assert_eq!(refused(&message(Lane::Bulk, None, 0)), Violation::LANE);
    assert_eq!(refused(&message(Lane::Reliable, Some(1), 0)), Violation::KEY);
    assert_eq!(
        refused(&message(Lane::Reliable, None, RELIABLE_WINDOW_MESSAGES.into())),
        Violation::WINDOW
    );
    let mut void = Vec::new();
    put_void(&mut void, Lane::Unreliable, Number::default(), 1);
    assert_eq!(refused(&void), Violation::KIND);
    // A cut message whose length does not fit, and one whose parts disagree.
    let mut parts = cut(&[1; 2000]);
    assert_eq!(
        refused(&[parts[0].clone(), cut(&[1; 3000])[1].clone()].concat()),
        Violation::FRAGMENT
    );
    let last = parts.last_mut().unwrap();
    let place = last.len() - 1;
    last.truncate(place);
    last[6] -= 1;
    assert!(receive(&mut Lanes::new(&table()), &parts.concat()).is_err());
}

#[test]
fn a_peer_that_only_sends_beginnings_costs_no_more_than_the_windows() {
    let mut lanes = Lanes::new(&table());
    let mut violated = None;
    let part = vec![7; FRAGMENT_LEN];
    for number in 0..RELIABLE_WINDOW_MESSAGES {
        let mut out = Vec::new();
        let fragment = Fragment { keyed: false, index: 0, count: 64, bytes: &part };
        put_fragment(&mut out, Lane::Reliable, Number::new(number.into()), fragment);
        if let Err(violation) = receive(&mut lanes, &out) {
            violated = Some((number, violation));
            break;
        }
    }
    let (number, violation) = violated.expect("it ends");
    assert_eq!(violation, Violation::WINDOW);
    assert!(u64::from(number) * 64 * FRAGMENT_LEN as u64 <= 2 * RELIABLE_WINDOW, "{number}");
    // On lossy lanes the oldest beginnings are forgotten.
    let mut lanes = Lanes::new(&table());
    for number in 0..10_000 {
        let mut out = Vec::new();
        let fragment = Fragment { keyed: false, index: 0, count: 16, bytes: &part };
        put_fragment(&mut out, Lane::Unreliable, Number::new(number), fragment);
        assert_eq!(receive(&mut lanes, &out), Ok(vec![]));
    }
    assert!(lanes.stats(Lane::Unreliable).incomplete > 9000);
}

proptest! {
    #[test]
    fn what_is_late_is_dropped_and_counted_and_the_rest_arrives(
        kind in prop::sample::select(vec![
            LaneKind::Unreliable, LaneKind::Sequenced, LaneKind::Reliable, LaneKind::ReliableUnordered
        ]),
        steps in prop::collection::vec((0..40_u64, 0..3_usize, 1..2000_usize), 1..60),
    ) {
        let mut table = LaneTable::default();
        table.set(A, LaneConfig::new(kind).deadline(Duration::from_millis(50)));
        let (mut a, mut b) = (Lanes::new(&table), Lanes::new(&table));
        let (mut now, mut pushed, mut got) = (Now::ZERO, 0_u32, 0);
        for (wait, datagrams, len) in steps {
            now = now + Duration::from_millis(wait);
            a.expire(now);
            prop_assert!(a.next_expiry().is_none_or(|expiry| expiry > now));
            let payload = vec![7; len];
            let body = Body { id: MessageId(1), key: Some(pushed as u16), payload: &payload };
            let body = if kind == LaneKind::Sequenced { body } else { Body { key: None, ..body } };
            a.push(now, &Frame { lane: A, body }).unwrap();
            pushed += 1;
            for _ in 0..datagrams {
                if let Some(blocks) = fill(&mut a, 0) {
                    got += receive(&mut b, &blocks).unwrap().len();
                    a.arrived(0);
                }
            }
        }
        a.expire(now + Duration::from_millis(50));
        // News of what will not come.
        while let Some(blocks) = fill(&mut a, 0) {
            prop_assert_eq!(receive(&mut b, &blocks).unwrap(), []);
            a.arrived(0);
        }
        let stats = a.stats(A);
        prop_assert_eq!(got as u64 + stats.dropped_late, u64::from(pushed), "{:?}", stats);
        prop_assert_eq!(stats.queued_messages, 0);
        prop_assert_eq!(stats.queued_bytes, 0);
    }

    #[test]
    fn fragments_rebuild_the_message_in_any_order_and_number(
        len in FRAGMENT_LEN + 200..RELIABLE_MESSAGE_MAX,
        order in prop::collection::vec(any::<u16>(), 0..200),
    ) {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        let parts = cut(&payload);
        let mut lanes = Lanes::new(&table());
        let mut got = Vec::new();
        let order = order.iter().map(|i| usize::from(*i) % parts.len()).chain(0..parts.len());
        for i in order {
            got.extend(receive(&mut lanes, &parts[i]).unwrap());
        }
        prop_assert_eq!(got, [(Lane::Reliable, payload)]);
    }

    #[test]
    fn any_blocks_give_messages_or_a_violation(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40)
    ) {
        let mut lanes = Lanes::new(&table());
        for blocks in datagrams {
            let _ = receive(&mut lanes, &blocks);
        }
    }

    #[test]
    fn any_verdicts_in_any_order_send_everything_once(
        verdicts in prop::collection::vec((0..8_usize, any::<bool>()), 0..400), len in 1..1500_usize
    ) {
        let (mut a, mut b) = (Lanes::new(&table()), Lanes::new(&table()));
        let (mut sent, mut got) = (0_u32, Vec::new());
        for (slot, arrived) in verdicts {
            let mut payload = sent.to_le_bytes().to_vec();
            payload.resize(len.max(4), 0);
            if push(&mut a, Lane::Reliable, None, &payload).is_ok() {
                sent += 1;
            }
            // A datagram that is said to have arrived has; one that is said to be lost may have.
            if let Some(blocks) = fill(&mut a, slot)
                && (arrived || len % 2 == 0)
            {
                got.extend(receive(&mut b, &blocks).unwrap());
            }
            if arrived { a.arrived(slot) } else { a.lost(slot) }
        }
        for slot in (0..8).cycle().take(3000) {
            let Some(blocks) = fill(&mut a, slot) else { break };
            got.extend(receive(&mut b, &blocks).unwrap());
            a.arrived(slot);
        }
        let numbers = got.iter().map(|(_, p)| u32::from_le_bytes(p[..4].try_into().unwrap()));
        // The window of bytes may hold the rest back, because nobody reads here.
        let received = got.len() as u32;
        prop_assert!(numbers.eq(0..received));
        let held = u64::from(sent - received) > 0;
        prop_assert!(!held || u64::from(received) * (len as u64 + 70) > RELIABLE_WINDOW / 2);
    }
}
