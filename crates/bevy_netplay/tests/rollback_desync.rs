//! Players whose states differ find out where, and come together again, or not, as the game wishes.

mod rollback_game;

use std::path::PathBuf;

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::{
    Desync, DesyncDumps, DesyncPolicy, RollbackError, RollbackId, RollbackPlugin,
};
use rollback_game::{At, Game, bad, host, lobby, plugin, status};

/// The tick at which a machine changes its state.
#[derive(Resource)]
struct CheatAt(i32);

const CHEAT: i32 = 95;
/// The next tick whose state is compared.
const COMPARED: i32 = 100;

fn cheat(at: Res<CheatAt>, tick: Res<MatchTick>, mut all: Query<(&RollbackId, &mut At)>) {
    if tick.0.is_some_and(|tick| tick.ahead_of(NetTick::ZERO) == at.0) {
        for (_, mut at) in all.iter_mut().filter(|(id, _)| id.get() == 2) {
            at.0 += 1000;
        }
    }
}

/// A match in which a machine, which `who` names, changes its state behind the others' back.
struct Cheated {
    game: Game,
    cheater: usize,
    folder: PathBuf,
}

impl Cheated {
    fn new(
        name: &str,
        seed: u64,
        count: usize,
        on_desync: DesyncPolicy,
        who: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let settings = RollbackPlugin { on_desync, prediction: 24, ..plugin() };
        let mut game = Game::with(name, seed, count, &bad(), settings);
        let folder = format!("netplay-desync-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let host = host(&mut game.net);
        let cheater = (0..count).find(|i| who(*i, host)).expect("somebody cheats");
        for i in 0..count {
            let dumps = DesyncDumps { folder: Some(folder.clone()), most: 2 };
            game.net.app(i).insert_resource(dumps);
        }
        let app = game.net.app(cheater);
        app.insert_resource(CheatAt(CHEAT)).add_systems(FixedPostUpdate, cheat);
        game.start();
        Self { game, cheater, folder }
    }

    /// Until everybody has heard of a difference.
    fn run(&mut self, frames: u32) {
        self.game.run(120 + frames);
    }
}

impl Drop for Cheated {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The difference is named: in which component of which entity, and both values.
fn assert_named(desync: &Desync, cheats: bool) {
    assert_eq!(desync.tick, COMPARED);
    let [difference] = &desync.differences[..] else { panic!("{desync:?}") };
    assert!(difference.of.ends_with("::At"), "{difference:?}");
    assert_eq!(difference.id.map(RollbackId::get), Some(2));
    assert!(difference.entity.is_some());
    let value = |text: &Option<String>| -> i32 {
        let text = text.as_deref().expect("both have it");
        let number = text.trim_matches(|c: char| !c.is_ascii_digit() && c != '-');
        number.parse().unwrap_or_else(|_| panic!("{text}"))
    };
    let (ours, theirs) = (value(&difference.ours), value(&difference.theirs));
    assert_eq!(ours - theirs, if cheats { 1000 } else { -1000 });
}

#[test]
fn both_sides_name_the_component_the_entity_and_both_values_and_write_them_down() {
    let mut cheated = Cheated::new("named", 71, 3, DesyncPolicy::Continue, |i, host| i != host);
    cheated.run(60);
    let Cheated { game, cheater, .. } = &mut cheated;
    for i in 0..3 {
        let desyncs = &game.log(i).desyncs;
        let expected = if i == *cheater { 2 } else { 1 };
        let first = desyncs.iter().filter(|desync| desync.tick == COMPARED);
        assert_eq!(first.clone().count(), expected, "app {i}: {desyncs:?}");
        for desync in first {
            assert_named(desync, i == *cheater);
            let dump = desync.dump.as_ref().expect("a file");
            let text = std::fs::read_to_string(dump).expect("it can be read");
            let difference = desync.differences[0].to_string();
            assert!(text.contains(&difference), "{text}");
            for part in ["# Inputs", "\n99: ", "::Fighter (", "::At (", "::Score ("] {
                assert!(text.contains(part), "{part} is missing: {text}");
            }
        }
        let dumps = desyncs.iter().filter(|desync| desync.dump.is_some()).count();
        assert!(dumps <= 2, "{dumps} files");
    }
}

#[test]
fn who_differs_from_the_majority_takes_its_state_and_nobody_waits() {
    let who = |i, host| i == host;
    let mut cheated = Cheated::new("majority", 72, 3, DesyncPolicy::Resync, who);
    cheated.run(120);
    let Cheated { game, cheater, .. } = &mut cheated;
    for i in 0..3 {
        let log = game.log(i);
        assert_eq!(!log.restored.is_empty(), i == *cheater, "app {i}");
        if i != *cheater {
            assert!(log.stalled <= 1, "app {i} has waited for {} ticks", log.stalled);
            assert_eq!((log.left.len(), log.joined.len()), (1, 1), "app {i}");
        }
    }
    let restored = game.log(*cheater).restored[0] as u32;
    game.agree_from(restored);
    for i in 0..3 {
        let last = game.log(i).desyncs.iter().map(|desync| desync.tick).max();
        assert!(last < Some(restored as i32), "app {i} differs again at {last:?}");
    }
}

#[test]
fn of_two_players_the_hosts_state_counts() {
    for (seed, host_cheats) in [(73, true), (74, false)] {
        let who = |i, host| (i == host) == host_cheats;
        let mut cheated = Cheated::new("two", seed, 2, DesyncPolicy::Resync, who);
        cheated.run(120);
        let game = &mut cheated.game;
        let host = host(&mut game.net);
        assert!(game.log(host).restored.is_empty());
        let restored = game.log(1 - host).restored.clone();
        assert_eq!(restored.len(), 1, "the other takes the host's state");
        game.agree_from(restored[0] as u32);
    }
}

#[test]
fn a_match_can_end_where_states_differ() {
    let mut cheated = Cheated::new("stop", 75, 2, DesyncPolicy::Stop, |i, host| i != host);
    cheated.run(60);
    for i in 0..2 {
        assert_eq!(cheated.game.log(i).failed, [RollbackError::Desync], "app {i}");
        assert_named(&cheated.game.log(i).desyncs[0].clone(), i == cheated.cheater);
        let last = status(&mut cheated.game.net, i).confirmed;
        cheated.game.run(30);
        assert_eq!(status(&mut cheated.game.net, i).confirmed, last, "nothing is played");
        let entity = lobby(cheated.game.net.app(i));
        assert!(cheated.game.net.app(i).world().get::<Match>(entity).is_some());
    }
}
