//! A tokio UDP socket at both ends: what the operating system and the runtime cost without a stack.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

use super::{Pinger, Setup, Stack, log_end, tokio_runtime, too_slow};
use crate::Result;
use crate::harness::Bench;
use crate::link::{Link, Signal};
use crate::ping::{self, Amount, Channel, MESSAGE_BYTES, Samples};

/// See the module.
pub struct RawUdp;

impl Stack for RawUdp {
    fn measures(&self, bench: Bench) -> bool {
        // A socket has no connection to wait for.
        bench == Bench::Latency
    }

    fn pinger(&self, setup: Setup) -> Result<Box<dyn Pinger>> {
        Ok(Box::new(UdpPinger { runtime: tokio_runtime()?, link: setup.link, channel: None }))
    }

    fn peer(&self, mut setup: Setup) -> Result<()> {
        let runtime = tokio_runtime()?;
        loop {
            let request: Signal = setup.link.receive_forever()?;
            let address: SocketAddr = request.data.parse()?;
            let mut channel = runtime.block_on(UdpChannel::bind())?;
            runtime.block_on(channel.0.connect(address))?;
            let data = channel.0.local_addr()?.to_string();
            setup.link.send(&Signal { connection: request.connection, data })?;
            runtime.spawn(async move {
                log_end(ping::greet_and_echo(&mut channel, request.connection).await);
            });
        }
    }
}

struct UdpPinger {
    runtime: Runtime,
    link: Link,
    channel: Option<UdpChannel>,
}

impl Pinger for UdpPinger {
    fn connect(&mut self, number: u32, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        let mut channel = self.runtime.block_on(UdpChannel::bind())?;
        let data = channel.0.local_addr()?.to_string();
        self.link.send(&Signal { connection: number, data })?;
        let answer: Signal = self.link.receive(limit)?;
        let address: SocketAddr = answer.data.parse()?;
        self.runtime.block_on(async {
            channel.0.connect(address).await?;
            tokio::time::timeout(limit, ping::await_greeting(&mut channel, number))
                .await
                .map_err(|_| too_slow("the first message", limit))?
        })?;
        self.channel = Some(channel);
        Ok(started.elapsed())
    }

    fn ping_pong(&mut self, amount: Amount) -> Result<Samples> {
        let mut channel = self.channel.take().ok_or("not connected")?;
        // On the worker, which also waits for the socket: a loop in `block_on` would have to be
        // woken from there.
        let (channel, samples) = self.runtime.block_on(self.runtime.spawn(async move {
            let samples = ping::ping_pong(&mut channel, amount).await;
            (channel, samples)
        }))?;
        self.channel = Some(channel);
        samples
    }
}

struct UdpChannel(UdpSocket);

impl UdpChannel {
    async fn bind() -> Result<Self> {
        Ok(Self(UdpSocket::bind("127.0.0.1:0").await?))
    }
}

impl Channel for UdpChannel {
    type Message = [u8; MESSAGE_BYTES];

    fn message(payload: &[u8; MESSAGE_BYTES]) -> Self::Message {
        *payload
    }

    async fn send(&mut self, message: Self::Message) -> Result<()> {
        self.0.send(&message).await?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Self::Message> {
        let mut message = [0; MESSAGE_BYTES];
        self.0.recv(&mut message).await?;
        Ok(message)
    }
}
