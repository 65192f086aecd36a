//! Forged messages, each built by hand: none panics, takes memory without bound, or lets who does not
//! lead the agreement decide who plays.

mod support;

use netplay_rollback::limits::{HISTORY, MESSAGE_MAX};
use netplay_rollback::{Event, Input, Role, Tick};
use support::forge::{self, PROMISE, SESSION, WATCH, accept, block, decided, decision, propose};
use support::single::{Single, config};
use support::world::peer;

const OURS: u8 = SESSION as u8;

/// Peer 1 of four, some ticks in; nothing has come from the others but that they are there.
fn player() -> Single {
    let mut single = Single::player(4);
    single.ticks(0..60);
    single
}

/// Peer 1 of four, that comes back and has asked somebody for the match.
fn returning() -> (Single, usize) {
    let mut single = Single::new(config(4, 1, Role::Returning));
    single.tick(600);
    [0, 2, 3].iter().for_each(|other| single.link(*other, true));
    single.tick(601);
    let feeder = (0..4).find(|other| !single.said(*other, WATCH).is_empty()).expect("one is asked");
    (single, feeder)
}

/// A whole snapshot of the state before this tick, in one part.
fn snapshot(single: &mut Single, from: usize, tick: Tick, view: u32, members: u16) {
    let bytes = [7; 100];
    let hash = xxhash_rust::xxh3::xxh3_64(&bytes);
    let before = forge::inputs(&[&[1], &[1], &[1], &[1]]);
    single.bulk(from, &forge::head(tick, 100, hash, view, members, &before));
    single.bulk(from, &forge::message(forge::PART, &[&[0, 0], &bytes]));
}

#[test]
fn slots_that_nobody_has_and_the_last_views_are_no_harm() {
    let leave = || decision(&[(15, 20)], &[]);
    let join = || decision(&[], &[(1, 700, 0), (15, 700, 0)]);
    for decision in [leave(), join(), decision(&[], &[(14, 700, 0)])] {
        for view in [0, 1, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
            for members in [0, 0b0010, u16::MAX] {
                let (mut single, feeder) = returning();
                single.message(feeder, &decided(view, (1, 0), members, &decision));
                snapshot(&mut single, feeder, 590, view, members);
                single.message(feeder, &decided(view, (1, 0), members, &decision));
                single.message(feeder, &decided(0, (1, 0), members, &decision));
                single.ticks(602..700);
                let mut single = player();
                single.message(0, &propose(view, (1, 0), members, &[(15, 4)]));
                single.message(0, &propose(view, (1, 0), members, &[]));
                single.message(0, &accept(view, (1, 0), &decision));
                single.message(0, &decided(view, (1, 0), members, &decision));
                single.ticks(60..80);
            }
        }
    }
}

#[test]
fn a_first_tick_far_ahead_is_not_taken() {
    let far = Tick::MAX / 2 - 1;
    let (mut single, feeder) = returning();
    snapshot(&mut single, feeder, 590, 0, 0b1101);
    let join = decision(&[], &[(1, far, 0)]);
    single.message(0, &decided(0, (1, 0), 0b1111, &join));
    assert!(!single.session.is_playing());
    // A player takes it from nobody either.
    let mut single = player();
    single.link(3, false);
    single.message(0, &propose(0, (1, 0), 0, &[(3, 0)]));
    let leave = decision(&[(3, -1)], &[]);
    single.message(0, &accept(0, (1, 0), &leave));
    single.message(0, &decided(0, (1, 0), 0b0111, &leave));
    assert_eq!(single.session.members().count(), 3);
    single.link(3, true);
    single.message(0, &propose(1, (1, 0), 0b1000, &[]));
    let join = decision(&[], &[(3, far, 0)]);
    single.message(0, &accept(1, (1, 0), &join));
    single.message(0, &decided(1, (1, 0), 0b1111, &join));
    assert_eq!(single.session.members().count(), 3);
    assert!(single.session.stats().refused.foreign >= 1);
}

