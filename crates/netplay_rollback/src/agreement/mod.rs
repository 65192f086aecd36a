//! Who plays: a sequence of *views*, each agreed by those of the one before who are still there. Messages
//! and the state table are in [`crate::protocol`].
//!
//! Two peers who lose each other only: the coordinator drops the one that more peers have lost, else the
//! higher slot; never itself or the host.
//!
//! Guaranteed: peers who go on have the same sequence of views, whatever messages are lost and whoever
//! dies in between; a peer that lies can stop this, or have a peer dropped that it claims to have lost,
//! but nothing else, unless it is the coordinator.
//! Not guaranteed: progress without a majority. Who has left the lobby counts as gone: it plays nowhere
//! else, and once nobody but those who are gone is missing, no majority is needed. But if there is another
//! process of one of those, it may have come into a later view: it has to say first that it only wants to play.

mod lead;
mod views;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use netplay_protocol::Now;

use crate::input::Tick;
use crate::limits::{BALLOTS_AHEAD, HISTORY, TAIL_MAX};
use crate::message::{Agree, Ballot, Decision, Held, Mask, Outcome, Slot, Tail};
use lead::{Answer, Leading};

/// How often a question is repeated that is not answered.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);

/// What the agreement needs to know of the inputs, and may do with them.
pub(crate) trait Ledger {
    /// The tick that it is.
    fn tick(&self) -> Tick;
    /// The last tick whose inputs are final.
    fn confirmed(&self) -> Tick;
    /// The last tick up to which a peer's inputs are held.
    fn held(&self, slot: Slot) -> Tick;
    /// A peer's inputs after this tick, as many as fit so many bytes.
    fn tail(&self, slot: Slot, after: Tick, max: usize) -> Tail;
    /// Takes inputs from somebody else's tail.
    fn learn(&mut self, tail: &Tail, slot: Slot);
    /// Takes no inputs of these peers from themselves, but of all others.
    fn freeze(&mut self, slots: Mask);
    /// Confirms nothing from this tick on until it is decided who plays at it.
    fn hold(&mut self, from: Option<Tick>);
    /// The ticks from a proposal to the first tick of who joins.
    fn lead(&self) -> Tick;
}

/// What an agreement wants done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Say {
        to: Slot,
        view: u32,
        agree: Agree,
    },
    /// The next view begins; the ledger has the inputs of who leaves.
    Decided {
        decision: Decision,
        members: Mask,
    },
    /// Too few are left to decide anything.
    NoQuorum,
}

/// One peer's part in it.
#[derive(Debug)]
pub(crate) struct Agreement {
    me: Slot,
    host: Slot,
    /// The slots of the roster.
    all: Mask,
    view: u32,
    /// Who proposed it; at first the host.
    led_here: Slot,
    members: Mask,
    lost: Mask,
    gone: Mask,
    /// Members who are gone, and of whom there is another process: it may play in a later view, into which
    /// those have let it with whom the one before played on.
    returned: Mask,
    /// Of these, who has said that it only wants to play, since anybody became gone.
    wanted: Mask,
    /// Who is linked, but tells no inputs.
    silent: Mask,
    /// Who each peer says it has lost.
    reports: BTreeMap<Slot, Mask>,
    /// Who is ready to play and does not.
    ready: Mask,
    /// Who is not let in yet, though it is ready.
    held_up: Mask,
    /// Which process of each peer wants to play, or does; none for who plays from the start.
    epochs: BTreeMap<Slot, u32>,
    /// Which process we are, if we want to play, and whether we are ready.
    want: Option<(u32, bool)>,
    was_ready: bool,
    /// Who tells us the match, while we do not play.
    fed_by: Option<Slot>,
    promised: Ballot,
    /// Who leaves and who joins by what we have promised.
    asked: (Mask, Mask),
    /// From whom nothing is taken until the next view.
    frozen: Mask,
    accepted: Option<(Ballot, Decision)>,
    leading: Option<Leading>,
    /// A first tick has to be after this one: somebody has confirmed it.
    join_after: Tick,
    /// The last tick at which what was decided counts: somebody's last or first.
    settled: Tick,
    /// Who says that we are dropped.
    dropped_by: Mask,
    again_at: Option<Now>,
    no_quorum: bool,
    /// What was decided in which view.
    decided: VecDeque<(u32, Outcome)>,
    effects: VecDeque<Effect>,
}

