//! What goes into a session and what comes out.

use netplay_protocol::PeerId;

use crate::input::{InputStatus, Player, Tick};

/// Something happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// It is this tick. Local inputs for it were given before with
    /// [`Session::add_local_input`](crate::Session::add_local_input).
    Tick(Tick),
    /// It was this tick, and a later one is handled at once: nothing is told of it alone. For who runs
    /// several ticks in a frame.
    Passed(Tick),
    /// An input block came.
    Block {
        /// From this peer.
        from: PeerId,
        /// What the datagram's header says.
        tick: u16,
        /// The block.
        bytes: &'a [u8],
        /// Whether it is the second copy.
        again: bool,
    },
    /// A reliable message came.
    Message {
        /// From this peer.
        from: PeerId,
        /// The message.
        bytes: &'a [u8],
    },
    /// A message on the bulk lane came.
    Bulk {
        /// From this peer.
        from: PeerId,
        /// The message.
        bytes: &'a [u8],
    },
    /// There is a link to a peer, of a player or of a spectator; or none any more.
    Link {
        /// The peer.
        peer: PeerId,
        /// Whether messages can be sent. A link that is only interrupted is still one.
        up: bool,
    },
    /// A peer plays nowhere else: it has left the lobby, or the lobby server saw its process end and
    /// nothing is heard of it. Until then it counts as a voter whom we may only have lost.
    Gone(PeerId),
    /// Another peer is the host of the lobby now.
    Host(PeerId),
    /// A seat that nobody has taken, or that its peer has left, is another peer's from now on: who has it
    /// in its own roster may come as [`Role::Returning`](crate::Role::Returning), once all peers were told:
    /// else one that was not takes it for lost, and has it dropped again. Nothing happens while the seat's
    /// peer plays, or if the other one has a seat.
    Seat {
        /// Whose seat it was.
        of: PeerId,
        /// Whose it is now.
        peer: PeerId,
    },
    /// The checksum of a state, as asked for with [`Output::Checksum`].
    Checksum {
        /// The state before this tick.
        tick: Tick,
        /// Its checksum.
        sum: u64,
    },
    /// The bytes of a state, as asked for with [`Output::Snapshot`].
    Snapshot {
        /// The state before this tick.
        tick: Tick,
        /// At most [`SNAPSHOT_MAX`](crate::limits::SNAPSHOT_MAX) bytes.
        bytes: &'a [u8],
    },
    /// For the host: from a tick half a second from now on, all players use this input delay.
    Delay(u8),
    /// We leave the match. What is left to say is said; then drop the session.
    Leave,
    /// Time has passed.
    Deadline,
}

/// Something is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Keep the state before this tick, in place of any other that was kept for it. States of up to
    /// `prediction + 2` different ticks are asked for again.
    Save(Tick),
    /// Answer with [`Input::Checksum`], before anything else is done: the state kept before this tick,
    /// which is final.
    Checksum(Tick),
    /// Go back to the state that was kept before this tick.
    Load(Tick),
    /// Run this tick with [`Session::inputs`](crate::Session::inputs).
    Advance(Tick),
    /// Answer with [`Input::Snapshot`], at any time: the state kept before this tick, which is final.
    /// Somebody joins, or [`Session::want_snapshot`](crate::Session::want_snapshot) was called.
    Snapshot(Tick),
    /// Take this state instead of ours, before this tick: we join.
    Restore {
        /// The tick that runs next.
        tick: Tick,
        /// What a peer gave as [`Input::Snapshot`].
        bytes: Vec<u8>,
    },
    /// Put this into the next datagram.
    Block {
        /// To this peer.
        to: PeerId,
        /// For the datagram's header.
        tick: u16,
        /// The block.
        bytes: Vec<u8>,
        /// Put it into a second datagram half a tick later.
        again: bool,
    },
    /// Send this on the reliable lane.
    Message {
        /// To this peer.
        to: PeerId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send this on the bulk lane.
    Bulk {
        /// To this peer.
        to: PeerId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The game should know.
    Event(Event),
}

/// What the game should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The simulation waits, because inputs are missing of these players.
    Stalled(Vec<Player>),
    /// It goes on, after so many ticks.
    Resumed(u32),
    /// A peer's players are not in the match from this tick on.
    Left {
        /// The peer.
        peer: PeerId,
        /// The first tick without it.
        at: Tick,
    },
    /// A peer's players are in the match again.
    Joined {
        /// The peer.
        peer: PeerId,
        /// The first tick with it.
        at: Tick,
    },
    /// A peer has another state than we.
    Desync {
        /// The peer.
        peer: PeerId,
        /// The state before this tick.
        tick: Tick,
        /// Our checksum of it.
        ours: u64,
        /// Theirs.
        theirs: u64,
    },
    /// We got a snapshot and follow from this tick on.
    Restored(Tick),
    /// All players' inputs wait so many ticks from this tick on.
    Delay {
        /// The first tick at which inputs are read with it.
        at: Tick,
        /// In ticks.
        delay: u8,
    },
    /// Too few are left to go on: a part of the players is cut off, and it may be us.
    NoQuorum,
    /// The others have dropped us, or nothing was final for longer than inputs are kept. Start a session as [`Role::Returning`](crate::Role::Returning).
    Dropped,
}

/// What one player did at one tick, as the simulation is to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayerInput<'a> {
    /// The player.
    pub player: Player,
    /// The input.
    pub bytes: &'a [u8],
    /// How sure it is.
    pub status: InputStatus,
}

/// What was refused, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// From peers that are not in this match, or have no say in what they sent.
    pub foreign: u64,
    /// Of another session.
    pub session: u64,
    /// No peer writes such bytes, or they are no input of this game.
    pub malformed: u64,
    /// Inputs too far ahead, or acks of what was never sent.
    pub ahead: u64,
    /// Inputs of players who are not in the match.
    pub absent: u64,
    /// Another input for a tick whose input is known; the first one counts.
    pub contradictions: u64,
    /// Requests beyond a limit.
    pub limit: u64,
}

impl Refusals {
    /// All of them.
    pub const fn total(&self) -> u64 {
        let sum = self.foreign + self.session + self.malformed + self.ahead;
        sum + self.absent + self.contradictions + self.limit
    }
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Ticks run for the first time.
    pub advanced: u64,
    /// How often it went back.
    pub rollbacks: u64,
    /// Ticks run again.
    pub resimulated: u64,
    /// The most ticks run again at once.
    pub deepest: u32,
    /// Ticks of the clock at which it could not go on.
    pub stalled: u64,
    /// How often it began to wait.
    pub stalls: u64,
    /// Input blocks that were told, one a tick to each peer; second copies are not counted.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// What was refused.
    pub refused: Refusals,
}
