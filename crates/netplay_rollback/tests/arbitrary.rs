//! One session, fed with anything: it never panics, and what it says in answer is bounded.

mod support;

use netplay_rollback::limits::{MESSAGE_MAX, PEERS_MAX};
use netplay_rollback::{Event, Role, SessionConfig};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use support::forge::{self, Known, below};
use support::single::{Single, config};

/// Messages that one input may cause: a question to everybody, twice, and what is told to all.
const MESSAGES_PER_INPUT: usize = 3 * PEERS_MAX;

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        3 => Just(Role::Player),
        2 => Just(Role::Returning),
        1 => (0..200_u16, any::<bool>())
            .prop_map(|(delay, from_start)| Role::Spectator { delay, from_start }),
    ]
}

/// A snapshot that is whole.
fn snapshot(rng: &mut ChaCha8Rng, single: &mut Single, from: usize, known: &Known) {
    let bytes = [9; 50];
    let hash = xxhash_rust::xxh3::xxh3_64(&bytes);
    let mut cells = forge::Bits::default();
    (0..known.slots).for_each(|_| {
        cells.whole(&[1]);
    });
    let tick = known.tick - below(rng, 20) as i32;
    let members = rng.next_u32() as u16;
    single.bulk(from, &forge::head(tick.max(0), 50, hash, below(rng, 3), members, &cells.finish()));
    single.bulk(from, &forge::message(forge::PART, &[&[0, 0], &bytes]));
}

/// One thing that happens, from anybody.
fn happens(rng: &mut ChaCha8Rng, single: &mut Single, known: &mut Known) {
    let from = below(rng, u32::from(known.slots) + 2) as usize;
    known.own = from as u8;
    match below(rng, 24) {
        0..8 => {
            known.tick += if below(rng, 200) == 0 { below(rng, 5000) as i32 } else { 1 };
            single.input(known.slots, rng);
            single.tick(known.tick);
        }
        8..12 => {
            let (tick, bytes) = forge::any_block(rng, known);
            single.block(from, tick.into(), &bytes);
        }
        12 => {
            let count = 1 + below(rng, 4);
            let inputs = vec![&[1_u8][..]; count as usize];
            let bytes = forge::block(2, forge::SESSION as u8, 3, count, &forge::inputs(&inputs));
            single.block(from, known.tick, &bytes);
        }
        13 => single.bulk(from, &forge::any_bulk(rng, known)),
        14 => snapshot(rng, single, from, known),
        15 => single.link(from, below(rng, 3) > 0),
        16 => {
            // Several questions of one ballot in a row.
            known.view = below(rng, 3);
            (0..5).for_each(|_| single.message(from, &forge::any_message(rng, known)));
        }
        17 => single.lobby(from, below(rng, 4) == 0),
        _ => single.message(from, &forge::any_message(rng, known)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn anything_is_taken_without_a_panic_and_with_a_bounded_answer(
        seed: u64, peers in 1..6_usize, role in role(), steps in 50..800_usize
    ) {
        let me = if matches!(role, Role::Spectator { .. }) { peers } else { seed as usize % peers };
        let settings = SessionConfig { delay: (seed % 4) as u8, ..config(peers, me, role) };
        let mut single = Single::new(settings);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut known = Known { slots: peers as u8, own: 0, tick: 0, view: 0 };
        for _ in 0..steps {
            happens(&mut rng, &mut single, &mut known);
            prop_assert!(single.messages.len() <= 5 * MESSAGES_PER_INPUT, "{}", single.messages.len());
            prop_assert!(single.bulk.len() <= 9 * PEERS_MAX, "{}", single.bulk.len());
            prop_assert!(single.events.len() <= 5 * (PEERS_MAX + 2), "{:?}", single.events);
            for (_, bytes) in &single.messages {
                prop_assert!(bytes.len() <= MESSAGE_MAX, "{} bytes", bytes.len());
            }
            if single.events.contains(&Event::Dropped) {
                break;
            }
            single.messages.clear();
            single.bulk.clear();
            single.events.clear();
        }
    }
}
