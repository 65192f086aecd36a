//! Many clients in one thread.
//!
//! A [`World`] has the sockets: it connects, greets, keeps sessions alive, and reads and writes. What the
//! clients are there for is a [`Phase`]'s business.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::frames::{self, Frame};
use super::speech::{self, Said};
use crate::Result;
use crate::serve::Kind;

/// Sockets from one address: fewer than the 256 that the server allows, and few enough that they do not send more
/// than an address may.
const PER_ADDRESS: usize = 50;

/// Frames after which a client says that it has them, as Netplay's own do.
const SEEN_EVERY: u64 = 64;

/// The largest frame of a server is 64 KiB.
const BUFFER: usize = 256 * 1024;

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is no socket.
    Closed,
    /// The request for a WebSocket is on its way.
    Upgrading,
    /// The server has to say who the client is.
    Greeting,
    /// It may talk.
    Open,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Polite,
    /// Its request for a WebSocket has no end.
    HalfOpen,
    /// It reads nothing once it is open.
    Deaf,
    /// It says this instead of hello.
    Rude(&'static str),
}

/// One client, and what it knows. It may have a socket.
pub(crate) struct Client {
    stream: Option<TcpStream>,
    pub(crate) stage: Stage,
    /// Bytes of a frame that is not all here.
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// It is in the list of those that have something to send.
    listed: bool,
    /// The system takes nothing more now.
    blocked: bool,
    /// As the server names it.
    pub(crate) peer: String,
    /// With which its session is taken up.
    token: String,
    /// The last frame of its session, and the last that it has said it has.
    seen: u64,
    announced: u64,
    /// When it began to connect.
    pub(crate) began: Instant,
    /// Which of our addresses it comes from.
    pub(crate) source: usize,
    pub(crate) manners: Manners,
}

impl Client {
    fn new(who: usize) -> Self {
        Self {
            source: who / PER_ADDRESS,
            manners: Manners::Polite,
            stream: None,
            stage: Stage::Closed,
            inbox: Vec::new(),
            outbox: Vec::new(),
            listed: false,
            blocked: false,
            peer: String::new(),
            token: String::new(),
            seen: 0,
            announced: 0,
            began: Instant::now(),
        }
    }
}

/// The other client of a pair: 0 and 1 are one, 2 and 3, and so on.
pub(crate) const fn partner(who: usize) -> usize {
    who ^ 1
}

/// When a phase wants to be called again.
pub(crate) enum Flow {
    /// When something has happened, or after this time.
    Wait(Duration),
    /// The same, and nothing is measured.
    Sleep(Duration),
    /// At once.
    Spin,
    /// Not at all: it is over.
    Over,
}

/// What clients are doing.
pub(crate) trait Phase {
    /// Time passes. Called often, and first of all.
    fn tick(&mut self, world: &mut World, now: Instant) -> Result<Flow>;
    /// A client's connection is open, and its session begun or taken up.
    fn opened(&mut self, _world: &mut World, _who: usize, _now: Instant, _said: Option<Said<'_>>) {}
    /// An open client heard something that is not about its session.
    fn heard(&mut self, _world: &mut World, _who: usize, _said: Said<'_>, _now: Instant) {}
    /// A client lost its connection, or got none.
    fn lost(&mut self, world: &mut World, who: usize, why: &str);
}

/// See the module.
pub(crate) struct World {
    pub(crate) server: Kind,
    pub(crate) address: SocketAddr,
    /// The second byte of our addresses.
    block: u8,
    poll: Poll,
    pub(crate) clients: Vec<Client>,
    /// Those that have something to send.
    talking: Vec<usize>,
    /// Who lost its connection, and why; the phase has to hear it.
    gone: VecDeque<(usize, String)>,
    /// Whose turn it is to say that it is there.
    next_alive: usize,
    alive_since: Instant,
    /// Since when times in signals count.
    pub(crate) began: Instant,
    buffer: Vec<u8>,
    /// While something is measured, it never sleeps: to wake a process on another processor of this machine takes the
    /// server a quarter of its time, and none when its clients are elsewhere.
    awake: bool,
}

impl World {
    pub(crate) fn new(server: Kind, address: SocketAddr, block: u8, awake: bool) -> Result<Self> {
        Ok(Self {
            server,
            address,
            block,
            poll: Poll::new()?,
            clients: Vec::new(),
            talking: Vec::new(),
            gone: VecDeque::new(),
            next_alive: 0,
            alive_since: Instant::now(),
            began: Instant::now(),
            buffer: vec![0; BUFFER],
            awake,
        })
    }

    /// Makes room for so many clients.
    pub(crate) fn grow(&mut self, count: usize) {
        let new = (self.clients.len()..count).map(Client::new);
        self.clients.extend(new);
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.clients.iter().filter(|client| client.stage == Stage::Open).count()
    }

    /// Nanoseconds, as in signals.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_nanos() as u64
    }

    /// Lets a client connect: to where its pair meets, or to another path.
    pub(crate) fn connect(&mut self, who: usize, path: Option<&str>) {
        if let Err(error) = self.try_connect(who, path) {
            self.gone.push_back((who, error.to_string()));
        }
    }

    /// A socket that connects, from this one of our addresses.
    fn socket(&self, source: usize, manners: Manners) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if manners == Manners::Deaf {
            // Its system holds as little as can be for it.
            socket.set_recv_buffer_size(2048)?;
        }
        let source = Ipv4Addr::new(127, self.block, (source / 250) as u8, (1 + source % 250) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        match socket.connect(&self.address.into()) {
            // EINPROGRESS: it goes on by itself.
            Err(error) if error.raw_os_error() != Some(115) => Err(error),
            _ => Ok(socket),
        }
    }

    fn try_connect(&mut self, who: usize, path: Option<&str>) -> io::Result<()> {
        let Client { source, manners, .. } = self.clients[who];
        let mut stream = TcpStream::from_std(self.socket(source, manners)?.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(who), interest)?;
        let path = path.map_or_else(|| speech::path(self.server, who / 2), ToOwned::to_owned);
        let address = self.address;
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let client = &mut self.clients[who];
        client.stream = Some(stream);
        client.stage = Stage::Upgrading;
        client.began = Instant::now();
        client.inbox.clear();
        if client.manners == Manners::HalfOpen {
            request.truncate(request.trim_end().len());
        }
        client.outbox = request.into_bytes();
        // Until the system says that it is connected.
        client.blocked = true;
        Ok(())
    }

    /// Sends a text to the server, when all that has come was looked at.
    pub(crate) fn say(&mut self, who: usize, text: &[u8]) {
        frames::text(&mut self.clients[who].outbox, text);
        self.list(who);
    }

    /// Sends bytes that are not a whole text.
    pub(crate) fn say_raw(&mut self, who: usize, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.clients[who].outbox);
        self.list(who);
    }

