//! The other side of a feed: who has no state yet, or only watches.

use core::ops::Range;

use netplay_protocol::PeerId;

use crate::input::{Cell, Tick};
use crate::limits::{HISTORY, SNAPSHOT_PART};
use crate::message::{Mask, Slot};
use crate::run;
use crate::session::feed::Head;
use crate::session::inputs::Inputs;

/// A snapshot that is coming.
#[derive(Debug)]
struct Loading {
    head: Head,
    before: Vec<Cell>,
    bytes: Vec<u8>,
    parts: u16,
}

/// How far we are.
#[derive(Debug)]
pub(crate) struct Watching {
    /// Who feeds us.
    pub(crate) feeder: Option<PeerId>,
    pub(crate) delay: u16,
    /// The next tick to hear, once the state is here.
    pub(crate) next: Option<Tick>,
    /// The last tick to hear: we play from the next one on.
    pub(crate) last: Option<Tick>,
    /// Who played before us, and who begins with us, once it is agreed that we play.
    earlier: Mask,
    beside: Mask,
    loading: Option<Loading>,
    /// Who has said that it cannot feed us, since somebody did.
    refused: Mask,
    /// When something last came, or was asked for.
    heard: Tick,
}

/// What came of a part.
pub(crate) enum Loaded {
    /// So many parts are here.
    Parts(u16),
    /// The state before this tick is here: its bytes, who played before and in which view.
    Whole { head: Head, before: Vec<Cell>, bytes: Vec<u8>, parts: u16 },
    /// It belongs to an answer that is not awaited any more.
    Stale,
    /// No honest peer sends that.
    Malformed,
}

impl Watching {
    /// `next` is the tick whose state is here.
    pub(crate) const fn new(delay: u16, next: Option<Tick>) -> Self {
        let nobody = Mask(0);
        let (earlier, beside, refused) = (nobody, nobody, nobody);
        let (feeder, last, loading) = (None, None, None);
        Self { feeder, delay, next, last, earlier, beside, loading, refused, heard: 0 }
    }

    /// Whether to ask, now: nobody was asked, or who was asked says nothing for so many ticks.
    pub(crate) const fn is_silent(&self, tick: Tick, patience: Tick) -> bool {
        self.feeder.is_none() || tick - self.heard > patience
    }

    /// What we were told is not what the others have agreed on: a state is needed again.
    pub(crate) fn restart(&mut self) {
        (self.feeder, self.next, self.loading) = (None, None, None);
    }

    /// It is agreed that we play after this tick: after those who play already, and beside others.
    pub(crate) const fn ends(&mut self, last: Tick, earlier: Mask, beside: Mask) {
        (self.last, self.earlier, self.beside) = (Some(last), earlier, beside);
    }

    /// If all others have joined and catch up, who is to find out that nobody knows more: of those who
    /// were agreed on first, the first; nobody if it is us.
    pub(crate) fn asks(&self, me: Slot, others: Mask) -> Mask {
        let earlier = others.and(self.earlier);
        let beside: Mask = others.and(self.beside).iter().filter(|slot| *slot < me).collect();
        if earlier.is_empty() { beside } else { earlier }
    }

    /// The ticks that are still to be told to us, who are in the match by now.
    pub(crate) fn told(&self) -> Option<Range<Tick>> {
        Some(self.next?..self.last? + 1)
    }

    /// This peer is asked.
    pub(crate) fn ask(&mut self, peer: PeerId, tick: Tick) {
        (self.feeder, self.heard, self.loading) = (Some(peer), tick, None);
    }

    /// Something came.
    pub(crate) const fn hear(&mut self, tick: Tick) {
        (self.heard, self.refused) = (tick, Mask(0));
    }

    /// A peer cannot feed us.
    pub(crate) const fn refuse(&mut self, slot: Slot) {
        self.feeder = None;
        self.refused.set(slot, true);
    }

    /// Of these, who has not refused; all, once all have: they may play by now.
    pub(crate) const fn willing(&mut self, peers: Mask) -> Mask {
        if peers.without(self.refused).is_empty() {
            self.refused = Mask(0);
        }
        peers.without(self.refused)
    }

    /// A snapshot begins.
    pub(crate) fn head(&mut self, head: Head, inputs: &Inputs) -> Loaded {
        let mut before = vec![Cell::Given(inputs.neutral.clone()); inputs.queues.len()];
        let read = run::read(&head.before, 1, &mut before, |_, _, _| {});
        let valid = read.is_some() && before.iter().all(|cell| inputs.is_valid(cell));
        if !valid || head.tick > inputs.tick + HISTORY {
            return Loaded::Malformed;
        }
        self.loading = Some(Loading { head, before, bytes: Vec::new(), parts: 0 });
        Loaded::Parts(0)
    }

    /// The next part of it.
    pub(crate) fn part(&mut self, index: u16, part: &[u8]) -> Loaded {
        // We have asked again since.
        let Some(loading) = &mut self.loading else { return Loaded::Stale };
        let whole = loading.bytes.len() + part.len();
        let fits =
            whole == loading.head.len || (whole < loading.head.len && part.len() == SNAPSHOT_PART);
        if index != loading.parts || !fits {
            self.loading = None;
            return Loaded::Malformed;
        }
        loading.bytes.extend_from_slice(part);
        loading.parts += 1;
        if whole < loading.head.len {
            return Loaded::Parts(loading.parts);
        }
        match self.loading.take() {
            Some(Loading { head, before, bytes, parts })
                if xxhash_rust::xxh3::xxh3_64(&bytes) == head.hash =>
            {
                Loaded::Whole { head, before, bytes, parts }
            }
            _ => Loaded::Malformed,
        }
    }
}
