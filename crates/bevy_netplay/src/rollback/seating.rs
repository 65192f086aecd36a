//! Who plays: agreed on when a match begins, and told to who comes later.
//!
//! | the host | the others |
//! |---|---|
//! | a match was agreed on: seats all who are connected, and tells them | wait for that, and begin |
//! | | came while it ran already: are told by anybody who plays, and return to their seat, take a free one, or watch |
//!
//! A host that is lost in the middle of it: the next one seats the players, unless somebody has told it
//! within a second that they are seated.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use bevy_ecs::prelude::*;
use netplay_protocol::ids::InvalidId;
use netplay_protocol::{BuildId, GameId, Now, PeerId};
use netplay_rollback::limits::{PEERS_MAX, PLAYERS_MAX};
use netplay_rollback::recording::Header;
use netplay_rollback::{Input, Role, Seat, Session, SessionConfig};
use netplay_tick::TickRate;
use serde::{Deserialize, Serialize};

use super::RollbackSettings;
use super::clock::{Begins, PastTicks, SimulatedTick};
use super::events::{RollbackError, SeatedPlayer, SimulationBegins, SimulationFailed, trigger};
use super::id::NextId;
use super::input::InputType;
use super::late::{self, Claim};
use super::record;
use super::session::{Play, Playing, timestep};
use super::snapshot::{SnapshotError, despawn_all};
use super::state::SavedStates;
use super::tick_rng::TickRng;
use super::types::StateTypes;
use super::wire::{self, Carrier, Told};
use crate::lobby::Lobby;
use crate::match_time::Match;
use crate::settings::NetplaySettings;

/// A new host seats the players if nobody has told it so for so long.
const SEAT_AFTER: Duration = Duration::from_secs(1);

/// States that cannot be read: after so many, it is our game that cannot read them.
const UNREADABLE_MAX: u8 = 3;

/// Messages of a session that are kept until it begins here, and their bytes: it begins within a second.
const EARLY_MAX: usize = 256;
const EARLY_BYTES: usize = 1024 * 1024;

/// Who plays in a match, and by which rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seating {
    /// The match: the instant of its tick 0 on the clock that all share, in microseconds.
    start_us: i64,
    /// Ticks per second.
    rate: u16,
    checksum_every: u16,
    /// What the types of the game are.
    types: u64,
    /// In the order of the players.
    pub(super) seats: Vec<TakenSeat>,
}

/// A seat, and who has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TakenSeat {
    /// How often it was given to somebody since tick 0: the latest word counts.
    pub(super) given: u16,
    /// Nobody, if it is free.
    pub(super) peer: Option<PeerId>,
    /// How many players sit there.
    pub(super) players: u8,
}

/// The name of a free seat in a session.
pub(super) const fn nobody(index: usize) -> PeerId {
    PeerId::from_u128(index as u128 + 1)
}

/// Whether it is the name of a free seat. Peers have random ids.
pub(crate) const fn is_nobody(peer: PeerId) -> bool {
    peer.as_u128() <= PEERS_MAX as u128
}

impl Seating {
    fn seats(&self) -> Vec<Seat> {
        let seats = self.seats.iter().enumerate();
        let seat = |(index, seat): (usize, &TakenSeat)| Seat {
            peer: seat.peer.unwrap_or(nobody(index)),
            players: seat.players,
        };
        seats.map(seat).collect()
    }

    /// Which match it is.
    pub(super) const fn id(&self) -> i64 {
        self.start_us
    }

    /// Whether a peer has a seat.
    pub(super) fn is_listed(&self, peer: PeerId) -> bool {
        self.seats.iter().any(|seat| seat.peer == Some(peer))
    }
}

/// What is known of the players of a lobby.
#[derive(Component, Default)]
pub(crate) struct Seats {
    /// How many players sit where.
    pub(super) told: BTreeMap<PeerId, u8>,
    /// The latest seating that we heard of, and from whom.
    pub(super) seating: Option<(PeerId, Seating)>,
    /// Who has left the lobby: another one may have the seat.
    pub(super) left: BTreeSet<PeerId>,
    /// The latest that we heard of each seat.
    pub(super) news: Vec<TakenSeat>,
    /// What we wait for before we take a seat.
    pub(super) claim: Claim,
    /// The match that cannot be played.
    refused: Option<i64>,
    /// States of it that could not be read.
    unreadable: u8,
    /// Since when we lead a match that another host had begun.
    inherited: Option<Now>,
    /// Messages of a session that we are not in yet.
    early: VecDeque<Early>,
}

/// A message that came before our session began.
type Early = (PeerId, Carrier, Vec<u8>);

