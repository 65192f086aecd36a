//! A server, its clients, and where they run.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::serve::{Kind, Limits, Server, Start};
use crate::worker::{Command, Reply};
use crate::{Result, machine};

/// How long the clients may take to answer, beside what they are asked to do.
const ANSWER: Duration = Duration::from_secs(100);

/// A processor for the server, and one for its clients: the same if there is but one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processors {
    server: Option<usize>,
    clients: Option<usize>,
}

impl Processors {
    /// The first two that this process may use.
    pub(crate) fn choose() -> Self {
        let all = machine::processors();
        match all.as_slice() {
            [server, clients, ..] => Self { server: Some(*server), clients: Some(*clients) },
            _ => {
                eprintln!("one processor for the server and its clients: figures say little");
                Self { server: None, clients: None }
            }
        }
    }
}

/// A server and its clients, each in a process; killed when this is dropped.
pub(crate) struct Team {
    start: Start,
    /// Without one while it is started anew.
    server: Option<Server>,
    worker: Process,
}

/// What a command gave, and how busy both were.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// Seconds that the server worked for it.
    pub(crate) server_cpu_s: f64,
    pub(crate) server_busy_pct: f64,
    pub(crate) worker_busy_pct: f64,
}

impl Team {
    pub(crate) fn start(kind: Kind, on: Processors, limits: Limits) -> Result<Self> {
        let start = Start { kind, cpu: on.server, limits };
        let server = Server::start(start, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let mut arguments = vec!["worker".to_owned(), kind.to_string()];
        arguments.extend(["--address".to_owned(), server.address.to_string()]);
        arguments.extend(["--block".to_owned(), "1".to_owned()]);
        arguments
            .extend(on.clients.into_iter().flat_map(|cpu| ["--cpu".to_owned(), cpu.to_string()]));
        let worker = Process::start(&arguments)?;
        Ok(Self { start, server: Some(server), worker })
    }

    /// What the server holds and has used.
    pub(crate) fn usage(&self) -> machine::Usage {
        self.server.as_ref().map(Server::usage).unwrap_or_default()
    }

    /// Lets the clients do something, and waits until they have, this time and a little more.
    pub(crate) fn ask(&mut self, command: &Command, time: Duration) -> Result<Answer> {
        let cpu = |team: &Self| {
            let worker = machine::usage(team.worker.id()).unwrap_or_default();
            (team.usage().cpu_secs, worker.cpu_secs)
        };
        let (began, before) = (Instant::now(), cpu(self));
        self.worker.send(command)?;
        let reply = self.answer(time)?;
        let (took, after) = (began.elapsed().as_secs_f64(), cpu(self));
        let server_cpu_s = after.0 - before.0;
        Ok(Answer {
            reply,
            server_cpu_s,
            server_busy_pct: server_cpu_s / took * 100.0,
            worker_busy_pct: (after.1 - before.1) / took * 100.0,
        })
    }

    fn answer(&self, time: Duration) -> Result<Reply> {
        let reply: Reply = self.worker.receive(time + ANSWER)?;
        match reply.error {
            Some(error) => Err(error.into()),
            None => Ok(reply),
        }
    }

    /// Opens connections.
    pub(crate) fn open(&mut self, count: usize) -> Result<Reply> {
        let limit = Duration::from_secs(120);
        let command = Command::Open { count, limit_ms: limit.as_millis() as u64 };
        Ok(self.ask(&command, limit)?.reply)
    }

    /// Kills the server, starts it again at the same address, and waits until all are back. Gives how long
    /// that took in all, and what the clients say of it.
    pub(crate) fn restart(&mut self, limit: Duration) -> Result<(Duration, Reply)> {
        self.worker.send(&Command::Back { limit_ms: limit.as_millis() as u64 })?;
        // The clients have to look at the command before they lose anything.
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        let address = self.server.take().map(Server::kill).ok_or("there is no server")?;
        self.server = Some(Server::start(self.start, address)?);
        let reply = self.answer(limit)?;
        Ok((began.elapsed(), reply))
    }
}
