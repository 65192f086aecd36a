//! What a session's network half knows about time: the clock that all share, the start of a match and
//! its pauses.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_peer::link::ClockSample;
use netplay_protocol::control::{PauseMessage, StartMessage};
use netplay_protocol::datagram::ClockLine;
use netplay_protocol::{MeshTime, Now, PeerId};
use netplay_tick::{
    BarrierEvent, Exchange, MeshClock, PairStatus, PauseEvent, SharedPause, StartBarrier,
    StartError,
};

use crate::clock::MeshView;

/// Messages about a start or a pause that a peer may send in a second; a start takes about ten.
const MESSAGES_PER_SECOND: u32 = 50;

#[derive(Debug, Default)]
pub(crate) struct Timekeeper {
    /// From the moment on at which we know who we are.
    clock: Option<MeshClock>,
    /// The copy of which the links were told.
    told: Option<ClockLine>,
    me: Option<PeerId>,
    host: Option<PeerId>,
    peers: Vec<PeerId>,
    barrier: StartBarrier,
    refused: Option<StartError>,
    pause: SharedPause,
    /// Who came while we play, and what to tell them of pauses.
    newcomers: VecDeque<(PeerId, PauseMessage)>,
    /// Since when, and how many messages about starts and pauses have come, of all peers together.
    messages: (Now, u32),
}

impl Timekeeper {
    /// We know who we are; true if that is news.
    pub(crate) fn keep(&mut self, me: PeerId) -> bool {
        let news = self.clock.is_none();
        self.me = Some(me);
        self.clock.get_or_insert_with(|| MeshClock::new(me));
        news
    }

    /// Who leads the lobby, and may start a match.
    pub(crate) fn set_host(&mut self, host: PeerId) {
        self.host = Some(host);
        self.pause.set_hosting(self.me == Some(host));
    }

    pub(crate) fn connected(&mut self, peer: PeerId) {
        self.peers.push(peer);
        if let Some(clock) = &mut self.clock {
            clock.add(peer);
        }
        self.barrier.add(peer);
        let latest = self.pause.latest().map(PauseMessage::Agreed);
        self.newcomers.extend(latest.map(|message| (peer, message)));
    }

    /// What the next newcomer is to be told of pauses.
    pub(crate) fn poll_newcomer(&mut self) -> Option<(PeerId, PauseMessage)> {
        self.newcomers.pop_front()
    }

    /// Whether a peer's word about the match counts: the host's, and that of anybody if we lead and were
    /// away.
    fn leads(&self, peer: PeerId) -> bool {
        self.host == Some(peer) || (self.host == self.me && self.barrier.is_idle())
    }

    pub(crate) fn closed(&mut self, now: Now, peer: PeerId) {
        self.peers.retain(|other| *other != peer);
        if let Some(clock) = &mut self.clock {
            clock.remove(peer);
        }
        let (mesh, delay) = (self.mesh_in_sync(now), self.longest_delay(now));
        self.barrier.remove(now, mesh, delay, peer);
    }

    pub(crate) fn sample(&mut self, peer: PeerId, sample: &ClockSample) {
        let Some(clock) = &mut self.clock else { return };
        let ClockSample { arrived, departure, echo, note } = *sample;
        clock.exchange(peer, &Exchange { arrived, departure, echo });
        if let Some(note) = note {
            clock.reported(arrived, peer, departure, note);
        }
    }

    pub(crate) fn pair(&self, now: Now, peer: PeerId) -> Option<PairStatus> {
        self.clock.as_ref()?.pair(now, peer)
    }

    /// Starts a match with all peers, if we lead.
    pub(crate) fn start(&mut self, now: Now) {
        if self.host.is_none() || self.host != self.me {
            self.refused = Some(StartError::NotHost);
            return;
        }
        if let Some(clock) = &mut self.clock {
            clock.found_alone(now);
        }
        let (mesh, delay) = (self.mesh_in_sync(now), self.longest_delay(now));
        self.barrier.start(now, mesh, delay, self.peers.iter().copied());
    }

    /// Our game wants the match paused, or going on.
    pub(crate) fn ask_pause(&mut self, now: Now, hold: bool) {
        let (mesh, delay) = (self.mesh(now), self.longest_delay(now));
        self.pause.ask(now, mesh, delay, hold);
    }

