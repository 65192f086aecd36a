//! A bad network on one machine: UDP sockets that pass datagrams between two ends on late, or never.
//!
//! Every address that one end tells the other is replaced by the address of a socket of ours that
//! stands for it. What arrives there leaves through the socket that stands for its sender, so an end
//! sees addresses of ours only, and answers to those. Each direction is one `netplay_simnet` pipe,
//! so that all addresses of an end share one path.
//!
//! Guaranteed: nothing reaches an end by another way, because no end hears of another address.
//! Not guaranteed: the same run for the same seed, because which datagram is the n-th depends on the
//! real clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use netplay_protocol::Now;
use netplay_simnet::{Conditions, Pipe};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::Result;

/// IPv4 and UDP headers, which take their part of a link too.
const HEADERS: usize = 28;
/// The delivering thread looks this often at the least; a link with less delay is late by this.
const LOOK: Duration = Duration::from_millis(1);
const KERNEL_BUFFER: usize = 65_536;

/// One of the two sides of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The one that offers or connects.
    A,
    /// The one that answers or accepts.
    B,
}

impl End {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What the ends have sent into a link.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sent {
    /// UDP packets of both ends.
    pub packets: u64,
    /// Their bytes with the headers of IP and UDP.
    pub bytes: u64,
}

/// The thread that delivers what is due on all links; dropping it ends the thread.
pub struct Courier {
    links: Arc<Mutex<Vec<Weak<Link>>>>,
    stop: Arc<AtomicBool>,
}

impl Courier {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let links = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let courier = Self { links: links.clone(), stop: stop.clone() };
        thread::Builder::new().name("courier".into()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let next = deliver_all(&mut lock(&links));
                // Parking is exact to some 50 us; an async timer is to a millisecond.
                let until = next.unwrap_or(LOOK).min(LOOK);
                if !until.is_zero() {
                    thread::park_timeout(until);
                }
            }
        })?;
        Ok(courier)
    }

    /// A new link with these conditions in both directions. Its sockets are read on `runtime`.
    pub fn link(&self, conditions: &Conditions, seed: u64, runtime: Handle) -> Forwarder {
        let pipe = |salt| Pipe::new(conditions.clone(), seed.wrapping_mul(2).wrapping_add(salt));
        let state = State {
            pipes: [pipe(0), pipe(1)],
            nodes: Vec::new(),
            by_address: BTreeMap::new(),
            sent: Sent::default(),
        };
        let link = Arc::new(Link { started: Instant::now(), runtime, state: Mutex::new(state) });
        lock(&self.links).push(Arc::downgrade(&link));
        Forwarder(link)
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how long nothing is due. Forgets links that have ended.
fn deliver_all(links: &mut Vec<Weak<Link>>) -> Option<Duration> {
    let mut next: Option<Duration> = None;
    links.retain(|link| {
        let Some(link) = link.upgrade() else { return false };
        if let Some(wait) = link.deliver() {
            next = Some(next.map_or(wait, |next| next.min(wait)));
        }
        true
    });
    next
}

/// A running link between two ends; dropping it ends it.
pub struct Forwarder(Arc<Link>);

impl Forwarder {
    /// Sets the conditions of both directions from here on.
    pub fn set_conditions(&self, conditions: &Conditions) {
        for pipe in &mut lock(&self.0.state).pipes {
            pipe.set_conditions(conditions.clone());
        }
    }

    /// What both ends have sent so far.
    pub fn sent(&self) -> Sent {
        lock(&self.0.state).sent
    }

    /// The address that stands for this one of `end`'s, for the other end to use.
    pub fn stand_in(&self, end: End, real: SocketAddr) -> Result<SocketAddr> {
        let mut state = lock(&self.0.state);
        let node = self.0.node(&mut state, end, real)?;
        Ok(state.nodes[node].socket.local_addr()?)
    }

    /// A description of `end` as the other end shall see it.
    pub fn rewrite_sdp(&self, end: End, sdp: &str) -> Result<String> {
        sdp.split_inclusive('\n')
            .map(|line| match line.starts_with("a=candidate:") {
                true => self.rewrite_candidate(end, line),
                false => Ok(line.to_owned()),
            })
            .collect()
    }

    /// `candidate:FOUNDATION COMPONENT PROTOCOL PRIORITY ADDRESS PORT typ …`; an empty one says that
    /// there are no more.
    pub fn rewrite_candidate(&self, end: End, candidate: &str) -> Result<String> {
        if candidate.is_empty() {
            return Ok(String::new());
        }
        let mut fields: Vec<String> = candidate.split(' ').map(str::to_owned).collect();
        if fields.len() < 8 || !fields[2].eq_ignore_ascii_case("udp") || fields[7].trim() != "host"
        {
            return Err(format!("a candidate that the forwarder does not know: {candidate}").into());
        }
        let real = SocketAddr::new(fields[4].parse()?, fields[5].parse()?);
        let stand_in = self.stand_in(end, real)?;
        fields[4] = stand_in.ip().to_string();
        fields[5] = stand_in.port().to_string();
        Ok(fields.join(" "))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // The readers hold the link: without this they would keep each other.
        for node in &lock(&self.0.state).nodes {
            node.reader.abort();
        }
    }
}

struct Link {
    started: Instant,
    runtime: Handle,
    state: Mutex<State>,
}

struct State {
    /// What A sends, and what B sends.
    pipes: [Pipe<Packet>; 2],
    /// The addresses of both ends, in the order in which they became known.
    nodes: Vec<Node>,
    by_address: BTreeMap<SocketAddr, usize>,
    sent: Sent,
}

/// An address of an end, and our socket that stands for it.
struct Node {
    end: End,
    real: SocketAddr,
    socket: std::net::UdpSocket,
    reader: AbortHandle,
}

#[derive(Clone)]
struct Packet {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

impl Link {
    fn now(&self) -> Now {
        Now::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The node of an address; a new one gets a socket and a task that reads it.
    fn node(self: &Arc<Self>, state: &mut State, end: End, real: SocketAddr) -> Result<usize> {
        if let Some(node) = state.by_address.get(&real) {
            return Ok(*node);
        }
        // The same interface, so that an end which binds that one alone can reach it.
        let socket = std::net::UdpSocket::bind(SocketAddr::new(real.ip(), 0))?;
        socket.set_nonblocking(true)?;
        let entered = self.runtime.enter();
        let reading = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        drop(entered);
        let number = state.nodes.len();
        let reader = self.runtime.spawn(read(self.clone(), number, reading)).abort_handle();
        state.nodes.push(Node { end, real, socket, reader });
        state.by_address.insert(real, number);
        Ok(number)
    }

    /// Takes a datagram from `source` to the end that the node `to` belongs to.
    fn take(self: &Arc<Self>, to: usize, source: SocketAddr, bytes: &[u8]) -> Result<()> {
        let mut state = lock(&self.state);
        let end = state.nodes[to].end.other();
        let from = self.node(&mut state, end, source)?;
        let len = bytes.len() + HEADERS;
        state.sent.packets += 1;
        state.sent.bytes += len as u64;
        let packet = Packet { from, to, bytes: bytes.to_vec() };
        state.pipes[end as usize].send(self.now(), len, packet);
        Ok(())
    }

    /// Sends on what is due, and tells how long nothing else is.
    fn deliver(&self) -> Option<Duration> {
        let mut state = lock(&self.state);
        let State { pipes, nodes, .. } = &mut *state;
        let now = self.now();
        for pipe in pipes.iter_mut() {
            while let Some(packet) = pipe.poll(now) {
                let (from, to) = (&nodes[packet.from], &nodes[packet.to]);
                // A full socket buffer loses a datagram, as any network may.
                let _ = from.socket.send_to(&packet.bytes, to.real);
            }
        }
        let next = pipes.iter().filter_map(Pipe::next_deadline).min()?;
        Some(Duration::from_micros(next.as_micros().saturating_sub(self.now().as_micros())))
    }
}

/// Reads the socket that stands for `to`.
async fn read(link: Arc<Link>, to: usize, socket: tokio::net::UdpSocket) {
    let mut buffer = vec![0; KERNEL_BUFFER];
    loop {
        // An error here is the echo of a datagram that we sent to an end which is gone.
        let Ok((len, source)) = socket.recv_from(&mut buffer).await else { continue };
        if let Err(error) = link.take(to, source, &buffer[..len]) {
            eprintln!("forwarder: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> std::net::UdpSocket {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    #[test]
    fn a_datagram_arrives_late_and_from_the_senders_stand_in() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let courier = Courier::start().unwrap();
        let conditions = Conditions::perfect().with_delay(Duration::from_millis(20));
        let link = courier.link(&conditions, 1, runtime.handle().clone());
        let (a, b) = (loopback(), loopback());
        let a_stand_in = link.stand_in(End::A, a.local_addr().unwrap()).unwrap();
        let b_stand_in = link.stand_in(End::B, b.local_addr().unwrap()).unwrap();
        let sent = Instant::now();
        a.send_to(b"ping", b_stand_in).unwrap();
        let mut buffer = [0; 16];
        let (len, source) = b.recv_from(&mut buffer).unwrap();
        assert!(sent.elapsed() >= Duration::from_millis(20));
        assert_eq!((&buffer[..len], source), (&b"ping"[..], a_stand_in));
        b.send_to(b"pong", source).unwrap();
        let (len, source) = a.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], source), (&b"pong"[..], b_stand_in));
        let counted = link.sent();
        assert_eq!((counted.packets, counted.bytes), (2, 2 * (4 + HEADERS as u64)));
    }

    #[test]
    fn only_addresses_of_the_forwarder_remain_in_a_description() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let courier = Courier::start().unwrap();
        let link = courier.link(&Conditions::perfect(), 1, runtime.handle().clone());
        let candidate = "a=candidate:1 1 udp 2130706431 127.0.0.1 5 typ host\r\n";
        let sdp = format!("v=0\r\n{candidate}a=end-of-candidates\r\n");
        let rewritten = link.rewrite_sdp(End::A, &sdp).unwrap();
        let stand_in = link.stand_in(End::A, "127.0.0.1:5".parse().unwrap()).unwrap();
        assert_eq!(rewritten, sdp.replace(" 5 ", &format!(" {} ", stand_in.port())));
        assert!(link.rewrite_candidate(End::A, "1 1 tcp 1 127.0.0.1 5 typ host").is_err());
    }
}
