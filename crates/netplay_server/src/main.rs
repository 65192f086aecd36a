//! `netplay-server`: the lobby server as a program.
//!
//! The first line on stdout is `listening on ws://ADDRESS`; logs go to stderr. SIGTERM and Ctrl-C
//! stop it with exit code 0, when it has closed its connections, 2000 a second; what keeps it from starting is one line on stderr and exit code 1. After a
//! restart, even by `kill -9`, players and lobbies are taken up again: see `--key`.

use core::net::SocketAddr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use netplay_server::key_file::{self, KeyError};
use netplay_server::{AdminConfig, DEFAULT_PORT, Key, Server, ServerConfig};
use tracing_subscriber::EnvFilter;

/// Introduces the players of Netplay games to each other. After that, they talk directly. Games with
/// matchbox_socket 0.15 can use it too: ws://ADDRESS:PORT/room?next=2.
///
/// The first line on stdout says where it listens; logs go to stderr. RUST_LOG sets how much is
/// logged (error, warn, info, debug, trace; default info). GET /health answers with its state,
/// GET /ready with 200 while another player would be let in.
#[derive(Parser)]
#[command(name = "netplay-server", version)]
struct Arguments {
    /// Where to listen: 0.0.0.0:3536 lets other machines in, port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)))]
    bind: SocketAddr,
    /// The file with the key that signs players' resume tokens; made if it is not there. A server that is
    /// started again with the same key takes up the players and lobbies of before. "none": a key of this
    /// start only. [default: netplay-server/key in the user's state directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where counts are shown (GET /metrics, for Prometheus) and lobbies are managed (GET /lobbies, DELETE
    /// /lobbies/CODE, DELETE /lobbies/CODE/members/PEER?ban=true). Plain HTTP. [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// The file with the token that these requests need, as "Authorization: Bearer TOKEN". Without it only the
    /// loopback address may be used.
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_token: Option<PathBuf>,
}

impl Arguments {
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
}

impl Arguments {
    fn admin(&self) -> Result<Option<AdminConfig>, String> {
        let Some(bind) = self.admin else { return Ok(None) };
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            let text =
                text.map_err(|error| format!("--admin-token {}: {error}", path.display()))?;
            match text.trim() {
                "" => Err(format!("--admin-token {}: the file is empty", path.display())),
                token => Ok(token.to_owned()),
            }
        };
        let token = self.admin_token.as_ref().map(read).transpose()?;
        Ok(Some(AdminConfig { bind, token }))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Even a closed stderr does not change the exit code.
            let _ = writeln!(std::io::stderr(), "netplay-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Each player is an open file: says so if the system lets us have fewer than there may be.
fn raise_file_limit(config: &ServerConfig) {
    let wanted = config.lobby.max_connections as u64;
    match netplay_server::files::raise_limit() {
        Some(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "the system allows fewer open files than players: raise the hard limit (ulimit -Hn, LimitNOFILE)"
        ),
        limit => tracing::debug!(limit, "open files"),
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn core::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the first line: who reads it may send the signal at once.
        let stop = stop_signal()?;
        let key = arguments.key()?;
        let admin = arguments.admin()?;
        let config = ServerConfig { key, admin, ..ServerConfig::at(arguments.bind) };
        raise_file_limit(&config);
        let server = Server::bind(config).await.map_err(advise)?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "listening on {}", server.url())?;
        stdout.flush()?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), url = server.url(), "started");
        if let Some(address) = server.admin_addr() {
            tracing::info!(url = format!("http://{address}"), "admin");
        }
        server.run_until(stop).await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// What to do, in terms of this program's options.
fn advise(error: netplay_server::BindError) -> String {
    match error {
        netplay_server::BindError::InUse(address) => format!(
            "{address} is in use by another program, perhaps another netplay-server; stop it, or \
             choose another port: --bind {}:0 takes a free one",
            address.ip()
        ),
        error @ netplay_server::BindError::AdminWithoutToken(_) => {
            format!("{error}: --admin-token FILE")
        }
        other => other.to_string(),
    }
}

#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler the system's own one ends the program.
        if tokio::signal::ctrl_c().await.is_err() {
            core::future::pending::<()>().await;
        }
    })
}
