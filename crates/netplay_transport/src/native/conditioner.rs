//! The link conditioner: sockets whose datagrams pass a `netplay_simnet::Pipe` in each direction.
//!
//! | what | per | does |
//! |---|---|---|
//! | [`Conditioners`] | session | knows what the game wants for each peer |
//! | [`Wanted`] | peer | tells it to that peer's sockets, at once and for later connections |
//! | [`Line`] | connection | makes its sockets, and sends what they leave under way at the end |
//! | [`Conditioned`] | socket | holds the two pipes, and a timer for what is in them |
//!
//! The library's driver polls every socket for datagrams all the time, so that is where the timer
//! is polled and where packets of both directions are released: there is no task, and a socket that
//! is dropped takes its timer along.
//!
//! Guaranteed: without conditions a datagram pays two atomic loads, and nothing is allocated. What is
//! under way is bounded by [`Pipe::MAX_IN_FLIGHT`](netplay_simnet::Pipe) and `Pipe::MAX_BYTES_IN_FLIGHT` in each
//! direction of a socket. A datagram that the system refuses when it is released is lost.
//! Not guaranteed: one rate for all sockets of a connection. Each has its own, but once connected
//! only one is in use.

mod pipes;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use netplay_peer::link::driver::ConnectionId;
use netplay_protocol::{Now, PeerId};
use netplay_simnet::mix_seed;
use tokio::sync::Notify;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use crate::conditioner::LinkConditioner;
use pipes::{Exit, Pipes};

/// Peers that are remembered though no connection to them lives.
const REMEMBERED: usize = 256;
/// After the end of a connection, what is under way has so long to leave: a goodbye, mostly.
const LINGER: Duration = Duration::from_millis(500);
/// How often that is looked after.
const DRAIN_EVERY: Duration = Duration::from_millis(2);
/// Datagrams taken from a socket in one turn.
const BATCH: usize = 64;

/// What the game wants for the links of one session.
#[derive(Debug)]
pub(super) struct Conditioners {
    default: Option<LinkConditioner>,
    peers: BTreeMap<PeerId, Arc<Wanted>>,
    /// Peers so far, which gives each its own random numbers.
    numbered: u64,
}

impl Conditioners {
    pub(super) const fn new(default: Option<LinkConditioner>) -> Self {
        Self { default, peers: BTreeMap::new(), numbered: 0 }
    }

    /// For the links to this peer, those that live and those to come.
    pub(super) fn set(&mut self, peer: PeerId, conditioner: Option<LinkConditioner>) {
        self.of(peer).set(conditioner);
    }

    /// For a new connection.
    pub(super) fn line(&mut self, peer: PeerId, connection: ConnectionId) -> Arc<Line> {
        Arc::new(Line::new(self.of(peer).clone(), connection))
    }

    fn of(&mut self, peer: PeerId) -> &Arc<Wanted> {
        if self.peers.len() >= REMEMBERED && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, wanted| Arc::strong_count(wanted) > 1);
        }
        self.peers.entry(peer).or_insert_with(|| {
            self.numbered += 1;
            Arc::new(Wanted::new(self.default.clone(), self.numbered))
        })
    }
}

/// What the game wants for the links to one peer.
#[derive(Debug)]
struct Wanted {
    number: u64,
    /// Whether there is a conditioner.
    any: AtomicBool,
    /// How often it has changed.
    version: AtomicU64,
    conditioner: Mutex<Option<LinkConditioner>>,
}

impl Wanted {
    fn new(conditioner: Option<LinkConditioner>, number: u64) -> Self {
        Self {
            number,
            any: AtomicBool::new(conditioner.is_some()),
            version: AtomicU64::new(0),
            conditioner: Mutex::new(conditioner),
        }
    }

