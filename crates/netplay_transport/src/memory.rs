//! Sessions joined in memory, on a virtual clock: for tests, stepped by hand.
//!
//! The same session halves and the same pure machines as over WebRTC, a real lobby directory, and a
//! seeded [`netplay_simnet`] in between. Only sockets, threads and the WebRTC library are missing;
//! what stands in for the latter connects in two path delays and keeps to the rules of its channels.
//!
//! Guaranteed: the same seed and the same calls give the same run.

mod conditioner;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netplay_lobby::{ConnectionId as SocketId, Directory, Key};
use netplay_peer::link::driver::{Channel, ConnectionId, DriverCommand, DriverEvent};
use netplay_peer::{MeshInput, MeshOutput, SocketTarget};
use netplay_protocol::lobby::{ClientMessage, ServerFrame, ServerMessage};
use netplay_protocol::{Now, PeerId};
use netplay_simnet::{Conditions, Delivery, Network as Paths, OrderedPipe};

use crate::clock::SessionTime;
use crate::conditioner::LinkConditioner;
use crate::config::SessionConfig;
use crate::event::OpenError;
use crate::session::{Session, Wake};
use crate::session_core::{self, SessionCore};
use conditioner::Conditioners;

/// A session's number in its network.
type NodeId = u64;

/// One end of a connection: whose, to whom, and which of these.
type End = (PeerId, PeerId, ConnectionId);

/// The reliable channels of one direction.
type Reliable = OrderedPipe<(Channel, Vec<u8>)>;

/// A virtual network that sessions are opened on; clones are the same network.
#[derive(Clone)]
pub struct MemoryNetwork {
    world: Arc<Mutex<World>>,
}

impl core::fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemoryNetwork").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// The game's half needs no wake: the network looks when it is stepped.
struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

