//! Random interleavings of players who want in, held against a small model of who may be where.
//!
//! The model learns from what is asked and answered, and keeps with each token what the lobby was when the
//! token was given. proptest prints the seed and the shortest list of steps that fails.

mod model;
mod returning;
mod steps;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::lobby::{
    ClientMessage, Resume, ResumeToken, ServerMessage, SessionKind, Visibility,
};
use netplay_protocol::{BuildId, GameId, Now, PROTOCOL_VERSION, PeerId};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::node::Node;
use crate::RateLimit;
use model::{Invite, Lobby, Token, Way};
use steps::{Step, steps};

/// The last but one plays another build, and the last one another game.
const CLIENTS: usize = 6;
const SECOND: Duration = Duration::from_secs(1);
const TOKEN_SECS: u64 = 5;
const LOBBY_LIFETIME: Duration = Duration::from_secs(12);

#[derive(Default)]
struct Client {
    connection: Option<u64>,
    peer: Option<PeerId>,
    /// The newest last.
    tokens: Vec<Token>,
}

struct World {
    node: Node,
    clients: Vec<Client>,
    lobbies: BTreeMap<u64, Lobby>,
    invites: Vec<Invite>,
    /// Who is where, and whether it plays.
    inside: BTreeMap<PeerId, (u64, bool)>,
    /// Tokens that came with the last input.
    given: Vec<(usize, PeerId, ResumeToken)>,
    /// The members of this lobby, as far as they are there, have tokens that say what it is now.
    told: Option<u64>,
    /// Who was in which lobby since the server began, and is not any more.
    gone: BTreeSet<(PeerId, u64)>,
    /// Who was in a lobby for a moment, as its token said.
    was_in: Option<(PeerId, (u64, Lobby))>,
    /// Who has had a session since the server began.
    met: BTreeSet<PeerId>,
    connections: u64,
    inputs: u64,
    /// How often the server was started anew.
    boots: u32,
    /// Every refusal, and every way in.
    seen: BTreeSet<String>,
}

/// Those of one realm see each other's lobbies.
const fn realm(who: usize) -> usize {
    (who + 3).saturating_sub(CLIENTS)
}

impl World {
    fn new() -> Self {
        let limit = RateLimit { burst: 10_000, per_second: 10_000 };
        let node = Node::with(|config| {
            (config.messages, config.joins, config.invites) = (limit, limit, limit);
            (config.passwords, config.lobby_messages) = (limit, limit);
            (config.keep_alive, config.grace) = (3600 * SECOND, 3 * SECOND);
            config.returning = SECOND;
            config.token_lifetime = Duration::from_secs(TOKEN_SECS);
            config.lobby_lifetime = LOBBY_LIFETIME;
        });
        let mut world = Self {
            node,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            lobbies: BTreeMap::new(),
            invites: Vec::new(),
            inside: BTreeMap::new(),
            given: Vec::new(),
            told: None,
            gone: BTreeSet::new(),
            was_in: None,
            met: BTreeSet::new(),
            connections: 0,
            inputs: 0,
            boots: 0,
            seen: BTreeSet::new(),
        };
        (0..CLIENTS).for_each(|who| world.connect(who, None));
        world
    }

    fn secs(&self) -> u64 {
        self.node.now.since(Now::ZERO).as_secs()
    }

    fn lobby_of(&self, who: usize) -> Option<u64> {
        self.inside.get(&self.clients[who].peer?).map(|(id, _)| *id)
    }

    /// Who leads the lobby of this player, or of another one.
    fn host(&self, who: usize) -> usize {
        let id = (0..CLIENTS).find_map(|of| self.lobby_of((who + of) % CLIENTS));
        let lobby = self.node.directory.lobbies.iter().find(|(_, lobby)| Some(lobby.id) == id);
        let host = lobby.map(|(_, lobby)| lobby.host);
        (0..CLIENTS).find(|of| host.is_some() && self.clients[*of].peer == host).unwrap_or(who)
    }

