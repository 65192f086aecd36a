//! Greeting, resuming and ending sessions.

use netplay_protocol::lobby::{
    ErrorCode, LeaveReason, Resume, ResumeToken, ServerFrame, ServerMessage,
};
use netplay_protocol::{GameId, LobbyCode, Now, PROTOCOL_VERSION, PeerId};
use rand_core::Rng;

use super::{Directory, Output, Phase, Refusal, Timer};
use crate::config::millis;
use crate::io::ConnectionId;
use crate::log::FrameLog;

/// One player, with or without a connection.
pub(super) struct Session {
    pub(super) game: GameId,
    token: ResumeToken,
    pub(super) presence: Presence,
    pub(super) lobby: Option<LobbyCode>,
    pub(super) log: FrameLog,
}

/// Whether a session has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Online(ConnectionId),
    Offline { until: Now },
}

impl Directory {
    pub(super) fn hello(
        &mut self,
        now: Now,
        connection: ConnectionId,
        protocol: u16,
        game: GameId,
        resume: Option<Resume>,
    ) {
        if protocol != PROTOCOL_VERSION {
            let text = format!(
                "the client speaks version {protocol} of Netplay's protocol, this server version \
                 {PROTOCOL_VERSION}; update the older one"
            );
            return self.fail(now, connection, Refusal::new(ErrorCode::Version, text));
        }
        if let Some(resume) = resume
            && let Some(session) = self.sessions.get(&resume.peer)
            && session.game == game
            && same_secret(&session.token, &resume.token)
        {
            if session.log.after(resume.seen).is_some() {
                return self.take_up(now, connection, resume);
            }
            // Its owner is here, but frames that it needs are gone: it starts anew.
            self.supersede(resume.peer);
            self.end(resume.peer, LeaveReason::TimedOut);
        }
        self.begin(now, connection, game);
    }

    fn begin(&mut self, now: Now, connection: ConnectionId, game: GameId) {
        if self.sessions.len() >= self.config.max_sessions {
            return self.fail(now, connection, self.full());
        }
        let peer = loop {
            let peer = PeerId::from_u128(self.random());
            if !self.sessions.contains_key(&peer) {
                break peer;
            }
        };
        let session = Session {
            game,
            token: ResumeToken(format!("{:032x}", self.random())),
            presence: Presence::Online(connection),
            lobby: None,
            log: FrameLog::default(),
        };
        self.sessions.insert(peer, session);
        self.welcome(now, connection, peer, false);
    }

    fn take_up(&mut self, now: Now, connection: ConnectionId, resume: Resume) {
        let peer = resume.peer;
        let was_offline = !self.supersede(peer);
        self.confirm(peer, resume.seen);
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        session.presence = Presence::Online(connection);
        let lobby = session.lobby;
        self.welcome(now, connection, peer, true);
        if let Some(session) = self.sessions.get(&peer)
            && let Some(missed) = session.log.after(resume.seen)
        {
            let send = |frame: &ServerFrame| Output::Send { connection, frame: frame.clone() };
            self.outputs.extend(missed.map(send));
        }
        if let Some(code) = lobby
            && was_offline
        {
            self.lobbies.change(code, |lobby| lobby.set_online(peer, true));
            self.tell_others(code, peer, &ServerMessage::MemberOnline { peer });
            // Its report may be the only one that counts now.
            self.drop_lost(code);
        }
    }

    pub(super) fn presence(&self, peer: PeerId) -> Option<Presence> {
        self.sessions.get(&peer).map(|session| session.presence)
    }

    /// Frees a session from its connection, or from its timer. Whether it had a connection.
    fn supersede(&mut self, peer: PeerId) -> bool {
        match self.presence(peer) {
            Some(Presence::Online(older)) => {
                self.close(older, Refusal::plain(ErrorCode::Superseded));
                true
            }
            Some(Presence::Offline { until }) => {
                self.timers.remove(&(until, Timer::Session(peer)));
                false
            }
            None => false,
        }
    }

    fn welcome(&mut self, now: Now, connection: ConnectionId, peer: PeerId, resumed: bool) {
        if let Some(state) = self.connections.get_mut(&connection) {
            state.phase = Phase::Open(peer);
            self.timers.remove(&(state.timer, Timer::Connection(connection)));
            state.timer = now + self.config.silence();
            self.timers.insert((state.timer, Timer::Connection(connection)));
        }
        let Some(session) = self.sessions.get(&peer) else {
            return;
        };
        let message = ServerMessage::Welcome {
            peer,
            token: session.token.clone(),
            resumed,
            grace_ms: millis(self.config.grace),
            keep_alive_ms: millis(self.config.keep_alive),
        };
        self.send(connection, ServerFrame { seq: 0, message });
    }

    pub(super) fn goodbye(&mut self, connection: ConnectionId, phase: Phase) {
        self.forget(connection);
        if let Phase::Open(peer) = phase {
            self.end(peer, LeaveReason::Left);
        }
        let text = "goodbye".to_owned();
        self.outputs.push_back(Output::Close { connection, code: ErrorCode::SessionGone, text });
    }

    /// A session has lost its connection; it may come back within the grace time.
    pub(super) fn offline(&mut self, now: Now, peer: PeerId) {
        let until = now + self.config.grace;
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        session.presence = Presence::Offline { until };
        self.timers.insert((until, Timer::Session(peer)));
        if let Some(code) = session.lobby {
            self.lobbies.change(code, |lobby| lobby.set_online(peer, false));
            self.tell_others(code, peer, &ServerMessage::MemberOffline { peer });
            self.drop_lost(code);
        }
    }

    pub(super) fn grace_is_over(&mut self, peer: PeerId) {
        self.end(peer, LeaveReason::TimedOut);
    }

    /// Ends a session; the members of its lobby are told. Its connection is the caller's business.
    pub(super) fn end(&mut self, peer: PeerId, reason: LeaveReason) {
        if let Some(code) = self.erase(peer) {
            self.leave(code, peer, reason);
        }
    }

    /// Forgets a session. Gives the lobby it was in, from which the caller takes it.
    pub(super) fn erase(&mut self, peer: PeerId) -> Option<LobbyCode> {
        let session = self.sessions.remove(&peer)?;
        self.log_bytes -= session.log.bytes();
        if let Presence::Offline { until } = session.presence {
            self.timers.remove(&(until, Timer::Session(peer)));
        }
        session.lobby
    }

    /// Adds a frame to a session, and sends it if there is a connection.
    pub(super) fn tell(&mut self, peer: PeerId, message: ServerMessage) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        let before = session.log.bytes();
        let frame = session.log.push(message, self.config.log_frames, self.config.log_bytes);
        if self.log_bytes - before + session.log.bytes() > self.config.log_bytes_total {
            session.log.confirm(u64::MAX);
        }
        self.log_bytes = self.log_bytes - before + session.log.bytes();
        if let Presence::Online(connection) = session.presence {
            self.send(connection, frame);
        }
    }

    /// The client has these frames.
    pub(super) fn confirm(&mut self, peer: PeerId, seen: u64) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        let before = session.log.bytes();
        session.log.confirm(seen);
        self.log_bytes = self.log_bytes - before + session.log.bytes();
    }

    pub(super) fn random(&mut self) -> u128 {
        u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64())
    }
}

/// Compares in a time that does not depend on where two secrets differ.
fn same_secret(ours: &ResumeToken, theirs: &ResumeToken) -> bool {
    let (ours, theirs) = (ours.0.as_bytes(), theirs.0.as_bytes());
    ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}
