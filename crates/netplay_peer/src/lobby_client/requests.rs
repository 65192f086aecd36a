//! What a game asks of its lobby, and what it is told.
//!
//! Guaranteed: every request gets one answer, also if it, or the answer, is lost with a socket; then it says
//! [`ErrorCode::SessionGone`], and it may have been done or not.

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::PeerId;
use netplay_protocol::lobby::{ClientMessage, ErrorCode, InviteToken, LobbySummary, ServerMessage};

use super::LobbyClient;
use super::io::LobbyEvent;

/// Requests that wait for an answer at most. Players click; the server takes ten a second.
const REQUESTS_MAX: usize = 64;

/// Something that happened in the lobby, beside what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LobbyNews {
    /// A member, perhaps we, says something.
    Chat {
        /// Who.
        from: PeerId,
        /// What.
        text: String,
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
    /// The invitation that was asked for.
    Invitation {
        /// By which request.
        id: u64,
        /// With which somebody gets in.
        invite: InviteToken,
    },
    /// The host asks whether all players are ready.
    ReadyCheckBegins {
        /// How long they have.
        time: Duration,
    },
    /// It is over.
    ReadyCheckEnds {
        /// Who is not ready; nobody: it passed.
        missing: Vec<PeerId>,
    },
    /// The match begins after this time.
    CountdownBegins {
        /// From now.
        time: Duration,
    },
    /// It does not.
    CountdownCancelled,
    /// The match runs, or not any more.
    Playing(bool),
    /// A request is answered.
    Answered {
        /// Which.
        id: u64,
        /// Why it is refused, if it is.
        refused: Option<Refused>,
    },
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub text: String,
    /// When trying again makes sense, if it does.
    pub retry_after: Option<Duration>,
}

impl Refused {
    fn plain(code: ErrorCode) -> Self {
        Self { code, text: code.to_string(), retry_after: None }
    }
}

/// Requests without an answer yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The game's number for it, by the one that the server knows.
    asked: BTreeMap<u32, u64>,
    /// The newest that the socket of before may have lost, until the server has said what it knows.
    doubtful: Option<u32>,
}

impl LobbyClient {
    /// Says something to the server for the game, which hears of it by this number of its own.
    pub(super) fn request(&mut self, id: u64, message: &ClientMessage) {
        if self.pending.asked.len() >= REQUESTS_MAX {
            return self.answered(id, Some(Refused::plain(ErrorCode::RateLimited)));
        }
        if !self.is_online() {
            return self.answered(id, Some(Refused::plain(ErrorCode::NotInLobby)));
        }
        let number = self.next_request();
        let message = message.clone().numbered(number);
        if let Err(error) = message.check() {
            let text = error.to_string();
            let refused = Refused { text, ..Refused::plain(ErrorCode::Malformed) };
            return self.answered(id, Some(refused));
        }
        // Saying whether one is ready has no answer of its own.
        if message.request().is_some() {
            self.pending.asked.insert(number, id);
        }
        self.send(&message);
        if message.request().is_none() {
            self.answered(id, None);
        }
    }

    fn answered(&mut self, id: u64, refused: Option<Refused>) {
        self.event(LobbyEvent::News(LobbyNews::Answered { id, refused }));
    }

    /// An answer to a request of the game. Whether it is one.
    pub(super) fn answer(&mut self, number: u32, refused: Option<Refused>) -> bool {
        let id = self.pending.asked.remove(&number);
        if let Some(id) = id {
            self.answered(id, refused);
        }
        id.is_some()
    }

    /// What was under way when the socket was lost may never have come. Answers to what came follow the
    /// welcome, and the answer to a keep-alive follows those.
    pub(super) fn doubt_requests(&mut self) {
        self.pending.doubtful = self.pending.asked.keys().next_back().copied();
        if self.pending.doubtful.is_some() {
            self.seen();
        }
    }

    /// The server has said all that it knows of the requests before.
    pub(super) fn drop_doubtful(&mut self) {
        if let Some(newest) = self.pending.doubtful.take() {
            self.lose(|number| number <= newest);
        }
    }

    /// The session of before is over.
    pub(super) fn drop_requests(&mut self) {
        self.pending.doubtful = None;
        self.lose(|_| true);
    }

    fn lose(&mut self, which: impl Fn(u32) -> bool) {
        let lost: Vec<_> = self.pending.asked.extract_if(.., |number, _| which(*number)).collect();
        for (_, id) in lost {
            self.answered(id, Some(Refused::plain(ErrorCode::SessionGone)));
        }
    }

    /// Takes what the server tells of the lobby that we are in.
    pub(super) fn told(&mut self, message: ServerMessage) {
        if let (Some(lobby), Some(session)) = (&mut self.lobby, &self.session)
            && lobby.apply(session.peer, &message)
        {
            let lobby = lobby.clone();
            self.event(LobbyEvent::Changed(lobby));
        }
        let time = |ms: u32| Duration::from_millis(ms.into());
        let news = match message {
            ServerMessage::MemberJoined { member } => {
                return self.event(LobbyEvent::MemberJoined(member.peer, member.epoch));
            }
            ServerMessage::MemberLeft { peer, reason } => {
                return self.event(LobbyEvent::MemberLeft(peer, reason));
            }
            ServerMessage::MemberOffline { peer } => {
                return self.event(LobbyEvent::MemberOffline(peer));
            }
            ServerMessage::MemberOnline { peer, epoch } => {
                return self.event(LobbyEvent::MemberOnline(peer, epoch));
            }
            ServerMessage::HostChanged { host, .. } => {
                return self.event(LobbyEvent::HostChanged(host));
            }
            ServerMessage::Chat { from, text } => LobbyNews::Chat { from, text },
            ServerMessage::Invited { from, lobby, invite } => {
                LobbyNews::Invited { from, lobby, invite }
            }
            ServerMessage::ReadyCheckBegins { ms } => {
                LobbyNews::ReadyCheckBegins { time: time(ms) }
            }
            ServerMessage::ReadyCheckEnds { missing, .. } => LobbyNews::ReadyCheckEnds { missing },
            ServerMessage::CountdownBegins { ms } => LobbyNews::CountdownBegins { time: time(ms) },
            ServerMessage::CountdownCancelled => LobbyNews::CountdownCancelled,
            ServerMessage::Playing { playing } => LobbyNews::Playing(playing),
            _ => return,
        };
        self.event(LobbyEvent::News(news));
    }

    /// The invitation that was asked for.
    pub(super) fn invitation(&mut self, number: u32, invite: InviteToken) {
        if let Some(id) = self.pending.asked.get(&number).copied() {
            self.event(LobbyEvent::News(LobbyNews::Invitation { id, invite }));
            self.answer(number, None);
        }
    }
}
