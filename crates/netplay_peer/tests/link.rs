//! A link against a bad path and a bad peer.
//!
//! Property: whatever arrives, nothing panics, a link ends at most once and then says nothing, its
//! memory stays bounded, and game messages arrive as their lane promises. A peer that breaks the
//! protocol is reported as such, a peer that is silent is lost exactly at the limit, and a game that
//! does not fit is refused by name on both sides.
//!
//! Shown by running two links over a virtual path, with a seed for each case, and by forging the
//! packets of one of them.

mod support {
    pub mod config;
    pub mod pair;
}

use core::time::Duration;
use std::cell::RefCell;
use std::rc::Rc;

use netplay_peer::LinkConfig;
use netplay_peer::link::driver::Channel;
use netplay_peer::link::{CloseReason, LinkInput};
use netplay_protocol::control::{ByeReason, Control, LaneEntry, Mismatch, carriers};
use netplay_protocol::datagram::HEADER_LEN;
use netplay_protocol::frame::{Body, Frame, MessageId};
use netplay_protocol::limits::{STREAM_PACKET_MAX, STREAM_WINDOW};
use netplay_protocol::schema::Schema;
use netplay_protocol::stream::{split, start_whole};
use netplay_protocol::{BuildId, GameId, Lane, Now};
use netplay_simnet::Conditions;
use rand_core::Rng;
use support::config::{config, config_with};
use support::pair::{Pair, for_each_seed};

const MS: Duration = Duration::from_millis(1);

fn calm() -> Conditions {
    Conditions::perfect().with_delay(5 * MS)
}

fn pair() -> Pair {
    Pair::new([config(), config()], &calm(), 0)
}

fn established() -> Pair {
    let mut pair = pair();
    pair.establish();
    pair
}

fn frame(lane: Lane, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Frame { lane, body: Body { id: MessageId(0), key: None, payload } }.put(&mut frame);
    frame
}

/// Sends one message and flushes.
fn send(pair: &mut Pair, side: usize, lane: Lane, payload: &[u8]) {
    pair.handle(side, LinkInput::Send(frame(lane, payload)));
    pair.handle(side, LinkInput::Flush);
}

fn below(rng: &mut impl Rng, limit: u32) -> u32 {
    rng.next_u32() % limit
}

fn share(rng: &mut impl Rng, max: f64) -> f64 {
    f64::from(rng.next_u32()) / 4_294_967_296.0 * max
}

/// Bytes that are anything, or were something once.
fn junk(rng: &mut impl Rng, recorded: &[(Channel, Vec<u8>)]) -> (Channel, Vec<u8>) {
    let channel = Channel::DATA[below(rng, 3) as usize];
    if below(rng, 4) == 0 || recorded.is_empty() {
        let mut bytes = vec![0; below(rng, 60) as usize];
        rng.fill_bytes(&mut bytes);
        return (channel, bytes);
    }
    let (channel, mut bytes) = recorded[below(rng, recorded.len() as u32) as usize].clone();
    for _ in 0..below(rng, 3) {
        if !bytes.is_empty() {
            let place = below(rng, bytes.len() as u32) as usize;
            bytes[place] = rng.next_u32() as u8;
        }
    }
    if below(rng, 4) == 0 {
        bytes.truncate(below(rng, bytes.len() as u32 + 1) as usize);
    }
    (channel, bytes)
}

/// Packets of every kind, to repeat and to damage.
fn recorded() -> Vec<(Channel, Vec<u8>)> {
    let mut configs = [config(), config_with(&["other"])];
    let mut refused = Pair::new(configs.clone(), &calm(), 0);
    refused.start();
    refused.run(100 * MS);
    configs[1] = config();
    let mut pair = Pair::new(configs, &calm(), 0);
    pair.establish();
    send_bulk(&mut pair, 0, &[9; 40_000]);
    send_bulk(&mut pair, 0, b"hi");
    send(&mut pair, 0, Lane::Unreliable, b"hey");
    send(&mut pair, 0, Lane::Reliable, &[8; 5000]);
    pair.run(100 * MS);
    pair.handle(0, LinkInput::Close(CloseReason::Ended));
    refused.recorded.into_iter().chain(pair.recorded).collect()
}

