//! One test a rule; random runs are in their own file.

mod random;

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::lobby::ErrorCode;
use netplay_protocol::matchbox::{Data, Event, Request};
use netplay_protocol::{Now, PeerId};

use super::{Input, Output, Room, RoomStats, Rooms};
use crate::{ConnectionId, RateLimit, RoomLimits};

/// A machine, and what each connection got.
struct Node {
    rooms: Rooms,
    limits: RoomLimits,
    now: Now,
    got: BTreeMap<u64, Vec<Event>>,
    closed: BTreeMap<u64, ErrorCode>,
}

impl Node {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut RoomLimits)) -> Self {
        let mut limits = RoomLimits::default();
        change(&mut limits);
        let (got, closed) = (BTreeMap::new(), BTreeMap::new());
        Self { rooms: Rooms::new(limits.clone(), [7; 32]), limits, now: Now::ZERO, got, closed }
    }

    fn input(&mut self, input: Input) {
        self.rooms.handle(self.now, input);
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::Send { connection, event } => {
                    assert!(!self.closed.contains_key(&connection.0), "nothing after the end");
                    self.got.entry(connection.0).or_default().push(event);
                }
                Output::Close { connection, code, .. } => {
                    assert_eq!(self.closed.insert(connection.0, code), None, "closed once");
                }
            }
        }
    }

    fn connect(&mut self, connection: u64, name: &str, query: &str) {
        let room = Room::new(name, Some(query), &self.limits).unwrap();
        self.input(Input::Connected { connection: ConnectionId(connection), room });
    }

    /// Enters a room; it gets its id and nothing else.
    fn enter(&mut self, connection: u64, name: &str, query: &str) -> PeerId {
        self.connect(connection, name, query);
        match self.take(connection)[..] {
            [Event::IdAssigned(peer)] => peer,
            ref other => panic!("one id is expected, not {other:?}"),
        }
    }

    fn leave(&mut self, connection: u64) {
        self.input(Input::Disconnected { connection: ConnectionId(connection) });
    }

    fn say(&mut self, connection: u64, request: Request) {
        self.input(Input::Request { connection: ConnectionId(connection), request });
    }

    fn signal(&mut self, connection: u64, receiver: PeerId, text: &str) {
        self.say(connection, Request::Signal { receiver, data: data(text) });
    }

    fn take(&mut self, connection: u64) -> Vec<Event> {
        self.got.remove(&connection).unwrap_or_default()
    }

    fn nobody_got_anything(&self) -> bool {
        self.got.is_empty()
    }

    fn stats(&self) -> (usize, usize, usize) {
        let RoomStats { peers, rooms, groups } = self.rooms.stats();
        (peers, rooms, groups)
    }
}

