//! Real links between players on a simulated network: every datagram of the lanes with its headers.
//! Only WebRTC is stood in for: connections open at once, channel 0 loses nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use netplay_peer::LinkConfig;
use netplay_peer::link::driver::{Channel, ConnectionId, DriverCommand, DriverEvent};
use netplay_peer::link::liveness::LivenessConfig;
use netplay_peer::link::{InputBlock, Link, LinkEvent, LinkInput, LinkOutput, Previous};
use netplay_protocol::codec::{Bincode, Codec};
use netplay_protocol::control::{Hello, LinkPoint, carriers, lane_entries};
use netplay_protocol::datagram::{ClockLine, ClockNote};
use netplay_protocol::frame::{Body, Frame, Frames, MessageId};
use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, Lane, LaneTable, Now, PROTOCOL_VERSION};
use netplay_simnet::{Conditions, Network, OrderedPipe};

use crate::Result;

/// From a player to another.
type Pair = (usize, usize);

/// Something arrived at a player.
pub enum Arrived {
    Inputs { tick: u16, bytes: Vec<u8>, again: bool },
    Message(Vec<u8>),
}

/// What was sent, over all pairs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub datagrams: u64,
    pub bytes: u64,
}

struct End {
    link: Link,
    connection: ConnectionId,
    established: bool,
    consumed: [u64; 2],
}

/// A full mesh.
pub struct Links {
    ends: BTreeMap<Pair, End>,
    datagrams: Network<usize, (Channel, Vec<u8>)>,
    control: BTreeMap<Pair, OrderedPipe<(Channel, Vec<u8>)>>,
    arrived: Vec<(Pair, Arrived)>,
    pub sent: Sent,
}

fn config() -> Result<LinkConfig> {
    let lanes = LaneTable::default();
    let schema = Schema::new(vec![SchemaEntry { name: "session".into(), lane: Lane::Reliable }])?;
    Ok(LinkConfig {
        hello: Hello {
            version: PROTOCOL_VERSION,
            codec: Bincode::ID,
            game: GameId::new("bench")?,
            build: BuildId::new("1")?,
            schema_hash: schema.hash(),
            lanes: lane_entries(&lanes),
            carriers: carriers::DATA_CHANNEL,
            link: LinkPoint::default(),
        },
        schema,
        lanes,
        liveness: LivenessConfig::default(),
    })
}

impl Links {
    /// Links between so many players, that are not connected.
    ///
    /// # Errors
    /// None that a run meets: the settings are constant.
    pub fn new(players: usize, conditions: &Conditions, seed: u64) -> Result<Self> {
        let mut ends = BTreeMap::new();
        let mut control = BTreeMap::new();
        for from in 0..players {
            for to in (0..players).filter(|to| *to != from) {
                let number = (from * players + to) as u64 + 1;
                let link = Link::new(config()?, from < to, Previous::default(), number);
                let connection = ConnectionId::default();
                let end = End { link, connection, established: false, consumed: [0; 2] };
                ends.insert((from, to), end);
                control.insert((from, to), OrderedPipe::new(conditions.delay));
            }
        }
        let datagrams = Network::new(conditions.clone(), seed, |player| player as u64);
        Ok(Self { ends, datagrams, control, arrived: Vec::new(), sent: Sent::default() })
    }

    /// Connects all, however long it takes.
    ///
    /// # Errors
    /// If it takes more than a simulated minute.
    pub fn connect(&mut self, now: &mut Now) -> Result<()> {
        let pairs: Vec<Pair> = self.ends.keys().copied().collect();
        pairs.iter().for_each(|pair| self.handle(*now, *pair, LinkInput::Start));
        // As in a match: the links tell where the mesh clock stands.
        let note = ClockNote { founder: 1, mesh: 0, rate: 0 };
        let line = ClockLine { note, at: *now };
        pairs.iter().for_each(|pair| self.handle(*now, *pair, LinkInput::Clock(Some(line))));
        let limit = *now + Duration::from_secs(60);
        while !self.ends.values().all(|end| end.established) {
            *now = *now + Duration::from_millis(1);
            self.step(*now);
            if *now > limit {
                return Err("no connection".into());
            }
        }
        Ok(())
    }

    /// The path is like this from now on.
    pub fn set_conditions(&mut self, conditions: &Conditions) {
        self.datagrams.set_all_conditions(conditions);
        let pipes = self.control.values_mut();
        pipes.for_each(|pipe| *pipe = OrderedPipe::new(conditions.delay));
    }

