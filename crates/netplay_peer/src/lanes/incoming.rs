//! The receiving side of one lane.

use std::collections::{BTreeMap, VecDeque};

use netplay_protocol::block::{Content, Fragment, Number};
use netplay_protocol::cursor::Reader;
use netplay_protocol::frame::{Body, Frame, MessageId};
use netplay_protocol::lane::{Lane, LaneKind};
use netplay_protocol::limits::{
    FRAGMENT_LEN, PARTIALS_MAX, RELIABLE_WINDOW, RELIABLE_WINDOW_MESSAGES, SEQUENCED_KEYS_MAX,
};

use super::outgoing::cost;
use super::{LaneStats, Violation};
use crate::spare::Spare;

/// Numbers that an unreliable lane remembers to tell duplicates.
const REMEMBERED: u64 = 1024;
/// Where the numbers of a lane begin, so that the first ones have some before them.
const ORIGIN: u64 = 1 << 24;

/// Where messages go that are to be delivered.
pub(super) struct Delivering<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Sum of the costs of reliable messages in `out`.
    pub(super) cost: &'a mut u64,
    /// Cost of what will not come, consumed at once.
    pub(super) void: &'a mut u64,
    /// Bytes that wait in the windows of all reliable lanes.
    pub(super) buffered: &'a mut u64,
    pub(super) spare: &'a mut Spare,
}

/// A message of which parts are missing.
#[derive(Debug)]
struct Partial {
    number: u64,
    keyed: bool,
    count: u8,
    have: u64,
    /// Of the last part.
    end: usize,
    bytes: Vec<u8>,
}

/// What a reliable lane has of a message ahead of the next one.
#[derive(Debug)]
enum Early {
    Nothing,
    Partial(Partial),
    /// Whole, as a frame, to be delivered in its turn.
    Waiting(Vec<u8>),
    /// Delivered already, or void.
    Passed,
}

#[derive(Debug)]
pub(super) struct Incoming {
    lane: Lane,
    kind: LaneKind,
    /// Unreliable and sequenced: the newest number. Reliable: the next in order.
    head: u64,
    /// A bit for each of the last numbers of an unreliable lane, by its remainder.
    seen: Box<[u64]>,
    partials: Vec<Partial>,
    newest: BTreeMap<(MessageId, u16), u64>,
    /// Newest number of any key that was forgotten.
    forgotten: u64,
    early: VecDeque<Early>,
    pub(super) stats: LaneStats,
}

impl Incoming {
    pub(super) fn new(lane: Lane, kind: LaneKind) -> Self {
        let words = if kind == LaneKind::Unreliable { REMEMBERED / 64 } else { 0 };
        Self {
            lane,
            kind,
            head: if kind.is_reliable() { ORIGIN } else { ORIGIN - 1 },
            seen: vec![0; words as usize].into(),
            partials: Vec::new(),
            newest: BTreeMap::new(),
            forgotten: 0,
            early: VecDeque::new(),
            stats: LaneStats::default(),
        }
    }

    pub(super) const fn is_reliable(&self) -> bool {
        self.kind.is_reliable()
    }

    /// Takes a block of this lane.
    pub(super) fn take(
        &mut self,
        number: Number,
        content: Content<'_>,
        to: &mut Delivering<'_>,
    ) -> Result<(), Violation> {
        let keyed = self.kind == LaneKind::Sequenced;
        match content {
            Content::Messages(bodies) => {
                for (i, body) in bodies.enumerate() {
                    self.check(&body, keyed)?;
                    self.message(self.unwrap(number.after(i as u32)), &body, to)?;
                }
                Ok(())
            }
            Content::Fragment(part) if part.keyed && !keyed => Err(Violation::KEY),
            Content::Fragment(part) => self.fragment(self.unwrap(number), part, to),
            Content::Void(len) if self.kind.is_reliable() => {
                self.void(self.unwrap(number), len, to)
            }
            Content::Void(_) => Err(Violation::KIND),
        }
    }

    fn check(&self, body: &Body<'_>, keyed: bool) -> Result<(), Violation> {
        if body.key.is_some() && !keyed {
            return Err(Violation::KEY);
        }
        if body.payload.len() > self.kind.message_max() {
            return Err(Violation::TOO_LARGE);
        }
        Ok(())
    }

    /// The number in full: the one nearest to the head.
    fn unwrap(&self, number: Number) -> u64 {
        let ahead = number.ahead_of(Number::new(self.head as u32));
        self.head.saturating_add_signed(ahead.into())
    }

    fn message(
        &mut self,
        number: u64,
        body: &Body<'_>,
        to: &mut Delivering<'_>,
    ) -> Result<(), Violation> {
        match self.kind {
            LaneKind::Unreliable => {
                if self.is_new(number) {
                    self.deliver(body, to);
                }
            }
            LaneKind::Sequenced => {
                if self.is_newest(number, body) {
                    self.deliver(body, to);
                }
            }
            _ => {
                let Some(place) = self.place(number)? else { return Ok(()) };
                if matches!(self.early[place], Early::Waiting(_) | Early::Passed) {
                    self.stats.duplicates += 1;
                    return Ok(());
                }
                self.put(place, body, to)?;
                self.advance(to);
            }
        }
        Ok(())
    }

