//! How a match goes, for the screen.

use bevy_ecs::prelude::*;
use netplay_rollback::{InputStatus, Stats};

use super::events::SeatedPlayer;
use super::session::Playing;

/// How the match of a lobby goes. Only the plugin writes it; it goes with the match.
#[derive(Component, Clone, Debug, Default, PartialEq)]
pub struct RollbackStatus {
    /// All who play, or played.
    pub players: Vec<SeatedPlayer>,
    /// Whether our players are in the match.
    pub playing: bool,
    /// Whether the simulation waits for inputs.
    pub stalled: bool,
    /// The tick of the clock.
    pub tick: i32,
    /// The tick that is run next.
    pub simulated: i32,
    /// The last tick whose inputs are final.
    pub confirmed: i32,
    /// Ticks that our inputs wait.
    pub delay: u8,
    /// Ticks that may run on predictions: fewer than in the settings, if this machine is too slow for more.
    pub prediction: u8,
    /// Players whose inputs are guessed in the newest tick though they should have come.
    pub late: u8,
    /// The newest state that is final for us, by the tick that follows it, and its checksum.
    pub checksum: Option<(i32, u64)>,
    /// What was done so far.
    pub stats: Stats,
}

pub(crate) fn refresh(
    playing: Res<Playing>,
    mut commands: Commands,
    mut lobbies: Query<(Entity, Option<&mut RollbackStatus>)>,
) {
    let Some(play) = &playing.play else { return };
    let Ok((entity, status)) = lobbies.get_mut(play.lobby) else { return };
    let session = &play.session;
    let mut new = RollbackStatus {
        players: Vec::new(),
        playing: session.is_playing(),
        stalled: session.is_stalled(),
        tick: session.tick(),
        simulated: session.current(),
        confirmed: session.confirmed(),
        delay: session.delay().clamp(0, 255) as u8,
        prediction: play.pace.limit(),
        late: session
            .inputs(session.current() - 1)
            .filter(|input| input.status == InputStatus::Late)
            .count() as u8,
        checksum: session.final_checksums().last(),
        stats: session.stats(),
    };
    match status {
        Some(mut status) => {
            new.players = core::mem::take(&mut status.players);
            if !play.players().eq(new.players.iter().copied()) {
                new.players = play.players().collect();
            }
            *status = new;
        }
        None => {
            new.players = play.players().collect();
            commands.entity(entity).insert(new);
        }
    }
}
