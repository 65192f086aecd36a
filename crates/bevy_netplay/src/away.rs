//! Players who are away for a while.

use bevy_ecs::prelude::*;

use crate::lobby::Lobby;
use crate::match_time::{Match, PauseMatch, ResumeMatch};
use crate::peer::{LinkState, PeerOf};

/// Put it on a lobby: the match is paused for all while a player is interrupted, or away from a seat that
/// is kept; and goes on when everybody is back or their seats are gone. The host's plugin sees to it. A
/// pause that somebody asked for is not ended by it.
#[derive(Component, Clone, Copy, Debug, Default)]
pub struct PauseWhileAway {
    /// Whether the pause of this match is ours.
    paused: bool,
}

/// Asks for pauses, and for their end.
pub(crate) fn pause_while_away(
    mut lobbies: Query<(Entity, &Lobby, &Match, &mut PauseWhileAway)>,
    peers: Query<(&PeerOf, &LinkState)>,
    mut commands: Commands,
) {
    for (entity, lobby, of, mut policy) in &mut lobbies {
        if !lobby.is_host() {
            policy.bypass_change_detection().paused = false;
            continue;
        }
        let away = |(lobby, state): (&PeerOf, &LinkState)| lobby.0 == entity && state.is_away();
        let away = peers.iter().any(away);
        let held = of.timeline.pause().is_some_and(|pause| pause.until.is_none());
        if away && !held && !policy.paused {
            policy.paused = true;
            commands.trigger(PauseMatch { entity });
        } else if !away && policy.paused {
            policy.paused = false;
            commands.trigger(ResumeMatch { entity });
        }
    }
}
