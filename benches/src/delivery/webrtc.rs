//! The `webrtc` library: data channels of several kinds, and RTP packets on a local track.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCSessionDescription, SettingEngineBuilder,
};

use super::{Arrivals, Delivery, Ends, Site};
use crate::Result;
use crate::forwarder::End;

/// Between ICE checks; as our own transport sets it.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
const CHECKS: u16 = 1000;
/// Loss on the link must not end a connection that is measured.
const ICE_DISCONNECTED: Duration = Duration::from_secs(30);
const ICE_FAILED: Duration = Duration::from_secs(60);
const ICE_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Both sides know it, so it needs no negotiation beyond the description.
const PAYLOAD_TYPE: u8 = 111;

/// How a connection is set up.
#[derive(Clone, Copy)]
pub struct Style {
    /// In order, or as it comes.
    pub ordered: bool,
    /// Retransmissions of a message at most.
    pub max_retransmits: Option<u16>,
    /// How long a message may be sent, and sent again.
    pub lifetime_ms: Option<u16>,
    /// Changes the packet size of SCTP.
    pub sctp_mtu: Option<u32>,
    /// Sends on a track instead of the data channel.
    pub rtp: bool,
    /// Connects sooner than with the library's defaults, and lives longer.
    pub tuned: bool,
}

impl Style {
    /// An unordered channel on a connection as our transport would set it up.
    pub const fn tuned(max_retransmits: Option<u16>, lifetime_ms: Option<u16>) -> Self {
        Self {
            ordered: false,
            max_retransmits,
            lifetime_ms,
            sctp_mtu: None,
            rtp: false,
            tuned: true,
        }
    }

    /// The library's defaults, with a reliable ordered channel or its opposite.
    pub const fn plain(reliable: bool) -> Self {
        let max_retransmits = if reliable { None } else { Some(0) };
        Self {
            ordered: reliable,
            max_retransmits,
            lifetime_ms: None,
            sctp_mtu: None,
            rtp: false,
            tuned: false,
        }
    }
}

/// Connects two peers and waits until both channels are open.
pub async fn connect(site: &Site<'_>, style: Style) -> Result<Ends> {
    let [handle_a, handle_b] = &site.runtimes;
    let [arrivals_a, arrivals_b] = site.arrivals.clone();
    // Built on their runtimes, because that is where the library starts its tasks.
    let mut a = handle_a.spawn(Peer::new(End::A, style, arrivals_a)).await??;
    let mut b = handle_b.spawn(Peer::new(End::B, style, arrivals_b)).await??;

    let offer = a.connection.create_offer(None).await?;
    a.connection.set_local_description(offer).await?;
    let sdp = site.forwarder.rewrite_sdp(End::A, &a.description().await?.sdp)?;
    b.connection.set_remote_description(RTCSessionDescription::offer(sdp)?).await?;
    let answer = b.connection.create_answer(None).await?;
    b.connection.set_local_description(answer).await?;
    let sdp = site.forwarder.rewrite_sdp(End::B, &b.description().await?.sdp)?;
    a.connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await?;

    for peer in [&mut a, &mut b] {
        peer.open.recv().await.ok_or("a channel closed before it was open")?;
    }
    Ok([Box::new(a.sender(handle_a)), Box::new(b.sender(handle_b))])
}

struct Handler {
    gathered: mpsc::UnboundedSender<()>,
    arrivals: Arrivals,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            // Fails if nobody waits any more.
            let _ = self.gathered.send(());
        }
    }

    /// Comes with the first packet.
    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let arrivals = self.arrivals.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    arrivals.note(&packet.payload);
                }
            }
        });
    }
}

struct Peer {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
    track: Option<Track>,
    gathered: mpsc::UnboundedReceiver<()>,
    open: mpsc::UnboundedReceiver<()>,
}

