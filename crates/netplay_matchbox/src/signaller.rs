//! What a game gives to matchbox.

use std::sync::Arc;
use std::thread;

use matchbox_socket::async_trait::async_trait;
use matchbox_socket::{PeerEvent, PeerRequest, SignalingError, Signaller, SignallerBuilder};
use netplay_peer::{JoinRequest, LobbyClient};
use netplay_protocol::limits::LOBBY_MEMBERS_MAX;
use netplay_protocol::lobby::{LobbyOptions, Login};
use netplay_protocol::{BuildId, GameId, LobbyCode, ServerAddress};
use netplay_socket::Server;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::handle::{Board, LobbyError, LobbyHandle, Reporter};
use crate::task::Task;

/// Requests of matchbox that the thread has not taken yet. When it is full, matchbox waits.
const REQUESTS: usize = 256;
/// Events that matchbox has not taken yet. Entering a full lobby is about 32 × 22 of them.
const EVENTS: usize = 2048;

/// Which lobby the players of a matchbox game meet in, and how they get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetplaySignaller {
    game: GameId,
    request: JoinRequest,
    login: Option<Login>,
    trusted: Option<Vec<u8>>,
}

impl NetplaySignaller {
    const fn with(game: GameId, request: JoinRequest) -> Self {
        Self { game, request, login: None, trusted: None }
    }

    /// Any public lobby of this game for this many players that has a free seat, or a new one. Capacities outside 1 to 16
    /// are brought into that range.
    pub fn quick(game: GameId, capacity: u8) -> Self {
        Self::with(game, JoinRequest::Quick(LobbyOptions::public(seats(capacity))))
    }

    /// A new public lobby for this many players; its code is in [`LobbyHandle`]. Capacities as in [`Self::quick`].
    pub fn create(game: GameId, capacity: u8) -> Self {
        Self::with(game, JoinRequest::Create(LobbyOptions::public(seats(capacity))))
    }

    /// A new lobby that is found by its code only. Capacities as in [`Self::quick`].
    pub fn create_private(game: GameId, capacity: u8) -> Self {
        Self::with(game, JoinRequest::Create(LobbyOptions::private(seats(capacity))))
    }

    /// The lobby with this code.
    pub const fn code(game: GameId, code: LobbyCode) -> Self {
        Self::with(game, JoinRequest::Code(code))
    }

    /// Who the player is, for a server that wants to know. A ticket is good for one socket.
    #[must_use]
    pub fn login(self, login: Login) -> Self {
        Self { login: Some(login), ..self }
    }

    /// Certificates in PEM to trust besides those of the authorities that browsers know: the one of an authority of
    /// your own, or the server's if it has signed that itself. For `wss` only.
    #[must_use]
    pub fn trusting(self, certificates: Vec<u8>) -> Self {
        Self { trusted: Some(certificates), ..self }
    }

    /// For this build of the game: its players do not meet those of others, whose channels may differ.
    pub fn build(self, build: BuildId) -> Arc<LobbySignaller> {
        Arc::new(LobbySignaller { settings: self, build, board: Board::default() })
    }
}

fn seats(capacity: u8) -> u8 {
    capacity.clamp(1, LOBBY_MEMBERS_MAX)
}

/// For `WebRtcSocketBuilder::signaller_builder`. The URL that the builder was made with is the server's
/// address, `ws://host:3536` or `wss://host`.
///
/// A signaller is for one socket at a time. When a second one is built with it, that is another player, and the
/// handles show its lobby from then on.
#[derive(Debug)]
pub struct LobbySignaller {
    settings: NetplaySignaller,
    build: BuildId,
    board: Board,
}

impl LobbySignaller {
    /// Shows where the lobby stands.
    pub fn lobby(&self) -> LobbyHandle {
        self.board.handle()
    }

    /// Starts the thread that keeps the WebSocket.
    fn start(
        &self,
        attempts: Option<u16>,
        url: &str,
        reporter: &Reporter,
    ) -> Result<Connection, LobbyError> {
        let address: ServerAddress = url.parse()?;
        let NetplaySignaller { game, request, login, trusted } = self.settings.clone();
        let server = Server::new(address, trusted.as_deref())?;
        let mut client = LobbyClient::new(game, Some(self.build.clone()), rand_seed());
        if let Some(login) = login {
            client.log_in(login);
        }
        let (requests, requests_out) = mpsc::channel(REQUESTS);
        let (events_in, events) = mpsc::channel(EVENTS);
        let failed = |error: std::io::Error| LobbyError::Thread(error.to_string());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let task = Task::new(client, server, attempts, requests_out, events_in, reporter.clone());
        let run = move || {
            runtime.block_on(task.run(request));
            // A lookup of the server's name may hang; it must not hold up the end.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("netplay-matchbox".into()).spawn(run).map_err(failed)?;
        Ok(Connection { requests, events, first: None, reporter: reporter.clone() })
    }
}

/// Spreads the back-off of many players; nothing secret depends on it.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

fn failure(error: &LobbyError) -> SignalingError {
    SignalingError::UserImplementationError(error.to_string())
}

#[async_trait]
impl SignallerBuilder for LobbySignaller {
    /// Joins the lobby; returns when we are in it, as a socket's message loop fails otherwise.
    async fn new_signaller(
        &self,
        attempts: Option<u16>,
        room_url: String,
    ) -> Result<Box<dyn Signaller>, SignalingError> {
        let reporter = self.board.begin();
        let mut connection = self.start(attempts, &room_url, &reporter).map_err(|error| {
            reporter.ended(error.clone());
            failure(&error)
        })?;
        connection.first = Some(connection.next().await?);
        Ok(Box::new(connection))
    }
}

/// One socket's end of the queues. Dropping it leaves the lobby.
struct Connection {
    requests: mpsc::Sender<PeerRequest>,
    events: mpsc::Receiver<PeerEvent>,
    first: Option<PeerEvent>,
    reporter: Reporter,
}

impl Connection {
    /// Nothing is lost if this is dropped before it is ready.
    async fn next(&mut self) -> Result<PeerEvent, SignalingError> {
        self.events.recv().await.ok_or_else(|| failure(&self.reporter.error()))
    }
}

#[async_trait]
impl Signaller for Connection {
    async fn send(&mut self, request: PeerRequest) -> Result<(), SignalingError> {
        self.requests.send(request).await.map_err(|_| failure(&self.reporter.error()))
    }

    async fn next_message(&mut self) -> Result<PeerEvent, SignalingError> {
        match self.first.take() {
            Some(event) => Ok(event),
            None => self.next().await,
        }
    }
}
