//! From the network into the world: lifecycle as entity events, data as messages.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_time::{Real, Time};
use netplay_protocol::PeerId;
use netplay_transport::{
    EndReason, InboundInputs, InboundPacket, LobbyState, Polled, SessionEvent, Visibility,
};

use crate::conditioner::LinkConditioner;
use crate::error::LobbyError;
use crate::lifecycle;
use crate::lobby::{
    HostChanged, JoinLobby, Lobby, LobbyChanged, LobbyConnection, LobbyDetails, LobbyFailed,
    LobbyJoined, LobbyOffline, LobbyOnline, LobbySession, request,
};
use crate::match_time::{self, Match, StartFailed, SyncStatus};
use crate::message::{MessageRegistry, SendCounts};
use crate::peer::{Peer, PeerOf, PeerStats};
use crate::resume::ResumeFile;
use crate::rollback;
use crate::settings::{NetplayNetwork, NetplaySettings};

/// Which entity stands for which player of a lobby, and who we are in it.
#[derive(Component, Default)]
pub(crate) struct Roster {
    me: Option<PeerId>,
    /// With which its peers begin.
    pub(crate) conditioner: Option<LinkConditioner>,
    pub(crate) entities: BTreeMap<PeerId, Entity>,
}

/// What one turn of [`receive`] has taken from a session.
enum Taken {
    Event(SessionEvent),
    Packet(InboundPacket),
    Inputs(InboundInputs),
}

/// Opens a session for every new [`JoinLobby`].
pub(crate) fn open_sessions(world: &mut World) {
    let mut wanted = world.query_filtered::<(Entity, &JoinLobby), Without<Roster>>();
    let wanted: Vec<_> = wanted.iter(world).map(|(entity, join)| (entity, join.clone())).collect();
    for (entity, join) in wanted {
        let conditioner = world.resource::<NetplaySettings>().conditioner.clone();
        world.entity_mut(entity).insert(Roster { conditioner, ..Default::default() });
        match open(world, &join) {
            Ok(session) => {
                world.entity_mut(entity).insert(session);
            }
            Err(error) => fail(world, entity, error),
        }
    }
}

fn open(world: &mut World, join: &JoinLobby) -> Result<LobbySession, LobbyError> {
    let registry = world.resource::<MessageRegistry>();
    let settings = world.resource::<NetplaySettings>();
    let mut config = settings.session_config(registry, join.server.as_deref())?;
    let resume = settings.resume_file(join.server.as_deref());
    config.resume = resume.as_ref().and_then(ResumeFile::read);
    config.login.clone_from(&join.login);
    let session = network(world)?.open(&config)?;
    session.join(join.request(resume.is_some()))?;
    Ok(LobbySession::new(session, resume))
}

/// Where sessions run; by default a runtime of our own, from the first one on.
pub(crate) fn network(world: &mut World) -> Result<&NetplayNetwork, LobbyError> {
    if !world.contains_resource::<NetplayNetwork>() {
        let network = netplay_transport::Network::start();
        let network = network.map_err(|error| LobbyError::Runtime(error.to_string()))?;
        world.insert_resource(NetplayNetwork::Native(network));
    }
    Ok(world.resource::<NetplayNetwork>())
}

fn fail(world: &mut World, entity: Entity, error: LobbyError) {
    tracing::error!(%error, "no lobby");
    if let Ok(mut lobby) = world.get_entity_mut(entity) {
        lobby.insert(LobbyConnection::Failed);
        lobby.remove::<LobbySession>();
        world.trigger(LobbyFailed { entity, error });
    }
}

/// Takes everything that has arrived, in order.
pub(crate) fn receive(world: &mut World) {
    let mut lobbies = world.query_filtered::<Entity, With<LobbySession>>();
    let lobbies: Vec<_> = lobbies.iter(world).collect();
    for lobby in lobbies {
        // An observer may despawn the lobby in the middle.
        while let Some(taken) = take(world, lobby) {
            match taken {
                Taken::Event(event) => handle(world, lobby, event),
                Taken::Packet(packet) => deliver(world, lobby, &packet),
                Taken::Inputs(inputs) => rollback::take_inputs(world, lobby, &inputs),
            }
        }
    }
}

