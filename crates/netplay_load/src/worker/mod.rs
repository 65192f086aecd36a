//! The load generator: a process with many clients, which does what it is told.
//!
//! One thread, one loop, no task for each client: it shares the machine with the server, and must be the
//! faster of the two. Commands come as lines of JSON on standard input, each is answered with one line.

mod ask;
mod attack;
mod frames;
mod joins;
mod open;
mod search;
mod signals;
mod speech;
mod visits;
mod world;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use netplay_protocol::LobbyCode;
use netplay_protocol::lobby::{ClientMessage, LobbyOptions};
use serde::{Deserialize, Serialize};

use crate::process::lines_of;
use crate::serve::Kind;
use crate::stats::{Histogram, median};
use crate::{Result, machine};
use ask::Asking;
pub(crate) use attack::AttackCount;
use attack::{Attackers, Beside};
use joins::{Amount, Joined, Joins, Pace};
use open::Opening;
use search::Searches;
use signals::{Relayed, Signals, Way};
#[cfg(test)]
pub(crate) use speech::SIGNAL_BYTES;
use visits::Visits;
use world::{Flow, Phase, World};

/// Clients that connect at once, and requests at once when something is made ready.
const AT_ONCE: usize = 128;

/// What clients shall do. Times are in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Command {
    /// So many connect.
    Open { count: usize, limit_ms: u64 },
    /// Pairs meet and part: `cycles` times at most, for this time at most.
    Joins { at_once: usize, cycles: u64, ms: u64 },
    /// The first clients meet in pairs, where signals need it.
    Pair { clients: usize },
    /// They send signals, with so many under way in each pair.
    Signals { clients: usize, window: usize, ms: u64 },
    /// They send so many signals a second.
    Paced { clients: usize, per_second: f64, ms: u64 },
    /// These clients open lobbies.
    Lobbies { from: usize, to: usize },
    /// These clients search.
    Searches { from: usize, to: usize, per_second: f64, ms: u64 },
    /// All lose their connections, and come back.
    Back { limit_ms: u64 },
    /// The first of them leave their lobbies.
    Part { clients: usize },
    /// Clients that mean harm come too, and do it so many times a second beside whatever else goes on.
    Attack { per_second: f64 },
    /// They go. What did they do?
    Peace,
}

/// What came of a command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// It could not be done.
    pub(crate) error: Option<String>,
    /// What was counted.
    pub(crate) count: u64,
    /// That, and what was too early or too late to count.
    pub(crate) all: u64,
    /// In how long.
    pub(crate) secs: f64,
    pub(crate) latency: Histogram,
    /// Of signals: the 99th percentile of each second, and the median of them.
    pub(crate) second_p99_ms: Option<f64>,
    /// How late the generator was.
    pub(crate) late: Histogram,
    /// What the server refused.
    pub(crate) refused: u64,
    /// Connections that were lost, or not made at first.
    pub(crate) lost: u64,
    /// What was never answered.
    pub(crate) missing: u64,
    /// Seconds in which the server's limits held the generator up.
    pub(crate) held_up_secs: f64,
    /// Why the last of the refused or lost was.
    pub(crate) last_failure: Option<String>,
    pub(crate) attacks: Vec<AttackCount>,
}

impl From<Joined> for Reply {
    fn from(joined: Joined) -> Self {
        Self {
            count: joined.joins,
            all: joined.joins,
            secs: joined.time.as_secs_f64(),
            latency: joined.latency,
            refused: joined.refused,
            lost: joined.lost,
            held_up_secs: joined.held_up.as_secs_f64(),
            last_failure: joined.last_failure,
            ..Self::default()
        }
    }
}

impl From<Relayed> for Reply {
    fn from(relayed: Relayed) -> Self {
        Self {
            count: relayed.count,
            all: relayed.all,
            secs: relayed.time.as_secs_f64(),
            second_p99_ms: median(
                relayed.seconds.iter().filter_map(|second| second.percentile_ms(99.0)),
            ),
            latency: relayed.latency,
            late: relayed.late,
            missing: relayed.missing,
            refused: relayed.refused,
            lost: relayed.lost,
            last_failure: relayed.last_failure,
            ..Self::default()
        }
    }
}

