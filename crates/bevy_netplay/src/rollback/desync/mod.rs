//! Players whose states differ: finding what differs, telling the game, and coming together again.
//!
//! Checksums of final states are compared at an interval. Where they differ, both machines find the values
//! that do ([`inquiry`]), write what they have to a file ([`dump`]), trigger [`Desync`], and then do what
//! [`DesyncPolicy`] says.
//!
//! Guaranteed: nothing that others say lets a machine keep more than a few states, or write more than a few
//! files in a match. Not guaranteed: that a machine which lies is found out, or that it answers.

mod dump;
mod inquiry;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use bevy_ecs::prelude::*;
use netplay_protocol::{Now, PeerId};

pub(crate) use inquiry::Tell;

use super::RollbackSettings;
use super::encoded::FinalStates;
use super::events::{Desync, StateDifference, trigger};
use super::id::RollbackId;
use super::session::Play;
use super::state::{NotKept, States};
use super::types::StateTypes;
use super::wire;
use crate::lobby::Lobby;
use inquiry::{Difference, Inquiry, Side};

/// How long another machine may take to tell what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Messages of a peer that wait until we see the difference too.
const HEARD_MAX: usize = 32;

/// What a machine does when its state differs from that of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DesyncPolicy {
    /// Plays on with what it has.
    Continue,
    /// Takes the state of the majority, like a player who comes back, unless it is in it; of a tie, that of
    /// the host's side. The others play on meanwhile.
    #[default]
    Resync,
    /// Ends its match, with [`SimulationFailed`](super::SimulationFailed).
    Stop,
}

/// Where reports of desyncs are written: a text file for each, which names what differs and has the whole
/// state. In a browser none are.
#[derive(Resource, Clone, Debug, PartialEq, Eq)]
pub struct DesyncDumps {
    /// The folder, which is created; `None` for no files. `netplay-desyncs` in the folder for temporary files
    /// by default.
    pub folder: Option<PathBuf>,
    /// Files in one match, so that one which differs again and again does not fill a disk; 4 by default.
    pub most: u32,
}

impl Default for DesyncDumps {
    fn default() -> Self {
        let folder =
            cfg!(not(target_family = "wasm")).then(|| std::env::temp_dir().join("netplay-desyncs"));
        Self { folder, most: 4 }
    }
}

/// Two checksums that differ.
#[derive(Clone, Copy, Debug)]
struct Checksums {
    ours: u64,
    theirs: u64,
    since: Now,
}

/// What is known of the differences between our state and that of others.
#[derive(Default)]
pub(crate) struct Desyncs {
    finals: FinalStates,
    inquiries: BTreeMap<PeerId, (Checksums, Inquiry)>,
    heard: BTreeMap<PeerId, VecDeque<Tell>>,
    dumps: u32,
    /// The tick for which it is to be decided what we do.
    decide: Option<i32>,
}

impl Desyncs {
    /// Takes a final state that is kept; gives its checksum.
    pub(crate) fn take(
        &mut self,
        states: &mut States,
        types: &StateTypes,
        tick: i32,
    ) -> Result<u64, NotKept> {
        self.finals.take(states, types, tick)
    }

    /// A peer has another checksum than we; gives what it is told. One difference with each is looked into
    /// at a time.
    pub(crate) fn begin(
        &mut self,
        now: Now,
        peer: PeerId,
        tick: i32,
        (ours, theirs): (u64, u64),
    ) -> Option<Tell> {
        if self.inquiries.contains_key(&peer) {
            return None;
        }
        let state = self.finals.get(tick)?.clone();
        let (inquiry, tell) = Inquiry::new(state);
        self.inquiries.insert(peer, (Checksums { ours, theirs, since: now }, inquiry));
        Some(tell)
    }

    /// A peer has told something.
    pub(crate) fn hear(&mut self, from: PeerId, tell: Tell) {
        let heard = self.heard.entry(from).or_default();
        if heard.len() >= HEARD_MAX {
            heard.pop_front();
        }
        heard.push_back(tell);
    }

    /// A peer is lost: it tells nothing any more.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.heard.remove(&peer);
    }

    /// Handles what was told; gives what is answered.
    fn answer(&mut self) -> Vec<(PeerId, Tell)> {
        let Self { finals, inquiries, heard, .. } = self;
        let mut answers = Vec::new();
        for (peer, heard) in heard.iter_mut() {
            let mut inquiry = inquiries.get_mut(peer).map(|(_, inquiry)| inquiry);
            let asked = inquiry.as_ref().map_or(i32::MIN, |inquiry| inquiry.state().tick);
            for tell in core::mem::take(heard) {
                match &mut inquiry {
                    Some(inquiry) if tell.tick() == asked => {
                        answers.extend(inquiry.hear(tell).into_iter().map(|tell| (*peer, tell)));
                    }
                    // Its difference is seen here soon.
                    _ if tell.tick() > asked && finals.get(tell.tick()).is_some() => {
                        heard.push_back(tell);
                    }
                    _ => {}
                }
            }
        }
        heard.retain(|_, heard| !heard.is_empty());
        answers
    }

    /// The next inquiry that is over.
    fn next_over(&mut self, now: Now) -> Option<(PeerId, Checksums, Inquiry)> {
        let over = |(_, (of, inquiry)): &(&PeerId, &(Checksums, Inquiry))| {
            inquiry.is_done() || now.since(of.since) >= ANSWER_WITHIN
        };
        let peer = *self.inquiries.iter().find(over)?.0;
        let (of, inquiry) = self.inquiries.remove(&peer)?;
        Some((peer, of, inquiry))
    }
}

