//! The processes of a run: this program in another role, with lines of JSON between them.
//!
//! Guaranteed: a process is killed when its [`Process`] is dropped, and ends by itself when its parent
//! ends, because its standard input is closed then. Everything that waits has a deadline.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;

/// The name of the hidden subcommand under which this program plays its other roles.
pub const ROLE: &str = "lobby-role";

/// A process that is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    /// Starts this program in another role.
    pub(crate) fn start(arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let lines = lines_of(output.ok_or("a process without standard output")?);
        Ok(Self { child, input, lines })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends one value as one line.
    pub(crate) fn send(&mut self, value: &impl Serialize) -> Result<()> {
        let input = self.input.as_mut().ok_or("a process without standard input")?;
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        Ok(input.write_all(&line).and_then(|()| input.flush())?)
    }

    /// The next line, which must come within this time.
    pub(crate) fn line(&self, limit: Duration) -> Result<String> {
        self.lines.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                format!("a process said nothing for {:.0} s", limit.as_secs_f64()).into()
            }
            RecvTimeoutError::Disconnected => "a process has ended".into(),
        })
    }

    /// The next value, which must come within this time.
    pub(crate) fn receive<T: DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        Ok(serde_json::from_str(&self.line(limit)?)?)
    }

    /// Kills it, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The lines of an input as they come; the channel closes with it.
pub(crate) fn lines_of(input: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(input).lines().map_while(std::io::Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