    fn deliver(&mut self, body: &Body<'_>, to: &mut Delivering<'_>) {
        self.stats.received += 1;
        Frame { lane: self.lane, body: *body }.put(to.out);
    }

    /// Whether a number of an unreliable lane is new; remembers it.
    fn is_new(&mut self, number: u64) -> bool {
        if number + REMEMBERED <= self.head {
            self.stats.duplicates += 1;
            return false;
        }
        if number > self.head {
            let forget = (number - self.head).min(REMEMBERED);
            for gone in number + 1 - forget..=number {
                let (word, bit) = place_of(gone);
                self.seen[word] &= !bit;
            }
            self.head = number;
        }
        let (word, bit) = place_of(number);
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        self.stats.duplicates += u64::from(!new);
        new
    }

    /// Whether a number of an unreliable lane is remembered, or too old to be.
    fn is_known(&self, number: u64) -> bool {
        if self.kind != LaneKind::Unreliable || number > self.head {
            return false;
        }
        let (word, bit) = place_of(number);
        number + REMEMBERED <= self.head || self.seen[word] & bit != 0
    }

    /// Whether a state of a sequenced lane is newer than what was delivered of its key; remembers it.
    fn is_newest(&mut self, number: u64, body: &Body<'_>) -> bool {
        self.head = self.head.max(number);
        let key = (body.id, body.key.unwrap_or(0));
        let known = self.newest.get(&key).copied().unwrap_or(self.forgotten);
        if number <= known {
            self.stats.stale += 1;
            return false;
        }
        self.newest.insert(key, number);
        if self.newest.len() > 2 * SEQUENCED_KEYS_MAX {
            self.forget_the_older_half();
        }
        true
    }

    /// Keeps as many keys as a sender may have in use. By halves, so that a flood of keys costs little each.
    fn forget_the_older_half(&mut self) {
        let mut numbers: Vec<u64> = self.newest.values().copied().collect();
        let place = numbers.len() - SEQUENCED_KEYS_MAX;
        let (_, oldest_kept, _) = numbers.select_nth_unstable(place);
        let oldest_kept = *oldest_kept;
        self.newest.retain(|_, number| *number >= oldest_kept);
        self.forgotten = self.forgotten.max(oldest_kept - 1);
    }

    /// The place of a number in the window of a reliable lane; `None` if it is behind.
    fn place(&mut self, number: u64) -> Result<Option<usize>, Violation> {
        let Some(ahead) = number.checked_sub(self.head) else {
            self.stats.duplicates += 1;
            return Ok(None);
        };
        if ahead >= u64::from(RELIABLE_WINDOW_MESSAGES) {
            return Err(Violation::WINDOW);
        }
        let place = ahead as usize;
        while self.early.len() <= place {
            self.early.push_back(Early::Nothing);
        }
        Ok(Some(place))
    }

    /// A whole message of a reliable lane.
    fn put(
        &mut self,
        place: usize,
        body: &Body<'_>,
        to: &mut Delivering<'_>,
    ) -> Result<(), Violation> {
        if let Early::Partial(partial) = core::mem::replace(&mut self.early[place], Early::Passed) {
            *to.buffered -= partial.bytes.len() as u64;
            to.spare.give(partial.bytes);
        }
        if place == 0 || self.kind == LaneKind::ReliableUnordered {
            *to.cost += cost(body.wire_len() as u32);
            self.deliver(body, to);
            return Ok(());
        }
        let mut frame = to.spare.take();
        Frame { lane: self.lane, body: *body }.put(&mut frame);
        *to.buffered += frame.len() as u64;
        self.early[place] = Early::Waiting(frame);
        bounded(*to.buffered)
    }

    /// Delivers what is in order now.
    fn advance(&mut self, to: &mut Delivering<'_>) {
        while let Some(Early::Waiting(_) | Early::Passed) = self.early.front() {
            if let Some(Early::Waiting(frame)) = self.early.pop_front() {
                *to.buffered -= frame.len() as u64;
                *to.cost += cost(frame.len() as u32 - 1);
                self.stats.received += 1;
                to.out.extend_from_slice(&frame);
                to.spare.give(frame);
            }
            self.head += 1;
        }
    }

    fn void(&mut self, number: u64, len: u32, to: &mut Delivering<'_>) -> Result<(), Violation> {
        let Some(place) = self.place(number)? else { return Ok(()) };
        match core::mem::replace(&mut self.early[place], Early::Passed) {
            Early::Nothing => {}
            Early::Partial(partial) => {
                *to.buffered -= partial.bytes.len() as u64;
                to.spare.give(partial.bytes);
            }
            // It came after all.
            known => {
                self.early[place] = known;
                return Ok(());
            }
        }
        *to.void += cost(len);
        self.advance(to);
        Ok(())
    }

