//! What it costs to write and read each layer of the wire format, per header, frame, message or
//! payload.
//!
//! `cargo bench -p netplay_benches --bench codec`

use core::hint::black_box;
use core::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use netplay_protocol::codec::{Bincode, Codec};
use netplay_protocol::control::{Control, Hello, LinkPoint, carriers, lane_entries};
use netplay_protocol::cursor::Reader;
use netplay_protocol::datagram::{Acks, Departure, HEADER_LEN, Header, Sequence};
use netplay_protocol::frame::{Body, Frame, Frames, MessageId};
use netplay_protocol::lobby::{ClientMessage, ServerFrame, ServerMessage, Signal, SignalBody};
use netplay_protocol::schema::Schema;
use netplay_protocol::{BuildId, GameId, Lane, LaneKind, LaneTable, Now, PROTOCOL_VERSION, PeerId};
use serde::{Deserialize, Serialize};

/// What a small action game sends of one player in one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    tick: u32,
    position: [f32; 3],
    velocity: [f32; 3],
    aim: (i16, i16),
    health: u8,
    carried: Option<u16>,
}

fn state() -> State {
    State {
        tick: 123_456,
        position: [1.5, -2.25, 100.0],
        velocity: [0.0, 9.8, -3.0],
        aim: (-200, 300),
        health: 87,
        carried: Some(12),
    }
}

fn header(c: &mut Criterion) {
    let header = Header {
        sequence: Sequence(4711),
        departure: Departure::at(Now::from_millis(1234)),
        acks: Some(Acks {
            base: Sequence(99),
            bits: 0xFFFF_FFFE,
            hold: Some(Duration::from_millis(7)),
        }),
        ping: false,
        tick: Some(17),
        clock: false,
    };
    let mut bytes = [0; HEADER_LEN];
    header.write(&mut bytes);
    let mut group = c.benchmark_group("header");
    group.bench_function("write", |b| {
        let mut out = [0; HEADER_LEN];
        b.iter(|| black_box(&header).write(black_box(&mut out)));
    });
    group.bench_function("read", |b| {
        b.iter(|| Header::read(&mut Reader::new(black_box(&bytes))));
    });
    group.finish();
}

fn frames(c: &mut Criterion) {
    let payload = [7; 64];
    let body = Body { id: MessageId(3), key: None, payload: &payload };
    let frame = Frame { lane: Lane::Reliable, body };
    let mut group = c.benchmark_group("frames of 64 B");
    for count in [1_u64, 10] {
        let mut packet = Vec::new();
        for _ in 0..count {
            frame.put(&mut packet);
        }
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("write {count}"), |b| {
            let mut out = Vec::with_capacity(2048);
            b.iter(|| {
                out.clear();
                for _ in 0..count {
                    black_box(&frame).put(&mut out);
                }
            });
        });
        group.bench_function(format!("check and read {count}"), |b| {
            b.iter(|| {
                Frames::check(black_box(&packet)).expect("these are frames");
                Frames::new(&packet).flatten().map(|frame| frame.body.payload.len()).sum::<usize>()
            });
        });
    }
    group.finish();
}

fn control(c: &mut Criterion) {
    let hello = Control::Hello(Hello {
        version: PROTOCOL_VERSION,
        codec: Bincode::ID,
        game: GameId::new("my-game").expect("a valid id"),
        build: BuildId::new("1.0.3").expect("a valid id"),
        schema_hash: Schema::default().hash(),
        lanes: lane_entries(&LaneTable::default()),
        carriers: carriers::DATA_CHANNEL,
        link: LinkPoint::default(),
    });
    let mut bytes = Vec::new();
    hello.write(&mut bytes);
    let mut group = c.benchmark_group("control hello");
    group.bench_function("write", |b| {
        let mut out = Vec::with_capacity(256);
        b.iter(|| {
            out.clear();
            black_box(&hello).write(&mut out);
        });
    });
    group.bench_function("read", |b| b.iter(|| Control::read(black_box(&bytes))));
    group.finish();
}

fn lobby(c: &mut Criterion) {
    let sdp = "a=candidate:1 1 udp 2130706431 192.168.1.20 50000 typ host\r\n".repeat(30);
    let signal = Signal { attempt: 1, body: SignalBody::Offer { sdp } };
    let from = PeerId::from_u128(7);
    let offer = ClientMessage::Signal { to: from, signal: signal.clone() };
    let offer_text = offer.to_json();
    let frame = ServerFrame { seq: 9, message: ServerMessage::Signal { from, signal } };
    let frame_text = frame.to_json();
    let keep_alive = ClientMessage::KeepAlive { seen: 1234 };
    let keep_alive_text = keep_alive.to_json();
    let mut group = c.benchmark_group("lobby JSON");
    group.bench_function("write keep-alive", |b| b.iter(|| black_box(&keep_alive).to_json()));
    group.bench_function("read keep-alive", |b| {
        b.iter(|| ClientMessage::from_json(black_box(&keep_alive_text)));
    });
    group.throughput(Throughput::Bytes(offer_text.len() as u64));
    group.bench_function("write offer", |b| b.iter(|| black_box(&frame).to_json()));
    group.bench_function("read offer, server", |b| {
        b.iter(|| ClientMessage::from_json(black_box(&offer_text)));
    });
    group.bench_function("read offer, player", |b| {
        b.iter(|| ServerFrame::from_json(black_box(&frame_text)));
    });
    group.finish();
}

fn payload(c: &mut Criterion) {
    let max = LaneKind::Unreliable.message_max();
    let encode = |value: &State, out: &mut Vec<u8>| {
        Bincode::encode(value, out, max).expect("it fits");
    };
    let mut bytes = Vec::new();
    encode(&state(), &mut bytes);
    let text = "The quick brown fox jumps over the lazy dog.".to_owned();
    let mut text_bytes = Vec::new();
    Bincode::encode(&text, &mut text_bytes, max).expect("it fits");
    let mut group = c.benchmark_group("bincode payload");
    group.bench_function("encode state", |b| {
        let value = state();
        let mut out = Vec::with_capacity(256);
        b.iter(|| {
            out.clear();
            encode(black_box(&value), &mut out);
        });
    });
    group.bench_function("decode state", |b| {
        b.iter(|| Bincode::decode::<State>(black_box(&bytes)));
    });
    group.bench_function("decode text", |b| {
        // The string's release is not part of reading it.
        b.iter_batched(
            || (),
            |()| Bincode::decode::<String>(black_box(&text_bytes)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, header, frames, control, lobby, payload);
criterion_main!(benches);
