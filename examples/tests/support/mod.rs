//! Real processes for tests: started with captured output, waited for with deadlines, ended with the
//! test. What they wrote is printed when a test fails.
#![allow(dead_code, reason = "each binary of tests uses a part of it")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a step may take that normally takes less than a second. Dev builds on two busy cores are
/// slow to start.
pub const STEP: Duration = Duration::from_secs(20);
/// How long a bad command line may take to be refused.
pub const REFUSAL: Duration = Duration::from_secs(10);
/// Between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Besides what the players say, how many members a lobby has.
const LOG: &str = "warn,bevy_netplay=info,rtc=error,rtc_ice=error,rtc_dtls=error";
/// One such line per player and link.
const CONNECTED: &str = " is here";
/// One such line per player, when it has all its links.
const BEGINS: &str = "the game begins";

/// The lines that a process has written so far.
#[derive(Default)]
struct Lines {
    written: Vec<String>,
    closed: bool,
}

/// One output of a process.
#[derive(Clone, Default)]
struct Output(Arc<(Mutex<Lines>, Condvar)>);

impl Output {
    fn follow(pipe: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let shared = output.clone();
        std::thread::spawn(move || {
            let (lines, changed) = &*shared.0;
            let mut pipe = BufReader::new(pipe);
            let mut bytes = Vec::new();
            while pipe.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                lines.lock().unwrap().written.push(line);
                changed.notify_all();
                bytes.clear();
            }
            lines.lock().unwrap().closed = true;
            changed.notify_all();
        });
        output
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap().written.clone()
    }

    /// Waits until `find` finds something, the output is closed or time is over.
    fn wait<T>(&self, limit: Duration, find: impl Fn(&Lines) -> Option<T>) -> Option<T> {
        let until = Instant::now() + limit;
        let (lines, changed) = &*self.0;
        let mut lines = lines.lock().unwrap();
        loop {
            if let Some(found) = find(&lines) {
                return Some(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.closed || left.is_zero() {
                return None;
            }
            lines = changed.wait_timeout(lines, left).unwrap().0;
        }
    }
}

/// A running program and the processes that it starts: its process group, which ends with this.
pub struct Program {
    name: String,
    child: Child,
    started: Instant,
    stdout: Output,
    stderr: Output,
}

/// A program that has ended.
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// How long it ran.
    pub took: Duration,
    /// The lines of its standard output.
    pub stdout: Vec<String>,
    /// Its standard error.
    pub stderr: String,
}