    fn list(&mut self, who: usize) {
        let client = &mut self.clients[who];
        if !client.listed {
            client.listed = true;
            self.talking.push(who);
        }
    }

    /// Closes a client's connection without a word.
    pub(crate) fn close(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.stage = Stage::Closed;
        client.stream = None;
        client.outbox = Vec::new();
        client.inbox = Vec::new();
    }

    /// Forgets a client's session.
    pub(crate) fn forget(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.token.clear();
        (client.seen, client.announced) = (0, 0);
    }

    fn lose(&mut self, who: usize, why: impl ToString) {
        if self.clients[who].stage != Stage::Closed {
            self.close(who);
            self.gone.push_back((who, why.to_string()));
        }
    }

    fn flush(&mut self) {
        while let Some(who) = self.talking.pop() {
            self.clients[who].listed = false;
            self.write(who);
        }
    }

    fn write(&mut self, who: usize) {
        let client = &mut self.clients[who];
        let Some(stream) = &mut client.stream else {
            client.outbox.clear();
            return;
        };
        while !client.blocked && !client.outbox.is_empty() {
            match stream.write(&client.outbox) {
                Ok(count) => drop(client.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.blocked = true,
                Err(error) => return self.lose(who, error),
            }
        }
    }

    /// Lets the clients say in turn that they are there.
    fn keep_alive(&mut self, now: Instant) {
        let Some(every) = self.alive_every() else { return };
        let due = now.saturating_duration_since(self.alive_since).as_nanos() / every.as_nanos();
        let due = usize::try_from(due).unwrap_or(usize::MAX).min(self.clients.len());
        self.alive_since = if due == self.clients.len() {
            now
        } else {
            self.alive_since + every * u32::try_from(due).unwrap_or(u32::MAX)
        };
        for _ in 0..due {
            let who = self.next_alive % self.clients.len();
            self.next_alive = who + 1;
            if self.clients[who].stage == Stage::Open {
                self.still_there(who);
            }
        }
    }

    fn still_there(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.announced = client.seen;
        let text = speech::keep_alive(self.server, client.seen);
        self.say(who, text.as_bytes());
    }

    /// How long after one client the next one says that it is there.
    fn alive_every(&self) -> Option<Duration> {
        let all = u32::try_from(self.clients.len()).ok().filter(|all| *all > 0)?;
        Some(speech::keep_alive_every(self.server) / all)
    }

    /// Lets the clients do this until it is over, which must be within the limit.
    pub(crate) fn run(&mut self, phase: &mut dyn Phase, limit: Duration) -> Result<()> {
        let began = Instant::now();
        let mut events = Events::with_capacity(1024);
        loop {
            let now = Instant::now();
            if now.saturating_duration_since(began) > limit {
                return Err(format!("not done within {:.0} s", limit.as_secs_f64()).into());
            }
            self.keep_alive(now);
            let flow = phase.tick(self, now)?;
            self.flush();
            let wait = match flow {
                Flow::Over => return Ok(()),
                Flow::Spin => Duration::ZERO,
                Flow::Wait(_) if self.awake => Duration::ZERO,
                Flow::Wait(wait) | Flow::Sleep(wait) => wait.min(Duration::from_millis(20)),
            };
            let wait = if self.gone.is_empty() { wait } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                _ => {}
            }
            for event in &events {
                self.event(event, phase);
                self.flush();
            }
            while let Some((who, why)) = self.gone.pop_front() {
                phase.lost(self, who, &why);
            }
        }
    }