/// Sends one message of channel 2 if the window has room for all of it.
fn send_bulk(pair: &mut Pair, side: usize, payload: &[u8]) -> bool {
    let frame = frame(Lane::Bulk, payload);
    if !pair.sides[side].link.can_send_stream(frame.len() + 20 * 1024) {
        return false;
    }
    if frame.len() < STREAM_PACKET_MAX {
        let mut packet = Vec::new();
        start_whole(&mut packet);
        packet.extend_from_slice(&frame);
        pair.handle(side, LinkInput::SendStream(packet));
    } else {
        let mut pieces = Vec::new();
        split(&frame, Vec::new, |piece| pieces.push(piece));
        for piece in pieces {
            pair.handle(side, LinkInput::SendStream(piece));
        }
    }
    true
}

#[test]
fn any_bytes_at_any_time_are_ignored_or_end_the_link_once() {
    let recorded = recorded();
    let (mut ended, mut lived) = (0, 0);
    for_each_seed(3000, |_, rng| {
        let mut pair = pair();
        pair.start();
        let target = below(rng, 2) as usize;
        pair.run(MS * below(rng, 60));
        if below(rng, 8) == 0 {
            pair.handle(target, LinkInput::Close(CloseReason::Ended));
            pair.run(MS * below(rng, 600));
        }
        for _ in 0..=below(rng, 30) {
            let (channel, bytes) = junk(rng, &recorded);
            pair.forge(target, channel, bytes);
            pair.run(MS * below(rng, 3));
        }
        pair.run(Duration::from_secs(25));
        for side in &pair.sides {
            assert!(side.ended.len() <= 1, "{:?}", side.ended);
            assert!(side.ended.len() == 1 || side.link.is_established(), "neither nor");
            assert_eq!(side.ended.is_empty(), side.link.next_deadline().is_some());
        }
        match pair.ends()[target] {
            Some(_) => ended += 1,
            None => lived += 1,
        }
    });
    println!("{ended} links ended, {lived} lived on");
    assert!(ended > 500 && lived > 100, "both happen: {ended}, {lived}");
}

#[test]
fn junk_on_a_game_channel_ends_an_established_link_as_a_violation() {
    for_each_seed(2000, |_, rng| {
        let mut pair = established();
        let channel = [Channel::Datagrams, Channel::Stream][below(rng, 2) as usize];
        let mut bytes = vec![0; below(rng, 60) as usize];
        rng.fill_bytes(&mut bytes);
        pair.forge(1, channel, bytes);
        if let Some(reason) = pair.ends()[1] {
            assert!(matches!(reason, CloseReason::Violation(_)), "{reason:?}");
            pair.run(MS * 100);
            assert_eq!(pair.ends()[0], Some(&CloseReason::Left), "the other side hears of the end");
        }
    });
}

fn bad_path(rng: &mut impl Rng) -> Conditions {
    Conditions::perfect()
        .with_delay(MS * below(rng, 150))
        .with_jitter(MS * below(rng, 50))
        .with_loss(share(rng, 0.4))
        .with_duplicates(share(rng, 0.4))
        .with_reorder(share(rng, 0.4), MS * below(rng, 100))
}

