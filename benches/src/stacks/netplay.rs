//! Netplay's transport, from game thread to game thread, with an immediate flush; and, for
//! `netplay_net`, the echo by the other side's network thread, whose game does nothing.
//!
//! Each connection is a lobby of its own with a session on both sides, because in one lobby the peers
//! would connect to each other as well. Our sessions are opened before anything is measured: a game
//! has one, whatever the number of its peers.
//!
//! The ping of `netplay_net` is the library's own: a bare 16-byte header instead of 64 bytes.

use std::thread;
use std::time::{Duration, Instant};

use netplay_protocol::frame::MessageId;
use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, Lane, PeerId};
use netplay_server::{LobbyConfig, RateLimit, ServerConfig, ServerThread};
use netplay_transport::{
    Addresses, JoinRequest, LobbyOptions, Network, Polled, Session, SessionConfig, SessionEvent,
};

use super::{Lobby, Pinger, Setup, Stack, log_end, too_slow};
use crate::Result;
use crate::harness::Bench;
use crate::link::{Link, Signal};
use crate::ping::{self, Amount, LOST_AFTER, Samples};

/// The message of `latency`, and the greeting of `connect`.
const PING: MessageId = MessageId(0);
/// Sessions that are in their lobby before anything is measured: more than connections by default.
const READY: usize = 12;
/// How long entering a lobby may take.
const ENTER: Duration = Duration::from_secs(10);
/// How long one wait for the network may take before the deadline is looked at.
const TURN: Duration = Duration::from_millis(5);

/// From game thread to game thread.
pub struct Netplay;

/// Echo by the network thread.
pub struct NetplayNet;

impl Stack for Netplay {
    fn measures(&self, _bench: Bench) -> bool {
        true
    }

    fn lobby(&self) -> Result<Option<Lobby>> {
        lobby()
    }

    fn pinger(&self, setup: Setup) -> Result<Box<dyn Pinger>> {
        Ok(Box::new(NetplayPinger::new(setup, false)?))
    }

    fn peer(&self, setup: Setup) -> Result<()> {
        peer(setup, true)
    }
}

impl Stack for NetplayNet {
    fn measures(&self, bench: Bench) -> bool {
        bench == Bench::Latency
    }

    fn lobby(&self) -> Result<Option<Lobby>> {
        lobby()
    }

    fn pinger(&self, setup: Setup) -> Result<Box<dyn Pinger>> {
        Ok(Box::new(NetplayPinger::new(setup, true)?))
    }

    fn peer(&self, setup: Setup) -> Result<()> {
        peer(setup, false)
    }
}

fn lobby() -> Result<Option<Lobby>> {
    // A bench opens lobbies faster than a player would.
    let much = RateLimit { burst: 1_000_000, per_second: 1_000_000 };
    let lobby = LobbyConfig { messages: much, signals: much, joins: much, ..Default::default() };
    let server = ServerThread::start(ServerConfig { lobby, ..Default::default() })?;
    Ok(Some(Lobby::new(server.url(), server)))
}

fn open(network: &Network, setup_url: &str, request: JoinRequest) -> Result<Session> {
    let entry = SchemaEntry { name: "ping".into(), lane: Lane::Unreliable };
    let schema = Schema::new(vec![entry])?;
    let mut config = SessionConfig::new(GameId::new("bench")?, BuildId::new("0")?, schema);
    config.server = setup_url.to_owned();
    config.addresses = Addresses::Loopback;
    let session = network.open(&config)?;
    session.join(request)?;
    Ok(session)
}

/// Takes what has arrived until `wanted` finds what it looks for.
fn wait_for<T>(
    session: &mut Session,
    what: &str,
    limit: Duration,
    mut wanted: impl FnMut(&Polled) -> Option<T>,
) -> Result<T> {
    let until = Instant::now() + limit;
    loop {
        while let Some(polled) = session.poll() {
            if let Some(found) = wanted(&polled) {
                return Ok(found);
            }
        }
        if Instant::now() >= until {
            return Err(too_slow(what, limit));
        }
        session.wait(TURN);
    }
}

fn number_in(polled: &Polled) -> Option<u64> {
    let Polled::Packet(packet) = polled else { return None };
    packet.messages().find_map(|message| ping::number(message.payload))
}

