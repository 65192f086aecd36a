//! The network between nodes, the clock, and the oracle.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use netplay_protocol::{Now, PeerId};
use netplay_rollback::{Event, Input, Player, Role, Seat, Session, SessionConfig, Tick};
use netplay_simnet::{Conditions, Network};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::forge;
use super::game::Game;
use super::malice::{Liar, Malice};
use super::node::{Node, Sent};

const STEP: Duration = Duration::from_millis(1);
pub const MS: Duration = Duration::from_millis(1);

/// How the session is set up, on all nodes alike.
#[derive(Clone, Debug)]
pub struct Setup {
    pub peers: usize,
    /// Of these, the last so many are not there at first.
    pub absent: usize,
    pub players_each: u8,
    pub rate: u16,
    /// Ticks between two checksums; a second without.
    pub checksum_every: Option<u16>,
    pub prediction: u8,
    pub delay: u8,
    pub change_every: Tick,
    pub input_max: usize,
    pub ballast: usize,
    pub conditions: Conditions,
    /// Bytes per second of the reliable channels.
    pub bulk_rate: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            peers: 2,
            absent: 0,
            players_each: 1,
            rate: 60,
            checksum_every: None,
            prediction: 8,
            delay: 0,
            change_every: 10,
            input_max: 1,
            ballast: 0,
            conditions: Conditions::perfect().with_delay(MS * 30),
            bulk_rate: 2_500_000,
        }
    }
}

pub fn peer(index: usize) -> PeerId {
    PeerId::from_u128((index as u128 + 1) << 96)
}

/// The name of a seat that nobody has.
fn nobody(index: usize) -> PeerId {
    PeerId::from_u128(index as u128 + 1)
}

pub fn index(peer: PeerId) -> usize {
    (peer.as_u128() >> 96) as usize - 1
}

/// A reliable ordered channel: a message needs the delay of the path, and waits for it while it is
/// cut.
#[derive(Default)]
struct Channel {
    queue: VecDeque<(Now, bool, Vec<u8>)>,
    free_at: Now,
}

pub struct World {
    pub now: Now,
    pub setup: Setup,
    pub nodes: BTreeMap<usize, Node>,
    pub network: Network<usize, (u16, Vec<u8>, bool)>,
    channels: BTreeMap<(usize, usize), Channel>,
    copies: Vec<(Now, usize, usize, u16, Vec<u8>)>,
    /// Link news that are still to come: when, to whom, about whom, up.
    news: Vec<(Now, usize, usize, bool)>,
    /// Seats that were taken, and who is still to hear it: when, who, which.
    taken: BTreeSet<usize>,
    seats: Vec<(Now, usize, usize)>,
    /// Who starts when.
    comes: Vec<(Now, usize)>,
    /// When the lobby server tells who is there.
    lobby_news: Option<Now>,
    /// The host of the lobby, until the lobby server notices that it is gone.
    host: usize,
    pub rng: ChaCha8Rng,
    /// The checksum before each tick that somebody has final, and who.
    oracle: BTreeMap<Tick, (u64, BTreeSet<usize>)>,
    pub sent_blocks: u64,
    pub sent_bytes: u64,
    /// Nodes whose state is not compared: they lie.
    pub unsound: Vec<usize>,
    /// A node that falls silent after so many more messages of the agreement.
    pub falls_silent: Option<(usize, usize)>,
    /// Nodes that lie; they are unsound, and so is whom they have given a state.
    liars: BTreeMap<usize, Liar>,
    /// Whether final states may differ, as somebody tells different inputs to different peers.
    pub may_differ: bool,
    /// How often they did.
    pub differences: u64,
}

impl World {
    pub fn new(setup: Setup, seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let network = Network::new(setup.conditions.clone(), seed, |node| node as u64);
        let mut world = Self {
            now: Now::ZERO,
            nodes: BTreeMap::new(),
            network,
            channels: BTreeMap::new(),
            copies: Vec::new(),
            news: Vec::new(),
            taken: BTreeSet::new(),
            seats: Vec::new(),
            comes: Vec::new(),
            lobby_news: None,
            host: 0,
            rng,
            oracle: BTreeMap::new(),
            sent_blocks: 0,
            sent_bytes: 0,
            unsound: Vec::new(),
            falls_silent: None,
            liars: BTreeMap::new(),
            may_differ: false,
            differences: 0,
            setup,
        };
        for index in 0..world.setup.peers - world.setup.absent {
            world.start(index, Role::Player);
        }
        world
    }

