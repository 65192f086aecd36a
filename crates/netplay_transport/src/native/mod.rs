//! The native shell: tokio, WebSocket, WebRTC.

mod addresses;
mod conditioner;
mod driver;
mod media;
mod runtime;
mod task;

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use netplay_protocol::control::carriers;
use netplay_socket::{Server, ServerError};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;

use crate::clock::SessionTime;
use crate::config::SessionConfig;
use crate::event::OpenError;
use crate::session::Session;
use crate::session_core;
use task::SessionTask;

/// How long the end of a [`Network`] waits for its sessions to say goodbye.
const GOODBYE: Duration = Duration::from_millis(900);
/// How long it then waits for the runtime.
const SHUTDOWN: Duration = Duration::from_millis(100);

/// The background runtime that owns the network. One is enough for any number of sessions; clones
/// are the same network.
///
/// When the last clone and the last session are dropped, sessions say goodbye and everything ends:
/// within a second, with no thread, task or socket left. That drop blocks for as long as it takes,
/// so it must not happen inside asynchronous code.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    /// Ours to stop; `None` for a runtime that was brought along.
    runtime: Option<Runtime>,
    live: Arc<Live>,
}

/// How many session tasks run, and how to stop them.
#[derive(Debug, Default)]
struct Live {
    count: Mutex<usize>,
    changed: Condvar,
    stop: Mutex<Vec<Arc<Notify>>>,
}

impl Network {
    /// A network on a runtime of its own: one worker thread named `netplay-io`.
    ///
    /// # Errors
    /// If the system gives no thread or no event queue.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("netplay-io")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self { inner: Arc::new(Inner { handle, runtime: Some(runtime), live: Arc::default() }) })
    }

    /// A network on a runtime that the program has already. It needs tokio's I/O and time drivers.
    pub fn on(handle: Handle) -> Self {
        Self { inner: Arc::new(Inner { handle, runtime: None, live: Arc::default() }) }
    }

    /// Opens a session. It does nothing until the game asks for a lobby.
    ///
    /// # Errors
    /// [`OpenError::Url`] if the server's address is malformed, and [`OpenError::Certificate`] if
    /// [`SessionConfig::trusted_certificates`] is. A server that is not there is no
    /// error here: the session tries until it is dropped, and says so by events.
    pub fn open(&self, config: &SessionConfig) -> Result<Session, OpenError> {
        let address = config.address()?;
        let server = Server::new(address, config.trusted_certificates.as_deref())?;
        let wake = Arc::new(Notify::new());
        let seed = rand_seed();
        let time = SessionTime::real(config.clock_error);
        let mut link = config.link_config();
        if config.media {
            link.hello.carriers |= carriers::RTP;
        }
        let (mut session, core) = session_core::session(
            link,
            config,
            server.address().to_string(),
            seed,
            wake.clone(),
            time.clone(),
        );
        let stop = Arc::new(Notify::new());
        let running = Running::new(self.inner.live.clone(), stop.clone());
        let task = SessionTask::new(core, server, config, wake, time);
        self.inner.handle.spawn(async move {
            task.run(stop).await;
            drop(running);
        });
        session.keep(self.clone());
        Ok(session)
    }
}

impl From<ServerError> for OpenError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Host(url) => {
                Self::Url { url, why: "no certificate can be for this host".to_owned() }
            }
            ServerError::Certificate(why) => Self::Certificate(why),
        }
    }
}

/// Spreads the back-off of many players; nothing secret depends on it.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Counts one running session task.
struct Running {
    live: Arc<Live>,
    stop: Arc<Notify>,
}

impl Running {
    fn new(live: Arc<Live>, stop: Arc<Notify>) -> Self {
        *live.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        live.stop.lock().unwrap_or_else(PoisonError::into_inner).push(stop.clone());
        Self { live, stop }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut stop = self.live.stop.lock().unwrap_or_else(PoisonError::into_inner);
        stop.retain(|stop| !Arc::ptr_eq(stop, &self.stop));
        drop(stop);
        *self.live.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.live.changed.notify_all();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Sessions hold a clone, so all of them are dropped and their tasks are leaving by now.
        let until = Instant::now() + GOODBYE;
        let mut count = self.live.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(sessions = *count, "sessions did not end in time");
                break;
            }
            let result = self.live.changed.wait_timeout(count, left);
            (count, _) = result.unwrap_or_else(PoisonError::into_inner);
        }
        drop(count);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(SHUTDOWN);
        }
    }
}
