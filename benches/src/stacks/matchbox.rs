//! `matchbox_socket` with its own signaling server, through the public API of its sockets.
//!
//! Chosen in its favour, among what its documentation shows:
//!
//! - The message loop is awaited together with the channel, on the thread that sends and receives:
//!   it spares matchbox the change of thread that a message loop on another thread needs, and no
//!   frame time is lost as where the loop is polled once a frame. The channel is awaited as the
//!   stream that it is, not polled with a pause.
//! - The measuring side is the host of a client-server room: one socket with many peers. In a full
//!   mesh the peers would connect to each other as well and load the machine; with a room per peer
//!   the memory of a socket and its WebSocket would count for each. The handshake is the same.
//!
//! The library binds every network interface but loopback, which cannot be configured; as both ends
//! are on one machine, no packet of a connection leaves it. On a machine with no other interface the
//! library panics, because it also opens a multicast socket. Its peer connections run on smol's
//! threads: one, unless the environment variable `SMOL_THREADS` says otherwise.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use matchbox_signaling::SignalingServer;
use matchbox_socket::{
    ChannelConfig, MessageLoopFuture, Packet, PeerId, PeerState, RtcIceServerConfig, WebRtcChannel,
    WebRtcSocket,
};
use tokio::runtime::Runtime;

use super::{Lobby, Pinger, Setup, Stack, log_end, tokio_runtime, too_slow};
use crate::Result;
use crate::harness::Bench;
use crate::link::{Link, Signal};
use crate::ping::{self, Amount, Channel, MESSAGE_BYTES, Samples};

/// How long a socket may take to reach the signaling server on the same machine.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// See the module.
pub struct Matchbox;

impl Stack for Matchbox {
    fn measures(&self, _bench: Bench) -> bool {
        true
    }

    fn lobby(&self) -> Result<Option<Lobby>> {
        let runtime = tokio_runtime()?;
        let entered = runtime.enter();
        let mut server = SignalingServer::client_server_builder((Ipv4Addr::LOCALHOST, 0)).build();
        let address = server.bind()?;
        runtime.spawn(server.serve());
        drop(entered);
        Ok(Some(Lobby::new(format!("ws://{address}/bench"), ServerRuntime(Some(runtime)))))
    }

    fn pinger(&self, setup: Setup) -> Result<Box<dyn Pinger>> {
        let url = setup.lobby_url.ok_or("no signaling server")?;
        let runtime = game_thread()?;
        let mut socket = Socket::new(&url)?;
        let joining = async { tokio::time::timeout(JOIN_LIMIT, socket.joined()).await };
        runtime.block_on(joining).map_err(|_| too_slow("joining the room", JOIN_LIMIT))??;
        Ok(Box::new(MatchboxPinger { runtime, link: setup.link, socket }))
    }

    fn peer(&self, setup: Setup) -> Result<()> {
        let url = setup.lobby_url.ok_or("no signaling server")?;
        loop {
            let request: Signal = setup.link.receive_forever()?;
            let url = url.clone();
            thread::Builder::new().name("game".into()).spawn(move || {
                log_end(serve(&url, request.connection));
            })?;
        }
    }
}

/// One client of the pinger's room, until it is left alone.
fn serve(url: &str, number: u32) -> Result<()> {
    game_thread()?.block_on(async {
        let mut socket = Socket::new(url)?;
        socket.connected().await?;
        ping::greet_and_echo(&mut socket, number).await
    })
}

/// Only parks and wakes the thread that calls `block_on`, and has the clock.
fn game_thread() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_time().build()?)
}

/// Stops a runtime without waiting for its tasks.
struct ServerRuntime(Option<Runtime>);

impl Drop for ServerRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct MatchboxPinger {
    runtime: Runtime,
    link: Link,
    socket: Socket,
}

impl Pinger for MatchboxPinger {
    fn connect(&mut self, number: u32, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        // The peer joins when it is told to: joining starts the handshake. That puts its WebSocket
        // into the time: about 2 ms of about 600 ms.
        self.link.send(&Signal { connection: number, data: String::new() })?;
        let socket = &mut self.socket;
        let greeting =
            async { tokio::time::timeout(limit, ping::await_greeting(socket, number)).await };
        let received =
            self.runtime.block_on(greeting).map_err(|_| too_slow("the connection", limit))??;
        Ok(received - started)
    }

    fn ping_pong(&mut self, amount: Amount) -> Result<Samples> {
        self.runtime.block_on(ping::ping_pong(&mut self.socket, amount))
    }
}

/// A socket, its message loop and its one channel, driven by whoever awaits.
struct Socket {
    socket: WebRtcSocket,
    message_loop: MessageLoopFuture,
    channel: WebRtcChannel,
    /// Who gets what is sent: the sender of the latest message.
    peer: Option<PeerId>,
}

impl Socket {
    fn new(url: &str) -> Result<Self> {
        let no_stun = RtcIceServerConfig { urls: Vec::new(), ..Default::default() };
        let (mut socket, message_loop) = WebRtcSocket::builder(url)
            .ice_server(no_stun)
            .add_channel(ChannelConfig::unreliable())
            .build();
        let channel = socket.take_channel(0)?;
        Ok(Self { socket, message_loop, channel, peer: None })
    }

    /// Waits for the signaling server to give this socket its id.
    async fn joined(&mut self) -> Result<()> {
        while self.socket.id().is_none() {
            let pause = std::pin::pin!(tokio::time::sleep(Duration::from_millis(1)));
            tokio::select! {
                result = &mut self.message_loop => result?,
                () = pause => {}
            }
        }
        Ok(())
    }

    /// Waits for a peer and makes it the one that gets what is sent.
    async fn connected(&mut self) -> Result<()> {
        loop {
            let change = tokio::select! {
                biased;
                result = &mut self.message_loop => return Err(ended(result)),
                change = self.socket.next() => change,
            };
            match change {
                Some((peer, PeerState::Connected)) => {
                    self.peer = Some(peer);
                    return Ok(());
                }
                Some(_) => {}
                None => return Err("the socket closed".into()),
            }
        }
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Packet>> {
        // First the loop: it sends what is queued and queues what has come.
        if let Poll::Ready(result) = Pin::new(&mut self.message_loop).poll(context) {
            return Poll::Ready(Err(ended(result)));
        }
        Pin::new(&mut self.channel).poll_next(context).map(|message| {
            let (peer, packet) = message.ok_or("the channel closed")?;
            self.peer = Some(peer);
            Ok(packet)
        })
    }
}

fn ended(result: std::result::Result<(), matchbox_socket::Error>) -> crate::Error {
    match result {
        Ok(()) => "the message loop ended".into(),
        Err(error) => error.into(),
    }
}

impl Channel for Socket {
    type Message = Packet;

    fn message(payload: &[u8; MESSAGE_BYTES]) -> Self::Message {
        Packet::copy_from_slice(payload)
    }

    async fn send(&mut self, message: Self::Message) -> Result<()> {
        let peer = self.peer.ok_or("not connected")?;
        Ok(self.channel.try_send(message, peer)?)
    }

    async fn receive(&mut self) -> Result<Self::Message> {
        std::future::poll_fn(|context| self.poll_receive(context)).await
    }
}
