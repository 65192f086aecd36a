//! The directory, its clock, and who gets what it says.
//!
//! One lock guards it: every input takes a few microseconds, and no lock is held across an await.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use netplay_lobby::{ConnectionId, Directory, Input, Output, Stats};
use netplay_protocol::Now;
use netplay_protocol::lobby::{ClientMessage, MessageError};
use tokio::sync::Notify;

use crate::outbox::Outbox;

/// See the module.
pub(crate) struct Hub {
    core: Mutex<Core>,
    /// Wakes the ticker when a deadline comes earlier than the one it waits for.
    earlier: Notify,
    started: Instant,
    outgoing_frames: usize,
    outgoing_bytes: usize,
}

struct Core {
    directory: Directory,
    outboxes: BTreeMap<ConnectionId, Arc<Outbox>>,
    next: u64,
    /// What the ticker waits for.
    awaited: Option<Now>,
}

/// A connection of the hub. Dropping it, in a panic too, tells the directory.
pub(crate) struct Attached {
    hub: Arc<Hub>,
    connection: ConnectionId,
    pub(crate) outbox: Arc<Outbox>,
}

impl Hub {
    pub(crate) fn new(directory: Directory, outgoing_frames: usize, outgoing_bytes: usize) -> Self {
        let outboxes = BTreeMap::new();
        Self {
            core: Mutex::new(Core { directory, outboxes, next: 0, awaited: None }),
            earlier: Notify::new(),
            started: Instant::now(),
            outgoing_frames,
            outgoing_bytes,
        }
    }

    pub(crate) fn attach(self: Arc<Self>) -> Attached {
        let outbox = Arc::new(Outbox::new(self.outgoing_frames, self.outgoing_bytes));
        let connection = {
            let mut core = self.lock();
            let connection = ConnectionId(core.next);
            core.next += 1;
            core.outboxes.insert(connection, outbox.clone());
            connection
        };
        self.input(Input::Connected { connection });
        Attached { hub: self, connection, outbox }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().directory.stats()
    }

    fn now(&self) -> Now {
        Now::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn input(&self, input: Input) {
        // The frames that an answer to `hello` brings are bounded by the session's log.
        let greeting = match &input {
            Input::Message { connection, message: ClientMessage::Hello { .. } } => {
                Some(*connection)
            }
            _ => None,
        };
        let mut core = self.lock();
        let core = &mut *core;
        core.directory.handle(self.now(), input);
        while let Some(output) = core.directory.poll_output() {
            match output {
                Output::Send { connection, frame } => {
                    if let Some(outbox) = core.outboxes.get(&connection) {
                        outbox.push(frame.to_json().into(), greeting == Some(connection));
                    }
                }
                Output::Close { connection, code, text } => {
                    if let Some(outbox) = core.outboxes.remove(&connection) {
                        outbox.end(code, text);
                    }
                }
            }
        }
        let next = core.directory.next_deadline();
        if let Some(next) = next
            && core.awaited.is_none_or(|awaited| next < awaited)
        {
            self.earlier.notify_one();
        }
    }

    fn detach(&self, connection: ConnectionId) {
        self.lock().outboxes.remove(&connection);
        self.input(Input::Disconnected { connection });
    }

    /// Ticks the directory at its deadlines, for ever.
    pub(crate) async fn tick(&self) {
        loop {
            let next = {
                let mut core = self.lock();
                core.awaited = core.directory.next_deadline();
                core.awaited
            };
            match next {
                None => self.earlier.notified().await,
                Some(at) => {
                    let wait = at.since(self.now());
                    tokio::select! {
                        () = tokio::time::sleep(wait) => self.input(Input::Tick),
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic inside would be a defect of one input; the other players go on.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attached {
    pub(crate) fn text(&self, text: &str) {
        match ClientMessage::from_json(text) {
            Ok(message) => {
                self.hub.input(Input::Message { connection: self.connection, message });
            }
            Err(error) => self.malformed(error),
        }
    }

    pub(crate) fn malformed(&self, error: MessageError) {
        self.hub.input(Input::Malformed { connection: self.connection, error });
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.hub.detach(self.connection);
    }
}
