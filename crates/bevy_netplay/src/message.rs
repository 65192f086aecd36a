//! Typed messages: registering, sending, receiving.
//!
//! On the wire a message is what the codec makes of it, and then the tick in which it was written: two
//! bytes of its low bits and a one, or a zero outside of a match.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use netplay_protocol::codec::{Bincode, Codec, DecodeError, EncodeError};
use netplay_protocol::frame::MessageId;
use netplay_protocol::schema::{Schema, SchemaEntry, SchemaError};
use netplay_protocol::{Lane, LaneConfig, LaneKind, LaneTable, PeerId};
use netplay_tick::NetTick;
use netplay_transport::SendError as QueueError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::error::LobbyError;
use crate::lobby::LobbySession;
use crate::match_time::MatchTick;
use crate::peer::{LinkState, Peer, PeerOf, PeerStats};

/// What a game's own type needs to be a message.
pub trait NetMessage: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> NetMessage for T {}

/// A message that arrived. Read it with `MessageReader<Received<M>>`.
#[derive(Message, Clone, Debug)]
pub struct Received<M: NetMessage> {
    /// The peer entity that sent it. It may be gone by the time this is read.
    pub from: Entity,
    /// The sender's id.
    pub peer: PeerId,
    /// The tick in which it was written, if its sender was in a match: that of its
    /// [`MatchTick`]. Of the ticks with the same low 16 bits it is the one nearest to ours.
    pub tick: Option<NetTick>,
    /// The message.
    pub message: M,
}

/// Registers messages.
pub trait AddNetMessage {
    /// Makes `M` a message on this lane. All players of a game register the same types on the same
    /// lanes, in any order; who does not is refused by name.
    ///
    /// The type's path is its name on the wire, so it must be the same on all players' machines.
    /// Registering a type twice, or more than 512 types, fails every [`JoinLobby`](crate::JoinLobby)
    /// with a [`LobbyError`](crate::LobbyError).
    fn add_net_message<M: NetMessage>(&mut self, lane: Lane) -> &mut Self;

    /// As [`Self::add_net_message`], on a lane where the newest wins: of the messages with the same
    /// key, that is. `key` names the thing of the game of which a message tells, such as the number of
    /// a ship; up to 1024 keys of a lane may be in use.
    ///
    /// Using it with a lane of another kind fails every [`JoinLobby`](crate::JoinLobby) with a
    /// [`LobbyError`](crate::LobbyError).
    fn add_keyed_net_message<M: NetMessage>(&mut self, lane: Lane, key: fn(&M) -> u16)
    -> &mut Self;

    /// Defines a lane of the game's own ([`Lane::custom`]), or changes a built-in one. All players of
    /// a game define the same lanes with the same kinds; who does not is refused by name.
    ///
    /// ```
    /// # use bevy_app::App;
    /// # use bevy_netplay::prelude::*;
    /// # use std::time::Duration;
    /// /// Effects that nobody misses when they are late.
    /// const EFFECTS: Lane = Lane::custom(0);
    ///
    /// let mut app = App::new();
    /// let config = LaneConfig::new(LaneKind::Unreliable).deadline(Duration::from_millis(100));
    /// app.add_lane(EFFECTS, config);
    /// ```
    fn add_lane(&mut self, lane: Lane, config: LaneConfig) -> &mut Self;
}

impl AddNetMessage for App {
    fn add_net_message<M: NetMessage>(&mut self, lane: Lane) -> &mut Self {
        self.add_message::<Received<M>>();
        let mut registry = self.world_mut().get_resource_or_init::<MessageRegistry>();
        registry.entries.push(Entry {
            name: std::any::type_name::<M>(),
            lane,
            keyed: false,
            own: false,
            deliver: deliver::<M>,
        });
        self
    }

