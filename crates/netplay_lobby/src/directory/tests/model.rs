//! Random interleavings of one lobby's members, held against models that are written another way: who leads and
//! how far the match is, values under compare-and-set, and pages of a search.

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::lobby::{
    ClientMessage, Entry, ErrorCode, Field, JoinWith, LobbyOptions, Order, Search, ServerMessage,
    Tier,
};
use netplay_protocol::{DataKey, LobbyCode, PeerId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::node::{Node, options};
use crate::RateLimit;

const SECOND: Duration = Duration::from_secs(1);
const PLAYERS: usize = 6;
/// Seconds of a ready check, of a countdown, and for which an offline host leads on.
const CHECK: u16 = 6;
const COUNTDOWN: u32 = 3;
const GRACE: u32 = 5;

#[derive(Clone, Copy, Debug)]
enum Step {
    Join { watch: bool },
    Leave,
    Drop,
    Back,
    Promote(usize),
    Ready(bool),
    Check,
    Countdown,
    Cancel,
    Playing(bool),
    Wait(u32),
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        3 => any::<bool>().prop_map(|watch| Step::Join { watch }),
        1 => Just(Step::Leave),
        3 => Just(Step::Drop),
        3 => Just(Step::Back),
        1 => (0..PLAYERS).prop_map(Step::Promote),
        6 => any::<bool>().prop_map(Step::Ready),
        3 => Just(Step::Check),
        3 => Just(Step::Countdown),
        1 => Just(Step::Cancel),
        2 => any::<bool>().prop_map(Step::Playing),
        3 => (1..7_u32).prop_map(Step::Wait),
    ];
    (0..PLAYERS, step)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    who: usize,
    online: bool,
    plays: bool,
    ready: bool,
}

/// What the lobby should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    host: usize,
    /// In the order in which they came.
    members: Vec<Seen>,
    playing: bool,
    /// Seconds that are left.
    check: Option<u32>,
    countdown: Option<u32>,
    /// For how long the host was missed.
    missed: u32,
}

impl Model {
    fn find(&mut self, who: usize) -> Option<&mut Seen> {
        self.members.iter_mut().find(|member| member.who == who)
    }

    /// Whether this one is heard, and leads.
    fn leads(&mut self, who: usize) -> bool {
        self.host == who && self.find(who).is_some_and(|member| member.online)
    }

    fn is_idle(&self) -> bool {
        self.check.is_none() && self.countdown.is_none()
    }

    fn elect(&mut self) {
        let kinds = [(true, true), (true, false), (false, true), (false, false)];
        let of = |kind| self.members.iter().find(|member| (member.online, member.plays) == kind);
        self.host = kinds.into_iter().find_map(of).expect("a lobby has a member").who;
        self.missed = 0;
    }

    fn all_ready(&self) -> bool {
        self.members.iter().all(|member| member.ready || !member.plays)
    }

    fn is_host_missed(&self) -> bool {
        let host = self.members.iter().find(|member| member.who == self.host);
        !self.playing
            && !host.is_some_and(|host| host.online)
            && self.members.iter().any(|member| member.online)
    }

    fn step(&mut self, who: usize, step: Step) {
        let heard = self.find(who).is_some_and(|member| member.online);
        let leads = self.leads(who);
        match step {
            Step::Join { watch } if self.find(who).is_none() => {
                let same = self.members.iter().filter(|member| member.plays != watch).count();
                if same < if watch { 2 } else { 4 } {
                    self.members.push(Seen { who, online: true, plays: !watch, ready: false });
                }
            }
            Step::Leave if heard && self.members.len() > 1 => {
                let plays = self.find(who).is_some_and(|member| member.plays);
                self.members.retain(|member| member.who != who);
                if self.host == who {
                    self.elect();
                }
                if plays && self.countdown.take().is_none() && self.all_ready() {
                    self.check = None;
                }
            }
            Step::Drop if heard => {
                let member = self.find(who).expect("it is heard");
                member.online = false;
                if member.plays {
                    self.countdown = None;
                }
            }
            Step::Back => {
                if let Some(member) = self.find(who) {
                    member.online = true;
                }
            }
            Step::Promote(whom) if leads && whom != who && self.find(whom).is_some() => {
                (self.host, self.missed) = (whom, 0);
            }
            Step::Ready(ready) if heard => self.ready(who, ready),
            Step::Check if leads && self.is_idle() && !self.playing => {
                self.check = Some(CHECK.into());
                self.members.iter_mut().for_each(|member| member.ready = false);
            }
            Step::Countdown if leads && self.is_idle() && !self.playing => {
                self.countdown = Some(COUNTDOWN);
            }
            Step::Cancel if leads => self.countdown = None,
            Step::Playing(playing) if leads && self.is_idle() => self.playing = playing,
            Step::Wait(seconds) => (0..seconds).for_each(|_| self.second()),
            _ => {}
        }
        if !self.is_host_missed() {
            self.missed = 0;
        }
    }

