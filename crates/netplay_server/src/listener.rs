//! Listening, accepting, and the HTTP part of a socket's life.

use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::address::{Admission, Seat};
use crate::config::ServerConfig;
use crate::http::Caller;
use crate::rate_log::RateLog;
use crate::server::Alive;
use crate::socket::Socket;

/// Sockets that wait to be accepted. A reconnect storm after a restart needs many; the system cuts
/// it to its own limit.
const BACKLOG: i32 = 4096;

/// Bytes of a request's head. The library's least.
const HEAD_MAX: usize = 8 * 1024;

/// After how long a quiet peer is probed, and how often. It finds machines that vanished below a
/// WebSocket that waits for nothing.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));

/// How long accepting pauses after an error: those that matter (no file descriptors, no memory)
/// pass when other sockets close.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens a listening socket. Must be called on a tokio runtime.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows this option would let another program take the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What each accepted socket needs.
pub(crate) struct Acceptor {
    pub(crate) router: Router,
    pub(crate) admission: Admission,
    pub(crate) alive: Alive,
    handshake_timeout: Duration,
    write_timeout: Duration,
    accepted: AtomicU64,
    log: RateLog,
}

impl Acceptor {
    pub(crate) fn new(router: Router, config: &ServerConfig, alive: Alive) -> Self {
        // Those without a WebSocket yet, and those that linger, need room beside the connections.
        let room = config.lobby.max_connections.saturating_add(config.lobby.rooms.max_peers);
        let max = room.saturating_add(room / 4).saturating_add(16);
        Self {
            router,
            admission: Admission::new(max, config.max_per_address, config.limit_loopback),
            alive,
            handshake_timeout: config.handshake_timeout,
            write_timeout: config.write_timeout,
            accepted: AtomicU64::new(0),
            log: RateLog::new(),
        }
    }

    /// Accepts for ever; survives every error.
    pub(crate) async fn run(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.accepted(stream, address),
                Err(error) if is_about_one_socket(&error) => {}
                Err(error) => {
                    if let Some(held_back) = self.log.line() {
                        tracing::warn!(%error, held_back, "accepting failed; pausing");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn accepted(&self, stream: TcpStream, address: SocketAddr) {
        let Some(seat) = self.admission.enter(address.ip()) else {
            if let Some(held_back) = self.log.line() {
                tracing::warn!(held_back, "too many sockets: one was dropped");
            }
            return;
        };
        // Without these a socket works, only worse.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
        tokio::spawn(self.serve(stream, seat));
    }

    fn serve(&self, stream: TcpStream, seat: Seat) -> impl Future<Output = ()> + use<> {
        let linger = Arc::new(AtomicBool::new(false));
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let mut alive = self.alive.of(number);
        let caller = Caller {
            over: seat.over,
            linger: linger.clone(),
            write_timeout: self.write_timeout,
            alive: alive.clone(),
        };
        let socket = Socket::new(stream, linger, seat, alive.clone());
        let router = TowerToHyperService::new(self.router.clone());
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(caller.clone());
            let response = router.call(request);
            async {
                let mut response = response.await?;
                // One request a socket. (`keep_alive(false)` would break the upgrade too.)
                if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let limit = self.handshake_timeout;
        async move {
            let http = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limit)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades();
            tokio::select! {
                // What goes wrong before the WebSocket is the client's business.
                _ = timeout(limit, http) => {}
                () = alive.stopped() => {}
            }
        }
    }
}

fn is_about_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
