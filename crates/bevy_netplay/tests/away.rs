//! Players who are away and come back: killed and started again, cut off, with a server that is started
//! anew; and what the game hears of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use bevy_app::{App, FixedUpdate};
use bevy_ecs::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::test_kit::TestNet;
use bevy_netplay::{HostChanged, LobbyError, LobbyOnline, PauseWhileAway};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Count(u32);

/// What a game heard, and how it went.
#[derive(Resource, Default)]
struct Journal {
    events: Vec<String>,
    ticks: Vec<NetTick>,
    failed: Vec<LobbyError>,
    /// How long the last one who is back was lost.
    away: Duration,
}

fn journal(app: &mut App) {
    app.init_resource::<Journal>()
        .add_net_message::<Count>(Lane::Reliable)
        .add_observer(|_: On<PeerConnected>, mut j: ResMut<Journal>| {
            j.events.push("connected".into());
        })
        .add_observer(|_: On<PeerInterrupted>, mut j: ResMut<Journal>| {
            j.events.push("interrupted".into());
        })
        .add_observer(|_: On<PeerResumed>, mut j: ResMut<Journal>| {
            j.events.push("resumed".into());
        })
        .add_observer(|e: On<PeerLost>, mut j: ResMut<Journal>| {
            j.events.push(format!("lost: {}", e.reason));
        })
        .add_observer(|e: On<PeerRejoined>, mut j: ResMut<Journal>| {
            j.away = e.away;
            j.events.push("rejoined".into());
        })
        .add_observer(|_: On<PeerDisconnected>, mut j: ResMut<Journal>| {
            j.events.push("disconnected".into());
        })
        .add_observer(|_: On<LobbyOnline>, mut j: ResMut<Journal>| {
            j.events.push("online".into());
        })
        .add_observer(|_: On<LobbyOffline>, mut j: ResMut<Journal>| {
            j.events.push("offline".into());
        })
        .add_observer(|_: On<HostChanged>, mut j: ResMut<Journal>| {
            j.events.push("host".into());
        })
        .add_observer(|e: On<LobbyFailed>, mut j: ResMut<Journal>| {
            j.failed.push(e.error.clone());
        })
        .add_systems(FixedUpdate, |tick: Res<MatchTick>, mut j: ResMut<Journal>| {
            j.ticks.extend(tick.0);
        });
}

/// Three players, each with a resume file, connected and in a match.
struct Game {
    net: TestNet,
    files: Vec<PathBuf>,
}

impl Game {
    fn new(name: &str, seed: u64) -> Self {
        let mut net = TestNet::new(seed, 0, |_| {});
        let files: Vec<_> = (0..3)
            .map(|i| {
                std::env::temp_dir().join(format!("netplay-{name}-{i}-{}", std::process::id()))
            })
            .collect();
        for file in &files {
            let _ = std::fs::remove_file(file);
            net.add(NetplayPlugins::new("test").resume_file(file), journal);
        }
        net.connect_all();
        let mut game = Self { net, files };
        game.run(120);
        let host = (0..3).find(|i| game.lobby(*i).is_host()).expect("somebody leads");
        let entity = game.entity(host);
        game.net.app(host).world_mut().trigger(StartMatch { entity });
        game.net.step_until(300, |net| (0..3).all(|i| !log(net, i).ticks.is_empty()));
        game.forget();
        game
    }

    fn run(&mut self, frames: u32) {
        (0..frames).for_each(|_| self.net.step());
    }

    fn lobby(&mut self, i: usize) -> Lobby {
        self.net.lobby(i).expect("it is in a lobby")
    }

    fn entity(&mut self, i: usize) -> Entity {
        let world = self.net.app(i).world_mut();
        world.query_filtered::<Entity, With<Lobby>>().single(world).expect("one lobby")
    }

    fn forget(&mut self) {
        for i in 0..self.net.len() {
            self.net.app(i).world_mut().resource_mut::<Journal>().events.clear();
        }
    }

    /// Kills a player's process, and starts it again with its resume file: another app.
    fn kill_and_start_again(&mut self, i: usize, after: u32) -> usize {
        let id = self.net.id(i).expect("it has an id");
        let saved = std::fs::read(&self.files[i]).expect("there is a resume file");
        self.net.network.kill(id);
        self.net.remove(i);
        self.run(after);
        std::fs::write(&self.files[i], saved).expect("the file can be written");
        let plugins = NetplayPlugins::new("test").resume_file(&self.files[i]);
        self.net.insert(i, plugins, journal);
        self.net.join(i, JoinLobby::quick(3));
        i
    }

