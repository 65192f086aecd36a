//! Clients ask for something, each once, and get their answers: how the rest is made ready.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::speech::{self, Said};
use super::world::{Flow, Phase, World};
use crate::Result;
use crate::stats::Histogram;

/// The requests, so many at once.
pub(crate) struct Asking {
    todo: VecDeque<(usize, String)>,
    at_once: usize,
    under_way: usize,
    asked: Vec<Option<Instant>>,
    /// Who got into which lobby.
    pub(crate) codes: Vec<(usize, String)>,
    pub(crate) latency: Histogram,
    pub(crate) refused: u64,
    pub(crate) last_refusal: Option<String>,
    pub(crate) lost: u64,
}

impl Asking {
    pub(crate) fn new(todo: impl IntoIterator<Item = (usize, String)>, at_once: usize) -> Self {
        Self {
            todo: todo.into_iter().collect(),
            at_once,
            under_way: 0,
            asked: Vec::new(),
            codes: Vec::new(),
            latency: Histogram::default(),
            refused: 0,
            last_refusal: None,
            lost: 0,
        }
    }
}

impl Phase for Asking {
    fn tick(&mut self, world: &mut World, now: Instant) -> Result<Flow> {
        self.asked.resize(world.clients.len(), None);
        while self.under_way < self.at_once
            && let Some((who, text)) = self.todo.pop_front()
        {
            self.under_way += 1;
            self.asked[who] = Some(now);
            world.say(who, text.as_bytes());
        }
        Ok(if self.under_way == 0 { Flow::Over } else { Flow::Wait(Duration::from_millis(1)) })
    }

    fn heard(&mut self, _world: &mut World, who: usize, said: Said<'_>, now: Instant) {
        if !matches!(said.kind, "joined" | "left" | "lobbies" | "done" | "error") {
            return;
        }
        let Some(asked) = self.asked[who].take() else { return };
        self.under_way -= 1;
        self.latency.add(now - asked);
        if said.kind == "joined" {
            self.codes.extend(speech::code(&said).map(|code| (who, code)));
        }
        if said.kind == "error" {
            self.refused += 1;
            self.last_refusal = speech::refusal(&said);
        }
    }

    fn lost(&mut self, _world: &mut World, who: usize, why: &str) {
        self.lost += 1;
        self.last_refusal = Some(why.to_owned());
        if self.asked.get_mut(who).and_then(Option::take).is_some() {
            self.under_way -= 1;
        }
    }
}
