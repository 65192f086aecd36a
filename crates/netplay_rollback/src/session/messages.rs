//! What comes on the reliable and the bulk lane.

use netplay_protocol::PeerId;

use super::feed::BulkMessage;
use super::watch::{Loaded, Watching};
use super::{Event, Output, Session};
use crate::agreement::Ledger;
use crate::input::{Cell, Tick};
use crate::limits::{AHEAD_MAX, DELAY_MAX, FEED_AHEAD, HISTORY};
use crate::message::{Mask, Message, Slot};
use crate::run;

/// A peer that was asked and says nothing is asked again after so many times half a second.
const PATIENCE: Tick = 6;

/// A simulation that is so many ticks behind what is known has caught up.
const NEAR: Tick = 8;

impl Session {
    pub(super) fn message(&mut self, from: PeerId, bytes: &[u8]) {
        match Message::decode(bytes, self.id) {
            Ok(Some(message)) => {
                if !self.take(from, message) {
                    self.stats.refused.foreign += 1;
                }
            }
            Ok(None) => self.stats.refused.session += 1,
            Err(_) => self.stats.refused.malformed += 1,
        }
    }

    /// `false` if the sender has no say in this.
    fn take(&mut self, from: PeerId, message: Message) -> bool {
        let slot = self.slot_of(from).filter(|_| from != self.me);
        let member = slot.filter(|slot| self.agreement.members().contains(*slot));
        match message {
            Message::Checksum { tick, sum } => {
                if let Some(slot) = member.filter(|_| tick <= self.inputs.tick + AHEAD_MAX) {
                    self.checksums.heard(slot, tick, sum);
                }
                member.is_some()
            }
            Message::Agree { view, agree } => slot.is_some_and(|slot| {
                // Who only watches takes part with its wish to play alone.
                self.slot.is_none() || self.agreement.message(slot, view, agree, &mut self.inputs)
            }),
            Message::Watch { next, delay, view } => self.watch(from, next, delay, view),
            Message::Feed { first, count, bits } => self.feed(from, first, count, &bits),
            Message::Fed { next } => self.feeds.fed(from, next),
            Message::Absent => {
                let feeds = |watching: &&mut Watching| watching.feeder == Some(from);
                if let Some((watching, slot)) = self.watching.as_mut().filter(feeds).zip(slot) {
                    watching.refuse(slot);
                }
                slot.is_some()
            }
            Message::Leave => {
                member.inspect(|slot| self.agreement.set_gone(*slot));
                member.is_some()
            }
            Message::Delay { at, delay } => {
                let sane = delay <= DELAY_MAX && (at - self.inputs.tick).abs() <= AHEAD_MAX;
                let host = member.is_some() && member == Some(self.agreement.host());
                if sane && host {
                    self.next_delay = Some((at, delay));
                    self.event(Event::Delay { at, delay });
                }
                sane && host
            }
        }
    }

    fn watch(&mut self, from: PeerId, next: Tick, delay: u16, view: u32) -> bool {
        if let Some(slot) = self.slot_of(from) {
            self.wants.insert(slot, (view, next));
        }
        let known = self.slot_of(from).is_some() || self.spectators_up.contains(&from);
        if !known || from == self.me {
            return false;
        }
        // Who has no state itself cannot give it; who asks will ask somebody else.
        if !self.is_playing() {
            self.say_to(from, &Message::Absent);
            return true;
        }
        if !self.feeds.watch(from, next, delay, &self.inputs) {
            self.stats.refused.limit += 1;
        }
        true
    }

    /// Who joined has heard enough once it knows all that was before: its feeder may be gone. Once all
    /// others have joined as late and know no more, there is nothing more to hear; who was agreed on
    /// first finds out, and tells the others with its feed.
    fn end_watching(&mut self) {
        let (Some(watching), Some(me)) = (&self.watching, self.slot) else { return };
        let (Some(last), Some(next)) = (watching.last, watching.next) else { return };
        let (view, others) = (self.agreement.view(), self.others());
        let needs = |slot: Slot| self.wants.get(&slot).filter(|(said, _)| *said == view);
        let knows_no_more = |slot: Slot| {
            self.remotes[slot].catches_up() && needs(slot).is_some_and(|(_, needs)| *needs <= next)
        };
        if watching.asks(me, others).is_empty() && others.iter().all(knows_no_more) {
            for slot in (0..self.roster.len()).filter(|slot| *slot != me) {
                if others.contains(slot) {
                    self.inputs.absent_before(slot, self.remotes[slot].first());
                } else {
                    self.inputs.leave(slot, self.inputs.held(slot));
                }
            }
        }
        if self.inputs.known() >= last {
            self.watching = None;
        }
    }

    /// Who plays, but us.
    fn others(&self) -> Mask {
        self.agreement.members().without(self.slot.into_iter().collect())
    }

    /// Who may tell us the match: another one than was asked last, and the host only if there is nobody
    /// else. If all catch up themselves, it is who was agreed on first.
    fn feeders(&mut self, asked: Option<PeerId>) -> Vec<PeerId> {
        let others = self.others().and(self.linked);
        let first = self.watching.as_ref().zip(self.slot);
        let first = first.map_or(Mask::default(), |(watching, me)| watching.asks(me, others));
        if !first.is_empty() && others.iter().all(|slot| self.remotes[slot].catches_up()) {
            return first.iter().map(|slot| self.roster[slot]).collect();
        }
        let willing = self.watching.as_mut().map_or(others, |watching| watching.willing(others));
        let mut peers: Vec<PeerId> = willing.iter().map(|slot| self.roster[slot]).collect();
        let host = self.roster.get(self.agreement.host()).copied();
        for other in [asked, host].into_iter().flatten() {
            if peers.len() > 1 {
                peers.retain(|peer| *peer != other);
            }
        }
        peers
    }