/// Answers the pinger's connections, each on a game thread of its own.
fn peer(setup: Setup, echo: bool) -> Result<()> {
    let url = setup.lobby_url.ok_or("no lobby server")?;
    let network = Network::start()?;
    loop {
        let request: Signal = setup.link.receive_forever()?;
        let code = JoinRequest::Code(request.data.parse()?);
        let session = open(&network, &url, code)?;
        thread::Builder::new().name("game".into()).spawn(move || {
            log_end(serve(session, request.connection, echo));
        })?;
    }
}

fn serve(mut session: Session, connection: u32, echo: bool) -> Result<()> {
    let mut greeting = Some(ping::greeting(connection));
    loop {
        let mut answers = Vec::new();
        while let Some(polled) = session.poll() {
            match polled {
                Polled::Event(SessionEvent::PeerConnected(peer)) => {
                    if let Some(greeting) = greeting.take() {
                        session.send(peer, Lane::Reliable, PING, &greeting)?;
                    }
                }
                Polled::Event(SessionEvent::PeerClosed { .. }) => return Ok(()),
                Polled::Packet(packet) if echo => {
                    for message in packet.messages() {
                        answers.push((message.from, message.payload.to_vec()));
                    }
                }
                Polled::Event(_) | Polled::Packet(_) | Polled::Inputs(_) => {}
            }
        }
        for (from, payload) in answers {
            session.send(from, Lane::Unreliable, PING, &payload)?;
        }
        session.flush();
        session.wait(Duration::from_secs(1));
    }
}

struct NetplayPinger {
    network: Network,
    url: String,
    link: Link,
    /// In a lobby, alone.
    ready: Vec<(Session, String)>,
    connected: Vec<(Session, PeerId)>,
    by_network: bool,
}

impl NetplayPinger {
    fn new(setup: Setup, by_network: bool) -> Result<Self> {
        let url = setup.lobby_url.ok_or("no lobby server")?;
        let (network, link) = (Network::start()?, setup.link);
        let (ready, connected) = (Vec::new(), Vec::new());
        let mut pinger = Self { network, url, link, ready, connected, by_network };
        for _ in 0..READY {
            let session = pinger.enter()?;
            pinger.ready.push(session);
        }
        Ok(pinger)
    }

    /// A session in a lobby of its own, and the lobby's code.
    fn enter(&self) -> Result<(Session, String)> {
        let options = LobbyOptions::private(2);
        let mut session = open(&self.network, &self.url, JoinRequest::Create(options))?;
        let code = wait_for(&mut session, "the lobby", ENTER, |polled| match polled {
            Polled::Event(SessionEvent::Joined(lobby)) => Some(lobby.code.to_string()),
            _ => None,
        })?;
        Ok((session, code))
    }
}

impl Pinger for NetplayPinger {
    fn connect(&mut self, number: u32, limit: Duration) -> Result<Duration> {
        let (mut session, code) = match self.ready.pop() {
            Some(ready) => ready,
            None => self.enter()?,
        };
        self.link.send(&Signal { connection: number, data: code })?;
        let peer = wait_for(&mut session, "the peer", limit, |polled| match polled {
            Polled::Event(SessionEvent::PeerFound(peer)) => Some(*peer),
            _ => None,
        })?;
        // Both are in the lobby.
        let started = Instant::now();
        let greeting = ping::number(&ping::greeting(number));
        wait_for(&mut session, "the connection", limit, |polled| {
            (number_in(polled) == greeting).then_some(())
        })?;
        let time = started.elapsed();
        self.connected.push((session, peer));
        Ok(time)
    }

    fn ping_pong(&mut self, amount: Amount) -> Result<Samples> {
        let (session, peer) = self.connected.last_mut().ok_or("not connected")?;
        let mut samples = Samples::default();
        let started = Instant::now();
        for sequence in amount.first.. {
            let sent = Instant::now();
            if samples.round_trips_us.len() >= amount.rounds as usize
                || sent - started >= amount.limit
            {
                break;
            }
            let answer = if self.by_network {
                session.ping(*peer)?;
                wait_for(session, "a pong", LOST_AFTER, |polled| {
                    matches!(polled, Polled::Event(SessionEvent::Pong { .. })).then_some(())
                })
            } else {
                session.send(*peer, Lane::Unreliable, PING, &ping::payload(sequence))?;
                session.flush();
                wait_for(session, "a reply", LOST_AFTER, |polled| {
                    (number_in(polled) == Some(sequence)).then_some(())
                })
            };
            match answer {
                Ok(()) => samples.round_trips_us.push(sent.elapsed().as_secs_f64() * 1e6),
                Err(_) => samples.lost += 1,
            }
        }
        Ok(samples)
    }
}
