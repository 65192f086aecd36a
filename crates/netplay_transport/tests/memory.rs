//! What one link may hold, whatever its games do.
//!
//! Property: a game that floods every lane, and a game that never reads, together hold no more than the
//! documented bound ([`netplay_transport::memory_per_peer`]). Shown by an allocator that counts the
//! bytes in use, over two sessions joined in memory, with a path that is perfect, lossy or cut.

#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::alloc::{GlobalAlloc, Layout, System};

use netplay_protocol::frame::MessageId;
use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, Lane, PeerId};
use netplay_simnet::Conditions;
use netplay_transport::memory::MemoryNetwork;
use netplay_transport::{
    JoinRequest, LobbyOptions, Polled, SendError, Session, SessionConfig, SessionEvent,
    memory_per_peer,
};

/// Passes everything to the system's allocator, and counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TICK: Duration = Duration::from_micros(16_667);
const LANES: [Lane; 4] = [Lane::Unreliable, Lane::Sequenced, Lane::Reliable, Lane::Bulk];

fn config() -> SessionConfig {
    let entry = |lane: Lane| SchemaEntry { name: lane.to_string(), lane };
    let schema = Schema::new(LANES.map(entry).into()).expect("different names");
    let game = GameId::new("game").expect("a valid id");
    SessionConfig::new(game, BuildId::new("1").expect("a valid id"), schema)
}

fn open(network: &MemoryNetwork, config: &SessionConfig) -> Session {
    let session = network.open(config).expect("the default server address is valid");
    let options = LobbyOptions::public(2);
    session.join(JoinRequest::Quick(options)).expect("the session has just begun");
    session
}

/// The peer, once connected.
fn connected(session: &mut Session) -> Option<PeerId> {
    while let Some(polled) = session.poll() {
        if let Polled::Event(SessionEvent::PeerConnected(peer)) = polled {
            return Some(peer);
        }
    }
    None
}

/// Fills the lanes' queues as far as they take messages of this size, up to a few thousand a tick.
fn flood(session: &mut Session, to: PeerId, len: usize, tick: u32) {
    for (id, lane) in LANES.into_iter().enumerate() {
        for i in 0..(128 * 1024 / (len + 256)) as u32 {
            let payload = &vec![i as u8; len];
            let id = MessageId(id as u16);
            let sent = if lane == Lane::Sequenced {
                session.send_keyed(to, lane, (tick * 7 + i) as u16, id, payload)
            } else {
                session.send(to, lane, id, payload)
            };
            match sent {
                Ok(()) => {}
                Err(SendError::QueueFull) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    session.flush();
}

/// Two sessions that are connected, and their peers.
fn pair(network: &MemoryNetwork) -> ([Session; 2], [PeerId; 2]) {
    let config = config();
    let mut sessions = [open(network, &config), open(network, &config)];
    let mut peers = [None; 2];
    for _ in 0..60 {
        network.advance(TICK);
        for (session, peer) in sessions.iter_mut().zip(&mut peers) {
            *peer = peer.or_else(|| connected(session));
        }
    }
    (sessions, peers.map(|peer| peer.expect("both are connected")))
}

#[test]
fn reliable_data_that_a_cut_path_holds_does_not_stop_the_time() {
    let network = MemoryNetwork::new(1);
    let ([mut a, _b], [to, from]) = pair(&network);
    network.block(to, from, true);
    network.block(from, to, true);
    a.send(to, Lane::Bulk, MessageId(3), b"world").expect("the queue has room");
    a.flush();
    let before = network.now();
    network.advance(TICK);
    assert_eq!(network.now(), before + TICK);
}

#[test]
fn a_flood_that_nobody_reads_stays_within_the_bound() {
    let bound = memory_per_peer(&config().lanes);
    println!("bound {} KiB", bound / 1024);
    for (path, conditions) in [
        ("perfect", Conditions::perfect()),
        ("lossy", Conditions::perfect().with_delay(Duration::from_millis(50)).with_loss(0.2)),
        ("cut", Conditions::perfect()),
    ] {
        for len in [1, 100, 1000, 10_000] {
            let network = MemoryNetwork::new(1);
            let ([mut a, mut b], [to, from]) = pair(&network);
            network.set_conditions(&conditions);
            network.block(from, to, path == "cut");
            let before = IN_USE.load(Ordering::Relaxed);
            let mut most = 0;
            for tick in 0..120 {
                flood(&mut a, to, len, tick);
                b.flush();
                network.advance(TICK);
                most = most.max(IN_USE.load(Ordering::Relaxed).saturating_sub(before));
            }
            println!("{path}, messages of {len} B: {} KiB on both sides", most / 1024);
            // One side sends and the other receives; the bound is for both in one place.
            assert!(most < bound, "{path}, {len} B: {most}");
        }
    }
}
