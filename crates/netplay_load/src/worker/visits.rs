//! Two players meet, and part, at servers without lobbies.
//!
//! Who joins connects to a room: at matchbox's server and at the bare relay a cycle is one connection to a
//! new room, then a second, then both are closed. A *join* is the second, from its first packet until it is
//! in the room.

use std::time::{Duration, Instant};

use super::joins::{Amount, Joined};
use super::speech::Said;
use super::world::{Flow, Phase, World};
use crate::Result;
use crate::serve::Kind;

/// Connections from one address before the next is taken: a closed connection's port is not free again for
/// a minute.
const PER_SOURCE: u64 = 4000;

/// Rooms from here on are visited.
const FIRST_ROOM: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Rest,
    HostConnects,
    GuestConnects,
}

/// Cycles of connections to rooms.
pub(crate) struct Visits {
    amount: Amount,
    /// The first client that is free for it.
    first: usize,
    /// The visits that go on at once, and their rooms.
    visits: Vec<(Step, u64)>,
    begun: u64,
    under_way: usize,
    began: Option<Instant>,
    pub(crate) result: Joined,
}

impl Visits {
    /// With the clients from the `first` on, which must be two for each of the visits at once.
    pub(crate) fn new(first: usize, amount: Amount) -> Self {
        Self {
            visits: vec![(Step::Rest, 0); amount.at_once],
            first,
            amount,
            begun: 0,
            under_way: 0,
            began: None,
            result: Joined::default(),
        }
    }

    fn connect(&mut self, world: &mut World, visit: usize, step: Step) {
        let who = self.first + visit * 2 + usize::from(step == Step::GuestConnects);
        let room = self.visits[visit].1;
        self.visits[visit].0 = step;
        world.clients[who].source = world.clients.len() + (self.begun / PER_SOURCE) as usize;
        let path = match world.server {
            Kind::Matchbox => format!("/visit{room}"),
            _ => format!("/{room}"),
        };
        world.connect(who, Some(&path));
    }

    fn end(&mut self, world: &mut World, visit: usize) {
        if core::mem::replace(&mut self.visits[visit].0, Step::Rest) != Step::Rest {
            self.under_way -= 1;
        }
        world.close(self.first + visit * 2);
        world.close(self.first + visit * 2 + 1);
    }

    /// The number of a client's visit, if it is on one.
    fn visit_of(&self, who: usize) -> Option<usize> {
        who.checked_sub(self.first).map(|who| who / 2).filter(|visit| *visit < self.visits.len())
    }
}

impl Phase for Visits {
    fn tick(&mut self, world: &mut World, now: Instant) -> Result<Flow> {
        let began = *self.began.get_or_insert(now);
        let over = self.begun >= self.amount.cycles || now >= began + self.amount.time;
        if over && self.under_way == 0 {
            return Ok(Flow::Over);
        }
        for visit in 0..self.visits.len() {
            if !over && self.visits[visit].0 == Step::Rest && self.begun < self.amount.cycles {
                self.begun += 1;
                self.under_way += 1;
                self.visits[visit].1 = FIRST_ROOM + self.begun;
                self.connect(world, visit, Step::HostConnects);
            }
        }
        Ok(Flow::Wait(Duration::from_millis(1)))
    }

    fn opened(&mut self, world: &mut World, who: usize, now: Instant, _said: Option<Said<'_>>) {
        let Some(visit) = self.visit_of(who) else { return };
        match self.visits[visit].0 {
            Step::HostConnects => self.connect(world, visit, Step::GuestConnects),
            Step::GuestConnects => {
                self.result.joins += 1;
                self.result.latency.add(now - world.clients[who].began);
                self.result.time = now - self.began.unwrap_or(now);
                self.end(world, visit);
            }
            Step::Rest => {}
        }
    }

    fn lost(&mut self, world: &mut World, who: usize, why: &str) {
        self.result.lost += 1;
        self.result.last_failure = Some(why.to_owned());
        if let Some(visit) = self.visit_of(who) {
            self.end(world, visit);
        }
    }
}
