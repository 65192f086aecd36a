//! Lines of JSON between a process and its child, over the child's standard input and output.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::stacks::StackId;
use crate::{Result, cli};

/// Why is on standard error, which a child shares with its parent.
const ENDED: &str = "the other process has ended";

/// What pinger and peer tell each other; the stack gives it its meaning.
#[derive(Serialize, Deserialize)]
pub struct Signal {
    /// Number of the connection that this is about.
    pub connection: u32,
    /// What the stack needs: an address, an offer, an answer.
    pub data: String,
}

/// What a child process is there for.
#[derive(Clone, Copy)]
pub enum Role {
    /// It measures.
    Pinger,
    /// It answers.
    Peer,
}

/// One end of a line-based connection to another process.
pub struct Link {
    writer: Box<dyn Write + Send>,
    lines: mpsc::Receiver<String>,
}

impl Link {
    /// This process's end of the link to its parent. When the parent ends, so does this process.
    pub fn to_parent() -> Result<Self> {
        Self::new(std::io::stdin(), std::io::stdout(), || std::process::exit(0))
    }

    fn new(
        input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
        at_end: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let (sender, lines) = mpsc::channel();
        thread::Builder::new().name("link".into()).spawn(move || {
            for line in BufReader::new(input).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
            at_end();
        })?;
        Ok(Self { writer: Box::new(output), lines })
    }

    /// Sends one value as one line.
    pub fn send<T: Serialize>(&mut self, value: &T) -> Result<()> {
        let mut line = serde_json::to_string(value)?;
        line.push('\n');
        self.writer.write_all(line.as_bytes())?;
        Ok(self.writer.flush()?)
    }

    /// Waits for the next value, at most for `limit`.
    pub fn receive<T: DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        let line = self.lines.recv_timeout(limit).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => {
                format!("the other process said nothing for {:.1} s", limit.as_secs_f64())
            }
            mpsc::RecvTimeoutError::Disconnected => ENDED.to_owned(),
        })?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits for the next value for as long as the other process lives.
    pub fn receive_forever<T: DeserializeOwned>(&self) -> Result<T> {
        let line = self.lines.recv().map_err(|_| ENDED)?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// A child process; killed when this is dropped.
pub struct Process(Child);

impl Process {
    /// Starts this executable again in another role.
    pub fn start(role: Role, stack: StackId, lobby_url: Option<&str>) -> Result<(Self, Link)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(cli::role_arguments(role, stack, lobby_url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = (child.stdout.take(), child.stdin.take());
        let process = Self(child);
        let (Some(output), Some(input)) = pipes else {
            return Err("a child process has no pipes".into());
        };
        Ok((process, Link::new(output, input, || {})?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &'static str) -> Link {
        Link::new(text.as_bytes(), std::io::sink(), || {}).unwrap()
    }

    #[test]
    fn a_line_is_a_value() {
        let link = reading("{\"connection\":3,\"data\":\"x\"}\n");
        let signal: Signal = link.receive(Duration::from_secs(5)).unwrap();
        assert_eq!((signal.connection, signal.data.as_str()), (3, "x"));
    }

    #[test]
    fn the_end_of_the_other_process_is_an_error_and_no_wait() {
        let link = reading("");
        assert!(link.receive::<Signal>(Duration::from_secs(60)).is_err());
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        let link = reading("warning: hello\n");
        assert!(link.receive::<Signal>(Duration::from_secs(5)).is_err());
    }
}
