//! The life of one link to one other member.
//!
//! ```text
//! negotiation ──► handshake ──► established ──► ended
//!  (attempts)      (hello)      (datagrams,      (one typed reason,
//!                                stream,          reported once)
//!                                liveness)
//!                                  │  ▲
//!                                  ▼  │ another connection: negotiation, handshake
//!                                renewal
//! ```
//!
//! A link outlives its connection: see [`renewal`].
//!
//! Guaranteed: a started link is established or ended within [`LINK_DEADLINE`] plus the handshake's
//! deadline; it reports [`LinkEvent::Established`] at most once and [`LinkEvent::Closed`] exactly
//! once; after that it says nothing more. Game messages are delivered between the two only.
//! Not guaranteed: that reliable messages in flight at the end arrive.

pub mod datagrams;
pub mod driver;
pub mod handshake;
mod io;
pub mod liveness;
pub mod negotiation;
pub mod pace;
pub mod renewal;
pub mod stream;
mod traffic;

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::control::{ByeReason, Control, carriers};
use netplay_protocol::lobby::Signal;
use netplay_protocol::{Lane, LaneTable, Now};

use crate::lanes::{LaneStats, Violation};
use datagrams::PathStats;
use driver::{Channel, ConnectionId, DriverEvent};
use handshake::{HANDSHAKE, Handshake, Outcome, SAY_AGAIN};
pub use io::{
    ClockSample, CloseReason, Delivery, InputBlock, InterruptReason, LinkConfig, LinkEvent,
    LinkInput, LinkOutput, Packet,
};
use liveness::{Change, Liveness};
pub use negotiation::{LINK_DEADLINE, Previous, Step};
use negotiation::{Negotiation, Output as Negotiated, Role};
use renewal::{Arrived, Renewal};
use traffic::Traffic;

/// A datagram leaves at least this often: it carries acks, keeps NAT bindings and shows that we are
/// alive. It also bounds how long the WebRTC library may park the tail of a large burst.
const KEEP_ALIVE: Duration = Duration::from_millis(50);

/// A connection that was ended stays this long, so that the last control message gets out.
const LINGER: Duration = Duration::from_millis(500);

/// After a refusal longer: the other side has to learn the reason, and WebRTC repeats a lost message
/// after a second at the earliest.
const REFUSAL_LINGER: Duration = Duration::from_millis(2500);

#[derive(Debug)]
enum Phase {
    Negotiating,
    Greeting { handshake: Box<Handshake>, until: Now, again_at: Now },
    Established { liveness: Liveness, keep_alive_at: Now },
    Lingering { until: Now },
    Ended,
}

/// One link.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    phase: Phase,
    negotiation: Negotiation,
    traffic: Traffic,
    renewal: Renewal,
    /// The last numbers used in negotiations.
    used: Previous,
    /// Names this link among all that we make.
    number: u64,
    /// Since when the lobby server has no connection to the member.
    offline_since: Option<Now>,
    outputs: VecDeque<LinkOutput>,
}

impl Link {
    /// A link that has not started; see [`Negotiation::new`] for the arguments. `number` names it:
    /// never zero, and of no other link that this player ever makes.
    pub fn new(config: LinkConfig, offers_first: bool, previous: Previous, number: u64) -> Self {
        let traffic = Traffic::new(&config.lanes);
        Self {
            config,
            traffic,
            phase: Phase::Negotiating,
            negotiation: Negotiation::new(offers_first, previous),
            renewal: Renewal::default(),
            used: previous,
            number,
            offline_since: None,
            outputs: VecDeque::new(),
        }
    }

