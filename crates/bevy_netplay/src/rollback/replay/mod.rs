//! Replays: a recorded match, played by the same simulation, without a lobby or a network.
//!
//! Guaranteed: a tick of a replay begins with the inputs and the `Time<Fixed>` that it had in the match, and
//! every state of which a checksum was recorded is compared with it. Not guaranteed: that a game whose
//! simulation was changed since comes to the same; [`ReplayDiffers`] names the first state that is another.

mod run;

use std::ops::Range;

use bevy_ecs::prelude::*;
use netplay_rollback::recording::{Difference, Ending, Header, RecordingError, RecordingFile};
use thiserror::Error;

use super::events::SeatedPlayer;
use super::snapshot::SnapshotError;

pub(crate) use run::{Replaying, forget, run};

/// Plays a recording: spawn it, and despawn it to end that. Its entity has a [`ReplayStatus`], and hears of
/// [`SimulationRestored`](super::SimulationRestored), as for who comes late into a match: when it begins,
/// and whenever [`Self::seek`] goes to a state that was recorded.
///
/// `FixedUpdate` runs the ticks as in a match: [`MatchTick`](crate::MatchTick) and `Time` are those of the
/// match, [`PlayerInputs`](super::PlayerInputs) what the players did, and
/// [`Resimulating`](super::Resimulating) is false. [`ReadInputs`](super::ReadInputs) does not run: nobody
/// plays at this machine. Between ticks, things are drawn as in a match.
///
/// It needs [`NetplayPlugins`](crate::NetplayPlugins), with the names of the game and its build, and the
/// types that were registered for the match.
///
/// ```
/// # use bevy_app::prelude::*;
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::rollback::*;
/// fn open(mut commands: Commands) -> Result {
///     commands.spawn(Replay::open(std::fs::read("match.npr")?)?);
///     Ok(())
/// }
///
/// fn skip(mut replays: Query<(&mut Replay, &ReplayStatus)>) {
///     for (mut replay, status) in &mut replays {
///         replay.speed = 2.0;
///         replay.seek(status.tick + 300);
///     }
/// }
///
/// # let mut app = App::new();
/// app.add_observer(|differs: On<ReplayDiffers>| eprintln!("{}", differs.difference));
/// ```
#[derive(Component, Debug)]
#[require(ReplayStatus)]
pub struct Replay {
    /// No tick runs, but for a [`Self::seek`].
    pub paused: bool,
    /// How fast it is played: 1 as in the match, which is the default; 0 stands still. With infinity every
    /// frame runs [`Self::ticks_per_frame`].
    pub speed: f32,
    /// Ticks that one frame runs at most, so that the window stays alive; 60 by default. What a speed
    /// would need beyond that is left out.
    pub ticks_per_frame: u32,
    /// A recording of another build of the game is played too: whether it does the same is seen by the
    /// checksums. `false` by default. Set it before the first frame.
    pub any_build: bool,
    file: std::sync::Arc<RecordingFile>,
    seek: Option<i32>,
}

impl Replay {
    /// Reads the bytes of a recording, and checks all of them. Of a file that was cut or damaged, what is
    /// before that is played: see [`ReplayStatus::ending`].
    ///
    /// # Errors
    /// [`RecordingError`], if it is none. Whether it is one of this game is found when it begins: see
    /// [`ReplayFailed`].
    pub fn open(bytes: impl Into<Vec<u8>>) -> Result<Self, RecordingError> {
        let file = RecordingFile::read(bytes.into())?.into();
        Ok(Self {
            paused: false,
            speed: 1.0,
            ticks_per_frame: 60,
            any_build: false,
            file,
            seek: None,
        })
    }

    /// What was played, and by whom.
    pub fn header(&self) -> &Header {
        self.file.header()
    }

    /// The ticks that are recorded.
    pub fn ticks(&self) -> Range<i32> {
        let recording = self.file.recording();
        recording.first_tick()..recording.end_tick()
    }

