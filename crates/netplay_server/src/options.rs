//! The program's options: flags count over the environment, that over a file, and that over the defaults.
//!
//! One struct is all of them. What is not given is `None`, so that the next source is asked; clap puts flags over
//! the environment, and [`Options::over`] the rest. The defaults are those of [`ServerConfig`].

mod file;
mod listed;
mod print;
mod rates;
mod times;

use core::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser};
use netplay_server::key_file::{self, KeyError};
use netplay_server::{
    AddressBlock, AdminConfig, DEFAULT_PORT, JwtConfig, JwtKeys, Key, Origin, ServerConfig,
    TlsFiles,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use print::commented;
use rates::Rates;
use times::Times;

/// Introduces the players of Netplay games to each other. After that, they talk directly. Games with
/// matchbox_socket 0.15 can use it too: ws://ADDRESS:PORT/room?next=2.
///
/// The first line on stdout says where it listens; logs go to stderr. RUST_LOG sets how much is
/// logged (error, warn, info, debug, trace; default info). GET /health answers with its state,
/// GET /ready with 200 while another player would be let in. SIGTERM stops it, and SIGHUP makes it read its
/// certificate and the keys for JWTs again. Each option can be in the environment or in a file too: flags count over
/// the environment, that over the file, and that over the defaults.
#[derive(Clone, Debug, Default, PartialEq, Parser, Serialize, Deserialize)]
#[command(name = "netplay-server", version, allow_negative_numbers = true)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// A file with options, in TOML; --print-config shows how it looks. Paths in it are as if they were given as
    /// flags.
    #[arg(long, value_name = "FILE", env = "NETPLAY_CONFIG")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Prints a file with every option, its default and what it is for, and ends.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) print_config: bool,

    /// Where to listen: 0.0.0.0:3536 lets other machines in, port 0 takes a free port. The default lets in who
    /// is on this machine, until somebody decides otherwise.
    #[arg(long, value_name = "ADDRESS:PORT", env = "NETPLAY_BIND")]
    pub(crate) bind: Option<SocketAddr>,
    /// The server's certificate, and those that lead to a root, in PEM: connections are encrypted (wss://). It is
    /// read again at SIGHUP. Without it connections are plain, as behind a proxy that encrypts.
    #[arg(long, value_name = "FILE", env = "NETPLAY_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "NETPLAY_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The file with the key that signs players' resume tokens; made if it is not there. A server that is
    /// started again with the same key takes up the players and lobbies of before. "none": a key of this
    /// start only. Without it, netplay-server/key in the user's state directory, or key in the one of systemd.
    #[arg(long, value_name = "FILE", env = "NETPLAY_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// Where counts are shown (GET /metrics, for Prometheus), lobbies are managed (GET /lobbies, DELETE
    /// /lobbies/CODE, DELETE /lobbies/CODE/members/PEER?ban=true), accounts are banned (GET /bans, PUT and DELETE
    /// /bans/ACCOUNT), join tickets are issued (POST /tickets), and the server is told to stop (POST /drain; GET
    /// /ready).
    /// Plain HTTP. Without it, nowhere.
    #[arg(long, value_name = "ADDRESS:PORT", env = "NETPLAY_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// The file with the token that these requests need, as "Authorization: Bearer TOKEN". Without it only the
    /// loopback address may be used.
    #[arg(long, value_name = "FILE", env = "NETPLAY_ADMIN_TOKEN")]
    pub(crate) admin_token: Option<PathBuf>,

    /// Lets in only players who show who they are, by a JWT or a join ticket (POST /tickets at the admin address).
    /// By default that is for each player to choose.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "NETPLAY_LOGIN_REQUIRED")]
    pub(crate) login_required: Option<bool>,
    /// The file with the secret that signs players' JWTs (HS256, HS384, HS512), 32 bytes at least. Who issues them
    /// has it too.
    #[arg(long, value_name = "FILE", env = "NETPLAY_JWT_SECRET")]
    pub(crate) jwt_secret: Option<PathBuf>,
    /// The file with the public keys that players' JWTs are signed with, as a JSON Web Key Set (RS*, PS*, ES256,
    /// ES384, EdDSA). It is read again at SIGHUP.
    #[arg(long, value_name = "FILE", env = "NETPLAY_JWT_KEYS")]
    pub(crate) jwt_keys: Option<PathBuf>,
    /// Who must have issued a JWT (its claim iss). Without it anybody who has a key.
    #[arg(long, value_name = "TEXT", env = "NETPLAY_JWT_ISSUER")]
    pub(crate) jwt_issuer: Option<String>,
    /// For whom a JWT must be (its claim aud). Without it for anybody: give one where the same keys sign for other
    /// services too.
    #[arg(long, value_name = "TEXT", env = "NETPLAY_JWT_AUDIENCE")]
    pub(crate) jwt_audience: Option<String>,

    /// A web page that may connect, as its address begins: https://game.example; several times for several. Who
    /// is no web page may always. With none all pages may: a game is often served from many places while it is
    /// made.
    #[arg(long, value_name = "ORIGIN", env = "NETPLAY_ORIGIN", value_delimiter = ',')]
    pub(crate) origin: Option<Vec<Origin>>,
    /// A proxy whose X-Forwarded-For says where a connection comes from, so that the limits per address hold for
    /// players and not for the proxy; several times for several. With none, that header is not read: anybody
    /// could write it.
    #[arg(long, value_name = "ADDRESS[/BITS]", env = "NETPLAY_TRUST_PROXY", value_delimiter = ',')]
    pub(crate) trust_proxy: Option<Vec<AddressBlock>>,

    /// Players at most. Each is an open file and about 8 KiB; the default is what one slow core serves. Twice as
    /// many may be remembered, those who are away for a moment included.
    #[arg(long, value_name = "N", env = "NETPLAY_MAX_CONNECTIONS")]
    pub(crate) max_connections: Option<usize>,
    /// Lobbies at most. Each has a player who is connected or remembered, so that the default is no limit.
    #[arg(long, value_name = "N", env = "NETPLAY_MAX_LOBBIES")]
    pub(crate) max_lobbies: Option<usize>,
    /// Connections of one address at most, an IPv6 /64 counting as one: enough for a LAN party, a school or a
    /// small provider, too few for one machine to fill the server. The loopback address has no limit.
    #[arg(long, value_name = "N", env = "NETPLAY_MAX_PER_ADDRESS")]
    pub(crate) max_per_address: Option<usize>,
    /// Players of one address, an IPv6 /64 counting as one, who are remembered without a connection; of more, the one
    /// is forgotten that has been away longest. Whoever connects and goes without end would fill the server.
    #[arg(long, value_name = "N", env = "NETPLAY_OFFLINE_PER_ADDRESS")]
    pub(crate) offline_per_address: Option<usize>,
    /// New connections of one address in a second, when it has used up its burst. Who opens and closes without
    /// end does not keep the server from others.
    #[arg(long, value_name = "N", env = "NETPLAY_CONNECTIONS_PER_SECOND")]
    pub(crate) connections_per_second: Option<u32>,
    /// New connections of one address at once: all that it may have come back together after a restart, and
    /// perhaps once more.
    #[arg(long, value_name = "N", env = "NETPLAY_CONNECTIONS_BURST")]
    pub(crate) connections_burst: Option<u32>,
    /// Sessions of one account at most: a computer, a phone, and one that has just lost its connection.
    #[arg(long, value_name = "N", env = "NETPLAY_SESSIONS_PER_ACCOUNT")]
    pub(crate) sessions_per_account: Option<u32>,
    /// How many connections are closed in a second when the server stops. Their players come back at once, to the
    /// next server, and this is half of what one takes.
    #[arg(long, value_name = "N", env = "NETPLAY_BACK_PER_SECOND")]
    pub(crate) back_per_second: Option<u32>,
    /// Players with matchbox_socket at most, beside the others: neither kind crowds out the other.
    #[arg(long, value_name = "N", env = "NETPLAY_MATCHBOX_PEERS")]
    pub(crate) matchbox_peers: Option<usize>,
    /// Rooms of matchbox players at most. Each has a player, so that the default is no limit.
    #[arg(long, value_name = "N", env = "NETPLAY_MATCHBOX_ROOMS")]
    pub(crate) matchbox_rooms: Option<usize>,
    /// Players in one of these rooms at most: a full mesh of 64 is beyond any home's uplink.
    #[arg(long, value_name = "N", env = "NETPLAY_MATCHBOX_ROOM_PEERS")]
    pub(crate) matchbox_room_peers: Option<usize>,
    // These two are read by themselves: what serde flattens has lost its line.
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) times: Times,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) rates: Rates,
}

