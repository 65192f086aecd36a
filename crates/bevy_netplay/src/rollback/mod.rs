//! Rollback: everybody simulates the game with the game's own `FixedUpdate`; a guess of what others do that
//! turns out wrong is taken back, and the ticks since are run again.
//!
//! Add [`RollbackPlugin`], define what players do, register what a rollback has to bring back, and spawn
//! simulated entities with [`Rollback`]:
//!
//! | what | how |
//! |---|---|
//! | what players do | [`AddRollbackInput::add_rollback_input`]; write [`LocalInputs`] in [`ReadInputs`], read [`PlayerInputs`] in `FixedUpdate` |
//! | keys and buttons | [`TickButtons`], in which a press counts in one tick |
//! | components | [`AddRollback::rollback`]; [`AddRollback::rollback_immutable`] for immutable ones, such as `ChildOf` |
//! | resources | [`AddRollback::rollback_resource`] |
//! | what is there at tick 0 | spawn it in an observer of [`SimulationBegins`] |
//! | entities that die | [`DespawnRollback::despawn_rollback`] in place of `despawn` |
//! | messages between systems | [`TickMessages`] in place of `Messages` |
//! | random numbers | [`TickRng`] |
//! | states | [`AddTickState::add_tick_state`] in place of `init_state` |
//! | sounds and the like | [`Effects`], which are told once, and cancelled if they were none |
//! | what is drawn | [`AddDrawn::add_drawn`]: between two ticks, and moved gently after a rollback |
//! | how it goes | [`RollbackStatus`] on the lobby |
//! | a match as a file | [`RecordMatches`]; [`Replay`] plays it again, and finds where it is not the same |
//! | a test that all of it holds | [`RollbackCheckPlugin`]; debug builds log each [`RollbackWarning`] once |
//!
//! A match begins as any other, with [`StartMatch`](crate::StartMatch) of the host, who seats all who are
//! connected. Then in each frame:
//!
//! | where | set | what happens |
//! |---|---|---|
//! | `PreUpdate` | [`NetplaySystems::Receive`](crate::NetplaySystems) | inputs of others come |
//! | `RunFixedMainLoop`, before Bevy's loop, for each tick that is due | | [`ReadInputs`] runs; its inputs leave; then `FixedMain` runs for ticks whose inputs were guessed wrong, and for the new one |
//! | `FixedFirst` | [`RollbackSystems::Save`] | outside of a match: the state before the tick is kept |
//! | `FixedUpdate` | | the game's simulation; [`Resimulating`] says if it ran this tick before |
//! | `FixedLast` | [`RollbackSystems::Count`] | the tick is over |
//! | `RunFixedMainLoop`, after it | | things are drawn |
//!
//! | event, on the lobby | means |
//! |---|---|
//! | [`SimulationBegins`] | we play from tick 0 on, or watch from there |
//! | [`SimulationRestored`] | we come into a match that runs, with the state of the others |
//! | [`SimulationFailed`] | there is no match for us, and why |
//! | [`SimulationStalled`], [`SimulationResumed`] | it waits for inputs of others; it goes on |
//! | [`PlayersLeft`], [`PlayersJoined`] | who is in the match, agreed by all, from one tick on |
//! | [`InputDelayChanged`] | inputs wait longer, or less long |
//! | [`PredictionLimited`] | this machine is too slow to run so many ticks again, or fast enough by now |
//! | [`Desync`] | another player came to another state, and in which values; [`DesyncPolicy`] says what is done |
//! | [`NoQuorum`] | too few are left to go on |
//! | [`RecordingEnded`] | the file of this match is complete, or is not written any further |
//!
//! | event, on a replay | means |
//! |---|---|
//! | [`SimulationRestored`] | it begins, or was sought: the state is a recorded one |
//! | [`ReplayDiffers`] | the game came to another state than in the match |
//! | [`ReplayEnded`] | the last recorded tick has run |
//! | [`ReplayFailed`] | it is not played, and why |
//!
//! In a match `Time` and `Time<Fixed>` of `FixedUpdate` are those of the match: elapsed is the time since tick 0 began.
//!
//! Guaranteed: a tick that is run again begins with the registered state it began with before, at the
//! same `Time`; and every final tick with what it began with on all other machines, and the same inputs.
//! Not guaranteed: that systems which read anything else do the same again, and the order of
//! rows in queries; sort by [`RollbackId`] where the order counts.

