//! Rooms that speak matchbox's protocol: the server's, fed with sockets and text, and the client's, fed by a server
//! that says anything.
//!
//! Asserted of the server: it says nothing to a closed socket; a player gets its id first and once; it hears of
//! those only whom it has met, and each is met once; it stays within its limits; rooms end with their players.
//! Asserted of the client: members come before they go, and signals are of members; it says nothing without a
//! socket, and nothing that is no request; its deadlines come to rest.

use core::time::Duration;
use std::collections::BTreeSet;

use netplay_lobby::matchbox::{Input, Output, Room, RoomStats, Rooms};
use netplay_lobby::{ConnectionId, RateLimit, RoomLimits};
use netplay_peer::lobby_client::{LobbyEvent, LobbyInput, LobbyOutput};
use netplay_peer::{JoinRequest, RoomClient};
use netplay_protocol::limits::{LOBBY_MEMBERS_MAX, LOBBY_MESSAGE_MAX, LOBBY_SPECTATORS_MAX};
use netplay_protocol::lobby::{Signal, SignalBody};
use netplay_protocol::matchbox::{self, Data, Event, Request};
use netplay_protocol::{Now, PeerId, RoomId};

use crate::script::Script;

/// Sockets that are played at once.
const PLAYERS: usize = 6;

const LIMITS: RoomLimits = RoomLimits {
    max_peers: 5,
    max_rooms: 3,
    max_room_peers: 4,
    name_max: 2,
    signals: RateLimit { burst: 20, per_second: 2 },
};

/// One socket as its player sees it.
struct Player {
    connection: ConnectionId,
    id: Option<PeerId>,
    /// Who is there too.
    met: BTreeSet<PeerId>,
}

struct World {
    rooms: Rooms,
    now: Now,
    connections: u64,
    players: [Option<Player>; PLAYERS],
}

/// The rooms of a server.
pub fn rooms(data: &[u8]) {
    let mut script = Script::new(data);
    let players = [const { None }; PLAYERS];
    let mut world =
        World { rooms: Rooms::new(LIMITS, [1; 32]), now: Now::ZERO, connections: 0, players };
    while !script.is_over() {
        world.step(&mut script);
        let stats = world.rooms.stats();
        assert_eq!(stats.peers, world.players.iter().flatten().count());
        assert!(stats.peers <= LIMITS.max_peers);
        assert!(stats.rooms + stats.groups <= LIMITS.max_rooms.min(stats.peers));
    }
    (0..PLAYERS).for_each(|who| world.disconnect(who));
    assert_eq!(world.rooms.stats(), RoomStats::default());
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        let (what, who) = (script.below(8), script.below(PLAYERS));
        match what {
            0 | 1 => self.connect(who, script),
            2 => self.disconnect(who),
            3 => self.now = self.now + Duration::from_millis(script.u16().into()),
            4 => self.say(who, script.short()),
            5 => self.say(who, br#""KeepAlive""#),
            _ => {
                let of = self.players[script.below(PLAYERS)].as_ref();
                let receiver = of.and_then(|of| of.id).unwrap_or(PeerId::from_u128(7));
                let data = Data::of(&signal(script));
                let request = Request::Signal { receiver, data };
                self.say(who, request.to_json().as_bytes());
            }
        }
    }

    fn connect(&mut self, who: usize, script: &mut Script<'_>) {
        let name = ["", "a", "b", "abc"][script.below(4)];
        let query = [None, Some("next=2"), Some("next=3"), Some("next=0"), Some("x&next=9")];
        let Ok(room) = Room::new(name, query[script.below(5)], &LIMITS) else { return };
        self.disconnect(who);
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.players[who] = Some(Player { connection, id: None, met: BTreeSet::new() });
        self.input(Input::Connected { connection, room });
    }

    fn disconnect(&mut self, who: usize) {
        if let Some(player) = self.players[who].take() {
            self.input(Input::Disconnected { connection: player.connection });
        }
    }

    /// A text frame, as the shell takes it.
    fn say(&mut self, who: usize, text: &[u8]) {
        let Ok(text) = core::str::from_utf8(text) else { return };
        // One that was never open too.
        let connection =
            self.players[who].as_ref().map_or(ConnectionId(0), |player| player.connection);
        self.input(match Request::from_json(text) {
            Ok(request) => {
                assert_eq!(Request::from_json(&request.to_json()).as_ref(), Ok(&request));
                Input::Request { connection, request }
            }
            Err(_) => Input::Malformed { connection },
        });
    }

    fn input(&mut self, input: Input) {
        self.rooms.handle(self.now, input);
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::Send { connection, event } => self.sent(connection, event),
                Output::Close { connection, .. } => {
                    let who = self.place(connection);
                    self.players[who] = None;
                }
            }
        }
    }

    /// Whose connection this is: nothing is said to one that is closed.
    fn place(&self, connection: ConnectionId) -> usize {
        let has = |player: &Option<Player>| {
            player.as_ref().is_some_and(|player| player.connection == connection)
        };
        self.players.iter().position(has).expect("the socket is open")
    }

    fn sent(&mut self, connection: ConnectionId, event: Event) {
        assert_eq!(Event::from_json(&event.to_json()).as_ref(), Ok(&event));
        let who = self.place(connection);
        let Some(player) = &mut self.players[who] else { return };
        match event {
            Event::IdAssigned(id) => assert_eq!(player.id.replace(id), None, "a second id"),
            Event::NewPeer(peer) => {
                let me = player.id.expect("the id comes first");
                assert!(player.met.insert(peer), "met twice");
                // Who came learns of us by our offer.
                let newcomer = self.players.iter_mut().flatten().find(|it| it.id == Some(peer));
                assert!(newcomer.expect("it is there").met.insert(me), "met twice");
            }
            Event::PeerLeft(peer) => assert!(player.met.remove(&peer), "never met"),
            Event::Signal { sender, .. } => assert!(player.met.contains(&sender), "never met"),
        }
    }
}

