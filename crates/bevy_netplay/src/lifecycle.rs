//! The other players of a lobby: found, connected, interrupted, lost, back, gone.
//!
//! | a player is | its link | its entity |
//! |---|---|---|
//! | found | is being made | is there, [`LinkState::Connecting`] |
//! | connected, interrupted | lives | `Connected`, `Interrupted` |
//! | lost, with a kept seat | is over | stays, `Lost`, until it is back or its seat is gone |
//! | gone | is over | goes |

use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_time::{Real, Time};
use netplay_protocol::PeerId;
use netplay_transport::{CloseReason, SessionEvent};

use crate::lobby::{Lobby, LobbySession};
use crate::peer::{
    LinkState, LostSince, Peer, PeerConnected, PeerDisconnected, PeerInterrupted, PeerLost, PeerOf,
    PeerRejoined, PeerResumed,
};
use crate::receive::{Roster, find};

pub(crate) fn handle(world: &mut World, lobby: Entity, event: SessionEvent) {
    match event {
        // A player that was lost has its entity.
        SessionEvent::PeerFound(peer) if find(world, lobby, peer).is_some() => {}
        SessionEvent::PeerFound(peer) => {
            let entity = world.spawn((Peer { id: peer }, PeerOf(lobby))).id();
            let Some(mut roster) = world.get_mut::<Roster>(lobby) else {
                return;
            };
            roster.entities.insert(peer, entity);
            if let Some(conditioner) = roster.conditioner.clone() {
                world.entity_mut(entity).insert(conditioner);
            }
        }
        SessionEvent::PeerConnected(id) => {
            let Some(entity) = set_link(world, lobby, id, LinkState::Connected) else { return };
            let now = elapsed(world);
            match world.entity_mut(entity).take::<LostSince>() {
                Some(since) => {
                    let away = now.saturating_sub(since.0);
                    tracing::info!(peer = ?id, ?away, "a player is back");
                    world.trigger(PeerRejoined { entity, id, away });
                }
                None => world.trigger(PeerConnected { entity, id }),
            }
        }
        SessionEvent::PeerInterrupted { peer: id, reason, silence } => {
            if let Some(entity) = set_link(world, lobby, id, LinkState::Interrupted) {
                world.trigger(PeerInterrupted { entity, id, reason, silence });
            }
        }
        SessionEvent::PeerResumed { peer: id, silence } => {
            if let Some(entity) = set_link(world, lobby, id, LinkState::Connected) {
                world.trigger(PeerResumed { entity, id, silence });
            }
        }
        SessionEvent::PeerClosed { peer, reason } => closed(world, lobby, peer, reason),
        // Its seat is gone. A member that left has lost its link before.
        SessionEvent::PeerLeft { peer, .. } => gone(world, lobby, peer, CloseReason::Lost),
        // Lists and pings are asked for on the session itself, which games of this version do not hold.
        _ => {}
    }
}

fn set_link(world: &mut World, lobby: Entity, peer: PeerId, state: LinkState) -> Option<Entity> {
    let entity = find(world, lobby, peer)?;
    world.get_mut::<LinkState>(entity)?.set_if_neq(state);
    Some(entity)
}

/// The link to a player is over. If its seat is kept, the player may come back.
fn closed(world: &mut World, lobby: Entity, id: PeerId, reason: CloseReason) {
    let Some(entity) = find(world, lobby, id) else { return };
    let state = world.get::<LinkState>(entity).copied().unwrap_or_default();
    let seats = world.get::<Lobby>(lobby).is_some_and(|lobby| !lobby.seats_kept.is_zero());
    let may_return = matches!(
        reason,
        CloseReason::Lost
            | CloseReason::Restarted
            | CloseReason::Replaced
            | CloseReason::ConnectTimeout(_)
    );
    match state {
        // A try to come back that failed.
        LinkState::Lost if may_return => {}
        LinkState::Connected | LinkState::Interrupted if seats && may_return => {
            tracing::info!(peer = ?id, %reason, "a player is lost; its seat is kept");
            set_link(world, lobby, id, LinkState::Lost);
            let since = LostSince(elapsed(world));
            world.entity_mut(entity).insert(since);
            world.trigger(PeerLost { entity, id, reason });
        }
        _ => gone(world, lobby, id, reason),
    }
}

/// The time of the app.
fn elapsed(world: &World) -> Duration {
    world.get_resource::<Time<Real>>().map(Time::elapsed).unwrap_or_default()
}

/// A player is gone for good.
fn gone(world: &mut World, lobby: Entity, id: PeerId, reason: CloseReason) {
    let entity = world
        .get_mut::<Roster>(lobby)
        .and_then(|mut roster| roster.bypass_change_detection().entities.remove(&id));
    let Some(entity) = entity else { return };
    tracing::info!(peer = ?id, %reason, "a link ended");
    world.trigger(PeerDisconnected { entity, id, reason });
    if let Ok(peer) = world.get_entity_mut(entity) {
        peer.despawn();
    }
}

/// The lobby is gone: who was lost has no seat to come back to.
pub(crate) fn no_seats(world: &mut World, lobby: Entity) {
    let lost: Vec<_> = world.get::<Roster>(lobby).map_or_else(Vec::new, |roster| {
        let is_lost = |entity| world.get::<LinkState>(entity) == Some(&LinkState::Lost);
        let lost = roster.entities.iter().filter(|(_, entity)| is_lost(**entity));
        lost.map(|(peer, _)| *peer).collect()
    });
    for peer in lost {
        gone(world, lobby, peer, CloseReason::Lost);
    }
}

/// A game that despawns a peer ends its link.
pub(crate) fn peer_despawned(
    event: On<Remove, Peer>,
    peers: Query<(&Peer, &PeerOf)>,
    mut lobbies: Query<(&LobbySession, &mut Roster)>,
) {
    let Ok((peer, lobby)) = peers.get(event.entity) else {
        return;
    };
    let Ok((session, mut roster)) = lobbies.get_mut(lobby.0) else {
        return;
    };
    if roster.entities.get(&peer.id) == Some(&event.entity) {
        roster.entities.remove(&peer.id);
        if let Err(error) = session.lock().disconnect(peer.id) {
            tracing::debug!(%error, "a link could not be ended");
        }
    }
}
