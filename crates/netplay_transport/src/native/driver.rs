//! One WebRTC connection: carries out a link's commands, reports what happens, hands packets over.
//! The only module that names the WebRTC library's connection types.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use netplay_peer::link::driver::{Channel, ConnectionId, DriverEvent, Phase};
use netplay_protocol::lobby::SignalBody;
use netplay_protocol::{PeerId, limits};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::transport::RTCDtlsRole;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
    RTCIceConnectionState, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    RTCSessionDescription, SettingEngine, SettingEngineBuilder,
};

use super::conditioner::Line;
use super::media::{self, MediaSender};
use super::runtime::IoRuntime;
use super::task::{Inbox, Stamped};
use crate::config::Addresses;

/// Between ICE checks. The library's default of 200 ms costs up to 400 ms per connect.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// Checks per candidate pair: with the interval above, ten seconds for a peer that is slow.
const CHECKS: u16 = 1000;
/// ICE never ends a connection that was up: the link's own liveness decides, which every packet of the other
/// side counts for, and which stops sending to who is silent for 15 s. With this library ICE goes by its own
/// checks alone; a path that came and went every second let none of them pass for the 40 s that we had here.
const ICE_DISCONNECTED: Duration = Duration::ZERO;
const ICE_FAILED: Duration = Duration::ZERO;
const ICE_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Above the window of channel 2, so that it is credit that stops a sender, never the library.
const SEND_BUFFER: usize = 2 * limits::STREAM_WINDOW as usize;
/// How long channel 1 pursues a packet. Without retransmissions a lossy path delays packets by
/// seconds, because SCTP's window holds them back; with a lifetime it drops them, and our own resends
/// fill the gap. Measured by `netplay-bench carriers`.
const LIFETIME_MS: u16 = 40;
/// The library's loop does not flush what its last steps queued until something wakes it; a few
/// wakes after the connection is up save up to 200 ms.
const NUDGES: u32 = 5;
const NUDGE_EVERY: Duration = Duration::from_millis(2);

/// A link's commands for one connection.
#[derive(Debug)]
pub(super) enum ConnectionCommand {
    SetAnswer(String),
    AddCandidate(SignalBody),
}

/// The channels of one connection, in the order of their ids.
pub(super) type Channels = [Arc<dyn DataChannel>; 3];

/// Tracks of the other side that nobody reads yet: an honest one has one.
const TRACKS: usize = 1;
/// Behind the newest, so that reordering loses nothing. The library's default is 64.
const REPLAY_WINDOW: usize = 1024;

/// Who a connection belongs to, and where it reports.
#[derive(Clone)]
struct Reporter {
    peer: PeerId,
    connection: ConnectionId,
    inbox: mpsc::Sender<Inbox>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
}

impl Reporter {
    fn event(&self, event: DriverEvent) -> Inbox {
        Inbox::Driver { peer: self.peer, event }
    }

    /// From a callback on the library's driver task, which must not wait. What does not fit is
    /// repaired by the link's deadlines.
    fn report_now(&self, event: DriverEvent) {
        if self.inbox.try_send(self.event(event)).is_err() {
            tracing::debug!(peer = ?self.peer, "a connection event was dropped");
        }
    }

    async fn report(&self, event: DriverEvent) {
        drop(self.inbox.send(self.event(event)).await);
    }

