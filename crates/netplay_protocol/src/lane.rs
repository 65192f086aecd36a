//! Lanes: what a game chooses a delivery by.
//!
//! A lane has a number, which goes over the wire, and a [`LaneConfig`], of which only the kind has to
//! be equal on all peers. Four lanes exist from the start; a game may change them and define twelve
//! more.
//!
//! | lane | kind | carrier |
//! |---|---|---|
//! | [`Lane::Unreliable`] | may be lost or reordered, never duplicated | datagrams |
//! | [`Lane::Sequenced`] | the newest of each key wins | datagrams |
//! | [`Lane::Reliable`] | everything, in order | datagrams, acknowledged and sent again |
//! | [`Lane::Bulk`] | everything, in order, for large things | the reliable channel |

use core::fmt;
use core::time::Duration;

use crate::limits::{
    BULK_MESSAGE_MAX, LANES_MAX, RELIABLE_MESSAGE_MAX, SEQUENCED_KEYS_MAX, UNRELIABLE_MESSAGE_MAX,
};

/// A lane's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u8);

#[expect(non_upper_case_globals, reason = "they read as what they are: the names of lanes")]
impl Lane {
    /// May be lost or reordered, never duplicated; the newest when a queue is full. For effects.
    pub const Unreliable: Self = Self(0);
    /// The newest of each message type and key wins: older ones are never delivered after it, and
    /// superseded ones are not sent. The newest is sent again until it has arrived. For positions
    /// and state.
    pub const Sequenced: Self = Self(1);
    /// Everything arrives, once and in order, for as long as the link lives. For events and scores.
    pub const Reliable: Self = Self(2);
    /// Everything arrives, once and in order, at whatever speed the path allows. For worlds and files.
    pub const Bulk: Self = Self(3);
}

impl Lane {
    /// The lanes that exist from the start.
    pub const BUILT_IN: [Self; 4] = [Self::Unreliable, Self::Sequenced, Self::Reliable, Self::Bulk];

    /// A lane of the game's own: `n` is 0 to 11.
    ///
    /// # Panics
    /// If `n` is larger; in a constant that is a compile error.
    pub const fn custom(n: u8) -> Self {
        let id = n as usize + Self::BUILT_IN.len();
        assert!(id < LANES_MAX, "a game has twelve lanes of its own, 0 to 11");
        Self(id as u8)
    }

    /// The lane's number on the wire.
    pub const fn id(self) -> u8 {
        self.0
    }

    /// The lane's place in tables of all lanes.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The lane with this number; `None` beyond [`LANES_MAX`].
    pub const fn from_id(id: u8) -> Option<Self> {
        if (id as usize) < LANES_MAX { Some(Self(id)) } else { None }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unreliable => f.write_str("unreliable"),
            Self::Sequenced => f.write_str("sequenced"),
            Self::Reliable => f.write_str("reliable"),
            Self::Bulk => f.write_str("bulk"),
            Self(id) => write!(f, "custom {}", usize::from(id) - Self::BUILT_IN.len()),
        }
    }
}

/// What a lane promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LaneKind {
    /// See [`Lane::Unreliable`].
    Unreliable = 0,
    /// See [`Lane::Sequenced`].
    Sequenced = 1,
    /// See [`Lane::Reliable`].
    Reliable = 2,
    /// Everything arrives once, in any order: a lost message holds nothing up.
    ReliableUnordered = 3,
    /// See [`Lane::Bulk`].
    Bulk = 4,
}

impl LaneKind {
    /// Whether everything arrives for as long as the link lives.
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Unreliable | Self::Sequenced)
    }

    /// Whether datagrams carry it.
    pub const fn rides_datagrams(self) -> bool {
        !matches!(self, Self::Bulk)
    }

    /// The largest encoded message, in bytes.
    pub const fn message_max(self) -> usize {
        match self {
            Self::Unreliable | Self::Sequenced => UNRELIABLE_MESSAGE_MAX,
            Self::Reliable | Self::ReliableUnordered => RELIABLE_MESSAGE_MAX,
            Self::Bulk => BULK_MESSAGE_MAX,
        }
    }
}