    /// Delivers what is due, and lets links act.
    pub fn step(&mut self, now: Now) {
        while let Some(delivery) = self.datagrams.poll(now) {
            let (channel, packet) = delivery.item;
            self.packet(now, (delivery.to, delivery.from), channel, packet);
        }
        let pairs: Vec<Pair> = self.ends.keys().copied().collect();
        for (from, to) in pairs {
            while let Some((channel, packet)) =
                self.control.get_mut(&(from, to)).and_then(|pipe| pipe.poll(now))
            {
                self.packet(now, (to, from), channel, packet);
            }
            let end = &self.ends[&(from, to)];
            if end.link.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.handle(now, (from, to), LinkInput::Tick);
            }
        }
    }

    fn packet(&mut self, now: Now, pair: Pair, channel: Channel, packet: Vec<u8>) {
        let connection = self.ends[&pair].connection;
        self.handle(now, pair, LinkInput::Packet { connection, channel, packet });
    }

    /// What has arrived since the last call: at whom and from whom.
    pub fn take_arrived(&mut self) -> Vec<(Pair, Arrived)> {
        core::mem::take(&mut self.arrived)
    }

    /// The inputs of a tick; they leave with the flush.
    pub fn inputs(&mut self, now: Now, pair: Pair, inputs: InputBlock) {
        self.handle(now, pair, LinkInput::Inputs(inputs));
    }

    /// A reliable message; it leaves with the flush.
    pub fn message(&mut self, now: Now, pair: Pair, payload: &[u8]) {
        let mut frames = Vec::new();
        Frame { lane: Lane::Reliable, body: Body { id: MessageId(0), key: None, payload } }
            .put(&mut frames);
        self.handle(now, pair, LinkInput::Send(frames));
    }

    /// The end of a player's tick.
    pub fn flush(&mut self, now: Now, player: usize) {
        let pairs: Vec<Pair> = self.ends.keys().copied().filter(|pair| pair.0 == player).collect();
        pairs.into_iter().for_each(|pair| self.handle(now, pair, LinkInput::Flush));
    }

    fn handle(&mut self, now: Now, pair: Pair, input: LinkInput) {
        let Some(end) = self.ends.get_mut(&pair) else { return };
        end.link.handle(now, input);
        let mut outputs = Vec::new();
        while let Some(output) = end.link.poll_output() {
            outputs.push(output);
        }
        outputs.into_iter().for_each(|output| self.perform(now, pair, output));
    }

    fn perform(&mut self, now: Now, pair: Pair, output: LinkOutput) {
        let (from, to) = pair;
        match output {
            LinkOutput::Driver(command) => self.drive(now, pair, command),
            LinkOutput::Signal(signal) => self.handle(now, (to, from), LinkInput::Signal(signal)),
            LinkOutput::Transmit { channel, packet, .. } => {
                let bytes = packet.as_ref().to_vec();
                if matches!(channel, Channel::Datagrams | Channel::Media) {
                    self.sent.datagrams += 1;
                    self.sent.bytes += bytes.len() as u64;
                    self.datagrams.send(now, from, to, bytes.len(), (channel, bytes));
                } else if let Some(pipe) = self.control.get_mut(&pair) {
                    pipe.send(now, (channel, bytes));
                }
            }
            LinkOutput::Event(event) => self.event(now, pair, event),
            LinkOutput::Clock(_) | LinkOutput::Unused(_) => {}
        }
    }

    fn event(&mut self, now: Now, pair: Pair, event: LinkEvent) {
        match event {
            LinkEvent::Established => {
                if let Some(end) = self.ends.get_mut(&pair) {
                    end.established = true;
                }
            }
            LinkEvent::Inputs { tick, bytes, again } => {
                self.arrived.push((pair, Arrived::Inputs { tick, bytes, again }));
            }
            LinkEvent::Deliver(delivery) => {
                for frame in Frames::new(&delivery.packet[delivery.offset..]).flatten() {
                    self.arrived.push((pair, Arrived::Message(frame.body.payload.to_vec())));
                }
                if let Some(end) = self.ends.get_mut(&pair) {
                    end.consumed[usize::from(!delivery.stream)] += delivery.cost;
                    let [stream, reliable] = end.consumed;
                    self.handle(now, pair, LinkInput::Consumed { stream, reliable });
                }
            }
            _ => {}
        }
    }

    /// A connection is described by its number; both ends open when the answer is there.
    fn drive(&mut self, now: Now, pair: Pair, command: DriverCommand) {
        let described = |connection: ConnectionId| {
            let sdp = connection.0.to_string();
            LinkInput::Driver(DriverEvent::Described { connection, sdp })
        };
        match command {
            DriverCommand::Offer { connection } | DriverCommand::Answer { connection, .. } => {
                if let Some(end) = self.ends.get_mut(&pair) {
                    end.connection = connection;
                }
                self.handle(now, pair, described(connection));
            }
            DriverCommand::SetAnswer { .. } => {
                for pair in [(pair.1, pair.0), pair] {
                    let connection = self.ends[&pair].connection;
                    let open = DriverEvent::ChannelsOpen { connection };
                    self.handle(now, pair, LinkInput::Driver(open));
                }
            }
            DriverCommand::AddCandidate { .. } | DriverCommand::Drop { .. } => {}
        }
    }
}
