//! Game traffic of one established link: lanes over datagrams, and channel 2.
//!
//! When datagrams leave:
//!
//! | what waits | leaves |
//! |---|---|
//! | inputs of a rollback session | with the game's flush, whatever the window says; a second time when they ask for it |
//! | new messages | with the game's flush, as many datagrams as the window allows |
//! | lost messages | with the next flush, or 20 ms after the last one; at once if the game does not flush |
//! | small messages that ride twice | with the next flush, or after 20 ms |
//! | what the window held back | with the next acknowledgement, or at the floor rate |
//! | an ack | with any datagram, or alone after 20 ms or 8 datagrams |
//! | where our copy of the mesh clock stands | with the first datagram after 100 ms |
//!
//! Datagrams begin on channel 1. If both sides have a media track, each probes it, and moves to it
//! once the other side has acknowledged a probe: so a path that carries no media costs nothing but
//! the probes.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::Now;
use netplay_protocol::block::{Inputs, read_inputs};
use netplay_protocol::control::Control;
use netplay_protocol::cursor::Reader;
use netplay_protocol::datagram::{CLOCK_NOTE_LEN, ClockLine, ClockNote, HEADER_LEN, Sequence};
use netplay_protocol::frame::Frames;
use netplay_protocol::lane::LaneTable;
use netplay_protocol::limits::{DATAGRAM_MAX, RELIABLE_WINDOW};

use super::datagrams::{DatagramFlow, Received};
use super::driver::Channel;
use super::io::{Delivery, InputBlock, LinkEvent, Packet};
use super::pace::Pace;
use super::stream::StreamFlow;
use crate::lanes::{Delivered, Lanes, Violation};
use crate::spare::Spare;

/// How long what is not urgent waits for the game's next flush: a tick at 60 Hz, and some.
const RIDE: Duration = Duration::from_millis(20);
/// A game that has flushed this recently will do so again.
const TICKING: Duration = Duration::from_millis(40);
/// How often a datagram tells where our copy of the mesh clock stands.
const CLOCK_EVERY: Duration = Duration::from_millis(100);
/// Packet buffers that are kept.
const BUFFERS_KEPT: usize = 64;

/// Probes of the media track before it is given up: two seconds.
const PROBES: usize = 40;
/// Between two of them, whatever else is sent: a game that is always busy needs the track the most.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// What is known of the media track.
#[derive(Clone, Copy, Debug)]
enum Media {
    /// One of the two has none, or it carries nothing.
    None,
    /// Bare headers go on it. The answer to one may come after later ones have left, so all are
    /// remembered.
    Probing { sent: usize, probes: [Sequence; PROBES], next: Now },
    /// It carries our datagrams.
    InUse,
}

#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) flow: DatagramFlow,
    pub(super) lanes: Lanes,
    pub(super) stream: StreamFlow,
    pace: Pace,
    buffers: Spare,
    unused: VecDeque<Vec<u8>>,
    /// Datagrams to be transmitted.
    out: VecDeque<(Channel, Packet)>,
    media: Media,
    /// Inputs that leave with the next flush.
    inputs: Option<InputBlock>,
    /// Inputs that leave once more, at this time.
    copy: Option<(Now, InputBlock)>,
    flushed: Option<Now>,
    /// When to look for something to send, whether the game flushes or not.
    send_by: Option<Now>,
    /// Whether the window holds something back.
    held: bool,
    /// Our copy of the mesh clock, once there is somebody who keeps it: it may be none.
    clock: Option<Option<ClockLine>>,
    /// When a datagram last told of it.
    clock_told: Option<Now>,
}

impl Traffic {
    pub(super) fn new(table: &LaneTable) -> Self {
        Self {
            flow: DatagramFlow::new(),
            lanes: Lanes::new(table),
            stream: StreamFlow::default(),
            pace: Pace::default(),
            buffers: Spare::new(BUFFERS_KEPT, DATAGRAM_MAX),
            unused: VecDeque::new(),
            out: VecDeque::new(),
            media: Media::None,
            inputs: None,
            copy: None,
            flushed: None,
            send_by: None,
            held: false,
            clock: None,
            clock_told: None,
        }
    }