#[test]
fn a_proposal_that_names_a_peer_often_is_not_answered_with_its_inputs_so_often() {
    let mut single = player();
    let noise: Vec<Vec<u8>> = (0..HISTORY).map(|at| vec![at as u8; 40]).collect();
    for first in (0..2000).step_by(10) {
        single.tick(60 + first);
        let told: Vec<&[u8]> = (0..10).map(|at| &noise[(first + at) as usize][..]).collect();
        let told = forge::inputs(&told);
        single.block(3, first + 9, &block(2, OURS, first + 10, 10, &told));
    }
    single.link(3, false);
    single.messages.clear();
    single.message(0, &propose(0, (1, 0), 0, &[(3, -4000); 16]));
    assert_eq!(single.said(0, PROMISE), [] as [Vec<u8>; 0]);
    single.message(0, &propose(0, (1, 0), 0, &[(3, -4000)]));
    assert!(single.messages.iter().all(|(_, bytes)| bytes.len() <= MESSAGE_MAX));
    assert_eq!(single.said(0, PROMISE).len(), 1);
}

#[test]
fn a_snapshot_of_a_tick_to_come_is_not_taken() {
    let (mut single, feeder) = returning();
    snapshot(&mut single, feeder, 1_000_000, 0, 0b1101);
    assert!(single.restored.is_empty());
    assert_eq!(single.session.stats().refused.malformed, 1);
}

#[test]
fn a_feed_ahead_of_the_clock_is_not_taken() {
    let (mut single, feeder) = returning();
    snapshot(&mut single, feeder, 590, 0, 0b1101);
    assert_eq!(single.restored, [590]);
    // Idle cells of four players take half a byte a tick.
    single.message(feeder, &forge::feed(590, 60_000, &[0; 30_000]));
    assert!(single.session.confirmed() < 1000, "{}", single.session.confirmed());
    assert_eq!(single.session.stats().refused.malformed, 1);
}

#[test]
fn who_does_not_coordinate_drops_nobody() {
    let mut single = player();
    // Peer 2 asks for nothing, is promised it, and then wants the host dropped.
    single.message(2, &propose(0, (5, 2), 0, &[]));
    let decision = decision(&[(0, -1)], &[]);
    single.message(2, &accept(0, (5, 2), &decision));
    single.message(2, &decided(0, (5, 2), 0b1110, &decision));
    assert_eq!(single.session.members().count(), 4);
    assert!(!single.events.iter().any(|event| matches!(event, Event::Left { .. })));
}

#[test]
fn one_who_does_not_coordinate_does_not_end_what_the_coordinator_has_not() {
    let mut single = player();
    single.link(3, false);
    single.message(0, &propose(0, (1, 0), 0, &[(3, -1)]));
    let decision = decision(&[(3, -1)], &[]);
    single.message(0, &accept(0, (1, 0), &decision));
    single.message(2, &decided(0, (1, 0), 0b0111, &decision));
    assert_eq!(single.session.members().count(), 4);
    // But once the coordinator is gone, it may be the only one who knows.
    single.link(0, false);
    single.message(2, &decided(0, (1, 0), 0b0111, &decision));
    assert_eq!(single.session.members().count(), 3);
}

#[test]
fn one_peer_does_not_tell_the_host_that_it_was_dropped() {
    let mut host = Single::new(config(4, 0, Role::Player));
    host.ticks(0..60);
    let decision = decision(&[(0, 50)], &[]);
    host.message(2, &decided(0, (5, 2), 0b1110, &decision));
    assert!(host.session.is_playing());
    assert!(!host.events.contains(&Event::Dropped));
    // Most of the others are believed: it may have been cut off.
    host.message(1, &decided(0, (5, 2), 0b1110, &decision));
    host.message(3, &decided(0, (5, 2), 0b1110, &decision));
    assert!(host.events.contains(&Event::Dropped));
}

#[test]
fn asking_again_and_again_does_not_make_snapshots_again_and_again() {
    let mut single = Single::player(2);
    let idle: Vec<u8> = vec![0; 1];
    for tick in 0..600 {
        single.tick(tick);
        single.block(0, tick, &block(2, OURS, 1, 1, &forge::inputs(&[&idle])));
        single.message(0, &forge::message(WATCH, &[&(-1_i32).to_le_bytes(), &[0; 6]]));
    }
    assert!(single.snapshots <= 11, "{} snapshots in ten seconds", single.snapshots);
    assert!(single.session.stats().refused.limit > 500, "{:?}", single.session.stats());
}

