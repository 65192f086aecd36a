//! The other players of this machine, as child processes. They end when their standard input does,
//! and with it when this process ends, however it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bevy_netplay::LobbyCode;
use netplay_server::ServerThread;

use crate::args::PlayArgs;
use crate::report::Report;

/// Opens the other players, and the lobby server if there is none.
pub struct Launcher {
    args: PlayArgs,
    server: String,
    /// Lives as long as the game.
    _embedded: Option<ServerThread>,
    children: Vec<Player>,
}

struct Player {
    process: Child,
    lines: Receiver<String>,
}

impl Launcher {
    /// Starts a lobby server if none is named.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn new(args: &PlayArgs) -> Result<Self, netplay_server::BindError> {
        let (server, embedded) = match &args.server {
            Some(server) => (server.clone(), None),
            None => {
                let server = ServerThread::start(netplay_server::ServerConfig {
                    bind: ([127, 0, 0, 1], 0).into(),
                    ..Default::default()
                })?;
                (server.url(), Some(server))
            }
        };
        Ok(Self { args: args.clone(), server, _embedded: embedded, children: Vec::new() })
    }

    /// The lobby server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether all players are on this machine: then loopback is enough.
    pub fn all_here(&self) -> bool {
        self._embedded.is_some() || self.server.starts_with("ws://127.0.0.1:")
    }

    /// Opens the other players, once; in the lobby with this code, or with a menu each.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn open(&mut self, code: Option<LobbyCode>) -> std::io::Result<()> {
        if self.args.child.is_some() || !self.children.is_empty() {
            return Ok(());
        }
        for number in 1..self.args.players() {
            let mut command = Command::new(std::env::current_exe()?);
            command
                .arg(format!("--players={}", self.args.players()))
                .arg(format!("--server={}", self.server))
                .arg(format!("--child={number}"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            match code {
                Some(code) => command.arg(format!("--join={code}")),
                None => command.arg("--menu"),
            };
            if self.args.headless {
                command.arg("--headless");
            }
            if let Some(conditions) = &self.args.conditions {
                command.arg(format!("--conditions={conditions}"));
            }
            if let Some(seconds) = self.args.seconds {
                command.arg(format!("--seconds={seconds}"));
            }
            command.args(&self.args.more);
            let mut process = command.spawn()?;
            let lines = follow(&mut process);
            self.children.push(Player { process, lines });
        }
        Ok(())
    }

    /// The other players' reports, as far as they come within `limit`.
    pub fn collect(&mut self, limit: Duration) -> Vec<Option<Report>> {
        let until = Instant::now() + limit;
        let children = self.children.iter();
        children
            .map(|child| {
                let mut report = None;
                // The last line is the report; the pipe closes when the process ends.
                while let Ok(line) =
                    child.lines.recv_timeout(until.saturating_duration_since(Instant::now()))
                {
                    report = Report::from_json(&line).or(report);
                }
                report
            })
            .collect()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.process.stdin.take());
        }
        for child in &mut self.children {
            // A window needs a moment to close; after that it has to go.
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until && matches!(child.process.try_wait(), Ok(None)) {
                std::thread::yield_now();
                std::thread::park_timeout(Duration::from_millis(20));
            }
            drop(child.process.kill());
            drop(child.process.wait());
        }
    }
}

fn follow(process: &mut Child) -> Receiver<String> {
    let (sender, lines) = channel();
    if let Some(stdout) = process.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout.take(1 << 20)).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    lines
}

/// Ends a child process when the process that opened it has gone.
pub(crate) fn end_with_parent() -> Receiver<()> {
    let (sender, gone) = channel();
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while matches!(std::io::stdin().read(&mut sink), Ok(read) if read > 0) {}
        let _ = sender.send(());
        // The game ends by itself on this; if it hangs, it ends here.
        std::thread::park_timeout(Duration::from_secs(3));
        std::process::exit(1);
    });
    gone
}
