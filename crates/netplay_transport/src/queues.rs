//! The queues between the game thread and the network thread.
//!
//! Every one is bounded, and says what happens when it is full:
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | datagrams to one peer | [`DATAGRAMS_TO_PEER`] packets | the oldest is dropped and counted |
//! | stream to one peer | [`STREAM_TO_PEER_BYTES`] | the send is refused with a typed error |
//! | datagrams to the game | [`DATAGRAMS_TO_GAME`] packets | the oldest is dropped and counted |
//! | events and stream to the game | credit of each peer, [`EVENTS_MAX`] events | the peer's sender stops; too many events end the session |
//! | commands to the network | [`COMMANDS`] | the command is refused |
//!
//! Buffers circulate: what the network has sent goes back to the game, and what the game has read
//! goes back to the network, so that the steady state allocates nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use netplay_peer::link::Delivery;
use netplay_protocol::PeerId;
use netplay_protocol::limits::{DATAGRAM_MAX, RELIABLE_MESSAGE_MAX, STREAM_PACKET_MAX};

use crate::stats::LinkStats;

/// Datagrams that wait for one peer: two seconds of one a tick at 60 Hz.
pub const DATAGRAMS_TO_PEER: usize = 128;

/// Packets of channel 2 that wait in the hand-over to the network; more wait on the game's side, and
/// share packets there.
pub(crate) const STREAM_TO_PEER: usize = 64;

/// Bytes of reliable messages that wait for one peer, on the game's side and in the hand-over.
pub const STREAM_TO_PEER_BYTES: usize = 2 * RELIABLE_MESSAGE_MAX;

/// Datagrams that wait for the game: half a second of 15 peers at 60 Hz. Older state is of no use.
pub const DATAGRAMS_TO_GAME: usize = 512;

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

/// What both threads know about one link.
#[derive(Debug, Default)]
pub(crate) struct LinkShared {
    /// What the game has consumed of channel 2, in cost, since the link was made.
    pub(crate) consumed: AtomicU64,
    /// Bytes of reliable messages that the game handed in and the network has not sent yet.
    pub(crate) stream_bytes: AtomicUsize,
    /// Datagrams to this peer that were dropped because the queue was full.
    pub(crate) datagrams_dropped: AtomicU64,
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

/// The game's end of the queues to one peer.
#[derive(Debug)]
pub(crate) struct PeerSender {
    pub(crate) datagrams: Sender<Vec<u8>>,
    /// The other end, to drop the oldest when full.
    oldest: Receiver<Vec<u8>>,
    pub(crate) stream: Sender<Vec<u8>>,
    pub(crate) shared: Arc<LinkShared>,
}

/// The network's end of the queues to one peer.
#[derive(Debug)]
pub(crate) struct PeerReceiver {
    pub(crate) datagrams: Receiver<Vec<u8>>,
    pub(crate) stream: Receiver<Vec<u8>>,
    pub(crate) shared: Arc<LinkShared>,
}

/// Both ends of the queues to one peer.
pub(crate) fn peer_queues() -> (PeerSender, PeerReceiver) {
    let (datagrams, datagrams_out) = bounded(DATAGRAMS_TO_PEER);
    let (stream, stream_out) = bounded(STREAM_TO_PEER);
    let shared = Arc::new(LinkShared::default());
    let sender =
        PeerSender { datagrams, oldest: datagrams_out.clone(), stream, shared: shared.clone() };
    (sender, PeerReceiver { datagrams: datagrams_out, stream: stream_out, shared })
}

impl PeerSender {
    /// Queues a datagram; drops and counts the oldest when full.
    pub(crate) fn push_datagram(&self, packet: Vec<u8>, pool: &Pool) {
        push_dropping_oldest(&self.datagrams, &self.oldest, packet, |oldest| {
            self.shared.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
            pool.give(oldest);
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
    datagrams: (Sender<Arrival>, Receiver<Arrival>),
    /// Datagrams from peers that were dropped because the game did not read.
    pub(crate) inbound_dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            pool: Pool::new(),
            bell: Bell::new(),
            datagrams: bounded(DATAGRAMS_TO_GAME),
            inbound_dropped: AtomicU64::new(0),
        }
    }

    /// Queues datagrams for the game; drops and counts the oldest when full.
    pub(crate) fn push_datagram(&self, arrival: Arrival) {
        push_dropping_oldest(&self.datagrams.0, &self.datagrams.1, arrival, |oldest| {
            self.inbound_dropped.fetch_add(1, Ordering::Relaxed);
            self.pool.give(oldest.delivery.packet);
        });
    }

    pub(crate) fn pop_datagram(&self) -> Option<Arrival> {
        self.datagrams.1.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_datagram_queue_drops_the_oldest_and_counts() {
        let pool = Pool::new();
        let (sender, receiver) = peer_queues();
        for i in 0..DATAGRAMS_TO_PEER + 3 {
            sender.push_datagram(vec![i as u8], &pool);
        }
        assert_eq!(receiver.shared.datagrams_dropped.load(Ordering::Relaxed), 3);
        assert_eq!(receiver.datagrams.try_recv().unwrap(), [3]);
        assert_eq!(receiver.datagrams.len(), DATAGRAMS_TO_PEER - 1);
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
