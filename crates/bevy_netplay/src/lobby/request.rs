//! What a game asks of its lobby, and what it hears of it.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use netplay_protocol::lobby::{
    Changes, ClientMessage, Entry, InviteToken, LobbySummary, OptionsChange, PlaceChange, Rejoin,
    Value,
};
use netplay_protocol::{DataKey, PeerId};
use netplay_transport::{CommandError, LobbyNews, Refused};
use thiserror::Error;

use super::LobbySession;

/// Names a request until [`LobbyAnswered`] says what has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// Why a request was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The entity is no lobby that is connected.
    #[error("there is no such lobby")]
    NoLobby,
    /// Too many requests, or the session is over.
    #[error(transparent)]
    Session(#[from] CommandError),
}

/// Asks for something in a lobby that we are in. Every request is answered by a [`LobbyAnswered`] on the lobby;
/// what it changes is in [`LobbyDetails`](crate::LobbyDetails) by then. What only the host may do is refused to
/// others.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::prelude::*;
/// fn ready(lobby: Single<Entity, With<Lobby>>, requests: LobbyRequests) -> Result {
///     requests.ready(*lobby, true)?;
///     requests.chat(*lobby, "good luck")?;
///     Ok(())
/// }
/// fn refused(answer: On<LobbyAnswered>) {
///     if let Err(refused) = &answer.result {
///         println!("{refused}");
///     }
/// }
/// ```
#[derive(SystemParam)]
pub struct LobbyRequests<'w, 's> {
    sessions: Query<'w, 's, &'static LobbySession>,
}

const NUMBER: u32 = 0;

impl LobbyRequests<'_, '_> {
    /// Asks for anything that the [protocol](netplay_protocol::lobby) has for members; the number in it does not
    /// matter.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was asked then. So do all others.
    pub fn ask(&self, lobby: Entity, message: ClientMessage) -> Result<RequestId, RequestError> {
        let session = self.sessions.get(lobby).map_err(|_| RequestError::NoLobby)?;
        Ok(RequestId(session.lock().request(message)?))
    }

    /// Says that we are ready, or not any more.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn ready(&self, lobby: Entity, ready: bool) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::Ready { ready })
    }

    /// Says something to all members, us included.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn chat(&self, lobby: Entity, text: impl Into<String>) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::Chat { request: NUMBER, text: text.into() })
    }

    /// Sets a value of ours, or removes it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn set_mine(
        &self,
        lobby: Entity,
        key: DataKey,
        value: Option<Value>,
    ) -> Result<RequestId, RequestError> {
        let changes = [(key, value)].into();
        self.ask(lobby, ClientMessage::SetMemberData { request: NUMBER, changes })
    }

    /// Host: sets a value of the lobby, or removes it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn set(
        &self,
        lobby: Entity,
        key: DataKey,
        entry: Option<Entry>,
    ) -> Result<RequestId, RequestError> {
        let changes = [(key, entry)].into();
        self.ask(lobby, ClientMessage::SetData { request: NUMBER, revision: None, changes })
    }

    /// Host: sets values of the lobby, or removes them, if nobody was faster: if they are still those of this
    /// [`revision`](netplay_protocol::lobby::LobbyState::revision). Else the answer is
    /// [`ErrorCode::Conflict`](crate::ErrorCode::Conflict).
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn set_all_if(
        &self,
        lobby: Entity,
        revision: u64,
        changes: Changes<Entry>,
    ) -> Result<RequestId, RequestError> {
        let revision = Some(revision);
        self.ask(lobby, ClientMessage::SetData { request: NUMBER, revision, changes })
    }

    /// Host: what the lobby is like.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn update(&self, lobby: Entity, change: OptionsChange) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::Update { request: NUMBER, change })
    }

    /// Puts us on another seat, into a team, among those who watch; the host: anybody.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn place(
        &self,
        lobby: Entity,
        peer: PeerId,
        change: PlaceChange,
    ) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::Place { request: NUMBER, peer, change })
    }

    /// Host: puts a member out.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn kick(
        &self,
        lobby: Entity,
        peer: PeerId,
        rejoin: Rejoin,
    ) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::Kick { request: NUMBER, peer, rejoin })
    }

    /// Host: lets somebody come back who was put out.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn unban(&self, lobby: Entity, peer: PeerId) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::Unban { request: NUMBER, peer })
    }

    /// Host: keeps seats for these, and for nobody else any more. A seat is for who has this id, and for who comes
    /// with an [invitation](Self::invite) for it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn reserve(
        &self,
        lobby: Entity,
        peers: Vec<PeerId>,
        time: Duration,
    ) -> Result<RequestId, RequestError> {
        let secs = u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        self.ask(lobby, ClientMessage::Reserve { request: NUMBER, peers, secs })
    }

    /// Host: lets another member lead.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn promote(&self, lobby: Entity, peer: PeerId) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::Promote { request: NUMBER, peer })
    }

    /// Makes an invitation for whoever has it, or for somebody who is told by [`LobbyInvited`]; the answer comes with
    /// a [`LobbyInvitation`]. One for somebody lets in that player, and one session that stands for it: its next
    /// [`JoinLobby`](crate::JoinLobby) is one. At most an hour.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn invite(
        &self,
        lobby: Entity,
        to: Option<PeerId>,
        good_for: Duration,
    ) -> Result<RequestId, RequestError> {
        let secs = u16::try_from(good_for.as_secs()).unwrap_or(u16::MAX);
        self.ask(lobby, ClientMessage::Invite { request: NUMBER, to, secs })
    }

    /// Host: asks all players whether they are ready.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn ready_check(&self, lobby: Entity, time: Duration) -> Result<RequestId, RequestError> {
        let secs = u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        self.ask(lobby, ClientMessage::ReadyCheck { request: NUMBER, secs })
    }

    /// Host: the match begins after this time, unless a player goes or is not ready any more.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn countdown(&self, lobby: Entity, time: Duration) -> Result<RequestId, RequestError> {
        let ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        self.ask(lobby, ClientMessage::Countdown { request: NUMBER, ms })
    }

    /// Host: stops the countdown.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn cancel_countdown(&self, lobby: Entity) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::CancelCountdown { request: NUMBER })
    }

    /// Host: says that the match runs, or not any more: whether lists show it, and who may come late.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn set_playing(&self, lobby: Entity, playing: bool) -> Result<RequestId, RequestError> {
        self.ask(lobby, ClientMessage::SetPlaying { request: NUMBER, playing })
    }
}