    /// Our copy of the mesh clock; `None`: there is none.
    pub(super) fn set_clock(&mut self, line: Option<ClockLine>) {
        let had = self.clock.replace(line).flatten();
        if had.is_some() != line.is_some() {
            // News: the others may wait for it.
            self.clock_told = None;
        }
    }

    /// Puts a clock note behind the header, if one is due.
    fn put_clock(&mut self, now: Now, packet: &mut Vec<u8>) -> bool {
        let Some(line) = self.clock else { return false };
        // While we have none, the others wait for our word before they found one.
        let every = if line.is_some() { CLOCK_EVERY } else { CLOCK_EVERY / 5 };
        if self.clock_told.is_some_and(|at| now.since(at) < every) {
            return false;
        }
        self.clock_told = Some(now);
        let mut note = [0; CLOCK_NOTE_LEN];
        ClockNote::write(line.map(|line| line.show(now)).as_ref(), &mut note);
        packet.extend_from_slice(&note);
        true
    }

    /// The next datagram to transmit.
    pub(super) fn poll_datagram(&mut self) -> Option<(Channel, Packet)> {
        self.out.pop_front()
    }

    /// The next buffer that is not needed here.
    pub(super) fn poll_unused(&mut self) -> Option<Vec<u8>> {
        self.unused.pop_front()
    }

    /// Both sides have a media track.
    pub(super) fn offer_media(&mut self, now: Now) {
        self.media = Media::Probing { sent: 0, probes: [Sequence::default(); PROBES], next: now };
    }

    /// Another connection carries us: nothing is known of its path, and of its media track.
    pub(super) fn moved(&mut self, now: Now, media: bool) {
        self.pace = Pace::default();
        self.media = Media::None;
        if media {
            self.offer_media(now);
        }
    }

    /// What our game has consumed, as it was last announced.
    pub(super) const fn credit(&self) -> Control {
        Control::Credit { stream: self.stream.announced(), reliable: self.lanes.announced() }
    }

    /// What carries our datagrams.
    pub(super) const fn carrier(&self) -> Channel {
        if matches!(self.media, Media::InUse) { Channel::Media } else { Channel::Datagrams }
    }