    /// Whether messages can be sent.
    pub const fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established { .. })
    }

    /// Whether the link is over and nothing is left to do for it.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended) && self.outputs.is_empty()
    }

    /// Whether the link is over for the game, though its last words may still be on their way.
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Lingering { .. } | Phase::Ended)
    }

    /// The numbers in use, for the next link with this member.
    pub const fn used(&self) -> Previous {
        self.used
    }

    /// How often it has moved to another connection.
    pub const fn moves(&self) -> u32 {
        self.renewal.moves
    }

    /// Whether a packet of channel 2 with `len` bytes may be sent now.
    pub const fn can_send_stream(&self, len: usize) -> bool {
        self.is_established() && self.traffic.stream.can_send(len)
    }

    /// How much has come of the bulk message that is being received: bytes, and bytes in all.
    pub fn bulk_progress(&self) -> Option<(usize, usize)> {
        self.traffic.stream.progress()
    }

    /// What the path looks like.
    pub const fn path(&self) -> PathStats {
        self.traffic.flow.stats()
    }

    /// What carries our datagrams: [`Channel::Datagrams`] or [`Channel::Media`].
    pub const fn carrier(&self) -> Channel {
        self.traffic.carrier()
    }

    /// The game's lanes.
    pub const fn lanes(&self) -> &LaneTable {
        &self.config.lanes
    }

    /// What a lane has done.
    pub fn lane_stats(&self, lane: Lane) -> LaneStats {
        self.traffic.lanes.stats(lane)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<LinkOutput> {
        self.outputs.pop_front()
    }

    /// When to send the next [`LinkInput::Tick`].
    pub fn next_deadline(&self) -> Option<Now> {
        match &self.phase {
            Phase::Negotiating => {
                let deadlines = [self.negotiation.next_deadline(), self.unreachable_at()];
                deadlines.into_iter().flatten().min()
            }
            Phase::Greeting { until, again_at, .. } => {
                let next = (*until).min(*again_at);
                Some(self.unreachable_at().map_or(next, |at| at.min(next)))
            }
            Phase::Lingering { until } => Some(*until),
            Phase::Established { liveness, keep_alive_at } => {
                let own = liveness.next_deadline().min(*keep_alive_at);
                let own = own.min(self.renewal.next_deadline(liveness));
                Some(self.traffic.next_deadline().map_or(own, |traffic| traffic.min(own)))
            }
            Phase::Ended => None,
        }
    }

    /// When a member that is not connected yet is given up because the server has lost it too.
    fn unreachable_at(&self) -> Option<Now> {
        let after = self.config.liveness.lost_after_offline;
        self.offline_since.map(|since| since + after)
    }

    /// Takes one input; then drain [`Self::poll_output`].
    pub fn handle(&mut self, now: Now, input: LinkInput) {
        if let Phase::Established { liveness, .. } = &mut self.phase
            && liveness.driven(now)
        {
            self.renewal.woke(now);
        }
        match input {
            LinkInput::Start => self.negotiate(now, negotiation::Input::Start),
            LinkInput::Signal(signal) => self.signal(now, signal),
            LinkInput::Driver(event) => self.driver(now, event),
            LinkInput::Packet { connection, channel, packet } => {
                self.packet(now, connection, channel, packet);
            }
            LinkInput::Send(frames) => self.traffic.send(now, frames),
            LinkInput::Inputs(inputs) => self.traffic.set_inputs(inputs),
            LinkInput::Flush => {
                if self.is_established() {
                    self.traffic.flush(now);
                }
            }
            LinkInput::Recycle(buffer) => self.traffic.recycle(buffer),
            LinkInput::SendStream(packet) => self.send_stream(packet),
            LinkInput::Ping => self.send_bare(now, true),
            LinkInput::Consumed { stream, reliable } => {
                if self.is_established()
                    && let Some(credit) = self.traffic.consumed(stream, reliable)
                {
                    self.send_control(&credit);
                }
            }
            LinkInput::Match(message) => self.say(Control::Start(message)),
            LinkInput::Pause(message) => self.say(Control::Pause(message)),
            LinkInput::Clock(line) => self.traffic.set_clock(line),
            LinkInput::NetworkChanged => self.network_changed(now),
            LinkInput::Offline(offline) => {
                self.offline_since = offline.then(|| self.offline_since.unwrap_or(now));
                if let Phase::Established { liveness, .. } = &mut self.phase {
                    liveness.set_offline(now, offline);
                }
            }
            LinkInput::Close(reason) => self.close(now, reason),
            LinkInput::Tick => self.tick(now),
        }
        self.drain(now);
    }

    /// Passes on what the traffic wants sent.
    fn drain(&mut self, now: Now) {
        while let Some((channel, packet)) = self.traffic.poll_datagram() {
            let probes = channel != self.traffic.carrier();
            if let Phase::Established { keep_alive_at, .. } = &mut self.phase {
                // Nobody knows whether a probe arrives.
                if !probes {
                    *keep_alive_at = now + KEEP_ALIVE;
                }
                self.transmit(channel, packet);
            }
        }
        while let Some(buffer) = self.traffic.poll_unused() {
            self.outputs.push_back(LinkOutput::Unused(buffer));
        }
    }

    /// Begins as the side that answers, whoever would offer first: an offer is here already.
    pub fn wait_for_offer(&mut self, now: Now) {
        self.negotiation.wait_for_offer(now);
    }

    /// Ends the link at once, without its last words; it reports nothing more.
    pub fn abandon(&mut self) {
        if !matches!(self.phase, Phase::Ended) {
            self.drop_connections(negotiation::Input::Close);
        }
    }

    fn signal(&mut self, now: Now, signal: Signal) {
        match self.phase {
            Phase::Lingering { .. } | Phase::Ended => {}
            Phase::Established { .. } => self.renewal_signal(now, signal),
            _ => self.negotiate(now, negotiation::Input::Signal(signal)),
        }
    }

    fn driver(&mut self, now: Now, event: DriverEvent) {
        let failed = matches!(event, DriverEvent::Failed { .. });
        let current = event.connection() == self.negotiation.connection();
        match self.phase {
            Phase::Lingering { .. } | Phase::Ended => {}
            Phase::Established { .. } => self.renewal_driver(now, event),
            Phase::Greeting { .. } if failed && current => self.retry(now),
            _ => self.negotiate(now, negotiation::Input::Driver(event)),
        }
    }

    fn retry(&mut self, now: Now) {
        self.phase = Phase::Negotiating;
        self.negotiate(now, negotiation::Input::Retry);
    }

    fn negotiate(&mut self, now: Now, input: negotiation::Input) {
        let attempt = self.negotiation.attempt();
        self.negotiation.handle(now, input);
        if !self.is_established() {
            self.used = self.negotiation.used();
        }
        if self.negotiation.attempt() != attempt && matches!(self.phase, Phase::Greeting { .. }) {
            self.phase = Phase::Negotiating;
        }
        while let Some(output) = self.negotiation.poll_output() {
            match output {
                Negotiated::Driver(command) => self.outputs.push_back(LinkOutput::Driver(command)),
                Negotiated::Signal(signal) => self.outputs.push_back(LinkOutput::Signal(signal)),
                Negotiated::Opened => self.greet(now),
                Negotiated::Broken | Negotiated::GivenUp => self.end(CloseReason::Lost),
                Negotiated::Bye => self.end(CloseReason::Left),
                Negotiated::TimedOut(step) => self.end(CloseReason::ConnectTimeout(step)),
                Negotiated::TooManyOffers => {
                    self.end(CloseReason::Violation("more offers than any honest player makes"));
                }
            }
        }
    }

    fn greet(&mut self, now: Now) {
        let mut hello = self.config.hello.clone();
        hello.link = self.point();
        let mut handshake = Box::new(Handshake::new(hello, self.config.schema.clone(), None));
        let speaks_first = self.negotiation.role() == Some(Role::Answerer);
        let hello = speaks_first.then(|| handshake.speak_first());
        self.phase =
            Phase::Greeting { handshake, until: now + HANDSHAKE, again_at: now + SAY_AGAIN };
        if let Some(hello) = hello {
            self.send_control(&hello);
        }
    }

    fn establish(&mut self, now: Now) {
        if let Phase::Greeting { handshake, .. } = &self.phase {
            self.renewal.theirs = handshake.their_link().ours;
            if handshake.both_have(carriers::RTP) {
                self.traffic.offer_media(now);
            }
        }
        let mut liveness = Liveness::new(self.config.liveness, now);
        liveness.set_offline(now, self.offline_since.is_some());
        self.phase = Phase::Established { liveness, keep_alive_at: now };
        self.outputs.push_back(LinkOutput::Event(LinkEvent::Established));
        // The first exchange of datagrams gives a round-trip time at once.
        self.send_bare(now, true);
    }

    fn packet(&mut self, now: Now, connection: ConnectionId, channel: Channel, packet: Vec<u8>) {
        let alive = matches!(self.phase, Phase::Greeting { .. } | Phase::Established { .. });
        let current = self.negotiation.connection();
        let counts = alive
            && match self.renewal.where_from(current, connection) {
                Arrived::Current => true,
                Arrived::Next => self.packet_on_next(now, channel, &packet),
                Arrived::Old => match channel {
                    Channel::Datagrams | Channel::Media => true,
                    Channel::Control => matches!(Control::read(&packet), Ok(Control::Bye(_))),
                    Channel::Stream => false,
                },
                Arrived::Nowhere => false,
            };
        if !counts {
            self.outputs.push_back(LinkOutput::Unused(packet));
            return;
        }
        if channel != Channel::Control
            && let Phase::Greeting { handshake, .. } = &mut self.phase
        {
            let outcome = handshake.game_packet();
            self.greeted(now, outcome);
            if !self.is_established() {
                // Before its hello: no honest player sends that.
                self.outputs.push_back(LinkOutput::Unused(packet));
                return;
            }
        }
        self.heard(now);
        match channel {
            Channel::Control => {
                match Control::read(&packet) {
                    Ok(message) => self.control(now, message),
                    Err(_) => self.violation(now, "a malformed control message"),
                }
                self.outputs.push_back(LinkOutput::Unused(packet));
            }
            Channel::Datagrams | Channel::Media => self.datagram(now, packet),
            Channel::Stream => self.stream_packet(now, packet),
        }
    }

    fn control(&mut self, now: Now, message: Control) {
        match (message, &mut self.phase) {
            (Control::Bye(_), _) => self.end(CloseReason::Left),
            (Control::Credit { stream, reliable }, Phase::Established { .. }) => {
                if let Err(Violation(what)) = self.traffic.credited(now, stream, reliable) {
                    self.violation(now, what);
                }
            }
            (Control::Start(message), Phase::Established { .. }) => {
                if self.renewal.hear() {
                    self.outputs.push_back(LinkOutput::Event(LinkEvent::Match(message)));
                }
            }
            (Control::Pause(message), Phase::Established { .. }) => {
                if self.renewal.hear() {
                    self.outputs.push_back(LinkOutput::Event(LinkEvent::Pause(message)));
                }
            }
            (message, Phase::Greeting { handshake, .. }) => {
                let (outcome, answers) = handshake.handle(message);
                for answer in &answers {
                    self.send_control(answer);
                }
                self.greeted(now, outcome);
            }
            // A game packet stood in for the accept, and overtook a hello that was said again.
            (Control::Accept, _) => {}
            (Control::Hello(hello), _) if hello.link.ours == self.renewal.theirs => {}
            _ => self.violation(now, "a handshake message after the handshake"),
        }
    }

    fn greeted(&mut self, now: Now, outcome: Outcome) {
        match outcome {
            Outcome::Pending => {}
            Outcome::Established => self.establish(now),
            Outcome::Refused(mismatch) => self.linger(now, CloseReason::Refused(mismatch)),
            Outcome::RefusedByPeer(text) => self.end(CloseReason::RefusedByPeer(text)),
            Outcome::LinkGone => self.end(CloseReason::Replaced),
            Outcome::Violation(what) => self.violation(now, what),
        }
    }

    fn datagram(&mut self, now: Now, packet: Vec<u8>) {
        let outputs = &mut self.outputs;
        let deliver = |event| outputs.push_back(LinkOutput::Event(event));
        match self.traffic.datagram(now, &packet, deliver) {
            Ok(received) => {
                if received.fresh {
                    self.outputs.push_back(LinkOutput::Clock(ClockSample {
                        arrived: now,
                        departure: received.departure,
                        echo: received.echo,
                        note: received.clock,
                    }));
                }
                let pong = received.pong.map(|rtt| LinkOutput::Event(LinkEvent::Pong(rtt)));
                self.outputs.extend(pong);
            }
            Err(Violation(what)) => self.violation(now, what),
        }
        self.traffic.recycle(packet);
    }

    fn stream_packet(&mut self, now: Now, packet: Vec<u8>) {
        if !self.renewal.takes_reliable() {
            self.outputs.push_back(LinkOutput::Unused(packet));
            return;
        }
        match self.traffic.stream.receive(packet) {
            Ok(None) => {}
            Ok(Some(complete)) => {
                self.outputs.push_back(LinkOutput::Event(LinkEvent::Deliver(Delivery {
                    reliable: true,
                    arrived: now,
                    packet: complete.packet,
                    offset: complete.offset,
                    cost: complete.cost,
                    stream: true,
                })));
            }
            Err(stream::StreamError::Overrun) => self.violation(now, "more than its credit"),
            Err(_) => self.violation(now, "a malformed packet on the reliable channel"),
        }
    }

    fn send_bare(&mut self, now: Now, ping: bool) {
        if self.is_established() {
            self.traffic.send_bare(now, ping);
            self.drain(now);
        }
    }

    fn send_stream(&mut self, packet: Vec<u8>) {
        if self.is_established() {
            self.traffic.stream.note_sent(&packet);
            self.transmit(Channel::Stream, Packet::Full(packet));
        } else {
            self.outputs.push_back(LinkOutput::Unused(packet));
        }
    }

    fn send_control(&mut self, message: &Control) {
        let mut packet = self.traffic.buffer();
        message.write(&mut packet);
        self.transmit(Channel::Control, Packet::Full(packet));
    }

    fn transmit(&mut self, channel: Channel, packet: Packet) {
        let connection = self.negotiation.connection();
        self.outputs.push_back(LinkOutput::Transmit { connection, channel, packet });
    }

    fn tick(&mut self, now: Now) {
        let connecting = matches!(self.phase, Phase::Negotiating | Phase::Greeting { .. });
        if connecting && self.unreachable_at().is_some_and(|at| now >= at) {
            return self.end(CloseReason::Lost);
        }
        match &mut self.phase {
            Phase::Negotiating => self.negotiate(now, negotiation::Input::Tick),
            Phase::Greeting { handshake, until, again_at } => {
                if now >= *until {
                    self.retry(now);
                } else if now >= *again_at {
                    *again_at = now + SAY_AGAIN;
                    if let Some(hello) = handshake.unanswered() {
                        self.send_control(&hello);
                    }
                }
            }
            Phase::Established { liveness, keep_alive_at } => {
                let change = liveness.tick(now);
                let keep_alive = now >= *keep_alive_at;
                match change {
                    Some(Change::Lost) => return self.end(CloseReason::Lost),
                    Some(Change::Interrupted) => self.interrupted(now),
                    Some(Change::Resumed) | None => {}
                }
                self.tick_renewal(now);
                self.traffic.tick(now);
                self.drain(now);
                if keep_alive && self.keep_alive_is_due(now) {
                    self.send_bare(now, false);
                }
            }
            Phase::Lingering { until } => {
                if now >= *until {
                    self.drop_connections(negotiation::Input::Close);
                }
            }
            Phase::Ended => {}
        }
    }

    /// Whether nothing was sent meanwhile that keeps the link alive as well.
    fn keep_alive_is_due(&self, now: Now) -> bool {
        matches!(self.phase, Phase::Established { keep_alive_at, .. } if now >= keep_alive_at)
    }

    fn violation(&mut self, now: Now, what: &'static str) {
        self.send_control(&Control::Bye(ByeReason::Violation));
        self.linger(now, CloseReason::Violation(what));
    }

    fn close(&mut self, now: Now, reason: CloseReason) {
        match self.phase {
            Phase::Lingering { .. } | Phase::Ended => {}
            Phase::Established { .. } => {
                self.send_control(&Control::Bye(ByeReason::Left));
                self.linger(now, reason);
            }
            Phase::Negotiating | Phase::Greeting { .. } => self.end(reason),
        }
    }

    /// Reports the end; the connection stays a little so that the last message gets out.
    fn linger(&mut self, now: Now, reason: CloseReason) {
        let refused = matches!(reason, CloseReason::Refused(_));
        let linger = if refused { REFUSAL_LINGER } else { LINGER };
        self.outputs.push_back(LinkOutput::Event(LinkEvent::Closed(reason)));
        self.phase = Phase::Lingering { until: now + linger };
    }

    fn end(&mut self, reason: CloseReason) {
        let last_word = match reason {
            CloseReason::Lost => negotiation::Input::GiveUp,
            // The other side knows, or hears of the next link at once.
            CloseReason::Left | CloseReason::Replaced => negotiation::Input::Discard,
            _ => negotiation::Input::Close,
        };
        self.outputs.push_back(LinkOutput::Event(LinkEvent::Closed(reason)));
        self.drop_connections(last_word);
    }

    fn drop_connections(&mut self, last_word: negotiation::Input) {
        self.phase = Phase::Ended;
        self.drop_others();
        self.negotiation.handle(Now::ZERO, last_word);
        while let Some(output) = self.negotiation.poll_output() {
            let attempt = self.used.attempt;
            self.outputs.push_back(match output {
                Negotiated::Driver(command) => LinkOutput::Driver(command),
                // Whichever connection the other side is on by now.
                Negotiated::Signal(Signal { body, .. }) => {
                    LinkOutput::Signal(Signal { attempt, body })
                }
                _ => continue,
            });
        }
    }
}
