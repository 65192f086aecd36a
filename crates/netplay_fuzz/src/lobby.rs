//! A lobby server, fed with commands of some clients, text that may be one, tokens that may be forged,
//! and time.
//!
//! Asserted: it stays within its limits; it says nothing to a closed connection; frames of a session
//! are numbered without a gap; a token that it did not make takes nothing up; its timers come to rest.

use core::time::Duration;

use netplay_lobby::{Config, ConnectionId, Directory, Input, Key, Output, RateLimit};
use netplay_protocol::lobby::{
    ClientMessage, Entry, InviteToken, JoinWith, LobbyOptions, LobbyState, OptionsChange, Password,
    PlaceChange, Rejoin, Resume, ResumeToken, ServerFrame, ServerMessage, SessionKind, Signal,
    SignalBody, Tier, Visibility,
};
use netplay_protocol::{DataKey, GameId, LobbyCode, Now, PROTOCOL_VERSION, PeerId};

use crate::script::Script;

/// Clients that are played at once, and tokens and lobbies that are remembered.
const CLIENTS: usize = 5;
const REMEMBERED: usize = 8;

/// One connection as its client sees it.
struct Client {
    connection: ConnectionId,
    /// The number of the next frame of the session.
    next: Option<u64>,
    /// What it said that it has seen, and whether that was with a token that was never given.
    seen: u64,
    forged: bool,
    peer: Option<PeerId>,
}

struct World {
    directory: Directory,
    config: Config,
    boots: u8,
    now: Now,
    connections: u64,
    clients: [Option<Client>; CLIENTS],
    tokens: Vec<(PeerId, ResumeToken)>,
    codes: Vec<LobbyCode>,
    invites: Vec<InviteToken>,
}

/// A lobby server and its clients.
pub fn lobby(data: &[u8]) {
    let mut script = Script::new(data);
    let config = config(script.below(3));
    let mut world = World {
        directory: directory(&config, 0),
        config,
        boots: 0,
        now: Now::ZERO,
        connections: 0,
        clients: [const { None }; CLIENTS],
        tokens: Vec::new(),
        codes: Vec::new(),
        invites: Vec::new(),
    };
    while !script.is_over() {
        world.step(&mut script);
        world.check();
    }
    // Nobody is there for longer than anything is kept.
    (0..CLIENTS).for_each(|who| world.disconnect(who));
    world.wait(world.config.seat_max + Duration::from_secs(60));
    world.check();
    assert_eq!(world.directory.stats(), netplay_lobby::Stats::default());
    assert_eq!(world.directory.next_deadline(), None);
}

fn config(kind: usize) -> Config {
    let limit = |burst| RateLimit { burst, per_second: burst };
    let (loose, tight) = (limit(10_000), RateLimit { burst: 4, per_second: 1 });
    let (messages, signals, joins, invites) = (loose, loose, loose, loose);
    let generous = Config { messages, signals, joins, invites, ..Config::default() };
    match kind {
        0 => generous,
        1 => Config { log_frames: 3, log_bytes: 600, log_bytes_total: 1200, ..generous },
        _ => Config {
            messages: tight,
            signals: tight,
            joins: tight,
            max_connections: 4,
            max_sessions: 6,
            max_lobbies: 2,
            ..Config::default()
        },
    }
}

