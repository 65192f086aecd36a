//! Another connection for a link that lives on.
//!
//! | what happens | what the link does |
//! |---|---|
//! | nothing heard for [`SUSPECT`]; the connection failed; the network changed; the other side offers | negotiates another connection, beside the one in use |
//! | heard again within [`STALE`] | stays, and withdraws the offer |
//! | we did not run, and several offers of the other side waited | answers the newest |
//! | the other connection opens | says hello on it: which link this is, and what it has received |
//! | hello accepted on both sides | moves: sends again what the other side lacks, and drops the old connection a little later |
//! | no connection in time | tries again after a pause, which doubles if it was only silence |
//! | the other side says through the lobby that it has ended the link | takes what still comes, and ends with the first silence |
//!
//! Datagrams are numbered by the link and count wherever they arrive. What rides reliably on a
//! connection does so again on the next one from where the other side's hello says, so nothing of it
//! is taken from the old one once our hello is out.
//!
//! Why not an ICE restart: it would need the same exchange through the lobby, drops the old path before the
//! new one is known, and keeps the SCTP association, whose retransmission timer doubles from one second.
//! With `webrtc` 0.21.1, after 2, 5 and 10 s without a path, both data channels came back 1 to 2, 2 to 4
//! and 5 to 8 s after the path did, with a restart or without (12 to 24 runs each). A new connection
//! carried them after 35 ms at the most; media packets have no such timer and were back within 30 ms
//! either way.
//!
//! Guaranteed: no reliable message is lost, doubled or reordered by a move; one negotiation at a time.
//! Not guaranteed: that datagrams under way survive; lanes repair that.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::Now;
use netplay_protocol::control::{Control, LinkPoint, carriers};
use netplay_protocol::lobby::{Signal, SignalBody};

use super::driver::{Channel, ConnectionId, DriverEvent};
use super::handshake::{HANDSHAKE, Handshake, Outcome, SAY_AGAIN};
use super::io::{CloseReason, InterruptReason, LinkEvent, LinkOutput, Packet};
use super::liveness::{Change, Liveness};
use super::negotiation::{self, Negotiation, Output as Negotiated, Role};
use super::{LINGER, Link, Phase};
use woken::Woken;

mod woken;

/// Silence after which another connection is tried: fourteen keep-alives. Sooner than the game is told,
/// because trying costs little.
pub const SUSPECT: Duration = Duration::from_millis(700);
/// After a silence this long the connection in use is given up even if it is heard again: SCTP waits
/// longer after each try, so its channels would stay silent for nearly as long as the path was (0.4 to 1.0
/// of it, measured).
pub const STALE: Duration = Duration::from_secs(2);
/// Between two renewals of our own. Before one because of silence it is doubled after each that came to
/// nothing: a path that comes and goes gives many for which there was no need.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// After so long without a renewal the pause is the first again.
const CALM: Duration = Duration::from_secs(10);
/// The other side's offers that begin a renewal: so many at once, and one a second. More is an attack on
/// our CPU.
const THEIRS_BURST: u32 = 8;
/// Messages about matches that are kept for another connection. A start takes about ten.
const SAID_KEPT: usize = 64;

/// Why another connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Silence,
    Broken,
    Network,
    Theirs,
}

/// A connection that is being made.
#[derive(Debug)]
struct Attempt {
    negotiation: Negotiation,
    cause: Cause,
    /// The longest silence while it is made.
    silence: Duration,
    greeting: Option<Greeting>,
}

#[derive(Debug)]
struct Greeting {
    handshake: Handshake,
    until: Now,
    again_at: Now,
}

/// On which connection a packet arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// The one in use.
    Current,
    /// The one that is being made.
    Next,
    /// The one that was in use before.
    Old,
    /// None that we know.
    Nowhere,
}

/// What a link knows of its other connections.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    attempt: Option<Box<Attempt>>,
    /// The connection before, until it is dropped.
    old: Option<(Box<Negotiation>, Now)>,
    /// The connection in use carries nothing any more.
    broken: bool,
    /// The other side was told what we have received: what rides reliably on the connection in use
    /// comes again.
    told: bool,
    /// The other side has ended the link; what it said before may still be under way.
    left: bool,
    woken: Woken,
    failures: u32,
    /// Offers that the other side has made, in a bucket that leaks one a second.
    their_offers: u32,
    their_last: Now,
    last: Option<Now>,
    /// No renewal because of silence before then.
    not_before: Now,
    /// None for which there is a need: never later.
    needed_not_before: Now,
    /// Moves to another connection.
    pub(super) moves: u32,
    /// The number of the other side's link.
    pub(super) theirs: u64,
    /// Messages about matches that we have heard.
    heard: u32,
    /// Those that we have said, the newest with this number.
    said: VecDeque<Control>,
    said_count: u32,
}

