//! The WebSocket to the lobby server.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::ServerAddress;
use netplay_protocol::limits::{LOBBY_FRAME_MAX, LOBBY_MESSAGE_MAX};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::task::Inbox;
use super::tls::Tls;

/// Text frames that wait for the socket. More means that it is stuck; the lobby client's deadlines
/// notice.
pub(super) const OUTGOING: usize = 256;
/// How long the last frames of a closing socket may take.
const CLOSE: Duration = Duration::from_millis(300);
/// The library's default of 128 KiB per connection is for other uses.
const READ_BUFFER: usize = 8 * 1024;

/// Where the server is.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: ServerAddress,
    /// How to encrypt, if it is `wss`.
    pub(super) tls: Option<Tls>,
}

/// Runs one socket until it closes from either side. `generation` tells its events from those of
/// earlier sockets.
pub(super) async fn run(
    server: Server,
    url: String,
    generation: u64,
    outgoing: mpsc::Receiver<String>,
    inbox: mpsc::Sender<Inbox>,
) {
    let mut line = Line { generation, outgoing, inbox };
    let why = match line.connect(&server, &url).await {
        Ok(()) => "the server closed the connection".to_owned(),
        // The system's own words, without the library's before them.
        Err(Error::Io(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    drop(line.inbox.send(Inbox::SocketClosed { generation, why }).await);
}

/// Between the session and its socket.
struct Line {
    generation: u64,
    outgoing: mpsc::Receiver<String>,
    inbox: mpsc::Sender<Inbox>,
}

impl Line {
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
        let Self { generation, outgoing, inbox } = self;
        let generation = *generation;
        // A closed queue means that nobody wants this socket any more.
        let mut early = Vec::new();
        let mut socket = tokio::select! {
            result = connecting => result?,
            () = closed(outgoing, &mut early) => return Ok(()),
        };
        if inbox.send(Inbox::SocketOpened { generation }).await.is_err() {
            return Ok(());
        }
        for text in early {
            socket.send(Message::text(text)).await?;
        }
        loop {
            tokio::select! {
                text = outgoing.recv() => match text {
                    Some(text) => socket.send(Message::text(text)).await?,
                    None => {
                        drop(tokio::time::timeout(CLOSE, socket.close(None)).await);
                        return Ok(());
                    }
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let text = text.as_str().to_owned();
                        if inbox.send(Inbox::SocketText { generation, text }).await.is_err() {
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
