//! Which lobbies a player looks for.

use serde::{Deserialize, Serialize};

use super::{MessageError, Value};
use crate::ids::DataKey;
use crate::limits::{FILTERS_MAX, SEARCH_SKIP_MAX, SORTS_MAX};

/// What of a lobby is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Players.
    Members,
    /// Players at most.
    Capacity,
    /// Seats for players that are free.
    Free,
    /// 1 if it has a password, else 0.
    Password,
    /// 1 while its match runs, else 0.
    Playing,
    /// Its name.
    Name,
    /// A public value. A lobby that has none of this name does not fit.
    Data(DataKey),
}

/// How it is compared. A number never fits a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// A text that contains this one; never fits a number.
    Contains,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// What is looked at.
    pub field: Field,
    /// How.
    pub compare: Compare,
    /// With what.
    pub value: Value,
}

/// Which come first. Who lacks the field comes last; among equals the fuller comes first, then the older.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// By what.
    pub field: Field,
    /// In which order.
    pub order: Order,
}

/// An order of numbers and texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The smallest first.
    Ascending,
    /// The largest first.
    Descending,
    /// Numbers: the nearest to this one first.
    Near(i64),
}

/// What a player looks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// All of these hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// The first counts most. Without any, the fullest come first, then the oldest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sort: Vec<Sort>,
    /// So many of the first are left out: those of the pages before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u16) -> bool {
    *number == 0
}

impl Search {
    /// Everything that is open.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only where this holds too.
    #[must_use]
    pub fn with(mut self, field: Field, compare: Compare, value: impl Into<Value>) -> Self {
        self.filters.push(Filter { field, compare, value: value.into() });
        self
    }

    /// In this order, after the orders that were given before.
    #[must_use]
    pub fn by(mut self, field: Field, order: Order) -> Self {
        self.sort.push(Sort { field, order });
        self
    }

    /// Checks numbers and sizes.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        check_filters(&self.filters)?;
        if self.sort.len() > SORTS_MAX {
            return Err(MessageError::Range { field: "sort" });
        }
        if self.skip > SEARCH_SKIP_MAX {
            return Err(MessageError::Range { field: "skip" });
        }
        Ok(())
    }
}

/// Checks how many there are, and how long what they compare with is.
pub(super) fn check_filters(filters: &[Filter]) -> Result<(), MessageError> {
    if filters.len() > FILTERS_MAX {
        return Err(MessageError::Range { field: "filters" });
    }
    filters.iter().try_for_each(|filter| filter.value.check())
}