/// Why options cannot be used.
#[derive(Debug, Error)]
pub(crate) enum OptionsError {
    #[error("the file with options {} cannot be read: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("{}, line {line}: {text}", path.display())]
    Malformed { path: PathBuf, line: usize, text: String },
    #[error("{}, line {line}: there is no option {name:?}; {advice}", path.display())]
    Unknown { path: PathBuf, line: usize, name: String, advice: String },
    #[error("--{given} needs --{missing} FILE too: a certificate is used with its private key")]
    HalfOfTls { given: &'static str, missing: &'static str },
    #[error("--admin-token needs --admin ADDRESS:PORT too, which is where the token is asked for")]
    TokenWithoutAdmin,
    #[error("the file with a secret {} cannot be used: {why}", path.display())]
    Secret { path: PathBuf, why: String },
    #[error("--jwt-secret and --jwt-keys are two ways to sign JWTs: give one of them")]
    TwoKindsOfKeys,
    #[error("--{given} needs --jwt-secret FILE or --jwt-keys FILE too, by which JWTs are known")]
    ClaimWithoutKeys { given: &'static str },
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}

impl Options {
    /// Flags and the environment; a wrong one, or `--help`, ends the program.
    pub(crate) fn from_flags() -> Self {
        let matches = print::with_defaults(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// What is given in the file too.
    pub(crate) fn with_file(self) -> Result<Self, OptionsError> {
        match &self.config {
            None => Ok(self),
            Some(path) => {
                let file = file::read(path)?;
                Ok(self.over(file))
            }
        }
    }

    /// These options; where they say nothing, the others.
    fn over(self, others: Self) -> Self {
        macro_rules! over {
            ($($option:ident),*) => {
                Self {
                    config: self.config,
                    print_config: self.print_config,
                    rates: self.rates.over(others.rates),
                    times: self.times.over(others.times),
                    $($option: self.$option.or(others.$option)),*
                }
            };
        }
        // The compiler finds what is missing here.
        over!(
            bind,
            tls_cert,
            tls_key,
            key,
            admin,
            admin_token,
            login_required,
            jwt_secret,
            jwt_keys,
            jwt_issuer,
            jwt_audience,
            origin,
            trust_proxy,
            max_connections,
            max_lobbies,
            max_per_address,
            offline_per_address,
            connections_per_second,
            connections_burst,
            sessions_per_account,
            back_per_second,
            matchbox_peers,
            matchbox_rooms,
            matchbox_room_peers
        )
    }

    /// What is used where nothing is given.
    fn defaults() -> Self {
        let config = ServerConfig::at(SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)));
        let lobby = &config.lobby;
        Self {
            rates: Rates::of(&config),
            times: Times::of(&config),
            bind: Some(config.bind),
            origin: Some(config.origins),
            trust_proxy: Some(config.trusted_proxies),
            max_connections: Some(lobby.max_connections),
            max_lobbies: Some(lobby.max_lobbies),
            max_per_address: Some(config.max_per_address),
            offline_per_address: Some(lobby.offline_per_address),
            connections_per_second: Some(config.new_per_address.per_second),
            connections_burst: Some(config.new_per_address.burst),
            login_required: Some(lobby.login_required),
            sessions_per_account: Some(lobby.sessions_per_account),
            back_per_second: Some(config.back_per_second),
            matchbox_peers: Some(lobby.rooms.max_peers),
            matchbox_rooms: Some(lobby.rooms.max_rooms),
            matchbox_room_peers: Some(lobby.rooms.max_room_peers),
            ..Self::default()
        }
    }

