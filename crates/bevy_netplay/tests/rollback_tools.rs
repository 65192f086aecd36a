//! What a simulation is given in place of what cannot be rewound: messages, random numbers, states, effects.

mod rollback_game;

use std::collections::BTreeMap;
use std::time::Duration;

use bevy::prelude::*;
use bevy_netplay::rollback::{
    AddEffects, AddRollback, AddTickMessages, AddTickState, Cancelled, Effects, Fired, Player,
    PlayerInputs, Resimulating, RollbackCheck, RollbackCheckPlugin, RollbackPlugin, TickMessages,
    TickRng, TickState,
};
use bevy_netplay::test_kit::on_one_thread;
use rollback_game::{Game, Pad, bad, plugin, status};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shot(u8);

#[derive(States, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Weather {
    #[default]
    Fair,
    Storm,
}

/// What came of it all: so that a difference in any of it is one of the state.
#[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    shots: u32,
    late_shots: u32,
    draws: u32,
    storms: u32,
    fair: u32,
    in_storm: u32,
}

/// An effect: who shot, and the how manieth it is.
#[derive(Clone, Debug, PartialEq)]
struct Bang(u32);

/// What an app has shown, by effect: how often fired less how often cancelled.
#[derive(Resource, Debug, Default)]
struct Shown {
    open: BTreeMap<u32, i32>,
    fired: u32,
    cancelled: u32,
    finals: Vec<(i32, u32)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Final(u32);

fn tools(app: &mut App, who_shoots: impl Fn(&World) -> Vec<u8> + Send + Sync + 'static) {
    app.add_tick_messages::<Shot>()
        .add_tick_state::<Weather>()
        .add_effects::<Bang>()
        .add_effects::<Final>()
        .init_resource::<Sum>()
        .init_resource::<Shown>()
        .rollback_resource::<Sum>()
        .add_systems(
            FixedUpdate,
            (
                count_late,
                move |world: &mut World| {
                    let shooters = who_shoots(world);
                    let mut shots = world.resource_mut::<TickMessages<Shot>>();
                    shooters.into_iter().for_each(|player| shots.write(Shot(player)));
                },
                count,
                (|mut sum: ResMut<Sum>| sum.in_storm += 1).run_if(in_state(Weather::Storm)),
                turn,
            )
                .chain(),
        )
        .add_systems(OnEnter(Weather::Storm), |mut sum: ResMut<Sum>| sum.storms += 1)
        .add_systems(OnEnter(Weather::Fair), |mut sum: ResMut<Sum>| sum.fair += 1)
        .add_systems(Update, show)
        .add_observer(|_: On<bevy_netplay::rollback::SimulationBegins>, mut commands: Commands| {
            commands.insert_resource(Sum::default());
            commands.insert_resource(Shown::default());
        });
}

fn count_late(shots: Res<TickMessages<Shot>>, mut sum: ResMut<Sum>) {
    sum.late_shots += shots.read_last().count() as u32;
}

fn count(
    shots: Res<TickMessages<Shot>>,
    mut sum: ResMut<Sum>,
    mut rng: ResMut<TickRng>,
    mut bangs: ResMut<Effects<Bang>>,
    mut finals: ResMut<Effects<Final>>,
) {
    for Shot(player) in shots.read() {
        sum.shots += 1;
        sum.draws = sum.draws.wrapping_mul(31).wrapping_add(rng.below(1000));
        bangs.fire(Bang(sum.shots * 10 + u32::from(*player)));
        finals.fire_final(Final(sum.shots));
    }
}

fn turn(mut state: ResMut<TickState<Weather>>, mut rng: ResMut<TickRng>) {
    if rng.below(20) == 0 {
        let other = if *state.get() == Weather::Fair { Weather::Storm } else { Weather::Fair };
        state.set(other);
    }
}

fn show(
    mut shown: ResMut<Shown>,
    mut fired: MessageReader<Fired<Bang>>,
    mut cancelled: MessageReader<Cancelled<Bang>>,
    mut finals: MessageReader<Fired<Final>>,
) {
    for Fired { effect, .. } in fired.read() {
        shown.fired += 1;
        *shown.open.entry(effect.0).or_default() += 1;
    }
    for Cancelled { effect, .. } in cancelled.read() {
        shown.cancelled += 1;
        *shown.open.entry(effect.0).or_default() -= 1;
    }
    shown.finals.extend(finals.read().map(|final_one| (final_one.tick, final_one.effect.0)));
}

#[test]
fn messages_states_random_numbers_and_effects_are_the_same_when_a_tick_is_run_again() {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins)
        .insert_resource(bevy::time::TimeUpdateStrategy::ManualDuration(Duration::from_millis(16)))
        .add_plugins((RollbackPlugin::default(), RollbackCheckPlugin { seed: 11 }));
    // Who shoots depends on what is rolled back only.
    tools(&mut app, |world| {
        let sum = world.resource::<Sum>();
        let mixed = sum.shots.wrapping_mul(7).wrapping_add(sum.in_storm);
        if mixed.is_multiple_of(3) || sum.draws.is_multiple_of(5) { vec![1, 2] } else { vec![1] }
    });
    on_one_thread(&mut app);
    (0..600).for_each(|_| app.update());
    let world = app.world();
    world.resource::<RollbackCheck>().assert_same();
    let sum = world.resource::<Sum>();
    assert!(sum.storms > 5 && sum.in_storm > 50 && sum.fair > 5, "{sum:?}");
    assert!(sum.shots - sum.late_shots <= 2, "{sum:?}");
    let shown = world.resource::<Shown>();
    assert_eq!((shown.fired, shown.cancelled), (sum.shots, 0), "each is shown once");
    assert!(shown.open.values().all(|open| *open == 1));
    let finals: Vec<u32> = shown.finals.iter().map(|(_, count)| *count).collect();
    let told = finals.len() as u32;
    assert!(finals.into_iter().eq(1..=told), "in order, and each once");
    assert!((1..=30).contains(&(sum.shots - told)), "{told} of {sum:?}");
}