impl Program {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        let words = std::iter::once(program).chain(command.get_args());
        let name = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut child = command.process_group(0).spawn().expect("the program starts");
        let stdout = Output::follow(child.stdout.take().unwrap());
        let stderr = Output::follow(child.stderr.take().unwrap());
        Self { name, child, started: Instant::now(), stdout, stderr }
    }

    /// What `find` makes of a line on standard error.
    pub fn says<T>(&self, what: &str, limit: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let found =
            self.stderr.wait(limit, |lines| lines.written.iter().find_map(|line| find(line)));
        found.unwrap_or_else(|| panic!("{}: no {what} within {limit:?}", self.name))
    }

    /// Waits until this program and those it has started have this many ends of links.
    pub fn connects(&self, ends: usize, limit: Duration) {
        self.repeats(CONNECTED, ends, limit);
    }

    /// Waits until this program and those it has started play: this many players in all.
    pub fn begins(&self, players: usize, limit: Duration) {
        self.repeats(BEGINS, players, limit);
    }

    fn repeats(&self, text: &str, times: usize, limit: Duration) {
        let enough = |lines: &Lines| {
            let now = lines.written.iter().filter(|line| line.contains(text)).count();
            (now >= times).then_some(())
        };
        let found = self.stderr.wait(limit, enough);
        assert!(found.is_some(), "{}: not {times} times {text:?} within {limit:?}", self.name);
    }

    /// What it has written on stderr.
    pub fn lines(&self) -> Vec<String> {
        self.stderr.lines()
    }

    /// How many lines on standard error contain this.
    pub fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9` for this process alone, not for those that it has started.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end and for the rest of its output.
    pub fn end(&mut self, limit: Duration) -> Ended {
        let mut status = None;
        let ended = until(limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "{}: still running after {limit:?}", self.name);
        let took = self.started.elapsed();
        let closed = |lines: &Lines| lines.closed.then_some(());
        for (output, name) in [(&self.stdout, "stdout"), (&self.stderr, "stderr")] {
            let closed = output.wait(STEP, closed);
            assert!(closed.is_some(), "{}: somebody holds its {name} open", self.name);
        }
        let (stdout, stderr) = (self.stdout.lines(), self.stderr.lines().join("\n"));
        assert!(!stderr.contains("panicked at"), "{}: a panic", self.name);
        Ended { status: status.unwrap(), took, stdout, stderr }
    }

    /// Waits for its end, which has to be exit code 0 without an error in the log.
    pub fn succeeds(&mut self, limit: Duration) -> Ended {
        let ended = self.end(limit);
        assert_eq!(ended.status.code(), Some(0), "{}: its exit code", self.name);
        assert!(!ended.stderr.contains("ERROR"), "{}: an error in its log", self.name);
        ended
    }

    /// Waits for its end, which has to be an exit code that is not 0, with this text on standard
    /// error.
    pub fn refuses(&mut self, limit: Duration, said: &str) -> Ended {
        let ended = self.end(limit);
        let code = ended.status.code();
        assert!(code.is_some_and(|code| code != 0), "{}: ended with {}", self.name, ended.status);
        assert_eq!(ended.status.signal(), None, "{}: ended by a signal", self.name);
        assert!(!ended.stderr.contains("stack backtrace"), "{}: a backtrace", self.name);
        assert!(ended.stderr.contains(said), "{}: does not say {said:?}", self.name);
        ended
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The group may outlive its first process; if it is gone, there is nothing to end.
        signal("KILL", &format!("-{}", self.child.id()));
        // A process that was killed leaves nothing that could fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} (process {})", self.name, self.child.id());
            for (output, name) in [(&self.stdout, "stdout"), (&self.stderr, "stderr")] {
                for line in output.lines() {
                    eprintln!("{name}: {line}");
                }
            }
        }
    }
}

impl Ended {
    /// The last line on standard output, which has to be one JSON object.
    pub fn summary(&self) -> Value {
        let last = self.stdout.last().expect("a last line");
        let summary: Value = serde_json::from_str(last).expect("the last line is JSON");
        assert!(summary.is_object(), "the last line is {summary}");
        summary
    }
}

/// The example `arena`, which never opens a window here.
pub fn arena(arguments: &[&str]) -> Program {
    Program::start(arena_command(arguments))
}

/// The example `arena` with a log that [`Program::connects`] understands.
pub fn logging_arena(arguments: &[&str]) -> Program {
    let mut command = arena_command(arguments);
    command.env("RUST_LOG", LOG);
    Program::start(command)
}

fn arena_command(arguments: &[&str]) -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    clean(PATH.get_or_init(|| example("arena")), arguments)
}

/// The example `ggrs_box`, which never opens a window here.
pub fn ggrs_box(arguments: &[&str]) -> Program {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Program::start(clean(PATH.get_or_init(|| example("ggrs_box")), arguments))
}

/// The example `duel`, which never opens a window here.
pub fn duel(arguments: &[&str]) -> Program {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Program::start(clean(PATH.get_or_init(|| example("duel")), arguments))
}

fn example(name: &str) -> PathBuf {
    let place = format!("examples/{name}");
    built(&place, &["--package", "netplay_examples", "--example", name])
}

/// A lobby server as a process of its own, and its address.
pub struct LobbyServer {
    /// The process.
    pub program: Program,
    /// `ws://ADDRESS:PORT`.
    pub url: String,
}