#[test]
fn a_promise_cannot_bind_to_what_nobody_may_decide() {
    let forgeries = [
        decision(&[(15, -1)], &[]),
        decision(&[(2, -1)], &[(9, 70, 3)]),
        decision(&[(2, -1)], &[(0, 70, 3)]),
        decision(&[(2, 5000)], &[]),
    ];
    for forged in forgeries {
        let mut host = Single::new(config(3, 0, Role::Player));
        host.ticks(0..60);
        host.link(2, false);
        assert_eq!(host.said(1, forge::PROPOSE).len(), 1);
        let promise = |(last, tail): (Tick, &[u8]), accepted: &[u8]| {
            forge::promise(0, (1, 0), 60, (2, last, tail), accepted)
        };
        let none = forge::tail(0, 0, &[]);
        let accepted = [&[1][..], &forge::ballot(9, 1), &forged].concat();
        host.message(1, &promise((-1, &none), &accepted));
        // Nor tell inputs of a time far from now.
        let mut far = forge::Bits::default();
        far.whole(&[1]).put(0, 32).put(0, 32);
        let far = forge::tail(30_000, 65, &far.finish());
        host.message(1, &promise((30_064, &far), &[0]));
        host.message(1, &promise((-1, &far), &[0]));
        host.message(1, &forge::agree(forge::ACCEPTED, 0, &[&forge::ballot(1, 0)]));
        host.ticks(60..70);
        assert_eq!(host.session.members().count(), 3, "{:?}", host.events);
        assert_eq!(host.session.stats().refused.foreign, 3);
        // The truth is taken.
        host.message(1, &promise((-1, &none), &[0]));
        host.message(1, &forge::agree(forge::ACCEPTED, 0, &[&forge::ballot(1, 0)]));
        assert!(host.session.members().eq([peer(0), peer(1)]));
    }
}

#[test]
fn who_comes_back_joins_as_itself_with_a_state_and_in_time() {
    for (epoch, from, state) in [(0, 700, false), (1, 700, true), (0, 500, true), (0, 700, true)] {
        let (mut single, feeder) = returning();
        if state {
            snapshot(&mut single, feeder, 590, 0, 0b1101);
            single.message(feeder, &forge::feed(590, 30, &[0; 15]));
        }
        single.ticks(602..625);
        let join = decision(&[], &[(1, from, epoch)]);
        single.message(0, &decided(0, (1, 0), 0b1111, &join));
        let good = (epoch, from, state) == (0, 700, true);
        assert_eq!(single.session.is_playing(), good, "{epoch} {from} {state}");
    }
}

#[test]
fn who_is_agreed_to_leave_is_not_heard_again_for_a_later_question() {
    let mut single = Single::new(config(4, 3, Role::Player));
    single.ticks(0..20);
    single.message(0, &propose(0, (1, 0), 0, &[(2, -1)]));
    single.message(0, &accept(0, (1, 0), &decision(&[(2, -1)], &[])));
    assert_eq!(single.said(0, forge::ACCEPTED).len(), 1);
    // Another one leads now, and asks for nothing.
    single.handle(Input::Host(peer(1)));
    single.message(1, &propose(0, (2, 1), 0, &[]));
    assert_eq!(single.said(1, PROMISE).len(), 1);
    for other in 0..3 {
        single.block(other, 9, &block(0, OURS, 10, 10, &forge::inputs(&[&[1][..]; 10])));
    }
    single.tick(20);
    assert_eq!(single.session.confirmed(), -1);
    let decision = decision(&[(2, -1)], &[]);
    single.message(0, &decided(0, (1, 0), 0b1011, &decision));
    assert!(single.events.contains(&Event::Left { peer: peer(2), at: 0 }));
    assert_eq!(single.session.confirmed(), 9);
}
