//! Games of real processes on the loopback address: they connect, lose nothing, outlive players and
//! the lobby server, end when they should, and say what is wrong with a command line.
//!
//! Processes are found in `/proc`.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    LobbyServer, Program, REFUSAL, STEP, arena, assert_complete, children_of, ggrs_box, limit,
    logging_arena, netplay_server, received, runs, signal, until,
};

fn code_of(game: &Program) -> String {
    game.says("lobby code", STEP, |line| line.strip_prefix("lobby ").map(str::to_owned))
}

/// The short id of a player that is gone.
fn gone(line: &str) -> Option<String> {
    let (id, _) = line.strip_prefix("player ")?.split_once(" is gone: ")?;
    Some(id.to_owned())
}

#[test]
fn players_on_a_bad_network_connect_and_lose_nothing_reliable() {
    let conditions = "delay=40ms,jitter=10ms/60%,loss=5%,burst=3";
    let arguments = ["--headless", "--seconds", "4", "--json", "--conditions", conditions];
    let mut game = arena(&arguments);
    let ended = game.end(limit(4));
    let summary = ended.summary();
    assert_complete(&summary, 2);
    // Every way costs 40 ms, so both players have the flag; and once only.
    let rtt = summary["rtt_p50_us"].as_u64().unwrap();
    assert!((80_000..150_000).contains(&rtt), "{summary}");
    game.succeeds(STEP);
}

/// They have simulated one game, and it was the same.
fn assert_one_game(summary: &Value, players: u64, frames: u64) {
    assert_eq!(summary["players"], players, "{summary}");
    assert_eq!(summary["all_connected"], true, "{summary}");
    assert_eq!(summary["agreed"], true, "{summary}");
    assert!(summary["compared_frame"].as_u64().is_some_and(|frame| frame >= frames), "{summary}");
    assert!(summary["frames"].as_u64().is_some_and(|sum| sum >= players * frames), "{summary}");
    assert_eq!(summary["ggrs_refused"], 0, "{summary}");
}

#[test]
fn two_players_of_a_ggrs_game_agree_on_a_bad_network() {
    let conditions = "delay=40ms,jitter=10ms,loss=5%";
    let arguments = ["--headless", "--seconds", "5", "--json", "--conditions", conditions];
    let ended = ggrs_box(&arguments).succeeds(limit(5));
    let summary = ended.summary();
    // A busy machine plays fewer frames than it should.
    assert_one_game(&summary, 2, 60);
    assert!(summary["rollbacks"].as_u64().is_some_and(|rollbacks| rollbacks > 0), "{summary}");
}

#[test]
fn a_ggrs_game_has_a_seat_for_each_player_it_begins_with() {
    let server = LobbyServer::start();
    let play = |more: &[&str]| {
        let arguments = ["--players", "1", "--server", &server.url, "--headless", "--json"];
        ggrs_box(&[&arguments[..], &["--seconds", "4"], more].concat())
    };
    let mut first = play(&[]);
    let code = code_of(&first);
    let mut second = play(&["--join", &code]);
    first.connects(1, STEP);
    play(&["--join", &code]).refuses(STEP, "the lobby is full");
    for player in [&mut first, &mut second] {
        let summary = player.succeeds(limit(4)).summary();
        assert_one_game(&summary, 1, 60);
    }
}

#[test]
fn two_players_without_json_print_a_table() {
    let mut game = arena(&["--headless", "--seconds", "2"]);
    let ended = game.succeeds(limit(2));
    let row = |name: &str| {
        let line = ended.stdout.iter().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no row {name}"))[name.len()..].trim().to_owned()
    };
    assert_eq!(row("players  "), "2");
    assert_eq!(row("all connected"), "yes");
    assert_eq!(row("players agree"), "yes");
    assert_eq!(row("reliable lost"), "0");
    assert!(row("messages received").parse::<u64>().unwrap() > 0);
    assert!(row("round trip, median").ends_with(" ms"));
}

