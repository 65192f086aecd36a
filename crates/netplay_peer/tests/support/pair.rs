//! Two links over a virtual path: datagrams with any conditions, reliable channels with a delay,
//! signals without loss, and connections that open as soon as both descriptions are known and the
//! path carries something. While it carries nothing, datagrams are lost, and what was sent reliably
//! waits: long, as SCTP does. A connection may also die for good, as after a change of address.
//!
//! Checked all the time: a link ends at most once and says nothing afterwards, it is established at
//! most once, and no input makes more than a few outputs.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use netplay_peer::LinkConfig;
use netplay_peer::link::driver::{Channel, ConnectionId, DriverCommand, DriverEvent};
use netplay_peer::link::{
    CloseReason, InterruptReason, Link, LinkEvent, LinkInput, LinkOutput, Previous,
};
use netplay_protocol::control::{Control, PauseMessage};
use netplay_protocol::frame::Frames;
use netplay_protocol::lobby::Signal;
use netplay_protocol::{Lane, Now};
use netplay_simnet::{Conditions, OrderedPipe, Pipe};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

/// No input has a reason to make more outputs than this: a window of datagrams, or what a window of
/// channel 2 holds of the smallest packets when it is sent again.
const OUTPUTS_MAX: usize = 1300;
/// Packets kept for tests that repeat and damage them.
const RECORDED: usize = 200;

type Packet = (ConnectionId, Channel, Vec<u8>);

/// Whether a control message from this side is lost.
type Loses = dyn FnMut(usize, &Control) -> bool;

/// Changes control messages of side 0.
type Forges = dyn FnMut(&mut Control);

/// One of the two.
pub struct Side {
    pub link: Link,
    pub established: Vec<Now>,
    pub interrupted: Vec<Now>,
    /// Why, and after what silence.
    pub reasons: Vec<(InterruptReason, Duration)>,
    /// When it was heard again, and after what silence.
    pub resumed: Vec<(Now, Duration)>,
    /// What the other side said about pauses.
    pub pauses: Vec<PauseMessage>,
    /// Inputs of a rollback session: when, newest tick, bytes, whether a second copy.
    pub inputs: Vec<(Now, u16, Vec<u8>, bool)>,
    pub ended: Vec<(Now, CloseReason)>,
    /// Game messages in the order of their arrival.
    pub received: Vec<(Lane, Vec<u8>)>,
    /// When they arrived.
    pub times: Vec<Now>,
    /// Datagrams sent, and bytes of them.
    pub datagrams_sent: [usize; 2],
    /// Cost of what this game has read of channel 2, and of reliable messages in datagrams.
    pub consumed: [u64; 2],
    /// Whether the game reads what arrives reliably.
    pub reads: bool,
    /// Offers that its driver was asked for.
    pub offers: usize,
    /// Connections that were not dropped, and the other ends of those that know it.
    pub connections: BTreeMap<ConnectionId, Option<ConnectionId>>,
    open: BTreeSet<ConnectionId>,
    datagrams: Pipe<Packet>,
    /// What was sent reliably, by connection: one waits for no other.
    ordered: BTreeMap<ConnectionId, OrderedPipe<Packet>>,
    signals: OrderedPipe<Signal>,
}

/// What the path does with what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Carries,
    /// Nothing from either side arrives.
    Dead,
    /// Nothing from this side arrives.
    #[allow(dead_code, reason = "each test file uses its own part")]
    DeadFrom(usize),
}

pub struct Pair {
    pub now: Now,
    pub sides: [Side; 2],
    /// What was sent, the first of it.
    pub recorded: Vec<(Channel, Vec<u8>)>,
    /// Loses control messages: who sends it, and what.
    pub loses: Box<Loses>,
    /// Whether the connection that loses one dies by it.
    pub loss_kills: bool,
    /// Changes what side 0 says.
    pub forges: Option<Box<Forges>>,
    /// Signals until one is lost, that one included.
    signals_until_loss: Option<u32>,
    /// Whether media tracks carry anything.
    pub media_carries: bool,
    /// Packets sent on media tracks.
    pub on_media: usize,
    delay: Duration,
    path: Path,
    path_since: Now,
    /// Whether signals arrive.
    pub signals_pass: bool,
    /// Connections of side 0 that carry nothing any more.
    dead: BTreeSet<ConnectionId>,
    /// Descriptions are exchanged, and the path was dead: connections of side 0.
    waiting: BTreeSet<ConnectionId>,
    /// Channels that open then: connections of side 0.
    opening: Vec<(Now, ConnectionId)>,
    /// Sent reliably while the path was dead: to whom, and what.
    stalled: Vec<(usize, Packet)>,
}

