//! The media track that carries datagrams between native peers: RTP packets whose payload is ours.
//!
//! A data channel shares one congestion window with everything on its connection, and SCTP waits a
//! second after a loss that it cannot repair otherwise. RTP has no window and no timer: what is written leaves,
//! and arrives or not; the window of [`netplay_peer`]'s pace holds instead. The m-line shares the
//! connection's transport (BUNDLE), so it costs no further sockets or handshakes.
//!
//! Guaranteed: no sequence number is used twice, which the encryption depends on. Not guaranteed:
//! that the other side has a track; the link finds out by probes.

use std::sync::Arc;

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use super::driver::Begin;

/// No browser has this codec, so none takes our packets for sound.
const MIME_TYPE: &str = "audio/netplay";
/// The first dynamic ones (RFC 3551 §6) are taken by convention; any would do.
const PAYLOAD_TYPE: u8 = 111;
const CLOCK_RATE: u32 = 48_000;

fn codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE.to_owned(),
        clock_rate: CLOCK_RATE,
        channels: 0,
        sdp_fmtp_line: String::new(),
        rtcp_feedback: Vec::new(),
    }
}

/// An engine that knows our codec and no other.
pub(super) fn engine() -> webrtc::error::Result<MediaEngine> {
    let mut engine = MediaEngine::default();
    let parameters = RTCRtpCodecParameters { rtp_codec: codec(), payload_type: PAYLOAD_TYPE };
    engine.register_codec(parameters, RtpCodecKind::Audio)?;
    Ok(engine)
}

/// The sending end.
pub(super) struct MediaSender {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    next: u16,
}

impl MediaSender {
    /// A track for one side of a connection.
    pub(super) fn new(begin: &Begin) -> Self {
        let ssrc = match begin {
            Begin::Offer => 1,
            Begin::Answer(_) => 2,
        };
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..Default::default()
            },
            codec: codec(),
            ..Default::default()
        };
        let stream = MediaStreamTrack::new(
            "netplay".to_owned(),
            format!("datagrams-{ssrc}"),
            String::new(),
            RtpCodecKind::Audio,
            vec![coding],
        );
        Self { track: Arc::new(TrackLocalStaticRTP::new(stream)), ssrc, next: 0 }
    }

    /// What is added to the connection before its first description.
    pub(super) fn track(&self) -> Arc<TrackLocalStaticRTP> {
        self.track.clone()
    }

    /// Sends a packet. It is lost if the connection is not secure yet.
    pub(super) async fn send(&mut self, packet: &[u8]) {
        let header = rtp::Header {
            version: 2,
            payload_type: PAYLOAD_TYPE,
            sequence_number: self.next,
            ssrc: self.ssrc,
            ..Default::default()
        };
        self.next = self.next.wrapping_add(1);
        let payload = Bytes::copy_from_slice(packet);
        if let Err(error) = self.track.write_rtp(rtp::Packet { header, payload }).await {
            tracing::debug!(%error, "a media packet was not taken");
        }
    }
}
