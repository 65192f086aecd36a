//! What a message costs the game's thread: writing and handing over, and taking and reading. The
//! network's half and the path between are not part of the times.
//!
//! The budget is 1 µs per message each way. All figures are for a whole tick; the throughput line
//! gives messages per second, so 1 Melem/s is 1 µs per message.
//!
//! `cargo bench -p netplay_benches --bench game_path`

use core::hint::black_box;
use core::time::Duration;
use std::time::Instant;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use netplay_protocol::frame::MessageId;
use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, Lane, PeerId};
use netplay_transport::memory::MemoryNetwork;
use netplay_transport::{JoinRequest, LobbyOptions, Polled, Session, SessionConfig, SessionEvent};

const TICK: Duration = Duration::from_micros(16_667);
const PAYLOAD: [u8; 64] = [7; 64];

struct Game {
    session: Session,
    peer: Option<PeerId>,
}

impl Game {
    fn open(network: &MemoryNetwork) -> Self {
        let entry = |name: &str, lane| SchemaEntry { name: name.into(), lane };
        let lanes = Lane::BUILT_IN.into_iter();
        let entries = lanes.map(|lane| entry(&format!("on lane {}", lane.id()), lane)).collect();
        let schema = Schema::new(entries).expect("different names");
        let game = GameId::new("game").expect("a valid id");
        let build = BuildId::new("1").expect("a valid id");
        let config = SessionConfig::new(game, build, schema);
        let session = network.open(&config).expect("the default server address is valid");
        let options = LobbyOptions::public(2);
        session.join(JoinRequest::Quick(options)).expect("the session has just begun");
        Self { session, peer: None }
    }

    /// Reads everything; gives how many messages that was.
    fn receive(&mut self) -> usize {
        let mut messages = 0;
        while let Some(polled) = self.session.poll() {
            match polled {
                Polled::Event(SessionEvent::PeerConnected(peer)) => self.peer = Some(peer),
                Polled::Event(_) | Polled::Inputs(_) => {}
                Polled::Packet(packet) => {
                    messages += packet.messages().inspect(|m| _ = black_box(m.payload)).count();
                }
            }
        }
        messages
    }

    fn send(&mut self, lane: Lane, count: usize) {
        let peer = self.peer.expect("connected");
        let id = MessageId(lane.id().into());
        for i in 0..count {
            let payload = black_box(&PAYLOAD);
            let sent = if lane == Lane::Sequenced {
                self.session.send_keyed(peer, lane, i as u16, id, payload)
            } else {
                self.session.send(peer, lane, id, payload)
            };
            sent.expect("within the queues");
        }
        self.session.flush();
    }
}

fn connected() -> (MemoryNetwork, Game, Game) {
    let network = MemoryNetwork::new(1);
    let (mut a, mut b) = (Game::open(&network), Game::open(&network));
    for _ in 0..100 {
        network.advance(TICK);
        a.receive();
        b.receive();
    }
    assert!(a.peer.is_some() && b.peer.is_some(), "both are connected");
    (network, a, b)
}

/// One way of one tick: what is timed is what `part` says.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Send,
    Receive,
}

fn tick(group: &mut BenchmarkGroup<'_, WallTime>, lane: Lane, count: usize, part: Part) {
    let (network, mut a, mut b) = connected();
    let verb = if part == Part::Send { "send" } else { "receive" };
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(format!("{verb} {count}, {lane}"), |bencher| {
        bencher.iter_custom(|ticks| {
            let mut spent = Duration::ZERO;
            for _ in 0..ticks {
                let start = Instant::now();
                a.send(lane, count);
                if part == Part::Send {
                    spent += start.elapsed();
                }
                network.advance(TICK);
                let start = Instant::now();
                let received = b.receive();
                if part == Part::Receive {
                    spent += start.elapsed();
                }
                assert_eq!(received, count, "everything arrives");
                a.receive();
            }
            spent
        });
    });
}

fn game_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("messages of 64 B");
    for lane in Lane::BUILT_IN {
        for count in [1, 10, 100] {
            tick(&mut group, lane, count, Part::Send);
            tick(&mut group, lane, count, Part::Receive);
        }
    }
    group.finish();
}

criterion_group!(benches, game_path);
criterion_main!(benches);