#[test]
fn on_a_bad_path_every_lane_keeps_its_promise() {
    let mut total = [0, 0];
    for_each_seed(150, |_, rng| {
        let mut pair = Pair::new([config(), config()], &bad_path(rng), rng.next_u64());
        pair.establish();
        let mut sent = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
        for number in 0..300_u32 {
            for (side, [events, bulk]) in sent.iter_mut().enumerate() {
                let large = below(rng, 20) == 0;
                let mut payload = number.to_le_bytes().to_vec();
                payload.resize(4 + below(rng, if large { 5000 } else { 300 }) as usize, 7);
                for lane in [Lane::Unreliable, Lane::Sequenced] {
                    pair.handle(side, LinkInput::Send(frame(lane, &payload)));
                }
                send(&mut pair, side, Lane::Reliable, &payload);
                events.push(payload.clone());
                payload.resize(4 + below(rng, if large { 50_000 } else { 500 }) as usize, 7);
                if send_bulk(&mut pair, side, &payload) {
                    bulk.push(payload);
                }
            }
            pair.run(MS * 16);
        }
        pair.run(Duration::from_secs(20));
        assert_eq!(pair.ends(), [None, None]);
        for (side, [events, bulk]) in sent.iter().enumerate() {
            let received = &pair.sides[1 - side].received;
            let on = |wanted| received.iter().filter(move |(lane, _)| *lane == wanted);
            let payloads = |lane| on(lane).map(|(_, payload)| payload).collect::<Vec<_>>();
            assert!(payloads(Lane::Reliable).into_iter().eq(events), "all, once, in order");
            assert!(payloads(Lane::Bulk).into_iter().eq(bulk), "all, once, in order");
            let numbers = |lane| {
                let numbers = payloads(lane).into_iter();
                numbers.map(|payload| payload[..4].try_into().map(u32::from_le_bytes).unwrap())
            };
            // One of several datagrams may come twice if it was taken for lost and was not.
            assert!(numbers(Lane::Sequenced).is_sorted(), "never an older one");
            assert_eq!(
                numbers(Lane::Sequenced).next_back(),
                Some(299),
                "the newest arrives in the end"
            );
            let mut effects: Vec<_> = numbers(Lane::Unreliable).collect();
            total[0] += effects.len();
            total[1] += events.len();
            effects.sort_unstable();
            assert!(effects.is_sorted_by(|a, b| a < b), "at most once");
        }
    });
    println!("{} effects of {}, {} reliable messages", total[0], 150 * 2 * 300, total[1]);
    assert!(total[0] > 150 * 2 * 300 / 2, "most effects arrive");
}

/// The one who was attacked ends once, as a violation; later attacks change nothing.
fn check_violation(pair: &mut Pair) {
    let reason = pair.ends()[1].cloned();
    assert!(matches!(reason, Some(CloseReason::Violation(_))), "{reason:?}");
    for _ in 0..100 {
        pair.forge_control(1, &Control::Accept);
        pair.forge(1, Channel::Datagrams, numbered(7));
        pair.forge(1, Channel::Stream, vec![0]);
    }
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.sides[1].ended.len(), 1);
    assert_eq!(pair.sides[1].link.next_deadline(), None);
    assert_eq!(pair.ends()[0], Some(&CloseReason::Left));
}

#[test]
fn credit_for_what_was_never_sent_is_a_violation() {
    let mut pair = established();
    pair.forge_control(1, &Control::Credit { stream: 1, reliable: 0 });
    check_violation(&mut pair);
}

#[test]
fn credit_that_shrinks_is_a_violation() {
    let mut pair = established();
    assert!(send_bulk(&mut pair, 1, &[0; 1000]));
    pair.forge_control(1, &Control::Credit { stream: 1000, reliable: 0 });
    assert_eq!(pair.ends(), [None, None]);
    pair.forge_control(1, &Control::Credit { stream: 999, reliable: 0 });
    check_violation(&mut pair);
}

#[test]
fn a_handshake_message_after_the_handshake_is_a_violation() {
    let hello = Control::Hello(config().hello);
    let schema = Control::Schema(config().schema);
    let refusal = Control::Refuse("no".into());
    for message in [hello, schema, refusal, Control::HelloOfVersion(9)] {
        let mut pair = established();
        pair.forge_control(1, &message);
        check_violation(&mut pair);
    }
}

#[test]
fn a_hello_that_was_said_again_changes_nothing_after_the_handshake() {
    let hellos = Rc::new(RefCell::new(Vec::new()));
    let mut pair = pair();
    let heard = hellos.clone();
    pair.loses = Box::new(move |from, message| {
        if matches!(message, Control::Hello(_)) {
            heard.borrow_mut().push((from, message.clone()));
        }
        false
    });
    pair.establish();
    assert_eq!(hellos.borrow().len(), 2);
    for (from, hello) in hellos.take() {
        pair.forge_control(1 - from, &hello);
    }
    assert_eq!(pair.ends(), [None, None]);
}

#[test]
fn a_second_hello_within_the_handshake_is_a_violation() {
    let mut pair = pair();
    pair.loses = Box::new(|_, message| *message == Control::Accept);
    pair.start();
    pair.run(100 * MS);
    pair.forge_control(1, &Control::Hello(config().hello));
    check_violation(&mut pair);
}

#[test]
fn a_schema_that_was_not_asked_for_is_a_violation() {
    let mut pair = pair();
    pair.loses = Box::new(|_, message| *message == Control::Accept);
    pair.start();
    pair.run(100 * MS);
    pair.forge_control(1, &Control::Schema(Schema::default()));
    check_violation(&mut pair);
}