#[allow(dead_code, reason = "each test file uses its own part")]
impl Pair {
    /// Two links that have not started. Side 0 offers.
    pub fn new(configs: [LinkConfig; 2], conditions: &Conditions, seed: u64) -> Self {
        let mut seed = seed;
        let mut offers = false;
        let sides = configs.map(|config| {
            offers = !offers;
            seed = seed.wrapping_add(1 << 32);
            Side {
                link: Link::new(config, offers, Previous::default(), seed | 1),
                established: Vec::new(),
                interrupted: Vec::new(),
                reasons: Vec::new(),
                resumed: Vec::new(),
                pauses: Vec::new(),
                inputs: Vec::new(),
                ended: Vec::new(),
                received: Vec::new(),
                times: Vec::new(),
                datagrams_sent: [0; 2],
                consumed: [0; 2],
                reads: true,
                offers: 0,
                connections: BTreeMap::new(),
                open: BTreeSet::new(),
                datagrams: Pipe::new(conditions.clone(), seed),
                ordered: BTreeMap::new(),
                signals: OrderedPipe::new(Duration::from_millis(5)),
            }
        });
        Self {
            now: Now::ZERO,
            sides,
            recorded: Vec::new(),
            loses: Box::new(|_, _| false),
            loss_kills: false,
            forges: None,
            signals_until_loss: None,
            media_carries: true,
            on_media: 0,
            delay: conditions.delay,
            path: Path::Carries,
            path_since: Now::ZERO,
            signals_pass: true,
            dead: BTreeSet::new(),
            waiting: BTreeSet::new(),
            opening: Vec::new(),
            stalled: Vec::new(),
        }
    }

    pub fn start(&mut self) {
        for side in 0..2 {
            self.handle(side, LinkInput::Start);
        }
    }

    /// Starts both, and runs until both are established.
    pub fn establish(&mut self) {
        self.start();
        while self.sides.iter().any(|side| side.established.is_empty()) {
            assert!(self.now < Now::from_millis(20_000), "no link: {:?}", self.ends());
            self.run(Duration::from_millis(1));
        }
    }

