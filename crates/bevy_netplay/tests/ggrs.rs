//! ggrs sessions of several apps, over the in-memory network: they agree whatever the network does.

#![expect(clippy::print_stdout, reason = "a failing test shows its seed")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bevy_app::{App, PreUpdate};
use bevy_ecs::prelude::*;
use bevy_netplay::ggrs::{GgrsLobby, GgrsSockets, NetplayGgrsPlugin, NetplayGgrsSystems};
use bevy_netplay::prelude::*;
use bevy_netplay::test_kit::TestNet;
use ggrs::{
    Config, DesyncDetection, GgrsEvent, GgrsRequest, InputStatus, P2PSession, PlayerType,
    PredictRepeatLast, SessionState,
};
use netplay_simnet::Conditions;

#[derive(Debug)]
struct Game;

impl Config for Game {
    type Input = u16;
    type InputPredictor = PredictRepeatLast;
    type State = u64;
    type Address = PeerId;
}

#[derive(Resource)]
struct Play {
    session: P2PSession<Game>,
    state: u64,
    frame: i32,
    /// The state at the beginning of each frame, as it was last saved.
    saved: BTreeMap<i32, u64>,
    rollbacks: usize,
    events: Vec<String>,
    me: PeerId,
}

fn game(app: &mut App) {
    app.add_plugins(NetplayGgrsPlugin)
        .add_systems(PreUpdate, (start, play).chain().in_set(NetplayGgrsSystems::Session));
}

fn start(
    mut lobby: GgrsLobby,
    own: Query<&Lobby>,
    play: Option<Res<Play>>,
    mut commands: Commands,
) -> Result {
    if play.is_some() || !lobby.is_full() {
        return Ok(());
    }
    let session = lobby
        .session_builder::<Game>()
        .with_desync_detection_mode(DesyncDetection::On { interval: 10 })
        .start_p2p_session(lobby.socket())?;
    commands.insert_resource(Play {
        session,
        state: 0,
        frame: 0,
        saved: BTreeMap::new(),
        rollbacks: 0,
        events: Vec::new(),
        me: own.single()?.me,
    });
    Ok(())
}

fn play(play: Option<ResMut<Play>>) -> Result {
    let Some(mut play) = play else { return Ok(()) };
    let play = &mut *play;
    play.session.poll_remote_clients();
    if play.session.current_state() == SessionState::Running {
        for handle in play.session.local_player_handles() {
            // Held for some frames, as keys are; different for each player.
            let held = (play.session.current_frame() / 7) as u64 ^ play.me.as_u128() as u64;
            let input = held.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
            play.session.add_local_input(handle, input as u16)?;
        }
        for request in play.session.advance_frame()? {
            play.fulfil(request);
        }
    }
    play.events.extend(play.session.events().map(|event| match event {
        GgrsEvent::DesyncDetected { frame, .. } => format!("desync at {frame}"),
        event => format!("{event:?}"),
    }));
    Ok(())
}

impl Play {
    fn fulfil(&mut self, request: GgrsRequest<Game>) {
        match request {
            GgrsRequest::SaveGameState { cell, frame } => {
                self.saved.insert(frame, self.state);
                cell.save(frame, Some(self.state), Some(self.state.into()));
            }
            GgrsRequest::LoadGameState { cell, frame } => {
                self.rollbacks += 1;
                self.frame = frame;
                self.state = cell.load().expect("it was saved");
            }
            GgrsRequest::AdvanceFrame { inputs } => {
                self.frame += 1;
                for (input, status) in inputs {
                    let gone = u64::from(status == InputStatus::Disconnected);
                    let input = u64::from(input) + (gone << 32);
                    self.state = (self.state ^ input).wrapping_mul(0x5851_F42D_4C95_7F2D);
                }
            }
        }
    }
}

fn of(net: &mut TestNet, index: usize) -> Option<&mut Play> {
    let play = net.app(index).world_mut().get_resource_mut::<Play>();
    play.map(Mut::into_inner)
}

fn confirmed(net: &mut TestNet, index: usize) -> i32 {
    of(net, index).map_or(-1, |play| play.session.confirmed_frame().min(play.frame - 1))
}

/// Steps until it is done; ggrs has clocks of its own, so that the limit is in real time.
fn step_until(net: &mut TestNet, mut done: impl FnMut(&mut TestNet) -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done(net) {
        assert!(Instant::now() < end, "not done in a minute");
        net.step();
    }
}

/// Until all of these have all inputs of the frames before this one, and have played them.
fn play_to(net: &mut TestNet, players: &[usize], frame: i32) {
    step_until(net, |net| players.iter().all(|index| confirmed(net, *index) >= frame));
}

