//! Real ggrs sessions against players who send what they like.

mod apps;
mod fuzz;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::ggrs::{
    Config, DesyncDetection, GgrsError, GgrsRequest, Message, NonBlockingSocket, P2PSession,
    PlayerType, PredictRepeatLast, SessionBuilder, SessionState,
};
use netplay_protocol::PeerId;

use super::runs;
use super::socket::{GgrsSocket, QUEUE_MAX, Wire};
use super::wire::{Body, Input, Packet, Status};

#[derive(Debug)]
struct Game;

impl Config for Game {
    type Input = u8;
    type InputPredictor = PredictRepeatLast;
    type State = u64;
    type Address = PeerId;
}

/// How a session is set up.
#[derive(Clone, Copy, Debug)]
struct Setup {
    delay: usize,
    window: usize,
    compares: bool,
    sparse: bool,
}

const USUAL: Setup = Setup { delay: 2, window: 8, compares: true, sparse: false };

/// A game with a ggrs session, player 0.
struct Victim {
    session: P2PSession<Game>,
    wire: Wire,
    state: u64,
    inputs: u8,
    events: Vec<String>,
}

fn id(number: u128) -> PeerId {
    PeerId::from_u128(number)
}

fn session(
    setup: Setup,
    others: usize,
    socket: impl NonBlockingSocket<PeerId> + 'static,
) -> P2PSession<Game> {
    let detection = match setup.compares {
        true => DesyncDetection::On { interval: 10 },
        false => DesyncDetection::Off,
    };
    let mut builder = SessionBuilder::<Game>::new()
        .with_num_players(others + 1)
        .unwrap()
        .with_input_delay(setup.delay)
        .with_max_prediction_window(setup.window)
        .with_sparse_saving_mode(setup.sparse)
        .with_desync_detection_mode(detection)
        .add_player(PlayerType::Local, 0)
        .unwrap();
    for other in 1..=others {
        builder = builder.add_player(PlayerType::Remote(id(other as u128)), other).unwrap();
    }
    builder.start_p2p_session(socket).unwrap()
}

impl Victim {
    fn new(setup: Setup, others: usize) -> Self {
        let ids: Vec<_> = (1..=others).map(|other| id(other as u128)).collect();
        let wire = Wire::new(ids.iter().copied());
        let session = session(setup, others, GgrsSocket::new(wire.clone(), ids));
        Self { session, wire, state: 0, inputs: 0, events: Vec::new() }
    }

    /// One tick of the game.
    fn tick(&mut self) {
        self.inputs = self.inputs.wrapping_mul(5).wrapping_add(3);
        self.session.add_local_input(0, self.inputs >> 4).unwrap();
        match self.session.advance_frame() {
            Ok(requests) => requests.into_iter().for_each(|request| self.fulfil(request)),
            Err(error) => assert!(matches!(error, GgrsError::NotSynchronized), "{error}"),
        }
        self.events.extend(self.session.events().map(|event| format!("{event:?}")));
    }

    fn fulfil(&mut self, request: GgrsRequest<Game>) {
        match request {
            GgrsRequest::SaveGameState { cell, frame } => {
                cell.save(frame, Some(self.state), Some(self.state.into()));
            }
            GgrsRequest::LoadGameState { cell, .. } => self.state = cell.load().unwrap(),
            GgrsRequest::AdvanceFrame { inputs } => {
                for (input, status) in inputs {
                    self.state = self.state.wrapping_mul(31).wrapping_add(u64::from(input));
                    self.state = self.state.wrapping_add(status as u64);
                }
            }
        }
    }

    fn plays(&self) -> bool {
        self.session.current_state() == SessionState::Running
    }
}

/// A player as far as its messages go.
struct Player {
    id: PeerId,
    magic: u16,
    players: usize,
    inputs: Vec<u8>,
    /// The newest frame of ours that the victim has.
    acked: i32,
    /// The newest frame of the victim's that we have.
    heard: i32,
    /// It never says that it has any.
    is_deaf: bool,
}

impl Player {
    fn new(number: usize, players: usize) -> Self {
        let (id, magic) = (id(number as u128), 1000 + number as u16);
        Self { id, magic, players, inputs: Vec::new(), acked: -1, heard: -1, is_deaf: false }
    }

    fn packet(&self, body: Body) -> Packet {
        Packet { magic: self.magic, body }
    }

    /// The newest frame of our own inputs.
    fn newest(&self) -> i32 {
        self.inputs.len() as i32 - 1
    }

    /// What an honest player answers.
    fn answer(&mut self, packet: &Packet) -> Option<Packet> {
        let body = match &packet.body {
            Body::SyncRequest { random } => Body::SyncReply { random: *random },
            Body::QualityReport { ping, .. } => Body::QualityReply { pong: *ping },
            Body::Input(input) => {
                let frames = runs::frames(&input.bytes, &mut Vec::new()).unwrap();
                if !self.is_deaf {
                    self.heard = self.heard.max(input.start_frame + frames as i32 - 1);
                }
                self.acked = self.acked.max(input.ack_frame);
                Body::InputAck { ack_frame: self.heard }
            }
            Body::InputAck { ack_frame } => {
                self.acked = self.acked.max(*ack_frame);
                return None;
            }
            _ => return None,
        };
        Some(self.packet(body))
    }

