//! A server on a tokio runtime.

use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;
use std::time::SystemTime;

use netplay_lobby::matchbox::{RoomStats, Rooms};
use netplay_lobby::{Directory, Stats};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::address::Admission;
use crate::admin;
use crate::config::{AdminConfig, ServerConfig};
use crate::counts::Tally;
use crate::error::BindError;
use crate::http::{Common, Hubs};
use crate::hub::Hub;
use crate::listener::{Acceptor, listen};
use crate::login::Logins;
use crate::outbox::Outboxes;
use crate::reload::Reload;
use crate::rooms::RoomHub;
use crate::tls::Certificates;
use crate::traffic::Traffic;

/// How long a stopping server waits for its tasks. Each ends by itself within this time.
const STOP: Duration = Duration::from_millis(900);

/// How long the answers at the admin address may take when all connections are closed.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// When a server began to stop, and within what time its connections end, one after the other: players come
/// back to the next server as they are closed, and that takes only so many a second.
type Stop = Option<(Instant, Duration)>;

/// Knows whether a server stops. Unlike [`Alive`], nobody waits for who has it.
#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<Stop>);

impl Stopping {
    pub(crate) fn has_begun(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// Held by every task of a server: tells it to stop, and the server that it has.
#[derive(Clone)]
pub(crate) struct Alive {
    pub(crate) stopping: Stopping,
    /// When its turn is: 0 for the first of all, 1 for the last.
    turn: f64,
    _alive: mpsc::Sender<Infallible>,
}

impl Alive {
    /// For a socket with this number.
    pub(crate) fn of(&self, number: u64) -> Self {
        Self { turn: turn(number), ..self.clone() }
    }

    /// Waits until the server stops and it is our turn, or it is dropped.
    pub(crate) async fn stopped(&mut self) {
        self.stopped_with(|| None).await;
    }

    /// The same; the turn is that of the group, if there is one then. The next server waits only so long for the
    /// members of a lobby, so they come back together.
    pub(crate) async fn stopped_with(&mut self, group: impl Fn() -> Option<u64>) {
        // An error says that the server is dropped.
        let stop = self.stopping.0.wait_for(Option::is_some).await.map(|stop| *stop);
        if let Ok(Some((began, time))) = stop {
            let turn = group().map_or(self.turn, turn);
            tokio::time::sleep_until(began + time.mul_f64(turn)).await;
        }
    }
}

/// When the turn of this number is. Consecutive numbers have turns that are far from each other.
fn turn(number: u64) -> f64 {
    /// The fraction of the golden ratio.
    const STEP: f64 = 0.618_033_988_749_895;
    (number as f64 * STEP).fract()
}

/// A server that listens, and serves when it is run.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    hubs: Hubs,
    reload: Reload,
    acceptor: Acceptor,
    stop: watch::Sender<Stop>,
    ended: mpsc::Receiver<Infallible>,
    admin: Option<Admin>,
    back_per_second: u32,
}

/// The address for who runs the server.
struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<String>,
}

impl Admin {
    fn bind(config: &AdminConfig) -> Result<Self, BindError> {
        let AdminConfig { bind, token } = config.clone();
        if token.is_none() && !bind.ip().is_loopback() {
            return Err(BindError::AdminWithoutToken(bind));
        }
        let refused = |error| BindError::of(bind, &error);
        let listener = listen(bind).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, token })
    }

    async fn serve(self, hubs: Hubs, drain: Arc<Notify>, alive: Alive) {
        let asked = admin::Asked { hubs, drain, stopping: alive.stopping.clone() };
        let mut stop = alive.clone();
        let serving = axum::serve(self.listener, admin::router(asked, self.token))
            .with_graceful_shutdown(async move { stop.stopped().await });
        // It survives every error, and answers what was asked before the end. Who does not read the answer has
        // no more time than the server has.
        let mut end = alive;
        let end = async {
            end.stopped().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            _ = serving => {}
            () = end => {}
        }
    }
}

impl Server {
    /// Starts to listen. Clients can connect from now on; they are served by
    /// [`Server::run_until`].
    ///
    /// # Errors
    /// [`BindError`], which says what to do.
    #[expect(clippy::unused_async, reason = "it must run on a runtime, and async says so")]
    pub async fn bind(config: ServerConfig) -> Result<Self, BindError> {
        Self::new(config)
    }

