//! The frames that wait for one client, and the clients of a hub.
//!
//! Guaranteed: at most the configured frames and bytes wait, and what one resume replays. A client
//! for which more would wait is too slow: it gets nothing more and is closed.

use core::future::poll_fn;
use core::task::Poll;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
use futures_util::task::AtomicWaker;
use netplay_lobby::ConnectionId;
use netplay_protocol::lobby::ErrorCode;
use tokio::sync::Notify;

/// One for each connection of a hub, which is numbered by it.
pub(crate) struct Outboxes {
    open: HashMap<ConnectionId, Arc<Outbox>>,
    next: u64,
    max_frames: usize,
    max_bytes: usize,
}

impl Outboxes {
    /// Each takes so many frames and bytes.
    pub(crate) fn new(max_frames: usize, max_bytes: usize) -> Self {
        Self { open: HashMap::new(), next: 0, max_frames, max_bytes }
    }

    /// One for a new connection.
    pub(crate) fn open(&mut self) -> (ConnectionId, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::new(self.max_frames, self.max_bytes));
        let connection = ConnectionId(self.next);
        self.next += 1;
        self.open.insert(connection, outbox.clone());
        (connection, outbox)
    }

    /// Adds a frame, which is JSON; see [`Outbox::push`].
    pub(crate) fn push(&self, connection: ConnectionId, text: &[u8], replayed: bool) {
        let Some(outbox) = self.open.get(&connection) else { return };
        let text = Utf8Bytes::try_from(Bytes::copy_from_slice(text));
        outbox.push(text.expect("JSON is UTF-8"), replayed);
    }

    /// See [`Outbox::end`].
    pub(crate) fn end(&mut self, connection: ConnectionId, code: ErrorCode, text: String) {
        if let Some(outbox) = self.open.remove(&connection) {
            outbox.end(code, text);
        }
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.open.remove(&connection);
    }
}

/// Frames whose room is kept: to make it anew for every one takes longer than to hand it on.
const KEPT: usize = 4;

/// See the module.
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// The connection's task. It waits here for nearly all of its life: this is smaller and cheaper than a
    /// `Notify`, which is for many.
    ready: AtomicWaker,
    too_slow: Notify,
    max_frames: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// What counts against the limits: everything but replayed frames.
    frames: usize,
    bytes: usize,
    end: Option<End>,
    ended: bool,
}

struct Queued {
    text: Utf8Bytes,
    replayed: bool,
}

/// Why a connection is closed by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
}

/// What to do next for a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Send(Utf8Bytes),
    End(End),
    Nothing,
}

impl Outbox {
    pub(crate) fn new(max_frames: usize, max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            ready: AtomicWaker::new(),
            too_slow: Notify::new(),
            max_frames,
            max_bytes,
        }
    }

    /// Adds a frame. Replayed ones are bounded by the log they come from.
    pub(crate) fn push(&self, text: Utf8Bytes, replayed: bool) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        if !replayed {
            state.frames += 1;
            state.bytes += text.len();
            if state.frames > self.max_frames || state.bytes > self.max_bytes {
                let text = "the client reads too slowly".to_owned();
                *state = State {
                    end: Some(End { code: ErrorCode::TooSlow, text }),
                    ended: true,
                    ..State::default()
                };
                drop(state);
                self.too_slow.notify_one();
                self.ready.wake();
                return;
            }
        }
        state.queue.push_back(Queued { text, replayed });
        drop(state);
        self.ready.wake();
    }

    /// Nothing more follows what waits now.
    pub(crate) fn end(&self, code: ErrorCode, text: String) {
        let mut state = self.lock();
        if !state.ended {
            state.ended = true;
            state.end = Some(End { code, text });
            drop(state);
            self.ready.wake();
        }
    }

    pub(crate) fn next(&self) -> Next {
        let mut state = self.lock();
        if let Some(Queued { text, replayed }) = state.queue.pop_front() {
            if !replayed {
                state.frames -= 1;
                state.bytes -= text.len();
            }
            return Next::Send(text);
        }
        // An idle connection must be small: a burst's queue is given back.
        if state.queue.capacity() > KEPT {
            state.queue = VecDeque::new();
        }
        state.end.take().map_or(Next::Nothing, Next::End)
    }

    /// Waits until [`Self::next`] has something. For one task at a time.
    pub(crate) async fn ready(&self) {
        poll_fn(|cx| {
            // Registered first: what comes after the look wakes.
            self.ready.register(cx.waker());
            let state = self.lock();
            let waits = !state.queue.is_empty() || state.end.is_some();
            if waits { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits until the client turns out too slow.
    pub(crate) async fn too_slow(&self) {
        self.too_slow.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> Utf8Bytes {
        "x".repeat(len).into()
    }

    fn is_too_slow(outbox: &Outbox) -> bool {
        matches!(outbox.next(), Next::End(End { code: ErrorCode::TooSlow, .. }))
    }

    #[test]
    fn frames_come_out_in_order_and_the_end_comes_last() {
        let outbox = Outbox::new(2, 100);
        outbox.push(text(1), false);
        outbox.push(text(2), false);
        outbox.end(ErrorCode::Order, "no".into());
        outbox.push(text(3), false);
        assert_eq!(outbox.next(), Next::Send(text(1)));
        assert_eq!(outbox.next(), Next::Send(text(2)));
        assert!(matches!(outbox.next(), Next::End(_)));
        assert_eq!(outbox.next(), Next::Nothing);
    }

    #[test]
    fn too_many_frames_or_bytes_end_it_and_free_the_queue() {
        let outbox = Outbox::new(2, 100);
        (0..3).for_each(|_| outbox.push(text(1), false));
        assert!(is_too_slow(&outbox));
        let outbox = Outbox::new(2, 100);
        outbox.push(text(101), false);
        assert!(is_too_slow(&outbox));
    }

    #[test]
    fn replayed_frames_leave_room_for_new_ones() {
        let outbox = Outbox::new(1, 10);
        (0..50).for_each(|_| outbox.push(text(10), true));
        outbox.push(text(10), false);
        for _ in 0..51 {
            assert_eq!(outbox.next(), Next::Send(text(10)));
        }
        outbox.push(text(10), false);
        assert_eq!(outbox.next(), Next::Send(text(10)));
    }
}