    /// An empty buffer.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.take()
    }

    /// Takes a buffer back.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        self.unused.extend(self.buffers.give(buffer));
    }

    /// When to call [`Self::tick`].
    pub(super) fn next_deadline(&self) -> Option<Now> {
        let probe = match self.media {
            Media::Probing { next, .. } => Some(next),
            Media::None | Media::InUse => None,
        };
        [
            probe,
            self.copy.as_ref().map(|(at, _)| *at),
            self.send_by,
            self.flow.ack_deadline(),
            self.flow.loss_deadline(),
            self.lanes.next_expiry(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Queues messages; they leave with the next flush.
    pub(super) fn send(&mut self, now: Now, frames: Vec<u8>) {
        for frame in Frames::new(&frames).flatten() {
            // Counted by the lane.
            let _ = self.lanes.push(now, &frame);
        }
        self.recycle(frames);
    }

    /// Inputs for the next flush.
    pub(super) fn set_inputs(&mut self, inputs: InputBlock) {
        if let Some(superseded) = self.inputs.replace(inputs) {
            self.recycle(superseded.bytes);
        }
    }

    /// The game has said what it had to say.
    pub(super) fn flush(&mut self, now: Now) {
        self.flushed = Some(now);
        self.lanes.expire(now);
        if let Some(inputs) = self.inputs.take() {
            self.send_datagram(now, Some((&inputs, false)));
            let (copy, sent) = match inputs.again {
                Some(after) => (Some((now + after, inputs)), None),
                None => (None, Some(inputs)),
            };
            let superseded = core::mem::replace(&mut self.copy, copy).map(|(_, inputs)| inputs);
            for inputs in sent.into_iter().chain(superseded) {
                self.recycle(inputs.bytes);
            }
        }
        self.send_due(now);
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now: Now) {
        self.flow.tick(now);
        self.take_verdicts(now);
        self.probe(now);
        self.lanes.expire(now);
        if let Some((_, inputs)) = self.copy.take_if(|(at, _)| now >= *at) {
            self.send_datagram(now, Some((&inputs, true)));
            self.recycle(inputs.bytes);
        }
        if self.send_by.is_none() && self.lanes.is_due() {
            self.send_by = Some(self.next_ride(now));
        }
        if self.send_by.is_some_and(|by| now >= by) {
            if !self.lanes.is_due() && self.lanes.has_repeats() {
                self.send_datagram(now, None);
            }
            self.send_due(now);
        }
        if self.flow.ack_deadline().is_some_and(|deadline| now >= deadline) {
            self.send_bare(now, false);
        }
    }

    /// Sends a header without blocks.
    pub(super) fn send_bare(&mut self, now: Now, ping: bool) {
        self.send_bare_on(now, ping, self.carrier());
    }

    fn send_bare_on(&mut self, now: Now, ping: bool, channel: Channel) {
        if ping {
            self.flow.ping();
        }
        let mut packet = self.buffers.take();
        packet.resize(HEADER_LEN, 0);
        let packet = if self.put_clock(now, &mut packet) {
            self.flow.stamp(now, ping, true, None, &mut packet);
            Packet::Full(packet)
        } else {
            self.recycle(packet);
            let mut header = [0; HEADER_LEN];
            self.flow.stamp(now, ping, false, None, &mut header);
            Packet::Bare(header)
        };
        self.take_verdicts(now);
        self.out.push_back((channel, packet));
    }

    /// Tries the media track, if it is time.
    fn probe(&mut self, now: Now) {
        let sequence = self.flow.next();
        match &mut self.media {
            Media::Probing { next, .. } if now < *next => return,
            Media::Probing { sent, probes, next } if *sent < PROBES => {
                probes[*sent] = sequence;
                *sent += 1;
                *next = now + PROBE_EVERY;
            }
            Media::Probing { .. } => {
                self.media = Media::None;
                return;
            }
            Media::None | Media::InUse => return,
        }
        self.send_bare_on(now, false, Channel::Media);
    }

    /// Moves to the media track if the other side has heard us on it.
    fn choose_carrier(&mut self) {
        if let Media::Probing { sent, probes, .. } = &self.media
            && probes[..*sent].iter().any(|probe| self.flow.is_acked(*probe))
        {
            self.media = Media::InUse;
        }
    }

    fn send_due(&mut self, now: Now) {
        self.send_by = None;
        self.held = false;
        while self.lanes.is_due() {
            if !self.pace.may_send(now, self.flow.in_flight()) {
                self.held = true;
                self.send_by = Some(self.pace.next(now));
                return;
            }
            if !self.send_datagram(now, None) {
                break;
            }
        }
        if self.lanes.has_repeats() {
            self.send_by = Some(now + RIDE);
        }
    }

    /// Sends the inputs (and whether they are a second copy) and what waits. False if nothing does.
    fn send_datagram(&mut self, now: Now, inputs: Option<(&InputBlock, bool)>) -> bool {
        let slot = self.flow.next_slot();
        // The place may have held one that nobody had given up yet.
        self.take_verdicts(now);
        let mut packet = self.buffers.take();
        packet.resize(HEADER_LEN, 0);
        let told = self.clock_told;
        let clock = self.put_clock(now, &mut packet);
        if let Some((InputBlock { bytes, .. }, again)) = inputs {
            Inputs { again, bytes }.put(&mut packet);
        }
        let repeat = self.flow.is_lossy(now);
        if !self.lanes.fill(slot, &mut packet, DATAGRAM_MAX, repeat) && inputs.is_none() {
            self.clock_told = told;
            self.recycle(packet);
            return false;
        }
        // The window is used up and more waits: the sooner the ack, the sooner it goes on.
        let in_flight = self.flow.in_flight() + packet.len();
        let ask = in_flight >= self.pace.window() && self.lanes.is_due();
        let tick = inputs.map(|(inputs, _)| inputs.tick);
        self.flow.stamp(now, ask, clock, tick, &mut packet);
        self.pace.sent(packet.len());
        self.out.push_back((self.carrier(), Packet::Full(packet)));
        true
    }

    fn take_verdicts(&mut self, now: Now) {
        let mut lost = false;
        while let Some(verdict) = self.flow.poll_verdict() {
            self.pace.verdict(now, verdict.arrived, self.flow.stats().rtt_last);
            if verdict.arrived {
                self.lanes.arrived(verdict.slot);
            } else {
                self.lanes.lost(verdict.slot);
                lost = true;
            }
        }
        if lost && self.lanes.is_due() {
            let by = self.next_ride(now);
            self.send_by = Some(self.send_by.map_or(by, |earlier| earlier.min(by)));
        }
    }

    /// When to send what is not urgent: with the next flush if one is to be expected.
    fn next_ride(&self, now: Now) -> Now {
        let ticking = self.flushed.filter(|at| now.since(*at) < TICKING);
        ticking.map_or(now, |at| (at + RIDE).max(now))
    }

    /// Takes a datagram; what it brings for the game goes to `deliver`.
    pub(super) fn datagram(
        &mut self,
        now: Now,
        packet: &[u8],
        mut deliver: impl FnMut(LinkEvent),
    ) -> Result<Received, Violation> {
        if packet.len() > DATAGRAM_MAX {
            return Err(Violation::BLOCK);
        }
        let received = self.flow.receive(now, packet).map_err(|_| Violation::BLOCK)?;
        self.choose_carrier();
        self.take_verdicts(now);
        if let Some(mut blocks) = received.blocks {
            let mut reader = Reader::new(&packet[blocks..]);
            if let Some(inputs) = read_inputs(&mut reader).map_err(|_| Violation::BLOCK)? {
                let Some(tick) = received.tick else { return Err(Violation::BLOCK) };
                let (mut bytes, again) = (self.buffer(), inputs.again);
                bytes.extend_from_slice(inputs.bytes);
                deliver(LinkEvent::Inputs { tick, bytes, again });
                blocks = packet.len() - reader.rest().len();
            }
            let mut delivered =
                Delivered { lossy: self.buffer(), reliable: self.buffer(), cost: 0 };
            let result = self.lanes.receive(&packet[blocks..], &mut delivered);
            let Delivered { lossy, mut reliable, cost } = delivered;
            // A game that does not read keeps the messages, not the room around them.
            if self.lanes.unread() > RELIABLE_WINDOW / 2 {
                reliable.shrink_to_fit();
            }
            for (frames, reliable, cost) in [(lossy, false, 0), (reliable, true, cost)] {
                if frames.is_empty() {
                    self.recycle(frames);
                } else {
                    let (packet, offset, stream) = (frames, 0, false);
                    let arrived = now;
                    let delivery = Delivery { reliable, arrived, packet, offset, cost, stream };
                    deliver(LinkEvent::Deliver(delivery));
                }
            }
            result?;
        }
        // An ack has opened the window of bytes, or that of numbers.
        if self.held || (self.send_by.is_none() && self.lanes.is_due()) {
            self.send_due(now);
        }
        if received.ping || self.flow.ack_deadline().is_some_and(|deadline| now >= deadline) {
            self.send_bare(now, false);
        }
        Ok(received)
    }

    /// Our game has consumed so much in all; the credit to announce, if it is worth a message.
    pub(super) fn consumed(&mut self, stream: u64, reliable: u64) -> Option<Control> {
        let announces = [self.stream.consumed(stream), self.lanes.consumed(reliable)];
        announces.iter().any(Option::is_some).then(|| self.credit())
    }

    /// Takes the other side's credit.
    pub(super) fn credited(
        &mut self,
        now: Now,
        stream: u64,
        reliable: u64,
    ) -> Result<(), Violation> {
        if !self.stream.credit(stream) {
            return Err(Violation::CREDIT);
        }
        self.lanes.credited(reliable)?;
        if self.lanes.is_due() && self.send_by.is_none() {
            self.send_by = Some(now);
        }
        Ok(())
    }
}