    /// Goes to the state before this tick, or the nearest that is recorded: from the last recorded state
    /// before it, or from where it is now if that is about as near, the ticks are run, so many in each
    /// frame as [`Self::ticks_per_frame`] allows. The simulation does not see that; [`ReplayStatus::seeking`] says
    /// so to who plays sounds.
    pub const fn seek(&mut self, tick: i32) {
        self.seek = Some(tick);
    }
}

/// Where a replay is. Only the plugin writes it.
#[derive(Component, Clone, Debug, Default, PartialEq)]
pub struct ReplayStatus {
    /// The tick that runs next.
    pub tick: i32,
    /// The first tick that is recorded.
    pub first: i32,
    /// The tick after the last one.
    pub end: i32,
    /// Whether it stands still.
    pub paused: bool,
    /// How fast it is played.
    pub speed: f32,
    /// The tick to which it goes, if it does: [`Self::tick`] says how far it is.
    pub seeking: Option<i32>,
    /// Whether the last tick has run.
    pub ended: bool,
    /// Whether the recording is complete; `None` until it begins.
    pub ending: Option<Ending>,
    /// Checksums that were compared and are equal. What is played twice counts twice.
    pub verified: u32,
    /// The first state that was found to be another than the recorded one.
    pub difference: Option<Difference>,
    /// All who played.
    pub players: Vec<SeatedPlayer>,
}

/// The game has come to another state than in the match: its simulation was changed since, or reads what is
/// not registered. Triggered once; the replay goes on.
#[derive(EntityEvent, Clone, Debug)]
pub struct ReplayDiffers {
    /// The replay.
    pub entity: Entity,
    /// Before which tick, and what.
    pub difference: Difference,
}

/// The last recorded tick has run. The replay stays, and can be sought.
#[derive(EntityEvent, Clone, Debug)]
pub struct ReplayEnded {
    /// The replay.
    pub entity: Entity,
    /// The tick after it.
    pub tick: i32,
    /// Whether the match was recorded further, as far as the file says.
    pub ending: Ending,
}

/// The recording is not played, or not any further. Despawn the entity.
#[derive(EntityEvent, Clone, Debug)]
pub struct ReplayFailed {
    /// The replay.
    pub entity: Entity,
    /// Why.
    pub error: ReplayError,
}

/// Why a recording is not played.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A match is played, or another replay: only one world is simulated.
    #[error("a match or another replay is played")]
    Busy,
    /// It is of another game.
    #[error("the recording is of the game {recorded}, this is {ours}")]
    Game {
        /// In [`NetplaySettings`](crate::NetplaySettings).
        ours: String,
        /// In the recording.
        recorded: String,
    },
    /// It is of another build, and [`Replay::any_build`] is not set.
    #[error("the recording is of build {recorded}, this is build {ours}")]
    Build {
        /// In [`NetplaySettings`](crate::NetplaySettings).
        ours: String,
        /// In the recording.
        recorded: String,
    },
    /// Ticks were of another length.
    #[error("the recording has {recorded} ticks per second, this game has {ours}")]
    Rate {
        /// Ours, of `Time<Fixed>`.
        ours: u16,
        /// In the recording.
        recorded: u16,
    },
    /// Another input type, or other registered components or resources.
    #[error(
        "the game had another input type when this was recorded, or rolled back other components and resources"
    )]
    Types,
    /// An input is none of this game's.
    #[error("what player {player} did in tick {tick} is no input of this game")]
    Input {
        /// In this tick.
        tick: i32,
        /// Whose, counted from 0.
        player: u8,
    },
    /// It has no state to begin with: it was cut before that.
    #[error("the recording ends before the state that it begins with")]
    NoState,
    /// A state is none of this game's.
    #[error("the recorded state before tick {tick}: {error}")]
    State {
        /// The tick after it.
        tick: i32,
        /// Why.
        error: SnapshotError,
    },
}