impl MemoryNetwork {
    /// A network without delay or loss, and its lobby server.
    pub fn new(seed: u64) -> Self {
        let mut directory_seed = [0; 32];
        directory_seed[..8].copy_from_slice(&seed.to_le_bytes());
        let directory = directory(directory_seed);
        let world = World {
            now: Now::ZERO,
            seed,
            nodes: BTreeMap::new(),
            next_node: 0,
            next_socket: 0,
            directory,
            server_up: true,
            paths: Paths::new(Conditions::perfect(), seed, |peer: PeerId| peer.as_u128() as u64),
            streams: BTreeMap::new(),
            pairs: BTreeMap::new(),
            opening: BTreeMap::new(),
            unopened: Vec::new(),
            arrived: Vec::new(),
            delay: Duration::ZERO,
            conditioners: Conditioners::default(),
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session. The configuration's server address is not used.
    ///
    /// # Errors
    /// As [`crate::Network::open`].
    pub fn open(&self, config: &SessionConfig) -> Result<Session, OpenError> {
        config.address()?;
        let mut world = self.world();
        let id = world.next_node;
        world.next_node += 1;
        let seed = world.seed.wrapping_add(id);
        let server = "memory".to_owned();
        let time = SessionTime::Virtual(Arc::default());
        time.note(world.now);
        let (link, wake) = (config.link_config(), Arc::new(NoWake));
        let (session, core) = session_core::session(link, config, server, seed, wake, time);
        let conditioner = config.conditioner.clone();
        world.nodes.insert(id, Node { core, me: None, socket: None, frozen: false, conditioner });
        Ok(session)
    }

    /// The virtual time.
    pub fn now(&self) -> Now {
        self.world().now
    }

    /// What paths between players do to datagrams from now on. Their delay holds for the reliable
    /// channels too.
    pub fn set_conditions(&self, conditions: &Conditions) {
        let mut world = self.world();
        world.delay = conditions.delay;
        world.paths.set_all_conditions(conditions);
    }

    /// Cuts or mends the path from one player to another, in one direction.
    pub fn block(&self, from: PeerId, to: PeerId, blocked: bool) {
        let mut world = self.world();
        world.paths.block(from, to, blocked);
        for (mine, theirs) in core::mem::take(&mut world.unopened) {
            world.find_path(mine, theirs);
        }
    }

    /// Stops the lobby server (sockets close, its memory is gone) or starts it anew. It has the same key
    /// then, so it takes its players up again.
    pub fn set_server_up(&self, up: bool) {
        self.world().set_server_up(up);
    }

    /// Kills a player's process: its socket closes, nothing of it moves any more.
    pub fn kill(&self, peer: PeerId) {
        let mut world = self.world();
        if let Some(id) = world.node_of(peer) {
            world.close_socket(id);
            world.nodes.remove(&id);
        }
    }

    /// Stops or continues a player's process, network thread included.
    pub fn freeze(&self, peer: PeerId, frozen: bool) {
        let mut world = self.world();
        if let Some(id) = world.node_of(peer)
            && let Some(node) = world.nodes.get_mut(&id)
        {
            node.frozen = frozen;
        }
    }

    /// Lets time pass; everything due until then happens, in order.
    pub fn advance(&self, duration: Duration) {
        let mut world = self.world();
        let until = world.now + duration;
        world.run(until);
    }
}

/// A player's network thread.
struct Node {
    core: SessionCore,
    me: Option<PeerId>,
    socket: Option<SocketId>,
    frozen: bool,
    /// For links of which its game has said nothing else.
    conditioner: Option<LinkConditioner>,
}

struct World {
    now: Now,
    seed: u64,
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    next_socket: u64,
    directory: Directory,
    server_up: bool,
    paths: Paths<PeerId, (ConnectionId, Vec<u8>)>,
    /// The reliable channels of each direction of a connected pair of ends.
    streams: BTreeMap<(End, End), Reliable>,
    pairs: BTreeMap<End, End>,
    /// Ends whose channels open at this time.
    opening: BTreeMap<End, Now>,
    /// Pairs of ends whose path is cut.
    unopened: Vec<(End, End)>,
    /// Empty between turns; kept for its memory.
    arrived: Vec<(End, Channel, Vec<u8>)>,
    delay: Duration,
    conditioners: Conditioners,
}

impl World {
    fn node_of(&self, peer: PeerId) -> Option<NodeId> {
        self.nodes.iter().find(|(_, node)| node.me == Some(peer)).map(|(id, _)| *id)
    }

    fn run(&mut self, until: Now) {
        loop {
            self.settle();
            let next = self.next_deadline().filter(|next| *next <= until);
            self.now = self.now.max(next.unwrap_or(until));
            self.turn();
            if next.is_none() {
                self.settle();
                return;
            }
        }
    }

    fn next_deadline(&self) -> Option<Now> {
        let nodes = self.nodes.values().filter(|node| !node.frozen);
        // What a cut path holds back has no time.
        let open = |(from, to): &(End, End)| !self.paths.is_blocked(from.0, to.0);
        let streams = self.streams.iter().filter(|(ends, _)| open(ends));
        nodes
            .filter_map(|node| node.core.next_deadline())
            .chain(streams.filter_map(|(_, pipe)| pipe.next_deadline()))
            .chain(self.opening.values().copied())
            .chain(self.paths.next_deadline())
            .chain(self.conditioners.next_deadline())
            .chain(self.directory.next_deadline())
            .min()
    }

    /// Does everything that needs no time to pass.
    fn settle(&mut self) {
        // A bound on what can happen without time passing: an endless exchange is a bug.
        for _ in 0..100_000 {
            let mut quiet = !self.serve();
            let mut after = 0;
            while let Some((&id, _)) = self.nodes.range(after..).next() {
                after = id + 1;
                let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.frozen) else {
                    continue;
                };
                node.core.pump(self.now);
                if let Some(me) = node.me {
                    while let Some((peer, conditioner)) = node.core.poll_conditioner() {
                        self.conditioners.set(me, peer, conditioner);
                    }
                }
                while let Some(output) =
                    self.nodes.get_mut(&id).and_then(|node| node.core.poll_output())
                {
                    quiet = false;
                    self.perform(id, output);
                }
                if self.nodes.get(&id).is_some_and(|node| node.core.is_over()) {
                    self.close_socket(id);
                    self.nodes.remove(&id);
                }
            }
            if quiet {
                return;
            }
        }
        unreachable!("the sessions talk without end at {}", self.now);
    }

    /// Does what is due now.
    fn turn(&mut self) {
        let now = self.now;
        while let Some((from, to, packet)) = self.conditioners.poll_sent(now) {
            self.paths.send(now, from, to, packet.1.len(), packet);
        }
        while let Some(Delivery { from, to, item }) = self.paths.poll(now) {
            if let Some((connection, packet)) = self.conditioners.receive(now, from, to, item) {
                self.arrive((to, from, connection), Channel::Datagrams, packet);
            }
        }
        while let Some((from, to, (connection, packet))) = self.conditioners.poll_received(now) {
            self.arrive((to, from, connection), Channel::Datagrams, packet);
        }
        let is_open = |(_, at): &(&End, &Now)| **at <= now;
        while let Some(end) = self.opening.iter().find(is_open).map(|(end, _)| *end) {
            self.opening.remove(&end);
            let (me, peer, connection) = end;
            let event = DriverEvent::ChannelsOpen { connection };
            self.input(me, MeshInput::Driver { peer, event });
        }
        let mut arrived = core::mem::take(&mut self.arrived);
        for ((from, to), pipe) in &mut self.streams {
            // A cut path holds reliable data back until it is mended.
            if !self.paths.is_blocked(from.0, to.0) {
                while let Some((channel, packet)) = pipe.poll(now) {
                    arrived.push((*to, channel, packet));
                }
            }
        }
        for (end, channel, packet) in arrived.drain(..) {
            self.arrive(end, channel, packet);
        }
        self.arrived = arrived;
        if self.directory.next_deadline().is_some_and(|deadline| now >= deadline) {
            self.directory.handle(now, netplay_lobby::Input::Tick);
        }
    }

    fn input(&mut self, peer: PeerId, input: MeshInput) {
        if let Some(id) = self.node_of(peer)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.core.handle(self.now, input);
        }
    }