    /// All of our inputs that the victim does not have, with some more at the end.
    fn input(&mut self, new: impl IntoIterator<Item = u8>) -> Packet {
        // The victim may have inputs that were made up.
        let known = self.inputs.len().max((self.acked + 1) as usize);
        self.inputs.resize(known, 0);
        self.inputs.extend(new);
        let mut base = usize::try_from(self.acked).map_or(0, |acked| self.inputs[acked]);
        let mut bytes = Vec::new();
        for input in &self.inputs[(self.acked + 1) as usize..] {
            bytes.extend([1, 0, input ^ base]);
            base = *input;
        }
        let statuses = vec![Status { disconnected: false, last_frame: -1 }; self.players];
        self.packet(Body::Input(Input {
            statuses,
            disconnect_requested: false,
            start_frame: self.acked + 1,
            ack_frame: self.heard,
            bytes: pack(&bytes),
        }))
    }
}

/// Bytes as one run that says how many they are.
fn pack(bytes: &[u8]) -> Vec<u8> {
    let number = bytes.len() << 1;
    let mut packed = vec![number as u8 & 0x7F | 0x80, (number >> 7) as u8 & 0x7F];
    packed.extend_from_slice(bytes);
    packed
}

/// A victim and all others, who answer as they should.
struct Table {
    victim: Victim,
    others: Vec<Player>,
}

impl Table {
    fn new(setup: Setup, others: usize) -> Self {
        let players = (1..=others).map(|number| Player::new(number, others + 1)).collect();
        Self { victim: Victim::new(setup, others), others: players }
    }

    /// Carries what the victim has sent, and what is answered.
    fn carry(&mut self) {
        let mut shared = self.victim.wire.lock();
        while let Some((to, packet)) = shared.leave() {
            let player = self.others.iter_mut().find(|player| player.id == to).unwrap();
            if let Some(answer) = player.answer(&packet) {
                shared.arrive(to, answer);
            }
        }
    }

    fn send(&mut self, from: usize, packet: Packet) {
        self.victim.wire.lock().arrive(self.others[from].id, packet);
    }

    /// A tick in which everybody does what it should.
    fn tick(&mut self) {
        for index in 0..self.others.len() {
            let player = &mut self.others[index];
            // No further ahead than an honest player can be.
            let is_behind = player.is_deaf || player.newest() < player.heard + 8;
            let packet = player.input(is_behind.then_some(7));
            self.send(index, packet);
        }
        self.victim.tick();
        self.carry();
    }

    fn play(&mut self, frames: i32) {
        let until = self.victim.session.current_frame() + frames;
        for _ in 0..20 * frames {
            self.tick();
            if self.victim.session.current_frame() >= until {
                return;
            }
        }
        panic!("it does not play: {:?}", self.victim.events);
    }

    fn refused(&self) -> u64 {
        self.victim.wire.lock().take_counts().refused
    }
}

/// Messages that are well-formed bytes, and that no honest player sends.
fn hostile(table: &mut Table) -> Vec<(&'static str, Packet)> {
    let player = &mut table.others[0];
    let honest = player.input([1]);
    let Body::Input(input) = &honest.body else { unreachable!() };
    let with = |change: &dyn Fn(&mut Input)| {
        let mut input = input.clone();
        change(&mut input);
        player.packet(Body::Input(input))
    };
    let frames = |count: usize| pack(&[1, 0, 0].repeat(count));
    vec![
        ("a number that is cut off", with(&|input| input.bytes = vec![0x80])),
        ("a run of two gigabytes", with(&|input| input.bytes = vec![0xFD, 0xFF, 0xFF, 0xFF, 0x1F])),
        ("a number that overflows", with(&|input| input.bytes = vec![0xFF; 30])),
        ("more bytes than there are", with(&|input| input.bytes = vec![0xFE, 0x01, 1, 2, 3])),
        ("two hundred frames ahead", with(&|input| input.bytes = frames(200))),
        ("frames without end", with(&|input| input.bytes = vec![0x81, 0x80, 0x10])),
        ("the last of all frames", with(&|input| input.start_frame = i32::MAX)),
        ("a goodbye", with(&|input| input.disconnect_requested = true)),
        ("an answer from 1970", player.packet(Body::QualityReply { pong: 0 })),
        (
            "a checksum before all time",
            player.packet(Body::ChecksumReport { checksum: 1, frame: i32::MIN }),
        ),
        (
            "a checksum in a far future",
            player.packet(Body::ChecksumReport { checksum: 1, frame: i32::MAX }),
        ),
    ]
}

