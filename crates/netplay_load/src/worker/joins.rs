//! Two players meet, and part: how fast, and how long it takes.
//!
//! With our server a pair that is connected makes a cycle: one creates a lobby, the other joins by its code,
//! and both leave, one after the other. That is four requests and about ten frames; a *join* is the second.
//! [`visits`](super::visits) has what is measured of servers without lobbies.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use netplay_protocol::LobbyCode;
use netplay_protocol::lobby::{ClientMessage, LobbyOptions};

use super::speech::{self, Said};
use super::world::{Flow, Phase, World};
use crate::Result;
use crate::stats::Histogram;

/// Joins of a pair that it may make at once, and in a second: its two take turns, and each may join ten times,
/// and once a second (`Config::joins`). A little less, so that nobody is refused.
const BURST: u32 = 16;
const EVERY: Duration = Duration::from_millis(550);

/// When a pair may begin its next cycle, within the server's limits, and who of the two creates the lobby then.
/// Outlives a phase.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    due: Option<Instant>,
    turn: usize,
}

impl Pace {
    pub(crate) const NEW: Self = Self { due: None, turn: 0 };

    /// Whether it may begin now. If so, it does, and this is whose turn it is to create.
    fn begin(&mut self, now: Instant) -> Option<usize> {
        let due = self.due.unwrap_or(now).max(now);
        if due > now + EVERY * BURST {
            return None;
        }
        self.due = Some(due + EVERY);
        self.turn = 1 - self.turn;
        Some(1 - self.turn)
    }
}

/// How long and how much.
pub(crate) struct Amount {
    /// Cycles at once.
    pub(crate) at_once: usize,
    pub(crate) time: Duration,
    /// So many cycles at most.
    pub(crate) cycles: u64,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) joins: u64,
    /// From the request, or the first packet, to the answer.
    pub(crate) latency: Histogram,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) last_failure: Option<String>,
    /// From the beginning to the last join.
    pub(crate) time: Duration,
    /// Time in which less than was wanted was under way, because the server's limits allow no more.
    pub(crate) held_up: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Rest,
    Creating,
    Joining,
    GuestLeaves,
    HostLeaves,
    /// Something went wrong: it does nothing more.
    Broken,
}

#[derive(Clone, Copy)]
struct Pair {
    step: Step,
    /// Which of the two has created.
    host: usize,
    asked: Instant,
}

/// Cycles over connections that are there.
pub(crate) struct Joins<'a> {
    amount: Amount,
    pace: &'a mut [Pace],
    pairs: Vec<Pair>,
    rest: VecDeque<usize>,
    under_way: usize,
    begun: u64,
    began: Option<Instant>,
    ticked: Instant,
    pub(crate) result: Joined,
}

impl<'a> Joins<'a> {
    /// One for each pair of clients.
    pub(crate) fn new(pace: &'a mut [Pace], amount: Amount) -> Self {
        let now = Instant::now();
        let pair = |pair| Pair { step: Step::Rest, host: pair * 2, asked: now };
        Self {
            pairs: (0..pace.len()).map(pair).collect(),
            rest: (0..pace.len()).collect(),
            pace,
            amount,
            under_way: 0,
            begun: 0,
            began: None,
            ticked: now,
            result: Joined::default(),
        }
    }

    fn begin(&mut self, world: &mut World, now: Instant) {
        while self.under_way < self.amount.at_once
            && self.begun < self.amount.cycles
            && let Some(pair) = self.rest.front().copied()
            && let Some(turn) = self.pace[pair].begin(now)
        {
            self.rest.pop_front();
            self.under_way += 1;
            self.begun += 1;
            let host = pair * 2 + turn;
            self.pairs[pair].host = host;
            let create = ClientMessage::create(1, LobbyOptions::private(2)).to_json();
            self.ask(world, pair, host, Step::Creating, &create, now);
        }
    }

