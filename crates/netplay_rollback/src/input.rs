//! What one player does in one tick, as bytes.

use core::fmt;

use crate::limits::INPUT_MAX;

/// A tick of the match, counted from 0; negative before it. Plain numbers, because order and distance
/// matter everywhere here: a session ends before they run out (414 days at 60 Hz).
pub type Tick = i32;

/// A player, numbered over all peers in the order of the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Player(pub u8);

impl Player {
    /// Its place in tables of all players.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Inputs of up to so many bytes need no allocation.
const INLINE: usize = 22;

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

/// An encoded input of at most [`INPUT_MAX`] bytes.
#[derive(Clone)]
pub struct InputBytes(Repr);

impl InputBytes {
    /// The input with these bytes; `None` if there are more than [`INPUT_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > INPUT_MAX {
            return None;
        }
        if bytes.len() > INLINE {
            return Some(Self(Repr::Heap(bytes.into())));
        }
        let mut inline = [0; INLINE];
        inline[..bytes.len()].copy_from_slice(bytes);
        Some(Self(Repr::Inline { len: bytes.len() as u8, bytes: inline }))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
        }
    }
}

impl Default for InputBytes {
    /// No bytes.
    fn default() -> Self {
        Self(Repr::Inline { len: 0, bytes: [0; INLINE] })
    }
}

impl PartialEq for InputBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for InputBytes {}

impl fmt::Debug for InputBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// How sure an input is.
///
/// A simulation may ask for [`Self::Absent`] only: it is the same on all peers when a tick is
/// confirmed. The others depend on who asks and when; they are for the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputStatus {
    /// It is what the player did.
    Confirmed,
    /// It has not come yet, as usual on this path.
    Predicted,
    /// It should have come by now: the player is slow, or packets are lost.
    Late,
    /// The player is not in the match at this tick; the input is the neutral one.
    Absent,
}

/// What is known of one player and tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Nothing yet.
    #[default]
    Missing,
    /// The input.
    Given(InputBytes),
    /// The player is not in the match.
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_every_length_keep_their_bytes() {
        let bytes: Vec<u8> = (0..=INPUT_MAX as u8).collect();
        for len in 0..=INPUT_MAX {
            let input = InputBytes::new(&bytes[..len]).unwrap();
            assert_eq!(input.as_slice(), &bytes[..len]);
            assert_eq!(input, input.clone());
        }
        assert_eq!(InputBytes::new(&bytes), None);
        assert!(size_of::<Cell>() <= 24);
    }
}
