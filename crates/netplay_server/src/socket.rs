//! A TCP socket that is counted, and that closes so that the last words arrive.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// See the module.
pub(crate) struct Socket {
    stream: Option<Stream>,
    linger: Arc<AtomicBool>,
    held: Option<(Seat, Alive)>,
}

impl Socket {
    /// If `linger` is set when the socket is dropped, it reads on for a while.
    pub(crate) fn new(stream: Stream, linger: Arc<AtomicBool>, seat: Seat, alive: Alive) -> Self {
        Self { stream: Some(stream), linger, held: Some((seat, alive)) }
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
            && self.linger.load(Ordering::Relaxed)
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
        self.stream()?.poll_read(cx, buf)
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
    fn that_there_is_tls_makes_no_plain_connection_larger() {
        assert_eq!(size_of::<Option<Stream>>(), size_of::<TcpStream>());
    }
}
