//! Matches on a simulated network, recorded at every player and played again.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::collections::BTreeMap;

use netplay_protocol::{BuildId, GameId, Now};
use netplay_rollback::recording::{
    Ending, Header, RecordError, Recorder, Recording, ReplayStep, TickInputs,
};
use netplay_rollback::{Event, Input, InputStatus, Role, Seat, Session, SessionConfig, Tick};
use netplay_simnet::Conditions;
use support::game::Game;
use support::node::Node;
use support::world::{MS, Setup, World, peer};

/// The file of one player, while it is written.
struct Tape {
    recorder: Recorder,
    file: Vec<u8>,
    /// The tick at which the node last ran.
    seen: Tick,
}

fn config(world: &World) -> SessionConfig {
    let setup = &world.setup;
    let seat = |of| Seat { peer: peer(of), players: setup.players_each };
    let roster = (0..setup.peers).map(seat).collect();
    let mut config = SessionConfig::new(77, peer(0), peer(0), roster);
    config.rate = netplay_tick::TickRate::new(setup.rate).unwrap();
    config.checksum_every = setup.rate;
    config
}

impl Tape {
    fn new(world: &World, first_tick: Tick) -> Self {
        let game = GameId::new("tiny").unwrap();
        let mut header = Header::new(&config(world), game, BuildId::new("1").unwrap(), 1);
        header.first_tick = first_tick;
        Self { recorder: Recorder::new(&header).unwrap(), file: Vec::new(), seen: -1 }
    }