    fn ready(&mut self, who: usize, ready: bool) {
        let member = self.find(who).expect("it is heard");
        let (was, plays) = (member.ready, member.plays);
        member.ready = ready;
        if !ready && plays {
            let checked = self.check.take().is_some();
            if was && !checked {
                self.countdown = None;
            }
        } else if self.all_ready() {
            self.check = None;
        }
    }

    fn second(&mut self) {
        if self.is_host_missed() {
            self.missed += 1;
            if self.missed >= GRACE {
                self.elect();
            }
        }
        self.check = self.check.map(|left| left - 1).filter(|left| *left > 0);
        if let Some(left) = self.countdown.take() {
            self.countdown = Some(left - 1).filter(|left| *left > 0);
            self.playing |= left == 1;
        }
    }
}

/// The real one.
struct World {
    node: Node,
    code: LobbyCode,
    peers: Vec<PeerId>,
    connections: [u64; PLAYERS],
    online: [bool; PLAYERS],
}

impl World {
    fn new() -> Self {
        let mut node = generous(|config| config.grace = SECOND * GRACE);
        let peers = (0..PLAYERS).map(|who| node.hello(who as u64)).collect();
        let options = LobbyOptions { seat_secs: 3600, spectators: 2, ..options(4) };
        let code = node.create(0, options).code;
        let connections = core::array::from_fn(|who| who as u64);
        Self { node, code, peers, connections, online: [true; PLAYERS] }
    }

    fn say(&mut self, who: usize, message: ClientMessage) {
        if self.online[who] {
            self.node.say(self.connections[who], message);
        }
    }

    fn step(&mut self, who: usize, step: Step) {
        let request = 1;
        match step {
            Step::Join { watch } => {
                let with = JoinWith { spectate: watch, ..JoinWith::default() };
                self.say(who, ClientMessage::Join { request, code: self.code, with });
            }
            Step::Leave if self.seen().1.len() > 1 => {
                self.say(who, ClientMessage::Leave { request });
            }
            // Who is in no lobby would be forgotten.
            Step::Drop if self.seen().1.iter().any(|member| member.who == who) => {
                if core::mem::take(&mut self.online[who]) {
                    self.node.disconnect(self.connections[who]);
                }
            }
            Step::Back if !self.online[who] => {
                let (old, new) = (self.connections[who], self.connections[who] + 100);
                self.node.resume_over(old, new, 0);
                (self.connections[who], self.online[who]) = (new, true);
            }
            Step::Leave | Step::Drop | Step::Back => {}
            Step::Promote(whom) => {
                self.say(who, ClientMessage::Promote { request, peer: self.peers[whom] });
            }
            Step::Ready(ready) => self.say(who, ClientMessage::Ready { ready }),
            Step::Check => self.say(who, ClientMessage::ReadyCheck { request, secs: CHECK }),
            Step::Countdown => {
                self.say(who, ClientMessage::Countdown { request, ms: 1000 * COUNTDOWN });
            }
            Step::Cancel => self.say(who, ClientMessage::CancelCountdown { request }),
            Step::Playing(playing) => self.say(who, ClientMessage::SetPlaying { request, playing }),
            Step::Wait(seconds) => {
                for _ in 0..seconds {
                    self.node.wait(SECOND);
                    (0..PLAYERS).for_each(|of| self.say(of, ClientMessage::KeepAlive { seen: 0 }));
                }
            }
        }
        for who in 0..PLAYERS {
            self.node.take(self.connections[who]);
        }
    }

    /// Who leads, who is there, and how far the match is.
    fn seen(&self) -> (usize, Vec<Seen>, [bool; 3]) {
        let lobby = self.node.directory.lobby(self.code).expect("it has a member").state;
        let who = |peer| self.peers.iter().position(|other| *other == peer).expect("one of us");
        let members = lobby.members.iter().map(|member| Seen {
            who: who(member.peer),
            online: member.online,
            plays: member.slot.is_some(),
            ready: member.ready,
        });
        let phase = [lobby.playing, lobby.ready_check_ms.is_some(), lobby.countdown_ms.is_some()];
        (who(lobby.host), members.collect(), phase)
    }
}