    /// The server that these options mean. Reads the files that they name, and makes that of the key.
    pub(crate) fn server(self) -> Result<ServerConfig, OptionsError> {
        let options = self.over(Self::defaults());
        let mut config = ServerConfig {
            key: options.key()?,
            admin: options.admin()?,
            tls: options.tls()?,
            jwt: options.jwt()?,
            ..ServerConfig::default()
        };
        set(&mut config.bind, options.bind);
        set(&mut config.origins, options.origin);
        set(&mut config.trusted_proxies, options.trust_proxy);
        set(&mut config.max_per_address, options.max_per_address);
        set(&mut config.new_per_address.per_second, options.connections_per_second);
        set(&mut config.new_per_address.burst, options.connections_burst);
        set(&mut config.back_per_second, options.back_per_second);
        let lobby = &mut config.lobby;
        set(&mut lobby.max_connections, options.max_connections);
        lobby.max_sessions = lobby.max_connections.saturating_mul(2);
        set(&mut lobby.max_lobbies, options.max_lobbies);
        set(&mut lobby.offline_per_address, options.offline_per_address);
        set(&mut lobby.login_required, options.login_required);
        set(&mut lobby.sessions_per_account, options.sessions_per_account);
        set(&mut lobby.rooms.max_peers, options.matchbox_peers);
        set(&mut lobby.rooms.max_rooms, options.matchbox_rooms);
        set(&mut lobby.rooms.max_room_peers, options.matchbox_room_peers);
        options.rates.put(&mut config);
        options.times.put(&mut config);
        Ok(config)
    }

