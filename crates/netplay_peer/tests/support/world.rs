//! Two players, a real lobby directory between them, and a stand-in for the WebRTC library, on
//! virtual time. Everything travels on first-in-first-out lanes, so a test can cut, drop, or order
//! by hand what is on its way. The stand-in keeps to the rules of a driver: descriptions take time,
//! a candidate may come before its description, a connection needs both descriptions and a candidate
//! from each side, a packet before its channel is open is lost, and the end of a connection is
//! reported late, by the side that closed it too.
//!
//! Checked all the time: a link reports its end once and does nothing afterwards, it is established
//! at most once, a dropped connection gets no more commands, and a tick moves the deadline.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use netplay_lobby::{ConnectionId as SocketId, Directory};
use netplay_peer::link::driver::{Channel, ConnectionId, DriverEvent};
use netplay_peer::link::{CloseReason, LINK_DEADLINE, LinkEvent};
use netplay_peer::lobby_client::LobbyEvent;
use netplay_peer::{JoinRequest, Mesh, MeshEvent, MeshInput, MeshOutput};
use netplay_protocol::lobby::{ClientMessage, LobbyOptions};
use netplay_protocol::{Now, PeerId};

use super::config::config;

mod driver;

/// From open channels to the end of the handshake; the link's own deadline.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// A link is established or over this long after its start.
pub const LINK_LIMIT: Duration = LINK_DEADLINE.saturating_add(HANDSHAKE);

/// One way between a player and the server.
const HOP: Duration = Duration::from_millis(5);
/// One way between the players.
const PATH: Duration = Duration::from_millis(7);
/// From a command to a description, and from one step of a connection to the next.
const STEP: Duration = Duration::from_millis(2);

/// What is on its way keeps its order within a lane; the number is a player, 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    ToServer(usize),
    ToPlayer(usize),
    Driver(usize),
    Path(usize),
}

enum Item {
    Open(u64),
    Opened(u64),
    Text(u64, String),
    Closed(u64),
    Event(PeerId, DriverEvent),
    Packet { serial: u64, channel: Channel, packet: Vec<u8> },
}

/// What happens to the socket texts of both players, counted from 0 in the order of their arrival.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// From this one on: sockets closed, every reconnect refused.
    CutClosed(usize),
    /// From this one on: sockets open, and silent.
    CutSilent(usize),
    /// From this one on: nothing moves on this lane.
    CutLane(usize, Lane),
    /// This one alone is lost.
    Drop(usize),
    /// This one is lost, and so are its socket and all that is on its way there.
    DropWithSocket(usize),
}

struct Connection {
    serial: u64,
    remote: Option<u64>,
    candidates: bool,
    connecting: bool,
    open: bool,
}

/// The life of one link, as its player heard of it.
#[derive(Debug)]
pub struct LinkLife {
    pub started: Now,
    pub established: Option<Now>,
    pub ended: Option<(Now, CloseReason)>,
}

pub struct Player {
    pub mesh: Mesh,
    pub me: Option<PeerId>,
    pub links: Vec<LinkLife>,
    /// Offers that this player's driver was asked for.
    pub offers: usize,
    socket: Option<u64>,
    connections: BTreeMap<ConnectionId, Connection>,
}

pub struct World {
    pub now: Now,
    pub players: [Player; 2],
    /// Texts that arrived or were lost.
    pub texts: usize,
    /// Whether each of them was a signal from player to player.
    pub signals: Vec<bool>,
    /// Lanes that hold everything back.
    pub held: BTreeSet<Lane>,
    fault: Fault,
    cut: bool,
    directory: Directory,
    lanes: BTreeMap<Lane, VecDeque<(Now, Item)>>,
    sockets: u64,
    serials: u64,
}

