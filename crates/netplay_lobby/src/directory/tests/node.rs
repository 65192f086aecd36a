//! A directory with clients that are scripted by hand.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, InviteToken, JoinWith, LobbyOptions, LobbyState, LobbySummary,
    Member, OptionsChange, RawSignal, Resume, ResumeToken, Search, ServerFrame, ServerMessage,
    SessionKind, Signal, SignalBody,
};
use netplay_protocol::{GameId, LobbyCode, Now, PeerId};

use crate::lobby::{NewLobby, Newcomer, Realm};
use crate::{Config, ConnectionId, Directory, Input, Key, Output};

pub(super) struct Node {
    pub(super) directory: Directory,
    pub(super) now: Now,
    frames: BTreeMap<u64, Vec<ServerFrame>>,
    closed: BTreeMap<u64, ErrorCode>,
    sessions: BTreeMap<u64, (PeerId, ResumeToken)>,
    /// From the welcome of a restored session.
    lobbies: BTreeMap<u64, LobbyState>,
    config: Config,
    boots: u8,
}

fn directory(config: &Config, boot: u8, key: u8) -> Directory {
    Directory::new(config.clone(), [boot; 32]).with_key(Key([key; 32]), 1_000_000)
}

/// What a client reads.
pub(super) fn read(text: &[u8]) -> ServerFrame {
    let text = str::from_utf8(text).expect("JSON is UTF-8");
    ServerFrame::from_json(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(super) fn options(capacity: u8) -> LobbyOptions {
    LobbyOptions { name: "a game".into(), ..LobbyOptions::public(capacity) }
}

pub(super) fn signal(attempt: u32) -> Signal {
    Signal { attempt, body: SignalBody::Offer { sdp: "v=0".into() } }
}

pub(super) fn members(lobby: &LobbyState) -> Vec<(PeerId, bool)> {
    lobby.members.iter().map(|member| (member.peer, member.online)).collect()
}

/// A player with this seat joins.
pub(super) fn joins(peer: PeerId, slot: u8) -> ServerMessage {
    ServerMessage::MemberJoined { member: Member { slot: Some(slot), ..Member::new(peer, 0) } }
}

impl Node {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self {
            directory: directory(&config, 0, 7),
            config,
            boots: 0,
            lobbies: BTreeMap::new(),
            now: Now::from_millis(1000),
            frames: BTreeMap::new(),
            closed: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    pub(super) fn input(&mut self, input: Input) {
        self.directory.handle(self.now, input);
        self.take_outputs();
    }

    pub(super) fn signal(&mut self, connection: u64, to: PeerId, signal: RawSignal<'_>) {
        self.directory.handle_signal(self.now, ConnectionId(connection), to, signal);
        self.take_outputs();
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.directory.poll_output() {
            match output {
                Output::Send { connection, text, refused } => {
                    let frame = read(text);
                    if let Some(refused) = refused {
                        let error = &frame.message;
                        assert!(
                            matches!(error, ServerMessage::Error { code, .. } if *code == refused)
                        );
                    }
                    self.frames.entry(connection.0).or_default().push(frame);
                }
                Output::Close { connection, code, .. } => {
                    self.closed.insert(connection.0, code);
                }
            }
        }
    }

    /// The server is started anew; all sockets are gone.
    pub(super) fn restart_server(&mut self) {
        self.boot(7);
    }

    /// From the next start of the server on.
    pub(super) fn require_logins(&mut self) {
        self.config.login_required = true;
    }

    pub(super) fn restart_server_with_another_key(&mut self) {
        self.boot(8);
    }

    fn boot(&mut self, key: u8) {
        self.boots += 1;
        self.directory = directory(&self.config, self.boots, key);
        self.closed.clear();
    }

    /// Who a connection is, and with which token it comes back.
    pub(super) fn session(&self, connection: u64) -> (PeerId, ResumeToken) {
        self.sessions[&connection].clone()
    }

    /// The lobby in the welcome of a restored session.
    pub(super) fn lobby(&mut self, connection: u64) -> Option<LobbyState> {
        self.lobbies.remove(&connection)
    }

    /// Creates a lobby under a code that another had before.
    pub(super) fn use_code_again(
        &mut self,
        connection: u64,
        code: LobbyCode,
        options: LobbyOptions,
    ) {
        let (peer, _) = self.session(connection);
        let game = GameId::new("game").unwrap();
        let realm = Realm { game, build: None };
        let closes = Now::from_millis(u64::MAX / 2000);
        let new = NewLobby { id: 99, realm, options, password: None, closes };
        self.directory.lobbies.create(code, new, peer, Newcomer::default());
        self.directory.arm(code);
        self.directory.sessions.get_mut(&peer).unwrap().lobby = Some(code);
        self.directory.tell_token(peer);
        self.say(connection, ClientMessage::KeepAlive { seen: 0 });
        self.take(connection);
    }

    pub(super) fn connect(&mut self, connection: u64) {
        self.connect_from(connection, None);
    }

    pub(super) fn connect_from(&mut self, connection: u64, address: Option<IpAddr>) {
        self.input(Input::Connected { connection: ConnectionId(connection), address });
    }

    pub(super) fn disconnect(&mut self, connection: u64) {
        self.input(Input::Disconnected { connection: ConnectionId(connection) });
    }

    pub(super) fn say(&mut self, connection: u64, message: ClientMessage) {
        self.input(Input::Message { connection: ConnectionId(connection), message });
    }

    pub(super) fn say_hello(&mut self, connection: u64, resume: Option<Resume>) {
        let game = GameId::new("game").unwrap();
        self.say(connection, ClientMessage::hello(game, resume));
    }

    /// Connects and greets.
    pub(super) fn hello(&mut self, connection: u64) -> PeerId {
        self.hello_game(connection, "game")
    }

    pub(super) fn hello_game(&mut self, connection: u64, game: &str) -> PeerId {
        self.connect(connection);
        let game = GameId::new(game).unwrap();
        let hello = ClientMessage::hello(game, None);
        self.say(connection, hello);
        self.welcomed(connection).0
    }

    /// Takes the welcome: the peer, and which session it has.
    pub(super) fn welcomed(&mut self, connection: u64) -> (PeerId, SessionKind) {
        let frame = self.frames.get_mut(&connection).expect("frames").remove(0);
        let ServerFrame {
            seq: 0,
            message: ServerMessage::Welcome { peer, token, session, lobby, .. },
        } = frame
        else {
            panic!("{frame:?} is no welcome");
        };
        if let Some(lobby) = lobby {
            self.lobbies.insert(connection, lobby);
        }
        self.sessions.insert(connection, (peer, token));
        (peer, session)
    }

    /// Takes up the session of one connection on a new one. Whether that worked.
    pub(super) fn resume_over(&mut self, old: u64, new: u64, seen: u64) -> bool {
        let (peer, token) = self.sessions[&old].clone();
        self.connect(new);
        self.say_hello(new, Some(Resume { peer, token, seen, restart: false }));
        self.welcomed(new).1 == SessionKind::Continued
    }

    pub(super) fn token(&self, connection: u64) -> ResumeToken {
        self.sessions[&connection].1.clone()
    }

    /// What has arrived since the last call, tokens excepted.
    pub(super) fn take(&mut self, connection: u64) -> Vec<ServerMessage> {
        let frames = self.take_frames(connection).into_iter().map(|frame| frame.message);
        frames.filter(|message| !matches!(message, ServerMessage::Token { .. })).collect()
    }

    pub(super) fn take_frames(&mut self, connection: u64) -> Vec<ServerFrame> {
        let frames = self.frames.remove(&connection).unwrap_or_default();
        for frame in &frames {
            if let ServerMessage::Token { token } = &frame.message
                && let Some((_, known)) = self.sessions.get_mut(&connection)
            {
                *known = token.clone();
            }
        }
        frames
    }

    /// Takes the first message, which must be this one, and leaves the rest.
    pub(super) fn take_last(&mut self, connection: u64, expected: ServerMessage) {
        let frame = self.frames.get_mut(&connection).expect("frames").remove(0);
        assert_eq!(frame.message, expected);
    }

    /// Takes the one message that arrived, an error.
    pub(super) fn error(&mut self, connection: u64) -> (Option<u32>, ErrorCode) {
        match &self.take(connection)[..] {
            [ServerMessage::Error { request, code, .. }] => (*request, *code),
            other => panic!("one error is expected, not {other:?}"),
        }
    }

    pub(super) fn closed(&self, connection: u64) -> Option<ErrorCode> {
        self.closed.get(&connection).copied()
    }

    fn joined(&mut self, connection: u64) -> LobbyState {
        match self.take(connection).pop() {
            Some(ServerMessage::Joined { lobby, .. }) => lobby,
            other => panic!("a lobby is expected, not {other:?}"),
        }
    }

    pub(super) fn create(&mut self, connection: u64, options: LobbyOptions) -> LobbyState {
        self.say(connection, ClientMessage::create(1, options));
        self.joined(connection)
    }

    pub(super) fn join(&mut self, connection: u64, code: LobbyCode) -> LobbyState {
        self.say(connection, ClientMessage::join(1, code));
        self.joined(connection)
    }

    pub(super) fn quick(&mut self, connection: u64, options: LobbyOptions) -> LobbyState {
        self.say(connection, ClientMessage::quick_join(1, options));
        self.joined(connection)
    }

    pub(super) fn list(&mut self, connection: u64) -> Vec<LobbySummary> {
        self.say(connection, ClientMessage::search(1));
        match self.take(connection).pop() {
            Some(ServerMessage::Lobbies { lobbies, .. }) => lobbies,
            other => panic!("a list is expected, not {other:?}"),
        }
    }

    /// Lets time pass, with every tick that is due.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.directory.next_deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
    }
}

/// What members ask for and get.
impl Node {
    /// Asks for something, which is done. Gives what it was told before that.
    pub(super) fn done(&mut self, connection: u64, message: ClientMessage) -> Vec<ServerMessage> {
        let request = message.request().expect("a request");
        self.say(connection, message);
        let mut told = self.take(connection);
        assert_eq!(told.pop(), Some(ServerMessage::Done { request }), "after {told:?}");
        told
    }

    /// Asks for something, which is refused.
    pub(super) fn refused(&mut self, connection: u64, message: ClientMessage) -> ErrorCode {
        let request = message.request();
        self.say(connection, message);
        let (of, code) = self.error(connection);
        assert_eq!(of, request);
        code
    }

    pub(super) fn update(&mut self, connection: u64, change: OptionsChange) {
        self.done(connection, ClientMessage::Update { request: 1, change });
    }

    pub(super) fn join_with(
        &mut self,
        connection: u64,
        code: LobbyCode,
        with: JoinWith,
    ) -> LobbyState {
        self.say(connection, ClientMessage::Join { request: 1, code, with });
        self.joined(connection)
    }

    /// Joins by invitation of this member.
    pub(super) fn invite(&mut self, connection: u64, to: Option<PeerId>) -> InviteToken {
        self.say(connection, ClientMessage::Invite { request: 1, to, secs: 60 });
        match self.take(connection).pop() {
            Some(ServerMessage::Invitation { request: 1, invite }) => invite,
            other => panic!("an invitation is expected, not {other:?}"),
        }
    }

    pub(super) fn search(&mut self, connection: u64, search: Search) -> (Vec<LobbySummary>, bool) {
        self.say(connection, ClientMessage::Search { request: 1, search });
        match self.take(connection).pop() {
            Some(ServerMessage::Lobbies { lobbies, more, .. }) => (lobbies, more),
            other => panic!("a list is expected, not {other:?}"),
        }
    }

    /// As many players as the capacity says are in one lobby; what they were told is taken.
    pub(super) fn lobby_of(
        &mut self,
        players: u64,
        options: LobbyOptions,
    ) -> (LobbyCode, Vec<PeerId>) {
        let peers = (1..=players).map(|connection| self.hello(connection)).collect();
        let code = self.create(1, options).code;
        (2..=players).for_each(|connection| drop(self.join(connection, code)));
        (1..=players).for_each(|connection| drop(self.take(connection)));
        (code, peers)
    }
}