fn directory(config: &Config, boot: u8) -> Directory {
    Directory::new(config.clone(), [boot; 32]).with_key(Key([3; 32]), 0)
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        let (what, who) = (script.below(24), script.below(CLIENTS));
        let request = 1;
        let message = match what {
            0 | 1 => return self.connect(who, script),
            2 => return self.disconnect(who),
            3 => return self.wait(Duration::from_millis(u64::from(script.u16()))),
            4 => ClientMessage::create(request, options(script)),
            5 => ClientMessage::quick_join(request, options(script)),
            6 => ClientMessage::Join { request, code: self.code(script), with: self.with(script) },
            7 => ClientMessage::search(request),
            8 => ClientMessage::Leave { request },
            9 | 10 => ClientMessage::Signal { to: self.peer(script), signal: signal(script) },
            11 => ClientMessage::ReportLost { peer: self.peer(script) },
            12 => ClientMessage::KeepAlive { seen: script.u8().into() },
            13 => ClientMessage::Goodbye,
            14 => return self.text(who, script.short()),
            15 => return self.restart(),
            16 => return self.input(Input::Tick),
            17..=22 => self.hosting(script),
            _ => return self.hello(who, script),
        };
        self.say(who, message);
    }

    fn with(&self, script: &mut Script<'_>) -> JoinWith {
        let kind = script.u8();
        let invite = self.invites.get(usize::from(kind % 8)).cloned();
        let password = (kind & 64 != 0).then(|| password(kind));
        JoinWith { password, invite, spectate: kind & 128 != 0, ..JoinWith::default() }
    }

    /// What members do in a lobby.
    fn hosting(&self, script: &mut Script<'_>) -> ClientMessage {
        let (request, peer, number) = (1, self.peer(script), script.u8());
        let key = DataKey::new(format!("k{}", number % 4)).expect("a plain name");
        let set = number & 64 != 0;
        match script.below(14) {
            0 => ClientMessage::Update { request, change: change(script) },
            1 => {
                let tier = [Tier::Public, Tier::Members, Tier::Host][usize::from(number % 3)];
                let entry = set.then(|| Entry { value: i64::from(number).into(), tier });
                let revision = (number & 128 != 0).then(|| script.u8().into());
                ClientMessage::SetData { request, revision, changes: [(key, entry)].into() }
            }
            2 => {
                let changes = [(key, set.then(|| "value".into()))].into();
                ClientMessage::SetMemberData { request, changes }
            }
            3 => {
                let slot = Some(set.then_some(number % 8));
                let change = PlaceChange { slot, team: Some(Some(number % 4)), role: None };
                ClientMessage::Place { request, peer, change }
            }
            4 => ClientMessage::Ready { ready: set },
            5 => ClientMessage::ReadyCheck { request, secs: number.into() },
            6 => ClientMessage::Countdown { request, ms: u32::from(number) * 10 },
            7 => ClientMessage::CancelCountdown { request },
            8 => ClientMessage::SetPlaying { request, playing: set },
            9 => {
                let rejoin =
                    [Rejoin::Free, Rejoin::Invited, Rejoin::Never][usize::from(number % 3)];
                ClientMessage::Kick { request, peer, rejoin }
            }
            10 => ClientMessage::Unban { request, peer },
            11 => ClientMessage::Promote { request, peer },
            12 => ClientMessage::Reserve { request, peers: vec![peer; 3], secs: number.into() },
            _ => ClientMessage::Invite { request, to: set.then_some(peer), secs: number.into() },
        }
    }

    fn input(&mut self, input: Input) {
        self.directory.handle(self.now, input);
        while let Some(output) = self.directory.poll_output() {
            match output {
                Output::Send { connection, text, .. } => {
                    let text = core::str::from_utf8(text).expect("JSON is UTF-8");
                    let frame = ServerFrame::from_json(text);
                    let frame = frame.unwrap_or_else(|error| panic!("{error}: {text}"));
                    self.sent(connection, frame);
                }
                Output::Close { connection, text, .. } => {
                    let who = self.client(connection);
                    self.clients[who] = None;
                    assert!(text.len() <= 200, "{text}");
                }
            }
        }
    }

    /// The client that has this connection: nothing is said to one that is closed.
    fn client(&self, connection: ConnectionId) -> usize {
        let has = |client: &Option<Client>| {
            client.as_ref().is_some_and(|client| client.connection == connection)
        };
        self.clients.iter().position(has).expect("the connection is open")
    }

    fn sent(&mut self, connection: ConnectionId, frame: ServerFrame) {
        let who = self.client(connection);
        let Some(client) = &mut self.clients[who] else { return };
        if let ServerMessage::Welcome { peer, session, .. } = &frame.message {
            assert_eq!((frame.seq, client.next), (0, None));
            assert!(!client.forged || *session == SessionKind::New, "a forged token counts");
            let first = if *session == SessionKind::Continued { client.seen } else { 0 };
            (client.next, client.peer) = (Some(first + 1), Some(*peer));
        } else if frame.seq > 0 {
            assert_eq!(Some(frame.seq), client.next, "{:?}", frame.message);
            client.next = Some(frame.seq + 1);
        } else {
            let outside =
                matches!(frame.message, ServerMessage::Alive | ServerMessage::Error { .. });
            assert!(outside, "{:?}", frame.message);
        }
        let peer = client.peer;
        match frame.message {
            ServerMessage::Welcome { peer, token, lobby, .. } => {
                self.tokens.push((peer, token));
                lobby.iter().for_each(|lobby| self.entered(lobby, Some(peer)));
            }
            ServerMessage::Token { token } => {
                self.tokens.push((peer.expect("after a welcome"), token));
            }
            ServerMessage::Joined { lobby, .. } => self.entered(&lobby, peer),
            ServerMessage::Invitation { invite, .. } => self.invites.push(invite),
            _ => {}
        }
        if self.invites.len() > REMEMBERED {
            self.invites.remove(0);
        }
        if self.tokens.len() > REMEMBERED {
            self.tokens.remove(0);
        }
    }

    fn entered(&mut self, lobby: &LobbyState, peer: Option<PeerId>) {
        let players = lobby.members.iter().filter(|member| member.slot.is_some()).count();
        assert!(players <= lobby.options.capacity.into(), "{lobby:?}");
        let watch = lobby.members.len() - players;
        assert!(watch <= lobby.options.spectators.into(), "{lobby:?}");
        assert!(lobby.members.iter().any(|member| Some(member.peer) == peer), "{lobby:?}");
        if !self.codes.contains(&lobby.code) {
            self.codes.push(lobby.code);
        }
        if self.codes.len() > REMEMBERED {
            self.codes.remove(0);
        }
    }

    fn say(&mut self, who: usize, message: ClientMessage) {
        // One that was never open too.
        let client = self.clients[who].as_ref();
        let connection = client.map_or(ConnectionId(u64::MAX), |client| client.connection);
        self.input(Input::Message { connection, message });
    }

    /// A text frame, as the shell takes it.
    fn text(&mut self, who: usize, bytes: &[u8]) {
        let Ok(text) = core::str::from_utf8(bytes) else { return };
        let client = self.clients[who].as_ref();
        let Some(connection) = client.map(|client| client.connection) else { return };
        match ClientMessage::from_json(text) {
            // Its token is not among those that are followed here.
            Ok(ClientMessage::Hello { .. }) => {}
            Ok(message) => self.input(Input::Message { connection, message }),
            Err(error) => self.input(Input::Malformed { connection, error }),
        }
    }

    fn connect(&mut self, who: usize, script: &mut Script<'_>) {
        self.disconnect(who);
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let client = Client { connection, next: None, seen: 0, forged: false, peer: None };
        self.clients[who] = Some(client);
        self.input(Input::Connected { connection, address: None });
        self.hello(who, script);
    }

    fn hello(&mut self, who: usize, script: &mut Script<'_>) {
        let kind = script.u8();
        let game = GameId::new(if kind & 64 == 0 { "game" } else { "other" });
        let game = game.expect("a short word");
        let known = script.below(REMEMBERED);
        let token = self.tokens.get(known).filter(|_| kind & 3 != 0).cloned();
        let resume = token.map(|(peer, mut token)| {
            let forged = kind & 16 != 0;
            if forged {
                // Before the point: that is what the signature is of.
                let at = script.below(token.0.find('.').unwrap_or(1));
                let other = if token.0.as_bytes()[at] == b'A' { "B" } else { "A" };
                token.0.replace_range(at..=at, other);
            }
            let seen = script.u8().into();
            let client = self.clients[who].as_mut().filter(|client| client.next.is_none());
            if let Some(client) = client {
                (client.seen, client.forged) = (seen, forged);
            }
            Resume { peer, token, seen, restart: kind & 32 != 0 }
        });
        let protocol = if kind == 255 { 0 } else { PROTOCOL_VERSION };
        self.say(who, ClientMessage::Hello { protocol, game, build: None, resume, login: None });
    }

    fn disconnect(&mut self, who: usize) {
        if let Some(client) = self.clients[who].take() {
            self.input(Input::Disconnected { connection: client.connection });
        }
    }

    /// The server is started anew, with its key.
    fn restart(&mut self) {
        self.boots = self.boots.wrapping_add(1);
        self.directory = directory(&self.config, self.boots);
        self.clients = [const { None }; CLIENTS];
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.directory.next_deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            self.input(Input::Tick);
            let next = self.directory.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "a timer does not come to rest");
        }
        self.now = end;
    }

    fn code(&self, script: &mut Script<'_>) -> LobbyCode {
        let known = self.codes.get(script.below(REMEMBERED)).copied();
        known.unwrap_or_else(|| LobbyCode::from_random(1))
    }

    fn peer(&self, script: &mut Script<'_>) -> PeerId {
        let of = self.clients[script.below(CLIENTS)].as_ref();
        of.and_then(|client| client.peer).unwrap_or(PeerId::from_u128(1))
    }

    fn check(&self) {
        let (stats, config) = (self.directory.stats(), &self.config);
        assert_eq!(stats.connections, self.clients.iter().flatten().count());
        assert!(stats.connections <= config.max_connections);
        assert!(stats.sessions <= config.max_sessions);
        assert!(stats.lobbies <= config.max_lobbies.min(stats.sessions));
        assert!(stats.log_bytes <= config.log_bytes_total);
    }
}

