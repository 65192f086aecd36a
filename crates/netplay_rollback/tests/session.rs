//! Sessions on simulated networks, as a game would see them.

mod support;

use netplay_rollback::{Event, Role};
use netplay_simnet::Conditions;
use support::world::{MS, Setup, World};

#[test]
fn two_players_play_on_a_perfect_path() {
    let mut world = World::new(Setup::default(), 1);
    world.run(MS * 10_000);
    world.check_inputs();
    for node in world.nodes.values() {
        let stats = node.session.stats();
        assert!(node.session.confirmed() > world.tick() - 6, "{stats:?}");
        assert_eq!((stats.stalls, stats.refused.total()), (0, 0), "{stats:?}");
        assert!(stats.advanced >= 599 && stats.rollbacks > 10, "{stats:?}");
        assert!(node.most_saved <= 10, "{}", node.most_saved);
    }
}

#[test]
fn every_final_state_is_compared_however_many_become_final_at_once() {
    let conditions = Conditions::perfect().with_delay(MS * 30).with_jitter(MS * 60);
    for every in [1_u16, 2, 3] {
        let apart = i32::from(every);
        let setup = Setup {
            checksum_every: Some(every),
            conditions: conditions.clone(),
            ..Setup::default()
        };
        let mut world = World::new(setup, every.into());
        world.run(MS * 10_000);
        world.check_inputs();
        for node in world.nodes.values() {
            let confirmed = node.session.confirmed();
            let of: Vec<_> = node.session.final_checksums().map(|(tick, _)| tick).collect();
            assert!(of.windows(2).all(|pair| pair[1] - pair[0] == apart), "{of:?}");
            let newest = of.last().copied().unwrap_or(0);
            assert!((confirmed - newest).abs() <= apart, "{newest} of {confirmed}");
        }
    }
}

#[test]
fn a_player_who_dies_leaves_and_one_who_returns_plays() {
    let mut world = World::new(Setup { peers: 3, ..Setup::default() }, 2);
    world.run(MS * 3_000);
    world.kill(2);
    world.run(MS * 4_000);
    for node in world.nodes.values() {
        assert_eq!(node.count(|event| matches!(event, Event::Left { .. })), 1, "{:?}", node.events);
    }
    world.start(2, Role::Returning);
    world.run(MS * 3_000);
    for node in world.nodes.values() {
        assert_eq!(
            node.count(|event| matches!(event, Event::Joined { .. })),
            1,
            "{:?}",
            node.events
        );
        assert!(node.session.is_playing(), "{:?}", node.events);
        assert!(node.session.confirmed() > world.tick() - 6, "{:?}", node.session.stats());
    }
    world.check_inputs();
}

#[test]
fn no_stall_at_15_percent_loss_and_100_ms_rtt() {
    let conditions = Conditions::perfect().with_delay(MS * 50).with_loss(0.15);
    for seed in 0..60 {
        let setup = Setup { conditions: conditions.clone(), ..Setup::default() };
        let mut world = World::new(setup, seed);
        world.run(MS * 60_000);
        for node in world.nodes.values() {
            assert_eq!(node.session.stats().stalls, 0, "seed {seed}: {:?}", node.session.stats());
        }
    }
}
