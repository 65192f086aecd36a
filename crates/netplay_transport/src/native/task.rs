//! The task of one session: everything that arrives goes into [`SessionCore`], and what it wants
//! done is done here. It owns the socket and the connections of the session; when it ends, nothing
//! of them is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use netplay_peer::link::Packet;
use netplay_peer::link::driver::{Channel, ConnectionId, DriverCommand, DriverEvent, Phase};
use netplay_peer::{MeshInput, MeshOutput, SocketTarget};
use netplay_protocol::{Now, PeerId};
use netplay_socket::{Arrival, Server, SocketEvent, Sockets};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::addresses::AddressWatch;
use super::conditioner::Conditioners;
use super::driver::{self, Begin, Channels, ConnectionCommand};
use super::media::MediaSender;
use crate::clock::SessionTime;
use crate::config::{Addresses, SessionConfig};
use crate::session::Wake;
use crate::session_core::SessionCore;

/// What arrives from sockets and connections and is not taken yet. When it is full, their readers
/// wait, and with them the peers' channels.
const INBOX: usize = 1024;
/// Commands that wait for one connection: more candidates than a link passes on.
const CONNECTION_COMMANDS: usize = 128;
/// Taken from the inbox before the outputs are done, so that a burst costs one turn.
const BATCH: usize = 64;
/// From the end of a session to the end of its task, whatever the network does.
const LEAVE: Duration = Duration::from_millis(800);

/// When a packet was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamped(Instant);

impl Stamped {
    pub(super) fn now() -> Self {
        Self(Instant::now())
    }
}

/// From sockets and connections.
pub(super) enum Inbox {
    Socket(Arrival),
    Channels {
        peer: PeerId,
        connection: ConnectionId,
        channels: Channels,
        media: MediaSender,
    },
    Open {
        peer: PeerId,
        connection: ConnectionId,
        channel: Channel,
    },
    Driver {
        peer: PeerId,
        event: DriverEvent,
    },
    Packet {
        stamped: Stamped,
        peer: PeerId,
        connection: ConnectionId,
        channel: Channel,
        packet: Bytes,
    },
}

impl Wake for Notify {
    fn wake(&self) {
        self.notify_one();
    }
}

struct Connection {
    commands: mpsc::Sender<ConnectionCommand>,
    channels: Option<(Channels, MediaSender)>,
    /// One bit per channel.
    open: u8,
}

impl From<Arrival> for Inbox {
    fn from(arrival: Arrival) -> Self {
        Self::Socket(arrival)
    }
}

/// The shell of one session.
pub(super) struct SessionTask {
    core: SessionCore,
    time: SessionTime,
    sockets: Sockets,
    addresses: Addresses,
    wake: Arc<Notify>,
    inbox: mpsc::Sender<Inbox>,
    arrivals: mpsc::Receiver<Inbox>,
    /// A link has two while it moves from one to the other.
    connections: BTreeMap<(PeerId, ConnectionId), Connection>,
    conditioners: Conditioners,
    address_watch: AddressWatch,
    tasks: JoinSet<()>,
}

impl SessionTask {
    pub(super) fn new(
        core: SessionCore,
        server: Server,
        config: &SessionConfig,
        wake: Arc<Notify>,
        time: SessionTime,
    ) -> Self {
        let (inbox, arrivals) = mpsc::channel(INBOX);
        Self {
            core,
            time,
            sockets: Sockets::new(server),
            addresses: config.addresses,
            wake,
            inbox,
            arrivals,
            connections: BTreeMap::new(),
            conditioners: Conditioners::new(config.conditioner.clone()),
            address_watch: AddressWatch::new(config.addresses, Instant::now()),
            tasks: JoinSet::new(),
        }
    }

    fn now(&self) -> Now {
        self.at(Instant::now())
    }

    fn at(&self, instant: Instant) -> Now {
        self.time.at(instant)
    }

    /// Runs until the game has dropped its half, or has not looked for too long.
    pub(super) async fn run(mut self, stop: Arc<Notify>) {
        let mut leave_by = None;
        loop {
            if self.address_watch.changed(Instant::now()) {
                tracing::info!("this machine has another address");
                let now = self.now();
                self.core.handle(now, MeshInput::NetworkChanged);
            }
            let now = self.now();
            self.core.pump(now);
            while let Some((peer, conditioner)) = self.core.poll_conditioner() {
                self.conditioners.set(peer, conditioner);
            }
            if leave_by.is_none() && self.core.overflowed() {
                self.core.leave(now);
            }
            self.perform().await;
            if self.core.is_leaving() {
                let by = *leave_by.get_or_insert(Instant::now() + LEAVE);
                if self.core.is_over() || Instant::now() >= by {
                    break;
                }
            }
            let deadline =
                self.core.next_deadline().and_then(|deadline| self.time.instant(deadline));
            let look = self.address_watch.next_look();
            let deadline = [deadline, leave_by, look].into_iter().flatten().min();
            tokio::select! {
                Some(item) = self.arrivals.recv() => {
                    self.take(item);
                    for _ in 1..BATCH {
                        let Ok(item) = self.arrivals.try_recv() else { break };
                        self.take(item);
                    }
                }
                () = self.wake.notified() => {}
                () = stop.notified(), if leave_by.is_none() => {
                    let now = self.now();
                    self.core.leave(now);
                }
                () = sleep_until(deadline) => {}
            }
            while self.tasks.try_join_next().is_some() {}
        }
        self.finish().await;
    }

