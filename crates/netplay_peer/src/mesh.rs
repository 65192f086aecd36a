//! One player: the lobby connection and a link to every other member.
//!
//! The lobby introduces, or a room of a matchbox server ([`crate::room_client`]), with the same events; links connect. When the lobby server is lost, links live on. When a link is
//! lost, the server is told, so that the seat of a killed player becomes free at once.
//!
//! | lobby says | the mesh does |
//! |---|---|
//! | joined, with members | starts a link to each member that is online |
//! | a member joined, or is back online | starts a link, unless there is one |
//! | a signal from a member | hands it to its link; a fresh offer makes one if needed, or is told that we ended it |
//! | a member went offline | its link waits less long in silence |
//! | a member left | closes its link |
//!
//! A link that is lost while its member is still in the lobby is made anew: at once if the other side
//! began anew, else after a pause that doubles.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use netplay_protocol::datagram::ClockLine;
use netplay_protocol::limits::{LOBBY_MEMBERS_MAX, LOBBY_SPECTATORS_MAX};
use netplay_protocol::lobby::{ClientMessage, LobbyState, Login, Search, Signal, SignalBody};
use netplay_protocol::{Now, PeerId};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::introducer::{Introducer, SocketTarget};
use crate::link::driver::{Channel, ConnectionId, DriverCommand, DriverEvent};
use crate::link::{
    ClockSample, CloseReason, Link, LinkConfig, LinkEvent, LinkInput, LinkOutput, Packet, Previous,
};
use crate::lobby_client::{JoinRequest, LobbyEvent, LobbyInput, LobbyOutput, SavedSession};

/// What can happen.
#[derive(Debug)]
pub enum MeshInput {
    /// Connect to the server and join.
    Join(JoinRequest),
    /// Ask for public lobbies.
    Search(Search),
    /// Ask for something in our lobby; see [`LobbyInput::Request`].
    Request {
        /// The game's number for it.
        id: u64,
        /// What.
        message: Box<ClientMessage>,
    },
    /// Leave the lobby, end all links and the session.
    Leave,
    /// The socket to the server is open.
    SocketOpened,
    /// A text frame arrived on it.
    SocketText(String),
    /// It closed, or could not be opened.
    SocketClosed(String),
    /// From the driver of a peer.
    Driver {
        /// Whose.
        peer: PeerId,
        /// What.
        event: DriverEvent,
    },
    /// A packet arrived.
    Packet {
        /// From whom.
        peer: PeerId,
        /// On which connection.
        connection: ConnectionId,
        /// On which channel.
        channel: Channel,
        /// What.
        packet: Vec<u8>,
    },
    /// Where our copy of the mesh clock stands, for the others; `None`: there is none.
    Clock(Option<ClockLine>),
    /// Something for one link: sending, pings, credit, closing.
    Link {
        /// Whose.
        peer: PeerId,
        /// What.
        input: LinkInput,
    },
    /// This machine has other addresses than before.
    NetworkChanged,
    /// Time passed.
    Tick,
}

/// What it wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum MeshOutput {
    /// Open a socket to the server.
    OpenSocket(SocketTarget),
    /// Send a text frame on it.
    SendText(String),
    /// Close it, after what was sent.
    CloseSocket,
    /// For the driver of a peer.
    Driver {
        /// Whose.
        peer: PeerId,
        /// What.
        command: DriverCommand,
    },
    /// Send a packet.
    Transmit {
        /// To whom.
        peer: PeerId,
        /// On which connection.
        connection: ConnectionId,
        /// On which channel.
        channel: Channel,
        /// What.
        packet: Packet,
    },
    /// What a datagram tells about a peer's clock.
    Clock {
        /// Whose.
        peer: PeerId,
        /// What.
        sample: ClockSample,
    },
    /// For the game.
    Event(MeshEvent),
    /// A packet's buffer that is no longer needed, for a pool.
    Unused(Vec<u8>),
}

