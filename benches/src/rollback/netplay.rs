//! Netplay's rollback session over real links on a simulated network.

use std::time::Duration;

use netplay_peer::link::InputBlock;
use netplay_protocol::{Now, PeerId};
use netplay_rollback::{Input, Output, Player, Seat, Session, SessionConfig, Tick};
use netplay_simnet::Conditions;

use super::Match;
use super::links::{Arrived, Links, Sent};
use crate::Result;

/// Ticks per second.
const RATE: u64 = 60;
/// How far the games are apart, at most: what the clock leaves.
const APART: Duration = Duration::from_millis(1);
const STEP: Duration = Duration::from_micros(500);

/// What one match came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Over all pairs, while it was measured.
    pub sent: Sent,
    pub seconds: f64,
    pub advanced: u64,
    pub rollbacks: u64,
    /// How deep each rollback was.
    pub depths: Vec<u32>,
    /// Ticks at which a player could not go on.
    pub stalled: u64,
    /// Of each tick of each player: how many ticks its newest final one is behind.
    pub lags: Vec<u32>,
}

struct Game {
    session: Session,
    next: Tick,
    depth: u32,
}

fn peer(player: usize) -> PeerId {
    PeerId::from_u128(player as u128 + 1)
}

/// Plays for so long, after two seconds that are not counted.
///
/// # Errors
/// If the players do not connect.
pub fn play(game: &Match, conditions: &Conditions, seconds: u64, seed: u64) -> Result<Outcome> {
    let mut now = Now::ZERO;
    let mut links = Links::new(game.players, &Conditions::perfect(), seed)?;
    links.connect(&mut now)?;
    links.set_conditions(conditions);
    let start = now + Duration::from_millis(200);
    let mut games = (0..game.players).map(|me| begin(game, me)).collect::<Result<Vec<_>>>()?;
    let counted = start + Duration::from_secs(2);
    let end = counted + Duration::from_secs(seconds);
    let mut outcome = Outcome { seconds: seconds as f64, ..Outcome::default() };
    let (mut before, mut is_counted) = (Sent::default(), false);
    while now < end {
        now = now + STEP;
        if now >= counted && !is_counted {
            (before, is_counted) = (links.sent, true);
            for game in &games {
                let stats = game.session.stats();
                outcome.advanced = outcome.advanced.wrapping_sub(stats.advanced);
                outcome.rollbacks = outcome.rollbacks.wrapping_sub(stats.rollbacks);
                outcome.stalled = outcome.stalled.wrapping_sub(stats.stalled);
            }
            (outcome.depths, outcome.lags) = (Vec::new(), Vec::new());
        }
        links.step(now);
        for ((to, from), arrived) in links.take_arrived() {
            let from = peer(from);
            let input = match &arrived {
                Arrived::Inputs { tick, bytes, again } => {
                    Input::Block { from, tick: *tick, bytes, again: *again }
                }
                Arrived::Message(bytes) => Input::Message { from, bytes },
            };
            handle(&mut games[to], &mut links, now, to, input);
        }
        for (me, of) in games.iter_mut().enumerate() {
            let late = APART * me as u32 / game.players as u32;
            let due = start + late + Duration::from_micros(of.next as u64 * 1_000_000 / RATE);
            if now >= due {
                tick(game, of, &mut links, now, me, &mut outcome);
            }
        }
    }
    for game in &games {
        let stats = game.session.stats();
        outcome.advanced = outcome.advanced.wrapping_add(stats.advanced);
        outcome.rollbacks = outcome.rollbacks.wrapping_add(stats.rollbacks);
        outcome.stalled = outcome.stalled.wrapping_add(stats.stalled);
    }
    outcome.sent.datagrams = links.sent.datagrams - before.datagrams;
    outcome.sent.bytes = links.sent.bytes - before.bytes;
    Ok(outcome)
}

fn begin(game: &Match, me: usize) -> Result<Game> {
    let seats = (0..game.players).map(|of| Seat { peer: peer(of), players: 1 }).collect();
    let mut config = SessionConfig::new(1, peer(me), peer(0), seats);
    config.neutral = vec![0; game.input_len];
    Ok(Game { session: Session::new(config)?, next: 0, depth: 0 })
}

fn tick(
    game: &Match,
    of: &mut Game,
    links: &mut Links,
    now: Now,
    me: usize,
    outcome: &mut Outcome,
) {
    let input = game.input(of.next as u32, me);
    // The only player of this peer, and a valid input.
    let _ = of.session.add_local_input(Player(me as u8), &input);
    let tick = of.next;
    of.next += 1;
    of.depth = 0;
    handle(of, links, now, me, Input::Tick(tick));
    if of.depth > 0 {
        outcome.depths.push(of.depth);
    }
    let lag = of.session.current() - 1 - of.session.confirmed();
    outcome.lags.push(lag.max(0) as u32);
    links.flush(now, me);
}

fn handle(of: &mut Game, links: &mut Links, now: Now, me: usize, input: Input<'_>) {
    let half_a_tick = Duration::from_micros(500_000 / RATE);
    let before = of.session.current();
    of.session.handle(now, input);
    while let Some(output) = of.session.poll_output() {
        let to = |peer: PeerId| (me, peer.as_u128() as usize - 1);
        match output {
            Output::Block { to: peer, tick, bytes, again } => {
                let again = again.then_some(half_a_tick);
                links.inputs(now, to(peer), InputBlock { tick, bytes, again });
            }
            Output::Message { to: peer, bytes } => links.message(now, to(peer), &bytes),
            Output::Load(tick) => of.depth = (before - tick) as u32,
            Output::Checksum(tick) => {
                of.session.handle(now, Input::Checksum { tick, sum: 0 });
            }
            _ => {}
        }
    }
}
