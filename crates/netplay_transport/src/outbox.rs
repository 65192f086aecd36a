//! What the game has written to one peer and not flushed, and its end of the queues.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crossbeam_channel::TrySendError;
use netplay_peer::link::InputBlock;
use netplay_protocol::frame::Frame;
use netplay_protocol::lane::{LaneConfig, LaneKind};
use netplay_protocol::limits::{LANES_MAX, STREAM_PACKET_MAX};
use netplay_protocol::stream::{WHOLE_HEADER_LEN, split, start_whole};

use crate::event::SendError;
use crate::queues::{Batch, LOSSY_BATCH_MAX, PeerSender, Pool};
use crate::stats::LinkStats;

/// What was handed in on a lane since the link was made; what was released of it is in
/// [`LaneShared`](crate::queues::LaneShared).
#[derive(Clone, Copy, Default)]
struct Submitted {
    messages: u64,
    bytes: u64,
    /// Messages that were not taken because the queue was full.
    refused: u64,
}

pub(crate) struct Outbox {
    pub(crate) sender: PeerSender,
    lossy: Batch,
    /// As for reliable messages.
    lossy_before: usize,
    pub(crate) inputs: Option<InputBlock>,
    reliable: Vec<u8>,
    /// Bytes of the last flush's reliable messages: about what this one will have.
    reliable_before: usize,
    stream: Vec<u8>,
    /// Full packets of channel 2 that found the hand-over full.
    waiting: VecDeque<Vec<u8>>,
    submitted: [Submitted; LANES_MAX],
    stats: LinkStats,
}

impl Outbox {
    pub(crate) fn new(sender: PeerSender) -> Self {
        Self {
            sender,
            lossy: Batch::default(),
            lossy_before: 0,
            inputs: None,
            reliable: Vec::new(),
            reliable_before: 0,
            stream: Vec::new(),
            waiting: VecDeque::new(),
            submitted: [Submitted::default(); LANES_MAX],
            stats: LinkStats::default(),
        }
    }

    /// Collects a message, whose size was checked.
    pub(crate) fn put(
        &mut self,
        config: &LaneConfig,
        frame: &Frame<'_>,
        pool: &Pool,
    ) -> Result<(), SendError> {
        let result = self.try_put(config, frame, pool);
        self.submitted[frame.lane.index()].refused += u64::from(result.is_err());
        result
    }

    /// The network's latest statistics, with what this side knows better: what was refused, what the
    /// hand-over dropped and what it holds.
    pub(crate) fn stats(&mut self) -> LinkStats {
        let shared = &self.sender.shared;
        if let Some(stats) = shared.try_stats() {
            self.stats = stats;
        }
        let mut stats = self.stats;
        stats.handover_dropped = shared.lossy_dropped.load(Ordering::Relaxed);
        stats.bulk_waiting = shared.stream_bytes.load(Ordering::Relaxed);
        for (lane, submitted) in stats.lanes.iter_mut().zip(&self.submitted) {
            lane.refused += submitted.refused;
        }
        stats
    }

    fn try_put(
        &mut self,
        config: &LaneConfig,
        frame: &Frame<'_>,
        pool: &Pool,
    ) -> Result<(), SendError> {
        match config.kind {
            LaneKind::Unreliable | LaneKind::Sequenced => {
                self.put_lossy(frame, pool);
                Ok(())
            }
            LaneKind::Reliable | LaneKind::ReliableUnordered => {
                self.put_reliable(config, frame, pool)
            }
            LaneKind::Bulk => self.put_bulk(config, frame, pool),
        }
    }

    fn put_lossy(&mut self, frame: &Frame<'_>, pool: &Pool) {
        if self.lossy.bytes.len() + frame.wire_len() > LOSSY_BATCH_MAX {
            self.seal_lossy(pool);
        }
        if self.lossy.bytes.is_empty() {
            self.lossy.bytes = pool.for_len(self.lossy_before);
        }
        frame.put(&mut self.lossy.bytes);
        self.lossy.messages += 1;
    }