    fn connect(&mut self, who: usize, with: Option<(Token, bool)>) {
        // An older connection of the same session is superseded.
        if with.as_ref().map(|(token, _)| token.peer) != self.clients[who].peer {
            self.drop_connection(who);
        }
        self.connections += 1;
        self.clients[who].connection = Some(self.connections);
        self.node.connect(self.connections);
        let game = GameId::new(if realm(who) == 2 { "other" } else { "game" }).unwrap();
        let build = (realm(who) == 1).then(|| BuildId::new("2").unwrap());
        let resume = with.as_ref().map(|(Token { peer, resume, .. }, restart)| {
            let token = resume.clone();
            Resume { peer: *peer, token, seen: 0, restart: *restart }
        });
        let (protocol, login) = (PROTOCOL_VERSION, None);
        let way = with.map_or(Way::Not, |(token, _)| Way::Back(token));
        self.say(who, ClientMessage::Hello { protocol, game, build, resume, login }, &way);
        self.remember();
    }

    fn drop_connection(&mut self, who: usize) {
        if let Some(connection) = self.clients[who].connection.take() {
            self.node.disconnect(connection);
            self.look(None, &Way::Not);
        }
    }

    fn resume(&mut self, who: usize, age: usize, restart: bool) {
        let token = self.clients[who].tokens.iter().rev().nth(age).cloned();
        self.connect(who, token.map(|token| (token, restart)));
    }

    fn wait(&mut self, time: Duration) {
        self.node.wait(time);
        self.look(None, &Way::Not);
        self.remember();
    }

    fn say(&mut self, who: usize, message: ClientMessage, way: &Way) -> Option<ServerMessage> {
        let connection = self.clients[who].connection?;
        self.inputs += 1;
        self.node.say(connection, message);
        self.look(Some(who), way)
    }

    /// Takes what was told, and looks who is where. Gives the answer to who has said something.
    fn look(&mut self, who: Option<usize>, way: &Way) -> Option<ServerMessage> {
        let mut answer = None;
        for of in 0..CLIENTS {
            let Some(connection) = self.clients[of].connection else { continue };
            let mut again = false;
            for frame in self.node.take_frames(connection) {
                match frame.message {
                    ServerMessage::Welcome { peer, token, session, .. } => {
                        self.clients[of].peer = Some(peer);
                        self.given.push((of, peer, token));
                        // What follows was told before.
                        again = session == SessionKind::Continued;
                        if self.inside.contains_key(&peer) {
                            self.seen.insert("resume".into());
                        }
                    }
                    _ if again => {}
                    ServerMessage::Token { token } => {
                        let peer = self.clients[of].peer.expect("after a welcome");
                        self.given.push((of, peer, token));
                    }
                    ServerMessage::Error { code, .. } => {
                        self.seen.insert(format!("{code:?}"));
                    }
                    message @ (ServerMessage::Done { .. } | ServerMessage::Invitation { .. }) => {
                        answer = Some(message);
                    }
                    _ => {}
                }
            }
            if self.node.closed(connection).is_some() {
                self.clients[of].connection = None;
            }
        }
        self.check(who, way);
        let here = self.clients.iter().filter(|client| client.connection.is_some());
        self.met.extend(here.filter_map(|client| client.peer));
        answer
    }

    fn check(&mut self, who: Option<usize>, way: &Way) {
        let mut inside = BTreeMap::new();
        for (_, lobby) in self.node.directory.lobbies.iter() {
            for member in lobby.members() {
                let place = (lobby.id, member.slot.is_some());
                let twice = inside.insert(member.peer, place);
                assert_eq!(twice, None, "{:?} is in two lobbies", member.peer);
            }
        }
        for (peer, (id, plays)) in &inside {
            let before = self.inside.get(peer);
            if before.is_none_or(|(of, played)| of != id || (*plays && !played)) {
                let who = who.filter(|who| self.clients[*who].peer == Some(*peer));
                let who = who.expect("nobody gets in who has not asked");
                match self.admit(who, *id, *plays, way) {
                    Ok(way) => self.seen.insert(way.to_owned()),
                    Err(why) => panic!("{peer:?} got in, but {why}"),
                };
                assert_eq!(self.lobbies[id].realm, realm(who), "it is of another game or build");
            }
        }
        self.learn_of_who_found_no_place(&inside, who, way);
        let left = self
            .inside
            .iter()
            .filter(|(peer, (id, _))| inside.get(peer).is_none_or(|(of, _)| of != id));
        self.gone.extend(left.map(|(peer, (id, _))| (*peer, *id)));
        self.inside = inside;
        self.lobbies.retain(|id, _| self.inside.values().any(|(of, _)| of == id));
        self.gone.retain(|(_, id)| self.lobbies.contains_key(id));
        for (peer, (id, plays)) in &self.inside {
            let lobby = &self.lobbies[id];
            assert!(!lobby.bans(*peer), "{peer:?} is a member and banned");
            assert!(self.node.now <= lobby.closes, "the lobby is too old");
            let count = self.inside.values().filter(|place| **place == (*id, *plays)).count();
            assert!(lobby.has_room(*plays, count), "{count} are there, and so many may not be");
        }
    }

