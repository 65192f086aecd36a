//! Lanes: the delivery that a game chooses for its messages, over datagrams that may be lost.
//!
//! [`Lanes`] holds both directions of all lanes with one peer. It knows nothing of connections: it
//! fills datagrams, hears which of them have arrived, and takes blocks that came in. So it survives a
//! change of carrier or connection ([`Lanes::path_changed`]), and nothing is lost or doubled by it.
//!
//! | kind | while it waits | once sent | at the receiver |
//! |---|---|---|---|
//! | unreliable | the oldest is dropped when full | forgotten, after its repetition | duplicates are dropped |
//! | sequenced | a newer state of its key takes its place | again if lost and still the newest | older than what was delivered is dropped |
//! | reliable | refused when full | again until acknowledged | delivered in order |
//! | reliable unordered | refused when full | again until acknowledged | delivered at once |
//!
//! Small messages (up to 256 bytes) ride in two consecutive datagrams while the path loses packets.
//! Guaranteed: no message is delivered twice, but for a state of more than a datagram that was
//! taken for lost and was not; reliable ones come complete, and in order on ordered
//! lanes; whatever the other side sends, the memory per peer is bounded by the windows of
//! [`netplay_protocol::limits`] and by the queue limits of the lanes. Not guaranteed: that anything
//! arrives on a path that carries nothing.

mod entry;
mod incoming;
mod outgoing;
mod scheduler;
#[cfg(test)]
mod tests;

use netplay_protocol::Now;
use netplay_protocol::block;
use netplay_protocol::cursor::Reader;
use netplay_protocol::frame::Frame;
use netplay_protocol::lane::{Lane, LaneTable};
use netplay_protocol::limits::{LANES_MAX, RELIABLE_WINDOW};

use incoming::{Delivering, Incoming};
pub use outgoing::QueueFull;
use outgoing::{Carried, Filling, Outgoing};
use scheduler::Scheduler;

use crate::link::datagrams::SENT;
use crate::spare::Spare;

/// Buffers of messages that are kept for later ones.
const BODIES_KEPT: usize = 512;
/// Credit is announced when this much more was consumed.
const ANNOUNCE_EVERY: u64 = RELIABLE_WINDOW / 8;

/// What a lane has done since the link was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Messages that wait or are not acknowledged.
    pub queued_messages: u32,
    /// Their encoded bytes.
    pub queued_bytes: u32,
    /// Messages that left the queue: arrived, sent (on unreliable lanes) or dropped.
    pub released_messages: u64,
    /// Their encoded bytes.
    pub released_bytes: u64,
    /// Times that a message or a fragment was put into a datagram.
    pub sent: u64,
    /// Messages that the other side has acknowledged while they were kept; on unreliable lanes few are.
    pub arrived: u64,
    /// Messages refused because the queue was full.
    pub refused: u64,
    /// Messages dropped because the queue was full.
    pub dropped_full: u64,
    /// Messages dropped because their deadline had passed.
    pub dropped_late: u64,
    /// States that a newer one replaced before they were sent.
    pub superseded: u64,
    /// Messages delivered to the game.
    pub received: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// States that came after a newer one.
    pub stale: u64,
    /// Messages given up because fragments were missing.
    pub incomplete: u64,
}

impl LaneStats {
    /// Sending figures of `self`, receiving figures of `other`.
    const fn with_received(mut self, other: &Self) -> Self {
        self.received = other.received;
        self.duplicates = other.duplicates;
        self.stale = other.stale;
        self.incomplete = other.incomplete;
        self
    }
}

/// The other side did what no honest player does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation(pub &'static str);

impl Violation {
    pub(crate) const BLOCK: Self = Self("a malformed datagram");
    pub(crate) const LANE: Self = Self("a message on a lane that is not defined");
    pub(crate) const KIND: Self = Self("a block that its lane does not have");
    pub(crate) const KEY: Self = Self("a key on a lane without keys");
    pub(crate) const TOO_LARGE: Self = Self("a message larger than its lane allows");
    pub(crate) const FRAGMENT: Self = Self("fragments that do not fit together");
    pub(crate) const WINDOW: Self = Self("more than the window of a reliable lane");
    pub(crate) const CREDIT: Self = Self("credit for what was never sent");
}