    fn arrive(&mut self, to: End, channel: Channel, packet: Vec<u8>) {
        let (me, peer, connection) = to;
        if self.pairs.contains_key(&to) {
            self.input(me, MeshInput::Packet { peer, connection, channel, packet });
        }
    }

    fn perform(&mut self, id: NodeId, output: MeshOutput) {
        match output {
            MeshOutput::OpenSocket(SocketTarget::Lobbies) => self.open_socket(id),
            MeshOutput::OpenSocket(SocketTarget::Room(_)) => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    let why = "there is no matchbox server in memory".to_owned();
                    node.core.handle(self.now, MeshInput::SocketClosed(why));
                }
            }
            MeshOutput::CloseSocket => self.close_socket(id),
            MeshOutput::SendText(text) => {
                let socket = self.nodes.get(&id).and_then(|node| node.socket);
                if let Some(connection) = socket {
                    let input = match ClientMessage::from_json(&text) {
                        Ok(message) => netplay_lobby::Input::Message { connection, message },
                        Err(error) => netplay_lobby::Input::Malformed { connection, error },
                    };
                    self.directory.handle(self.now, input);
                }
            }
            MeshOutput::Driver { peer, command } => self.command(id, peer, command),
            MeshOutput::Transmit { peer, connection, channel, packet } => {
                let Some(me) = self.nodes.get(&id).and_then(|node| node.me) else {
                    return;
                };
                let bytes = match packet {
                    netplay_peer::link::Packet::Bare(bytes) => bytes.to_vec(),
                    netplay_peer::link::Packet::Full(bytes) => bytes,
                };
                let (from, now) = ((me, peer, connection), self.now);
                let Some(to) = self.pairs.get(&from).copied() else {
                    return;
                };
                if channel == Channel::Datagrams {
                    let packet = self.conditioners.send(now, me, peer, (to.2, bytes));
                    if let Some(packet) = packet {
                        self.paths.send(now, me, peer, packet.1.len(), packet);
                    }
                } else {
                    let delay = self.delay.saturating_add(self.conditioners.delay(me, peer));
                    let pipe =
                        self.streams.entry((from, to)).or_insert_with(|| OrderedPipe::new(delay));
                    pipe.set_delay(delay);
                    pipe.send(now, (channel, bytes));
                }
            }
            MeshOutput::Event(_) | MeshOutput::Clock { .. } | MeshOutput::Unused(_) => {}
        }
    }

    /// What stands in for the WebRTC library. A description is `memory CONNECTION`.
    fn command(&mut self, id: NodeId, peer: PeerId, command: DriverCommand) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let Some(me) = node.me else {
            return;
        };
        self.conditioners.begin(me, peer, node.conditioner.as_ref());
        match command {
            DriverCommand::Offer { connection } => self.describe(id, peer, connection),
            DriverCommand::Answer { connection, sdp } => {
                if let Some(theirs) = parse(&sdp) {
                    self.pairs.insert((me, peer, connection), (peer, me, theirs));
                    self.describe(id, peer, connection);
                } else {
                    self.fail(id, peer, connection);
                }
            }
            DriverCommand::SetAnswer { connection, sdp } => {
                let mine = (me, peer, connection);
                let Some(theirs) = parse(&sdp) else {
                    return self.fail(id, peer, connection);
                };
                let theirs = (peer, me, theirs);
                if self.pairs.get(&theirs) == Some(&mine) {
                    self.pairs.insert(mine, theirs);
                    self.find_path(mine, theirs);
                }
            }
            DriverCommand::AddCandidate { .. } => {}
            DriverCommand::Drop { connection } => {
                let mine = (me, peer, connection);
                self.opening.remove(&mine);
                self.unopened.retain(|(a, b)| *a != mine && *b != mine);
                self.pairs.remove(&mine);
                self.streams.retain(|(from, to), _| *from != mine && *to != mine);
            }
        }
    }

    /// Both descriptions are known: the channels open, as soon as the path is there in both directions.
    fn find_path(&mut self, mine: End, theirs: End) {
        let (me, peer, _) = mine;
        if self.paths.is_blocked(me, peer) || self.paths.is_blocked(peer, me) {
            self.unopened.push((mine, theirs));
            return;
        }
        let conditioned = self.conditioners.delay(me, peer) + self.conditioners.delay(peer, me);
        let at = self.now + 2 * self.delay + conditioned;
        self.opening.insert(mine, at);
        self.opening.insert(theirs, at);
    }

    fn describe(&mut self, id: NodeId, peer: PeerId, connection: ConnectionId) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&id) {
            let sdp = format!("memory {}", connection.0);
            let event = DriverEvent::Described { connection, sdp };
            node.core.handle(now, MeshInput::Driver { peer, event });
        }
    }

    fn fail(&mut self, id: NodeId, peer: PeerId, connection: ConnectionId) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&id) {
            let event = DriverEvent::Failed { connection, why: "no such description".into() };
            node.core.handle(now, MeshInput::Driver { peer, event });
        }
    }

    fn open_socket(&mut self, id: NodeId) {
        let (now, up) = (self.now, self.server_up);
        self.close_socket(id);
        self.next_socket += 1;
        let socket = SocketId(self.next_socket);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if up {
            node.socket = Some(socket);
            let connected = netplay_lobby::Input::Connected { connection: socket, address: None };
            self.directory.handle(now, connected);
            node.core.handle(now, MeshInput::SocketOpened);
        } else {
            node.core.handle(now, MeshInput::SocketClosed("the server is down".into()));
        }
    }

    fn close_socket(&mut self, id: NodeId) {
        let socket = self.nodes.get_mut(&id).and_then(|node| node.socket.take());
        if let Some(connection) = socket {
            self.directory.handle(self.now, netplay_lobby::Input::Disconnected { connection });
        }
    }

    fn set_server_up(&mut self, up: bool) {
        if self.server_up == up {
            return;
        }
        self.server_up = up;
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&(self.seed ^ self.next_socket).to_le_bytes());
        self.directory = directory(seed);
        for node in self.nodes.values_mut() {
            if node.socket.take().is_some() {
                node.core.handle(self.now, MeshInput::SocketClosed("the server went away".into()));
            }
        }
    }

    /// Passes on what the lobby server says; true if it said anything.
    fn serve(&mut self) -> bool {
        let mut said = false;
        while let Some(output) = self.directory.poll_output() {
            said = true;
            match output {
                netplay_lobby::Output::Send { connection, text, .. } => {
                    let text = str::from_utf8(text).expect("JSON is UTF-8").to_owned();
                    self.server_says(connection, text);
                }
                netplay_lobby::Output::Close { connection, .. } => {
                    let node = self.nodes.values_mut().find(|node| node.socket == Some(connection));
                    if let Some(node) = node {
                        node.socket = None;
                        let why = "the server closed the connection".to_owned();
                        node.core.handle(self.now, MeshInput::SocketClosed(why));
                    }
                }
            }
        }
        said
    }

    fn server_says(&mut self, socket: SocketId, text: String) {
        let message = ServerFrame::from_json(&text).map(|frame| frame.message);
        if let Ok(ServerMessage::Welcome { peer, .. }) = message {
            for node in self.nodes.values_mut() {
                if node.socket == Some(socket) {
                    node.me = Some(peer);
                } else if node.me == Some(peer) {
                    // An earlier start of the same player's game: nothing reaches it any more.
                    node.me = None;
                }
            }
        }
        let node = self.nodes.values_mut().find(|node| node.socket == Some(socket));
        let Some(node) = node else { return };
        node.core.handle(self.now, MeshInput::SocketText(text));
    }
}

