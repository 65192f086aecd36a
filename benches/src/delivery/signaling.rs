//! A proxy between one end and its signaling server, which replaces the addresses in what the end
//! says.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::Result;
use crate::forwarder::{End, Forwarder};

/// Gives a text frame of an end's with the forwarder's addresses.
pub type Rewrite = fn(&str, End, &Forwarder) -> Result<String>;

/// Stands before the server at `server` for one connection of `end`'s, until either side closes it.
pub async fn proxy(
    listener: TcpListener,
    server: String,
    end: End,
    forwarder: Arc<Forwarder>,
    rewrite: Rewrite,
) {
    if let Err(error) = try_proxy(listener, &server, end, &forwarder, rewrite).await {
        eprintln!("signaling proxy: {error}");
    }
}

async fn try_proxy(
    listener: TcpListener,
    server: &str,
    end: End,
    forwarder: &Forwarder,
    rewrite: Rewrite,
) -> Result<()> {
    let (client, _) = listener.accept().await?;
    let mut client = tokio_tungstenite::accept_async(client).await?;
    let (mut server, _) = tokio_tungstenite::connect_async(server).await?;
    loop {
        tokio::select! {
            message = client.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    server.send(Message::text(rewrite(&text, end, forwarder)?)).await?;
                }
                Some(Ok(message)) => server.send(message).await?,
                Some(Err(_)) | None => return Ok(()),
            },
            message = server.next() => match message {
                Some(Ok(message)) => client.send(message).await?,
                Some(Err(_)) | None => return Ok(()),
            },
        }
    }
}
