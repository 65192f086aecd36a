//! The queues between the game thread and the network thread.
//!
//! Every one is bounded, and says what happens when it is full:
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | lossy messages to one peer | [`LOSSY_TO_PEER`] batches | the oldest batch is dropped, its messages counted |
//! | reliable messages to one peer | the lane's `queue_messages` and `queue_bytes` | the send is refused with a typed error |
//! | bulk messages to one peer | the lane's `queue_bytes` | the send is refused with a typed error |
//! | lossy messages to the game | [`LOSSY_TO_GAME`] batches | the oldest batch is dropped and counted |
//! | inputs to one peer | the block of one tick | a newer one takes its place: it says the same and more |
//! | inputs to the game | [`INPUTS_TO_GAME`] blocks | the oldest block is dropped |
//! | events and reliable messages to the game | credit of each peer, [`EVENTS_MAX`] events | the peer's sender stops; too many events end the session |
//! | commands to the network | [`COMMANDS`] | the command is refused |
//!
//! Buffers circulate: what the network has sent goes back to the game, and what the game has read
//! goes back to the network, so that the steady state allocates nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use netplay_peer::link::{Delivery, InputBlock};
use netplay_protocol::PeerId;
use netplay_protocol::lane::{LaneConfig, LaneKind, LaneTable};
use netplay_protocol::limits::{
    DATAGRAM_MAX, LANES_MAX, PARTIALS_MAX, RELIABLE_WINDOW, RELIABLE_WINDOW_MESSAGES,
    STREAM_PACKET_MAX, STREAM_WINDOW,
};

use crate::clock::MeshView;
use crate::stats::LinkStats;

/// Flushes' lossy messages that wait in the hand-over to the network: a second at 60 Hz. The lanes
/// behind it have limits of their own.
pub const LOSSY_TO_PEER: usize = 64;

/// Bytes of a batch of lossy messages; more go into another.
pub(crate) const LOSSY_BATCH_MAX: usize = 16 * 1024;

/// Flushes' reliable messages that wait in the hand-over to the network; more wait on the game's side,
/// and share a batch there.
pub(crate) const RELIABLE_TO_PEER: usize = 32;

/// Packets of channel 2 that wait in the hand-over to the network; more wait on the game's side, and
/// share packets there.
pub(crate) const STREAM_TO_PEER: usize = 32;

/// Datagrams' lossy messages that wait for the game: half a second of 15 peers at 60 Hz. Older state
/// is of no use.
pub const LOSSY_TO_GAME: usize = 512;

/// Bytes of the same: as much as so many full datagrams have, for a message that was put together from
/// several counts as one.
pub(crate) const LOSSY_BYTES_TO_GAME: usize = LOSSY_TO_GAME * DATAGRAM_MAX;

/// Input blocks that wait for the game: a quarter of a second of 15 peers at 60 Hz, each block sent twice. What
/// is dropped is in later blocks too.
pub const INPUTS_TO_GAME: usize = 512;

/// Events and stream packets in the hand-over to the game; more wait on the network's side.
pub(crate) const TO_GAME: usize = 256;

/// Lifecycle events that wait for a game which does not look. An hour in a debugger stays below.
pub const EVENTS_MAX: usize = 4096;

/// Commands that wait for the network thread.
pub const COMMANDS: usize = 64;

/// Spare buffers of datagram size, and of stream size.
const SPARE_SMALL: usize = 256;
const SPARE_LARGE: usize = 32;
const SMALL: usize = 2048;

/// What an entry of a queue takes besides its bytes: about twice what it measures, for the allocator.
const ENTRY: usize = 256;

/// The most that our own code holds for one peer, in bytes: what waits for it, and what came from it
/// and was not read. Not in it: what the WebRTC library takes for a connection.
///
/// ```
/// use netplay_transport::{LaneTable, memory_per_peer};
///
/// assert!(memory_per_peer(&LaneTable::default()) < 9 * 1024 * 1024);
/// ```
pub fn memory_per_peer(lanes: &LaneTable) -> usize {
    let lane = |config: &LaneConfig| {
        let bytes = config.kind.message_max() + config.queue_bytes as usize;
        let (messages, incoming) = match config.kind {
            LaneKind::Unreliable => (config.queue_messages as usize, PARTIALS_MAX),
            LaneKind::Sequenced => (2 * config.queue_messages as usize, PARTIALS_MAX),
            LaneKind::Reliable | LaneKind::ReliableUnordered => {
                (config.queue_messages as usize + usize::from(RELIABLE_WINDOW_MESSAGES), 0)
            }
            LaneKind::Bulk => (0, 1),
        };
        bytes + messages * ENTRY + incoming * config.kind.message_max()
    };
    // What came of channel 2 and was not read, and what we keep of it to send it again.
    let windows = 2 * RELIABLE_WINDOW as usize + 2 * STREAM_WINDOW as usize;
    let hand_over = LOSSY_TO_PEER * LOSSY_BATCH_MAX + LOSSY_BYTES_TO_GAME;
    let spare = SPARE_SMALL * SMALL + SPARE_LARGE * 2 * STREAM_PACKET_MAX;
    lanes.iter().map(|(_, config)| lane(config)).sum::<usize>() + windows + hand_over + spare
}

