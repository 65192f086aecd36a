//! `netplay-server`: the lobby server as a program.
//!
//! The first line on stdout is `listening on ws://ADDRESS`; logs go to stderr. SIGTERM and Ctrl-C
//! stop it with exit code 0; what keeps it from starting is one line on stderr and exit code 1.

use core::net::SocketAddr;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use netplay_server::{DEFAULT_PORT, Server, ServerConfig};
use tracing_subscriber::EnvFilter;

/// Introduces the players of Netplay games to each other. After that, they talk directly.
///
/// The first line on stdout says where it listens; logs go to stderr. RUST_LOG sets how much is
/// logged (error, warn, info, debug, trace; default info). GET /health answers with its state.
#[derive(Parser)]
#[command(name = "netplay-server", version)]
struct Arguments {
    /// Where to listen: 0.0.0.0:3536 lets other machines in, port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)))]
    bind: SocketAddr,
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

fn run(arguments: Arguments) -> Result<(), Box<dyn core::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the first line: who reads it may send the signal at once.
        let stop = stop_signal()?;
        let server = Server::bind(ServerConfig::at(arguments.bind)).await.map_err(advise)?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "listening on {}", server.url())?;
        stdout.flush()?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), url = server.url(), "started");
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