    fn failed(&self, why: impl ToString) -> DriverEvent {
        DriverEvent::Failed { connection: self.connection, why: why.to_string() }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Reporter {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        match event.candidate.to_json() {
            Ok(init) => self.report_now(DriverEvent::Candidate {
                connection: self.connection,
                candidate: SignalBody::Candidate {
                    candidate: init.candidate,
                    mid: init.sdp_mid,
                    mline: init.sdp_mline_index,
                },
            }),
            Err(error) => tracing::debug!(%error, "a candidate has no text form"),
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if state == RTCIceConnectionState::Connected {
            let phase = Phase::Securing;
            self.report_now(DriverEvent::Progress { connection: self.connection, phase });
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        if self.tracks.try_send(track).is_err() {
            tracing::debug!(peer = ?self.peer, "a second media track is not read");
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => {
                let phase = Phase::OpeningChannels;
                self.report_now(DriverEvent::Progress { connection: self.connection, phase });
            }
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                self.report_now(self.failed("the WebRTC connection failed"));
            }
            _ => {}
        }
    }
}

/// What a connection begins with.
pub(super) enum Begin {
    Offer,
    Answer(String),
}

/// Runs one connection until its command queue closes, then closes it.
pub(super) async fn run(
    peer: PeerId,
    connection: ConnectionId,
    begin: Begin,
    addresses: Addresses,
    line: Arc<Line>,
    mut commands: mpsc::Receiver<ConnectionCommand>,
    inbox: mpsc::Sender<Inbox>,
) {
    let (tracks, mut remote_tracks) = mpsc::channel(TRACKS);
    let reporter = Reporter { peer, connection, inbox, tracks };
    let media = MediaSender::new(&begin);
    // Boxed, so that a connection does not keep the room that only its beginning needs: 20 KB.
    let pc = match Box::pin(build(&reporter, &addresses, &line, &media)).await {
        Ok(pc) => pc,
        Err(error) => return reporter.report(reporter.failed(error)).await,
    };
    let mut readers = JoinSet::new();
    match Box::pin(describe(pc.as_ref(), &reporter, begin, media, &mut readers)).await {
        Ok(sdp) => reporter.report(DriverEvent::Described { connection, sdp }).await,
        Err(error) => reporter.report(reporter.failed(error)).await,
    }
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => Box::pin(carry_out(pc.as_ref(), &reporter, command)).await,
                None => break,
            },
            Some(track) = remote_tracks.recv() => {
                readers.spawn(read_track(track, reporter.clone()));
            }
        }
    }
    // While readers are there: the library logs what arrives and finds nobody to read it as an error.
    if let Err(error) = pc.close().await {
        tracing::debug!(?peer, %error, "closing a connection");
    }
    readers.shutdown().await;
    drop(pc);
    line.finish().await;
}

async fn carry_out(pc: &dyn PeerConnection, reporter: &Reporter, command: ConnectionCommand) {
    match command {
        ConnectionCommand::SetAnswer(sdp) => {
            let result = match RTCSessionDescription::answer(sdp) {
                Ok(answer) => pc.set_remote_description(answer).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                reporter.report(reporter.failed(error)).await;
            }
        }
        ConnectionCommand::AddCandidate(body) => {
            // One bad candidate does not spoil the others.
            if let Err(error) = add_candidate(pc, body).await {
                tracing::debug!(peer = ?reporter.peer, %error, "a candidate was refused");
            }
        }
    }
}

type WebRtcResult<T> = webrtc::error::Result<T>;

fn settings() -> SettingEngine {
    SettingEngineBuilder::new()
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECKS))
        .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEP_ALIVE))
        // A check that overtakes the candidate it belongs to makes a peer-reflexive one, which the
        // library takes only after a second by default; it is as direct as any.
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        // Fixes who establishes SCTP last, and so who may speak first; see the link's handshake.
        .with_answering_dtls_role(RTCDtlsRole::Client)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_include_loopback_candidate(true)
        .with_srtp_replay_protection_window(REPLAY_WINDOW)
        .build()
}

async fn build(
    reporter: &Reporter,
    addresses: &Addresses,
    line: &Arc<Line>,
    media: &MediaSender,
) -> WebRtcResult<Box<dyn PeerConnection>> {
    let pc = PeerConnectionBuilder::new()
        .with_setting_engine(settings())
        .with_media_engine(media::engine()?)
        .with_runtime(Arc::new(IoRuntime { line: line.clone() }))
        .with_handler(Arc::new(reporter.clone()))
        .with_udp_addrs(addresses.to_bind())
        .with_data_channel_send_buffer_limit(SEND_BUFFER)
        .build()
        .await?;
    pc.add_track(media.track()).await?;
    Ok(Box::new(pc))
}

