//! A lossy network between players of one machine: a proxy in front of the lobby server, and UDP
//! sockets that pass datagrams on late, or never.
//!
//! Every address that one player tells another is replaced by the address of a socket of ours that
//! stands for it. What arrives there leaves through the socket that stands for its sender, so a
//! player sees addresses of ours only, and answers to those. Each direction between two addresses
//! has [`Conditions`] and random numbers of its own.
//!
//! Guaranteed: nothing reaches a player by another way, because no player hears of another address.
//! Not guaranteed: the same run for the same seed, because which datagram is the n-th depends on
//! the real clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::lobby::{self, ServerFrame, ServerMessage, SignalBody};
use netplay_protocol::{Now, PeerId};
use netplay_simnet::{Conditions, Network, PipeStats};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio_tungstenite::tungstenite::Message;

const FREE_PORT: &str = "loopback has a free port";
const BOUND: &str = "the socket is bound";
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running forwarder on a thread of its own; dropping it ends it.
pub struct Forwarder {
    address: SocketAddr,
    relay: Arc<Relay>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Stands in front of the lobby server at `server`, `ws://HOST:PORT`.
    pub fn start(server: &str, conditions: Conditions, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system gives an event queue");
        let listener = runtime.block_on(TcpListener::bind(LOOPBACK)).expect(FREE_PORT);
        let address = listener.local_addr().expect(BOUND);
        let relay = Arc::new(Relay::new(conditions, seed));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = format!("{server}{}", lobby::PATH);
        let run = {
            let relay = relay.clone();
            async move {
                tokio::select! {
                    () = accept(listener, server, &relay) => {}
                    () = deliver(&relay) => {}
                    _ = stopped => {}
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("forwarder".into())
            .spawn(move || runtime.block_on(run))
            .expect("the system gives a thread");
        Self { address, relay, stop: Some(stop), thread: Some(thread) }
    }

    /// The address that sessions take for the lobby server's.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// What happened to the datagrams of all players so far.
    pub fn stats(&self) -> PipeStats {
        self.relay.state().network.total_stats()
    }

    /// The number of the last attempt to connect that this player has signalled.
    pub fn attempts(&self, player: PeerId) -> u32 {
        self.relay.state().attempts.get(&player).copied().unwrap_or(0)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.stop.take());
        let result = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(result, Some(Ok(()))), "the forwarder panicked");
        }
    }
}

struct Relay {
    started: Instant,
    state: Mutex<State>,
    /// Something was sent, so that the next datagram may be due earlier.
    sent: Notify,
}

struct State {
    network: Network<usize, Vec<u8>>,
    /// The addresses of players, in the order in which they became known.
    nodes: Vec<Node>,
    by_address: BTreeMap<SocketAddr, usize>,
    attempts: BTreeMap<PeerId, u32>,
}

/// An address of a player, and our socket that stands for it.
struct Node {
    real: SocketAddr,
    socket: UdpSocket,
}

