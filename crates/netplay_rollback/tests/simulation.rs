//! Random matches on random networks, with random faults: final states are the same everywhere, every
//! input counts once, and after nine calm seconds everybody plays who is there.
//!
//! `NETPLAY_CASES=1000 cargo test -p netplay_rollback --release --test simulation` runs that many of each.

mod support;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::plan::{plan, plan_with_seats, run};

/// The same cases every time, so that a change is judged by itself; with `NETPLAY_CASES` others.
fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("NETPLAY_CASES").ok().and_then(|text| text.parse().ok());
    let rng_seed = if cases.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) };
    ProptestConfig {
        cases: cases.unwrap_or(usual),
        rng_seed,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn two_players_agree_whatever_happens(plan in plan(Just(2))) {
        run(&plan);
    }

    #[test]
    fn four_players_agree_whatever_happens(plan in plan(Just(4))) {
        run(&plan);
    }

    #[test]
    fn eight_players_agree_whatever_happens(plan in plan(Just(8))) {
        run(&plan);
    }

    #[test]
    fn who_takes_a_free_seat_plays_whatever_happens(plan in plan_with_seats(2..6_usize)) {
        run(&plan);
    }
}

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn sixteen_players_agree_whatever_happens(plan in plan(Just(16))) {
        run(&plan);
    }
}
