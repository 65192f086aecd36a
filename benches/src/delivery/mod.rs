//! Ways to deliver messages between two ends through a [`Forwarder`], behind one small trait.
//!
//! A new way is one file here, one variant of [`Way`] and one arm of [`Way::connect`].

mod matchbox;
mod netplay;
mod quinn;
mod signaling;
mod webrtc;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use netplay_protocol::Lane;
use tokio::runtime::Handle;

use self::webrtc::Style;
use crate::Result;
use crate::forwarder::Forwarder;

/// One end of a connection. Dropping it closes the connection.
pub trait Delivery: Send {
    /// Hands over one message without waiting. What the stack cannot take is lost.
    fn send(&mut self, message: Vec<u8>) -> Result<()>;
}

/// Both ends, A first.
pub type Ends = [Box<dyn Delivery>; 2];

/// A way to deliver messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Unordered data channel without retransmissions.
    DcNoRetransmits,
    /// Unordered data channel, messages live for 40 ms.
    DcLifetime40,
    /// The same with an SCTP packet size of 4000, which raises the floor of the send window.
    DcLifetime40Mtu4000,
    /// RTP packets on a local track.
    Rtp,
    /// The `webrtc` library with its default settings, reliable ordered channel.
    WebrtcReliable,
    /// The same, unreliable unordered channel.
    WebrtcUnreliable,
    /// `matchbox_socket`, reliable channel.
    MatchboxReliable,
    /// `quinn`, one long-lived stream in each direction.
    QuinnStream,
    /// Our lane of this kind.
    Netplay(Lane),
}

impl Way {
    /// Its name in a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DcNoRetransmits => "dc_no_retransmits",
            Self::DcLifetime40 => "dc_lifetime_40",
            Self::DcLifetime40Mtu4000 => "dc_lifetime_40_mtu_4000",
            Self::Rtp => "rtp",
            Self::WebrtcReliable => "webrtc_reliable",
            Self::WebrtcUnreliable => "webrtc_unreliable",
            Self::MatchboxReliable => "matchbox_reliable",
            Self::QuinnStream => "quinn_stream",
            Self::Netplay(Lane::Reliable) => "netplay_reliable",
            Self::Netplay(Lane::Unreliable) => "netplay_unreliable",
            Self::Netplay(Lane::Sequenced) => "netplay_sequenced",
            Self::Netplay(_) => "netplay_bulk",
        }
    }

    /// Connects two ends through the site's forwarder.
    pub async fn connect(self, site: &Site<'_>) -> Result<Ends> {
        match self {
            Self::DcNoRetransmits => webrtc::connect(site, Style::tuned(Some(0), None)).await,
            Self::DcLifetime40 => webrtc::connect(site, Style::tuned(None, Some(40))).await,
            Self::DcLifetime40Mtu4000 => {
                let style = Style { sctp_mtu: Some(4000), ..Style::tuned(None, Some(40)) };
                webrtc::connect(site, style).await
            }
            Self::Rtp => {
                let style = Style { rtp: true, ..Style::tuned(Some(0), None) };
                webrtc::connect(site, style).await
            }
            Self::WebrtcReliable => webrtc::connect(site, Style::plain(true)).await,
            Self::WebrtcUnreliable => webrtc::connect(site, Style::plain(false)).await,
            Self::MatchboxReliable => matchbox::connect(site).await,
            Self::QuinnStream => quinn::connect(site).await,
            Self::Netplay(lane) => netplay::connect(site, lane).await,
        }
    }
}

/// What a connection is made from.
pub struct Site<'a> {
    /// The only way between the ends.
    pub forwarder: &'a Arc<Forwarder>,
    /// Where each end's tasks run.
    pub runtimes: [Handle; 2],
    /// Where each end puts what has come.
    pub arrivals: [Arrivals; 2],
}

/// What has arrived at one end.
///
/// A packet is one or more messages of one size; a message begins with its number and the time at
/// which it was handed over, on the clock of this process.
#[derive(Clone)]
pub struct Arrivals(Arc<Inner>);

struct Inner {
    started: Instant,
    message_bytes: usize,
    /// By number: from handing over to the first arrival, in milliseconds.
    delays_ms: Mutex<Vec<Option<f64>>>,
}

/// The number and the time of a message.
pub const MESSAGE_HEAD: usize = 16;

impl Arrivals {
    /// Nothing has arrived of `count` messages of `message_bytes`.
    pub fn new(started: Instant, message_bytes: usize, count: usize) -> Self {
        let delays_ms = Mutex::new(vec![None; count]);
        Self(Arc::new(Inner { started, message_bytes, delays_ms }))
    }

    /// The message with this number, handed over now.
    pub fn message(&self, number: u64) -> Vec<u8> {
        let mut message = vec![0x5a; self.0.message_bytes];
        message[..8].copy_from_slice(&number.to_le_bytes());
        message[8..MESSAGE_HEAD].copy_from_slice(&self.now_us().to_le_bytes());
        message
    }

    /// Notes a packet that has arrived now. Each stack calls this where a program could first have
    /// it.
    pub fn note(&self, packet: &[u8]) {
        let now_us = self.now_us();
        let mut delays_ms = self.0.delays_ms.lock().unwrap_or_else(PoisonError::into_inner);
        for message in packet.chunks_exact(self.0.message_bytes) {
            let Some((number, rest)) = message.split_first_chunk::<8>() else { return };
            let Some(sent) = rest.first_chunk::<8>() else { return };
            let index = usize::try_from(u64::from_le_bytes(*number)).unwrap_or(usize::MAX);
            let delay_us = now_us.saturating_sub(u64::from_le_bytes(*sent));
            if let Some(delay @ None) = delays_ms.get_mut(index) {
                *delay = Some(delay_us as f64 / 1e3);
            }
        }
    }

    /// The delays by number; nothing for what has not arrived.
    pub fn delays_ms(&self) -> Vec<Option<f64>> {
        self.0.delays_ms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_arrival_of_a_message_counts() {
        let arrivals = Arrivals::new(Instant::now(), 20, 3);
        let (zero, one) = (arrivals.message(0), arrivals.message(1));
        arrivals.note(&[one.clone(), zero].concat());
        let first = arrivals.delays_ms();
        assert!(first[0].is_some() && first[1].is_some() && first[2].is_none());
        arrivals.note(&one);
        assert_eq!(arrivals.delays_ms(), first);
    }

    #[test]
    fn what_is_no_message_is_ignored() {
        let arrivals = Arrivals::new(Instant::now(), 20, 1);
        arrivals.note(b"");
        arrivals.note(&[0xff; 20]);
        arrivals.note(&[0; 19]);
        assert_eq!(arrivals.delays_ms(), [None]);
    }
}