    /// The states of the links of a player.
    fn states(&mut self, i: usize) -> Vec<LinkState> {
        let world = self.net.app(i).world_mut();
        world.query::<&LinkState>().iter(world).copied().collect()
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn log(net: &mut TestNet, i: usize) -> &Journal {
    net.app(i).world().resource::<Journal>()
}

#[test]
fn a_player_killed_and_started_again_is_back_in_its_seat_and_in_the_match() {
    let mut game = Game::new("seat", 1);
    let (ids, code) = ([0, 1, 2].map(|i| game.net.id(i)), game.lobby(0).code);
    let peers = |game: &mut Game| {
        let world = game.net.app(0).world_mut();
        let mut peers = world.query::<(Entity, &Peer)>();
        peers.iter(world).map(|(entity, peer)| (entity, peer.id)).collect::<BTreeSet<_>>()
    };
    let before = peers(&mut game);
    for cycle in 0..20 {
        game.kill_and_start_again(1, 200);
        assert_eq!(log(&mut game.net, 0).events, ["interrupted", "lost: the connection was lost"]);
        assert!(game.states(0).contains(&LinkState::Lost));
        game.net.step_until(180, |net| {
            log(net, 0).events.contains(&"rejoined".into())
                && log(net, 2).events.contains(&"rejoined".into())
                && log(net, 1).ticks.len() > 10
        });
        assert_eq!([0, 1, 2].map(|i| game.net.id(i)), ids, "cycle {cycle}: the same ids");
        assert_eq!(game.lobby(1).code, code);
        assert_eq!(peers(&mut game), before, "the same entities");
        let away = log(&mut game.net, 0).away;
        assert!((Duration::from_millis(500)..Duration::from_secs(3)).contains(&away), "{away:?}");
        let last = [0, 1, 2].map(|i| *log(&mut game.net, i).ticks.last().expect("it plays"));
        assert!(last.iter().all(|tick| tick.ahead_of(last[0]).abs() <= 1), "{last:?}");
        game.net.send(1, Count(cycle));
        game.net
            .step_until(60, |net| net.received::<Count>(0).iter().any(|m| m.message.0 == cycle));
        assert!(log(&mut game.net, 1).failed.is_empty());
        game.forget();
    }
}

#[test]
fn a_seat_that_nobody_comes_back_to_is_free_when_its_time_is_over() {
    let mut game = Game::new("free", 2);
    let id = game.net.id(1).expect("it has an id");
    game.net.network.kill(id);
    game.net.remove(1);
    game.run(60 * 20);
    assert_eq!(log(&mut game.net, 0).events, ["interrupted", "lost: the connection was lost"]);
    game.run(60 * 12);
    assert_eq!(log(&mut game.net, 0).events.last().map(String::as_str), Some("disconnected"));
    assert_eq!(game.states(0), [LinkState::Connected]);
}

#[test]
fn a_server_started_anew_is_no_news_for_the_match_and_others_may_join_later() {
    let mut game = Game::new("server", 3);
    let code = game.lobby(0).code;
    game.net.network.set_server_up(false);
    game.run(60);
    game.net.network.set_server_up(true);
    game.run(60 * 20);
    for i in 0..3 {
        let events = log(&mut game.net, i).events.clone();
        assert!(events.iter().all(|event| event == "offline" || event == "online"), "{events:?}");
        assert_eq!(events.last().map(String::as_str), Some("online"));
        assert_eq!(game.states(i), [LinkState::Connected; 2]);
        assert_eq!(game.lobby(i).code, code);
    }
    let entity = game.entity(2);
    game.net.app(2).world_mut().despawn(entity);
    game.run(60);
    game.net.insert(3, NetplayPlugins::new("test"), journal);
    game.net.join(3, JoinLobby::code(code));
    game.net.step_until(300, |net| net.connected(3).len() == 2);
}

#[test]
fn a_match_pauses_while_somebody_is_away_if_its_host_wants_that() {
    let mut game = Game::new("pause", 4);
    let host = (0..3).find(|i| game.lobby(*i).is_host()).expect("somebody leads");
    let gone = (host + 1) % 3;
    let stays = (host + 2) % 3;
    let entity = game.entity(host);
    game.net.app(host).world_mut().entity_mut(entity).insert(PauseWhileAway::default());
    game.kill_and_start_again(gone, 150);
    let held = log(&mut game.net, stays).ticks.len();
    game.net.step_until(180, |net| !log(net, gone).ticks.is_empty());
    game.run(30);
    let now = log(&mut game.net, stays).ticks.len();
    assert!(now > held, "it goes on: {held} {now}");
    let last = [0, 1, 2].map(|i| *log(&mut game.net, i).ticks.last().expect("it plays"));
    assert!(last.iter().all(|tick| tick.ahead_of(last[0]).abs() <= 1), "{last:?}");
    // A pause of somebody's own is not ended by it.
    let entity = game.entity(stays);
    game.net.app(stays).world_mut().trigger(PauseMatch { entity });
    game.run(120);
    let held = log(&mut game.net, stays).ticks.len();
    game.run(120);
    assert_eq!(log(&mut game.net, stays).ticks.len(), held);
    game.net.app(stays).world_mut().trigger(ResumeMatch { entity });
    game.run(120);
    assert!(log(&mut game.net, stays).ticks.len() > held);
}

#[test]
fn of_two_games_with_one_resume_file_the_newest_plays_and_the_other_is_told() {
    let mut game = Game::new("twice", 5);
    let id = game.net.id(1);
    let second = NetplayPlugins::new("test").resume_file(&game.files[1]);
    game.net.insert(3, second, journal);
    game.net.join(3, JoinLobby::quick(3));
    game.net.step_until(300, |net| net.connected(3).len() == 2);
    assert_eq!(game.net.id(3), id);
    let failed = &log(&mut game.net, 1).failed;
    assert!(
        matches!(failed[..], [LobbyError::Ended(bevy_netplay::EndReason::Superseded)]),
        "{failed:?}"
    );
    assert!(log(&mut game.net, 0).events.iter().any(|event| event.starts_with("lost")));
    assert!(log(&mut game.net, 0).events.contains(&"rejoined".into()));
    assert!(game.files[1].exists(), "it is the newest one's");
}

#[test]
fn a_game_that_leaves_by_itself_leaves_no_resume_file() {
    let mut game = Game::new("leave", 6);
    assert!(game.files.iter().all(|file| file.exists()));
    let entity = game.entity(0);
    game.net.app(0).world_mut().despawn(entity);
    game.net.remove(1);
    assert_eq!([0, 1, 2].map(|i| game.files[i].exists()), [false, false, true]);
}
