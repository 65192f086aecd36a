//! The network's half of a session, without I/O: queues in, [`Mesh`] in the middle, outputs for a
//! shell. The native shell and the in-memory one drive this same half.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use netplay_peer::link::driver::Channel;
use netplay_peer::link::{ClockSample, CloseReason, Delivery, LinkConfig, LinkEvent, LinkInput};
use netplay_peer::lobby_client::LobbyEvent;
use netplay_peer::{Mesh, MeshEvent, MeshInput, MeshOutput};
use netplay_protocol::control::PauseMessage;
use netplay_protocol::lobby::ErrorCode;
use netplay_protocol::{Lane, Now, PeerId};
use netplay_tick::{BarrierEvent, PauseEvent};

use crate::clock::SessionTime;
use crate::conditioner::LinkConditioner;
use crate::config::SessionConfig;
use crate::event::{EndReason, SessionEvent};
use crate::queues::{
    Arrival, ArrivedInputs, COMMANDS, EVENTS_MAX, PeerReceiver, Pool, Shared, TO_GAME, peer_queues,
};
use crate::session::{Command, GameEnds, Session, ToGame, Wake};
use crate::stats::LinkStats;
use crate::timekeeper::Timekeeper;

/// The statistics of a link are this old at most, if anything happens on it.
const STATS_EVERY: Duration = Duration::from_millis(20);

/// A peer whose link is established.
struct Peer {
    queues: PeerReceiver,
    /// Taken from the queue, and waiting for the other side's credit.
    next_stream: Option<Vec<u8>>,
    stats: LinkStats,
    pings: u32,
}

/// The network's half of one session.
pub(crate) struct SessionCore {
    mesh: Mesh,
    /// The lobby server's address, for messages to people.
    server: String,
    /// Lanes of which the game is told what has left their queues.
    watched: Vec<Lane>,
    /// Boxed, because a tree's node has room for eleven peers from the first on.
    peers: BTreeMap<PeerId, Box<Peer>>,
    commands: Receiver<Command>,
    to_game: Sender<ToGame>,
    shared: Arc<Shared>,
    /// What found the hand-over to the game full. Stream packets in it are bounded by credit,
    /// events by [`EVENTS_MAX`].
    backlog: VecDeque<ToGame>,
    backlog_events: usize,
    outputs: VecDeque<MeshOutput>,
    conditioners: VecDeque<(PeerId, Option<LinkConditioner>)>,
    time: SessionTime,
    /// What the shell last said.
    now: Now,
    timekeeper: Timekeeper,
    /// When the statistics were last written for the game.
    published: Now,
    leaving: bool,
    ring: bool,
}

/// Makes both halves of a session.
pub(crate) fn session(
    link: LinkConfig,
    config: &SessionConfig,
    server: String,
    seed: u64,
    waker: Arc<dyn Wake>,
    time: SessionTime,
) -> (Session, SessionCore) {
    let (commands, commands_out) = bounded(COMMANDS);
    let (to_game, from_network) = bounded(TO_GAME);
    let shared = Arc::new(Shared::new());
    let lanes = link.lanes.clone();
    let watched = lanes.iter().filter(|(_, lane)| lane.kind.is_reliable());
    let watched = watched.filter(|(_, lane)| lane.kind.rides_datagrams());
    let watched = watched.map(|(lane, _)| lane).collect();
    let ends = GameEnds {
        commands,
        from_network,
        shared: shared.clone(),
        lanes,
        waker,
        time: time.clone(),
    };
    let mut mesh = Mesh::new(link, seed);
    if let Some(saved) = &config.resume {
        mesh.resume(saved.clone());
    }
    if let Some(login) = &config.login {
        mesh.log_in(login.clone());
    }
    let core = SessionCore {
        mesh,
        server,
        watched,
        peers: BTreeMap::new(),
        commands: commands_out,
        to_game,
        shared,
        backlog: VecDeque::new(),
        backlog_events: 0,
        outputs: VecDeque::new(),
        conditioners: VecDeque::new(),
        time,
        now: Now::ZERO,
        timekeeper: Timekeeper::default(),
        published: Now::ZERO,
        leaving: false,
        ring: false,
    };
    (Session::new(ends), core)
}