#[test]
fn malformed_control_messages_are_a_violation() {
    for bytes in [&[][..], &[0], &[77, 1], &[2, 0], &[5, 1], &[6, 9], &[1, b'N', b'O', b'P', b'E']]
    {
        let mut pair = established();
        pair.forge(1, Channel::Control, bytes.to_vec());
        check_violation(&mut pair);
    }
}

#[test]
fn a_sender_that_ignores_the_window_is_a_violation_and_costs_no_more_than_the_window() {
    let mut pair = established();
    pair.sides[1].reads = false;
    let mut whole = Vec::new();
    start_whole(&mut whole);
    whole.extend(frame(Lane::Bulk, &[5; 1000]));
    for _ in 0..10_000 {
        pair.forge(1, Channel::Stream, whole.clone());
    }
    let held: usize = pair.sides[1].received.iter().map(|(_, payload)| payload.len()).sum();
    assert!(held as u64 <= STREAM_WINDOW, "{held}");
    check_violation(&mut pair);
}

#[test]
fn a_flood_that_breaks_no_rule_is_answered_within_bounds_and_delivered_once() {
    let mut pair = established();
    let mut ping = vec![0; HEADER_LEN];
    ping[0] = 2;
    for sequence in 0..20_000_u16 {
        ping[1..3].copy_from_slice(&sequence.to_le_bytes());
        pair.forge(1, Channel::Datagrams, ping.clone());
        pair.forge_control(1, &Control::Accept);
        pair.forge_control(1, &Control::Credit { stream: 0, reliable: 0 });
    }
    assert_eq!(pair.ends(), [None, None]);
}

#[test]
fn goodbye_ends_both_sides_once() {
    for reason in [ByeReason::Left, ByeReason::Replaced, ByeReason::Violation] {
        let mut pair = established();
        pair.forge_control(1, &Control::Bye(reason));
        assert_eq!(pair.ends()[1], Some(&CloseReason::Left));
        pair.forge_control(1, &Control::Bye(reason));
        pair.run(Duration::from_secs(20));
        assert_eq!(pair.sides.each_ref().map(|side| side.ended.len()), [1, 1]);
    }
}

/// Side 1 alone, established, and last heard of at the time that is returned.
fn silent_from_now() -> (Pair, Now) {
    let mut pair = established();
    pair.run(Duration::from_secs(1));
    pair.cut();
    pair.forge(1, Channel::Datagrams, numbered(10_000));
    let heard = pair.now;
    (pair, heard)
}

fn numbered(sequence: u16) -> Vec<u8> {
    let mut header = vec![0; HEADER_LEN];
    header[1..3].copy_from_slice(&sequence.to_le_bytes());
    header
}

#[test]
fn a_packet_one_microsecond_before_the_limit_keeps_the_link() {
    let limit = config().liveness.lost_after;
    let (mut pair, _) = silent_from_now();
    for round in 1..4 {
        pair.run(limit - Duration::from_micros(1));
        assert_eq!(pair.ends()[1], None);
        pair.forge(1, Channel::Datagrams, numbered(10_000 + round));
    }
    assert_eq!(pair.sides[1].interrupted.len(), 3);
}

#[test]
fn silence_of_exactly_the_limit_loses_the_link_once() {
    let limit = config().liveness.lost_after;
    let (mut pair, heard) = silent_from_now();
    pair.run(limit - Duration::from_micros(1));
    assert_eq!(pair.ends()[1], None);
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.sides[1].ended, [(heard + limit, CloseReason::Lost)]);
    assert_eq!(pair.sides[1].interrupted, [heard + config().liveness.interrupted_after]);
    assert_eq!(pair.sides[1].link.next_deadline(), None);
}

#[test]
fn silence_without_lobby_connection_loses_the_link_at_its_own_limit() {
    let limit = config().liveness.lost_after_offline;
    let (mut pair, heard) = silent_from_now();
    pair.handle(1, LinkInput::Offline(true));
    pair.run(limit - Duration::from_micros(1));
    pair.forge(1, Channel::Datagrams, numbered(10_001));
    assert_eq!(pair.ends()[1], None);
    pair.run(Duration::from_secs(60));
    let lost = heard + limit - Duration::from_micros(1) + limit;
    assert_eq!(pair.sides[1].ended, [(lost, CloseReason::Lost)]);
}

