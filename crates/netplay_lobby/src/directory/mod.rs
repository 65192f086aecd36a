//! The rules: who may say what when, and who is told.
//!
//! | a connection is | on `hello` | on another message | on silence |
//! |---|---|---|---|
//! | greeting | open, or closed if refused | closed, also if it is none | closed after `hello_timeout` |
//! | open | closed | handled | closed after three keep-alives; its session is offline |
//!
//! | a session is | its connection closes | it is resumed | time passes |
//! |---|---|---|---|
//! | online | offline | online, the older connection is closed | – |
//! | offline | – | online | ended after `grace`, or as long as its lobby keeps seats |
//! | of the server before | – | online, as its token says; its lobby is back | – |
//!
//! A game that was started anew takes its session up as of another epoch: with its lobby, and without
//! the frames of before.

mod accounts;
mod host;
mod lobbies;
mod rates;
mod sessions;
mod signals;
mod start;

use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, MessageError, RawSignal, ServerFrame, ServerMessage,
};
use netplay_protocol::{AccountId, LobbyCode, Now, PeerId};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::config::{Config, millis};
use crate::io::{ConnectionId, Input, LobbyView, Output, Stats};
use crate::lobby::{Lobbies, Realm};
use crate::rate::{Bucket, Verdict};
use crate::token::Key;
use accounts::Accounts;
use rates::{Addresses, Kind, Rates};
use sessions::{Greeting, Session};

/// All sessions and lobbies of one node. See the crate's page for what it guarantees.
pub struct Directory {
    config: Config,
    rng: ChaCha20Rng,
    key: Key,
    /// Which start of the server this is.
    boot: u64,
    /// Unix time at time zero, in seconds.
    epoch_unix: u64,
    /// Of the input that is being handled.
    now: Now,
    connections: BTreeMap<ConnectionId, Connection>,
    sessions: BTreeMap<PeerId, Session>,
    lobbies: Lobbies,
    accounts: Accounts,
    addresses: Addresses,
    new_sessions: Bucket,
    /// One entry for each connection, each offline session and each lobby.
    timers: BTreeSet<(Now, Timer)>,
    log_bytes: usize,
    outputs: VecDeque<Queued>,
    /// The frames among the outputs, one after another.
    texts: Vec<u8>,
}

/// An [`Output`] before it is asked for.
enum Queued {
    Send { connection: ConnectionId, text: Range<usize>, refused: Option<ErrorCode> },
    Close { connection: ConnectionId, code: ErrorCode, text: String },
}

/// Bytes of frames whose room is kept from one input to the next: nearly all need less.
const TEXTS_KEPT: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Connection(ConnectionId),
    Session(PeerId),
    /// Something is due in a lobby by itself.
    Lobby(LobbyCode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Open(PeerId),
}

struct Connection {
    phase: Phase,
    address: Option<IpAddr>,
    rates: Rates,
    /// What is known of the JWT that comes.
    logged_in: Option<Result<AccountId, String>>,
    heard: Now,
    timer: Now,
}

/// Bytes of an error's text: two lines on a terminal.
const TEXT_MAX: usize = 200;

/// Why something is refused.
struct Refusal {
    code: ErrorCode,
    text: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Cuts the text: it may quote what the client sent.
    fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        Self { code, text, retry_after: None }
    }

    /// The code's own text says it all.
    fn plain(code: ErrorCode) -> Self {
        Self::new(code, code.to_string())
    }

    fn retry(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    fn message(&self, request: Option<u32>) -> ServerMessage {
        ServerMessage::Error {
            request,
            code: self.code,
            text: self.text.clone(),
            retry_after_ms: self.retry_after.map(|after| millis(after).max(1)),
        }
    }
}

