//! What a game can know about its links.

use core::time::Duration;

use netplay_peer::lanes::LaneStats;
use netplay_peer::link::datagrams::PathStats;
use netplay_protocol::Lane;
use netplay_protocol::limits::LANES_MAX;
use netplay_tick::PairStatus;

/// Statistics of one link, as of a tenth of a second ago at most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkStats {
    /// Smoothed round-trip time, measured between the network threads; `None` before the first
    /// sample.
    pub rtt: Option<Duration>,
    /// The smallest round-trip time so far.
    pub rtt_min: Option<Duration>,
    /// Smoothed difference between consecutive round-trip times.
    pub jitter: Duration,
    /// Share of our last 128 datagrams that did not arrive, 0 to 1.
    pub loss: f32,
    /// Whether a media track carries the datagrams, and not a data channel.
    pub media: bool,
    /// Datagrams sent, bare acks included.
    pub datagrams_sent: u64,
    /// How often the link has moved to another connection.
    pub moves: u32,
    /// Datagrams received, bare acks included, duplicates not.
    pub datagrams_received: u64,
    /// Datagrams received again.
    pub duplicates: u64,
    /// Mean number of datagrams of ours that were lost in a row, as of late; 0 before the first.
    pub loss_burst: f32,
    /// Lossy messages to this peer dropped because the network thread did not take them in time.
    pub handover_dropped: u64,
    /// Packets sent on the reliable channel.
    pub stream_packets_sent: u64,
    /// Packets received on the reliable channel.
    pub stream_packets_received: u64,
    /// Bytes of packets sent on all game channels, our headers included.
    pub bytes_sent: u64,
    /// Bytes of packets received on all game channels, our headers included.
    pub bytes_received: u64,
    /// Bytes of bulk messages that wait to be sent.
    pub bulk_waiting: usize,
    /// Of the large bulk message that is being received: bytes so far, and bytes in all.
    pub bulk_incoming: Option<(usize, usize)>,
    /// What is known of its clock and of the path to it, once a datagram was answered.
    pub clock: Option<PairStatus>,
    /// Each lane, by its number; of bulk lanes only what was refused.
    pub lanes: [LaneStats; LANES_MAX],
}

impl LinkStats {
    pub(crate) const fn set_path(&mut self, path: PathStats) {
        self.rtt = path.rtt;
        self.rtt_min = path.rtt_min;
        self.jitter = path.jitter;
        self.loss = path.loss;
        self.loss_burst = path.loss_burst;
        self.datagrams_sent = path.sent;
        self.datagrams_received = path.received;
        self.duplicates = path.duplicates;
    }

    /// One lane.
    pub const fn lane(&self, lane: Lane) -> &LaneStats {
        &self.lanes[lane.index()]
    }
}
