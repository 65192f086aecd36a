//! Lobbies as entities: spawn [`JoinLobby`] to join, despawn the entity to leave.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_ecs::reflect::ReflectComponent;
use bevy_reflect::Reflect;
use netplay_protocol::limits::LOBBY_MEMBERS_MAX;
use netplay_protocol::{LobbyCode, PeerId};
use netplay_transport::{JoinRequest, LobbyOptions, Room, RoomId, SavedSession, Session};

use crate::error::LobbyError;
use crate::resume::ResumeFile;

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
    request: JoinRequest,
    pub(crate) server: Option<String>,
    seats: Option<Duration>,
}

impl JoinLobby {
    const fn with(request: JoinRequest) -> Self {
        Self { request, server: None, seats: None }
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

    /// Enters a room of a matchbox server, `ws://host:3536`, where players of this game meet without a lobby
    /// server. The room counts as a lobby of 16 without a code, and its host is who has the lowest id of those
    /// who are there. Such a server takes nobody up again: when it is lost, those who are connected play on, and
    /// nobody new is met before they are gone.
    pub fn matchbox_room(url: impl Into<String>, room: RoomId) -> Self {
        Self::with(JoinRequest::Room(Room::new(room))).on(url)
    }

    /// In a matchbox room, so many players who come one after the other are a group of their own, 1 to 16:
    /// what `?next=` in the room's URL is. Without meaning in lobbies.
    #[must_use]
    pub fn next(mut self, players: u8) -> Self {
        if let JoinRequest::Room(room) = &mut self.request {
            *room = room.clone().next(players);
        }
        self
    }

    /// Keeps the seat of a player who vanishes for so long, an hour at most. By default half a minute if
    /// this game has a [resume file](crate::NetplayPlugins::resume_file), and otherwise not at all: a
    /// player whom everybody has lost is gone, and may join again by the code. Without meaning when
    /// joining by code, as the one who made the lobby decides.
    #[must_use]
    pub const fn keep_seats(mut self, time: Duration) -> Self {
        self.seats = Some(time);
        self
    }

    /// What to ask the server for.
    pub(crate) fn request(&self, has_resume_file: bool) -> JoinRequest {
        let mut request = self.request.clone();
        if let JoinRequest::Create(options) | JoinRequest::Quick(options) = &mut request {
            let default = if has_resume_file { SEATS_KEPT } else { Duration::ZERO };
            let seats = self.seats.unwrap_or(default).as_secs();
            options.seat_secs = u16::try_from(seats).unwrap_or(u16::MAX);
        }
        request
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
    if public { LobbyOptions::public(capacity) } else { LobbyOptions::private(capacity) }
}

/// For how long seats are kept if nothing else is said, and there is a way back to them: a game is
/// started again in less.
const SEATS_KEPT: Duration = Duration::from_secs(30);

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
