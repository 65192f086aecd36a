//! Link conditioners in the in-memory network: the same pipes as over WebRTC, on the virtual clock.
//!
//! Datagrams pass them in both directions. The reliable channels, which are not made of packets
//! here, take over the delay and nothing else, as they do of the network's own conditions.

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_peer::link::driver::ConnectionId;
use netplay_protocol::{Now, PeerId};
use netplay_simnet::{Conditions, Pipe, mix_seed};

use crate::conditioner::LinkConditioner;

/// A packet of the receiver's connection.
pub(super) type Packet = (ConnectionId, Vec<u8>);

/// Whose conditioner, and for the link to whom.
type Link = (PeerId, PeerId);

/// The conditioners of all players.
#[derive(Default)]
pub(super) struct Conditioners {
    /// `None` where a player wants none.
    links: BTreeMap<Link, Option<Pipes>>,
}

struct Pipes {
    outgoing: Pipe<Packet>,
    incoming: Pipe<Packet>,
}

impl Pipes {
    fn new(conditioner: LinkConditioner, (me, peer): Link) -> Self {
        let LinkConditioner { outgoing, incoming, seed } = conditioner;
        let numbers = [me, peer].map(|id| id.as_u128() as u64);
        let seed = numbers.into_iter().fold(seed, mix_seed);
        Self {
            outgoing: Pipe::new(outgoing, mix_seed(seed, 0)),
            incoming: Pipe::new(incoming, mix_seed(seed, 1)),
        }
    }

    fn set(&mut self, outgoing: Conditions, incoming: Conditions) {
        self.outgoing.set_conditions(outgoing);
        self.incoming.set_conditions(incoming);
    }
}

impl Conditioners {
    /// A connection begins: `default` holds unless the player wanted something else for this peer.
    pub(super) fn begin(&mut self, me: PeerId, peer: PeerId, default: Option<&LinkConditioner>) {
        let link = (me, peer);
        let pipes = || default.map(|conditioner| Pipes::new(conditioner.clone(), link));
        self.links.entry(link).or_insert_with(pipes);
    }

    pub(super) fn set(&mut self, me: PeerId, peer: PeerId, wanted: Option<LinkConditioner>) {
        let link = (me, peer);
        let pipes = self.links.entry(link).or_default();
        match (pipes, wanted) {
            (Some(pipes), Some(wanted)) => pipes.set(wanted.outgoing, wanted.incoming),
            // What is under way keeps its time.
            (Some(pipes), None) => pipes.set(Conditions::perfect(), Conditions::perfect()),
            (pipes @ None, wanted) => *pipes = wanted.map(|wanted| Pipes::new(wanted, link)),
        }
    }

    /// What the conditioners of both ends add to the delay of one direction.
    pub(super) fn delay(&self, from: PeerId, to: PeerId) -> Duration {
        let pipes = |link| self.links.get(&link).and_then(Option::as_ref);
        let outgoing = pipes((from, to)).map(|pipes| pipes.outgoing.conditions().delay);
        let incoming = pipes((to, from)).map(|pipes| pipes.incoming.conditions().delay);
        outgoing.unwrap_or_default().saturating_add(incoming.unwrap_or_default())
    }

    /// Takes what `from` sends; gives it back if nothing is in its way.
    pub(super) fn send(
        &mut self,
        now: Now,
        from: PeerId,
        to: PeerId,
        packet: Packet,
    ) -> Option<Packet> {
        match self.links.get_mut(&(from, to)) {
            Some(Some(pipes)) => pipes.outgoing.send(now, packet.1.len(), packet),
            Some(None) | None => return Some(packet),
        }
        None
    }

    /// Takes what arrives at `to`; gives it back if nothing is in its way.
    pub(super) fn receive(
        &mut self,
        now: Now,
        from: PeerId,
        to: PeerId,
        packet: Packet,
    ) -> Option<Packet> {
        match self.links.get_mut(&(to, from)) {
            Some(Some(pipes)) => pipes.incoming.send(now, packet.1.len(), packet),
            Some(None) | None => return Some(packet),
        }
        None
    }

    /// What has come through on its way out: from whom, to whom, and what.
    pub(super) fn poll_sent(&mut self, now: Now) -> Option<(PeerId, PeerId, Packet)> {
        self.links
            .iter_mut()
            .find_map(|((me, peer), pipes)| Some((*me, *peer, pipes.as_mut()?.outgoing.poll(now)?)))
    }

    /// What has come through on its way in.
    pub(super) fn poll_received(&mut self, now: Now) -> Option<(PeerId, PeerId, Packet)> {
        self.links
            .iter_mut()
            .find_map(|((me, peer), pipes)| Some((*peer, *me, pipes.as_mut()?.incoming.poll(now)?)))
    }

    pub(super) fn next_deadline(&self) -> Option<Now> {
        let pipes = self.links.values().flatten();
        pipes
            .flat_map(|pipes| [pipes.outgoing.next_deadline(), pipes.incoming.next_deadline()])
            .flatten()
            .min()
    }
}