    fn add_keyed_net_message<M: NetMessage>(
        &mut self,
        lane: Lane,
        key: fn(&M) -> u16,
    ) -> &mut Self {
        self.add_net_message::<M>(lane);
        self.insert_resource(KeyOf(key));
        let mut registry = self.world_mut().resource_mut::<MessageRegistry>();
        if let Some(entry) = registry.entries.last_mut() {
            entry.keyed = true;
        }
        self
    }

    fn add_lane(&mut self, lane: Lane, config: LaneConfig) -> &mut Self {
        let mut registry = self.world_mut().get_resource_or_init::<MessageRegistry>();
        registry.lanes.set(lane, config);
        self
    }
}

/// How a message type names the thing that it tells of.
#[derive(Resource)]
struct KeyOf<M>(fn(&M) -> u16);

/// Takes a message of the peer at this entity.
pub(crate) type Deliver = fn(&mut World, Entity, PeerId, &[u8]) -> Result<(), DecodeError>;

/// Registers a message of the plugin's own, which is no message of the world.
pub(crate) fn add_own_message<M: NetMessage>(app: &mut App, lane: Lane, deliver: Deliver) {
    let mut registry = app.world_mut().get_resource_or_init::<MessageRegistry>();
    let name = std::any::type_name::<M>();
    registry.entries.push(Entry { name, lane, keyed: false, own: true, deliver });
}

/// Reads a message of the plugin's own.
pub(crate) fn decode<M: NetMessage>(payload: &[u8]) -> Result<M, DecodeError> {
    Bincode::decode(split_stamp(payload).ok_or_else(no_stamp)?.0)
}

fn deliver<M: NetMessage>(
    world: &mut World,
    from: Entity,
    peer: PeerId,
    payload: &[u8],
) -> Result<(), DecodeError> {
    let (payload, low) = split_stamp(payload).ok_or_else(no_stamp)?;
    let message = Bincode::decode::<M>(payload)?;
    let ours = world.get_resource::<MatchTick>().and_then(|tick| tick.0).unwrap_or_default();
    let tick = low.map(|low| ours.nearest(low));
    world.write_message(Received { from, peer, tick, message });
    Ok(())
}

fn no_stamp() -> DecodeError {
    DecodeError::Deserialize("its tick is missing".into())
}

/// Bytes of a stamp at most.
const STAMP_MAX: usize = 3;

/// Appends the tick in which a message is written: its low bits and a one, or only a zero.
fn put_stamp(tick: Option<NetTick>, out: &mut Vec<u8>) {
    match tick {
        Some(tick) => {
            out.extend_from_slice(&tick.low().to_le_bytes());
            out.push(1);
        }
        None => out.push(0),
    }
}

/// The message and the low bits of its tick.
fn split_stamp(bytes: &[u8]) -> Option<(&[u8], Option<u16>)> {
    match bytes {
        [payload @ .., 0] => Some((payload, None)),
        [payload @ .., low, high, 1] => Some((payload, Some(u16::from_le_bytes([*low, *high])))),
        _ => None,
    }
}

#[derive(Clone)]
struct Entry {
    name: &'static str,
    lane: Lane,
    keyed: bool,
    /// The plugin's, and not counted as one of the game.
    own: bool,
    deliver: Deliver,
}

/// The registered messages.
#[derive(Resource, Default)]
pub(crate) struct MessageRegistry {
    entries: Vec<Entry>,
    /// In the order of their numbers, once complete.
    numbered: Vec<Entry>,
    lanes: LaneTable,
}

impl MessageRegistry {
    pub(crate) fn schema(&self) -> Result<Schema, SchemaError> {
        let entries = self.entries.iter();
        let entries =
            entries.map(|entry| SchemaEntry { name: entry.name.to_owned(), lane: entry.lane });
        Schema::new(entries.collect())
    }

    /// The lanes, if every message has one that suits it.
    pub(crate) fn lanes(&self) -> Result<LaneTable, LobbyError> {
        for entry in &self.entries {
            let (message, lane) = (entry.name, entry.lane);
            match self.lanes.kind(lane) {
                None => return Err(LobbyError::NoSuchLane { message, lane }),
                Some(kind) if entry.keyed && kind != LaneKind::Sequenced => {
                    return Err(LobbyError::NoKeys { message, lane });
                }
                Some(_) => {}
            }
        }
        Ok(self.lanes.clone())
    }

