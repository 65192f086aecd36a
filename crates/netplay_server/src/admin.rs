//! What who runs a server asks for, on an address of its own.
//!
//! | request | answer |
//! |---|---|
//! | `GET /ready` | as at the players' address, and 503 while the server stops |
//! | `POST /drain` | 202, and the server stops as it does when it is told by a signal |
//! | `GET /metrics` | counts, in the text format of Prometheus |
//! | `GET /lobbies?after=CODE` | 100 lobbies, in the order of their codes |
//! | `GET /lobbies/CODE` | one |
//! | `DELETE /lobbies/CODE` | it is closed: its members are put out |
//! | `DELETE /lobbies/CODE/members/PEER?ban=true` | a member is put out, and may not come back |
//! | `POST /tickets` `{"account":…, "game":…, "lobby":…, "secs":…}` | a join ticket: for one session of this account, and an invitation to this lobby (both of the last may be left out) |
//! | `GET /bans` | accounts that are banned, and until which Unix time |
//! | `PUT /bans/ACCOUNT?secs=3600` | the account is banned for so long, or for good; its sessions end |
//! | `DELETE /bans/ACCOUNT` | it may come again |
//!
//! With a token, every request needs `Authorization: Bearer TOKEN`. Requests of web pages are refused. Not guaranteed: anything against who
//! reaches the address and has the token; connections are not limited.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{FromRef, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use netplay_lobby::{Input, TicketFor};
use netplay_protocol::lobby::Rejoin;
use netplay_protocol::{AccountId, LobbyCode, PeerId};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

use crate::counts;
use crate::http::{self, Hubs};
use crate::server::Stopping;

/// Lobbies in one answer.
const PAGE: usize = 100;

/// What is asked for here.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) hubs: Hubs,
    /// Makes the server stop.
    pub(crate) drain: Arc<Notify>,
    pub(crate) stopping: Stopping,
}

impl FromRef<Asked> for Hubs {
    fn from_ref(asked: &Asked) -> Self {
        asked.hubs.clone()
    }
}

pub(crate) fn router(asked: Asked, token: Option<String>) -> Router {
    let router = Router::new()
        .route("/ready", get(ready))
        .route("/drain", post(drain))
        .route("/metrics", get(metrics))
        .route("/lobbies", get(lobbies))
        .route("/lobbies/{code}", get(lobby).delete(close))
        .route("/lobbies/{code}/members/{peer}", delete(put_out))
        .route("/tickets", post(ticket))
        .route("/bans", get(bans))
        .route("/bans/{account}", put(ban).delete(unban))
        .with_state(asked)
        .layer(from_fn(no_pages));
    match token {
        Some(token) => router.layer(from_fn_with_state(Arc::new(token), check)),
        None => router,
    }
}

/// A browser on this machine sends what any web page asks for, and says that it does.
async fn no_pages(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "this is not for web pages\n").into_response();
    }
    next.run(request).await
}

async fn check(State(token): State<Arc<String>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|given| given.to_str().ok()?.strip_prefix("Bearer "));
    if given.is_some_and(|given| given.as_bytes().ct_eq(token.as_bytes()).into()) {
        next.run(request).await
    } else {
        let ask = [(header::WWW_AUTHENTICATE, "Bearer")];
        (StatusCode::UNAUTHORIZED, ask, "the admin token is needed\n").into_response()
    }
}

async fn ready(State(asked): State<Asked>) -> Response {
    http::readiness(&asked.hubs, asked.stopping.has_begun())
}

async fn drain(State(asked): State<Asked>) -> Response {
    tracing::info!("told to stop by an admin");
    asked.drain.notify_one();
    (StatusCode::ACCEPTED, "the server stops\n").into_response()
}

async fn metrics(State(hubs): State<Hubs>) -> Response {
    let (counts, tallied) = (hubs.lobby.counts(), hubs.common.tally.get());
    let text = counts::text(hubs.lobby.stats(), hubs.rooms.stats(), &counts, tallied);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[derive(Deserialize)]
struct Page {
    after: Option<LobbyCode>,
}

async fn lobbies(State(hubs): State<Hubs>, Query(page): Query<Page>) -> Response {
    let lobbies = hubs.lobby.ask(|directory| directory.lobbies(page.after, PAGE));
    Json(lobbies).into_response()
}

fn no_such_lobby() -> Response {
    (StatusCode::NOT_FOUND, "no lobby has this code\n").into_response()
}

async fn lobby(State(hubs): State<Hubs>, Path(code): Path<LobbyCode>) -> Response {
    let lobby = hubs.lobby.ask(|directory| directory.lobby(code));
    lobby.map_or_else(no_such_lobby, |lobby| Json(lobby).into_response())
}

async fn close(State(hubs): State<Hubs>, Path(code): Path<LobbyCode>) -> Response {
    if hubs.lobby.ask(|directory| directory.lobby(code)).is_none() {
        return no_such_lobby();
    }
    // By its code somebody gets into a lobby.
    tracing::info!("a lobby is closed by an admin");
    tracing::debug!(%code, "closed");
    hubs.lobby.input(Input::Close { code });
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Deserialize)]
struct PutOut {
    #[serde(default)]
    ban: bool,
}

async fn put_out(
    State(hubs): State<Hubs>,
    Path((code, peer)): Path<(LobbyCode, PeerId)>,
    Query(how): Query<PutOut>,
) -> Response {
    let lobby = hubs.lobby.ask(|directory| directory.lobby(code));
    let Some(lobby) = lobby else { return no_such_lobby() };
    if !how.ban && !lobby.state.members.iter().any(|member| member.peer == peer) {
        return (StatusCode::NOT_FOUND, "no such member\n").into_response();
    }
    tracing::info!(peer = %peer.short(), ban = how.ban, "put out by an admin");
    tracing::debug!(%code, peer = %peer.short(), "put out");
    let rejoin = if how.ban { Rejoin::Never } else { Rejoin::Free };
    hubs.lobby.input(Input::PutOut { code, peer, rejoin });
    StatusCode::NO_CONTENT.into_response()
}

async fn ticket(State(hubs): State<Hubs>, Json(ticket): Json<TicketFor>) -> Response {
    let ticket = hubs.lobby.issue_ticket(ticket);
    (StatusCode::CREATED, Json(serde_json::json!({ "ticket": ticket }))).into_response()
}

async fn bans(State(hubs): State<Hubs>) -> Response {
    let bans: BTreeMap<AccountId, u64> = hubs.lobby.ask(|directory| {
        directory.bans().map(|(account, until)| (account.clone(), until)).collect()
    });
    Json(bans).into_response()
}

#[derive(Deserialize)]
struct Ban {
    secs: Option<u64>,
}

async fn ban(
    State(hubs): State<Hubs>,
    Path(account): Path<AccountId>,
    Query(ban): Query<Ban>,
) -> Response {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let until = ban.secs.map_or(u64::MAX, |secs| now.as_secs().saturating_add(secs));
    tracing::info!(secs = ban.secs, "an account is banned by an admin");
    hubs.lobby.input(Input::Ban { account, until });
    StatusCode::NO_CONTENT.into_response()
}

async fn unban(State(hubs): State<Hubs>, Path(account): Path<AccountId>) -> Response {
    tracing::info!("a ban is ended by an admin");
    hubs.lobby.input(Input::Unban { account });
    StatusCode::NO_CONTENT.into_response()
}