mod buttons;
mod check;
mod clock;
mod delay;
mod despawn;
mod desync;
mod draw;
mod effects;
mod encode;
mod encoded;
mod events;
mod hear;
mod id;
mod input;
mod late;
mod pace;
mod permute;
mod record;
mod replay;
mod seating;
mod session;
mod snapshot;
mod state;
mod status;
mod tick_messages;
mod tick_rng;
mod tick_state;
mod types;
mod warnings;
mod wire;

use bevy_app::{
    App, AppExit, FixedFirst, FixedLast, Last, Plugin, RunFixedMainLoop, RunFixedMainLoopSystems,
};
use bevy_ecs::component::Mutable;
use bevy_ecs::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use buttons::{AddTickButtons, TickButtons};
pub use check::{FoundBy, RollbackCheck, RollbackCheckPlugin, RollbackDifference};
pub use clock::Resimulating;
pub use despawn::{DespawnRollback, Despawned};
pub use desync::{DesyncDumps, DesyncPolicy};
pub use draw::{AddDrawn, DrawSmoothly, Drawn};
pub use effects::{AddEffects, Cancelled, Effects, Fired};
pub use events::{
    Desync, InputDelayChanged, NoQuorum, PlayersJoined, PlayersLeft, PredictionLimited,
    RollbackError, SeatedPlayer, SimulationBegins, SimulationFailed, SimulationRestored,
    SimulationResumed, SimulationStalled, StateDifference,
};
pub(crate) use hear::{note, take_inputs};
pub use id::{Rollback, RollbackId};
pub(crate) use input::InputType;
pub use input::{AddRollbackInput, LocalInputs, PlayerInputs, ReadInputs, RollbackInput};
pub use netplay_rollback::recording::{
    Difference as ReplayDifference, Ending as RecordingEnding, Header as RecordingHeader,
    HeaderError, RecordError, RecordingError,
};
pub use netplay_rollback::{
    History, InputBytes, InputStatus, Player, Predictor, RepeatLast, Stats,
};
pub use record::{RecordMatches, RecordingEnded, RecordingFailed, RecordingSink};
pub use replay::{Replay, ReplayDiffers, ReplayEnded, ReplayError, ReplayFailed, ReplayStatus};
pub use snapshot::SnapshotError;
pub use state::NotKept;
pub use status::RollbackStatus;
pub use tick_messages::{AddTickMessages, TickMessages};
pub use tick_rng::TickRng;
pub use tick_state::{AddTickState, TickState};
pub use warnings::RollbackWarning;

use clock::{Begins, Corrected, Driven, PastTicks, SimulatedTick};
use despawn::{InTick, PlainDespawns};
use draw::WentBack;
use id::NextId;
use replay::Replaying;
use session::Playing;
use state::{SavedStates, States};
use types::StateTypes;

/// Where the plugin does its work, inside of a tick.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RollbackSystems {
    /// In `FixedFirst`: the state is kept.
    Save,
    /// In `FixedLast`: the tick is over.
    Count,
}

/// Rollback: keeps the state before each of the last ticks, and plays matches of a game that has an input
/// type ([`AddRollbackInput`]).
///
/// With [`NetplayPlugins`](crate::NetplayPlugins), in any order.
#[derive(Clone, Copy, Debug)]
pub struct RollbackPlugin {
    /// Players who sit at this machine; 1 by default, 0 for who only watches.
    pub local_players: u8,
    /// Machines for which a match has a seat, at most 16: who comes while it runs takes a free one, and is in
    /// the match a moment later. By default 0: only who is there when it begins has one. The host's counts, and
    /// a free seat is for as many players as sit at the host's machine.
    pub seats: u8,
    /// Ticks that may run on predictions, at most 32; at 0 every tick waits for all inputs. 8 by
    /// default.
    pub prediction: u8,
    /// Ticks that inputs wait before they count, on all machines. 2 by default, which at 60 Hz is less
    /// than most people notice.
    pub delay: u8,
    /// What the delay grows to at most while one in a hundred inputs comes too late for its tick, and has to
    /// be guessed; 4 by default. With no more than `delay` it stays as it is. The host's counts.
    pub delay_max: u8,
    /// Ticks between two checksums that players compare; 0 for none. 60 by default. The host's counts.
    pub checksum_every: u16,
    /// Ticks that who watches is behind; 30 by default.
    pub watch_delay: u16,
    /// What is done when our state differs from that of others; [`DesyncPolicy::Resync`] by default.
    pub on_desync: DesyncPolicy,
    /// Guesses inputs that have not come; repeats the last one by default.
    pub predictor: fn() -> Box<dyn Predictor>,
}

