//! Matches with a peer that lies: the others agree among themselves, and nobody panics.
//!
//! `NETPLAY_CASES=2000 cargo test -p netplay_rollback --release --test liars` runs that many of each.

mod support;

use netplay_rollback::{Event, Role};
use netplay_simnet::Conditions;
use support::malice::Malice;
use support::node::Node;
use support::world::{MS, Setup, World};

fn seeds(usual: u64) -> core::ops::Range<u64> {
    let cases = std::env::var("NETPLAY_CASES").ok().and_then(|text| text.parse().ok());
    0..cases.unwrap_or(usual)
}

fn setup(peers: usize, seed: u64) -> Setup {
    let delay = MS * (5 + seed as u32 * 7 % 60);
    let conditions = Conditions::perfect().with_delay(delay).with_jitter(MS * 10).with_loss(0.03);
    let players_each = 1 + (seed % 2) as u8;
    Setup { peers, players_each, conditions, input_max: 3, ballast: 70_000, ..Setup::default() }
}

/// Five peers, of whom `liar` lies: one dies and returns, and one watches.
fn play(liar: usize, malice: Malice, seed: u64) -> World {
    let mut world = World::new(setup(5, seed), seed);
    world.run(MS * 500);
    world.corrupt(liar, malice);
    world.run(MS * 500);
    let dies = if liar == 4 { 3 } else { 4 };
    world.start(5, Role::Spectator { delay: 0, from_start: false });
    world.run(MS * 500);
    world.kill(dies);
    world.run(MS * 2_500);
    world.start(dies, Role::Returning);
    world.run(MS * 4_000);
    world
}

/// Honest players who are still in the match.
fn honest(world: &World) -> Vec<usize> {
    let sound = world.nodes.iter().filter(|(at, _)| !world.unsound.contains(at));
    let playing = sound.filter(|(_, node)| node.session.is_playing());
    playing.map(|(at, _)| *at).collect()
}

#[test]
fn honest_players_agree_whatever_another_invents() {
    let mut refused = 0;
    for seed in seeds(30) {
        println!("seed {seed}");
        let liar = 1 + seed as usize % 4;
        let malice =
            Malice { blocks: false, one_in: 4 + seed as u32 % 40, invents: 1 + seed as u32 % 4 };
        let world = play(liar, malice, seed);
        world.check_inputs();
        assert_eq!(world.differences, 0);
        for node in honest(&world) {
            refused += world.node(node).session.stats().refused.total();
        }
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn the_host_may_lie_too() {
    for seed in seeds(10) {
        println!("seed {seed}");
        let malice = Malice { blocks: true, one_in: 10, invents: 2 };
        let world = play(0, malice, seed);
        let refused = |node: &Node| node.session.stats().refused.total();
        assert!(world.nodes.iter().any(|(at, node)| *at != 0 && refused(node) > 100));
    }
}

#[test]
fn different_inputs_for_different_peers_show_in_the_checksums() {
    let mut differed = 0;
    for seed in seeds(20) {
        println!("seed {seed}");
        let malice = Malice { blocks: true, one_in: 30, invents: 0 };
        let mut world = World::new(setup(4, seed), seed);
        world.corrupt(3, malice);
        world.run(MS * 4_000);
        let told = |event: &Event| matches!(event, Event::Desync { .. });
        let tell = world.nodes.iter().any(|(at, node)| *at != 3 && node.count(told) > 0);
        // The difference was there at a second that everybody has behind it.
        let compared = world.confirmed().into_iter().min().unwrap() > 180;
        if world.differences > 200 && compared {
            assert!(tell, "seed {seed}: {} differences", world.differences);
            differed += 1;
        }
    }
    assert!(differed > 5, "{differed}");
}