#[test]
fn in_a_match_everybody_shows_what_happened_and_only_that() {
    let seed = 81;
    let settings = RollbackPlugin { prediction: 24, ..plugin() };
    let mut game = Game::with("tools", seed, 3, &bad(), settings);
    for i in 0..3 {
        tools(game.net.app(i), |world| {
            let inputs = world.resource::<PlayerInputs<Pad>>();
            (0..3).filter(|player| inputs[Player(*player)].fire).collect()
        });
        assert!(!game.net.app(i).world().resource::<Resimulating>().0);
    }
    game.start();
    game.run(600);
    // All that can be taken back is final, but for what is simulated in the last ticks.
    game.agree(400);
    let sums: Vec<u32> =
        (0..3).map(|i| game.net.app(i).world().resource::<Shown>().finals.len() as u32).collect();
    let least = *sums.iter().min().expect("three");
    assert!(least > 50, "{sums:?}");
    let finals = |game: &mut Game, i| {
        let all = game.net.app(i).world().resource::<Shown>().finals.clone();
        all[..least as usize].to_vec()
    };
    let first = finals(&mut game, 0);
    for i in 0..3 {
        assert_eq!(finals(&mut game, i), first, "app {i}");
        assert!(status(&mut game.net, i).stats.rollbacks > 20);
        let shown = game.net.app(i).world().resource::<Shown>();
        assert!(shown.cancelled > 0, "guesses went wrong, or this shows nothing");
        let open = |count: u32| {
            let of = shown.open.range(count * 10..count * 10 + 10).map(|(_, open)| *open);
            of.sum::<i32>()
        };
        for count in 1..=least {
            assert_eq!(open(count), 1, "app {i}: shot {count}: {:?}", shown.open);
        }
    }
}