/// A peer says how many players it has.
pub(crate) fn note_players(world: &mut World, lobby: Entity, peer: PeerId, players: u8) {
    with(world, lobby, |seats| _ = seats.told.insert(peer, players));
}

/// A peer says who plays. The first word about a match counts, and the host's more than others'; of each
/// seat the latest.
pub(crate) fn note_seating(world: &mut World, lobby: Entity, from: PeerId, seating: Seating) {
    let host = world.get::<Lobby>(lobby).map(|lobby| lobby.host);
    let plays = world.resource::<Playing>().play.is_some();
    let current = world.get::<Match>(lobby).map(|of| of.timeline.start().as_micros());
    late::note(world, lobby, from, &seating);
    with(world, lobby, |seats| {
        let counts = match &seats.seating {
            Some((by, known)) if known.start_us == seating.start_us => {
                Some(from) == host && Some(*by) != host
            }
            // Of another match than ours only the host may tell.
            Some((_, known)) => Some(from) == host || Some(known.id()) != current,
            None => true,
        };
        // What we play by is settled.
        if counts && !plays {
            if seats.seating.as_ref().is_none_or(|(_, known)| known.id() != seating.id()) {
                (seats.claim, seats.left) = (Claim::default(), BTreeSet::new());
                seats.news.clear();
                seats.unreadable = 0;
            }
            seats.seating = Some((from, seating));
        }
    });
}

/// Another member of the lobby is its host. If that is us, and nobody is seated in a match that begins, we
/// wait for the others' word.
pub(crate) fn note_host(world: &mut World, lobby: Entity) {
    let now = wire::now(world, lobby);
    with(world, lobby, |seats| seats.inherited = now);
}

/// A message of a session that is to begin here soon.
pub(crate) fn keep_early(
    world: &mut World,
    lobby: Entity,
    from: PeerId,
    carrier: Carrier,
    bytes: Vec<u8>,
) {
    with(world, lobby, |seats| {
        let held: usize = seats.early.iter().map(|(.., bytes)| bytes.len()).sum();
        if seats.early.len() < EARLY_MAX && held + bytes.len() <= EARLY_BYTES {
            seats.early.push_back((from, carrier, bytes));
        }
    });
}

/// A peer is there: it is told how many players we have, and who plays.
pub(crate) fn greet(world: &mut World, lobby: Entity, peer: PeerId) {
    with(world, lobby, |seats| _ = seats.left.remove(&peer));
    let players = world.resource::<RollbackSettings>().0.local_players;
    wire::say(world, lobby, peer, &Told::Players(players));
    tell_seating(world, lobby, peer);
}

/// Tells a peer who plays, if we know.
pub(crate) fn tell_seating(world: &mut World, lobby: Entity, peer: PeerId) {
    let play = world.resource::<Playing>().play.as_ref();
    let plays = play.is_some_and(|play| play.lobby == lobby);
    let seating = world.get::<Seats>(lobby).and_then(|seats| seats.seating.clone());
    if let Some((_, seating)) = seating.filter(|_| plays) {
        wire::say(world, lobby, peer, &Told::Seating(seating));
    }
}

/// A peer has left the lobby.
pub(crate) fn note_left(world: &mut World, lobby: Entity, peer: PeerId) {
    with(world, lobby, |seats| {
        let seated = seats.seating.as_ref().is_some_and(|(_, seating)| seating.is_listed(peer));
        if seated {
            seats.left.insert(peer);
        }
    });
}

/// A peer is lost.
pub(crate) fn forget(world: &mut World, lobby: Entity, peer: PeerId) {
    with(world, lobby, |seats| _ = seats.told.remove(&peer));
}

pub(super) fn with(world: &mut World, lobby: Entity, change: impl FnOnce(&mut Seats)) {
    if let Ok(mut entity) = world.get_entity_mut(lobby) {
        change(entity.entry::<Seats>().or_default().get_mut().into_inner());
    }
}

/// Begins to play in a match that was agreed on, once it is known who plays.
pub(crate) fn begin(world: &mut World) {
    if world.resource::<Playing>().play.is_some() || !world.contains_resource::<InputType>() {
        return;
    }
    let mut matches = world.query::<(Entity, &Lobby, &Match)>();
    let Some((lobby, me, host, of)) =
        matches.iter(world).next().map(|(entity, lobby, of)| (entity, lobby.me, lobby.host, *of))
    else {
        return;
    };
    let start = of.timeline.start().as_micros();
    if world.get::<Seats>(lobby).is_some_and(|seats| seats.refused == Some(start)) {
        return;
    }
    let known = world.get::<Seats>(lobby).and_then(|seats| seats.seating.clone());
    // Anybody may tell who comes later, and a new host; else it is for the host to say.
    let counts = |by: PeerId| of.running || by == host || me == host;
    match known.filter(|(by, seating)| seating.start_us == start && counts(*by)) {
        Some(_) if of.running && late::waits(world, lobby, me) => {}
        Some((_, seating)) => play(world, lobby, (me, host), &of, &seating),
        None if me == host && !of.running => seat(world, lobby, me, &of),
        None => {}
    }
}

