//! What real processes have to do on time. A binary of its own, so that nothing else of these tests
//! runs on the machine meanwhile.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use support::{STEP, arena, assert_complete, limit, received};

/// A game of four; how far apart their first ticks were, in milliseconds.
fn four_players() -> f64 {
    let mut game = arena(&["--players", "4", "--headless", "--seconds", "4", "--json"]);
    let ended = game.end(limit(4));
    let summary = ended.summary();
    assert_complete(&summary, 4);
    assert!(received(&summary) > 1000, "{summary}");
    for number in ["messages_sent", "rtt_p50_us", "connect_ms"] {
        assert!(summary[number].as_f64().is_some_and(|value| value > 0.0), "{number}: {summary}");
    }
    // Microseconds: a busy machine needs some milliseconds.
    assert!(summary["rtt_p50_us"].as_u64().unwrap() < 1_000_000, "{summary}");
    game.succeeds(STEP);
    summary["tick_zero_apart_ms"].as_f64().expect("all were in the match")
}

#[test]
fn four_headless_players_connect_lose_nothing_and_begin_together() {
    // 0.3 ms on a quiet machine. A busy one wakes frames late, but not all of four in five games; wrong
    // clocks are wrong in every game.
    let mut apart = Vec::new();
    while apart.len() < 5 && !apart.last().is_some_and(|apart| *apart <= 5.0) {
        apart.push(four_players());
    }
    assert!(apart.last().is_some_and(|apart| *apart <= 5.0), "{apart:?} ms");
}
