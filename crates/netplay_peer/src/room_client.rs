//! The player's side of a room on a server that speaks matchbox's protocol and knows no lobbies: everybody
//! in it is a player of ours, and what they tell each other is our own [`Signal`].
//!
//! It gives the events of a lobby. What such a server does not know is made up:
//!
//! | of a lobby | in a room |
//! |---|---|
//! | its code | [`LobbyCode::NONE`] |
//! | capacity | the room's `next`, or as many as a lobby has at most |
//! | members | who was met, in that order, ourselves first |
//! | host | the lowest id of these. It may be another one when somebody comes, until all have met all |
//! | the game and its build | nobody looks: links refuse players of another game |
//!
//! | what happens | then |
//! |---|---|
//! | somebody comes after us | we make the offer |
//! | an offer of somebody we do not know | it was there before us |
//! | the server has lost somebody's socket | it is offline while our link to it lives, and has left once that is over |
//! | our own socket is lost while a link lives | links live on and nobody new is met, until the last link is over; there is no resume in this protocol |
//! | our own socket is lost otherwise | we come back after a pause, with another id |
//!
//! Guaranteed: members, queues and pauses are bounded; a malformed frame changes nothing. Not guaranteed: that
//! a dead server is noticed before its socket closes, as it answers nothing; that others in the room are
//! players of ours: who is not is tried, and given up.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::limits::{LOBBY_MEMBERS_MAX, LOBBY_SPECTATORS_MAX};
use netplay_protocol::lobby::{
    ErrorCode, LeaveReason, LobbyOptions, LobbyState, Member as LobbyMember, Signal, SignalBody,
};
use netplay_protocol::matchbox::{Data, Event, Request, Room};
use netplay_protocol::{LobbyCode, Now, PeerId};

use crate::backoff::Backoff;
use crate::lobby_client::{JoinRequest, LobbyEvent, LobbyInput, LobbyNews, LobbyOutput, Refused};

/// From opening the socket to our id.
const CONNECT: Duration = Duration::from_secs(5);
/// Between two words of ours, so that no proxy closes an idle socket: as often as matchbox's own players.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Others at most. A matchbox server may let more in; the rest is not met.
const OTHERS_MAX: usize = (LOBBY_MEMBERS_MAX + LOBBY_SPECTATORS_MAX) as usize - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No room is wanted.
    Idle,
    /// The socket is being opened, or our id is awaited.
    Connecting { opened: bool, until: Now },
    /// In the room.
    Inside { keep_alive_at: Now },
    /// The socket is lost, and a link lives.
    Cut,
    /// A pause before the next try.
    Pausing { until: Now },
}

/// Somebody who was met.
#[derive(Debug)]
struct Member {
    peer: PeerId,
    /// It came after us.
    newcomer: bool,
    /// The server has a socket of it, as far as we know.
    here: bool,
    /// Our link to it is established.
    linked: bool,
}

/// The machine.
#[derive(Debug)]
pub struct RoomClient {
    state: State,
    room: Option<Room>,
    me: Option<PeerId>,
    host: Option<PeerId>,
    members: Vec<Member>,
    backoff: Backoff,
    outputs: VecDeque<LobbyOutput>,
}

impl RoomClient {
    /// In no room. `seed` spreads the back-off of many players.
    pub fn new(seed: u64) -> Self {
        Self {
            state: State::Idle,
            room: None,
            me: None,
            host: None,
            members: Vec::new(),
            backoff: Backoff::new(seed),
            outputs: VecDeque::new(),
        }
    }