/// Messages to be delivered, from one datagram.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Frames of lossy lanes.
    pub lossy: Vec<u8>,
    /// Frames of reliable lanes.
    pub reliable: Vec<u8>,
    /// What the game gives back as credit once it has consumed the reliable ones.
    pub cost: u64,
}

/// Both directions of all lanes with one peer.
#[derive(Debug)]
pub struct Lanes {
    /// Boxed, because most games define few of the sixteen.
    outgoing: [Option<Box<Outgoing>>; LANES_MAX],
    incoming: [Option<Box<Incoming>>; LANES_MAX],
    scheduler: Scheduler,
    /// What each datagram without a final verdict carried, by its slot.
    carried: Box<[Vec<Carried>]>,
    serial: u32,
    spare: Spare,
    /// Cost of reliable messages sent, and what the other side's game has consumed of it.
    sent: u64,
    their_consumed: u64,
    /// Cost of reliable messages received, consumed by our game, and announced to the other side.
    received: u64,
    voided: u64,
    announced: u64,
    /// Bytes that wait for messages before them.
    buffered: u64,
}

impl Lanes {
    /// The lanes of this table, empty.
    pub fn new(table: &LaneTable) -> Self {
        let mut outgoing = [const { None }; LANES_MAX];
        let mut incoming = [const { None }; LANES_MAX];
        for (lane, config) in table.iter().filter(|(_, config)| config.kind.rides_datagrams()) {
            outgoing[lane.index()] = Some(Box::new(Outgoing::new(lane, *config)));
            incoming[lane.index()] = Some(Box::new(Incoming::new(lane, config.kind)));
        }
        Self {
            outgoing,
            incoming,
            scheduler: Scheduler::default(),
            carried: (0..SENT).map(|_| Vec::new()).collect(),
            serial: 0,
            spare: Spare::new(BODIES_KEPT, 0),
            sent: 0,
            their_consumed: 0,
            received: 0,
            voided: 0,
            announced: 0,
            buffered: 0,
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`QueueFull`] if a reliable lane is at its limits, or the lane does not ride in datagrams.
    pub fn push(&mut self, now: Now, frame: &Frame<'_>) -> Result<(), QueueFull> {
        let lane = self.outgoing[frame.lane.index()].as_mut().ok_or(QueueFull)?;
        lane.push(now, &frame.body, &mut self.spare)
    }

    /// Whether something has to go out (again).
    pub fn is_due(&self) -> bool {
        let credit = self.credit();
        self.outgoing.iter().flatten().any(|lane| lane.is_due(credit))
    }

    /// Whether something would ride once more in a datagram that goes anyway.
    pub fn has_repeats(&self) -> bool {
        self.outgoing.iter().flatten().any(|lane| lane.has_repeats())
    }

    /// When a message is too late the next time; see [`Self::expire`].
    pub fn next_expiry(&self) -> Option<Now> {
        self.outgoing.iter().flatten().filter_map(|lane| lane.next_expiry()).min()
    }

    /// Drops what is too late.
    pub fn expire(&mut self, now: Now) {
        for lane in self.outgoing.iter_mut().flatten() {
            lane.expire(now, &mut self.spare);
        }
    }

    const fn credit(&self) -> u64 {
        (self.their_consumed + RELIABLE_WINDOW).saturating_sub(self.sent)
    }

    /// Appends blocks to a datagram that will be sent in this slot, up to `limit` bytes in all. What
    /// the slot's last datagram carried is forgotten. `repeat` tells whether the path loses packets.
    /// True if anything was appended.
    pub fn fill(&mut self, slot: usize, out: &mut Vec<u8>, limit: usize, repeat: bool) -> bool {
        self.serial = self.serial.wrapping_add(1);
        let (start, before) = (out.len(), self.credit());
        let mut credit = before;
        let carried = &mut self.carried[slot];
        carried.clear();
        let serial = self.serial;
        let mut to = Filling { out, limit, carried, credit: &mut credit, repeat, serial };
        let reversed = self.scheduler.begin();
        let mut wait = 0_u16;
        for (i, lane) in self.outgoing.iter().enumerate() {
            if let Some(lane) = lane
                && (lane.is_due(before) || lane.has_repeats())
            {
                wait |= 1 << i;
            }
        }
        let waiting = wait;
        while let Some(next) = Scheduler::pick(&self.outgoing, wait, reversed) {
            let Some(lane) = &mut self.outgoing[next] else { break };
            let written = lane.fill(&mut to, &mut self.spare);
            if written == 0 {
                // Nothing more of it fits, or it has nothing more.
                wait &= !(1 << next);
            }
            Scheduler::served(&mut self.outgoing, next, written, waiting);
        }
        let filled = to.out.len() > start;
        self.sent += before - credit;
        filled
    }

    /// The datagram in this slot has arrived.
    pub fn arrived(&mut self, slot: usize) {
        for carried in &self.carried[slot] {
            if let Some(lane) = &mut self.outgoing[usize::from(carried.lane)] {
                lane.arrived(*carried, &mut self.spare);
            }
        }
    }

    /// The datagram in this slot is lost, as far as one can tell.
    pub fn lost(&mut self, slot: usize) {
        for carried in &self.carried[slot] {
            if let Some(lane) = &mut self.outgoing[usize::from(carried.lane)] {
                lane.lost(*carried);
            }
        }
    }

    /// The carrier or the connection is another: what was on its way is sent again.
    pub fn path_changed(&mut self) {
        for carried in &mut self.carried {
            carried.clear();
        }
        for lane in self.outgoing.iter_mut().flatten() {
            lane.path_changed();
        }
    }

    /// Takes the blocks of a datagram that is new; appends what is to be delivered.
    ///
    /// # Errors
    /// [`Violation`]: the link should end. What came before it is in `delivered`.
    pub fn receive(&mut self, blocks: &[u8], delivered: &mut Delivered) -> Result<(), Violation> {
        let mut reader = Reader::new(blocks);
        let before = delivered.cost;
        let mut void = 0;
        let result = loop {
            let block = match block::read(&mut reader) {
                Ok(Some(block)) => block,
                Ok(None) => break Ok(()),
                Err(_) => break Err(Violation::BLOCK),
            };
            let Some(lane) = &mut self.incoming[block.lane.index()] else {
                break Err(Violation::LANE);
            };
            let reliable = lane.is_reliable();
            let mut to = Delivering {
                out: if reliable { &mut delivered.reliable } else { &mut delivered.lossy },
                cost: &mut delivered.cost,
                void: &mut void,
                buffered: &mut self.buffered,
                spare: &mut self.spare,
            };
            if let Err(violation) = lane.take(block.number, block.content, &mut to) {
                break Err(violation);
            }
        };
        self.received += delivered.cost - before + void;
        self.voided += void;
        if result.is_ok() && self.received - self.announced > RELIABLE_WINDOW {
            return Err(Violation::WINDOW);
        }
        result
    }

    /// Our game has consumed this much of the reliable lanes in all; the credit to announce, if it
    /// is worth a message.
    pub fn consumed(&mut self, consumed: u64) -> Option<u64> {
        let consumed = (consumed + self.voided).min(self.received);
        if consumed.saturating_sub(self.announced) < ANNOUNCE_EVERY {
            return None;
        }
        self.announced = consumed;
        Some(consumed)
    }

    /// What our game has not consumed, about: as of the last announcement.
    pub const fn unread(&self) -> u64 {
        self.received - self.announced
    }

    /// What was announced last.
    pub const fn announced(&self) -> u64 {
        self.announced
    }

    /// Takes the other side's credit.
    ///
    /// # Errors
    /// [`Violation`] if it claims what was never sent, or takes back what it gave.
    pub const fn credited(&mut self, consumed: u64) -> Result<(), Violation> {
        if consumed > self.sent || consumed < self.their_consumed {
            return Err(Violation::CREDIT);
        }
        self.their_consumed = consumed;
        Ok(())
    }

    /// What a lane has done.
    pub fn stats(&self, lane: Lane) -> LaneStats {
        let sent = self.outgoing[lane.index()].as_ref().map(|lane| lane.stats).unwrap_or_default();
        match &self.incoming[lane.index()] {
            Some(incoming) => sent.with_received(&incoming.stats),
            None => sent,
        }
    }
}