    /// Whose place somebody else has by now is out at once; what its newer token says counts all the same.
    fn learn_of_who_found_no_place(
        &mut self,
        inside: &BTreeMap<PeerId, (u64, bool)>,
        who: Option<usize>,
        way: &Way,
    ) {
        let (Some(who), Way::Back(token)) = (who, way) else { return };
        let peer = self.clients[who].peer.expect("it has said hello");
        // Whose session is there comes back to it, whatever its token says.
        let is_new = token.peer == peer && !self.met.contains(&peer);
        let is_out = is_new && !inside.contains_key(&peer);
        let Some((id, known)) = token.seat.as_ref().filter(|_| is_out) else { return };
        // The token that it was given before it was out is of that place.
        self.was_in = Some((peer, (*id, known.clone())));
        let mut all = self.node.directory.lobbies.iter();
        let Some((_, there)) = all.find(|(_, lobby)| lobby.id == *id) else { return };
        let says = (&known.options, known.playing, known.password.is_empty());
        let counts = token.expires > self.node.now.since(Now::ZERO).as_secs()
            && says == (&there.options, there.playing, there.password.is_none());
        let Some(lobby) = self.lobbies.get_mut(id) else { return };
        let kept_out = lobby.put_out_since(peer, token.given) || self.gone.contains(&(peer, *id));
        if counts && !kept_out && known.changed > lobby.changed {
            *lobby = Lobby { closes: lobby.closes, ..known.brought_back() };
            self.told = Some(*id);
        }
    }

    /// By what a player got in, or why it must not.
    fn admit(
        &mut self,
        who: usize,
        id: u64,
        plays: bool,
        way: &Way,
    ) -> Result<&'static str, &'static str> {
        let (now, secs, boots) = (self.node.now, self.secs(), self.boots);
        let peer = self.clients[who].peer.expect("it is in");
        match (way, self.lobbies.get_mut(&id)) {
            (Way::New(lobby) | Way::Quick(lobby), None) => {
                self.lobbies.insert(id, lobby.clone());
                Ok("new")
            }
            (Way::Quick(_), Some(lobby)) => {
                let public = lobby.options.visibility == Visibility::Public;
                let found = if public { Ok("quick join") } else { Err("nobody finds the lobby") };
                lobby.lets_in((peer, peer), plays, (None, None), now).and(found)
            }
            (Way::Code(password, invite), Some(lobby)) => {
                let may_come = |invite: &Invite| {
                    invite.to.filter(|to| *to != peer).is_none_or(|of| {
                        invite.boot == boots && !lobby.claimed.contains(&(of, invite.made))
                    })
                };
                let invite = invite.as_ref().filter(|invite| invite.counts(id, secs));
                let invite = invite.filter(|invite| may_come(invite));
                let stands_for = invite.and_then(|invite| invite.to).unwrap_or(peer);
                let with = (*password, invite.map(|invite| invite.made));
                let mut found = lobby.lets_in((peer, stands_for), plays, with, now);
                // It is used.
                lobby.reserved.remove(&peer);
                if stands_for != peer {
                    lobby.reserved.remove(&stands_for);
                    lobby.claimed.extend(invite.map(|invite| (stands_for, invite.made)));
                    found = found.map(|_| "standing for somebody");
                }
                if lobby.out.remove(&peer).is_some() {
                    lobby.changed = self.inputs;
                    self.told = Some(id);
                }
                found
            }
            (Way::Place { host }, Some(lobby)) if *host || !lobby.is_late() => Ok("place"),
            (Way::Back(token), lobby) => {
                let seat = token.seat.as_ref().filter(|(of, _)| *of == id);
                let (_, known) = seat.ok_or("its token is of no place there")?;
                match lobby {
                    _ if token.expires <= secs => return Err("its token is too old"),
                    Some(lobby) if lobby.put_out_since(peer, token.given) => {
                        return Err("it was put out since");
                    }
                    _ if self.gone.contains(&(peer, id)) => {
                        return Err("it has left since");
                    }
                    Some(lobby) if known.changed > lobby.changed => {
                        let (closes, claimed) = (lobby.closes, lobby.claimed.clone());
                        *lobby = Lobby { closes, claimed, ..known.brought_back() };
                        self.told = Some(id);
                    }
                    Some(_) => {}
                    None => drop(self.lobbies.insert(id, known.brought_back())),
                }
                Ok("resume after a restart")
            }
            _ => Err("this is no way in"),
        }
    }