impl Agreement {
    /// Everybody in the roster plays but who is absent: those play nowhere else, as if they had left.
    pub(crate) fn new(me: Slot, host: Slot, all: Mask, absent: Mask) -> Self {
        Self {
            me,
            host,
            all,
            view: 0,
            led_here: host,
            members: all.without(absent),
            lost: absent,
            gone: absent,
            returned: Mask::default(),
            wanted: Mask::default(),
            silent: Mask::default(),
            reports: BTreeMap::new(),
            ready: Mask::default(),
            held_up: Mask::default(),
            epochs: BTreeMap::new(),
            want: None,
            was_ready: false,
            fed_by: None,
            promised: Ballot::default(),
            asked: (Mask::default(), Mask::default()),
            frozen: Mask::default(),
            accepted: None,
            leading: None,
            join_after: 0,
            settled: 0,
            dropped_by: Mask::default(),
            again_at: None,
            no_quorum: false,
            decided: VecDeque::new(),
            effects: VecDeque::new(),
        }
    }

    pub(crate) const fn members(&self) -> Mask {
        self.members
    }

    pub(crate) const fn host(&self) -> Slot {
        self.host
    }

    pub(crate) const fn view(&self) -> u32 {
        self.view
    }

    pub(crate) fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(crate) const fn next_deadline(&self) -> Option<Now> {
        self.again_at
    }

    /// Who does not know the match yet starts with what it was told, unless it has heard of later
    /// views since.
    pub(crate) const fn restore(&mut self, view: u32, members: Mask) {
        if view < self.view {
            return;
        }
        (self.view, self.members) = (view, members.and(self.all));
        // If somebody of our name still plays, it is the process that we follow.
        self.members.set(self.me, false);
    }

    /// There is a link to a peer, or none any more.
    pub(crate) fn set_lost(&mut self, slot: Slot, lost: bool) {
        self.lost.set(slot, lost);
        // Another process of one who has left: it may play somewhere by and by.
        if !lost && !self.members.contains(slot) {
            self.gone.set(slot, false);
        }
        if !lost && self.gone.contains(slot) {
            self.returned.set(slot, true);
        }
        if lost {
            self.wanted.set(slot, false);
            self.ready.set(slot, false);
            self.reports.remove(&slot);
        }
    }

    /// A peer plays nowhere else: it said goodbye, or left the lobby.
    pub(crate) const fn set_gone(&mut self, slot: Slot) {
        if !self.gone.contains(slot) {
            self.wanted = Mask(0);
        }
        self.gone.set(slot, true);
        self.returned.set(slot, false);
    }

    /// These tell no inputs, for longer than anybody waits: they count as lost for now.
    pub(crate) const fn set_silent(&mut self, slots: Mask) {
        self.silent = slots;
    }

    /// Who is ready to play, and does not.
    pub(crate) const fn ready(&self) -> Mask {
        self.ready.without(self.members)
    }

    /// These are not let in yet: they know less than others were told.
    pub(crate) const fn set_held_up(&mut self, slots: Mask) {
        self.held_up = slots;
    }

    pub(crate) const fn set_host(&mut self, slot: Slot) {
        self.host = slot;
    }

    /// A peer tells us the match: it is believed in who plays, too.
    pub(crate) const fn set_fed_by(&mut self, slot: Option<Slot>) {
        self.fed_by = slot;
    }

    /// We want to play.
    pub(crate) const fn set_want(&mut self, epoch: u32, ready: bool) {
        self.want = Some((epoch, ready));
        self.was_ready |= ready;
    }

