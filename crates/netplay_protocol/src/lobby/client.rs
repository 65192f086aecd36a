//! What a player says.

use serde::{Deserialize, Serialize};

use super::{
    Changes, Entry, Filter, LobbyData, LobbyOptions, MemberData, MessageError, OptionsChange,
    PlaceChange, Search, Signal, Value, check_filters, check_lobby_data, check_member_data,
    check_password, parse, render,
};
use crate::PROTOCOL_VERSION;
use crate::ids::{BuildId, GameId, LobbyCode, PeerId};
use crate::limits::{
    CHAT_MAX, COUNTDOWN_MAX, DATA_KEYS_MAX, LOBBY_MEMBERS_MAX, LOBBY_MESSAGE_MAX, LOGIN_MAX,
    MEMBER_DATA_KEYS_MAX, READY_CHECK_MAX, RESERVATION_MAX,
};

/// The secret with which a session is taken up again: after a dropped socket, after a restart of the
/// game, and after a restart of the server, which reads in it what it has to know. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResumeToken(pub String);

/// With which somebody gets into a lobby that it could not enter else. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InviteToken(pub String);

/// What who comes has to know. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

/// What the server has signed for one player to come in with, once. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JoinTicket(pub String);

/// A JSON Web Token (RFC 7519) in its compact form, of an issuer that who runs the server trusts. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Jwt(pub String);

macro_rules! secret {
    ($($name:ident)*) => {$(
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )*};
}

secret!(ResumeToken InviteToken Password JoinTicket Jwt);

/// With which a player shows who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// By a ticket of this server.
    Ticket(JoinTicket),
    /// By a token of somebody whom this server trusts.
    Jwt(Jwt),
}

impl Login {
    fn check(&self) -> Result<(), MessageError> {
        let (Self::Ticket(JoinTicket(text)) | Self::Jwt(Jwt(text))) = self;
        range(text.len() <= LOGIN_MAX, "login")
    }
}

/// Which session to take up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The session's peer id.
    pub peer: PeerId,
    /// Its secret.
    pub token: ResumeToken,
    /// The number of the last frame that arrived.
    pub seen: u64,
    /// The game was started anew: it knows nothing of the session but this.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub restart: bool,
}

/// What else a new lobby begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateWith {
    /// What who comes has to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Its values.
    #[serde(skip_serializing_if = "LobbyData::is_empty")]
    pub data: LobbyData,
    /// What its first member says about itself.
    #[serde(skip_serializing_if = "MemberData::is_empty")]
    pub member: MemberData,
}

/// With what a player comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinWith {
    /// The lobby's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// An invitation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite: Option<InviteToken>,
    /// Only to watch.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub spectate: bool,
    /// What it says about itself.
    #[serde(skip_serializing_if = "MemberData::is_empty")]
    pub member: MemberData,
}

/// How a member that is put out may come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejoin {
    /// As anybody.
    #[default]
    Free,
    /// With an invitation that was made since.
    Invited,
    /// Not at all: it is banned.
    Never,
}

