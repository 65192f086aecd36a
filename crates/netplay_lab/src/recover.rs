//! Each fault, and how long it takes until everybody plays again.

use std::error::Error;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::game::{Event, GAP, Line, now_ms};
use crate::network::Lab;
use crate::process::Process;
use crate::roles::CrowdState;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Any step takes less than this.
const STEP: Duration = Duration::from_secs(30);

/// What came of a fault.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which fault.
    pub fault: &'static str,
    /// How often.
    pub runs: usize,
    /// From the end of the fault until all hear each other again, median and worst.
    pub p50_ms: f64,
    /// See above.
    pub worst_ms: f64,
    /// Links that were given up and made anew.
    pub links_lost: usize,
    /// Reliable messages that were lost, doubled or out of order, and other things that must not happen.
    pub wrong: usize,
    /// What it may take at most.
    pub limit_ms: f64,
    /// Whether a link may be given up: that of a killed process is.
    #[serde(skip)]
    pub may_lose: bool,
    /// More to say.
    pub note: String,
}

impl Row {
    fn new(
        fault: &'static str,
        times: &[f64],
        limit: Duration,
        game: &Game,
        may_lose: bool,
    ) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (links_lost, wrong) = game.verdict();
        let runs = times.len();
        let p50_ms = sorted.get(runs / 2).copied().unwrap_or(f64::NAN);
        let worst_ms = sorted.last().copied().unwrap_or(f64::NAN);
        let limit_ms = limit.as_secs_f64() * 1e3;
        let note = String::new();
        Self { fault, runs, p50_ms, worst_ms, links_lost, wrong, limit_ms, may_lose, note }
    }

    /// Whether it is as it should be.
    pub fn holds(&self) -> bool {
        self.worst_ms <= self.limit_ms && self.wrong == 0 && (self.may_lose || self.links_lost == 0)
    }
}

/// Where the processes run.
pub enum Place {
    /// All on this machine's loopback.
    Loopback,
    /// In namespaces.
    Namespaces(Lab),
}

/// A server and players, as processes.
pub struct Game {
    place: Place,
    folder: PathBuf,
    port: u16,
    server: Option<Process>,
    players: Vec<Process>,
    /// What killed processes have said.
    dead: Vec<String>,
}

fn parse(line: &str) -> Option<Line> {
    serde_json::from_str(line).ok()
}

