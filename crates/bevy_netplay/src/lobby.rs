//! Lobbies as entities: spawn [`JoinLobby`] to join, despawn the entity to leave.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_ecs::reflect::ReflectComponent;
use bevy_reflect::Reflect;
use netplay_protocol::limits::LOBBY_MEMBERS_MAX;
use netplay_protocol::{LobbyCode, PeerId};
use netplay_transport::{JoinRequest, LobbyOptions, Session};

use crate::error::LobbyError;

/// Asks for a lobby. The entity becomes the lobby: [`Lobby`] appears on it once the server has let
/// us in, [`LobbyJoined`] or [`LobbyFailed`] is triggered on it, and the players found are related to
/// it by [`PeerOf`](crate::PeerOf). Despawning it leaves the lobby.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::prelude::*;
/// fn quick(mut commands: Commands) {
///     commands.spawn(JoinLobby::quick(2));
/// }
/// fn by_code(mut commands: Commands) -> Result {
///     commands.spawn(JoinLobby::code("7k4q-m2xa".parse()?));
///     Ok(())
/// }
/// ```
#[derive(Component, Clone, Debug)]
#[require(LobbyConnection)]
pub struct JoinLobby {
    pub(crate) request: JoinRequest,
    pub(crate) server: Option<String>,
}

impl JoinLobby {
    const fn with(request: JoinRequest) -> Self {
        Self { request, server: None }
    }

    /// Joins any public lobby for this many players that has a free seat, or makes one. Capacities
    /// outside 1 to 16 are brought into that range.
    pub fn quick(capacity: u8) -> Self {
        Self::with(JoinRequest::Quick(options(capacity, true)))
    }

    /// Makes a public lobby for this many players; its code is in [`Lobby`]. Capacities outside 1 to
    /// 16 are brought into that range.
    pub fn create(capacity: u8) -> Self {
        Self::with(JoinRequest::Create(options(capacity, true)))
    }

    /// Makes a lobby that is found by its code only.
    pub fn create_private(capacity: u8) -> Self {
        Self::with(JoinRequest::Create(options(capacity, false)))
    }

    /// Joins the lobby with this code.
    pub const fn code(code: LobbyCode) -> Self {
        Self::with(JoinRequest::Code(code))
    }

    /// On this server instead of the one in [`NetplaySettings`](crate::NetplaySettings).
    #[must_use]
    pub fn on(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// With this name in lists, cut to 64 bytes. Without meaning when joining by code.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        if let JoinRequest::Create(options) | JoinRequest::Quick(options) = &mut self.request {
            let mut end = name.len().min(netplay_protocol::limits::LOBBY_NAME_MAX);
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            options.name = name[..end].chars().filter(|c| !c.is_control()).collect();
        }
        self
    }
}

fn options(capacity: u8, public: bool) -> LobbyOptions {
    let capacity = capacity.clamp(1, LOBBY_MEMBERS_MAX);
    LobbyOptions { capacity, public, name: String::new() }
}

/// A lobby that we are in. Only the plugin writes it.
#[derive(Component, Clone, Debug, PartialEq, Eq)]
pub struct Lobby {
    /// The code by which others join.
    pub code: LobbyCode,
    /// Its name; may be empty.
    pub name: String,
    /// Players at most.
    pub capacity: u8,
    /// Whether quick join and lists find it.
    pub public: bool,
    /// Our own id.
    pub me: PeerId,
    /// The player that leads it.
    pub host: PeerId,
}

impl Lobby {
    /// Whether we lead it.
    pub fn is_host(&self) -> bool {
        self.me == self.host
    }
}

/// Whether the lobby server can be reached. A match goes on without it.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
#[reflect(Component)]
pub enum LobbyConnection {
    /// Not yet.
    #[default]
    Connecting,
    /// Yes.
    Online,
    /// Not now; the plugin keeps trying.
    Offline,
    /// The lobby has failed, and the plugin does not try again.
    Failed,
}

/// The server has let us in; the entity has a [`Lobby`] now.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyJoined {
    /// The lobby.
    pub entity: Entity,
}

/// We are not in the lobby, and the plugin does not try again.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyFailed {
    /// The lobby.
    pub entity: Entity,
    /// Why.
    pub error: LobbyError,
}

/// The lobby server cannot be reached; the plugin keeps trying, and links to players live on.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyOffline {
    /// The lobby.
    pub entity: Entity,
    /// Why, for people.
    pub why: String,
    /// When the plugin tries again, from now.
    pub retry_in: Duration,
}

/// The lobby server can be reached (again).
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyOnline {
    /// The lobby.
    pub entity: Entity,
}

/// Another player leads the lobby.
#[derive(EntityEvent, Clone, Debug)]
pub struct HostChanged {
    /// The lobby.
    pub entity: Entity,
    /// Who.
    pub host: PeerId,
}

/// The lobby's session. Behind a lock so that systems which only send can run side by side; it is
/// held for the time of one encode.
#[derive(Component)]
pub(crate) struct LobbySession(Mutex<Session>);

impl LobbySession {
    pub(crate) const fn new(session: Session) -> Self {
        Self(Mutex::new(session))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get_mut(&mut self) -> &mut Session {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}
