//! Whole runs of the program, small.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Each run wants the processors for itself: a server that gets none closes players as too slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs it with these arguments and the JSON line; kills it if it takes too long.
fn run(arguments: &[&str]) -> Value {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    const LIMIT: Duration = Duration::from_secs(150);
    let mut command = Command::new(env!("CARGO_BIN_EXE_netplay-load"));
    command.args(arguments).arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let id = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(LIMIT) else {
        let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        panic!("not done within {LIMIT:?}: {arguments:?}");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{arguments:?}\n{stdout}\n{stderr}");
    let line = stdout.lines().last().unwrap();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{stderr}"))
}

fn positive(row: &Value, columns: &[&str]) {
    for column in columns {
        assert!(row[*column].as_f64().is_some_and(|value| value > 0.0), "{column}: {row}");
    }
}

fn quick(server: &str) -> (Value, Value) {
    let arguments = ["--quick", "--rounds", "1", "--connections", "50", "--server", server];
    let result = run(&arguments);
    assert_eq!(result["bench"], "lobby");
    let (rows, more) = (result["rows"].as_array().unwrap(), result["more"].as_array().unwrap());
    assert_eq!((rows.len(), more.len()), (1, 1));
    let (row, more) = (rows[0].clone(), more[0].clone());
    assert_eq!(row["server"], server);
    assert_eq!(row["connections"], 50);
    positive(
        &row,
        &["kib_per_connection", "joins_per_s", "signals_per_s", "outstanding", "p99_ms"],
    );
    positive(&more, &["connects_per_s", "connect_p99_ms", "join_p99_ms", "half_per_s"]);
    assert_eq!(
        (&more["refused"], &more["lost"], &more["missing"]),
        (&0.into(), &0.into(), &0.into())
    );
    (row, more)
}

#[test]
fn netplay_gives_a_complete_row_and_everybody_is_back_after_a_restart() {
    let (_, more) = quick("netplay");
    positive(&more, &["search_p99_ms", "back_s"]);
}

#[test]
fn matchbox_gives_a_complete_row() {
    quick("matchbox");
}

#[test]
fn the_bare_relay_gives_a_complete_row() {
    let (row, _) = quick("bare_relay");
    assert_eq!(row["x_bare_relay"], 1.0);
}

#[test]
fn attackers_come_do_their_harm_and_get_nothing() {
    let result = run(&["--quick", "--rounds", "1", "--connections", "50", "--hostile"]);
    let rows = result["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    rows.iter().for_each(|row| positive(row, &["honest_per_s", "p99_ms"]));
    positive(&rows[1], &["x_without"]);
    // How many honest players a server loses that gets no processor is the machine's doing.
    let attacks = result["attacks"].as_array().unwrap();
    assert_eq!(attacks.len(), 8);
    for attack in attacks {
        positive(attack, &["connections"]);
        assert_eq!(attack["harmed"], 0, "{attack}");
        let refused = attack["refused"].as_u64().max(attack["closed"].as_u64());
        // Who is slow, or does not read, has time; and searches are within their rate.
        if !["half_open", "never_reads", "searches"].contains(&attack["attack"].as_str().unwrap()) {
            assert!(refused > Some(0), "{attack}");
        }
    }
}

#[test]
fn a_soak_counts_its_cycles() {
    let began = Instant::now();
    let result = run(&["--connections", "50", "--soak", "1000"]);
    let rows = result["rows"].as_array().unwrap();
    let cycles: u64 = rows.iter().filter_map(|row| row["cycles"].as_u64()).sum();
    assert_eq!(cycles, 1200, "after {:?}", began.elapsed());
    rows.iter().for_each(|row| positive(row, &["rss_kib", "files"]));
}
