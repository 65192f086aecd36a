//! Channel 1: numbers, acks, and what they tell about the path.
//!
//! Every datagram carries what its sender has received, so ordinary traffic measures round-trip
//! time, jitter and loss; no extra packets do. A duplicate, or a datagram older than the ack window,
//! is dropped here: nothing is delivered twice.

use core::time::Duration;

use netplay_protocol::Now;
use netplay_protocol::cursor::{ReadError, Reader};
use netplay_protocol::datagram::{Acks, Departure, HEADER_LEN, Header, Sequence};
use netplay_protocol::frame::Frames;

/// Datagrams that one header acknowledges: its base and 32 bits.
const WINDOW: i16 = 33;

/// Received datagrams after which an ack goes out by itself: half the window, so that one lost ack
/// costs nothing.
const ACK_EVERY: u8 = 16;

/// Sent datagrams that are remembered. More than the window, and a power of two below half the
/// sequence space.
const SENT: usize = 256;

/// Verdicts (arrived or lost) that the loss figure is made of.
const VERDICTS: u32 = 128;

/// What the path looks like from here.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PathStats {
    /// Smoothed round-trip time (RFC 6298, gain 1/8); `None` before the first sample.
    pub rtt: Option<Duration>,
    /// The latest sample.
    pub rtt_last: Option<Duration>,
    /// The smallest sample.
    pub rtt_min: Option<Duration>,
    /// Smoothed difference between consecutive samples (RFC 3550 §6.4.1, gain 1/16).
    pub jitter: Duration,
    /// Share of our last 128 judged datagrams that did not arrive, 0 to 1.
    pub loss: f32,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received and new.
    pub received: u64,
    /// Datagrams received again, or too old to tell.
    pub duplicates: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    sequence: Sequence,
    at: Now,
    acked: bool,
    /// Whether it was sent and not judged yet.
    open: bool,
}

/// What a received datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// It has frames, and they are well-formed and new.
    pub frames: bool,
    /// Its sender wants an answer at once.
    pub ping: bool,
    /// It gave the first round-trip time since the last ping of ours.
    pub pong: Option<Duration>,
    /// The tick its sender was in.
    pub tick: Option<u16>,
}

/// The numbers and acks of one link. They live as long as the link and survive a change of
/// connection.
#[derive(Debug)]
pub struct DatagramFlow {
    next: Sequence,
    sent: Box<[Sent; SENT]>,
    /// The oldest sequence that has no verdict yet.
    unjudged: Sequence,
    newest: Option<(Sequence, Now)>,
    bits: u32,
    unacked: u8,
    pinged: Option<Sequence>,
    verdicts: u128,
    judged: u32,
    stats: PathStats,
}

impl DatagramFlow {
    /// A flow that has seen nothing.
    pub fn new() -> Self {
        Self {
            next: Sequence(0),
            sent: Box::new([Sent::default(); SENT]),
            unjudged: Sequence(0),
            newest: None,
            bits: 0,
            unacked: 0,
            pinged: None,
            verdicts: 0,
            judged: 0,
            stats: PathStats::default(),
        }
    }

    /// What the path looks like.
    pub const fn stats(&self) -> PathStats {
        self.stats
    }

    /// Whether so many datagrams came in that an ack must not wait for something to ride on.
    pub const fn ack_due(&self) -> bool {
        self.unacked >= ACK_EVERY
    }

