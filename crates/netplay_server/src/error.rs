//! Why a server does not start.

use core::net::SocketAddr;
use std::io;

use thiserror::Error;

use crate::login::JwtError;
use crate::tls::TlsError;

/// Why a server does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "{0} is in use by another program; stop that program, or listen on another port \
         (port 0 takes a free one)"
    )]
    InUse(SocketAddr),
    /// No network interface has this address.
    #[error("this machine has no address {}; 0.0.0.0 listens on all it has", .0.ip())]
    NoSuchAddress(SocketAddr),
    /// The system does not allow it.
    #[error("listening on {0} is not allowed; ports below 1024 often need a privilege")]
    Denied(SocketAddr),
    /// Who reaches the admin address manages all lobbies.
    #[error(
        "the admin address {0} is not the loopback address, and would be open to everybody: give a token"
    )]
    AdminWithoutToken(SocketAddr),
    /// The keys for JWTs cannot be used.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// Another error of the system.
    #[error("listening on {address} failed: {text}")]
    Io {
        /// Where.
        address: SocketAddr,
        /// What kind of error.
        kind: io::ErrorKind,
        /// What the system says.
        text: String,
    },
    /// The system gives no random numbers, without which ids and tokens could be guessed.
    #[error("the operating system gives no random numbers: {0}")]
    Random(String),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The runtime or its thread cannot be started.
    #[error("the server's thread cannot be started: {0}")]
    Thread(String),
}

impl BindError {
    pub(crate) fn of(address: SocketAddr, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress(address),
            io::ErrorKind::PermissionDenied => Self::Denied(address),
            kind => Self::Io { address, kind, text: error.to_string() },
        }
    }
}
