//! The rooms of matchbox players, and who gets what they say.
//!
//! One lock guards them, and it is not the lobby's: neither kind of players waits for the other. No
//! lock is held across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netplay_lobby::ConnectionId;
use netplay_lobby::matchbox::{Input, Output, Room, RoomStats, Rooms};
use netplay_protocol::matchbox::Request;

use crate::connection::Client;
use crate::hub::Clock;
use crate::outbox::{Outbox, Outboxes};

/// See the module.
pub(crate) struct RoomHub {
    core: Mutex<Core>,
    clock: Clock,
}

struct Core {
    rooms: Rooms,
    outboxes: Outboxes,
}

/// A player in a room. Dropping it, in a panic too, takes it out.
pub(crate) struct Guest {
    hub: Arc<RoomHub>,
    connection: ConnectionId,
    outbox: Arc<Outbox>,
}

impl RoomHub {
    pub(crate) fn new(rooms: Rooms, outboxes: Outboxes) -> Self {
        Self { core: Mutex::new(Core { rooms, outboxes }), clock: Clock::start() }
    }

    pub(crate) fn enter(self: Arc<Self>, room: Room) -> Guest {
        let (connection, outbox) = self.lock().outboxes.open();
        self.input(Input::Connected { connection, room });
        Guest { hub: self, connection, outbox }
    }

    pub(crate) fn stats(&self) -> RoomStats {
        self.lock().rooms.stats()
    }

    fn input(&self, input: Input) {
        let mut core = self.lock();
        let core = &mut *core;
        core.rooms.handle(self.clock.now(), input);
        while let Some(output) = core.rooms.poll_output() {
            match output {
                Output::Send { connection, event } => {
                    core.outboxes.push(connection, event.to_json().as_bytes(), false);
                }
                Output::Close { connection, code, text } => {
                    core.outboxes.end(connection, code, text.to_owned());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic inside would be a defect of one input; the other players go on.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client for Guest {
    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// They meet anew on the next server.
    fn group(&self) -> Option<u64> {
        None
    }

    fn text(&self, text: &str) {
        let connection = self.connection;
        self.hub.input(match Request::from_json(text) {
            Ok(request) => Input::Request { connection, request },
            Err(_) => Input::Malformed { connection },
        });
    }

    fn binary(&self) {
        self.hub.input(Input::Malformed { connection: self.connection });
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.hub.lock().outboxes.forget(self.connection);
        self.hub.input(Input::Disconnected { connection: self.connection });
    }
}