/// What a game hears.
#[derive(Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// About the lobby; never [`LobbyEvent::Signal`].
    Lobby(LobbyEvent),
    /// Another member is there, and a link to it is being made.
    PeerFound(PeerId),
    /// About the link to a peer.
    Link {
        /// Whose.
        peer: PeerId,
        /// What.
        event: LinkEvent,
    },
}

#[derive(Debug, Default)]
struct Member {
    /// Boxed, because a tree's node has room for eleven members from the first on.
    link: Option<Box<Link>>,
    /// The last numbers used with this member.
    used: Previous,
    offline: bool,
    /// Which start of its game we know.
    epoch: u32,
    /// The two games do not fit, or we ended the link on purpose: no new one is made by ourselves.
    refused: bool,
    /// Of these: we ended the link.
    ended: bool,
    /// It left the lobby; only its link's last words remain.
    gone: bool,
    again: Again,
}

/// When to make a link again, after one was lost.
#[derive(Debug, Default)]
struct Again {
    at: Option<Now>,
    /// Links that were lost, one after another.
    losses: u32,
}

/// From the loss of a link to the next one, doubled after each that is not established.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);

impl Member {
    fn next_deadline(&self) -> Option<Now> {
        let link = self.link.as_deref().and_then(Link::next_deadline);
        let again = self.again.at.filter(|_| self.link.is_none());
        link.into_iter().chain(again).min()
    }
}

impl Again {
    /// A link is over: is there to be another?
    fn note_end(&mut self, now: Now, reason: &CloseReason) {
        match reason {
            CloseReason::Replaced => self.at = Some(now),
            CloseReason::Lost | CloseReason::ConnectTimeout(_) => {
                let pause = AGAIN * 2_u32.saturating_pow(self.losses.min(8));
                self.losses += 1;
                self.at = Some(now + pause.min(AGAIN_MAX));
            }
            _ => {}
        }
    }
}

/// The machine of one player.
#[derive(Debug)]
pub struct Mesh {
    link_config: LinkConfig,
    introducer: Introducer,
    me: Option<PeerId>,
    members: BTreeMap<PeerId, Member>,
    /// Numbers of links.
    rng: ChaCha8Rng,
    /// For links that begin, once somebody keeps a clock.
    clock: Option<Option<ClockLine>>,
    outputs: VecDeque<MeshOutput>,
}

