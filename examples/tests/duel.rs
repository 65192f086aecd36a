//! `duel` as real processes on the loopback address: everybody comes to the same state, over a bad network,
//! whoever is killed and comes back; and who does not is found out.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use serde_json::Value;
use support::{LobbyServer, STEP, duel, limit};

const BAD: &str = "delay=40ms,jitter=10ms,loss=5%";

/// They have simulated one game, and it was the same.
fn assert_one_game(summary: &Value, players: u64, ticks: u64) {
    assert_eq!(summary["players"], players, "{summary}");
    assert_eq!(summary["all_connected"], true, "{summary}");
    assert_eq!(summary["checksums_equal"], true, "{summary}");
    assert_eq!(summary["inputs_refused"], 0, "{summary}");
    let confirmed = summary["confirmed_ticks"].as_u64().unwrap();
    assert!(confirmed >= ticks, "{summary}");
}

#[test]
fn players_come_to_the_same_state_on_a_bad_network() {
    for (players, seconds) in [("2", 6), ("4", 6)] {
        let time = seconds.to_string();
        let arguments =
            ["--players", players, "--headless", "--seconds", &time, "--json", "--conditions", BAD];
        let summary = duel(&arguments).succeeds(limit(seconds)).summary();
        assert_one_game(&summary, players.parse().unwrap(), 60 * seconds - 90);
        assert!(summary["rollbacks"].as_u64().unwrap() > 0, "{summary}");
        let packets = summary["packets_per_s"].as_f64().unwrap();
        // Each datagram of inputs twice, because some are lost; and what a busy machine adds.
        assert!(packets < 140.0, "{summary}");
    }
}

#[test]
fn a_tick_comes_to_the_same_state_however_it_is_run_again() {
    for seed in ["1", "2"] {
        eprintln!("seed {seed}");
        let arguments = ["--check", "1500", "--check-seed", seed];
        duel(&arguments).succeeds(limit(60));
    }
}

#[test]
fn on_a_good_network_a_datagram_for_each_tick_is_enough() {
    let arguments = ["--headless", "--seconds", "6", "--json"];
    let summary = duel(&arguments).succeeds(limit(6)).summary();
    assert_one_game(&summary, 2, 270);
    let packets = summary["packets_per_s"].as_f64().unwrap();
    assert!(packets <= 65.0, "{summary}");
}

#[test]
fn who_changes_its_state_is_found_out() {
    let arguments = ["--headless", "--seconds", "5", "--json", "--desync-at", "100"];
    let mut game = duel(&arguments);
    let ended = game.end(limit(5));
    assert_ne!(ended.status.code(), Some(0));
    assert_eq!(ended.summary()["checksums_equal"], false);
}

#[test]
fn a_player_killed_and_started_again_plays_the_same_match_as_the_others() {
    const SECONDS: u64 = 14;
    let server = LobbyServer::start();
    let folder = std::env::temp_dir().join(format!("netplay-duel-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for resume files");
    let play = |number: usize, seconds: u64, more: &[&str]| {
        let (seconds, file) = (seconds.to_string(), folder.join(number.to_string()));
        let file = file.to_str().expect("a plain path");
        let mut arguments = vec!["--players", "1", "--server", &server.url, "--headless", "--json"];
        arguments.extend(["--seconds", &seconds, "--resume", file, "--conditions", BAD]);
        arguments.extend(more);
        duel(&arguments)
    };
    let creator = play(0, SECONDS, &[]);
    let code = creator.says("lobby code", STEP, |l| l.strip_prefix("lobby ").map(str::to_owned));
    let mut players = vec![creator, play(1, SECONDS, &["--join", &code])];
    for player in &players {
        player.says("the match", STEP, |line| line.contains("a match of 2 begins").then_some(()));
    }
    players.remove(1).kill();
    players[0].says("it plays alone", STEP, |l| l.contains("plays no more").then_some(()));
    let mut back = play(1, 5, &[]);
    back.says("the match", STEP, |line| line.contains("comes into the match").then_some(()));
    players[0].says("who is back", STEP, |l| l.contains(" plays from tick ").then_some(()));
    let theirs = back.succeeds(limit(5)).summary();
    let ours = players.remove(0).succeeds(limit(SECONDS)).summary();
    for summary in [&theirs, &ours] {
        assert_eq!(summary["checksums_equal"], true, "{summary}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder is there");
}
