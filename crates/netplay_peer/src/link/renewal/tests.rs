//! The whole transition table of a link that is established and gets, or makes, another connection.
//!
//! The connection in use is called `now`, the one that is being made `next`, the one in use before `old`.

use core::fmt::Write;
use std::collections::BTreeSet;

use netplay_protocol::control::{ByeReason, Hello, Pause, PauseMessage, lane_entries};
use netplay_protocol::datagram::HEADER_LEN;
use netplay_protocol::schema::Schema;
use netplay_protocol::stream::start_whole;
use netplay_protocol::{BuildId, GameId, LaneTable, MeshTime, PROTOCOL_VERSION};

use super::negotiation::{LINK_DEADLINE, Previous, State};
use super::*;
use crate::link::driver::{DriverCommand, Phase as Step};
use crate::link::liveness::LivenessConfig;
use crate::link::{LinkConfig, LinkInput};

const OURS: u64 = 1;
const THEIRS: u64 = 2;
/// No connection has this name.
const NOWHERE: ConnectionId = ConnectionId(99);
/// Longer gaps would count as time in which we did not run.
const RUNNING: Duration = Duration::from_millis(400);

fn config() -> LinkConfig {
    let schema = Schema::new(Vec::new()).unwrap();
    let hello = Hello {
        version: PROTOCOL_VERSION,
        codec: 1,
        game: GameId::new("game").unwrap(),
        build: BuildId::new("1").unwrap(),
        schema_hash: schema.hash(),
        lanes: lane_entries(&LaneTable::default()),
        carriers: carriers::DATA_CHANNEL,
        link: LinkPoint::default(),
    };
    let liveness = LivenessConfig::default();
    LinkConfig { hello, schema, lanes: LaneTable::default(), liveness }
}

/// A link, and what it has done.
struct Bench {
    link: Link,
    now: Now,
    /// Connections that its driver was asked for and that were not dropped.
    connections: BTreeSet<ConnectionId>,
    /// Numbers of packets: none comes twice.
    sequence: u16,
}

impl Bench {
    /// A link that is established on its first connection.
    fn established(offers_first: bool) -> Self {
        let mut link = Link::new(config(), offers_first, Previous::default(), OURS);
        link.wait_for_offer(Now::ZERO);
        let mut bench = Self { link, now: Now::ZERO, connections: BTreeSet::new(), sequence: 0 };
        let connection = ConnectionId(1);
        bench.signal(1, offer());
        for event in [described(connection), DriverEvent::ChannelsOpen { connection }] {
            bench.handle(LinkInput::Driver(event));
        }
        for message in [hello(THEIRS, 0), Control::Accept] {
            bench.control(connection, &message);
        }
        assert!(bench.link.is_established());
        bench
    }

    /// One that was brought into a state by events of the table.
    fn after(offers_first: bool, events: &[&str]) -> Self {
        let mut bench = Self::established(offers_first);
        for event in events {
            bench.event(event);
        }
        bench
    }

    fn handle(&mut self, input: LinkInput) -> Vec<LinkOutput> {
        self.link.handle(self.now, input);
        let outputs: Vec<_> = core::iter::from_fn(|| self.link.poll_output()).collect();
        for output in &outputs {
            match output {
                LinkOutput::Driver(
                    DriverCommand::Offer { connection } | DriverCommand::Answer { connection, .. },
                ) => assert!(self.connections.insert(*connection), "two of one name"),
                LinkOutput::Driver(DriverCommand::Drop { connection }) => {
                    assert!(self.connections.remove(connection), "dropped once");
                }
                LinkOutput::Transmit { connection, .. } => {
                    assert!(self.connections.contains(connection), "only on what is there");
                }
                _ => {}
            }
        }
        outputs
    }

    fn signal(&mut self, attempt: u32, body: SignalBody) -> Vec<LinkOutput> {
        self.handle(LinkInput::Signal(Signal { attempt, body }))
    }

    fn control(&mut self, connection: ConnectionId, message: &Control) -> Vec<LinkOutput> {
        let mut packet = Vec::new();
        message.write(&mut packet);
        self.packet(connection, Channel::Control, packet)
    }

    fn packet(
        &mut self,
        connection: ConnectionId,
        channel: Channel,
        packet: Vec<u8>,
    ) -> Vec<LinkOutput> {
        self.handle(LinkInput::Packet { connection, channel, packet })
    }