    /// Who has a seat, or a name in its place that nobody has.
    fn seated(&self, index: usize) -> PeerId {
        let free = index >= self.setup.peers - self.setup.absent && !self.taken.contains(&index);
        if free { nobody(index) } else { peer(index) }
    }

    /// A peer takes a seat that was free: the others hear it within 300 ms, and then it starts.
    pub fn come(&mut self, index: usize) {
        let first = self.setup.peers - self.setup.absent;
        if (first..self.setup.peers).contains(&index) && self.taken.insert(index) {
            for to in self.nodes.keys().copied().collect::<Vec<_>>() {
                let after = MS * (self.rng.next_u32() % 300);
                self.seats.push((self.now + after, to, index));
            }
            self.comes.push((self.now + MS * 300, index));
        }
    }

    fn tell_seats(&mut self) {
        while let Some(place) = self.comes.iter().position(|(at, _)| *at <= self.now) {
            let (_, index) = self.comes.swap_remove(place);
            self.start(index, Role::Returning);
        }
        while let Some(place) = self.seats.iter().position(|(at, ..)| *at <= self.now) {
            let (_, to, seat) = self.seats.swap_remove(place);
            if self.nodes.contains_key(&to) {
                self.give(to, Input::Seat { of: nobody(seat), peer: peer(seat) });
            }
        }
    }

    fn players_of(&self, index: usize) -> Vec<Player> {
        let each = usize::from(self.setup.players_each);
        if index >= self.setup.peers {
            return Vec::new();
        }
        (index * each..(index + 1) * each).map(|player| Player(player as u8)).collect()
    }

    /// A process starts. Who comes later is linked to everybody at once.
    pub fn start(&mut self, index: usize, role: Role) {
        let setup = &self.setup;
        let seat = |of| Seat { peer: self.seated(of), players: setup.players_each };
        let seats = (0..setup.peers).map(seat).collect();
        let mut config = SessionConfig::new(77, peer(index), peer(self.host), seats);
        let free =
            (setup.peers - setup.absent..setup.peers).filter(|seat| !self.taken.contains(seat));
        config.absent = free.map(nobody).collect();
        config.rate = netplay_tick::TickRate::new(setup.rate).unwrap();
        config.checksum_every = setup.checksum_every.unwrap_or(setup.rate);
        (config.role, config.prediction, config.delay) = (role, setup.prediction, setup.delay);
        config.epoch = self.rng.next_u32();
        let players = setup.peers * usize::from(setup.players_each);
        let game = Game::new(players, setup.ballast);
        let rng = ChaCha8Rng::seed_from_u64(self.rng.next_u64());
        let session = Session::new(config).unwrap();
        let mut node = Node::new(session, peer(index), game, self.players_of(index), rng);
        (node.change_every, node.input_max) = (self.setup.change_every, self.setup.input_max);
        node.prediction = self.setup.prediction.into();
        node.offset = i64::from(self.rng.next_u32() % 2000) - 1000;
        let rate = u64::from(self.setup.rate);
        node.next_tick = (self.now.as_micros() * rate / 1_000_000) as Tick;
        self.nodes.insert(index, node);
        if role != Role::Player {
            for other in
                self.nodes.keys().copied().filter(|other| *other != index).collect::<Vec<_>>()
            {
                self.news.retain(|(_, to, about, _)| (*to, *about) != (other, index));
                self.channels.remove(&(other, index));
                self.channels.remove(&(index, other));
                self.news.push((self.now, other, index, false));
                self.news.push((self.now + MS, other, index, true));
                self.news.push((self.now + MS, index, other, true));
            }
        }
    }

