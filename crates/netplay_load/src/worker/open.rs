//! Clients connect, and come back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::speech::Said;
use super::world::{Flow, Phase, World};
use crate::Result;
use crate::stats::Histogram;

/// When a client that got no connection tries again.
const AGAIN: Duration = Duration::from_millis(100);

/// Where a client is on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is still open, and its connection is expected to end.
    Before,
    Waiting,
    UnderWay,
    Open,
}

/// All clients connect, so many at once; whoever is lost connects again.
pub(crate) struct Opening {
    at_once: usize,
    again: bool,
    places: Vec<Place>,
    todo: VecDeque<usize>,
    /// Those that wait, in the order in which they were refused.
    later: VecDeque<(Instant, usize)>,
    under_way: usize,
    pub(crate) opened: usize,
    /// From the first packet to the session.
    pub(crate) latency: Histogram,
    /// Sessions that were to be taken up, and that the server did not know any more.
    pub(crate) new_sessions: u64,
    /// Connections that were lost or not made; each was tried again.
    pub(crate) failed: u64,
    pub(crate) last_failure: Option<String>,
}

impl Opening {
    /// The first `count` clients connect.
    pub(crate) fn first(count: usize, at_once: usize) -> Self {
        Self {
            at_once,
            again: false,
            places: vec![Place::Waiting; count],
            todo: (0..count).collect(),
            later: VecDeque::new(),
            under_way: 0,
            opened: 0,
            latency: Histogram::default(),
            new_sessions: 0,
            failed: 0,
            last_failure: None,
        }
    }

    /// The first `count` clients, which are open, are expected to lose their connections, and come back.
    pub(crate) fn again(count: usize, at_once: usize) -> Self {
        let places = vec![Place::Before; count];
        Self { again: true, places, todo: VecDeque::new(), ..Self::first(count, at_once) }
    }
}

impl Phase for Opening {
    fn tick(&mut self, world: &mut World, now: Instant) -> Result<Flow> {
        if self.opened == self.places.len() {
            return Ok(Flow::Over);
        }
        while let Some((_, who)) = self.later.pop_front_if(|(at, _)| *at <= now) {
            self.todo.push_back(who);
        }
        while self.under_way < self.at_once
            && let Some(who) = self.todo.pop_front()
        {
            self.places[who] = Place::UnderWay;
            self.under_way += 1;
            world.connect(who, None);
        }
        Ok(Flow::Wait(Duration::from_millis(10)))
    }

    fn opened(&mut self, world: &mut World, who: usize, now: Instant, said: Option<Said<'_>>) {
        self.places[who] = Place::Open;
        self.under_way -= 1;
        self.opened += 1;
        self.latency.add(now - world.clients[who].began);
        let new = said.is_some_and(|said| said.text.contains("\"session\":\"new\""));
        self.new_sessions += u64::from(new && self.again);
    }

    fn lost(&mut self, _world: &mut World, who: usize, why: &str) {
        let Some(place) = self.places.get_mut(who) else { return };
        match core::mem::replace(place, Place::Waiting) {
            Place::Before => return self.todo.push_back(who),
            Place::Waiting => return,
            Place::UnderWay => self.under_way -= 1,
            Place::Open => self.opened -= 1,
        }
        self.failed += 1;
        self.last_failure = Some(why.to_owned());
        self.later.push_back((Instant::now() + AGAIN, who));
    }
}
