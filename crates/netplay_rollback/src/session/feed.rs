//! Serving those who watch, and those who come back: a snapshot, then all inputs as they become final.
//!
//! The messages are described in [`crate::protocol`].
//!
//! Guaranteed: nobody waits for a watcher; one that does not take what it is sent is not sent more; it
//! is told nothing that the death of its feeder alone can undo.

use netplay_protocol::PeerId;
use netplay_protocol::cursor::{ReadError, Reader};

use crate::input::{Cell, Tick};
use crate::limits::{
    FEED_AHEAD, MESSAGE_MAX, SNAPSHOT_MAX, SNAPSHOT_PART, SNAPSHOT_PARTS_AHEAD, WATCH_EVERY,
    WATCHERS_MAX,
};
use crate::message::{Mask, Message, read_view};
use crate::run;
use crate::session::inputs::Inputs;

const HEAD: u8 = 128;
const PART: u8 = 129;

/// Ticks that a feed collects before it sends, and that it waits for more.
const BATCH: Tick = 3;

/// What a snapshot begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) tick: Tick,
    pub(crate) len: usize,
    pub(crate) hash: u64,
    pub(crate) view: u32,
    pub(crate) members: Mask,
    /// The inputs of the tick before, one bit string.
    pub(crate) before: Vec<u8>,
}

/// A message on the bulk lane.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BulkMessage<'a> {
    Head(Head),
    Part(u16, &'a [u8]),
}

impl BulkMessage<'_> {
    pub(crate) fn encode(&self, session: u64) -> Vec<u8> {
        let kind = if matches!(self, Self::Head(_)) { HEAD } else { PART };
        let mut out = vec![kind];
        out.extend_from_slice(&(session as u32).to_le_bytes());
        match self {
            Self::Head(head) => {
                out.extend_from_slice(&head.tick.to_le_bytes());
                out.extend_from_slice(&(head.len as u32).to_le_bytes());
                out.extend_from_slice(&head.hash.to_le_bytes());
                out.extend_from_slice(&head.view.to_le_bytes());
                out.extend_from_slice(&head.members.0.to_le_bytes());
                out.extend_from_slice(&head.before);
            }
            Self::Part(index, bytes) => {
                out.extend_from_slice(&index.to_le_bytes());
                out.extend_from_slice(bytes);
            }
        }
        out
    }
}

impl<'a> BulkMessage<'a> {
    /// Reads a message; `None` if it is of another session.
    pub(crate) fn decode(bytes: &'a [u8], session: u64) -> Result<Option<Self>, ReadError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        if reader.u32()? != session as u32 {
            return Ok(None);
        }
        match kind {
            HEAD => {
                let (tick, len) = (reader.u32()? as Tick, reader.u32()? as usize);
                if !(0..Tick::MAX / 2).contains(&tick) || len > SNAPSHOT_MAX {
                    return Err(ReadError::TooLong { len, max: SNAPSHOT_MAX });
                }
                let (hash, view) = (reader.u64()?, read_view(&mut reader)?);
                let (members, before) = (Mask(reader.u16()?), reader.rest().to_vec());
                Ok(Some(Self::Head(Head { tick, len, hash, view, members, before })))
            }
            PART => {
                let index = reader.u16()?;
                let bytes = reader.rest();
                if bytes.is_empty() || bytes.len() > SNAPSHOT_PART {
                    return Err(ReadError::TooLong { len: bytes.len(), max: SNAPSHOT_PART });
                }
                Ok(Some(Self::Part(index, bytes)))
            }
            kind => Err(ReadError::Unknown { what: "bulk message", value: kind.into() }),
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// Waits for a final state, or for the owner's bytes of the one at this tick.
    Waiting(Option<Tick>),
    /// Takes this snapshot: parts that were sent, and that have come.
    Loading {
        head: Head,
        bytes: Vec<u8>,
        sent: usize,
        got: usize,
    },
    Following,
}

/// One who watches.
#[derive(Debug)]
struct Watcher {
    peer: PeerId,
    /// When it asked.
    asked: Tick,
    delay: Tick,
    /// The next tick to tell.
    next: Tick,
    /// The next tick that it has not confirmed.
    fed: Tick,
    /// When it was last told something.
    told: Tick,
    /// It plays from the tick after this one.
    last: Option<Tick>,
    stage: Stage,
}

/// All who watch us.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    watchers: Vec<Watcher>,
}