/// The host seats everybody who is connected; the next frame begins with it.
fn seat(world: &mut World, lobby: Entity, me: PeerId, of: &Match) {
    let Some(now) = wire::now(world, lobby) else { return };
    let peers = wire::peers(world, lobby);
    let settings = world.resource::<RollbackSettings>().0;
    let (players, checksum_every) = (settings.local_players, settings.checksum_every);
    let types = fingerprint(world);
    with(world, lobby, |seats| {
        let waits = seats.inherited.is_some_and(|since| now.since(since) < SEAT_AFTER);
        if waits || peers.iter().any(|peer| !seats.told.contains_key(peer)) {
            return;
        }
        let told = peers.iter().filter_map(|peer| Some((*peer, *seats.told.get(peer)?)));
        let all = core::iter::once((me, players)).chain(told).filter(|(_, players)| *players > 0);
        let taken = all.map(|(peer, players)| TakenSeat { given: 0, peer: Some(peer), players });
        let mut all: Vec<TakenSeat> = taken.collect();
        let free = TakenSeat { given: 0, peer: None, players: players.max(1) };
        let most = PEERS_MAX.min(settings.seats.into());
        let mut players: usize = all.iter().map(|seat| usize::from(seat.players)).sum();
        while all.len() < most && players + usize::from(free.players) <= PLAYERS_MAX {
            all.push(free);
            players += usize::from(free.players);
        }
        let seating = Seating {
            start_us: of.timeline.start().as_micros(),
            rate: of.timeline.rate().per_second(),
            checksum_every,
            types,
            seats: all,
        };
        seats.seating = Some((me, seating));
    });
}

/// What a recording of the match in this lobby says of it.
///
/// # Errors
/// If the names of the game or of its build are none.
pub(crate) fn header(world: &World, lobby: Entity) -> Result<Header, InvalidId> {
    let settings = world.resource::<NetplaySettings>();
    let (game, build) = (settings.game.as_str(), settings.build.as_str());
    let known = world.get::<Seats>(lobby).and_then(|seats| seats.seating.as_ref());
    let (start_us, seats) = known.map_or((0, Vec::new()), |(_, of)| (of.start_us, of.seats()));
    // Who we are, and who leads, is not recorded.
    let nobody = PeerId::from_u128(0);
    let mut config = SessionConfig::new(start_us as u64, nobody, nobody, seats);
    if let Some((_, seating)) = known {
        config.rate = TickRate::new(seating.rate).unwrap_or_default();
        config.checksum_every = seating.checksum_every;
    }
    if let Some(input_type) = world.get_resource::<InputType>() {
        config.neutral = (input_type.neutral)();
    }
    Ok(Header::new(&config, GameId::new(game)?, BuildId::new(build)?, fingerprint(world)))
}

/// Names the types of this game.
pub(crate) fn fingerprint(world: &World) -> u64 {
    let input = world.get_resource::<InputType>().map_or("", |input_type| input_type.name);
    world.resource::<StateTypes>().fingerprint(input)
}

/// Begins the session with these players.
pub(super) fn play(
    world: &mut World,
    lobby: Entity,
    (me, host): (PeerId, PeerId),
    of: &Match,
    seating: &Seating,
) {
    let role = match (seating.is_listed(me), of.running) {
        (true, false) => Role::Player,
        (true, true) => Role::Returning,
        (false, running) => {
            let delay = world.resource::<RollbackSettings>().0.watch_delay;
            Role::Spectator { delay, from_start: !running }
        }
    };
    let begun = session(world, (me, host), role, of, seating);
    match begun {
        Ok(session) => enter(world, lobby, me, session, role, seating),
        Err(error) => {
            tracing::error!(%error, "the match cannot be played");
            with(world, lobby, |seats| seats.refused = Some(seating.start_us));
            trigger(world, SimulationFailed { entity: lobby, error });
        }
    }
}