    /// Who cannot answer, or no more.
    const fn unheard(&self) -> Mask {
        Mask(self.lost.0 | self.gone.0 | self.silent.0)
    }

    fn alive(&self) -> Mask {
        self.members.without(self.unheard())
    }

    /// Whether we have no reason to think that the others go on without us, or are to decide on somebody's
    /// last input: what we hold as final may then be more than what they agree on.
    pub(crate) const fn is_certain(&self) -> bool {
        let missing = self.members.0 & self.unheard().0;
        missing == 0 && self.frozen.is_empty() && self.dropped_by.is_empty()
    }

    /// Who leads: the host while it is there, else the first of the others.
    pub(crate) fn coordinator(&self) -> Option<Slot> {
        let alive = self.alive();
        if alive.contains(self.host) { Some(self.host) } else { alive.iter().next() }
    }

    /// Whether these may go on without the rest. Who is gone may have agreed on something with others
    /// whom we have lost, members or not: while there are any, it counts. Of two halves it is the one
    /// with who led to this view (at first the host), which does not change while the view lasts.
    fn has_majority(&self, staying: Mask) -> bool {
        let (half, all) = (staying.len() * 2, self.members.len());
        // Who was dropped and is linked to us would say if it plays in a later view than ours.
        let outside = self.all.without(self.members).and(self.lost);
        let missing = Mask(self.members.without(staying).0 | outside.0);
        let elsewhere = missing.without(self.gone.without(self.returned.without(self.wanted)));
        elsewhere.is_empty() || half > all || half == all && staying.contains(self.led_here)
    }

    /// Says once that too few are left; gives whether enough are.
    fn note_quorum(&mut self, enough: bool) -> bool {
        if !core::mem::replace(&mut self.no_quorum, !enough) && !enough {
            self.effects.push_back(Effect::NoQuorum);
        }
        enough
    }

    fn say(&mut self, to: Slot, agree: Agree) {
        self.effects.push_back(Effect::Say { to, view: self.view, agree });
    }

    fn say_all(&mut self, to: Mask, agree: &Agree) {
        to.iter().for_each(|slot| self.say(slot, agree.clone()));
    }

    /// Does what is due: after every change, and at [`Self::next_deadline`].
    pub(crate) fn step(&mut self, now: Now, ledger: &mut impl Ledger) {
        let due = self.again_at.is_none_or(|at| now >= at);
        let busy = if !self.members.contains(self.me) {
            self.ask_to_play(due)
        } else if self.coordinator() == Some(self.me) {
            self.lead(due, ledger)
        } else {
            self.leading = None;
            self.follow(due)
        };
        if !busy {
            self.again_at = None;
        } else if due {
            self.again_at = Some(now + AGAIN);
        }
    }

    fn ask_to_play(&mut self, due: bool) -> bool {
        if let Some((epoch, ready)) = self.want.filter(|_| due) {
            // Whoever it is that decides.
            let all = Mask(u16::MAX).without(self.lost);
            self.say_all(all, &Agree::Want { ready, epoch });
        }
        self.want.is_some()
    }

    fn follow(&mut self, due: bool) -> bool {
        let lost = Mask(self.lost.0 | self.silent.0);
        let lost = self.members.and(lost).without(self.gone);
        let waits = self.accepted.as_ref().map(|(ballot, _)| ballot.slot);
        self.note_quorum(lost.is_empty() || self.has_majority(self.alive()));
        if due {
            let coordinator = self.coordinator();
            let told = coordinator.filter(|slot| *slot != self.me);
            // Nor is anything heard of whom somebody wanted dropped who then said no more.
            let frozen = if self.again_at.is_some() { self.frozen } else { Mask::default() };
            let lost = Mask(lost.0 | frozen.without(self.gone).0);
            if let Some(slot) = told
                && !lost.is_empty()
            {
                self.say(slot, Agree::Report { lost });
            }
            // Whoever decided may not have been able to tell; at first it only takes a round trip.
            let late = waits.filter(|slot| self.again_at.is_some() && !self.lost.contains(*slot));
            if let Some(slot) = late {
                self.say(slot, Agree::Behind);
            }
        }
        !lost.is_empty() || waits.is_some() || !self.frozen.is_empty()
    }

