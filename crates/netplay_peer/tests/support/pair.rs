//! Two links over a virtual path: datagrams with any conditions, reliable channels with a delay,
//! signals without loss, and connections that open as soon as both descriptions are known.
//!
//! Checked all the time: a link ends at most once and says nothing afterwards, it is established at
//! most once, and no input makes more than a few outputs.

use core::time::Duration;

use netplay_peer::LinkConfig;
use netplay_peer::link::driver::{Channel, ConnectionId, DriverCommand, DriverEvent};
use netplay_peer::link::{CloseReason, Link, LinkEvent, LinkInput, LinkOutput, Previous};
use netplay_protocol::control::Control;
use netplay_protocol::frame::Frames;
use netplay_protocol::lobby::Signal;
use netplay_protocol::{Lane, Now};
use netplay_simnet::{Conditions, OrderedPipe, Pipe};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

/// No input has a reason to make more outputs than this: a window of datagrams.
const OUTPUTS_MAX: usize = 256;
/// Packets kept for tests that repeat and damage them.
const RECORDED: usize = 200;

type Packet = (ConnectionId, Channel, Vec<u8>);

/// Whether a control message from this side is lost.
type Loses = dyn FnMut(usize, &Control) -> bool;

/// One of the two.
pub struct Side {
    pub link: Link,
    pub established: Vec<Now>,
    pub interrupted: Vec<Now>,
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
    connection: Option<ConnectionId>,
    datagrams: Pipe<Packet>,
    ordered: OrderedPipe<Packet>,
    signals: OrderedPipe<Signal>,
}

pub struct Pair {
    pub now: Now,
    pub sides: [Side; 2],
    /// What was sent, the first of it.
    pub recorded: Vec<(Channel, Vec<u8>)>,
    /// Loses control messages: who sends it, and what.
    pub loses: Box<Loses>,
    /// Whether media tracks carry anything.
    pub media_carries: bool,
    /// Packets sent on media tracks.
    pub on_media: usize,
    connected: bool,
    /// Whether nothing that is sent arrives.
    pub is_cut: bool,
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
                link: Link::new(config, offers, Previous::default()),
                established: Vec::new(),
                interrupted: Vec::new(),
                ended: Vec::new(),
                received: Vec::new(),
                times: Vec::new(),
                datagrams_sent: [0; 2],
                consumed: [0; 2],
                reads: true,
                connection: None,
                datagrams: Pipe::new(conditions.clone(), seed),
                ordered: OrderedPipe::new(conditions.delay),
                signals: OrderedPipe::new(Duration::from_millis(5)),
            }
        });
        Self {
            now: Now::ZERO,
            sides,
            recorded: Vec::new(),
            loses: Box::new(|_, _| false),
            media_carries: true,
            on_media: 0,
            connected: false,
            is_cut: false,
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
            [
                side.link.next_deadline(),
                side.datagrams.next_deadline(),
                side.ordered.next_deadline(),
                side.signals.next_deadline(),
            ]
        });
        sides.flatten().min()
    }

    fn turn(&mut self) {
        let now = self.now;
        for side in 0..2 {
            if let Some(signal) = self.sides[side].signals.poll(now) {
                self.handle(side, LinkInput::Signal(signal));
            }
            if let Some(packet) = self.sides[side].ordered.poll(now) {
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
        if self.connected && self.sides[side].connection == Some(connection) {
            self.handle(side, LinkInput::Packet { connection, channel, packet });
        }
    }

    /// Gives a side a packet that its peer's link did not make.
    pub fn forge(&mut self, side: usize, channel: Channel, packet: Vec<u8>) {
        let connection = self.sides[side].connection.unwrap_or_default();
        self.handle(side, LinkInput::Packet { connection, channel, packet });
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
                if !self.is_cut {
                    self.sides[1 - side].signals.send(self.now, signal);
                }
            }
            LinkOutput::Transmit { connection, channel, packet } => {
                assert!(!ended, "sent after the end");
                assert_eq!(Some(connection), self.sides[side].connection);
                self.transmit(side, channel, packet.as_ref().to_vec());
            }
            LinkOutput::Event(event) => {
                assert!(!ended, "{event:?} after the end");
                self.event(side, event);
            }
            LinkOutput::Unused(_) | LinkOutput::Clock(_) => {}
        }
    }

    fn transmit(&mut self, from: usize, channel: Channel, packet: Vec<u8>) {
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
            let message = Control::read(&packet).expect("our own control messages are well-formed");
            if (self.loses)(from, &message) {
                return;
            }
        }
        let now = self.now;
        let to = &mut self.sides[1 - from];
        let Some(connection) = to.connection.filter(|_| self.connected && !self.is_cut) else {
            return;
        };
        if lossy {
            to.datagrams.send(now, packet.len(), (connection, channel, packet));
        } else {
            to.ordered.send(now, (connection, channel, packet));
        }
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
            LinkEvent::Interrupted => of.interrupted.push(now),
            LinkEvent::Resumed | LinkEvent::Pong(_) | LinkEvent::Match(_) | LinkEvent::Pause(_) => {
            }
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
        let described = |connection| {
            let sdp = "stand-in".to_owned();
            LinkInput::Driver(DriverEvent::Described { connection, sdp })
        };
        match command {
            DriverCommand::Offer { connection } | DriverCommand::Answer { connection, .. } => {
                self.connected = false;
                self.sides[side].connection = Some(connection);
                self.handle(side, described(connection));
            }
            DriverCommand::SetAnswer { .. } => {
                self.connected = true;
                for of in [1 - side, side] {
                    if let Some(connection) = self.sides[of].connection {
                        let event = DriverEvent::ChannelsOpen { connection };
                        self.handle(of, LinkInput::Driver(event));
                    }
                }
            }
            DriverCommand::AddCandidate { .. } => {}
            DriverCommand::Drop { .. } => {
                self.connected = false;
                self.sides[side].connection = None;
            }
        }
    }

    /// From now on nothing that one side sends reaches the other.
    pub fn cut(&mut self) {
        for side in &mut self.sides {
            side.datagrams.cut();
            side.ordered.cut();
            side.signals.cut();
        }
        self.is_cut = true;
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
