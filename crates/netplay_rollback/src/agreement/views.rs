//! What was decided: how one view follows the other, and who is told.

use super::{Agreement, Effect, Ledger};
use crate::input::Tick;
use crate::limits::DECISIONS_MAX;
use crate::message::{Agree, Ballot, Decision, Leave, Mask, Outcome, Slot};

impl Agreement {
    /// Tells a peer that came back who plays, if it does not.
    pub(crate) fn tell_newest(&mut self, slot: Slot) {
        if let Some((view, _)) = self.decided.back().filter(|_| !self.members.contains(slot)) {
            self.tell(*view, Mask::of(slot));
        }
    }

    /// Tells what was decided in a view, if we still know.
    pub(super) fn tell(&mut self, view: u32, to: Mask) {
        let found = self.decided.iter().find(|(of, _)| *of == view);
        if let Some((_, outcome)) = found.cloned() {
            for to in to.iter() {
                let agree = Agree::Decided(outcome.clone());
                self.effects.push_back(Effect::Say { to, view, agree });
            }
        }
    }

    /// What follows from a decision in our view.
    pub(super) fn outcome(&self, ballot: Ballot, decision: Decision) -> Outcome {
        let members = Mask(self.members.without(decision.left()).0 | decision.joined().0);
        let joined = decision.joins.iter().map(|join| (join.slot, join.epoch));
        let others = members.without(decision.joined());
        let known = others.iter().filter_map(|slot| Some((slot, *self.epochs.get(&slot)?)));
        let epochs = known.chain(joined).collect();
        Outcome { ballot, members, decision, epochs }
    }

    /// The next view begins.
    pub(super) fn begin(&mut self, outcome: Outcome, ledger: &mut impl Ledger) {
        let Outcome { ballot, members, decision, epochs } = &outcome;
        let members = *members;
        self.led_here = ballot.slot;
        self.epochs.retain(|slot, _| !members.contains(*slot));
        self.epochs.extend(epochs.iter().copied().filter(|(slot, _)| members.contains(*slot)));
        let counts = decision.leaves.iter().map(|leave| leave.last);
        let counts = counts.chain(decision.joins.iter().map(|join| join.from));
        self.settled = counts.fold(self.settled, Tick::max);
        for join in &decision.joins {
            self.ready.set(join.slot, false);
            self.gone.set(join.slot, false);
        }
        ledger.freeze(Mask::default());
        ledger.hold(None);
        // If somebody of our name still plays, it is the process that we follow.
        let ours = self.members.contains(self.me) || decision.joined().contains(self.me);
        let decision = decision.clone();
        if self.decided.len() == DECISIONS_MAX {
            self.decided.pop_front();
        }
        self.decided.push_back((self.view, outcome));
        (self.view, self.members) = (self.view + 1, members);
        self.members.set(self.me, ours && members.contains(self.me));
        (self.promised, self.accepted, self.leading) = (Ballot::default(), None, None);
        (self.asked, self.frozen) = ((Mask::default(), Mask::default()), Mask::default());
        self.dropped_by = Mask::default();
        (self.join_after, self.again_at, self.no_quorum) = (0, None, false);
        (self.returned, self.wanted) = (Mask::default(), Mask::default());
        self.reports.clear();
        if self.members.contains(self.me) {
            self.want = None;
        }
        self.effects.push_back(Effect::Decided { decision, members });
    }

    /// A process wants to play. If one of its peer is in the match, that is the same, which has not
    /// heard yet that it plays; or an older one, which then plays no more. Who is not in the match does
    /// not know which.
    pub(super) fn hear_want(&mut self, from: Slot, ready: bool, epoch: u32) {
        if !self.members.contains(self.me) {
            return;
        }
        if !self.members.contains(from) {
            self.epochs.insert(from, epoch);
            self.ready.set(from, ready);
        } else if self.epochs.get(&from) != Some(&epoch) {
            self.set_gone(from);
            self.returned.set(from, true);
            self.wanted.set(from, true);
        } else {
            // Whoever decided it may not have been able to tell.
            let joined = |(_, outcome): &&(u32, Outcome)| outcome.decision.joined().contains(from);
            if let Some((view, _)) = self.decided.iter().rev().find(joined) {
                self.tell(*view, Mask::of(from));
            }
        }
    }

    pub(super) fn hear_decided(
        &mut self,
        from: Slot,
        view: u32,
        outcome: Outcome,
        ledger: &mut impl Ledger,
    ) -> bool {
        let (ballot, members) = (outcome.ballot, outcome.members);
        if !self.is_possible(&outcome.decision, ledger) || !members.without(self.all).is_empty() {
            return false;
        }
        if view < self.view {
            return true;
        }
        let us = |mask: Mask| mask.contains(self.me);
        let coordinator = self.coordinator();
        if !us(self.members) {
            // We only watch: who leads knows better, and who feeds us, if we do not know who leads.
            let believed = coordinator == Some(from) || self.fed_by == Some(from);
            if !believed || !self.is_ours(&outcome.decision, ledger) {
                return true;
            }
            self.view = view;
            self.begin(outcome, ledger);
            return true;
        }
        if view == self.view
            && let Some((accepted, ours)) = self.accepted.clone()
            && accepted == ballot
            && (from == ballot.slot || self.unheard().contains(ballot.slot))
        {
            self.begin(self.outcome(ballot, ours), ledger);
            return true;
        }
        // We were dropped while we could not be asked: who leads says so, or enough to have decided
        // it, or everybody whom we can hear.
        if us(members) {
            return true;
        }
        self.dropped_by.set(from, true);
        let others = self.alive().without(Mask::of(self.me));
        let all = others.without(self.dropped_by).is_empty();
        if coordinator == Some(from) || all || self.has_majority(self.dropped_by) {
            self.view = view;
            let leaves = vec![Leave { slot: self.me, last: ledger.held(self.me) }];
            let decision = Decision { leaves, joins: Vec::new() };
            self.begin(Outcome { decision, ..outcome }, ledger);
        }
        true
    }
}
