//! The sending side of one lane.

use std::collections::{BTreeMap, VecDeque};

use netplay_protocol::Now;
use netplay_protocol::block::{self, Number, VOID_LEN, put_void};
use netplay_protocol::frame::{Body, MessageId};
use netplay_protocol::lane::{Lane, LaneConfig, LaneKind};
use netplay_protocol::limits::{
    RELIABLE_MESSAGE_COST, RELIABLE_WINDOW_MESSAGES, SEQUENCED_KEYS_MAX,
};

use super::LaneStats;
use super::entry::Entry;
use crate::spare::Spare;

/// Bytes after which another lane gets its turn in the same datagram.
const QUANTUM: usize = 256;
/// A number this far behind the lane's newest is given anew, long before a receiver could take it for
/// one that is ahead.
const STALE: i32 = 1 << 22;

/// What a datagram carried: enough to find the message when the verdict comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    pub(super) lane: u8,
    pub(super) part: u8,
    pub(super) number: Number,
    /// Which slot of a sequenced lane.
    slot: u16,
    void: bool,
}

/// Where a datagram is being filled.
pub(super) struct Filling<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// The datagram's length in the end, at most.
    pub(super) limit: usize,
    pub(super) carried: &'a mut Vec<Carried>,
    /// What may still be sent for the first time of reliable lanes, in bytes.
    pub(super) credit: &'a mut u64,
    /// Whether small messages ride twice.
    pub(super) repeat: bool,
    /// Tells this datagram from others.
    pub(super) serial: u32,
}

impl Filling<'_> {
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }
}

/// A message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

#[derive(Debug)]
pub(super) struct Outgoing {
    lane: Lane,
    pub(super) config: LaneConfig,
    next: Number,
    /// In the order of their numbers without a gap; of a sequenced lane in no order.
    entries: VecDeque<Entry>,
    keys: BTreeMap<(MessageId, u16), u16>,
    /// Slots of a sequenced lane that have something to send.
    due: VecDeque<u16>,
    /// Slots that ride once more, in another datagram than this.
    again: VecDeque<u16>,
    again_serial: u32,
    pub(super) stats: LaneStats,
    /// How much this lane has sent, divided by its weight; see the scheduler.
    pub(super) clock: u64,
}

impl Outgoing {
    pub(super) fn new(lane: Lane, config: LaneConfig) -> Self {
        Self {
            lane,
            config,
            next: Number::default(),
            entries: VecDeque::new(),
            keys: BTreeMap::new(),
            due: VecDeque::new(),
            again: VecDeque::new(),
            again_serial: 0,
            stats: LaneStats::default(),
            clock: 0,
        }
    }

    const fn is_sequenced(&self) -> bool {
        matches!(self.config.kind, LaneKind::Sequenced)
    }

    /// Queues a message.
    pub(super) fn push(
        &mut self,
        now: Now,
        body: &Body<'_>,
        spare: &mut Spare,
    ) -> Result<(), QueueFull> {
        let expires = self.config.deadline.map(|deadline| now + deadline);
        let mut bytes = spare.take();
        body.put(&mut bytes);
        let entry = Entry::new(self.next, bytes, body.key.is_some(), expires);
        if self.is_sequenced() {
            self.next = self.next.after(1);
            self.supersede((body.id, body.key.unwrap_or(0)), entry, spare);
            return Ok(());
        }
        while self.is_full(entry.len) {
            if self.config.kind.is_reliable() || !self.drop_oldest(spare) {
                spare.give(entry.body);
                self.stats.refused += 1;
                return Err(QueueFull);
            }
        }
        self.next = self.next.after(1);
        self.note_queued(entry.len);
        self.entries.push_back(entry);
        Ok(())
    }

    const fn note_queued(&mut self, len: u32) {
        self.stats.queued_messages += 1;
        self.stats.queued_bytes += len;
    }

    const fn note_released(&mut self, len: u32) {
        self.stats.queued_messages -= 1;
        self.stats.queued_bytes -= len;
        self.stats.released_messages += 1;
        self.stats.released_bytes += len as u64;
    }

    /// Whether a message of this length exceeds the lane's limits. An empty lane takes any.
    const fn is_full(&self, len: u32) -> bool {
        let stats = &self.stats;
        stats.queued_messages > 0
            && (stats.queued_messages >= self.config.queue_messages
                || stats.queued_bytes + len > self.config.queue_bytes)
    }

    fn drop_oldest(&mut self, spare: &mut Spare) -> bool {
        let Some(place) = self.entries.iter().position(|entry| !entry.done) else {
            return false;
        };
        self.stats.dropped_full += 1;
        self.finish(place, spare);
        true
    }