/// Something to send to a watcher.
pub(crate) enum Send {
    Message(Message),
    Bulk(Vec<u8>),
}

impl Feeds {
    /// Somebody wants to watch from this tick on, or with a snapshot. `false` if there are too many, or
    /// if it has asked just now: a snapshot costs too much for that.
    pub(crate) fn watch(&mut self, peer: PeerId, next: Tick, delay: u16, inputs: &Inputs) -> bool {
        let asked = inputs.tick;
        let again = |watcher: &Watcher| watcher.peer == peer && asked - watcher.asked < WATCH_EVERY;
        if self.watchers.iter().any(again) {
            return false;
        }
        self.remove(peer);
        if self.watchers.len() == WATCHERS_MAX {
            return false;
        }
        let kept = next > inputs.first_kept() && next <= inputs.tick;
        let stage = if kept { Stage::Following } else { Stage::Waiting(None) };
        let (delay, fed, told) = (delay.into(), next, asked);
        self.watchers.push(Watcher { peer, asked, delay, next, fed, told, last: None, stage });
        true
    }

    pub(crate) fn remove(&mut self, peer: PeerId) {
        self.watchers.retain(|watcher| watcher.peer != peer);
    }

    /// A watcher plays from this tick on: what comes later it gets from the players.
    pub(crate) fn joins(&mut self, peer: PeerId, from: Tick) {
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.peer == peer) {
            watcher.last = Some(from - 1);
        }
    }

    /// A watcher has taken this much. `false` if it does not watch, or claims what was never sent.
    pub(crate) fn fed(&mut self, peer: PeerId, next: Tick) -> bool {
        let watcher = self.watchers.iter_mut().find(|watcher| watcher.peer == peer);
        let Some(watcher) = watcher else { return false };
        match &mut watcher.stage {
            // While it loads, it counts parts.
            Stage::Loading { sent, got, head, .. } => {
                let parts = usize::try_from(next).unwrap_or(usize::MAX);
                if parts > *sent {
                    return false;
                }
                *got = (*got).max(parts);
                if *got == head.len.div_ceil(SNAPSHOT_PART) {
                    (watcher.next, watcher.fed) = (head.tick, head.tick);
                    watcher.stage = Stage::Following;
                }
            }
            Stage::Following if next > watcher.next => return false,
            Stage::Following => watcher.fed = watcher.fed.max(next),
            Stage::Waiting(_) => {}
        }
        true
    }

    /// The last tick that anybody but this watcher was told of.
    pub(crate) fn told_others(&self, peer: PeerId) -> Tick {
        let others = self.watchers.iter().filter(|watcher| watcher.peer != peer);
        let told = others.map(|watcher| match &watcher.stage {
            Stage::Waiting(_) => -1,
            Stage::Loading { head, sent, .. } if *sent > 0 => head.tick - 1,
            Stage::Loading { .. } => -1,
            Stage::Following => watcher.next - 1,
        });
        told.max().unwrap_or(-1)
    }

    /// The last tick that a watcher has confirmed; before everything for who does not watch us.
    pub(crate) fn confirmed_by(&self, peer: PeerId) -> Tick {
        let watcher = self.watchers.iter().find(|watcher| watcher.peer == peer);
        let follows = watcher.filter(|watcher| matches!(watcher.stage, Stage::Following));
        follows.map_or(-1, |watcher| watcher.fed - 1)
    }

    /// Whether somebody waits for a final state.
    pub(crate) fn want_snapshot(&self) -> bool {
        self.watchers.iter().any(|watcher| matches!(watcher.stage, Stage::Waiting(None)))
    }

    /// The owner is asked for the state at this tick.
    pub(crate) fn snapshot_asked(&mut self, tick: Tick) {
        for watcher in &mut self.watchers {
            if let Stage::Waiting(asked @ None) = &mut watcher.stage {
                *asked = Some(tick);
            }
        }
    }

    /// The owner's bytes of the state at this tick.
    pub(crate) fn snapshot(
        &mut self,
        tick: Tick,
        bytes: &[u8],
        inputs: &Inputs,
        (view, members): (u32, Mask),
    ) {
        let neutral = Cell::Given(inputs.neutral.clone());
        let players = inputs.queues.len();
        let cell = |at: Tick, player: usize| {
            if at < tick - 1 { &neutral } else { inputs.queues[player].get(tick - 1) }
        };
        let known = (0..players).all(|player| *cell(tick - 1, player) != Cell::Missing);
        for watcher in &mut self.watchers {
            if !matches!(watcher.stage, Stage::Waiting(Some(asked)) if asked == tick) {
                continue;
            }
            // An owner that takes very long is asked again.
            if !known {
                watcher.stage = Stage::Waiting(None);
                continue;
            }
            let mut before = Vec::new();
            run::put(&mut before, MESSAGE_MAX, (tick - 1, tick - 1), players, cell);
            let hash = xxhash_rust::xxh3::xxh3_64(bytes);
            let head = Head { tick, len: bytes.len(), hash, view, members, before };
            watcher.stage = Stage::Loading { head, bytes: bytes.to_vec(), sent: 0, got: 0 };
        }
    }

    /// What is due to be sent, with inputs that stay final up to `safe`.
    pub(crate) fn step(
        &mut self,
        session: u64,
        inputs: &Inputs,
        safe: impl Fn(PeerId) -> Tick,
        mut send: impl FnMut(PeerId, Send),
    ) {
        for watcher in &mut self.watchers {
            let safe = safe(watcher.peer);
            match &mut watcher.stage {
                Stage::Waiting(_) => {}
                Stage::Loading { head, .. } if head.tick > safe + 1 => {}
                Stage::Loading { head, bytes, sent, got } => {
                    if *sent == 0 {
                        let head = BulkMessage::Head(head.clone()).encode(session);
                        send(watcher.peer, Send::Bulk(head));
                    }
                    let parts = bytes.chunks(SNAPSHOT_PART).enumerate().skip(*sent);
                    let room = (*got + SNAPSHOT_PARTS_AHEAD).saturating_sub(*sent);
                    for (index, part) in parts.take(room) {
                        let part = BulkMessage::Part(index as u16, part).encode(session);
                        send(watcher.peer, Send::Bulk(part));
                        *sent = index + 1;
                    }
                }
                Stage::Following => watcher.follow(inputs, safe, &mut send),
            }
        }
        let done = |watcher: &Watcher| watcher.last.is_some_and(|last| watcher.next > last);
        self.watchers.retain(|watcher| !done(watcher));
    }
}