    fn datagram(&mut self, connection: ConnectionId) -> Vec<LinkOutput> {
        self.sequence += 1;
        let mut header = vec![0; HEADER_LEN];
        header[1..3].copy_from_slice(&self.sequence.to_le_bytes());
        self.packet(connection, Channel::Datagrams, header)
    }

    fn stream(&mut self, connection: ConnectionId) -> Vec<LinkOutput> {
        let mut packet = Vec::new();
        start_whole(&mut packet);
        packet.extend([3, 1, 0]);
        self.packet(connection, Channel::Stream, packet)
    }

    fn attempt(&self) -> Option<&Attempt> {
        self.link.renewal.attempt.as_deref()
    }

    /// The connection of this name; [`NOWHERE`] if there is none.
    fn connection(&self, name: &str) -> ConnectionId {
        let connection = match name {
            "now" => Some(self.link.negotiation.connection()),
            "next" => self.attempt().map(|attempt| attempt.negotiation.connection()),
            "old" => self.link.renewal.old.as_ref().map(|(old, _)| old.connection()),
            _ => None,
        };
        connection.unwrap_or(NOWHERE)
    }

    /// The number of the attempt of this name.
    fn number(&self, name: &str) -> u32 {
        let now = self.link.negotiation.attempt();
        match name {
            "older" => now - 1,
            "now" => now,
            "next" => self.link.used().attempt.max(now + 1),
            _ => self.link.used().attempt.max(now + 1) + 1,
        }
    }

    /// When the renewal has something to do.
    fn deadline(&self) -> Now {
        match &self.link.phase {
            Phase::Established { liveness, .. } => self.link.renewal.next_deadline(liveness),
            _ => self.link.next_deadline().unwrap_or(self.now),
        }
    }

    /// Lets time pass in small steps.
    fn run_until(&mut self, until: Now) -> Vec<LinkOutput> {
        let mut outputs = Vec::new();
        while until.since(self.now) > RUNNING {
            self.now = self.now + RUNNING;
            outputs.extend(self.handle(LinkInput::Tick));
        }
        self.now = self.now.max(until);
        outputs.extend(self.handle(LinkInput::Tick));
        outputs
    }

    /// One event of the table; what comes of it.
    fn event(&mut self, event: &str) -> Vec<LinkOutput> {
        let (what, which) = event.split_once('-').unwrap_or((event, ""));
        let connection = self.connection(which);
        let number = self.number(which);
        match what {
            "offer" => self.signal(number, offer()),
            "answer" => self.signal(number, SignalBody::Answer { sdp: "a".into() }),
            "candidate" => self.signal(number, candidate()),
            "bye" => self.signal(number, SignalBody::Bye),
            "lost" => self.signal(number, SignalBody::Lost),
            "withdraw" => self.signal(number, SignalBody::Withdraw),
            "described" => self.handle(LinkInput::Driver(described(connection))),
            "gathered" => {
                let candidate = candidate();
                let event = DriverEvent::Candidate { connection, candidate };
                self.handle(LinkInput::Driver(event))
            }
            "securing" => {
                let event = DriverEvent::Progress { connection, phase: Step::Securing };
                self.handle(LinkInput::Driver(event))
            }
            "open" => self.handle(LinkInput::Driver(DriverEvent::ChannelsOpen { connection })),
            "failed" => {
                let event = DriverEvent::Failed { connection, why: "test".into() };
                self.handle(LinkInput::Driver(event))
            }
            "datagram" => self.datagram(connection),
            "stream" => self.stream(connection),
            "junk" => self.packet(connection, Channel::Control, vec![77]),
            "network" => self.handle(LinkInput::NetworkChanged),
            "close" => self.handle(LinkInput::Close(CloseReason::Ended)),
            "tick" => self.tick(which),
            _ => self.control(connection, &message(what)),
        }
    }

    fn tick(&mut self, which: &str) -> Vec<LinkOutput> {
        let greeting = self.attempt().and_then(|attempt| attempt.greeting.as_ref());
        match which {
            "early" => self.run_until(self.deadline() - Duration::from_micros(1)),
            "step" => self.run_until(self.deadline()),
            "handshake" => self.run_until(greeting.map_or(self.now, |greeting| greeting.until)),
            "stale" => self.run_until(self.now + STALE),
            // In one step: a link that is driven all the time is lost sooner.
            _ => {
                self.now = self.now + LINK_DEADLINE;
                self.handle(LinkInput::Tick)
            }
        }
    }