    pub fn ends(&self) -> [Option<&CloseReason>; 2] {
        [0, 1].map(|side: usize| self.sides[side].ended.first().map(|(_, reason)| reason))
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(next) = self.next().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.turn();
        }
        self.now = until;
    }

    fn next(&self) -> Option<Now> {
        let sides = self.sides.iter().flat_map(|side| {
            let own = [
                side.link.next_deadline(),
                side.datagrams.next_deadline(),
                side.signals.next_deadline(),
            ];
            own.into_iter().chain(side.ordered.values().map(OrderedPipe::next_deadline))
        });
        sides.flatten().chain(self.opening.iter().map(|(at, _)| *at)).min()
    }

    fn turn(&mut self) {
        let now = self.now;
        if let Some(due) = self.opening.iter().position(|(at, _)| *at <= now) {
            let (_, connection) = self.opening.remove(due);
            self.open(connection);
        }
        for side in 0..2 {
            if let Some(signal) = self.sides[side].signals.poll(now) {
                self.handle(side, LinkInput::Signal(signal));
            }
            let arrived = self.sides[side].ordered.values_mut().find_map(|pipe| pipe.poll(now));
            if let Some(packet) = arrived {
                self.arrive(side, packet);
            }
            if let Some(packet) = self.sides[side].datagrams.poll(now) {
                self.arrive(side, packet);
            }
            if self.sides[side].link.next_deadline().is_some_and(|deadline| now >= deadline) {
                self.handle(side, LinkInput::Tick);
                let next = self.sides[side].link.next_deadline();
                assert!(next.is_none_or(|next| next > now), "a tick moves the deadline");
            }
        }
    }

    fn arrive(&mut self, side: usize, (connection, channel, packet): Packet) {
        if self.sides[side].connections.contains_key(&connection) {
            self.handle(side, LinkInput::Packet { connection, channel, packet });
        }
    }

    /// Gives a side a packet that its peer's link did not make.
    pub fn forge(&mut self, side: usize, channel: Channel, packet: Vec<u8>) {
        let connection = self.current(side);
        self.handle(side, LinkInput::Packet { connection, channel, packet });
    }

    /// The newest connection of a side whose channels are open.
    pub fn current(&self, side: usize) -> ConnectionId {
        let Side { open, connections, .. } = &self.sides[side];
        let newest = open.iter().rev().find(|connection| connections.contains_key(connection));
        newest.copied().unwrap_or_default()
    }

    pub fn forge_control(&mut self, side: usize, message: &Control) {
        let mut packet = Vec::new();
        message.write(&mut packet);
        self.forge(side, Channel::Control, packet);
    }

    pub fn handle(&mut self, side: usize, input: LinkInput) {
        self.sides[side].link.handle(self.now, input);
        let mut outputs = 0;
        while let Some(output) = self.sides[side].link.poll_output() {
            outputs += 1;
            assert!(outputs <= OUTPUTS_MAX, "one input makes many outputs");
            self.perform(side, output);
        }
    }

    fn perform(&mut self, side: usize, output: LinkOutput) {
        let ended = !self.sides[side].ended.is_empty();
        match output {
            LinkOutput::Driver(command) => self.command(side, command),
            LinkOutput::Signal(signal) => {
                let lost = self.signals_until_loss.as_mut().is_some_and(|left| {
                    let this = *left == 0;
                    *left = left.wrapping_sub(1);
                    this
                });
                if self.signals_pass && !lost {
                    self.sides[1 - side].signals.send(self.now, signal);
                }
            }
            LinkOutput::Transmit { connection, channel, packet } => {
                assert!(!ended, "sent after the end");
                assert!(self.sides[side].connections.contains_key(&connection), "it was dropped");
                self.transmit(side, connection, channel, packet.as_ref().to_vec());
            }
            LinkOutput::Event(event) => {
                assert!(!ended, "{event:?} after the end");
                self.event(side, event);
            }
            LinkOutput::Unused(_) | LinkOutput::Clock(_) => {}
        }
    }

    fn transmit(
        &mut self,
        from: usize,
        connection: ConnectionId,
        channel: Channel,
        mut packet: Vec<u8>,
    ) {
        if self.recorded.len() < RECORDED {
            self.recorded.push((channel, packet.clone()));
        }
        let lossy = matches!(channel, Channel::Datagrams | Channel::Media);
        if channel == Channel::Media {
            self.on_media += 1;
            if !self.media_carries {
                return;
            }
        }
        if lossy {
            self.sides[from].datagrams_sent[0] += 1;
            self.sides[from].datagrams_sent[1] += packet.len();
        }
        if channel == Channel::Control {
            let mut message =
                Control::read(&packet).expect("our own control messages are well-formed");
            if let Some(forges) = self.forges.as_mut().filter(|_| from == 0) {
                forges(&mut message);
                packet.clear();
                message.write(&mut packet);
            }
            if (self.loses)(from, &message) {
                let other = self.sides[from].connections.get(&connection).copied().flatten();
                if self.loss_kills
                    && let Some(other) = other
                {
                    self.dead.insert(if from == 0 { connection } else { other });
                }
                return;
            }
        }
        let now = self.now;
        let other = self.sides[from].connections.get(&connection).copied().flatten();
        let Some(other) = other.filter(|_| self.sides[from].open.contains(&connection)) else {
            return;
        };
        if self.dead.contains(if from == 0 { &connection } else { &other }) {
            return;
        }
        let to = &mut self.sides[1 - from];
        match (lossy, self.path) {
            (true, Path::Carries) => {
                to.datagrams.send(now, packet.len(), (other, channel, packet));
            }
            (true, Path::DeadFrom(side)) if side != from => {
                to.datagrams.send(now, packet.len(), (other, channel, packet));
            }
            (true, _) => {}
            (false, Path::Carries) => {
                let pipe = to.ordered.entry(other).or_insert_with(|| OrderedPipe::new(self.delay));
                pipe.send(now, (other, channel, packet));
            }
            (false, _) => self.stalled.push((1 - from, (other, channel, packet))),
        }
    }

    /// Loses the signal after so many others.
    pub fn lose_signal(&mut self, after: u32) {
        self.signals_until_loss = Some(after);
    }

    /// From now on the path is like this.
    pub fn set_path(&mut self, path: Path) {
        // What SCTP has not got through it tries again after twice as long each time.
        let stalled_for = self.now.since(core::mem::replace(&mut self.path_since, self.now));
        self.path = path;
        if path != Path::Carries {
            return;
        }
        for (to, packet) in core::mem::take(&mut self.stalled) {
            let pipe = self.sides[to].ordered.entry(packet.0);
            let pipe = pipe.or_insert_with(|| OrderedPipe::new(self.delay));
            pipe.send(self.now + stalled_for, packet);
        }
        for connection in core::mem::take(&mut self.waiting) {
            self.find_path(connection);
        }
    }

    /// The connections that there are now carry nothing any more, whatever the path does.
    pub fn kill_connections(&mut self) {
        self.dead.extend(self.sides[0].connections.keys().copied());
        self.sides.iter_mut().for_each(|side| side.ordered.clear());
    }

    /// The driver of a side says that its newest connection failed.
    pub fn fail_connection(&mut self, side: usize) {
        let connection = self.current(side);
        let event = DriverEvent::Failed { connection, why: "test".into() };
        self.handle(side, LinkInput::Driver(event));
    }

    fn event(&mut self, side: usize, event: LinkEvent) {
        let now = self.now;
        let of = &mut self.sides[side];
        match event {
            LinkEvent::Established => {
                of.established.push(now);
                assert_eq!(of.established.len(), 1, "established twice");
            }
            LinkEvent::Closed(reason) => of.ended.push((now, reason)),
            LinkEvent::Interrupted { reason, silence } => {
                of.interrupted.push(now);
                of.reasons.push((reason, silence));
            }
            LinkEvent::Resumed { silence } => of.resumed.push((now, silence)),
            LinkEvent::Pause(message) => of.pauses.push(message),
            LinkEvent::Inputs { tick, bytes, again } => of.inputs.push((now, tick, bytes, again)),
            LinkEvent::Pong(_) | LinkEvent::Match(_) => {}
            LinkEvent::Deliver(delivery) => {
                assert!(!of.established.is_empty(), "a game message before the handshake");
                for frame in Frames::new(&delivery.packet[delivery.offset..]) {
                    let frame = frame.expect("delivered frames are checked");
                    of.times.push(now);
                    of.received.push((frame.lane, frame.body.payload.to_vec()));
                }
                if of.reads {
                    of.consumed[usize::from(!delivery.stream)] += delivery.cost;
                    let [stream, reliable] = of.consumed;
                    of.link.handle(now, LinkInput::Consumed { stream, reliable });
                }
            }
        }
    }

    fn command(&mut self, side: usize, command: DriverCommand) {
        let parse = |sdp: String| Some(ConnectionId(sdp.parse().ok()?));
        match command {
            DriverCommand::Offer { connection } => {
                self.sides[side].offers += 1;
                self.begin(side, connection, None);
            }
            DriverCommand::Answer { connection, sdp } => self.begin(side, connection, parse(sdp)),
            DriverCommand::SetAnswer { connection, sdp } => {
                let other = parse(sdp);
                self.sides[side].connections.insert(connection, other);
                let first = if side == 0 { Some(connection) } else { other };
                self.find_path(first.expect("an answer names its connection"));
            }
            DriverCommand::AddCandidate { .. } => {}
            DriverCommand::Drop { connection } => {
                self.sides[side].ordered.remove(&connection);
                self.sides[side].connections.remove(&connection);
            }
        }
    }

    fn begin(&mut self, side: usize, connection: ConnectionId, other: Option<ConnectionId>) {
        self.sides[side].connections.insert(connection, other);
        let sdp = connection.0.to_string();
        self.handle(side, LinkInput::Driver(DriverEvent::Described { connection, sdp }));
    }

    /// Opens the channels of side 0's connection and of its other end after three exchanges.
    fn find_path(&mut self, first: ConnectionId) {
        self.opening.push((self.now + 6 * self.delay, first));
    }

    fn open(&mut self, first: ConnectionId) {
        if self.path != Path::Carries {
            self.waiting.insert(first);
            return;
        }
        let Some(Some(second)) = self.sides[0].connections.get(&first).copied() else { return };
        if self.sides[1].connections.get(&second) != Some(&Some(first)) {
            return;
        }
        self.sides[0].open.insert(first);
        self.sides[1].open.insert(second);
        for (side, connection) in [(1, second), (0, first)] {
            self.handle(side, LinkInput::Driver(DriverEvent::ChannelsOpen { connection }));
        }
    }

    /// From now on nothing that one side sends reaches the other.
    pub fn cut(&mut self) {
        for side in &mut self.sides {
            side.datagrams.cut();
            side.ordered.clear();
            side.signals.cut();
        }
        self.set_path(Path::Dead);
        self.signals_pass = false;
    }

    /// The end of a cut: what is sent from now on arrives, on connections that live.
    pub fn mend(&mut self) {
        self.signals_pass = true;
        self.set_path(Path::Carries);
    }
}

/// Random numbers for one case, which names its seed if it fails.
pub fn for_each_seed(seeds: u64, mut case: impl FnMut(u64, &mut ChaCha8Rng)) {
    struct Name(u64);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with seed {}", self.0);
            }
        }
    }
    for seed in 0..seeds {
        let _name = Name(seed);
        case(seed, &mut ChaCha8Rng::seed_from_u64(seed));
    }
}