impl Watcher {
    fn follow(&mut self, inputs: &Inputs, safe: Tick, send: &mut impl FnMut(PeerId, Send)) {
        if self.next <= inputs.first_kept() {
            self.stage = Stage::Waiting(None);
            return;
        }
        let newest = safe.saturating_sub(self.delay).min(self.fed + FEED_AHEAD);
        let newest = self.last.map_or(newest, |last| newest.min(last));
        let enough = newest - self.next + 1 >= BATCH || inputs.tick - self.told >= BATCH;
        if newest < self.next || !enough {
            return;
        }
        self.told = inputs.tick;
        let players = inputs.queues.len();
        let cell = |tick: Tick, player: usize| inputs.queues[player].get(tick);
        let range = (self.next, newest);
        let mut bits = Vec::new();
        let count = run::put(&mut bits, MESSAGE_MAX / 2, range, players, cell);
        let feed = Message::Feed { first: self.next, count: count as u16, bits };
        self.next += count as Tick;
        send(self.peer, Send::Message(feed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_snapshot() {
        let head = Head { tick: 7, len: 9, hash: 1, view: 2, members: Mask(3), before: vec![0xEE] };
        let message = BulkMessage::Head(head);
        let bytes = message.encode(0xAA);
        let expected = [
            &[128, 0xAA, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1][..],
            &[0; 7],
            &[2, 0, 0, 0, 3, 0, 0xEE],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(BulkMessage::decode(&bytes, 0xAA), Ok(Some(message)));
        assert_eq!(BulkMessage::decode(&bytes, 0xAB), Ok(None));
        let part = BulkMessage::Part(1, b"xy");
        let bytes = part.encode(0xAA);
        assert_eq!(bytes, [129, 0xAA, 0, 0, 0, 1, 0, b'x', b'y']);
        assert_eq!(BulkMessage::decode(&bytes, 0xAA), Ok(Some(part)));
        assert!(BulkMessage::decode(&bytes[..7], 0xAA).is_err());
    }
}
