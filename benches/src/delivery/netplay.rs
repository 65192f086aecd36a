//! Our own lanes: two sessions of one lobby, each of which speaks to the lobby server through a proxy
//! of its own, which replaces the addresses in what that end sends.
//!
//! What an end sends is flushed at once. A thread per end looks for what has come every half
//! millisecond.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use netplay_protocol::frame::MessageId;
use netplay_protocol::lobby::{ClientMessage, PATH, SignalBody};
use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, Lane, PeerId};
use netplay_server::{Server, ServerConfig, ServerHandle};
use netplay_transport::{
    Addresses, JoinRequest, LobbyOptions, Network, Polled, SendError, Session, SessionConfig,
    SessionEvent,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::signaling::proxy;
use super::{Arrivals, Delivery, Ends, Site};
use crate::Result;
use crate::forwarder::{End, Forwarder};

/// Between two looks at what has come.
const LOOK: Duration = Duration::from_micros(500);
/// How long one step of connecting may take.
const STEP: Duration = Duration::from_secs(10);
const MESSAGE: MessageId = MessageId(0);

/// Connects two sessions that send on this lane.
pub async fn connect(site: &Site<'_>, lane: Lane) -> Result<Ends> {
    let server = Server::spawn(&Handle::current(), ServerConfig::default())?;
    let mut signaling = JoinSet::new();
    let mut sessions = Vec::new();
    for (end, runtime) in End::ALL.into_iter().zip(&site.runtimes) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("ws://{}", listener.local_addr()?);
        let to = format!("{}{PATH}", server.url());
        signaling.spawn(proxy(listener, to, end, site.forwarder.clone(), rewrite));
        let schema = Schema::new(vec![SchemaEntry { name: "message".into(), lane }])?;
        let mut config = SessionConfig::new(GameId::new("bench")?, BuildId::new("0")?, schema);
        config.server = url;
        config.addresses = Addresses::Loopback;
        sessions.push(Network::on(runtime.clone()).open(&config)?);
    }
    let [a, b] = <[Session; 2]>::try_from(sessions).map_err(|_| "there are two ends")?;
    let (mut a, mut b) = (a, b);
    let options = LobbyOptions::private(2);
    a.join(JoinRequest::Create(options))?;
    let code = until(&mut a, |event| match event {
        SessionEvent::Joined(lobby) => Some(lobby.code),
        _ => None,
    })
    .await?;
    b.join(JoinRequest::Code(code))?;
    let connected = |event| match event {
        SessionEvent::PeerConnected(peer) => Some(peer),
        _ => None,
    };
    let peers = [until(&mut a, connected).await?, until(&mut b, connected).await?];
    let shared = Arc::new((server, signaling));
    let ends = [a, b].into_iter().zip(peers).zip(site.arrivals.clone());
    let mut ends = ends.map(|((session, peer), arrivals)| {
        Player::start(session, peer, lane, arrivals, shared.clone())
    });
    match (ends.next(), ends.next()) {
        (Some(a), Some(b)) => Ok([Box::new(a?), Box::new(b?)]),
        _ => Err("there are two ends".into()),
    }
}

/// Waits for an event.
async fn until<T>(session: &mut Session, wanted: impl Fn(SessionEvent) -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + STEP;
    while Instant::now() < deadline {
        while let Some(polled) = session.poll() {
            if let Polled::Event(event) = polled
                && let Some(found) = wanted(event)
            {
                return Ok(found);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err("two sessions did not connect in time".into())
}

/// The lobby server and the proxies before it, which both ends need.
type Shared = Arc<(ServerHandle, JoinSet<()>)>;

struct Player {
    session: Arc<Mutex<Session>>,
    peer: PeerId,
    lane: Lane,
    stop: Arc<AtomicBool>,
    _shared: Shared,
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Player {
    fn start(
        session: Session,
        peer: PeerId,
        lane: Lane,
        arrivals: Arrivals,
        shared: Shared,
    ) -> Result<Self> {
        let session = Arc::new(Mutex::new(session));
        let stop = Arc::new(AtomicBool::new(false));
        let (reading, stopped) = (session.clone(), stop.clone());
        thread::Builder::new().name("game".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                while let Some(polled) = lock(&reading).poll() {
                    if let Polled::Packet(packet) = polled {
                        packet.messages().for_each(|message| arrivals.note(message.payload));
                    }
                }
                thread::park_timeout(LOOK);
            }
        })?;
        Ok(Self { session, peer, lane, stop, _shared: shared })
    }
}

impl Delivery for Player {
    fn send(&mut self, message: Vec<u8>) -> Result<()> {
        let mut session = lock(&self.session);
        let sent = session.send(self.peer, self.lane, MESSAGE, &message);
        session.flush();
        match sent {
            // Like any stack, what cannot be taken is lost.
            Ok(()) | Err(SendError::QueueFull) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A message of `end`'s with the forwarder's addresses.
fn rewrite(text: &str, end: End, forwarder: &Forwarder) -> Result<String> {
    let mut message = ClientMessage::from_json(text)?;
    if let ClientMessage::Signal { signal, .. } = &mut message {
        match &mut signal.body {
            SignalBody::Offer { sdp } | SignalBody::Answer { sdp } => {
                *sdp = forwarder.rewrite_sdp(end, sdp)?;
            }
            SignalBody::Candidate { candidate, .. } => {
                *candidate = forwarder.rewrite_candidate(end, candidate)?;
            }
            SignalBody::Bye | SignalBody::Lost | SignalBody::Withdraw => {}
        }
    }
    Ok(message.to_json())
}
