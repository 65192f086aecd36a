//! Random interleavings of clients, held against a model of what each client has seen.
//!
//! Frames are in flight until they are delivered; a drop loses those in flight, so a resume must
//! bring them back. proptest prints the seed and the shortest list of steps that fails.

mod steps;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use netplay_protocol::lobby::{
    ClientMessage, Entry, InviteToken, JoinWith, LobbyOptions, LobbyState, Member, MessageError,
    OptionsChange, Password, PlaceChange, Rejoin, Resume, ServerFrame, ServerMessage, SessionKind,
    Tier, Value, Visibility,
};
use netplay_protocol::{DataKey, GameId, LobbyCode, Now, PeerId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::node::{read, signal};
use crate::directory::Timer;
use crate::directory::sessions::Presence;
use crate::{Config, ConnectionId, Directory, Input, Key, Output, RateLimit, Stats};
use steps::{Hosting, Step, step};

const CLIENTS: usize = 6;

/// What a client knows from the frames that were delivered to it.
#[derive(Clone, Default)]
struct Client {
    connection: Option<ConnectionId>,
    session: Option<Resume>,
    lobby: Option<LobbyState>,
    /// The last invitation that was made or came.
    invite: Option<InviteToken>,
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
        if let ServerMessage::Left { .. } | ServerMessage::Removed { .. } = message {
            self.lobby = None;
            return;
        }
        if let ServerMessage::Invitation { invite, .. } | ServerMessage::Invited { invite, .. } =
            message
        {
            self.invite = Some(invite);
            return;
        }
        let me = self.session.as_ref().expect("after a welcome").peer;
        if let Some(lobby) = &mut self.lobby {
            check_told(lobby, &message);
            lobby.apply(me, &message);
        }
    }
}

/// What the server promises of what it tells.
fn check_told(lobby: &LobbyState, message: &ServerMessage) {
    match message {
        ServerMessage::MemberOnline { peer, epoch } => {
            let member = lobby.member(*peer).expect("events are about members");
            assert!(*epoch >= member.epoch, "epochs count up");
        }
        ServerMessage::MemberChanged { member: Member { peer, .. } }
        | ServerMessage::MemberOffline { peer }
        | ServerMessage::MemberReady { peer, .. } => {
            assert!(lobby.member(*peer).is_some(), "events are about members");
        }
        ServerMessage::HostChanged { term, .. } => assert!(*term > lobby.term, "terms count up"),
        ServerMessage::ReadyCheckEnds { passed, missing } => {
            assert_eq!(*passed, missing.is_empty());
            assert!(lobby.ready_check_ms.is_some(), "it had begun");
        }
        ServerMessage::CountdownCancelled => {
            assert!(lobby.countdown_ms.is_some(), "it had begun");
        }
        _ => {}
    }
}

