//! Several honest sessions, over a network that does anything: who ticks when, which message or block
//! comes when or not at all, who is lost, found, killed and started anew, and when everybody hears of it.
//!
//! Asserted, besides what an owner asserts: who is in the match has the same final inputs and the same
//! final states as all others who are.
//!
//! A watcher, or who has come back as one, is told nothing that the death of its feeder alone can undo:
//! of those that have seen two die, nothing is asserted.
//!
//! As in a real match: reliable messages come in order, over one link at a time, and what a link has not
//! delivered when it is lost is gone; a new process of a peer is another link; the lobby says of a peer
//! that it is gone only while no process of it lives; the host is a peer that lives, and who was dropped
//! has nothing to say any more, whether it has heard of that or not.

use std::collections::VecDeque;

use netplay_protocol::Now;
use netplay_rollback::{Event, Input, Role, Tick};

use crate::oracle::Oracle;
use crate::owner::{Owner, Sent, index, peer};
use crate::script::Script;
use crate::session::config;

/// Players at most; who watches has the place after them.
const PLAYERS: usize = 4;
const NODES: usize = PLAYERS + 1;
/// Microseconds of a tick.
const TICK_US: u64 = 62_500;
/// Ticks that all choices of an input run together, and those that follow them.
const ROUNDS_MAX: usize = 300;
const LAST_ROUNDS: usize = 24;
/// Ticks after which a loss is noticed, and after which the lobby tells of it, unless chosen otherwise.
const NOTICED: Tick = 16;
const TOLD: Tick = 24;
/// Ticks after which a death is decided on.
const UNDECIDED: Tick = 100;
/// Blocks that are under way between two nodes.
const BLOCKS: usize = 6;

/// One process.
struct Process {
    owner: Owner,
    /// The first tick at which it plays, once that is agreed.
    plays: Option<Tick>,
    /// The same of the others, as far as it knows.
    others: [Option<Tick>; PLAYERS],
    /// The others have dropped it.
    dropped: bool,
    /// How many have died while it may have depended on them. A player from the start depends on nobody.
    deaths: Option<u32>,
    /// How far it has been compared.
    seen: Tick,
    seen_sum: Tick,
    /// What it does: nothing new, or something else at every tick.
    busy: u8,
    frozen: bool,
    ahead: Tick,
}

impl Process {
    /// Whether it is in the match, for all that it and the others know, and what it knows counts.
    fn counts(&self) -> bool {
        !self.dropped && !self.owner.is_out && self.deaths.is_none_or(|deaths| deaths < 2)
    }
}

/// From one node to another.
#[derive(Default)]
struct Path {
    messages: VecDeque<(bool, Vec<u8>)>,
    blocks: VecDeque<(u16, Vec<u8>, bool)>,
    /// Nothing comes until it is chosen.
    holds_messages: bool,
    holds_blocks: bool,
    /// The sender has a link, as it was told.
    linked: bool,
}

/// A node is to be told of a link.
struct News {
    due: Tick,
    to: usize,
    about: usize,
    up: bool,
}

struct World {
    players: usize,
    prediction: u8,
    now: Now,
    tick: Tick,
    rounds: usize,
    nodes: [Option<Process>; NODES],
    paths: [[Path; NODES]; NODES],
    news: Vec<News>,
    /// When the lobby tells each node who is there.
    lobby: [Option<Tick>; NODES],
    starts: [u32; NODES],
    /// When somebody died the last time, and whether a player may have another state since.
    death: Tick,
    tainted: bool,
    finals: Oracle,
    sums: Oracle,
}