impl Default for RollbackPlugin {
    fn default() -> Self {
        Self {
            local_players: 1,
            seats: 0,
            prediction: 8,
            delay: 2,
            delay_max: 4,
            checksum_every: 60,
            watch_delay: 30,
            on_desync: DesyncPolicy::default(),
            predictor: || Box::new(RepeatLast),
        }
    }
}

/// The settings of the plugin.
#[derive(Resource, Clone, Copy, Debug)]
pub(crate) struct RollbackSettings(pub(crate) RollbackPlugin);

impl Plugin for RollbackPlugin {
    fn build(&self, app: &mut App) {
        // What a session asks for: the ticks of its prediction, the one that is run, and one that is final.
        let states = States::new(app.world_mut(), usize::from(self.prediction) + 2);
        // Known before the first entity has it: warnings go by its name.
        app.world_mut().register_component::<Rollback>();
        let next_id = states.next_id();
        app.insert_resource(SavedStates::new(states))
            .insert_resource(RollbackSettings(*self))
            .init_resource::<StateTypes>()
            .init_resource::<SimulatedTick>()
            .init_resource::<PastTicks>()
            .init_resource::<Resimulating>()
            .init_resource::<Corrected>()
            .init_resource::<Driven>()
            .init_resource::<InTick>()
            .init_resource::<PlainDespawns>()
            .init_schedule(WentBack)
            .init_schedule(Begins)
            .init_resource::<TickRng>()
            .init_resource::<Playing>()
            .init_resource::<DesyncDumps>()
            .init_resource::<Replaying>()
            .add_observer(replay::forget)
            .register_type::<Rollback>()
            .register_type::<RollbackId>()
            .register_type::<Despawned>()
            .add_systems(
                FixedFirst,
                clock::begin_tick
                    .in_set(RollbackSystems::Save)
                    .run_if(|driven: Res<'_, Driven>| !driven.0),
            )
            .add_systems(FixedLast, clock::count.in_set(RollbackSystems::Count));
        app.rollback_resource::<TickRng>();
        app.world_mut().resource_mut::<StateTypes>().register_resource::<NextId>(next_id);
        let early = app.world_mut().remove_resource::<Early>().unwrap_or_default();
        early.0.into_iter().for_each(|add| add_type(app.world_mut(), add));
        hear::add_messages(app);
        if cfg!(debug_assertions) {
            warnings::watch(app);
        }
        app.add_systems(
            RunFixedMainLoop,
            (
                seating::begin,
                late::step,
                session::run,
                status::refresh,
                replay::run.run_if(any_with_component::<Replay>),
            )
                .chain()
                .in_set(RunFixedMainLoopSystems::BeforeFixedMainLoop)
                .after(crate::match_time::drive),
        )
        .add_systems(Last, record::end_with_game.run_if(on_message::<AppExit>));
    }
}

/// Registers what is rolled back.
///
/// All players of a match register the same. Before [`RollbackPlugin`] is added or after it; without it,
/// nothing is rolled back.
pub trait AddRollback {
    /// Rolls back a component of [`Rollback`] entities: small plain types as whole columns, others by
    /// what has changed. For the latter a write that bypasses change detection is lost.
    fn rollback<C>(&mut self) -> &mut Self
    where
        C: Component<Mutability = Mutable> + Clone + Serialize + DeserializeOwned;

    /// Rolls back an immutable component: it is inserted again where it differs, which runs its hooks.
    fn rollback_immutable<C>(&mut self) -> &mut Self
    where
        C: Component + Clone + Serialize + DeserializeOwned;

    /// Rolls back a resource: its value, and whether it is there.
    fn rollback_resource<R>(&mut self) -> &mut Self
    where
        R: Resource<Mutability = Mutable> + Clone + Serialize + DeserializeOwned;

