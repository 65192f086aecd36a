//! From a lobby to its match: ready checks and countdowns.

use netplay_protocol::{Now, PeerId};

use super::Lobby;

/// What has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A ready check: who is not ready.
    ReadyCheck { missing: Vec<PeerId> },
    /// A countdown, and the match begins.
    Countdown,
    /// A countdown, and it does not.
    Cancelled,
}

impl Lobby {
    pub(crate) const fn is_starting(&self) -> bool {
        self.ready_check.is_some() || self.countdown.is_some()
    }

    /// Nobody is ready until it says so.
    pub(crate) fn check_ready(&mut self, until: Now) {
        self.ready_check = Some(until);
        self.members.iter_mut().for_each(|member| member.ready = false);
    }

    pub(crate) const fn count_down(&mut self, until: Now) {
        self.countdown = Some(until);
    }

    /// Players that are not ready.
    fn missing(&self) -> Vec<PeerId> {
        let missing = self.members.iter().filter(|member| member.slot.is_some() && !member.ready);
        missing.map(|member| member.peer).collect()
    }

    /// A member says whether it is ready. Gives whether that is new, and what ends with it.
    pub(crate) fn set_ready(&mut self, peer: PeerId, ready: bool) -> (bool, Option<Ended>) {
        let Some(member) = self.member_mut(peer) else { return (false, None) };
        let (is_new, plays) = (member.ready != ready, member.slot.is_some());
        member.ready = ready;
        let ended = if ready || !plays {
            self.all_ready()
        } else if self.ready_check.take().is_some() {
            Some(Ended::ReadyCheck { missing: self.missing() })
        } else if is_new && self.countdown.take().is_some() {
            Some(Ended::Cancelled)
        } else {
            None
        };
        (is_new, ended)
    }

    /// A ready check for which nobody is waited any more ends.
    fn all_ready(&mut self) -> Option<Ended> {
        self.ready_check?;
        let missing = self.missing();
        missing.is_empty().then(|| {
            self.ready_check = None;
            Ended::ReadyCheck { missing }
        })
    }

    /// A player does not play any more.
    pub(crate) fn player_left(&mut self) -> Option<Ended> {
        match self.countdown.take() {
            Some(_) => Some(Ended::Cancelled),
            None => self.all_ready(),
        }
    }

    /// Ends a countdown without a match.
    pub(crate) const fn cancel(&mut self) -> bool {
        self.countdown.take().is_some()
    }

    /// What is over by now.
    pub(crate) fn start_due(&mut self, now: Now) -> Option<Ended> {
        if self.ready_check.is_some_and(|until| until <= now) {
            self.ready_check = None;
            return Some(Ended::ReadyCheck { missing: self.missing() });
        }
        if self.countdown.is_some_and(|until| until <= now) {
            self.countdown = None;
            self.playing = true;
            return Some(Ended::Countdown);
        }
        None
    }
}