impl Renewal {
    /// When to call [`Link::tick_renewal`], while the link is established.
    pub(super) fn next_deadline(&self, liveness: &Liveness) -> Now {
        let own = match &self.attempt {
            Some(attempt) => match &attempt.greeting {
                Some(greeting) => Some(greeting.until.min(greeting.again_at)),
                None => attempt.negotiation.next_deadline(),
            },
            None => Some(self.suspect_at(liveness)),
        };
        let old = self.old.as_ref().map(|(_, until)| *until);
        own.into_iter()
            .chain(old)
            .chain(self.woken.next_deadline())
            .min()
            .unwrap_or_else(|| self.suspect_at(liveness))
    }

    fn suspect_at(&self, liveness: &Liveness) -> Now {
        if self.left {
            liveness.heard_at() + SUSPECT
        } else if self.broken || self.told {
            self.needed_not_before
        } else {
            self.not_before.max(liveness.heard_at() + SUSPECT)
        }
    }

    /// We did not run for a while.
    pub(super) fn woke(&mut self, now: Now) {
        self.woken.woke(now);
    }

    /// Notes a message about a match that we say.
    pub(super) fn say(&mut self, message: &Control) {
        if self.said.len() == SAID_KEPT {
            self.said.pop_front();
        }
        self.said.push_back(message.clone());
        self.said_count = self.said_count.wrapping_add(1);
    }

    /// Notes one that we hear; false if it comes again on another connection.
    pub(super) fn hear(&mut self) -> bool {
        if self.told {
            return false;
        }
        self.heard = self.heard.wrapping_add(1);
        true
    }

    /// Whether what rides reliably on the connection in use still counts.
    pub(super) const fn takes_reliable(&self) -> bool {
        !self.told
    }

    pub(super) fn where_from(&self, current: ConnectionId, connection: ConnectionId) -> Arrived {
        let is = |negotiation: &Negotiation| negotiation.connection() == connection;
        if connection == current {
            Arrived::Current
        } else if self.attempt.as_ref().is_some_and(|attempt| is(&attempt.negotiation)) {
            Arrived::Next
        } else if self.old.as_ref().is_some_and(|(old, _)| is(old)) {
            Arrived::Old
        } else {
            Arrived::Nowhere
        }
    }

    /// Whether the other side does not offer too often.
    fn takes_offer(&mut self, now: Now) -> bool {
        let leaked = now.since(self.their_last).as_secs();
        if leaked > 0 {
            self.their_last = now;
            self.their_offers =
                self.their_offers.saturating_sub(u32::try_from(leaked).unwrap_or(u32::MAX));
        }
        self.their_offers += 1;
        self.their_offers <= THEIRS_BURST
    }

    /// It came to nothing.
    fn failed(&mut self, now: Now) {
        self.attempt = None;
        self.needed_not_before = now + PAUSE;
        self.not_before = now + (PAUSE * 2_u32.saturating_pow(self.failures)).min(PAUSE_MAX);
        self.failures = (self.failures + 1).min(8);
    }
}

impl Link {
    /// For which link a connection is, in our hello.
    pub(super) fn point(&self) -> LinkPoint {
        LinkPoint {
            ours: self.number,
            theirs: self.renewal.theirs,
            stream: self.traffic.stream.received(),
            control: self.renewal.heard,
        }
    }

    /// Says something about a match.
    pub(super) fn say(&mut self, message: Control) {
        if self.is_established() {
            self.renewal.say(&message);
            self.send_control(&message);
        }
    }

    /// The network changed: the path that the connection takes may be gone.
    pub(super) fn network_changed(&mut self, now: Now) {
        if self.is_established() && !self.renewal.left && self.renewal.attempt.is_none() {
            self.renewal.not_before = self.renewal.needed_not_before;
            if now >= self.renewal.not_before {
                self.renew(now, Cause::Network);
            }
        }
    }