impl LobbyServer {
    /// Starts one on a free port of the loopback address.
    pub fn start() -> Self {
        let program = netplay_server(&["--bind", "127.0.0.1:0", "--key", "none"]);
        let first = program.stdout.wait(STEP, |lines| lines.written.first().cloned());
        let first = first.expect("a first line on stdout");
        let url = first.strip_prefix("listening on ").expect("the first line says where");
        assert!(url.starts_with("ws://127.0.0.1:"), "{url}");
        let url = url.to_owned();
        Self { program, url }
    }
}

/// The program `netplay-server`.
pub fn netplay_server(arguments: &[&str]) -> Program {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        built("netplay-server", &["--package", "netplay_server", "--bin", "netplay-server"])
    });
    Program::start(clean(path, arguments))
}

fn clean(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
    command.env_remove("RUST_LOG").env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

/// A program of this workspace beside the test. Cargo has built it for `cargo test --workspace`;
/// if only this test was asked for, it may be missing or old, and is built here.
fn built(place: &str, arguments: &[&str]) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let profile_folder = test.ancestors().nth(2).expect("the test is in TARGET/PROFILE/deps");
    let path = profile_folder.join(place);
    if !is_current(&path) {
        let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        eprintln!("{place} is missing or older than its source: cargo builds it now");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg("build").args(arguments).args(["--profile", profile, "--target-dir"]);
        let target = profile_folder.parent().expect("a target folder");
        let status = cargo.arg(target).status().expect("cargo starts");
        assert!(status.success() && path.is_file(), "{place} could not be built: {cargo:?}");
    }
    path
}

/// Whether the program is there and newer than all files that it was made from, which Cargo lists
/// in a file beside it.
fn is_current(program: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let list = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let Some((_, sources)) = list.split_once(": ") else { return false };
    let sources = sources.replace("\\ ", "\0");
    let mut sources = sources.split_whitespace().map(|source| source.replace('\0', " "));
    modified(program).is_some_and(|built| {
        sources.all(|source| modified(Path::new(&source)).is_none_or(|source| source <= built))
    })
}

/// Looks again and again whether something is true, until the limit.
pub fn until(limit: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if is_true() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Sends a signal to a process, or to a group if its number is negative. Says whether that worked.
pub fn signal(name: &str, process: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, "--", process]).stderr(Stdio::null());
    kill.status().is_ok_and(|status| status.success())
}

/// The processes that this process has started and that run.
pub fn children_of(parent: u32) -> Vec<u32> {
    let folders = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    ids.filter(|id| running_parent(*id) == Some(parent)).collect()
}

/// Whether this process runs: one that has ended and waits to be collected does not.
pub fn runs(process: u32) -> bool {
    running_parent(process).is_some()
}

fn running_parent(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name is in parentheses and may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

/// What everything may take beside the time in play, as the examples promise.
const SLACK: Duration = Duration::from_secs(20);
/// For a slow machine, on top of any promised time.
const MARGIN: Duration = Duration::from_secs(8);

/// When a game of so many seconds is over at the latest.
pub fn limit(seconds: u64) -> Duration {
    Duration::from_secs(seconds) + SLACK + MARGIN
}

/// All players were connected, agree, and nothing reliable is missing.
pub fn assert_complete(summary: &Value, players: u64) {
    assert_eq!(summary["players"], players, "{summary}");
    assert_eq!(summary["all_connected"], true, "{summary}");
    assert_eq!(summary["agreed"], true, "{summary}");
    assert_eq!(summary["reliable_lost"], 0, "{summary}");
    assert!(summary["reliable_sent"].as_u64().unwrap() > 0, "{summary}");
}

pub fn received(summary: &Value) -> u64 {
    summary["messages_received"].as_u64().expect("a number of messages")
}