/// Whether a refusal names the right difference.
type IsNamed = fn(&Mismatch) -> bool;

/// Every way in which two games can differ, and how to tell it from a reason.
fn differences() -> Vec<(LinkConfig, IsNamed)> {
    let with = |change: fn(&mut LinkConfig)| {
        let mut other = config();
        change(&mut other);
        other
    };
    vec![
        (with(|c| c.hello.build = BuildId::new("2").expect("a valid id")), |m| {
            matches!(m, Mismatch::Build { .. })
        }),
        (with(|c| c.hello.game = GameId::new("other").expect("a valid id")), |m| {
            matches!(m, Mismatch::Game { .. })
        }),
        (with(|c| c.hello.version += 1), |m| matches!(m, Mismatch::Version { .. })),
        (with(|c| c.hello.codec += 1), |m| matches!(m, Mismatch::Codec { .. })),
        (with(|c| c.hello.lanes.push(LaneEntry { id: 9, kind: 1 })), |m| {
            matches!(m, Mismatch::Lanes { .. })
        }),
        (config_with(&["move", "jump"]), |m| matches!(m, Mismatch::Schema(_))),
    ]
}

#[test]
fn games_that_do_not_fit_are_refused_by_name_on_both_sides_even_if_a_refusal_is_lost() {
    for (other, is_named) in differences() {
        for lost in [None, Some(0), Some(1)] {
            for configs in [[config(), other.clone()], [other.clone(), config()]] {
                let mut pair = Pair::new(configs, &calm(), 0);
                pair.loses = Box::new(move |from, message| {
                    lost == Some(from) && matches!(message, Control::Refuse(_))
                });
                pair.start();
                pair.run(Duration::from_secs(25));
                for side in &pair.sides {
                    let [(_, CloseReason::Refused(mismatch))] = &side.ended[..] else {
                        panic!("not refused, lost {lost:?}: {:?}", side.ended);
                    };
                    assert!(is_named(mismatch), "{mismatch:?}");
                    assert!(side.established.is_empty());
                }
            }
        }
    }
}

/// Two games whose connections have a media track, and what becomes of it.
fn with_media(carries: bool) -> Pair {
    with_media_over(&calm(), 0, carries)
}

fn with_media_over(conditions: &Conditions, seed: u64, carries: bool) -> Pair {
    let mut config = config();
    config.hello.carriers |= carriers::RTP;
    let mut pair = Pair::new([config.clone(), config], conditions, seed);
    pair.media_carries = carries;
    pair.establish();
    pair.run(Duration::from_secs(3));
    pair
}

#[test]
fn datagrams_move_to_a_media_track_that_carries_them() {
    let mut pair = with_media(true);
    for side in 0..2 {
        assert_eq!(pair.sides[side].link.carrier(), Channel::Media);
        send(&mut pair, side, Lane::Reliable, b"hi");
    }
    pair.run(100 * MS);
    assert_eq!(pair.sides.each_ref().map(|side| side.received.len()), [1, 1]);
}

#[test]
fn datagrams_move_to_a_media_track_over_a_long_and_lossy_path_while_the_games_say_nothing() {
    // From 100 ms on, the answer to a probe comes after the next one has left.
    for rtt in [120, 250, 600] {
        for_each_seed(20, |seed, _| {
            let path = Conditions::perfect().with_delay(MS * rtt / 2).with_loss(0.1);
            let pair = with_media_over(&path, seed, true);
            for side in &pair.sides {
                assert_eq!(side.link.carrier(), Channel::Media, "{rtt} ms");
            }
        });
    }
}

#[test]
fn datagrams_stay_on_channel_one_if_the_media_track_carries_nothing() {
    let mut pair = with_media(false);
    for side in 0..2 {
        assert_eq!(pair.sides[side].link.carrier(), Channel::Datagrams);
        send(&mut pair, side, Lane::Reliable, b"hi");
    }
    pair.run(100 * MS);
    assert_eq!(pair.sides.each_ref().map(|side| side.received.len()), [1, 1]);
    let sent = pair.on_media;
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.on_media, sent, "it is not tried for ever");
}