    pub(crate) fn is_reliable(&self, lane: Lane) -> bool {
        self.lanes.kind(lane).is_some_and(LaneKind::is_reliable)
    }

    /// Gives every message its number. Called when all plugins are built.
    pub(crate) fn number(&mut self) {
        self.numbered = self.entries.clone();
        self.numbered.sort_by_key(|entry| entry.name);
    }

    fn find(&self, name: &str) -> Option<(MessageId, Lane)> {
        let place = self.numbered.binary_search_by(|entry| entry.name.cmp(name)).ok()?;
        Some((MessageId(u16::try_from(place).ok()?), self.numbered[place].lane))
    }

    /// Who takes such a message, and whether it is one of the game.
    pub(crate) fn deliverer(&self, id: MessageId, lane: Lane) -> Option<(Deliver, bool)> {
        let entry = self.numbered.get(usize::from(id.0))?;
        (entry.lane == lane).then_some((entry.deliver, !entry.own))
    }
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// `add_net_message` was not called for this type.
    #[error("{0} is not registered: call App::add_net_message")]
    NotRegistered(&'static str),
    /// The entity is no connected peer.
    #[error("{0} is no connected peer")]
    NotAPeer(Entity),
    /// The message cannot be encoded, or is too large for its lane.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The peer is not connected, or too many reliable messages to it wait.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// How a message to several peers fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentTo {
    /// Peers to whom it goes.
    pub peers: usize,
    /// Peers for whom it was refused, because too many reliable messages to them wait or it is too
    /// large. Each is counted in their [`PeerStats`] and logged.
    pub refused: usize,
}

/// Sends messages of one type. What is written in one frame leaves together at its end, or
/// in a match with the tick that is next.
///
/// Several systems may write at the same time.
#[derive(SystemParam)]
pub struct NetWriter<'w, 's, M: NetMessage> {
    registry: Res<'w, MessageRegistry>,
    lobbies: Query<'w, 's, &'static LobbySession>,
    peers: Query<'w, 's, (Entity, &'static Peer, &'static PeerOf, &'static LinkState)>,
    counts: Res<'w, SendCounts>,
    key: Option<Res<'w, KeyOf<M>>>,
    tick: Res<'w, MatchTick>,
    scratch: Local<'s, Vec<u8>>,
    marker: PhantomData<fn(M)>,
}

impl<M: NetMessage> NetWriter<'_, '_, M> {
    /// Sends to every connected peer.
    pub fn to_all(&mut self, message: impl Borrow<M>) -> SentTo {
        let mut sent = SentTo::default();
        let prepared = self.prepare(message.borrow());
        for (entity, peer, lobby, state) in &self.peers {
            if !state.is_open() {
                continue;
            }
            let result = prepared.as_ref().map_err(Clone::clone).and_then(|address| {
                queue(&self.lobbies, lobby.0, peer.id, *address, &self.scratch)
                    .map(|()| address.lane)
            });
            match result {
                Ok(lane) => {
                    sent.peers += 1;
                    self.counts.sent(entity, self.registry.is_reliable(lane));
                }
                Err(error) => {
                    sent.refused += 1;
                    self.counts.refused(entity, std::any::type_name::<M>(), error);
                }
            }
        }
        sent
    }

    /// Sends to one peer.
    ///
    /// # Errors
    /// [`SendError`] if nothing was queued.
    pub fn to(&mut self, peer: Entity, message: impl Borrow<M>) -> Result<(), SendError> {
        let address = self.prepare(message.borrow())?;
        let Ok((entity, peer, lobby, _)) = self.peers.get(peer) else {
            return Err(SendError::NotAPeer(peer));
        };
        queue(&self.lobbies, lobby.0, peer.id, address, &self.scratch)?;
        self.counts.sent(entity, self.registry.is_reliable(address.lane));
        Ok(())
    }