    /// Says that a component or resource is not rolled back on purpose, though systems in `FixedUpdate`
    /// write it, as what is only shown: no [`RollbackWarning`] tells of it.
    ///
    /// ```
    /// # use bevy_app::prelude::*;
    /// # use bevy_ecs::prelude::*;
    /// # use bevy_netplay::rollback::*;
    /// # use bevy_time::{TimePlugin, TimeUpdateStrategy};
    /// # use std::time::Duration;
    /// /// Ticks for which the screen shakes.
    /// #[derive(Resource, Default)]
    /// struct Shake(u32);
    ///
    /// # let mut app = App::new();
    /// # app.add_plugins(TimePlugin);
    /// # app.insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_millis(16)));
    /// app.add_plugins((RollbackPlugin::default(), RollbackCheckPlugin { seed: 7 }))
    ///     .init_resource::<Shake>()
    ///     .rollback_ignore::<Shake>()
    ///     .add_systems(FixedUpdate, |again: Res<Resimulating>, mut shake: ResMut<Shake>| {
    ///         shake.0 += u32::from(!again.0);
    ///     });
    /// (0..100).for_each(|_| app.update());
    /// assert_eq!(app.world().resource::<RollbackCheck>().warnings, []);
    /// ```
    fn rollback_ignore<C: Component>(&mut self) -> &mut Self;
}

/// Keeps and loads states by hand: what the plugin does around every tick, for tools and measurements.
///
/// # Panics
/// Every method panics without [`RollbackPlugin`].
pub trait RollbackWorld {
    /// Keeps the state as it is, before this tick, which is the one that is simulated from now on. Ticks only
    /// grow, but for a load.
    fn save_rollback(&mut self, tick: i32);

    /// Goes back to the state before this tick, and forgets later ones.
    ///
    /// # Errors
    /// [`NotKept`].
    fn load_rollback(&mut self, tick: i32) -> Result<(), NotKept>;
}

impl RollbackWorld for World {
    fn save_rollback(&mut self, tick: i32) {
        self.resource_mut::<SimulatedTick>().0 = tick;
        SavedStates::scope(self, |world, states| states.save(world, tick));
    }

    fn load_rollback(&mut self, tick: i32) -> Result<(), NotKept> {
        SavedStates::scope(self, |world, states| states.load(world, tick))?;
        self.resource_mut::<SimulatedTick>().0 = tick;
        Ok(())
    }
}

/// A type that was registered.
type Registration = Box<dyn FnOnce(&mut World, &mut States, &mut StateTypes) + Send + Sync>;

/// What was registered before the plugin was added.
#[derive(Resource, Default)]
struct Early(Vec<Registration>);

fn register(
    app: &mut App,
    add: impl FnOnce(&mut World, &mut States, &mut StateTypes) + Send + Sync + 'static,
) {
    let world = app.world_mut();
    if world.contains_resource::<SavedStates>() {
        add_type(world, add);
    } else {
        world.get_resource_or_init::<Early>().0.push(Box::new(add));
    }
}

fn add_type(world: &mut World, add: impl FnOnce(&mut World, &mut States, &mut StateTypes)) {
    SavedStates::scope(world, |world, states| {
        world.resource_scope(|world, mut types: Mut<'_, StateTypes>| {
            add(world, states, &mut types);
        });
    });
}

impl AddRollback for App {
    fn rollback<C>(&mut self) -> &mut Self
    where
        C: Component<Mutability = Mutable> + Clone + Serialize + DeserializeOwned,
    {
        register(self, |world, states, types| {
            let column = states.register::<C>(world, Some(encode::encode::<C>));
            types.register::<C>(world, column);
            warnings::register::<C>(world);
        });
        self
    }

    fn rollback_immutable<C>(&mut self) -> &mut Self
    where
        C: Component + Clone + Serialize + DeserializeOwned,
    {
        register(self, |world, states, types| {
            let column = states.register_immutable::<C>(world, Some(encode::encode::<C>));
            types.register::<C>(world, column);
            warnings::register::<C>(world);
        });
        self
    }

    fn rollback_resource<R>(&mut self) -> &mut Self
    where
        R: Resource<Mutability = Mutable> + Clone + Serialize + DeserializeOwned,
    {
        register(self, |world, states, types| {
            let column = states.register_resource::<R>(world, Some(encode::encode::<R>));
            types.register_resource::<R>(column);
            warnings::register::<R>(world);
        });
        self
    }

    fn rollback_ignore<C: Component>(&mut self) -> &mut Self {
        warnings::ignore::<C>(self.world_mut());
        self
    }
}
