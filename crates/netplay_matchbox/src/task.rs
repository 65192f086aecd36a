//! What one socket's thread does: the lobby client, its WebSocket, and the queues to matchbox.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use matchbox_socket::{PeerEvent, PeerRequest};
use netplay_peer::lobby_client::{LobbyEvent, LobbyInput, LobbyOutput};
use netplay_peer::{JoinRequest, LobbyClient};
use netplay_protocol::{Now, ServerAddress};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::handle::{LobbyError, Reporter};
use crate::introductions::Introductions;
use crate::socket::{self, Arrival, SocketEvent};
use crate::translate::{our_id, to_lobby};

/// Frames that were read and not taken yet. When it is full, the socket is not read.
const INBOX: usize = 64;
/// From the end of the signalling to the end of its sockets, whatever the network does.
const LEAVE: Duration = Duration::from_millis(600);

pub(crate) struct Task {
    client: LobbyClient,
    introductions: Introductions,
    server: ServerAddress,
    /// How often the server may be tried before it is reached for the first time.
    attempts: Option<u16>,
    /// How often it was; `None` once it was reached.
    failures: Option<u16>,
    started: Instant,
    requests: mpsc::Receiver<PeerRequest>,
    events: mpsc::Sender<PeerEvent>,
    reporter: Reporter,
    inbox: mpsc::Sender<Arrival>,
    arrivals: mpsc::Receiver<Arrival>,
    socket: Option<mpsc::Sender<String>>,
    /// Which socket is the present one.
    generation: u64,
    sockets: JoinSet<()>,
}

impl Task {
    pub(crate) fn new(
        client: LobbyClient,
        server: ServerAddress,
        attempts: Option<u16>,
        requests: mpsc::Receiver<PeerRequest>,
        events: mpsc::Sender<PeerEvent>,
        reporter: Reporter,
    ) -> Self {
        let (inbox, arrivals) = mpsc::channel(INBOX);
        Self {
            client,
            introductions: Introductions::default(),
            server,
            attempts,
            failures: Some(0),
            started: Instant::now(),
            requests,
            events,
            reporter,
            inbox,
            arrivals,
            socket: None,
            generation: 0,
            sockets: JoinSet::new(),
        }
    }

    fn now(&self) -> Now {
        Now::ZERO + self.started.elapsed()
    }

    /// Runs until matchbox drops its end, or nobody new can be met any more. Then leaves the lobby.
    pub(crate) async fn run(mut self, request: JoinRequest) {
        let why = match self.serve(request).await {
            Ok(()) => LobbyError::Closed,
            Err(error) => {
                tracing::info!(%error, "no more players are met");
                error
            }
        };
        self.reporter.ended(why);
        // Matchbox hears of it.
        drop(self.events);
        self.client.handle(Now::ZERO + self.started.elapsed(), LobbyInput::Leave);
        while let Some(output) = self.client.poll_output() {
            if let (LobbyOutput::SendText(text), Some(socket)) = (output, &self.socket) {
                // A socket that is full is stuck, and the server finds out by itself.
                drop(socket.try_send(text));
            }
        }
        self.socket = None;
        self.arrivals.close();
        let all = async { while self.sockets.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVE, all).await.is_err() {
            tracing::debug!("the socket to the lobby did not close in time");
        }
    }

    async fn serve(&mut self, request: JoinRequest) -> Result<(), LobbyError> {
        let mut input = LobbyInput::Join(request);
        loop {
            let now = self.now();
            self.client.handle(now, input);
            self.perform()?;
            input = match self.next_input().await {
                Some(input) => input,
                None => return Ok(()),
            };
            while self.sockets.try_join_next().is_some() {}
        }
    }

    /// Waits for something that the client has to know; `None`: matchbox has dropped its end.
    async fn next_input(&mut self) -> Option<LobbyInput> {
        loop {
            let deadline = self.client.next_deadline();
            let deadline = deadline.map(|at| self.started + at.since(Now::ZERO));
            tokio::select! {
                request = self.requests.recv() => match request? {
                    PeerRequest::Signal { receiver, data } => match to_lobby(data) {
                        Ok(signal) => return Some(LobbyInput::Signal { to: our_id(receiver), signal }),
                        Err(error) => tracing::warn!(%error, "a signal cannot be passed on"),
                    },
                    PeerRequest::KeepAlive => {}
                },
                Some(Arrival { socket, event }) = self.arrivals.recv() => {
                    if socket == self.generation {
                        return Some(match event {
                            SocketEvent::Opened => LobbyInput::SocketOpened,
                            SocketEvent::Text(text) => LobbyInput::SocketText(text),
                            SocketEvent::Closed(why) => LobbyInput::SocketClosed(why),
                        });
                    }
                }
                () = sleep_until(deadline) => return Some(LobbyInput::Tick),
            }
        }
    }

    fn perform(&mut self) -> Result<(), LobbyError> {
        while let Some(output) = self.client.poll_output() {
            match output {
                LobbyOutput::OpenSocket => self.open_socket(),
                LobbyOutput::SendText(text) => {
                    if let Some(socket) = &self.socket
                        && socket.try_send(text).is_err()
                    {
                        tracing::debug!("the lobby socket does not take more");
                        self.socket = None;
                    }
                }
                LobbyOutput::CloseSocket => self.socket = None,
                LobbyOutput::Event(event) => self.event(event)?,
            }
        }
        Ok(())
    }

    fn open_socket(&mut self) {
        self.generation += 1;
        let (outgoing, queue) = mpsc::channel(socket::OUTGOING);
        self.socket = Some(outgoing);
        let (url, inbox) = (self.server.lobbies(), self.inbox.clone());
        self.sockets.spawn(socket::run(url, self.generation, queue, inbox));
    }

    fn event(&mut self, event: LobbyEvent) -> Result<(), LobbyError> {
        match &event {
            LobbyEvent::Offline { why, retry_in } => {
                self.reporter.set_online(false);
                tracing::info!(server = %self.server, %why, ?retry_in, "the lobby is away");
                if let (Some(failures), Some(attempts)) = (&mut self.failures, self.attempts) {
                    *failures = failures.saturating_add(1);
                    if *failures >= attempts {
                        let (server, why) = (self.server.to_string(), why.clone());
                        return Err(LobbyError::Unreachable { server, why });
                    }
                }
            }
            LobbyEvent::Online { .. } => {
                self.failures = None;
                self.reporter.set_online(true);
            }
            LobbyEvent::Joined(lobby) => self.reporter.joined(lobby.code),
            _ => {}
        }
        let mut told = VecDeque::new();
        let ended = self.introductions.take(event, &mut told);
        for event in told {
            // Closed: the next request tells.
            if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
                return Err(LobbyError::NotPolled);
            }
        }
        ended
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
