//! What members may do in their lobby, and what only its host may.

use core::time::Duration;
use std::collections::BTreeSet;

use netplay_protocol::lobby::{
    Changes, ClientMessage, Entry, ErrorCode, JoinWith, LeaveReason, OptionsChange, PlaceChange,
    Rejoin, ServerMessage, Value, Visibility, apply, check_lobby_data, check_member_data,
};
use netplay_protocol::{LobbyCode, Now, PeerId};

use super::{Directory, Refusal, malformed};
use crate::lobby::{Lobby, PutOut};
use crate::rate::Bucket;
use crate::token::Invitation;

impl Directory {
    pub(super) fn member_command(
        &mut self,
        peer: PeerId,
        message: ClientMessage,
    ) -> Result<(), Refusal> {
        let code = self.lobby_of(peer)?;
        self.admit_told(code)?;
        let host = || self.check_host(peer, code);
        let request = match message {
            ClientMessage::Update { request, change } => {
                host()?;
                self.update(code, &change)?;
                request
            }
            ClientMessage::SetData { request, revision, changes } => {
                host()?;
                self.set_data(peer, code, revision, &changes)?;
                request
            }
            ClientMessage::SetMemberData { request, changes } => {
                self.set_member_data(peer, code, &changes)?;
                request
            }
            ClientMessage::Place { request, peer: whom, change } => {
                if whom != peer {
                    host()?;
                }
                self.place(code, whom, &change, host().is_ok())?;
                request
            }
            ClientMessage::Kick { request, peer: whom, rejoin } => {
                host()?;
                self.kick(peer, code, whom, rejoin)?;
                request
            }
            ClientMessage::Unban { request, peer: whom } => {
                host()?;
                let out = self.out(whom, Rejoin::Free);
                self.decide(code, |lobby| lobby.put_out(out));
                self.renew_tokens(code);
                request
            }
            ClientMessage::Promote { request, peer: whom } => {
                host()?;
                self.promote(code, whom)?;
                request
            }
            ClientMessage::Reserve { request, peers, secs } => {
                host()?;
                self.reserve(code, &peers, secs)?;
                request
            }
            ClientMessage::Invite { request, to, secs } => {
                return self.invite(peer, code, request, to, secs);
            }
            ClientMessage::Chat { request, text } => {
                self.tell_all(code, &ServerMessage::Chat { from: peer, text });
                request
            }
            message => match self.start_command(peer, code, &message)? {
                Some(request) => request,
                None => return Ok(()),
            },
        };
        self.tell(peer, ServerMessage::Done { request });
        Ok(())
    }

    pub(super) fn check_host(&self, peer: PeerId, code: LobbyCode) -> Result<(), Refusal> {
        match self.lobbies.get(code) {
            Some(lobby) if lobby.host == peer => Ok(()),
            _ => Err(Refusal::plain(ErrorCode::NotHost)),
        }
    }

    fn member_of(&self, code: LobbyCode, peer: PeerId) -> Result<(), Refusal> {
        match self.lobbies.get(code) {
            Some(lobby) if lobby.has(peer) => Ok(()),
            _ => {
                let text = format!("{peer} is no member of this lobby");
                Err(Refusal::new(ErrorCode::NoSuchMember, text))
            }
        }
    }

    fn update(&mut self, code: LobbyCode, change: &OptionsChange) -> Result<(), Refusal> {
        let Some(lobby) = self.lobbies.get(code) else { return Ok(()) };
        let options = change.applied(&lobby.options).map_err(malformed)?;
        let slots = lobby.members().iter().filter_map(|member| member.slot);
        let needed = slots.max().map_or(0, |slot| slot + 1).max(lobby.len());
        if options.capacity < needed || options.spectators < lobby.spectators() {
            let text = "more members are there than would be allowed";
            return Err(Refusal::new(ErrorCode::LobbyFull, text));
        }
        let password = match &change.password {
            Some(password) => self.key.password(lobby.id, password),
            None => lobby.password.clone(),
        };
        let message = ServerMessage::OptionsChanged {
            options: options.clone(),
            password: password.is_some(),
        };
        self.decide(code, |lobby| (lobby.options, lobby.password) = (options, password));
        self.tell_all(code, &message);
        // Each may be the first to come back after a restart.
        self.renew_tokens(code);
        Ok(())
    }

