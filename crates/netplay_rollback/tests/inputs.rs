//! Inputs as a game sees them: lockstep, delay, many bytes and players, and how sure they are.

mod support;

use std::collections::BTreeSet;

use netplay_protocol::Now;
use netplay_rollback::{
    Event, Input, InputStatus, LocalInputError, Output, Player, Role, Session, SessionConfig,
};
use netplay_simnet::Conditions;
use support::forge::{self, SESSION, block};
use support::single::{Single, config};
use support::world::{MS, Setup, World, peer};

#[test]
fn in_lockstep_nothing_is_guessed_and_nothing_is_run_twice() {
    let conditions = Conditions::perfect().with_delay(MS * 25).with_jitter(MS * 10).with_loss(0.05);
    for seed in 0..5 {
        let setup = Setup {
            peers: 3,
            prediction: 0,
            delay: 4,
            conditions: conditions.clone(),
            ..Setup::default()
        };
        let mut world = World::new(setup, seed);
        world.run(MS * 20_000);
        world.check_inputs();
        for node in world.nodes.values() {
            let stats = node.session.stats();
            assert_eq!((stats.rollbacks, stats.deepest), (0, 0), "seed {seed}: {stats:?}");
            assert!(stats.advanced > 1_150, "seed {seed}: {stats:?}");
            assert!(node.most_saved <= 2, "seed {seed}: only for the checksums");
        }
    }
}

#[test]
fn in_lockstep_with_enough_delay_nobody_waits() {
    let conditions = Conditions::perfect().with_delay(MS * 25);
    let setup = Setup { prediction: 0, delay: 3, conditions, ..Setup::default() };
    let mut world = World::new(setup, 1);
    world.run(MS * 20_000);
    for node in world.nodes.values() {
        // But for the very first inputs, which have to come once.
        let stats = node.session.stats();
        assert!(stats.stalls <= 1 && stats.stalled <= 3, "{stats:?}");
    }
}

#[test]
fn another_delay_counts_for_all_from_the_same_tick_on() {
    let conditions = Conditions::perfect().with_delay(MS * 40).with_loss(0.1);
    for seed in 0..5 {
        let setup = Setup { peers: 4, conditions: conditions.clone(), ..Setup::default() };
        let mut world = World::new(setup, seed);
        for delay in [3, 0, 6, 1] {
            world.run(MS * 1_500);
            world.give(0, Input::Delay(delay));
            world.run(MS * 300);
            let told = |event: &Event| match event {
                Event::Delay { at, delay } => Some((*at, *delay)),
                _ => None,
            };
            let last = |node: usize| {
                world.node(node).events.iter().rev().find_map(|(_, event)| told(event)).unwrap()
            };
            let (at, ticks) = last(0);
            assert_eq!(ticks, delay);
            assert!((0..4).all(|node| last(node) == (at, delay)), "seed {seed}");
            // Until that tick the old one counts, from it on the new one.
            while (0..4).any(|node| world.node(node).session.tick() < at) {
                for node in world.nodes.values() {
                    let new = node.session.delay() == i32::from(delay);
                    assert_eq!(new, node.session.tick() >= at, "seed {seed}");
                }
                world.step();
            }
        }
        world.run(MS * 1_000);
        world.check_inputs();
    }
}

#[test]
fn only_the_host_changes_the_delay() {
    let mut single = Single::new(config(3, 2, Role::Player));
    single.ticks(0..10);
    let change = forge::message(forge::DELAY, &[&40_i32.to_le_bytes(), &[5]]);
    single.message(1, &change);
    assert_eq!(single.session.stats().refused.foreign, 1);
    single.message(0, &change);
    assert!(single.events.contains(&Event::Delay { at: 40, delay: 5 }));
    single.ticks(10..40);
    assert_eq!(single.session.delay(), 0);
    single.tick(40);
    assert_eq!(single.session.delay(), 5);
}

/// In ggrs, inputs of changing size from two local players wait for ever.
#[test]
fn two_players_at_each_peer_may_send_inputs_of_any_size() {
    let conditions = Conditions::perfect().with_delay(MS * 30).with_loss(0.05);
    for seed in 0..5 {
        let setup = Setup {
            players_each: 2,
            input_max: 64,
            change_every: 1,
            conditions: conditions.clone(),
            ..Setup::default()
        };
        let mut world = World::new(setup, seed);
        world.run(MS * 20_000);
        world.check_inputs();
        let mut sizes = BTreeSet::new();
        for node in world.nodes.values() {
            let session = &node.session;
            assert!(session.confirmed() > world.tick() - 15, "seed {seed}: {:?}", session.stats());
            assert_eq!(session.stats().stalls, 0, "seed {seed}: {:?}", session.stats());
            sizes.extend(node.did.values().map(Vec::len));
        }
        assert!(sizes.len() > 60, "{sizes:?}");
    }
}