    /// A process dies; the others notice between 1 and 2 s later.
    pub fn kill(&mut self, index: usize) {
        self.forget(index);
        self.network.remove(index);
        self.channels.retain(|(from, to), _| *from != index && *to != index);
        self.copies.retain(|(_, from, ..)| *from != index);
        self.news.retain(|(_, to, ..)| *to != index);
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            let after = MS * (1000 + self.rng.next_u32() % 1000);
            self.news.push((self.now + after, other, index, false));
        }
        self.told_by_lobby();
    }

    /// Forgets final states that everybody has shown.
    pub fn forget_oracle(&mut self) {
        let oldest = self.confirmed().into_iter().min().unwrap_or(0);
        self.oracle = self.oracle.split_off(&(oldest - 100));
    }

    /// What only the dead had is forgotten.
    fn forget(&mut self, index: usize) {
        self.nodes.remove(&index);
        self.oracle.retain(|_, (_, who)| {
            who.remove(&index);
            !who.is_empty()
        });
    }

    /// A player leaves the match and the lobby.
    pub fn leave(&mut self, index: usize) {
        if self.nodes.contains_key(&index) {
            self.give(index, Input::Leave);
            self.forget(index);
            for other in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.news.push((self.now + MS * 300, other, index, false));
            }
            self.told_by_lobby();
        }
    }

    /// The lobby server tells a new host at once, and that a member left only when its seat is given
    /// up; here both after a while.
    fn told_by_lobby(&mut self) {
        self.lobby_news = Some(self.now + MS * 1_500);
    }

    fn lobby(&mut self) {
        if self.lobby_news.is_none_or(|at| at > self.now) {
            return;
        }
        self.lobby_news = None;
        if !self.nodes.contains_key(&self.host) {
            self.host = self.nodes.keys().copied().next().unwrap_or(0);
        }
        let host = self.host;
        let gone: Vec<usize> =
            (0..self.setup.peers).filter(|at| !self.nodes.contains_key(at)).collect();
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.give(node, Input::Host(peer(host)));
            for gone in &gone {
                self.give(node, Input::Gone(peer(*gone)));
            }
        }
    }

    /// The player who is the host of the lobby.
    pub const fn host(&self) -> usize {
        self.host
    }

    pub fn players_left(&self) -> usize {
        let playing = |node: &&Node| node.session.is_playing();
        self.nodes.values().filter(playing).count()
    }

    /// Nothing passes between two nodes, or everything again.
    pub fn cut(&mut self, a: usize, b: usize, cut: bool) {
        self.network.block(a, b, cut);
        self.network.block(b, a, cut);
    }

    /// A node begins to lie.
    pub fn corrupt(&mut self, index: usize, malice: Malice) {
        self.liars.insert(index, Liar::new(malice, self.rng.next_u64()));
        self.unsound.push(index);
        self.may_differ |= malice.blocks;
    }

    /// What a liar sends; whom it gives a state may be as wrong from then on.
    fn lie(&mut self, from: usize, sent: Vec<Sent>) -> Vec<Sent> {
        let Some(liar) = self.liars.get_mut(&from) else { return sent };
        let sent = liar.corrupt(sent);
        for sent in &sent {
            let (Sent::Message { to, bytes } | Sent::Bulk { to, bytes }) = sent else { continue };
            let state =
                bytes.first().is_some_and(|kind| *kind == forge::FEED || *kind >= forge::HEAD);
            let to = index(*to);
            let waits = self.nodes.get(&to).is_some_and(|node| !node.session.is_playing());
            if state && waits && !self.unsound.contains(&to) {
                self.unsound.push(to);
            }
        }
        sent
    }

    /// What a liar invents at a tick.
    fn invent(&mut self, index: usize) {
        let nodes: Vec<usize> = self.nodes.keys().copied().filter(|node| *node != index).collect();
        let (slots, tick) = (self.setup.peers, self.tick());
        if let Some(liar) = self.liars.get_mut(&index).filter(|_| !nodes.is_empty()) {
            let sent = liar.invent(index, slots, &nodes, tick);
            self.dispatch(index, sent);
        }
    }

    /// Two nodes lose each other, and notice within so long after a second.
    pub fn lose(&mut self, a: usize, b: usize, within: u32) {
        self.cut(a, b, true);
        for (to, about) in [(a, b), (b, a)] {
            let after = MS * (1000 + self.rng.next_u32() % within.max(1));
            self.news.push((self.now + after, to, about, false));
        }
    }

    /// Two nodes that have lost each other are linked again.
    pub fn find(&mut self, a: usize, b: usize) {
        self.cut(a, b, false);
        self.channels.remove(&(a, b));
        self.channels.remove(&(b, a));
        [(a, b), (b, a)]
            .iter()
            .for_each(|(to, about)| self.news.push((self.now, *to, *about, true)));
    }

    /// Whether a node has fallen silent with this message, or before it.
    fn is_silent(&mut self, from: usize, sent: &Sent) -> bool {
        let Some((node, left)) = &mut self.falls_silent else { return false };
        if *node != from {
            return false;
        }
        let agrees = matches!(sent, Sent::Message { bytes, .. } if (1..=9).contains(&bytes[0]));
        if agrees && *left > 0 {
            *left -= 1;
            return false;
        }
        agrees || *left == 0
    }

    fn dispatch(&mut self, from: usize, sent: Vec<Sent>) {
        for sent in self.lie(from, sent) {
            if self.is_silent(from, &sent) {
                continue;
            }
            match sent {
                Sent::Block { to, tick, bytes, again } => {
                    let to = index(to);
                    if again {
                        let half = Duration::from_micros(500_000 / u64::from(self.setup.rate));
                        self.copies.push((self.now + half, from, to, tick, bytes.clone()));
                    }
                    self.send_block(from, to, tick, bytes, false);
                }
                Sent::Message { to, bytes } => self.send_reliable(from, index(to), false, bytes),
                Sent::Bulk { to, bytes } => self.send_reliable(from, index(to), true, bytes),
            }
        }
    }

    fn send_block(&mut self, from: usize, to: usize, tick: u16, bytes: Vec<u8>, again: bool) {
        self.sent_blocks += 1;
        self.sent_bytes += bytes.len() as u64;
        self.network.send(self.now, from, to, bytes.len() + 60, (tick, bytes, again));
    }

    fn send_reliable(&mut self, from: usize, to: usize, bulk: bool, bytes: Vec<u8>) {
        if !self.nodes.contains_key(&to) {
            return;
        }
        let delay = self.network.conditions(from, to).delay;
        let channel = self.channels.entry((from, to)).or_default();
        let took = Duration::from_micros(bytes.len() as u64 * 1_000_000 / self.setup.bulk_rate);
        channel.free_at = channel.free_at.max(self.now) + if bulk { took } else { Duration::ZERO };
        channel.queue.push_back((channel.free_at + delay, bulk, bytes));
    }

    fn news(&mut self) {
        while let Some(at) = self.news.iter().position(|(at, ..)| *at <= self.now) {
            let (_, to, about, up) = self.news.remove(at);
            let alive = self.nodes.contains_key(&about);
            if let Some(node) = self.nodes.get_mut(&to).filter(|_| alive || !up) {
                let sent = node.handle(self.now, Input::Link { peer: peer(about), up });
                self.dispatch(to, sent);
            }
        }
    }

    fn deliver(&mut self) {
        let due = |at: &Now, now: Now| *at <= now;
        while let Some(at) = self.copies.iter().position(|(at, ..)| due(at, self.now)) {
            let (_, from, to, tick, bytes) = self.copies.remove(at);
            self.send_block(from, to, tick, bytes, true);
        }
        while let Some(arrived) = self.network.poll(self.now) {
            let (tick, bytes, again) = arrived.item;
            let input = Input::Block { from: peer(arrived.from), tick, bytes: &bytes, again };
            self.give(arrived.to, input);
        }
        let pairs: Vec<(usize, usize)> = self.channels.keys().copied().collect();
        for (from, to) in pairs {
            while !self.network.is_blocked(from, to)
                && let Some(channel) = self.channels.get_mut(&(from, to))
                && let Some((_, bulk, bytes)) =
                    channel.queue.pop_front_if(|(at, ..)| due(at, self.now))
            {
                let from = peer(from);
                let input = if bulk {
                    Input::Bulk { from, bytes: &bytes }
                } else {
                    Input::Message { from, bytes: &bytes }
                };
                self.give(to, input);
            }
        }
    }

    /// Hands something to a node. A frozen one takes it when it wakes; here that is now, unseen.
    pub fn give(&mut self, to: usize, input: Input<'_>) {
        if let Some(node) = self.nodes.get_mut(&to) {
            let sent = node.handle(self.now, input);
            self.dispatch(to, sent);
        }
    }

    /// One millisecond.
    pub fn step(&mut self) {
        self.now = self.now + STEP;
        self.tell_seats();
        self.news();
        self.lobby();
        self.deliver();
        let rate = u64::from(self.setup.rate);
        for index in self.nodes.keys().copied().collect::<Vec<_>>() {
            let Some(node) = self.nodes.get_mut(&index) else { continue };
            let mut sent = Vec::new();
            if node.session.next_deadline().is_some_and(|at| at <= self.now) {
                sent = node.handle(self.now, Input::Deadline);
            }
            if node.due(rate) <= self.now {
                // A clock that was stopped jumps.
                let micros = (self.now.as_micros() as i64 - node.offset).max(0) as u64;
                let tick = (micros * rate / 1_000_000) as Tick;
                // What has come by now is used; what is agreed at this tick only at the next.
                let confirmed = node.session.confirmed();
                sent.extend(node.tick(self.now, tick.max(node.next_tick)));
                self.compare(index, confirmed);
                self.invent(index);
            }
            self.dispatch(index, sent);
        }
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step();
        }
    }

    /// A lie can have a peer dropped that lives: what it alone had is not final.
    fn note_dropped(&mut self, index: usize) {
        let Some(node) = self.nodes.get(&index) else { return };
        let left = node.events.iter().filter_map(|(_, event)| match event {
            Event::Left { peer, .. } => Some(self::index(*peer)),
            _ => None,
        });
        for left in left.collect::<Vec<_>>() {
            if !self.unsound.contains(&left) {
                self.unsound.push(left);
                self.oracle.retain(|_, (_, who)| {
                    who.remove(&left);
                    !who.is_empty()
                });
            }
        }
    }

    /// Final states are the same everywhere.
    fn compare(&mut self, index: usize, confirmed: Tick) {
        if !self.liars.is_empty() {
            self.note_dropped(index);
        }
        if self.unsound.contains(&index) {
            return;
        }
        let Some(node) = self.nodes.get_mut(&index) else { return };
        // Who comes back begins anew if two have died of whom only one knew what the other did.
        if index < self.setup.peers && !node.session.is_playing() {
            return;
        }
        // Who was dropped has not run again what turned out to be wrong.
        if node.count(|event| *event == Event::Dropped) > 0 {
            return;
        }
        let last = (confirmed + 1).min(node.session.current());
        while node.compared < last {
            node.compared += 1;
            let Some(sum) = node.sums.get(&node.compared) else { continue };
            let (known, who) = self.oracle.entry(node.compared).or_insert((*sum, BTreeSet::new()));
            who.insert(index);
            let same = known == sum;
            self.differences += u64::from(!same);
            assert!(
                same || self.may_differ,
                "node {index} differs from nodes {who:?} before tick {} at {:?}",
                node.compared,
                self.now
            );
        }
        node.sums = node.sums.split_off(&(last - 1).max(0));
        let (unsound, at) = (&self.unsound, self::index);
        let desync = node.events.iter().find(|(_, event)| {
            matches!(event, Event::Desync { peer, .. } if !unsound.contains(&at(*peer)))
        });
        assert!(desync.is_none() || self.may_differ, "node {index} says {desync:?}");
    }

    /// What the players did is what everybody has, once.
    pub fn check_inputs(&self) {
        for (at, node) in self.nodes.iter().filter(|(at, _)| !self.unsound.contains(at)) {
            for of in self.nodes.values().filter(|of| !self.unsound.contains(&index(of.peer))) {
                for ((player, tick), did) in &of.did {
                    let finals: Vec<_> = node.session.final_inputs(*tick).collect();
                    let Some(Some(found)) = finals.get(player.index()) else { continue };
                    assert_eq!(found, did, "node {at} has another input of {player:?} at {tick}");
                }
            }
        }
    }

    pub fn confirmed(&self) -> Vec<Tick> {
        self.nodes.values().map(|node| node.session.confirmed()).collect()
    }

    /// The tick that it is.
    pub fn tick(&self) -> Tick {
        (self.now.as_micros() * u64::from(self.setup.rate) / 1_000_000) as Tick
    }

    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[&index]
    }
}
