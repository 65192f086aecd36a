//! How many files, which sockets are, the system lets this process have, and what happens when they are used up.

use core::future::poll_fn;
use core::task::Poll;
use std::fs::File;
use std::io;

use tokio::net::TcpListener;

/// Raises the soft limit of open files, which is 1024 on most systems, to the hard one, which only the
/// administrator raises. Gives what it is now, if the system says.
#[cfg(unix)]
pub fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub fn raise_limit() -> Option<u64> {
    None
}

/// The soft limit of open files, if there is one.
#[cfg(unix)]
pub(crate) fn limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
pub(crate) fn limit() -> Option<u64> {
    None
}

/// Whether this process, or the system, can open no more files.
#[cfg(unix)]
pub(crate) fn are_used_up(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
}

#[cfg(not(unix))]
pub(crate) fn are_used_up(_: &io::Error) -> bool {
    false
}

/// A file that is open for nothing: given up for a moment, it makes room for a socket that can only be closed
/// when it has been accepted.
pub(crate) struct SpareFile(Option<File>);

impl SpareFile {
    pub(crate) fn open() -> Self {
        Self(File::open(if cfg!(windows) { "NUL" } else { "/dev/null" }).ok())
    }

    /// Closes the socket that waits to be accepted. Whether there was one: the system looks for a file first, and
    /// says that there is none even if nobody waits.
    ///
    /// # Errors
    /// It could not be accepted.
    pub(crate) async fn shed(&mut self, listener: &TcpListener) -> io::Result<bool> {
        drop(self.0.take());
        let accepted = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await;
        let shed = match accepted {
            Poll::Ready(Ok((socket, _))) => {
                drop(socket);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(false),
        };
        *self = Self::open();
        shed
    }
}