    /// Whether the other side has ended the link, though we may still hear it.
    pub(crate) const fn was_left(&self) -> bool {
        self.renewal.left
    }

    /// The other side says so through the lobby, half a second after it said so on the path.
    fn left(&mut self, now: Now) {
        let Phase::Established { liveness, .. } = &self.phase else { return };
        let silent = liveness.silence(now) >= SUSPECT;
        self.renewal.left = true;
        self.drop_attempt();
        if silent || self.renewal.broken {
            self.end(CloseReason::Left);
        }
    }

    fn renew(&mut self, now: Now, cause: Cause) {
        let calm = self.renewal.last.is_none_or(|last| now.since(last) >= CALM);
        if calm {
            self.renewal.failures = 0;
        }
        self.renewal.last = Some(now);
        let mut negotiation = Negotiation::new(self.negotiation.offers_first(), self.used);
        if cause == Cause::Theirs {
            negotiation.wait_for_offer(now);
        }
        self.renewal.attempt =
            Some(Box::new(Attempt { negotiation, cause, silence: Duration::ZERO, greeting: None }));
        if cause != Cause::Theirs {
            self.negotiate_renewal(now, negotiation::Input::Start);
        }
    }

    /// A signal for an established link.
    pub(super) fn renewal_signal(&mut self, now: Now, signal: Signal) {
        let Some(signal) = self.renewal.woken.hold(now, signal) else { return };
        let current = self.negotiation.attempt();
        match signal.body {
            SignalBody::Lost if signal.attempt >= current => self.end(CloseReason::Lost),
            SignalBody::Bye if signal.attempt >= current => self.left(now),
            SignalBody::Candidate { .. } if signal.attempt == current => {
                self.negotiate(now, negotiation::Input::Signal(signal));
            }
            _ if signal.attempt <= current || self.renewal.left => {}
            SignalBody::Withdraw => {
                let attempt = self.renewal.attempt.as_ref();
                if attempt.is_some_and(|own| own.negotiation.attempt() <= signal.attempt) {
                    self.drop_attempt();
                    self.renewal.failed(now);
                }
            }
            SignalBody::Offer { .. } if self.renewal.attempt.is_none() => {
                if self.renewal.takes_offer(now) {
                    // The number may be one that we have used for an attempt which it never heard of.
                    self.used.attempt = signal.attempt - 1;
                    self.renew(now, Cause::Theirs);
                    self.negotiate_renewal(now, negotiation::Input::Signal(signal));
                }
            }
            _ => self.negotiate_renewal(now, negotiation::Input::Signal(signal)),
        }
    }

    /// From the driver, for an established link.
    pub(super) fn renewal_driver(&mut self, now: Now, event: DriverEvent) {
        let failed = matches!(event, DriverEvent::Failed { .. });
        match self.renewal.where_from(self.negotiation.connection(), event.connection()) {
            Arrived::Current if failed && self.renewal.left => self.end(CloseReason::Left),
            Arrived::Current if failed => {
                self.renewal.broken = true;
                if self.renewal.attempt.is_none() && now >= self.renewal.needed_not_before {
                    self.renew(now, Cause::Broken);
                }
            }
            Arrived::Current => self.negotiate(now, negotiation::Input::Driver(event)),
            Arrived::Next if failed && self.is_greeting_again() => self.retry_renewal(now),
            Arrived::Next => self.negotiate_renewal(now, negotiation::Input::Driver(event)),
            Arrived::Old | Arrived::Nowhere => {}
        }
    }

    fn is_greeting_again(&self) -> bool {
        self.renewal.attempt.as_ref().is_some_and(|attempt| attempt.greeting.is_some())
    }

    fn retry_renewal(&mut self, now: Now) {
        if let Some(attempt) = &mut self.renewal.attempt {
            attempt.greeting = None;
        }
        self.negotiate_renewal(now, negotiation::Input::Retry);
    }