    /// Whether a ballot is not far beyond what we have promised: there is no end of them to run into.
    const fn is_near(&self, ballot: Ballot) -> bool {
        ballot.round <= self.promised.round.saturating_add(BALLOTS_AHEAD)
    }

    /// Whether anybody may decide this: of slots that there are, and not far from now. Our clock may
    /// stand still for a while.
    fn is_possible(&self, decision: &Decision, ledger: &impl Ledger) -> bool {
        let (left, joined) = (decision.left(), decision.joined());
        let latest = ledger.tick() + ledger.lead() + HISTORY;
        left.len() == decision.leaves.len()
            && joined.len() == decision.joins.len()
            && Mask(left.0 | joined.0).without(self.all).is_empty()
            && decision.leaves.iter().all(|leave| leave.last <= latest)
            && decision.joins.iter().all(|join| join.from <= latest)
    }

    /// Whether it may be decided in our view.
    fn is_next(&self, decision: &Decision, ledger: &impl Ledger) -> bool {
        self.is_possible(decision, ledger)
            && decision.left().without(self.members).is_empty()
            && decision.joined().and(self.members).is_empty()
    }

    /// Whether a decision that lets us play means our process, once it has a state, and a tick to come.
    fn is_ours(&self, decision: &Decision, ledger: &impl Ledger) -> bool {
        let ours = decision.joins.iter().find(|join| join.slot == self.me);
        ours.is_none_or(|join| {
            let wanted = self.want.is_some_and(|(epoch, _)| epoch == join.epoch);
            wanted && self.was_ready && join.from > ledger.confirmed()
        })
    }

    fn in_time(decision: &Decision, ledger: &impl Ledger) -> bool {
        decision.joins.iter().all(|join| join.from > ledger.confirmed())
    }

    /// Takes no more inputs of who is to leave until the next view begins, whoever asked for it: that
    /// may have been decided.
    fn freeze(&mut self, left: Mask, ledger: &mut impl Ledger) {
        self.frozen.0 |= left.0;
        ledger.freeze(self.frozen);
    }

    fn accept(&mut self, ballot: Ballot, decision: Decision, ledger: &mut impl Ledger) {
        self.promised = ballot;
        ledger.hold(decision.joins.iter().map(|join| join.from).min());
        self.accepted = Some((ballot, decision));
    }

    /// A message of another peer. `false` if no honest peer sends it.
    pub(crate) fn message(
        &mut self,
        from: Slot,
        view: u32,
        agree: Agree,
        ledger: &mut impl Ledger,
    ) -> bool {
        if let Agree::Decided(outcome) = agree {
            return self.hear_decided(from, view, outcome, ledger);
        }
        if let Agree::Want { ready, epoch } = agree {
            self.hear_want(from, ready, epoch);
            return true;
        }
        if view < self.view {
            self.tell(view, Mask::of(from));
            return true;
        }
        if !self.members.contains(from) || !self.members.contains(self.me) {
            return view >= self.view;
        }
        if view > self.view {
            self.say(from, Agree::Behind);
            return true;
        }
        match agree {
            Agree::Report { lost } => {
                self.reports.insert(from, lost.and(self.members));
            }
            Agree::Propose { ballot, joins, leaves } => {
                return self.hear_propose(from, ballot, joins, &leaves, ledger);
            }
            Agree::Accept { ballot, decision, tails } => {
                return self.hear_accept(from, ballot, decision, &tails, ledger);
            }
            Agree::Promise { ballot, tick, held, accepted } => {
                return self.hear_promise(from, ballot, Answer { tick, held, accepted }, ledger);
            }
            Agree::Accepted { ballot } => self.hear_accepted(from, ballot, ledger),
            Agree::TooLate { ballot, confirmed } => self.hear_too_late(ballot, confirmed, ledger),
            Agree::Behind | Agree::Want { .. } | Agree::Decided(_) => {}
        }
        true
    }

