//! Random interleavings of clients, held against a model of what each client has seen.
//!
//! Frames are in flight until they are delivered; a drop loses those in flight, so a resume must
//! bring them back. proptest prints the seed and the shortest list of steps that fails.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::lobby::{
    ClientMessage, LobbyOptions, LobbyState, Member, MessageError, Resume, ServerFrame,
    ServerMessage, SessionKind,
};
use netplay_protocol::{GameId, LobbyCode, Now, PROTOCOL_VERSION};
use proptest::collection::vec;
use proptest::prelude::*;

use super::node::signal;
use crate::directory::Timer;
use crate::directory::sessions::Presence;
use crate::{Config, ConnectionId, Directory, Input, Key, Output, RateLimit, Stats};

const CLIENTS: usize = 6;

#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    ConnectAfresh,
    /// The game is started anew.
    Restart,
    /// The server is started anew, with its key.
    ServerRestart,
    Drop,
    Deliver(u8),
    Create {
        capacity: u8,
        public: bool,
    },
    Quick {
        capacity: u8,
    },
    Join {
        whose: usize,
    },
    List,
    Leave,
    Signal {
        to: usize,
    },
    ReportLost {
        whom: usize,
    },
    KeepAlive,
    Malformed,
    Goodbye,
    Wait {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let whom = 0..CLIENTS;
    prop_oneof![
        6 => Just(Step::Connect),
        1 => Just(Step::ConnectAfresh),
        2 => Just(Step::Restart),
        1 => Just(Step::ServerRestart),
        3 => Just(Step::Drop),
        8 => (0..8u8).prop_map(Step::Deliver),
        2 => (1..5u8, any::<bool>()).prop_map(|(capacity, public)| Step::Create { capacity, public }),
        4 => (2..4u8).prop_map(|capacity| Step::Quick { capacity }),
        4 => whom.clone().prop_map(|whose| Step::Join { whose }),
        1 => Just(Step::List),
        2 => Just(Step::Leave),
        4 => whom.clone().prop_map(|to| Step::Signal { to }),
        3 => whom.prop_map(|whom| Step::ReportLost { whom }),
        4 => Just(Step::KeepAlive),
        1 => Just(Step::Malformed),
        1 => Just(Step::Goodbye),
        3 => (0..12_000u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// What a client knows from the frames that were delivered to it.
#[derive(Clone, Default)]
struct Client {
    connection: Option<ConnectionId>,
    session: Option<Resume>,
    lobby: Option<LobbyState>,
    in_flight: VecDeque<ServerFrame>,
}

impl Client {
    fn deliver(&mut self) {
        let Some(frame) = self.in_flight.pop_front() else {
            return;
        };
        if let ServerMessage::Welcome { peer, token, session, lobby, .. } = frame.message {
            let old = self.session.take();
            let same = old.as_ref().map(|session| session.peer) == Some(peer);
            assert_eq!(same, session != SessionKind::New);
            let mut seen = 0;
            match session {
                SessionKind::New => self.lobby = None,
                SessionKind::Continued => seen = old.map_or(0, |session| session.seen),
                SessionKind::Restored => self.lobby = lobby,
            }
            self.session = Some(Resume { peer, token, seen, restart: false });
            return;
        }
        if frame.seq > 0 {
            let session = self.session.as_mut().expect("numbered frames follow a welcome");
            assert_eq!(frame.seq, session.seen + 1, "{:?}", frame.message);
            session.seen = frame.seq;
        }
        self.apply(frame.message);
    }

    fn apply(&mut self, message: ServerMessage) {
        if let ServerMessage::Token { token } = message {
            self.session.as_mut().expect("after a welcome").token = token;
            return;
        }
        if let ServerMessage::Joined { lobby, .. } = message {
            self.lobby = Some(lobby);
            return;
        }
        if let ServerMessage::Left { .. } = message {
            self.lobby = None;
            return;
        }
        let Some(lobby) = &mut self.lobby else { return };
        let mut set_online = |peer, online, epoch: Option<u32>| {
            let member = lobby.members.iter_mut().find(|member| member.peer == peer);
            let member = member.expect("only members go offline and online");
            member.online = online;
            let older = member.epoch;
            member.epoch = epoch.unwrap_or(older);
            assert!(member.epoch >= older, "epochs count up");
        };
        match message {
            ServerMessage::MemberJoined { peer, epoch } => {
                lobby.members.push(Member { peer, online: true, epoch });
            }
            ServerMessage::MemberLeft { peer, .. } => {
                lobby.members.retain(|member| member.peer != peer);
            }
            ServerMessage::MemberOffline { peer } => set_online(peer, false, None),
            ServerMessage::MemberOnline { peer, epoch } => set_online(peer, true, Some(epoch)),
            ServerMessage::HostChanged { host } => lobby.host = host,
            _ => {}
        }
    }
}

struct World {
    directory: Directory,
    now: Now,
    next: u64,
    clients: Vec<Client>,
    trace: Vec<Output>,
    config: Config,
    boots: u8,
}

impl World {
    fn new(config: Config) -> Self {
        Self {
            directory: directory(config.clone(), 0),
            config,
            boots: 0,
            now: Now::ZERO,
            next: 0,
            clients: vec![Client::default(); CLIENTS],
            trace: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        self.directory.handle(self.now, input);
        while let Some(output) = self.directory.poll_output() {
            let (Output::Send { connection, .. } | Output::Close { connection, .. }) = &output;
            let mut clients = self.clients.iter_mut();
            if let Some(client) = clients.find(|client| client.connection == Some(*connection)) {
                match &output {
                    Output::Send { frame, .. } => client.in_flight.push_back(frame.clone()),
                    // The worst case: nothing in flight arrives any more.
                    Output::Close { .. } => {
                        client.in_flight.clear();
                        client.connection = None;
                    }
                }
            }
            self.trace.push(output);
        }
    }

    fn say(&mut self, who: usize, message: ClientMessage) {
        if let Some(connection) = self.clients[who].connection {
            self.input(Input::Message { connection, message });
        }
    }

    fn connect(&mut self, who: usize, resume: Option<Resume>) {
        let connection = ConnectionId(self.next);
        self.next += 1;
        self.clients[who].in_flight.clear();
        // The old connection is still open at the server: this one supersedes it.
        self.clients[who].connection = Some(connection);
        self.input(Input::Connected { connection });
        let game = GameId::new("game").unwrap();
        self.say(who, ClientMessage::Hello { protocol: PROTOCOL_VERSION, game, resume });
    }

    fn drop_connection(&mut self, who: usize) {
        if let Some(connection) = self.clients[who].connection.take() {
            self.clients[who].in_flight.clear();
            self.input(Input::Disconnected { connection });
        }
    }

    fn step(&mut self, who: usize, step: Step) {
        let options = |capacity: u8, public| {
            let seat_secs = u16::from(capacity % 2) * 45;
            LobbyOptions { public, ..LobbyOptions::public(capacity).keep_seats(seat_secs) }
        };
        let request = 1;
        match step {
            Step::Connect => self.connect(who, self.clients[who].session.clone()),
            Step::ConnectAfresh => {
                self.drop_connection(who);
                self.connect(who, None);
            }
            Step::Restart => {
                let session = self.clients[who].session.clone();
                let again = session.map(|session| Resume { seen: 0, restart: true, ..session });
                self.connect(who, again);
            }
            Step::ServerRestart => {
                self.boots += 1;
                self.directory = directory(self.config.clone(), self.boots);
                for client in &mut self.clients {
                    client.connection = None;
                    client.in_flight.clear();
                }
            }
            Step::Drop => self.drop_connection(who),
            Step::Deliver(count) => (0..count).for_each(|_| self.clients[who].deliver()),
            Step::Create { capacity, public } => {
                self.say(
                    who,
                    ClientMessage::Create { request, options: options(capacity, public) },
                );
            }
            Step::Quick { capacity } => {
                self.say(
                    who,
                    ClientMessage::QuickJoin { request, options: options(capacity, true) },
                );
            }
            Step::Join { whose } => {
                let lobby = self.clients[whose].lobby.as_ref();
                let code = lobby.map_or(LobbyCode::from_random(1), |lobby| lobby.code);
                self.say(who, ClientMessage::Join { request, code });
            }
            Step::List => self.say(who, ClientMessage::List { request }),
            Step::Leave => self.say(who, ClientMessage::Leave { request }),
            Step::Signal { to } => {
                if let Some(to) = self.clients[to].session.as_ref().map(|session| session.peer) {
                    self.say(who, ClientMessage::Signal { to, signal: signal(1) });
                }
            }
            Step::ReportLost { whom } => {
                if let Some(session) = &self.clients[whom].session {
                    let peer = session.peer;
                    self.say(who, ClientMessage::ReportLost { peer });
                }
            }
            Step::KeepAlive => {
                let seen = self.clients[who].session.as_ref().map_or(0, |session| session.seen);
                self.say(who, ClientMessage::KeepAlive { seen });
            }
            Step::Malformed => {
                if let Some(connection) = self.clients[who].connection {
                    let error = MessageError::Json("no".into());
                    self.input(Input::Malformed { connection, error });
                }
            }
            Step::Goodbye => self.say(who, ClientMessage::Goodbye),
            Step::Wait { millis } => self.wait(Duration::from_millis(millis)),
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.directory.next_deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    fn check(&self) {
        let directory = &self.directory;
        for (code, lobby) in directory.lobbies.iter() {
            assert!(!lobby.members().is_empty(), "{code} is empty");
            assert!(lobby.members().len() <= usize::from(lobby.options.capacity));
            let returning = lobby.returning;
            assert!(lobby.has(lobby.host) || returning, "the host of {code} is no member");
            assert_eq!(lobby.lost(), None, "a lost member stayed in {code}");
            for member in lobby.members() {
                let session = directory.sessions.get(&member.peer).expect("a member has a session");
                assert_eq!(session.lobby, Some(code));
                assert_eq!(member.online, matches!(session.presence, Presence::Online(_)));
            }
        }
        assert!(directory.lobbies.index_is_right());
        let mut offline = 0;
        for (peer, session) in &directory.sessions {
            if let Some(code) = session.lobby {
                assert!(directory.lobbies.get(code).expect("it exists").has(*peer));
            }
            match session.presence {
                Presence::Online(connection) => {
                    assert!(directory.connections.contains_key(&connection));
                }
                Presence::Offline { .. } => offline += 1,
            }
        }
        let returned = |timer: &Timer| matches!(timer, Timer::Returned(_));
        let returned = directory.timers.iter().filter(|(_, timer)| returned(timer)).count();
        assert_eq!(directory.timers.len(), directory.connections.len() + offline + returned);
        let bytes: usize = directory.sessions.values().map(|session| session.log.bytes()).sum();
        assert_eq!(directory.stats().log_bytes, bytes);
        self.clients.iter().filter(|client| client.connection.is_some()).for_each(|client| {
            self.check_view(client);
        });
    }

    /// Once everything in flight has arrived, an online client sees what the server has.
    fn check_view(&self, client: &Client) {
        let mut client = client.clone();
        while !client.in_flight.is_empty() {
            client.deliver();
        }
        let peer = client.session.expect("a welcome was in flight").peer;
        let session = self.directory.sessions.get(&peer).expect("it is online");
        let lobby = |code| self.directory.lobbies.get(code).map(|lobby| lobby.state(code));
        // Who comes back takes its old place among the members.
        let sorted = |mut lobby: LobbyState| {
            lobby.members.sort_by_key(|member| member.peer);
            lobby
        };
        assert_eq!(client.lobby.map(sorted), session.lobby.and_then(lobby).map(sorted));
    }

    /// Everybody drops, and the grace time passes.
    fn end(&mut self) {
        (0..CLIENTS).for_each(|who| self.drop_connection(who));
        self.wait(Duration::from_secs(100));
        assert_eq!(self.directory.stats(), Stats::default());
        assert!(self.directory.timers.is_empty());
        assert!(self.directory.lobbies.index_is_right());
    }
}

fn directory(config: Config, boot: u8) -> Directory {
    Directory::new(config, [boot; 32]).with_key(Key([3; 32]), 0)
}

fn run(config: Config, steps: &[(usize, Step)]) -> Vec<Output> {
    let mut world = World::new(config);
    for (who, step) in steps {
        world.step(*who, *step);
        world.check();
    }
    world.end();
    world.trace
}

fn generous() -> Config {
    let limit = RateLimit { burst: 10_000, per_second: 10_000 };
    Config { messages: limit, signals: limit, joins: limit, ..Config::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn clients_see_what_the_server_has(steps in vec((0..CLIENTS, step()), 0..250)) {
        run(generous(), &steps);
    }

    #[test]
    fn clients_see_what_the_server_has_with_short_logs(
        steps in vec((0..CLIENTS, step()), 0..250),
    ) {
        let config = Config { log_frames: 3, log_bytes_total: 3000, ..generous() };
        run(config, &steps);
    }

    #[test]
    fn clients_see_what_the_server_has_within_tight_limits(
        steps in vec((0..CLIENTS, step()), 0..250),
    ) {
        let limit = RateLimit { burst: 4, per_second: 1 };
        let config = Config {
            messages: limit,
            signals: limit,
            joins: limit,
            max_lobbies: 2,
            ..Config::default()
        };
        run(config, &steps);
    }

    #[test]
    fn the_same_seed_and_inputs_give_the_same_outputs(
        steps in vec((0..CLIENTS, step()), 0..120),
    ) {
        prop_assert_eq!(run(generous(), &steps), run(generous(), &steps));
    }
}
