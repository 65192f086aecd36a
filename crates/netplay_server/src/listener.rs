//! Listening, accepting, and the HTTP part of a socket's life.

use core::convert::Infallible;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::address::{Admission, Entry, Seat, Verdict};
use crate::files::{self, SpareFile};
use crate::http::{self, Caller, Carrier, Common, Hubs};
use crate::rate_log::RateLog;
use crate::server::Alive;
use crate::socket::{Line, Socket, Stream};

/// Sockets that wait to be accepted. A reconnect storm after a restart needs many; the system cuts
/// it to its own limit.
const BACKLOG: i32 = 4096;

/// Bytes of a request's head. The library's least.
const HEAD_MAX: usize = 8 * 1024;

/// After how long a quiet peer is probed, and how often. It finds machines that vanished below a
/// WebSocket that waits for nothing.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));

/// How long accepting pauses after an error: those that matter (no memory) pass when other sockets close.
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
    router: Router,
    admission: Admission,
    pub(crate) alive: Alive,
    tls: Option<TlsAcceptor>,
    handshake_timeout: Duration,
    common: Arc<Common>,
    accepted: AtomicU64,
    log: RateLog,
}

impl Acceptor {
    pub(crate) fn new(
        hubs: Hubs,
        tls: Option<TlsAcceptor>,
        handshake_timeout: Duration,
        alive: Alive,
    ) -> Self {
        Self {
            admission: hubs.admission.clone(),
            common: hubs.common.clone(),
            router: http::router(hubs),
            alive,
            tls,
            handshake_timeout,
            accepted: AtomicU64::new(0),
            log: RateLog::new(),
        }
    }

    /// Accepts for ever; survives every error.
    pub(crate) async fn run(&self, listener: &TcpListener) {
        let mut spare = SpareFile::open();
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.accepted(stream, address.ip()),
                Err(error) if is_about_one_socket(&error) => {}
                // Who waits is turned away, and may come again or go elsewhere; those inside are served.
                Err(error) if files::are_used_up(&error) => match spare.shed(listener).await {
                    Ok(true) => {
                        self.common.tally.refused("no_files");
                        self.warn(&error, "a socket was closed at once");
                    }
                    Ok(false) => {}
                    Err(error) => self.pause(&error).await,
                },
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn pause(&self, error: &io::Error) {
        self.warn(error, "accepting failed; pausing");
        tokio::time::sleep(PAUSE).await;
    }

    fn warn(&self, error: &io::Error, what: &str) {
        if let Some(held_back) = self.log.line() {
            tracing::warn!(%error, held_back, "{what}");
        }
    }

    fn accepted(&self, stream: TcpStream, address: IpAddr) {
        let Some(entry) = self.admission.enter(address) else {
            self.common.tally.refused("dropped");
            if let Some(held_back) = self.log.line() {
                tracing::warn!(held_back, "too many sockets: one was dropped");
            }
            return;
        };
        // Without these a socket works, only worse.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
        let arrived = self.arrived(entry, address);
        match self.tls.clone() {
            None => drop(tokio::spawn(arrived.serve(Stream::Plain(stream)))),
            Some(tls) => drop(tokio::spawn(arrived.encrypt(stream, tls))),
        }
    }

    fn arrived(&self, entry: Entry, address: IpAddr) -> Arrived {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let (seat, verdict, proxy) = match entry {
            Entry::Client(seat, verdict) => (seat, verdict, None),
            Entry::Proxy(seat) => {
                let proxy = Proxy { address, admission: self.admission.clone() };
                (seat, Verdict::Welcome, Some(Box::new(proxy)))
            }
        };
        let carrier = Carrier {
            seat: None,
            address: seat.limited_address(),
            line: Arc::new(Line::default()),
            common: self.common.clone(),
            alive: self.alive.of(number),
        };
        let caller = Caller { verdict, carrier };
        let until = Instant::now() + self.handshake_timeout;
        Arrived { seat, caller, proxy, router: self.router.clone(), until }
    }
}

/// A socket of a proxy.
struct Proxy {
    address: IpAddr,
    admission: Admission,
}

/// A socket that has not asked for anything yet.
struct Arrived {
    seat: Seat,
    caller: Caller,
    proxy: Option<Box<Proxy>>,
    router: Router,
    /// When it has to be a WebSocket.
    until: Instant,
}

impl Arrived {
    async fn encrypt(self, stream: TcpStream, tls: TlsAcceptor) {
        let mut alive = self.caller.carrier.alive.clone();
        let stream = tokio::select! {
            stream = timeout_at(self.until, tls.accept(stream)) => stream,
            () = alive.stopped() => return,
        };
        drop(alive);
        // What goes wrong before the WebSocket is the client's business.
        if let Ok(Ok(stream)) = stream {
            self.serve(Stream::Tls(Box::new(stream))).await;
        }
    }

    fn serve(self, stream: Stream) -> impl Future<Output = ()> {
        let Self { seat, caller, proxy, router, until } = self;
        let mut alive = caller.carrier.alive.clone();
        let socket = Socket::new(stream, caller.carrier.line.clone(), seat, alive.clone());
        let router = TowerToHyperService::new(router);
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            let mut caller = caller.clone();
            if let Some(proxy) = &proxy {
                let (seat, verdict) = proxy.admission.claim(proxy.address, request.headers());
                caller.carrier.address = seat.as_ref().and_then(Seat::limited_address);
                (caller.carrier.seat, caller.verdict) = (seat.map(Arc::new), verdict);
            }
            request.extensions_mut().insert(caller);
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
        async move {
            let http = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(until.saturating_duration_since(Instant::now()))
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades();
            tokio::select! {
                // What goes wrong before the WebSocket is the client's business.
                _ = timeout_at(until, http) => {}
                () = alive.stopped() => {}
            }
        }
    }
}

fn is_about_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