    fn negotiate_renewal(&mut self, now: Now, input: negotiation::Input) {
        let Some(attempt) = &mut self.renewal.attempt else { return };
        let before = attempt.negotiation.attempt();
        attempt.negotiation.handle(now, input);
        self.used = attempt.negotiation.used();
        if self.used.attempt != before {
            attempt.greeting = None;
        }
        while let Some(output) =
            self.renewal.attempt.as_mut().and_then(|attempt| attempt.negotiation.poll_output())
        {
            match output {
                Negotiated::Driver(command) => self.outputs.push_back(LinkOutput::Driver(command)),
                Negotiated::Signal(Signal { attempt, body }) => {
                    // The link lives on.
                    let ends = body == SignalBody::Bye;
                    let body = if ends { SignalBody::Withdraw } else { body };
                    self.outputs.push_back(LinkOutput::Signal(Signal { attempt, body }));
                }
                Negotiated::Opened => self.greet_again(now),
                Negotiated::Broken
                | Negotiated::Bye
                | Negotiated::GivenUp
                | Negotiated::TimedOut(_) => self.renewal.failed(now),
                Negotiated::TooManyOffers => {
                    self.violation(now, "more offers than any honest player makes");
                }
            }
        }
    }

    fn greet_again(&mut self, now: Now) {
        let mut hello = self.config.hello.clone();
        hello.link = self.point();
        let schema = self.config.schema.clone();
        let Some(attempt) = &mut self.renewal.attempt else { return };
        let mut handshake = Handshake::new(hello, schema, Some(self.renewal.theirs));
        let speaks_first = attempt.negotiation.role() == Some(Role::Answerer);
        let hello = speaks_first.then(|| handshake.speak_first());
        let (until, again_at) = (now + HANDSHAKE, now + SAY_AGAIN);
        attempt.greeting = Some(Greeting { handshake, until, again_at });
        self.renewal.told |= speaks_first;
        if let Some(hello) = hello {
            self.say_on_next(&hello);
        }
    }

    /// Says something on the connection that is being made.
    fn say_on_next(&mut self, message: &Control) {
        let Some(attempt) = &self.renewal.attempt else { return };
        let connection = attempt.negotiation.connection();
        let mut packet = self.traffic.buffer();
        message.write(&mut packet);
        let packet = Packet::Full(packet);
        let channel = Channel::Control;
        self.outputs.push_back(LinkOutput::Transmit { connection, channel, packet });
    }

    /// A packet on the connection that is being made; false if the link has not moved to it by that.
    pub(super) fn packet_on_next(&mut self, now: Now, channel: Channel, packet: &[u8]) -> bool {
        let point = self.point();
        let Some(greeting) =
            self.renewal.attempt.as_mut().and_then(|attempt| attempt.greeting.as_mut())
        else {
            return false;
        };
        let outcome = if channel == Channel::Control {
            let Ok(message) = Control::read(packet) else {
                self.violation(now, "a malformed control message");
                return false;
            };
            // What has come since the channels opened is in it too.
            greeting.handshake.set_link(point);
            let (outcome, answers) = greeting.handshake.handle(message);
            self.renewal.told |= greeting.handshake.has_spoken();
            for answer in &answers {
                self.say_on_next(answer);
            }
            outcome
        } else {
            greeting.handshake.game_packet()
        };
        match outcome {
            Outcome::Pending => false,
            Outcome::Established => {
                self.move_over(now);
                channel != Channel::Control
            }
            Outcome::LinkGone => {
                self.end(CloseReason::Replaced);
                false
            }
            Outcome::Refused(mismatch) => {
                self.linger(now, CloseReason::Refused(mismatch));
                false
            }
            Outcome::RefusedByPeer(text) => {
                self.end(CloseReason::RefusedByPeer(text));
                false
            }
            Outcome::Violation(what) => {
                self.violation(now, what);
                false
            }
        }
    }

    /// The link goes on with the other connection.
    fn move_over(&mut self, now: Now) {
        let Some(attempt) = self.renewal.attempt.take() else { return };
        let Attempt { negotiation, greeting, .. } = *attempt;
        let Some(Greeting { handshake, .. }) = greeting else { return };
        let old = core::mem::replace(&mut self.negotiation, negotiation);
        self.drop_old();
        self.renewal.old = Some((Box::new(old), now + LINGER));
        self.renewal.broken = false;
        self.renewal.told = false;
        self.renewal.moves += 1;
        self.renewal.failures = 0;
        self.renewal.last = Some(now);
        self.renewal.not_before = now + PAUSE;
        self.renewal.needed_not_before = now + PAUSE;
        self.traffic.moved(now, handshake.both_have(carriers::RTP));
        self.heard(now);
        self.say_again(now, handshake.their_link());
    }