    fn set(&self, conditioner: Option<LinkConditioner>) {
        let mut current = lock(&self.conditioner);
        self.any.store(conditioner.is_some(), Ordering::Release);
        *current = conditioner;
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// What the sockets of one connection share.
#[derive(Debug)]
pub(super) struct Line {
    wanted: Arc<Wanted>,
    connection: ConnectionId,
    /// The zero of the pipes' clock.
    started: Instant,
    /// Whether any socket has had pipes.
    conditioned: AtomicBool,
    ends: Mutex<Ends>,
    socket_gone: Notify,
}

/// The sockets of a line as it ends.
#[derive(Debug, Default)]
struct Ends {
    /// Sockets so far.
    made: u64,
    gone: u64,
    /// What dropped sockets had under way.
    left: Vec<(Arc<dyn AsyncUdpSocket>, Exit)>,
}

impl Line {
    fn new(wanted: Arc<Wanted>, connection: ConnectionId) -> Self {
        Self {
            wanted,
            connection,
            started: Instant::now(),
            conditioned: AtomicBool::new(false),
            ends: Mutex::default(),
            socket_gone: Notify::new(),
        }
    }

    /// Puts a socket behind the conditioner.
    pub(super) fn wrap(self: &Arc<Self>, inner: Arc<dyn AsyncUdpSocket>) -> Conditioned {
        let number = lock(&self.ends).made;
        lock(&self.ends).made += 1;
        Conditioned {
            inner,
            line: self.clone(),
            number,
            engaged: AtomicBool::new(false),
            pipes: Mutex::new(None),
        }
    }

    /// Waits for the sockets to go, and sends what they had under way. Takes [`LINGER`] at most, and
    /// no time where there were no conditions. To be called when the connection is closed.
    pub(super) async fn finish(&self) {
        if self.conditioned.load(Ordering::Acquire) {
            // Whatever is still there then is lost.
            drop(tokio::time::timeout(LINGER, self.drain()).await);
            lock(&self.ends).left.clear();
        }
    }

    async fn drain(&self) {
        loop {
            let gone = self.socket_gone.notified();
            if poll_fn(|cx| Poll::Ready(self.release_left(cx))).await {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(DRAIN_EVERY) => {}
                () = gone => {}
            }
        }
    }

    /// Sends what dropped sockets have to send by now; true if all are dropped and nothing is left.
    fn release_left(&self, cx: &mut Context<'_>) -> bool {
        let mut ends = lock(&self.ends);
        let now = self.now();
        for (socket, exit) in &mut ends.left {
            exit.release(cx, socket.as_ref(), now);
        }
        ends.left.retain(|(_, exit)| !exit.is_empty());
        ends.left.is_empty() && ends.gone == ends.made
    }

    fn now(&self) -> Now {
        let micros = self.started.elapsed().as_micros();
        Now::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// A socket behind the conditioner.
#[derive(Debug)]
pub(super) struct Conditioned {
    inner: Arc<dyn AsyncUdpSocket>,
    line: Arc<Line>,
    /// Among the sockets of its line.
    number: u64,
    /// Whether there are pipes.
    engaged: AtomicBool,
    pipes: Mutex<Option<Box<Pipes>>>,
}

impl Conditioned {
    /// Whether datagrams go straight through.
    fn is_open(&self) -> bool {
        !self.line.wanted.any.load(Ordering::Relaxed) && !self.engaged.load(Ordering::Relaxed)
    }

    /// The pipes as the game wants them by now, if datagrams have to pass any.
    fn engage<'a>(&self, slot: &'a mut Option<Box<Pipes>>) -> Option<&'a mut Pipes> {
        let Line { wanted, connection, conditioned, .. } = self.line.as_ref();
        let version = wanted.version.load(Ordering::Acquire);
        match slot {
            Some(pipes) if pipes.version == version => {}
            Some(pipes) => pipes.set(lock(&wanted.conditioner).clone(), version),
            None => {
                if let Some(conditioner) = lock(&wanted.conditioner).clone() {
                    let numbers = [wanted.number, u64::from(connection.0), self.number];
                    let seed = numbers.into_iter().fold(conditioner.seed, mix_seed);
                    *slot = Some(Box::new(Pipes::new(conditioner, seed, version)));
                    conditioned.store(true, Ordering::Release);
                }
            }
        }
        if slot.as_ref().is_some_and(|pipes| pipes.is_done()) {
            *slot = None;
        }
        self.engaged.store(slot.is_some(), Ordering::Relaxed);
        slot.as_deref_mut()
    }

    /// Reads what the socket has; false if there may be more.
    fn read(
        &self,
        cx: &mut Context<'_>,
        pipes: &mut Pipes,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<bool> {
        for _ in 0..BATCH {
            let Poll::Ready(read) = self.inner.poll_recv(cx, bufs, meta)? else {
                return Ok(true);
            };
            let now = self.line.now();
            for (meta, buffer) in meta.iter().zip(bufs.iter()).take(read) {
                pipes.receive(now, meta, buffer);
            }
        }
        Ok(false)
    }
}

impl AsyncUdpSocket for Conditioned {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if self.is_open() {
            return self.inner.poll_send(cx, transmit);
        }
        let mut slot = lock(&self.pipes);
        let Some(pipes) = self.engage(&mut slot) else {
            return self.inner.poll_send(cx, transmit);
        };
        let now = self.line.now();
        pipes.outgoing.send(now, transmit);
        // Who polls for datagrams comes back to what the socket does not take.
        let mut cx = Context::from_waker(&pipes.receiver);
        pipes.outgoing.release(&mut cx, self.inner.as_ref(), now);
        let next = pipes.outgoing.pipe.next_deadline();
        if next.is_some_and(|next| pipes.armed.is_none_or(|armed| next < armed)) {
            pipes.receiver.wake_by_ref();
        }
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.is_open() {
            return self.inner.poll_recv(cx, bufs, meta);
        }
        let mut slot = lock(&self.pipes);
        loop {
            let Some(pipes) = self.engage(&mut slot) else {
                return self.inner.poll_recv(cx, bufs, meta);
            };
            let all_read = self.read(cx, pipes, bufs, meta)?;
            let now = self.line.now();
            pipes.outgoing.release(cx, self.inner.as_ref(), now);
            if pipes.deliver(now, bufs, meta) {
                return Poll::Ready(Ok(1));
            }
            if !all_read {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if pipes.poll_timer(cx, now).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

impl Drop for Conditioned {
    fn drop(&mut self) {
        let pipes = self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut ends = lock(&self.line.ends);
        ends.gone += 1;
        if let Some(pipes) = pipes {
            let (outgoing, incoming) = (pipes.outgoing.pipe.stats(), pipes.incoming.stats());
            tracing::debug!(?outgoing, ?incoming, "a conditioned socket ends");
            ends.left.push((self.inner.clone(), pipes.outgoing));
        }
        drop(ends);
        self.line.socket_gone.notify_one();
    }
}

/// Every change under these locks is one assignment, so a panic elsewhere leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
