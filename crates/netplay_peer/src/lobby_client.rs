//! The player's side of the lobby server: one WebSocket, kept up.
//!
//! Guaranteed: until told to stop it keeps trying, with jittered back-off; a dropped socket resumes
//! the same session, so the peer id stays and no frame is missed or repeated; a server that stays
//! silent for four keep-alive times counts as a dropped socket; the wish to be in a
//! lobby is repeated until the server answers it. A server that was started anew takes us up with our
//! id and our lobby ([`LobbyEvent::Restored`]) if it has the key of the one before, and so does any
//! server if our game was started anew ([`LobbyClient::resume`]). Not guaranteed: that the lobby is
//! still there; if not, [`LobbyEvent::LobbyGone`] says so and links live on.

mod io;
mod requests;

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, LobbyState, Login, Resume, ResumeToken, Search, ServerFrame,
    ServerMessage, SessionKind,
};
use netplay_protocol::{BuildId, GameId, LobbyCode, Now, PROTOCOL_VERSION, PeerId};

use crate::backoff::{BACKOFF_MAX, Backoff};

pub use io::{JoinRequest, LobbyEvent, LobbyInput, LobbyOutput, SavedSession};
pub use requests::{LobbyNews, Refused};

use requests::Pending;

/// From opening the socket to the server's welcome.
const CONNECT: Duration = Duration::from_secs(5);
/// Frames after which we say what we have seen, so that the server can forget them.
const SEEN_EVERY: u64 = 64;
/// Keep-alives in a row without a word from the server, after which the socket is given up. Counted
/// and not timed, so that a process that was stopped does not take its own silence for the server's.
const UNANSWERED_MAX: u32 = 3;
/// A server that answers does so within this time; used when there is doubt about the socket.
const DOUBT: Duration = Duration::from_millis(600);
/// Messages kept for a socket that is away; a mesh of 16 connects with fewer.
const UNSENT_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nobody wants us to connect.
    Idle,
    /// The socket is being opened, or the welcome is awaited.
    Connecting { opened: bool, until: Now },
    /// The server has welcomed us.
    Online { keep_alive_at: Now, keep_alive: Duration, unanswered: u32 },
    /// A pause before the next try.
    Pausing { until: Now },
}

/// Where we want to be, and where we are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Nowhere.
    None,
    /// Not yet there; asked under this number if online.
    Wanted { request: JoinRequest, asked: Option<u32> },
    /// There.
    Member { code: LobbyCode },
}

/// The machine.
#[derive(Debug)]
pub struct LobbyClient {
    game: GameId,
    build: Option<BuildId>,
    login: Option<Login>,
    backoff: Backoff,
    state: State,
    place: Place,
    session: Option<Resume>,
    announced: u64,
    requests: u32,
    search_wanted: Option<Search>,
    pending: Pending,
    /// The lobby that we are in, as far as we have been told.
    lobby: Option<LobbyState>,
    unsent: VecDeque<ClientMessage>,
    outputs: VecDeque<LobbyOutput>,
}