    fn fragment(
        &mut self,
        number: u64,
        part: Fragment<'_>,
        to: &mut Delivering<'_>,
    ) -> Result<(), Violation> {
        if usize::from(part.count - 1) * FRAGMENT_LEN > self.kind.message_max() {
            return Err(Violation::TOO_LARGE);
        }
        let complete = if self.kind.is_reliable() {
            self.reliable_fragment(number, part, to)?
        } else {
            self.lossy_fragment(number, part, to)?
        };
        let Some(partial) = complete else { return Ok(()) };
        let mut reader = Reader::new(&partial.bytes[..partial.len()]);
        let body = Body::read(&mut reader, partial.keyed).map_err(|_| Violation::FRAGMENT)?;
        reader.finish().map_err(|_| Violation::FRAGMENT)?;
        self.check(&body, self.kind == LaneKind::Sequenced)?;
        self.message(number, &body, to)?;
        to.spare.give(partial.bytes);
        Ok(())
    }

    /// Adds a part; gives the message when it is complete.
    fn reliable_fragment(
        &mut self,
        number: u64,
        part: Fragment<'_>,
        to: &mut Delivering<'_>,
    ) -> Result<Option<Partial>, Violation> {
        let Some(place) = self.place(number)? else { return Ok(None) };
        if let Early::Nothing = self.early[place] {
            let partial = Partial::new(number, part, to.spare.take());
            *to.buffered += partial.bytes.len() as u64;
            self.early[place] = Early::Partial(partial);
        }
        let Early::Partial(partial) = &mut self.early[place] else {
            self.stats.duplicates += 1;
            return Ok(None);
        };
        if !partial.add(part)? {
            return bounded(*to.buffered).map(|()| None);
        }
        match core::mem::replace(&mut self.early[place], Early::Nothing) {
            Early::Partial(partial) => {
                *to.buffered -= partial.bytes.len() as u64;
                Ok(Some(partial))
            }
            _ => Ok(None),
        }
    }

    /// Adds a part; when too many messages are incomplete, the oldest goes with all its parts.
    fn lossy_fragment(
        &mut self,
        number: u64,
        part: Fragment<'_>,
        to: &mut Delivering<'_>,
    ) -> Result<Option<Partial>, Violation> {
        let place = match self.partials.iter().position(|partial| partial.number == number) {
            Some(place) => place,
            None => {
                // Late parts of what is complete or forgotten.
                if self.is_known(number) {
                    self.stats.duplicates += 1;
                    return Ok(None);
                }
                if self.partials.len() == PARTIALS_MAX {
                    let oldest = (0..PARTIALS_MAX).min_by_key(|i| self.partials[*i].number);
                    let oldest = oldest.unwrap_or(0);
                    if self.partials[oldest].number > number {
                        return Ok(None);
                    }
                    to.spare.give(self.partials.swap_remove(oldest).bytes);
                    self.stats.incomplete += 1;
                }
                self.partials.push(Partial::new(number, part, to.spare.take()));
                self.partials.len() - 1
            }
        };
        if self.partials[place].add(part)? {
            Ok(Some(self.partials.swap_remove(place)))
        } else {
            Ok(None)
        }
    }
}

impl Partial {
    fn new(number: u64, part: Fragment<'_>, mut bytes: Vec<u8>) -> Self {
        bytes.resize(usize::from(part.count) * FRAGMENT_LEN, 0);
        Self { number, keyed: part.keyed, count: part.count, have: 0, end: 0, bytes }
    }

    /// Adds a part; true if the message is complete.
    fn add(&mut self, part: Fragment<'_>) -> Result<bool, Violation> {
        if part.count != self.count || part.keyed != self.keyed {
            return Err(Violation::FRAGMENT);
        }
        let start = usize::from(part.index) * FRAGMENT_LEN;
        self.bytes[start..start + part.bytes.len()].copy_from_slice(part.bytes);
        if part.index + 1 == self.count {
            self.end = part.bytes.len();
        }
        self.have |= 1 << part.index;
        Ok(self.have == u64::MAX >> (64 - u32::from(self.count)))
    }

    const fn len(&self) -> usize {
        (self.count as usize - 1) * FRAGMENT_LEN + self.end
    }
}

const fn bounded(buffered: u64) -> Result<(), Violation> {
    // A cut message takes up to twice its length here, because its last part may be short.
    if buffered > 2 * RELIABLE_WINDOW { Err(Violation::WINDOW) } else { Ok(()) }
}

const fn place_of(number: u64) -> (usize, u64) {
    let place = number % REMEMBERED;
    ((place / 64) as usize, 1 << (place % 64))
}
