//! What players do at each tick: read once on the machine at which they sit, seen by the simulation of all.

use core::ops::{Index, Range};

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleLabel;
use bevy_input::keyboard::KeyCode;
use bevy_input::mouse::MouseButton;
use netplay_protocol::codec::{Bincode, Codec};
use netplay_rollback::limits::INPUT_MAX;
use netplay_rollback::{InputStatus, Player};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::buttons::{AddTickButtons as _, InputsRead};

/// What a game's own type needs to be an input. Its default is what counts for a player who is not there.
/// Encoded it takes at most 64 bytes.
pub trait RollbackInput:
    Serialize + DeserializeOwned + Clone + Default + Send + Sync + 'static
{
}

impl<T: Serialize + DeserializeOwned + Clone + Default + Send + Sync + 'static> RollbackInput
    for T
{
}

/// Runs once for every tick, never again for it: the place to write [`LocalInputs`].
///
/// A frame may have no tick, or several. What a player did in a frame belongs to the next tick that is
/// read: see [`TickButtons`](super::TickButtons).
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadInputs;

/// What the players at this machine do in the tick that is read. What is not written stays as it was.
#[derive(Resource, Clone, Debug)]
pub struct LocalInputs<I> {
    first: u8,
    inputs: Vec<I>,
    scratch: Vec<u8>,
}

impl<I> LocalInputs<I> {
    /// The players at this machine; nobody for who only watches.
    pub fn players(&self) -> impl ExactSizeIterator<Item = Player> + use<I> {
        let first = self.first;
        (0..self.inputs.len() as u8).map(move |index| Player(first + index))
    }

    /// Their inputs, in the order of the players.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (Player, &mut I)> {
        let players = self.players();
        players.zip(&mut self.inputs)
    }

    /// Sets the input of the first of them, which is the only one on most machines.
    pub fn set(&mut self, input: I) {
        if let Some(first) = self.inputs.first_mut() {
            *first = input;
        }
    }
}

/// What all players do in the tick that `FixedUpdate` is in.
#[derive(Resource, Clone, Debug, Default)]
pub struct PlayerInputs<I> {
    inputs: Vec<I>,
    statuses: Vec<InputStatus>,
    neutral: I,
}

impl<I> PlayerInputs<I> {
    /// The players, in their order.
    pub fn players(&self) -> impl ExactSizeIterator<Item = Player> + use<I> {
        (0..self.inputs.len() as u8).map(Player)
    }

    /// What a player does; the default if there is no such player.
    pub fn get(&self, player: Player) -> &I {
        self.inputs.get(player.index()).unwrap_or(&self.neutral)
    }

    /// How sure that is. The simulation may ask for [`InputStatus::Absent`] only: the rest differs
    /// between machines.
    pub fn status(&self, player: Player) -> InputStatus {
        self.statuses.get(player.index()).copied().unwrap_or(InputStatus::Absent)
    }

    /// Whether a player is in the match.
    pub fn is_present(&self, player: Player) -> bool {
        self.status(player) != InputStatus::Absent
    }
}

impl<I> Index<Player> for PlayerInputs<I> {
    type Output = I;

    fn index(&self, player: Player) -> &I {
        self.get(player)
    }
}

/// Takes the encoded input of a player.
type Put<'a> = dyn FnMut(Player, &[u8]) + 'a;

/// Encoded inputs in the order of the players.
type Shown<'a> = dyn Iterator<Item = (&'a [u8], InputStatus)> + 'a;

/// The input type of the game, behind functions.
#[derive(Resource, Clone, Copy)]
pub(crate) struct InputType {
    pub(crate) name: &'static str,
    /// The default, encoded; too long a one is refused by the session.
    pub(crate) neutral: fn() -> Vec<u8>,
    pub(crate) validate: fn(&[u8]) -> bool,
    /// These of so many players sit here.
    pub(crate) seat: fn(&mut World, Range<u8>),
    /// Reads the inputs of the local players.
    pub(crate) read: fn(&mut World, &mut Put<'_>),
    /// Shows the simulation what these players do.
    pub(crate) show: fn(&mut World, &mut Shown<'_>),
}

/// Defines what players do.
pub trait AddRollbackInput {
    /// Makes `I` the input of this game: [`LocalInputs`] and [`PlayerInputs`] are there from now on, and
    /// every match is one that is rolled back. A game has one type of input.
    fn add_rollback_input<I: RollbackInput>(&mut self) -> &mut Self;
}

impl AddRollbackInput for App {
    fn add_rollback_input<I: RollbackInput>(&mut self) -> &mut Self {
        self.init_schedule(ReadInputs)
            .init_schedule(InputsRead)
            .add_tick_buttons::<KeyCode>()
            .add_tick_buttons::<MouseButton>()
            .insert_resource(LocalInputs::<I> { first: 0, inputs: Vec::new(), scratch: Vec::new() })
            .insert_resource(PlayerInputs::<I>::default())
            .insert_resource(InputType {
                name: core::any::type_name::<I>(),
                neutral: || {
                    let mut bytes = Vec::new();
                    // What cannot be written is too long for the session, which says so.
                    if Bincode::encode(&I::default(), &mut bytes, INPUT_MAX).is_err() {
                        bytes = vec![0; INPUT_MAX + 1];
                    }
                    bytes
                },
                validate: |bytes| Bincode::decode::<I>(bytes).is_ok(),
                seat: seat::<I>,
                read: read::<I>,
                show: show::<I>,
            })
    }
}

fn seat<I: RollbackInput>(world: &mut World, players: Range<u8>) {
    let mut local = world.resource_mut::<LocalInputs<I>>();
    if (local.first, local.inputs.len()) == (players.start, players.len()) {
        return;
    }
    local.first = players.start;
    local.inputs.clear();
    local.inputs.resize(players.len(), I::default());
}

fn read<I: RollbackInput>(world: &mut World, put: &mut Put<'_>) {
    world.run_schedule(ReadInputs);
    world.run_schedule(InputsRead);
    let mut local = world.resource_mut::<LocalInputs<I>>();
    let LocalInputs { first, inputs, scratch } = &mut *local;
    for (index, input) in inputs.iter().enumerate() {
        scratch.clear();
        match Bincode::encode(input, scratch, INPUT_MAX) {
            Ok(()) => put(Player(*first + index as u8), scratch),
            Err(error) => tracing::warn!(%error, "an input is not taken"),
        }
    }
}

fn show<I: RollbackInput>(world: &mut World, inputs: &mut Shown<'_>) {
    let mut shown = world.resource_mut::<PlayerInputs<I>>();
    shown.inputs.clear();
    shown.statuses.clear();
    for (bytes, status) in inputs {
        // The session has checked them.
        shown.inputs.push(Bincode::decode(bytes).unwrap_or_default());
        shown.statuses.push(status);
    }
}
