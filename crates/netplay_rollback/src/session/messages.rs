//! What comes on the reliable and the bulk lane.

use netplay_protocol::PeerId;

use super::feed::BulkMessage;
use super::watch::{Loaded, Watching};
use super::{Event, Output, Session};
use crate::agreement::Ledger;
use crate::input::{Cell, Tick};
use crate::limits::{AHEAD_MAX, DELAY_MAX, HISTORY};
use crate::message::{Mask, Message};
use crate::run;

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
            Message::Watch { next, delay } => self.watch(from, next, delay),
            Message::Feed { first, count, bits } => self.feed(from, first, count, &bits),
            Message::Fed { next } => self.feeds.fed(from, next),
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

    fn watch(&mut self, from: PeerId, next: Tick, delay: u16) -> bool {
        if self.slot_of(from).is_none() && !self.spectators_up.contains(&from) {
            return false;
        }
        // Who has no state itself cannot give it; who asks will ask somebody else.
        if !self.is_playing() {
            return true;
        }
        if !self.feeds.watch(from, next, delay, &self.inputs) {
            self.stats.refused.limit += 1;
        }
        true
    }

    /// Who joined has heard enough once it knows all that was before: its feeder may be gone. With
    /// nobody else in the match there is nothing more to hear.
    fn end_watching(&mut self) {
        let Some(last) = self.watching.as_ref().and_then(|watching| watching.last) else { return };
        let members = self.agreement.members();
        let alone: Mask = self.slot.into_iter().collect();
        if members == alone {
            for slot in (0..self.roster.len()).filter(|slot| !alone.contains(*slot)) {
                self.inputs.leave(slot, self.inputs.held(slot));
            }
        }
        if self.inputs.known() >= last {
            self.watching = None;
        }
    }

    /// Asks a peer for the match, if we are not in it and nobody feeds us.
    pub(super) fn ask_feeder(&mut self) {
        let (tick, me) = (self.inputs.tick, self.slot);
        self.end_watching();
        let Some(watching) = &mut self.watching else { return };
        if watching.is_silent(tick) {
            let others = self.agreement.members().and(self.linked);
            let others = others.iter().filter(|slot| Some(*slot) != me);
            let mut peers: Vec<PeerId> = others.map(|slot| self.roster[slot]).collect();
            // Another one each time, and the host only if there is nobody else.
            let host = self.roster.get(self.agreement.host()).copied();
            for other in [watching.feeder.take(), host].into_iter().flatten() {
                if peers.len() > 1 {
                    peers.retain(|peer| *peer != other);
                }
            }
            let Some(peer) = peers.get(tick.unsigned_abs() as usize % peers.len().max(1)) else {
                return;
            };
            watching.ask(*peer, tick);
            let (to, next) = (*peer, watching.next.unwrap_or(-1));
            let bytes = Message::Watch { next, delay: watching.delay }.encode(self.id);
            self.outputs.push_back(Output::Message { to, bytes });
        }
        // A player that has caught up plays.
        let known = watching.next.map_or(-1, |next| next - 1);
        let near = known >= tick - self.inputs.lead() && self.simulation.current() + NEAR > known;
        if me.is_some() && watching.last.is_none() {
            self.agreement.set_want(self.epoch, watching.next.is_some() && near);
        }
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
        let Some(watching) = self.watching.as_mut().filter(|w| w.feeder == Some(from)) else {
            return false;
        };
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
        if !valid || next > inputs.tick + HISTORY {
            watching.feeder = None;
            self.stats.refused.malformed += 1;
            return true;
        }
        // What was told before is final: even who says something else now changes nothing.
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