    /// Writes the header into the first 16 bytes of `packet`.
    ///
    /// # Panics
    /// If the packet is shorter than a header; packets are made with room for it.
    pub fn stamp(&mut self, now: Now, ping: bool, packet: &mut [u8]) {
        let sequence = self.next;
        self.next = sequence.next();
        let slot = &mut self.sent[usize::from(sequence.0) % SENT];
        if slot.open {
            let arrived = slot.acked;
            self.unjudged = slot.sequence.next();
            self.judge(arrived);
        }
        self.sent[usize::from(sequence.0) % SENT] =
            Sent { sequence, at: now, acked: false, open: true };
        if ping {
            self.pinged = Some(sequence);
        }
        self.unacked = 0;
        self.stats.sent += 1;
        let acks = self.newest.map(|(base, arrived)| Acks {
            base,
            bits: self.bits,
            hold: Some(now.since(arrived)),
        });
        let header = Header { sequence, departure: Departure::at(now), acks, ping, tick: None };
        let room = packet.first_chunk_mut::<HEADER_LEN>();
        header.write(room.expect("packets are made with room for the header"));
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// [`ReadError`] if header or frames are malformed; nothing has changed then.
    pub fn receive(&mut self, now: Now, packet: &[u8]) -> Result<Received, ReadError> {
        let mut reader = Reader::new(packet);
        let header = Header::read(&mut reader)?;
        Frames::check(reader.rest())?;
        let fresh = self.note(now, header.sequence);
        let pong = header.acks.and_then(|acks| self.acknowledged(now, acks));
        Ok(Received {
            frames: fresh && !reader.is_empty(),
            ping: fresh && header.ping,
            pong,
            tick: header.tick,
        })
    }

    /// Remembers an arrival; false for a duplicate or one that is too old to tell.
    fn note(&mut self, now: Now, sequence: Sequence) -> bool {
        let Some((newest, _)) = self.newest else {
            self.newest = Some((sequence, now));
            return self.count_fresh();
        };
        let ahead = sequence.ahead_of(newest);
        if ahead > 0 {
            // Bit i stands for newest - 1 - i: the old newest moves to bit `ahead - 1`.
            let ahead = u32::from(ahead.unsigned_abs());
            let shifted = self.bits.checked_shl(ahead).unwrap_or(0);
            let old = 1_u32.checked_shl(ahead - 1).unwrap_or(0);
            self.bits = shifted | old;
            self.newest = Some((sequence, now));
            return self.count_fresh();
        }
        let bit = if ahead == 0 { None } else { 1_u32.checked_shl((-(ahead + 1)) as u32) };
        match bit {
            Some(bit) if ahead > -WINDOW && self.bits & bit == 0 => {
                self.bits |= bit;
                self.count_fresh()
            }
            _ => {
                self.stats.duplicates += 1;
                false
            }
        }
    }

    const fn count_fresh(&mut self) -> bool {
        self.unacked = self.unacked.saturating_add(1);
        self.stats.received += 1;
        true
    }

    /// Takes the other side's acks; gives the round-trip time if they answer our ping.
    fn acknowledged(&mut self, now: Now, acks: Acks) -> Option<Duration> {
        let base = self.sent[usize::from(acks.base.0) % SENT];
        // An ack of something never sent, or long forgotten: nothing to learn.
        if !base.open || base.sequence != acks.base || self.next.ahead_of(acks.base) <= 0 {
            return None;
        }
        let mut sample = None;
        if !base.acked
            && let Some(hold) = acks.hold
        {
            let rtt = now.since(base.at).saturating_sub(hold);
            self.sample(rtt);
            sample = Some(rtt);
        }
        self.mark(acks.base);
        for i in 0..32 {
            if acks.bits & (1 << i) != 0 {
                self.mark(Sequence(acks.base.0.wrapping_sub(1 + i)));
            }
        }
        while acks.base.ahead_of(self.unjudged) >= WINDOW {
            let slot = &mut self.sent[usize::from(self.unjudged.0) % SENT];
            let (open, acked) = (slot.open && slot.sequence == self.unjudged, slot.acked);
            slot.open = false;
            self.unjudged = self.unjudged.next();
            if open {
                self.judge(acked);
            }
        }
        let answers = self.pinged.is_some_and(|pinged| acks.base.ahead_of(pinged) >= 0);
        if answers && sample.is_some() {
            self.pinged = None;
            return sample;
        }
        None
    }

    fn mark(&mut self, sequence: Sequence) {
        let slot = &mut self.sent[usize::from(sequence.0) % SENT];
        if slot.open && slot.sequence == sequence {
            slot.acked = true;
        }
    }

    fn judge(&mut self, arrived: bool) {
        self.verdicts = (self.verdicts << 1) | u128::from(!arrived);
        self.judged = (self.judged + 1).min(VERDICTS);
        self.stats.loss = self.verdicts.count_ones() as f32 / self.judged as f32;
    }

    fn sample(&mut self, rtt: Duration) {
        if let Some(last) = self.stats.rtt_last {
            let difference = rtt.abs_diff(last);
            self.stats.jitter = (self.stats.jitter * 15 + difference) / 16;
        }
        self.stats.rtt = Some(self.stats.rtt.map_or(rtt, |smooth| (smooth * 7 + rtt) / 8));
        self.stats.rtt_min = Some(self.stats.rtt_min.map_or(rtt, |min| min.min(rtt)));
        self.stats.rtt_last = Some(rtt);
    }
}

impl Default for DatagramFlow {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(flow: &mut DatagramFlow, now: Now) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN];
        packet.extend_from_slice(&[1, 0]);
        flow.stamp(now, false, &mut packet);
        packet
    }

    #[test]
    fn rtt_leaves_out_the_time_that_the_other_side_held_the_ack() {
        let (mut a, mut b) = (DatagramFlow::new(), DatagramFlow::new());
        let ping = packet(&mut a, Now::from_millis(0));
        b.receive(Now::from_millis(15), &ping).unwrap();
        let answer = packet(&mut b, Now::from_millis(115));
        a.receive(Now::from_millis(130), &answer).unwrap();
        let rtt = a.stats().rtt.unwrap();
        assert!(rtt.abs_diff(Duration::from_millis(30)) < Duration::from_micros(17), "{rtt:?}");
    }

    #[test]
    fn a_duplicate_is_not_delivered() {
        let (mut a, mut b) = (DatagramFlow::new(), DatagramFlow::new());
        let first = packet(&mut a, Now::ZERO);
        let second = packet(&mut a, Now::ZERO);
        assert!(b.receive(Now::ZERO, &second).unwrap().frames);
        assert!(b.receive(Now::ZERO, &first).unwrap().frames);
        assert!(!b.receive(Now::ZERO, &first).unwrap().frames);
        assert!(!b.receive(Now::ZERO, &second).unwrap().frames);
        assert_eq!((b.stats().received, b.stats().duplicates), (2, 2));
    }

    #[test]
    fn a_datagram_older_than_the_window_is_not_delivered() {
        let (mut a, mut b) = (DatagramFlow::new(), DatagramFlow::new());
        let packets: Vec<_> = (0..35).map(|_| packet(&mut a, Now::ZERO)).collect();
        assert!(b.receive(Now::ZERO, &packets[34]).unwrap().frames);
        assert!(b.receive(Now::ZERO, &packets[2]).unwrap().frames, "32 behind: in the window");
        assert!(!b.receive(Now::ZERO, &packets[1]).unwrap().frames, "33 behind: too old to tell");
    }

    #[test]
    fn loss_counts_what_never_arrived() {
        let (mut a, mut b) = (DatagramFlow::new(), DatagramFlow::new());
        for i in 0..400_u64 {
            let now = Now::from_millis(i * 16);
            let sent = packet(&mut a, now);
            if i % 10 != 0 {
                b.receive(now, &sent).unwrap();
            }
            let back = packet(&mut b, now);
            a.receive(now, &back).unwrap();
        }
        assert!((0.08..0.12).contains(&a.stats().loss), "{}", a.stats().loss);
        assert!(b.stats().loss < 0.01, "{}", b.stats().loss);
    }

    #[test]
    fn forged_acks_teach_nothing() {
        let mut a = DatagramFlow::new();
        let mut forged = vec![0; HEADER_LEN];
        let acks = Acks { base: Sequence(500), bits: u32::MAX, hold: Some(Duration::ZERO) };
        let header = Header {
            sequence: Sequence(9),
            departure: Departure::default(),
            acks: Some(acks),
            ping: false,
            tick: None,
        };
        header.write(forged.first_chunk_mut().unwrap());
        packet(&mut a, Now::ZERO);
        a.receive(Now::from_millis(5), &forged).unwrap();
        assert_eq!(a.stats().rtt, None);
    }

    proptest! {
        #[test]
        fn each_datagram_is_delivered_at_most_once_in_any_order(
            order in prop::collection::vec(0..200_usize, 1..600), start: u16
        ) {
            let (mut a, mut b) = (DatagramFlow::new(), DatagramFlow::new());
            a.next = Sequence(start);
            let packets: Vec<_> = (0..200).map(|_| packet(&mut a, Now::ZERO)).collect();
            let mut delivered = [0; 200];
            for i in order {
                if b.receive(Now::ZERO, &packets[i]).unwrap().frames {
                    delivered[i] += 1;
                }
            }
            prop_assert!(delivered.iter().all(|count| *count <= 1));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut flow = DatagramFlow::new();
            packet(&mut flow, Now::ZERO);
            let _ = flow.receive(Now::from_millis(3), &bytes);
        }
    }
}