impl Mesh {
    /// A player of the game that `link_config.hello` names. `seed` spreads the back-off of many
    /// players.
    pub fn new(link_config: LinkConfig, seed: u64) -> Self {
        Self {
            introducer: Introducer::new(
                link_config.hello.game.clone(),
                link_config.hello.build.clone(),
                seed,
            ),
            link_config,
            me: None,
            members: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0x6c69_6e6b),
            clock: None,
            outputs: VecDeque::new(),
        }
    }

    /// Shows the lobby server who we are; see [`LobbyClient::log_in`](crate::LobbyClient::log_in).
    pub fn log_in(&mut self, login: Login) {
        self.introducer.log_in(login);
    }

    /// Takes up this session when it connects first; see
    /// [`LobbyClient::resume`](crate::LobbyClient::resume).
    pub fn resume(&mut self, saved: SavedSession) {
        self.introducer.resume(saved);
    }

    /// The link to a peer, if there is one that is not over.
    pub fn link(&self, peer: PeerId) -> Option<&Link> {
        self.members.get(&peer)?.link.as_deref().filter(|link| !link.is_closed())
    }

    /// Whether nothing is left to do: all links ended, no socket wanted.
    pub fn is_idle(&self) -> bool {
        self.next_deadline().is_none() && self.outputs.is_empty()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<MeshOutput> {
        self.outputs.pop_front()
    }

    /// When to send the next [`MeshInput::Tick`].
    pub fn next_deadline(&self) -> Option<Now> {
        let members = self.members.values().filter_map(Member::next_deadline);
        members.chain(self.introducer.next_deadline()).min()
    }

    /// Takes one input; then drain [`Self::poll_output`].
    pub fn handle(&mut self, now: Now, input: MeshInput) {
        match input {
            MeshInput::Join(request) => self.lobby(now, LobbyInput::Join(request)),
            MeshInput::Search(search) => self.lobby(now, LobbyInput::Search(search)),
            MeshInput::Request { id, message } => {
                self.lobby(now, LobbyInput::Request { id, message });
            }
            MeshInput::Leave => self.leave(now),
            MeshInput::SocketOpened => self.lobby(now, LobbyInput::SocketOpened),
            MeshInput::SocketText(text) => self.lobby(now, LobbyInput::SocketText(text)),
            MeshInput::SocketClosed(why) => self.lobby(now, LobbyInput::SocketClosed(why)),
            MeshInput::Driver { peer, event } => self.drive(now, peer, LinkInput::Driver(event)),
            MeshInput::Packet { peer, connection, channel, packet } => {
                self.drive(now, peer, LinkInput::Packet { connection, channel, packet });
            }
            MeshInput::Clock(line) => self.set_clock(now, line),
            MeshInput::NetworkChanged => self.network_changed(now),
            MeshInput::Link { peer, input } => self.drive(now, peer, input),
            MeshInput::Tick => self.tick(now),
        }
    }

    fn set_clock(&mut self, now: Now, line: Option<ClockLine>) {
        self.clock = Some(line);
        for link in self.members.values_mut().filter_map(|member| member.link.as_deref_mut()) {
            link.handle(now, LinkInput::Clock(line));
        }
    }

    fn network_changed(&mut self, now: Now) {
        self.lobby(now, LobbyInput::NetworkChanged);
        let peers: Vec<_> = self.members.keys().copied().collect();
        for peer in peers {
            self.drive(now, peer, LinkInput::NetworkChanged);
        }
    }

    fn event(&mut self, event: MeshEvent) {
        self.outputs.push_back(MeshOutput::Event(event));
    }

    fn tick(&mut self, now: Now) {
        if self.introducer.next_deadline().is_some_and(|deadline| now >= deadline) {
            self.lobby(now, LobbyInput::Tick);
        }
        let due = |member: &Member| member.next_deadline().is_some_and(|at| now >= at);
        while let Some(peer) = self.members.iter().find(|(_, m)| due(m)).map(|(peer, _)| *peer) {
            let member = self.members.get_mut(&peer);
            if member.is_some_and(|member| member.again.at.take_if(|at| now >= *at).is_some()) {
                self.make_again(now, peer);
            } else {
                self.drive(now, peer, LinkInput::Tick);
            }
        }
    }

    /// A link was lost some time ago.
    fn make_again(&mut self, now: Now, peer: PeerId) {
        let member = self.members.get(&peer);
        if member.is_some_and(|m| m.link.is_none() && !m.offline && !m.refused && !m.gone) {
            self.start(now, peer, LinkInput::Start);
        }
    }

    fn leave(&mut self, now: Now) {
        let peers: Vec<_> = self.members.keys().copied().collect();
        for peer in peers {
            self.drive(now, peer, LinkInput::Close(CloseReason::Ended));
        }
        self.lobby(now, LobbyInput::Leave);
    }

    fn lobby(&mut self, now: Now, input: LobbyInput) {
        self.introducer.handle(now, input);
        while let Some(output) = self.introducer.poll_output() {
            match output {
                LobbyOutput::OpenSocket => {
                    let target = self.introducer.target();
                    self.outputs.push_back(MeshOutput::OpenSocket(target));
                }
                LobbyOutput::SendText(text) => self.outputs.push_back(MeshOutput::SendText(text)),
                LobbyOutput::CloseSocket => self.outputs.push_back(MeshOutput::CloseSocket),
                LobbyOutput::Event(event) => self.lobby_event(now, event),
            }
        }
    }

    fn lobby_event(&mut self, now: Now, event: LobbyEvent) {
        match event {
            LobbyEvent::Signal(peer, signal) => return self.signal(now, peer, signal),
            LobbyEvent::Online { me } => self.me = Some(me),
            LobbyEvent::Joined(ref lobby) | LobbyEvent::Restored(ref lobby) => {
                let lobby = lobby.clone();
                self.event(MeshEvent::Lobby(event));
                return self.joined(now, &lobby);
            }
            LobbyEvent::MemberJoined(peer, epoch) | LobbyEvent::MemberOnline(peer, epoch) => {
                self.event(MeshEvent::Lobby(event));
                return self.found(now, peer, Some(epoch));
            }
            LobbyEvent::MemberOffline(peer) => {
                self.event(MeshEvent::Lobby(event));
                return self.found(now, peer, None);
            }
            LobbyEvent::MemberLeft(peer, _) => {
                self.drive(now, peer, LinkInput::Close(CloseReason::Left));
                self.forget(peer);
            }
            LobbyEvent::Removed(_) => {
                for peer in self.members.keys().copied().collect::<Vec<_>>() {
                    self.drive(now, peer, LinkInput::Close(CloseReason::Left));
                    self.forget(peer);
                }
            }
            _ => {}
        }
        self.event(MeshEvent::Lobby(event));
    }

    fn joined(&mut self, now: Now, lobby: &LobbyState) {
        for member in &lobby.members {
            self.found(now, member.peer, member.online.then_some(member.epoch));
        }
    }

    /// A member exists: notes whether the server has a connection to it, and to which start of its game;
    /// starts a link if it can be reached and has none, or one to the game before.
    fn found(&mut self, now: Now, peer: PeerId, online: Option<u32>) {
        let offline = online.is_none();
        let Some(me) = self.me else { return };
        let full = self.members.len() >= usize::from(LOBBY_MEMBERS_MAX + LOBBY_SPECTATORS_MAX);
        if peer == me || (full && !self.members.contains_key(&peer)) {
            return;
        }
        let member = self.members.entry(peer).or_default();
        member.offline = offline;
        member.gone = false;
        let restarted = online.is_some_and(|epoch| epoch > member.epoch);
        member.epoch = online.unwrap_or(member.epoch).max(member.epoch);
        if restarted && member.link.is_some() {
            self.drive(now, peer, LinkInput::Close(CloseReason::Restarted));
            self.abandon(now, peer);
        }
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.refused &= !restarted;
        member.ended &= !restarted;
        if member.link.is_some() {
            self.drive(now, peer, LinkInput::Offline(offline));
        } else if !offline && !member.refused {
            self.start(now, peer, LinkInput::Start);
        }
    }

    /// Makes a link and begins with `first`.
    fn start(&mut self, now: Now, peer: PeerId, first: LinkInput) {
        let (Some(me), Some(member)) = (self.me, self.members.get_mut(&peer)) else {
            return;
        };
        member.again.at = None;
        // Never zero, which stands for none.
        let number = self.rng.next_u64() | 1;
        let first_offer = self.introducer.offers_first(me, peer);
        let mut link = Link::new(self.link_config.clone(), first_offer, member.used, number);
        if !matches!(first, LinkInput::Start) {
            link.wait_for_offer(now);
        }
        link.handle(now, LinkInput::Offline(member.offline));
        if let Some(line) = self.clock {
            link.handle(now, LinkInput::Clock(line));
        }
        member.link = Some(Box::new(link));
        self.event(MeshEvent::PeerFound(peer));
        self.drive(now, peer, first);
    }

    fn signal(&mut self, now: Now, peer: PeerId, signal: Signal) {
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        let offers = matches!(signal.body, SignalBody::Offer { .. });
        let fresh = offers && signal.attempt > member.used.attempt;
        match &mut member.link {
            Some(link) if fresh && (link.is_closed() || link.was_left()) => {
                self.drive(now, peer, LinkInput::Close(CloseReason::Left));
                self.replace(now, peer, signal);
            }
            Some(_) => self.drive(now, peer, LinkInput::Signal(signal)),
            None if fresh && !member.refused => {
                self.start(now, peer, LinkInput::Signal(signal));
            }
            None if fresh && member.ended => self.say_bye(now, peer, signal.attempt),
            None => {}
        }
    }

    /// The other side goes on with a link that we have ended: it did not hear our last word.
    fn say_bye(&mut self, now: Now, peer: PeerId, attempt: u32) {
        let signal = Signal { attempt, body: SignalBody::Bye };
        self.lobby(now, LobbyInput::Signal { to: peer, signal });
    }

    fn replace(&mut self, now: Now, peer: PeerId, signal: Signal) {
        self.abandon(now, peer);
        let member = self.members.get(&peer);
        if member.is_some_and(|member| !member.refused) {
            self.start(now, peer, LinkInput::Signal(signal));
        }
    }

    /// Drops a link at once, without its last words.
    fn abandon(&mut self, now: Now, peer: PeerId) {
        if let Some(member) = self.members.get_mut(&peer)
            && let Some(link) = &mut member.link
        {
            link.abandon();
            self.drain(now, peer);
        }
    }

    fn drive(&mut self, now: Now, peer: PeerId, input: LinkInput) {
        match self.members.get_mut(&peer).and_then(|member| member.link.as_deref_mut()) {
            Some(link) => {
                link.handle(now, input);
                self.drain(now, peer);
            }
            None => {
                if let LinkInput::Packet { packet, .. }
                | LinkInput::Send(packet)
                | LinkInput::Recycle(packet)
                | LinkInput::SendStream(packet) = input
                {
                    self.outputs.push_back(MeshOutput::Unused(packet));
                }
            }
        }
    }

    fn drain(&mut self, now: Now, peer: PeerId) {
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        let Some(link) = &mut member.link else { return };
        member.used = link.used();
        let mut signals = Vec::new();
        let (mut lost, mut linked) = (false, None);
        let established = link.is_established();
        while let Some(output) = link.poll_output() {
            self.outputs.push_back(match output {
                LinkOutput::Driver(command) => MeshOutput::Driver { peer, command },
                LinkOutput::Transmit { connection, channel, packet } => {
                    MeshOutput::Transmit { peer, connection, channel, packet }
                }
                LinkOutput::Unused(buffer) => MeshOutput::Unused(buffer),
                LinkOutput::Clock(sample) => MeshOutput::Clock { peer, sample },
                LinkOutput::Signal(signal) => {
                    signals.push(signal);
                    continue;
                }
                LinkOutput::Event(event) => {
                    if event == LinkEvent::Established {
                        member.again.losses = 0;
                        linked = Some(true);
                    }
                    if let LinkEvent::Closed(reason) = &event {
                        linked = Some(false);
                        lost |= *reason == CloseReason::Lost;
                        member.again.note_end(now, reason);
                        member.ended |=
                            matches!(reason, CloseReason::Ended | CloseReason::Violation(_));
                        member.refused |= matches!(
                            reason,
                            CloseReason::Ended
                                | CloseReason::Refused(_)
                                | CloseReason::RefusedByPeer(_)
                                | CloseReason::Violation(_)
                        );
                    }
                    MeshOutput::Event(MeshEvent::Link { peer, event })
                }
            });
        }
        if link.is_ended() {
            member.link = None;
            if member.gone {
                self.members.remove(&peer);
            }
        }
        // These go through the lobby client, whose outputs are ours.
        for signal in signals {
            // An established link offers because its path is in doubt; so may be that to the server.
            if established && matches!(signal.body, SignalBody::Offer { .. }) {
                self.lobby(now, LobbyInput::Doubt);
            }
            self.lobby(now, LobbyInput::Signal { to: peer, signal });
        }
        if lost {
            self.lobby(now, LobbyInput::ReportLost(peer));
        }
        if let Some(linked) = linked {
            self.lobby(now, LobbyInput::Linked { peer, linked });
        }
    }

    fn forget(&mut self, peer: PeerId) {
        // A lingering link keeps its member until it has ended; see `drain`.
        if self.members.get(&peer).is_some_and(|member| member.link.is_none()) {
            self.members.remove(&peer);
        } else if let Some(member) = self.members.get_mut(&peer) {
            member.gone = true;
        }
    }
}
