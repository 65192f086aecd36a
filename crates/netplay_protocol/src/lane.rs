//! Lanes: what a game chooses a delivery by.

use core::fmt;

/// How the messages of one type travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// May be lost or reordered, never duplicated; newest data first when a queue is full. For
    /// positions and effects. A message must fit in one datagram.
    Unreliable = 0,
    /// Everything arrives, once and in order, for as long as the link lives. For events, chat and
    /// scores.
    Reliable = 1,
}

impl Lane {
    /// All lanes, in the order of their ids.
    pub const ALL: [Self; 2] = [Self::Unreliable, Self::Reliable];

    /// The lane's number on the wire.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The lane with this number.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Unreliable),
            1 => Some(Self::Reliable),
            _ => None,
        }
    }

    /// The largest encoded message that the lane takes, in bytes.
    pub const fn message_max(self) -> usize {
        match self {
            Self::Unreliable => crate::limits::DATAGRAM_FRAMES_MAX - crate::frame::OVERHEAD_MAX,
            Self::Reliable => crate::limits::RELIABLE_MESSAGE_MAX,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreliable => "unreliable",
            Self::Reliable => "reliable",
        })
    }
}
