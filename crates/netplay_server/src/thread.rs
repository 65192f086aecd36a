//! A server with a thread and a runtime of its own.

use core::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::config::ServerConfig;
use crate::error::BindError;
use crate::reload::Reload;
use crate::server::Server;

/// A running server on its own thread, named `netplay-server`. Dropping it stops the server and
/// waits for the thread: a second at most, and what [`ServerConfig::back_per_second`] takes.
pub struct ServerThread {
    address: SocketAddr,
    url: String,
    admin: Option<SocketAddr>,
    reload: Reload,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerThread {
    /// Starts a server; it listens when this returns.
    ///
    /// # Errors
    /// [`BindError`], which says what to do.
    pub fn start(config: ServerConfig) -> Result<Self, BindError> {
        let failed = |error: std::io::Error| BindError::Thread(error.to_string());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let server = runtime.block_on(Server::bind(config))?;
        let (address, admin) = (server.local_addr(), server.admin_addr());
        let (url, reload) = (server.url(), server.reload().clone());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("netplay-server".into())
            .spawn(move || {
                let shutdown = async {
                    // An error says that this was dropped.
                    let _ = stopped.await;
                };
                runtime.block_on(server.run_until(shutdown));
            })
            .map_err(failed)?;
        Ok(Self { address, url, admin, reload, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener is, with the real port, if there is one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// `ws://`, or `wss://` with [`ServerConfig::tls`], and the address, as clients take it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What it has read from files, to be read again when they change.
    pub const fn reload(&self) -> &Reload {
        &self.reload
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server was reported when it happened.
            let _ = thread.join();
        }
    }
}
