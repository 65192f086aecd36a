//! The frames that wait for one client, and the clients of a hub.
//!
//! Guaranteed: at most the configured frames and bytes wait or are being written, and what one resume replays. A
//! client for which more would wait is too slow: it gets nothing more and is closed.

use core::task::{Context, Poll, Waker};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
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
        if let Some(outbox) = self.open.get(&connection) {
            outbox.push(text, replayed);
        }
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

/// Bytes of room that the first waiting frame makes: a few signals fit, and none of them is copied again.
const ROOM: usize = 2048;

/// See the module.
pub(crate) struct Outbox {
    state: Mutex<State>,
    too_slow: Notify,
    max_frames: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    /// What waits: see [`Batch`]. All of it is taken at once, because an allocation and a lock for each frame take
    /// a tenth of what relaying a signal does.
    frames: Vec<u8>,
    waiting: Load,
    /// Of the batch that was taken last.
    taken: Load,
    end: Option<End>,
    ended: bool,
    /// The connection's task, while it waits.
    waker: Option<Waker>,
}

/// What counts against the limits: everything but replayed frames.
#[derive(Clone, Copy, Default)]
struct Load {
    frames: usize,
    bytes: usize,
}

/// Frames in order. Each follows its length.
pub(crate) struct Batch {
    frames: Bytes,
    /// Where the next one begins.
    at: usize,
}

/// Why a connection is closed by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
}

/// What to do next for a client.
pub(crate) enum Next {
    Send(Batch),
    End(End),
    Nothing,
}

impl Iterator for Batch {
    type Item = Utf8Bytes;

    fn next(&mut self) -> Option<Utf8Bytes> {
        let (length, rest) = self.frames[self.at..].split_first_chunk()?;
        let text = self.frames.slice_ref(&rest[..usize::from_le_bytes(*length)]);
        self.at += length.len() + text.len();
        Some(Utf8Bytes::try_from(text).expect("JSON is UTF-8"))
    }
}

impl Outbox {
    pub(crate) fn new(max_frames: usize, max_bytes: usize) -> Self {
        Self { state: Mutex::default(), too_slow: Notify::new(), max_frames, max_bytes }
    }

