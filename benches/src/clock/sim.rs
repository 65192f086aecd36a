//! Two players on a virtual path, who send each other a packet in every frame.

use std::collections::VecDeque;
use std::time::Duration;

use netplay_protocol::datagram::{ClockNote, Departure, TIME_UNIT_US};
use netplay_protocol::{Now, PeerId};
use netplay_simnet::{Conditions, DriftingClock, Pipe, mix_seed};
use netplay_tick::{Exchange, MeshClock};

use super::models::Sample;

/// A frame on each player's own clock.
pub const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);
/// Every how many packets one has a report on the mesh clock.
const REPORT_EVERY: u32 = 6;
/// Packets whose departure is remembered.
const SENT: usize = 256;

#[derive(Clone, Debug)]
struct Packet {
    number: u32,
    departure: Now,
    position: f64,
    advantage: f64,
    /// The newest packet that its sender has, and when it arrived there.
    ack: Option<(u32, Now)>,
    report: Option<Option<ClockNote>>,
}

/// One player. What it holds its game together with is the caller's.
pub struct Player {
    /// Its clock.
    pub clock: DriftingClock,
    /// Its copy of the mesh clock.
    pub mesh: MeshClock,
    /// Where its game is, in microseconds.
    pub position: f64,
    /// What it tells the other about its advantage.
    pub advantage: f64,
    /// Its own time at its last frame, in microseconds.
    framed: f64,
    next: u32,
    sent: VecDeque<(u32, Now)>,
    heard: Option<(u32, Now)>,
    echoed: u32,
}

/// Something that happened to a player.
pub enum Happened {
    /// A packet came.
    Packet(usize, Sample),
    /// It is time for a frame; then [`Sim::send`] what it gave.
    Frame(usize),
}

/// Two players and the path between them.
pub struct Sim {
    /// True time.
    pub now: Now,
    /// Both.
    pub players: [Player; 2],
    pipes: [Pipe<Packet>; 2],
    frames: [Now; 2],
}

/// A player's id.
pub const fn id(player: usize) -> PeerId {
    PeerId::from_u128(player as u128 + 1)
}

impl Sim {
    /// Players whose clocks drift apart by `ppm`.
    pub fn new(conditions: &Conditions, ppm: i32, seed: u64) -> Self {
        let player = |i: usize| {
            let offset = Duration::from_micros(mix_seed(seed, 10 + i as u64) % 1_000_000_000);
            let drift = if i == 0 { 500 * ppm } else { -500 * ppm };
            let mut mesh = MeshClock::new(id(i));
            mesh.add(id(1 - i));
            Player {
                clock: DriftingClock::new(offset, drift),
                mesh,
                position: 0.0,
                advantage: 0.0,
                framed: 0.0,
                next: 0,
                sent: VecDeque::new(),
                heard: None,
                echoed: 0,
            }
        };
        let phase = Duration::from_micros(mix_seed(seed, 3) % FRAME.as_micros() as u64);
        Self {
            now: Now::ZERO,
            players: [player(0), player(1)],
            pipes: [0, 1].map(|i| Pipe::new(conditions.clone(), mix_seed(seed, i))),
            frames: [Now::ZERO, Now::ZERO + phase],
        }
    }

    /// A player's own time, in microseconds.
    pub fn local(&self, player: usize) -> f64 {
        self.players[player].clock.at(self.now).as_micros() as f64
    }

    /// What happens next, up to `until`.
    pub fn next(&mut self, until: Now) -> Option<Happened> {
        let packets = self.pipes.iter().filter_map(Pipe::next_deadline).min();
        let frame = self.frames.iter().copied().min().unwrap_or(until);
        let next = packets.map_or(frame, |due| due.min(frame));
        if next > until {
            self.now = until;
            return None;
        }
        self.now = self.now.max(next);
        for from in 0..2 {
            if let Some(packet) = self.pipes[from].poll(self.now) {
                return Some(Happened::Packet(1 - from, self.arrive(1 - from, &packet)));
            }
        }
        let player = usize::from(self.frames[1] < self.frames[0]);
        let clock = &self.players[player].clock;
        let soon = clock.at(self.now) + FRAME;
        self.frames[player] = clock.when(self.now, soon).unwrap_or(self.now + FRAME);
        Some(Happened::Frame(player))
    }

    fn arrive(&mut self, to: usize, packet: &Packet) -> Sample {
        let now = self.now;
        let player = &mut self.players[to];
        let arrived = player.clock.at(now);
        if player.heard.is_none_or(|(newest, _)| packet.number > newest) {
            player.heard = Some((packet.number, arrived));
        }
        let fresh = packet.ack.filter(|(number, _)| *number > player.echoed);
        let echo = fresh.and_then(|(number, there)| {
            let (_, departed) = player.sent.iter().find(|(sent, _)| *sent == number)?;
            player.echoed = number;
            Some((*departed, there))
        });
        let departure = Departure::at(packet.departure);
        let hold = |there: Now| {
            let units = packet.departure.since(there).as_micros() as u64 / TIME_UNIT_US;
            Duration::from_micros(units * TIME_UNIT_US)
        };
        let echo_on_wire = echo.map(|(departed, there)| (departed, hold(there)));
        let from = id(1 - to);
        player.mesh.exchange(from, &Exchange { arrived, departure, echo: echo_on_wire });
        if let Some(report) = packet.report {
            player.mesh.reported(arrived, from, departure, report);
        }
        let micros = |now: Now| now.as_micros() as f64;
        Sample {
            their_departure: micros(packet.departure),
            our_arrival: micros(arrived),
            echo: echo.map(|(departed, there)| (micros(departed), micros(there))),
            their_position: packet.position,
            // Between two frames a game is on its way to the next.
            our_position: player.position + micros(arrived) - player.framed,
            their_advantage: packet.advantage,
        }
    }

    /// Sends a player's packet of this frame.
    pub fn send(&mut self, from: usize) {
        let player = &mut self.players[from];
        let departure = player.clock.at(self.now);
        player.mesh.update(departure);
        player.framed = departure.as_micros() as f64;
        player.next += 1;
        let number = player.next;
        player.sent.push_back((number, departure));
        if player.sent.len() > SENT {
            player.sent.pop_front();
        }
        let report = number.is_multiple_of(REPORT_EVERY).then(|| player.mesh.report(departure));
        let packet = Packet {
            number,
            departure,
            position: player.position,
            advantage: player.advantage,
            ack: player.heard,
            report,
        };
        self.pipes[from].send(self.now, 100, packet);
    }
}
