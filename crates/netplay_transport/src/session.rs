//! The game's half of a session: sending, receiving, commands. Never blocks on the network.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use netplay_peer::JoinRequest;
use netplay_peer::link::InputBlock;
use netplay_protocol::frame::{Body, Frame, Frames, MessageId};
use netplay_protocol::limits::{INPUTS_MAX, RELIABLE_WINDOW};
use netplay_protocol::lobby::{ClientMessage, Search};
use netplay_protocol::{Lane, LaneKind, LaneTable, MeshTime, Now, PeerId};

use crate::clock::{MeshView, SessionTime};
use crate::conditioner::LinkConditioner;
use crate::event::{CommandError, EndReason, Message, SendError, SessionEvent};
use crate::outbox::Outbox;
use crate::queues::{Arrival, ArrivedInputs, LinkShared, PeerSender, Shared};
use crate::stats::LinkStats;

/// From the game to the network thread.
#[derive(Debug)]
pub(crate) enum Command {
    Join(JoinRequest),
    Search(Search),
    Request(u64, Box<ClientMessage>),
    Disconnect(PeerId),
    Ping(PeerId),
    StartMatch,
    EndMatch,
    Pause(bool),
    /// Boxed, because it is large and rare.
    Condition(PeerId, Option<Box<LinkConditioner>>),
}

/// From the network thread to the game, in order.
#[derive(Debug)]
pub(crate) enum ToGame {
    /// Boxed, because events are large and rare and the queue has room for each slot from the start.
    Event(Box<SessionEvent>),
    /// Comes before [`SessionEvent::PeerConnected`].
    Queues(PeerId, PeerSender),
    Reliable(Arrival),
}

/// Wakes the network thread of one session.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

/// The game's ends of a session's queues.
pub(crate) struct GameEnds {
    pub(crate) commands: Sender<Command>,
    pub(crate) from_network: Receiver<ToGame>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lanes: LaneTable,
    pub(crate) waker: Arc<dyn Wake>,
    pub(crate) time: SessionTime,
}

/// One player's presence in (at most) one lobby: what the game holds.
///
/// Messages are collected by [`Self::send`] and leave with [`Self::flush`], those to one peer
/// together. What has arrived comes from [`Self::poll`]. Dropping the session leaves the lobby and closes all links.
pub struct Session {
    commands: Sender<Command>,
    from_network: Receiver<ToGame>,
    shared: Arc<Shared>,
    lanes: LaneTable,
    waker: Arc<dyn Wake>,
    time: SessionTime,
    mesh: Option<MeshView>,
    /// Boxed, because a tree's node has room for eleven peers from the first on.
    peers: BTreeMap<PeerId, Box<Outbox>>,
    /// Lossy messages that have to wait for an event about their sender.
    held: Option<Arrival>,
    /// Cost of the reliable messages read since the network thread was last told.
    unannounced: u64,
    /// How many were made of our lobby.
    requests: u64,
    ended: bool,
    /// Keeps the runtime for as long as the session lives.
    network: Option<crate::native::Network>,
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(ends: GameEnds) -> Self {
        Self {
            commands: ends.commands,
            from_network: ends.from_network,
            shared: ends.shared,
            lanes: ends.lanes,
            waker: ends.waker,
            time: ends.time,
            mesh: None,
            peers: BTreeMap::new(),
            held: None,
            unannounced: 0,
            requests: 0,
            ended: false,
            network: None,
        }
    }

    pub(crate) fn keep(&mut self, network: crate::native::Network) {
        self.network = Some(network);
    }

