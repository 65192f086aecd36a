//! What happens at every tick of the clock.

use netplay_protocol::PeerId;

use super::checksums::Difference;
use super::feed::Send;
use super::watch::Watching;
use super::{Event, Output, Session};
use crate::agreement::Ledger;
use crate::input::{Cell, Player, Tick};
use crate::limits::{FEED_AHEAD, HISTORY, SILENT_BEFORE};
use crate::message::{Mask, Message, Slot};

/// No tick stays final.
const NOTHING: Tick = -1;

impl Session {
    /// The clock has come to this tick; another one may follow at once, which tells both.
    pub(super) fn advance(&mut self, tick: Tick, tells: bool) {
        if tick <= self.inputs.tick {
            return;
        }
        let ahead = tick - self.inputs.tick;
        if ahead > HISTORY && self.inputs.tick >= 0 && self.is_playing() {
            return self.dropped();
        }
        if ahead > self.inputs.lead() {
            self.woke = tick;
        }
        self.inputs.tick = tick;
        if self.is_playing() && !self.is_in_time() {
            return self.dropped();
        }
        if let Some((_, delay)) = self.next_delay.take_if(|(at, _)| tick >= *at) {
            self.delay = delay.into();
        }
        if self.is_playing() {
            self.sample();
            if tells {
                self.send_blocks();
            }
        }
        self.ask_feeder();
        self.run();
        let mut feeds = core::mem::take(&mut self.feeds);
        let mut outputs = core::mem::take(&mut self.outputs);
        let (id, safe) = (self.id, |to| self.safe(to));
        feeds.step(id, &self.inputs, safe, |to, send| {
            outputs.push_back(match send {
                Send::Message(message) => Output::Message { to, bytes: message.encode(id) },
                Send::Bulk(bytes) => Output::Bulk { to, bytes },
            });
        });
        (self.feeds, self.outputs) = (feeds, outputs);
        self.inputs.trim();
        // Who watches may have slept for longer: what it has not run is forgotten.
        if self.simulation.current() <= self.inputs.first_kept() && !self.is_playing() {
            self.watching.iter_mut().for_each(Watching::restart);
        }
    }

    /// The last tick that stays final for this watcher even if we die now: the others know what we did.
    /// A peer that does not say what it knows holds watchers up for a while only.
    fn safe(&self, watcher: PeerId) -> Tick {
        // Nothing, while we may be the ones who are dropped.
        if !self.agreement.is_certain() {
            return NOTHING;
        }
        let confirmed = self.inputs.confirmed();
        let members = self.agreement.members();
        // Who joins us alone is let in once it knows what everybody else was told: those wait for it.
        if let Some(joins) = self.first_to_join().filter(|joins| *joins != watcher) {
            return confirmed.min(self.feeds.confirmed_by(joins).max(confirmed - FEED_AHEAD));
        }
        // Two who have joined do not wait for each other.
        let joined = self.slot_of(watcher).is_some_and(|slot| members.contains(slot));
        let others = members.without(self.slot.into_iter().collect());
        let others = others.iter().map(|slot| &self.remotes[slot]);
        let others = others.filter(|remote| !joined || !remote.catches_up());
        let known = others.map(|remote| remote.knows).min();
        confirmed.min(known.map_or(confirmed, |known| known.max(confirmed - FEED_AHEAD)))
    }

    /// If we are the only one who plays: who is ready to join us, and comes first. If we died after that, it
    /// would decide alone what we did.
    fn first_to_join(&self) -> Option<PeerId> {
        let alone = self.slot.is_some_and(|me| self.agreement.members() == Mask::of(me));
        let mut ready = self.agreement.ready().and(self.linked).iter().filter(|_| alone);
        Some(self.roster[ready.next()?])
    }

    /// Who is ready to play, but would know less than others were told.
    pub(super) fn held_up(&self) -> Mask {
        let Some(first) = self.first_to_join() else { return Mask::default() };
        let knows = self.feeds.confirmed_by(first) >= self.feeds.told_others(first);
        let lets_in = |slot: &Slot| self.roster[*slot] == first && knows;
        self.agreement.ready().iter().filter(|slot| !lets_in(slot)).collect()
    }

