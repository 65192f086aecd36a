//! What is left of a socket that is dropped: nothing. Alone in its process, as it counts threads.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use netplay_matchbox::NetplaySignaller;
use netplay_server::{ServerConfig, ServerThread};
use support::{Player, game, until};

/// Threads of ours. The system cuts their name to 15 bytes.
fn threads() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = names.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "netplay-matchbo").count()
}

#[test]
fn a_dropped_socket_leaves_the_lobby_and_no_thread() {
    let server = ServerThread::start(ServerConfig::default()).unwrap();
    let a = Player::enter(&server.url(), NetplaySignaller::create(game(), 1));
    let code = a.code();
    // The lobby has one seat.
    assert_eq!(threads(), 1);
    let dropped = Instant::now();
    a.leave().unwrap();
    until("its thread ends", || threads() == 0);
    assert!(dropped.elapsed() < Duration::from_secs(2), "{:?}", dropped.elapsed());
    // An empty lobby is gone at once, and is not kept for somebody who may come back.
    let b = Player::enter(&server.url(), NetplaySignaller::code(game(), code));
    until("the server's answer", || b.lobby.error().is_some());
    b.end().unwrap_err();
    until("its thread ends", || threads() == 0);
}