    fn command(&self, command: Command) -> Result<(), CommandError> {
        if self.ended {
            return Err(CommandError::Ended);
        }
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => CommandError::Busy,
            TrySendError::Disconnected(_) => CommandError::Ended,
        })?;
        self.waker.wake();
        Ok(())
    }

    /// Asks to be in a lobby; the answer is [`SessionEvent::Joined`] or
    /// [`SessionEvent::JoinRefused`]. A session is in one lobby at most: open another for another.
    ///
    /// # Errors
    /// [`CommandError`] if too many commands wait or the session is over; so do the others.
    pub fn join(&self, request: JoinRequest) -> Result<(), CommandError> {
        self.command(Command::Join(request))
    }

    /// Asks for public lobbies; the answer is [`SessionEvent::Lobbies`].
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn search(&self, search: Search) -> Result<(), CommandError> {
        self.command(Command::Search(search))
    }

    /// Asks for something in our lobby: chat, to be ready, whatever [`ClientMessage`] has for members. The
    /// number in the message does not matter; the one that comes back is in the answer, a
    /// [`LobbyNews::Answered`](netplay_peer::LobbyNews::Answered).
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn request(&mut self, message: ClientMessage) -> Result<u64, CommandError> {
        self.requests += 1;
        self.command(Command::Request(self.requests, Box::new(message)))?;
        Ok(self.requests)
    }

    /// Ends the link to one peer.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn disconnect(&self, peer: PeerId) -> Result<(), CommandError> {
        self.command(Command::Disconnect(peer))
    }

    /// Measures the round trip to a peer's network thread now; the answer is
    /// [`SessionEvent::Pong`]. Its game need not run for that.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn ping(&self, peer: PeerId) -> Result<(), CommandError> {
        self.command(Command::Ping(peer))
    }

    /// Makes the link to a peer worse than it is, or with `None` as it is, whatever
    /// [`SessionConfig::conditioner`](crate::SessionConfig) says. It holds for this link from now on,
    /// and for any later one to this peer; a peer that is not known yet can be named too.
    ///
    /// Packets under way keep their time. A link is remembered for as long as it lives; of those that
    /// do not, some hundreds.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn condition(
        &self,
        peer: PeerId,
        conditioner: Option<LinkConditioner>,
    ) -> Result<(), CommandError> {
        self.command(Command::Condition(peer, conditioner.map(Box::new)))
    }

    /// Peers to which messages can be sent, in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.keys().copied()
    }

    /// Queues an encoded message for one peer. It leaves with the next [`Self::flush`], or at once on
    /// a lane that is [`immediate`](netplay_protocol::lane::LaneConfig::immediate).
    ///
    /// # Errors
    /// [`SendError`]: not connected, no such lane, too large for the lane, or too many reliable
    /// messages wait. Nothing is queued then.
    pub fn send(
        &mut self,
        to: PeerId,
        lane: Lane,
        id: MessageId,
        payload: &[u8],
    ) -> Result<(), SendError> {
        self.send_body(to, lane, Body { id, key: None, payload })
    }

    /// As [`Self::send`], on a lane where the newest of each message type and key wins: the key names
    /// the thing of the game of which this message tells. Without a key it is 0.
    ///
    /// # Errors
    /// As [`Self::send`]; [`SendError::NoKeys`] on any other lane.
    pub fn send_keyed(
        &mut self,
        to: PeerId,
        lane: Lane,
        key: u16,
        id: MessageId,
        payload: &[u8],
    ) -> Result<(), SendError> {
        if self.lanes.kind(lane) != Some(LaneKind::Sequenced) {
            return Err(SendError::NoKeys { lane });
        }
        self.send_body(to, lane, Body { id, key: Some(key), payload })
    }

    fn send_body(&mut self, to: PeerId, lane: Lane, body: Body<'_>) -> Result<(), SendError> {
        let config = self.lanes.get(lane).ok_or(SendError::NoSuchLane { lane })?;
        let (len, max) = (body.payload.len(), config.kind.message_max());
        if len > max {
            return Err(SendError::TooLarge { len, max, lane });
        }
        let outbox = self.peers.get_mut(&to).ok_or(SendError::NotConnected)?;
        outbox.put(config, &Frame { lane, body }, &self.shared.pool)?;
        if config.immediate && outbox.flush(&self.shared.pool) {
            self.waker.wake();
        }
        Ok(())
    }

    /// Queues the inputs that a rollback session tells one peer at a tick. They leave with the next
    /// [`Self::flush`], ahead of what else does, in one datagram with it as far as that has room; and
    /// in a second one after `again`. Inputs that wait are superseded.
    ///
    /// # Errors
    /// [`SendError::NotConnected`], [`SendError::InputsTooLarge`].
    pub fn send_inputs(
        &mut self,
        to: PeerId,
        tick: u16,
        bytes: &[u8],
        again: Option<Duration>,
    ) -> Result<(), SendError> {
        if bytes.len() > INPUTS_MAX {
            return Err(SendError::InputsTooLarge { len: bytes.len(), max: INPUTS_MAX });
        }
        let outbox = self.peers.get_mut(&to).ok_or(SendError::NotConnected)?;
        let pool = &self.shared.pool;
        let mut block = InputBlock { tick, bytes: pool.small(), again };
        block.bytes.extend_from_slice(bytes);
        if let Some(superseded) = outbox.inputs.replace(block) {
            pool.give(superseded.bytes);
        }
        Ok(())
    }

    /// Hands everything queued to the network thread, with one wake for all of it.
    pub fn flush(&mut self) {
        // Below this, the network thread finds out in time by itself.
        let mut wake = self.unannounced >= RELIABLE_WINDOW / 4;
        if wake {
            self.unannounced = 0;
        }
        for outbox in self.peers.values_mut() {
            wake |= outbox.flush(&self.shared.pool);
        }
        if wake {
            self.waker.wake();
        }
    }

    /// What our own clock shows at an instant. On a [`MemoryNetwork`](crate::memory::MemoryNetwork) it
    /// is the virtual time, whatever the instant.
    pub fn at(&self, instant: Instant) -> Now {
        self.time.at(instant)
    }

    /// Our copy of the clock that all players share; `None` before there is one.
    pub fn mesh(&mut self) -> Option<MeshView> {
        if let Some(view) = self.shared.try_mesh() {
            self.mesh = view;
        }
        self.mesh
    }

    /// When the shared clock shows this, by this machine's clock and what is known now. `None` without
    /// a shared clock, or far out of reach. On a [`MemoryNetwork`](crate::memory::MemoryNetwork) it
    /// counts from the real present.
    pub fn instant_of(&mut self, time: MeshTime) -> Option<Instant> {
        let view = self.mesh()?;
        let present = Instant::now();
        let here = view.show(self.at(present));
        if time >= here {
            present.checked_add(time.since(here).div_f64(view.rate()))
        } else {
            present.checked_sub(here.since(time).div_f64(view.rate()))
        }
    }

    /// Starts a match with all connected players; for the host. The answer is
    /// [`SessionEvent::MatchBegins`], which the others get too, or [`SessionEvent::StartFailed`].
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn start_match(&self) -> Result<(), CommandError> {
        self.command(Command::StartMatch)
    }

    /// Asks for a pause of the match for all, or for its end. The host decides, which comes to all as
    /// [`SessionEvent::MatchPause`].
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn pause_match(&self, pause: bool) -> Result<(), CommandError> {
        self.command(Command::Pause(pause))
    }

    /// The match is over for us: another may start.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn end_match(&self) -> Result<(), CommandError> {
        self.command(Command::EndMatch)
    }

    /// Statistics of the link to a peer.
    pub fn stats(&mut self, peer: PeerId) -> Option<LinkStats> {
        self.peers.get_mut(&peer).map(|outbox| outbox.stats())
    }

    /// Datagrams of lossy messages that were dropped because the game did not read for too long.
    pub fn inbound_dropped(&self) -> u64 {
        self.shared.inbound_dropped.load(Ordering::Relaxed)
    }

    /// Waits until something has arrived, at most for `timeout`. For programs without a frame loop.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        !self.from_network.is_empty() || self.shared.bell.wait(timeout)
    }

    /// The next thing that happened: events and reliable messages in the order in which they
    /// happened, then inputs, then lossy messages. `None` when there is nothing left.
    pub fn poll(&mut self) -> Option<Polled> {
        if let Some(polled) = self.next_in_order() {
            return Some(polled);
        }
        if let Some(arrived) = self.shared.pop_inputs() {
            return Some(Polled::Inputs(InboundInputs { arrived, shared: self.shared.clone() }));
        }
        loop {
            let arrival = self.held.take().or_else(|| self.shared.pop_lossy())?;
            if self.peers.contains_key(&arrival.peer) {
                return Some(Polled::Packet(self.inbound(arrival, None)));
            }
            // Of a peer that connected this moment: the event is in the other queue by now. Or of
            // one that is gone: nobody waits for it.
            if let Some(polled) = self.next_in_order() {
                self.held = Some(arrival);
                return Some(polled);
            }
            self.shared.pool.give(arrival.delivery.packet);
        }
    }

    fn next_in_order(&mut self) -> Option<Polled> {
        loop {
            match self.from_network.try_recv() {
                Ok(ToGame::Event(event)) => {
                    if let SessionEvent::PeerClosed { peer, .. } = &*event {
                        self.peers.remove(peer);
                    }
                    self.ended |= matches!(*event, SessionEvent::Ended(_));
                    return Some(Polled::Event(*event));
                }
                Ok(ToGame::Queues(peer, sender)) => {
                    self.peers.insert(peer, Box::new(Outbox::new(sender)));
                }
                Ok(ToGame::Reliable(arrival)) => {
                    let link = self.peers.get(&arrival.peer);
                    let link = link.map(|outbox| outbox.sender.shared.clone());
                    self.unannounced += arrival.delivery.cost;
                    return Some(Polled::Packet(self.inbound(arrival, link)));
                }
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    if core::mem::replace(&mut self.ended, true) {
                        return None;
                    }
                    return Some(Polled::Event(SessionEvent::Ended(EndReason::TaskFailed)));
                }
            }
        }
    }

    fn inbound(&self, arrival: Arrival, link: Option<Arc<LinkShared>>) -> InboundPacket {
        InboundPacket { arrival, shared: self.shared.clone(), link }
    }
}

