//! Greeting, resuming and ending sessions.

use core::net::IpAddr;
use core::time::Duration;

use netplay_protocol::lobby::{
    ErrorCode, LeaveReason, Login, Resume, ResumeToken, ServerFrame, ServerMessage, SessionKind,
};
use netplay_protocol::{AccountId, LobbyCode, Now, PROTOCOL_VERSION, PeerId};
use rand_core::Rng;

use super::accounts::Shown;
use super::rates::Rates;
use super::{Directory, Phase, Queued, Refusal, Timer, refused};
use crate::config::millis;
use crate::io::ConnectionId;
use crate::lobby::Realm;
use crate::log::FrameLog;
use crate::token::{Moment, Statement};

/// One player, with or without a connection.
pub(super) struct Session {
    pub(super) realm: Realm,
    /// Who it is, if it has shown that.
    pub(super) account: Option<AccountId>,
    /// The lobby that its ticket opens, and since when it has shown it.
    pub(super) opens: Option<(LobbyCode, Now)>,
    /// Which start of the player's game this is.
    pub(super) epoch: u32,
    pub(super) presence: Presence,
    /// From where it was connected last, if limits hold for it.
    pub(super) address: Option<IpAddr>,
    pub(super) lobby: Option<LobbyCode>,
    pub(super) log: FrameLog,
    /// How fast it has been on the connection before.
    pub(super) rates: Option<Rates>,
    /// Names the count of the frames in the log.
    count: u64,
}

/// How a connection begins.
pub(super) struct Greeting {
    pub(super) realm: Realm,
    pub(super) resume: Option<Resume>,
    pub(super) login: Option<Login>,
}

/// Whether a session has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Online(ConnectionId),
    Offline { since: Now, until: Now },
}

impl Directory {
    pub(super) fn hello(
        &mut self,
        now: Now,
        connection: ConnectionId,
        protocol: u16,
        greeting: Greeting,
    ) {
        if protocol != PROTOCOL_VERSION {
            let text = format!(
                "the client speaks version {protocol} of Netplay's protocol, this server version \
                 {PROTOCOL_VERSION}; update the older one"
            );
            return self.fail(now, connection, Refusal::new(ErrorCode::Version, text));
        }
        let Greeting { realm, resume, login } = greeting;
        let known = resume.and_then(|resume| Some((self.statement(&realm, &resume)?, resume)));
        let begun = match known {
            Some((statement, resume)) => self.resume(now, connection, statement, &resume, login),
            None => self.begin(now, connection, realm, login),
        };
        if let Err(refusal) = begun {
            self.fail(now, connection, refusal);
        }
    }

    /// What the token of a resume says, if it counts.
    fn statement(&self, realm: &Realm, resume: &Resume) -> Option<Statement> {
        let statement = self.key.read(&resume.token)?;
        let counts = statement.peer == resume.peer
            && statement.realm == *realm
            && statement.expires > self.unix_secs();
        counts.then_some(statement)
    }

    /// Whether a session of before says who it is, where it has to.
    fn is_known(&self, statement: &Statement) -> bool {
        statement.account.is_some() || !self.config.login_required
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { now: self.now, epoch_unix: self.epoch_unix }
    }

    pub(super) fn unix_secs(&self) -> u64 {
        self.moment().unix_secs()
    }

    fn resume(
        &mut self,
        now: Now,
        connection: ConnectionId,
        statement: Statement,
        resume: &Resume,
        login: Option<Login>,
    ) -> Result<(), Refusal> {
        let peer = resume.peer;
        statement.account.as_ref().map_or(Ok(()), |account| self.check_ban(account))?;
        match self.sessions.get(&peer) {
            // The game was started anew meanwhile, and the newest start counts.
            Some(session) if statement.epoch < session.epoch && !resume.restart => {
                return Err(Refusal::plain(ErrorCode::Superseded));
            }
            Some(session)
                if !resume.restart
                    && statement.count == session.count
                    && session.log.after(resume.seen).is_some() =>
            {
                self.take_up(now, connection, resume);
            }
            // The frames of before are of no use, or no longer there.
            Some(_) => self.restore(now, connection, peer, resume.restart),
            None if statement.boot != self.boot && self.is_known(&statement) => {
                self.bring_back(now, connection, statement, resume.restart)?;
            }
            // It ended here, or was begun where nobody had to say who it is.
            None => self.begin(now, connection, statement.realm, login)?,
        }
        Ok(())
    }

    fn begin(
        &mut self,
        now: Now,
        connection: ConnectionId,
        realm: Realm,
        login: Option<Login>,
    ) -> Result<(), Refusal> {
        // First: who may not come takes no place of those who may.
        let shown = self.log_in(connection, &realm.game, login)?;
        let taken = self.new_sessions.take_shared(self.config.new_sessions, now);
        taken.map_err(|wait| self.full().retry(wait))?;
        let peer = loop {
            let peer = PeerId::from_u128(self.random());
            if !self.sessions.contains_key(&peer) {
                break peer;
            }
        };
        self.add_session(connection, peer, realm, 0, shown)?;
        self.welcome(now, connection, peer, SessionKind::New);
        Ok(())
    }

