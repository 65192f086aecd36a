//! Playing allocates nothing.
//!
//! Property: once warm, a game thread that sends, flushes, polls, reads and drops packets does not
//! allocate, whatever it sends within its budget. Shown by a counting allocator over two sessions
//! joined in memory, at 60 Hz with both lanes in both directions.
//!
//! The rest of each step (the network's half, the lobby and the in-memory carrier, which copies and
//! orders packets) is counted too, and printed with its sizes. `ALLOCATION_TRACES=20` shows the
//! first 20 allocations of each run with their backtraces.

#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use netplay_protocol::frame::MessageId;
use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, Lane, PeerId};
use netplay_transport::memory::MemoryNetwork;
use netplay_transport::{JoinRequest, LobbyOptions, Polled, Session, SessionConfig, SessionEvent};

/// Sizes that are told apart: up to 16 bytes, 32, 64, …
const SIZES: usize = 16;

/// Passes everything to the system's allocator, and counts what the thread asked to have counted.
struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);
/// How many allocations are still shown with a backtrace.
static TRACED: AtomicUsize = AtomicUsize::new(0);
static BY_SIZE: [AtomicUsize; SIZES] = [const { AtomicUsize::new(0) }; SIZES];

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn note(size: usize) {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let class = size.div_ceil(16).next_power_of_two().trailing_zeros() as usize;
        BY_SIZE[class.min(SIZES - 1)].fetch_add(1, Ordering::Relaxed);
        let traced = TRACED.try_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if traced.is_ok() {
            COUNTED.set(false);
            eprintln!("{size} bytes\n{}", std::backtrace::Backtrace::force_capture());
            COUNTED.set(true);
        }
    }
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread in `work`.
fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.load(Ordering::Relaxed);
    COUNTED.set(true);
    let result = work();
    COUNTED.set(false);
    (result, COUNT.load(Ordering::Relaxed) - before)
}

fn take_sizes() -> Vec<(usize, usize)> {
    let sizes = BY_SIZE.iter().enumerate();
    let sizes = sizes.map(|(class, count)| (16 << class, count.swap(0, Ordering::Relaxed)));
    sizes.filter(|(_, count)| *count > 0).collect()
}

const TICK: Duration = Duration::from_micros(16_667);
/// Until every slot of the datagrams that are remembered was used once.
const WARM_UP: u32 = 300;
const MEASURED: u32 = 600;

struct Game {
    session: Session,
    peer: Option<PeerId>,
    messages: usize,
    inputs: usize,
    bytes: usize,
}

impl Game {
    fn open(network: &MemoryNetwork) -> Self {
        let entry = |name: &str, lane| SchemaEntry { name: name.into(), lane };
        let entries = vec![entry("a", Lane::Unreliable), entry("b", Lane::Reliable)];
        let schema = Schema::new(entries).expect("different names");
        let game = GameId::new("game").expect("a valid id");
        let build = BuildId::new("1").expect("a valid id");
        let config = SessionConfig::new(game, build, schema);
        let session = network.open(&config).expect("the default server address is valid");
        let options = LobbyOptions::public(2);
        session.join(JoinRequest::Quick(options)).expect("the session has just begun");
        Self { session, peer: None, messages: 0, inputs: 0, bytes: 0 }
    }

    fn receive(&mut self) {
        while let Some(polled) = self.session.poll() {
            match polled {
                Polled::Event(SessionEvent::PeerConnected(peer)) => self.peer = Some(peer),
                Polled::Event(_) => {}
                Polled::Packet(packet) => {
                    for message in packet.messages() {
                        self.messages += 1;
                        self.bytes += message.payload.len();
                    }
                }
                Polled::Inputs(inputs) => {
                    self.inputs += 1;
                    self.bytes += inputs.bytes().len();
                }
            }
        }
    }

    fn send(&mut self, reliable: usize) {
        let Some(peer) = self.peer else { return };
        let (effect, event) = (&[1; 200], &[2; 4096][..reliable]);
        self.session.send_inputs(peer, 7, &[3; 90], Some(TICK / 2)).expect("they fit");
        self.session.send(peer, Lane::Unreliable, MessageId(0), effect).expect("it fits");
        self.session.send(peer, Lane::Reliable, MessageId(1), event).expect("the queue has room");
        self.session.flush();
    }
}

/// Plays some ticks; gives the allocations of the games, and those of everything else.
fn play(network: &MemoryNetwork, games: &mut [Game; 2], ticks: u32, reliable: usize) -> (u64, u64) {
    let (mut ours, mut rest) = (0, 0);
    for _ in 0..ticks {
        for game in &mut *games {
            ours += counted(|| game.receive()).1;
            ours += counted(|| game.send(reliable)).1;
        }
        rest += counted(|| network.advance(TICK)).1;
    }
    (ours, rest)
}

fn connected() -> (MemoryNetwork, [Game; 2]) {
    let network = MemoryNetwork::new(1);
    network.set_conditions(
        &netplay_simnet::Conditions::perfect().with_delay(Duration::from_millis(15)),
    );
    let mut games = [Game::open(&network), Game::open(&network)];
    for _ in 0..60 {
        games.iter_mut().for_each(Game::receive);
        network.advance(TICK);
    }
    assert!(games.iter().all(|game| game.peer.is_some()), "both are connected");
    (network, games)
}

#[test]
fn a_game_thread_in_play_allocates_nothing() {
    let traces = std::env::var("ALLOCATION_TRACES").map_or(0, |n| n.parse().unwrap());
    let (network, mut games) = connected();
    for reliable in [20, 600, 3000] {
        play(&network, &mut games, WARM_UP, reliable);
        take_sizes();
        TRACED.store(traces, Ordering::Relaxed);
        let before = games.each_ref().map(|game| (game.messages, game.inputs));
        let (ours, rest) = play(&network, &mut games, MEASURED, reliable);
        println!(
            "reliable messages of {reliable} B, {MEASURED} ticks: {ours} allocations of the games, \
             {rest} of the rest; (size, count): {:?}",
            take_sizes()
        );
        for (game, (messages, inputs)) in games.iter().zip(before) {
            assert_eq!(game.messages - messages, 2 * MEASURED as usize, "everything arrived");
            assert_eq!(game.inputs - inputs, 2 * MEASURED as usize, "the inputs too, and again");
        }
        assert_eq!(ours, 0);
        // Cut messages are put together in memory of their own; all else reuses buffers. Each tick has
        // two datagrams each way and several messages in each.
        if reliable <= 1000 {
            assert!(rest < u64::from(MEASURED), "less than one in a tick: {rest}");
        }
    }
}
