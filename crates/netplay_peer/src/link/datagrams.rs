//! Datagrams: numbers, acks, and what they tell about the path.
//!
//! Every datagram carries what its sender has received, so ordinary traffic measures round-trip
//! time, jitter and loss; no extra packets do. A duplicate, or a datagram older than the ack window,
//! is dropped here: nothing is delivered twice.
//!
//! A datagram with blocks gets a *verdict*: arrived, or lost. It counts as lost once a later one is
//! acknowledged (and as much time has passed as the path has been seen to reorder), or after 9/8 of
//! the round trip plus the time that the other side may hold its ack back. A verdict of lost may be
//! followed by one of arrived.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::Now;
use netplay_protocol::cursor::{ReadError, Reader};
use netplay_protocol::datagram::{
    Acks, CLOCK_NOTE_LEN, ClockNote, Departure, HEADER_LEN, Header, Sequence,
};

/// Datagrams that one header acknowledges: its base and 32 bits.
const WINDOW: i16 = 33;

/// Received datagrams after which an ack goes out by itself: a quarter of the window, so that lost acks
/// cost nothing. Games that send at unlike rates still acknowledge with what they send.
const ACK_EVERY: u8 = 8;

/// Sent datagrams that are remembered. More than the window, and a power of two below half the
/// sequence space.
pub const SENT: usize = 256;

/// How long an ack may wait for something to ride on: a tick at 60 Hz, and some.
pub const ACK_DELAY: Duration = Duration::from_millis(20);

/// Before the first measurement.
const RTT_UNKNOWN: Duration = Duration::from_millis(250);

/// The reordering allowance never exceeds this.
const REORDER_MAX: Duration = Duration::from_millis(200);

/// Verdicts (arrived or lost) that the loss figure is made of.
const VERDICTS: u32 = 128;

/// How long a path that lost a datagram counts as one that loses: at 60 Hz and a loss of 1 %, it stays
/// one for sure.
const LOSSY_FOR: Duration = Duration::from_secs(10);

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
    /// Mean number lost in a row (gain 1/8); 0 before the first loss.
    pub loss_burst: f32,
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
    /// Whether it was sent and not judged yet for the loss figure.
    open: bool,
    /// Bytes of a datagram with blocks that has no verdict; 0 once it has, and of bare headers.
    in_flight: u16,
    /// Whether the last verdict was lost.
    lost: bool,
}

/// What became of a datagram with blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its place, as [`DatagramFlow::next_slot`] gave it.
    pub slot: usize,
    /// Whether it has arrived.
    pub arrived: bool,
}

