//! The coordinator's side.

use std::collections::BTreeMap;

use super::{Agreement, Ledger};
use crate::input::Tick;
use crate::limits::{AHEAD_MAX, BALLOTS_AHEAD, HISTORY, TAIL_MAX};
use crate::message::{Agree, Ballot, Decision, Held, Join, Leave, Mask, Slot};

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) tick: Tick,
    pub(super) held: Vec<Held>,
    pub(super) accepted: Option<(Ballot, Decision)>,
}

/// A ballot of ours.
#[derive(Debug)]
pub(super) struct Leading {
    ballot: Ballot,
    leaves: Mask,
    joins: Mask,
    /// Who has to answer, besides us.
    voters: Mask,
    answers: BTreeMap<Slot, Answer>,
    /// What they are to accept once all have answered, and who has.
    settling: Option<(Decision, Mask)>,
}

impl Leading {
    /// What a voter has to answer next.
    fn question(&self, voter: Slot, ledger: &impl Ledger) -> Agree {
        let ballot = self.ballot;
        let Some((decision, _)) = &self.settling else {
            let leaves = self.leaves.iter().map(|slot| (slot, ledger.held(slot))).collect();
            return Agree::Propose { ballot, joins: self.joins, leaves };
        };
        let max = TAIL_MAX / decision.leaves.len().max(1);
        let held = self.answers.get(&voter).map_or(&[][..], |answer| &answer.held);
        let lacks = held.iter().filter(|held| held.last < ledger.held(held.slot));
        let lacks = lacks.filter(|held| decision.left().contains(held.slot));
        let tails = lacks.map(|held| (held.slot, ledger.tail(held.slot, held.last, max))).collect();
        Agree::Accept { ballot, decision: decision.clone(), tails }
    }

    /// Who has not answered the last question.
    fn missing(&self) -> Mask {
        let answered = match &self.settling {
            None => self.answers.keys().copied().collect(),
            Some((_, accepted)) => *accepted,
        };
        self.voters.without(answered)
    }
}

impl Agreement {
    /// Of two peers that have lost each other, the one to drop; for the coordinator.
    fn judged(&self) -> Mask {
        let alive = self.alive();
        let mut judged = Mask::default();
        let lost_by = |slot: Slot| alive.iter().filter(|by| self.has_lost(*by, slot)).count();
        for (by, lost) in &self.reports {
            for slot in lost.and(alive).iter().filter(|slot| slot != by && alive.contains(*by)) {
                let (ours, theirs) = ((lost_by(*by), *by), (lost_by(slot), slot));
                judged.set(if ours > theirs { ours.1 } else { theirs.1 }, true);
            }
        }
        judged.set(self.me, false);
        judged.set(self.host, false);
        judged
    }

    fn has_lost(&self, by: Slot, slot: Slot) -> bool {
        self.reports.get(&by).is_some_and(|lost| lost.contains(slot))
    }

    pub(super) fn lead(&mut self, due: bool, ledger: &mut impl Ledger) -> bool {
        let judged = self.judged();
        let leaves = self.members.without(self.alive().without(judged));
        let joins = self.ready().without(self.lost).without(self.held_up);
        let unfinished = self.leading.as_ref();
        let stays = unfinished
            .is_some_and(|leading| leaves.without(leading.leaves).and(leading.voters).is_empty());
        if stays {
            if due {
                self.ask(ledger);
            }
            return true;
        }
        // Who was asked not to listen to a peer any more needs a decision on it.
        let leaves = Mask(leaves.0 | unfinished.map_or(0, |leading| leading.leaves.0));
        // From whom nothing is taken any more needs a decision too, if only that nobody leaves.
        let asked = self.accepted.is_some() || !self.frozen.is_empty();
        let pending = !leaves.is_empty() || !joins.is_empty() || asked;
        if !self.note_quorum(!pending || self.has_majority(self.members.without(leaves))) {
            self.leading = None;
            return true;
        }
        if !pending {
            return false;
        }
        self.propose(leaves, joins, ledger);
        true
    }

    fn propose(&mut self, leaves: Mask, joins: Mask, ledger: &mut impl Ledger) {
        let ballot = Ballot { round: self.promised.round.saturating_add(1), slot: self.me };
        self.promised = ballot;
        self.freeze(leaves, ledger);
        let voters = self.members.without(leaves).without(Mask::of(self.me));
        let (answers, settling) = (BTreeMap::new(), None);
        self.leading = Some(Leading { ballot, leaves, joins, voters, answers, settling });
        self.ask(ledger);
        self.asked(ledger);
    }

    /// Asks who has not answered.
    fn ask(&mut self, ledger: &impl Ledger) {
        let missing = self.leading.as_ref().map_or(Mask::default(), Leading::missing);
        missing.iter().for_each(|slot| self.ask_one(slot, ledger));
    }

    fn ask_one(&mut self, voter: Slot, ledger: &impl Ledger) {
        if let Some(leading) = &self.leading {
            let question = leading.question(voter, ledger);
            self.say(voter, question);
        }
    }

    /// Once all have answered, settles what is to be accepted.
    fn asked(&mut self, ledger: &mut impl Ledger) {
        let Some(leading) = &self.leading else { return };
        if leading.settling.is_some() || !leading.missing().is_empty() {
            return;
        }
        let decision = self.bound(leading).unwrap_or_else(|| self.choose(leading, ledger));
        let ballot = leading.ballot;
        if !Self::in_time(&decision, ledger) {
            return self.too_late(ballot.round, ledger);
        }
        self.accept(ballot, decision.clone(), ledger);
        if let Some(leading) = &mut self.leading {
            leading.settling = Some((decision, Mask::default()));
        }
        self.ask(ledger);
        self.settled(ledger);
    }