    /// The key to use, if it is to outlive this start.
    fn key(&self) -> Result<Option<Key>, KeyError> {
        match &self.key {
            Some(path) if path.as_os_str() == "none" => Ok(None),
            Some(path) => key_file::load_or_create(path).map(Some),
            None => {
                let Some(path) = key_file::default_path() else { return Ok(None) };
                Ok(key_file::load_or_create(&path)
                    .inspect_err(|error| {
                        tracing::warn!(%error, "players will not be taken up after a restart");
                    })
                    .ok())
            }
        }
    }

    fn tls(&self) -> Result<Option<TlsFiles>, OptionsError> {
        let half = |given, missing| Err(OptionsError::HalfOfTls { given, missing });
        match (self.tls_cert.clone(), self.tls_key.clone()) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
            (Some(_), None) => half("tls-cert", "tls-key"),
            (None, Some(_)) => half("tls-key", "tls-cert"),
        }
    }

    fn jwt(&self) -> Result<Option<JwtConfig>, OptionsError> {
        let (issuer, audience) = (self.jwt_issuer.clone(), self.jwt_audience.clone());
        let keys = match (&self.jwt_secret, &self.jwt_keys) {
            (Some(_), Some(_)) => return Err(OptionsError::TwoKindsOfKeys),
            (Some(path), None) => JwtKeys::Secret(secret(path)?.into_bytes()),
            (None, Some(path)) => JwtKeys::Jwks(path.clone()),
            (None, None) if issuer.is_some() => {
                return Err(OptionsError::ClaimWithoutKeys { given: "jwt-issuer" });
            }
            (None, None) if audience.is_some() => {
                return Err(OptionsError::ClaimWithoutKeys { given: "jwt-audience" });
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(JwtConfig { keys, issuer, audience }))
    }

    fn admin(&self) -> Result<Option<AdminConfig>, OptionsError> {
        let Some(bind) = self.admin else {
            return self
                .admin_token
                .as_ref()
                .map_or(Ok(None), |_| Err(OptionsError::TokenWithoutAdmin));
        };
        let token = self.admin_token.as_deref().map(secret).transpose()?;
        Ok(Some(AdminConfig { bind, token }))
    }
}

fn secret(path: &Path) -> Result<String, OptionsError> {
    let wrong = |why: String| OptionsError::Secret { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    match text.trim() {
        "" => Err(wrong("it is empty".to_owned())),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn what_is_said_counts_over_what_is_said_below() {
        let times = Times { grace: "7".parse().ok(), ..Times::default() };
        let file = Options { times, ..Options::default() };
        let bind = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let flags = Options { bind, max_lobbies: Some(3), ..Options::default() };
        let file = Options { max_lobbies: Some(4), ..file };
        let merged = flags.over(file);
        assert_eq!((merged.max_lobbies, merged.bind), (Some(3), bind));
        let config = Options { key: Some("none".into()), ..merged }.server().unwrap();
        assert_eq!((config.lobby.max_lobbies, config.lobby.grace), (3, Duration::from_secs(7)));
        assert_eq!(config.write_timeout, ServerConfig::default().write_timeout);
    }

    #[test]
    fn without_options_a_server_is_as_the_library_has_it() {
        let options = Options { key: Some("none".into()), ..Options::default() };
        let bind = SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT));
        assert_eq!(options.server().unwrap(), ServerConfig::at(bind));
    }

    #[test]
    fn half_of_what_belongs_together_is_refused_with_what_is_missing() {
        let none = Options { key: Some("none".into()), ..Options::default() };
        for (options, missing) in [
            (Options { tls_cert: Some("c".into()), ..none.clone() }, "--tls-key FILE"),
            (Options { tls_key: Some("k".into()), ..none.clone() }, "--tls-cert FILE"),
            (Options { admin_token: Some("t".into()), ..none.clone() }, "--admin ADDRESS:PORT"),
            (Options { jwt_issuer: Some("i".into()), ..none.clone() }, "--jwt-keys FILE"),
            (Options { jwt_audience: Some("a".into()), ..none }, "--jwt-secret FILE"),
        ] {
            let error = options.server().unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }
}