/// Spare packet buffers, shared by both threads.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    small: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    large: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { small: bounded(SPARE_SMALL), large: bounded(SPARE_LARGE) }
    }

    /// An empty buffer for a datagram.
    pub(crate) fn small(&self) -> Vec<u8> {
        self.small.1.try_recv().unwrap_or_else(|_| Vec::with_capacity(DATAGRAM_MAX))
    }

    /// An empty buffer for a packet of channel 2: one that was large before, or else any, for most
    /// of these packets are small too.
    pub(crate) fn large(&self) -> Vec<u8> {
        let large = self.large.1.try_recv();
        large.unwrap_or_else(|_| self.small())
    }

    /// An empty buffer for about so many bytes.
    pub(crate) fn for_len(&self, len: usize) -> Vec<u8> {
        if len > DATAGRAM_MAX { self.large() } else { self.small() }
    }

    /// Takes a buffer back; frees it if there are enough, if it would have to grow for a datagram, or
    /// if it is an outsized one.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let spare = match buffer.capacity() {
            ..DATAGRAM_MAX => return,
            DATAGRAM_MAX..=SMALL => &self.small.0,
            capacity if capacity <= 2 * STREAM_PACKET_MAX => &self.large.0,
            _ => return,
        };
        drop(spare.try_send(buffer));
    }
}

/// What has left a lane's queue since the link was made.
#[derive(Debug, Default)]
pub(crate) struct LaneShared {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl LaneShared {
    /// Messages, and bytes of their bodies. The game's count of what it handed in is never behind.
    pub(crate) fn released(&self) -> (u64, u64) {
        (self.messages.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire))
    }

    pub(crate) fn set_released(&self, messages: u64, bytes: u64) {
        self.messages.store(messages, Ordering::Release);
        self.bytes.store(bytes, Ordering::Release);
    }
}

/// What both threads know about one link.
#[derive(Debug, Default)]
pub(crate) struct LinkShared {
    /// What the game has consumed of channel 2 since the link was made, in cost.
    pub(crate) stream_consumed: AtomicU64,
    /// What it has consumed of reliable messages in datagrams.
    pub(crate) reliable_consumed: AtomicU64,
    /// Bytes of bulk messages that the game handed in and the network has not sent yet.
    pub(crate) stream_bytes: AtomicUsize,
    /// Lossy messages to this peer that were dropped because the hand-over was full.
    pub(crate) lossy_dropped: AtomicU64,
    pub(crate) lanes: [LaneShared; LANES_MAX],
    stats: Mutex<LinkStats>,
}