struct World {
    directory: Directory,
    now: Now,
    next: u64,
    clients: Vec<Client>,
    /// All frames, and the texts of all closings, in order.
    trace: Vec<(ConnectionId, Vec<u8>)>,
    config: Config,
    boots: u8,
    /// Who led a lobby in which term, by the lobby's number, also before a restart of the server.
    led: BTreeMap<(u64, u32), PeerId>,
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
            led: BTreeMap::new(),
        }
    }

    fn input(&mut self, input: Input) {
        self.directory.handle(self.now, input);
        while let Some(output) = self.directory.poll_output() {
            let (Output::Send { connection, .. } | Output::Close { connection, .. }) = output;
            let mut clients = self.clients.iter_mut();
            let client = clients.find(|client| client.connection == Some(connection));
            let text = match output {
                Output::Send { text, .. } => {
                    if let Some(client) = client {
                        client.in_flight.push_back(read(text));
                    }
                    text.to_vec()
                }
                Output::Close { text, .. } => {
                    // The worst case: nothing in flight arrives any more.
                    if let Some(client) = client {
                        client.in_flight.clear();
                        client.connection = None;
                    }
                    text.into_bytes()
                }
            };
            self.trace.push((connection, text));
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
        let number = u8::try_from(who).expect("few clients");
        // Half of them have addresses, two of them the same one.
        let address = (who < CLIENTS / 2).then(|| IpAddr::from([192, 0, 2, number / 2]));
        self.input(Input::Connected { connection, address });
        let game = GameId::new("game").unwrap();
        self.say(who, ClientMessage::hello(game, resume));
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
            let visibility = if public { Visibility::Public } else { Visibility::Private };
            let spectators = capacity / 2;
            let options = LobbyOptions::public(capacity).keep_seats(seat_secs);
            LobbyOptions { visibility, spectators, ..options }
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
                self.say(who, ClientMessage::create(request, options(capacity, public)));
            }
            Step::Quick { capacity } => {
                self.say(who, ClientMessage::quick_join(request, options(capacity, true)));
            }
            Step::Join { whose, spectate, invited } => {
                let lobby = self.clients[whose].lobby.as_ref();
                let code = lobby.map_or(LobbyCode::from_random(1), |lobby| lobby.code);
                let invite = self.clients[who].invite.clone().filter(|_| invited);
                let invite = invite.or_else(|| self.clients[whose].invite.clone());
                let password = invited.then(|| Password("open".into()));
                let with = JoinWith { invite, spectate, password, ..JoinWith::default() };
                self.say(who, ClientMessage::Join { request, code, with });
            }
            Step::Hosting(what, whom) => self.hosting(who, what, whom),
            Step::List => self.say(who, ClientMessage::search(request)),
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
            Step::KeepAlive => self.say(who, ClientMessage::KeepAlive { seen: self.seen(who) }),
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

    fn seen(&self, who: usize) -> u64 {
        self.clients[who].session.as_ref().map_or(0, |session| session.seen)
    }

    fn hosting(&mut self, who: usize, what: Hosting, whom: usize) {
        let peer_of = |who: usize| self.clients[who].session.as_ref().map(|session| session.peer);
        let (Some(me), Some(peer)) = (peer_of(who), peer_of(whom)) else { return };
        let lobby = self.clients[who].lobby.as_ref();
        let revision = lobby.map(|lobby| lobby.revision);
        let key = |key: u8| DataKey::new(format!("k{key}")).unwrap();
        let request = 1;
        self.say(
            who,
            match what {
                Hosting::Update { capacity, visibility, locked, password } => {
                    let all = [Visibility::Public, Visibility::Private, Visibility::Hidden];
                    let visibility = Some(all[usize::from(visibility)]);
                    let password = Some(Password(if password { "open" } else { "" }.into()));
                    let (capacity, locked) = (Some(capacity), Some(locked));
                    let no_late_join = Some(capacity == Some(3));
                    let more = OptionsChange::default();
                    let change = OptionsChange {
                        capacity,
                        visibility,
                        locked,
                        password,
                        no_late_join,
                        ..more
                    };
                    ClientMessage::Update { request, change }
                }
                Hosting::SetData { key: k, tier, known } => {
                    let tiers = [Tier::Public, Tier::Members, Tier::Host];
                    let tier = tier.map(|tier| tiers[usize::from(tier)]);
                    let entry = tier.map(|tier| Entry { value: i64::from(k).into(), tier });
                    let changes = [(key(k), entry)].into();
                    let revision = revision.filter(|_| known);
                    ClientMessage::SetData { request, revision, changes }
                }
                Hosting::SetMemberData { key: k, set } => {
                    let changes = [(key(k), set.then(|| Value::from("v")))].into();
                    ClientMessage::SetMemberData { request, changes }
                }
                Hosting::Place { slot } => {
                    let peer = if whom.is_multiple_of(2) { me } else { peer };
                    let change = PlaceChange { slot: Some(slot), team: Some(slot), role: None };
                    ClientMessage::Place { request, peer, change }
                }
                Hosting::Ready(ready) => ClientMessage::Ready { ready },
                Hosting::ReadyCheck => ClientMessage::ReadyCheck { request, secs: 5 },
                Hosting::Countdown => ClientMessage::Countdown { request, ms: 3000 },
                Hosting::Cancel => ClientMessage::CancelCountdown { request },
                Hosting::Playing(playing) => ClientMessage::SetPlaying { request, playing },
                Hosting::Kick(rejoin) => {
                    let all = [Rejoin::Free, Rejoin::Invited, Rejoin::Never];
                    ClientMessage::Kick { request, peer, rejoin: all[usize::from(rejoin)] }
                }
                Hosting::Unban => ClientMessage::Unban { request, peer },
                Hosting::Promote => ClientMessage::Promote { request, peer },
                Hosting::Reserve => ClientMessage::Reserve { request, peers: vec![peer], secs: 8 },
                Hosting::Invite => ClientMessage::Invite { request, to: Some(peer), secs: 20 },
                Hosting::Chat => ClientMessage::Chat { request, text: "hello".into() },
            },
        );
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

    fn check(&mut self) {
        let directory = &self.directory;
        for (code, lobby) in directory.lobbies.iter() {
            let host = *self.led.entry((lobby.id, lobby.term)).or_insert(lobby.host);
            assert_eq!(host, lobby.host, "two hosts of {code} in term {}", lobby.term);
            assert!(!lobby.members().is_empty(), "{code} is empty");
            assert!(lobby.len() <= lobby.options.capacity, "{code} has too many players");
            assert!(lobby.spectators() <= lobby.options.spectators, "too many watch {code}");
            let mut slots: Vec<_> = lobby.members().iter().filter_map(|m| m.slot).collect();
            assert!(slots.iter().all(|slot| *slot < lobby.options.capacity), "{slots:?}");
            slots.sort_unstable();
            assert!(slots.windows(2).all(|two| two[0] < two[1]), "two in one seat: {slots:?}");
            let returning = lobby.returning.is_some();
            assert!(lobby.has(lobby.host) || returning, "the host of {code} is no member");
            assert!(directory.timers.contains(&(lobby.deadline(), Timer::Lobby(code))), "{code}");
            assert_eq!(lobby.lost(), None, "a lost member stayed in {code}");
            for member in lobby.members() {
                let session = directory.sessions.get(&member.peer).expect("a member has a session");
                assert_eq!(session.lobby, Some(code));
                assert_eq!(member.online, matches!(session.presence, Presence::Online(_)));
            }
        }
        assert!(directory.lobbies.index_is_right());
        let (mut offline, mut offline_there) = (0, 0);
        for (peer, session) in &directory.sessions {
            if let Some(code) = session.lobby {
                assert!(directory.lobbies.get(code).expect("it exists").has(*peer));
            }
            match session.presence {
                Presence::Online(connection) => {
                    assert!(directory.connections.contains_key(&connection));
                }
                Presence::Offline { .. } => {
                    offline += 1;
                    offline_there += usize::from(session.address.is_some());
                }
            }
        }
        let expected = directory.connections.len() + offline + directory.lobbies.len();
        assert_eq!(directory.timers.len(), expected);
        assert_eq!(directory.addresses.all_offline(), offline_there);
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
        let lobby = |code| {
            let lobby = self.directory.lobbies.get(code)?;
            Some(lobby.state(code, self.now, peer))
        };
        // Who comes back takes its old place among the members; times pass.
        let same = |mut lobby: LobbyState| {
            lobby.members.sort_by_key(|member| member.peer);
            lobby.ready_check_ms = lobby.ready_check_ms.map(|_| 0);
            lobby.countdown_ms = lobby.countdown_ms.map(|_| 0);
            lobby
        };
        assert_eq!(client.lobby.map(same), session.lobby.and_then(lobby).map(same));
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

fn run(config: Config, steps: &[(usize, Step)]) -> Vec<(ConnectionId, Vec<u8>)> {
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
    Config {
        messages: limit,
        signals: limit,
        joins: limit,
        chat: limit,
        invites: limit,
        passwords: limit,
        ..Config::default()
    }
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
        let config = Config { log_frames: 3, log_bytes_total: 1500, ..generous() };
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
            offline_per_address: 1,
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
