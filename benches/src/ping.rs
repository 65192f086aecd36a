//! The closed loop of `latency` and its other end, for every stack with an async channel.
//!
//! The first eight bytes of a message are its number, little-endian: a ping's sequence number, or
//! for the greeting with which a peer opens a connection, that connection's number.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::Result;

/// Size of every message.
pub const MESSAGE_BYTES: usize = 64;
/// A ping without a reply for this long counts as lost, and the next one leaves.
pub const LOST_AFTER: Duration = Duration::from_millis(100);
/// A peer greets this often until it hears something: the channel may lose a greeting.
const GREETING_INTERVAL: Duration = Duration::from_millis(20);
/// Added to a connection's number, so that no ping looks like a greeting.
const GREETING: u64 = 1 << 63;

/// A channel for datagrams to one peer.
pub trait Channel: Send {
    /// What the stack sends and receives without a copy.
    type Message: AsRef<[u8]> + Send;

    /// A message with this content.
    fn message(payload: &[u8; MESSAGE_BYTES]) -> Self::Message;

    /// Hands a message to the stack.
    fn send(&mut self, message: Self::Message) -> impl Future<Output = Result<()>> + Send;

    /// The next message. Dropping the future loses none.
    fn receive(&mut self) -> impl Future<Output = Result<Self::Message>> + Send;
}

/// How much to measure.
#[derive(Clone, Copy)]
pub struct Amount {
    /// Round trips.
    pub rounds: u32,
    /// The loop ends after this time, with what it has.
    pub limit: Duration,
    /// Sequence number of the first ping; no two calls on one channel may share numbers.
    pub first: u64,
}

/// What a closed loop has measured.
#[derive(Default)]
pub struct Samples {
    /// Round trips, microseconds.
    pub round_trips_us: Vec<f64>,
    /// Pings without a reply.
    pub lost: u64,
}

/// Sends pings one at a time, the next when the reply has arrived.
pub async fn ping_pong<C: Channel>(channel: &mut C, amount: Amount) -> Result<Samples> {
    let mut samples =
        Samples { round_trips_us: Vec::with_capacity(amount.rounds as usize), lost: 0 };
    // One timer for the whole loop: setting one per ping would be measured too.
    let mut watchdog = pin!(tokio::time::sleep(LOST_AFTER));
    let started = Instant::now();
    for sequence in amount.first.. {
        let sent = Instant::now();
        if samples.round_trips_us.len() >= amount.rounds as usize || sent - started >= amount.limit
        {
            break;
        }
        channel.send(C::message(&payload(sequence))).await?;
        if reply_came(channel, sequence, sent, watchdog.as_mut()).await? {
            samples.round_trips_us.push(sent.elapsed().as_secs_f64() * 1e6);
        } else {
            samples.lost += 1;
        }
    }
    Ok(samples)
}

/// Waits for the reply to one ping; false if it is lost.
async fn reply_came<C: Channel>(
    channel: &mut C,
    sequence: u64,
    sent: Instant,
    mut watchdog: Pin<&mut Sleep>,
) -> Result<bool> {
    loop {
        tokio::select! {
            biased;
            message = channel.receive() => {
                // Another number is a reply that came too late, or a greeting.
                if number(message?.as_ref()) == Some(sequence) {
                    return Ok(true);
                }
            }
            () = watchdog.as_mut() => {
                let left = LOST_AFTER.saturating_sub(sent.elapsed());
                let next = if left.is_zero() { LOST_AFTER } else { left };
                watchdog.as_mut().reset(tokio::time::Instant::now() + next);
                if left.is_zero() {
                    return Ok(false);
                }
            }
        }
    }
}

/// The peer's side of a connection that is open: greets until it is answered, then returns every
/// message. Ends with the connection.
pub async fn greet_and_echo<C: Channel>(channel: &mut C, connection: u32) -> Result<()> {
    let first = loop {
        channel.send(C::message(&greeting(connection))).await?;
        if let Ok(message) = tokio::time::timeout(GREETING_INTERVAL, channel.receive()).await {
            break message?;
        }
    };
    channel.send(first).await?;
    loop {
        let message = channel.receive().await?;
        channel.send(message).await?;
    }
}

/// The pinger's side of a connection that opens: waits for the peer's greeting and answers it.
/// Returns the time of the greeting.
pub async fn await_greeting<C: Channel>(channel: &mut C, connection: u32) -> Result<Instant> {
    let expected = GREETING | u64::from(connection);
    loop {
        let message = channel.receive().await?;
        if number(message.as_ref()) == Some(expected) {
            let received = Instant::now();
            channel.send(message).await?;
            return Ok(received);
        }
    }
}

/// The content of a connection's greeting.
pub fn greeting(connection: u32) -> [u8; MESSAGE_BYTES] {
    payload(GREETING | u64::from(connection))
}

/// The content of the ping with this number.
pub fn payload(number: u64) -> [u8; MESSAGE_BYTES] {
    let mut payload = [0x5a; MESSAGE_BYTES];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

/// The number of a message.
pub fn number(message: &[u8]) -> Option<u64> {
    message.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
