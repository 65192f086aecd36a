//! The `webrtc` library as its examples use it: tokio runtime, default settings, complete offer and
//! answer (no trickle), and a loop that polls the channel in a task.
//!
//! Two things are not as in the examples. Multicast DNS is off, because nothing here needs a name
//! and its sockets would count. The channel is negotiated (both ends know its number), because that
//! saves the library a round trip; in-band channels take longer to connect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::ice::mdns::MulticastDnsMode;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCSessionDescription, SettingEngineBuilder,
};

use super::{Pinger, Setup, Stack, log_end, tokio_runtime, too_slow};
use crate::Result;
use crate::harness::Bench;
use crate::link::{Link, Signal};
use crate::ping::{self, Amount, Channel, MESSAGE_BYTES, Samples};

/// See the module.
pub struct Webrtc;

impl Stack for Webrtc {
    fn measures(&self, _bench: Bench) -> bool {
        true
    }

    fn pinger(&self, setup: Setup) -> Result<Box<dyn Pinger>> {
        Ok(Box::new(WebrtcPinger {
            runtime: tokio_runtime()?,
            link: setup.link,
            connections: Vec::new(),
        }))
    }

    fn peer(&self, mut setup: Setup) -> Result<()> {
        let runtime = tokio_runtime()?;
        loop {
            let offer: Signal = setup.link.receive_forever()?;
            let (mut connection, data) = runtime.block_on(Connection::answer(&offer.data))?;
            setup.link.send(&Signal { connection: offer.connection, data })?;
            runtime.spawn(async move {
                log_end(connection.serve(offer.connection).await);
            });
        }
    }
}

struct WebrtcPinger {
    runtime: Runtime,
    link: Link,
    /// All that were opened; the latest is last.
    connections: Vec<Connection>,
}

impl WebrtcPinger {
    fn answered(&self, number: u32, limit: Duration) -> Result<String> {
        let started = Instant::now();
        loop {
            let answer: Signal = self.link.receive(limit.saturating_sub(started.elapsed()))?;
            // Another number answers an attempt that was given up.
            if answer.connection == number {
                return Ok(answer.data);
            }
        }
    }
}

impl Pinger for WebrtcPinger {
    fn connect(&mut self, number: u32, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        let left = || limit.saturating_sub(started.elapsed());
        let offering = async { tokio::time::timeout(limit, Connection::offer()).await };
        let (mut connection, data) =
            self.runtime.block_on(offering).map_err(|_| too_slow("the offer", limit))??;
        self.link.send(&Signal { connection: number, data })?;
        let greeted = self.answered(number, left()).and_then(|answer| {
            let greeting = async {
                connection.accept(&answer).await?;
                ping::await_greeting(&mut connection, number).await
            };
            self.runtime
                .block_on(async { tokio::time::timeout(left(), greeting).await })
                .map_err(|_| too_slow("the connection", limit))?
        });
        match greeted {
            Ok(received) => {
                self.connections.push(connection);
                Ok(received - started)
            }
            Err(error) => {
                // Without this its driver and its sockets would live on.
                self.runtime.block_on(connection.peer.close())?;
                Err(error)
            }
        }
    }

    fn ping_pong(&mut self, amount: Amount) -> Result<Samples> {
        let mut connection = self.connections.pop().ok_or("not connected")?;
        let (connection, samples) = self.runtime.block_on(self.runtime.spawn(async move {
            let samples = ping::ping_pong(&mut connection, amount).await;
            (connection, samples)
        }))?;
        self.connections.push(connection);
        samples
    }
}

/// Tells when the local addresses are known. A default handler would do for the rest.
struct Gathered(mpsc::UnboundedSender<()>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Gathered {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            // Fails if nobody waits any more.
            let _ = self.0.send(());
        }
    }
}

struct Connection {
    peer: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
    gathered: mpsc::UnboundedReceiver<()>,
}

impl Connection {
    async fn new() -> Result<Self> {
        let settings =
            SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
        let (sender, gathered) = mpsc::unbounded_channel();
        let peer = PeerConnectionBuilder::new()
            .with_setting_engine(settings)
            .with_handler(Arc::new(Gathered(sender)))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await?;
        let init = RTCDataChannelInit {
            ordered: false,
            max_retransmits: Some(0),
            negotiated: Some(0),
            ..Default::default()
        };
        let channel = peer.create_data_channel("ping", Some(init)).await?;
        Ok(Self { peer: Arc::new(peer), channel, gathered })
    }

    async fn offer() -> Result<(Self, String)> {
        let mut connection = Self::new().await?;
        let offer = connection.peer.create_offer(None).await?;
        connection.peer.set_local_description(offer).await?;
        let description = connection.description().await?;
        Ok((connection, description))
    }

    async fn answer(offer: &str) -> Result<(Self, String)> {
        let mut connection = Self::new().await?;
        connection.accept(offer).await?;
        let answer = connection.peer.create_answer(None).await?;
        connection.peer.set_local_description(answer).await?;
        let description = connection.description().await?;
        Ok((connection, description))
    }

    async fn accept(&self, description: &str) -> Result<()> {
        let description: RTCSessionDescription = serde_json::from_str(description)?;
        Ok(self.peer.set_remote_description(description).await?)
    }

    /// The local description with all addresses.
    async fn description(&mut self) -> Result<String> {
        self.gathered.recv().await.ok_or("no addresses were gathered")?;
        let description = self.peer.local_description().await.ok_or("no local description")?;
        Ok(serde_json::to_string(&description)?)
    }

    /// The peer's side, from the answer to the end.
    async fn serve(&mut self, number: u32) -> Result<()> {
        loop {
            match self.channel.poll().await {
                Some(DataChannelEvent::OnOpen) => break,
                Some(DataChannelEvent::OnClose) | None => return Err("the channel closed".into()),
                Some(_) => {}
            }
        }
        ping::greet_and_echo(self, number).await
    }
}

impl Channel for Connection {
    type Message = BytesMut;

    fn message(payload: &[u8; MESSAGE_BYTES]) -> Self::Message {
        BytesMut::from(&payload[..])
    }

    async fn send(&mut self, message: Self::Message) -> Result<()> {
        Ok(self.channel.send(message).await?)
    }

    async fn receive(&mut self) -> Result<Self::Message> {
        loop {
            match self.channel.poll().await {
                Some(DataChannelEvent::OnMessage(message)) => return Ok(message.data),
                Some(DataChannelEvent::OnClose) | None => return Err("the channel closed".into()),
                Some(_) => {}
            }
        }
    }
}
