//! The directory, its clock, and who gets what it says.
//!
//! One lock guards it: every input takes a few microseconds, and no lock is held across an await.

use core::hash::{Hash, Hasher};
use core::net::IpAddr;
use std::hash::DefaultHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use netplay_lobby::{ConnectionId, Directory, Input, Output, Stats, TicketFor};
use netplay_protocol::lobby::{ClientMessage, JoinTicket, Login, MessageError, RawSignal};
use netplay_protocol::{Now, PeerId};
use tokio::sync::Notify;

use crate::connection::Client;
use crate::counts::Counts;
use crate::login::Logins;
use crate::outbox::{Outbox, Outboxes};

/// What a pure machine takes for the time: since its start.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Now {
        Now::from_micros(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// See the module.
pub(crate) struct Hub {
    core: Mutex<Core>,
    /// Who reads JWTs, if somebody does.
    logins: Option<Arc<Logins>>,
    /// Wakes the ticker when a deadline comes earlier than the one it waits for.
    earlier: Notify,
    clock: Clock,
}

struct Core {
    directory: Directory,
    outboxes: Outboxes,
    /// What the ticker waits for.
    awaited: Option<Now>,
    counts: Counts,
}

/// A connection of the hub. Dropping it, in a panic too, tells the directory.
pub(crate) struct Attached {
    hub: Arc<Hub>,
    connection: ConnectionId,
    outbox: Arc<Outbox>,
}

impl Hub {
    pub(crate) fn new(
        directory: Directory,
        outboxes: Outboxes,
        logins: Option<Arc<Logins>>,
    ) -> Self {
        Self {
            core: Mutex::new(Core {
                directory,
                outboxes,
                awaited: None,
                counts: Counts::default(),
            }),
            logins,
            earlier: Notify::new(),
            clock: Clock::start(),
        }
    }

    pub(crate) fn attach(self: Arc<Self>, address: Option<IpAddr>) -> Attached {
        let (connection, outbox) = self.lock().outboxes.open();
        self.input(Input::Connected { connection, address });
        Attached { hub: self, connection, outbox }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().directory.stats()
    }

    /// What the directory says.
    pub(crate) fn ask<R>(&self, question: impl FnOnce(&Directory) -> R) -> R {
        question(&self.lock().directory)
    }

    pub(crate) fn issue_ticket(&self, ticket: TicketFor) -> JoinTicket {
        self.lock().directory.issue_ticket(self.clock.now(), ticket)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    pub(crate) fn input(&self, input: Input) {
        // The frames that an answer to `hello` brings are bounded by the session's log.
        let greeting = match &input {
            Input::Message { connection, message: ClientMessage::Hello { .. } } => {
                Some(*connection)
            }
            _ => None,
        };
        let mut core = self.lock();
        match &input {
            Input::Connected { .. } => core.counts.opened += 1,
            Input::Message { .. } | Input::Malformed { .. } => core.counts.received += 1,
            _ => {}
        }
        core.directory.handle(self.clock.now(), input);
        self.follow(&mut core, greeting);
    }

    fn signal(&self, connection: ConnectionId, to: PeerId, signal: RawSignal<'_>) {
        let mut core = self.lock();
        core.counts.received += 1;
        core.directory.handle_signal(self.clock.now(), connection, to, signal);
        self.follow(&mut core, None);
    }

    /// Does what the directory says.
    fn follow(&self, core: &mut Core, greeting: Option<ConnectionId>) {
        while let Some(output) = core.directory.poll_output() {
            match output {
                Output::Send { connection, text, refused } => {
                    core.counts.sent += 1;
                    if let Some(code) = refused {
                        core.counts.refused(code);
                    }
                    core.outboxes.push(connection, text, greeting == Some(connection));
                }
                Output::Close { connection, code, text } => {
                    core.counts.closed(code);
                    core.outboxes.end(connection, code, text);
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
        self.lock().outboxes.forget(connection);
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
                    let wait = at.since(self.clock.now());
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
    fn malformed(&self, error: MessageError) {
        self.hub.input(Input::Malformed { connection: self.connection, error });
    }
}

impl Client for Attached {
    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn group(&self) -> Option<u64> {
        let code = self.hub.ask(|directory| directory.lobby_of_connection(self.connection))?;
        let mut hasher = DefaultHasher::new();
        code.hash(&mut hasher);
        // As much as a turn can tell apart.
        Some(hasher.finish() >> 32)
    }

    fn text(&self, text: &str) {
        let connection = self.connection;
        if let Some((to, signal)) = RawSignal::read(text) {
            return self.hub.signal(connection, to, signal);
        }
        match ClientMessage::from_json(text) {
            Ok(message) => {
                // A signature takes its time, and no lock is held meanwhile. A connection has one, and perhaps
                // another one too late, which closes it.
                if let ClientMessage::Hello { login: Some(Login::Jwt(jwt)), .. } = &message
                    && let Some(logins) = &self.hub.logins
                {
                    let account = logins.account(jwt);
                    self.hub.input(Input::LoggedIn { connection, account });
                }
                self.hub.input(Input::Message { connection, message });
            }
            Err(error) => self.malformed(error),
        }
    }

    fn binary(&self) {
        let text = "binary frames are not used here; send JSON as text".to_owned();
        self.malformed(MessageError::Json(text));
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.hub.detach(self.connection);
    }
}