impl World {
    /// Two players who are not connected to anything.
    pub fn new(fault: Fault) -> Self {
        let player = |seed| Player {
            mesh: Mesh::new(config(), seed),
            me: None,
            links: Vec::new(),
            offers: 0,
            socket: None,
            connections: BTreeMap::new(),
        };
        let mut world = Self {
            now: Now::ZERO,
            players: [player(1), player(2)],
            texts: 0,
            signals: Vec::new(),
            held: BTreeSet::new(),
            fault,
            cut: false,
            directory: Directory::new(netplay_lobby::Config::default(), [7; 32]),
            lanes: BTreeMap::new(),
            sockets: 0,
            serials: 0,
        };
        world.cut_if_due();
        world
    }

    /// Both players want the same lobby.
    pub fn join(&mut self) {
        for player in 0..2 {
            let options = LobbyOptions::public(2);
            self.input(player, MeshInput::Join(JoinRequest::Quick(options)));
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(next) = self.next().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.turn();
        }
        self.now = until;
    }

    /// Lets time pass until both links are established or the time is over.
    pub fn run_until_established(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until && !(self.is_established(0) && self.is_established(1)) {
            let step = until.since(self.now).min(Duration::from_millis(1));
            self.run(step);
        }
    }

    pub fn is_established(&self, player: usize) -> bool {
        let last = self.players[player].links.last();
        last.is_some_and(|link| link.established.is_some() && link.ended.is_none())
    }

    /// Lets the next item of a lane arrive now, whatever its time; false if there is none.
    pub fn deliver(&mut self, lane: Lane) -> bool {
        let item = self.lanes.get_mut(&lane).and_then(VecDeque::pop_front);
        let any = item.is_some();
        if let Some((_, item)) = item {
            self.arrive(lane, item);
        }
        any
    }

    /// Jumps to the next deadline of a player, holding back everything that is on its way.
    pub fn wait(&mut self) {
        if let Some((player, deadline)) = self.deadline() {
            self.now = self.now.max(deadline);
            self.tick(player);
        }
    }

    /// Connections of a player that were not dropped.
    pub fn connections(&self, player: usize) -> usize {
        self.players[player].connections.len()
    }

    fn deadline(&self) -> Option<(usize, Now)> {
        let deadlines = self.players.iter().enumerate();
        let deadlines = deadlines.filter_map(|(i, p)| Some((i, p.mesh.next_deadline()?)));
        deadlines.min_by_key(|(_, deadline)| *deadline)
    }

    fn head(&self) -> Option<(Now, Lane)> {
        let heads = self.lanes.iter().filter_map(|(lane, items)| Some((items.front()?.0, *lane)));
        heads.filter(|(_, lane)| !self.held.contains(lane)).min()
    }

    fn next(&self) -> Option<Now> {
        let head = self.head().map(|(due, _)| due);
        let deadline = self.deadline().map(|(_, deadline)| deadline);
        [head, deadline, self.directory.next_deadline()].into_iter().flatten().min()
    }

    /// Does one thing that is due.
    fn turn(&mut self) {
        if self.directory.next_deadline().is_some_and(|deadline| self.now >= deadline) {
            self.directory.handle(self.now, netplay_lobby::Input::Tick);
            return self.serve();
        }
        match (self.head(), self.deadline()) {
            (Some((due, lane)), _) if due <= self.now => {
                self.deliver(lane);
            }
            (_, Some((player, deadline))) if deadline <= self.now => self.tick(player),
            _ => {}
        }
    }

    fn tick(&mut self, player: usize) {
        self.input(player, MeshInput::Tick);
        let next = self.players[player].mesh.next_deadline();
        assert!(next.is_none_or(|next| next > self.now), "a tick moves the deadline: {next:?}");
    }

    pub fn input(&mut self, player: usize, input: MeshInput) {
        self.players[player].mesh.handle(self.now, input);
        while let Some(output) = self.players[player].mesh.poll_output() {
            self.perform(player, output);
        }
    }

