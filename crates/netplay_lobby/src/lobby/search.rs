//! Whether a lobby is what somebody looks for, and which comes first.

use core::cmp::{Ordering, Reverse};

use netplay_protocol::limits::SORTS_MAX;
use netplay_protocol::lobby::{Compare, Field, Filter, Order, Sort, Tier, Value};

use super::Lobby;
use super::all::Rank;

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

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'l> {
    Up(Seen<'l>),
    Down(Reverse<Seen<'l>>),
    Near(u64),
    /// What was asked for is not there, or is no number.
    Last,
}

impl<'l> Key<'l> {
    const fn new(value: Option<Seen<'l>>, order: Order) -> Self {
        match (value, order) {
            (Some(value), Order::Ascending) => Self::Up(value),
            (Some(value), Order::Descending) => Self::Down(Reverse(value)),
            (Some(Seen::Number(number)), Order::Near(to)) => Self::Near(number.abs_diff(to)),
            _ => Self::Last,
        }
    }
}