    /// Sends again what the other side has not received on the connection before.
    fn say_again(&mut self, now: Now, point: LinkPoint) {
        let lacks = self.renewal.said_count.wrapping_sub(point.control) as usize;
        let skip = self.renewal.said.len().saturating_sub(lacks);
        let said: Vec<_> = self.renewal.said.iter().skip(skip).cloned().collect();
        said.iter().for_each(|message| self.send_control(message));
        let credit = self.traffic.credit();
        self.send_control(&credit);
        let Some(packets) = self.traffic.stream.after(point.stream) else {
            return self.violation(now, "it has received what was never sent");
        };
        let connection = self.negotiation.connection();
        for packet in packets {
            let packet = Packet::Full(packet.to_vec());
            let channel = Channel::Stream;
            self.outputs.push_back(LinkOutput::Transmit { connection, channel, packet });
        }
        self.send_bare(now, true);
    }

    /// The other side was heard on a connection that is in use.
    pub(super) fn heard(&mut self, now: Now) {
        let Phase::Established { liveness, .. } = &mut self.phase else { return };
        let silence = liveness.silence(now);
        if liveness.heard(now) == Some(Change::Resumed) {
            self.outputs.push_back(LinkOutput::Event(LinkEvent::Resumed { silence }));
        }
        let needless = self.renewal.attempt.as_mut().is_some_and(|attempt| {
            attempt.silence = attempt.silence.max(silence);
            attempt.cause == Cause::Silence && attempt.silence < STALE
        });
        if needless && !self.renewal.told {
            self.negotiate_renewal(now, negotiation::Input::Close);
            self.renewal.failed(now);
        }
    }

    /// Nothing was heard for a while.
    pub(super) fn interrupted(&mut self, now: Now) {
        let Phase::Established { liveness, .. } = &self.phase else { return };
        let silence = liveness.silence(now);
        let reason = if self.offline_since.is_some() {
            InterruptReason::Offline
        } else if self.renewal.broken {
            InterruptReason::ConnectionFailed
        } else {
            InterruptReason::Silence
        };
        let event = LinkEvent::Interrupted { reason, silence };
        self.outputs.push_back(LinkOutput::Event(event));
    }

    /// Time passed, for an established link.
    pub(super) fn tick_renewal(&mut self, now: Now) {
        if self.renewal.old.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.drop_old();
        }
        for signal in self.renewal.woken.release(now) {
            self.signal(now, signal);
        }
        let Phase::Established { liveness, .. } = &self.phase else { return };
        let suspect_at = self.renewal.suspect_at(liveness);
        match &mut self.renewal.attempt {
            Some(attempt) => match &mut attempt.greeting {
                Some(greeting) if now >= greeting.until => self.retry_renewal(now),
                Some(greeting) if now >= greeting.again_at => {
                    greeting.again_at = now + SAY_AGAIN;
                    if let Some(hello) = greeting.handshake.unanswered() {
                        self.say_on_next(&hello);
                    }
                }
                Some(_) => {}
                None => self.negotiate_renewal(now, negotiation::Input::Tick),
            },
            None if now >= suspect_at && self.renewal.left => self.end(CloseReason::Left),
            None if now >= suspect_at => {
                let broken = self.renewal.broken || self.renewal.told;
                self.renew(now, if broken { Cause::Broken } else { Cause::Silence });
            }
            None => {}
        }
    }

    /// Drops the connection that was in use before.
    fn drop_old(&mut self) {
        if let Some((mut old, _)) = self.renewal.old.take() {
            self.discard(&mut old);
        }
    }

    fn discard(&mut self, negotiation: &mut Negotiation) {
        negotiation.handle(Now::ZERO, negotiation::Input::Discard);
        while let Some(output) = negotiation.poll_output() {
            if let Negotiated::Driver(command) = output {
                self.outputs.push_back(LinkOutput::Driver(command));
            }
        }
    }

    /// Drops all connections but the one in use.
    pub(super) fn drop_others(&mut self) {
        self.drop_old();
        self.drop_attempt();
    }

    fn drop_attempt(&mut self) {
        if let Some(mut attempt) = self.renewal.attempt.take() {
            self.discard(&mut attempt.negotiation);
        }
    }
}

#[cfg(test)]
mod tests;