/// A match.
pub fn schedule(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new(&mut script);
    while !script.is_over() {
        world.step(&mut script);
    }
    // What is under way comes, and what it leads to.
    for path in world.paths.as_flattened_mut() {
        (path.holds_messages, path.holds_blocks) = (false, false);
    }
    world.rounds = LAST_ROUNDS;
    world.tell_news(Tick::MAX);
    (0..NODES).for_each(|node| world.tell_lobby(node));
    world.run(LAST_ROUNDS);
}

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let kind = script.u8();
        let players = PLAYERS - usize::from(kind & 1);
        let mut world = Self {
            players,
            prediction: [8, 0, 3, 12][usize::from(kind >> 1 & 3)],
            now: Now::ZERO,
            tick: -1,
            rounds: ROUNDS_MAX,
            nodes: [const { None }; NODES],
            paths: Default::default(),
            news: Vec::new(),
            lobby: [None; NODES],
            starts: [0; NODES],
            death: -UNDECIDED,
            tainted: false,
            finals: Oracle::default(),
            sums: Oracle::default(),
        };
        for node in 0..players {
            let how = if kind & 8 == 0 { 0 } else { script.u8() };
            world.begin(node, Role::Player, how);
            for other in 0..players {
                world.paths[node][other].linked = other != node;
            }
        }
        world
    }

    fn begin(&mut self, node: usize, role: Role, how: u8) {
        let mut config = config(self.players, 1, node, self.host());
        (config.role, config.prediction) = (role, self.prediction);
        (config.checksum_every, config.epoch) = (4, self.starts[node]);
        config.delay = [0, 0, 2, 40][usize::from(how & 3)];
        let plays = (role == Role::Player).then_some(0);
        let undecided = u32::from(self.tick - self.death < UNDECIDED);
        let deaths = if self.tainted { 2 } else { undecided };
        let deaths = (role != Role::Player).then_some(deaths);
        self.nodes[node] = Some(Process {
            owner: Owner::new(config),
            plays,
            others: [plays; PLAYERS],
            dropped: false,
            deaths,
            seen: -1,
            seen_sum: 0,
            busy: 1,
            frozen: false,
            ahead: Tick::from(how >> 2 & 3),
        });
    }

    fn is_here(&self, node: usize) -> bool {
        self.nodes[node].is_some()
    }

    /// The player who is the host of the lobby.
    fn host(&self) -> usize {
        (0..self.players).find(|node| self.is_here(*node)).unwrap_or(0)
    }

    /// Those who play and go on.
    fn playing(&self) -> usize {
        let goes_on = |node: &&Process| {
            node.owner.session.is_playing() && !node.owner.is_out && !node.dropped
        };
        self.nodes.iter().flatten().filter(goes_on).count()
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let what = script.below(22);
        if what < 4 {
            return self.run(1 + script.below(32));
        }
        let who = usize::from(script.u8());
        let (a, b) = (who % (self.players + 1), who / 16 % (self.players + 1));
        match what {
            4 => self.paths[a][b].holds_messages ^= true,
            5 => self.paths[a][b].holds_blocks ^= true,
            6 => self.isolate(a, who),
            7 | 8 => self.deliver_messages(a, b, 1 + script.below(8)),
            9 => self.deliver_block(a, b, script.u8()),
            10 => self.paths[a][b].blocks.clear(),
            11 => self.lose(a, b, script.u8()),
            12 => self.tell_news(if who & 1 == 0 { Tick::MAX } else { self.tick + 8 }),
            13 => self.tell_one(who),
            14 => self.find(a, b, script.u8()),
            15 => self.kill(a, false),
            16 => self.start(a, script.u8()),
            17 => self.tell_lobby(a),
            18 => self.kill(a, true),
            19 => self.give(a, Input::Delay(script.u8() & 63)),
            20 => self.change(a, script.u8()),
            _ => {
                self.now = Now::from_micros(self.now.as_micros() + 20_000);
                self.deadline(a);
            }
        }
    }

    /// Nothing comes from a node or to it, or everything again.
    fn isolate(&mut self, node: usize, who: usize) {
        for other in 0..NODES {
            for (from, to) in [(node, other), (other, node)] {
                self.paths[from][to].holds_messages = who & 128 != 0;
                self.paths[from][to].holds_blocks = who & 128 != 0;
            }
        }
    }

    /// What a node does from now on.
    fn change(&mut self, node: usize, how: u8) {
        if how & 3 == 3 {
            // All clocks, as after a machine was asleep.
            self.tick += Tick::from(how >> 2) * 4;
            return;
        }
        if let Some(process) = &mut self.nodes[node] {
            process.busy = how >> 2 & 15;
            process.frozen = how & 1 != 0;
        }
    }

    /// So many ticks, in which everything comes that is not held up.
    fn run(&mut self, count: usize) {
        for _ in 0..count.min(self.rounds) {
            self.rounds -= 1;
            self.tick += 1;
            let shown = Now::from_micros(self.tick as u64 * TICK_US);
            self.now = self.now.max(shown);
            self.tell_news(self.tick);
            for node in 0..NODES {
                if self.lobby[node].is_some_and(|due| due <= self.tick) {
                    self.tell_lobby(node);
                }
            }
            for (from, to) in pairs() {
                let path = &self.paths[from][to];
                if !path.holds_messages {
                    self.deliver_messages(from, to, path.messages.len());
                }
                while !self.paths[from][to].holds_blocks
                    && let Some((tick, bytes, again)) = self.paths[from][to].blocks.pop_front()
                {
                    self.give(to, Input::Block { from: peer(from), tick, bytes: &bytes, again });
                }
            }
            (0..NODES).for_each(|node| self.tick_node(node));
        }
    }

    fn deadline(&mut self, node: usize) {
        let Some(process) = &self.nodes[node] else { return };
        if process.owner.session.next_deadline().is_some_and(|at| at <= self.now) {
            self.give(node, Input::Deadline);
        }
    }

    fn tick_node(&mut self, node: usize) {
        self.deadline(node);
        let Some(process) = self.nodes[node].as_mut().filter(|process| !process.frozen) else {
            return;
        };
        let tick = self.tick + process.ahead;
        // Something of each process, so that no two do the same.
        let input = [tick as u8, node as u8, self.starts[node] as u8, process.busy];
        if process.busy > 0 {
            process.owner.act(&input[..1 + usize::from(process.busy) % 4]);
        }
        let known = process.owner.session.confirmed();
        self.give(node, Input::Tick(tick));
        self.compare_states(node, known);
    }

    /// Gives an input to a node, and takes what it sends.
    fn give(&mut self, node: usize, input: Input<'_>) {
        let Some(process) = &mut self.nodes[node] else { return };
        if process.owner.is_out {
            return;
        }
        process.owner.handle(self.now, input);
        for (to, sent) in core::mem::take(&mut process.owner.sent) {
            let path = &mut self.paths[node][index(to)];
            if !path.linked {
                continue;
            }
            match sent {
                Sent::Message(bytes) => path.messages.push_back((false, bytes)),
                Sent::Bulk(bytes) => path.messages.push_back((true, bytes)),
                Sent::Block { tick, bytes, again } => {
                    path.blocks.push_back((tick, bytes.clone(), false));
                    if again {
                        path.blocks.push_back((tick, bytes, true));
                    }
                    while path.blocks.len() > BLOCKS {
                        path.blocks.pop_front();
                    }
                }
            }
        }
        self.note_events(node);
        self.compare_finals(node);
    }

    fn note_events(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node] else { return };
        let mut left = Vec::new();
        let mut differs = None;
        for event in &process.owner.events {
            match event {
                Event::Joined { peer, at } => {
                    let who = index(*peer);
                    process.others[who] = Some(*at);
                    if who == node {
                        process.plays = Some(*at);
                    }
                }
                Event::Left { peer, .. } => {
                    let who = index(*peer);
                    left.push((who, process.others[who].take()));
                }
                Event::Restored(tick) => {
                    (process.seen, process.seen_sum) = (tick - 1, tick - 1);
                    process.others = [None; PLAYERS];
                }
                Event::Desync { peer, .. } => differs = Some(index(*peer)),
                _ => {}
            }
        }
        let (is_out, events) = (process.owner.is_out, process.owner.events.clone());
        for (who, since) in left {
            let dropped = self.nodes[who].as_mut();
            // An earlier process may be meant; who does not know since when it played means any.
            let meant = |process: &&mut Process| {
                process.plays.is_some() && (since.is_none() || process.plays == since)
            };
            if let Some(process) = dropped.filter(meant)
                && !core::mem::replace(&mut process.dropped, true)
            {
                self.died(who);
            }
        }
        if is_out {
            self.died(node);
        }
        if let Some(other) = differs {
            let counts = |node: usize| self.nodes[node].as_ref().is_some_and(Process::counts);
            // Only who died can have told of what nobody else knows.
            let different = counts(node) && counts(other) && self.starts[other] == 0;
            assert!(!different, "node {node} says {events:?}");
        }
    }

    fn forget(&mut self, node: usize) {
        self.finals.forget(node);
        self.sums.forget(node);
    }

    /// What a node had counts no more; what others have from it alone may not either.
    fn died(&mut self, node: usize) {
        self.forget(node);
        self.death = self.tick;
        for other in (0..NODES).filter(|other| *other != node) {
            let process = self.nodes[other].as_mut();
            let Some(deaths) = process.and_then(|process| process.deaths.as_mut()) else {
                continue;
            };
            *deaths += 1;
            if *deaths >= 2 {
                self.tainted |= other < self.players;
                self.forget(other);
            }
        }
    }

    fn compare_finals(&mut self, node: usize) {
        let Some(process) = self.nodes[node].as_mut().filter(|process| process.counts()) else {
            return;
        };
        for (tick, hash) in process.owner.finals.range(process.seen + 1..) {
            self.finals.say(node, *tick, *hash, "final inputs at tick");
            process.seen = *tick;
        }
    }

    /// After a tick of the clock: what was final before it was run as it is.
    fn compare_states(&mut self, node: usize, known: Tick) {
        let Some(process) = self.nodes[node].as_mut().filter(|process| process.counts()) else {
            return;
        };
        let last = (known + 1).min(process.owner.session.current());
        if process.seen_sum >= last {
            return;
        }
        for (tick, sum) in process.owner.sums.range(process.seen_sum + 1..=last) {
            self.sums.say(node, *tick, *sum, "states before tick");
        }
        process.seen_sum = last;
    }

    fn deliver_messages(&mut self, from: usize, to: usize, count: usize) {
        for _ in 0..count {
            // Who has not heard of a link has nothing from it.
            if !self.paths[to][from].linked {
                return;
            }
            let Some((bulk, bytes)) = self.paths[from][to].messages.pop_front() else { return };
            let from = peer(from);
            self.give(
                to,
                match bulk {
                    true => Input::Bulk { from, bytes: &bytes },
                    false => Input::Message { from, bytes: &bytes },
                },
            );
        }
    }

    /// One of the last blocks, which may come once more.
    fn deliver_block(&mut self, from: usize, to: usize, which: u8) {
        let blocks = &self.paths[from][to].blocks;
        let block = blocks.get(usize::from(which) % BLOCKS).cloned();
        if let Some((tick, bytes, again)) = block.filter(|_| self.paths[to][from].linked) {
            self.give(to, Input::Block { from: peer(from), tick, bytes: &bytes, again });
        }
    }

    fn clear(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            self.paths[from][to].messages.clear();
            self.paths[from][to].blocks.clear();
        }
    }

    /// Two nodes lose each other. Nothing passes any more; each notices sooner or later.
    fn lose(&mut self, a: usize, b: usize, when: u8) {
        if a == b || !self.paths[a][b].linked || !self.paths[b][a].linked {
            return;
        }
        self.clear(a, b);
        for (to, about, bit) in [(a, b, 1), (b, a, 2)] {
            self.paths[to][about].linked = false;
            let due = if when & bit == 0 { self.tick + NOTICED } else { self.tick };
            self.news.push(News { due, to, about, up: false });
        }
        self.tell_news(self.tick);
    }

    /// Two nodes that have lost each other, and know it, are linked again.
    fn find(&mut self, a: usize, b: usize, when: u8) {
        let linked = self.paths[a][b].linked || self.paths[b][a].linked;
        let pair = |news: &News| [(a, b), (b, a)].contains(&(news.to, news.about));
        let found = linked || self.news.iter().any(|news| news.up && pair(news));
        if a == b || found || !self.is_here(a) || !self.is_here(b) {
            return;
        }
        self.clear(a, b);
        for (to, about, bit) in [(a, b, 1), (b, a, 2)] {
            let due = if when & bit == 0 { self.tick } else { self.tick + NOTICED };
            self.news.push(News { due, to, about, up: true });
        }
        // Nobody hears of a new link before it has heard of the end of the old one.
        self.tell_news(self.tick);
    }

    /// Tells everybody what is due until then.
    fn tell_news(&mut self, until: Tick) {
        while let Some(place) = self.news.iter().position(|news| news.due <= until) {
            self.tell_one(place);
        }
    }

    /// Tells a node of a link, after what it has not heard of that link's earlier days.
    fn tell_one(&mut self, place: usize) {
        let Some(News { to, about, .. }) = self.news.get(place) else { return };
        let same = |news: &News| news.to == *to && news.about == *about;
        let first = self.news.iter().position(same).unwrap_or(place);
        let News { to, about, up, .. } = self.news.remove(first);
        self.paths[to][about].linked = up;
        self.give(to, Input::Link { peer: peer(about), up });
    }

    /// A process dies, or its player leaves.
    fn kill(&mut self, node: usize, leaves: bool) {
        if !self.is_here(node) || (node < self.players && self.playing() < 2) {
            return;
        }
        if leaves {
            self.give(node, Input::Leave);
        }
        // Who is out of the match counts as dead already; nobody else does, whatever it depended on.
        let out = |process: Process| process.dropped || process.owner.is_out;
        let counted = self.nodes[node].take().is_some_and(out);
        if counted || node >= self.players {
            self.forget(node);
        } else {
            self.died(node);
        }
        self.news.retain(|news| news.to != node && !(news.about == node && news.up));
        for other in 0..NODES {
            self.paths[node][other].linked = false;
            self.paths[other][node].messages.clear();
            self.paths[other][node].blocks.clear();
            // What it has sent may still come, as long as the other has not noticed.
            if self.is_here(other) && self.paths[other][node].linked {
                let due = self.tick + NOTICED;
                self.news.push(News { due, to: other, about: node, up: false });
            }
            self.lobby[other] = self.lobby[other].or(Some(self.tick + TOLD));
        }
    }

    /// Another process of a peer, where there is none, or one that is out; or somebody who watches.
    fn start(&mut self, node: usize, how: u8) {
        if self.nodes[node].as_ref().is_some_and(|process| !process.owner.is_out) {
            return;
        }
        self.kill_out(node);
        self.starts[node] += 1;
        let delay = u16::from(how >> 4);
        let role = if node < self.players {
            Role::Returning
        } else {
            Role::Spectator { delay, from_start: false }
        };
        self.begin(node, role, how);
        for other in (0..NODES).filter(|other| *other != node) {
            self.clear(node, other);
            // The end of the old link first.
            while let Some(place) = self.news.iter().position(|news| news.about == node) {
                self.tell_one(place);
            }
            if self.is_here(other) {
                self.find(node, other, how >> 2);
            }
        }
    }

    /// A process that was dropped is closed before another one begins.
    fn kill_out(&mut self, node: usize) {
        if self.is_here(node) {
            self.nodes[node] = None;
            self.forget(node);
            self.news.retain(|news| news.to != node);
            for other in 0..NODES {
                self.paths[node][other].linked = false;
                if core::mem::take(&mut self.paths[other][node].linked) {
                    self.give(other, Input::Link { peer: peer(node), up: false });
                }
            }
        }
    }

    /// The lobby tells a node who is the host, and who is gone.
    fn tell_lobby(&mut self, node: usize) {
        self.lobby[node] = None;
        self.give(node, Input::Host(peer(self.host())));
        for gone in (0..self.players).filter(|gone| !self.is_here(*gone)).collect::<Vec<_>>() {
            self.give(node, Input::Gone(peer(gone)));
        }
    }
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..NODES * NODES).map(|pair| (pair / NODES, pair % NODES)).filter(|(from, to)| from != to)
}
