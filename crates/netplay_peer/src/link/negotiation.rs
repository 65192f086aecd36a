//! From "this member exists" to "all data channels are open": offers, answers, candidates.
//!
//! Each *attempt* is a fresh connection with a number that both sides put on every signal. Every step
//! has a deadline; when it passes, whoever notices makes a fresh attempt with the next number. If
//! both do so at once (glare), the offer of the side with the lower peer id stands and the other
//! side drops its own and answers.
//!
//! Guaranteed: within [`LINK_DEADLINE`] of the start the negotiation is open or ended, whatever
//! signals arrive, are lost, or are forged; a stale signal changes nothing. Not guaranteed: that
//! signals arrive in order of sending from *different* members.
//!
//! | state | `Start` | offer | answer | described | phase | channels open | failed | deadline |
//! |---|---|---|---|---|---|---|---|---|
//! | `Idle` | offer, or wait | – | – | – | – | – | – | – |
//! | `Waiting` | – | answer | – | – | – | – | – | fresh attempt |
//! | `Describing` | – | by number, then glare rule | – | signal it | – | – | wait, then fresh | fresh attempt |
//! | `AwaitingAnswer` | – | by number, then glare rule | connect | – | – | – | wait, then fresh | fresh attempt |
//! | `Connecting` | – | newer: answer | – | – | next deadline | open | wait, then fresh | fresh attempt |
//! | `Open` | – | newer: answer | – | – | – | – | broken | – |
//! | `Ended` | – | – | – | – | – | – | – | – |
//!
//! The whole-link deadline ends every state but `Open`; `Close`, `GiveUp` and a remote `Bye` or `Lost`
//! end every state; a remote `Withdraw` is to an attempt that is not open what a failure is. A link that is open and gets into trouble runs a second negotiation beside the first.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::Now;
use netplay_protocol::limits::CANDIDATES_MAX;
use netplay_protocol::lobby::{Signal, SignalBody};

use super::driver::{ConnectionId, DriverCommand, DriverEvent, Phase};

/// From the start of a link to its end if it never opens. Long enough for four attempts.
pub const LINK_DEADLINE: Duration = Duration::from_secs(20);

/// A local description takes milliseconds; more means that the driver is in trouble.
const DESCRIBE: Duration = Duration::from_secs(2);
/// An answer is one exchange through the server; 3 s covers a slow start of the other game.
const ANSWER: Duration = Duration::from_secs(3);
/// The other side is expected to offer: its description and the way through the server.
const OFFER: Duration = Duration::from_secs(3);
/// ICE with host candidates takes milliseconds; with relays over slow paths about a second.
const CHECK: Duration = Duration::from_millis(2500);
/// A DTLS handshake is two round trips; a lost flight is repeated after a second.
const SECURE: Duration = Duration::from_millis(2000);
/// SCTP's handshake is two round trips; after a loss that it does not repeat, waiting is useless.
const OPEN: Duration = Duration::from_millis(1500);
/// The side that does not offer first waits this much longer, so that both do not retry at once.
const YIELD: Duration = Duration::from_millis(700);
/// After a failure that came at once, so that a broken driver is not retried in a hot loop.
const AFTER_FAILURE: Duration = Duration::from_millis(300);

/// Each later attempt gets half as much time again on every step: slow paths need it.
fn for_attempt(step: Duration, attempt: u32) -> Duration {
    step * (1 + attempt.clamp(1, 6)) / 2
}

/// Fresh offers that a member may send in the life of one link; more is an attack on our CPU.
const REMOTE_OFFERS_MAX: u32 = 32;

/// What the negotiation was waiting for when its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The other side's offer.
    Offer,
    /// Our own description.
    Description,
    /// The other side's answer.
    Answer,
    /// A path between the two (ICE).
    Path,
    /// Encryption (DTLS).
    Encryption,
    /// The data channels (SCTP).
    Channels,
    /// The game-level handshake.
    Handshake,
}

impl core::fmt::Display for Step {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Offer => "the other player's offer",
            Self::Description => "our own description",
            Self::Answer => "the other player's answer",
            Self::Path => "a network path",
            Self::Encryption => "encryption",
            Self::Channels => "data channels",
            Self::Handshake => "the handshake",
        })
    }
}