    fn add_session(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        realm: Realm,
        epoch: u32,
        shown: Shown,
    ) -> Result<(), Refusal> {
        if self.sessions.len() >= self.config.max_sessions {
            return Err(self.full());
        }
        self.use_login(&shown)?;
        let Shown { account, opens, .. } = shown;
        let presence = Presence::Online(connection);
        let (log, count) = (FrameLog::default(), self.rng.next_u64());
        let opens = opens.map(|code| (code, self.now));
        let (lobby, address, rates) = (None, self.address(connection), None);
        let session =
            Session { realm, account, opens, epoch, presence, address, lobby, log, rates, count };
        self.sessions.insert(peer, session);
        Ok(())
    }

    fn take_up(&mut self, now: Now, connection: ConnectionId, resume: &Resume) {
        let peer = resume.peer;
        let was_offline = !self.supersede(peer);
        self.confirm(peer, resume.seen);
        self.connect(peer, connection);
        self.welcome(now, connection, peer, SessionKind::Continued);
        if let Some(session) = self.sessions.get(&peer)
            && let Some(missed) = session.log.after(resume.seen)
        {
            for frame in missed {
                let begin = self.texts.len();
                self.texts.extend(frame);
                let text = begin..self.texts.len();
                self.outputs.push_back(Queued::Send { connection, text, refused: None });
            }
        }
        if was_offline {
            self.online(peer);
        }
    }

    /// Takes a session up without its frames.
    fn restore(&mut self, now: Now, connection: ConnectionId, peer: PeerId, restart: bool) {
        let was_offline = !self.supersede(peer);
        self.confirm(peer, u64::MAX);
        self.connect(peer, connection);
        let count = self.rng.next_u64();
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        (session.log, session.count) = (FrameLog::default(), count);
        session.epoch = session.epoch.saturating_add(u32::from(restart));
        // The welcome comes first, and tells of the lobby as it is then.
        self.mark_online(peer);
        self.welcome(now, connection, peer, SessionKind::Restored);
        if was_offline || restart {
            self.online(peer);
        }
    }

    /// Takes up a session of the server before.
    fn bring_back(
        &mut self,
        now: Now,
        connection: ConnectionId,
        statement: Statement,
        restart: bool,
    ) -> Result<(), Refusal> {
        let Statement { peer, realm, account, seat, .. } = statement;
        let epoch = statement.epoch.saturating_add(u32::from(restart));
        self.add_session(connection, peer, realm, epoch, Shown::of(account))?;
        let seated = seat.and_then(|seat| self.take_seat(peer, &seat));
        self.welcome(now, connection, peer, SessionKind::Restored);
        if let Some(seated) = seated {
            self.tell_seated(peer, seated);
        }
        Ok(())
    }

    fn mark_online(&mut self, peer: PeerId) {
        let Some(session) = self.sessions.get(&peer) else { return };
        let epoch = session.epoch;
        if let Some(code) = session.lobby {
            self.change(code, |lobby| lobby.set_online(peer, true, epoch));
        }
    }

    /// A member's connection is back.
    fn online(&mut self, peer: PeerId) {
        self.mark_online(peer);
        let Some(session) = self.sessions.get(&peer) else { return };
        let epoch = session.epoch;
        if let Some(code) = session.lobby {
            self.tell_others(code, peer, &ServerMessage::MemberOnline { peer, epoch });
            // Its report may be the only one that counts now.
            self.drop_lost(code);
        }
    }

    /// What a player needs to be taken up again.
    fn token(&self, peer: PeerId) -> Option<ResumeToken> {
        let session = self.sessions.get(&peer)?;
        let seat =
            session.lobby.and_then(|code| self.lobbies.get(code)?.seat(code, peer, self.moment()));
        Some(self.key.sign(&Statement {
            peer,
            realm: session.realm.clone(),
            account: session.account.clone(),
            boot: self.boot,
            epoch: session.epoch,
            count: session.count,
            expires: self.unix_secs().saturating_add(self.config.token_lifetime.as_secs()),
            seat,
        }))
    }

    /// Its place has changed.
    pub(super) fn tell_token(&mut self, peer: PeerId) {
        if let Some(token) = self.token(peer) {
            self.tell(peer, ServerMessage::Token { token });
        }
    }

    pub(super) fn presence(&self, peer: PeerId) -> Option<Presence> {
        self.sessions.get(&peer).map(|session| session.presence)
    }

    /// Closes the connection of a session, if it has one. The session goes on.
    pub(super) fn dismiss(&mut self, peer: PeerId, why: Refusal) -> bool {
        let Some(Presence::Online(connection)) = self.presence(peer) else { return false };
        self.close(connection, why);
        true
    }

    /// Frees a session from its connection, or from its timer. Whether it had a connection.
    fn supersede(&mut self, peer: PeerId) -> bool {
        let Some(session) = self.sessions.get(&peer) else { return false };
        match session.presence {
            Presence::Online(_) => self.dismiss(peer, Refusal::plain(ErrorCode::Superseded)),
            Presence::Offline { since, until } => {
                self.no_longer_offline(peer, session.address, (since, until));
                false
            }
        }
    }