impl LinkShared {
    /// The latest statistics, unless the network thread is writing them at this moment.
    pub(crate) fn try_stats(&self) -> Option<LinkStats> {
        match self.stats.try_lock() {
            Ok(stats) => Some(*stats),
            Err(TryLockError::Poisoned(stats)) => Some(*stats.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn set_stats(&self, stats: LinkStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}

/// Lossy messages of one flush.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Frames.
    pub(crate) bytes: Vec<u8>,
    /// How many.
    pub(crate) messages: u32,
}

/// The game's end of the queues to one peer.
#[derive(Debug)]
pub(crate) struct PeerSender {
    lossy: Sender<Batch>,
    /// The other end, to drop the oldest when full.
    oldest: Receiver<Batch>,
    inputs: Sender<InputBlock>,
    superseded: Receiver<InputBlock>,
    pub(crate) reliable: Sender<Vec<u8>>,
    pub(crate) stream: Sender<Vec<u8>>,
    pub(crate) shared: Arc<LinkShared>,
}

/// The network's end of the queues to one peer.
#[derive(Debug)]
pub(crate) struct PeerReceiver {
    pub(crate) lossy: Receiver<Batch>,
    pub(crate) inputs: Receiver<InputBlock>,
    pub(crate) reliable: Receiver<Vec<u8>>,
    pub(crate) stream: Receiver<Vec<u8>>,
    pub(crate) shared: Arc<LinkShared>,
}

/// Both ends of the queues to one peer.
pub(crate) fn peer_queues() -> (PeerSender, PeerReceiver) {
    let (lossy, lossy_out) = bounded(LOSSY_TO_PEER);
    let (inputs, inputs_out) = bounded(1);
    let (reliable, reliable_out) = bounded(RELIABLE_TO_PEER);
    let (stream, stream_out) = bounded(STREAM_TO_PEER);
    let shared = Arc::new(LinkShared::default());
    let sender = PeerSender {
        lossy,
        oldest: lossy_out.clone(),
        inputs,
        superseded: inputs_out.clone(),
        reliable,
        stream,
        shared: shared.clone(),
    };
    let receiver = PeerReceiver {
        lossy: lossy_out,
        inputs: inputs_out,
        reliable: reliable_out,
        stream: stream_out,
        shared,
    };
    (sender, receiver)
}

impl PeerSender {
    /// Queues lossy messages; drops the oldest batch when full, and counts its messages.
    pub(crate) fn push_lossy(&self, batch: Batch, pool: &Pool) {
        push_dropping_oldest(&self.lossy, &self.oldest, batch, |oldest| {
            let messages = u64::from(oldest.messages);
            self.shared.lossy_dropped.fetch_add(messages, Ordering::Relaxed);
            pool.give(oldest.bytes);
        });
    }

    /// Queues inputs; they take the place of others that wait.
    pub(crate) fn push_inputs(&self, inputs: InputBlock, pool: &Pool) {
        push_dropping_oldest(&self.inputs, &self.superseded, inputs, |superseded| {
            pool.give(superseded.bytes);
        });
    }
}

/// Pushes into a bounded queue of which this is the only producer.
fn push_dropping_oldest<T>(
    queue: &Sender<T>,
    oldest: &Receiver<T>,
    item: T,
    mut dropped: impl FnMut(T),
) {
    let mut item = item;
    while let Err(TrySendError::Full(back)) = queue.try_send(item) {
        item = back;
        if let Ok(old) = oldest.try_recv() {
            dropped(old);
        }
    }
}

/// An input block of one peer.
#[derive(Debug)]
pub(crate) struct ArrivedInputs {
    pub(crate) peer: PeerId,
    pub(crate) tick: u16,
    pub(crate) bytes: Vec<u8>,
    pub(crate) again: bool,
}

/// Game messages of one peer, as they arrived.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) peer: PeerId,
    pub(crate) delivery: Delivery,
}

/// Wakes the other thread; wakes before a wait are not lost, and many are one.
#[derive(Debug)]
pub(crate) struct Bell {
    ring: Sender<()>,
    heard: Receiver<()>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        let (ring, heard) = bounded(1);
        Self { ring, heard }
    }

    pub(crate) fn ring(&self) {
        let _ = self.ring.try_send(());
    }

    /// Waits for a ring; false when the time ran out first.
    pub(crate) fn wait(&self, timeout: std::time::Duration) -> bool {
        self.heard.recv_timeout(timeout).is_ok()
    }
}

/// What one session's two threads share besides the queues of each peer.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    /// Rung by the network thread when something waits for the game.
    pub(crate) bell: Bell,
    inputs: (Sender<ArrivedInputs>, Receiver<ArrivedInputs>),
    lossy: (Sender<Arrival>, Receiver<Arrival>),
    /// Bytes in it.
    lossy_bytes: AtomicUsize,
    /// Datagrams of lossy messages that were dropped because the game did not read.
    pub(crate) inbound_dropped: AtomicU64,
    /// Our copy of the clock that all share.
    mesh: Mutex<Option<MeshView>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            pool: Pool::new(),
            bell: Bell::new(),
            inputs: bounded(INPUTS_TO_GAME),
            lossy: bounded(LOSSY_TO_GAME),
            lossy_bytes: AtomicUsize::new(0),
            inbound_dropped: AtomicU64::new(0),
            mesh: Mutex::new(None),
        }
    }

    /// Queues lossy messages for the game; drops and counts the oldest when full.
    pub(crate) fn push_lossy(&self, arrival: Arrival) {
        let dropped = |oldest: Arrival| {
            self.lossy_bytes.fetch_sub(oldest.delivery.packet.len(), Ordering::AcqRel);
            self.inbound_dropped.fetch_add(1, Ordering::Relaxed);
            self.pool.give(oldest.delivery.packet);
        };
        let len = arrival.delivery.packet.len();
        while self.lossy_bytes.load(Ordering::Acquire) + len > LOSSY_BYTES_TO_GAME
            && let Ok(oldest) = self.lossy.1.try_recv()
        {
            dropped(oldest);
        }
        self.lossy_bytes.fetch_add(len, Ordering::AcqRel);
        push_dropping_oldest(&self.lossy.0, &self.lossy.1, arrival, dropped);
    }

    /// Queues inputs for the game; drops the oldest when full.
    pub(crate) fn push_inputs(&self, inputs: ArrivedInputs) {
        push_dropping_oldest(&self.inputs.0, &self.inputs.1, inputs, |oldest| {
            self.pool.give(oldest.bytes);
        });
    }

    pub(crate) fn pop_inputs(&self) -> Option<ArrivedInputs> {
        self.inputs.1.try_recv().ok()
    }

    pub(crate) fn set_mesh(&self, view: Option<MeshView>) {
        *self.mesh.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// The latest view, unless the network thread is writing it at this moment.
    pub(crate) fn try_mesh(&self) -> Option<Option<MeshView>> {
        match self.mesh.try_lock() {
            Ok(view) => Some(*view),
            Err(TryLockError::Poisoned(view)) => Some(*view.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn pop_lossy(&self) -> Option<Arrival> {
        let arrival = self.lossy.1.try_recv().ok()?;
        self.lossy_bytes.fetch_sub(arrival.delivery.packet.len(), Ordering::AcqRel);
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_hand_over_drops_the_oldest_lossy_messages_and_counts_them() {
        let pool = Pool::new();
        let (sender, receiver) = peer_queues();
        for i in 0..LOSSY_TO_PEER + 3 {
            sender.push_lossy(Batch { bytes: vec![i as u8], messages: 2 }, &pool);
        }
        assert_eq!(receiver.shared.lossy_dropped.load(Ordering::Relaxed), 6);
        assert_eq!(receiver.lossy.try_recv().unwrap().bytes, [3]);
        assert_eq!(receiver.lossy.len(), LOSSY_TO_PEER - 1);
    }

    #[test]
    fn inputs_that_wait_are_superseded_on_the_way_out_and_dropped_oldest_first_on_the_way_in() {
        let pool = Pool::new();
        let (sender, receiver) = peer_queues();
        for tick in 0..3 {
            sender.push_inputs(InputBlock { tick, bytes: Vec::new(), again: None }, &pool);
        }
        assert_eq!(receiver.inputs.try_iter().map(|block| block.tick).collect::<Vec<_>>(), [2]);

        let shared = Shared::new();
        for tick in 0..INPUTS_TO_GAME as u16 + 2 {
            let peer = PeerId::from_u128(1);
            shared.push_inputs(ArrivedInputs { peer, tick, bytes: Vec::new(), again: false });
        }
        let ticks: Vec<_> = std::iter::from_fn(|| shared.pop_inputs()).map(|i| i.tick).collect();
        assert_eq!((ticks.len(), ticks[0]), (INPUTS_TO_GAME, 2));
    }

    #[test]
    fn lossy_messages_for_the_game_are_bounded_in_bytes_too() {
        let shared = Shared::new();
        let large = || Arrival {
            peer: PeerId::from_u128(1),
            delivery: Delivery {
                reliable: false,
                arrived: netplay_protocol::Now::ZERO,
                packet: vec![0; LOSSY_BYTES_TO_GAME / 10],
                offset: 0,
                cost: 0,
                stream: false,
            },
        };
        (0..25).for_each(|_| shared.push_lossy(large()));
        assert_eq!(shared.inbound_dropped.load(Ordering::Relaxed), 15);
        assert_eq!(std::iter::from_fn(|| shared.pop_lossy()).count(), 10);
        assert_eq!(shared.lossy_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn buffers_circulate_and_outsized_ones_are_freed() {
        let pool = Pool::new();
        let mut buffer = Vec::with_capacity(DATAGRAM_MAX);
        buffer.push(1);
        let address = buffer.as_ptr();
        pool.give(buffer);
        let again = pool.small();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        pool.give(Vec::with_capacity(1 << 20));
        pool.give(Vec::with_capacity(16));
        assert_eq!(pool.large().capacity(), DATAGRAM_MAX);
    }
}
