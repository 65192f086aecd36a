//! Whether a lobby is what somebody looks for, which comes first, and which are looked at at all.

use core::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;

use netplay_protocol::limits::SORTS_MAX;
use netplay_protocol::lobby::{
    Compare, Field, Filter, LobbySummary, Order, Search, Sort, Tier, Value,
};
use netplay_protocol::{DataKey, LobbyCode};

use super::Lobby;
use super::all::{LOOKED_AT_MAX, Lobbies, Open, Rank};

/// A value where it is. A search looks at thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen<'l> {
    Number(i64),
    Text(&'l str),
}

impl<'l> From<&'l Value> for Seen<'l> {
    fn from(value: &'l Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(*number),
            Value::Text(text) => Self::Text(text),
        }
    }
}

impl Sorted<'_> {
    /// Whether what was asked for first is not there.
    fn is_last(&self) -> bool {
        self.by[0] == Key::Last
    }
}

impl Lobby {
    fn field(&self, field: &Field) -> Option<Seen<'_>> {
        let number = |number: u8| Some(Seen::Number(number.into()));
        match field {
            Field::Members => number(self.len()),
            Field::Capacity => number(self.options.capacity),
            Field::Free => number(self.free_for(None)),
            Field::Password => number(self.password.is_some().into()),
            Field::Playing => number(self.playing.into()),
            Field::Name => Some(Seen::Text(&self.options.name)),
            Field::Data(key) => {
                let entry = self.data.get(key).filter(|entry| entry.tier == Tier::Public);
                entry.map(|entry| Seen::from(&entry.value))
            }
        }
    }

    pub(super) fn fits(&self, filters: &[Filter]) -> bool {
        filters.iter().all(|filter| {
            let here = self.field(&filter.field);
            here.is_some_and(|here| compare(here, filter.compare, Seen::from(&filter.value)))
        })
    }

    /// What it is sorted by: smaller comes first.
    pub(super) fn rank(&self, sort: &[Sort]) -> Sorted<'_> {
        let mut by = [const { Key::Last }; SORTS_MAX];
        for (key, Sort { field, order }) in by.iter_mut().zip(sort) {
            *key = Key::new(self.field(field), *order);
        }
        Sorted { by, then: (Reverse(self.len()), self.created) }
    }
}

fn compare(here: Seen<'_>, compare: Compare, with: Seen<'_>) -> bool {
    let order = match (here, with) {
        (Seen::Number(here), Seen::Number(with)) => here.cmp(&with),
        (Seen::Text(here), Seen::Text(with)) if compare == Compare::Contains => {
            return here.contains(with);
        }
        (Seen::Text(here), Seen::Text(with)) => here.cmp(with),
        _ => return false,
    };
    match compare {
        Compare::Eq => order == Ordering::Equal,
        Compare::Ne => order != Ordering::Equal,
        Compare::Lt => order == Ordering::Less,
        Compare::Le => order != Ordering::Greater,
        Compare::Gt => order == Ordering::Greater,
        Compare::Ge => order != Ordering::Less,
        Compare::Contains => false,
    }
}

/// A place in the order of results.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sorted<'l> {
    /// Those that were not asked for are equal everywhere.
    by: [Key<'l>; SORTS_MAX],
    then: Rank,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'l> {
    Up(Seen<'l>),
    Down(Reverse<Seen<'l>>),
    Near(u64),
    /// What was asked for is not there, or is no number.
    Last,
}

impl<'l> Key<'l> {
    /// Of a public value of a lobby.
    fn of(value: &'l Value, order: Order) -> Self {
        Self::new(Some(Seen::from(value)), order)
    }

    const fn new(value: Option<Seen<'l>>, order: Order) -> Self {
        match (value, order) {
            (Some(value), Order::Ascending) => Self::Up(value),
            (Some(value), Order::Descending) => Self::Down(Reverse(value)),
            (Some(Seen::Number(number)), Order::Near(to)) => Self::Near(number.abs_diff(to)),
            _ => Self::Last,
        }
    }
}

impl Open {
    /// Those with the rarest of the values that must be equal, if any must.
    fn with_values(&self, filters: &[Filter]) -> Option<&BTreeSet<LobbyCode>> {
        static NONE: BTreeSet<LobbyCode> = BTreeSet::new();
        let with = |filter: &Filter| match (&filter.field, filter.compare) {
            (Field::Data(key), Compare::Eq) => {
                let codes = self.values.get(key).and_then(|values| values.get(&filter.value));
                Some(codes.unwrap_or(&NONE))
            }
            _ => None,
        };
        filters.iter().filter_map(with).min_by_key(|codes| codes.len())
    }

    /// Those with a value of this name, in this order; those that are equal by it one after the other. Those
    /// without come after them, and are not here.
    fn in_order<'o>(&'o self, key: &DataKey, order: Order) -> Box<Ordered<'o>> {
        let Some(values) = self.values.get(key) else { return Box::new(core::iter::empty()) };
        let keyed = move |(value, codes): (&'o Value, &'o BTreeSet<LobbyCode>)| {
            (Key::of(value, order), codes)
        };
        let number = Value::Number;
        match order {
            Order::Ascending => Box::new(values.iter().map(keyed)),
            Order::Descending => Box::new(values.iter().rev().map(keyed)),
            Order::Near(to) => {
                let above = values.range(number(to)..=number(i64::MAX)).map(keyed);
                let below = values.range(number(i64::MIN)..number(to)).rev().map(keyed);
                let (mut above, mut below) = (above.peekable(), below.peekable());
                Box::new(core::iter::from_fn(move || match (above.peek(), below.peek()) {
                    (Some((up, _)), Some((down, _))) if down < up => below.next(),
                    (None, _) => below.next(),
                    _ => above.next(),
                }))
            }
        }
    }
}

