//! The [`webrtc::runtime::Runtime`] that our connections run on: tokio's, with sockets that we own.
//!
//! The kernel's default socket buffers (about 208 KiB) are smaller than SCTP's window (1 MiB), so a
//! burst loses 2–12 % of its packets; see the table of traps in the crate's documentation. This is
//! also where the link conditioner sits.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use super::conditioner::{Conditioned, Line};

/// Asked for, in each direction; the kernel gives what its limit allows.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// Datagrams of DTLS that each socket sends twice: those of the handshakes of DTLS, SCTP and ours.
/// A lost one costs a second, because the library's timers are fixed; or the whole attempt, because
/// a repetition of one side cancels the other side's timer. The receiver drops copies by number.
const REPEATED: u32 = 16;
/// Later than most bursts of loss, and sooner than anybody notices.
const REPEAT_AFTER: Duration = Duration::from_millis(10);
/// Datagrams that the library may read before our readers get their turn. Its queue of received media
/// packets holds 256, and each that does not fit is lost and logged as an error; a process that was
/// stopped finds more than that in its socket, and much else to do: the library may get several turns
/// before a reader gets one. At 64 the queue overflowed in two of three runs of all tests.
const IN_A_ROW: u32 = 16;
/// First bytes of DTLS records (RFC 7983).
const DTLS: core::ops::RangeInclusive<u8> = 20..=63;

/// The runtime of one connection.
#[derive(Debug)]
pub(super) struct IoRuntime {
    /// Where its sockets belong to.
    pub(super) line: Arc<Line>,
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for IoRuntime {
    fn spawn(&self, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = SockRef::from(&socket);
        // Larger buffers are better, not necessary: a kernel that refuses is no reason to fail.
        if let Err(error) = options
            .set_recv_buffer_size(SOCKET_BUFFER)
            .and_then(|()| options.set_send_buffer_size(SOCKET_BUFFER))
        {
            tracing::debug!(%error, "socket buffers stay at the system's default");
        }
        let options = socket.try_clone()?;
        // Below the copies, which are lost like any datagram.
        let inner = Arc::new(self.line.wrap(TokioRuntime.wrap_udp_socket(socket)?));
        let gro_segments = if gro_off(&options) { 1 } else { inner.max_gro_segments() };
        Ok(Arc::new(Repeating {
            inner,
            left: AtomicU32::new(REPEATED),
            gro_segments,
            in_a_row: AtomicU32::new(0),
        }))
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote: SocketAddr,
    ) -> BoxFuture<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "netplay"
    }
}

/// Switches generic receive offload off, which the library's socket has switched on; true if it is
/// off now. The library keeps two receive buffers per connection that hold as many datagrams as the
/// kernel may merge: 96 KiB each. A game's datagrams come one by one and are never merged.
#[cfg(target_os = "linux")]
fn gro_off(socket: &std::net::UdpSocket) -> bool {
    use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};
    setsockopt(socket, UdpGroSegment, &false).is_ok()
}

/// There is none.
#[cfg(not(target_os = "linux"))]
fn gro_off(_socket: &std::net::UdpSocket) -> bool {
    false
}

/// A socket that sends the first datagrams of a connection twice, and is read in portions.
#[derive(Debug)]
struct Repeating {
    inner: Arc<Conditioned>,
    left: AtomicU32,
    gro_segments: usize,
    /// Datagrams read without a pause.
    in_a_row: AtomicU32,
}

impl Repeating {
    fn repeats(&self, transmit: &Transmit<'_>) -> bool {
        let dtls = transmit.contents.first().is_some_and(|first| DTLS.contains(first));
        dtls && transmit.segment_size.is_none()
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }
}

impl AsyncUdpSocket for Repeating {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let result = self.inner.poll_send(cx, transmit);
        if matches!(result, Poll::Ready(Ok(_))) && self.repeats(transmit) {
            let (socket, to) = (self.inner.clone(), transmit.destination);
            let copy = transmit.contents.to_vec();
            tokio::spawn(async move {
                tokio::time::sleep(REPEAT_AFTER).await;
                // A copy may be lost as any datagram.
                drop(socket.send_to(&copy, to).await);
            });
        }
        result
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.in_a_row.load(Ordering::Relaxed) >= IN_A_ROW {
            self.in_a_row.store(0, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let result = self.inner.poll_recv(cx, bufs, meta);
        let in_a_row = match result {
            Poll::Ready(_) => self.in_a_row.load(Ordering::Relaxed) + 1,
            Poll::Pending => 0,
        };
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        result
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.gro_segments
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Instant;

    use netplay_peer::link::driver::ConnectionId;
    use netplay_protocol::PeerId;

    use super::super::conditioner::Conditioners;
    use super::*;

    #[test]
    fn a_socket_with_much_to_read_gives_others_their_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let line = Conditioners::new(None).line(PeerId::from_u128(1), ConnectionId(1));
        let io = IoRuntime { line };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let socket = io.wrap_udp_socket(socket).unwrap();
        for _ in 0..3 * IN_A_ROW / 2 {
            sender.send_to(b"datagram", address).unwrap();
        }
        let read_in_a_row = || {
            let mut context = Context::from_waker(Waker::noop());
            let mut bytes = [0; 64];
            let mut meta = [RecvMeta::default()];
            let mut count = 0;
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            while socket.poll_recv(&mut context, &mut buffers, &mut meta).is_ready() {
                count += 1;
            }
            count
        };
        let until = Instant::now() + Duration::from_secs(5);
        let mut turns = Vec::new();
        while turns.iter().sum::<u32>() < 3 * IN_A_ROW / 2 && Instant::now() < until {
            // Readiness comes with a turn of the runtime.
            runtime.block_on(tokio::task::yield_now());
            turns.push(read_in_a_row());
        }
        assert_eq!(turns.iter().sum::<u32>(), 3 * IN_A_ROW / 2, "{turns:?}");
        assert!(turns.iter().all(|turn| *turn <= IN_A_ROW), "{turns:?}");
        assert!(turns.contains(&IN_A_ROW), "{turns:?}");
    }
}