impl SessionCore {
    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Whether the session has begun to end.
    pub(crate) const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether the session is over and its last words are said.
    pub(crate) fn is_over(&self) -> bool {
        self.leaving && self.mesh.is_idle() && self.outputs.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<Now> {
        [self.mesh.next_deadline(), self.timekeeper.next_deadline()].into_iter().flatten().min()
    }

    /// The next output for the shell; never [`MeshOutput::Event`].
    pub(crate) fn poll_output(&mut self) -> Option<MeshOutput> {
        self.outputs.pop_front()
    }

    /// What the game wants for the links to a peer; to be taken after [`Self::pump`].
    pub(crate) fn poll_conditioner(&mut self) -> Option<(PeerId, Option<LinkConditioner>)> {
        self.conditioners.pop_front()
    }

    /// Takes something from the shell.
    pub(crate) fn handle(&mut self, now: Now, input: MeshInput) {
        self.now = now;
        if let MeshInput::Packet { peer, packet, channel, .. } = &input
            && let Some(peer) = self.peers.get_mut(peer)
        {
            peer.stats.bytes_received += packet.len() as u64;
            peer.stats.stream_packets_received += u64::from(*channel == Channel::Stream);
        }
        self.mesh.handle(now, input);
        self.drain();
    }

    /// Takes back the buffer of a packet that was sent.
    pub(crate) fn recycle(&mut self, now: Now, peer: PeerId, channel: Channel, buffer: Vec<u8>) {
        if channel == Channel::Stream {
            self.shared.pool.give(buffer);
        } else {
            self.mesh.handle(now, MeshInput::Link { peer, input: LinkInput::Recycle(buffer) });
            self.drain();
        }
    }

    /// Takes what the game has handed over, and what time has brought. To be called after a wake
    /// and at the deadline.
    pub(crate) fn pump(&mut self, now: Now) {
        self.time.note(now);
        self.now = now;
        self.take_commands(now);
        self.take_messages(now);
        if self.next_deadline().is_some_and(|deadline| now >= deadline) {
            self.mesh.handle(now, MeshInput::Tick);
            self.drain();
            self.keep_time(now);
            self.drain();
            self.publish_stats(now);
        } else if now.since(self.published) >= STATS_EVERY {
            // A busy link puts its deadlines off again and again.
            self.publish_stats(now);
        }
        self.refill();
    }

    fn take_commands(&mut self, now: Now) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Join(request)) => self.mesh.handle(now, MeshInput::Join(request)),
                Ok(Command::Search(search)) => self.mesh.handle(now, MeshInput::Search(search)),
                Ok(Command::Request(id, message)) => {
                    self.mesh.handle(now, MeshInput::Request { id, message });
                }
                Ok(Command::Disconnect(peer)) => {
                    let input = LinkInput::Close(CloseReason::Ended);
                    self.mesh.handle(now, MeshInput::Link { peer, input });
                }
                Ok(Command::Ping(peer)) => {
                    if let Some(entry) = self.peers.get_mut(&peer) {
                        entry.pings += 1;
                        let input = LinkInput::Ping;
                        self.mesh.handle(now, MeshInput::Link { peer, input });
                    }
                }
                Ok(Command::StartMatch) => {
                    self.timekeeper.start(now);
                    self.keep_time(now);
                }
                Ok(Command::Pause(pause)) => {
                    self.timekeeper.ask_pause(now, pause);
                    self.keep_time(now);
                }
                Ok(Command::EndMatch) => self.timekeeper.end(),
                Ok(Command::Condition(peer, conditioner)) => {
                    self.conditioners.push_back((peer, conditioner.map(|boxed| *boxed)));
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.take_messages(now);
                    self.leave(now);
                    break;
                }
            }
            self.drain();
        }
    }

    /// Ends the session: says goodbye and closes everything.
    pub(crate) fn leave(&mut self, now: Now) {
        if !core::mem::replace(&mut self.leaving, true) {
            self.mesh.handle(now, MeshInput::Leave);
            self.drain();
        }
    }

    fn take_messages(&mut self, now: Now) {
        for (&peer, entry) in &mut self.peers {
            let shared = &entry.queues.shared;
            let input = LinkInput::Consumed {
                stream: shared.stream_consumed.load(Ordering::Acquire),
                reliable: shared.reliable_consumed.load(Ordering::Acquire),
            };
            self.mesh.handle(now, MeshInput::Link { peer, input });
            let lossy = core::iter::from_fn(|| Some(entry.queues.lossy.try_recv().ok()?.bytes));
            let mut flushed = false;
            for frames in lossy.chain(entry.queues.reliable.try_iter()) {
                flushed = true;
                let input = LinkInput::Send(frames);
                self.mesh.handle(now, MeshInput::Link { peer, input });
            }
            if let Ok(inputs) = entry.queues.inputs.try_recv() {
                flushed = true;
                let input = LinkInput::Inputs(inputs);
                self.mesh.handle(now, MeshInput::Link { peer, input });
            }
            if flushed {
                self.mesh.handle(now, MeshInput::Link { peer, input: LinkInput::Flush });
            }
            if let Some(link) = self.mesh.link(peer) {
                for lane in &self.watched {
                    let stats = link.lane_stats(*lane);
                    shared.lanes[lane.index()]
                        .set_released(stats.released_messages, stats.released_bytes);
                }
            }
            while let Some(packet) =
                entry.next_stream.take().or_else(|| entry.queues.stream.try_recv().ok())
            {
                let link = self.mesh.link(peer);
                if !link.is_some_and(|link| link.can_send_stream(packet.len())) {
                    entry.next_stream = Some(packet);
                    break;
                }
                entry.queues.shared.stream_bytes.fetch_sub(packet.len(), Ordering::AcqRel);
                entry.stats.stream_packets_sent += 1;
                let input = LinkInput::SendStream(packet);
                self.mesh.handle(now, MeshInput::Link { peer, input });
            }
        }
        self.drain();
    }

    /// Corrects our copy of the shared clock, says where it stands, and does what the start and the
    /// pauses of a match want done.
    fn keep_time(&mut self, now: Now) {
        if let Some(line) = self.timekeeper.tick(now) {
            self.shared.set_mesh(self.timekeeper.view(now));
            self.mesh.handle(now, MeshInput::Clock(line));
        }
        while let Some((peer, message)) = self.timekeeper.poll_newcomer() {
            self.say_of_pause(now, peer, message);
        }
        while let Some(event) = self.timekeeper.poll_pause() {
            match event {
                PauseEvent::TellHost(message) => {
                    if let Some(host) = self.timekeeper.host() {
                        self.say_of_pause(now, host, message);
                    }
                }
                PauseEvent::TellAll(message) => {
                    for i in 0..self.timekeeper.peers().len() {
                        self.say_of_pause(now, self.timekeeper.peers()[i], message);
                    }
                }
                PauseEvent::Agreed(pause) => self.tell(SessionEvent::MatchPause(pause)),
            }
        }
        while let Some(event) = self.timekeeper.poll_event() {
            match event {
                BarrierEvent::Send(peer, message) => {
                    let input = LinkInput::Match(message);
                    self.mesh.handle(now, MeshInput::Link { peer, input });
                }
                BarrierEvent::Begins { start, running } => {
                    self.tell(SessionEvent::MatchBegins { start, running });
                }
                BarrierEvent::Failed(error) => self.tell(SessionEvent::StartFailed(error)),
            }
        }
    }

    fn say_of_pause(&mut self, now: Now, peer: PeerId, message: PauseMessage) {
        self.mesh.handle(now, MeshInput::Link { peer, input: LinkInput::Pause(message) });
    }

    fn clock_sample(&mut self, peer: PeerId, sample: &ClockSample) {
        self.timekeeper.sample(peer, sample);
        self.keep_time(sample.arrived);
    }

    fn publish_stats(&mut self, now: Now) {
        self.published = now;
        for (peer, entry) in &mut self.peers {
            if let Some(link) = self.mesh.link(*peer) {
                entry.stats.set_path(link.path());
                entry.stats.bulk_incoming = link.bulk_progress();
                entry.stats.clock = self.timekeeper.pair(now, *peer);
                entry.stats.media = link.carrier() == Channel::Media;
                entry.stats.moves = link.moves();
                for (lane, _) in link.lanes().iter() {
                    entry.stats.lanes[lane.index()] = link.lane_stats(lane);
                }
            }
            entry.queues.shared.set_stats(entry.stats);
        }
    }

    /// Sorts the mesh's outputs: events for the game, the rest for the shell.
    fn drain(&mut self) {
        while let Some(output) = self.mesh.poll_output() {
            match output {
                MeshOutput::Event(MeshEvent::Lobby(event)) => {
                    self.note_lobby(&event);
                    if let Some(event) = self.lobby_event(event) {
                        self.tell(event);
                    }
                }
                MeshOutput::Event(MeshEvent::PeerFound(peer)) => {
                    self.tell(SessionEvent::PeerFound(peer));
                }
                MeshOutput::Event(MeshEvent::Link { peer, event }) => self.link_event(peer, event),
                MeshOutput::Clock { peer, sample } => self.clock_sample(peer, &sample),
                MeshOutput::Unused(buffer) => self.shared.pool.give(buffer),
                MeshOutput::Transmit { peer, connection, channel, packet } => {
                    if let Some(entry) = self.peers.get_mut(&peer)
                        && channel != Channel::Control
                    {
                        entry.stats.bytes_sent += packet.as_ref().len() as u64;
                    }
                    let output = MeshOutput::Transmit { peer, connection, channel, packet };
                    self.outputs.push_back(output);
                }
                output => self.outputs.push_back(output),
            }
        }
        if core::mem::take(&mut self.ring) {
            self.shared.bell.ring();
        }
    }

    fn link_event(&mut self, peer: PeerId, event: LinkEvent) {
        match event {
            LinkEvent::Deliver(delivery) => self.deliver(peer, delivery),
            LinkEvent::Inputs { tick, bytes, again } => {
                // The link keeps its buffer: more datagrams bring inputs than take some away.
                let mut copy = self.shared.pool.small();
                copy.extend_from_slice(&bytes);
                self.shared.push_inputs(ArrivedInputs { peer, tick, bytes: copy, again });
                let input = LinkInput::Recycle(bytes);
                self.mesh.handle(self.now, MeshInput::Link { peer, input });
                self.ring = true;
            }
            LinkEvent::Established => {
                let (sender, queues) = peer_queues();
                let stats = LinkStats::default();
                let entry = Peer { queues, next_stream: None, stats, pings: 0 };
                self.peers.insert(peer, Box::new(entry));
                self.timekeeper.connected(peer);
                self.push(ToGame::Queues(peer, sender));
                self.tell(SessionEvent::PeerConnected(peer));
                self.keep_time(self.now);
            }
            LinkEvent::Interrupted { reason, silence } => {
                self.tell(SessionEvent::PeerInterrupted { peer, reason, silence });
            }
            LinkEvent::Resumed { silence } => {
                self.tell(SessionEvent::PeerResumed { peer, silence });
            }
            LinkEvent::Closed(reason) => {
                self.peers.remove(&peer);
                self.timekeeper.closed(self.now, peer);
                self.tell(SessionEvent::PeerClosed { peer, reason });
            }
            LinkEvent::Match(message) => {
                self.timekeeper.message(self.now, peer, message);
                self.keep_time(self.now);
            }
            LinkEvent::Pause(message) => {
                self.timekeeper.pause_message(self.now, peer, message);
                self.keep_time(self.now);
            }
            LinkEvent::Pong(rtt) => {
                if let Some(entry) = self.peers.get_mut(&peer)
                    && entry.pings > 0
                {
                    entry.pings -= 1;
                    self.tell(SessionEvent::Pong { peer, rtt });
                }
            }
        }
    }

    fn deliver(&mut self, peer: PeerId, delivery: Delivery) {
        let arrival = Arrival { peer, delivery };
        if arrival.delivery.reliable {
            self.push(ToGame::Reliable(arrival));
        } else {
            self.shared.push_lossy(arrival);
            self.ring = true;
        }
    }

    fn tell(&mut self, event: SessionEvent) {
        self.push(ToGame::Event(Box::new(event)));
    }

    fn push(&mut self, item: ToGame) {
        self.ring = true;
        if self.backlog.is_empty() {
            match self.to_game.try_send(item) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(item)) => self.keep(item),
            }
        } else {
            self.keep(item);
        }
    }

    /// The game does not look. An interruption that is over by the time it does is no news.
    fn keep(&mut self, item: ToGame) {
        if let ToGame::Event(event) = &item
            && let SessionEvent::PeerResumed { peer: resumed, .. } = &**event
        {
            let interrupts = |event: &SessionEvent| matches!(event, SessionEvent::PeerInterrupted { peer, .. } if peer == resumed);
            let last = self
                .backlog
                .iter()
                .rposition(|kept| matches!(kept, ToGame::Event(event) if interrupts(event)));
            if let Some(place) = last {
                self.backlog.remove(place);
                self.backlog_events -= 1;
                return;
            }
        }
        if !matches!(item, ToGame::Reliable(_)) {
            self.backlog_events += 1;
        }
        if self.backlog_events <= EVENTS_MAX {
            self.backlog.push_back(item);
        } else if self.backlog_events == EVENTS_MAX + 1 {
            let ended = SessionEvent::Ended(EndReason::EventsOverflowed);
            self.backlog.push_back(ToGame::Event(Box::new(ended)));
        }
    }

    /// Hands over what waited, as far as there is room, and ends a session whose game is gone.
    fn refill(&mut self) {
        let mut handed_over = false;
        while let Some(item) = self.backlog.pop_front() {
            let is_event = !matches!(item, ToGame::Reliable(_));
            match self.to_game.try_send(item) {
                Ok(()) => {
                    handed_over = true;
                    self.backlog_events -= usize::from(is_event);
                }
                Err(TrySendError::Full(item)) => {
                    self.backlog.push_front(item);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => self.backlog_events -= usize::from(is_event),
            }
        }
        if handed_over {
            self.shared.bell.ring();
        }
    }

    /// Whether so many events wait that the session has to end.
    pub(crate) const fn overflowed(&self) -> bool {
        self.backlog_events > EVENTS_MAX
    }

    /// Who we are, and who leads.
    fn note_lobby(&mut self, event: &LobbyEvent) {
        match event {
            LobbyEvent::Online { me } if self.timekeeper.keep(*me) => {
                self.mesh.handle(self.now, MeshInput::Clock(None));
            }
            LobbyEvent::Joined(lobby) | LobbyEvent::Restored(lobby) => {
                self.timekeeper.set_host(lobby.host);
            }
            LobbyEvent::HostChanged(host) => self.timekeeper.set_host(*host),
            _ => {}
        }
    }

    fn lobby_event(&self, event: LobbyEvent) -> Option<SessionEvent> {
        Some(match event {
            LobbyEvent::Online { me } => SessionEvent::Online { me },
            LobbyEvent::Offline { why, retry_in } => {
                SessionEvent::Offline { why: format!("{}: {why}", self.server), retry_in }
            }
            LobbyEvent::Joined(lobby) => SessionEvent::Joined(lobby),
            LobbyEvent::Restored(lobby) => SessionEvent::Restored(lobby),
            LobbyEvent::Saved(session) => SessionEvent::Saved(session),
            LobbyEvent::JoinRefused { code: ErrorCode::Superseded, .. } => {
                SessionEvent::Ended(EndReason::Superseded)
            }
            LobbyEvent::JoinRefused { code, text } => SessionEvent::JoinRefused { code, text },
            LobbyEvent::LobbyGone => SessionEvent::LobbyGone,
            LobbyEvent::Removed(reason) => SessionEvent::Removed(reason),
            LobbyEvent::Lobbies { lobbies, more } => SessionEvent::Lobbies { lobbies, more },
            LobbyEvent::Changed(lobby) => SessionEvent::LobbyChanged(lobby),
            LobbyEvent::News(news) => SessionEvent::LobbyNews(news),
            LobbyEvent::HostChanged(host) => SessionEvent::HostChanged(host),
            LobbyEvent::MemberLeft(peer, reason) => SessionEvent::PeerLeft { peer, reason },
            LobbyEvent::MemberOffline(peer) => SessionEvent::PeerOffline(peer),
            LobbyEvent::MemberOnline(peer, _) => SessionEvent::PeerOnline(peer),
            LobbyEvent::MemberJoined(..) | LobbyEvent::Signal(..) => return None,
        })
    }
}