impl Relay {
    fn new(conditions: Conditions, seed: u64) -> Self {
        let state = State {
            network: Network::new(conditions, seed, |node| node as u64),
            nodes: Vec::new(),
            by_address: BTreeMap::new(),
            attempts: BTreeMap::new(),
        };
        Self { started: Instant::now(), state: Mutex::new(state), sent: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    fn now(&self) -> Now {
        let micros = u64::try_from(self.started.elapsed().as_micros());
        Now::from_micros(micros.expect("no test takes that long"))
    }

    /// The node of a player's address; a new one gets a socket and a task that reads it.
    fn node(self: &Arc<Self>, state: &mut State, real: SocketAddr) -> usize {
        if let Some(node) = state.by_address.get(&real) {
            return *node;
        }
        let socket = UdpSocket::bind(LOOPBACK).expect(FREE_PORT);
        socket.set_nonblocking(true).expect(BOUND);
        let reader = socket.try_clone().and_then(tokio::net::UdpSocket::from_std).expect(BOUND);
        let node = state.nodes.len();
        state.nodes.push(Node { real, socket });
        state.by_address.insert(real, node);
        tokio::spawn(read(self.clone(), node, reader));
        node
    }

    /// The address that stands for this one.
    fn stand_in(self: &Arc<Self>, real: SocketAddr) -> SocketAddr {
        let mut state = self.state();
        let node = self.node(&mut state, real);
        state.nodes[node].socket.local_addr().expect(BOUND)
    }

    /// A frame as the receiver shall see it. Other frames than signals are left as they are.
    fn rewrite(self: &Arc<Self>, text: &str) -> Option<String> {
        let mut frame = ServerFrame::from_json(text).ok()?;
        let ServerMessage::Signal { from, signal } = &mut frame.message else {
            return None;
        };
        {
            let mut state = self.state();
            let attempts = state.attempts.entry(*from).or_default();
            *attempts = signal.attempt.max(*attempts);
        }
        match &mut signal.body {
            SignalBody::Offer { sdp } | SignalBody::Answer { sdp } => *sdp = self.rewrite_sdp(sdp),
            SignalBody::Candidate { candidate, .. } => {
                *candidate = self.rewrite_candidate(candidate);
            }
            SignalBody::Bye | SignalBody::Lost | SignalBody::Withdraw => {}
        }
        Some(frame.to_json())
    }

    fn rewrite_sdp(self: &Arc<Self>, sdp: &str) -> String {
        let lines = sdp.split_inclusive('\n').map(|line| match line.starts_with("a=candidate:") {
            true => self.rewrite_candidate(line),
            false => line.to_owned(),
        });
        lines.collect()
    }

    /// `candidate:FOUNDATION COMPONENT PROTOCOL PRIORITY ADDRESS PORT typ …`; an empty one says that
    /// there are no more.
    fn rewrite_candidate(self: &Arc<Self>, candidate: &str) -> String {
        if candidate.is_empty() {
            return String::new();
        }
        let mut fields: Vec<_> = candidate.split(' ').map(str::to_owned).collect();
        let address = fields[4].parse().expect("an IP address");
        let real = SocketAddr::new(address, fields[5].parse().expect("a port"));
        assert!(fields[2].eq_ignore_ascii_case("udp") && real.ip().is_loopback(), "{candidate}");
        let stand_in = self.stand_in(real);
        fields[4] = stand_in.ip().to_string();
        fields[5] = stand_in.port().to_string();
        fields.join(" ")
    }
}

/// Reads the socket that stands for `to`.
async fn read(relay: Arc<Relay>, to: usize, socket: tokio::net::UdpSocket) {
    let mut buffer = vec![0; 65_536];
    while let Ok((len, source)) = socket.recv_from(&mut buffer).await {
        let mut state = relay.state();
        let from = relay.node(&mut state, source);
        state.network.send(relay.now(), from, to, len, buffer[..len].to_vec());
        drop(state);
        relay.sent.notify_one();
    }
}

/// Delivers what is due, for ever.
async fn deliver(relay: &Relay) {
    loop {
        let next = {
            let mut state = relay.state();
            while let Some(delivery) = state.network.poll(relay.now()) {
                let (from, to) = (&state.nodes[delivery.from], &state.nodes[delivery.to]);
                // A full socket buffer loses a datagram, as any network may.
                let _ = from.socket.send_to(&delivery.item, to.real);
            }
            state.network.next_deadline()
        };
        let next = next.map(|next| relay.started + Duration::from_micros(next.as_micros()));
        tokio::select! {
            () = relay.sent.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Takes players' connections to the lobby server, for ever.
async fn accept(listener: TcpListener, server: String, relay: &Arc<Relay>) {
    loop {
        let (player, _) = listener.accept().await.expect("the listener lives");
        tokio::spawn(proxy(player, server.clone(), relay.clone()));
    }
}

/// Passes frames on until one side closes.
async fn proxy(player: TcpStream, server: String, relay: Arc<Relay>) {
    drop(player.set_nodelay(true));
    let Ok(mut player) = tokio_tungstenite::accept_async(player).await else {
        return;
    };
    let connecting = tokio_tungstenite::connect_async_with_config(server, None, true);
    let Ok((mut server, _)) = connecting.await else {
        return;
    };
    loop {
        let passed = tokio::select! {
            message = player.next() => match message {
                Some(Ok(message)) => server.send(message).await,
                Some(Err(_)) | None => return,
            },
            message = server.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let text = relay.rewrite(&text).map_or(text, Into::into);
                    player.send(Message::Text(text)).await
                }
                Some(Ok(message)) => player.send(message).await,
                Some(Err(_)) | None => return,
            },
        };
        if passed.is_err() {
            return;
        }
    }
}