    /// Puts a newer state in the place of the one of the same key.
    fn supersede(&mut self, key: (MessageId, u16), mut entry: Entry, spare: &mut Spare) {
        let slot = match self.keys.get(&key) {
            Some(slot) => *slot,
            None => self.free_slot(key, spare),
        };
        let len = entry.len;
        let old = &mut self.entries[usize::from(slot)];
        if old.is_begun() {
            // What was sent of it would be useless, and so on with each newer one.
            if let Some(replaced) = old.newer.replace(Box::new(entry)) {
                self.stats.superseded += 1;
                self.note_released(replaced.len);
                spare.give(replaced.body);
            }
        } else {
            let (live, waits) = (!old.done, !old.done && old.unsent != 0);
            self.stats.superseded += u64::from(waits);
            core::mem::swap(old, &mut entry);
            spare.give(entry.body);
            if live {
                self.note_released(entry.len);
            }
            if !waits {
                self.due.push_back(slot);
            }
        }
        self.note_queued(len);
        while self.stats.queued_bytes > self.config.queue_bytes && self.drop_stalest(slot, spare) {}
    }

    /// Gives up the state that was written the longest ago, except the one in this slot.
    fn drop_stalest(&mut self, except: u16, spare: &mut Spare) -> bool {
        let age = |entry: &Entry| self.next.ahead_of(entry.number);
        let slots = self.entries.iter().enumerate();
        let others = slots.filter(|(slot, entry)| !entry.done && *slot != usize::from(except));
        let Some(slot) = others.max_by_key(|(_, entry)| age(entry)).map(|(slot, _)| slot) else {
            return false;
        };
        self.stats.dropped_full += 1;
        self.due.retain(|due| usize::from(*due) != slot);
        self.again.retain(|due| usize::from(*due) != slot);
        self.finish(slot, spare);
        true
    }

    /// A slot for a new key: a fresh one, or that of the key that was told of the longest ago.
    fn free_slot(&mut self, key: (MessageId, u16), spare: &mut Spare) -> u16 {
        let limit = (self.config.queue_messages as usize).clamp(1, SEQUENCED_KEYS_MAX);
        let slot = if self.entries.len() < limit {
            self.entries.push_back(Entry { done: true, ..Entry::default() });
            (self.entries.len() - 1) as u16
        } else {
            // In the receiver's order, so that it does not forget a key that is still in use here.
            let age = |entry: &Entry| self.next.ahead_of(entry.number);
            let slots = self.entries.iter().enumerate();
            let oldest = slots.max_by_key(|(_, entry)| age(entry)).map_or(0, |(slot, _)| slot);
            if !self.entries[oldest].done {
                self.stats.dropped_full += 1;
                self.finish(oldest, spare);
            }
            let slot = oldest as u16;
            self.due.retain(|due| *due != slot);
            self.again.retain(|due| *due != slot);
            self.keys.retain(|_, used| *used != slot);
            slot
        };
        self.keys.insert(key, slot);
        slot
    }

    /// The message in this place needs nothing more.
    fn finish(&mut self, place: usize, spare: &mut Spare) {
        let entry = &mut self.entries[place];
        if entry.done {
            return;
        }
        entry.done = true;
        let (len, newer) = (entry.len, entry.newer.take());
        spare.give(core::mem::take(&mut entry.body));
        self.note_released(len);
        if let Some(newer) = newer {
            self.note_released(newer.len);
            spare.give(newer.body);
        }
        if !self.is_sequenced() {
            while self.entries.front().is_some_and(|entry| entry.done) {
                self.entries.pop_front();
            }
        }
    }

    /// The messages that may be sent now: those within the other side's window.
    fn sendable(&self) -> impl Iterator<Item = &Entry> {
        let window = usize::from(RELIABLE_WINDOW_MESSAGES);
        let reliable = self.config.kind.is_reliable();
        self.entries.iter().take(if reliable { window } else { usize::MAX })
    }

    /// Whether a datagram is worth sending for this lane: something has to go out (again).
    pub(super) fn is_due(&self, credit: u64) -> bool {
        if self.is_sequenced() {
            return !self.due.is_empty();
        }
        let reliable = self.config.kind.is_reliable();
        let affordable = |entry: &Entry| !reliable || entry.charged || cost(entry.len) <= credit;
        let first = self.sendable().find(|entry| !entry.done && entry.unsent != 0);
        first.is_some_and(affordable)
    }

    /// Whether something rides once more.
    pub(super) fn has_repeats(&self) -> bool {
        !self.again.is_empty() || self.sendable().any(|entry| !entry.done && entry.repeat)
    }