    fn state(&self) -> String {
        let renewal = &self.link.renewal;
        match self.link.phase {
            Phase::Established { .. } => {}
            Phase::Lingering { .. } => return "Lingering".into(),
            Phase::Ended => return "Ended".into(),
            _ => unreachable!("it was established"),
        }
        let Some(attempt) = self.attempt() else {
            let name = match () {
                () if renewal.left => "Left",
                () if renewal.old.is_some() => "Moved",
                () if renewal.told => "Told",
                () if renewal.broken => "Broken",
                () if self.now < renewal.not_before => "Pausing",
                () => "Quiet",
            };
            return name.into();
        };
        let step = match (&attempt.greeting, attempt.negotiation.state()) {
            (Some(greeting), _) if greeting.handshake.accepted() => "Accepted",
            (Some(greeting), _) if greeting.handshake.has_spoken() => "Spoke",
            (Some(_), _) => "Listening",
            (None, State::Waiting { .. }) => "Waiting",
            (None, State::Describing { role: Role::Offerer, .. }) => "Offering",
            (None, State::Describing { role: Role::Answerer, .. }) => "Answering",
            (None, State::AwaitingAnswer { .. }) => "Awaiting",
            (None, State::Connecting { .. }) => "Connecting",
            (None, state) => unreachable!("{state:?} of a renewal without greeting"),
        };
        let stale = if attempt.silence >= STALE { ",stale" } else { "" };
        format!("{step}({:?}{stale})", attempt.cause)
    }

    /// Every connection that is there has its place.
    fn check(&self, case: &str) {
        let ended = matches!(self.link.phase, Phase::Ended);
        // After a failure it waits without one.
        let waits = self
            .attempt()
            .is_some_and(|attempt| matches!(attempt.negotiation.state(), State::Waiting { .. }));
        let names = [("now", !ended), ("next", !waits), ("old", true)];
        let known = names.iter().filter(|(_, there)| *there).map(|(name, _)| self.connection(name));
        let known: BTreeSet<_> = known.filter(|connection| *connection != NOWHERE).collect();
        assert_eq!(self.connections, known, "{case}");
        assert!(ended || self.link.next_deadline() > Some(self.now), "{case}: a deadline stays");
    }
}

fn offer() -> SignalBody {
    SignalBody::Offer { sdp: "o".into() }
}

fn candidate() -> SignalBody {
    SignalBody::Candidate { candidate: "c".into(), mid: None, mline: None }
}

fn described(connection: ConnectionId) -> DriverEvent {
    DriverEvent::Described { connection, sdp: "d".into() }
}

fn hello(ours: u64, theirs: u64) -> Control {
    let mut hello = config().hello;
    hello.link = LinkPoint { ours, theirs, ..LinkPoint::default() };
    Control::Hello(hello)
}

fn message(name: &str) -> Control {
    match name {
        "hello" => hello(THEIRS, OURS),
        "stranger" => hello(THEIRS + 1, OURS),
        "misfit" => {
            let mut hello = config().hello;
            hello.build = BuildId::new("2").unwrap();
            Control::Hello(hello)
        }
        "accept" => Control::Accept,
        "refuse" => Control::Refuse("no".into()),
        "goodbye" => Control::Bye(ByeReason::Left),
        "pause" => {
            let from = MeshTime::from_micros(1);
            let pause = Pause { before: Duration::ZERO, from, until: None };
            Control::Pause(PauseMessage::Agreed(pause))
        }
        _ => unreachable!("no such event: {name}"),
    }
}

