//! Rooms of players with `matchbox_socket` 0.15, as a pure state machine.
//!
//! A [`Rooms`] holds all such players of one server node. Whoever drives it passes every event of its
//! sockets with [`Rooms::handle`], then takes [`Output`]s with [`Rooms::poll_output`] until there is none.
//! There are no deadlines.
//!
//! A player comes by `ws://host/<room>?next=N`; `<room>` is one segment of a path and may be empty, and
//! `?next=N` may be missing. Frames are JSON text:
//!
//! | direction | frame | when |
//! |---|---|---|
//! | to a player | `{"IdAssigned":"<uuid>"}` | it came: first, and once |
//! | to a player | `{"NewPeer":"<uuid>"}` | another came after it; it makes that one an offer |
//! | to a player | `{"PeerLeft":"<uuid>"}` | another is gone |
//! | to a player | `{"Signal":{"sender":"<uuid>","data":…}}` | another sent it |
//! | from a player | `{"Signal":{"receiver":"<uuid>","data":…}}` | passed on, or dropped without a word |
//! | from a player | `"KeepAlive"` | never answered |
//! | from a player | anything else | skipped |
//!
//! | room | who is a group | when it is full |
//! |---|---|---|
//! | `r` | all who are there | who comes is refused |
//! | `r?next=N` | who came one after the other, up to N; a place that is left before is free again | it is complete: it stays a group, and the next player begins another |
//!
//! Guaranteed: a player hears of its own group only, and signals pass within it only. Whoever leaves is
//! reported to the rest of its group, complete or not. A room and a group are gone with their last player.
//! The same seed and the same inputs give the same outputs; no input makes it panic; memory is bounded by
//! [`RoomLimits`].
//!
//! Not guaranteed: that a signal arrives. The protocol has no answer that could refuse one, so those to
//! somebody who is not there, and those beyond [`RoomLimits::signals`], vanish. A player whose socket
//! breaks is gone: the protocol cannot take it up again, and it comes back as another.

mod room;

use std::collections::{BTreeMap, VecDeque};

use netplay_protocol::lobby::ErrorCode;
use netplay_protocol::matchbox::{Data, Event, Request};
use netplay_protocol::{Now, PeerId};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::config::RoomLimits;
use crate::io::ConnectionId;
use crate::rate::{Bucket, Verdict};

pub use room::{Room, RoomError};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A socket is open.
    Connected {
        /// Which.
        connection: ConnectionId,
        /// Where to.
        room: Room,
    },
    /// A player said this.
    Request {
        /// On which socket.
        connection: ConnectionId,
        /// What.
        request: Request,
    },
    /// A player said something that is no request. It is skipped, but counts.
    Malformed {
        /// On which socket.
        connection: ConnectionId,
    },
    /// A socket is closed. Unknown and already closed ones are ignored.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this event.
    Send {
        /// On which socket.
        connection: ConnectionId,
        /// What.
        event: Event,
    },
    /// Send what is still waiting, then close. The connection is forgotten: nothing more is sent to it,
    /// and what it says is ignored.
    Close {
        /// Which socket.
        connection: ConnectionId,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: &'static str,
    },
}

/// How much a [`Rooms`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomStats {
    /// Players.
    pub peers: usize,
    /// Rooms that somebody is in and that the next player enters.
    pub rooms: usize,
    /// Complete groups of `?next=N` that somebody is still in.
    pub groups: usize,
}

/// All rooms of one node. See the module for the rules.
pub struct Rooms {
    limits: RoomLimits,
    rng: ChaCha20Rng,
    players: BTreeMap<ConnectionId, Player>,
    groups: BTreeMap<u64, Group>,
    /// The group that the next player of a room enters.
    open: BTreeMap<Room, u64>,
    /// No group has this number or a greater one.
    next_group: u64,
    outputs: VecDeque<Output>,
}

struct Player {
    peer: PeerId,
    group: u64,
    signals: Bucket,
}

struct Group {
    /// Until it is complete.
    room: Option<Room>,
    /// Never empty between two inputs.
    members: BTreeMap<PeerId, ConnectionId>,
}