/// The status of a player's input at a tick.
fn status(single: &Single, tick: i32, player: usize) -> InputStatus {
    single.session.inputs(tick).nth(player).expect("a tick that was run").status
}

#[test]
fn an_input_is_predicted_then_late_then_confirmed_and_absent_after_a_drop() {
    let mut single = Single::new(SessionConfig { prediction: 12, ..config(2, 0, Role::Player) });
    let said = |tick: i32| block(2, SESSION as u8, 1, 1, &forge::inputs(&[&[tick as u8]]));
    // As a rule it comes two ticks late.
    for tick in 0..60 {
        single.tick(tick);
        if tick >= 2 {
            single.block(1, tick - 2, &said(tick - 2));
        }
    }
    assert_eq!(status(&single, 59, 0), InputStatus::Confirmed, "our own");
    assert_eq!(status(&single, 59, 1), InputStatus::Predicted);
    assert_eq!(single.session.inputs(59).nth(1).unwrap().bytes, [56], "the last one is repeated");
    single.tick(60);
    assert_eq!(status(&single, 57, 1), InputStatus::Confirmed);
    // Nothing comes any more.
    single.ticks(61..69);
    assert_eq!(status(&single, 60, 1), InputStatus::Predicted);
    assert_eq!(status(&single, 68, 1), InputStatus::Late);
    single.block(1, 68, &said(68));
    single.link(1, false);
    single.tick(69);
    assert_eq!(single.session.members().count(), 1);
    let gone = single.session.inputs(69).nth(1).unwrap();
    assert_eq!((gone.status, gone.bytes), (InputStatus::Absent, &[][..]));
    assert_eq!(status(&single, 60, 1), InputStatus::Absent, "from its last one on");
}

#[test]
fn local_inputs_that_nobody_would_take_are_refused() {
    let small = |bytes: &[u8]| bytes.len() < 4;
    let mut single = Single::new(SessionConfig { validate: small, ..config(2, 0, Role::Player) });
    let session = &mut single.session;
    assert_eq!(session.add_local_input(Player(1), &[1]), Err(LocalInputError::NotOurs(1)));
    assert_eq!(session.add_local_input(Player(9), &[1]), Err(LocalInputError::NotOurs(9)));
    assert_eq!(session.add_local_input(Player(0), &[1; 4]), Err(LocalInputError::Invalid(4)));
    assert_eq!(session.add_local_input(Player(0), &[1; 65]), Err(LocalInputError::Invalid(65)));
    assert_eq!(session.add_local_input(Player(0), &[1; 3]), Ok(()));
}

#[test]
fn two_ticks_in_one_frame_are_told_in_one_block_and_no_loss() {
    let mut a = Single::new(config(2, 0, Role::Player));
    let mut b = Session::new(config(2, 1, Role::Player)).unwrap();
    let mut tick = -1;
    let mut twice = 0;
    for frame in 0..600 {
        let now = Now::from_micros(frame * 33_333);
        // One tick in a frame, or two.
        for more in [frame % 3 == 0, false].into_iter().skip(usize::from(frame % 3 != 0)) {
            tick += 1;
            b.handle(now, if more { Input::Passed(tick) } else { Input::Tick(tick) });
        }
        a.now = now;
        while let Some(output) = b.poll_output() {
            if let Output::Block { tick, bytes, again, .. } = output {
                a.handle(Input::Block { from: peer(1), tick, bytes: &bytes, again: false });
                twice += u32::from(again);
            }
        }
        a.session.handle(now, Input::Tick(tick));
        while let Some(output) = a.session.poll_output() {
            if let Output::Block { tick, bytes, again, .. } = output {
                b.handle(now, Input::Block { from: peer(0), tick, bytes: &bytes, again: false });
                twice += u32::from(again);
            }
        }
    }
    assert_eq!((twice, b.stats().blocks), (0, 600), "a block a frame, once");
    assert_eq!((b.confirmed(), a.session.confirmed()), (tick, tick));
}
