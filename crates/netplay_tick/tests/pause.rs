//! Pauses that all players take: asked for by anybody, told late, and by a host who leaves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::time::Duration;

use netplay_protocol::Now;
use netplay_simnet::{Conditions, Network};
use netplay_tick::{MeshTime, PauseEvent, PauseMessage, SharedPause, TickRate, Timeline};
use proptest::prelude::*;

const PLAYERS: usize = 4;

/// Players who share one clock, the network's own time.
struct Match {
    now: Now,
    host: usize,
    players: Vec<SharedPause>,
    lines: Vec<Timeline>,
    /// How far each has played, in ticks.
    played: Vec<f64>,
    network: Network<usize, PauseMessage>,
    delay: Duration,
    changes: usize,
}

impl Match {
    fn new(conditions: Conditions, seed: u64) -> Self {
        let line = Timeline::new(MeshTime::from_micros(0), TickRate::default());
        let mut players: Vec<_> = (0..PLAYERS).map(|_| SharedPause::default()).collect();
        players.iter_mut().for_each(SharedPause::begin);
        players[0].set_hosting(true);
        Self {
            now: Now::ZERO,
            host: 0,
            players,
            lines: vec![line; PLAYERS],
            played: vec![0.0; PLAYERS],
            delay: conditions.delay,
            network: Network::new(conditions, seed, |node| node as u64),
            changes: 0,
        }
    }

    fn mesh(&self) -> MeshTime {
        MeshTime::from_micros(self.now.as_micros() as i64)
    }

    fn ask(&mut self, player: usize, hold: bool) {
        let mesh = self.mesh();
        self.players[player].ask(self.now, Some(mesh), self.delay, hold);
        self.drain(player);
    }

    fn drain(&mut self, player: usize) {
        while let Some(event) = self.players[player].poll_output() {
            match event {
                PauseEvent::TellHost(message) => {
                    self.network.send(self.now, player, self.host, 20, message);
                }
                PauseEvent::TellAll(message) => {
                    for to in (0..PLAYERS).filter(|to| *to != player) {
                        self.network.send(self.now, player, to, 20, message);
                    }
                }
                PauseEvent::Agreed(pause) => {
                    self.changes += usize::from(player == self.host);
                    self.lines[player].set_pause(pause);
                }
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until {
            self.now = self.now + Duration::from_millis(4);
            while let Some(delivery) = self.network.poll(self.now) {
                let (from, to, mesh) = (delivery.from, delivery.to, self.mesh());
                let (from_host, message) = (from == self.host, delivery.item);
                self.players[to].message(self.now, Some(mesh), self.delay, from_host, message);
                self.drain(to);
            }
            let mesh = self.mesh();
            for player in 0..PLAYERS {
                if self.players[player].next_deadline().is_some_and(|at| self.now >= at) {
                    self.players[player].tick(self.now, Some(mesh), self.delay);
                }
                self.drain(player);
                let (tick, part) = self.lines[player].at(mesh).unwrap();
                let at = f64::from(tick.0) + part;
                assert!(
                    at >= self.played[player],
                    "player {player}: {at} after {:?}, {:?}",
                    self.played,
                    self.lines[player]
                );
                self.played[player] = at;
            }
        }
    }

    fn held(&self) -> Vec<bool> {
        self.lines.iter().map(|line| line.is_held(self.mesh())).collect()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn what_is_asked_for_within_a_change_is_decided_after_it() {
    let mut game = Match::new(Conditions::perfect().with_delay(ms(20)), 1);
    game.run(ms(1000));
    game.ask(1, true);
    game.run(ms(50));
    game.ask(2, false);
    game.run(ms(400));
    assert_eq!(game.held(), [true; PLAYERS], "the first came first");
    game.run(ms(600));
    assert_eq!(game.held(), [false; PLAYERS]);
    assert_eq!(game.changes, 2);
}

#[test]
fn asking_a_thousand_times_does_no_more_than_one_change_at_a_time() {
    let mut game = Match::new(Conditions::perfect().with_delay(ms(20)), 2);
    for i in 0..1000 {
        game.ask(1, i % 2 == 0);
        game.run(ms(4));
    }
    game.run(ms(1000));
    assert!(game.changes <= 4000 / 330 + 2, "{} changes", game.changes);
    assert_eq!(game.held(), [false; PLAYERS], "as asked for last");
}

#[test]
fn a_new_host_tells_again_what_the_old_one_told_some() {
    let mut game = Match::new(Conditions::perfect().with_delay(ms(20)), 3);
    game.run(ms(1000));
    game.ask(0, true);
    // The old host's word reached player 1 alone.
    while let Some(delivery) = game.network.poll(game.now + ms(1000)) {
        if delivery.to == 1 {
            let mesh = game.mesh();
            game.players[1].message(game.now, Some(mesh), game.delay, true, delivery.item);
        }
    }
    game.drain(1);
    game.host = 1;
    game.players[0].set_hosting(false);
    game.players[1].set_hosting(true);
    game.run(ms(1000));
    assert_eq!(game.held(), [true; PLAYERS]);
    game.ask(3, false);
    game.run(ms(1000));
    assert_eq!(game.held(), [false; PLAYERS]);
    assert!(game.played.iter().all(|at| *at == game.played[0]), "{:?}", game.played);
}

#[test]
fn nobody_but_the_host_pauses_and_nothing_is_paused_outside_of_a_match() {
    let mut game = Match::new(Conditions::perfect(), 4);
    let pause = netplay_tick::Pause { before: Duration::ZERO, from: game.mesh(), until: None };
    let message = PauseMessage::Agreed(pause);
    let mesh = Some(game.mesh());
    game.players[2].message(game.now, mesh, Duration::ZERO, false, message);
    assert_eq!(game.players[2].poll_output(), None);
    for player in 0..PLAYERS {
        game.players[player].end();
        game.ask(player, true);
        game.players[player].message(game.now, mesh, Duration::ZERO, true, message);
        assert_eq!(game.players[player].poll_output(), None);
        assert_eq!(game.players[player].next_deadline(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Each with a path of its own, and anybody asking at any time.
    #[test]
    fn all_stop_and_go_on_at_the_same_tick_and_none_ever_goes_back(
        seed: u64,
        delay in 0_u64..150,
        asks in prop::collection::vec((0..PLAYERS, any::<bool>(), 0_u64..1500), 1..30),
    ) {
        let mut game = Match::new(Conditions::perfect().with_delay(ms(delay)), seed);
        for (player, hold, then) in asks {
            game.ask(player, hold);
            game.run(ms(then));
            prop_assert!(game.played.iter().all(|at| *at == game.played[0]), "{:?}", game.played);
        }
    }
}