    fn put_reliable(
        &mut self,
        config: &LaneConfig,
        frame: &Frame<'_>,
        pool: &Pool,
    ) -> Result<(), SendError> {
        let lane = frame.lane.index();
        let len = frame.body.wire_len() as u64;
        let (messages, bytes) = self.sender.shared.lanes[lane].released();
        let submitted = &mut self.submitted[lane];
        let (messages, bytes) = (submitted.messages - messages, submitted.bytes - bytes);
        let full = messages >= u64::from(config.queue_messages)
            || bytes + len > u64::from(config.queue_bytes);
        if messages > 0 && full {
            return Err(SendError::QueueFull);
        }
        submitted.messages += 1;
        submitted.bytes += len;
        if self.reliable.is_empty() {
            self.reliable = pool.for_len(self.reliable_before);
        }
        frame.put(&mut self.reliable);
        Ok(())
    }

    fn put_bulk(
        &mut self,
        config: &LaneConfig,
        frame: &Frame<'_>,
        pool: &Pool,
    ) -> Result<(), SendError> {
        let len = frame.wire_len();
        let shared = self.sender.shared.clone();
        let bytes = &shared.stream_bytes;
        let waiting = bytes.load(Ordering::Acquire);
        if waiting > 0 && waiting + len > config.queue_bytes as usize {
            return Err(SendError::QueueFull);
        }
        if len + WHOLE_HEADER_LEN > STREAM_PACKET_MAX {
            self.seal_stream();
            let mut whole = pool.large();
            frame.put(&mut whole);
            split(
                &whole,
                || pool.large(),
                |packet| {
                    bytes.fetch_add(packet.len(), Ordering::AcqRel);
                    self.waiting.push_back(packet);
                },
            );
            pool.give(whole);
            return Ok(());
        }
        if !self.stream.is_empty() && self.stream.len() + len > STREAM_PACKET_MAX {
            self.seal_stream();
        }
        let before = self.stream.len();
        if before == 0 {
            self.stream = pool.large();
            start_whole(&mut self.stream);
        }
        frame.put(&mut self.stream);
        bytes.fetch_add(self.stream.len() - before, Ordering::AcqRel);
        Ok(())
    }

    fn seal_lossy(&mut self, pool: &Pool) {
        if !self.lossy.bytes.is_empty() {
            self.lossy_before = self.lossy.bytes.len();
            self.sender.push_lossy(core::mem::take(&mut self.lossy), pool);
        }
    }

    fn seal_stream(&mut self) {
        if !self.stream.is_empty() {
            self.waiting.push_back(core::mem::take(&mut self.stream));
        }
    }

    /// Hands over what there is; true if anything went.
    pub(crate) fn flush(&mut self, pool: &Pool) -> bool {
        let mut went = !self.lossy.bytes.is_empty();
        self.seal_lossy(pool);
        if let Some(inputs) = self.inputs.take() {
            went = true;
            self.sender.push_inputs(inputs, pool);
        }
        if !self.reliable.is_empty() {
            self.reliable_before = self.reliable.len();
            match self.sender.reliable.try_send(core::mem::take(&mut self.reliable)) {
                Ok(()) => went = true,
                // It stays, within the limits of its lanes, and goes with a later flush.
                Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                    self.reliable = batch;
                }
            }
        }
        // Where packets wait already, what is written next may as well share one.
        if self.waiting.is_empty() && !self.sender.stream.is_full() {
            self.seal_stream();
        }
        while let Some(packet) = self.waiting.pop_front() {
            match self.sender.stream.try_send(packet) {
                Ok(()) => went = true,
                Err(TrySendError::Full(packet) | TrySendError::Disconnected(packet)) => {
                    self.waiting.push_front(packet);
                    break;
                }
            }
        }
        went
    }
}
