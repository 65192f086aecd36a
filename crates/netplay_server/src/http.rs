//! The HTTP side: the upgrade to a WebSocket, health, and a word for everything else.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use netplay_lobby::matchbox::Room;
use netplay_lobby::{Directory, RoomLimits};
use netplay_protocol::limits::LOBBY_MESSAGE_MAX;
use netplay_protocol::lobby::PATH;

use crate::address::{Admission, Seat, Verdict};
use crate::connection;
use crate::counts::Tally;
use crate::hub::Hub;
use crate::origin::{self, Origin};
use crate::rooms::RoomHub;
use crate::server::Alive;
use crate::socket::Line;
use crate::traffic::Traffic;

/// Bytes read from a socket at once, which every idle connection holds: the library's default is 128 KiB. Six
/// candidates or a third of an SDP fit; what is larger takes another read.
const READ_BUFFER: usize = 2 * 1024;

/// Bytes gathered before a write, and the most that may wait inside the library.
const WRITE_BUFFER: usize = 4 * 1024;
const WRITE_BUFFER_MAX: usize = WRITE_BUFFER + 4 * LOBBY_MESSAGE_MAX;

/// What a handler knows of the socket under its request.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Whether its address may have one more.
    pub(crate) verdict: Verdict,
    pub(crate) carrier: Carrier,
}

/// What a WebSocket has of the socket under it.
#[derive(Clone)]
pub(crate) struct Carrier {
    /// Counts it for its address, if the socket is a proxy's.
    pub(crate) seat: Option<Arc<Seat>>,
    /// Whose limits hold for it, if those per address do.
    pub(crate) address: Option<IpAddr>,
    pub(crate) line: Arc<Line>,
    pub(crate) common: Arc<Common>,
    pub(crate) alive: Alive,
}

/// What all connections have in common.
pub(crate) struct Common {
    pub(crate) write_timeout: Duration,
    pub(crate) traffic: Traffic,
    pub(crate) tally: Tally,
}

/// What the handlers serve.
#[derive(Clone)]
pub(crate) struct Hubs {
    pub(crate) lobby: Arc<Hub>,
    pub(crate) rooms: Arc<RoomHub>,
    pub(crate) limits: Arc<RoomLimits>,
    pub(crate) admission: Admission,
    pub(crate) common: Arc<Common>,
    /// The pages that may connect; all if there are none.
    pub(crate) origins: Arc<Vec<Origin>>,
}

/// A WebSocket at `/` or at any single segment is a matchbox room, even where plain HTTP has a page.
pub(crate) fn router(hubs: Hubs) -> Router {
    Router::new()
        .route(PATH, any(lobby))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/", any(room))
        .route("/{room}", any(room))
        .fallback(async || nothing())
        .with_state(hubs)
}

async fn lobby(Visitor { hubs, caller, upgrade, .. }: Visitor) -> Response {
    if let Some(refusal) = caller.refusal() {
        return refusal;
    }
    match upgrade {
        Some(upgrade) => sized(upgrade).on_upgrade(move |socket| {
            connection::serve(socket, hubs.lobby.attach(caller.carrier.address), caller.carrier)
        }),
        None => {
            let text =
                "this is Netplay's lobby: connect with a WebSocket, ws:// instead of http://\n";
            let upgrade = [(header::UPGRADE, HeaderValue::from_static("websocket"))];
            (StatusCode::UPGRADE_REQUIRED, upgrade, text).into_response()
        }
    }
}

async fn room(path: Option<Path<String>>, visitor: Visitor) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    visitor.enter(&name).unwrap_or_else(|_| nothing())
}

async fn health(visitor: Visitor) -> Response {
    visitor.enter("health").unwrap_or_else(|Hubs { lobby, rooms, .. }| {
        let (lobby, rooms) = (lobby.stats(), rooms.stats());
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
    })
}

/// For load balancers: whether another player would be let in.
async fn ready(visitor: Visitor) -> Response {
    let stops = visitor.caller.carrier.alive.stopping.has_begun();
    visitor.enter("ready").unwrap_or_else(|hubs| readiness(&hubs, stops))
}

pub(crate) fn readiness(hubs: &Hubs, stops: bool) -> Response {
    let why = if stops {
        "stopping\n"
    } else if hubs.lobby.ask(Directory::is_full) || hubs.admission.is_full() {
        "full\n"
    } else {
        return "ready\n".into_response();
    };
    let retry = [(header::RETRY_AFTER, HeaderValue::from_static("10"))];
    (StatusCode::SERVICE_UNAVAILABLE, retry, why).into_response()
}

/// Who asks for something, and maybe for a WebSocket.
struct Visitor {
    hubs: Hubs,
    caller: Caller,
    query: Option<String>,
    upgrade: Option<WebSocketUpgrade>,
}

impl FromRequestParts<Hubs> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, hubs: &Hubs) -> Result<Self, Response> {
        let caller = Extension::from_request_parts(parts, hubs).await;
        let Extension(caller) = caller.map_err(IntoResponse::into_response)?;
        let upgrade = WebSocketUpgrade::from_request_parts(parts, hubs).await.ok();
        if upgrade.is_some() && !origin::is_allowed(&hubs.origins, &parts.headers) {
            return Err(stranger());
        }
        let query = parts.uri.query().map(ToOwned::to_owned);
        Ok(Self { hubs: hubs.clone(), caller, query, upgrade })
    }
}

impl Visitor {
    /// Lets a matchbox player into a room, if it comes by a WebSocket; the others want a page.
    fn enter(self, name: &str) -> Result<Response, Hubs> {
        let Self { hubs, caller, query, upgrade } = self;
        let Some(upgrade) = upgrade else { return Err(hubs) };
        if let Some(refusal) = caller.refusal() {
            return Ok(refusal);
        }
        Ok(match Room::new(name, query.as_deref(), &hubs.limits) {
            Ok(room) => sized(upgrade).on_upgrade(move |socket| {
                connection::serve(socket, hubs.rooms.enter(room), caller.carrier)
            }),
            Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        })
    }
}

impl Caller {
    /// The answer to who gets no WebSocket because of its address.
    fn refusal(&self) -> Option<Response> {
        let (why, text, retry) = match self.verdict {
            Verdict::Welcome => return None,
            Verdict::TooMany => ("address_full", "too many connections from this address\n", 10),
            Verdict::TooFast(wait) => {
                // Whole seconds, and not too early.
                let retry = wait.as_secs() + 1;
                ("address_fast", "too many new connections from this address\n", retry)
            }
        };
        self.carrier.common.tally.refused(why);
        let retry = [(header::RETRY_AFTER, HeaderValue::from(retry))];
        Some((StatusCode::TOO_MANY_REQUESTS, retry, text).into_response())
    }
}

fn stranger() -> Response {
    let text = "this server does not take players from this web page: its operator names the pages with --origin\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

fn sized(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .max_message_size(LOBBY_MESSAGE_MAX)
        .max_frame_size(LOBBY_MESSAGE_MAX)
}

fn nothing() -> Response {
    let text = format!(
        "nothing is here; the lobby's WebSocket is at {PATH}, its state at /health and /ready; a WebSocket at \
         /ROOM or /ROOM?next=N is for players with matchbox_socket\n"
    );
    (StatusCode::NOT_FOUND, text).into_response()
}