/// Which side of an attempt we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We made the offer.
    Offerer,
    /// We answer.
    Answerer,
}

/// Where the negotiation stands. States carry only what they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started.
    Idle,
    /// No connection; at `until` we make a fresh attempt ourselves.
    Waiting {
        /// Deadline.
        until: Now,
    },
    /// The driver makes our description.
    Describing {
        /// Offer or answer.
        role: Role,
        /// Deadline.
        until: Now,
    },
    /// Our offer is out.
    AwaitingAnswer {
        /// Deadline.
        until: Now,
    },
    /// Both descriptions are known.
    Connecting {
        /// How far the connection is.
        phase: Phase,
        /// Deadline.
        until: Now,
    },
    /// All channels are open.
    Open,
    /// Over.
    Ended,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Begin.
    Start,
    /// From the other member.
    Signal(Signal),
    /// From the driver.
    Driver(DriverEvent),
    /// The channels opened and yet the link is no use: make a fresh attempt.
    Retry,
    /// End it.
    Close,
    /// End it, because nothing was heard for too long.
    GiveUp,
    /// End it without a word: another negotiation of the link has taken its place.
    Discard,
    /// Time passed.
    Tick,
}

/// What the negotiation wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// For the driver.
    Driver(DriverCommand),
    /// For the other member, through the server.
    Signal(Signal),
    /// All channels are open.
    Opened,
    /// The open connection failed.
    Broken,
    /// The other member ended it.
    Bye,
    /// The other member has given it up.
    GivenUp,
    /// Time ran out while waiting for this.
    TimedOut(Step),
    /// The member sent more offers than any honest one.
    TooManyOffers,
}

/// The last numbers that were used with a member. A new link with the same member counts on from
/// there, so that what is still on its way from the one before is seen to be stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// The last attempt.
    pub attempt: u32,
    /// The driver's last connection.
    pub connection: ConnectionId,
}

/// The negotiation of one link.
#[derive(Debug)]
pub struct Negotiation {
    state: State,
    /// Whether our side offers first; also: whether our offer stands in a glare.
    offers_first: bool,
    started: Now,
    /// The number before our first attempt.
    before: u32,
    attempt: u32,
    /// Names the driver's current connection; events of an earlier one are ignored.
    connection: ConnectionId,
    connected: bool,
    role: Option<Role>,
    held_candidates: Vec<SignalBody>,
    remote_candidates: usize,
    remote_offers: u32,
    outputs: VecDeque<Output>,
}