impl Peer {
    async fn new(end: End, style: Style, arrivals: Arrivals) -> Result<Self> {
        let mut settings =
            SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled);
        if style.tuned {
            settings = settings
                .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECKS))
                .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEP_ALIVE));
        }
        if let Some(mtu) = style.sctp_mtu {
            settings = settings.with_sctp_mtu(mtu);
        }
        let (gathered_sender, gathered) = mpsc::unbounded_channel();
        let handler = Handler { gathered: gathered_sender, arrivals: arrivals.clone() };
        let mut builder = PeerConnectionBuilder::new()
            .with_setting_engine(settings.build())
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec!["127.0.0.1:0"]);
        if style.rtp {
            builder = builder.with_media_engine(Track::media_engine()?);
        }
        let connection: Arc<dyn PeerConnection> = Arc::new(builder.build().await?);
        let init = RTCDataChannelInit {
            ordered: style.ordered,
            max_retransmits: style.max_retransmits,
            max_packet_life_time: style.lifetime_ms,
            negotiated: Some(0),
            ..Default::default()
        };
        let channel = connection.create_data_channel("", Some(init)).await?;
        let mut track = None;
        if style.rtp {
            let made = Track::new(end);
            connection.add_track(made.track.clone()).await?;
            track = Some(made);
        }
        let (open_sender, open) = mpsc::unbounded_channel();
        tokio::spawn(read(channel.clone(), open_sender, arrivals));
        Ok(Self { connection, channel, track, gathered, open })
    }

    /// The local description with all addresses.
    async fn description(&mut self) -> Result<RTCSessionDescription> {
        self.gathered.recv().await.ok_or("no addresses were gathered")?;
        Ok(self.connection.local_description().await.ok_or("no local description")?)
    }

    /// Starts the task that sends; it closes the connection when the queue closes.
    fn sender(self, runtime: &tokio::runtime::Handle) -> Sender {
        let (sender, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        runtime.spawn(async move {
            while let Some(message) = queue.recv().await {
                let result = match &self.track {
                    Some(track) => track.send(message.into()).await,
                    None => self.channel.send(BytesMut::from(&message[..])).await,
                };
                if result.is_err() {
                    break;
                }
            }
            // Without this its driver and its sockets would live on.
            let _ = self.connection.close().await;
        });
        Sender(sender)
    }
}

async fn read(channel: Arc<dyn DataChannel>, open: mpsc::UnboundedSender<()>, arrivals: Arrivals) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => drop(open.send(())),
            DataChannelEvent::OnMessage(message) => arrivals.note(&message.data),
            DataChannelEvent::OnClose => return,
            _ => {}
        }
    }
}

/// A track that carries datagrams.
struct Track {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    next: AtomicU16,
}

impl Track {
    fn new(end: End) -> Self {
        let ssrc = end as u32 + 1;
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..Default::default()
            },
            codec: Self::codec(),
            ..Default::default()
        };
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            "netplay".to_owned(),
            format!("datagrams-{ssrc}"),
            String::new(),
            RtpCodecKind::Audio,
            vec![coding],
        )));
        Self { track, ssrc, next: AtomicU16::new(0) }
    }

    /// A name that no media library takes for its own.
    fn codec() -> RTCRtpCodec {
        RTCRtpCodec {
            mime_type: "audio/netplay".to_owned(),
            clock_rate: 48_000,
            channels: 0,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: Vec::new(),
        }
    }

    fn media_engine() -> Result<MediaEngine> {
        let mut engine = MediaEngine::default();
        let parameters =
            RTCRtpCodecParameters { rtp_codec: Self::codec(), payload_type: PAYLOAD_TYPE };
        engine.register_codec(parameters, RtpCodecKind::Audio)?;
        Ok(engine)
    }

    async fn send(&self, payload: Bytes) -> webrtc::error::Result<()> {
        let header = rtp::Header {
            version: 2,
            payload_type: PAYLOAD_TYPE,
            // Never the same twice: the cipher depends on it.
            sequence_number: self.next.fetch_add(1, Ordering::Relaxed),
            ssrc: self.ssrc,
            ..Default::default()
        };
        self.track.write_rtp(rtp::Packet { header, payload }).await
    }
}

struct Sender(mpsc::UnboundedSender<Vec<u8>>);

impl Delivery for Sender {
    fn send(&mut self, message: Vec<u8>) -> Result<()> {
        Ok(self.0.send(message)?)
    }
}