    /// Drops what is too late.
    pub(super) fn expire(&mut self, now: Now, spare: &mut Spare) {
        if self.config.deadline.is_none() {
            return;
        }
        let mut place = 0;
        while let Some(entry) = self.entries.get_mut(place) {
            if entry.done || entry.void || !entry.is_late(now) {
                place += 1;
                continue;
            }
            self.stats.dropped_late += 1;
            if self.config.kind.is_reliable() {
                // Its number is taken, so the other side has to hear that it will not come.
                (entry.void, entry.repeat, entry.unsent, entry.acked) = (true, false, 1, 0);
                entry.copies = 0;
                spare.give(core::mem::take(&mut entry.body));
                place += 1;
            } else {
                if self.is_sequenced() {
                    self.due.retain(|due| usize::from(*due) != place);
                }
                let before = self.entries.len();
                self.finish(place, spare);
                // Finishing the first removes it, and what was done behind it.
                place = if self.entries.len() < before { 0 } else { place + 1 };
            }
        }
    }

    /// When the next message is too late.
    pub(super) fn next_expiry(&self) -> Option<Now> {
        self.config.deadline?;
        let open = self.entries.iter().filter(|entry| !entry.done && !entry.void);
        open.filter_map(|entry| entry.expires).min()
    }

    /// Puts as much as its turn allows into a datagram; the bytes written.
    pub(super) fn fill(&mut self, to: &mut Filling<'_>, spare: &mut Spare) -> usize {
        let start = to.out.len();
        if self.is_sequenced() {
            self.fill_states(to, spare);
        } else {
            self.fill_queue(to, spare);
        }
        to.out.len() - start
    }

    fn fill_queue(&mut self, to: &mut Filling<'_>, spare: &mut Spare) {
        let (start, reliable) = (to.out.len(), self.config.kind.is_reliable());
        let window = if reliable { usize::from(RELIABLE_WINDOW_MESSAGES) } else { usize::MAX };
        let mut run = None;
        let mut place = 0;
        while place < self.entries.len().min(window) && to.out.len() - start < QUANTUM {
            let entry = &mut self.entries[place];
            if !entry.is_due(to.serial) {
                place += 1;
                continue;
            }
            if reliable && !entry.charged && cost(entry.len) > *to.credit {
                break;
            }
            let complete = if entry.void {
                put_void_entry(self.lane, entry, to)
            } else if entry.parts() == 1 {
                put_whole(self.lane, entry, to, &mut run, 0, &mut self.stats)
            } else {
                put_parts(self.lane, entry, to, 0, &mut self.stats)
            };
            if reliable && !entry.charged && (entry.unsent != entry.all() || complete) {
                entry.charged = true;
                *to.credit -= cost(entry.len);
            }
            if !complete {
                break;
            }
            let finished = !reliable && entry.unsent == 0 && !entry.repeat;
            let before = self.entries.len();
            if finished {
                self.finish(place, spare);
            }
            // What was finished at the front is gone.
            place = (place + 1).saturating_sub(before - self.entries.len());
        }
    }

    fn fill_states(&mut self, to: &mut Filling<'_>, spare: &mut Spare) {
        let start = to.out.len();
        if self.again_serial != to.serial {
            self.again_serial = to.serial;
            self.due.append(&mut self.again);
        }
        let mut run = None;
        while to.out.len() - start < QUANTUM {
            let Some(slot) = self.due.front().copied() else { return };
            let entry = &mut self.entries[usize::from(slot)];
            if !entry.is_due(to.serial) {
                self.due.pop_front();
                continue;
            }
            if self.next.ahead_of(entry.number) > STALE {
                entry.renumber(self.next);
                self.next = self.next.after(1);
            }
            let complete = if entry.parts() == 1 {
                put_whole(self.lane, entry, to, &mut run, slot, &mut self.stats)
            } else {
                put_parts(self.lane, entry, to, slot, &mut self.stats)
            };
            if !complete {
                return;
            }
            if entry.repeat {
                self.again.push_back(slot);
            }
            self.due.pop_front();
            if let Some(newer) = entry.newer.take() {
                let sent = entry.len;
                spare.give(core::mem::replace(entry, *newer).body);
                self.note_released(sent);
                self.due.push_back(slot);
            }
        }
    }

    /// What a datagram of ours carried has arrived.
    pub(super) fn arrived(&mut self, carried: Carried, spare: &mut Spare) {
        let Some(place) = self.find(carried) else { return };
        let entry = &mut self.entries[place];
        if entry.void != carried.void {
            return;
        }
        entry.copies = entry.copies.saturating_sub(1);
        entry.acked |= 1 << carried.part;
        entry.unsent &= !(1 << carried.part);
        if entry.acked == entry.all() {
            self.stats.arrived += u64::from(!carried.void);
            self.finish(place, spare);
        }
    }

