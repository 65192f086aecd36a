//! What one socket's thread does: the lobby client, its WebSocket, and the queues to matchbox.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use matchbox_socket::{PeerEvent, PeerRequest};
use netplay_peer::lobby_client::{LobbyEvent, LobbyInput, LobbyOutput};
use netplay_peer::{JoinRequest, LobbyClient};
use netplay_protocol::Now;
use netplay_socket::{Arrival, Server, SocketEvent, Sockets};
use tokio::sync::mpsc;

use crate::handle::{LobbyError, Reporter};
use crate::introductions::Introductions;
use crate::translate::{our_id, to_lobby};

/// Frames that were read and not taken yet. When it is full, the socket is not read.
const INBOX: usize = 64;
/// From the end of the signalling to the end of its sockets, whatever the network does.
const LEAVE: Duration = Duration::from_millis(600);

pub(crate) struct Task {
    client: LobbyClient,
    introductions: Introductions,
    sockets: Sockets,
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
}

impl Task {
    pub(crate) fn new(
        client: LobbyClient,
        server: Server,
        attempts: Option<u16>,
        requests: mpsc::Receiver<PeerRequest>,
        events: mpsc::Sender<PeerEvent>,
        reporter: Reporter,
    ) -> Self {
        let (inbox, arrivals) = mpsc::channel(INBOX);
        Self {
            client,
            introductions: Introductions::default(),
            sockets: Sockets::new(server),
            attempts,
            failures: Some(0),
            started: Instant::now(),
            requests,
            events,
            reporter,
            inbox,
            arrivals,
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
            if let LobbyOutput::SendText(text) = output {
                self.sockets.send(text);
            }
        }
        self.arrivals.close();
        if tokio::time::timeout(LEAVE, self.sockets.ended()).await.is_err() {
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
                Some(arrival) = self.arrivals.recv() => match self.sockets.take(arrival) {
                    Some(SocketEvent::Opened) => return Some(LobbyInput::SocketOpened),
                    Some(SocketEvent::Text(text)) => return Some(LobbyInput::SocketText(text)),
                    Some(SocketEvent::Closed(why)) => return Some(LobbyInput::SocketClosed(why)),
                    None => {}
                },
                () = sleep_until(deadline) => return Some(LobbyInput::Tick),
            }
        }
    }

    fn perform(&mut self) -> Result<(), LobbyError> {
        while let Some(output) = self.client.poll_output() {
            match output {
                LobbyOutput::OpenSocket => {
                    let url = self.sockets.server().address().lobbies();
                    self.sockets.open(url, self.inbox.clone());
                }
                LobbyOutput::SendText(text) => self.sockets.send(text),
                LobbyOutput::CloseSocket => self.sockets.close(),
                LobbyOutput::Event(event) => self.event(event)?,
            }
        }
        Ok(())
    }

    fn event(&mut self, event: LobbyEvent) -> Result<(), LobbyError> {
        match &event {
            LobbyEvent::Offline { why, retry_in } => {
                self.reporter.set_online(false);
                let server = self.sockets.server().address();
                tracing::info!(%server, %why, ?retry_in, "the lobby is away");
                if let (Some(failures), Some(attempts)) = (&mut self.failures, self.attempts) {
                    *failures = failures.saturating_add(1);
                    if *failures >= attempts {
                        let (server, why) = (server.to_string(), why.clone());
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
