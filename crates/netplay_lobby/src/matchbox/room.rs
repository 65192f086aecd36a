//! Which room a matchbox player wants.

use core::num::NonZeroUsize;
use std::sync::Arc;

use thiserror::Error;

use crate::config::RoomLimits;

/// A room, as the URL `ws://host/<name>?next=<next>` names it. Two URLs with the same name and another
/// `next` are two rooms. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Room {
    pub(super) name: Arc<str>,
    pub(super) next: Option<NonZeroUsize>,
}

/// Why a URL names no room.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The name is too long.
    #[error("the name of the room has {len} bytes; {max} are allowed")]
    Name {
        /// Its bytes.
        len: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Groups of this size can never be complete.
    #[error("groups of {next} players cannot be: next must be 1 to {max}")]
    Next {
        /// The size.
        next: usize,
        /// How many are allowed.
        max: usize,
    },
}

impl Room {
    /// The room with this name (the URL's path without its slash, decoded; it may be empty) and what the
    /// URL's query says of `next`. As with matchbox's server, the last `next` of several counts, and one
    /// that is no number is none.
    ///
    /// # Errors
    /// [`RoomError`]. `next=0` is one: it asks for groups without players, and matchbox's own server
    /// counts below zero with it.
    pub fn new(name: &str, query: Option<&str>, limits: &RoomLimits) -> Result<Self, RoomError> {
        if name.len() > limits.name_max {
            return Err(RoomError::Name { len: name.len(), max: limits.name_max });
        }
        let next = match query.and_then(next) {
            None => None,
            Some(next) => match NonZeroUsize::new(next) {
                Some(size) if next <= limits.max_room_peers => Some(size),
                _ => return Err(RoomError::Next { next, max: limits.max_room_peers }),
            },
        };
        Ok(Self { name: name.into(), next })
    }
}

/// Digits are not percent-encoded by any client, so that nothing is decoded here.
fn next(query: &str) -> Option<usize> {
    let last = query.split('&').rev().find_map(|pair| pair.strip_prefix("next="))?;
    last.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str, query: &str) -> Result<Room, RoomError> {
        Room::new(name, Some(query), &RoomLimits::default())
    }

    #[test]
    fn name_and_next_tell_rooms_apart() {
        let plain = Room::new("r", None, &RoomLimits::default()).unwrap();
        let (two, three) = (room("r", "next=2").unwrap(), room("r", "next=3").unwrap());
        assert!(plain != two && two != three && plain != three);
        assert_ne!(two, room("s", "next=2").unwrap());
        assert_eq!(two, room("r", "a=1&next=2&b").unwrap());
    }

    #[test]
    fn a_next_that_is_no_number_is_none_and_the_last_counts() {
        let plain = room("r", "").unwrap();
        for query in ["next", "next=", "next=two", "next=-1", "nextx=2", "next=2.0"] {
            assert_eq!(room("r", query).unwrap(), plain, "{query}");
        }
        assert_eq!(room("r", "next=2&next=3"), room("r", "next=3"));
        assert_eq!(room("r", "next=99999999999999999999999").unwrap(), plain);
    }

    #[test]
    fn groups_of_nobody_or_of_too_many_are_refused() {
        let max = RoomLimits::default().max_room_peers;
        assert_eq!(room("r", "next=0"), Err(RoomError::Next { next: 0, max }));
        assert!(room("r", &format!("next={max}")).is_ok());
        let next = max + 1;
        assert_eq!(room("r", &format!("next={next}")), Err(RoomError::Next { next, max }));
    }

    #[test]
    fn a_long_name_is_refused_and_an_empty_one_is_a_room() {
        let max = RoomLimits::default().name_max;
        assert!(room("", "").is_ok());
        assert!(room(&"x".repeat(max), "").is_ok());
        let len = max + 1;
        assert_eq!(room(&"x".repeat(len), ""), Err(RoomError::Name { len, max }));
    }
}
