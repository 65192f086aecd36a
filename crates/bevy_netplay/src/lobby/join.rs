//! How a lobby is asked for.

use std::time::Duration;

use bevy_ecs::prelude::*;
use netplay_protocol::limits::{LOBBY_MEMBERS_MAX, LOBBY_NAME_MAX, LOBBY_SPECTATORS_MAX};
use netplay_protocol::lobby::{
    ClientMessage, Compare, CreateWith, Entry, Field, Filter, InviteToken, JoinWith, LobbyData,
    LobbyOptions, Login, MemberData, Password, Value,
};
use netplay_protocol::{DataKey, LobbyCode};
use netplay_transport::{JoinRequest, Room, RoomId, Visibility};

use super::LobbyConnection;

/// Asks for a lobby. The entity becomes the lobby: [`Lobby`](crate::Lobby) appears on it once the server has
/// let us in, [`LobbyJoined`](crate::LobbyJoined) or [`LobbyFailed`](crate::LobbyFailed) is triggered on it, and
/// the players found are related to it by [`PeerOf`](crate::PeerOf). Despawning it leaves the lobby.
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
    way: Way,
    options: LobbyOptions,
    filters: Vec<Filter>,
    data: LobbyData,
    member: MemberData,
    password: Option<Password>,
    invite: Option<InviteToken>,
    spectate: bool,
    seats: Option<Duration>,
    pub(crate) server: Option<String>,
    pub(crate) login: Option<Login>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Quick,
    Create,
    Code(LobbyCode),
    Room(Room),
}

/// For how long seats are kept if nothing else is said, and there is a way back to them: a game is
/// started again in less.
const SEATS_KEPT: Duration = Duration::from_secs(30);

impl JoinLobby {
    fn with(way: Way, capacity: u8, visibility: Visibility) -> Self {
        let capacity = capacity.clamp(1, LOBBY_MEMBERS_MAX);
        let options = LobbyOptions { visibility, ..LobbyOptions::public(capacity) };
        Self {
            way,
            options,
            filters: Vec::new(),
            data: LobbyData::new(),
            member: MemberData::new(),
            password: None,
            invite: None,
            spectate: false,
            seats: None,
            server: None,
            login: None,
        }
    }

    /// Joins any public lobby for this many players that has a free seat, or makes one. Capacities
    /// outside 1 to 16 are brought into that range.
    pub fn quick(capacity: u8) -> Self {
        Self::with(Way::Quick, capacity, Visibility::Public)
    }

    /// Makes a public lobby for this many players; its code is in [`Lobby`](crate::Lobby). Capacities outside 1
    /// to 16 are brought into that range.
    pub fn create(capacity: u8) -> Self {
        Self::with(Way::Create, capacity, Visibility::Public)
    }

    /// Makes a lobby that is found by its code only.
    pub fn create_private(capacity: u8) -> Self {
        Self::with(Way::Create, capacity, Visibility::Private)
    }

    /// Makes a lobby that only who is invited can enter.
    pub fn create_hidden(capacity: u8) -> Self {
        Self::with(Way::Create, capacity, Visibility::Hidden)
    }

    /// Joins the lobby with this code.
    pub fn code(code: LobbyCode) -> Self {
        Self::with(Way::Code(code), 1, Visibility::Public)
    }

    /// Enters a room of a matchbox server, `ws://host:3536`, where players of this game meet without a lobby
    /// server. The room counts as a lobby of 16 without a code, and its host is who has the lowest id of those
    /// who are there. Such a server takes nobody up again: when it is lost, those who are connected play on, and
    /// nobody new is met before they are gone.
    pub fn matchbox_room(url: impl Into<String>, room: RoomId) -> Self {
        Self::with(Way::Room(Room::new(room)), 1, Visibility::Public).on(url)
    }