    /// Whether no room is wanted.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// The room that is wanted.
    pub const fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    /// Whether this player came into the room after us.
    pub fn came_after_us(&self, peer: PeerId) -> bool {
        self.members.iter().any(|member| member.peer == peer && member.newcomer)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<LobbyOutput> {
        self.outputs.pop_front()
    }

    /// When to send the next [`LobbyInput::Tick`].
    pub const fn next_deadline(&self) -> Option<Now> {
        match self.state {
            State::Idle | State::Cut => None,
            State::Connecting { until, .. } | State::Pausing { until } => Some(until),
            State::Inside { keep_alive_at } => Some(keep_alive_at),
        }
    }

    /// Takes one input; then drain [`Self::poll_output`].
    pub fn handle(&mut self, now: Now, input: LobbyInput) {
        match input {
            LobbyInput::Join(request) => self.join(now, request),
            // Such a server shows no rooms.
            LobbyInput::Search(_) => {
                self.event(LobbyEvent::Lobbies { lobbies: Vec::new(), more: false });
            }
            LobbyInput::Request { id, .. } => {
                let code = ErrorCode::NotInLobby;
                let text = "a room of a matchbox server has none of this".to_owned();
                let refused = Some(Refused { code, text, retry_after: None });
                self.event(LobbyEvent::News(LobbyNews::Answered { id, refused }));
            }
            LobbyInput::Leave => self.leave(),
            LobbyInput::Signal { to, signal } => self.signal(to, &signal),
            LobbyInput::Linked { peer, linked } => self.linked(now, peer, linked),
            LobbyInput::SocketOpened => {
                if let State::Connecting { opened, .. } = &mut self.state {
                    *opened = true;
                }
            }
            LobbyInput::SocketText(text) => self.text(now, &text),
            LobbyInput::SocketClosed(why) => self.closed(now, why),
            LobbyInput::NetworkChanged => self.network_changed(now),
            LobbyInput::Tick => self.tick(now),
            // The server cannot be asked for a sign of life, nor told of a lost link.
            LobbyInput::Doubt | LobbyInput::ReportLost(_) => {}
        }
    }

    fn event(&mut self, event: LobbyEvent) {
        self.outputs.push_back(LobbyOutput::Event(event));
    }

    fn say(&mut self, request: &Request) {
        self.outputs.push_back(LobbyOutput::SendText(request.to_json()));
    }

    fn join(&mut self, now: Now, request: JoinRequest) {
        match request {
            JoinRequest::Room(room) if self.is_idle() => {
                self.room = Some(room);
                self.connect(now);
            }
            _ => {
                let (code, text) = (ErrorCode::AlreadyInLobby, "in a room already".to_owned());
                self.event(LobbyEvent::JoinRefused { code, text });
            }
        }
    }

    fn connect(&mut self, now: Now) {
        self.state = State::Connecting { opened: false, until: now + CONNECT };
        self.outputs.push_back(LobbyOutput::OpenSocket);
    }

    fn leave(&mut self) {
        if !self.is_idle() {
            self.outputs.push_back(LobbyOutput::CloseSocket);
        }
        self.state = State::Idle;
        (self.room, self.me, self.host) = (None, None, None);
        self.members.clear();
        self.backoff.reset();
    }

    /// What is said to somebody whom the server cannot reach, or while our socket is away, is lost: the
    /// link's deadlines repair what they can.
    fn signal(&mut self, to: PeerId, signal: &Signal) {
        let here = self.members.iter().any(|member| member.peer == to && member.here);
        if here && matches!(self.state, State::Inside { .. }) {
            self.say(&Request::Signal { receiver: to, data: Data::of(signal) });
        }
    }

    fn linked(&mut self, now: Now, peer: PeerId, linked: bool) {
        let Some(member) = self.members.iter_mut().find(|member| member.peer == peer) else {
            return;
        };
        member.linked = linked;
        if !linked && !member.here {
            self.remove(peer, LeaveReason::Lost);
            if self.state == State::Cut && !self.has_links() {
                self.pause(now, "the last player of the room is gone".to_owned());
            }
        }
    }

    fn has_links(&self) -> bool {
        self.members.iter().any(|member| member.linked)
    }

    fn remove(&mut self, peer: PeerId, reason: LeaveReason) {
        self.members.retain(|member| member.peer != peer);
        self.changed(LobbyEvent::MemberLeft(peer, reason));
    }

    /// Somebody is met.
    fn meet(&mut self, peer: PeerId, newcomer: bool) {
        let known = self.members.iter().any(|member| member.peer == peer);
        if known || self.me == Some(peer) || self.members.len() >= OTHERS_MAX {
            return;
        }
        self.members.push(Member { peer, newcomer, here: true, linked: false });
        self.changed(LobbyEvent::MemberJoined(peer, 0));
    }

    /// Members are others now, because of this; and so may the host be.
    fn changed(&mut self, by: LobbyEvent) {
        let lowest = self.members.iter().map(|member| member.peer).chain(self.me).min();
        let new = lowest.filter(|_| self.host != lowest);
        self.host = lowest;
        if let Some(lobby) = self.lobby() {
            self.event(LobbyEvent::Changed(lobby));
        }
        self.event(by);
        if let Some(host) = new {
            self.event(LobbyEvent::HostChanged(host));
        }
    }

    /// The room as a lobby. Its members are in the order in which they came: those who were there before us, and
    /// those who came after.
    fn lobby(&self) -> Option<LobbyState> {
        let (room, me) = (self.room.as_ref()?, self.me?);
        let capacity = room.next.map_or(LOBBY_MEMBERS_MAX, |next| next.get());
        let options =
            LobbyOptions { name: room.name.to_string(), ..LobbyOptions::private(capacity) };
        let others = |newcomer| {
            let those = self.members.iter().filter(move |member| member.newcomer == newcomer);
            those.map(|member| LobbyMember {
                online: member.here,
                ..LobbyMember::new(member.peer, 0)
            })
        };
        let members = others(false).chain([LobbyMember::new(me, 0)]).chain(others(true)).collect();
        Some(LobbyState::new(LobbyCode::NONE, options, self.host?, members))
    }

    fn closed(&mut self, now: Now, why: String) {
        if !matches!(self.state, State::Connecting { .. } | State::Inside { .. }) {
            return;
        }
        self.forget_unlinked();
        if self.has_links() {
            self.state = State::Cut;
            // Nobody knows how long the links live.
            self.event(LobbyEvent::Offline { why, retry_in: Duration::MAX });
        } else {
            self.pause(now, why);
        }
    }

    /// Those to whom no link is established cannot be reached any more.
    fn forget_unlinked(&mut self) {
        for member in &mut self.members {
            member.here = false;
        }
        let unlinked = self.members.iter().filter(|member| !member.linked);
        for peer in unlinked.map(|member| member.peer).collect::<Vec<_>>() {
            self.remove(peer, LeaveReason::Lost);
        }
        if let Some(lobby) = self.lobby().filter(|_| self.has_links()) {
            self.event(LobbyEvent::Changed(lobby));
        }
    }

    fn pause(&mut self, now: Now, why: String) {
        let retry_in = self.backoff.next_pause();
        self.state = State::Pausing { until: now + retry_in };
        self.event(LobbyEvent::Offline { why, retry_in });
    }

    fn tick(&mut self, now: Now) {
        match self.state {
            State::Connecting { opened, until } if now >= until => {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                let why = if opened {
                    "the server does not answer as a matchbox server"
                } else {
                    "the server cannot be reached in time"
                };
                self.closed(now, why.into());
            }
            State::Pausing { until } if now >= until => self.connect(now),
            State::Inside { keep_alive_at } if now >= keep_alive_at => {
                self.say(&Request::KeepAlive);
                self.state = State::Inside { keep_alive_at: now + KEEP_ALIVE };
            }
            _ => {}
        }
    }

    /// A socket that may still work is worth more than a new one, which is another player's.
    fn network_changed(&mut self, now: Now) {
        match self.state {
            State::Pausing { .. } => self.connect(now),
            State::Connecting { .. } => {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                self.connect(now);
            }
            State::Inside { .. } if !self.has_links() => {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                self.forget_unlinked();
                self.connect(now);
            }
            State::Idle | State::Inside { .. } | State::Cut => {}
        }
    }

    fn text(&mut self, now: Now, text: &str) {
        match (self.state, Event::from_json(text)) {
            (State::Connecting { opened: true, .. }, Ok(Event::IdAssigned(me))) => {
                self.enter(now, me);
            }
            (State::Connecting { opened: true, .. }, _) => {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                self.closed(now, "the server does not speak matchbox's protocol".to_owned());
            }
            (State::Inside { .. }, Ok(event)) => self.heard(event),
            _ => {}
        }
    }

    fn enter(&mut self, now: Now, me: PeerId) {
        self.state = State::Inside { keep_alive_at: now + KEEP_ALIVE };
        self.backoff.reset();
        (self.me, self.host) = (Some(me), Some(me));
        self.event(LobbyEvent::Online { me });
        if let Some(lobby) = self.lobby() {
            self.event(LobbyEvent::Joined(lobby));
        }
    }

    fn heard(&mut self, event: Event) {
        match event {
            // Never a second time from an honest server.
            Event::IdAssigned(_) => {}
            Event::NewPeer(peer) => self.meet(peer, true),
            Event::PeerLeft(peer) => {
                let member = self.members.iter_mut().find(|member| member.peer == peer);
                match member {
                    Some(member) if member.linked => {
                        member.here = false;
                        self.changed(LobbyEvent::MemberOffline(peer));
                    }
                    Some(_) => self.remove(peer, LeaveReason::Left),
                    None => {}
                }
            }
            Event::Signal { sender, data } => {
                let Ok(signal) = data.signal() else { return };
                if matches!(signal.body, SignalBody::Offer { .. }) {
                    self.meet(sender, false);
                }
                if self.members.iter().any(|member| member.peer == sender) {
                    self.event(LobbyEvent::Signal(sender, signal));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