#[test]
fn a_killed_player_is_reported_once_and_rejoins_by_code() {
    const SECONDS: u64 = 14;
    let server = LobbyServer::start();
    let play = |seconds: u64, more: &[&str]| {
        let seconds = seconds.to_string();
        let mut arguments = vec!["--players", "1", "--server", &server.url, "--headless", "--json"];
        arguments.extend(["--seconds", &seconds]);
        arguments.extend(more);
        logging_arena(&arguments)
    };
    let creator = play(SECONDS, &[]);
    let code = code_of(&creator);
    let mut players = vec![creator];
    players.extend((0..3).map(|_| play(SECONDS, &["--join", &code])));
    for player in &players {
        player.connects(3, STEP);
    }
    players[0].connects(3, STEP);

    let mut killed = players.remove(2);
    killed.kill();
    let at = Instant::now();
    let within = Duration::from_secs(6);
    let find = |player: &Program| {
        player.says("report of a gone player", within.saturating_sub(at.elapsed()), gone)
    };
    let ids: Vec<String> = players.iter().map(find).collect();
    eprintln!("all three have reported it after {:?}", at.elapsed());
    assert!(ids.iter().all(|id| *id == ids[0]), "they report {ids:?}");
    assert!(players.iter_mut().all(Program::is_running), "the others play on");

    let mut back = play(2, &["--join", &code]);
    back.connects(3, STEP);
    for player in &players {
        player.connects(4, STEP);
    }
    let summary = back.succeeds(limit(2)).summary();
    assert_eq!(summary["all_connected"], true, "{summary}");
    assert!(received(&summary) > 0, "{summary}");
    for player in &mut players {
        let summary = player.succeeds(limit(SECONDS)).summary();
        assert_eq!(summary["all_connected"], true, "{summary}");
        assert_eq!(player.count(&format!("player {} is gone", ids[0])), 1, "reported once");
    }
}