    fn ask(
        &mut self,
        world: &mut World,
        pair: usize,
        who: usize,
        step: Step,
        text: &str,
        now: Instant,
    ) {
        (self.pairs[pair].step, self.pairs[pair].asked) = (step, now);
        world.say(who, text.as_bytes());
    }

    fn broken(&mut self, who: usize, why: Option<String>) {
        let pair = &mut self.pairs[who / 2];
        if !matches!(core::mem::replace(&mut pair.step, Step::Broken), Step::Rest | Step::Broken) {
            self.under_way -= 1;
        }
        self.rest.retain(|pair| *pair != who / 2);
        self.result.last_failure = why.or(self.result.last_failure.take());
    }
}

impl Phase for Joins<'_> {
    fn tick(&mut self, world: &mut World, now: Instant) -> Result<Flow> {
        let began = *self.began.get_or_insert(now);
        let over = self.begun >= self.amount.cycles || now >= began + self.amount.time;
        if self.under_way == 0 && (over || self.rest.is_empty()) {
            return Ok(Flow::Over);
        }
        if !over {
            if self.under_way < self.amount.at_once.min(self.pairs.len()) {
                self.result.held_up += now.saturating_duration_since(self.ticked.max(began));
            }
            self.begin(world, now);
        }
        self.ticked = now;
        Ok(Flow::Wait(Duration::from_millis(1)))
    }

    fn heard(&mut self, world: &mut World, who: usize, said: Said<'_>, now: Instant) {
        let number = who / 2;
        let Some(Pair { step, host, asked }) = self.pairs.get(number).copied() else { return };
        let guest = super::world::partner(host);
        match (step, said.kind) {
            (Step::Creating, "joined") if who == host => {
                let code = speech::code(&said).and_then(|code| code.parse::<LobbyCode>().ok());
                let Some(code) = code else { return self.broken(who, Some("no code".into())) };
                let join = ClientMessage::join(2, code).to_json();
                self.ask(world, number, guest, Step::Joining, &join, now);
            }
            (Step::Joining, "joined") if who == guest => {
                self.result.joins += 1;
                self.result.latency.add(now - asked);
                self.result.time = now - self.began.unwrap_or(now);
                let leave = ClientMessage::Leave { request: 3 }.to_json();
                self.ask(world, number, guest, Step::GuestLeaves, &leave, now);
            }
            (Step::GuestLeaves, "left") if who == guest => {
                let leave = ClientMessage::Leave { request: 4 }.to_json();
                self.ask(world, number, host, Step::HostLeaves, &leave, now);
            }
            (Step::HostLeaves, "left") if who == host => {
                self.pairs[number].step = Step::Rest;
                self.rest.push_back(number);
                self.under_way -= 1;
                if self.began.is_some_and(|began| now < began + self.amount.time) {
                    self.begin(world, now);
                }
            }
            (_, "error") => {
                self.result.refused += 1;
                self.broken(who, speech::refusal(&said));
            }
            _ => {}
        }
    }

    fn lost(&mut self, _world: &mut World, who: usize, why: &str) {
        self.result.lost += 1;
        if who / 2 < self.pairs.len() {
            self.broken(who, Some(why.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_keeps_within_what_the_server_allows_each_of_its_two() {
        let (mut pace, begin) = (Pace::NEW, Instant::now());
        let limit = netplay_server::LobbyConfig::default().joins;
        let mut joins = [Vec::new(), Vec::new()];
        for ms in 0..60_000 {
            let now = begin + Duration::from_millis(ms);
            if let Some(host) = pace.begin(now) {
                joins[1 - host].push(ms);
            }
        }
        for joins in joins {
            assert!(joins.len() > 50, "{}", joins.len());
            for (count, ms) in joins.iter().enumerate() {
                let allowed = u64::from(limit.burst) + ms * u64::from(limit.per_second) / 1000;
                assert!((count as u64) < allowed, "{count} before {ms} ms");
            }
        }
    }
}
