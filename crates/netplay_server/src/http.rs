//! The HTTP side: the upgrade to a WebSocket, health, and a word for everything else.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use netplay_protocol::limits::LOBBY_MESSAGE_MAX;
use netplay_protocol::lobby::PATH;

use crate::connection;
use crate::hub::Hub;
use crate::server::Alive;

/// Bytes read from a socket at once. The library's default of 128 KiB would be most of what an
/// idle connection costs; signals are mostly below 4 KiB.
const READ_BUFFER: usize = 4 * 1024;

/// Bytes gathered before a write, and the most that may wait inside the library.
const WRITE_BUFFER: usize = 4 * 1024;
const WRITE_BUFFER_MAX: usize = WRITE_BUFFER + 4 * LOBBY_MESSAGE_MAX;

/// What a handler knows of the socket under its request.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Whether its address has too many sockets.
    pub(crate) over: bool,
    /// Set to make the socket read on when it is dropped.
    pub(crate) linger: Arc<AtomicBool>,
    pub(crate) write_timeout: Duration,
    pub(crate) alive: Alive,
}

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route(PATH, any(lobby))
        .route("/health", get(health))
        .fallback(elsewhere)
        .with_state(hub)
}

async fn lobby(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if caller.over {
        let retry = [(header::RETRY_AFTER, HeaderValue::from_static("10"))];
        let text = "too many connections from this address\n";
        return (StatusCode::TOO_MANY_REQUESTS, retry, text).into_response();
    }
    match upgrade {
        Ok(upgrade) => upgrade
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(WRITE_BUFFER_MAX)
            .max_message_size(LOBBY_MESSAGE_MAX)
            .max_frame_size(LOBBY_MESSAGE_MAX)
            .on_upgrade(move |socket| connection::serve(socket, hub.attach(), caller)),
        Err(_) => {
            let text =
                "this is Netplay's lobby: connect with a WebSocket, ws:// instead of http://\n";
            let upgrade = [(header::UPGRADE, HeaderValue::from_static("websocket"))];
            (StatusCode::UPGRADE_REQUIRED, upgrade, text).into_response()
        }
    }
}

async fn health(State(hub): State<Arc<Hub>>) -> Response {
    let stats = hub.stats();
    let body = serde_json::json!({
        "status": "ok",
        "connections": stats.connections,
        "sessions": stats.sessions,
        "lobbies": stats.lobbies,
    });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn elsewhere() -> Response {
    let text =
        format!("nothing is here; the lobby's WebSocket is at {PATH}, its state at /health\n");
    (StatusCode::NOT_FOUND, text).into_response()
}