fn data(text: &str) -> Data {
    let text = format!(r#"{{"Signal":{{"receiver":"{}","data":"{text}"}}}}"#, PeerId::from_u128(0));
    match Request::from_json(&text) {
        Ok(Request::Signal { data, .. }) => data,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newcomer_is_told_its_id_and_the_others_are_told_of_it() {
    let mut node = Node::new();
    let a = node.enter(1, "r", "");
    assert!(node.take(1).is_empty());
    let b = node.enter(2, "r", "");
    assert_eq!(node.take(1), [Event::NewPeer(b)]);
    let c = node.enter(3, "r", "");
    assert_eq!((node.take(1), node.take(2)), (vec![Event::NewPeer(c)], vec![Event::NewPeer(c)]));
    assert!(a != b && b != c && a != c);
}

#[test]
fn ids_are_uuids_of_version_4() {
    let mut node = Node::new();
    for connection in 0..50 {
        let id = node.enter(connection, "r", "next=1").to_string();
        let (version, variant) = (id.as_bytes()[14], id.as_bytes()[19]);
        assert!(version == b'4' && b"89ab".contains(&variant), "{id}");
    }
}

#[test]
fn a_signal_reaches_its_receiver_only_and_names_its_sender() {
    let mut node = Node::new();
    let a = node.enter(1, "r", "");
    let b = node.enter(2, "r", "");
    node.enter(3, "r", "");
    node.got.clear();
    node.signal(1, b, "offer");
    assert_eq!(node.take(2), [Event::Signal { sender: a, data: data("offer") }]);
    node.signal(2, a, "answer");
    assert_eq!(node.take(1), [Event::Signal { sender: b, data: data("answer") }]);
    node.signal(1, a, "myself");
    assert!(node.nobody_got_anything());
}

#[test]
fn a_receiver_in_another_room_gets_nothing() {
    let mut node = Node::new();
    let places = [("r", ""), ("s", ""), ("r", "next=3"), ("r", "next=4"), ("", "")];
    let peers: Vec<_> = (1..)
        .zip(places)
        .map(|(connection, (name, query))| node.enter(connection, name, query))
        .collect();
    for from in 1..=5 {
        for to in &peers {
            node.signal(from, *to, "offer");
        }
    }
    assert!(node.nobody_got_anything());
    assert_eq!(node.stats(), (5, 5, 0));
}

#[test]
fn a_receiver_in_another_group_of_the_same_room_gets_nothing() {
    let mut node = Node::new();
    let a = node.enter(1, "r", "next=2");
    node.enter(2, "r", "next=2");
    let c = node.enter(3, "r", "next=2");
    node.got.clear();
    node.signal(1, c, "offer");
    node.signal(3, a, "offer");
    assert!(node.nobody_got_anything());
}

#[test]
fn groups_are_filled_one_after_the_other() {
    let mut node = Node::new();
    node.enter(1, "r", "next=2");
    let b = node.enter(2, "r", "next=2");
    assert_eq!(node.take(1), [Event::NewPeer(b)]);
    assert_eq!(node.stats(), (2, 0, 1));
    node.enter(3, "r", "next=2");
    assert!(node.take(1).is_empty() && node.take(2).is_empty());
    let d = node.enter(4, "r", "next=2");
    assert_eq!(node.take(3), [Event::NewPeer(d)]);
    assert!(node.take(1).is_empty() && node.take(2).is_empty());
    assert_eq!(node.stats(), (4, 0, 2));
}

#[test]
fn a_group_of_one_is_complete_at_once() {
    let mut node = Node::new();
    node.enter(1, "r", "next=1");
    node.enter(2, "r", "next=1");
    assert!(node.take(1).is_empty());
    assert_eq!(node.stats(), (2, 0, 2));
}

#[test]
fn members_of_a_complete_group_hear_who_leaves_and_nobody_fills_the_place() {
    let mut node = Node::new();
    node.enter(1, "r", "next=3");
    let b = node.enter(2, "r", "next=3");
    let c = node.enter(3, "r", "next=3");
    node.got.clear();
    node.leave(2);
    assert_eq!((node.take(1), node.take(3)), (vec![Event::PeerLeft(b)], vec![Event::PeerLeft(b)]));
    node.enter(4, "r", "next=3");
    assert!(node.take(1).is_empty() && node.take(3).is_empty());
    node.signal(1, c, "still here");
    assert_eq!(node.take(3).len(), 1);
    assert_eq!(node.stats(), (3, 1, 1));
}

#[test]
fn who_leaves_an_incomplete_group_frees_its_place() {
    let mut node = Node::new();
    let a = node.enter(1, "r", "next=3");
    node.enter(2, "r", "next=3");
    node.got.clear();
    node.leave(1);
    assert_eq!(node.take(2), [Event::PeerLeft(a)]);
    let c = node.enter(3, "r", "next=3");
    assert_eq!(node.take(2), [Event::NewPeer(c)]);
    assert_eq!(node.stats(), (2, 1, 0), "two are not three");
    let d = node.enter(4, "r", "next=3");
    assert_eq!((node.take(2), node.take(3)), (vec![Event::NewPeer(d)], vec![Event::NewPeer(d)]));
    assert_eq!(node.stats(), (3, 0, 1));
}

#[test]
fn rooms_and_groups_are_gone_with_their_last_player() {
    let mut node = Node::new();
    let places = ["", "next=2", "next=2", "next=2", "next=5"];
    for (connection, query) in (1..).zip(places) {
        node.enter(connection, "r", query);
    }
    assert_eq!(node.stats(), (5, 3, 1));
    (1..=5).for_each(|connection| node.leave(connection));
    assert_eq!(node.stats(), (0, 0, 0));
    assert!(node.rooms.is_empty());
}

#[test]
fn a_signal_to_somebody_who_left_vanishes() {
    let mut node = Node::new();
    node.enter(1, "r", "");
    let b = node.enter(2, "r", "");
    node.leave(2);
    node.got.clear();
    node.signal(1, b, "offer");
    assert!(node.nobody_got_anything());
}

#[test]
fn a_keep_alive_is_never_answered() {
    let mut node = Node::new();
    node.enter(1, "r", "");
    node.say(1, Request::KeepAlive);
    assert!(node.nobody_got_anything() && node.closed.is_empty());
}

#[test]
fn signals_beyond_the_rate_vanish_and_a_flood_is_closed() {
    let mut node = Node::with(|limits| limits.signals = RateLimit { burst: 3, per_second: 1 });
    let a = node.enter(1, "r", "");
    let b = node.enter(2, "r", "");
    for _ in 0..5 {
        node.signal(1, b, "offer");
    }
    assert_eq!(node.take(2).len(), 3);
    node.now = node.now + Duration::from_secs(3);
    node.signal(1, b, "offer");
    assert_eq!(node.take(2).len(), 1, "who waits goes on");
    for _ in 0..5 {
        node.signal(1, b, "offer");
    }
    assert_eq!(node.closed.get(&1), Some(&ErrorCode::RateLimited));
    assert_eq!(node.take(2), [Event::PeerLeft(a)]);
    assert_eq!(node.stats(), (1, 1, 0));
}

#[test]
fn what_is_skipped_counts_against_the_rate() {
    let mut node = Node::with(|limits| limits.signals = RateLimit { burst: 2, per_second: 1 });
    node.enter(1, "r", "");
    let b = node.enter(2, "r", "");
    node.input(Input::Malformed { connection: ConnectionId(1) });
    node.say(1, Request::KeepAlive);
    node.signal(1, b, "offer");
    assert!(node.take(2).is_empty() && node.closed.is_empty());
    for _ in 0..2 {
        node.input(Input::Malformed { connection: ConnectionId(1) });
    }
    assert_eq!(node.closed.get(&1), Some(&ErrorCode::RateLimited));
}

#[test]
fn a_full_room_refuses_and_others_do_not() {
    let mut node = Node::with(|limits| limits.max_room_peers = 2);
    node.enter(1, "r", "");
    node.enter(2, "r", "");
    node.got.clear();
    node.connect(3, "r", "");
    assert_eq!(node.closed.get(&3), Some(&ErrorCode::LobbyFull));
    assert!(node.nobody_got_anything());
    node.enter(4, "s", "");
    node.leave(1);
    node.enter(5, "r", "");
}

#[test]
fn a_full_node_refuses_rooms_and_players() {
    let mut node = Node::with(|limits| (limits.max_rooms, limits.max_peers) = (2, 4));
    node.enter(1, "r", "next=1");
    node.enter(2, "s", "");
    node.connect(3, "r", "next=1");
    assert_eq!(node.closed.get(&3), Some(&ErrorCode::ServerFull), "a complete group is a room");
    node.enter(4, "s", "");
    node.enter(5, "s", "");
    node.connect(6, "s", "");
    assert_eq!(node.closed.get(&6), Some(&ErrorCode::ServerFull));
    assert_eq!(node.stats(), (4, 1, 1));
    node.leave(1);
    node.enter(7, "t", "");
}

#[test]
fn limits_of_nothing_panic_nowhere_and_leave_nothing() {
    let nothing = |limits: &mut RoomLimits| {
        (limits.max_rooms, limits.max_peers, limits.max_room_peers) = (0, 0, 0);
        limits.signals = RateLimit { burst: 0, per_second: 0 };
    };
    let mut node = Node::with(nothing);
    node.connect(1, "", "");
    assert_eq!(node.closed.get(&1), Some(&ErrorCode::ServerFull));
    node.leave(1);
    assert!(node.rooms.is_empty());
}

#[test]
fn a_connection_number_that_is_used_twice_ends_the_older_one() {
    let mut node = Node::new();
    let a = node.enter(1, "r", "");
    node.enter(2, "r", "");
    node.got.clear();
    node.enter(1, "s", "");
    assert_eq!(node.take(2), [Event::PeerLeft(a)]);
    assert_eq!(node.stats(), (2, 2, 0));
}