/// Opens the channels, starts their readers and makes our description.
async fn describe(
    pc: &dyn PeerConnection,
    reporter: &Reporter,
    begin: Begin,
    media: MediaSender,
    readers: &mut JoinSet<()>,
) -> WebRtcResult<String> {
    let channels = [
        open(pc, Channel::Control).await?,
        open(pc, Channel::Datagrams).await?,
        open(pc, Channel::Stream).await?,
    ];
    for (channel, data_channel) in Channel::DATA.into_iter().zip(&channels) {
        readers.spawn(read(data_channel.clone(), channel, reporter.clone()));
    }
    let (peer, connection) = (reporter.peer, reporter.connection);
    drop(reporter.inbox.send(Inbox::Channels { peer, connection, channels, media }).await);
    let description = match begin {
        Begin::Offer => pc.create_offer(None).await?,
        Begin::Answer(sdp) => {
            pc.set_remote_description(RTCSessionDescription::offer(sdp)?).await?;
            pc.create_answer(None).await?
        }
    };
    let sdp = description.sdp.clone();
    pc.set_local_description(description).await?;
    Ok(sdp)
}

/// Wakes the library's loop a few times. Any setter does; this one changes nothing.
pub(super) async fn nudge(channel: Arc<dyn DataChannel>) {
    for _ in 0..NUDGES {
        if channel.set_buffered_amount_low_threshold(0).await.is_err() {
            return;
        }
        tokio::time::sleep(NUDGE_EVERY).await;
    }
}

async fn open(pc: &dyn PeerConnection, channel: Channel) -> WebRtcResult<Arc<dyn DataChannel>> {
    let unreliable = channel == Channel::Datagrams;
    let init = RTCDataChannelInit {
        ordered: !unreliable,
        max_packet_life_time: unreliable.then_some(LIFETIME_MS),
        negotiated: Some(channel as u16),
        ..Default::default()
    };
    pc.create_data_channel("", Some(init)).await
}

async fn add_candidate(pc: &dyn PeerConnection, body: SignalBody) -> WebRtcResult<()> {
    let SignalBody::Candidate { candidate, mid, mline } = body else {
        return Ok(());
    };
    let init = RTCIceCandidateInit {
        candidate,
        sdp_mid: mid,
        sdp_mline_index: mline,
        ..Default::default()
    };
    pc.add_ice_candidate(init).await
}

/// Reads one channel until it closes. Packets are stamped here, as soon as they are seen.
async fn read(data_channel: Arc<dyn DataChannel>, channel: Channel, reporter: Reporter) {
    let Reporter { peer, connection, inbox, .. } = reporter;
    while let Some(event) = data_channel.poll().await {
        let item = match event {
            DataChannelEvent::OnOpen => Inbox::Open { peer, connection, channel },
            DataChannelEvent::OnMessage(message) => Inbox::Packet {
                stamped: Stamped::now(),
                peer,
                connection,
                channel,
                packet: message.data.freeze(),
            },
            DataChannelEvent::OnClose => {
                let why = "a data channel closed".to_owned();
                Inbox::Driver { peer, event: DriverEvent::Failed { connection, why } }
            }
            _ => continue,
        };
        if inbox.send(item).await.is_err() {
            return;
        }
    }
}

/// Reads the other side's media track until it ends.
async fn read_track(track: Arc<dyn TrackRemote>, reporter: Reporter) {
    let Reporter { peer, connection, inbox, .. } = reporter;
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
        let (stamped, channel) = (Stamped::now(), Channel::Media);
        let packet = packet.payload;
        let item = Inbox::Packet { stamped, peer, connection, channel, packet };
        match inbox.try_send(item) {
            Ok(()) => {}
            // A datagram may be lost, and the library's queue must not fill, not even at the end.
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                tracing::debug!(?peer, "a media packet was dropped");
            }
        }
    }
}

/// Sends a packet on a channel; false if it was not taken.
pub(super) async fn transmit(channel: &dyn DataChannel, packet: &[u8]) -> bool {
    channel.try_send(BytesMut::from(packet)).await.is_ok()
}

#[cfg(test)]
mod tests;