    fn push(&mut self, lane: Lane, delay: Duration, item: Item) {
        self.lanes.entry(lane).or_default().push_back((self.now + delay, item));
    }

    fn arrive(&mut self, lane: Lane, item: Item) {
        if let Item::Text(socket, text) = &item {
            if self.is_lost(lane, *socket, text) {
                return;
            }
        } else if self.swallows(lane) {
            return;
        }
        match (lane, item) {
            (Lane::ToServer(player), item) => self.server_hears(player, item),
            (Lane::ToPlayer(player), item) => self.player_hears(player, item),
            (Lane::Driver(player), Item::Event(peer, event)) => {
                self.driver_says(player, peer, event);
            }
            (Lane::Path(player), Item::Packet { serial, channel, packet }) => {
                self.packet(player, serial, channel, packet);
            }
            (lane, _) => unreachable!("no such item on {lane:?}"),
        }
        self.cut_if_due();
    }

    /// Whether the server's lanes are dead.
    fn swallows(&self, lane: Lane) -> bool {
        match self.fault {
            Fault::CutLane(_, dead) => self.cut && lane == dead,
            _ => false,
        }
    }

    /// Counts a text, and says whether it is lost.
    fn is_lost(&mut self, lane: Lane, socket: u64, text: &str) -> bool {
        let number = self.texts;
        self.texts += 1;
        self.signals.push(text.contains("\"type\":\"signal\""));
        match self.fault {
            Fault::Drop(lost) => number == lost,
            Fault::DropWithSocket(lost) if number == lost => {
                let (Lane::ToServer(player) | Lane::ToPlayer(player)) = lane else {
                    unreachable!("texts are on the lanes of the server");
                };
                self.lose_socket(player, socket);
                true
            }
            Fault::CutSilent(_) | Fault::CutClosed(_) => self.cut,
            Fault::CutLane(..) => self.swallows(lane),
            Fault::None | Fault::DropWithSocket(_) => false,
        }
    }

    fn lose_socket(&mut self, player: usize, socket: u64) {
        for lane in [Lane::ToServer(player), Lane::ToPlayer(player)] {
            let items = self.lanes.entry(lane).or_default();
            items.retain(|(_, item)| !matches!(item, Item::Text(of, _) if *of == socket));
        }
        let gone = netplay_lobby::Input::Disconnected { connection: SocketId(socket) };
        self.directory.handle(self.now, gone);
        self.serve();
        self.player_hears(player, Item::Closed(socket));
    }

    fn cut_if_due(&mut self) {
        let (Fault::CutClosed(after) | Fault::CutSilent(after) | Fault::CutLane(after, _)) =
            self.fault
        else {
            return;
        };
        if self.cut || self.texts < after {
            return;
        }
        self.cut = true;
        if matches!(self.fault, Fault::CutClosed(_)) {
            for player in 0..2 {
                if let Some(socket) = self.players[player].socket {
                    self.lose_socket(player, socket);
                }
            }
        }
    }

    fn server_hears(&mut self, player: usize, item: Item) {
        let input = match item {
            Item::Open(socket) if self.cut && matches!(self.fault, Fault::CutClosed(_)) => {
                return self.push(Lane::ToPlayer(player), HOP, Item::Closed(socket));
            }
            Item::Open(socket) => {
                self.push(Lane::ToPlayer(player), HOP, Item::Opened(socket));
                netplay_lobby::Input::Connected { connection: SocketId(socket), address: None }
            }
            Item::Text(socket, text) => {
                let message = ClientMessage::from_json(&text).expect("players send messages");
                netplay_lobby::Input::Message { connection: SocketId(socket), message }
            }
            Item::Closed(socket) => {
                netplay_lobby::Input::Disconnected { connection: SocketId(socket) }
            }
            Item::Opened(_) | Item::Event(..) | Item::Packet { .. } => return,
        };
        self.directory.handle(self.now, input);
        self.serve();
    }