    fn no_longer_offline(
        &mut self,
        peer: PeerId,
        address: Option<IpAddr>,
        (since, until): (Now, Now),
    ) {
        self.timers.remove(&(until, Timer::Session(peer)));
        if let Some(address) = address {
            self.addresses.no_longer_offline(address, (since, peer));
        }
    }

    /// A session has this connection from now on, wherever that is from.
    fn connect(&mut self, peer: PeerId, connection: ConnectionId) {
        let address = self.address(connection);
        if let Some(session) = self.sessions.get_mut(&peer) {
            (session.presence, session.address) = (Presence::Online(connection), address);
        }
    }

    /// From where a connection is, if limits hold for it.
    fn address(&self, connection: ConnectionId) -> Option<IpAddr> {
        self.connections.get(&connection)?.address
    }

    fn welcome(&mut self, now: Now, connection: ConnectionId, peer: PeerId, session: SessionKind) {
        if let Some(state) = self.connections.get_mut(&connection) {
            state.phase = Phase::Open(peer);
            let before = self.sessions.get_mut(&peer).and_then(|session| session.rates.take());
            if let Some(before) = before {
                state.rates = before;
            }
            self.timers.remove(&(state.timer, Timer::Connection(connection)));
            state.timer = now + self.config.silence();
            self.timers.insert((state.timer, Timer::Connection(connection)));
        }
        let Some(token) = self.token(peer) else {
            return;
        };
        let code = self.sessions.get(&peer).and_then(|session| session.lobby);
        let code = code.filter(|_| session == SessionKind::Restored);
        let message = ServerMessage::Welcome {
            peer,
            token,
            session,
            lobby: code.and_then(|code| Some(self.lobbies.get(code)?.state(code, now, peer))),
            grace_ms: millis(self.config.grace),
            keep_alive_ms: millis(self.config.keep_alive),
        };
        self.send(connection, message);
    }

    pub(super) fn goodbye(&mut self, connection: ConnectionId) {
        let Some(phase) = self.forget(connection) else { return };
        if let Phase::Open(peer) = phase {
            self.end(peer, LeaveReason::Left);
        }
        let text = "goodbye".to_owned();
        self.outputs.push_back(Queued::Close { connection, code: ErrorCode::SessionGone, text });
    }

    /// A session has lost its connection; it may come back within the grace time, or as long as its
    /// lobby keeps seats.
    pub(super) fn offline(&mut self, now: Now, peer: PeerId) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        let lobby = session.lobby.and_then(|code| self.lobbies.get(code));
        let seat = lobby.map_or(0, |lobby| lobby.options.seat_secs);
        let seat = Duration::from_secs(seat.into()).min(self.config.seat_max);
        let until = now + self.config.grace.max(seat);
        session.presence = Presence::Offline { since: now, until };
        self.timers.insert((until, Timer::Session(peer)));
        let (epoch, address) = (session.epoch, session.address);
        if let Some(code) = session.lobby {
            self.change(code, |lobby| lobby.set_online(peer, false, epoch));
            self.tell_others(code, peer, &ServerMessage::MemberOffline { peer });
            self.interrupt(code, peer);
            self.drop_lost(code);
        }
        // Unless that was its end.
        if self.sessions.contains_key(&peer)
            && let Some(address) = address
            && let Some(first) = self.addresses.offline(address, (now, peer), &self.config)
        {
            self.end(first, LeaveReason::TimedOut);
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
        if let Presence::Offline { since, until } = session.presence {
            self.no_longer_offline(peer, session.address, (since, until));
        }
        if let Some(account) = &session.account {
            self.accounts.left(account);
        }
        session.lobby
    }

    /// Adds a frame to a session, and sends it if there is a connection.
    pub(super) fn tell(&mut self, peer: PeerId, message: ServerMessage) {
        let refused = refused(&message);
        self.tell_with(peer, refused, |seq, text| ServerFrame { seq, message }.write_json(text));
    }

    /// The same of a frame that this appends when it knows its number.
    pub(super) fn tell_with(
        &mut self,
        peer: PeerId,
        refused: Option<ErrorCode>,
        write: impl FnOnce(u64, &mut Vec<u8>),
    ) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        let (before, begin) = (session.log.bytes(), self.texts.len());
        write(session.log.next(), &mut self.texts);
        let text = begin..self.texts.len();
        session.log.push(&self.texts[text.clone()], self.config.log_frames, self.config.log_bytes);
        if self.log_bytes - before + session.log.bytes() > self.config.log_bytes_total {
            session.log.confirm(u64::MAX);
        }
        self.log_bytes = self.log_bytes - before + session.log.bytes();
        match session.presence {
            Presence::Online(connection) => {
                self.outputs.push_back(Queued::Send { connection, text, refused });
            }
            Presence::Offline { .. } => self.texts.truncate(begin),
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
