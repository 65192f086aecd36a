//! Fuzz targets: functions that take any bytes and panic if a promise of Netplay is broken.
//!
//! | module | what is fed |
//! |---|---|
//! | [`protocol`] | every decoder of the wire format |
//! | [`lobby`] | a lobby server: commands, resume tokens, time |
//! | [`rooms`] | rooms that speak matchbox's protocol, and a player in one |
//! | [`recording`] | the reader of recordings, behind checksums that are right, and a replay |
//! | [`session`] | one rollback session, from peers that say anything |
//! | [`schedule`] | several honest sessions, over a network that does anything |
//!
//! `./run` drives them with libFuzzer, guided by coverage; the test `corpus` replays what that found
//! under `corpus` and `regressions`.
//!
//! Guaranteed: a target does the same whenever it is given the same bytes. Not guaranteed: that it ends
//! soon on inputs longer than its [`Target::max_len`].

#![forbid(unsafe_code)]

pub mod lobby;
mod oracle;
mod owner;
pub mod protocol;
pub mod recording;
pub mod rooms;
pub mod schedule;
mod script;
pub mod session;
mod wire;

/// One function to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directories.
    pub name: &'static str,
    /// What takes the bytes.
    pub run: fn(&[u8]),
    /// The longest input, in bytes.
    pub max_len: usize,
    /// The bytes that it may hold at once.
    pub memory: usize,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The longest input of a decoder, and of what takes many steps.
const DECODER: usize = 512;
const STEPS: usize = 1500;

const fn target(name: &'static str, run: fn(&[u8]), max_len: usize, memory: usize) -> Target {
    Target { name, run, max_len, memory }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("datagram", protocol::datagram, DECODER, 64 * KIB),
    target("blocks", protocol::blocks, DECODER, 64 * KIB),
    target("frames", protocol::frames, DECODER, 64 * KIB),
    // It is given a frame of several packets too.
    target("stream", protocol::stream, DECODER, 256 * KIB),
    target("control", protocol::control, DECODER, 64 * KIB),
    target("schema", protocol::schema, DECODER, 64 * KIB),
    target("client_message", protocol::client_message, DECODER, 64 * KIB),
    target("server_frame", protocol::server_frame, DECODER, 64 * KIB),
    target("ids", protocol::ids, 128, 64 * KIB),
    // A sequence of a claimed length reserves a megabyte: see `netplay_protocol::codec`.
    target("codec", protocol::codec, DECODER, 4 * MIB),
    target("lobby", lobby::lobby, STEPS, 4 * MIB),
    target("rooms", rooms::rooms, STEPS, MIB),
    target("room_client", rooms::room_client, STEPS, MIB),
    target("recording", recording::recording, STEPS, 4 * MIB),
    target("session", session::session, STEPS, 16 * MIB),
    target("schedule", schedule::schedule, STEPS, 64 * MIB),
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