    /// A millisecond has passed.
    fn step(&mut self, node: &Node) {
        self.recorder.follow(&node.session).unwrap();
        self.file.extend(self.recorder.take_bytes());
        // States are settled when the node has just run; a snapshot every two seconds.
        if self.seen != node.next_tick {
            self.seen = node.next_tick;
            let last = self.recorder.next_tick();
            let due = |tick: &&Tick| **tick % 120 == 0 && **tick <= last;
            if let Some((tick, game)) = node.saved.iter().rfind(|(tick, _)| due(tick)) {
                match self.recorder.snapshot(*tick, &game.to_bytes()) {
                    Ok(()) | Err(RecordError::TooOld { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// Runs a world and records all nodes; who returns gets another tape.
fn run(world: &mut World, tapes: &mut BTreeMap<usize, Tape>, millis: u32) {
    for _ in 0..millis {
        world.step();
        for (index, node) in &world.nodes {
            let restored = node.events.iter().find_map(|(_, event)| match event {
                Event::Restored(tick) => Some(*tick),
                _ => None,
            });
            if !tapes.contains_key(index)
                && let Some(first) = restored
            {
                let mut tape = Tape::new(world, first);
                assert_eq!(node.session.current(), first, "the state is as it came");
                tape.recorder.snapshot(first, &node.game.to_bytes()).unwrap();
                tapes.insert(*index, tape);
            }
            if let Some(tape) = tapes.get_mut(index) {
                tape.step(node);
            }
        }
    }
}

fn step(game: &mut Game, tick: &TickInputs) {
    game.step(tick.inputs());
}

/// Plays a file again from its start and from every snapshot; gives how many checksums were equal.
fn verify(recording: &Recording<'_>, about: &str) -> u32 {
    let players = recording.header().roster.iter().map(|seat| usize::from(seat.players)).sum();
    let mut compared = 0;
    if recording.first_tick() == 0 {
        let mut game = Game::new(players, 0);
        compared += recording.replay().verify(&mut game, step, Game::checksum).expect(about);
    }
    for snapshot in recording.snapshots() {
        let mut game = Game::from_bytes(snapshot.bytes, players);
        let replay = recording.replay_from(snapshot.tick).unwrap();
        let sums = replay.verify(&mut game, step, Game::checksum).expect(about);
        assert!(sums > 0 || recording.end_tick() - snapshot.tick < 60, "{about}: {snapshot:?}");
        compared += sums;
    }
    compared
}

/// What is in two recordings is the same in both.
fn same(a: &Recording<'_>, b: &Recording<'_>) -> usize {
    let first = a.first_tick().max(b.first_tick());
    let ticks = a.ticks_from(first).zip(b.ticks_from(first));
    ticks.inspect(|(a, b)| assert_eq!(a, b)).count()
}

fn start(setup: Setup, seed: u64) -> (World, BTreeMap<usize, Tape>) {
    let world = World::new(setup, seed);
    let tapes = (0..world.setup.peers).map(|index| (index, Tape::new(&world, 0))).collect();
    (world, tapes)
}

#[test]
fn a_match_with_a_drop_and_a_return_is_played_again_the_same() {
    for seed in 0..8 {
        let conditions = Conditions::perfect().with_delay(MS * 40).with_loss(0.05);
        let setup = Setup { peers: 3, conditions, input_max: 30, ..Setup::default() };
        let (mut world, mut tapes) = start(setup, seed);
        run(&mut world, &mut tapes, 4_000);
        world.kill(2);
        let dead = tapes.remove(&2).unwrap();
        run(&mut world, &mut tapes, 4_000);
        world.start(2, Role::Returning);
        run(&mut world, &mut tapes, 6_000);
        world.check_inputs();

        let files: Vec<Vec<u8>> =
            tapes.into_values().map(|tape| [tape.file, tape.recorder.finish()].concat()).collect();
        let recordings: Vec<_> = files.iter().map(|file| Recording::read(file).unwrap()).collect();
        let about = format!("seed {seed}: {recordings:?}");
        let [first, second, returned] = &recordings[..] else { panic!("{about}") };
        for recording in &recordings {
            assert_eq!(recording.ending(), Ending::Finished, "{about}");
            assert!(recording.end_tick() > world.tick() - 30, "{about}");
            assert!(recording.snapshots().count() >= 3, "{about}");
            assert!(verify(recording, &about) > 10, "{about}");
        }
        assert!(same(first, second) > 800 && same(first, returned) > 200, "{about}");
        assert!(returned.first_tick() > 0, "{about}");
        let absent =
            |tick: &TickInputs| tick.inputs().any(|input| input.status == InputStatus::Absent);
        assert!(first.ticks().filter(absent).count() > 100, "{about}");

        // Who died has what it wrote until then.
        let recording = Recording::read(&dead.file).unwrap();
        assert_eq!(recording.ending(), Ending::Cut { at: dead.file.len() }, "{about}");
        assert!(recording.end_tick() > 100 && verify(&recording, &about) > 0, "{about}");
    }
}

#[test]
fn a_snapshot_that_is_asked_for_is_of_a_final_state() {
    let conditions = Conditions::perfect().with_delay(MS * 40).with_loss(0.05);
    let (mut world, mut tapes) = start(Setup { conditions, ..Setup::default() }, 11);
    run(&mut world, &mut tapes, 2_000);
    for asked in 1..=20 {
        let node = world.nodes.get_mut(&0).unwrap();
        assert_eq!(node.snapshots, asked - 1);
        node.session.want_snapshot();
        run(&mut world, &mut tapes, 200);
    }
    let node = &world.nodes[&0];
    assert_eq!((node.snapshots, node.given.len()), (20, 20));
    let final_states: Vec<(Tick, Vec<u8>)> = node.given.clone();
    let tape = tapes.remove(&0).unwrap();
    let file = [tape.file, tape.recorder.finish()].concat();
    let recording = Recording::read(&file).unwrap();
    let mut game = Game::new(2, 0);
    for tick in recording.ticks() {
        if let Some((_, bytes)) = final_states.iter().find(|(at, _)| *at == tick.tick()) {
            assert_eq!(&game.to_bytes(), bytes, "before tick {}", tick.tick());
        }
        step(&mut game, &tick);
    }
    assert!(final_states.iter().all(|(tick, _)| *tick < recording.end_tick()));
}

#[test]
fn who_watches_records_the_same() {
    let (mut world, mut tapes) = start(Setup::default(), 3);
    run(&mut world, &mut tapes, 2_000);
    world.start(2, Role::Spectator { delay: 60, from_start: false });
    run(&mut world, &mut tapes, 6_000);
    let files: Vec<Vec<u8>> =
        tapes.into_values().map(|tape| [tape.file, tape.recorder.finish()].concat()).collect();
    let recordings: Vec<_> = files.iter().map(|file| Recording::read(file).unwrap()).collect();
    assert_eq!(recordings.len(), 3);
    assert!(same(&recordings[0], &recordings[2]) > 200, "{recordings:?}");
    assert!(verify(&recordings[2], "the spectator") > 3, "{recordings:?}");
}

#[test]
fn the_first_state_that_differs_is_found() {
    let (mut world, mut tapes) = start(Setup::default(), 4);
    run(&mut world, &mut tapes, 4_000);
    let tape = tapes.remove(&0).unwrap();
    let file = [tape.file, tape.recorder.finish()].concat();
    let recording = Recording::read(&file).unwrap();
    let changed = |game: &mut Game, tick: &TickInputs| {
        step(game, tick);
        game.sum ^= u64::from(tick.tick() == 100);
    };
    let difference = recording.replay().verify(&mut Game::new(2, 0), changed, Game::checksum);
    let difference = difference.unwrap_err();
    assert_eq!((difference.tick, difference.equal), (120, Some(60)));
    let told = recording.checksums().find(|(tick, _)| *tick == 120);
    assert_eq!(told, Some((120, difference.recorded)));
    assert_ne!(difference.computed, difference.recorded);
}

#[test]
fn a_checksum_is_told_before_the_tick_that_follows_it() {
    let (mut world, mut tapes) = start(Setup::default(), 5);
    run(&mut world, &mut tapes, 2_500);
    let tape = tapes.remove(&1).unwrap();
    let file = [tape.file, tape.recorder.finish()].concat();
    let recording = Recording::read(&file).unwrap();
    let mut steps = recording.replay().skip(60);
    assert!(matches!(steps.next(), Some(ReplayStep::Checksum { tick: 60, .. })));
    assert!(matches!(steps.next(), Some(ReplayStep::Advance(inputs)) if inputs.tick() == 60));
}

#[test]
fn inputs_that_are_forgotten_are_a_gap() {
    let world = World::new(Setup { peers: 1, ..Setup::default() }, 6);
    let mut session = Session::new(config(&world)).unwrap();
    let play = |session: &mut Session, ticks: core::ops::Range<Tick>| {
        for tick in ticks {
            session.handle(Now::ZERO, Input::Tick(tick));
            while session.poll_output().is_some() {}
        }
    };
    let (mut on_time, mut late) = (Tape::new(&world, 0).recorder, Tape::new(&world, 0).recorder);
    play(&mut session, 0..4000);
    assert_eq!(on_time.follow(&session), Ok(4000));
    assert_eq!(on_time.follow(&session), Ok(0));
    play(&mut session, 4000..5000);
    assert_eq!(on_time.follow(&session), Ok(1000));
    assert_eq!(late.follow(&session), Err(RecordError::Gap(0)));
    let mut two = Tape::new(&World::new(Setup::default(), 6), 4990).recorder;
    assert_eq!(two.follow(&session), Err(RecordError::Players { found: 1, expected: 2 }));
    assert_eq!(two.next_tick(), 4990);
}
