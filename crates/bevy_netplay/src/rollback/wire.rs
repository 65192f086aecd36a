//! What rollback sessions tell each other, over the lanes of the game.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_time::{Real, Time};
use netplay_protocol::{Now, PeerId};
use netplay_transport::SendError as QueueError;
use serde::{Deserialize, Serialize};

use super::seating::Seating;
use crate::lobby::LobbySession;
use crate::message::{NetMessage, SendError, send_to};

/// What players say of themselves and of a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// So many players sit at the sender's machine; nobody at that of who only watches.
    Players(u8),
    /// Who plays in the match that begins, or runs.
    Seating(Seating),
    /// To the host: so many ticks of input delay would keep inputs of others in time at the sender's machine.
    Delay(u8),
}

/// A message of the machine on the reliable lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine(pub(crate) Vec<u8>);

/// A message of the machine on the bulk lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bulk(pub(crate) Vec<u8>);

/// How a message of the machine travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// On the reliable lane.
    Reliable,
    /// On the bulk lane.
    Bulk,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It leaves, or there is no link, which the machine hears of.
    Done,
    /// Too much waits already.
    Full,
}

fn with<R>(
    world: &mut World,
    lobby: Entity,
    then: impl FnOnce(&mut netplay_transport::Session) -> R,
) -> Option<R> {
    let mut session = world.get_mut::<LobbySession>(lobby)?;
    Some(then(session.bypass_change_detection().get_mut()))
}

/// The time of this frame on the session's clock; `None` without a session.
pub(crate) fn now(world: &mut World, lobby: Entity) -> Option<Now> {
    let real = world.get_resource::<Time<Real>>()?;
    let frame = real.last_update().unwrap_or_else(|| real.startup());
    with(world, lobby, |session| session.at(frame))
}

/// The peers to which messages can be sent.
pub(crate) fn peers(world: &mut World, lobby: Entity) -> Vec<PeerId> {
    with(world, lobby, |session| session.peers().collect()).unwrap_or_default()
}

pub(crate) fn say<M: NetMessage>(world: &World, lobby: Entity, to: PeerId, message: &M) -> Said {
    match send_to(world, lobby, to, message) {
        Err(SendError::Queue(QueueError::QueueFull)) => Said::Full,
        Err(SendError::Queue(QueueError::NotConnected)) | Ok(()) => Said::Done,
        Err(error) => {
            tracing::error!(%error, "a message of the rollback session is not sent");
            Said::Done
        }
    }
}

pub(crate) fn send_inputs(
    world: &mut World,
    lobby: Entity,
    to: PeerId,
    tick: u16,
    bytes: &[u8],
    again: Option<Duration>,
) {
    let sent = with(world, lobby, |session| session.send_inputs(to, tick, bytes, again));
    if let Some(Err(error)) = sent.filter(|sent| *sent != Err(QueueError::NotConnected)) {
        tracing::error!(%error, "inputs are not sent");
    }
}

/// What was written leaves now.
pub(crate) fn flush(world: &mut World, lobby: Entity) {
    with(world, lobby, netplay_transport::Session::flush);
}

/// Ends the link to a peer.
pub(crate) fn disconnect(world: &mut World, lobby: Entity, peer: PeerId) {
    if let Some(Err(error)) = with(world, lobby, |session| session.disconnect(peer)) {
        tracing::debug!(%error, "a link could not be ended");
    }
}