/// What has become of a request.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyAnswered {
    /// The lobby.
    pub entity: Entity,
    /// Which.
    pub request: RequestId,
    /// Done, or why not.
    pub result: Result<(), Refused>,
}

/// A member, perhaps we, says something.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyChat {
    /// The lobby.
    pub entity: Entity,
    /// Who.
    pub from: PeerId,
    /// What.
    pub text: String,
}

/// An invitation that we have asked for.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyInvitation {
    /// The lobby.
    pub entity: Entity,
    /// By which request.
    pub request: RequestId,
    /// With which somebody gets in: [`JoinLobby::invited`](crate::JoinLobby::invited). A secret.
    pub invite: InviteToken,
}

/// A member of another lobby invites us. To go there, despawn the lobby that we are in, and spawn
/// [`JoinLobby::code`](crate::JoinLobby::code) with [`invited`](crate::JoinLobby::invited).
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyInvited {
    /// The lobby that we are in.
    pub entity: Entity,
    /// Who.
    pub from: PeerId,
    /// Where.
    pub lobby: LobbySummary,
    /// With which we get in.
    pub invite: InviteToken,
}

/// How far the beginning of a match is.
#[derive(EntityEvent, Clone, Debug)]
pub struct LobbyStart {
    /// The lobby.
    pub entity: Entity,
    /// How far.
    pub step: StartStep,
}

/// A step towards a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartStep {
    /// The host asks whether all players are ready; they have so long.
    ReadyCheck(Duration),
    /// All are.
    AllReady,
    /// These are not.
    NotReady(Vec<PeerId>),
    /// The match begins after this time.
    Countdown(Duration),
    /// It does not.
    Cancelled,
    /// The match runs. The host begins it, with [`StartMatch`](crate::StartMatch).
    Playing,
    /// It does not run any more.
    Over,
}

/// Tells the game.
pub(crate) fn tell(world: &mut World, entity: Entity, news: LobbyNews) {
    let step = match news {
        LobbyNews::Answered { id, refused } => {
            let result = refused.map_or(Ok(()), Err);
            return world.trigger(LobbyAnswered { entity, request: RequestId(id), result });
        }
        LobbyNews::Chat { from, text } => return world.trigger(LobbyChat { entity, from, text }),
        LobbyNews::Invitation { id, invite } => {
            return world.trigger(LobbyInvitation { entity, request: RequestId(id), invite });
        }
        LobbyNews::Invited { from, lobby, invite } => {
            return world.trigger(LobbyInvited { entity, from, lobby, invite });
        }
        LobbyNews::ReadyCheckBegins { time } => StartStep::ReadyCheck(time),
        LobbyNews::ReadyCheckEnds { missing } if missing.is_empty() => StartStep::AllReady,
        LobbyNews::ReadyCheckEnds { missing } => StartStep::NotReady(missing),
        LobbyNews::CountdownBegins { time } => StartStep::Countdown(time),
        LobbyNews::CountdownCancelled => StartStep::Cancelled,
        LobbyNews::Playing(true) => StartStep::Playing,
        LobbyNews::Playing(false) => StartStep::Over,
    };
    world.trigger(LobbyStart { entity, step });
}