    fn hear_propose(
        &mut self,
        from: Slot,
        ballot: Ballot,
        joins: Mask,
        leaves: &[(Slot, Tick)],
        ledger: &mut impl Ledger,
    ) -> bool {
        let left: Mask = leaves.iter().map(|(slot, _)| *slot).collect();
        let sane = ballot.slot == from
            && self.is_near(ballot)
            && left.len() == leaves.len()
            && !left.contains(from)
            && joins.without(self.all).is_empty()
            && left.without(self.members).is_empty()
            && joins.and(self.members).is_empty();
        if !sane {
            return false;
        }
        // Only the coordinator may ask for what we would not ask for ourselves.
        let entitled = self.coordinator() == Some(from)
            || left.without(self.unheard()).is_empty() && joins.without(self.ready).is_empty();
        if !entitled || left.contains(self.me) {
            return true;
        }
        if ballot < self.promised {
            let (ballot, confirmed) = (self.promised, ledger.confirmed());
            self.say(from, Agree::TooLate { ballot, confirmed });
            return true;
        }
        (self.promised, self.asked) = (ballot, (left, joins));
        self.freeze(left, ledger);
        self.promise(from, leaves, ledger);
        true
    }

    /// Answers what we have promised to a coordinator that holds so much of who leaves.
    fn promise(&mut self, to: Slot, leaves: &[(Slot, Tick)], ledger: &impl Ledger) {
        let max = TAIL_MAX / leaves.len().max(1);
        let held = |&(slot, theirs): &(Slot, Tick)| {
            let last = ledger.held(slot);
            Held { slot, last, tail: ledger.tail(slot, theirs.min(last), max) }
        };
        let held = leaves.iter().map(held).collect();
        let tick = ledger.tick().max(ledger.confirmed());
        let (ballot, accepted) = (self.promised, self.accepted.clone());
        self.say(to, Agree::Promise { ballot, tick, held, accepted });
    }

    fn hear_accept(
        &mut self,
        from: Slot,
        ballot: Ballot,
        decision: Decision,
        tails: &[(Slot, Tail)],
        ledger: &mut impl Ledger,
    ) -> bool {
        let sane = ballot.slot == from
            && !decision.left().contains(self.me)
            && self.is_next(&decision, ledger);
        if !sane {
            return false;
        }
        if ballot != self.promised {
            return true;
        }
        // It decides what it asked for, or what has been accepted before.
        let asked = decision.left().without(self.asked.0).is_empty()
            && decision.joined().without(self.asked.1).is_empty();
        if !asked && self.accepted.as_ref().is_none_or(|(_, before)| *before != decision) {
            return false;
        }
        if !Self::in_time(&decision, ledger) {
            let confirmed = ledger.confirmed();
            self.say(from, Agree::TooLate { ballot, confirmed });
            return true;
        }
        let left = decision.left();
        for (slot, tail) in tails.iter().filter(|(slot, _)| left.contains(*slot)) {
            ledger.learn(tail, *slot);
        }
        let leaves: Vec<(Slot, Tick)> =
            decision.leaves.iter().map(|leave| (leave.slot, leave.last)).collect();
        if leaves.iter().any(|(slot, last)| ledger.held(*slot) > *last) {
            return false;
        }
        if leaves.iter().any(|(slot, last)| ledger.held(*slot) < *last) {
            // The rest follows.
            self.promise(from, &leaves, ledger);
            return true;
        }
        self.accept(ballot, decision, ledger);
        self.say(from, Agree::Accepted { ballot });
        true
    }
}