/// What a player says to the server. `request` is chosen by the player and repeated in the answer, which is
/// [`Done`](super::ServerMessage::Done) if there is nothing else to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// First message: who I am.
    Hello {
        /// [`crate::PROTOCOL_VERSION`].
        protocol: u16,
        /// Which game's lobbies.
        game: GameId,
        /// Which build of it: players of other builds are not seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        build: Option<BuildId>,
        /// The session to take up again, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<Resume>,
        /// Who I am, if it is a new session. A session that is taken up has said it before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login: Option<Login>,
    },
    /// Create a lobby and be its host.
    Create {
        /// See [`ClientMessage`].
        request: u32,
        /// What it is like.
        options: LobbyOptions,
        /// What it begins with.
        #[serde(flatten)]
        with: CreateWith,
    },
    /// Join the lobby with this code.
    Join {
        /// See [`ClientMessage`].
        request: u32,
        /// The lobby's code.
        code: LobbyCode,
        /// With what.
        #[serde(flatten)]
        with: JoinWith,
    },
    /// Join a public lobby with this capacity and without a password, or create one; atomic.
    QuickJoin {
        /// See [`ClientMessage`].
        request: u32,
        /// What it is like if it has to be created; its capacity is looked for.
        options: LobbyOptions,
        /// What else must hold.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        filters: Vec<Filter>,
        /// What it begins with if it has to be created.
        #[serde(flatten)]
        with: CreateWith,
    },
    /// Show public lobbies that somebody could join.
    Search {
        /// See [`ClientMessage`].
        request: u32,
        /// Which.
        #[serde(flatten)]
        search: Search,
    },
    /// Leave the lobby.
    Leave {
        /// See [`ClientMessage`].
        request: u32,
    },
    /// Host: the lobby is another.
    Update {
        /// See [`ClientMessage`].
        request: u32,
        /// In what.
        change: OptionsChange,
    },
    /// Host: set and remove values of the lobby.
    SetData {
        /// See [`ClientMessage`].
        request: u32,
        /// Only if they have changed as often as this, else it is a conflict.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
        /// Which.
        changes: Changes<Entry>,
    },
    /// Set and remove values of mine.
    SetMemberData {
        /// See [`ClientMessage`].
        request: u32,
        /// Which.
        changes: Changes<Value>,
    },
    /// Put myself somewhere else; the host: any member.
    Place {
        /// See [`ClientMessage`].
        request: u32,
        /// Whom.
        peer: PeerId,
        /// Where.
        change: PlaceChange,
    },
    /// I am ready, or not any more.
    Ready {
        /// Which.
        ready: bool,
    },
    /// Host: ask all players whether they are ready. Nobody is until it says so.
    ReadyCheck {
        /// See [`ClientMessage`].
        request: u32,
        /// How long they have, in seconds.
        secs: u16,
    },
    /// Host: begin the match after this time.
    Countdown {
        /// See [`ClientMessage`].
        request: u32,
        /// In milliseconds.
        ms: u32,
    },
    /// Host: do not.
    CancelCountdown {
        /// See [`ClientMessage`].
        request: u32,
    },
    /// Host: the match runs, or not any more.
    SetPlaying {
        /// See [`ClientMessage`].
        request: u32,
        /// Which.
        playing: bool,
    },
    /// Host: put a member out.
    Kick {
        /// See [`ClientMessage`].
        request: u32,
        /// Whom.
        peer: PeerId,
        /// How it may come back.
        #[serde(default)]
        rejoin: Rejoin,
    },
    /// Host: let somebody come back as anybody.
    Unban {
        /// See [`ClientMessage`].
        request: u32,
        /// Whom.
        peer: PeerId,
    },
    /// Host: let another member lead.
    Promote {
        /// See [`ClientMessage`].
        request: u32,
        /// Whom.
        peer: PeerId,
    },
    /// Host: keep seats for these.
    Reserve {
        /// See [`ClientMessage`].
        request: u32,
        /// For whom. It replaces what was reserved before.
        peers: Vec<PeerId>,
        /// How long, in seconds.
        secs: u16,
    },
    /// Make an invitation. In lobbies that are not public only the host can.
    Invite {
        /// See [`ClientMessage`].
        request: u32,
        /// Whom to tell, if it is there; else whoever has the token may use it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<PeerId>,
        /// How long it is good, in seconds.
        secs: u16,
    },
    /// Say something to all members.
    Chat {
        /// See [`ClientMessage`].
        request: u32,
        /// What.
        text: String,
    },
    /// Hand this to another member of my lobby.
    Signal {
        /// The receiver.
        to: PeerId,
        /// Passed on as it is.
        signal: Signal,
    },
    /// I have lost my link to this member.
    ReportLost {
        /// The member.
        peer: PeerId,
    },
    /// I am here, and have received every frame up to this one. The answer is
    /// [`Alive`](super::ServerMessage::Alive).
    KeepAlive {
        /// The number of the last frame that arrived.
        seen: u64,
    },
    /// I will not come back: end my session.
    Goodbye,
}

impl CreateWith {
    fn check(&self) -> Result<(), MessageError> {
        self.password.as_ref().map_or(Ok(()), |password| check_password(&password.0))?;
        check_lobby_data(&self.data)?;
        check_member_data(&self.member)
    }
}

impl JoinWith {
    fn check(&self) -> Result<(), MessageError> {
        self.password.as_ref().map_or(Ok(()), |password| check_password(&password.0))?;
        check_member_data(&self.member)
    }
}

fn range(fits: bool, field: &'static str) -> Result<(), MessageError> {
    if fits { Ok(()) } else { Err(MessageError::Range { field }) }
}

