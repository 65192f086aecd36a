//! The socket that a ggrs session is given, and its queues.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::ggrs::{Message, NonBlockingSocket};
use netplay_protocol::PeerId;

use super::guard::Guard;
use super::wire::Packet;

/// Messages that may wait for one player, each way: ggrs sends two in each tick, and two more five times a
/// second. A game that stands still for half a second finds them all.
pub(super) const QUEUE_MAX: usize = 64;

/// What went through the sockets of ggrs sessions since the start of the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GgrsCounts {
    /// Messages that ggrs sent.
    pub sent: u64,
    /// Messages that ggrs was given.
    pub received: u64,
    /// Messages that no honest player's ggrs sends, or no player of the session. ggrs has not seen them.
    pub refused: u64,
    /// Messages that were dropped because a queue was full, or their player cannot be reached; in each
    /// case the oldest. ggrs says everything again that matters.
    pub dropped: u64,
}

impl GgrsCounts {
    pub(super) const fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.refused += other.refused;
        self.dropped += other.dropped;
    }
}

/// What waits for one player, or from one.
#[derive(Default)]
struct Queue(VecDeque<Packet>);

impl Queue {
    /// Says whether there was room.
    fn push(&mut self, packet: Packet) -> bool {
        let has_room = self.0.len() < QUEUE_MAX;
        if !has_room {
            self.0.pop_front();
        }
        self.0.push_back(packet);
        has_room
    }
}

/// Between the plugin's systems and a session, which is wherever the game puts it.
#[derive(Default)]
pub(super) struct Shared {
    /// From each player of the session.
    arrived: BTreeMap<PeerId, Queue>,
    /// For each player of the session.
    leaving: BTreeMap<PeerId, Queue>,
    /// Players who have left the lobby (true) or are back (false), since the session looked last.
    departed: BTreeMap<PeerId, bool>,
    /// How often the session has looked.
    pub(super) looks: u64,
    counts: GgrsCounts,
}

/// Both ends of a socket hold one.
#[derive(Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Shared>>);

impl Wire {
    pub(super) fn new(players: impl IntoIterator<Item = PeerId>) -> Self {
        let queues: BTreeMap<_, _> =
            players.into_iter().map(|peer| (peer, Queue::default())).collect();
        let leaving = queues.keys().map(|peer| (*peer, Queue::default())).collect();
        let shared = Shared { arrived: queues, leaving, ..Shared::default() };
        Self(Arc::new(Mutex::new(shared)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        // What is behind it is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the other end is gone.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Shared {
    /// A message of a player has arrived.
    pub(super) fn arrive(&mut self, from: PeerId, packet: Packet) {
        match self.arrived.get_mut(&from) {
            Some(queue) => self.counts.dropped += u64::from(!queue.push(packet)),
            None => self.counts.refused += 1,
        }
    }

    /// A player has left the lobby, or is back.
    pub(super) fn depart(&mut self, peer: PeerId, departed: bool) {
        if self.arrived.contains_key(&peer) {
            self.departed.insert(peer, departed);
        }
    }

    /// The next message that leaves, and for whom.
    pub(super) fn leave(&mut self) -> Option<(PeerId, Packet)> {
        let mut queues = self.leaving.iter_mut();
        queues.find_map(|(peer, queue)| Some((*peer, queue.0.pop_front()?)))
    }

    /// A message that left has no way to its player.
    pub(super) const fn lose(&mut self) {
        self.counts.dropped += 1;
    }

    /// What was counted since the last time.
    pub(super) fn take_counts(&mut self) -> GgrsCounts {
        std::mem::take(&mut self.counts)
    }

    /// Everything that has arrived, player by player.
    pub(super) fn take_arrived(&mut self) -> impl Iterator<Item = (PeerId, Packet)> {
        let queues = self.arrived.iter_mut();
        queues.flat_map(|(peer, queue)| queue.0.drain(..).map(|packet| (*peer, packet)))
    }

    /// A session has sent this.
    pub(super) fn send(&mut self, to: PeerId, packet: Packet) {
        self.counts.sent += 1;
        let has_room = self.leaving.get_mut(&to).is_some_and(|queue| queue.push(packet));
        self.counts.dropped += u64::from(!has_room);
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.arrived.values().chain(self.leaving.values()).map(|queue| queue.0.len()).sum()
    }
}

/// A socket for one ggrs session: [`GgrsLobby::socket`](super::GgrsLobby::socket) makes one, and
/// `start_p2p_session` takes it.
///
/// It belongs to the players of the lobby at that moment, by their ids, so that a player whose link moves
/// to another connection is still the same to ggrs. Messages ride the unreliable lane. Both ways up to 64 of
/// each player wait; beyond that the oldest is dropped and counted in [`GgrsCounts`]. When a player leaves
/// the lobby ggrs is told so, as soon as it waits for that player's inputs.
///
/// Guaranteed: no bytes that a player sends make ggrs panic. Not guaranteed, because ggrs 0.13 has no
/// answer to it: that a session plays on when it is left by players before their first input, or that
/// those who stay agree on the last inputs of a player who left three or more
/// ([`ggrs::DesyncDetection`](::ggrs::DesyncDetection) reports if they do not), or that it outlives two who
/// fall silent at a chosen moment. Nor that `bevy_ggrs` 0.22 outlives a player without input delay, see
/// [`GgrsLobby::session_builder`](super::GgrsLobby::session_builder).
pub struct GgrsSocket {
    wire: Wire,
    guard: Guard,
}

impl GgrsSocket {
    pub(super) fn new(wire: Wire, players: impl IntoIterator<Item = PeerId>) -> Self {
        Self { wire, guard: Guard::new(players) }
    }

    /// For a session in which this member of the lobby is a `PlayerType::Spectator`.
    #[must_use]
    pub fn with_spectator(mut self, peer: PeerId) -> Self {
        self.guard.add_spectator(peer);
        self
    }

    /// For `start_spectator_session`.
    #[must_use]
    pub const fn for_spectator(mut self) -> Self {
        self.guard.watch();
        self
    }
}

impl std::fmt::Debug for GgrsSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgrsSocket").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl NonBlockingSocket<PeerId> for GgrsSocket {
    fn send_to(&mut self, message: &Message, address: &PeerId) {
        let mut shared = self.wire.lock();
        match Packet::of(message) {
            Some(packet) => {
                self.guard.sent(*address, &packet);
                shared.send(*address, packet);
            }
            // Too large for the lane: ggrs says the same again, and more; the session stands still.
            None => shared.lose(),
        }
    }

    fn receive_all_messages(&mut self) -> Vec<(PeerId, Message)> {
        let mut shared = self.wire.lock();
        shared.looks += 1;
        while let Some((peer, departed)) = shared.departed.pop_first() {
            self.guard.departed(peer, departed);
        }
        let mut messages = Vec::new();
        let refused = self.guard.look(shared.take_arrived(), |peer, packet| {
            messages.extend(packet.message().map(|message| (peer, message)));
        });
        shared.counts.refused += refused;
        shared.counts.received += messages.len() as u64;
        messages
    }
}