/// What a link does. Datagrams are left out, because it sends them all the time, and what silence alone
/// leads to: see `liveness`.
fn output_name(bench: &Bench, before: &[(ConnectionId, &str)], output: &LinkOutput) -> String {
    let name = |connection: ConnectionId| {
        let old = before.iter().find(|(of, _)| *of == connection).map(|(_, name)| *name);
        let new = if connection == bench.connection("next") { "new" } else { "nowhere" };
        old.unwrap_or(new)
    };
    match output {
        LinkOutput::Driver(command) => match command {
            DriverCommand::Offer { .. } => "make-offer".into(),
            DriverCommand::Answer { .. } => "make-answer".into(),
            DriverCommand::SetAnswer { connection, .. } => {
                format!("set-answer@{}", name(*connection))
            }
            DriverCommand::AddCandidate { connection, .. } => {
                format!("add-candidate@{}", name(*connection))
            }
            DriverCommand::Drop { connection } => format!("drop@{}", name(*connection)),
        },
        LinkOutput::Signal(Signal { attempt, body }) => {
            let body = match body {
                SignalBody::Offer { .. } => "offer",
                SignalBody::Answer { .. } => "answer",
                SignalBody::Candidate { .. } => "candidate",
                SignalBody::Bye => "bye",
                SignalBody::Lost => "lost",
                SignalBody::Withdraw => "withdraw",
            };
            format!("send-{body}({attempt})")
        }
        LinkOutput::Transmit { connection, channel: Channel::Control, packet } => {
            let said = match Control::read(packet.as_ref()).unwrap() {
                Control::Hello(_) => "hello",
                Control::Accept => "accept",
                Control::Refuse(_) => "refuse",
                Control::Bye(_) => "goodbye",
                Control::Credit { .. } => "credit",
                Control::Pause(_) => "pause",
                other => unreachable!("{other:?}"),
            };
            format!("say-{said}@{}", name(*connection))
        }
        LinkOutput::Transmit { channel: Channel::Stream, .. } => "say-stream".into(),
        LinkOutput::Event(LinkEvent::Closed(reason)) => {
            let reason = format!("{reason:?}");
            format!("CLOSED:{}", reason.split('(').next().unwrap_or_default())
        }
        LinkOutput::Event(LinkEvent::Deliver(_)) => "DELIVER".into(),
        LinkOutput::Event(LinkEvent::Pause(_)) => "PAUSE".into(),
        LinkOutput::Event(LinkEvent::Interrupted { .. } | LinkEvent::Resumed { .. }) => {
            String::new()
        }
        LinkOutput::Event(event) => unreachable!("{event:?}"),
        LinkOutput::Transmit { .. } | LinkOutput::Unused(_) | LinkOutput::Clock(_) => String::new(),
    }
}

/// Every state, and events that lead there from an established link.
const STATES: &[(&str, &[&str])] = &[
    ("Quiet", &[]),
    ("Offering(Silence)", &["tick-step"]),
    ("Awaiting(Silence)", &["tick-step", "described-next"]),
    ("Awaiting(Silence,stale)", &["tick-step", "described-next", "tick-stale", "datagram-now"]),
    ("Connecting(Silence)", &["tick-step", "described-next", "answer-next"]),
    ("Awaiting(Broken)", &["failed-now", "described-next"]),
    ("Awaiting(Network)", &["network", "described-next"]),
    ("Answering(Theirs)", &["offer-next"]),
    ("Connecting(Theirs)", &["offer-next", "described-next"]),
    ("Waiting(Theirs)", &["offer-next", "failed-next"]),
    ("Listening(Silence)", &["tick-step", "described-next", "answer-next", "open-next"]),
    ("Listening(Network)", &["network", "described-next", "answer-next", "open-next"]),
    ("Spoke(Theirs)", &["offer-next", "described-next", "open-next"]),
    ("Accepted(Network)", &["network", "described-next", "answer-next", "open-next", "hello-next"]),
    ("Pausing", &["tick-step", "described-next", "datagram-now"]),
    ("Broken", &["failed-now", "withdraw-next"]),
    ("Told", &["offer-next", "described-next", "open-next", "withdraw-next"]),
    ("Moved", &["offer-next", "described-next", "open-next", "hello-next", "accept-next"]),
    ("Left", &["network", "bye-now"]),
    ("Lingering", &["network", "close"]),
    ("Ended", &["network", "lost-now"]),
];

const EVENTS: &[&str] = &[
    // Signals: of the attempt that made the connection in use, of the next one, of a later one.
    "offer-now",
    "offer-next",
    "offer-newer",
    "answer-now",
    "answer-next",
    "candidate-now",
    "candidate-next",
    "bye-older",
    "bye-now",
    "bye-next",
    "bye-newer",
    "lost-older",
    "lost-now",
    "lost-next",
    "withdraw-now",
    "withdraw-next",
    "withdraw-newer",
    // From the driver.
    "described-next",
    "gathered-now",
    "gathered-next",
    "securing-next",
    "open-next",
    "open-nowhere",
    "failed-now",
    "failed-next",
    "failed-old",
    "failed-nowhere",
    // Packets.
    "datagram-now",
    "datagram-next",
    "datagram-old",
    "datagram-nowhere",
    "stream-now",
    "stream-next",
    "stream-old",
    "pause-now",
    "pause-next",
    "pause-old",
    "hello-now",
    "stranger-now",
    "hello-next",
    "stranger-next",
    "misfit-next",
    "accept-now",
    "accept-next",
    "refuse-next",
    "goodbye-now",
    "goodbye-next",
    "goodbye-old",
    "junk-now",
    "junk-next",
    "junk-old",
    // From outside, and time.
    "network",
    "close",
    "tick-early",
    "tick-step",
    "tick-handshake",
    "tick-link",
];