    /// Asks a peer for the match, if we are not in it and nobody feeds us.
    pub(super) fn ask_feeder(&mut self) {
        let (tick, me) = (self.inputs.tick, self.slot);
        self.end_watching();
        let Some(watching) = &mut self.watching else { return };
        if watching.is_silent(tick, PATIENCE * self.inputs.lead()) {
            let asked = watching.feeder.take();
            self.ask(asked);
        }
        let Some(watching) = &self.watching else { return };
        // A player that has caught up plays.
        let known = watching.next.map_or(-1, |next| next - 1);
        let near = known >= tick - self.inputs.lead() && self.simulation.current() + NEAR > known;
        if me.is_some() && watching.last.is_none() {
            self.agreement.set_want(self.epoch, watching.next.is_some() && near);
        }
    }

    fn ask(&mut self, asked: Option<PeerId>) {
        let (tick, peers) = (self.inputs.tick, self.feeders(asked));
        let chosen = peers.get(tick.unsigned_abs() as usize % peers.len().max(1));
        let Some(peer) = chosen else { return };
        self.agreement.set_fed_by(self.slot_of(*peer));
        let Some(watching) = &mut self.watching else { return };
        watching.ask(*peer, tick);
        let (next, view) = (watching.next.unwrap_or(-1), self.agreement.view());
        let watch = Message::Watch { next, delay: watching.delay, view };
        self.say_to(*peer, &watch);
    }

    pub(super) fn bulk(&mut self, from: PeerId, bytes: &[u8]) {
        let message = match BulkMessage::decode(bytes, self.id) {
            Ok(Some(message)) => message,
            Ok(None) => return self.stats.refused.session += 1,
            Err(_) => return self.stats.refused.malformed += 1,
        };
        // Who waits for a state, or was away for longer than anybody keeps inputs.
        let later = |watching: &Watching| match &message {
            BulkMessage::Head(head) => watching.next.is_none_or(|next| head.tick > next),
            BulkMessage::Part(..) => true,
        };
        let watching = self.watching.as_mut().filter(|watching| {
            watching.feeder == Some(from) && watching.last.is_none() && later(watching)
        });
        let Some(watching) = watching else { return self.stats.refused.foreign += 1 };
        watching.hear(self.inputs.tick);
        let loaded = match message {
            BulkMessage::Head(head) => watching.head(head, &self.inputs),
            BulkMessage::Part(index, part) => watching.part(index, part),
        };
        match loaded {
            Loaded::Stale => {}
            Loaded::Parts(parts) => self.say_to(from, &Message::Fed { next: parts.into() }),
            Loaded::Malformed => {
                watching.feeder = None;
                self.stats.refused.malformed += 1;
            }
            Loaded::Whole { head, before, bytes, parts } => {
                watching.next = Some(head.tick);
                self.inputs.restart(head.tick, before);
                self.simulation.restart(head.tick);
                self.agreement.restore(head.view, head.members);
                self.outputs.push_back(Output::Restore { tick: head.tick, bytes });
                self.event(Event::Restored(head.tick));
                self.say_to(from, &Message::Fed { next: parts.into() });
            }
        }
    }

    /// Inputs of all players that are final.
    fn feed(&mut self, from: PeerId, first: Tick, count: u16, bits: &[u8]) -> bool {
        let frozen = self.slot_of(from).is_some_and(|slot| self.inputs.is_frozen(slot));
        let Some(watching) = self.watching.as_mut().filter(|w| w.feeder == Some(from)) else {
            return false;
        };
        // Nor from one who is agreed to leave: what the others know by then is what counts.
        if frozen {
            return true;
        }
        let inputs = &mut self.inputs;
        let next = first + Tick::from(count);
        // One that was asked twice tells some ticks twice; another one told what we know since.
        let Some(known) = watching.next.filter(|known| (first..next).contains(known)) else {
            return true;
        };
        watching.hear(inputs.tick);
        let mut before: Vec<Cell> =
            inputs.queues.iter().map(|queue| queue.get(first - 1).clone()).collect();
        let mut cells = Vec::new();
        let read = run::read(bits, count.into(), &mut before, |tick, player, cell| {
            cells.push((first + tick as Tick, player, cell.clone()));
        });
        let valid = read.is_some() && cells.iter().all(|(.., cell)| inputs.is_valid(cell));
        // Nobody keeps more than the history, nor is ahead of us by more.
        let most = inputs.tick.min(self.simulation.current() + FEED_AHEAD) + HISTORY;
        if !valid || next > most {
            watching.feeder = None;
            self.stats.refused.malformed += 1;
            return true;
        }
        // What was told before stays.
        for (tick, player, cell) in cells.into_iter().filter(|(tick, ..)| *tick >= known) {
            inputs.queues[player].tell(tick, &cell);
        }
        watching.next = Some(next);
        if watching.last.is_some_and(|last| next > last) {
            self.watching = None;
        }
        self.say_to(from, &Message::Fed { next });
        true
    }

    fn say_to(&mut self, to: PeerId, message: &Message) {
        let bytes = message.encode(self.id);
        self.outputs.push_back(Output::Message { to, bytes });
    }
}
