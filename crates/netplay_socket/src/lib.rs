//! A player's WebSocket to the server, by `ws` or `wss`, on tokio.
//!
//! A client opens one [`Sockets::open`] after the other and hears of the present one by [`Arrival`]s in its own
//! queue; what an earlier one still says is not let through ([`Sockets::take`]).
//!
//! Guaranteed: every queue and frame is bounded; the last thing that a socket tells is
//! [`SocketEvent::Closed`]. By `wss` the server has a certificate for its name and for today, of an authority that
//! browsers trust too, or of one that the game brings along.
//!
//! Not guaranteed: that a text arrives which [`Sockets::send`] took. Nothing here tries again: the pure clients
//! in `netplay_peer` do.

#![forbid(unsafe_code)]

mod socket;
mod tls;

use netplay_protocol::ServerAddress;
use thiserror::Error;

pub use socket::{Arrival, SocketEvent, Sockets};
use tls::Tls;

/// Where the server is, and how it is reached. Clones share what resumes a session of TLS.
#[derive(Clone)]
pub struct Server {
    address: ServerAddress,
    /// How to encrypt, if it is `wss`.
    tls: Option<Tls>,
}

/// Why a server cannot be reached, whatever the network does.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServerError {
    /// No certificate can be for this host.
    #[error("no certificate can be for the host {0:?}, and wss needs one")]
    Host(String),
    /// The certificates that the game brings along cannot be used.
    #[error("the certificates to trust cannot be used: {0}")]
    Certificate(String),
}

impl Server {
    /// `trusted`: certificates in PEM to trust besides those of the authorities that browsers know. For `wss` only.
    ///
    /// # Errors
    /// [`ServerError`]. Nothing is opened yet.
    pub fn new(address: ServerAddress, trusted: Option<&[u8]>) -> Result<Self, ServerError> {
        let tls = address.is_encrypted().then(|| Tls::new(&address, trusted)).transpose()?;
        Ok(Self { address, tls })
    }

    /// Its address.
    pub const fn address(&self) -> &ServerAddress {
        &self.address
    }
}
