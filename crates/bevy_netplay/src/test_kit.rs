//! Several apps joined in memory and stepped by hand: for the tests of games, and our own.
//!
//! ```
//! # use bevy_app::App;
//! # use bevy_ecs::prelude::*;
//! # use bevy_netplay::prelude::*;
//! use bevy_netplay::test_kit::TestNet;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
//! # struct Shout(String);
//!
//! let mut net = TestNet::new(7, 2, |app| {
//!     app.add_net_message::<Shout>(Lane::Reliable);
//! });
//! net.connect_all();
//! net.send(0, Shout("hey".into()));
//! net.step_until(100, |net| net.received::<Shout>(1).len() == 1);
//! ```
//!
//! Between the apps stand the real session halves, the real lobby directory and a seeded virtual
//! network; there is no thread, no socket and no waiting. The same seed gives the same run.

use std::time::Duration;

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::SingleThreadedExecutor;
use bevy_ecs::system::RunSystemOnce;
use bevy_time::{TimePlugin, TimeUpdateStrategy};
use netplay_protocol::PeerId;
use netplay_transport::memory::MemoryNetwork;

use crate::NetplayPlugins;
use crate::lobby::{JoinLobby, Lobby};
use crate::message::{NetMessage, NetWriter, Received};
use crate::peer::{LinkState, Peer};
use crate::settings::NetplayNetwork;

/// How long a step is: a frame at 60 Hz.
pub const STEP: Duration = Duration::from_micros(16_667);

/// What the systems of an app took so far: only what they add here, so that no test depends on how fast the
/// machine is. A rollback that takes longer than its frame has consequences; with this, any system can be slow.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent(pub Duration);

/// Runs the systems of all schedules that an app has on the thread that updates it. To wake other threads
/// takes longer than most systems of a test do, and several times that on a busy machine.
pub fn on_one_thread(app: &mut App) {
    let mut schedules = app.world_mut().get_resource_or_init::<Schedules>();
    for (_, schedule) in schedules.iter_mut() {
        schedule.set_executor(SingleThreadedExecutor::new());
    }
}

/// Apps on one virtual network, each in the lobby or on its way there.
pub struct TestNet {
    /// The virtual network: delay, loss, partitions, a server that goes away.
    pub network: MemoryNetwork,
    apps: Vec<App>,
}

impl TestNet {
    /// `count` apps with the Netplay plugins, of the game `test`. `setup` adds what is to be tested;
    /// its messages and systems.
    pub fn new(seed: u64, count: usize, mut setup: impl FnMut(&mut App)) -> Self {
        let mut net = Self { network: MemoryNetwork::new(seed), apps: Vec::new() };
        for _ in 0..count {
            net.add(NetplayPlugins::new("test"), &mut setup);
        }
        net
    }

    /// Adds an app with other plugin settings; gives its number.
    pub fn add(&mut self, plugins: NetplayPlugins, setup: impl FnOnce(&mut App)) -> usize {
        self.insert(self.apps.len(), plugins, setup);
        self.apps.len() - 1
    }

    /// Drops an app; those after it move up.
    ///
    /// # Panics
    /// If there is none with this number.
    pub fn remove(&mut self, index: usize) {
        drop(self.apps.remove(index));
    }

    /// Puts an app in this place; those from there on move down.
    ///
    /// # Panics
    /// If there is no such place.
    pub fn insert(&mut self, index: usize, plugins: NetplayPlugins, setup: impl FnOnce(&mut App)) {
        let mut app = App::new();
        app.insert_resource(NetplayNetwork::Memory(self.network.clone()))
            .insert_resource(TimeUpdateStrategy::ManualDuration(STEP))
            .init_resource::<Spent>()
            .add_plugins((TimePlugin, plugins));
        setup(&mut app);
        on_one_thread(&mut app);
        app.finish();
        app.cleanup();
        self.apps.insert(index, app);
    }

    /// An app.
    ///
    /// # Panics
    /// If there is none with this number; so do the other methods that take one.
    pub fn app(&mut self, index: usize) -> &mut App {
        &mut self.apps[index]
    }

    /// How many apps there are.
    pub fn len(&self) -> usize {
        self.apps.len()
    }

    /// Whether there is no app.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }

    /// One frame of every app, then one [`STEP`] of network time.
    pub fn step(&mut self) {
        for app in &mut self.apps {
            app.update();
        }
        self.network.advance(STEP);
    }

    /// One frame of the app with this number only, then one [`STEP`] of network time for all.
    pub fn step_only(&mut self, index: usize) {
        self.apps[index].update();
        self.network.advance(STEP);
    }

    /// Steps until `done`.
    ///
    /// # Panics
    /// If it is not done after `steps` steps.
    pub fn step_until(&mut self, steps: usize, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..steps {
            self.step();
            if done(self) {
                return;
            }
        }
        panic!("not done after {steps} steps, at {}", self.network.now());
    }

    /// Spawns a request for a lobby in one app.
    pub fn join(&mut self, index: usize, request: JoinLobby) -> Entity {
        self.apps[index].world_mut().spawn(request).id()
    }

    /// Brings all apps into one lobby and waits until everyone is connected to everyone.
    ///
    /// # Panics
    /// If they are not after 600 steps.
    pub fn connect_all(&mut self) {
        let count = self.apps.len();
        let capacity = u8::try_from(count).unwrap_or(u8::MAX);
        for index in 0..count {
            self.join(index, JoinLobby::quick(capacity));
        }
        self.step_until(600, |net| (0..count).all(|i| net.connected(i).len() == count - 1));
    }

    /// The lobby of an app, once it has joined.
    pub fn lobby(&mut self, index: usize) -> Option<Lobby> {
        let world = self.apps[index].world_mut();
        world.query::<&Lobby>().iter(world).next().cloned()
    }

    /// An app's own id, once it has joined.
    pub fn id(&mut self, index: usize) -> Option<PeerId> {
        self.lobby(index).map(|lobby| lobby.me)
    }

    /// The peers that an app is connected to.
    pub fn connected(&mut self, index: usize) -> Vec<(Entity, PeerId)> {
        let world = self.apps[index].world_mut();
        let mut peers = world.query::<(Entity, &Peer, &LinkState)>();
        peers
            .iter(world)
            .filter(|(_, _, state)| state.is_open())
            .map(|(entity, peer, _)| (entity, peer.id))
            .collect()
    }

    /// Sends a message from an app to all its peers.
    ///
    /// # Panics
    /// If the message's type is not registered or it cannot be encoded.
    pub fn send<M: NetMessage>(&mut self, index: usize, message: M) {
        let world = self.apps[index].world_mut();
        let sent = world.run_system_once_with(
            |In(message): In<M>, mut out: NetWriter<M>| out.to_all(message),
            message,
        );
        assert!(sent.is_ok_and(|sent| sent.refused == 0), "the message was refused");
    }

    /// The messages of a type that an app has received in its last two frames.
    pub fn received<M: NetMessage + Clone>(&mut self, index: usize) -> Vec<Received<M>> {
        let messages = self.apps[index].world().resource::<Messages<Received<M>>>();
        messages.iter_current_update_messages().cloned().collect()
    }
}
