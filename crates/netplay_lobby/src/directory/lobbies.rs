//! Entering and leaving lobbies.

use core::time::Duration;

use netplay_protocol::limits::{LOBBY_FRAME_MAX, LOBBY_LIST_MAX};
use netplay_protocol::lobby::{
    ClientMessage, CreateWith, ErrorCode, Filter, JoinWith, LeaveReason, LobbyData, LobbyOptions,
    Password, Rejoin, Search, ServerMessage, Visibility,
};
use netplay_protocol::{BuildId, LobbyCode, PeerId};
use rand_core::Rng;

use super::host::Invited;
use super::sessions::Presence;
use super::{Directory, Refusal, Timer, malformed};
use crate::lobby::{Lobby, NewLobby, Newcomer, Returning};
use crate::rate::Bucket;
use crate::token::Seat;

/// Where a member has taken its place again.
pub(super) struct Seated {
    code: LobbyCode,
    /// The term of its host before, if it was there.
    term_before: Option<u32>,
    /// Its token says what was decided last.
    news: bool,
    /// The lobby's values before, if its token has newer ones.
    values_before: Option<LobbyData>,
}

/// When who wants to enter a lobby that is coming back may try again.
const NOT_YET: Duration = Duration::from_secs(1);

/// What searches may take of a message: the rest is for the frame around them.
const PAGE_BYTES: usize = LOBBY_FRAME_MAX - 1024;

