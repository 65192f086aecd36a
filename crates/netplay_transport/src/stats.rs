//! What a game can know about its links.

use core::time::Duration;

use netplay_peer::link::datagrams::PathStats;

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
    /// Datagrams sent, bare acks included.
    pub datagrams_sent: u64,
    /// Datagrams received, bare acks included, duplicates not.
    pub datagrams_received: u64,
    /// Datagrams received again.
    pub duplicates: u64,
    /// Datagrams to this peer dropped by us because the queue was full.
    pub datagrams_dropped: u64,
    /// Packets sent on the reliable channel.
    pub stream_packets_sent: u64,
    /// Packets received on the reliable channel.
    pub stream_packets_received: u64,
    /// Bytes of packets sent on all game channels, our headers included.
    pub bytes_sent: u64,
    /// Bytes of packets received on all game channels, our headers included.
    pub bytes_received: u64,
}

impl LinkStats {
    pub(crate) const fn set_path(&mut self, path: PathStats) {
        self.rtt = path.rtt;
        self.rtt_min = path.rtt_min;
        self.jitter = path.jitter;
        self.loss = path.loss;
        self.datagrams_sent = path.sent;
        self.datagrams_received = path.received;
        self.duplicates = path.duplicates;
    }
}