    /// Encodes into the scratch buffer, once for all receivers.
    fn prepare(&mut self, message: &M) -> Result<Address, SendError> {
        let name = std::any::type_name::<M>();
        let (id, lane) = self.registry.find(name).ok_or(SendError::NotRegistered(name))?;
        let kind = self.registry.lanes.kind(lane).ok_or(QueueError::NoSuchLane { lane })?;
        let key = self.key.as_ref().map(|key| key.0(message));
        self.scratch.clear();
        Bincode::encode(message, &mut self.scratch, kind.message_max() - STAMP_MAX)?;
        put_stamp(self.tick.0, &mut self.scratch);
        Ok(Address { id, lane, key })
    }
}

/// Sends a message of the plugin's own to one peer; it is not counted.
///
/// # Errors
/// [`SendError`] if nothing was queued.
pub(crate) fn send_to<M: NetMessage>(
    world: &World,
    lobby: Entity,
    peer: PeerId,
    message: &M,
) -> Result<(), SendError> {
    let registry = world.resource::<MessageRegistry>();
    let name = std::any::type_name::<M>();
    let (id, lane) = registry.find(name).ok_or(SendError::NotRegistered(name))?;
    let kind = registry.lanes.kind(lane).ok_or(QueueError::NoSuchLane { lane })?;
    let mut bytes = Vec::new();
    Bincode::encode(message, &mut bytes, kind.message_max() - STAMP_MAX)?;
    put_stamp(None, &mut bytes);
    let session = world.get::<LobbySession>(lobby).ok_or(QueueError::NotConnected)?;
    Ok(session.lock().send(peer, lane, id, &bytes)?)
}

/// How a message is addressed within its link.
#[derive(Clone, Copy)]
struct Address {
    id: MessageId,
    lane: Lane,
    key: Option<u16>,
}

fn queue(
    lobbies: &Query<&LobbySession>,
    lobby: Entity,
    peer: PeerId,
    Address { id, lane, key }: Address,
    payload: &[u8],
) -> Result<(), SendError> {
    let session = lobbies.get(lobby).map_err(|_| QueueError::NotConnected)?;
    let mut session = session.lock();
    match key {
        Some(key) => session.send_keyed(peer, lane, key, id, payload)?,
        None => session.send(peer, lane, id, payload)?,
    }
    Ok(())
}

/// What writers have counted since the statistics were last refreshed. Behind a lock so that
/// writers can run side by side.
#[derive(Resource, Default)]
pub(crate) struct SendCounts(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    peers: Vec<(Entity, Count)>,
    last_refusal: Option<(&'static str, SendError)>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    sent: u64,
    reliable: u64,
    refused: u64,
}

impl SendCounts {
    fn count(&self, peer: Entity, add: impl FnOnce(&mut Count)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.peers.iter_mut().find(|(entity, _)| *entity == peer) {
            Some((_, count)) => add(count),
            None => {
                let mut count = Count::default();
                add(&mut count);
                counts.peers.push((peer, count));
            }
        }
    }

    fn sent(&self, peer: Entity, reliable: bool) {
        self.count(peer, |count| {
            count.sent += 1;
            count.reliable += u64::from(reliable);
        });
    }

    fn refused(&self, peer: Entity, message: &'static str, error: SendError) {
        self.count(peer, |count| count.refused += 1);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_refusal = Some((message, error));
    }

    /// Moves the counts into the peers' statistics; gives the latest refusal, for a log.
    pub(crate) fn settle(
        &mut self,
        stats: &mut Query<&mut PeerStats>,
    ) -> Option<(&'static str, SendError)> {
        let counts = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (entity, count) in counts.peers.drain(..) {
            if let Ok(mut stats) = stats.get_mut(entity) {
                stats.messages_sent += count.sent;
                stats.reliable_sent += count.reliable;
                stats.messages_refused += count.refused;
            }
        }
        counts.last_refusal.take()
    }
}