impl Directory {
    pub(super) fn command(&mut self, peer: PeerId, message: ClientMessage) -> Result<(), Refusal> {
        // Who drives us may have made it without reading it.
        message.check().map_err(malformed)?;
        match message {
            ClientMessage::Create { request, options, with } => {
                self.check_free(peer)?;
                self.create(peer, request, options, with)
            }
            ClientMessage::QuickJoin { request, options, filters, with } => {
                self.check_free(peer)?;
                self.quick_join(peer, request, options, &filters, with)
            }
            ClientMessage::Join { request, code, with } => {
                self.check_free(peer)?;
                self.join(peer, request, code, with)
            }
            ClientMessage::Search { request, search } => {
                self.search(peer, request, &search);
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
            ClientMessage::ReportLost { peer: lost } => {
                let code = self.lobby_of(peer)?;
                // A member that is gone meanwhile needs no answer: the reporter is being told.
                self.change(code, |lobby| lobby.report(lost, peer));
                self.drop_lost(code);
                Ok(())
            }
            ClientMessage::KeepAlive { seen } => {
                self.confirm(peer, seen);
                if let Some(Presence::Online(connection)) = self.presence(peer) {
                    self.send(connection, ServerMessage::Alive);
                }
                Ok(())
            }
            // Handled before it comes here: they depend on the connection.
            ClientMessage::Hello { .. } | ClientMessage::Signal { .. } | ClientMessage::Goodbye => {
                Ok(())
            }
            message => self.member_command(peer, message),
        }
    }

    fn check_free(&self, peer: PeerId) -> Result<(), Refusal> {
        match self.lobby_of(peer) {
            Ok(_) => Err(Refusal::plain(ErrorCode::AlreadyInLobby)),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn lobby_of(&self, peer: PeerId) -> Result<LobbyCode, Refusal> {
        let session = self.sessions.get(&peer);
        let lobby = session.and_then(|session| session.lobby);
        lobby.ok_or_else(|| Refusal::plain(ErrorCode::NotInLobby))
    }

    /// Changes a lobby, and keeps its timer right.
    pub(super) fn change<R>(
        &mut self,
        code: LobbyCode,
        change: impl FnOnce(&mut Lobby) -> R,
    ) -> Option<R> {
        let before = self.lobbies.get(code)?.deadline();
        let host_waits = self.now + self.config.grace;
        let result = self.lobbies.change(code, |lobby| {
            let result = change(lobby);
            lobby.watch_host(host_waits);
            result
        });
        let after = self.lobbies.get(code).map(Lobby::deadline);
        if after != Some(before) {
            self.timers.remove(&(before, Timer::Lobby(code)));
            self.timers.extend(after.map(|at| (at, Timer::Lobby(code))));
        }
        result
    }

    /// Changes what all members have in their tokens, which the caller renews.
    pub(super) fn decide(&mut self, code: LobbyCode, change: impl FnOnce(&mut Lobby)) {
        let moment = self.moment();
        self.change(code, |lobby| {
            lobby.decided(moment);
            change(lobby);
        });
    }

    pub(super) fn arm(&mut self, code: LobbyCode) {
        let deadline = self.lobbies.get(code).map(Lobby::deadline);
        self.timers.extend(deadline.map(|at| (at, Timer::Lobby(code))));
    }

    fn create(
        &mut self,
        peer: PeerId,
        request: u32,
        options: LobbyOptions,
        with: CreateWith,
    ) -> Result<(), Refusal> {
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
        let (realm, epoch, id) = (session.realm.clone(), session.epoch, self.rng.next_u64());
        let account = session.account.clone();
        let CreateWith { password, data, member } = with;
        let password = password.and_then(|password| self.key.password(id, &password));
        let closes = self.now + self.config.lobby_lifetime;
        let new = NewLobby { id, realm, options, password, closes };
        let newcomer = Newcomer { epoch, account, spectates: false, data: member };
        self.lobbies.create(code, new, peer, newcomer);
        self.arm(code);
        if !data.is_empty() {
            let changes = data.into_iter().map(|(key, entry)| (key, Some(entry))).collect();
            self.change(code, |lobby| drop(lobby.set_data(&changes)));
        }
        self.tell_joined(peer, request, code);
        Ok(())
    }

    fn quick_join(
        &mut self,
        peer: PeerId,
        request: u32,
        options: LobbyOptions,
        filters: &[Filter],
        with: CreateWith,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&peer) else {
            return Ok(());
        };
        let who = (peer, session.account.as_ref());
        match self.lobbies.find(&session.realm, options.capacity, filters, who) {
            Some(code) => {
                let with = JoinWith { member: with.member, ..JoinWith::default() };
                self.join(peer, request, code, with)
            }
            None => self.create(peer, request, options, with),
        }
    }

    fn search(&mut self, peer: PeerId, request: u32, search: &Search) {
        let Some(session) = self.sessions.get(&peer) else { return };
        let (mut lobbies, mut more) = self.lobbies.search(&session.realm, search, LOBBY_LIST_MAX);
        // Values make summaries large: a page ends where the message is full.
        let mut bytes = 0;
        let fit = lobbies.iter().take_while(|lobby| {
            bytes += serde_json::to_string(lobby).map_or(0, |json| json.len() + 1);
            bytes <= PAGE_BYTES
        });
        let fit = fit.count();
        more |= fit < lobbies.len();
        lobbies.truncate(fit);
        self.tell(peer, ServerMessage::Lobbies { request, lobbies, more });
    }

    fn join(
        &mut self,
        peer: PeerId,
        request: u32,
        code: LobbyCode,
        with: JoinWith,
    ) -> Result<(), Refusal> {
        let admitted = self.admit_to(peer, code, &with);
        if let Err(Refusal { code: ErrorCode::NoSuchLobby, .. }) = &admitted
            && let Some(Presence::Online(connection)) = self.presence(peer)
            && let Some(address) = self.connections.get(&connection).and_then(|state| state.address)
        {
            self.addresses.guessed(address, self.now);
        }
        let invited = admitted?;
        let unix_secs = self.unix_secs();
        let Some(session) = self.sessions.get_mut(&peer) else {
            return Ok(());
        };
        session.lobby = Some(code);
        let (epoch, account) = (session.epoch, session.account.clone());
        let stands_for = invited.map_or(peer, |invited| invited.stands_for);
        // Others have in their tokens that it was put out, or that a seat is kept for it: that is over.
        let is_known = |lobby: &Lobby| {
            [peer, stands_for].iter().any(|of| lobby.is_reserved(*of))
                || lobby.was_put_out(peer, account.as_ref()).is_some()
        };
        let is_known = self.lobbies.get(code).is_some_and(is_known);
        if is_known {
            self.decide(code, |lobby| lobby.pardon(peer, account.as_ref()));
        }
        let newcomer = Newcomer { epoch, account, spectates: with.spectate, data: with.member };
        self.change(code, |lobby| {
            if let Some(invited) = invited.filter(|invited| invited.stands_for != peer) {
                lobby.claim(stands_for, invited.made, invited.expires, unix_secs);
            }
            lobby.add(peer, newcomer);
        });
        self.tell_joined(peer, request, code);
        self.tell_newcomer(code, peer);
        if is_known {
            self.renew_tokens(code);
        }
        Ok(())
    }

    /// Whether the lobby lets this player in, and by which invitation.
    fn admit_to(
        &mut self,
        peer: PeerId,
        code: LobbyCode,
        with: &JoinWith,
    ) -> Result<Option<Invited>, Refusal> {
        // A lobby of another game is as good as none, so that codes of other games say nothing.
        let realm = self.sessions.get(&peer).map(|session| session.realm.clone());
        let lobby = self.lobbies.get(code);
        let lobby =
            lobby.filter(|lobby| realm.as_ref().is_some_and(|r| r.game == lobby.realm.game));
        let Some(lobby) = lobby else {
            let text = format!("no lobby has the code {code}");
            return Err(Refusal::new(ErrorCode::NoSuchLobby, text));
        };
        if realm.as_ref() != Some(&lobby.realm) {
            let name = |build: Option<&BuildId>| {
                build.map_or_else(|| "none".to_owned(), ToString::to_string)
            };
            let theirs = name(lobby.realm.build.as_ref());
            let ours = name(realm.as_ref().and_then(|realm| realm.build.as_ref()));
            let text = format!("the lobby is for build {theirs}, and this is build {ours}");
            return Err(Refusal::new(ErrorCode::WrongBuild, text));
        }
        if lobby.returning.is_some() {
            return Err(Refusal::plain(ErrorCode::NotYet).retry(NOT_YET));
        }
        let invitation = self.invited(peer, lobby, with);
        let stands_for = invitation.map_or(peer, |invited| invited.stands_for);
        let seat_of = if lobby.is_reserved(peer) { peer } else { stands_for };
        let reserved = lobby.is_reserved(seat_of);
        let session = self.sessions.get(&peer);
        let opened = session.and_then(|session| session.opens).filter(|(opens, _)| *opens == code);
        let invited = opened.map(|(_, since)| since);
        let invited = invited.max(invitation.map(|invited| invited.made));
        let account = session.and_then(|session| session.account.as_ref());
        let put_out = lobby.was_put_out(peer, account);
        match put_out.or_else(|| lobby.was_put_out(stands_for, None)) {
            Some(put_out) if put_out.rejoin == Rejoin::Never => {
                return Err(Refusal::plain(ErrorCode::Banned));
            }
            Some(put_out) if invited.is_none_or(|made| made < put_out.at) => {
                return Err(Refusal::plain(ErrorCode::NotInvited));
            }
            _ => {}
        }
        let refused = |code| Err(Refusal::plain(code));
        let options = &lobby.options;
        let known = reserved || invited.is_some();
        match () {
            () if options.locked && !reserved => return refused(ErrorCode::Locked),
            () if options.visibility == Visibility::Hidden && !known => {
                return refused(ErrorCode::NotInvited);
            }
            () if with.spectate && lobby.spectators() >= options.spectators => {
                return refused(ErrorCode::LobbyFull);
            }
            () if with.spectate => {}
            () if lobby.playing && options.no_late_join && !reserved => {
                return refused(ErrorCode::Playing);
            }
            () if lobby.free_for(Some(seat_of)) == 0 => return refused(ErrorCode::LobbyFull),
            () => {}
        }
        if !known {
            self.check_password(code, with.password.as_ref())?;
        }
        Ok(invitation)
    }

    fn check_password(
        &mut self,
        code: LobbyCode,
        password: Option<&Password>,
    ) -> Result<(), Refusal> {
        let Some(lobby) = self.lobbies.get(code) else { return Ok(()) };
        let Some(kept) = &lobby.password else { return Ok(()) };
        let Some(password) = password else {
            return Err(Refusal::plain(ErrorCode::WrongPassword));
        };
        let (limit, now) = (self.config.passwords, self.now);
        if let Some(wait) = lobby.wrong.as_ref().and_then(|wrong| wrong.wait(limit, now)) {
            let text = "too many wrong passwords for this lobby";
            return Err(Refusal::new(ErrorCode::RateLimited, text).retry(wait));
        }
        if self.key.is_password(lobby.id, password, kept) {
            return Ok(());
        }
        self.change(code, |lobby| {
            lobby.wrong.get_or_insert_with(|| Bucket::new(limit, now)).take(limit, now)
        });
        Err(Refusal::plain(ErrorCode::WrongPassword))
    }

    /// A member of a lobby of the server before takes its place again, if it can.
    pub(super) fn take_seat(&mut self, peer: PeerId, seat: &Seat) -> Option<Seated> {
        let session = self.sessions.get(&peer)?;
        let returning = Returning { epoch: session.epoch, account: session.account.clone() };
        let code = seat.code;
        let moment = self.moment();
        // Its token may be older than that.
        let account = session.account.as_ref();
        if self.lobbies.get(code).is_some_and(|lobby| lobby.was_put_out(peer, account).is_some())
            || self.lobbies.has_ended(seat.lobby)
            || seat.closes.is_some_and(|closes| closes <= moment.unix_secs())
        {
            return None;
        }
        let (mut news, mut values_before) = (false, None);
        let term_before = match self.lobbies.get(code) {
            None if self.lobbies.len() < self.config.max_lobbies => {
                let until = self.now + self.config.returning;
                let closes = self.now + self.config.lobby_lifetime;
                let closes = seat.closes.map_or(closes, |at| closes.min(moment.at_unix(at)));
                let (realm, times) = (session.realm.clone(), (until, closes));
                self.lobbies.bring_back(seat, realm, (peer, returning), times, moment);
                self.arm(code);
                None
            }
            Some(lobby)
                if lobby.id == seat.lobby && !lobby.has_left(peer) && has_room(lobby, seat) =>
            {
                let term = lobby.term;
                news = lobby.is_news(seat);
                values_before = self.change(code, |lobby| {
                    let (revision, values) = (lobby.revision, lobby.data.clone());
                    lobby.put_back(peer, returning, seat, moment);
                    (lobby.revision != revision).then_some(values)
                });
                Some(term)
            }
            _ => return None,
        };
        self.sessions.get_mut(&peer)?.lobby = Some(code);
        let values_before = values_before.flatten();
        Some(Seated { code, term_before, news, values_before })
    }

    /// Tells the others of it.
    pub(super) fn tell_seated(&mut self, peer: PeerId, seated: Seated) {
        let Seated { code, term_before, news, values_before } = seated;
        self.tell_newcomer(code, peer);
        if news {
            self.tell_news(code);
        }
        let led = self.lobbies.get(code).map(|lobby| (lobby.host, lobby.term));
        let other = led.filter(|(_, term)| term_before.is_some_and(|before| before != *term));
        if let Some((host, _)) = other {
            self.tell_host(code, peer, host);
        }
        if let Some(before) = values_before {
            self.tell_values(code, peer, &before);
        }
    }

    /// The others have the values that this member has brought.
    fn tell_values(&mut self, code: LobbyCode, by: PeerId, before: &LobbyData) {
        let Some(lobby) = self.lobbies.get(code) else { return };
        let others = lobby.members().iter().map(|member| member.peer).filter(|peer| *peer != by);
        let told = |peer| {
            let (revision, changes) = (lobby.revision, lobby.changes_since(before, peer));
            (peer, ServerMessage::DataChanged { revision, changes })
        };
        let told: Vec<_> = others.map(told).collect();
        told.into_iter().for_each(|(peer, message)| self.tell(peer, message));
    }

    /// Members have what was decided last, and who is none by that is out.
    fn tell_news(&mut self, code: LobbyCode) {
        let Some(lobby) = self.lobbies.get(code) else { return };
        let (options, password) = (lobby.options.clone(), lobby.password.is_some());
        let (playing, out) = (lobby.playing, lobby.no_members());
        let members = lobby.members().to_vec();
        self.tell_all(code, &ServerMessage::OptionsChanged { options, password });
        self.tell_all(code, &ServerMessage::Playing { playing });
        // Some may have another seat.
        for member in members {
            self.tell_all(code, &ServerMessage::MemberChanged { member });
        }
        for (member, reason) in out {
            self.put_out(code, member, reason);
        }
        self.renew_tokens(code);
    }

    fn tell_newcomer(&mut self, code: LobbyCode, peer: PeerId) {
        let member = self.lobbies.get(code).and_then(|lobby| lobby.member(peer)).cloned();
        if let Some(member) = member {
            self.tell_others(code, peer, &ServerMessage::MemberJoined { member });
        }
    }

    /// Another host: members hear of it, and have it in their tokens.
    pub(super) fn tell_host(&mut self, code: LobbyCode, but: PeerId, host: PeerId) {
        let Some(lobby) = self.lobbies.get(code) else { return };
        let (term, revision, changes) = (lobby.term, lobby.revision, lobby.secrets());
        self.tell_others(code, but, &ServerMessage::HostChanged { host, term });
        if !changes.is_empty() {
            self.tell(host, ServerMessage::DataChanged { revision, changes });
        }
        let Some(lobby) = self.lobbies.get(code) else { return };
        let members: Vec<_> = lobby.members().iter().map(|member| member.peer).collect();
        members.into_iter().for_each(|peer| self.tell_token(peer));
    }

    fn tell_joined(&mut self, peer: PeerId, request: u32, code: LobbyCode) {
        let Some(lobby) = self.lobbies.get(code) else {
            return;
        };
        let lobby = lobby.state(code, self.now, peer);
        self.tell(peer, ServerMessage::Joined { request, lobby });
        self.tell_token(peer);
    }

    /// Takes a peer that no longer points to this lobby out of it.
    pub(super) fn leave(&mut self, code: LobbyCode, peer: PeerId, reason: LeaveReason) {
        self.take_out(code, peer, reason);
        self.drop_lost(code);
    }

    fn take_out(&mut self, code: LobbyCode, peer: PeerId, reason: LeaveReason) {
        let plays = self.lobbies.get(code).and_then(|lobby| lobby.member(peer)?.slot).is_some();
        let host = self.change(code, |lobby| lobby.remove(peer)).flatten();
        self.tell_others(code, peer, &ServerMessage::MemberLeft { peer, reason });
        if let Some(host) = host {
            self.tell_host(code, peer, host);
        }
        if plays {
            let ended = self.change(code, Lobby::player_left).flatten();
            self.tell_ended(code, ended);
        }
    }

    /// Ends the sessions of offline members that everybody else has lost. Each removal may change
    /// who everybody is. Where seats are kept, such a member only leads no more.
    pub(super) fn drop_lost(&mut self, code: LobbyCode) {
        while let Some(lost) = self.lobbies.get(code).and_then(Lobby::lost) {
            self.erase(lost);
            self.take_out(code, lost, LeaveReason::Lost);
        }
        self.follow_host(code, Lobby::replace_lost_host);
    }

    /// All hear who leads, if this made it another one.
    pub(super) fn follow_host(
        &mut self,
        code: LobbyCode,
        change: impl FnOnce(&mut Lobby) -> Option<PeerId>,
    ) {
        if let Some(host) = self.change(code, change).flatten() {
            // Nobody is left out: no member has this id.
            self.tell_host(code, PeerId::from_u128(0), host);
        }
    }

    pub(super) fn tell_others(&mut self, code: LobbyCode, than: PeerId, message: &ServerMessage) {
        self.tell_some(code, message, |other| other != than);
    }

    pub(super) fn tell_all(&mut self, code: LobbyCode, message: &ServerMessage) {
        self.tell_some(code, message, |_| true);
    }

    fn tell_some(
        &mut self,
        code: LobbyCode,
        message: &ServerMessage,
        which: impl Fn(PeerId) -> bool,
    ) {
        let Some(lobby) = self.lobbies.get(code) else {
            return;
        };
        let members = lobby.members().iter().map(|member| member.peer);
        for member in members.filter(|peer| which(*peer)).collect::<Vec<_>>() {
            self.tell(member, message.clone());
        }
    }
}

/// Whether a member of before can come back: who was put in its place since stays.
fn has_room(lobby: &Lobby, seat: &Seat) -> bool {
    match seat.slot {
        // Who is there may be none of it.
        _ if lobby.is_news(seat) => true,
        Some(_) => lobby.len() < lobby.options.capacity,
        None => lobby.spectators() < lobby.options.spectators,
    }
}
