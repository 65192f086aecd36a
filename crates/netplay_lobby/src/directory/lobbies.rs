//! What an open session may ask for: lobbies and signals.

use core::time::Duration;

use netplay_protocol::limits::{LOBBY_LIST_MAX, LOBBY_MESSAGE_MAX};
use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, LeaveReason, LobbyOptions, MessageError, ServerFrame, ServerMessage,
    Signal, SignalBody,
};
use netplay_protocol::{LobbyCode, PeerId};
use rand_core::Rng;

use super::sessions::Presence;
use super::{Directory, Refusal, Timer};
use crate::lobby::Lobby;
use crate::token::Seat;

/// Where a member has taken its place again.
pub(super) struct Seated {
    code: LobbyCode,
    /// Who led the lobby before, if it was there.
    host_before: Option<PeerId>,
}

/// When who wants to enter a lobby that is coming back may try again.
const NOT_YET: Duration = Duration::from_secs(1);

impl Directory {
    pub(super) fn command(&mut self, peer: PeerId, message: ClientMessage) -> Result<(), Refusal> {
        match message {
            ClientMessage::Create { request, options } => {
                self.check_free(peer, &options)?;
                self.create(peer, request, options)
            }
            ClientMessage::QuickJoin { request, options } => {
                self.check_free(peer, &options)?;
                self.quick_join(peer, request, options)
            }
            ClientMessage::Join { request, code } => self.join(peer, request, code),
            ClientMessage::List { request } => {
                let Some(session) = self.sessions.get(&peer) else {
                    return Ok(());
                };
                let lobbies = self.lobbies.list(&session.game, LOBBY_LIST_MAX);
                self.tell(peer, ServerMessage::Lobbies { request, lobbies });
                Ok(())
            }
            ClientMessage::Leave { request } => {
                let code = self.lobby_of(peer)?;
                if let Some(session) = self.sessions.get_mut(&peer) {
                    session.lobby = None;
                }
                self.tell(peer, ServerMessage::Left { request });
                self.tell_token(peer);
                self.leave(code, peer, LeaveReason::Left);
                Ok(())
            }
            ClientMessage::Signal { to, signal } => self.signal(peer, to, signal),
            ClientMessage::ReportLost { peer: lost } => {
                let code = self.lobby_of(peer)?;
                // A member that is gone meanwhile needs no answer: the reporter is being told.
                self.lobbies.change(code, |lobby| lobby.report(lost, peer));
                self.drop_lost(code);
                Ok(())
            }
            ClientMessage::KeepAlive { seen } => {
                self.confirm(peer, seen);
                if let Some(Presence::Online(connection)) = self.presence(peer) {
                    self.send(connection, ServerFrame { seq: 0, message: ServerMessage::Alive });
                }
                Ok(())
            }
            // Handled before it comes here: they depend on the connection.
            ClientMessage::Hello { .. } | ClientMessage::Goodbye => Ok(()),
        }
    }

    fn check_free(&self, peer: PeerId, options: &LobbyOptions) -> Result<(), Refusal> {
        options.check().map_err(malformed)?;
        if self.lobby_of(peer).is_ok() {
            return Err(Refusal::plain(ErrorCode::AlreadyInLobby));
        }
        Ok(())
    }

    fn lobby_of(&self, peer: PeerId) -> Result<LobbyCode, Refusal> {
        let session = self.sessions.get(&peer);
        let lobby = session.and_then(|session| session.lobby);
        lobby.ok_or_else(|| Refusal::plain(ErrorCode::NotInLobby))
    }

    fn create(&mut self, peer: PeerId, request: u32, options: LobbyOptions) -> Result<(), Refusal> {
        if self.lobbies.len() >= self.config.max_lobbies {
            return Err(self.full());
        }
        let Some(session) = self.sessions.get_mut(&peer) else {
            return Ok(());
        };
        // Lobbies are few against 30^8 codes, so a free one is found at once.
        let code = loop {
            let code = LobbyCode::from_random(self.rng.next_u64());
            if self.lobbies.get(code).is_none() {
                break code;
            }
        };
        session.lobby = Some(code);
        let (game, epoch, id) = (session.game.clone(), session.epoch, self.rng.next_u64());
        self.lobbies.create(code, id, game, options, peer, epoch);
        self.tell_joined(peer, request, code);
        Ok(())
    }

