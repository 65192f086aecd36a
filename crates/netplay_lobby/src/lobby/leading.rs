//! Who leads a lobby, and who is lost to all others.

use netplay_protocol::lobby::Member;
use netplay_protocol::{Now, PeerId};

use super::Lobby;

impl Lobby {
    /// Whoever is here longest leads: if possible an online player, else somebody online.
    pub(super) fn elect(&mut self) -> Option<PeerId> {
        let mut best: Option<&Member> = None;
        for member in &self.members {
            let worth = |member: &Member| (member.online, member.slot.is_some());
            if best.is_none_or(|best| worth(member) > worth(best)) {
                best = Some(member);
            }
        }
        let host = best?.peer;
        Some(self.promote(host))
    }

    /// Lets this member lead.
    pub(crate) fn promote(&mut self, peer: PeerId) -> PeerId {
        self.host = peer;
        self.term = self.term.saturating_add(1).max(self.least_term);
        peer
    }

    /// An offline host leads on until then, if somebody else could lead and no match runs: a match has no use for
    /// another one as long as its players are connected.
    pub(crate) fn watch_host(&mut self, until: Now) {
        let absent = self.returning.is_none() && !self.playing && !self.is_online(self.host);
        let waits = absent && self.members.iter().any(|member| member.online);
        self.host_waits = waits.then(|| self.host_waits.unwrap_or(until));
    }

    /// The next host, if the one before was offline for too long.
    pub(crate) fn replace_absent_host(&mut self, now: Now) -> Option<PeerId> {
        self.host_waits.take_if(|until| *until <= now)?;
        self.elect()
    }

    /// The next host, if everybody else has lost the one before, whose seat is kept.
    pub(crate) fn replace_lost_host(&mut self) -> Option<PeerId> {
        let is_lost = self.has(self.host) && self.is_lost_to_all(self.host);
        if is_lost { self.elect() } else { None }
    }

    pub(crate) fn report(&mut self, lost: PeerId, by: PeerId) {
        if lost != by && self.has(lost) {
            self.reports.insert((lost, by));
        }
    }

    /// A member that is lost to all others, unless seats are kept.
    pub(crate) fn lost(&self) -> Option<PeerId> {
        let mut peers = self.members.iter().map(|member| member.peer);
        peers.find(|peer| self.options.seat_secs == 0 && self.is_lost_to_all(*peer))
    }

    /// Whether it is offline and every online member has lost it; nobody online means nobody knows.
    fn is_lost_to_all(&self, peer: PeerId) -> bool {
        let mut online = self.members.iter().filter(|member| member.online).peekable();
        !self.is_online(peer)
            && online.peek().is_some()
            && online.all(|other| self.reports.contains(&(peer, other.peer)))
    }

    fn is_online(&self, peer: PeerId) -> bool {
        self.member(peer).is_some_and(|member| member.online)
    }
}