    /// Finds who has told no inputs for nearly as long as they are kept, but not because we stood still
    /// ourselves. `false` if what we have to run next is forgotten by now.
    fn is_in_time(&mut self) -> bool {
        let tick = self.inputs.tick;
        let oldest = tick - HISTORY + SILENT_BEFORE;
        let behind = |slot: &Slot| self.inputs.held(*slot) < oldest && Some(*slot) != self.slot;
        let awake = tick - self.woke > SILENT_BEFORE;
        let silent = self.agreement.members().iter().filter(|slot| awake && behind(slot));
        self.agreement.set_silent(silent.collect());
        self.simulation.current() >= tick - HISTORY
    }

    /// Takes the local inputs for the tick; fills what the clock or a longer delay has skipped.
    fn sample(&mut self) {
        let Some(slot) = self.slot else { return };
        let counts = self.inputs.tick + self.delay;
        for (index, player) in self.inputs.players(slot).enumerate() {
            let given = self.local[index].take();
            let neutral = self.inputs.neutral.clone();
            let queue = &mut self.inputs.queues[player];
            let last = match queue.get(queue.held()) {
                Cell::Given(input) => input.clone(),
                Cell::Absent | Cell::Missing => neutral,
            };
            for tick in queue.held() + 1..counts {
                queue.put(tick, &Cell::Given(last.clone()));
            }
            if counts > queue.held() {
                queue.put(counts, &Cell::Given(given.unwrap_or(last)));
            }
        }
    }

    fn send_blocks(&mut self) {
        let Some(me) = self.slot else { return };
        let others = self.agreement.members().and(self.linked).without(Mask::of(me));
        for slot in others.iter() {
            let remote = &mut self.remotes[slot];
            let mut bytes = self.spare.pop().unwrap_or_default();
            let pair = (me, slot);
            let newest =
                remote.block(&self.inputs, pair, self.id as u8, &mut self.bits, &mut bytes);
            let (to, again) = (self.roster[slot], remote.twice);
            self.stats.blocks += 1;
            self.stats.block_bytes += bytes.len() as u64;
            self.outputs.push_back(Output::Block { to, tick: newest as u16, bytes, again });
        }
    }

    fn run(&mut self) {
        if self.watching.as_ref().is_some_and(|watching| watching.next.is_none()) {
            return;
        }
        let tick = self.inputs.tick;
        let plays = self.is_playing();
        for (slot, remote) in self.remotes.iter().enumerate() {
            let late = plays && Some(slot) != self.slot && remote.is_late(tick);
            self.inputs.players(slot).for_each(|player| self.late[player] = late);
        }
        self.simulation.snapshot_wanted |= self.feeds.want_snapshot();
        let behind = self.watching.as_ref().map_or(0, |watching| watching.delay.into());
        let Self { simulation, inputs, late, outputs, .. } = self;
        let ran = simulation.run(inputs, tick - behind, plays, late, outputs);
        self.stats.advanced += u64::from(ran.advanced);
        self.stats.rollbacks += u64::from(ran.rolled_back > 0);
        self.stats.resimulated += u64::from(ran.rolled_back);
        self.stats.deepest = self.stats.deepest.max(ran.rolled_back);
        if let Some(tick) = ran.snapshot {
            self.feeds.snapshot_asked(tick);
            self.outputs.push_back(Output::Snapshot(tick));
        }
        if plays {
            self.note_stall();
        }
        self.compare_checksums();
    }

    /// Says when the simulation begins to wait for others, and when it goes on.
    fn note_stall(&mut self) {
        let (tick, current) = (self.inputs.tick, self.simulation.current());
        let missing = current <= tick && self.simulation.waits(&self.inputs);
        match self.stalled_since {
            None if missing => {
                self.stalled_since = Some(tick);
                self.stats.stalls += 1;
                let known = self.inputs.known();
                let behind = |player: &usize| self.inputs.queues[*player].known() == known;
                let players = (0..self.inputs.queues.len()).filter(behind);
                let players = players.map(|player| Player(player as u8)).collect();
                self.event(Event::Stalled(players));
            }
            Some(since) if !missing => {
                self.stalled_since = None;
                self.event(Event::Resumed((tick - since) as u32));
            }
            _ => {}
        }
        self.stats.stalled += u64::from(missing);
    }

    /// A final state has this checksum.
    pub(super) fn checksum(&mut self, tick: Tick, sum: u64) {
        self.checksums.computed(tick, sum);
        if self.is_playing() {
            self.say_all(&Message::Checksum { tick, sum });
        }
        self.compare_checksums();
    }

    fn compare_checksums(&mut self) {
        while let Some(difference) = self.checksums.compare() {
            let Difference { slot, tick, ours, theirs } = difference;
            self.event(Event::Desync { peer: self.roster[slot], tick, ours, theirs });
        }
    }
}
