//! Random joins, leaves and signals, held against a model that is a plain list of groups.
//!
//! The model says for every step who has to get what; nobody may get anything else. proptest prints
//! the seed and the shortest list of steps that fails.

use core::time::Duration;

use netplay_protocol::matchbox::{Event, Request};
use netplay_protocol::{Now, PeerId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Room, data};
use crate::matchbox::{Input, Output, Rooms};
use crate::{ConnectionId, RateLimit, RoomLimits};

const NAMES: [&str; 3] = ["", "r", "health"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Join {
        name: usize,
        next: Option<usize>,
    },
    Leave {
        who: usize,
    },
    /// To somebody who is or was somewhere.
    Signal {
        who: usize,
        to: usize,
    },
    KeepAlive {
        who: usize,
    },
    Malformed {
        who: usize,
    },
    Wait {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..1000usize;
    let next = prop_oneof![Just(None), (1..5usize).prop_map(Some)];
    prop_oneof![
        6 => (0..NAMES.len(), next).prop_map(|(name, next)| Step::Join { name, next }),
        4 => who().prop_map(|who| Step::Leave { who }),
        6 => (who(), who()).prop_map(|(who, to)| Step::Signal { who, to }),
        1 => who().prop_map(|who| Step::KeepAlive { who }),
        1 => who().prop_map(|who| Step::Malformed { who }),
        1 => (0..2000u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

#[derive(Clone, Debug)]
struct Group {
    name: usize,
    next: Option<usize>,
    complete: bool,
    members: Vec<(ConnectionId, PeerId)>,
}

/// The model, and the machine that has to do the same.
struct World {
    rooms: Rooms,
    limits: RoomLimits,
    now: Now,
    groups: Vec<Group>,
    /// Everybody there ever was.
    peers: Vec<PeerId>,
    connections: u64,
    trace: Vec<Output>,
}

impl World {
    fn new(limits: RoomLimits) -> Self {
        Self {
            rooms: Rooms::new(limits.clone(), [9; 32]),
            limits,
            now: Now::ZERO,
            groups: Vec::new(),
            peers: Vec::new(),
            connections: 0,
            trace: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.rooms.handle(self.now, input);
        let outputs: Vec<_> = core::iter::from_fn(|| self.rooms.poll_output()).collect();
        self.trace.extend(outputs.iter().cloned());
        outputs
    }

    fn place(&self, who: usize) -> Option<(usize, ConnectionId, PeerId)> {
        let places = self.groups.iter().enumerate().flat_map(|(group, of)| {
            of.members.iter().map(move |(connection, peer)| (group, *connection, *peer))
        });
        let places: Vec<_> = places.collect();
        (!places.is_empty()).then(|| places[who % places.len()])
    }

    fn join(&mut self, name: usize, next: Option<usize>) {
        let query = next.map(|next| format!("next={next}"));
        let room = Room::new(NAMES[name], query.as_deref(), &self.limits).unwrap();
        let connection = ConnectionId(self.connections);
        self.connections += 1;
        let outputs = self.input(Input::Connected { connection, room });
        let open = |group: &Group| !group.complete && (group.name, group.next) == (name, next);
        let found = self.groups.iter().position(open);
        let players: usize = self.groups.iter().map(|group| group.members.len()).sum();
        let full = players >= self.limits.max_peers
            || found.map_or(self.groups.len() >= self.limits.max_rooms, |group| {
                self.groups[group].members.len() >= self.limits.max_room_peers
            });
        if full {
            assert!(
                matches!(&outputs[..], [Output::Close { connection: closed, .. }] if *closed == connection)
            );
            return;
        }
        let Some(Output::Send { connection: first, event: Event::IdAssigned(peer) }) =
            outputs.first()
        else {
            panic!("an id comes first, not {outputs:?}");
        };
        assert_eq!(*first, connection);
        assert!(!self.peers.contains(peer), "ids are never used twice");
        let peer = *peer;
        self.peers.push(peer);
        let group = found.unwrap_or_else(|| {
            self.groups.push(Group { name, next, complete: false, members: Vec::new() });
            self.groups.len() - 1
        });
        let group = &mut self.groups[group];
        assert_same(&outputs[1..], group.members.iter().map(|(to, _)| (*to, Event::NewPeer(peer))));
        group.members.push((connection, peer));
        group.complete = Some(group.members.len()) == next;
    }

    /// Takes somebody out of the model. Gives what the rest has to hear.
    fn remove(
        &mut self,
        group: usize,
        connection: ConnectionId,
        peer: PeerId,
    ) -> Vec<(ConnectionId, Event)> {
        let members = &mut self.groups[group].members;
        members.retain(|(other, _)| *other != connection);
        let rest = members.iter().map(|(to, _)| (*to, Event::PeerLeft(peer))).collect();
        self.groups.retain(|group| !group.members.is_empty());
        rest
    }

    fn leave(&mut self, who: usize) {
        let Some((group, connection, peer)) = self.place(who) else { return };
        let expected = self.remove(group, connection, peer);
        let outputs = self.input(Input::Disconnected { connection });
        assert_same(&outputs, expected);
        assert_eq!(self.input(Input::Disconnected { connection }), [], "once is enough");
    }

    /// A player says something; `expected` is what comes of it unless it is over its rate.
    fn say(&mut self, who: usize, request: Option<Request>) {
        let Some((group, connection, sender)) = self.place(who) else { return };
        let expected = match &request {
            Some(Request::Signal { receiver, data }) if *receiver != sender => {
                let mut members = self.groups[group].members.iter();
                let to = members.find(|(_, peer)| peer == receiver);
                to.map(|(to, _)| (*to, Event::Signal { sender, data: data.clone() }))
            }
            _ => None,
        };
        let outputs = self.input(match request {
            Some(request) => Input::Request { connection, request },
            None => Input::Malformed { connection },
        });
        let limited = self.limits.signals.burst < 1000;
        match outputs.split_last() {
            Some((Output::Close { connection: closed, .. }, left)) if limited => {
                assert_eq!(*closed, connection);
                let expected = self.remove(group, connection, sender);
                assert_same(left, expected);
            }
            None if limited => {}
            _ => assert_same(&outputs, expected),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join { name, next } => self.join(name, next),
            Step::Leave { who } => self.leave(who),
            Step::Signal { who, to } => {
                if let Some(receiver) = self.peers.get(to % self.peers.len().max(1)).copied() {
                    self.say(who, Some(Request::Signal { receiver, data: data(&to.to_string()) }));
                }
            }
            Step::KeepAlive { who } => self.say(who, Some(Request::KeepAlive)),
            Step::Malformed { who } => self.say(who, None),
            Step::Wait { millis } => self.now = self.now + Duration::from_millis(millis),
        }
        let stats = self.rooms.stats();
        let complete = self.groups.iter().filter(|group| group.complete).count();
        assert_eq!((stats.rooms, stats.groups), (self.groups.len() - complete, complete));
        let players: usize = self.groups.iter().map(|group| group.members.len()).sum();
        assert_eq!(stats.peers, players);
        assert!(players <= self.limits.max_peers && self.groups.len() <= self.limits.max_rooms);
    }

    /// Everybody leaves.
    fn end(&mut self) {
        while self.place(0).is_some() {
            self.leave(0);
        }
        assert!(self.rooms.is_empty());
    }
}

/// These events and no others, in any order of those who get them.
fn assert_same(outputs: &[Output], expected: impl IntoIterator<Item = (ConnectionId, Event)>) {
    let sent = outputs.iter().map(|output| match output {
        Output::Send { connection, event } => (*connection, event.clone()),
        Output::Close { .. } => panic!("nobody is closed here: {outputs:?}"),
    });
    let sorted = |mut events: Vec<(ConnectionId, Event)>| {
        events.sort_by_key(|(connection, _)| *connection);
        events
    };
    assert_eq!(sorted(sent.collect()), sorted(expected.into_iter().collect()));
}

fn run(limits: RoomLimits, steps: &[Step]) -> Vec<Output> {
    let mut world = World::new(limits);
    for step in steps {
        world.step(*step);
    }
    world.end();
    world.trace
}

fn tight() -> RoomLimits {
    let signals = RateLimit { burst: 3, per_second: 1 };
    RoomLimits { max_peers: 9, max_rooms: 4, max_room_peers: 4, signals, ..RoomLimits::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn everybody_hears_of_exactly_its_own_group_and_all_memory_is_freed(steps in vec(step(), 0..300)) {
        run(RoomLimits::default(), &steps);
    }

    #[test]
    fn the_same_holds_within_tight_limits(steps in vec(step(), 0..300)) {
        run(tight(), &steps);
    }

    #[test]
    fn the_same_seed_and_inputs_give_the_same_outputs(steps in vec(step(), 0..100)) {
        prop_assert_eq!(run(tight(), &steps), run(tight(), &steps));
    }
}
