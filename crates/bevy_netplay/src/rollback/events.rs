//! What a game hears of its rollback session.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bevy_ecs::prelude::*;
use netplay_protocol::PeerId;
use netplay_rollback::{ConfigError, Player};
use thiserror::Error;

use super::id::RollbackId;
use super::snapshot::SnapshotError;

/// Tells the game, and lets its observers finish: what they spawn is there before the next tick, or the next
/// state that is kept. `World::trigger` leaves their commands to whatever applies commands next.
pub(crate) fn trigger<E: for<'a> Event<Trigger<'a>: Default>>(world: &mut World, event: E) {
    world.trigger(event);
    world.flush();
}

/// A match begins with us in it, or before our eyes: spawn here what is there at tick 0, the same on every
/// machine. Triggered on the lobby, before tick 0; what an earlier match has left is gone. Who comes later
/// hears [`SimulationRestored`] instead.
#[derive(EntityEvent, Clone, Debug)]
pub struct SimulationBegins {
    /// The lobby.
    pub entity: Entity,
    /// All who play.
    pub players: Vec<SeatedPlayer>,
}

/// The state that another player has sent is ours now: we come into a match that runs. Rollback entities are
/// new ones, and have their registered components; add here what else they need.
#[derive(EntityEvent, Clone, Debug)]
pub struct SimulationRestored {
    /// The lobby.
    pub entity: Entity,
    /// The tick that runs next.
    pub tick: i32,
    /// All who play.
    pub players: Vec<SeatedPlayer>,
}

/// No match is played, for this reason.
#[derive(EntityEvent, Clone, Debug)]
pub struct SimulationFailed {
    /// The lobby.
    pub entity: Entity,
    /// Why.
    pub error: RollbackError,
}

/// The simulation waits for the inputs of these players.
#[derive(EntityEvent, Clone, Debug)]
pub struct SimulationStalled {
    /// The lobby.
    pub entity: Entity,
    /// Whose.
    pub players: Vec<Player>,
}

/// It goes on.
#[derive(EntityEvent, Clone, Debug)]
pub struct SimulationResumed {
    /// The lobby.
    pub entity: Entity,
    /// After so many ticks.
    pub ticks: u32,
}

/// All have agreed that these players are not in the match any more.
#[derive(EntityEvent, Clone, Debug)]
pub struct PlayersLeft {
    /// The lobby.
    pub entity: Entity,
    /// Whose players.
    pub peer: PeerId,
    /// Which.
    pub players: Vec<Player>,
    /// The first tick without them.
    pub at: i32,
}

/// All have agreed that these players are in the match: again, or in a seat that was free.
#[derive(EntityEvent, Clone, Debug)]
pub struct PlayersJoined {
    /// The lobby.
    pub entity: Entity,
    /// Whose players.
    pub peer: PeerId,
    /// Which.
    pub players: Vec<Player>,
    /// The first tick with them.
    pub at: i32,
}

/// From a tick on, everybody's inputs wait for so many ticks before they count.
#[derive(EntityEvent, Clone, Debug)]
pub struct InputDelayChanged {
    /// The lobby.
    pub entity: Entity,
    /// The first tick that is read with it.
    pub at: i32,
    /// In ticks.
    pub delay: u8,
}

/// This machine is too slow to run as many ticks again as the settings allow: fewer run on predictions, or
/// more again. The game goes on, and shows what others do later.
#[derive(EntityEvent, Clone, Debug)]
pub struct PredictionLimited {
    /// The lobby.
    pub entity: Entity,
    /// Ticks that run on predictions from now on, at most.
    pub prediction: u8,
    /// What a tick took in the last second, on average.
    pub tick_took: Duration,
}

/// Another player came to another state than we. Both machines have told each other what they have, or the
/// other has not answered within three seconds; after this [`DesyncPolicy`](super::DesyncPolicy) is followed.
#[derive(EntityEvent, Clone, Debug)]
pub struct Desync {
    /// The lobby.
    pub entity: Entity,
    /// Who.
    pub peer: PeerId,
    /// The state before this tick.
    pub tick: i32,
    /// Our checksum of it.
    pub ours: u64,
    /// Theirs.
    pub theirs: u64,
    /// Values that differ: of up to 8 types up to 16 each. Empty if the other has not answered.
    pub differences: Vec<StateDifference>,
    /// The file with the whole report, by [`DesyncDumps`](super::DesyncDumps).
    pub dump: Option<PathBuf>,
}

/// A value that is another one on another player's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDifference {
    /// The component or resource.
    pub of: &'static str,
    /// The entity, as it is called on every machine; `None` for a resource.
    pub id: Option<RollbackId>,
    /// The entity with this id, if it is still there.
    pub entity: Option<Entity>,
    /// Our value, in RON, with the ids of entities in place of the entities; `None` if there is none.
    pub ours: Option<String>,
    /// Theirs.
    pub theirs: Option<String>,
}

impl fmt::Display for StateDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.of)?;
        if let Some(id) = self.id {
            write!(f, " of entity {}", id.get())?;
        }
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".into());
        write!(f, ": {} here, {} there", side(&self.ours), side(&self.theirs))
    }
}

/// Too few players are left to go on: some are cut off, and it may be us. It goes on when they are back, or
/// when the lobby server says that they are gone.
#[derive(EntityEvent, Clone, Debug)]
pub struct NoQuorum {
    /// The lobby.
    pub entity: Entity,
}

/// A player at a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatedPlayer {
    /// Its number.
    pub player: Player,
    /// At whose machine.
    pub peer: PeerId,
    /// Whether it is ours.
    pub local: bool,
}

/// Why there is no rollback session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RollbackError {
    /// The settings do not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Ticks are of another length on the host's machine.
    #[error("the host's game has {theirs} ticks per second, ours has {ours}")]
    Rate {
        /// Ours.
        ours: u16,
        /// The host's.
        theirs: u16,
    },
    /// Another input type, or other registered components or resources.
    #[error(
        "the host's game has another input type, or rolls back other components and resources: \
         all players have to run the same build"
    )]
    Types,
    /// What the others sent as the state of the match cannot be read, three times.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Another player came to another state, and [`DesyncPolicy::Stop`](super::DesyncPolicy::Stop) is set.
    #[error("players came to different states")]
    Desync,
}