fn options(script: &mut Script<'_>) -> LobbyOptions {
    let kind = script.u8();
    let all = [Visibility::Public, Visibility::Private, Visibility::Hidden, Visibility::Public];
    let visibility = all[usize::from(kind >> 4 & 3)];
    let spectators = kind >> 3 & 1;
    let options = LobbyOptions { visibility, spectators, ..LobbyOptions::public(1 + kind % 4) };
    options.keep_seats(if kind & 128 == 0 { 0 } else { script.u8().into() })
}

fn change(script: &mut Script<'_>) -> OptionsChange {
    let (kind, more) = (script.u8(), script.u8());
    let given = |bit: u8| kind >> bit & 1 != 0;
    OptionsChange {
        capacity: given(0).then_some(more % 8),
        visibility: given(1).then_some(if given(2) {
            Visibility::Public
        } else {
            Visibility::Hidden
        }),
        seat_secs: given(3).then_some(more.into()),
        spectators: given(4).then_some(more % 4),
        locked: given(5).then_some(given(2)),
        no_late_join: given(6).then_some(given(2)),
        password: given(7).then(|| password(more)),
        name: None,
    }
}

/// One of four, one of which is none.
fn password(kind: u8) -> Password {
    Password("x".repeat((kind % 4).into()))
}

fn signal(script: &mut Script<'_>) -> Signal {
    let text = || "x".repeat(100);
    let body = match script.below(6) {
        0 => SignalBody::Offer { sdp: text() },
        1 => SignalBody::Answer { sdp: text() },
        2 => SignalBody::Candidate { candidate: text(), mid: None, mline: Some(0) },
        3 => SignalBody::Bye,
        4 => SignalBody::Lost,
        _ => SignalBody::Withdraw,
    };
    Signal { attempt: script.u8().into(), body }
}