    /// What a datagram of ours carried is lost, as far as one can tell.
    pub(super) fn lost(&mut self, carried: Carried) {
        let Some(place) = self.find(carried) else { return };
        let sequenced = self.is_sequenced();
        let entry = &mut self.entries[place];
        if entry.void != carried.void {
            return;
        }
        entry.copies = entry.copies.saturating_sub(1);
        let waits = entry.unsent != 0;
        let bit = 1 << carried.part;
        if sequenced && entry.parts() > 1 {
            // The receiver may have given the incomplete state up, so all of it goes again.
            entry.renumber(self.next);
            self.next = self.next.after(1);
        } else if entry.acked & bit == 0 && entry.copies == 0 {
            entry.unsent |= bit;
        }
        if sequenced && !waits && entry.unsent != 0 {
            self.due.push_back(carried.slot);
        }
    }

    /// The path is another: nothing that is on its way counts any more.
    pub(super) fn path_changed(&mut self) {
        self.due.clear();
        self.again.clear();
        let sequenced = self.is_sequenced();
        for (slot, entry) in self.entries.iter_mut().enumerate().filter(|(_, entry)| !entry.done) {
            entry.copies = 0;
            entry.unsent = entry.all() & !entry.acked;
            if sequenced && entry.unsent != 0 {
                self.due.push_back(slot as u16);
            }
        }
    }

    fn find(&self, carried: Carried) -> Option<usize> {
        let place = if self.is_sequenced() {
            usize::from(carried.slot)
        } else {
            let first = self.entries.front()?.number;
            usize::try_from(carried.number.ahead_of(first)).ok()?
        };
        let entry = self.entries.get(place)?;
        (entry.number == carried.number && !entry.done).then_some(place)
    }
}

/// What a reliable message counts against the other side's window.
pub(super) const fn cost(len: u32) -> u64 {
    len as u64 + RELIABLE_MESSAGE_COST
}

/// A block of messages that may go on.
#[derive(Clone, Copy)]
struct Run {
    next: Number,
    keyed: bool,
    /// Where its count is.
    count: usize,
}

fn put_whole(
    lane: Lane,
    entry: &mut Entry,
    to: &mut Filling<'_>,
    run: &mut Option<Run>,
    slot: u16,
    stats: &mut LaneStats,
) -> bool {
    let continues = run.filter(|run| {
        run.next == entry.number && run.keyed == entry.keyed && to.out[run.count] < u8::MAX
    });
    let header = if continues.is_some() { 0 } else { block::HEADER_LEN };
    if entry.body.len() + header > to.room() {
        return false;
    }
    let count = match continues {
        Some(Run { count, .. }) => {
            to.out[count] += 1;
            count
        }
        None => block::begin_messages(to.out, lane, entry.keyed, entry.number),
    };
    *run = Some(Run { next: entry.number.after(1), keyed: entry.keyed, count });
    to.out.extend_from_slice(&entry.body);
    to.carried.push(Carried { lane: lane.id(), part: 0, number: entry.number, slot, void: false });
    stats.sent += 1;
    entry.repeat = entry.unsent != 0 && to.repeat && entry.is_small();
    entry.serial = to.serial;
    entry.unsent = 0;
    entry.copies = entry.copies.saturating_add(1);
    true
}

/// Puts the parts that fit; true if none is left.
fn put_parts(
    lane: Lane,
    entry: &mut Entry,
    to: &mut Filling<'_>,
    slot: u16,
    stats: &mut LaneStats,
) -> bool {
    while entry.unsent != 0 {
        let part = entry.unsent.trailing_zeros() as u8;
        if entry.part_len(part) > to.room() {
            return false;
        }
        entry.put_part(lane, part, to.out);
        to.carried.push(Carried { lane: lane.id(), part, number: entry.number, slot, void: false });
        stats.sent += 1;
        entry.unsent &= entry.unsent - 1;
    }
    true
}

fn put_void_entry(lane: Lane, entry: &mut Entry, to: &mut Filling<'_>) -> bool {
    if VOID_LEN > to.room() {
        return false;
    }
    put_void(to.out, lane, entry.number, entry.len);
    to.carried.push(Carried {
        lane: lane.id(),
        part: 0,
        number: entry.number,
        slot: 0,
        void: true,
    });
    entry.unsent = 0;
    entry.copies = 1;
    true
}
