//! The coordinator's side.

use std::collections::BTreeMap;

use super::{Agreement, Ledger};
use crate::input::Tick;
use crate::limits::{AHEAD_MAX, BALLOTS_AHEAD, HISTORY};
use crate::message::{Agree, Ballot, Decision, Join, Leave, Mask, Slot, Tail};

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) tick: Tick,
    pub(super) held: Vec<(Slot, Tail)>,
    pub(super) accepted: Option<(Ballot, Decision)>,
}

#[derive(Debug)]
enum Stage {
    Asking { answers: BTreeMap<Slot, Answer> },
    Settling { decision: Decision, accepted: Mask },
}

/// A ballot of ours.
#[derive(Debug)]
pub(super) struct Leading {
    ballot: Ballot,
    leaves: Mask,
    joins: Mask,
    /// What we held of each who leaves when we asked.
    held: Vec<(Slot, Tick)>,
    /// Who has to answer, besides us.
    voters: Mask,
    stage: Stage,
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
        let joins = self.ready.without(self.members).without(self.lost);
        let unfinished = self.leading.as_ref();
        let stays = unfinished
            .is_some_and(|leading| leaves.without(leading.leaves).and(leading.voters).is_empty());
        if stays {
            if due {
                self.ask();
            }
            return true;
        }
        // Who was asked not to listen to a peer any more needs a decision on it.
        let leaves = Mask(leaves.0 | unfinished.map_or(0, |leading| leading.leaves.0));
        let pending = !leaves.is_empty() || !joins.is_empty() || self.accepted.is_some();
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
        let held = leaves.iter().map(|slot| (slot, ledger.held(slot))).collect();
        let voters = self.members.without(leaves).without(Mask::of(self.me));
        let answers = BTreeMap::new();
        let stage = Stage::Asking { answers };
        self.leading = Some(Leading { ballot, leaves, joins, held, voters, stage });
        self.ask();
        self.asked(ledger);
    }

    /// Asks who has not answered.
    fn ask(&mut self) {
        let Some(leading) = &self.leading else { return };
        let ballot = leading.ballot;
        let (missing, question) = match &leading.stage {
            Stage::Asking { answers } => {
                let missing = leading.voters.without(answers.keys().copied().collect());
                let (joins, leaves) = (leading.joins, leading.held.clone());
                (missing, Agree::Propose { ballot, joins, leaves })
            }
            Stage::Settling { decision, accepted } => {
                let decision = decision.clone();
                (leading.voters.without(*accepted), Agree::Accept { ballot, decision })
            }
        };
        self.say_all(missing, &question);
    }

    /// Once all have answered, settles what is to be accepted.
    fn asked(&mut self, ledger: &mut impl Ledger) {
        let Some(leading) = &self.leading else { return };
        let Stage::Asking { answers } = &leading.stage else { return };
        if !leading.voters.iter().all(|slot| answers.contains_key(&slot)) {
            return;
        }
        let decision = match self.bound(leading, answers) {
            Some(decision) => decision,
            None => self.choose(leading, answers, ledger),
        };
        let ballot = leading.ballot;
        if !Self::in_time(&decision, ledger) {
            return self.too_late(ballot.round, ledger.confirmed());
        }
        self.accept(ballot, decision.clone(), ledger);
        if let Some(leading) = &mut self.leading {
            leading.stage = Stage::Settling { decision, accepted: Mask::default() };
        }
        self.ask();
        self.settled(ledger);
    }

    /// What an earlier ballot may have decided: everybody it needed, as far as we can ask, has accepted
    /// it.
    fn bound(&self, leading: &Leading, answers: &BTreeMap<Slot, Answer>) -> Option<Decision> {
        let accepted = |slot: Slot| {
            let theirs = answers.get(&slot).and_then(|answer| answer.accepted.as_ref());
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

    fn choose(
        &self,
        leading: &Leading,
        answers: &BTreeMap<Slot, Answer>,
        ledger: &mut impl Ledger,
    ) -> Decision {
        let tails = |slot: Slot| {
            let held = answers.values().flat_map(|answer| &answer.held);
            held.filter(move |(of, _)| *of == slot).map(|(_, tail)| tail)
        };
        let mut leaves = Vec::new();
        for slot in leading.leaves.iter() {
            for tail in tails(slot) {
                ledger.learn(tail, slot);
            }
            // A tail begins after what its sender knows that we hold, or after what it holds itself.
            let least = tails(slot).map(|tail| tail.first - 1).min();
            let least = least.map_or(ledger.held(slot), |least| least.min(ledger.held(slot)));
            let tail = ledger.tail(slot, least);
            leaves.push(Leave { slot, last: tail.last(), tail });
        }
        let newest = answers.values().map(|answer| answer.tick).max();
        // No honest peer is so far ahead.
        let newest = newest.map_or(0, |tick| tick.min(ledger.tick() + AHEAD_MAX));
        let own = ledger.tick().max(ledger.confirmed());
        let from = newest.max(own).max(self.join_after) + ledger.lead();
        let epoch = |slot| self.epochs.get(&slot).copied().unwrap_or(0);
        let join = |slot| Join { slot, from, epoch: epoch(slot) };
        let joins = leading.joins.iter().map(join).collect();
        Decision { leaves, joins }
    }

    /// A first tick was chosen that somebody has confirmed, or somebody has promised a later round: a
    /// ballot after that.
    fn too_late(&mut self, round: u32, confirmed: Tick) {
        self.join_after = self.join_after.max(confirmed);
        if let Some(leading) = &mut self.leading {
            leading.ballot.round = leading.ballot.round.max(round).saturating_add(1);
            leading.stage = Stage::Asking { answers: BTreeMap::new() };
            self.promised = leading.ballot;
        }
        self.ask();
    }

    /// Once all have accepted, the next view begins.
    fn settled(&mut self, ledger: &mut impl Ledger) {
        let Some(leading) = &self.leading else { return };
        let Stage::Settling { decision, accepted } = &leading.stage else { return };
        if leading.voters.without(*accepted).is_empty() {
            let (ballot, decision) = (leading.ballot, decision.clone());
            let view = self.view;
            let members = self.after(&decision);
            self.begin(ballot, decision, members, ledger);
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
            self.too_late(ballot.round, confirmed);
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
            && answer.held.iter().all(|(_, tail)| tail.last() <= latest);
        let Some(leading) = self.leading.as_mut().filter(|_| sane) else { return sane };
        if leading.ballot == ballot
            && leading.voters.contains(from)
            && let Stage::Asking { answers } = &mut leading.stage
        {
            answers.insert(from, answer);
            self.asked(ledger);
        }
        true
    }

    pub(super) fn hear_accepted(&mut self, from: Slot, ballot: Ballot, ledger: &mut impl Ledger) {
        let Some(leading) = &mut self.leading else { return };
        if leading.ballot == ballot
            && let Stage::Settling { accepted, .. } = &mut leading.stage
        {
            accepted.set(from, true);
            self.settled(ledger);
        }
    }
}
