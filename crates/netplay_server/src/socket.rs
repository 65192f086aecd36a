//! A TCP socket that is counted, and that closes so that the last words arrive.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use netplay_protocol::limits::LOBBY_MESSAGE_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::address::Seat;
use crate::server::Alive;

/// How long a closed socket still reads, and how much. Closing with unread bytes makes TCP send a
/// reset, and a reset makes the client's system throw away what it has not read: the reason.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// What carries a connection. As large as a TCP stream alone: most connections are plain ones behind a
/// proxy, and an idle one must be small.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

impl Stream {
    fn pin(&mut self) -> Pin<&mut dyn ReadWrite> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

/// Bytes that come without a whole message: the largest message with the head of a frame for every few bytes.
/// A WebSocket of a client that sends empty parts of a message without end would read on for ever.
const UNFINISHED_MAX: usize = 4 * LOBBY_MESSAGE_MAX;

/// Bytes of a client's ping or pong before what it carries (RFC 6455, section 5.2).
const CONTROL_HEAD: usize = 6;

/// How long a message may take from its first bytes on: half a KiB a second is enough for the largest.
const UNFINISHED_TIME: Duration = Duration::from_secs(30);

/// What a WebSocket and the socket under it tell each other.
#[derive(Default)]
pub(crate) struct Line {
    linger: AtomicBool,
    unfinished: Mutex<Unfinished>,
}

/// What came since the last whole message.
#[derive(Default)]
struct Unfinished {
    bytes: usize,
    since: Option<Instant>,
}

impl Line {
    /// Makes the socket read on when it is dropped.
    pub(crate) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    /// A whole message was read.
    pub(crate) fn finished(&self) {
        *self.lock() = Unfinished::default();
    }

    /// A frame with so many bytes was read that is no part of a message.
    pub(crate) fn between(&self, bytes: usize) {
        let mut unfinished = self.lock();
        unfinished.bytes = unfinished.bytes.saturating_sub(bytes + CONTROL_HEAD);
        if unfinished.bytes == 0 {
            unfinished.since = None;
        }
    }

    /// So many bytes were read.
    fn read(&self, bytes: usize, now: Instant) -> io::Result<()> {
        let mut unfinished = self.lock();
        unfinished.bytes = unfinished.bytes.saturating_add(bytes);
        let since = *unfinished.since.get_or_insert(now);
        let why = if unfinished.bytes > UNFINISHED_MAX {
            "a message has too many parts"
        } else if now.duration_since(since) > UNFINISHED_TIME {
            "a message takes too long"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }

    fn lock(&self) -> MutexGuard<'_, Unfinished> {
        // Nothing between lock and unlock panics. One task has both sides: nobody waits.
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(crate) struct Socket {
    stream: Option<Stream>,
    line: Arc<Line>,
    held: Option<(Seat, Alive)>,
}

impl Socket {
    pub(crate) fn new(stream: Stream, line: Arc<Line>, seat: Seat, alive: Alive) -> Self {
        Self { stream: Some(stream), line, held: Some((seat, alive)) }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut dyn ReadWrite>> {
        let stream = self.stream.as_mut().map(Stream::pin);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take()
            && let Some(held) = self.held.take()
            && self.line.linger.load(Ordering::Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(drain(stream, held));
        }
    }
}

async fn drain(mut stream: Stream, (seat, mut alive): (Seat, Alive)) {
    let read = async {
        let mut stream = stream.pin();
        stream.shutdown().await?;
        let mut buffer = [0; 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        io::Result::Ok(())
    };
    tokio::select! {
        // Whether the client was polite does not matter.
        _ = read => {}
        () = tokio::time::sleep(LINGER) => {}
        () = alive.stopped() => {}
    }
    drop(seat);
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.stream()?.poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        Poll::Ready(if read > 0 { self.line.read(read, Instant::now()) } else { Ok(()) })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_bytes_and_its_time_and_the_next_one_too() {
        let (line, began) = (Line::default(), Instant::now());
        let at = |secs| began + Duration::from_secs(secs);
        for _ in 0..2 {
            line.read(UNFINISHED_MAX, at(0)).unwrap();
            assert!(line.read(1, at(0)).is_err());
            line.finished();
            line.read(1, at(0)).unwrap();
            line.read(1, at(30)).unwrap();
            assert!(line.read(1, at(31)).is_err());
            line.finished();
            line.read(1, at(99)).expect("nothing had begun");
            line.finished();
        }
    }

    #[test]
    fn a_ping_is_no_part_of_a_message_and_ends_none() {
        let (line, began) = (Line::default(), Instant::now());
        let at = |secs| began + Duration::from_secs(secs);
        line.read(6 + 2, at(0)).unwrap();
        line.between(2);
        line.read(10, at(60)).expect("nothing but a ping had come");
        line.read(6, at(80)).unwrap();
        line.between(0);
        assert!(line.read(1, at(91)).is_err());
    }

    #[test]
    fn that_there_is_tls_makes_no_plain_connection_larger() {
        assert_eq!(size_of::<Option<Stream>>(), size_of::<TcpStream>());
    }
}