#[test]
fn messages_that_no_honest_player_sends_are_refused_and_the_game_goes_on() {
    let mut table = Table::new(USUAL, 2);
    table.play(60);
    assert_eq!(table.refused(), 0);
    for (what, packet) in hostile(&mut table) {
        table.send(0, packet);
        table.victim.tick();
        table.carry();
        assert_eq!(table.refused(), 1, "{what}");
        table.play(20);
    }
    // Before the first input, an input of a session that was long.
    let mut table = Table::new(USUAL, 2);
    while !table.victim.plays() {
        table.victim.tick();
        table.carry();
    }
    let mut late = table.others[0].input([1]);
    if let Body::Input(input) = &mut late.body {
        input.start_frame = 5000;
    }
    table.send(0, late);
    table.play(60);
    assert_eq!(table.refused(), 1);
}

/// Player 1 says that player 2 was lost long ago.
fn claim(table: &mut Table) -> Packet {
    let mut claim = table.others[0].input([1]);
    if let Body::Input(input) = &mut claim.body {
        input.statuses[2] = Status { disconnected: true, last_frame: 10 };
    }
    claim
}

#[test]
fn a_claim_that_a_third_player_was_lost_long_ago_ends_nothing() {
    let mut table = Table::new(USUAL, 2);
    table.play(60);
    let claim = claim(&mut table);
    table.send(0, claim);
    table.play(60);
    assert!(!table.victim.events.iter().any(|event| event.contains("Disconnected")));
}

/// A socket without a guard.
struct Bare(Wire);

impl NonBlockingSocket<PeerId> for Bare {
    fn send_to(&mut self, message: &Message, to: &PeerId) {
        self.0.lock().send(*to, Packet::of(message).unwrap());
    }

    fn receive_all_messages(&mut self) -> Vec<(PeerId, Message)> {
        let mut shared = self.0.lock();
        let arrived = shared.take_arrived();
        arrived.map(|(peer, packet)| (peer, packet.message().unwrap())).collect()
    }
}

/// Whether ggrs without a guard lives on after this.
fn lives(packet: impl FnOnce(&mut Table) -> Packet) -> bool {
    let mut table = Table::new(USUAL, 2);
    table.victim.session = session(USUAL, 2, Bare(table.victim.wire.clone()));
    table.play(60);
    let packet = packet(&mut table);
    let played = catch_unwind(AssertUnwindSafe(|| {
        table.send(0, packet);
        table.play(60);
    }));
    played.is_ok()
}

/// The reason for the guard. When this fails, ggrs has learnt something.
#[test]
fn ggrs_alone_panics_on_some_of_them() {
    let count = hostile(&mut Table::new(USUAL, 2)).len();
    let mut ended = Vec::new();
    for number in 0..count {
        let mut what = "";
        let lives = lives(|table| {
            let (name, packet) = hostile(table).swap_remove(number);
            what = name;
            // What takes gigabytes may take this process with it.
            if name.contains("gigabytes") {
                table.others[0].packet(Body::KeepAlive)
            } else {
                packet
            }
        });
        if !lives {
            ended.push(what);
        }
    }
    let expected = ["a number that is cut off", "two hundred frames ahead"];
    assert!(expected.iter().all(|what| ended.contains(what)), "{ended:?}");
    assert!(!lives(claim));
}

#[test]
fn a_flood_is_dropped_oldest_first_and_waits_for_nobody_else() {
    let mut table = Table::new(USUAL, 2);
    table.play(30);
    let before = table.victim.wire.lock().waiting();
    for pong in 0..100_000 {
        let packet = table.others[0].packet(Body::QualityReply { pong });
        table.send(0, packet);
    }
    table.send(1, table.others[1].packet(Body::KeepAlive));
    let waiting = table.victim.wire.lock().waiting();
    assert!((QUEUE_MAX + 1..=QUEUE_MAX + 1 + before).contains(&waiting), "{waiting}");
    table.play(30);
}

#[test]
fn who_leaves_the_lobby_is_gone_from_the_session_soon_and_the_others_play_on() {
    let mut table = Table::new(USUAL, 2);
    table.play(60);
    let last = table.victim.session.current_frame();
    table.victim.wire.lock().depart(id(1), true);
    let mut gone = table.others.remove(0);
    for _ in 0..60 {
        let packet = table.others[0].input([7]);
        table.send(0, packet);
        table.victim.tick();
        let mut shared = table.victim.wire.lock();
        while let Some((to, packet)) = shared.leave() {
            let player = if to == id(1) { &mut gone } else { &mut table.others[0] };
            if let Some(answer) = player.answer(&packet).filter(|_| to != id(1)) {
                shared.arrive(to, answer);
            }
        }
    }
    assert!(table.victim.session.current_frame() > last + 20);
    let told = table.victim.events.iter().filter(|event| event.starts_with("Disconnected"));
    assert_eq!(told.count(), 1, "{:?}", table.victim.events);
}

/// ggrs would go back to the frame that it is in, and panics there.
#[test]
fn who_leaves_with_an_input_at_the_last_moment_is_waited_for_a_little_longer() {
    let mut table = Table::new(Setup { delay: 0, window: 2, ..USUAL }, 1);
    table.play(1);
    for _ in 0..36 {
        table.victim.tick();
        table.carry();
    }
    table.victim.wire.lock().depart(id(1), true);
    table.tick();
    table.tick();
    assert!(!table.victim.events.iter().any(|event| event.contains("Disconnected")));
}