    fn event(&mut self, event: &Event, phase: &mut dyn Phase) {
        let who = event.token().0;
        if event.is_writable() && self.clients[who].blocked {
            self.clients[who].blocked = false;
            self.write(who);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let mut buffer = core::mem::take(&mut self.buffer);
            self.read(who, &mut buffer, phase);
            self.buffer = buffer;
        }
    }

    fn read(&mut self, who: usize, buffer: &mut [u8], phase: &mut dyn Phase) {
        loop {
            let client = &mut self.clients[who];
            let Some(stream) = &mut client.stream else { return };
            if client.manners == Manners::Deaf && client.stage == Stage::Open {
                return;
            }
            let held = client.inbox.len();
            buffer[..held].copy_from_slice(&client.inbox);
            let count = match stream.read(&mut buffer[held..]) {
                Ok(0) => return self.lose(who, "the server closed the socket"),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.lose(who, error),
            };
            client.inbox.clear();
            let all = held + count;
            let used = self.look(who, &buffer[..all], phase);
            if self.clients[who].stage == Stage::Closed {
                return;
            }
            self.clients[who].inbox.extend_from_slice(&buffer[used..all]);
            // A stream that gave less than was asked for has nothing more.
            if all < buffer.len() {
                return;
            }
        }
    }

    /// Looks at bytes, and gives how many of them were whole frames.
    fn look(&mut self, who: usize, bytes: &[u8], phase: &mut dyn Phase) -> usize {
        let mut used = 0;
        if self.clients[who].stage == Stage::Upgrading {
            let Some(end) = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                return 0;
            };
            used = end + 4;
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
                self.lose(who, String::from_utf8_lossy(line));
                return used;
            }
            self.upgraded(who, phase);
        }
        loop {
            match frames::next(&bytes[used..]) {
                Ok(None) => return used,
                Ok(Some((frame, len))) => {
                    used += len;
                    self.frame(who, &frame, phase);
                    if self.clients[who].stage == Stage::Closed {
                        return used;
                    }
                }
                Err(frames::Broken) => {
                    self.lose(who, "not a frame of a server");
                    return used;
                }
            }
        }
    }

    fn upgraded(&mut self, who: usize, phase: &mut dyn Phase) {
        let client = &mut self.clients[who];
        client.stage = Stage::Greeting;
        match self.server {
            Kind::Netplay if let Manners::Rude(text) = client.manners => {
                self.say(who, text.as_bytes());
            }
            Kind::Netplay => {
                let known = (client.peer.as_str(), client.token.as_str(), client.seen);
                let hello = speech::hello((!client.token.is_empty()).then_some(known));
                self.say(who, hello.as_bytes());
            }
            Kind::Matchbox => {}
            Kind::BareRelay => {
                client.stage = Stage::Open;
                phase.opened(self, who, Instant::now(), None);
            }
        }
    }

    fn frame(&mut self, who: usize, frame: &Frame<'_>, phase: &mut dyn Phase) {
        let text = match frame {
            Frame::Text(text) => *text,
            Frame::Ping(payload) => return self.say_raw(who, |out| frames::pong(out, payload)),
            Frame::Close(code) => return self.lose(who, format!("closed with {code}")),
            Frame::Other => return,
        };
        let said = Said::new(self.server, text);
        let client = &mut self.clients[who];
        if said.seq > 0 {
            client.seen = said.seq;
        }
        let news = client.seen.saturating_sub(client.announced);
        if let Some(token) = speech::token(&said) {
            client.token = token;
        }
        match client.stage {
            Stage::Greeting => {
                if let Some(peer) = speech::own_id(&said) {
                    client.peer = peer;
                    client.stage = Stage::Open;
                    if !said.text.contains("\"session\":\"continued\"") {
                        (client.seen, client.announced) = (0, 0);
                    }
                    phase.opened(self, who, Instant::now(), Some(said));
                }
            }
            _ => phase.heard(self, who, said, Instant::now()),
        }
        if news >= SEEN_EVERY {
            self.still_there(who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_a_pair_and_nobody_is_in_two() {
        for who in 0..1000 {
            assert_eq!(partner(partner(who)), who);
            assert_ne!(partner(who), who);
            assert_eq!(partner(who) / 2, who / 2, "a pair meets at one path");
        }
    }
}