    /// What an earlier ballot may have decided: everybody it needed, as far as we can ask, has accepted
    /// it.
    fn bound(&self, leading: &Leading) -> Option<Decision> {
        let accepted = |slot: Slot| {
            let theirs = leading.answers.get(&slot).and_then(|answer| answer.accepted.as_ref());
            if slot == self.me { self.accepted.as_ref() } else { theirs }
        };
        let staying = Mask(leading.voters.0 | Mask::of(self.me).0);
        let newest = staying.iter().filter_map(accepted).max_by_key(|(ballot, _)| *ballot)?;
        let all = staying
            .without(newest.1.left())
            .iter()
            .all(|slot| accepted(slot).is_some_and(|(ballot, _)| *ballot == newest.0));
        all.then(|| newest.1.clone())
    }

    fn choose(&self, leading: &Leading, ledger: &impl Ledger) -> Decision {
        let leave = |slot| Leave { slot, last: ledger.held(slot) };
        let leaves: Vec<Leave> = leading.leaves.iter().map(leave).collect();
        let newest = leading.answers.values().map(|answer| answer.tick).max();
        // No honest peer is so far ahead.
        let newest = newest.map_or(0, |tick| tick.min(ledger.tick() + AHEAD_MAX));
        let own = ledger.tick().max(ledger.confirmed());
        // What was decided before counts by then.
        let settled = leaves.iter().map(|leave| leave.last).fold(self.settled, Tick::max);
        let from = newest.max(own).max(settled).max(self.join_after) + ledger.lead();
        let epoch = |slot| self.epochs.get(&slot).copied().unwrap_or(0);
        let join = |slot| Join { slot, from, epoch: epoch(slot) };
        let joins = leading.joins.iter().map(join).collect();
        Decision { leaves, joins }
    }

    /// A first tick was chosen that somebody has confirmed, or somebody has promised a later round: a
    /// ballot after that.
    fn too_late(&mut self, round: u32, ledger: &impl Ledger) {
        if let Some(leading) = &mut self.leading {
            leading.ballot.round = leading.ballot.round.max(round).saturating_add(1);
            (leading.answers, leading.settling) = (BTreeMap::new(), None);
            self.promised = leading.ballot;
        }
        self.ask(ledger);
    }

    /// Once all have accepted, the next view begins.
    fn settled(&mut self, ledger: &mut impl Ledger) {
        let Some(leading) = &self.leading else { return };
        let Some((decision, _)) = &leading.settling else { return };
        if leading.missing().is_empty() {
            let (ballot, decision) = (leading.ballot, decision.clone());
            let view = self.view;
            self.begin(self.outcome(ballot, decision), ledger);
            let told = Mask(u16::MAX).without(self.lost).without(Mask::of(self.me));
            self.tell(view, told);
        }
    }

    pub(super) fn hear_too_late(&mut self, ballot: Ballot, confirmed: Tick, ledger: &impl Ledger) {
        // Not so far on that the others would not follow.
        let last = |ballot: Ballot| ballot.round.saturating_add(BALLOTS_AHEAD / 2);
        let late = self.leading.as_ref().is_some_and(|leading| {
            leading.ballot <= ballot && ballot.round <= last(leading.ballot)
        });
        // No honest peer has confirmed a tick that is still to come.
        if late && confirmed <= ledger.tick() + AHEAD_MAX {
            self.join_after = self.join_after.max(confirmed);
            self.too_late(ballot.round, ledger);
        }
    }

    pub(super) fn hear_promise(
        &mut self,
        from: Slot,
        ballot: Ballot,
        answer: Answer,
        ledger: &mut impl Ledger,
    ) -> bool {
        let latest = ledger.tick() + HISTORY;
        let decision = answer.accepted.as_ref().map(|(_, decision)| decision);
        let sane = decision.is_none_or(|decision| self.is_next(decision, ledger))
            && answer.held.iter().all(|held| held.last.max(held.tail.last()) <= latest);
        let Some(leading) = self.leading.as_mut().filter(|_| sane) else { return sane };
        if leading.ballot != ballot || !leading.missing().contains(from) {
            return true;
        }
        if leading.settling.is_some() {
            // It has learned a part of what it lacks.
            let before = leading.answers.insert(from, answer);
            let after = leading.answers.get(&from);
            let sum = |answer: &Answer| -> i64 {
                answer.held.iter().map(|held| i64::from(held.last)).sum()
            };
            if after.map(sum) > before.as_ref().map(sum) {
                self.ask_one(from, ledger);
            }
            return true;
        }
        let mut more = false;
        for held in answer.held.iter().filter(|held| leading.leaves.contains(held.slot)) {
            let before = ledger.held(held.slot);
            ledger.learn(&held.tail, held.slot);
            let now = ledger.held(held.slot);
            more |= before < now && now < held.last;
        }
        if more {
            self.ask_one(from, ledger);
        } else {
            leading.answers.insert(from, answer);
            self.asked(ledger);
        }
        true
    }

    pub(super) fn hear_accepted(&mut self, from: Slot, ballot: Ballot, ledger: &mut impl Ledger) {
        let Some(leading) = &mut self.leading else { return };
        if leading.ballot == ballot
            && let Some((_, accepted)) = &mut leading.settling
        {
            accepted.set(from, true);
            self.settled(ledger);
        }
    }
}