    /// In a matchbox room, so many players who come one after the other are a group of their own, 1 to 16:
    /// what `?next=` in the room's URL is. Without meaning in lobbies.
    #[must_use]
    pub fn next(mut self, players: u8) -> Self {
        if let Way::Room(room) = &mut self.way {
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

    /// On this server instead of the one in [`NetplaySettings`](crate::NetplaySettings).
    #[must_use]
    pub fn on(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// With this name in lists, cut to 64 bytes. Without meaning when joining by code.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        let name = &name[..name.floor_char_boundary(LOBBY_NAME_MAX)];
        self.options.name = name.chars().filter(|c| !c.is_control()).collect();
        self
    }

    /// With this password: who makes the lobby sets it, who joins by code shows it.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Password(password.into()));
        self
    }

    /// With an invitation, when joining by code.
    #[must_use]
    pub fn invited(mut self, invite: InviteToken) -> Self {
        self.invite = Some(invite);
        self
    }

    /// Only to watch, when joining by code: without a seat, and without a link to the players' match unless the
    /// game makes one of it.
    #[must_use]
    pub const fn spectate(mut self) -> Self {
        self.spectate = true;
        self
    }

    /// A new lobby takes so many who only watch, 16 at most; none by default.
    #[must_use]
    pub fn spectators(mut self, most: u8) -> Self {
        self.options.spectators = most.min(LOBBY_SPECTATORS_MAX);
        self
    }

    /// A new lobby lets nobody in as a player while its match runs.
    #[must_use]
    pub const fn no_late_join(mut self) -> Self {
        self.options.no_late_join = true;
        self
    }

    /// A new lobby begins with this value. With [`Self::quick`], public ones are also what a lobby must have to be
    /// joined.
    #[must_use]
    pub fn value(mut self, key: DataKey, entry: Entry) -> Self {
        if self.way == Way::Quick && entry.tier == netplay_protocol::lobby::Tier::Public {
            let (field, value) = (Field::Data(key.clone()), entry.value.clone());
            self.filters.push(Filter { field, compare: Compare::Eq, value });
        }
        self.data.insert(key, entry);
        self
    }

    /// Only lobbies where this holds, with [`Self::quick`].
    #[must_use]
    pub fn only(mut self, field: Field, compare: Compare, value: impl Into<Value>) -> Self {
        self.filters.push(Filter { field, compare, value: value.into() });
        self
    }

    /// What we say about ourselves, to all members: a nickname, a colour.
    #[must_use]
    pub fn about_me(mut self, key: DataKey, value: impl Into<Value>) -> Self {
        self.member.insert(key, value.into());
        self
    }

    /// Shows the server who we are, where it wants to know. A join ticket is good for one session, and each
    /// [`JoinLobby`](crate::JoinLobby) and each [`BrowseLobbies`](crate::BrowseLobbies) is one: each needs its own. A
    /// JWT is good for both.
    #[must_use]
    pub fn login(mut self, login: Login) -> Self {
        self.login = Some(login);
        self
    }

    /// What to ask the server for.
    pub(crate) fn request(&self, has_resume_file: bool) -> JoinRequest {
        let default = if has_resume_file { SEATS_KEPT } else { Duration::ZERO };
        let seats = self.seats.unwrap_or(default).as_secs();
        let seat_secs = u16::try_from(seats).unwrap_or(u16::MAX);
        let Self { password, data, member, filters, invite, spectate, .. } = self.clone();
        let options = LobbyOptions { seat_secs, ..self.options.clone() };
        let request = 0;
        let ask = match self.way.clone() {
            Way::Room(room) => return JoinRequest::Room(room),
            Way::Create => {
                let with = CreateWith { password, data, member };
                ClientMessage::Create { request, options, with }
            }
            Way::Quick => {
                let with = CreateWith { password, data, member };
                ClientMessage::QuickJoin { request, options, filters, with }
            }
            Way::Code(code) => {
                let with = JoinWith { password, invite, spectate, member };
                ClientMessage::Join { request, code, with }
            }
        };
        JoinRequest::Ask(Box::new(ask))
    }
}