impl Rooms {
    /// An empty node. The seed gives all ids, so it must come from the operating system's random numbers:
    /// who guesses an id can disturb its owner's connections within its group.
    pub fn new(limits: RoomLimits, seed: [u8; 32]) -> Self {
        Self {
            limits,
            rng: ChaCha20Rng::from_seed(seed),
            players: BTreeMap::new(),
            groups: BTreeMap::new(),
            open: BTreeMap::new(),
            next_group: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input. Take all outputs before the next one.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Connected { connection, room } => self.connected(now, connection, room),
            Input::Request { connection, request } => {
                if self.admit(now, connection)
                    && let Request::Signal { receiver, data } = request
                {
                    self.signal(connection, receiver, data);
                }
            }
            Input::Malformed { connection } => {
                self.admit(now, connection);
            }
            Input::Disconnected { connection } => self.forget(connection),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How much there is.
    pub fn stats(&self) -> RoomStats {
        RoomStats {
            peers: self.players.len(),
            rooms: self.open.len(),
            groups: self.groups.len() - self.open.len(),
        }
    }

    /// Whether nothing at all is held.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let tables = self.players.is_empty() && self.groups.is_empty() && self.open.is_empty();
        tables && self.outputs.is_empty()
    }

    fn connected(&mut self, now: Now, connection: ConnectionId, room: Room) {
        // A number that is used twice is the shell's mistake; the older connection is gone then.
        self.forget(connection);
        match self.enter(connection, room) {
            Ok((group, peer)) => {
                let signals = Bucket::new(self.limits.signals, now);
                self.players.insert(connection, Player { peer, group, signals });
            }
            Err((code, text)) => self.outputs.push_back(Output::Close { connection, code, text }),
        }
    }

    /// Puts a newcomer into a group, and says so to it and to the others.
    fn enter(
        &mut self,
        connection: ConnectionId,
        room: Room,
    ) -> Result<(u64, PeerId), (ErrorCode, &'static str)> {
        if self.players.len() >= self.limits.max_peers {
            return Err((ErrorCode::ServerFull, "the server is full"));
        }
        let number = match self.open.get(&room) {
            Some(number) => *number,
            None if self.groups.len() >= self.limits.max_rooms => {
                return Err((ErrorCode::ServerFull, "the server has too many rooms"));
            }
            None => self.next_group,
        };
        let next = room.next;
        let group = self.groups.entry(number).or_insert_with(|| {
            self.next_group += 1;
            self.open.insert(room.clone(), number);
            Group { room: Some(room), members: BTreeMap::new() }
        });
        // A new group has room for one, whatever the limit: it would be left empty.
        if group.members.len() >= self.limits.max_room_peers.max(1) {
            return Err((ErrorCode::LobbyFull, "the room is full"));
        }
        let peer = loop {
            let peer = uuid_v4(&mut self.rng);
            if !group.members.contains_key(&peer) {
                break peer;
            }
        };
        let send = |connection, event| Output::Send { connection, event };
        self.outputs.push_back(send(connection, Event::IdAssigned(peer)));
        let others = group.members.values();
        self.outputs.extend(others.map(|other| send(*other, Event::NewPeer(peer))));
        group.members.insert(peer, connection);
        if next.is_some_and(|next| group.members.len() >= next.get())
            && let Some(room) = group.room.take()
        {
            self.open.remove(&room);
        }
        Ok((number, peer))
    }

    /// Whether a player is within its rate. If not, what it says is skipped, or it is closed.
    fn admit(&mut self, now: Now, connection: ConnectionId) -> bool {
        let Some(player) = self.players.get_mut(&connection) else {
            return false;
        };
        match player.signals.take(self.limits.signals, now) {
            Verdict::Go => true,
            Verdict::Wait(_) => false,
            Verdict::Abuse => {
                self.forget(connection);
                let (code, text) = (ErrorCode::RateLimited, "too many messages");
                self.outputs.push_back(Output::Close { connection, code, text });
                false
            }
        }
    }

    fn signal(&mut self, from: ConnectionId, receiver: PeerId, data: Data) {
        let Some(player) = self.players.get(&from) else { return };
        let sender = player.peer;
        let group = self.groups.get(&player.group);
        let to = group.and_then(|group| group.members.get(&receiver)).copied();
        // Nobody connects to itself.
        if let Some(connection) = to.filter(|to| *to != from) {
            let event = Event::Signal { sender, data };
            self.outputs.push_back(Output::Send { connection, event });
        }
    }

    /// Takes a player out of its group, and tells the rest.
    fn forget(&mut self, connection: ConnectionId) {
        let Some(Player { peer, group: number, .. }) = self.players.remove(&connection) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&number) else { return };
        group.members.remove(&peer);
        if group.members.is_empty() {
            if let Some(room) = group.room.take() {
                self.open.remove(&room);
            }
            self.groups.remove(&number);
            return;
        }
        let left = |other: &ConnectionId| Output::Send {
            connection: *other,
            event: Event::PeerLeft(peer),
        };
        self.outputs.extend(group.members.values().map(left));
    }
}

/// A random id in the form that the protocol asks for: version 4, variant 1 of RFC 9562.
fn uuid_v4(rng: &mut ChaCha20Rng) -> PeerId {
    const VERSION: u128 = 0xF << 76;
    const VARIANT: u128 = 0b11 << 62;
    let random = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    PeerId::from_u128(random & !VERSION & !VARIANT | 0x4 << 76 | 0b10 << 62)
}

#[cfg(test)]
mod tests;
