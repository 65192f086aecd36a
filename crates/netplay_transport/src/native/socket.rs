//! The WebSocket to the lobby server.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::limits::{LOBBY_FRAME_MAX, LOBBY_MESSAGE_MAX};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::task::Inbox;

/// Text frames that wait for the socket. More means that it is stuck; the lobby client's deadlines
/// notice.
pub(super) const OUTGOING: usize = 256;
/// How long the last frames of a closing socket may take.
const CLOSE: Duration = Duration::from_millis(300);
/// The library's default of 128 KiB per connection is for other uses.
const READ_BUFFER: usize = 8 * 1024;

/// Runs one socket until it closes from either side. `generation` tells its events from those of
/// earlier sockets.
pub(super) async fn run(
    url: String,
    generation: u64,
    mut outgoing: mpsc::Receiver<String>,
    inbox: mpsc::Sender<Inbox>,
) {
    let why = match connect(&url, generation, &mut outgoing, &inbox).await {
        Ok(()) => "the server closed the connection".to_owned(),
        Err(error) => error.to_string(),
    };
    drop(inbox.send(Inbox::SocketClosed { generation, why }).await);
}

async fn connect(
    url: &str,
    generation: u64,
    outgoing: &mut mpsc::Receiver<String>,
    inbox: &mpsc::Sender<Inbox>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(LOBBY_FRAME_MAX))
        .max_frame_size(Some(LOBBY_FRAME_MAX))
        .max_write_buffer_size(OUTGOING * LOBBY_MESSAGE_MAX);
    let no_delay = true;
    let connecting = tokio_tungstenite::connect_async_with_config(url, Some(config), no_delay);
    // A closed queue means that nobody wants this socket any more.
    let mut early = Vec::new();
    let mut socket = tokio::select! {
        result = connecting => result?.0,
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

/// Resolves when the queue closes; keeps what comes before.
async fn closed(outgoing: &mut mpsc::Receiver<String>, early: &mut Vec<String>) {
    while let Some(text) = outgoing.recv().await {
        if early.len() < OUTGOING {
            early.push(text);
        }
    }
}
