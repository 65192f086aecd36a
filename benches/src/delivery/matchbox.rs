//! `matchbox_socket`, reliable channel, with its own signaling server. Each end speaks to the server
//! through a proxy of its own, which replaces the addresses in what that end sends.
//!
//! The message loop of each end is a task; the library's peer connections run on smol's threads.

use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use matchbox_signaling::SignalingServer;
use matchbox_socket::{
    ChannelConfig, MessageLoopFuture, PeerId, PeerState, RtcIceServerConfig, WebRtcChannel,
    WebRtcSocket,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::signaling::proxy;
use super::{Arrivals, Delivery, Ends, Site};
use crate::Result;
use crate::forwarder::{End, Forwarder};

/// Connects two sockets in a room.
pub async fn connect(site: &Site<'_>) -> Result<Ends> {
    let mut server = SignalingServer::full_mesh_builder((Ipv4Addr::LOCALHOST, 0)).build();
    let server_url = format!("ws://{}/bench", server.bind()?);
    let mut signaling = JoinSet::new();
    signaling.spawn(async move { drop(server.serve().await) });
    let mut sockets = Vec::new();
    for (end, arrivals) in End::ALL.into_iter().zip(site.arrivals.clone()) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("ws://{}/bench", listener.local_addr()?);
        let forwarder = site.forwarder.clone();
        signaling.spawn(proxy(listener, server_url.clone(), end, forwarder, rewrite));
        sockets.push(Socket::new(&url, arrivals)?);
    }
    // Both loops must turn for either to connect.
    let connecting = sockets.iter_mut().map(Socket::connected);
    let peers = futures_util::future::try_join_all(connecting).await?;
    let signaling = Arc::new(signaling);
    let mut ends = sockets.into_iter().zip(peers).zip(&site.runtimes).map(
        |((socket, peer), runtime)| -> Box<dyn Delivery> {
            let (sender, queue) = mpsc::unbounded_channel();
            let signaling = signaling.clone();
            runtime.spawn(async move {
                socket.run(peer, queue).await;
                // The library ends a connection whose signaling is gone.
                drop(signaling);
            });
            Box::new(Sender(sender))
        },
    );
    match (ends.next(), ends.next()) {
        (Some(a), Some(b)) => Ok([a, b]),
        _ => Err("there are two ends".into()),
    }
}

struct Socket {
    socket: WebRtcSocket,
    message_loop: MessageLoopFuture,
    channel: WebRtcChannel,
    arrivals: Arrivals,
}

impl Socket {
    fn new(url: &str, arrivals: Arrivals) -> Result<Self> {
        let no_stun = RtcIceServerConfig { urls: Vec::new(), ..Default::default() };
        let (mut socket, message_loop) = WebRtcSocket::builder(url)
            .ice_server(no_stun)
            .add_channel(ChannelConfig::reliable())
            .build();
        let channel = socket.take_channel(0)?;
        Ok(Self { socket, message_loop, channel, arrivals })
    }

    async fn connected(&mut self) -> Result<PeerId> {
        loop {
            let change = tokio::select! {
                biased;
                result = &mut self.message_loop => {
                    return Err(format!("the message loop ended: {result:?}").into());
                }
                change = self.socket.next() => change,
            };
            match change {
                Some((peer, PeerState::Connected)) => return Ok(peer),
                Some(_) => {}
                None => return Err("the socket closed".into()),
            }
        }
    }

    /// Sends what is queued and notes what comes, until the queue closes.
    async fn run(mut self, peer: PeerId, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
        poll_fn(|context| {
            loop {
                match queue.poll_recv(context) {
                    Poll::Ready(Some(message)) => {
                        // Fails if the other end is gone; then nothing is measured any more.
                        drop(self.channel.try_send(Bytes::from(message), peer));
                    }
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            // After the channel: the loop sends what is queued and queues what has come.
            if Pin::new(&mut self.message_loop).poll(context).is_ready() {
                return Poll::Ready(());
            }
            while let Poll::Ready(Some((_, packet))) =
                Pin::new(&mut self.channel).poll_next(context)
            {
                self.arrivals.note(&packet);
            }
            Poll::Pending
        })
        .await;
    }
}

/// A request of `end`'s with the forwarder's addresses.
fn rewrite(text: &str, end: End, forwarder: &Forwarder) -> Result<String> {
    let mut request: Value = serde_json::from_str(text)?;
    let Some(signal) = request.pointer_mut("/Signal/data").and_then(Value::as_object_mut) else {
        return Ok(text.to_owned());
    };
    for (kind, body) in signal {
        let old = body.as_str().ok_or("a signal without a text")?;
        let new = match kind.as_str() {
            "Offer" | "Answer" => forwarder.rewrite_sdp(end, old)?,
            "IceCandidate" => {
                let mut init: Value = serde_json::from_str(old)?;
                let candidate = init["candidate"].as_str().unwrap_or_default();
                init["candidate"] = forwarder.rewrite_candidate(end, candidate)?.into();
                init.to_string()
            }
            _ => return Err(format!("an unknown signal: {kind}").into()),
        };
        *body = new.into();
    }
    Ok(request.to_string())
}

struct Sender(mpsc::UnboundedSender<Vec<u8>>);

impl Delivery for Sender {
    fn send(&mut self, message: Vec<u8>) -> Result<()> {
        Ok(self.0.send(message)?)
    }
}

#[cfg(test)]
mod tests {
    use netplay_simnet::Conditions;

    use super::*;
    use crate::forwarder::Courier;

    #[test]
    fn a_candidate_is_rewritten_and_what_has_no_address_is_not() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let courier = Courier::start().unwrap();
        let link = courier.link(&Conditions::perfect(), 1, runtime.handle().clone());
        let stand_in = link.stand_in(End::A, "127.0.0.1:5".parse().unwrap()).unwrap();
        let request = |port: u16| {
            let candidate = format!("candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host");
            let init = serde_json::json!({ "candidate": candidate, "sdpMid": "" }).to_string();
            let data = serde_json::json!({ "IceCandidate": init });
            serde_json::json!({ "Signal": { "receiver": "x", "data": data } }).to_string()
        };
        assert_eq!(rewrite(&request(5), End::A, &link).unwrap(), request(stand_in.port()));
        assert_eq!(rewrite("\"KeepAlive\"", End::A, &link).unwrap(), "\"KeepAlive\"");
        assert!(rewrite("nonsense", End::A, &link).is_err());
    }
}