fn take(world: &mut World, lobby: Entity) -> Option<Taken> {
    let mut entity = world.get_entity_mut(lobby).ok()?;
    let mut session = entity.get_mut::<LobbySession>()?;
    Some(match session.bypass_change_detection().get_mut().poll()? {
        Polled::Event(event) => Taken::Event(event),
        Polled::Packet(packet) => Taken::Packet(packet),
        Polled::Inputs(inputs) => Taken::Inputs(inputs),
    })
}

fn deliver(world: &mut World, lobby: Entity, packet: &InboundPacket) {
    for message in packet.messages() {
        let Some(entity) = find(world, lobby, message.from) else {
            return;
        };
        let registry = world.resource::<MessageRegistry>();
        let reliable = registry.is_reliable(message.lane);
        let deliverer = registry.deliverer(message.id, message.lane);
        let result = deliverer.is_some_and(|(deliver, _)| {
            deliver(world, entity, message.from, message.payload).is_ok()
        });
        let counts = !result || deliverer.is_some_and(|(_, counts)| counts);
        if let Some(mut stats) = world.get_mut::<PeerStats>(entity)
            && counts
        {
            stats.messages_received += u64::from(result);
            stats.reliable_received += u64::from(result && reliable);
            stats.undecodable += u64::from(!result);
            if !result && stats.undecodable == 1 {
                tracing::warn!(peer = ?message.from, "a message could not be decoded");
            }
        }
    }
}

pub(crate) fn find(world: &World, lobby: Entity, peer: PeerId) -> Option<Entity> {
    world.get::<Roster>(lobby)?.entities.get(&peer).copied()
}

fn handle(world: &mut World, lobby: Entity, event: SessionEvent) {
    rollback::note(world, lobby, &event);
    match event {
        SessionEvent::Online { me } => {
            if let Some(mut roster) = world.get_mut::<Roster>(lobby) {
                roster.me = Some(me);
            }
            set_connection(world, lobby, LobbyConnection::Online);
            world.trigger(LobbyOnline { entity: lobby });
        }
        SessionEvent::Offline { why, retry_in } => {
            set_connection(world, lobby, LobbyConnection::Offline);
            tracing::warn!(why, ?retry_in, "the lobby server cannot be reached");
            world.trigger(LobbyOffline { entity: lobby, why, retry_in });
        }
        SessionEvent::Joined(state) => joined(world, lobby, state),
        SessionEvent::JoinRefused { code, text } => {
            fail_to_join(world, lobby, LobbyError::Refused { code, text });
        }
        SessionEvent::Removed(reason) => fail(world, lobby, LobbyError::Removed { reason }),
        SessionEvent::LobbyGone => {
            tracing::warn!("the lobby server no longer knows the lobby; asking for it again");
        }
        SessionEvent::Restored(state) => {
            host_changed(world, lobby, state.host);
            details(world, lobby, state);
        }
        SessionEvent::LobbyChanged(state) => details(world, lobby, state),
        SessionEvent::LobbyNews(news) => request::tell(world, lobby, news),
        SessionEvent::Saved(saved) => {
            if let Some(session) = world.get::<LobbySession>(lobby) {
                session.save(&saved);
            }
        }
        SessionEvent::HostChanged(host) => host_changed(world, lobby, host),
        SessionEvent::MatchBegins { start, running } => {
            match_time::begin(world, lobby, start, running);
        }
        SessionEvent::MatchPause(pause) => match_time::pause(world, lobby, pause),
        SessionEvent::StartFailed(error) => {
            tracing::warn!(%error, "the match does not begin");
            world.trigger(StartFailed { entity: lobby, error });
        }
        SessionEvent::Ended(reason) => {
            if reason == EndReason::Superseded
                && let Some(mut session) = world.get_mut::<LobbySession>(lobby)
            {
                session.bypass_change_detection().forget_file();
            }
            fail(world, lobby, reason.into());
        }
        event => lifecycle::handle(world, lobby, event),
    }
}