/// Whose load to be.
#[derive(clap::Args)]
pub struct Work {
    /// The kind of server
    kind: Kind,
    /// Where it is
    #[arg(long)]
    address: SocketAddr,
    /// The second byte of our addresses: 127.BLOCK.x.y
    #[arg(long)]
    block: u8,
    /// The processor to stay on, which is for it alone
    #[arg(long)]
    cpu: Option<usize>,
}

/// Does what it is told until standard input closes.
pub(crate) fn work(work: &Work) -> Result<()> {
    if let Some(cpu) = work.cpu {
        machine::stay_on(cpu)?;
    }
    netplay_server::files::raise_limit();
    let commands = lines_of(std::io::stdin());
    let mut worker =
        Worker::new(World::new(work.kind, work.address, work.block, work.cpu.is_some())?);
    loop {
        match commands.try_recv() {
            Ok(line) => {
                let reply = worker.obey(serde_json::from_str(&line)?);
                let reply = reply.unwrap_or_else(|error| Reply {
                    error: Some(error.to_string()),
                    ..Reply::default()
                });
                let mut out = std::io::stdout();
                writeln!(out, "{}", serde_json::to_string(&reply)?)?;
                out.flush()?;
            }
            Err(TryRecvError::Empty) => worker.rest()?,
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

struct Worker {
    world: World,
    /// Clients that are connected.
    count: usize,
    pace: Vec<Pace>,
    attackers: Option<Attackers>,
    idle: Idle,
}

/// Clients are there, and do nothing but say so.
#[derive(Default)]
struct Idle {
    until: Option<Instant>,
    lost: u64,
    last_failure: Option<String>,
}

impl Phase for Idle {
    fn tick(&mut self, _world: &mut World, now: Instant) -> Result<Flow> {
        let until = *self.until.get_or_insert(now + Duration::from_millis(10));
        Ok(if now >= until { Flow::Over } else { Flow::Sleep(until - now) })
    }

    fn lost(&mut self, _world: &mut World, _who: usize, why: &str) {
        self.lost += 1;
        self.last_failure = Some(why.to_owned());
    }
}

impl Worker {
    fn new(world: World) -> Self {
        Self { world, count: 0, pace: Vec::new(), attackers: None, idle: Idle::default() }
    }

    /// Between two commands.
    fn rest(&mut self) -> Result<()> {
        let mut idle = core::mem::take(&mut self.idle);
        idle.until = None;
        self.run(&mut idle, Duration::from_secs(10))?;
        self.idle = idle;
        Ok(())
    }

    /// Lets the clients do something until it is over, with the attackers beside them if there are any.
    fn run(&mut self, honest: &mut dyn Phase, limit: Duration) -> Result<()> {
        match &mut self.attackers {
            Some(attackers) => self.world.run(&mut Beside { honest, attackers }, limit),
            None => self.world.run(honest, limit),
        }
    }

    fn obey(&mut self, command: Command) -> Result<Reply> {
        let mut reply = match command {
            Command::Open { count, limit_ms } => {
                self.world.grow(count);
                self.count = count;
                self.pace = vec![Pace::NEW; count / 2];
                self.come(Opening::first(count, AT_ONCE), limit_ms)
            }
            Command::Back { limit_ms } => self.come(Opening::again(self.count, AT_ONCE), limit_ms),
            Command::Joins { at_once, cycles, ms } => {
                let time = Duration::from_millis(ms);
                self.joins(Amount { at_once, time, cycles })
            }
            Command::Pair { clients } => self.pair(clients),
            Command::Signals { clients, window, ms } => {
                self.signals(clients, Way::Window(window), ms)
            }
            Command::Paced { clients, per_second, ms } => {
                self.signals(clients, Way::Paced(per_second), ms)
            }
            Command::Lobbies { from, to } => self.lobbies(from, to),
            Command::Searches { from, to, per_second, ms } => {
                let time = Duration::from_millis(ms);
                let mut searches = Searches::new(from..to, per_second, time);
                self.run(&mut searches, time + Duration::from_secs(10))?;
                Ok(searches.result.into())
            }
            Command::Part { clients } => self.part(clients),
            Command::Attack { per_second } => {
                self.attackers = Some(Attackers::new(&mut self.world, self.count, per_second));
                Ok(Reply::default())
            }
            Command::Peace => {
                let attackers = self.attackers.take();
                let attacks = attackers.map(|attackers| attackers.stop(&mut self.world));
                Ok(Reply { attacks: attacks.unwrap_or_default(), ..Reply::default() })
            }
        }?;
        // What was lost between two commands is part of the next one's story.
        let idle = core::mem::take(&mut self.idle);
        reply.lost += idle.lost;
        reply.last_failure = reply.last_failure.or(idle.last_failure);
        Ok(reply)
    }

    fn come(&mut self, mut opening: Opening, limit_ms: u64) -> Result<Reply> {
        let began = Instant::now();
        let ran = self.run(&mut opening, Duration::from_millis(limit_ms));
        let Opening { opened, latency, new_sessions, failed, last_failure, .. } = opening;
        if let Err(error) = ran {
            let why = last_failure.unwrap_or_default();
            return Err(format!("{opened} clients are open: {error}; {why}").into());
        }
        let secs = began.elapsed().as_secs_f64();
        let count = self.world.open() as u64;
        let missing = new_sessions;
        Ok(Reply { count, secs, latency, missing, lost: failed, last_failure, ..Reply::default() })
    }

    fn joins(&mut self, amount: Amount) -> Result<Reply> {
        let limit = amount.time + Duration::from_secs(20);
        if self.world.server == Kind::Netplay {
            let mut pace = core::mem::take(&mut self.pace);
            let mut joins = Joins::new(&mut pace, amount);
            let ran = self.run(&mut joins, limit);
            let result = joins.result;
            self.pace = pace;
            return ran.map(|()| result.into());
        }
        self.world.grow(self.count + 2 * amount.at_once);
        let mut visits = Visits::new(self.count, amount);
        self.run(&mut visits, limit)?;
        Ok(visits.result.into())
    }

    /// Only our server has lobbies; elsewhere clients are paired by where they connected to.
    fn pair(&mut self, clients: usize) -> Result<Reply> {
        if self.world.server != Kind::Netplay {
            return Ok(Reply::default());
        }
        let create = ClientMessage::create(1, LobbyOptions::private(2)).to_json();
        let hosts = (0..clients).step_by(2).map(|host| (host, create.clone()));
        let hosts = self.ask(hosts.collect())?;
        let join = |(host, code): &(usize, String)| {
            let code = code.parse::<LobbyCode>().ok()?;
            Some((world::partner(*host), ClientMessage::join(2, code).to_json()))
        };
        let guests = self.ask(hosts.codes.iter().filter_map(join).collect())?;
        Ok(Reply { count: guests.codes.len() as u64, latency: guests.latency, ..Reply::default() })
    }

    fn part(&mut self, clients: usize) -> Result<Reply> {
        if self.world.server == Kind::Netplay {
            let leave = ClientMessage::Leave { request: 1 }.to_json();
            self.ask((0..clients).map(|who| (who, leave.clone())).collect())?;
        }
        Ok(Reply::default())
    }

    fn lobbies(&mut self, from: usize, to: usize) -> Result<Reply> {
        let creates = (from..to).map(|who| (who, search::create(who))).collect();
        let created = self.ask(creates)?;
        let count = created.codes.len() as u64;
        Ok(Reply { count, latency: created.latency, ..Reply::default() })
    }

    /// All must be granted.
    fn ask(&mut self, todo: Vec<(usize, String)>) -> Result<Asking> {
        let mut asking = Asking::new(todo, AT_ONCE);
        self.run(&mut asking, Duration::from_secs(60))?;
        match asking.refused + asking.lost {
            0 => Ok(asking),
            count => {
                let why = asking.last_refusal.unwrap_or_default();
                Err(format!("{count} requests were refused or lost: {why}").into())
            }
        }
    }

    fn signals(&mut self, clients: usize, way: Way, ms: u64) -> Result<Reply> {
        let time = Duration::from_millis(ms);
        let mut signals = Signals::new(&self.world, clients.min(self.count), way, time);
        self.run(&mut signals, time + Duration::from_secs(15))?;
        Ok(signals.result.into())
    }
}
