//! The stacks that are compared, behind two small traits.

mod matchbox;
mod netplay;
mod raw_udp;
mod webrtc;

use std::any::Any;
use std::time::Duration;

use clap::ValueEnum;

use crate::Result;
use crate::harness::Bench;
use crate::link::Link;
use crate::ping::{Amount, Samples};

/// Names the stacks; a table shows them in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum StackId {
    /// A tokio UDP socket at both ends: the floor.
    RawUdp,
    /// The `webrtc` library as its examples use it.
    Webrtc,
    /// `matchbox_socket`.
    Matchbox,
    /// Ours, from game thread to game thread.
    Netplay,
    /// Ours, echo by the other side's network thread.
    NetplayNet,
}

impl StackId {
    /// All stacks.
    pub const ALL: &'static [Self] =
        &[Self::RawUdp, Self::Webrtc, Self::Matchbox, Self::Netplay, Self::NetplayNet];

    /// The code behind the name.
    pub fn stack(self) -> &'static dyn Stack {
        match self {
            Self::RawUdp => &raw_udp::RawUdp,
            Self::Webrtc => &webrtc::Webrtc,
            Self::Matchbox => &matchbox::Matchbox,
            Self::Netplay => &netplay::Netplay,
            Self::NetplayNet => &netplay::NetplayNet,
        }
    }
}

impl std::fmt::Display for StackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A signaling server in the coordinator; it ends when this is dropped.
pub struct Lobby {
    /// Where pinger and peer find it.
    pub url: String,
    _server: Box<dyn Any>,
}

impl Lobby {
    /// A server at `url`, which `server` keeps running.
    pub fn new(url: String, server: impl Any) -> Self {
        Self { url, _server: Box::new(server) }
    }
}

/// What a pinger or peer process starts with.
pub struct Setup {
    /// To the peer, or to the pinger.
    pub link: Link,
    /// The address of [`Stack::lobby`].
    pub lobby_url: Option<String>,
}

/// A way to send datagrams between two processes.
pub trait Stack {
    /// Whether a bench says something about this stack.
    fn measures(&self, bench: Bench) -> bool;

    /// Starts what pinger and peer need to find each other, if the link between them is not enough.
    fn lobby(&self) -> Result<Option<Lobby>> {
        Ok(None)
    }

    /// Makes the measuring side ready.
    fn pinger(&self, setup: Setup) -> Result<Box<dyn Pinger>>;

    /// Is the answering side until the process ends: opens a connection whenever the pinger asks,
    /// greets on it, then returns every message.
    fn peer(&self, setup: Setup) -> Result<()>;
}

/// The measuring side of a stack.
pub trait Pinger: Send {
    /// Opens one more connection, which stays open, and waits for the peer's greeting. Returns the
    /// time from both sides being ready to connect to that message.
    ///
    /// # Errors
    ///
    /// If that takes longer than `limit`, among others.
    fn connect(&mut self, number: u32, limit: Duration) -> Result<Duration>;

    /// Measures round trips over the latest connection.
    fn ping_pong(&mut self, amount: Amount) -> Result<Samples>;
}

/// The runtime of the stacks that run on tokio. One worker: what it does needs no second one, and
/// more would compete with the other process on a small machine.
fn tokio_runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// What a peer does when a connection of its has ended: the pinger notices by itself, and whoever
/// looks for the reason finds it on standard error.
fn log_end(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("peer: {error}");
    }
}

/// The error of a connection attempt that took too long.
fn too_slow(what: &str, limit: Duration) -> crate::Error {
    format!("{what} took longer than {:.0} s", limit.as_secs_f64()).into()
}