    /// Closes what is still open. Connections close themselves once their queues are gone.
    async fn finish(mut self) {
        self.connections.clear();
        self.arrivals.close();
        let all = async {
            self.sockets.ended().await;
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(LEAVE, all).await.is_err() {
            tracing::warn!("a connection did not close in time");
        }
    }

    fn take(&mut self, item: Inbox) {
        let now = self.now();
        let input = match item {
            Inbox::Packet { stamped, peer, connection, channel, packet } => {
                let mut buffer = match channel {
                    Channel::Stream => self.core.pool().large(),
                    _ => self.core.pool().small(),
                };
                buffer.extend_from_slice(&packet);
                let input = MeshInput::Packet { peer, connection, channel, packet: buffer };
                return self.core.handle(self.at(stamped.0), input);
            }
            Inbox::Socket(arrival) => match self.sockets.take(arrival) {
                Some(SocketEvent::Opened) => MeshInput::SocketOpened,
                Some(SocketEvent::Text(text)) => MeshInput::SocketText(text),
                Some(SocketEvent::Closed(why)) => MeshInput::SocketClosed(why),
                None => return,
            },
            Inbox::Channels { peer, connection, channels, media } => {
                if let Some(entry) = self.connection(peer, connection) {
                    entry.channels = Some((channels, media));
                }
                return;
            }
            Inbox::Open { peer, connection, channel } => {
                let Some(entry) = self.connection(peer, connection) else {
                    return;
                };
                entry.open |= 1 << channel as u8;
                if entry.open != 0b111 {
                    return;
                }
                MeshInput::Driver { peer, event: DriverEvent::ChannelsOpen { connection } }
            }
            Inbox::Driver { peer, event } => {
                if let DriverEvent::Progress { connection, phase: Phase::OpeningChannels } = event {
                    self.nudge(peer, connection);
                }
                MeshInput::Driver { peer, event }
            }
        };
        self.core.handle(now, input);
    }

    fn nudge(&mut self, peer: PeerId, connection: ConnectionId) {
        let entry = self.connection(peer, connection);
        let channels = entry.and_then(|entry| entry.channels.as_ref());
        if let Some(channel) = channels.map(|(channels, _)| channels[0].clone()) {
            self.tasks.spawn(driver::nudge(channel));
        }
    }

    fn connection(&mut self, peer: PeerId, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&(peer, id))
    }

    async fn perform(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                MeshOutput::Transmit { peer, connection, channel, packet } => {
                    self.transmit(peer, connection, channel, packet).await;
                }
                MeshOutput::Driver { peer, command } => self.command(peer, command),
                MeshOutput::OpenSocket(target) => self.open_socket(&target),
                MeshOutput::SendText(text) => self.sockets.send(text),
                MeshOutput::CloseSocket => self.sockets.close(),
                MeshOutput::Event(_) | MeshOutput::Clock { .. } | MeshOutput::Unused(_) => {}
            }
        }
    }

    async fn transmit(&mut self, peer: PeerId, id: ConnectionId, channel: Channel, packet: Packet) {
        let entry = self.connection(peer, id);
        if let Some((channels, media)) = entry.and_then(|entry| entry.channels.as_mut()) {
            if channel == Channel::Media {
                media.send(packet.as_ref()).await;
            } else if !driver::transmit(channels[channel as usize].as_ref(), packet.as_ref()).await
                && channel != Channel::Datagrams
            {
                // Credit keeps these below the library's limit, so the connection is closing.
                tracing::debug!(?peer, "a reliable packet was not taken");
            }
        }
        if let Packet::Full(buffer) = packet {
            let now = self.now();
            self.core.recycle(now, peer, channel, buffer);
        }
    }

    fn open_socket(&mut self, target: &SocketTarget) {
        let address = self.sockets.server().address();
        let url = match target {
            SocketTarget::Lobbies => address.lobbies(),
            SocketTarget::Room(room) => address.room(room),
        };
        self.sockets.open(url, self.inbox.clone());
    }

    fn command(&mut self, peer: PeerId, command: DriverCommand) {
        match command {
            DriverCommand::Offer { connection } => self.begin(peer, connection, Begin::Offer),
            DriverCommand::Answer { connection, sdp } => {
                self.begin(peer, connection, Begin::Answer(sdp));
            }
            DriverCommand::SetAnswer { connection, sdp } => {
                self.pass(peer, connection, ConnectionCommand::SetAnswer(sdp));
            }
            DriverCommand::AddCandidate { connection, candidate } => {
                self.pass(peer, connection, ConnectionCommand::AddCandidate(candidate));
            }
            DriverCommand::Drop { connection } => {
                self.connections.remove(&(peer, connection));
            }
        }
    }

    fn begin(&mut self, peer: PeerId, id: ConnectionId, begin: Begin) {
        let (commands, queue) = mpsc::channel(CONNECTION_COMMANDS);
        let inbox = self.inbox.clone();
        let line = self.conditioners.line(peer, id);
        self.tasks.spawn(driver::run(peer, id, begin, self.addresses, line, queue, inbox));
        self.connections.insert((peer, id), Connection { commands, channels: None, open: 0 });
    }

    fn pass(&mut self, peer: PeerId, id: ConnectionId, command: ConnectionCommand) {
        if let Some(entry) = self.connection(peer, id)
            && entry.commands.try_send(command).is_err()
        {
            tracing::debug!(?peer, "a connection does not take more commands");
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
