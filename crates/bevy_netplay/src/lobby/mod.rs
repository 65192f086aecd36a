//! Lobbies as entities: spawn [`JoinLobby`] to join, despawn the entity to leave.

pub(crate) mod browse;
mod join;
pub(crate) mod request;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_ecs::reflect::ReflectComponent;
use bevy_reflect::Reflect;
use netplay_protocol::lobby::Member;
use netplay_protocol::{LobbyCode, PeerId};
use netplay_transport::{LobbyState, SavedSession, Session};

use crate::error::LobbyError;
use crate::resume::ResumeFile;

pub use join::JoinLobby;

/// A lobby that we are in. Only the plugin writes it.
#[derive(Component, Clone, Debug, PartialEq, Eq)]
pub struct Lobby {
    /// The code by which others join; [`LobbyCode::NONE`] in a matchbox room.
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
    /// For how long the seat of a player who vanishes is kept; zero: not at all.
    pub seats_kept: Duration,
}

impl Lobby {
    /// Whether we lead it.
    pub fn is_host(&self) -> bool {
        self.me == self.host
    }
}

/// The lobby as the server has it, as far as we may see it: who is there, on which seat, in which team and
/// role, whether it is ready, what it says about itself; the lobby's values; what it is like. Only the plugin
/// writes it; [`LobbyChanged`] is triggered on the lobby then. The times that are left are those of when they were
/// told.
#[derive(Component, Clone, Debug, PartialEq, Eq)]
pub struct LobbyDetails(pub LobbyState);

impl core::ops::Deref for LobbyDetails {
    type Target = LobbyState;

    fn deref(&self) -> &LobbyState {
        &self.0
    }
}

impl LobbyDetails {
    /// A text that a member has said about itself under this name.
    pub fn says<'a>(member: &'a Member, key: &str) -> Option<&'a str> {
        let value = member.data.iter().find(|(of, _)| of.as_str() == key)?.1;
        value.text()
    }
}

/// [`LobbyDetails`] are others now.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyChanged {
    /// The lobby.
    pub entity: Entity,
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
pub(crate) struct LobbySession {
    session: Mutex<Session>,
    resume: Option<ResumeFile>,
}

impl LobbySession {
    pub(crate) const fn new(session: Session, resume: Option<ResumeFile>) -> Self {
        Self { session: Mutex::new(session), resume }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get_mut(&mut self) -> &mut Session {
        self.session.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is another secret for the next start of the game.
    pub(crate) fn save(&self, saved: &SavedSession) {
        if let Some(file) = &self.resume {
            file.write(saved);
        }
    }

    /// The session goes on elsewhere: the file is no longer ours.
    pub(crate) fn forget_file(&mut self) {
        self.resume = None;
    }
}

impl Drop for LobbySession {
    /// Leaving ends the session.
    fn drop(&mut self) {
        if let Some(file) = &self.resume {
            file.remove();
        }
    }
}
