//! What a session refuses, and that it counts it: everything here comes from a peer that lies.

mod support;

use netplay_rollback::limits::{AHEAD_MAX, BLOCK_MAX, INPUT_MAX, MESSAGE_MAX, SNAPSHOT_PART};
use netplay_rollback::{Refusals, Role, SessionConfig};
use support::forge::{self, SESSION, block, inputs};
use support::single::{Single, config};

const OURS: u8 = SESSION as u8;

/// A session of two after 20 ticks, that knows the first four inputs of the other.
fn begun(settings: SessionConfig) -> Single {
    let mut single = Single::new(settings);
    single.ticks(0..20);
    single.block(0, 3, &block(0, OURS, 4, 4, &inputs(&[&[1], &[2], &[3], &[4]])));
    assert_eq!(single.session.stats().refused, Refusals::default());
    assert_eq!(single.session.confirmed(), 3);
    single
}

fn player() -> Single {
    begun(config(2, 1, Role::Player))
}

/// What is refused changes nothing but one counter.
fn refuses(single: &mut Single, block: (i32, &[u8]), expected: Refusals) {
    single.block(0, block.0, block.1);
    assert_eq!(single.session.stats().refused, expected);
    single.ticks(20..25);
    assert_eq!(single.session.confirmed(), 3);
    let did: Vec<_> =
        (0..4).map(|tick| single.did(0, tick).expect("a tick that was run")).collect();
    assert_eq!(did, [[1], [2], [3], [4]]);
}

#[test]
fn a_block_of_who_is_not_in_the_match_is_refused() {
    let mut single = player();
    let good = block(0, OURS, 5, 1, &inputs(&[&[5]]));
    single.block(7, 4, &good);
    single.block(1, 4, &good);
    assert_eq!(single.session.stats().refused.foreign, 1, "our own name is nobody else's");
    assert_eq!(single.session.confirmed(), 3);
    single.message(7, &forge::agree(forge::REPORT, 0, &[&[1, 0]]));
    single.bulk(7, &forge::message(forge::PART, &[&[0, 0], &[1]]));
    assert_eq!(single.session.stats().refused.foreign, 3);
}

#[test]
fn another_input_for_a_tick_that_is_final_is_refused() {
    let other = block(2, OURS, 4, 4, &inputs(&[&[9], &[9], &[9], &[9]]));
    let expected = Refusals { contradictions: 4, ..Refusals::default() };
    refuses(&mut player(), (3, &other), expected);
}

#[test]
fn an_input_too_far_ahead_is_refused() {
    let mut single = player();
    let far = block(2, OURS, 25 + AHEAD_MAX, 1, &inputs(&[&[9]]));
    refuses(&mut single, (20 + AHEAD_MAX, &far), Refusals { ahead: 1, ..Refusals::default() });
}

#[test]
fn knowledge_of_what_was_never_sent_is_refused() {
    // It claims to know our inputs up to tick 20; we are in tick 19.
    let lies = block(0, OURS, -16, 1, &inputs(&[&[5]]));
    refuses(&mut player(), (4, &lies), Refusals { ahead: 1, ..Refusals::default() });
}

#[test]
fn an_input_that_is_too_large_is_refused() {
    let large = block(0, OURS, 5, 1, &inputs(&[&[5; INPUT_MAX + 1]]));
    refuses(&mut player(), (4, &large), Refusals { malformed: 1, ..Refusals::default() });
}

#[test]
fn an_input_that_is_no_input_of_the_game_is_refused() {
    let only_small = |bytes: &[u8]| bytes.len() <= 1 && bytes.iter().all(|byte| *byte < 16);
    let settings = || SessionConfig { validate: only_small, ..config(2, 1, Role::Player) };
    for wrong in [&[16][..], &[1, 2]] {
        let wrong = block(0, OURS, 5, 1, &inputs(&[wrong]));
        let expected = Refusals { malformed: 1, ..Refusals::default() };
        refuses(&mut begun(settings()), (4, &wrong), expected);
    }
}

#[test]
fn what_is_of_another_session_is_refused() {
    let mut single = player();
    let other = block(0, OURS + 1, 5, 1, &inputs(&[&[5]]));
    refuses(&mut single, (4, &other), Refusals { session: 1, ..Refusals::default() });
    let mut message = forge::agree(forge::REPORT, 0, &[&[1, 0]]);
    message[1] += 1;
    single.message(0, &message);
    let mut part = forge::message(forge::PART, &[&[0, 0], &[1]]);
    part[1] += 1;
    single.bulk(0, &part);
    assert_eq!(single.session.stats().refused.session, 3);
}

#[test]
fn what_is_replayed_changes_nothing() {
    let mut single = player();
    let old = block(0, OURS, 4, 4, &inputs(&[&[1], &[2], &[3], &[4]]));
    (0..1000).for_each(|_| single.block(0, 3, &old));
    refuses(&mut single, (3, &old), Refusals::default());
    // After half of the 16 bits of a tick it would be one to come.
    single.ticks((25..40_000).step_by(100));
    let before = single.session.stats().refused.total();
    single.block(0, 3, &old);
    assert_eq!(single.session.confirmed(), 3, "{:?}", single.session.stats().refused);
    assert!(single.session.stats().refused.total() >= before);
}

#[test]
fn what_a_player_sends_after_it_left_is_refused() {
    // The host decides, as it is one of two.
    let mut host = Single::new(config(2, 0, Role::Player));
    host.ticks(0..20);
    host.block(1, 3, &block(0, OURS, 4, 4, &inputs(&[&[1], &[2], &[3], &[4]])));
    host.link(1, false);
    host.ticks(20..30);
    assert_eq!(host.session.members().count(), 1);
    host.block(1, 4, &block(0, OURS, 5, 1, &inputs(&[&[5]])));
    assert_eq!(host.session.stats().refused.foreign, 1);
    assert_eq!((host.did(1, 3), host.did(1, 4)), (Some(vec![4]), None));
}

#[test]
fn what_is_oversized_is_refused() {
    let mut single = player();
    let large = block(0, OURS, 5, 400, &[0; BLOCK_MAX + 1]);
    refuses(&mut single, (4, &large), Refusals { malformed: 1, ..Refusals::default() });
    single.message(0, &forge::message(forge::FEED, &[&[0; MESSAGE_MAX]]));
    single.bulk(0, &forge::message(forge::PART, &[&[0, 0], &[1; SNAPSHOT_PART + 1]]));
    single.bulk(0, &forge::head(5, 17 * 1024 * 1024, 0, 0, 3, &[]));
    assert_eq!(single.session.stats().refused, Refusals { malformed: 4, ..Refusals::default() });
}
