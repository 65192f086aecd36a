//! The start of a match: messages lost, doubled, late; players not in sync, slow, gone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::{Now, PeerId};
use netplay_simnet::{Conditions, Network};
use netplay_tick::{BarrierEvent, MeshTime, StartBarrier, StartError, StartMessage};

const MS: Duration = Duration::from_millis(1);

/// Players who share one clock, the network's own time.
struct Start {
    now: Now,
    players: Vec<StartBarrier>,
    network: Network<usize, StartMessage>,
    delay: Duration,
    /// Until then this player is not in sync.
    in_sync_at: Vec<Now>,
    begins: BTreeMap<usize, (Now, MeshTime)>,
    failed: Option<StartError>,
}

const fn id(player: usize) -> PeerId {
    PeerId::from_u128(player as u128)
}

impl Start {
    fn new(count: usize, conditions: Conditions, seed: u64) -> Self {
        Self {
            now: Now::ZERO,
            players: (0..count).map(|_| StartBarrier::default()).collect(),
            delay: conditions.delay,
            network: Network::new(conditions, seed, |node| node as u64),
            in_sync_at: vec![Now::ZERO; count],
            begins: BTreeMap::new(),
            failed: None,
        }
    }

    fn mesh(&self, player: usize) -> Option<MeshTime> {
        let time = MeshTime::from_micros(self.now.as_micros() as i64);
        (self.now >= self.in_sync_at[player]).then_some(time)
    }

    fn start(&mut self) {
        let (mesh, peers) = (self.mesh(0), (1..self.players.len()).map(id));
        self.players[0].start(self.now, mesh, self.delay, peers);
        self.drain(0);
    }

