//! The WebSocket to the lobby server.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::limits::{LOBBY_FRAME_MAX, LOBBY_MESSAGE_MAX};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Text frames that wait for the socket. More means that it is stuck.
pub(crate) const OUTGOING: usize = 256;
/// How long the last frames of a closing socket may take.
const CLOSE: Duration = Duration::from_millis(300);
/// The library's default of 128 KiB per connection is for other uses.
const READ_BUFFER: usize = 8 * 1024;

/// What a socket tells.
pub(crate) enum SocketEvent {
    Opened,
    Text(String),
    Closed(String),
}

/// A [`SocketEvent`], and of which socket: those of earlier ones do not count.
pub(crate) struct Arrival {
    pub(crate) socket: u64,
    pub(crate) event: SocketEvent,
}

/// Runs one socket until it closes from either side, or `outgoing` closes.
pub(crate) async fn run(
    url: String,
    socket: u64,
    mut outgoing: mpsc::Receiver<String>,
    inbox: mpsc::Sender<Arrival>,
) {
    let why = match connect(&url, socket, &mut outgoing, &inbox).await {
        Ok(()) => "the server closed the connection".to_owned(),
        Err(error) => error.to_string(),
    };
    drop(inbox.send(Arrival { socket, event: SocketEvent::Closed(why) }).await);
}

async fn connect(
    url: &str,
    socket: u64,
    outgoing: &mut mpsc::Receiver<String>,
    inbox: &mpsc::Sender<Arrival>,
) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(LOBBY_FRAME_MAX))
        .max_frame_size(Some(LOBBY_FRAME_MAX))
        .max_write_buffer_size(OUTGOING * LOBBY_MESSAGE_MAX);
    let no_delay = true;
    let connecting = tokio_tungstenite::connect_async_with_config(url, Some(config), no_delay);
    let (mut stream, _) = tokio::select! {
        result = connecting => result?,
        // The client says nothing before the socket is open: nobody wants it any more.
        _ = outgoing.recv() => return Ok(()),
    };
    let arrived = |event| inbox.send(Arrival { socket, event });
    if arrived(SocketEvent::Opened).await.is_err() {
        return Ok(());
    }
    loop {
        tokio::select! {
            text = outgoing.recv() => match text {
                Some(text) => stream.send(Message::text(text)).await?,
                None => {
                    drop(tokio::time::timeout(CLOSE, stream.close(None)).await);
                    return Ok(());
                }
            },
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    if arrived(SocketEvent::Text(text.as_str().to_owned())).await.is_err() {
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