/// Lobbies by what a search sorts them by.
type Ordered<'o> = dyn Iterator<Item = (Key<'o>, &'o BTreeSet<LobbyCode>)> + 'o;

/// What a search has found.
pub(super) struct Found<'l> {
    lobbies: &'l Lobbies,
    search: &'l Search,
    /// How many there are up to the end of the page.
    end: usize,
    /// How many it may still look at.
    left: usize,
    found: Vec<(Sorted<'l>, LobbyCode, &'l Lobby)>,
}

impl<'l> Found<'l> {
    /// Nothing yet, of which `max` are shown.
    pub(super) fn new(lobbies: &'l Lobbies, search: &'l Search, max: usize) -> Self {
        let end = usize::from(search.skip) + max;
        Self { lobbies, search, end, left: LOOKED_AT_MAX, found: Vec::new() }
    }

    /// Looks at the lobbies of an index: at as few as it has to.
    pub(super) fn look_through(&mut self, open: &'l Open) {
        let by_value = self.search.sort.first().and_then(|sort| match &sort.field {
            Field::Data(key) => Some((key, sort.order)),
            _ => None,
        });
        // Of those with a value, all are looked at. In order, it takes about so many until a page of them is found.
        let few = |codes: &BTreeSet<_>| {
            codes.len().saturating_pow(2) <= (self.end + 1).saturating_mul(open.ranks.len())
        };
        match (open.with_values(&self.search.filters), by_value) {
            (Some(codes), by_value) if by_value.is_none() || few(codes) => {
                codes.iter().for_each(|code| self.look_at(*code));
            }
            (_, Some((key, order))) => self.look_in_order(open, key, order),
            (_, None) => {
                let in_order = self.search.sort.is_empty();
                let mut codes = open.ranks.values();
                while let Some(code) = codes.next().filter(|_| !(in_order && self.is_full())) {
                    self.look_at(*code);
                }
            }
        }
    }

    /// Whether there is a page, and another lobby.
    const fn is_full(&self) -> bool {
        self.found.len() > self.end
    }

    fn look_at(&mut self, code: LobbyCode) {
        self.look_for(code, |_| true);
    }

    fn look_for(&mut self, code: LobbyCode, which: impl FnOnce(&Sorted<'l>) -> bool) {
        let lobby = self.lobbies.get(code).filter(|_| self.left > 0);
        self.left = self.left.saturating_sub(1);
        let Some(lobby) = lobby.filter(|lobby| lobby.fits(&self.search.filters)) else { return };
        let sorted = lobby.rank(&self.search.sort);
        if which(&sorted) {
            self.found.push((sorted, code, lobby));
        }
    }

    /// Looks at lobbies in the order of the first value that is sorted by, no further than it has to.
    fn look_in_order(&mut self, open: &'l Open, key: &DataKey, order: Order) {
        let (mut last, mut seen) = (None, 0);
        for (key, codes) in open.in_order(key, order) {
            // Those that are equal by the first may be in any order by the second.
            if self.is_full() && last != Some(key) {
                return;
            }
            codes.iter().for_each(|code| self.look_at(*code));
            (last, seen) = (Some(key), seen + codes.len());
        }
        if !self.is_full() && seen < open.ranks.len() {
            open.ranks.values().for_each(|code| self.look_for(*code, Sorted::is_last));
        }
    }

    /// The page, and whether others come after it.
    pub(super) fn page(mut self) -> (Vec<LobbySummary>, bool) {
        let (more, end) = (self.is_full(), self.end);
        if more {
            // Only the pages up to this one have to be in order.
            self.found.select_nth_unstable_by(end, |(a, ..), (b, ..)| a.cmp(b));
            self.found.truncate(end);
        }
        self.found.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        let page = self.found.into_iter().skip(self.search.skip.into());
        (page.map(|(_, code, lobby)| lobby.summary(code)).collect(), more)
    }
}
