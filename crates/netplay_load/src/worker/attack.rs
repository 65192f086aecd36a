//! Clients that mean harm.
//!
//! Each act is one message, or one connection where there is none; acts of all kinds take turns, at a steady
//! rate. Who is closed by the server comes back with its next act.

use std::time::{Duration, Instant};

use netplay_protocol::LobbyCode;
use netplay_protocol::lobby::ClientMessage;
use serde::{Deserialize, Serialize};

use super::frames;
use super::search;
use super::speech::{Said, Signal};
use super::world::{Flow, Manners, Phase, Stage, World};
use crate::Result;
use crate::serve::Kind;

/// Clients of each kind.
const CLIENTS: usize = 40;

/// Where they come from: as many from one address as the server's limit lets in, and not from where honest
/// clients do.
const FIRST_SOURCE: usize = 50_000;
const PER_ADDRESS: usize = 140;

/// What an oversized frame claims to have, and what comes of it.
const OVERSIZED: u64 = 1 << 20;
const OVERSIZED_SENT: usize = 4096;

/// How harm is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Text that is no message, as often as its turn comes.
    Flood,
    /// Requests for a WebSocket that are never complete.
    HalfOpen,
    /// Searches whose answers are never read.
    NeverReads,
    /// Frames that claim a mebibyte.
    Oversized,
    /// A greeting of another protocol.
    WrongProtocol,
    /// Signals to players of other lobbies.
    ForgedSignals,
    /// Joins by codes that were never given.
    CodeGuessing,
    /// Searches for a text that no lobby has, so that all of them are looked at.
    Searches,
}

const HARMS: [(Harm, &str); 8] = [
    (Harm::Flood, "flood"),
    (Harm::HalfOpen, "half_open"),
    (Harm::NeverReads, "never_reads"),
    (Harm::Oversized, "oversized"),
    (Harm::WrongProtocol, "wrong_protocol"),
    (Harm::ForgedSignals, "forged_signals"),
    (Harm::CodeGuessing, "code_guessing"),
    (Harm::Searches, "searches"),
];

/// What was done in one way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AttackCount {
    pub(crate) attack: String,
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    /// Answers that are errors.
    pub(crate) refused: u64,
    /// Connections that the server closed.
    pub(crate) closed: u64,
    /// Signals of honest players that came to it, joins that succeeded: none, if all is well.
    pub(crate) harmed: u64,
}

/// See the module.
pub(crate) struct Attackers {
    /// The first of its clients; those before are honest.
    base: usize,
    per_second: f64,
    began: Instant,
    acts: u64,
    counts: Vec<AttackCount>,
    random: u64,
}

impl Attackers {
    /// With clients from this one on.
    pub(crate) fn new(world: &mut World, base: usize, per_second: f64) -> Self {
        world.grow(base + CLIENTS * HARMS.len());
        for (who, client) in world.clients[base..].iter_mut().enumerate() {
            // Other addresses than the honest have.
            client.source = FIRST_SOURCE + who / PER_ADDRESS;
            client.manners = match HARMS[who / CLIENTS].0 {
                Harm::HalfOpen => Manners::HalfOpen,
                Harm::NeverReads => Manners::Deaf,
                Harm::WrongProtocol => Manners::Rude(if who.is_multiple_of(2) {
                    r#"{"type":"hello","protocol":99,"game":"load-test"}"#
                } else {
                    r#"{"type":"leave","request":1}"#
                }),
                _ => Manners::Polite,
            };
        }
        let count = |(_, name): &(_, &str)| AttackCount {
            attack: (*name).to_owned(),
            ..AttackCount::default()
        };
        Self {
            base,
            per_second,
            began: Instant::now(),
            acts: 0,
            counts: HARMS.iter().map(count).collect(),
            random: 88_172_645_463_325_252,
        }
    }