    /// Adds a frame. Replayed ones are bounded by the log they come from.
    pub(crate) fn push(&self, text: &[u8], replayed: bool) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        if !replayed {
            state.waiting.frames += 1;
            state.waiting.bytes += text.len();
            if state.waiting.frames + state.taken.frames > self.max_frames
                || state.waiting.bytes + state.taken.bytes > self.max_bytes
            {
                (state.frames, state.waiting) = (Vec::new(), Load::default());
                let text = "the client reads too slowly".to_owned();
                self.too_slow.notify_one();
                return Self::finish(state, End { code: ErrorCode::TooSlow, text });
            }
        }
        if state.frames.is_empty() {
            state.frames.reserve(ROOM);
        }
        state.frames.extend(text.len().to_le_bytes());
        state.frames.extend(text);
        Self::wake(state);
    }

    /// Nothing more follows what waits now.
    pub(crate) fn end(&self, code: ErrorCode, text: String) {
        let state = self.lock();
        if !state.ended {
            Self::finish(state, End { code, text });
        }
    }

    /// Takes everything that waits. What was taken before is written.
    pub(crate) fn next(&self) -> Next {
        let mut state = self.lock();
        state.taken = core::mem::take(&mut state.waiting);
        if !state.frames.is_empty() {
            let frames = core::mem::take(&mut state.frames).into();
            return Next::Send(Batch { frames, at: 0 });
        }
        state.end.take().map_or(Next::Nothing, Next::End)
    }

    /// Whether [`Self::next`] has something.
    pub(crate) fn is_ready(&self) -> bool {
        self.lock().is_ready()
    }

    /// The same; if not, the task is woken when it has. For one task at a time.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_ready() {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the client turns out too slow.
    pub(crate) async fn too_slow(&self) {
        self.too_slow.notified().await;
    }

    fn finish(mut state: MutexGuard<'_, State>, end: End) {
        (state.ended, state.end) = (true, Some(end));
        Self::wake(state);
    }

    fn wake(mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_ready(&self) -> bool {
        !self.frames.is_empty() || self.end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    fn push(outbox: &Outbox, lengths: &[usize], replayed: bool) {
        lengths.iter().for_each(|length| outbox.push("x".repeat(*length).as_bytes(), replayed));
    }

    /// The lengths of the frames that are sent next.
    fn sent(outbox: &Outbox) -> Vec<usize> {
        match outbox.next() {
            Next::Send(batch) => batch.map(|text| text.as_str().len()).collect(),
            Next::End(end) => panic!("{end:?}"),
            Next::Nothing => Vec::new(),
        }
    }

    fn ended(outbox: &Outbox) -> Option<ErrorCode> {
        match outbox.next() {
            Next::End(End { code, .. }) => Some(code),
            Next::Send(_) | Next::Nothing => None,
        }
    }

    #[test]
    fn frames_come_out_in_order_and_the_end_comes_last() {
        let outbox = Outbox::new(3, 100);
        push(&outbox, &[1, 0], false);
        assert_eq!(sent(&outbox), [1, 0]);
        push(&outbox, &[2], false);
        outbox.end(ErrorCode::Order, "no".into());
        push(&outbox, &[3], false);
        assert_eq!(sent(&outbox), [2]);
        assert_eq!(ended(&outbox), Some(ErrorCode::Order));
        assert!(sent(&outbox).is_empty());
    }

    #[test]
    fn too_many_frames_or_bytes_end_it_and_free_them() {
        for lengths in [&[1, 1, 1][..], &[101]] {
            let outbox = Outbox::new(2, 100);
            push(&outbox, lengths, false);
            assert_eq!(ended(&outbox), Some(ErrorCode::TooSlow), "{lengths:?}");
            assert_eq!(outbox.lock().frames.capacity(), 0);
        }
    }

    #[test]
    fn what_is_being_written_counts_until_more_is_taken() {
        let outbox = Outbox::new(2, 100);
        push(&outbox, &[1], false);
        assert_eq!(sent(&outbox), [1]);
        push(&outbox, &[2], false);
        assert_eq!(sent(&outbox), [2]);
        assert!(sent(&outbox).is_empty());
        push(&outbox, &[3, 4], false);
        assert_eq!(sent(&outbox), [3, 4]);
        push(&outbox, &[5], false);
        assert_eq!(ended(&outbox), Some(ErrorCode::TooSlow));
    }

    #[test]
    fn replayed_frames_leave_room_for_new_ones() {
        let outbox = Outbox::new(1, 10);
        push(&outbox, &[10; 50], true);
        push(&outbox, &[10], false);
        assert_eq!(sent(&outbox), [10; 51]);
        assert!(sent(&outbox).is_empty());
        push(&outbox, &[10], false);
        assert_eq!(sent(&outbox), [10]);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_is_woken_once_each_time_it_waits() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let waits = |outbox: &Outbox| outbox.poll_ready(&Context::from_waker(&waker)).is_pending();
        let count = || woken.0.load(Ordering::Relaxed);
        let outbox = Outbox::new(10, 100);
        assert!(waits(&outbox) && waits(&outbox));
        push(&outbox, &[1, 2], false);
        assert_eq!((count(), waits(&outbox)), (1, false));
        assert_eq!(sent(&outbox), [1, 2]);
        push(&outbox, &[3], false);
        assert_eq!((count(), sent(&outbox)), (1, vec![3]), "nobody waited");
        assert!(waits(&outbox));
        outbox.end(ErrorCode::Order, "no".into());
        assert_eq!((count(), waits(&outbox)), (2, false));
    }
}