/// What an event does in a state: the state after it and what comes out; empty if nothing happens.
fn outcome(offers_first: bool, state: &str, events: &[&str], event: &str) -> String {
    let case = format!("{state} + {event}");
    let mut bench = Bench::after(offers_first, events);
    assert_eq!(bench.state(), state, "{case}");
    bench.check(&case);
    let before = ["now", "next", "old"].map(|name| (bench.connection(name), name));
    let outputs = bench.event(event);
    bench.check(&case);
    let names = outputs.iter().map(|output| output_name(&bench, &before, output));
    let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    let after = bench.state();
    if after == state && names.is_empty() {
        return String::new();
    }
    format!("{after:23} {}", names.join(" ")).trim_end().into()
}

/// Every state × every event, against the committed table: what is not in it changes nothing. Lines of
/// the side whose offer does not stand in a glare (`second`) are there where they differ. After a wanted
/// change: `UPDATE_TABLE=1 cargo test -p netplay_peer`, and read the difference.
#[test]
fn the_whole_transition_table_is_as_committed() {
    let mut table = String::new();
    for (state, events) in STATES {
        for event in EVENTS {
            let [first, second] = [true, false].map(|side| outcome(side, state, events, event));
            let differs = if second == first { "" } else { &second };
            let differs = if second.is_empty() && !first.is_empty() { "-" } else { differs };
            for (side, outcome) in [("", &*first), ("second", differs)] {
                if !outcome.is_empty() {
                    writeln!(table, "{side:6} {state:23} + {event:14} -> {outcome}").unwrap();
                }
            }
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/link/renewal/transitions.txt");
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap());
}

#[test]
fn offers_that_were_withdrawn_put_off_what_silence_wants_and_not_what_is_needed() {
    let mut bench = Bench::established(true);
    let pause = |bench: &Bench| bench.link.renewal.not_before.since(bench.now);
    for expected in [1, 2, 4, 8, 8] {
        while bench.now < bench.link.renewal.not_before {
            bench.run_until(bench.now + RUNNING);
            bench.event("datagram-now");
        }
        for event in ["tick-step", "described-next", "datagram-now"] {
            bench.event(event);
        }
        assert_eq!(pause(&bench), Duration::from_secs(expected));
    }
    // We have said what we received on the connection in use: nothing reliable comes on it any more.
    for event in ["offer-next", "described-next", "open-next", "withdraw-next"] {
        bench.event(event);
    }
    assert_eq!(bench.state(), "Told");
    assert_eq!(bench.deadline(), bench.now + PAUSE);
    bench.event("tick-step");
    assert_eq!(bench.state(), "Offering(Broken)");
}

/// The attempts whose offers are answered after we were stopped, and found these signals.
fn answered_after_a_stop(signals: &[(u32, SignalBody)]) -> Vec<u32> {
    let mut bench = Bench::established(true);
    bench.now = Now::from_millis(10_000);
    let mut answered = Vec::new();
    let mut note = |bench: &Bench, outputs: Vec<LinkOutput>| {
        let answers = outputs
            .into_iter()
            .filter(|output| matches!(output, LinkOutput::Driver(DriverCommand::Answer { .. })));
        answered.extend(answers.map(|_| bench.link.used().attempt));
    };
    for (attempt, body) in signals {
        let outputs = bench.signal(*attempt, body.clone());
        note(&bench, outputs);
        bench.now = bench.now + Duration::from_millis(1);
    }
    let outputs = bench.run_until(bench.now + Duration::from_millis(100));
    note(&bench, outputs);
    bench.check("after a stop");
    answered
}

#[test]
fn of_the_offers_that_waited_while_we_were_stopped_only_the_newest_is_answered() {
    let waited = (2..6).flat_map(|attempt| [(attempt, offer()), (attempt, candidate())]);
    assert_eq!(answered_after_a_stop(&waited.collect::<Vec<_>>()), [5]);
    assert_eq!(answered_after_a_stop(&[(2, offer())]), [2]);
}

#[test]
fn an_offer_that_was_withdrawn_while_we_were_stopped_is_not_answered() {
    assert_eq!(answered_after_a_stop(&[(2, offer()), (2, SignalBody::Withdraw)]), [0_u32; 0]);
    let again = [(2, offer()), (2, SignalBody::Withdraw), (3, offer())];
    assert_eq!(answered_after_a_stop(&again), [3]);
}