    /// Stops: closes all of them, and says what they did.
    pub(crate) fn stop(self, world: &mut World) -> Vec<AttackCount> {
        (self.base..self.base + CLIENTS * HARMS.len()).for_each(|who| world.close(who));
        self.counts
    }

    /// Xorshift: which code is guessed does not matter, as long as it is another one each time.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn act(&mut self, world: &mut World, number: u64) {
        let kinds = HARMS.len() as u64;
        let (kind, turn) = ((number % kinds) as usize, (number / kinds) as usize);
        let who = self.base + kind * CLIENTS + turn % CLIENTS;
        let harm = HARMS[kind].0;
        match world.clients[who].stage {
            Stage::Closed => {
                self.counts[kind].connections += 1;
                world.forget(who);
                world.connect(who, None);
            }
            Stage::Upgrading if harm == Harm::HalfOpen => {
                self.counts[kind].messages += 1;
                world.say_raw(who, |out| out.push(b'x'));
            }
            Stage::Upgrading | Stage::Greeting => {}
            Stage::Open => {
                self.counts[kind].messages += 1;
                self.harm(world, who, harm, turn);
            }
        }
    }

    fn harm(&mut self, world: &mut World, who: usize, harm: Harm, turn: usize) {
        match harm {
            Harm::Flood => world.say(who, b"{\"type\":\"nothing\"}"),
            Harm::NeverReads => world.say(who, search::any().as_bytes()),
            Harm::Oversized => world.say_raw(who, |out| {
                frames::text_head(out, OVERSIZED);
                out.resize(out.len() + OVERSIZED_SENT, b'x');
            }),
            Harm::ForgedSignals => {
                let target = world.clients[turn % self.base.max(1)].peer.clone();
                let mut signal = Signal::to(Kind::Netplay, &target);
                world.say(who, signal.stamped(0));
            }
            Harm::CodeGuessing => {
                let code = LobbyCode::from_random(self.random());
                world.say(who, ClientMessage::join(1, code).to_json().as_bytes());
            }
            Harm::Searches => world.say(who, search::for_nothing().as_bytes()),
            // They are never open.
            Harm::HalfOpen | Harm::WrongProtocol => {}
        }
    }
}

impl Attackers {
    /// Does what is due.
    fn tick(&mut self, world: &mut World, now: Instant) {
        let due = now.saturating_duration_since(self.began).as_secs_f64() * self.per_second;
        while (self.acts as f64) < due {
            self.act(world, self.acts);
            self.acts += 1;
        }
    }

    fn count(&mut self, who: usize) -> &mut AttackCount {
        &mut self.counts[(who - self.base) / CLIENTS]
    }
}

/// What the honest do, with those beside them that are not.
pub(crate) struct Beside<'a> {
    pub(crate) honest: &'a mut dyn Phase,
    pub(crate) attackers: &'a mut Attackers,
}

impl Phase for Beside<'_> {
    fn tick(&mut self, world: &mut World, now: Instant) -> Result<Flow> {
        self.attackers.tick(world, now);
        Ok(match self.honest.tick(world, now)? {
            Flow::Wait(wait) => Flow::Wait(wait.min(Duration::from_millis(1))),
            flow => flow,
        })
    }

    fn opened(&mut self, world: &mut World, who: usize, now: Instant, said: Option<Said<'_>>) {
        if who < self.attackers.base {
            self.honest.opened(world, who, now, said);
        }
    }

    fn heard(&mut self, world: &mut World, who: usize, said: Said<'_>, now: Instant) {
        if who < self.attackers.base {
            return self.honest.heard(world, who, said, now);
        }
        let count = self.attackers.count(who);
        count.refused += u64::from(said.kind == "error");
        count.harmed += u64::from(matches!(said.kind, "signal" | "joined"));
    }

    fn lost(&mut self, world: &mut World, who: usize, why: &str) {
        if who < self.attackers.base {
            return self.honest.lost(world, who, why);
        }
        self.attackers.count(who).closed += 1;
    }
}