    /// A peer's message about a pause.
    pub(crate) fn pause_message(&mut self, now: Now, peer: PeerId, message: PauseMessage) {
        if self.may_say_more(now) {
            let (mesh, delay) = (self.mesh(now), self.longest_delay(now));
            self.pause.message(now, mesh, delay, self.leads(peer), message);
        }
    }

    /// Whether the peers have not said too much about the match in this second.
    fn may_say_more(&mut self, now: Now) -> bool {
        let (since, count) = &mut self.messages;
        if now.since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= MESSAGES_PER_SECOND * self.peers.len().max(1) as u32
    }

    /// The match is over.
    pub(crate) fn end(&mut self) {
        self.pause.end();
        self.barrier.end();
        if let Some(clock) = &mut self.clock {
            clock.set_playing(false);
        }
    }

    /// A peer's message about the start.
    pub(crate) fn message(&mut self, now: Now, peer: PeerId, message: StartMessage) {
        let counts = match message {
            StartMessage::Propose { .. } | StartMessage::Commit { .. } => self.host == Some(peer),
            StartMessage::Running { .. } => self.leads(peer),
            _ => true,
        };
        if !self.may_say_more(now) || !counts {
            return;
        }
        let (mesh, delay) = (self.mesh_in_sync(now), self.longest_delay(now));
        self.barrier.message(now, mesh, delay, peer, message);
    }

    pub(crate) fn next_deadline(&self) -> Option<Now> {
        [self.barrier.next_deadline(), self.pause.next_deadline()].into_iter().flatten().min()
    }

    /// Time passed: the copy is corrected. If it moved: what the links are to be told.
    pub(crate) fn tick(&mut self, now: Now) -> Option<Option<ClockLine>> {
        if self.barrier.next_deadline().is_some_and(|at| now >= at) {
            let (mesh, delay) = (self.mesh_in_sync(now), self.longest_delay(now));
            self.barrier.tick(now, mesh, delay);
        }
        if self.pause.next_deadline().is_some_and(|at| now >= at) {
            let (mesh, delay) = (self.mesh(now), self.longest_delay(now));
            self.pause.tick(now, mesh, delay);
        }
        let clock = self.clock.as_mut()?;
        clock.update(now);
        let line = clock.line();
        let news = line != self.told;
        self.told = line;
        news.then_some(line)
    }

    /// What the game may know.
    pub(crate) fn view(&self, now: Now) -> Option<MeshView> {
        let clock = self.clock.as_ref()?;
        Some(MeshView { line: clock.line()?, status: clock.status(now)? })
    }

    /// What is to be done about the start. A match that begins needs a smooth clock.
    pub(crate) fn poll_event(&mut self) -> Option<BarrierEvent> {
        if let Some(error) = self.refused.take() {
            return Some(BarrierEvent::Failed(error));
        }
        let event = self.barrier.poll_output()?;
        if let (BarrierEvent::Begins { .. }, Some(clock)) = (&event, &mut self.clock) {
            clock.set_playing(true);
            self.pause.begin();
        }
        Some(event)
    }

    /// What is to be done about a pause.
    pub(crate) fn poll_pause(&mut self) -> Option<PauseEvent> {
        self.pause.poll_output()
    }

    /// Whom all are.
    pub(crate) fn peers(&self) -> &[PeerId] {
        &self.peers
    }

    /// Who leads the lobby.
    pub(crate) const fn host(&self) -> Option<PeerId> {
        self.host
    }

    fn mesh(&self, now: Now) -> Option<MeshTime> {
        self.clock.as_ref()?.show(now)
    }

    fn mesh_in_sync(&self, now: Now) -> Option<MeshTime> {
        let clock = self.clock.as_ref()?;
        let status = clock.status(now)?;
        status.out_of_sync().is_none().then(|| clock.show(now)).flatten()
    }

    /// The longest one-way delay to any peer, in most cases.
    fn longest_delay(&self, now: Now) -> Duration {
        let pairs = self.peers.iter().filter_map(|peer| self.pair(now, *peer));
        pairs.map(|pair| pair.path.delay + 2 * pair.path.jitter).max().unwrap_or_default()
    }
}