    fn new(config: ServerConfig) -> Result<Self, BindError> {
        let (seed, rooms_seed) = (random()?, random()?);
        let certificates = config.tls.clone().map(Certificates::load).transpose()?;
        let tls = certificates.as_ref().map(Certificates::acceptor).transpose()?;
        let refused = |error| BindError::of(config.bind, &error);
        let listener = listen(config.bind).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let mut directory = Directory::new(config.lobby.clone(), seed);
        if let Some(key) = config.key {
            let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            directory = directory.with_key(key, unix.unwrap_or_default().as_secs());
        }
        let outboxes = Outboxes::new(config.outgoing_frames, config.outgoing_bytes);
        let logins = config.jwt.as_ref().map(Logins::new).transpose()?.map(Arc::new);
        let lobby = Arc::new(Hub::new(directory, outboxes, logins.clone()));
        let limits = config.lobby.rooms.clone();
        let outboxes = Outboxes::new(config.room_outgoing_frames, config.room_outgoing_bytes);
        let rooms = Arc::new(RoomHub::new(Rooms::new(limits.clone(), rooms_seed), outboxes));
        let origins = Arc::new(config.origins.clone());
        let limits = Arc::new(limits);
        let (traffic, tally) = (Traffic::new(config.address_bytes), Tally::default());
        let common = Common { write_timeout: config.write_timeout, traffic, tally };
        let (admission, common) = (Admission::of(&config), Arc::new(common));
        let hubs = Hubs { lobby, rooms, limits, admission, common, origins };
        let admin = config.admin.as_ref().map(Admin::bind).transpose()?;
        let (stop, stopped) = watch::channel(None);
        let (alive, ended) = mpsc::channel(1);
        let alive = Alive { stopping: Stopping(stopped), turn: 1.0, _alive: alive };
        let acceptor = Acceptor::new(hubs.clone(), tls, config.handshake_timeout, alive);
        let back_per_second = config.back_per_second;
        Ok(Self {
            listener,
            address,
            hubs,
            reload: Reload { certificates, logins },
            acceptor,
            stop,
            ended,
            admin,
            back_per_second,
        })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for who runs it, with the real port.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// `ws://`, or `wss://` with [`ServerConfig::tls`], and the address, as clients take it.
    pub fn url(&self) -> String {
        url(self.address, self.reload.certificates.is_some())
    }

    /// What it has read from files, to be read again when they change.
    pub const fn reload(&self) -> &Reload {
        &self.reload
    }

    /// Serves until `shutdown` is ready, or `POST /drain` is asked for at the admin address; then listens no
    /// more, closes all connections, as many a second as [`ServerConfig::back_per_second`] says, and waits, a
    /// second at most, until all tasks have ended. Dropping this future stops the server too, at once.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, hubs, acceptor, stop, mut ended, admin, back_per_second, .. } = self;
        let ticking = {
            let (mut alive, hubs) = (acceptor.alive.clone(), hubs.clone());
            async move {
                tokio::select! {
                    () = hubs.lobby.tick() => {}
                    () = alive.stopped() => {}
                }
            }
        };
        tokio::spawn(ticking);
        let drain = Arc::new(Notify::new());
        if let Some(admin) = admin {
            tokio::spawn(admin.serve(hubs.clone(), drain.clone(), acceptor.alive.clone()));
        }
        tokio::select! {
            () = acceptor.run(&listener) => {}
            () = shutdown => {}
            () = drain.notified() => {}
        }
        drop(listener);
        let connections = hubs.lobby.stats().connections + hubs.rooms.stats().peers;
        let time = Duration::from_secs_f64(connections as f64 / f64::from(back_per_second.max(1)));
        tracing::info!(connections, ?time, "stopping");
        stop.send_replace(Some((Instant::now(), time)));
        drop(acceptor);
        // Nothing is ever sent: this ends when the last task has dropped its sender.
        if timeout(time + STOP, ended.recv()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
    }

    /// Starts a server on this runtime. It stops when the handle is dropped.
    ///
    /// # Errors
    /// [`BindError`], which says what to do.
    pub fn spawn(runtime: &Handle, config: ServerConfig) -> Result<ServerHandle, BindError> {
        let _inside = runtime.enter();
        let server = Self::new(config)?;
        let address = server.address;
        let (hubs, admin) = (server.hubs.clone(), server.admin_addr());
        let reload = server.reload.clone();
        let (stop, mut stopped) = watch::channel(false);
        let shutdown = async move {
            // An error says that the handle is dropped.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let task = runtime.spawn(server.run_until(shutdown));
        Ok(ServerHandle { address, admin, hubs, reload, stop, task })
    }
}

/// A running server. Dropping it stops the server, as [`ServerHandle::shutdown`] does.
pub struct ServerHandle {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    hubs: Hubs,
    reload: Reload,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ServerHandle {
    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `ws://`, or `wss://` with [`ServerConfig::tls`], and the address, as clients take it.
    pub fn url(&self) -> String {
        url(self.address, self.reload.certificates.is_some())
    }

    /// What it has read from files, to be read again when they change.
    pub const fn reload(&self) -> &Reload {
        &self.reload
    }

    /// Where it listens for who runs it, with the real port.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// How much it holds of Netplay's own players.
    pub fn stats(&self) -> Stats {
        self.hubs.lobby.stats()
    }

    /// How much it holds of matchbox's players.
    pub fn room_stats(&self) -> RoomStats {
        self.hubs.rooms.stats()
    }

    /// Stops the server, and returns when its tasks have ended: a second at most, and what
    /// [`ServerConfig::back_per_second`] takes.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        // An error says that the runtime is shutting down, or that the task panicked: it is over.
        let _ = self.task.await;
    }
}

fn random() -> Result<[u8; 32], BindError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| BindError::Random(error.to_string()))?;
    Ok(bytes)
}

fn url(address: SocketAddr, encrypted: bool) -> String {
    let scheme = if encrypted { "wss" } else { "ws" };
    format!("{scheme}://{address}")
}
