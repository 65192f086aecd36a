//! The HTTP side: the upgrade to a WebSocket, health, and a word for everything else.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use netplay_lobby::matchbox::Room;
use netplay_lobby::{Directory, RoomLimits};
use netplay_protocol::limits::LOBBY_MESSAGE_MAX;
use netplay_protocol::lobby::PATH;

use crate::connection;
use crate::hub::Hub;
use crate::rooms::RoomHub;
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

/// What the handlers serve.
#[derive(Clone)]
pub(crate) struct Hubs {
    pub(crate) lobby: Arc<Hub>,
    pub(crate) rooms: Arc<RoomHub>,
    pub(crate) limits: Arc<RoomLimits>,
}

/// An upgrade, or what kind of request it is instead.
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// A WebSocket at `/` or at any single segment is a matchbox room, even where plain HTTP has a page.
pub(crate) fn router(hubs: Hubs) -> Router {
    Router::new()
        .route(PATH, any(lobby))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/", any(nameless_room))
        .route("/{room}", any(room))
        .fallback(elsewhere)
        .with_state(hubs)
}

async fn lobby(
    State(hubs): State<Hubs>,
    Extension(caller): Extension<Caller>,
    upgrade: Upgrade,
) -> Response {
    if caller.over {
        return too_many();
    }
    match upgrade {
        Ok(upgrade) => sized(upgrade)
            .on_upgrade(move |socket| connection::serve(socket, hubs.lobby.attach(), caller)),
        Err(_) => {
            let text =
                "this is Netplay's lobby: connect with a WebSocket, ws:// instead of http://\n";
            let upgrade = [(header::UPGRADE, HeaderValue::from_static("websocket"))];
            (StatusCode::UPGRADE_REQUIRED, upgrade, text).into_response()
        }
    }
}

async fn nameless_room(
    State(hubs): State<Hubs>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Response {
    match upgrade {
        Ok(upgrade) => enter(hubs, caller, "", query.as_deref(), upgrade),
        Err(_) => elsewhere().await,
    }
}

async fn room(
    State(hubs): State<Hubs>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Response {
    match upgrade {
        Ok(upgrade) => enter(hubs, caller, &name, query.as_deref(), upgrade),
        Err(_) => elsewhere().await,
    }
}

async fn health(
    State(hubs): State<Hubs>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Response {
    if let Ok(upgrade) = upgrade {
        return enter(hubs, caller, "health", query.as_deref(), upgrade);
    }
    let (lobby, rooms) = (hubs.lobby.stats(), hubs.rooms.stats());
    let body = serde_json::json!({
        "status": "ok",
        "connections": lobby.connections,
        "sessions": lobby.sessions,
        "lobbies": lobby.lobbies,
        "matchbox_peers": rooms.peers,
        "rooms": rooms.rooms,
        "groups": rooms.groups,
    });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// For load balancers: whether another player would be let in.
async fn ready(
    State(hubs): State<Hubs>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Response {
    if let Ok(upgrade) = upgrade {
        return enter(hubs, caller, "ready", query.as_deref(), upgrade);
    }
    if hubs.lobby.ask(Directory::is_full) {
        let retry = [(header::RETRY_AFTER, HeaderValue::from_static("10"))];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "full\n").into_response();
    }
    "ready\n".into_response()
}

/// A matchbox player comes, by a WebSocket that is not open yet.
fn enter(
    hubs: Hubs,
    caller: Caller,
    name: &str,
    query: Option<&str>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if caller.over {
        return too_many();
    }
    match Room::new(name, query, &hubs.limits) {
        Ok(room) => sized(upgrade)
            .on_upgrade(move |socket| connection::serve(socket, hubs.rooms.enter(room), caller)),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn too_many() -> Response {
    let retry = [(header::RETRY_AFTER, HeaderValue::from_static("10"))];
    let text = "too many connections from this address\n";
    (StatusCode::TOO_MANY_REQUESTS, retry, text).into_response()
}

fn sized(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .max_message_size(LOBBY_MESSAGE_MAX)
        .max_frame_size(LOBBY_MESSAGE_MAX)
}

async fn elsewhere() -> Response {
    let text = format!(
        "nothing is here; the lobby's WebSocket is at {PATH}, its state at /health and /ready; a WebSocket at \
         /ROOM or /ROOM?next=N is for players with matchbox_socket\n"
    );
    (StatusCode::NOT_FOUND, text).into_response()
}