fn generous(change: impl FnOnce(&mut crate::Config)) -> Node {
    Node::with(|config| {
        let much = RateLimit { burst: 1_000_000, per_second: 1_000_000 };
        (config.messages, config.joins, config.searches) = (much, much, much);
        config.lobby_messages = much;
        change(config);
    })
}

/// Reads the last answer.
fn answer(node: &mut Node, connection: u64, message: ClientMessage) -> Result<(), ErrorCode> {
    node.say(connection, message);
    match node.take(connection).pop() {
        Some(ServerMessage::Error { code, .. }) => Err(code),
        _ => Ok(()),
    }
}

fn key(number: u8) -> DataKey {
    DataKey::new(format!("k{number}")).expect("a plain name")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn who_leads_and_how_far_the_match_is_follow_from_what_was_done(
        steps in vec(step(), 1..80),
    ) {
        let mut world = World::new();
        let mut model = Model::default();
        model.step(0, Step::Join { watch: false });
        for (number, (who, step)) in steps.into_iter().enumerate() {
            world.step(who, step);
            model.step(who, step);
            let phase = [model.playing, model.check.is_some(), model.countdown.is_some()];
            let expected = (model.host, model.members.clone(), phase);
            prop_assert_eq!(world.seen(), expected, "after step {} of {}: {:?}", number, who, step);
        }
    }

    #[test]
    fn values_change_only_as_they_were_seen(
        steps in vec((0..2_u64, 0..4_u8, prop::option::of(0..100_i64), prop::option::of(0..4_u64)), 1..60),
    ) {
        let mut node = generous(|_| {});
        let (code, _) = node.lobby_of(2, options(2));
        let (mut revision, mut data) = (0, BTreeMap::new());
        for (who, name, value, back) in steps {
            let seen = back.map(|back| u64::saturating_sub(revision, back));
            let entry = value.map(|value| Entry { value: value.into(), tier: Tier::Members });
            let changes = [(key(name), entry.clone())].into();
            let set = ClientMessage::SetData { request: 1, revision: seen, changes };
            let expected = match seen {
                _ if who != 0 => Err(ErrorCode::NotHost),
                Some(seen) if seen != revision => Err(ErrorCode::Conflict),
                _ => Ok(()),
            };
            prop_assert_eq!(answer(&mut node, who + 1, set), expected);
            if expected.is_ok() {
                revision += 1;
                match entry {
                    Some(entry) => drop(data.insert(key(name), entry)),
                    None => drop(data.remove(&key(name))),
                }
            }
            let lobby = node.directory.lobby(code).expect("it has members").state;
            prop_assert_eq!((lobby.revision, &lobby.data), (revision, &data));
        }
    }

    #[test]
    fn pages_of_a_search_are_the_whole_order_without_gap_or_repetition(
        ratings in vec(prop::option::of(-50..50_i64), 1..120),
        near in -60..60_i64,
        order in 0..3_u8,
    ) {
        let mut node = generous(|_| {});
        for (number, rating) in (1..).zip(&ratings) {
            node.hello(number);
            node.create(number, options(2));
            if let Some(rating) = rating {
                let entry = Some(Entry { value: (*rating).into(), tier: Tier::Public });
                let changes = [(key(0), entry)].into();
                node.done(number, ClientMessage::SetData { request: 1, revision: None, changes });
            }
        }
        let order = [Order::Ascending, Order::Descending, Order::Near(near)][usize::from(order)];
        let search = Search::all().by(Field::Data(key(0)), order);
        let (mut pages, mut more) = (Vec::new(), true);
        node.hello(1000);
        while more {
            let skip = u16::try_from(pages.len()).expect("few lobbies");
            let (page, next) = node.search(1000, Search { skip, ..search.clone() });
            prop_assert!(!page.is_empty());
            pages.extend(page);
            more = next;
        }
        let rank = |rating: Option<i64>| match (rating, order) {
            (None, _) => (1, 0),
            (Some(rating), Order::Ascending) => (0, rating),
            (Some(rating), Order::Descending) => (0, -rating),
            (Some(rating), Order::Near(near)) => (0, (rating - near).abs()),
        };
        let found = pages.iter().map(|lobby| match lobby.data.get(&key(0)) {
            Some(value) => rank(value.number()),
            None => rank(None),
        });
        let mut expected: Vec<_> = ratings.iter().map(|rating| rank(*rating)).collect();
        expected.sort_unstable();
        prop_assert_eq!(found.collect::<Vec<_>>(), expected);
        let mut codes: Vec<_> = pages.iter().map(|lobby| lobby.code).collect();
        codes.sort_unstable();
        codes.dedup();
        prop_assert_eq!(codes.len(), ratings.len(), "none twice");
    }
}