    fn quick_join(
        &mut self,
        peer: PeerId,
        request: u32,
        options: LobbyOptions,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&peer) else {
            return Ok(());
        };
        match self.lobbies.find(&session.game, options.capacity) {
            Some(code) => self.join(peer, request, code),
            None => self.create(peer, request, options),
        }
    }

    fn join(&mut self, peer: PeerId, request: u32, code: LobbyCode) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return Ok(());
        };
        if session.lobby.is_some() {
            return Err(Refusal::plain(ErrorCode::AlreadyInLobby));
        }
        // A lobby of another game is as good as none, so that codes of other games say nothing.
        let lobby = self.lobbies.get(code).filter(|lobby| lobby.game == session.game);
        let Some(lobby) = lobby else {
            let text = format!("no lobby has the code {code}");
            return Err(Refusal::new(ErrorCode::NoSuchLobby, text));
        };
        if lobby.returning {
            return Err(Refusal::plain(ErrorCode::NotYet).retry(NOT_YET));
        }
        if lobby.is_full() {
            return Err(Refusal::plain(ErrorCode::LobbyFull));
        }
        session.lobby = Some(code);
        let epoch = session.epoch;
        self.lobbies.change(code, |lobby| lobby.add(peer, epoch));
        self.tell_joined(peer, request, code);
        self.tell_others(code, peer, &ServerMessage::MemberJoined { peer, epoch });
        Ok(())
    }

    /// A member of a lobby of the server before takes its place again, if it can.
    pub(super) fn take_seat(&mut self, peer: PeerId, epoch: u32, seat: &Seat) -> Option<Seated> {
        let session = self.sessions.get_mut(&peer)?;
        let code = seat.code;
        let host_before = match self.lobbies.get(code) {
            None if self.lobbies.len() < self.config.max_lobbies => {
                self.lobbies.bring_back(session.game.clone(), seat, peer, epoch);
                self.timers.insert((self.now + self.config.returning, Timer::Returned(code)));
                None
            }
            Some(lobby) if lobby.id == seat.lobby && !lobby.is_full() => {
                let host = lobby.host;
                self.lobbies.change(code, |lobby| lobby.put_back(peer, epoch, seat));
                Some(host)
            }
            _ => return None,
        };
        session.lobby = Some(code);
        Some(Seated { code, host_before })
    }

    /// Tells the others of it.
    pub(super) fn tell_seated(&mut self, peer: PeerId, epoch: u32, seated: Seated) {
        let Seated { code, host_before } = seated;
        self.tell_others(code, peer, &ServerMessage::MemberJoined { peer, epoch });
        let host = self.lobbies.get(code).map(|lobby| lobby.host);
        if let Some(host) = host.filter(|host| host_before.is_some_and(|before| before != *host)) {
            self.tell_host(code, peer, host);
        }
    }

    /// A lobby has waited long enough for its members.
    pub(super) fn returned(&mut self, code: LobbyCode) {
        let host = self.lobbies.change(code, Lobby::returned).flatten();
        if let Some(host) = host {
            // Nobody is left out: no member has this id.
            self.tell_host(code, PeerId::from_u128(0), host);
        }
    }

    /// Another host: members hear of it, and have it in their tokens.
    fn tell_host(&mut self, code: LobbyCode, but: PeerId, host: PeerId) {
        self.tell_others(code, but, &ServerMessage::HostChanged { host });
        let Some(lobby) = self.lobbies.get(code) else { return };
        let members: Vec<_> = lobby.members().iter().map(|member| member.peer).collect();
        members.into_iter().for_each(|peer| self.tell_token(peer));
    }

    fn tell_joined(&mut self, peer: PeerId, request: u32, code: LobbyCode) {
        let Some(lobby) = self.lobbies.get(code) else {
            return;
        };
        let lobby = lobby.state(code);
        self.tell(peer, ServerMessage::Joined { request, lobby });
        self.tell_token(peer);
    }

    fn signal(&mut self, from: PeerId, to: PeerId, signal: Signal) -> Result<(), Refusal> {
        signal.check().map_err(malformed)?;
        let code = self.lobby_of(from)?;
        let known = self.lobbies.get(code).is_some_and(|lobby| lobby.has(to));
        if !known || to == from {
            let text = format!("{to} is no other member of this lobby");
            return Err(Refusal::new(ErrorCode::NoSuchMember, text));
        }
        self.tell(to, fitting(from, signal)?);
        Ok(())
    }

    /// Takes a peer that no longer points to this lobby out of it.
    pub(super) fn leave(&mut self, code: LobbyCode, peer: PeerId, reason: LeaveReason) {
        self.take_out(code, peer, reason);
        self.drop_lost(code);
    }

    fn take_out(&mut self, code: LobbyCode, peer: PeerId, reason: LeaveReason) {
        let host = self.lobbies.change(code, |lobby| lobby.remove(peer)).flatten();
        self.tell_others(code, peer, &ServerMessage::MemberLeft { peer, reason });
        if let Some(host) = host {
            self.tell_host(code, peer, host);
        }
    }

    /// Ends the sessions of offline members that everybody else has lost. Each removal may change
    /// who everybody is.
    pub(super) fn drop_lost(&mut self, code: LobbyCode) {
        while let Some(lost) = self.lobbies.get(code).and_then(|lobby| lobby.lost()) {
            self.erase(lost);
            self.take_out(code, lost, LeaveReason::Lost);
        }
    }

    pub(super) fn tell_others(&mut self, code: LobbyCode, than: PeerId, message: &ServerMessage) {
        let Some(lobby) = self.lobbies.get(code) else {
            return;
        };
        let others = lobby.members().iter().map(|member| member.peer).filter(|peer| *peer != than);
        for other in others.collect::<Vec<_>>() {
            self.tell(other, message.clone());
        }
    }
}

/// The message that hands on a signal. What the server adds must not push it over the receiver's
/// limit: the receiver would close its connection, resume, and be sent the same frame again.
fn fitting(from: PeerId, signal: Signal) -> Result<ServerMessage, Refusal> {
    // JSON makes of a byte six at most, and about 300 bytes are not text of the client.
    const SURELY: usize = (LOBBY_MESSAGE_MAX - 300) / 6;
    let text = match &signal.body {
        SignalBody::Offer { sdp } | SignalBody::Answer { sdp } => sdp.len(),
        SignalBody::Candidate { candidate, mid, .. } => {
            candidate.len() + mid.as_ref().map_or(0, String::len)
        }
        SignalBody::Bye | SignalBody::Lost | SignalBody::Withdraw => 0,
    };
    let message = ServerMessage::Signal { from, signal };
    if text <= SURELY {
        return Ok(message);
    }
    let frame = ServerFrame { seq: u64::MAX, message };
    match frame.to_json().len() {
        0..=LOBBY_MESSAGE_MAX => Ok(frame.message),
        len => Err(malformed(MessageError::TooLarge(len))),
    }
}

fn malformed(error: MessageError) -> Refusal {
    Refusal::new(ErrorCode::Malformed, error.to_string())
}