fn set_connection(world: &mut World, lobby: Entity, connection: LobbyConnection) {
    if let Some(mut current) = world.get_mut::<LobbyConnection>(lobby) {
        current.set_if_neq(connection);
    }
}

fn joined(world: &mut World, lobby: Entity, state: LobbyState) {
    let Some(me) = world.get::<Roster>(lobby).and_then(|roster| roster.me) else {
        return;
    };
    let component = Lobby {
        code: state.code,
        name: state.options.name.clone(),
        capacity: state.options.capacity,
        public: state.options.visibility == Visibility::Public,
        me,
        host: state.host,
        seats_kept: Duration::from_secs(state.options.seat_secs.into()),
    };
    tracing::info!(code = %component.code, members = state.members.len(), "joined a lobby");
    let components = (component, LobbyDetails(state), SyncStatus::default());
    world.entity_mut(lobby).insert(components);
    world.trigger(LobbyJoined { entity: lobby });
}

/// The lobby is another.
fn details(world: &mut World, lobby: Entity, state: LobbyState) {
    if let Some(mut known) = world.get_mut::<Lobby>(lobby) {
        let options = &state.options;
        let now = Lobby {
            name: options.name.clone(),
            capacity: options.capacity,
            public: options.visibility == Visibility::Public,
            seats_kept: Duration::from_secs(options.seat_secs.into()),
            ..known.clone()
        };
        known.set_if_neq(now);
        world.entity_mut(lobby).insert(LobbyDetails(state));
        world.trigger(LobbyChanged { entity: lobby });
    }
}

/// Another player leads.
fn host_changed(world: &mut World, lobby: Entity, host: PeerId) {
    if let Some(mut state) = world.get_mut::<Lobby>(lobby)
        && state.host != host
    {
        state.host = host;
        world.trigger(HostChanged { entity: lobby, host });
    }
}

/// A refusal after we were in: the server has lost the lobby. The match goes on without it; who was lost
/// has no seat to come back to.
fn fail_to_join(world: &mut World, lobby: Entity, error: LobbyError) {
    if let Some(mut state) = world.get_mut::<Lobby>(lobby) {
        state.seats_kept = Duration::ZERO;
        tracing::warn!(%error, "the lobby is gone; links to players live on");
        lifecycle::no_seats(world, lobby);
    } else {
        fail(world, lobby, error);
    }
}

/// Hands over what was written in this tick of a match, and in the frames before it.
pub(crate) fn flush_tick(lobbies: Query<&LobbySession, With<Match>>) {
    lobbies.iter().for_each(|session| session.lock().flush());
}

/// Hands over what was written in this frame, unless it can leave with a tick that is soon over.
pub(crate) fn flush_frame(
    lobbies: Query<(&LobbySession, Has<Match>)>,
    fixed_loop: Res<match_time::FixedLoop>,
) {
    for (session, in_match) in &lobbies {
        if !(in_match && fixed_loop.tick_is_near()) {
            session.lock().flush();
        }
    }
}

/// When a refusal was last logged.
#[derive(Default)]
pub(crate) struct LastLogged(Option<f64>);

/// Refreshes the peers' statistics, and logs refusals at most once a second.
pub(crate) fn refresh_stats(
    lobbies: Query<&LobbySession>,
    peers: Query<(Entity, &Peer, &PeerOf)>,
    mut stats: Query<&mut PeerStats>,
    mut counts: ResMut<SendCounts>,
    time: Option<Res<Time<Real>>>,
    mut last: Local<LastLogged>,
) {
    let refusal = counts.settle(&mut stats);
    for (entity, peer, lobby) in &peers {
        let link = lobbies.get(lobby.0).ok().and_then(|session| session.lock().stats(peer.id));
        if let (Some(link), Ok(mut stats)) = (link, stats.get_mut(entity)) {
            stats.link = link;
        }
    }
    if let Some((message, error)) = refusal {
        let now = time.map_or(0.0, |time| time.elapsed_secs_f64());
        if last.0.is_none_or(|before| now - before >= 1.0) {
            last.0 = Some(now);
            tracing::warn!(message, %error, "messages were refused");
        }
    }
}