/// What [`Session::poll`] gives.
#[derive(Debug)]
pub enum Polled {
    /// Something happened.
    Event(SessionEvent),
    /// Messages arrived.
    Packet(InboundPacket),
    /// The other side's rollback session tells its inputs.
    Inputs(InboundInputs),
}

/// What a peer's rollback session tells at one tick.
pub struct InboundInputs {
    arrived: ArrivedInputs,
    shared: Arc<Shared>,
}

impl core::fmt::Debug for InboundInputs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InboundInputs").field("from", &self.arrived.peer).finish_non_exhaustive()
    }
}

impl InboundInputs {
    /// From whom.
    pub const fn from(&self) -> PeerId {
        self.arrived.peer
    }

    /// The low bits of their newest tick.
    pub const fn tick(&self) -> u16 {
        self.arrived.tick
    }

    /// What only the session knows.
    pub fn bytes(&self) -> &[u8] {
        &self.arrived.bytes
    }

    /// Whether another datagram had them too.
    pub const fn again(&self) -> bool {
        self.arrived.again
    }
}

impl Drop for InboundInputs {
    fn drop(&mut self) {
        self.shared.pool.give(core::mem::take(&mut self.arrived.bytes));
    }
}

/// The messages that one packet brought. Dropping it gives its sender room for more.
pub struct InboundPacket {
    arrival: Arrival,
    shared: Arc<Shared>,
    link: Option<Arc<LinkShared>>,
}

impl core::fmt::Debug for InboundPacket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InboundPacket").field("from", &self.arrival.peer).finish_non_exhaustive()
    }
}

impl InboundPacket {
    /// The messages, in the order in which they were sent.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let Arrival { peer, delivery } = &self.arrival;
        // The network thread has checked the frames.
        Frames::new(&delivery.packet[delivery.offset..]).flatten().map(|frame| Message {
            from: *peer,
            lane: frame.lane,
            arrived: delivery.arrived,
            id: frame.body.id,
            payload: frame.body.payload,
        })
    }
}

impl Drop for InboundPacket {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            let delivery = &self.arrival.delivery;
            let consumed =
                if delivery.stream { &link.stream_consumed } else { &link.reliable_consumed };
            consumed.fetch_add(delivery.cost, Ordering::AcqRel);
        }
        self.shared.pool.give(core::mem::take(&mut self.arrival.delivery.packet));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.flush();
        // The network thread sees that the queue has no sender any more, and leaves.
        let (disconnected, _) = crossbeam_channel::bounded(0);
        self.commands = disconnected;
        self.waker.wake();
    }
}
