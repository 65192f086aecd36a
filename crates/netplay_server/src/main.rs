//! `netplay-server`: the lobby server as a program.
//!
//! The first line on stdout is `listening on ws://ADDRESS`, or `wss://` with a certificate; logs go to stderr.
//! SIGTERM, Ctrl-C and `POST /drain` at the admin address stop it with exit code 0, when it has closed its
//! connections, 2000 a second; SIGHUP makes it read its certificate again; what keeps it from starting is one line
//! on stderr and exit code 1. After a restart, even by `kill -9`, players and lobbies are taken up again: see `--key`.

mod options;

use std::io::Write as _;
use std::process::ExitCode;

use netplay_server::{BindError, Reload, Server, ServerConfig};
use options::Options;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = Options::from_flags();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Even a closed stderr does not change the exit code.
            let _ = writeln!(std::io::stderr(), "netplay-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Each player is an open file: says so if the system lets us have fewer than there may be of either kind.
fn raise_file_limit(config: &ServerConfig) {
    let wanted = config.lobby.max_connections.max(config.lobby.rooms.max_peers) as u64;
    match netplay_server::files::raise_limit() {
        Some(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "the system allows fewer open files than players: those beyond it are turned away; raise the hard \
             limit (ulimit -Hn, LimitNOFILE)"
        ),
        limit => tracing::debug!(limit, "open files"),
    }
}

fn run(options: Options) -> Result<(), Box<dyn core::error::Error>> {
    if options.print_config {
        std::io::stdout().write_all(options::commented().as_bytes())?;
        return Ok(());
    }
    let config = options.with_file()?.server()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the first line: who reads it may send the signal at once.
        let stop = stop_signal()?;
        raise_file_limit(&config);
        let server = Server::bind(config).await.map_err(advise)?;
        read_again_when_told(server.reload().clone())?;
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
fn advise(error: BindError) -> String {
    match error {
        BindError::InUse(address) => format!(
            "{address} is in use by another program, perhaps another netplay-server; stop it, or \
             choose another port: --bind {}:0 takes a free one",
            address.ip()
        ),
        error @ BindError::AdminWithoutToken(_) => format!("{error}: --admin-token FILE"),
        error @ BindError::Tls(_) => format!("{error} (--tls-cert, --tls-key)"),
        other => other.to_string(),
    }
}

/// At SIGHUP, which would end the program otherwise.
#[cfg(unix)]
fn read_again_when_told(files: Reload) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (certificate, keys) = (files.certificate(), files.jwt_keys());
            if certificate.is_none() && keys.is_none() {
                tracing::info!(
                    "SIGHUP: there is no certificate and no set of keys to be read again"
                );
            }
            match certificate {
                None => {}
                Some(Ok(())) => tracing::info!("the certificate was read again"),
                Some(Err(error)) => tracing::error!(%error, "the certificate stays as it was"),
            }
            match keys {
                None => {}
                Some(Ok(())) => tracing::info!("the keys for JWTs were read again"),
                Some(Err(error)) => tracing::error!(%error, "the keys for JWTs stay as they were"),
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn read_again_when_told(_: Reload) -> std::io::Result<()> {
    Ok(())
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