/// The number in a message, if it has one.
macro_rules! number {
    ($message:expr) => {
        match $message {
            Self::Create { request, .. }
            | Self::Join { request, .. }
            | Self::QuickJoin { request, .. }
            | Self::Search { request, .. }
            | Self::Leave { request }
            | Self::Update { request, .. }
            | Self::SetData { request, .. }
            | Self::SetMemberData { request, .. }
            | Self::Place { request, .. }
            | Self::ReadyCheck { request, .. }
            | Self::Countdown { request, .. }
            | Self::CancelCountdown { request }
            | Self::SetPlaying { request, .. }
            | Self::Kick { request, .. }
            | Self::Unban { request, .. }
            | Self::Promote { request, .. }
            | Self::Reserve { request, .. }
            | Self::Invite { request, .. }
            | Self::Chat { request, .. } => Some(request),
            Self::Hello { .. }
            | Self::Ready { .. }
            | Self::Signal { .. }
            | Self::ReportLost { .. }
            | Self::KeepAlive { .. }
            | Self::Goodbye => None,
        }
    };
}

impl ClientMessage {
    /// The first message of a player whose build does not matter.
    pub const fn hello(game: GameId, resume: Option<Resume>) -> Self {
        Self::Hello { protocol: PROTOCOL_VERSION, game, build: None, resume, login: None }
    }

    /// A new lobby, and nothing else.
    pub fn create(request: u32, options: LobbyOptions) -> Self {
        Self::Create { request, options, with: CreateWith::default() }
    }

    /// As a player, with nothing but the code.
    pub fn join(request: u32, code: LobbyCode) -> Self {
        Self::Join { request, code, with: JoinWith::default() }
    }

    /// Any lobby of this capacity, or a new one.
    pub fn quick_join(request: u32, options: LobbyOptions) -> Self {
        Self::QuickJoin { request, options, filters: Vec::new(), with: CreateWith::default() }
    }

    /// All that are open.
    pub fn search(request: u32) -> Self {
        Self::Search { request, search: Search::default() }
    }

    /// Reads and checks one message.
    ///
    /// # Errors
    /// [`MessageError`]: too large, malformed, or a field out of its range.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        let message: Self = parse(text, LOBBY_MESSAGE_MAX)?;
        message.check()?;
        Ok(message)
    }

    /// Checks that every field is within its range, as [`Self::from_json`] does.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Create { options, with, .. } => {
                options.check()?;
                with.check()
            }
            Self::QuickJoin { options, filters, with, .. } => {
                options.check()?;
                with.check()?;
                check_filters(filters)
            }
            Self::Join { with, .. } => with.check(),
            Self::Search { search, .. } => search.check(),
            Self::SetData { changes, .. } => {
                range(changes.len() <= 2 * DATA_KEYS_MAX, "changes")?;
                changes.values().flatten().try_for_each(|entry| entry.value.check())
            }
            Self::SetMemberData { changes, .. } => {
                range(changes.len() <= 2 * MEMBER_DATA_KEYS_MAX, "changes")?;
                changes.values().flatten().try_for_each(Value::check)
            }
            Self::Place { change, .. } => change.check(),
            Self::ReadyCheck { secs, .. } => range((1..=READY_CHECK_MAX).contains(secs), "secs"),
            Self::Countdown { ms, .. } => range(*ms <= COUNTDOWN_MAX, "ms"),
            Self::Reserve { peers, secs, .. } => {
                range(peers.len() <= usize::from(LOBBY_MEMBERS_MAX), "peers")?;
                range(*secs <= RESERVATION_MAX, "secs")
            }
            Self::Invite { secs, .. } => range((1..=RESERVATION_MAX).contains(secs), "secs"),
            Self::Chat { text, .. } => {
                range(!text.is_empty() && text.len() <= CHAT_MAX, "text")?;
                range(!text.chars().any(|c| c.is_control() && c != '\n'), "text")
            }
            Self::Signal { signal, .. } => signal.check(),
            Self::Hello { login, .. } => login.as_ref().map_or(Ok(()), Login::check),
            Self::Leave { .. }
            | Self::Update { .. }
            | Self::Ready { .. }
            | Self::CancelCountdown { .. }
            | Self::SetPlaying { .. }
            | Self::Kick { .. }
            | Self::Unban { .. }
            | Self::Promote { .. }
            | Self::ReportLost { .. }
            | Self::KeepAlive { .. }
            | Self::Goodbye => Ok(()),
        }
    }

    /// The same with this number, if it has one.
    #[must_use]
    pub fn numbered(mut self, number: u32) -> Self {
        if let Some(request) = number!(&mut self) {
            *request = number;
        }
        self
    }

    /// The player's number for it, if it has one.
    pub fn request(&self) -> Option<u32> {
        number!(self).copied()
    }

    /// Writes the message.
    pub fn to_json(&self) -> String {
        render(self)
    }
}
