//! One socket after the other, each a task.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::limits::{LOBBY_FRAME_MAX, LOBBY_MESSAGE_MAX};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::Server;

/// Texts that wait for the socket. More means that it is stuck; the client's deadlines notice.
const OUTGOING: usize = 256;
/// How long the last frames of a closing socket may take.
const CLOSE: Duration = Duration::from_millis(300);
/// The library's default of 128 KiB per connection is for other uses.
const READ_BUFFER: usize = 8 * 1024;

/// What a socket tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketEvent {
    /// It is open.
    Opened,
    /// The server said this.
    Text(String),
    /// It is closed, or could not be opened; why, for people.
    Closed(String),
}

/// A [`SocketEvent`], and of which socket.
#[derive(Debug)]
pub struct Arrival {
    generation: u64,
    event: SocketEvent,
}

/// The sockets of one client: the present one, and earlier ones that are still closing. Dropping it ends all
/// at once.
pub struct Sockets {
    server: Server,
    generation: u64,
    present: Option<mpsc::Sender<String>>,
    tasks: JoinSet<()>,
}

impl Sockets {
    /// None yet.
    pub fn new(server: Server) -> Self {
        Self { server, generation: 0, present: None, tasks: JoinSet::new() }
    }

    /// Where they go.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Opens a socket in place of the present one; it tells of itself in `inbox`, and waits while that is full.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open<T: From<Arrival> + Send + 'static>(&mut self, url: String, inbox: mpsc::Sender<T>) {
        while self.tasks.try_join_next().is_some() {}
        self.generation += 1;
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        self.present = Some(sender);
        let line = Line { generation: self.generation, outgoing, inbox };
        self.tasks.spawn(line.run(self.server.clone(), url));
    }

    /// Gives a text to the present socket. One that does not take more is stuck, and is closed; the client's
    /// deadlines notice.
    pub fn send(&mut self, text: String) {
        if let Some(socket) = &self.present
            && socket.try_send(text).is_err()
        {
            self.present = None;
        }
    }

    /// Lets the present socket send what it has, and close.
    pub fn close(&mut self) {
        self.present = None;
    }

    /// What the present socket tells; `None` if it is of an earlier one.
    pub fn take(&self, arrival: Arrival) -> Option<SocketEvent> {
        (arrival.generation == self.generation).then_some(arrival.event)
    }

    /// Closes, and waits until all sockets have ended, which they do when nobody reads their inbox any more.
    pub async fn ended(&mut self) {
        self.close();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Between a client and one socket.
struct Line<T> {
    generation: u64,
    outgoing: mpsc::Receiver<String>,
    inbox: mpsc::Sender<T>,
}

impl<T: From<Arrival>> Line<T> {
    /// Runs until the socket closes from either side.
    async fn run(mut self, server: Server, url: String) {
        let why = match self.connect(&server, &url).await {
            Ok(()) => "the server closed the connection".to_owned(),
            // The system's own words, without the library's before them.
            Err(Error::Io(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.tell(SocketEvent::Closed(why)).await;
    }

    /// Whether anybody listens.
    async fn tell(&self, event: SocketEvent) -> bool {
        let arrival = Arrival { generation: self.generation, event };
        self.inbox.send(arrival.into()).await.is_ok()
    }

    async fn connect(&mut self, server: &Server, url: &str) -> Result<(), Error> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(LOBBY_FRAME_MAX))
            .max_frame_size(Some(LOBBY_FRAME_MAX))
            .max_write_buffer_size(OUTGOING * LOBBY_MESSAGE_MAX);
        let config = Some(config);
        match &server.tls {
            None => {
                let no_delay = true;
                let connecting =
                    tokio_tungstenite::connect_async_with_config(url, config, no_delay);
                self.talk(async { Ok(connecting.await?.0) }).await
            }
            Some(tls) => {
                let connecting = async {
                    let stream = tls.connect(&server.address).await?;
                    let connected =
                        tokio_tungstenite::client_async_with_config(url, stream, config).await?;
                    Ok(connected.0)
                };
                self.talk(connecting).await
            }
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        connecting: impl Future<Output = Result<WebSocketStream<S>, Error>>,
    ) -> Result<(), Error> {
        // A closed queue means that nobody wants this socket any more.
        let mut early = Vec::new();
        let mut socket = tokio::select! {
            result = connecting => result?,
            () = closed(&mut self.outgoing, &mut early) => return Ok(()),
        };
        if !self.tell(SocketEvent::Opened).await {
            return Ok(());
        }
        for text in early {
            socket.send(Message::text(text)).await?;
        }
        loop {
            tokio::select! {
                text = self.outgoing.recv() => match text {
                    Some(text) => socket.send(Message::text(text)).await?,
                    None => {
                        drop(tokio::time::timeout(CLOSE, socket.close(None)).await);
                        return Ok(());
                    }
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if !self.tell(SocketEvent::Text(text.as_str().to_owned())).await {
                            return Ok(());
                        }
                    }
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                },
            }
        }
    }
}

/// Resolves when the queue closes; keeps what comes before.
async fn closed(outgoing: &mut mpsc::Receiver<String>, early: &mut Vec<String>) {
    while let Some(text) = outgoing.recv().await {
        if early.len() < OUTGOING {
            early.push(text);
        }
    }
}
