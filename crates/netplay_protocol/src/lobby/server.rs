//! What the server says.

use serde::{Deserialize, Serialize};

use super::{
    Changes, Entry, ErrorCode, InviteToken, LobbyOptions, LobbyState, LobbySummary, Member,
    MessageError, ResumeToken, Signal, Value, check_lobby_data, check_member_data, parse, render,
    render_into,
};
use crate::ids::PeerId;
use crate::limits::{LOBBY_FRAME_MAX, LOBBY_MEMBERS_MAX, LOBBY_SPECTATORS_MAX};

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answer to `hello`. Its frame has number 0.
    Welcome {
        /// The player's id.
        peer: PeerId,
        /// The secret for a resume.
        token: ResumeToken,
        /// Whether this is the session that was asked for.
        session: SessionKind,
        /// Of a restored session: the lobby that the player is in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lobby: Option<LobbyState>,
        /// How long a session outlives its connection, in milliseconds.
        grace_ms: u32,
        /// How often the server wants to hear from the player at least, in milliseconds.
        keep_alive_ms: u32,
    },
    /// Answer to `create`, `join` and `quick_join`.
    Joined {
        /// The player's number for it.
        request: u32,
        /// The lobby, the player included.
        lobby: LobbyState,
    },
    /// Answer to `search`.
    Lobbies {
        /// The player's number for it.
        request: u32,
        /// Those that fit, in the order that was asked for.
        lobbies: Vec<LobbySummary>,
        /// Whether others come after these.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        more: bool,
    },
    /// Answer to `leave`.
    Left {
        /// The player's number for it.
        request: u32,
    },
    /// Answer to all other requests: it has happened, and everybody has been told.
    Done {
        /// The player's number for it.
        request: u32,
    },
    /// Answer to `invite`.
    Invitation {
        /// The player's number for it.
        request: u32,
        /// With which somebody gets in.
        invite: InviteToken,
    },
    /// A member of another lobby invites us.
    Invited {
        /// Who.
        from: PeerId,
        /// Where.
        lobby: LobbySummary,
        /// With which we get in.
        invite: InviteToken,
    },
    /// The lobby is another.
    OptionsChanged {
        /// What it is like.
        options: LobbyOptions,
        /// Whether it has a password.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        password: bool,
    },
    /// Values of the lobby have changed, as far as the receiver may see them.
    DataChanged {
        /// How often they have.
        revision: u64,
        /// Which.
        changes: Changes<Entry>,
    },
    /// Another member joined.
    MemberJoined {
        /// Who.
        member: Member,
    },
    /// A member has other values, or another place.
    MemberChanged {
        /// Who, and what it is now.
        member: Member,
    },
    /// Another member is gone.
    MemberLeft {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: LeaveReason,
    },
    /// We are not in our lobby any more.
    Removed {
        /// Why.
        reason: LeaveReason,
    },
    /// The server lost its connection to a member; the member may come back.
    MemberOffline {
        /// Who.
        peer: PeerId,
    },
    /// The member's connection is back, or its game was started anew.
    MemberOnline {
        /// Who.
        peer: PeerId,
        /// Which start of its game this is.
        epoch: u32,
    },
    /// Another member leads the lobby now.
    HostChanged {
        /// Who.
        host: PeerId,
        /// Greater with every other host: a larger number is newer.
        term: u32,
    },
    /// A member is ready, or not any more.
    MemberReady {
        /// Who.
        peer: PeerId,
        /// Which.
        ready: bool,
    },
    /// The host asks whether all players are ready; nobody is until it says so.
    ReadyCheckBegins {
        /// How long they have, in milliseconds.
        ms: u32,
    },
    /// It is over.
    ReadyCheckEnds {
        /// Whether all are ready.
        passed: bool,
        /// Who is not.
        missing: Vec<PeerId>,
    },
    /// The match begins after this time.
    CountdownBegins {
        /// In milliseconds.
        ms: u32,
    },
    /// It does not: the host has cancelled it, or a player is gone, offline, or not ready any more.
    CountdownCancelled,
    /// The match runs, or not any more. After a countdown: the host begins it now.
    Playing {
        /// Which.
        playing: bool,
    },
    /// A member, perhaps the receiver, says something.
    Chat {
        /// Who.
        from: PeerId,
        /// What.
        text: String,
    },
    /// From another member.
    Signal {
        /// The sender, as the server knows it.
        from: PeerId,
        /// As it was sent.
        signal: Signal,
    },
    /// The secret for a resume from now on; the ones before stay valid for a while.
    Token {
        /// The secret.
        token: ResumeToken,
    },
    /// Answer to `keep_alive`, so that a player notices a server that has gone silent. Its frame has
    /// number 0.
    Alive,
    /// Something was refused.
    Error {
        /// The player's number for what was refused, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<u32>,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: String,
        /// When trying again makes sense, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u32>,
    },
}

/// A numbered message of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFrame {
    /// Counts up from 1 within a session; 0 for what belongs to the connection and not to the session:
    /// `welcome`, `alive`, errors before `welcome`, and the error before the server closes.
    pub seq: u64,
    /// What it says.
    pub message: ServerMessage,
}

/// Which session a player has after its hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// A new one, with another id than any before.
    New,
    /// The one that was asked for; the missed frames follow.
    Continued,
    /// The one that was asked for, as far as it is known: the game or the server was started anew.
    /// Frames count from 1 again, and the lobby is in the welcome.
    Restored,
}

/// Why a member is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// It left on purpose.
    Left,
    /// It did not come back within the grace time.
    TimedOut,
    /// Every other member lost it while the server had no connection to it.
    Lost,
    /// The host has put it out.
    Kicked,
    /// The host has put it out, and it may not come back.
    Banned,
    /// The lobby is closed: it was open for as long as lobbies are, or who runs the server did it.
    Closed,
}

impl ServerFrame {
    /// Reads and checks one frame. A list of lobbies is what is largest, and it is bounded too.
    ///
    /// # Errors
    /// [`MessageError`]: too large, malformed, or a field out of its range.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        let frame: Self = parse(text, LOBBY_FRAME_MAX)?;
        match &frame.message {
            ServerMessage::Joined { lobby, .. }
            | ServerMessage::Welcome { lobby: Some(lobby), .. } => check_state(lobby)?,
            ServerMessage::MemberJoined { member } | ServerMessage::MemberChanged { member } => {
                check_member_data(&member.data)?;
            }
            ServerMessage::OptionsChanged { options, .. } => options.check()?,
            ServerMessage::Lobbies { lobbies, .. } => {
                lobbies
                    .iter()
                    .try_for_each(|lobby| lobby.data.values().try_for_each(Value::check))?;
            }
            ServerMessage::Signal { signal, .. } => signal.check()?,
            _ => {}
        }
        Ok(frame)
    }

    /// Writes the frame.
    pub fn to_json(&self) -> String {
        render(self)
    }

    /// Appends the frame to a text, as [`Self::to_json`] writes it.
    pub fn write_json(&self, text: &mut Vec<u8>) {
        render_into(self, text);
    }
}

fn check_state(lobby: &LobbyState) -> Result<(), MessageError> {
    lobby.options.check()?;
    if lobby.members.len() > usize::from(LOBBY_MEMBERS_MAX + LOBBY_SPECTATORS_MAX) {
        return Err(MessageError::Range { field: "members" });
    }
    lobby.members.iter().try_for_each(|member| check_member_data(&member.data))?;
    check_lobby_data(&lobby.data)
}