fn assert_agreed(net: &mut TestNet, players: &[usize]) {
    let mut saved = Vec::new();
    for index in players {
        let until = confirmed(net, *index);
        let play = of(net, *index).expect("it plays");
        let desync = play.events.iter().find(|event| event.starts_with("desync"));
        assert_eq!(desync, None);
        saved.push((until, play.saved.clone()));
    }
    let until = saved.iter().map(|(until, _)| *until).min().expect("there are players");
    for frame in 0..=until {
        let states: Vec<_> = saved.iter().map(|(_, saved)| saved[&frame]).collect();
        assert!(states.iter().all(|state| *state == states[0]), "frame {frame}: {states:x?}");
    }
}

fn players(seed: u64, count: usize, conditions: &Conditions) -> TestNet {
    println!("seed {seed:#x}, {count} players, {conditions}");
    let mut net = TestNet::new(seed, count, game);
    net.network.set_conditions(conditions);
    net.connect_all();
    net
}

fn bad() -> Conditions {
    Conditions::perfect()
        .with_delay(Duration::from_millis(40))
        .with_jitter(Duration::from_millis(15))
        .with_loss(0.1)
        .with_duplicates(0.02)
}

#[test]
fn two_to_four_players_agree_on_every_frame_in_spite_of_loss() {
    for (seed, count) in [(1, 2), (2, 3), (3, 4)] {
        let mut net = players(seed, count, &bad());
        let all: Vec<_> = (0..count).collect();
        play_to(&mut net, &all, 400);
        assert_agreed(&mut net, &all);
        // Who is a few frames behind has to guess nothing.
        let rollbacks = |index| of(&mut net, index).expect("it plays").rollbacks;
        let rollbacks: usize = (0..count).map(rollbacks).sum();
        assert!(rollbacks > 50, "{rollbacks} rollbacks: nothing was predicted");
        for index in all {
            let counts = net.app(index).world().resource::<GgrsSockets>().counts();
            assert_eq!((counts.refused, counts.dropped), (0, 0), "{counts:?}");
        }
    }
}

#[test]
fn players_have_the_same_places_everywhere() {
    let mut net = players(4, 4, &Conditions::perfect());
    play_to(&mut net, &[0, 1, 2, 3], 10);
    let mut ids: Vec<_> = (0..4).map(|index| net.id(index).expect("it has joined")).collect();
    ids.sort_unstable();
    for index in 0..4 {
        let me = net.id(index).expect("it has joined");
        let system = |lobby: GgrsLobby| lobby.players();
        use bevy_ecs::system::RunSystemOnce;
        let players = net.app(index).world_mut().run_system_once(system).expect("it runs");
        let place = |id: &PeerId| match *id == me {
            true => PlayerType::Local,
            false => PlayerType::Remote(*id),
        };
        assert_eq!(players, ids.iter().map(place).collect::<Vec<_>>());
        let locals = of(&mut net, index).expect("it plays").session.local_player_handles();
        assert_eq!(locals, [ids.iter().position(|id| *id == me).expect("it is there")]);
    }
}

#[test]
fn on_a_good_path_inputs_arrive_in_the_next_frame() {
    let mut net = players(5, 2, &Conditions::perfect());
    play_to(&mut net, &[0, 1], 100);
    // With a delay of two frames and one on the way nothing has to be guessed.
    for index in 0..2 {
        assert_eq!(of(&mut net, index).expect("it plays").rollbacks, 0);
    }
}

#[test]
fn a_player_who_is_cut_off_for_a_while_comes_back_into_the_same_session() {
    let mut net = players(6, 3, &Conditions::perfect());
    play_to(&mut net, &[0, 1, 2], 60);
    let ids: Vec<_> = (0..3).map(|index| net.id(index).expect("it has joined")).collect();
    let cut = |net: &TestNet, blocked| {
        for other in &ids[1..] {
            net.network.block(ids[0], *other, blocked);
            net.network.block(*other, ids[0], blocked);
        }
    };
    cut(&net, true);
    // Five seconds; its links are made anew when there is a way.
    for _ in 0..300 {
        net.step();
    }
    let stood = confirmed(&mut net, 1);
    cut(&net, false);
    play_to(&mut net, &[0, 1, 2], stood + 200);
    assert_agreed(&mut net, &[0, 1, 2]);
    for index in 0..3 {
        let events = &of(&mut net, index).expect("it plays").events;
        assert!(!events.iter().any(|event| event.starts_with("Disconnected")), "{events:?}");
    }
}

#[test]
fn the_session_of_two_goes_on_for_who_stays_when_the_other_leaves() {
    let mut net = players(7, 2, &bad());
    play_to(&mut net, &[0, 1], 60);
    let world = net.app(1).world_mut();
    let lobby = world.query_filtered::<Entity, With<JoinLobby>>().single(world).expect("a lobby");
    world.entity_mut(lobby).despawn();
    let left = of(&mut net, 0).expect("it plays").session.current_frame();
    step_until(&mut net, |net| of(net, 0).expect("it plays").frame > left + 120);
    let events = &of(&mut net, 0).expect("it plays").events;
    assert_eq!(events.iter().filter(|event| event.starts_with("Disconnected")).count(), 1);
}