impl Negotiation {
    /// A negotiation that has not started. Of two members, exactly one has `offers_first`.
    pub fn new(offers_first: bool, previous: Previous) -> Self {
        Self {
            state: State::Idle,
            offers_first,
            started: Now::ZERO,
            before: previous.attempt,
            attempt: previous.attempt,
            connection: previous.connection,
            connected: false,
            role: None,
            held_candidates: Vec::new(),
            remote_candidates: 0,
            remote_offers: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The number of the current attempt.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The numbers in use, for the next link with this member.
    pub const fn used(&self) -> Previous {
        Previous { attempt: self.attempt, connection: self.connection }
    }

    /// Our side of the current attempt; `None` before the first.
    pub const fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether our side offers first.
    pub const fn offers_first(&self) -> bool {
        self.offers_first
    }

    /// The driver's current connection.
    pub const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Starts without offering, whoever would offer first: the other side's offer is here already.
    pub fn wait_for_offer(&mut self, now: Now) {
        if self.state == State::Idle {
            self.started = now;
            self.state = State::Waiting { until: now + OFFER };
        }
    }

    /// Takes one input; then drain [`Self::poll_output`].
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Start => self.start(now),
            Input::Signal(signal) => self.signal(now, signal),
            Input::Driver(event) => self.driver(now, event),
            Input::Retry => self.retry(now),
            Input::Close => self.close(Some(SignalBody::Bye)),
            Input::Discard => self.close(None),
            Input::GiveUp => self.close(Some(SignalBody::Lost)),
            Input::Tick => self.tick(now),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to send the next [`Input::Tick`].
    pub fn next_deadline(&self) -> Option<Now> {
        match self.state {
            State::Waiting { until }
            | State::Describing { until, .. }
            | State::AwaitingAnswer { until }
            | State::Connecting { until, .. } => Some(until.min(self.started + LINK_DEADLINE)),
            State::Idle | State::Open | State::Ended => None,
        }
    }

    fn start(&mut self, now: Now) {
        if self.state != State::Idle {
            return;
        }
        self.started = now;
        // With a member that was met before, only one side may know that a link is wanted again; if
        // both do, the glare rule decides.
        if self.offers_first || self.attempt > 0 {
            self.fresh_attempt(now);
        } else {
            self.state = State::Waiting { until: now + OFFER };
        }
    }

    fn deadline(&self, now: Now, step: Duration) -> Now {
        let extra = if self.offers_first { Duration::ZERO } else { YIELD };
        now + for_attempt(step, self.attempt.saturating_sub(self.before)) + extra
    }

    /// Drops the current connection and offers on a new one.
    fn fresh_attempt(&mut self, now: Now) {
        self.drop_connection();
        self.attempt = self.attempt.saturating_add(1);
        self.describe(now, Role::Offerer);
        self.command(DriverCommand::Offer { connection: self.connection });
    }

    fn answer(&mut self, now: Now, attempt: u32, sdp: String) {
        self.remote_offers += 1;
        if self.remote_offers > REMOTE_OFFERS_MAX {
            self.close(None);
            self.outputs.push_back(Output::TooManyOffers);
            return;
        }
        self.drop_connection();
        self.attempt = attempt;
        self.describe(now, Role::Answerer);
        self.command(DriverCommand::Answer { connection: self.connection, sdp });
    }

    fn describe(&mut self, now: Now, role: Role) {
        self.connection = ConnectionId(self.connection.0.wrapping_add(1));
        self.connected = true;
        self.role = Some(role);
        self.held_candidates.clear();
        self.remote_candidates = 0;
        self.state = State::Describing { role, until: self.deadline(now, DESCRIBE) };
    }

    fn drop_connection(&mut self) {
        if core::mem::take(&mut self.connected) {
            self.command(DriverCommand::Drop { connection: self.connection });
        }
    }

    fn command(&mut self, command: DriverCommand) {
        self.outputs.push_back(Output::Driver(command));
    }

    fn send(&mut self, body: SignalBody) {
        self.outputs.push_back(Output::Signal(Signal { attempt: self.attempt, body }));
    }

    fn signal(&mut self, now: Now, signal: Signal) {
        if matches!(self.state, State::Idle | State::Ended) {
            return;
        }
        match signal.body {
            SignalBody::Offer { sdp } => {
                if self.takes_offer(signal.attempt) {
                    self.answer(now, signal.attempt, sdp);
                }
            }
            SignalBody::Answer { sdp } => {
                let waiting = matches!(self.state, State::AwaitingAnswer { .. });
                if waiting && signal.attempt == self.attempt {
                    self.command(DriverCommand::SetAnswer { connection: self.connection, sdp });
                    self.connecting(now, Phase::Checking);
                }
            }
            SignalBody::Candidate { .. } => {
                if signal.attempt == self.attempt && self.takes_candidates() {
                    self.remote_candidates += 1;
                    self.command(DriverCommand::AddCandidate {
                        connection: self.connection,
                        candidate: signal.body,
                    });
                }
            }
            SignalBody::Withdraw => {
                if self.connected && self.state != State::Open && signal.attempt == self.attempt {
                    self.wait(now);
                }
            }
            // The end of an earlier attempt says nothing about this one.
            SignalBody::Bye | SignalBody::Lost if signal.attempt < self.attempt => {}
            SignalBody::Bye => {
                self.close(None);
                self.outputs.push_back(Output::Bye);
            }
            SignalBody::Lost => {
                self.close(None);
                self.outputs.push_back(Output::GivenUp);
            }
        }
    }

    fn takes_offer(&self, attempt: u32) -> bool {
        let we_offer = matches!(
            self.state,
            State::Describing { role: Role::Offerer, .. } | State::AwaitingAnswer { .. }
        );
        attempt > self.attempt || (attempt == self.attempt && we_offer && !self.offers_first)
    }

    fn takes_candidates(&self) -> bool {
        let known = matches!(
            self.state,
            State::Describing { role: Role::Answerer, .. } | State::Connecting { .. } | State::Open
        );
        known && self.remote_candidates < CANDIDATES_MAX
    }

    fn connecting(&mut self, now: Now, phase: Phase) {
        let step = match phase {
            Phase::Checking => CHECK,
            Phase::Securing => SECURE,
            Phase::OpeningChannels => OPEN,
        };
        self.state = State::Connecting { phase, until: self.deadline(now, step) };
    }

    fn driver(&mut self, now: Now, event: DriverEvent) {
        if !self.connected || event.connection() != self.connection {
            return;
        }
        match (event, self.state) {
            (DriverEvent::Described { sdp, .. }, State::Describing { role, .. }) => {
                match role {
                    Role::Offerer => {
                        self.send(SignalBody::Offer { sdp });
                        let until = self.deadline(now, ANSWER);
                        self.state = State::AwaitingAnswer { until };
                    }
                    Role::Answerer => {
                        self.send(SignalBody::Answer { sdp });
                        self.connecting(now, Phase::Checking);
                    }
                }
                for body in core::mem::take(&mut self.held_candidates) {
                    self.send(body);
                }
            }
            // Before the description is out, the other side could not place a candidate.
            (DriverEvent::Candidate { candidate, .. }, State::Describing { .. }) => {
                if self.held_candidates.len() < CANDIDATES_MAX {
                    self.held_candidates.push(candidate);
                }
            }
            (DriverEvent::Candidate { candidate, .. }, _) => self.send(candidate),
            (DriverEvent::Progress { phase, .. }, State::Connecting { phase: before, .. }) => {
                if phase > before {
                    self.connecting(now, phase);
                }
            }
            (DriverEvent::ChannelsOpen { .. }, State::Connecting { .. }) => {
                self.state = State::Open;
                self.outputs.push_back(Output::Opened);
            }
            (DriverEvent::Failed { .. }, State::Open) => {
                self.close(None);
                self.outputs.push_back(Output::Broken);
            }
            (DriverEvent::Failed { .. }, _) => self.wait(now),
            (
                DriverEvent::Described { .. }
                | DriverEvent::Progress { .. }
                | DriverEvent::ChannelsOpen { .. },
                _,
            ) => {}
        }
    }

    /// The attempt came to nothing: waits a little for the other side's next offer.
    fn wait(&mut self, now: Now) {
        self.drop_connection();
        let until = self.deadline(now, AFTER_FAILURE);
        self.state = State::Waiting { until };
    }

    fn retry(&mut self, now: Now) {
        if self.state != State::Open {
            return;
        }
        if now.since(self.started) >= LINK_DEADLINE {
            self.close(Some(SignalBody::Bye));
            self.outputs.push_back(Output::TimedOut(Step::Handshake));
        } else {
            self.fresh_attempt(now);
        }
    }

    fn close(&mut self, last_word: Option<SignalBody>) {
        if self.state == State::Ended {
            return;
        }
        if let Some(word) = last_word.filter(|_| self.state != State::Idle) {
            self.send(word);
        }
        self.drop_connection();
        self.state = State::Ended;
    }

    fn tick(&mut self, now: Now) {
        let Some(deadline) = self.next_deadline() else {
            return;
        };
        if now < deadline {
            return;
        }
        if now < self.started + LINK_DEADLINE {
            self.fresh_attempt(now);
            return;
        }
        let step = match self.state {
            State::Describing { .. } => Step::Description,
            State::AwaitingAnswer { .. } => Step::Answer,
            State::Connecting { phase: Phase::Checking, .. } => Step::Path,
            State::Connecting { phase: Phase::Securing, .. } => Step::Encryption,
            State::Connecting { phase: Phase::OpeningChannels, .. } => Step::Channels,
            State::Idle | State::Waiting { .. } | State::Open | State::Ended => Step::Offer,
        };
        self.close(Some(SignalBody::Bye));
        self.outputs.push_back(Output::TimedOut(step));
    }
}

#[cfg(test)]
mod tests;