/// Goes on with all inquiries; gives what is to be done because of one.
pub(crate) fn run(world: &mut World, play: &mut Play, now: Now) -> DesyncPolicy {
    for (peer, tell) in play.desyncs.answer() {
        wire::say(world, play.lobby, peer, &tell);
    }
    while let Some((peer, of, inquiry)) = play.desyncs.next_over(now) {
        report(world, play, peer, of, &inquiry);
        play.desyncs.decide = Some(inquiry.state().tick);
    }
    if !play.desyncs.inquiries.is_empty() {
        return DesyncPolicy::Continue;
    }
    let Some(tick) = play.desyncs.decide.take() else { return DesyncPolicy::Continue };
    let policy = world.resource::<RollbackSettings>().0.on_desync;
    if policy == DesyncPolicy::Resync && !is_outvoted(world, play, tick) {
        return DesyncPolicy::Continue;
    }
    policy
}

/// Whether most players have another state than we; of a tie, the host's side counts.
fn is_outvoted(world: &World, play: &Play, tick: i32) -> bool {
    let Some(ours) = play.desyncs.finals.get(tick).map(|state| state.checksum()) else {
        return false;
    };
    let host = world.get::<Lobby>(play.lobby).map(|lobby| lobby.host);
    let all: Vec<(PeerId, u64)> =
        play.session.checksums_of(tick).chain([(play.me, ours)]).collect();
    majority(&all, host).is_some_and(|sum| sum != ours)
}

/// The checksum of most; of a tie the one with the host, or else the least.
fn majority(all: &[(PeerId, u64)], host: Option<PeerId>) -> Option<u64> {
    let weight = |sum: u64| {
        let votes = all.iter().filter(|(_, other)| *other == sum);
        let hosts = votes.clone().any(|(peer, _)| Some(*peer) == host);
        (votes.count(), hosts, core::cmp::Reverse(sum))
    };
    all.iter().map(|(_, sum)| *sum).max_by_key(|sum| weight(*sum))
}

/// Tells the game, the log and a file.
fn report(world: &mut World, play: &mut Play, peer: PeerId, of: Checksums, inquiry: &Inquiry) {
    let tick = inquiry.state().tick;
    let differences = name(world, inquiry.differences());
    let dumps = world.get_resource_or_init::<DesyncDumps>();
    let folder = dumps.folder.clone().filter(|_| play.desyncs.dumps < dumps.most);
    let dump = folder.and_then(|folder| {
        play.desyncs.dumps += 1;
        let types = world.resource::<StateTypes>();
        let report = dump::Report { play, peer, of: (of.ours, of.theirs), inquiry, types };
        let written = dump::write(&folder, &report, &differences);
        written.inspect_err(|error| tracing::warn!(%error, "no report of a desync")).ok()
    });
    let first = differences.first().map(ToString::to_string).unwrap_or_default();
    tracing::error!(?peer, tick, ?dump, "players came to different states: {first}");
    let Checksums { ours, theirs, .. } = of;
    trigger(world, Desync { entity: play.lobby, peer, tick, ours, theirs, differences, dump });
}

/// Puts differences into the game's terms.
fn name(world: &mut World, differences: &[Difference]) -> Vec<StateDifference> {
    let mut ids = world.query::<(Entity, &RollbackId)>();
    let entities: BTreeMap<RollbackId, Entity> =
        ids.iter(world).map(|(entity, id)| (*id, entity)).collect();
    let types = world.resource::<StateTypes>();
    let text = |of: usize, side: &Side| match side {
        Side::Nothing => None,
        Side::Hash(hash) => Some(format!("a value with the hash {hash:016x}")),
        Side::Bytes(bytes) => types.get(of).map(|of| of.show(bytes)),
    };
    let named = differences.iter().map(|Difference { of, id, ours, theirs }| StateDifference {
        of: types.get(*of).map_or("", |of| of.name()),
        id: (id.get() != 0).then_some(*id),
        entity: entities.get(id).copied(),
        ours: text(*of, ours),
        theirs: text(*of, theirs),
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_players_are_followed_and_of_a_tie_the_host() {
        let peer = PeerId::from_u128;
        let all = |sums: &[u64]| -> Vec<(PeerId, u64)> {
            sums.iter().enumerate().map(|(i, sum)| (peer(i as u128), *sum)).collect()
        };
        assert_eq!(majority(&all(&[7, 8]), Some(peer(0))), Some(7));
        assert_eq!(majority(&all(&[7, 8]), Some(peer(1))), Some(8));
        assert_eq!(majority(&all(&[7, 8, 8]), Some(peer(0))), Some(8));
        assert_eq!(majority(&all(&[7, 7, 8, 8]), Some(peer(3))), Some(8));
        assert_eq!(majority(&all(&[9, 8]), None), Some(8));
        assert_eq!(majority(&[], None), None);
    }
}
