//! Limits and times of the sockets, each with its reason.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;

use netplay_lobby::{Config, Key, RateLimit};

use crate::login::JwtConfig;
use crate::origin::Origin;
use crate::proxies::AddressBlock;
use crate::tls::TlsFiles;

/// The port of the program when none is given.
pub const DEFAULT_PORT: u16 = 3536;

/// How a server listens and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// The certificate that connections are encrypted with; by default none: connections are plain.
    pub tls: Option<TlsFiles>,
    /// Whose `X-Forwarded-For` says which address a connection is from: that one's limits hold for it then, not
    /// the proxy's. By default nobody's. The header of others is not read.
    pub trusted_proxies: Vec<AddressBlock>,
    /// The web pages that may connect. Programs that do not say that they are a page, by a header `Origin`, may
    /// all; and so may all pages if there is none here, which is the default.
    pub origins: Vec<Origin>,
    /// Limits and times of sessions, lobbies and rooms.
    pub lobby: Config,
    /// Signs resume tokens. A server with the key of the one before takes up its players and lobbies; by
    /// default each start has its own.
    pub key: Option<Key>,
    /// Sockets of one address at most, IPv6 by /64. Enough for a LAN party, a school or a small
    /// provider behind one address; too few for one machine to fill the server.
    pub max_per_address: usize,
    /// New connections of one address, IPv6 by /64. As many players as it may have come back at once after
    /// a restart, and perhaps once more; one machine that opens and closes connections without end does not
    /// keep the server from others.
    pub new_per_address: RateLimit,
    /// Bytes of messages of one address, IPv6 by /64: 250 players behind it who all connect to fifteen others send
    /// 26 MB. Who goes over is read no faster.
    pub address_bytes: RateLimit,
    /// Whether these limits hold for the loopback address too. Off, because tests, load generators
    /// and proxies on the same machine share it.
    pub limit_loopback: bool,
    /// How long a request may take from the open socket to the WebSocket. `hello` has its own
    /// deadline in [`Config::hello_timeout`].
    pub handshake_timeout: Duration,
    /// How long one frame may wait for a client that does not read. A mobile link that changes
    /// masts stalls for a few seconds.
    pub write_timeout: Duration,
    /// Frames that wait for one client at most, those of a resume excepted (its log bounds them). Who enters a
    /// lobby of 16 is sent about 330 signals within moments; and when the server itself stands still for a second,
    /// as virtual machines do, what waits then is not the client's fault.
    pub outgoing_frames: usize,
    /// Bytes that wait for one client at most: signals have 0.3 to 4 KiB, so that 64 of the largest
    /// are as many.
    pub outgoing_bytes: usize,
    /// Frames that wait for one matchbox player at most. When it enters a room of 64, the 63 others send
    /// about 22 signals each within moments; and unlike our own players it cannot take up a socket that
    /// was closed.
    pub room_outgoing_frames: usize,
    /// Bytes that wait for one matchbox player at most: a stock offer has 0.6 KiB and a candidate 0.25, so
    /// that the same signals are about 350 KiB.
    pub room_outgoing_bytes: usize,
    /// Which JWTs show who a player is; by default none. Whether a login is needed at all is
    /// [`Config::login_required`].
    pub jwt: Option<JwtConfig>,
    /// Where counts are shown and lobbies are managed; by default nowhere.
    pub admin: Option<AdminConfig>,
    /// How many connections are closed a second when the server stops: their players come back at once, to the
    /// server that is started next or runs beside it. Half of what one takes.
    pub back_per_second: u32,
}

/// An address for who runs the server: `GET /metrics` (Prometheus), `GET /lobbies?after=CODE`,
/// `GET /lobbies/CODE`, `DELETE /lobbies/CODE`, `DELETE /lobbies/CODE/members/PEER?ban=true`, `POST /tickets`, `GET /bans`,
/// `PUT /bans/ACCOUNT?secs=3600`, `DELETE /bans/ACCOUNT`. Plain HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where to listen. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// What requests need, as `Authorization: Bearer TOKEN`. Only the loopback address needs none.
    pub token: Option<String>,
}

impl core::fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("AdminConfig").field("bind", &self.bind).field("token", &token).finish()
    }
}

impl Default for ServerConfig {
    /// A free port of the loopback address.
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            trusted_proxies: Vec::new(),
            origins: Vec::new(),
            lobby: Config::default(),
            key: None,
            max_per_address: 256,
            new_per_address: RateLimit { burst: 512, per_second: 50 },
            address_bytes: RateLimit { burst: 32 << 20, per_second: 4 << 20 },
            limit_loopback: false,
            handshake_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            outgoing_frames: 512,
            outgoing_bytes: 256 * 1024,
            room_outgoing_frames: 1500,
            room_outgoing_bytes: 512 * 1024,
            jwt: None,
            admin: None,
            back_per_second: 2000,
        }
    }
}

impl ServerConfig {
    /// The defaults, at this address.
    pub fn at(bind: SocketAddr) -> Self {
        Self { bind, ..Self::default() }
    }
}