/// What a client believes, by what it says.
#[derive(Default)]
struct Belief {
    socket: bool,
    me: Option<PeerId>,
    members: BTreeSet<PeerId>,
}

/// A player of ours in a room of a server that says anything.
pub fn room_client(data: &[u8]) {
    let mut script = Script::new(data);
    let (mut client, mut now) = (RoomClient::new(1), Now::ZERO);
    let mut belief = Belief::default();
    while !script.is_over() {
        let input = match script.below(14) {
            0 => LobbyInput::Join(JoinRequest::Room(matchbox::Room {
                name: RoomId::new("room").expect("a short word"),
                next: None,
            })),
            1 => LobbyInput::Leave,
            2 => LobbyInput::SocketOpened,
            3 => {
                belief.socket = false;
                LobbyInput::SocketClosed(String::new())
            }
            4 => LobbyInput::NetworkChanged,
            5 | 6 => {
                now = now + Duration::from_millis(script.u16().into());
                LobbyInput::Tick
            }
            7 => LobbyInput::Linked { peer: peer(&mut script), linked: script.below(2) == 0 },
            8 => LobbyInput::Signal { to: peer(&mut script), signal: signal(&mut script) },
            9 => match core::str::from_utf8(script.short()) {
                Ok(text) => LobbyInput::SocketText(text.to_owned()),
                Err(_) => continue,
            },
            _ => LobbyInput::SocketText(said(&mut script).to_json()),
        };
        let ticks = input == LobbyInput::Tick;
        let leaves = input == LobbyInput::Leave;
        client.handle(now, input);
        if leaves {
            (belief.me, belief.members) = (None, BTreeSet::new());
        }
        while let Some(output) = client.poll_output() {
            belief.take(output);
        }
        let others = usize::from(LOBBY_MEMBERS_MAX + LOBBY_SPECTATORS_MAX) - 1;
        assert!(belief.members.len() <= others);
        let due = client.next_deadline().is_some_and(|at| at <= now);
        assert!(!ticks || !due, "a deadline does not come to rest");
    }
}

impl Belief {
    fn take(&mut self, output: LobbyOutput) {
        match output {
            LobbyOutput::OpenSocket => self.socket = true,
            LobbyOutput::CloseSocket => self.socket = false,
            LobbyOutput::SendText(text) => {
                assert!(self.socket && self.me.is_some(), "said to nobody");
                assert!(text.len() <= LOBBY_MESSAGE_MAX);
                assert!(Request::from_json(&text).is_ok(), "{text}");
            }
            LobbyOutput::Event(event) => self.event(event),
        }
    }

    fn event(&mut self, event: LobbyEvent) {
        match event {
            LobbyEvent::Online { me } => self.me = Some(me),
            LobbyEvent::Joined(state) => {
                assert_eq!(Some(state.host), self.me);
                assert!(self.members.is_empty(), "the members of before are not gone");
            }
            LobbyEvent::Changed(state) => {
                let is_there = |peer| state.members.iter().any(|member| member.peer == peer);
                assert!(self.me.is_some_and(is_there) && is_there(state.host), "not there");
            }
            LobbyEvent::MemberJoined(peer, _) => {
                assert!(self.me != Some(peer) && self.members.insert(peer), "it is there already");
            }
            LobbyEvent::MemberLeft(peer, _) => assert!(self.members.remove(&peer), "never there"),
            LobbyEvent::MemberOffline(peer) | LobbyEvent::Signal(peer, _) => {
                assert!(self.members.contains(&peer), "never there");
            }
            LobbyEvent::HostChanged(peer) => {
                assert!(self.me == Some(peer) || self.members.contains(&peer), "never there");
            }
            LobbyEvent::Offline { .. } | LobbyEvent::JoinRefused { .. } => {}
            other => unreachable!("no such server says {other:?}"),
        }
    }
}

/// One of a few, so that they meet; of many sometimes, so that there is no room for all.
fn peer(script: &mut Script<'_>) -> PeerId {
    PeerId::from_u128(script.u8().into())
}

/// What a server says.
fn said(script: &mut Script<'_>) -> Event {
    match script.below(6) {
        0 => Event::IdAssigned(peer(script)),
        1 | 2 => Event::NewPeer(peer(script)),
        3 => Event::PeerLeft(peer(script)),
        _ => Event::Signal { sender: peer(script), data: Data::of(&signal(script)) },
    }
}

fn signal(script: &mut Script<'_>) -> Signal {
    let text = || "x".repeat(50);
    let body = match script.below(6) {
        0 | 1 => SignalBody::Offer { sdp: text() },
        2 => SignalBody::Answer { sdp: text() },
        3 => SignalBody::Candidate { candidate: text(), mid: None, mline: None },
        4 => SignalBody::Bye,
        _ => SignalBody::Withdraw,
    };
    Signal { attempt: script.u8().into(), body }
}