    /// Sends what the directory says. A silent server is one that was cut: it says nothing.
    fn serve(&mut self) {
        while let Some(output) = self.directory.poll_output() {
            let (connection, item) = match output {
                netplay_lobby::Output::Send { connection, text, .. } => {
                    let text = str::from_utf8(text).expect("JSON is UTF-8");
                    (connection, Item::Text(connection.0, text.into()))
                }
                netplay_lobby::Output::Close { connection, .. } => {
                    (connection, Item::Closed(connection.0))
                }
            };
            if self.cut && matches!(self.fault, Fault::CutSilent(_)) {
                continue;
            }
            let owner = self.players.iter().position(|p| p.socket == Some(connection.0));
            if let Some(player) = owner {
                self.push(Lane::ToPlayer(player), HOP, item);
            }
        }
    }

    fn player_hears(&mut self, player: usize, item: Item) {
        let current = self.players[player].socket;
        match item {
            Item::Opened(socket) if current == Some(socket) => {
                self.input(player, MeshInput::SocketOpened);
            }
            Item::Text(socket, text) if current == Some(socket) => {
                self.input(player, MeshInput::SocketText(text));
            }
            Item::Closed(socket) if current == Some(socket) => {
                self.players[player].socket = None;
                self.input(player, MeshInput::SocketClosed("closed".into()));
            }
            _ => {}
        }
    }

    fn perform(&mut self, player: usize, output: MeshOutput) {
        match output {
            MeshOutput::OpenSocket(_) => {
                self.sockets += 1;
                self.players[player].socket = Some(self.sockets);
                self.push(Lane::ToServer(player), HOP, Item::Open(self.sockets));
            }
            MeshOutput::SendText(text) => {
                if let Some(socket) = self.players[player].socket {
                    self.push(Lane::ToServer(player), HOP, Item::Text(socket, text));
                }
            }
            MeshOutput::CloseSocket => {
                if let Some(socket) = self.players[player].socket.take() {
                    self.push(Lane::ToServer(player), HOP, Item::Closed(socket));
                }
            }
            MeshOutput::Driver { peer, command } => self.command(player, peer, command),
            MeshOutput::Transmit { connection, channel, packet, .. } => {
                let link = self.players[player].links.last();
                assert!(link.is_some_and(|link| link.ended.is_none()), "sent after the end");
                let from = self.players[player].connections.get(&connection);
                let from = from.expect("only on connections that were not dropped");
                if let Some(serial) = from.remote.filter(|_| from.connecting) {
                    let packet = packet.as_ref().to_vec();
                    let item = Item::Packet { serial, channel, packet };
                    self.push(Lane::Path(1 - player), PATH, item);
                }
            }
            MeshOutput::Event(event) => self.event(player, event),
            MeshOutput::Unused(_) | MeshOutput::Clock { .. } => {}
        }
    }

    fn event(&mut self, player: usize, event: MeshEvent) {
        let now = self.now;
        let Player { me, links, .. } = &mut self.players[player];
        match event {
            MeshEvent::Lobby(LobbyEvent::Online { me: id }) => *me = Some(id),
            MeshEvent::Lobby(_) => {}
            MeshEvent::PeerFound(_) => {
                let over = links.last().is_none_or(|link| link.ended.is_some());
                assert!(over, "a new link while the old one lives");
                links.push(LinkLife { started: now, established: None, ended: None });
            }
            MeshEvent::Link { event, .. } => {
                let link = links.last_mut().expect("a link that was started");
                assert!(link.ended.is_none(), "{event:?} after the end of the link");
                match event {
                    LinkEvent::Established => {
                        assert!(link.established.replace(now).is_none(), "established twice");
                    }
                    LinkEvent::Closed(reason) => link.ended = Some((now, reason)),
                    _ => assert!(link.established.is_some(), "{event:?} before it is established"),
                }
            }
        }
    }
}