fn session(
    world: &World,
    (me, host): (PeerId, PeerId),
    role: Role,
    of: &Match,
    seating: &Seating,
) -> Result<Session, RollbackError> {
    let rate = of.timeline.rate();
    if rate.per_second() != seating.rate {
        return Err(RollbackError::Rate { ours: rate.per_second(), theirs: seating.rate });
    }
    if fingerprint(world) != seating.types {
        return Err(RollbackError::Types);
    }
    let settings = world.resource::<RollbackSettings>().0;
    let mut config = SessionConfig::new(seating.start_us as u64, me, host, seating.seats());
    if let Some(input_type) = world.get_resource::<InputType>() {
        config.neutral = (input_type.neutral)();
        config.validate = input_type.validate;
    }
    config.absent =
        config.roster.iter().map(|seat| seat.peer).filter(|peer| is_nobody(*peer)).collect();
    config.role = role;
    config.epoch = RandomState::new().hash_one(seating.start_us) as u32;
    config.rate = rate;
    config.prediction = settings.prediction;
    config.delay = settings.delay;
    config.checksum_every = seating.checksum_every;
    config.predictor = (settings.predictor)();
    Ok(Session::new(config)?)
}

/// Takes the session into use.
fn enter(
    world: &mut World,
    lobby: Entity,
    me: PeerId,
    session: Session,
    role: Role,
    seating: &Seating,
) {
    let settings = world.resource::<RollbackSettings>().0;
    let mut play = Play::new(lobby, me, session, seating.seats(), timestep(world), &settings);
    play.watches = matches!(role, Role::Spectator { .. });
    let connected = wire::peers(world, lobby);
    let Some(now) = wire::now(world, lobby) else { return };
    for seat in &play.seats {
        if seat.peer != me && !connected.contains(&seat.peer) {
            play.session.handle(now, Input::Link { peer: seat.peer, up: false });
        }
    }
    for peer in connected {
        play.session.handle(now, Input::Link { peer, up: true });
        if role == Role::Player {
            wire::say(world, lobby, peer, &Told::Seating(seating.clone()));
        }
    }
    let mut early = VecDeque::new();
    with(world, lobby, |seats| early = core::mem::take(&mut seats.early));
    for (from, carrier, bytes) in early {
        play.message(now, from, carrier, &bytes);
    }
    let players: Vec<SeatedPlayer> = play.players().collect();
    if let Some(input_type) = world.get_resource::<InputType>().copied() {
        let ours = players.iter().filter(|seated| seated.local).map(|seated| seated.player.0);
        let first = ours.clone().min().unwrap_or(0);
        (input_type.seat)(world, first..first + ours.count() as u8);
    }
    tracing::info!(players = players.len(), ?role, "a rollback session begins");
    let again = core::mem::replace(&mut world.resource_mut::<Playing>().again, true);
    world.resource_mut::<SavedStates>().forget_all();
    world.resource_mut::<SimulatedTick>().0 = 0;
    // Those were ticks of another count.
    world.insert_resource(PastTicks::default());
    let from_start = !matches!(role, Role::Returning | Role::Spectator { from_start: false, .. });
    if again && from_start {
        despawn_all(world);
        world.insert_resource(NextId::default());
    }
    if from_start {
        world.insert_resource(TickRng::seeded(seating.start_us as u64));
        world.run_schedule(Begins);
    }
    world.resource_mut::<Playing>().play = Some(play);
    if from_start {
        trigger(world, SimulationBegins { entity: lobby, players });
        record::begin_match(world);
    }
}

/// Nothing more is played of the match that runs.
pub(crate) fn refuse(world: &mut World, lobby: Entity, error: RollbackError) {
    let start = world.get::<Match>(lobby).map(|of| of.timeline.start().as_micros());
    with(world, lobby, |seats| seats.refused = start);
    trigger(world, SimulationFailed { entity: lobby, error });
}

/// A state of the match could not be read: another one is asked for, a few times.
pub(crate) fn note_unreadable(world: &mut World, lobby: Entity, error: SnapshotError) -> bool {
    let mut often = false;
    with(world, lobby, |seats| {
        seats.unreadable += 1;
        often = seats.unreadable >= UNREADABLE_MAX;
    });
    if often {
        refuse(world, lobby, RollbackError::Snapshot(error));
    }
    often
}

/// We were dropped from the match: comes back into it.
pub(crate) fn come_back(world: &mut World, lobby: Entity) {
    let seating = world.get::<Seats>(lobby).and_then(|seats| seats.seating.clone());
    let state = world.get::<Lobby>(lobby).map(|lobby| (lobby.me, lobby.host));
    let of = world.get::<Match>(lobby).copied();
    if let (Some((_, seating)), Some(ids), Some(mut of)) = (seating, state, of) {
        of.running = true;
        play(world, lobby, ids, &of, &seating);
    }
}
