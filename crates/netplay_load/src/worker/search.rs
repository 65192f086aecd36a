//! Players look for lobbies.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use netplay_protocol::DataKey;
use netplay_protocol::lobby::{
    ClientMessage, Compare, CreateWith, Entry, Field, LobbyOptions, Order, Search,
};

use super::signals::Relayed;
use super::speech::{self, Said};
use super::world::{Flow, Phase, World};
use crate::Result;

const MAPS: [&str; 8] =
    ["desert", "forest", "harbour", "island", "tundra", "canyon", "castle", "orbit"];

/// A lobby to be found: public, with a map, a rating and a name.
pub(crate) fn create(number: usize) -> String {
    let key = |name| DataKey::new(name).unwrap_or_else(|_| unreachable!("this is a name"));
    let rating = 1000 + (number as i64 * 7919) % 1000;
    let data = BTreeMap::from([
        (key("map"), Entry::public(MAPS[number % MAPS.len()])),
        (key("rating"), Entry::public(rating)),
    ]);
    let options = LobbyOptions { name: format!("lobby {number}"), ..LobbyOptions::public(4) };
    let with = CreateWith { data, ..CreateWith::default() };
    ClientMessage::Create { request: 1, options, with }.to_json()
}

/// All that are open.
pub(crate) fn any() -> String {
    ClientMessage::search(1).to_json()
}

/// What players look for, in turn: any lobby; one with this map, of about this rating; one with two free
/// seats and a map whose name contains something.
fn search(number: usize) -> String {
    let key = |name| DataKey::new(name).unwrap_or_else(|_| unreachable!("this is a name"));
    let data = |name| Field::Data(key(name));
    let near = 1000 + (number as i64 * 31) % 1000;
    let search = match number % 3 {
        0 => Search::all(),
        1 => Search::all()
            .with(data("map"), Compare::Eq, MAPS[number % MAPS.len()])
            .by(data("rating"), Order::Near(near)),
        _ => Search::all()
            .with(Field::Free, Compare::Ge, 2)
            .with(data("map"), Compare::Contains, "an")
            .by(data("rating"), Order::Near(near)),
    };
    ClientMessage::Search { request: 1, search }.to_json()
}

/// Searches at a steady rate, whatever comes back.
pub(crate) struct Searches {
    /// Who asks, in turn.
    who: core::ops::Range<usize>,
    per_second: f64,
    time: Duration,
    began: Option<Instant>,
    sent: usize,
    answered: usize,
    /// When each client's searches were due.
    due: BTreeMap<usize, VecDeque<Instant>>,
    pub(crate) result: Relayed,
}

impl Searches {
    pub(crate) fn new(who: core::ops::Range<usize>, per_second: f64, time: Duration) -> Self {
        let result = Relayed { time, ..Relayed::default() };
        let due = BTreeMap::new();
        Self { who, per_second, time, began: None, sent: 0, answered: 0, due, result }
    }
}

impl Phase for Searches {
    fn tick(&mut self, world: &mut World, now: Instant) -> Result<Flow> {
        let began = *self.began.get_or_insert(now);
        let end = began + self.time;
        if now >= end && (self.answered >= self.sent || now >= end + Duration::from_secs(3)) {
            self.result.missing = self.sent.saturating_sub(self.answered) as u64;
            return Ok(Flow::Over);
        }
        loop {
            let due = began + Duration::from_secs_f64(self.sent as f64 / self.per_second);
            if due > now || due >= end || self.who.is_empty() {
                return Ok(Flow::Spin);
            }
            let who = self.who.start + self.sent % self.who.len();
            self.result.late.add(now - due);
            self.due.entry(who).or_default().push_back(due);
            world.say(who, search(self.sent).as_bytes());
            self.sent += 1;
        }
    }

    fn heard(&mut self, _world: &mut World, who: usize, said: Said<'_>, now: Instant) {
        if !matches!(said.kind, "lobbies" | "error") {
            return;
        }
        let Some(due) = self.due.get_mut(&who).and_then(VecDeque::pop_front) else { return };
        self.answered += 1;
        if said.kind == "error" {
            self.result.refused += 1;
            self.result.last_failure = speech::refusal(&said);
        } else {
            self.result.count += 1;
            self.result.latency.add(now - due);
        }
    }

    fn lost(&mut self, _world: &mut World, _who: usize, why: &str) {
        self.result.lost += 1;
        self.result.last_failure = Some(why.to_owned());
    }
}

/// That looks at every lobby, and finds none.
pub(crate) fn for_nothing() -> String {
    let search = Search::all().with(Field::Name, Compare::Contains, "no lobby has this");
    ClientMessage::Search { request: 1, search: search.by(Field::Free, Order::Descending) }
        .to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lobbies_and_searches_are_understood() {
        for number in 0..20 {
            assert!(ClientMessage::from_json(&create(number)).is_ok());
            assert!(ClientMessage::from_json(&search(number)).is_ok());
        }
    }
}
