//! Real servers, real sockets, real WebRTC on loopback; deadlines instead of sleeps; and every ERROR
//! log of ours or of a library fails the test.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, Lane, LobbyCode, PeerId};
use netplay_server::{ServerConfig, ServerThread};
use netplay_transport::{
    Addresses, JoinRequest, LobbyOptions, Message, Network, Polled, Session, SessionConfig,
    SessionEvent,
};

/// Any single step of a test takes less than this.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn server() -> ServerThread {
    ServerThread::start(ServerConfig::default()).expect("loopback has a free port")
}

pub fn config(server: &str) -> SessionConfig {
    let entries = vec![
        SchemaEntry { name: "event".into(), lane: Lane::Reliable },
        SchemaEntry { name: "state".into(), lane: Lane::Unreliable },
        SchemaEntry { name: "world".into(), lane: Lane::Bulk },
    ];
    let schema = Schema::new(entries).expect("two names");
    let game = GameId::new("test").expect("a valid id");
    let build = BuildId::new("1").expect("a valid id");
    let mut config = SessionConfig::new(game, build, schema);
    config.server = server.to_owned();
    config.addresses = Addresses::Loopback;
    config
}

/// A session that remembers what happened.
pub struct Player {
    pub session: Session,
    pub me: Option<PeerId>,
    pub code: Option<LobbyCode>,
    pub events: Vec<SessionEvent>,
    pub peers: Vec<PeerId>,
    pub messages: Vec<(PeerId, Lane, Vec<u8>)>,
    /// Input blocks: their ticks, their bytes, and whether they came again.
    pub inputs: Vec<(u16, Vec<u8>, bool)>,
}

impl Player {
    pub fn open(network: &Network, config: &SessionConfig, request: JoinRequest) -> Self {
        let session = network.open(config).expect("a valid address");
        session.join(request).expect("a fresh session takes commands");
        let (me, code, events, peers, messages, inputs) = Default::default();
        Self { session, me, code, events, peers, messages, inputs }
    }

    pub fn quick(network: &Network, server: &str, capacity: u8) -> Self {
        let options = LobbyOptions::public(capacity);
        Self::open(network, &config(server), JoinRequest::Quick(options))
    }

    /// Takes what has arrived.
    pub fn poll(&mut self) {
        while let Some(polled) = self.session.poll() {
            match polled {
                Polled::Event(event) => {
                    match &event {
                        SessionEvent::Online { me } => self.me = Some(*me),
                        SessionEvent::Joined(lobby) => self.code = Some(lobby.code),
                        SessionEvent::PeerConnected(peer) => self.peers.push(*peer),
                        SessionEvent::PeerClosed { peer, .. } => self.peers.retain(|p| p != peer),
                        _ => {}
                    }
                    self.events.push(event);
                }
                Polled::Packet(packet) => {
                    let copy = |m: Message<'_>| (m.from, m.lane, m.payload.to_vec());
                    self.messages.extend(packet.messages().map(copy));
                }
                Polled::Inputs(inputs) => {
                    self.inputs.push((inputs.tick(), inputs.bytes().to_vec(), inputs.again()));
                }
            }
        }
    }

    pub fn closed(&self) -> Vec<&SessionEvent> {
        let closed = |event: &&SessionEvent| matches!(event, SessionEvent::PeerClosed { .. });
        self.events.iter().filter(closed).collect()
    }
}

/// Polls all players until `done`; panics with what happened when the deadline passes.
pub fn until(
    players: &mut [&mut Player],
    what: &str,
    mut done: impl FnMut(&mut [&mut Player]) -> bool,
) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        for player in players.iter_mut() {
            player.poll();
            player.session.flush();
        }
        if done(players) {
            return;
        }
        if Instant::now() > deadline {
            let events: Vec<_> = players.iter().map(|player| &player.events).collect();
            panic!("not within {DEADLINE:?}: {what}; events: {events:#?}");
        }
        players[0].session.wait(Duration::from_millis(1));
    }
}

pub fn connect(players: &mut [&mut Player]) {
    let others = players.len() - 1;
    until(players, "everyone connects to everyone", |players| {
        players.iter().all(|player| player.peers.len() == others)
    });
}

/// Two players of one lobby, connected.
pub fn pair(network: &Network, server: &str) -> (Player, Player) {
    let mut a = Player::quick(network, server, 2);
    let mut b = Player::quick(network, server, 2);
    connect(&mut [&mut a, &mut b]);
    (a, b)
}

/// ERROR logs since the process started, of any crate.
static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct CollectErrors;

impl tracing::Subscriber for CollectErrors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        ERRORS.lock().expect("no panic while it is held").push(format!("{event:?}"));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// The WebRTC library logs through `log`. `NETPLAY_TEST_LOG=debug` shows all of it.
impl log::Log for CollectErrors {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = format!("{} {}: {}", record.level(), record.target(), record.args());
        if record.level() == log::Level::Error {
            ERRORS.lock().expect("no panic while it is held").push(text.clone());
        }
        if log::max_level() > log::Level::Error {
            eprintln!("{:?} {text}", std::time::SystemTime::now());
        }
    }

    fn flush(&self) {}
}

/// Tests of one process run one after another: they count threads, sockets and memory, and time.
static ALONE: Mutex<()> = Mutex::new(());

/// Begins to collect ERROR logs; the guard fails the test if there were any. Other tests wait for it.
pub fn no_errors() -> NoErrors {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = tracing::subscriber::set_global_default(CollectErrors);
    if log::set_logger(&CollectErrors).is_ok() {
        let level = std::env::var("NETPLAY_TEST_LOG").ok();
        log::set_max_level(level.and_then(|l| l.parse().ok()).unwrap_or(log::LevelFilter::Error));
    }
    NoErrors { _alone: alone }
}

pub struct NoErrors {
    _alone: MutexGuard<'static, ()>,
}

impl Drop for NoErrors {
    fn drop(&mut self) {
        let errors = std::mem::take(&mut *ERRORS.lock().expect("no panic while it is held"));
        if !std::thread::panicking() {
            assert!(errors.is_empty(), "ERROR logs: {errors:#?}");
        }
    }
}