    fn drain(&mut self, player: usize) {
        while let Some(event) = self.players[player].poll_output() {
            match event {
                BarrierEvent::Send(to, message) => {
                    self.network.send(self.now, player, to.as_u128() as usize, 20, message);
                }
                BarrierEvent::Begins { start, .. } => {
                    assert!(self.begins.insert(player, (self.now, start)).is_none(), "only once");
                }
                BarrierEvent::Failed(error) => self.failed = Some(error),
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            let deadlines = self.players.iter().filter_map(StartBarrier::next_deadline);
            let Some(next) = deadlines.chain(self.network.next_deadline()).min() else { break };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            while let Some(delivery) = self.network.poll(self.now) {
                let (to, mesh) = (delivery.to, self.mesh(delivery.to));
                let from = id(delivery.from);
                self.players[to].message(self.now, mesh, self.delay, from, delivery.item);
                self.drain(to);
            }
            for player in 0..self.players.len() {
                let mesh = self.mesh(player);
                self.players[player].tick(self.now, mesh, self.delay);
                self.drain(player);
            }
        }
        self.now = until;
    }

    /// Checks that all begin at one instant; how long before it the last one knew.
    fn notice(&self) -> Duration {
        assert_eq!(self.failed, None);
        assert_eq!(self.begins.len(), self.players.len(), "everybody begins");
        let (_, start) = self.begins[&0];
        assert!(self.begins.values().all(|(_, other)| *other == start), "at one instant");
        let known = self.begins.values().map(|(at, _)| *at).max().unwrap();
        Duration::from_micros((start.as_micros() as u64).saturating_sub(known.as_micros()))
    }
}

#[test]
fn all_hold_tick_zero_until_one_instant_and_know_it_before() {
    for delay in [0, 15, 60, 150] {
        for seed in 0..50 {
            let conditions = Conditions::perfect().with_delay(MS * delay).with_jitter(MS * 10);
            let mut start = Start::new(8, conditions, seed);
            start.start();
            start.run(Duration::from_secs(2));
            assert!(start.notice() >= 20 * MS, "{delay} ms, seed {seed}: {:?}", start.notice());
            let (_, instant) = start.begins[&0];
            assert!(instant.as_micros() <= 1_200_000, "{delay} ms: {instant}");
        }
    }
}

#[test]
fn lost_doubled_and_late_messages_delay_the_start_and_do_no_more() {
    let mut late = 0;
    for seed in 0..500 {
        let conditions = Conditions::perfect()
            .with_delay(MS * 40)
            .with_jitter(MS * 60)
            .with_loss(0.2)
            .with_duplicates(0.1);
        let mut start = Start::new(4, conditions, seed);
        start.start();
        start.run(Duration::from_secs(10));
        late += usize::from(start.notice().is_zero());
    }
    // A commit that is lost again and again reaches its player after the instant.
    println!("{late} of 500 starts had somebody who heard of it too late");
    assert!(late < 50, "{late}");
}

#[test]
fn nobody_begins_before_the_last_one_is_in_sync() {
    let mut start = Start::new(4, Conditions::perfect().with_delay(MS * 20), 1);
    start.in_sync_at[2] = Now::from_millis(3000);
    start.start();
    start.run(Duration::from_secs(5));
    start.notice();
    assert!(start.begins[&0].1.as_micros() > 3_000_000);
}

#[test]
fn who_is_never_in_sync_is_named() {
    let mut start = Start::new(4, Conditions::perfect().with_delay(MS * 20), 1);
    start.in_sync_at[2] = Now::from_millis(60_000);
    start.start();
    start.run(Duration::from_secs(11));
    assert_eq!(start.failed, Some(StartError::NotReady(vec![id(2)])));
    assert!(start.begins.is_empty());
    // It may be tried again.
    start.failed = None;
    start.now = Now::from_millis(61_000);
    start.start();
    start.run(Duration::from_secs(2));
    start.notice();
}

#[test]
fn an_instant_out_of_reach_is_not_followed() {
    for start_at in [i64::MIN, -1_000_000_000, 1_000_000_000, i64::MAX] {
        let mut start = Start::new(2, Conditions::perfect(), 1);
        let commit = StartMessage::Commit { round: 1, start: MeshTime::from_micros(start_at) };
        let mesh = start.mesh(1);
        start.players[1].message(start.now, mesh, MS, id(0), commit);
        assert_eq!(start.players[1].poll_output(), None, "{start_at}");
    }
}

#[test]
fn nobody_waits_for_a_player_who_is_gone() {
    let mut start = Start::new(3, Conditions::perfect().with_delay(MS * 20), 1);
    start.in_sync_at[2] = Now::from_millis(60_000);
    start.start();
    start.run(Duration::from_secs(2));
    let mesh = start.mesh(0);
    start.players[0].remove(start.now, mesh, 20 * MS, id(2));
    start.drain(0);
    start.run(Duration::from_secs(2));
    assert_eq!(start.begins.keys().copied().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn without_a_clock_or_twice_there_is_no_start() {
    let mut start = Start::new(2, Conditions::perfect(), 1);
    start.in_sync_at[0] = Now::from_millis(20_000);
    start.start();
    start.run(Duration::from_secs(11));
    assert_eq!(start.failed.take(), Some(StartError::NoClock));
    start.in_sync_at[0] = Now::ZERO;
    start.start();
    start.start();
    assert_eq!(start.failed, Some(StartError::Busy));
}

#[test]
fn who_starts_before_the_clock_is_there_waits_for_it() {
    let mut start = Start::new(3, Conditions::perfect().with_delay(MS * 20), 1);
    start.in_sync_at[0] = Now::from_millis(300);
    start.start();
    start.run(Duration::from_secs(2));
    start.notice();
}

#[test]
fn one_player_alone_begins_at_once() {
    let mut start = Start::new(1, Conditions::perfect(), 1);
    start.start();
    assert!(start.notice() > Duration::ZERO);
}

#[test]
fn who_comes_while_the_others_play_begins_with_them_once_it_is_in_sync() {
    for host_tells in [true, false] {
        let mut game = Start::new(3, Conditions::perfect().with_delay(20 * MS), 9);
        // Player 2 is not there yet.
        let mesh = game.mesh(0);
        game.players[0].start(game.now, mesh, game.delay, [id(1)]);
        game.drain(0);
        game.run(3000 * MS);
        let (_, start) = game.begins[&0];
        assert_eq!(game.begins[&1].1, start);
        game.in_sync_at[2] = game.now + 700 * MS;
        let teller = usize::from(!host_tells);
        game.players[teller].add(id(2));
        game.drain(teller);
        game.run(600 * MS);
        assert!(!game.begins.contains_key(&2), "it is not in sync");
        game.run(400 * MS);
        let (at, begins) = game.begins[&2];
        assert_eq!(begins, start, "the same match");
        assert!(at.since(game.in_sync_at[2]) <= 100 * MS);
        // Told again, it knows.
        game.players[teller].add(id(2));
        game.drain(teller);
        game.run(1000 * MS);
        // Who does not play tells nothing.
        game.players[teller].end();
        game.players[teller].add(id(2));
        assert_eq!(game.players[teller].poll_output(), None);
    }
}

#[test]
fn who_was_ready_begins_with_the_others_whoever_tells_it_and_a_newcomer_does_not() {
    let (now, start) = (Now::ZERO, MeshTime::from_micros(900_000));
    let mesh = Some(MeshTime::from_micros(400_000));
    let (host, other) = (PeerId::from_u128(1), PeerId::from_u128(2));
    let delay = Duration::from_millis(40);
    for was_ready in [true, false] {
        let mut barrier = StartBarrier::default();
        if was_ready {
            let propose = StartMessage::Propose { round: 3, start };
            barrier.message(now, mesh, delay, host, propose);
        }
        // The host's commit was lost, and somebody else has heard it.
        let running = StartMessage::Running { round: 3, start };
        barrier.message(now, mesh, delay, other, running);
        let events: Vec<_> = std::iter::from_fn(|| barrier.poll_output()).collect();
        let begins = BarrierEvent::Begins { start, running: !was_ready };
        assert!(events.contains(&begins), "{events:?}");
    }
}