#[test]
fn a_player_killed_and_started_again_with_its_resume_file_is_back_in_its_seat() {
    const SECONDS: u64 = 16;
    let server = LobbyServer::start();
    let folder = std::env::temp_dir().join(format!("netplay-arena-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for resume files");
    let play = |number: usize, seconds: u64, more: &[&str]| {
        let (seconds, file) = (seconds.to_string(), folder.join(number.to_string()));
        let file = file.to_str().expect("a plain path");
        let mut arguments = vec!["--players", "1", "--server", &server.url, "--headless", "--json"];
        arguments.extend(["--seconds", &seconds, "--resume", file]);
        arguments.extend(more);
        logging_arena(&arguments)
    };
    let creator = play(0, SECONDS, &[]);
    let code = code_of(&creator);
    let mut players = vec![creator];
    players.extend((1..3).map(|number| play(number, SECONDS, &["--join", &code])));
    for player in &players {
        player.connects(2, STEP);
    }
    players.remove(2).kill();
    for player in &players {
        player.says("who is away", STEP, |line| line.contains(" is away: ").then_some(()));
    }
    let at = Instant::now();
    let mut back = play(2, 2, &[]);
    back.connects(2, STEP);
    for player in &players {
        player.says("who is back", STEP, |line| line.contains(" is back after ").then_some(()));
    }
    let took = at.elapsed();
    eprintln!("back in its seat {took:?} after it was started again");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let summary = back.succeeds(limit(2)).summary();
    assert!(received(&summary) > 0, "{summary}");
    for player in &mut players {
        assert_eq!(player.count(" is away: "), 1, "told once");
        let summary = player.succeeds(limit(SECONDS)).summary();
        assert_eq!(summary["all_connected"], true, "{summary}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder is there");
}

#[test]
fn the_game_goes_on_when_the_lobby_server_is_killed() {
    const SECONDS: u64 = 8;
    let mut server = LobbyServer::start();
    let seconds = SECONDS.to_string();
    let arguments = ["--players", "4", "--headless", "--json", "--seconds", &seconds];
    let mut game = logging_arena(&[&arguments[..], &["--server", &server.url]].concat());
    // Each of four players has a link to each of three.
    game.connects(12, STEP);
    server.program.kill();
    let summary = game.succeeds(limit(SECONDS)).summary();
    assert_complete(&summary, 4);
    assert_eq!(game.count("is gone: "), 0, "nobody is lost");
    // Up to sixty states a second on each link; fewer where a busy machine lets newer ones supersede
    // them. Most of the game was played without the server.
    assert!(received(&summary) > 12 * 10 * SECONDS, "{summary}");
}

#[test]
fn a_stopped_player_comes_back() {
    const SECONDS: u64 = 14;
    let seconds = SECONDS.to_string();
    let mut game =
        logging_arena(&["--players", "3", "--headless", "--json", "--seconds", &seconds]);
    // A player that is stopped before it has seen all its links would begin, and end, ten seconds late.
    game.begins(3, STEP);
    let child = children_of(game.id())[0].to_string();
    assert!(signal("STOP", &child));
    // Not a wait for something: this is how long it stands still.
    std::thread::sleep(Duration::from_secs(10));
    assert!(game.is_running(), "the others play on");
    assert_eq!(game.count("is gone: "), 0, "nobody takes it for gone");
    assert!(signal("CONT", &child));
    let ended = game.end(limit(SECONDS));
    assert_eq!(game.count("is gone: "), 0, "nobody takes it for gone");
    assert_complete(&ended.summary(), 3);
    game.succeeds(STEP);
}

#[test]
fn children_end_when_the_parent_is_killed() {
    let mut game = logging_arena(&["--players", "3", "--headless", "--seconds", "60"]);
    game.connects(6, STEP);
    let children = children_of(game.id());
    assert_eq!(children.len(), 2);
    game.kill();
    let limit = Duration::from_secs(5);
    let ended = until(limit, || !children.iter().any(|child| runs(*child)));
    assert!(ended, "still there after {limit:?}");
}

#[test]
fn without_a_display_it_says_that_it_plays_without_a_window() {
    let mut game = arena(&["--seconds", "1"]);
    let ended = game.succeeds(limit(1));
    assert!(ended.stderr.contains("without a window"), "it says so");
    assert!(ended.stdout.iter().any(|line| line.starts_with("all connected")), "and plays");
}

#[test]
fn a_bad_argument_is_refused_with_what_is_wrong() {
    for (arguments, said) in [
        (&["--players", "0"][..], "0 is not in 1..=8"),
        (&["--players", "99"], "99 is not in 1..=8"),
        (&["--players", "two"], "--players"),
        (&["--seconds", "-1"], "a number of seconds"),
        (&["--seconds", "0"], "a number of seconds"),
        (&["--seconds", "x"], "a number of seconds"),
        (&["--seconds", "inf"], "a number of seconds"),
        (&["--join", "WRONG!", "--server", "ws://127.0.0.1:1"], "eight letters and digits"),
        (&["--join", "WRONG!"], "eight letters and digits"),
        (&["--join", "7K4Q-M2XA"], "--server <URL>"),
        (&["--join"], "--join <CODE>"),
        (&["--server", "http://x"], "the scheme has to be ws"),
        (&["--server", "x"], "it does not begin with ws://"),
        (&["--server", "ws://127.0.0.1:99999"], "is no lobby server address"),
        (&["--conditions", "hotel"], "bad-hotel"),
        (&["--conditions", "loss=5%,delay=soon"], "delay=TIME, like 40ms"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let ended = arena(arguments).refuses(REFUSAL, said);
        assert!(ended.stdout.is_empty(), "{arguments:?}: a summary of no game");
    }
}

#[test]
fn a_wrong_code_is_refused() {
    let server = LobbyServer::start();
    let mut game = arena(&["--server", &server.url, "--join", "7K4Q-M2XA", "--headless"]);
    game.refuses(REFUSAL, "no lobby has the code 7K4Q-M2XA");
}

#[test]
fn a_full_lobby_is_refused() {
    let server = LobbyServer::start();
    let arguments = ["--players", "8", "--headless", "--seconds", "60", "--server", &server.url];
    let game = logging_arena(&arguments);
    let code = code_of(&game);
    game.says("eighth player", 2 * STEP, |line| line.contains("members=8").then_some(()));
    let mut ninth = arena(&["--server", &server.url, "--join", &code, "--headless"]);
    ninth.refuses(STEP, "the lobby is full");
}

/// Answers everyone who connects, for as long as the test runs. No answer: it never speaks.
fn odd_server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let serve = move |mut stream: TcpStream| {
            // The other side may have gone at any point; that is its business.
            let _ = stream.read(&mut [0; 4096]);
            match answer {
                Some(answer) => drop(stream.write_all(answer.as_bytes())),
                None => drop(stream.read(&mut [0; 1])),
            }
        };
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    url
}

#[test]
fn a_server_that_is_none_is_tried_until_the_time_is_over() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n";
    let no_page = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n";
    let servers = [
        ("ws://127.0.0.1:1".to_owned(), "refused"),
        (odd_server(Some(page)), "200"),
        (odd_server(Some(no_page)), "404"),
        (odd_server(Some("SSH-2.0-OpenSSH_9.9\r\n\u{1}\u{2}\u{3}")), "HTTP"),
        (odd_server(Some("")), "WebSocket"),
        (odd_server(None), "in time"),
    ];
    let play = |url: &str| arena(&["--server", url, "--headless", "--seconds", "1"]);
    let mut games = servers.map(|(url, said)| (play(&url), url, said));
    for (game, url, said) in &mut games {
        let ended = game.refuses(limit(1), "; trying again in ");
        let tries = game.count("; trying again in ");
        assert!(tries >= 2, "{url}: {tries} tries");
        assert!(game.count(said) >= tries, "{url}: it does not say {said:?}");
        assert!(ended.took <= limit(1), "{url}: {:?}", ended.took);
        assert!(ended.stdout.iter().any(|line| line == "all connected       NO"), "{url}");
    }
}

#[test]
fn a_lobby_server_that_cannot_listen_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = netplay_server(&["--bind", &address]).refuses(REFUSAL, "is in use");
    assert!(ended.stderr.contains(&address) && ended.stderr.contains("--bind"), "what to do");
    assert!(ended.stdout.is_empty(), "it says that it listens");
    netplay_server(&["--bind", "nonsense"]).refuses(REFUSAL, "nonsense");
    netplay_server(&["--bind", "127.0.0.1"]).refuses(REFUSAL, "--bind <ADDRESS:PORT>");
}