impl Game {
    /// A server and so many players of one lobby, connected and playing.
    pub fn new(place: Place, players: usize) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("netplay-lab-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        for entry in std::fs::read_dir(&folder)? {
            std::fs::remove_file(entry?.path())?;
        }
        let (server, dead) = (None, Vec::new());
        let mut game = Self { place, folder, port: 0, server, players: Vec::new(), dead };
        game.start_server()?;
        let mut code = None;
        for number in 0..players {
            let player = game.start_player(number, code.as_deref())?;
            if code.is_none() {
                let found = player.wait("a lobby", 0, STEP, |lines| {
                    lines.iter().filter_map(|line| parse(line)).find_map(|line| match line.event {
                        Event::Joined { code } => Some(code),
                        _ => None,
                    })
                });
                code = Some(found?);
            }
            game.players.push(player);
        }
        for player in &game.players {
            player.wait("everybody", 0, STEP, |lines| {
                let connected = lines.iter().filter(|line| line.contains("\"connected\""));
                (connected.count() + 1 >= players).then_some(())
            })?;
        }
        sleep(Duration::from_secs(1));
        Ok(game)
    }

    fn start_server(&mut self) -> Result<()> {
        let (namespace, address) = match &self.place {
            Place::Loopback => (None, "127.0.0.1"),
            Place::Namespaces(lab) => (Some(lab.name("r")), "0.0.0.0"),
        };
        let key = self.folder.join("key");
        let bind = format!("{address}:{}", self.port);
        let arguments = ["server".into(), bind, key.to_string_lossy().into_owned()];
        // The port may be in use for a moment after a kill.
        let until = Instant::now() + STEP;
        loop {
            let server = Process::start(namespace.as_deref(), &arguments)?;
            let port = |lines: &[String]| lines.first()?.parse::<u16>().ok();
            match server.wait("a port", 0, Duration::from_millis(500), port) {
                Ok(port) => {
                    self.port = port;
                    self.server = Some(server);
                    return Ok(());
                }
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn start_player(&self, number: usize, code: Option<&str>) -> Result<Process> {
        let (namespace, host) = match &self.place {
            Place::Loopback => (None, "127.0.0.1"),
            Place::Namespaces(lab) => {
                let (name, host) = [("a", "10.77.1.1"), ("b", "10.77.2.1")][number % 2];
                (Some(lab.name(name)), host)
            }
        };
        let resume = self.folder.join(format!("player{number}"));
        let mut arguments = vec![
            "player".into(),
            format!("ws://{host}:{}", self.port),
            format!("--resume={}", resume.display()),
        ];
        arguments.extend(code.map(|code| format!("--join={code}")));
        Process::start(namespace.as_deref(), &arguments)
    }

    fn lab(&self) -> Result<&Lab> {
        match &self.place {
            Place::Namespaces(lab) => Ok(lab),
            Place::Loopback => Err("this fault needs namespaces".into()),
        }
    }

    fn marks(&self) -> Vec<usize> {
        self.players.iter().map(Process::count).collect()
    }

    /// Waits until each of these players has heard somebody again since the marks; how long after
    /// `over_ms` the last of them did.
    fn again(&self, marks: &[usize], over_ms: f64, who: &[usize]) -> Result<f64> {
        let mut latest: f64 = 0.0;
        for &i in who {
            let at = self.players[i].wait("a peer heard again", marks[i], STEP, |lines| {
                let lines = lines.iter().filter_map(|line| parse(line));
                let again = |line: &Line| {
                    matches!(line.event, Event::Again { .. } | Event::Connected)
                        && line.at_ms >= over_ms
                };
                lines.filter(again).map(|line| line.at_ms).next_back()
            })?;
            latest = latest.max(at - over_ms);
        }
        Ok(latest)
    }

    /// As [`Self::again`], for a fault that may leave no gap: two good beats in a row, each a while after
    /// it, count as no gap worth a line.
    fn again_or_no_gap(&self, marks: &[usize], over_ms: f64, who: &[usize]) -> Result<f64> {
        let mut latest: f64 = 0.0;
        let gap_ms = GAP.as_secs_f64() * 1e3;
        for &i in who {
            let took = self.players[i].wait("a peer heard", marks[i], STEP, |lines| {
                let mut good = 0;
                let mut again = None;
                for line in lines.iter().filter_map(|line| parse(line)) {
                    match line.event {
                        Event::Again { .. } if line.at_ms >= over_ms => {
                            again = Some(line.at_ms - over_ms);
                        }
                        Event::Beat { silent_ms } if line.at_ms >= over_ms + 1e3 => {
                            good = if silent_ms < gap_ms { good + 1 } else { 0 };
                        }
                        _ => {}
                    }
                }
                (good >= 2).then(|| again.unwrap_or(gap_ms))
            })?;
            latest = latest.max(took);
        }
        Ok(latest)
    }

    /// Links that were given up, and what must not happen, of all players so far.
    fn verdict(&self) -> (usize, usize) {
        let living = self.players.iter().flat_map(|player| player.lines(0));
        let lines = living.chain(self.dead.iter().cloned());
        lines.filter_map(|line| parse(&line)).fold((0, 0), |(lost, wrong), line| match line.event {
            Event::Closed { .. } => (lost + 1, wrong),
            Event::Wrong { what } => {
                eprintln!("wrong: {what}");
                (lost, wrong + 1)
            }
            _ => (lost, wrong),
        })
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        self.players.clear();
        self.server = None;
        // Another run makes it anew.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A player is killed, and started again after a while.
pub fn player_killed(runs: usize) -> Result<Row> {
    let mut game = Game::new(Place::Loopback, 4)?;
    let mut times = Vec::new();
    let before = game.players[0].resources()?;
    for run in 0..runs {
        let mark = game.marks();
        game.players[2].kill()?;
        let said = game.players[2].lines(0);
        game.dead.extend(said);
        for i in [0, 1, 3] {
            game.players[i].wait("the loss", mark[i], STEP, |lines| {
                lines.iter().any(|line| line.contains("\"closed\"")).then_some(())
            })?;
        }
        let mark = game.marks();
        let over = now_ms();
        game.players[2] = game.start_player(2, None)?;
        let mut marks = mark;
        marks[2] = 0;
        times.push(game.again(&marks, over, &[0, 1, 3])?);
        game.players[2].wait("everybody", 0, STEP, |lines| {
            (lines.iter().filter(|line| line.contains("\"connected\"")).count() == 3).then_some(())
        })?;
        // The first two rounds warm pools up.
        if run < 2 {
            sleep(Duration::from_millis(300));
        }
    }
    let after = game.players[0].resources()?;
    let limit = Duration::from_secs(3);
    let mut row = Row::new("player killed, started again", &times, limit, &game, true);
    let [memory, files, threads] = [0, 1, 2].map(|i| after[i] as i64 - before[i] as i64);
    row.note = format!("another player: {memory:+} KiB, {files:+} files, {threads:+} threads");
    Ok(row)
}

/// A player's process is stopped for three seconds.
pub fn player_stopped(runs: usize) -> Result<Row> {
    let game = Game::new(Place::Loopback, 4)?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let marks = game.marks();
        game.players[1].signal("STOP")?;
        sleep(Duration::from_secs(3));
        let over = now_ms();
        game.players[1].signal("CONT")?;
        times.push(game.again(&marks, over, &[0, 2, 3])?);
        sleep(Duration::from_secs(1));
    }
    let limit = Duration::from_secs(1);
    Ok(Row::new("player stopped 3 s", &times, limit, &game, false))
}

/// The path between two players is cut for a while.
pub fn outage(name: &'static str, time: Duration, runs: usize) -> Result<Row> {
    let game = Game::new(Place::Namespaces(Lab::new(false)?), 2)?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let marks = game.marks();
        game.lab()?.cut(true)?;
        sleep(time);
        let over = now_ms();
        game.lab()?.cut(false)?;
        times.push(game.again(&marks, over, &[0, 1])?);
        sleep(Duration::from_secs(2));
    }
    Ok(Row::new(name, &times, Duration::from_secs(1), &game, false))
}

/// One of two players gets another address.
pub fn address_changed(runs: usize) -> Result<Row> {
    let game = Game::new(Place::Namespaces(Lab::new(false)?), 2)?;
    let mut times = Vec::new();
    for run in 0..runs {
        let marks = game.marks();
        let over = now_ms();
        let (from, to) = (2 + (run % 100) as u8, 3 + (run % 100) as u8);
        game.lab()?.change_address(from, to)?;
        times.push(game.again_or_no_gap(&marks, over, &[0, 1])?);
    }
    let limit = Duration::from_secs(3);
    Ok(Row::new("address changed", &times, limit, &game, false))
}

/// A NAT forgets one of two players.
pub fn nat_rebound(runs: usize) -> Result<Row> {
    let game = Game::new(Place::Namespaces(Lab::new(true)?), 2)?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let marks = game.marks();
        let over = now_ms();
        game.lab()?.forget()?;
        times.push(game.again_or_no_gap(&marks, over, &[0, 1])?);
    }
    let limit = Duration::from_secs(3);
    Ok(Row::new("NAT rebinding", &times, limit, &game, false))
}

/// The path comes and goes every second.
pub fn flapping(seconds: usize) -> Result<Row> {
    let game = Game::new(Place::Namespaces(Lab::new(false)?), 2)?;
    let (mut times, lines) = (Vec::new(), game.marks());
    for _ in 0..seconds / 2 {
        let marks = game.marks();
        game.lab()?.cut(true)?;
        sleep(Duration::from_secs(1));
        let over = now_ms();
        game.lab()?.cut(false)?;
        times.push(game.again(&marks, over, &[0, 1])?);
        sleep(Duration::from_secs(1));
    }
    let said = game.players[0].count() - lines[0];
    let mut row = Row::new("flapping 1 s / 1 s", &times, Duration::from_secs(1), &game, false);
    row.note = format!("{said} lines of one player in {seconds} s");
    Ok(row)
}

/// Matches of four in one process.
struct Crowd {
    game: Game,
    process: Process,
    matches: usize,
    /// What had gone wrong when all were there.
    noticed: usize,
}

impl Crowd {
    /// All matches, whole.
    fn new(matches: usize) -> Result<Self> {
        let game = Game::new(Place::Loopback, 0)?;
        let server = format!("ws://127.0.0.1:{}", game.port);
        let process = Process::start(None, &["crowd".into(), server, matches.to_string()])?;
        let mut crowd = Self { game, process, matches, noticed: 0 };
        let connecting = STEP + Duration::from_millis(500) * matches as u32;
        crowd.noticed = crowd.wait_for("all matches", connecting, Self::is_whole)?.noticed;
        Ok(crowd)
    }

    fn wait_for(
        &self,
        what: &str,
        time: Duration,
        is_so: impl Fn(&Self, &CrowdState) -> bool,
    ) -> Result<CrowdState> {
        self.process.wait(what, self.process.count(), time, |lines| {
            let state: Option<CrowdState> = serde_json::from_str(lines.last()?).ok();
            state.filter(|state| is_so(self, state))
        })
    }

    fn is_whole(&self, state: &CrowdState) -> bool {
        let players = 4 * self.matches;
        (state.online, state.links, state.joined) == (players, 3 * players, players)
    }

    /// Waits until all are online; how long that is, from now on.
    fn until_whole(&self) -> Result<f64> {
        let over = Instant::now();
        self.wait_for("all online", STEP, Self::is_whole)?;
        Ok(over.elapsed().as_secs_f64() * 1e3)
    }

    fn row(&self, fault: &'static str, times: &[f64]) -> Result<Row> {
        let now = self.wait_for("a line", STEP, |_, _| true)?;
        let mut row = Row::new(fault, times, Duration::from_secs(10), &self.game, false);
        row.wrong = now.noticed - self.noticed;
        row.note = format!("{} matches of 4; until the last is online again", self.matches);
        Ok(row)
    }
}

/// The lobby server is killed under matches of four, and started again three seconds later.
pub fn server_killed(matches: usize, runs: usize) -> Result<Row> {
    let mut crowd = Crowd::new(matches)?;
    let mut times = Vec::new();
    for _ in 0..runs {
        if let Some(server) = &mut crowd.game.server {
            server.kill()?;
        }
        crowd.wait_for("a lost server", STEP, |_, state| state.online == 0)?;
        sleep(Duration::from_secs(3));
        crowd.game.start_server()?;
        times.push(crowd.until_whole()?);
        sleep(Duration::from_secs(1));
    }
    crowd.row("lobby server killed 3 s", &times)
}

/// The lobby server's process is stopped until everybody has noticed.
pub fn server_stopped(runs: usize) -> Result<Row> {
    let crowd = Crowd::new(2)?;
    let server = crowd.game.server.as_ref().ok_or("no server")?;
    let mut times = Vec::new();
    for _ in 0..runs {
        server.signal("STOP")?;
        crowd.wait_for("a silent server", STEP, |_, state| state.online == 0)?;
        server.signal("CONT")?;
        times.push(crowd.until_whole()?);
        sleep(Duration::from_secs(1));
    }
    crowd.row("lobby server stopped", &times)
}
