//! `duel` as real processes on the loopback address: everybody comes to the same state, over a bad network,
//! whoever is killed and comes back; and who does not is found out.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use support::{LobbyServer, Program, STEP, duel, limit, until};

/// Players need the machine for themselves: these tests run one after another.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const BAD: &str = "delay=40ms,jitter=10ms,loss=5%";

/// A round trip of 100 ms.
const FAR: &str = "delay=50ms,loss=5%";

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
    let _alone = alone();
    for (players, seconds) in [("2", 6), ("4", 6)] {
        let time = seconds.to_string();
        let arguments =
            ["--players", players, "--headless", "--seconds", &time, "--json", "--conditions", BAD];
        let summary = duel(&arguments).succeeds(limit(seconds)).summary();
        // Half of what a machine does that is not busy.
        assert_one_game(&summary, players.parse().unwrap(), 30 * seconds);
        assert!(summary["rollbacks"].as_u64().unwrap() > 0, "{summary}");
        let packets = summary["packets_per_s"].as_f64().unwrap();
        // Each datagram of inputs twice, because some are lost; and what a busy machine adds.
        assert!(packets < 140.0, "{summary}");
    }
}

#[test]
fn a_tick_comes_to_the_same_state_however_it_is_run_again() {
    let _alone = alone();
    for seed in ["1", "2"] {
        eprintln!("seed {seed}");
        let arguments = ["--check", "1500", "--check-seed", seed];
        duel(&arguments).succeeds(limit(60));
    }
}

#[test]
fn on_a_good_network_a_datagram_for_each_tick_is_enough() {
    let _alone = alone();
    let arguments = ["--headless", "--seconds", "6", "--json"];
    let packets = || {
        let summary = duel(&arguments).succeeds(limit(6)).summary();
        eprintln!("{summary}");
        assert_one_game(&summary, 2, 180);
        summary["packets_per_s"].as_f64().unwrap()
    };
    // A machine that stops for a moment is no good network: what it kept waiting is sent again.
    assert!((0..3).any(|_| packets() <= 65.0));
}

#[test]
fn who_changes_its_state_is_found_out() {
    let _alone = alone();
    let arguments = ["--headless", "--seconds", "5", "--json", "--desync-at", "100"];
    let mut game = duel(&arguments);
    let ended = game.end(limit(5));
    assert_ne!(ended.status.code(), Some(0));
    assert_eq!(ended.summary()["checksums_equal"], false);
}

/// Duels of processes that play alone in one lobby.
struct Duels {
    server: LobbyServer,
    folder: PathBuf,
}

impl Duels {
    fn new(name: &str) -> Self {
        let folder = format!("netplay-duel-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder for resume files");
        Self { server: LobbyServer::start(), folder }
    }

    /// The process of this player; started again, it comes back.
    fn play(&self, number: usize, seconds: u64, more: &[&str]) -> Program {
        let (seconds, file) = (seconds.to_string(), self.folder.join(number.to_string()));
        let (file, server) = (file.to_str().expect("a plain path"), self.server.url.as_str());
        let mut arguments = vec!["--players", "1", "--server", server, "--headless", "--json"];
        arguments.extend(["--seconds", &seconds, "--resume", file, "--conditions", FAR]);
        arguments.extend(more);
        duel(&arguments)
    }

    /// So many who play: the first two begin, the others come while they do.
    fn begin(&self, players: usize, seconds: u64) -> Vec<Program> {
        let creator = self.play(0, seconds, &[]);
        let code =
            creator.says("lobby code", STEP, |l| l.strip_prefix("lobby ").map(str::to_owned));
        let mut all = vec![creator, self.play(1, seconds, &["--join", &code])];
        for player in &all {
            player.says("the match", STEP, |l| l.contains("a match of 2 begins").then_some(()));
        }
        for late in 2..players {
            let comes = self.play(late, seconds, &["--join", &code]);
            comes.says("the match", STEP, |l| l.contains("comes into the match").then_some(()));
            let joined = || all[0].count(" plays from tick ") == late - 1;
            assert!(until(2 * STEP, joined), "player {late} is not in the match");
            all.push(comes);
        }
        all
    }
}

impl Drop for Duels {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Ticks that it has waited for inputs of others, as far as it said.
fn waited(player: &Program) -> u32 {
    let ticks =
        |line: &str| line.split("goes on, after ").nth(1)?.split(' ').next()?.parse::<u32>().ok();
    player.lines().iter().filter_map(|line| ticks(line)).sum::<u32>()
}

/// One of them is killed, and comes back into the match.
fn one_is_killed_and_comes_back(players: usize) {
    let long = std::env::var("NETPLAY_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = long.unwrap_or(8 + 4 * players as u64);
    let duels = Duels::new(&players.to_string());
    let mut all = duels.begin(players, seconds);
    std::thread::sleep(Duration::from_secs(seconds / 3));
    let mut killed = all.remove(1);
    let before: Vec<u32> = all.iter().map(waited).collect();
    killed.kill();
    all[0].says("it plays without it", STEP, |l| l.contains("plays no more").then_some(()));
    let mut back = duels.play(1, seconds / 3, &[]);
    back.says("the match", STEP, |line| line.contains("comes into the match").then_some(()));
    assert!(until(2 * STEP, || all[0].count(" plays from tick ") == players - 1), "it is not back");
    let stalled: Vec<u32> = all.iter().zip(before).map(|(player, b)| waited(player) - b).collect();
    let mut ends = vec![back.succeeds(limit(seconds / 3))];
    ends.extend(all.into_iter().map(|mut player| player.succeeds(limit(seconds))));
    let summaries: Vec<Value> = ends.iter().map(support::Ended::summary).collect();
    for (ended, summary) in ends.iter().zip(&summaries) {
        eprintln!("{}{summary}", ended.stderr);
        assert_eq!(summary["checksums_equal"], true, "{summary}");
    }
    eprintln!("ticks that the others waited from its end to its return: {stalled:?}");
    // A short run says little of that: machines are busy at the start of four processes.
    assert!(long.is_none() || stalled.iter().all(|ticks| *ticks <= 1), "{stalled:?}");
}

/// `NETPLAY_SECONDS=300 cargo test --release -p netplay_examples --test duel killed -- --nocapture` plays for
/// five minutes.
#[test]
fn of_two_players_one_is_killed_and_comes_back_into_the_match() {
    let _alone = alone();
    one_is_killed_and_comes_back(2);
}

#[test]
fn two_come_into_a_duel_that_runs_and_of_the_four_one_is_killed_and_comes_back() {
    let _alone = alone();
    one_is_killed_and_comes_back(4);
}
