//! Players with wrong clocks on a virtual network, who send each other a packet in every tick.

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::datagram::{ClockNote, Departure, TIME_UNIT_US};
use netplay_protocol::{Now, PeerId};
use netplay_simnet::{Conditions, Delivery, DriftingClock, Network, mix_seed};
use netplay_tick::{Exchange, MeshClock, Pacer, PacingProfile};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Every how many packets one carries a report.
const REPORT_EVERY: u32 = 6;
/// The longest hold time on the wire.
const HOLD_MAX: Duration = Duration::from_millis(1048);

#[derive(Clone, Debug)]
pub struct Packet {
    pub number: u32,
    pub departure: Departure,
    pub ack: Option<(u32, Option<Duration>)>,
    pub report: Option<Option<ClockNote>>,
}

/// What a node does to what it sends, at this true time.
pub type Lie = Box<dyn Fn(Now, usize, &mut Packet)>;

pub struct Node {
    pub clock: DriftingClock,
    pub mesh: MeshClock,
    pub pacer: Pacer,
    pub stopped: bool,
    pub lie: Option<Lie>,
    sent: BTreeMap<(usize, u32), Now>,
    heard: BTreeMap<usize, (u32, Now)>,
    echoed: BTreeMap<usize, u32>,
    next: u32,
}

pub struct World {
    pub now: Now,
    pub nodes: Vec<Node>,
    pub network: Network<usize, Packet>,
    period: Duration,
    /// When each node sends next.
    due: Vec<Now>,
}

pub const fn id(node: usize) -> PeerId {
    PeerId::from_u128(node as u128 + 1)
}

impl World {
    /// `count` players whose clocks differ by up to an hour and drift by up to `ppm`, and who send
    /// `rate` packets a second to each other.
    pub fn new(seed: u64, count: usize, ppm: i32, rate: u32, conditions: &Conditions) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let period = Duration::from_nanos(1_000_000_000 / u64::from(rate));
        let mut nodes = Vec::new();
        let mut due = Vec::new();
        for i in 0..count {
            let offset = Duration::from_micros(rng.next_u64() % 3_600_000_000);
            let drift = (rng.next_u64() % (2 * ppm as u64 * 1000 + 1)) as i32 - ppm * 1000;
            let mut mesh = MeshClock::new(id(i));
            (0..count).filter(|other| *other != i).for_each(|other| mesh.add(id(other)));
            nodes.push(Node {
                clock: DriftingClock::new(offset, drift),
                mesh,
                pacer: Pacer::new(PacingProfile::DEFAULT),
                stopped: false,
                lie: None,
                sent: BTreeMap::new(),
                heard: BTreeMap::new(),
                echoed: BTreeMap::new(),
                next: 0,
            });
            due.push(Now::from_micros(rng.next_u64() % period.as_micros() as u64));
        }
        let network = Network::new(conditions.clone(), mix_seed(seed, 9), |node| node as u64);
        Self { now: Now::ZERO, nodes, network, period, due }
    }

    pub fn local(&self, node: usize) -> Now {
        self.nodes[node].clock.at(self.now)
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            let sends = self.due.iter().copied().min().unwrap_or(until);
            let next = self.network.next_deadline().map_or(sends, |due| due.min(sends));
            if next > until {
                self.now = until;
                return;
            }
            self.now = next;
            while let Some(delivery) = self.network.poll(next) {
                self.arrive(delivery);
            }
            for node in 0..self.nodes.len() {
                if self.due[node] <= next {
                    self.due[node] = next + self.period;
                    self.send(node);
                }
            }
        }
    }

    fn send(&mut self, from: usize) {
        let (now, count) = (self.now, self.nodes.len());
        let node = &mut self.nodes[from];
        if node.stopped {
            return;
        }
        let local = node.clock.at(now);
        node.mesh.update(local);
        node.next += 1;
        let number = node.next;
        for to in (0..count).filter(|to| *to != from) {
            node.sent.insert((to, number), local);
            node.sent.remove(&(to, number.wrapping_sub(256)));
            let ack = node.heard.get(&to).map(|(newest, arrived)| {
                let hold = local.since(*arrived);
                let units = hold.as_micros() as u64 / TIME_UNIT_US * TIME_UNIT_US;
                (*newest, (hold < HOLD_MAX).then(|| Duration::from_micros(units)))
            });
            let report = number.is_multiple_of(REPORT_EVERY).then(|| node.mesh.report(local));
            let mut packet = Packet { number, departure: Departure::at(local), ack, report };
            if let Some(lie) = &node.lie {
                lie(now, to, &mut packet);
            }
            self.network.send(now, from, to, 100, packet);
        }
    }

    fn arrive(&mut self, Delivery { from, to, item: packet }: Delivery<usize, Packet>) {
        let now = self.now;
        let node = &mut self.nodes[to];
        if node.stopped {
            return;
        }
        let local = node.clock.at(now);
        if node.heard.get(&from).is_none_or(|(newest, _)| packet.number > *newest) {
            node.heard.insert(from, (packet.number, local));
        }
        let echo = packet.ack.and_then(|(number, hold)| {
            let fresh = node.echoed.get(&from).is_none_or(|last| number > *last);
            let departed = *node.sent.get(&(from, number))?;
            node.echoed.insert(from, number);
            fresh.then_some((departed, hold?))
        });
        let exchange = Exchange { arrived: local, departure: packet.departure, echo };
        node.mesh.exchange(id(from), &exchange);
        if let Some(report) = packet.report {
            node.mesh.reported(local, id(from), packet.departure, report);
        }
    }

    /// Moves a player's game on; where it is and how far it was off, both in microseconds.
    pub fn frame(&mut self, node: usize) -> Option<netplay_tick::Advance> {
        let local = self.local(node);
        let node = &mut self.nodes[node];
        let target = node.mesh.show(local)?;
        Some(node.pacer.advance(local, target, node.mesh.rate()))
    }

    /// What the mesh clock of a player shows now, in microseconds.
    pub fn mesh(&self, node: usize) -> Option<f64> {
        Some(self.nodes[node].mesh.show(self.local(node))?.as_micros() as f64)
    }

    /// The largest difference between two players' mesh clocks, in milliseconds.
    pub fn apart_ms(&self) -> f64 {
        let shown: Vec<_> = (0..self.nodes.len()).filter_map(|node| self.mesh(node)).collect();
        assert_eq!(shown.len(), self.nodes.len(), "everybody has a clock");
        range(&shown) / 1e3
    }
}

/// The largest value minus the smallest.
pub fn range(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest - values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The value at this share of the sorted values.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}