fn directory(seed: [u8; 32]) -> Directory {
    Directory::new(netplay_lobby::Config::default(), seed).with_key(Key([0; 32]), 0)
}

fn parse(sdp: &str) -> Option<ConnectionId> {
    Some(ConnectionId(sdp.strip_prefix("memory ")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use netplay_peer::JoinRequest;
    use netplay_protocol::frame::MessageId;
    use netplay_protocol::lobby::LobbyOptions;
    use netplay_protocol::schema::{Schema, SchemaEntry};
    use netplay_protocol::{BuildId, GameId, Lane, LaneConfig, LaneKind};

    use super::*;
    use crate::{Polled, SessionEvent};

    const AT_ONCE: Lane = Lane::custom(0);

    fn open(network: &MemoryNetwork) -> Session {
        let schema = Schema::new(vec![SchemaEntry { name: "a".into(), lane: AT_ONCE }]).unwrap();
        let (game, build) = (GameId::new("game").unwrap(), BuildId::new("1").unwrap());
        let mut config = SessionConfig::new(game, build, schema);
        config.lanes.set(AT_ONCE, LaneConfig::new(LaneKind::Reliable).immediate());
        let session = network.open(&config).unwrap();
        let options = LobbyOptions::public(2);
        session.join(JoinRequest::Quick(options)).unwrap();
        session
    }

    /// Two players, and the other's id for each.
    fn two_players(network: &MemoryNetwork) -> [(Session, PeerId); 2] {
        let sessions = [open(network), open(network)];
        network.advance(Duration::from_secs(1));
        sessions.map(|mut session| {
            let mut events = core::iter::from_fn(|| session.poll());
            let peer = events.find_map(|polled| match polled {
                Polled::Event(SessionEvent::PeerConnected(id)) => Some(id),
                _ => None,
            });
            (session, peer.unwrap())
        })
    }

    #[test]
    fn the_statistics_of_a_link_that_is_always_busy_are_not_old() {
        let network = MemoryNetwork::new(2);
        let mut players = two_players(&network);
        for _ in 0..500 {
            for (session, peer) in &mut players {
                session.send(*peer, Lane::Unreliable, MessageId(0), b"busy").unwrap();
                session.flush();
                while session.poll().is_some() {}
            }
            network.advance(Duration::from_millis(2));
        }
        for (session, peer) in &mut players {
            let sent = session.stats(*peer).unwrap().datagrams_sent;
            assert!(sent >= 480, "{sent}");
        }
    }

    #[test]
    fn a_message_on_an_immediate_lane_leaves_without_a_flush_and_others_wait_for_it() {
        let network = MemoryNetwork::new(1);
        let [(mut a, peer), (mut b, _)] = two_players(&network);
        let mut arrived = |network: &MemoryNetwork| {
            network.advance(Duration::from_millis(100));
            let mut count = 0;
            while let Some(polled) = b.poll() {
                if let Polled::Packet(packet) = polled {
                    count += packet.messages().count();
                }
            }
            count
        };
        a.send(peer, Lane::Reliable, MessageId(0), b"waits").unwrap();
        assert_eq!(arrived(&network), 0);
        a.send(peer, AT_ONCE, MessageId(0), b"takes it along").unwrap();
        assert_eq!(arrived(&network), 2);
    }
}