/// How a lane behaves at the sending side. Only the kind has to be equal on all peers. Of a
/// [`LaneKind::Bulk`] lane only the kind, `queue_bytes` and `immediate` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    /// What it promises.
    pub kind: LaneKind,
    /// Lower goes first when not everything fits. A lane of a higher number still gets its turn in
    /// every eighth datagram.
    pub priority: u8,
    /// Its share among lanes of one priority, at least 1.
    pub weight: u16,
    /// A message that has not left within this time (or, on a reliable lane, has not arrived) is
    /// dropped and counted.
    pub deadline: Option<Duration>,
    /// Messages that may wait for one peer; for [`LaneKind::Sequenced`] keys in use.
    pub queue_messages: u32,
    /// Whether a message leaves as soon as it is written, and takes what was written before it along;
    /// otherwise with the flush at the end of the tick or frame. Each costs a datagram and a wake.
    pub immediate: bool,
    /// Bytes that may wait for one peer, not counting a single message. Beyond either limit an
    /// unreliable lane drops its oldest message, a sequenced one the state that was written the longest
    /// ago, and a reliable one refuses the new.
    pub queue_bytes: u32,
}

impl LaneConfig {
    /// The defaults of a kind.
    pub const fn new(kind: LaneKind) -> Self {
        let (priority, queue_messages, queue_bytes) = match kind {
            LaneKind::Unreliable => (2, 1024, 128 * 1024),
            LaneKind::Sequenced => (1, SEQUENCED_KEYS_MAX as u32, 256 * 1024),
            LaneKind::Reliable | LaneKind::ReliableUnordered => (0, 4096, 512 * 1024),
            LaneKind::Bulk => (3, 1024, 2 * BULK_MESSAGE_MAX as u32),
        };
        let (weight, deadline, immediate) = (1, None, false);
        Self { kind, priority, weight, deadline, immediate, queue_messages, queue_bytes }
    }

    /// With this priority.
    #[must_use]
    pub const fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// With this weight; 0 counts as 1.
    #[must_use]
    pub const fn weight(mut self, weight: u16) -> Self {
        self.weight = if weight == 0 { 1 } else { weight };
        self
    }

    /// With this deadline.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Every message leaves as soon as it is written.
    #[must_use]
    pub const fn immediate(mut self) -> Self {
        self.immediate = true;
        self
    }

    /// With these limits. A single message of the largest size always finds room.
    #[must_use]
    pub const fn queue(mut self, messages: u32, bytes: u32) -> Self {
        self.queue_messages = if messages == 0 { 1 } else { messages };
        self.queue_bytes = bytes;
        self
    }
}

/// All lanes of a game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneTable {
    lanes: [Option<LaneConfig>; LANES_MAX],
}

impl Default for LaneTable {
    /// The four built-in lanes.
    fn default() -> Self {
        let mut lanes = [None; LANES_MAX];
        let kinds = [LaneKind::Unreliable, LaneKind::Sequenced, LaneKind::Reliable, LaneKind::Bulk];
        for (lane, kind) in lanes.iter_mut().zip(kinds) {
            *lane = Some(LaneConfig::new(kind));
        }
        Self { lanes }
    }
}

impl LaneTable {
    /// Defines or redefines a lane.
    pub const fn set(&mut self, lane: Lane, config: LaneConfig) {
        self.lanes[lane.index()] = Some(config);
    }

    /// The lane's configuration, if it is defined.
    pub const fn get(&self, lane: Lane) -> Option<&LaneConfig> {
        self.lanes[lane.index()].as_ref()
    }

    /// The lane's kind, if it is defined.
    pub const fn kind(&self, lane: Lane) -> Option<LaneKind> {
        match self.get(lane) {
            Some(config) => Some(config.kind),
            None => None,
        }
    }

    /// All defined lanes, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, &LaneConfig)> {
        let lanes = self.lanes.iter().enumerate();
        lanes.filter_map(|(id, config)| Some((Lane(id as u8), config.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_game_has_twelve_lanes_of_its_own() {
        assert_eq!(Lane::custom(0).id(), 4);
        assert_eq!(Lane::custom(11), Lane::from_id(15).unwrap());
        assert_eq!(Lane::from_id(16), None);
        assert_eq!(Lane::custom(2).to_string(), "custom 2");
    }

    #[test]
    fn the_built_in_lanes_are_defined_and_can_be_changed() {
        let mut table = LaneTable::default();
        assert_eq!(table.iter().count(), 4);
        assert_eq!(table.kind(Lane::Sequenced), Some(LaneKind::Sequenced));
        assert_eq!(table.kind(Lane::custom(0)), None);
        let config = LaneConfig::new(LaneKind::ReliableUnordered).weight(0);
        table.set(Lane::custom(0), config);
        assert_eq!(table.get(Lane::custom(0)).map(|config| config.weight), Some(1));
    }
}