    fn set_data(
        &mut self,
        host: PeerId,
        code: LobbyCode,
        revision: Option<u64>,
        changes: &Changes<Entry>,
    ) -> Result<(), Refusal> {
        let Some(lobby) = self.lobbies.get(code) else { return Ok(()) };
        if let Some(known) = revision.filter(|known| *known != lobby.revision) {
            let now = lobby.revision;
            let text = format!("the values have changed {now} times, and not {known}");
            return Err(Refusal::new(ErrorCode::Conflict, text));
        }
        let mut data = lobby.data.clone();
        apply(&mut data, changes);
        check_lobby_data(&data).map_err(malformed)?;
        let seen = self.change(code, |lobby| (lobby.set_data(changes), lobby.revision));
        if let Some(((to_members, to_host), revision)) = seen {
            let to_members = ServerMessage::DataChanged { revision, changes: to_members };
            self.tell_others(code, host, &to_members);
            self.tell(host, ServerMessage::DataChanged { revision, changes: to_host });
        }
        self.tell_token(host);
        Ok(())
    }

    /// Members share how often all of them are told something, and nobody is closed for it.
    fn admit_told(&mut self, code: LobbyCode) -> Result<(), Refusal> {
        let (limit, now) = (self.config.lobby_messages, self.now);
        let take = |lobby: &mut Lobby| {
            let told = lobby.told.get_or_insert_with(|| Bucket::new(limit, now));
            told.take_shared(limit, now)
        };
        match self.change(code, take) {
            Some(Err(wait)) => {
                let why = "too much goes on in the lobby";
                Err(Refusal::new(ErrorCode::RateLimited, why).retry(wait))
            }
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn set_member_data(
        &mut self,
        peer: PeerId,
        code: LobbyCode,
        changes: &Changes<Value>,
    ) -> Result<(), Refusal> {
        let member = self.lobbies.get(code).and_then(|lobby| lobby.member(peer));
        let Some(mut data) = member.map(|member| member.data.clone()) else { return Ok(()) };
        apply(&mut data, changes);
        check_member_data(&data).map_err(malformed)?;
        self.change(code, |lobby| lobby.member_mut(peer).map(|member| member.data = data));
        self.tell_member(code, peer);
        Ok(())
    }

    fn place(
        &mut self,
        code: LobbyCode,
        peer: PeerId,
        change: &PlaceChange,
        by_host: bool,
    ) -> Result<(), Refusal> {
        self.member_of(code, peer)?;
        let Some(lobby) = self.lobbies.get(code) else { return Ok(()) };
        let before = lobby.member(peer).and_then(|member| member.slot);
        let slot = change.slot.unwrap_or(before);
        if slot != before {
            let refused = match slot {
                Some(slot) if !lobby.is_free(slot) => Some(ErrorCode::SeatTaken),
                // Who came to watch does not play in a match that it may not join.
                Some(_)
                    if before.is_none()
                        && lobby.playing
                        && lobby.options.no_late_join
                        && !by_host =>
                {
                    Some(ErrorCode::Playing)
                }
                Some(_) if before.is_none() && lobby.free_for(Some(peer)) == 0 => {
                    Some(ErrorCode::LobbyFull)
                }
                None if lobby.spectators() >= lobby.options.spectators => {
                    Some(ErrorCode::LobbyFull)
                }
                _ => None,
            };
            if let Some(code) = refused {
                return Err(Refusal::plain(code));
            }
        }
        self.change(code, |lobby| {
            if let Some(member) = lobby.member_mut(peer) {
                member.slot = slot;
                member.team = change.team.unwrap_or(member.team);
                member.role = change.role.clone().unwrap_or_else(|| member.role.clone());
            }
        });
        self.tell_member(code, peer);
        if before.is_some() && slot.is_none() {
            let ended = self.change(code, Lobby::player_left).flatten();
            self.tell_ended(code, ended);
        }
        Ok(())
    }

    /// A member is another: all hear of it, and it has it in its token.
    fn tell_member(&mut self, code: LobbyCode, peer: PeerId) {
        let member = self.lobbies.get(code).and_then(|lobby| lobby.member(peer)).cloned();
        if let Some(member) = member {
            self.tell_all(code, &ServerMessage::MemberChanged { member });
        }
        self.tell_token(peer);
    }

    pub(super) fn renew_tokens(&mut self, code: LobbyCode) {
        let Some(lobby) = self.lobbies.get(code) else { return };
        let members: Vec<_> = lobby.members().iter().map(|member| member.peer).collect();
        members.into_iter().for_each(|peer| self.tell_token(peer));
    }

    fn kick(
        &mut self,
        host: PeerId,
        code: LobbyCode,
        whom: PeerId,
        rejoin: Rejoin,
    ) -> Result<(), Refusal> {
        if whom == host {
            return Err(Refusal::new(ErrorCode::NoSuchMember, "the host cannot put itself out"));
        }
        self.put_out_as(code, whom, rejoin);
        Ok(())
    }

    fn out(&self, peer: PeerId, rejoin: Rejoin) -> PutOut {
        let account = self.sessions.get(&peer).and_then(|session| session.account.clone());
        PutOut { peer, account, rejoin, at: self.now }
    }

    /// Who is gone already can still be kept from coming back.
    pub(super) fn put_out_as(&mut self, code: LobbyCode, whom: PeerId, rejoin: Rejoin) {
        let out = self.out(whom, rejoin);
        self.decide(code, |lobby| lobby.put_out(out));
        if self.member_of(code, whom).is_ok() {
            let banned = rejoin == Rejoin::Never;
            let reason = if banned { LeaveReason::Banned } else { LeaveReason::Kicked };
            self.put_out(code, whom, reason);
        }
        self.renew_tokens(code);
    }

    pub(super) fn close_lobby(&mut self, code: LobbyCode) {
        let Some(lobby) = self.lobbies.get(code) else { return };
        let members: Vec<_> = lobby.members().iter().map(|member| member.peer).collect();
        members.into_iter().for_each(|peer| self.put_out(code, peer, LeaveReason::Closed));
    }

    /// Takes a member out of its lobby against its will; its session goes on.
    pub(super) fn put_out(&mut self, code: LobbyCode, peer: PeerId, reason: LeaveReason) {
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.lobby = None;
        }
        self.tell(peer, ServerMessage::Removed { reason });
        self.tell_token(peer);
        self.leave(code, peer, reason);
    }

    fn promote(&mut self, code: LobbyCode, whom: PeerId) -> Result<(), Refusal> {
        self.member_of(code, whom)?;
        if self.lobbies.get(code).is_some_and(|lobby| lobby.host != whom) {
            self.follow_host(code, |lobby| Some(lobby.promote(whom)));
        }
        Ok(())
    }

    fn reserve(&mut self, code: LobbyCode, peers: &[PeerId], secs: u16) -> Result<(), Refusal> {
        let Some(lobby) = self.lobbies.get(code) else { return Ok(()) };
        let there = |peer: &PeerId| lobby.has(*peer);
        let peers: BTreeSet<PeerId> = peers.iter().copied().filter(|peer| !there(peer)).collect();
        if peers.len()
            > usize::from(lobby.options.capacity - lobby.len().min(lobby.options.capacity))
        {
            return Err(Refusal::new(ErrorCode::LobbyFull, "so many seats are not free"));
        }
        let until = self.now + Duration::from_secs(secs.into());
        self.decide(code, |lobby| lobby.reserve(&peers, until));
        self.renew_tokens(code);
        Ok(())
    }

    fn invite(
        &mut self,
        from: PeerId,
        code: LobbyCode,
        request: u32,
        to: Option<PeerId>,
        secs: u16,
    ) -> Result<(), Refusal> {
        let Some(lobby) = self.lobbies.get(code) else { return Ok(()) };
        if lobby.options.visibility != Visibility::Public {
            self.check_host(from, code)?;
        }
        let realm = &lobby.realm;
        let here = |peer| self.sessions.get(&peer).is_some_and(|session| session.realm == *realm);
        if let Some(to) = to.filter(|to| !here(*to)) {
            let text = format!("{to} is not on this server");
            return Err(Refusal::new(ErrorCode::NoSuchMember, text));
        }
        let invite = self.key.invite(&Invitation {
            lobby: lobby.id,
            to,
            made: self.now.since(Now::ZERO).as_micros() as u64,
            boot: self.boot,
            expires: self.unix_secs().saturating_add(secs.into()),
        });
        let lobby = lobby.summary(code);
        self.tell(from, ServerMessage::Invitation { request, invite: invite.clone() });
        if let Some(to) = to {
            self.tell(to, ServerMessage::Invited { from, lobby, invite });
        }
        Ok(())
    }

    /// The invitation with which a player comes, if it counts.
    pub(super) fn invited(&self, peer: PeerId, lobby: &Lobby, with: &JoinWith) -> Option<Invited> {
        let invitation = self.key.read_invite(with.invite.as_ref()?)?;
        let Invitation { lobby: of, to, made, boot, expires } = invitation;
        let (stands_for, now) = (to.unwrap_or(peer), self.unix_secs());
        // One of the server before was made when this one started, and nobody knows whom it has let in.
        let is_ours = boot == self.boot;
        let made = Now::from_micros(if is_ours { made } else { 0 });
        let may_stand = || is_ours && !lobby.is_claimed(stands_for, made, now);
        let counts = of == lobby.id && expires > now && (stands_for == peer || may_stand());
        counts.then_some(Invited { made, stands_for, expires })
    }
}

/// With an invitation a player gets in.
#[derive(Clone, Copy)]
pub(super) struct Invited {
    pub(super) made: Now,
    /// Whom it is for: the player itself, or what it was in the session before. A game that goes from one lobby to
    /// another may begin a session for each; one of them may stand for who was invited.
    pub(super) stands_for: PeerId,
    /// In seconds of Unix time.
    pub(super) expires: u64,
}