    /// Keeps the tokens that were given, with what they can say.
    fn remember(&mut self) {
        for (_, lobby) in self.node.directory.lobbies.iter() {
            let known = &self.lobbies[&lobby.id];
            let is = (&lobby.options, lobby.playing, lobby.password.is_none());
            let same = is == (&known.options, known.playing, known.password.is_empty());
            assert!(same, "{is:?} is not {known:?}");
        }
        let mut was_in = self.was_in.take();
        for (who, peer, resume) in core::mem::take(&mut self.given) {
            let seat = self.inside.get(&peer).map(|(id, _)| (*id, self.lobbies[id].clone()));
            // The first token of them: the next one says that it is out.
            let before = was_in.take_if(|(of, _)| *of == peer).map(|(_, seat)| seat);
            let seat = seat.or(before);
            let (given, expires) = (self.inputs, self.secs() + TOKEN_SECS);
            self.clients[who].tokens.push(Token { resume, peer, given, expires, seat });
        }
        let told = self.told.take().and_then(|id| Some((id, self.lobbies.get(&id)?.clone())));
        let Some((id, lobby)) = told else { return };
        for client in self.clients.iter_mut().filter(|client| client.connection.is_some()) {
            let place = client.peer.and_then(|peer| self.inside.get(&peer));
            if place.is_some_and(|(of, _)| *of == id)
                && let Some(token) = client.tokens.last_mut()
            {
                token.seat = Some((id, lobby.clone()));
            }
        }
    }

    fn restart_server(&mut self, back: &[(usize, usize)]) {
        self.clients.iter_mut().for_each(|client| client.connection = None);
        self.inside.clear();
        self.gone.clear();
        self.met.clear();
        self.lobbies.clear();
        self.node.restart_server();
        self.boots += 1;
        back.iter().for_each(|(who, age)| self.resume(*who, *age, false));
    }
}

fn run(steps: &[(usize, Step)]) -> BTreeSet<String> {
    let mut world = World::new();
    steps.iter().for_each(|(who, step)| world.step(*who, step));
    world.seen
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn nobody_is_where_it_may_not_be(steps in steps()) {
        run(&steps);
    }
}

#[test]
fn every_refusal_and_every_way_in_is_met() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..64 {
        seen.extend(run(&steps().new_tree(&mut runner).unwrap().current()));
    }
    let refusals =
        "Banned NotInvited Locked Playing WrongPassword LobbyFull NoSuchLobby WrongBuild NotYet";
    let ways = "password, invitation, standing for somebody, reservation, quick join, resume, resume after a restart";
    let all = refusals.split(' ').chain(ways.split(", "));
    let missed: Vec<_> = all.filter(|what| !seen.contains(*what)).collect();
    assert!(missed.is_empty(), "{missed:?} is not among {seen:?}");
}