impl Directory {
    /// An empty node. The seed gives all ids, tokens and codes, so it must come from the operating
    /// system's random numbers: who knows it can take over every session.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self {
            accounts: Accounts::new(&config),
            addresses: Addresses::new(&config),
            new_sessions: Bucket::new(config.new_sessions, Now::ZERO),
            config,
            key: Key(key),
            boot: rng.next_u64(),
            epoch_unix: 0,
            now: Now::ZERO,
            rng,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            lobbies: Lobbies::default(),
            timers: BTreeSet::new(),
            log_bytes: 0,
            outputs: VecDeque::new(),
            texts: Vec::new(),
        }
    }

    /// Signs tokens with this key, so that another server with it takes up our players. `unix_secs` is
    /// the Unix time at time zero, by which tokens expire.
    #[must_use]
    pub const fn with_key(mut self, key: Key, unix_secs: u64) -> Self {
        self.key = key;
        self.epoch_unix = unix_secs;
        self
    }

    /// Takes one input. Take all outputs before the next one.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.next_input(now);
        match input {
            Input::Connected { connection, address } => {
                self.connected(now, connection, address);
            }
            Input::Message { connection, message } => self.message(now, connection, message),
            Input::Malformed { connection, error } => {
                match self.admit(now, connection, Kind::Message, None) {
                    // Whoever begins so is none of ours.
                    Some(Phase::Greeting) => self.fail(now, connection, malformed(error)),
                    Some(Phase::Open(_)) => self.refuse(connection, None, &malformed(error)),
                    None => {}
                }
            }
            Input::Disconnected { connection } => {
                if let Some(Phase::Open(peer)) = self.forget(connection) {
                    self.offline(now, peer);
                }
            }
            Input::LoggedIn { connection, account } => {
                if let Some(state) = self.connections.get_mut(&connection) {
                    state.logged_in = Some(account);
                }
            }
            Input::Ban { account, until } => self.ban(account, until),
            Input::Unban { account } => self.unban_account(&account),
            Input::Close { code } => self.close_lobby(code),
            Input::PutOut { code, peer, rejoin } => self.put_out_as(code, peer, rejoin),
            Input::Tick => self.expire(now),
        }
    }

    /// Takes a signal as it came: the same as the [`ClientMessage::Signal`] that it is, for less work.
    pub fn handle_signal(
        &mut self,
        now: Now,
        connection: ConnectionId,
        to: PeerId,
        signal: RawSignal<'_>,
    ) {
        self.next_input(now);
        if let Some(from) = self.sender(now, connection, to) {
            self.tell_with(to, None, |seq, text| signal.write_frame(seq, from, text));
        }
    }

    fn next_input(&mut self, now: Now) {
        self.now = now;
        if self.outputs.is_empty() {
            self.texts.clear();
            self.texts.shrink_to(TEXTS_KEPT);
        }
    }

    /// In which lobby the player of this connection is.
    pub fn lobby_of_connection(&self, connection: ConnectionId) -> Option<LobbyCode> {
        match self.connections.get(&connection)?.phase {
            Phase::Open(peer) => self.lobby_of(peer).ok(),
            Phase::Greeting => None,
        }
    }

    /// The lobby with this code, at the time of the last input.
    pub fn lobby(&self, code: LobbyCode) -> Option<LobbyView> {
        Some(self.lobbies.get(code)?.view(code, self.now))
    }

    /// Lobbies in the order of their codes, at most so many, from after this code on.
    pub fn lobbies(&self, after: Option<LobbyCode>, max: usize) -> Vec<LobbyView> {
        let lobbies = self.lobbies.after(after).take(max);
        lobbies.map(|(code, lobby)| lobby.view(code, self.now)).collect()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        Some(match self.outputs.pop_front()? {
            Queued::Send { connection, text, refused } => {
                Output::Send { connection, text: &self.texts[text], refused }
            }
            Queued::Close { connection, code, text } => Output::Close { connection, code, text },
        })
    }

    /// When [`Input::Tick`] is due. It may turn out that nothing is to be done then.
    pub fn next_deadline(&self) -> Option<Now> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How much there is.
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            lobbies: self.lobbies.len(),
            accounts: self.accounts.len(),
            log_bytes: self.log_bytes,
        }
    }

    /// Whether another player would be refused.
    pub fn is_full(&self) -> bool {
        self.connections.len() >= self.config.max_connections
            || self.sessions.len() >= self.config.max_sessions
    }

    fn connected(&mut self, now: Now, connection: ConnectionId, address: Option<IpAddr>) {
        // A number that is used twice is the shell's mistake; the older connection is gone then.
        if let Some(Phase::Open(peer)) = self.forget(connection) {
            self.offline(now, peer);
        }
        let full = self.connections.len() >= self.config.max_connections;
        let timer = now + self.config.hello_timeout;
        let state = Connection {
            phase: Phase::Greeting,
            address,
            rates: Rates::new(&self.config, now),
            logged_in: None,
            heard: now,
            timer,
        };
        self.connections.insert(connection, state);
        self.timers.insert((timer, Timer::Connection(connection)));
        if full {
            self.fail(now, connection, self.full());
        }
    }

    fn message(&mut self, now: Now, connection: ConnectionId, message: ClientMessage) {
        // Whoever wants to go is never held up.
        if message == ClientMessage::Goodbye {
            return self.goodbye(connection);
        }
        if let ClientMessage::Signal { to, signal } = message {
            return self.signal(now, connection, to, signal);
        }
        let request = message.request();
        let Some(phase) = self.admit(now, connection, Kind::of(&message), request) else {
            return;
        };
        match (phase, message) {
            (Phase::Greeting, ClientMessage::Hello { protocol, game, build, resume, login }) => {
                let realm = Realm { game, build };
                self.hello(now, connection, protocol, Greeting { realm, resume, login });
            }
            (Phase::Greeting, _) => self.too_early(now, connection),
            (Phase::Open(_), ClientMessage::Hello { .. }) => {
                let refusal = Refusal::new(ErrorCode::Order, "hello was said already");
                self.fail(now, connection, refusal);
            }
            (Phase::Open(peer), message) => {
                if let Err(refusal) = self.command(peer, message) {
                    self.refuse(connection, request, &refusal);
                }
            }
        }
    }

    fn too_early(&mut self, now: Now, connection: ConnectionId) {
        let refusal = Refusal::new(ErrorCode::Order, "the first message must be hello");
        self.fail(now, connection, refusal);
    }

    /// The client has said something. Gives its phase if it is within its rates. If not, it has been told, or
    /// closed.
    fn admit(
        &mut self,
        now: Now,
        connection: ConnectionId,
        kind: Kind,
        request: Option<u32>,
    ) -> Option<Phase> {
        let state = self.connections.get_mut(&connection)?;
        state.heard = now;
        let config = &self.config;
        let phase = state.phase;
        let address = state.address;
        let mut verdict = state.rates.take(kind, config, now);
        if let (Verdict::Go, Phase::Open(peer)) = (verdict, phase)
            && kind != Kind::Signal
        {
            verdict = self.account_message(peer);
        }
        if let (Verdict::Go, Some(address)) = (verdict, address) {
            verdict = self.addresses.check(kind, address, now);
        }
        match verdict {
            Verdict::Go => return Some(phase),
            Verdict::Wait(wait) => {
                let text = match kind {
                    Kind::Signal => "too many signals",
                    Kind::Message => "too many messages",
                    Kind::Join => "too many joins by code",
                    Kind::Search => "too many searches",
                    Kind::Chat => "too much chat",
                    Kind::Invite => "too many invitations",
                };
                let refusal = Refusal::new(ErrorCode::RateLimited, text).retry(wait);
                self.refuse(connection, request, &refusal);
            }
            Verdict::Abuse => {
                let text = "too many messages, and they did not stop";
                self.fail(now, connection, Refusal::new(ErrorCode::RateLimited, text));
            }
        }
        None
    }

    /// Tells a client why not. Within a session the answer is one of its frames.
    fn refuse(&mut self, connection: ConnectionId, request: Option<u32>, refusal: &Refusal) {
        let Some(state) = self.connections.get(&connection) else {
            return;
        };
        let message = refusal.message(request);
        match state.phase {
            Phase::Open(peer) => self.tell(peer, message),
            Phase::Greeting => self.send(connection, message),
        }
    }

    /// Tells a client why, and closes its connection; a session goes offline.
    fn fail(&mut self, now: Now, connection: ConnectionId, refusal: Refusal) {
        if let Some(Phase::Open(peer)) = self.close(connection, refusal) {
            self.offline(now, peer);
        }
    }

    /// Like [`Self::fail`], but leaves the session to the caller.
    fn close(&mut self, connection: ConnectionId, refusal: Refusal) -> Option<Phase> {
        let phase = self.forget(connection)?;
        self.send(connection, refusal.message(None));
        let Refusal { code, text, .. } = refusal;
        self.outputs.push_back(Queued::Close { connection, code, text });
        Some(phase)
    }

    fn forget(&mut self, connection: ConnectionId) -> Option<Phase> {
        let state = self.connections.remove(&connection)?;
        self.timers.remove(&(state.timer, Timer::Connection(connection)));
        if let Phase::Open(peer) = state.phase
            && let Some(session) = self.sessions.get_mut(&peer)
        {
            session.rates = Some(state.rates);
        }
        Some(state.phase)
    }

    /// Sends a frame that belongs to no session.
    fn send(&mut self, connection: ConnectionId, message: ServerMessage) {
        let (begin, refused) = (self.texts.len(), refused(&message));
        ServerFrame { seq: 0, message }.write_json(&mut self.texts);
        let text = begin..self.texts.len();
        self.outputs.push_back(Queued::Send { connection, text, refused });
    }

    fn full(&self) -> Refusal {
        Refusal::plain(ErrorCode::ServerFull).retry(self.config.full_retry)
    }

    fn expire(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            match timer {
                Timer::Connection(connection) => self.silent(now, connection),
                Timer::Session(peer) => self.grace_is_over(peer),
                Timer::Lobby(code) => self.lobby_due(code),
            }
        }
    }

    /// The timer of a connection: it is rearmed here and not with every message, which would make
    /// each message pay for two changes of the timer set.
    fn silent(&mut self, now: Now, connection: ConnectionId) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let silence = self.config.silence();
        let due = state.heard + silence;
        let refusal = match state.phase {
            Phase::Open(_) if now < due => {
                state.timer = due;
                self.timers.insert((due, Timer::Connection(connection)));
                return;
            }
            Phase::Open(_) => {
                Refusal::new(ErrorCode::TooSlow, format!("nothing was heard for {silence:?}"))
            }
            Phase::Greeting => {
                let limit = self.config.hello_timeout;
                Refusal::new(ErrorCode::Order, format!("no hello came within {limit:?}"))
            }
        };
        self.fail(now, connection, refusal);
    }
}

fn refused(message: &ServerMessage) -> Option<ErrorCode> {
    match message {
        ServerMessage::Error { code, .. } => Some(*code),
        _ => None,
    }
}

fn malformed(error: MessageError) -> Refusal {
    Refusal::new(ErrorCode::Malformed, error.to_string())
}

#[cfg(test)]
mod tests;
