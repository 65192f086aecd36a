//! The processes of the lab: started, read line by line, stopped and killed.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A process that ends when this is dropped.
pub struct Process {
    child: Child,
    lines: Arc<Lines>,
}

#[derive(Default)]
struct Lines {
    all: Mutex<Vec<String>>,
    more: Condvar,
}

impl Process {
    /// Starts this program in another role, in a network namespace or not.
    pub fn start(namespace: Option<&str>, arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match namespace {
            // `ip` becomes the program, so that signals reach it.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let lines = Arc::new(Lines::default());
        let shared = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
                shared.all.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                shared.more.notify_all();
            }
        });
        Ok(Self { child, lines })
    }

    /// Lines so far.
    pub fn count(&self) -> usize {
        self.lines.all.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The lines from this number on.
    pub fn lines(&self, from: usize) -> Vec<String> {
        let all = self.lines.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(from..).map(<[String]>::to_vec).unwrap_or_default()
    }

    /// Waits until the lines from this number on say what is wanted.
    pub fn wait<T>(
        &self,
        what: &str,
        from: usize,
        time: Duration,
        mut said: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + time;
        let mut all = self.lines.all.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = said(all.get(from..).unwrap_or_default()) {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last = all.iter().rev().take(5).rev().cloned().collect::<Vec<_>>().join("\n  ");
                return Err(
                    format!("not within {time:?}: {what}; its last lines:\n  {last}").into()
                );
            }
            let waited = self.lines.more.wait_timeout(all, left);
            (all, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill -{name} {id} failed").into()) }
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it holds: memory in KiB, open files, threads.
    pub fn resources(&self) -> Result<[u64; 3]> {
        let root = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{root}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        let files = std::fs::read_dir(format!("{root}/fd"))?.count() as u64;
        Ok([field("VmRSS:"), files, field("Threads:")])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