/// What a received datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Neither a duplicate nor too old to tell.
    pub fresh: bool,
    /// Where its blocks begin, if it is fresh and has any.
    pub blocks: Option<usize>,
    /// Its sender wants an answer at once.
    pub ping: bool,
    /// It gave the first round-trip time since the last ping of ours.
    pub pong: Option<Duration>,
    /// When it left, on its sender's clock; with the time of its arrival a one-way sample for a
    /// clock filter. Of duplicates too, which arrive later.
    pub departure: Departure,
    /// The newest tick of the inputs that it carries.
    pub tick: Option<u16>,
    /// Of the datagram of ours that it is the first to confirm: when that left, and how long ago it had
    /// arrived there when this one left.
    pub echo: Option<(Now, Duration)>,
    /// Where its sender's copy of the mesh clock stands, if it says so; `None` inside: it has none.
    pub clock: Option<Option<ClockNote>>,
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
    /// When the first datagram with blocks arrived that is not acknowledged.
    owed_since: Option<Now>,
    /// No datagram before this one waits for a verdict.
    undecided: Sequence,
    in_flight: usize,
    /// The newest of ours that the other side has.
    their_newest: Option<Sequence>,
    /// How late a datagram has been seen to come behind a later one.
    reorder: Duration,
    verdicts_out: VecDeque<Verdict>,
    pinged: Option<Sequence>,
    verdicts: u128,
    judged: u32,
    /// Lost in a row, up to now.
    losing: u32,
    /// When a datagram was last found lost.
    lost_at: Option<Now>,
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
            owed_since: None,
            undecided: Sequence(0),
            in_flight: 0,
            their_newest: None,
            reorder: Duration::ZERO,
            verdicts_out: VecDeque::new(),
            pinged: None,
            verdicts: 0,
            judged: 0,
            losing: 0,
            lost_at: None,
            stats: PathStats::default(),
        }
    }

    /// What the path looks like.
    pub const fn stats(&self) -> PathStats {
        self.stats
    }

    /// Whether the path has lost a datagram of ours as of late.
    pub fn is_lossy(&self, now: Now) -> bool {
        self.lost_at.is_some_and(|at| now.since(at) < LOSSY_FOR)
    }

    /// When an ack has to go out by itself.
    pub fn ack_deadline(&self) -> Option<Now> {
        let wait = if self.unacked >= ACK_EVERY { Duration::ZERO } else { ACK_DELAY };
        self.owed_since.map(|since| since + wait)
    }

    /// Bytes of datagrams with blocks that have no verdict.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The place of the next datagram, which names it in its [`Verdict`]. One that is still in that
    /// place is lost.
    pub fn next_slot(&mut self) -> usize {
        let slot = usize::from(self.next.0) % SENT;
        if self.sent[slot].in_flight > 0 {
            self.decide(slot, false);
        }
        slot
    }

    /// The number of the next datagram.
    pub const fn next(&self) -> Sequence {
        self.next
    }

    /// Whether the other side has acknowledged one of the latest datagrams.
    pub const fn is_acked(&self, sequence: Sequence) -> bool {
        let slot = &self.sent[sequence.0 as usize % SENT];
        slot.sequence.0 == sequence.0 && slot.acked
    }

    /// The next verdict.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts_out.pop_front()
    }

    /// Writes the header into the first 16 bytes of `packet`, which has blocks after it or is bare.
    /// `ask` wants an answer at once; with `clock`, a clock note is behind the header; `tick` is the
    /// newest of the inputs that follow.
    ///
    /// # Panics
    /// If the packet is shorter than a header; packets are made with room for it.
    pub fn stamp(
        &mut self,
        now: Now,
        ask: bool,
        clock: bool,
        tick: Option<u16>,
        packet: &mut [u8],
    ) {
        let sequence = self.next;
        let place = self.next_slot();
        self.next = sequence.next();
        let slot = &mut self.sent[place];
        if slot.open {
            let arrived = slot.acked;
            self.unjudged = slot.sequence.next();
            self.judge(now, arrived);
        }
        let blocks = packet.len() > HEADER_LEN + if clock { CLOCK_NOTE_LEN } else { 0 };
        let in_flight = if blocks { packet.len().min(usize::from(u16::MAX)) as u16 } else { 0 };
        self.in_flight += usize::from(in_flight);
        self.sent[place] =
            Sent { sequence, at: now, acked: false, open: true, in_flight, lost: false };
        self.unacked = 0;
        self.owed_since = None;
        self.stats.sent += 1;
        let acks = self.newest.map(|(base, arrived)| Acks {
            base,
            bits: self.bits,
            hold: Some(now.since(arrived)),
        });
        let header =
            Header { sequence, departure: Departure::at(now), acks, ping: ask, tick, clock };
        let room = packet.first_chunk_mut::<HEADER_LEN>();
        header.write(room.expect("packets are made with room for the header"));
        self.skip_decided();
    }

    /// Measures the round trip with the next datagram; [`Received::pong`] tells it.
    pub const fn ping(&mut self) {
        self.pinged = Some(self.next);
    }

    /// Moves on to the oldest datagram that waits for a verdict.
    fn skip_decided(&mut self) {
        while self.next.ahead_of(self.undecided) > 0 {
            let slot = &self.sent[usize::from(self.undecided.0) % SENT];
            if slot.sequence == self.undecided && slot.in_flight > 0 {
                return;
            }
            self.undecided = self.undecided.next();
        }
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// [`ReadError`] if the header is malformed; nothing has changed then.
    pub fn receive(&mut self, now: Now, packet: &[u8]) -> Result<Received, ReadError> {
        let mut reader = Reader::new(packet);
        let header = Header::read(&mut reader)?;
        let clock = if header.clock { Some(ClockNote::read(&mut reader)?) } else { None };
        let fresh = self.note(now, header.sequence);
        let blocks = (fresh && !reader.is_empty()).then(|| packet.len() - reader.rest().len());
        if blocks.is_some() {
            self.owed_since = self.owed_since.or(Some(now));
        }
        let (pong, echo) = match header.acks {
            Some(acks) => self.acknowledged(now, acks),
            None => (None, None),
        };
        let Header { departure, tick, ping, .. } = header;
        Ok(Received { fresh, blocks, ping: fresh && ping, pong, departure, tick, echo, clock })
    }

    /// How long after its departure a datagram without an ack counts as lost.
    fn patience(&self) -> Duration {
        let rtt = self.stats.rtt.unwrap_or(RTT_UNKNOWN);
        (rtt * 9 / 8).max(rtt + 4 * self.stats.jitter) + ACK_DELAY
    }

    /// When [`Self::tick`] has something to say.
    pub fn loss_deadline(&self) -> Option<Now> {
        let oldest = &self.sent[usize::from(self.undecided.0) % SENT];
        if oldest.in_flight == 0 || oldest.sequence != self.undecided {
            return None;
        }
        let passed = self.their_newest.is_some_and(|newest| newest.ahead_of(oldest.sequence) > 0);
        Some(oldest.at + if passed { self.overtaken() } else { self.patience() })
    }

    /// How long after its departure a datagram counts as lost if a later one is acknowledged.
    fn overtaken(&self) -> Duration {
        if self.reorder.is_zero() {
            return Duration::ZERO;
        }
        (self.stats.rtt.unwrap_or(RTT_UNKNOWN) + self.reorder).min(self.patience())
    }

    /// Gives verdicts that time has brought.
    pub fn tick(&mut self, now: Now) {
        self.skip_decided();
        while self.loss_deadline().is_some_and(|deadline| now >= deadline) {
            self.decide(usize::from(self.undecided.0) % SENT, false);
            self.skip_decided();
        }
    }

    fn decide(&mut self, place: usize, arrived: bool) {
        let slot = &mut self.sent[place];
        self.in_flight -= usize::from(slot.in_flight);
        slot.in_flight = 0;
        slot.lost = !arrived;
        self.verdicts_out.push_back(Verdict { slot: place, arrived });
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

    /// Takes the other side's acks; gives the round-trip time if they answer our ping, and when the
    /// newest datagram left that they confirm for the first time, with its hold.
    fn acknowledged(
        &mut self,
        now: Now,
        acks: Acks,
    ) -> (Option<Duration>, Option<(Now, Duration)>) {
        let base = self.sent[usize::from(acks.base.0) % SENT];
        // An ack of something never sent, or long forgotten: nothing to learn.
        if !base.open || base.sequence != acks.base || self.next.ahead_of(acks.base) <= 0 {
            return (None, None);
        }
        let ahead = self.their_newest.is_none_or(|newest| acks.base.ahead_of(newest) > 0);
        if ahead {
            self.their_newest = Some(acks.base);
        }
        let echo = acks.hold.filter(|_| !base.acked).map(|hold| (base.at, hold));
        let sample = echo.map(|(at, hold)| now.since(at).saturating_sub(hold));
        if let Some(rtt) = sample {
            self.sample(rtt);
        }
        self.mark(now, acks.base);
        let mut bits = acks.bits;
        while bits != 0 {
            let i = bits.trailing_zeros() as u16;
            bits &= bits - 1;
            self.mark(now, Sequence(acks.base.0.wrapping_sub(1 + i)));
        }
        self.tick(now);
        while acks.base.ahead_of(self.unjudged) >= WINDOW {
            let slot = &mut self.sent[usize::from(self.unjudged.0) % SENT];
            let (open, acked) = (slot.open && slot.sequence == self.unjudged, slot.acked);
            slot.open = false;
            self.unjudged = self.unjudged.next();
            if open {
                self.judge(now, acked);
            }
        }
        let answers = self.pinged.is_some_and(|pinged| acks.base.ahead_of(pinged) >= 0);
        if answers && sample.is_some() {
            self.pinged = None;
            return (sample, echo);
        }
        (None, echo)
    }

    fn mark(&mut self, now: Now, sequence: Sequence) {
        let place = usize::from(sequence.0) % SENT;
        let slot = &mut self.sent[place];
        if slot.sequence != sequence || slot.acked || !(slot.open || slot.lost) {
            return;
        }
        slot.acked = true;
        if slot.in_flight > 0 {
            self.decide(place, true);
        } else if slot.lost {
            // Late, not lost: the next ones get as much time.
            slot.lost = false;
            let late = now.since(slot.at).saturating_sub(self.stats.rtt.unwrap_or_default());
            self.reorder = self.reorder.max(late).min(REORDER_MAX);
            self.verdicts_out.push_back(Verdict { slot: place, arrived: true });
        }
    }

    fn judge(&mut self, now: Now, arrived: bool) {
        // What the path once did, it may have stopped doing.
        self.reorder = self.reorder * 127 / 128;
        if self.reorder < Duration::from_micros(100) {
            self.reorder = Duration::ZERO;
        }
        if !arrived {
            self.lost_at = Some(now);
            self.losing += 1;
        } else if self.losing > 0 {
            let run = core::mem::take(&mut self.losing) as f32;
            let mean = self.stats.loss_burst;
            self.stats.loss_burst = if mean == 0.0 { run } else { mean + (run - mean) / 8.0 };
        }
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
        flow.stamp(now, false, false, None, &mut packet);
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
    fn every_datagram_is_a_one_way_sample() {
        let (mut a, mut b) = (DatagramFlow::new(), DatagramFlow::new());
        for ms in [0, 16, 300_000] {
            let now = Now::from_millis(ms);
            let sent = packet(&mut a, now);
            let received = b.receive(now + Duration::from_millis(40), &sent).unwrap();
            assert_eq!(received.departure, Departure::at(now));
        }
    }

    #[test]
    fn a_duplicate_is_not_delivered() {
        let (mut a, mut b) = (DatagramFlow::new(), DatagramFlow::new());
        let first = packet(&mut a, Now::ZERO);
        let second = packet(&mut a, Now::ZERO);
        assert!(b.receive(Now::ZERO, &second).unwrap().blocks.is_some());
        assert!(b.receive(Now::ZERO, &first).unwrap().blocks.is_some());
        assert!(b.receive(Now::ZERO, &first).unwrap().blocks.is_none());
        assert!(b.receive(Now::ZERO, &second).unwrap().blocks.is_none());
        assert_eq!((b.stats().received, b.stats().duplicates), (2, 2));
    }

    #[test]
    fn a_datagram_older_than_the_window_is_not_delivered() {
        let (mut a, mut b) = (DatagramFlow::new(), DatagramFlow::new());
        let packets: Vec<_> = (0..35).map(|_| packet(&mut a, Now::ZERO)).collect();
        assert!(b.receive(Now::ZERO, &packets[34]).unwrap().blocks.is_some());
        assert!(
            b.receive(Now::ZERO, &packets[2]).unwrap().blocks.is_some(),
            "32 behind: in the window"
        );
        assert!(
            b.receive(Now::ZERO, &packets[1]).unwrap().blocks.is_none(),
            "33 behind: too old to tell"
        );
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
            clock: false,
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
            (a.next, a.undecided) = (Sequence(start), Sequence(start));
            let packets: Vec<_> = (0..200).map(|_| packet(&mut a, Now::ZERO)).collect();
            let mut delivered = [0; 200];
            for i in order {
                if b.receive(Now::ZERO, &packets[i]).unwrap().blocks.is_some() {
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
