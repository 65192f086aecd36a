//! The servers that are measured, each in a process of its own.
//!
//! | server | what it is |
//! |---|---|
//! | `netplay` | the library `netplay_server` as the program uses it, with its default limits |
//! | `matchbox` | `matchbox_signaling` 0.15, full mesh, as its own example builds it, logging nothing |
//! | `bare_relay` | axum's WebSockets and nothing else: see [`bare`] |
//!
//! The process binds itself to a processor, says `listening on ADDRESS`, and ends with its parent.

mod bare;

use core::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use clap::ValueEnum;
use matchbox_signaling::SignalingServer;
use netplay_server::{Key, RateLimit, Server as NetplayServer, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::process::{Process, lines_of};
use crate::{Result, machine};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

/// What a process says once it can be reached.
const LISTENING: &str = "listening on ";

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Our lobby server.
    Netplay,
    /// What `matchbox_socket` is used with.
    Matchbox,
    /// What the transport alone costs.
    BareRelay,
}

impl Kind {
    /// All, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Netplay, Self::Matchbox, Self::BareRelay];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netplay => "netplay",
            Self::Matchbox => "matchbox",
            Self::BareRelay => "bare_relay",
        })
    }
}

/// Which server to be.
#[derive(clap::Args)]
pub struct Serve {
    /// The kind
    kind: Kind,
    /// Where to listen
    #[arg(long)]
    bind: SocketAddr,
    /// The processor to stay on
    #[arg(long)]
    cpu: Option<usize>,
    /// What it allows
    #[arg(long, value_enum, default_value_t)]
    limits: Limits,
}

/// What Netplay's server allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Limits {
    /// What it allows everywhere.
    #[default]
    Default,
    /// Any number of signals: a thousand clients send what ten thousand players do.
    Raised,
}

/// Is a server until standard input closes.
pub(crate) fn serve(what: &Serve) -> Result<()> {
    if let Some(cpu) = what.cpu {
        machine::stay_on(cpu)?;
    }
    netplay_server::files::raise_limit();
    let parent = lines_of(std::io::stdin());
    std::thread::spawn(move || {
        // Nothing is ever said: an error is the end of the parent.
        while parent.recv().is_ok() {}
        std::process::exit(0);
    });
    // As the program `netplay-server` and matchbox's have it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match what.kind {
            Kind::Netplay => {
                let server = NetplayServer::bind(config(what)).await?;
                say(server.local_addr())?;
                server.run_until(core::future::pending()).await;
                Ok(())
            }
            Kind::Matchbox => {
                let mut server = SignalingServer::full_mesh_builder(what.bind).build();
                say(server.bind()?)?;
                Ok(server.serve().await?)
            }
            Kind::BareRelay => {
                let listener = tokio::net::TcpListener::bind(what.bind).await?;
                say(listener.local_addr()?)?;
                let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
                Ok(axum::serve(listener, bare::router()).await?)
            }
        }
    })
}

/// The defaults, but for three things. The limits per address hold, though all addresses are of the
/// loopback network. The key is always the same, so that the next server takes up the players of this one. And
/// signals may be [`Limits::Raised`].
fn config(what: &Serve) -> ServerConfig {
    let mut config = ServerConfig::at(what.bind);
    config.limit_loopback = true;
    config.key = Some(Key([7; 32]));
    if what.limits == Limits::Raised {
        let many = RateLimit { burst: 1_000_000, per_second: 1_000_000 };
        // Who is sent many signals confirms them by messages.
        (config.lobby.signals, config.lobby.messages) = (many, many);
        config.address_bytes = RateLimit { burst: u32::MAX, per_second: 1_000_000_000 };
    }
    config
}

fn say(address: SocketAddr) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{LISTENING}{address}")?;
    Ok(out.flush()?)
}

/// How to start a server.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) kind: Kind,
    /// The processor that it stays on.
    pub(crate) cpu: Option<usize>,
    /// What it allows.
    pub(crate) limits: Limits,
}

/// A server in another process, which is killed when this is dropped.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts one; it listens when this returns.
    pub(crate) fn start(start: Start, bind: SocketAddr) -> Result<Self> {
        let Start { kind, cpu, limits } = start;
        let mut arguments = vec!["serve".to_owned(), kind.to_string()];
        arguments.extend(["--bind".to_owned(), bind.to_string()]);
        arguments.extend(cpu.into_iter().flat_map(|cpu| ["--cpu".to_owned(), cpu.to_string()]));
        if limits == Limits::Raised {
            arguments.extend(["--limits".to_owned(), "raised".to_owned()]);
        }
        let process = Process::start(&arguments)?;
        let line = process.line(START)?;
        let address = line.strip_prefix(LISTENING).ok_or_else(|| format!("{kind} said: {line}"))?;
        Ok(Self { address: address.parse()?, process })
    }

    /// What it holds and has used.
    pub(crate) fn usage(&self) -> machine::Usage {
        machine::usage(self.process.id()).unwrap_or_default()
    }

    /// Kills it without a warning.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.process.kill();
        self.address
    }
}
