//! The least that a relay can be on axum's WebSockets: two sockets at `/PAIR` are a pair, and each text frame
//! of one goes to the other. No sessions, no limits of rates, no log, no JSON; the text is not copied.
//!
//! What our server has of the transport, it has too: buffers of the same size, one task a connection,
//! `TCP_NODELAY`, a bounded queue, and frames that wait are written together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::any;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of the buffers, as in `netplay_server`.
const READ_BUFFER: usize = 2 * 1024;
const WRITE_BUFFER: usize = 4 * 1024;

/// Frames that wait for one socket at most; more are dropped.
const WAITING: usize = 1024;

/// The two ends of a pair.
type Ends = Mutex<[Option<Sender<Utf8Bytes>>; 2]>;

#[derive(Clone, Default)]
struct Pairs(Arc<Mutex<BTreeMap<u32, Arc<Ends>>>>);

pub(crate) fn router() -> Router {
    Router::new().route("/{pair}", any(enter)).with_state(Pairs::default())
}

async fn enter(
    State(pairs): State<Pairs>,
    Path(pair): Path<u32>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade.read_buffer_size(READ_BUFFER).write_buffer_size(WRITE_BUFFER);
    upgrade.on_upgrade(move |socket| async move {
        let ends = lock(&pairs.0).entry(pair).or_default().clone();
        let (sender, waiting) = channel(WAITING);
        let place = {
            let mut ends = lock(&ends);
            let place = usize::from(ends[0].is_some());
            ends[place] = Some(sender);
            place
        };
        relay(socket, &ends, place, waiting).await;
        lock(&ends)[place] = None;
        let mut pairs = lock(&pairs.0);
        if lock(&ends).iter().all(Option::is_none) {
            pairs.remove(&pair);
        }
    })
}

async fn relay(mut socket: WebSocket, ends: &Ends, place: usize, mut waiting: Receiver<Utf8Bytes>) {
    use futures_util::SinkExt as _;
    let mut other = None;
    loop {
        tokio::select! {
            biased;
            Some(text) = waiting.recv() => {
                let mut next = Some(text);
                while let Some(text) = next {
                    if socket.feed(Message::Text(text)).await.is_err() {
                        return;
                    }
                    next = waiting.try_recv().ok();
                }
                if socket.flush().await.is_err() {
                    return;
                }
            }
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => {
                    if other.is_none() {
                        other.clone_from(&lock(ends)[1 - place]);
                    }
                    if let Some(other) = &other {
                        // A full queue drops it; the load test counts what is missing.
                        let _ = Sender::try_send(other, text);
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing between lock and unlock panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