impl LobbyClient {
    /// A client for the lobbies of a game, of one build of it or of all that do not say theirs. `seed`
    /// spreads the back-off of many players.
    pub fn new(game: GameId, build: Option<BuildId>, seed: u64) -> Self {
        Self {
            game,
            build,
            login: None,
            backoff: Backoff::new(seed),
            state: State::Idle,
            place: Place::None,
            session: None,
            announced: 0,
            requests: 0,
            search_wanted: None,
            pending: Pending::default(),
            lobby: None,
            unsent: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Shows who we are whenever a new session begins.
    pub fn log_in(&mut self, login: Login) {
        self.login = Some(login);
    }

    /// Takes up this session when it connects first. If that is not possible, it is a new one.
    pub fn resume(&mut self, saved: SavedSession) {
        let SavedSession { peer, token } = saved;
        self.session = Some(Resume { peer, token, seen: 0, restart: true });
    }

    /// Whether nothing is wanted of the server, and there is no socket.
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether the server has a session for us now.
    pub const fn is_online(&self) -> bool {
        matches!(self.state, State::Online { .. })
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<LobbyOutput> {
        self.outputs.pop_front()
    }

    /// When to send the next [`LobbyInput::Tick`].
    pub const fn next_deadline(&self) -> Option<Now> {
        match self.state {
            State::Idle => None,
            State::Connecting { until, .. } | State::Pausing { until } => Some(until),
            State::Online { keep_alive_at, .. } => Some(keep_alive_at),
        }
    }

    /// Takes one input; then drain [`Self::poll_output`].
    pub fn handle(&mut self, now: Now, input: LobbyInput) {
        match input {
            LobbyInput::Join(JoinRequest::Room(_)) => {
                let text = "a room is on another server: open another session for it".to_owned();
                self.event(LobbyEvent::JoinRefused { code: ErrorCode::AlreadyInLobby, text });
            }
            LobbyInput::Join(request) => {
                self.place = Place::Wanted { request, asked: None };
                self.wake(now);
            }
            LobbyInput::Search(search) => {
                self.search_wanted = Some(search);
                self.wake(now);
            }
            LobbyInput::Request { id, message } => self.request(id, &message),
            LobbyInput::Leave => self.leave(),
            LobbyInput::Signal { to, signal } => self.say(ClientMessage::Signal { to, signal }),
            LobbyInput::ReportLost(peer) => self.say(ClientMessage::ReportLost { peer }),
            // The server asks for losses only.
            LobbyInput::Linked { .. } => {}
            LobbyInput::SocketOpened => self.opened(),
            LobbyInput::SocketText(text) => self.text(now, &text),
            LobbyInput::SocketClosed(why) => self.closed(now, why),
            LobbyInput::Doubt => self.doubt(now),
            LobbyInput::NetworkChanged => self.network_changed(now),
            LobbyInput::Tick => self.tick(now),
        }
    }

    fn event(&mut self, event: LobbyEvent) {
        self.outputs.push_back(LobbyOutput::Event(event));
    }

    fn send(&mut self, message: &ClientMessage) {
        self.outputs.push_back(LobbyOutput::SendText(message.to_json()));
    }

    /// Sends now, or when the socket is back. The oldest goes first when too much waits: what it
    /// said about connecting is stale by then, and the link's deadlines repair it.
    fn say(&mut self, message: ClientMessage) {
        if self.is_online() {
            self.send(&message);
        } else if self.state != State::Idle {
            if self.unsent.len() == UNSENT_MAX {
                self.unsent.pop_front();
            }
            self.unsent.push_back(message);
        }
    }

    fn connect(&mut self, now: Now) {
        self.state = State::Connecting { opened: false, until: now + CONNECT };
        self.outputs.push_back(LobbyOutput::OpenSocket);
    }

    /// Something is wanted: connect if idle, ask if online.
    fn wake(&mut self, now: Now) {
        match self.state {
            State::Idle => self.connect(now),
            State::Online { .. } => self.ask(),
            State::Connecting { .. } | State::Pausing { .. } => {}
        }
    }

    fn next_request(&mut self) -> u32 {
        self.requests = self.requests.wrapping_add(1);
        self.requests
    }

    /// Asks the server for what is wanted and not asked yet.
    fn ask(&mut self) {
        let number = self.next_request();
        if let Place::Wanted { request, asked } = &mut self.place
            && asked.is_none()
        {
            *asked = Some(number);
            let message = match request.clone() {
                JoinRequest::Create(options) => ClientMessage::create(number, options),
                JoinRequest::Code(code) => ClientMessage::join(number, code),
                JoinRequest::Quick(options) => ClientMessage::quick_join(number, options),
                JoinRequest::Ask(message) => message.numbered(number),
                // Never wanted; see `handle`.
                JoinRequest::Room(_) => return,
            };
            self.send(&message);
        }
        if let Some(search) = self.search_wanted.take() {
            let request = self.next_request();
            self.send(&ClientMessage::Search { request, search });
        }
    }

    fn leave(&mut self) {
        if self.is_online() {
            self.send(&ClientMessage::Goodbye);
        }
        if self.state != State::Idle {
            self.outputs.push_back(LobbyOutput::CloseSocket);
        }
        self.state = State::Idle;
        self.place = Place::None;
        self.session = None;
        self.lobby = None;
        self.drop_requests();
        self.unsent.clear();
        self.backoff.reset();
    }

    fn opened(&mut self) {
        if let State::Connecting { opened, .. } = &mut self.state {
            *opened = true;
            let hello = ClientMessage::Hello {
                protocol: PROTOCOL_VERSION,
                game: self.game.clone(),
                build: self.build.clone(),
                resume: self.session.clone(),
                login: self.login.clone(),
            };
            self.send(&hello);
        }
    }

    fn closed(&mut self, now: Now, why: String) {
        if matches!(self.state, State::Idle | State::Pausing { .. }) {
            return;
        }
        let retry_in = self.backoff.next_pause();
        self.state = State::Pausing { until: now + retry_in };
        self.event(LobbyEvent::Offline { why, retry_in });
    }

    fn tick(&mut self, now: Now) {
        match self.state {
            State::Connecting { opened, until } if now >= until => {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                let why = if opened {
                    "the server does not answer as a Netplay lobby"
                } else {
                    "the server cannot be reached in time"
                };
                self.closed(now, why.into());
            }
            State::Pausing { until } if now >= until => self.connect(now),
            State::Online { keep_alive_at, unanswered: UNANSWERED_MAX, .. }
                if now >= keep_alive_at =>
            {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                self.closed(now, "the server has gone silent".into());
            }
            State::Online { keep_alive_at, keep_alive, unanswered } if now >= keep_alive_at => {
                self.seen();
                let (keep_alive_at, unanswered) = (now + keep_alive, unanswered + 1);
                self.state = State::Online { keep_alive_at, keep_alive, unanswered };
            }
            _ => {}
        }
    }

    /// Connects anew, at once. Nobody is told: the session goes on.
    fn network_changed(&mut self, now: Now) {
        match self.state {
            State::Idle => {}
            State::Pausing { .. } => self.connect(now),
            State::Connecting { .. } | State::Online { .. } => {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                self.connect(now);
            }
        }
    }

    /// Asks the server for a sign of life, or tries again at once.
    fn doubt(&mut self, now: Now) {
        match &mut self.state {
            State::Online { keep_alive_at, unanswered, .. } if *unanswered < UNANSWERED_MAX => {
                *keep_alive_at = now + DOUBT;
                *unanswered = UNANSWERED_MAX;
                self.seen();
            }
            State::Pausing { .. } => self.connect(now),
            _ => {}
        }
    }

    fn seen(&mut self) {
        if let Some(session) = &self.session {
            let seen = session.seen;
            self.announced = seen;
            self.send(&ClientMessage::KeepAlive { seen });
        }
    }

    fn text(&mut self, now: Now, text: &str) {
        if !matches!(self.state, State::Connecting { opened: true, .. } | State::Online { .. }) {
            return;
        }
        match ServerFrame::from_json(text) {
            Ok(frame) => self.frame(now, frame),
            Err(error) => {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                self.closed(now, format!("the server does not speak Netplay's protocol: {error}"));
            }
        }
    }

    fn frame(&mut self, now: Now, frame: ServerFrame) {
        if let State::Online { unanswered, .. } = &mut self.state {
            *unanswered = 0;
        }
        if frame.seq > 0 {
            let Some(session) = &mut self.session else {
                return;
            };
            // A repeated frame after a resume.
            if frame.seq <= session.seen {
                return;
            }
            session.seen = frame.seq;
            if frame.seq - self.announced >= SEEN_EVERY {
                self.seen();
            }
        }
        match frame.message {
            ServerMessage::Welcome { peer, token, session, lobby, keep_alive_ms, .. } => {
                let keep_alive = Duration::from_millis(u64::from(keep_alive_ms.clamp(250, 60_000)));
                self.state =
                    State::Online { keep_alive_at: now + keep_alive, keep_alive, unanswered: 0 };
                self.welcome(peer, token, session, lobby);
            }
            ServerMessage::Token { token } => {
                if let Some(session) = &mut self.session {
                    session.token = token;
                }
                self.saved();
            }
            ServerMessage::Joined { lobby, .. } => {
                self.place = Place::Member { code: lobby.code };
                self.lobby = Some(lobby.clone());
                self.event(LobbyEvent::Joined(lobby));
            }
            ServerMessage::Lobbies { lobbies, more, .. } => {
                self.event(LobbyEvent::Lobbies { lobbies, more });
            }
            ServerMessage::Left { .. } => {}
            ServerMessage::Alive => self.drop_doubtful(),
            ServerMessage::Removed { reason } => {
                self.place = Place::None;
                self.lobby = None;
                self.event(LobbyEvent::Removed(reason));
            }
            ServerMessage::Signal { from, signal } => self.event(LobbyEvent::Signal(from, signal)),
            ServerMessage::Error { request, code, text, retry_after_ms } => {
                self.refused(now, request, code, text, retry_after_ms);
            }
            ServerMessage::Done { request } => {
                self.answer(request, None);
            }
            ServerMessage::Invitation { request, invite } => self.invitation(request, invite),
            message => self.told(message),
        }
    }

    fn welcome(
        &mut self,
        peer: PeerId,
        token: ResumeToken,
        kind: SessionKind,
        lobby: Option<LobbyState>,
    ) {
        self.backoff.reset();
        let seen = match kind {
            SessionKind::Continued => self.session.as_ref().map_or(0, |session| session.seen),
            SessionKind::New | SessionKind::Restored => 0,
        };
        self.announced = seen;
        self.session = Some(Resume { peer, token, seen, restart: false });
        self.event(LobbyEvent::Online { me: peer });
        self.saved();
        match kind {
            SessionKind::New => self.unsent.clear(),
            SessionKind::Continued | SessionKind::Restored => {
                for message in core::mem::take(&mut self.unsent) {
                    self.send(&message);
                }
            }
        }
        match kind {
            SessionKind::Continued => self.doubt_requests(),
            SessionKind::New | SessionKind::Restored => {
                self.drop_requests();
                self.lobby.clone_from(&lobby);
            }
        }
        let place = core::mem::replace(&mut self.place, Place::None);
        self.place = match (kind, place, lobby) {
            (SessionKind::Restored, place, Some(lobby)) => {
                let code = lobby.code;
                let known = matches!(place, Place::Member { .. });
                self.event(if known {
                    LobbyEvent::Restored(lobby)
                } else {
                    LobbyEvent::Joined(lobby)
                });
                Place::Member { code }
            }
            (SessionKind::New | SessionKind::Restored, Place::Member { code }, _) => {
                self.event(LobbyEvent::LobbyGone);
                Place::Wanted { request: JoinRequest::Code(code), asked: None }
            }
            // An unanswered question may have been lost with the old socket. Asking again is safe:
            // the server refuses a second join, and that refusal is ignored once we are a member.
            (_, Place::Wanted { request, .. }, _) => Place::Wanted { request, asked: None },
            (_, place, _) => place,
        };
        self.ask();
    }

    /// There is another secret.
    fn saved(&mut self) {
        if let Some(Resume { peer, token, .. }) = self.session.clone() {
            self.event(LobbyEvent::Saved(SavedSession { peer, token }));
        }
    }

    fn refused(
        &mut self,
        now: Now,
        request: Option<u32>,
        code: ErrorCode,
        text: String,
        retry_after_ms: Option<u32>,
    ) {
        if let Some(number) = request {
            let retry_after = retry_after_ms.map(|ms| Duration::from_millis(ms.into()));
            let text = text.clone();
            if self.answer(number, Some(Refused { code, text, retry_after })) {
                return;
            }
        }
        let ours = match &self.place {
            Place::Wanted { asked, .. } => asked.is_some() && *asked == request,
            _ => false,
        };
        match (code, retry_after_ms) {
            // Not now: keep the wish, and come back when the server says.
            (ErrorCode::ServerFull | ErrorCode::RateLimited | ErrorCode::NotYet, Some(after))
                if ours || !self.is_online() =>
            {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                let retry_in = Duration::from_millis(after.into()).min(BACKOFF_MAX * 6);
                self.state = State::Pausing { until: now + retry_in };
                self.event(LobbyEvent::Offline { why: text, retry_in });
            }
            (ErrorCode::Superseded, _) => {
                self.outputs.push_back(LobbyOutput::CloseSocket);
                self.state = State::Idle;
                self.session = None;
                self.event(LobbyEvent::JoinRefused { code, text });
            }
            (ErrorCode::AlreadyInLobby, _) if ours => {}
            (
                ErrorCode::Version
                | ErrorCode::Unauthorized
                | ErrorCode::AccountInUse
                | ErrorCode::Banned,
                _,
            ) if !self.is_online() || code == ErrorCode::Version => {
                self.place = Place::None;
                self.outputs.push_back(LobbyOutput::CloseSocket);
                self.state = State::Idle;
                self.event(LobbyEvent::JoinRefused { code, text });
            }
            _ if ours => {
                self.place = Place::None;
                self.event(LobbyEvent::JoinRefused { code, text });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
