//! Looking for lobbies, before one is joined.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_time::{Real, Time};
use netplay_protocol::lobby::{LobbySummary, Login, Search};
use netplay_transport::{Polled, Session, SessionEvent};

use crate::error::LobbyError;
use crate::message::MessageRegistry;
use crate::receive;
use crate::settings::NetplaySettings;

/// Looks for public lobbies of this game and build, and again after a while: what is found is in
/// [`FoundLobbies`] on the same entity, and [`LobbiesFound`] is triggered on it. Despawning it ends the search.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::prelude::*;
/// # use bevy_netplay::{Compare, Field};
/// fn browse(mut commands: Commands) {
///     let search = LobbySearch::all().with(Field::Free, Compare::Ge, 2);
///     commands.spawn(BrowseLobbies::new(search));
/// }
/// fn show(found: Single<&FoundLobbies>) {
///     for lobby in &found.lobbies {
///         println!("{} {} {}/{}", lobby.code, lobby.name, lobby.members, lobby.capacity);
///     }
/// }
/// ```
#[derive(Component, Clone, Debug)]
#[require(FoundLobbies)]
pub struct BrowseLobbies {
    /// What is looked for. Changed, it is looked for at once, twice a second at most.
    pub search: Search,
    /// How often; 2 s by default, 0.5 s at least.
    pub every: Duration,
    server: Option<String>,
    login: Option<Login>,
}

impl BrowseLobbies {
    /// Looks for these, every two seconds.
    pub const fn new(search: Search) -> Self {
        Self { search, every: Duration::from_secs(2), server: None, login: None }
    }

    /// On this server instead of the one in [`NetplaySettings`].
    #[must_use]
    pub fn on(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
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
}

/// What a [`BrowseLobbies`] has found last. Only the plugin writes it.
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundLobbies {
    /// In the order that was asked for; 50 at most.
    pub lobbies: Vec<LobbySummary>,
    /// Whether others come after these: ask for them with a larger `skip`.
    pub more: bool,
    /// Why nothing is known, for people: the server cannot be reached, or does not let us in.
    pub trouble: Option<String>,
}

/// There is an answer to a [`BrowseLobbies`], or trouble.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbiesFound {
    /// The one with the [`BrowseLobbies`].
    pub entity: Entity,
}

/// The session of a search.
#[derive(Component)]
pub(crate) struct Browsing {
    session: Option<Session>,
    /// When it was asked last, in the app's time; `None`: an answer is awaited.
    asked: Option<Duration>,
    due: bool,
}

/// However often the search changes, as while a player types: a server does not answer everybody faster.
const APART: Duration = Duration::from_millis(500);

/// Opens a session for every new [`BrowseLobbies`], and asks.
pub(crate) fn browse(world: &mut World) {
    let mut new = world.query_filtered::<(Entity, &BrowseLobbies), Without<Browsing>>();
    let new: Vec<_> = new.iter(world).map(|(entity, browse)| (entity, browse.clone())).collect();
    for (entity, browse) in new {
        let session = open(world, &browse);
        let trouble = session.as_ref().err().map(ToString::to_string);
        let browsing = Browsing { session: session.ok(), asked: None, due: true };
        world.entity_mut(entity).insert(browsing);
        if trouble.is_some() {
            found(world, entity, FoundLobbies { trouble, ..Default::default() });
        }
    }
    let mut all = world.query_filtered::<Entity, With<Browsing>>();
    for entity in all.iter(world).collect::<Vec<_>>() {
        ask(world, entity);
        while let Some(news) = take(world, entity) {
            found(world, entity, news);
        }
    }
}

fn open(world: &mut World, browse: &BrowseLobbies) -> Result<Session, LobbyError> {
    let registry = world.resource::<MessageRegistry>();
    let settings = world.resource::<NetplaySettings>();
    let mut config = settings.session_config(registry, browse.server.as_deref())?;
    config.login.clone_from(&browse.login);
    Ok(receive::network(world)?.open(&config)?)
}

/// Asks if it is time to.
fn ask(world: &mut World, entity: Entity) {
    let now = world.get_resource::<Time<Real>>().map_or(Duration::ZERO, Time::elapsed);
    let Some(browse) = world.entity(entity).get_ref::<BrowseLobbies>() else { return };
    let (changed, every, search) = (browse.is_changed(), browse.every, browse.search.clone());
    let Some(mut browsing) = world.get_mut::<Browsing>(entity) else { return };
    let browsing = browsing.bypass_change_detection();
    browsing.due |= changed || browsing.asked.is_some_and(|asked| now >= asked + every);
    if browsing.due
        && browsing.asked.is_none_or(|asked| now >= asked + APART)
        && let Some(session) = &browsing.session
        && session.search(search).is_ok()
    {
        (browsing.due, browsing.asked) = (false, Some(now));
    }
}

fn take(world: &mut World, entity: Entity) -> Option<FoundLobbies> {
    let known = world.get::<FoundLobbies>(entity)?.clone();
    let mut browsing = world.get_mut::<Browsing>(entity)?;
    let session = browsing.bypass_change_detection().session.as_mut()?;
    loop {
        let Polled::Event(event) = session.poll()? else { continue };
        match event {
            SessionEvent::Lobbies { lobbies, more } => {
                return Some(FoundLobbies { lobbies, more, trouble: None });
            }
            SessionEvent::Offline { why, .. } => {
                return Some(FoundLobbies { trouble: Some(why), ..known });
            }
            SessionEvent::JoinRefused { text, .. } => {
                return Some(FoundLobbies { trouble: Some(text), ..known });
            }
            SessionEvent::Ended(reason) => {
                let trouble = Some(reason.to_string());
                return Some(FoundLobbies { trouble, ..known });
            }
            _ => {}
        }
    }
}

fn found(world: &mut World, entity: Entity, news: FoundLobbies) {
    if let Some(mut found) = world.get_mut::<FoundLobbies>(entity) {
        found.set_if_neq(news);
        world.trigger(LobbiesFound { entity });
    }
}
