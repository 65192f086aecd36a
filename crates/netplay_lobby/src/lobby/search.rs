//! Whether a lobby is what somebody looks for, and which comes first.

use core::cmp::{Ordering, Reverse};

use netplay_protocol::lobby::{Compare, Field, Filter, Order, Sort, Tier, Value};

use super::Lobby;

impl Lobby {
    fn field(&self, field: &Field) -> Option<Value> {
        let number = |number: u8| Some(Value::Number(number.into()));
        match field {
            Field::Members => number(self.len()),
            Field::Capacity => number(self.options.capacity),
            Field::Free => number(self.free_for(None)),
            Field::Password => number(self.password.is_some().into()),
            Field::Playing => number(self.playing.into()),
            Field::Name => Some(Value::Text(self.options.name.clone())),
            Field::Data(key) => {
                let entry = self.data.get(key).filter(|entry| entry.tier == Tier::Public);
                entry.map(|entry| entry.value.clone())
            }
        }
    }

    pub(super) fn fits(&self, filters: &[Filter]) -> bool {
        filters.iter().all(|filter| {
            let here = self.field(&filter.field);
            here.is_some_and(|here| compare(&here, filter.compare, &filter.value))
        })
    }

    /// What it is sorted by: smaller comes first.
    pub(super) fn rank(&self, sort: &[Sort]) -> Rank {
        let by = |Sort { field, order }: &Sort| Key::new(self.field(field), *order);
        Rank { by: sort.iter().map(by).collect(), then: (Reverse(self.len()), self.created) }
    }
}

fn compare(here: &Value, compare: Compare, with: &Value) -> bool {
    let order = match (here, with) {
        (Value::Number(here), Value::Number(with)) => here.cmp(with),
        (Value::Text(here), Value::Text(with)) if compare == Compare::Contains => {
            return here.contains(with);
        }
        (Value::Text(here), Value::Text(with)) => here.cmp(with),
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
pub(super) struct Rank {
    by: Vec<Key>,
    then: (Reverse<u8>, u64),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Up(Value),
    Down(Reverse<Value>),
    Near(u64),
    /// What was asked for is not there, or is no number.
    Last,
}

impl Key {
    fn new(value: Option<Value>, order: Order) -> Self {
        match (value, order) {
            (Some(value), Order::Ascending) => Self::Up(value),
            (Some(value), Order::Descending) => Self::Down(Reverse(value)),
            (Some(Value::Number(number)), Order::Near(to)) => Self::Near(number.abs_diff(to)),
            _ => Self::Last,
        }
    }
}
