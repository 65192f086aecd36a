//! The other players of a lobby as entities.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_ecs::reflect::ReflectComponent;
use bevy_reflect::Reflect;
use netplay_protocol::PeerId;
use netplay_transport::{CloseReason, InterruptReason, LinkStats};

use crate::conditioner::ToldConditioner;

/// Another player. The plugin spawns one entity per player it finds, related to its lobby by
/// [`PeerOf`], and despawns it when the player is gone: when its link ends, or its seat in the lobby if
/// seats are kept. Despawning it yourself ends the link.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
#[require(LinkState, PeerStats, ToldConditioner)]
pub struct Peer {
    /// The player's id, the same on all machines.
    pub id: PeerId,
}

/// The lobby in which a peer was found.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[relationship(relationship_target = LobbyPeers)]
pub struct PeerOf(pub Entity);

/// The peers of a lobby. They go when it goes.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = PeerOf, linked_spawn)]
pub struct LobbyPeers(Vec<Entity>);

/// How the link to a peer is.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
#[reflect(Component)]
pub enum LinkState {
    /// It is being made; nothing can be sent yet.
    #[default]
    Connecting,
    /// Messages can be sent.
    Connected,
    /// Nothing was heard for a while; messages can still be sent and arrive if it comes back.
    Interrupted,
    /// The link is lost, and the player's seat in the lobby is kept: it may come back.
    Lost,
}

impl LinkState {
    /// Whether messages can be sent.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Connected | Self::Interrupted)
    }

    /// Whether the player was there, and is not now: a bot may take its place.
    pub const fn is_away(self) -> bool {
        matches!(self, Self::Interrupted | Self::Lost)
    }
}

/// Since when a player is lost, in the time of the app.
#[derive(Component, Clone, Copy, Debug)]
pub(crate) struct LostSince(pub(crate) Duration);

/// Statistics of the link to a peer, refreshed every frame.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct PeerStats {
    /// What the network thread has measured.
    pub link: LinkStats,
    /// Game messages sent to this peer.
    pub messages_sent: u64,
    /// Game messages received from this peer.
    pub messages_received: u64,
    /// Of the messages sent, those on a reliable lane.
    pub reliable_sent: u64,
    /// Of the messages received, those on a reliable lane.
    pub reliable_received: u64,
    /// Game messages to this peer that were refused; see
    /// [`SendError`](netplay_transport::SendError).
    pub messages_refused: u64,
    /// Packets of this peer whose messages could not be decoded.
    pub undecodable: u64,
}

impl PeerStats {
    /// Smoothed round-trip time, measured between the network threads; `None` before the first
    /// sample.
    pub const fn rtt(&self) -> Option<Duration> {
        self.link.rtt
    }
}

/// Messages to and from this peer flow.
#[derive(EntityEvent, Clone, Debug)]
pub struct PeerConnected {
    /// The peer.
    pub entity: Entity,
    /// Its id.
    pub id: PeerId,
}

/// Nothing was heard from this peer for a while.
#[derive(EntityEvent, Clone, Debug)]
pub struct PeerInterrupted {
    /// The peer.
    pub entity: Entity,
    /// Its id.
    pub id: PeerId,
    /// Why, as far as is known by now.
    pub reason: InterruptReason,
    /// For how long nothing was heard by now.
    pub silence: Duration,
}

/// The peer was heard again, on the connection of before or on another one. No reliable message was
/// lost.
#[derive(EntityEvent, Clone, Debug)]
pub struct PeerResumed {
    /// The peer.
    pub entity: Entity,
    /// Its id.
    pub id: PeerId,
    /// For how long nothing was heard.
    pub silence: Duration,
}

/// The link to this peer is over, and its seat in the lobby is kept: the entity stays, and the player may
/// come back.
#[derive(EntityEvent, Clone, Debug)]
pub struct PeerLost {
    /// The peer.
    pub entity: Entity,
    /// Its id.
    pub id: PeerId,
    /// Why.
    pub reason: CloseReason,
}

/// A player that was lost is back, on a new link: what was under way on the old one is gone. If its game
/// was started anew, it knows nothing of before.
#[derive(EntityEvent, Clone, Debug)]
pub struct PeerRejoined {
    /// The peer.
    pub entity: Entity,
    /// Its id.
    pub id: PeerId,
    /// For how long it was lost.
    pub away: Duration,
}

/// This peer is gone, whether it was ever connected or not. The entity is despawned after this event.
#[derive(EntityEvent, Clone, Debug)]
pub struct PeerDisconnected {
    /// The peer.
    pub entity: Entity,
    /// Its id.
    pub id: PeerId,
    /// Why.
    pub reason: CloseReason,
}
