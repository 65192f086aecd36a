//! Whole apps over real WebRTC: the plugin starts its own runtime, and nothing of it is left when the
//! app is gone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::{LobbyError, RoomId};
use netplay_server::{AdminConfig, ServerConfig, ServerThread};
use serde::{Deserialize, Serialize};

/// Threads are counted, so the tests of this file run one after another.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Shout(String);

fn app(server: &str) -> App {
    app_with(server, || JoinLobby::quick(2))
}

/// Joins by this.
fn app_with(server: &str, join: impl Fn() -> JoinLobby + Send + Sync + 'static) -> App {
    let mut app = App::new();
    app.add_plugins((
        bevy_time::TimePlugin,
        NetplayPlugins::new("native").server(server).on_this_machine(),
    ))
    .add_net_message::<Shout>(Lane::Reliable)
    .init_resource::<Heard>()
    .add_systems(bevy_app::Update, hear)
    .add_systems(bevy_app::Startup, move |mut commands: Commands| {
        commands.spawn(join());
    })
    .add_observer(|_: On<PeerConnected>, mut out: NetWriter<Shout>| {
        out.to_all(Shout("hello".into()));
    });
    app.finish();
    app.cleanup();
    app
}

/// How many shouts have been heard. Bevy drops a message after two fixed steps, so that a look at
/// [`Messages`] from outside misses what the other app has not answered by then.
#[derive(Resource, Default)]
struct Heard(usize);

fn hear(mut shouts: MessageReader<Received<Shout>>, mut heard: ResMut<Heard>) {
    heard.0 += shouts.read().count();
}

fn heard(app: &App) -> usize {
    app.world().resource::<Heard>().0
}

#[test]
fn two_apps_meet_over_webrtc_and_leave_no_thread_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = ServerThread::start(ServerConfig::default()).unwrap();
    let (mut a, mut b) = (app(&server.url()), app(&server.url()));
    let deadline = Instant::now() + Duration::from_secs(30);
    while heard(&a) == 0 || heard(&b) == 0 {
        assert!(Instant::now() < deadline, "the apps did not meet");
        a.update();
        b.update();
        std::thread::yield_now();
    }
    assert!(network_threads() >= 2);
    let start = Instant::now();
    drop((a, b));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(network_threads(), 0);
}

#[test]
fn two_apps_meet_in_a_room_of_a_matchbox_server_and_it_is_a_lobby() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = ServerThread::start(ServerConfig::default()).unwrap();
    let url = server.url();
    let app = || {
        let url = url.clone();
        // The lobby server is none: nobody asks it.
        app_with("ws://127.0.0.1:1", move || {
            let room = RoomId::new("a_room").expect("a name");
            JoinLobby::matchbox_room(url.clone(), room).next(2)
        })
    };
    let mut apps = [app(), app()];
    let deadline = Instant::now() + Duration::from_secs(30);
    while apps.iter().any(|app| heard(app) == 0) {
        assert!(Instant::now() < deadline, "the apps did not meet");
        apps.iter_mut().for_each(App::update);
        std::thread::yield_now();
    }
    let hosts = apps.each_mut().map(|app| {
        let world = app.world_mut();
        let mut lobbies = world.query::<(&Lobby, &LobbyDetails)>();
        let (lobby, details) = lobbies.single(world).expect("one lobby");
        assert_eq!(details.members.len(), 2);
        (details.host, lobby.is_host())
    });
    assert_eq!(hosts[0].0, hosts[1].0, "both know the same host");
    assert_eq!(hosts.iter().filter(|(_, is_host)| *is_host).count(), 1);
}

#[test]
fn a_server_that_is_not_there_is_reported_and_does_not_stop_the_app() {
    #[derive(Resource, Default)]
    struct Offline(usize);

    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut app = app("ws://127.0.0.1:1");
    app.init_resource::<Offline>()
        .add_observer(|_: On<LobbyOffline>, mut count: ResMut<Offline>| count.0 += 1);
    let deadline = Instant::now() + Duration::from_secs(30);
    while app.world().resource::<Offline>().0 < 3 {
        assert!(Instant::now() < deadline, "it is tried again and again");
        app.update();
        std::thread::yield_now();
    }
}

#[test]
fn whose_lobby_is_closed_by_who_runs_the_server_is_told_and_loses_its_players() {
    #[derive(Resource, Default)]
    struct Told(Vec<String>);

    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let admin = AdminConfig { bind: ([127, 0, 0, 1], 0).into(), token: None };
    let config = ServerConfig { admin: Some(admin), ..ServerConfig::default() };
    let server = ServerThread::start(config).unwrap();
    let mut apps = [app(&server.url()), app(&server.url())];
    for app in &mut apps {
        app.init_resource::<Told>()
            .add_observer(|failed: On<LobbyFailed>, mut told: ResMut<Told>| {
                assert!(matches!(failed.error, LobbyError::Removed { .. }), "{:?}", failed.error);
                told.0.push("removed".into());
            })
            .add_observer(|left: On<PeerDisconnected>, mut told: ResMut<Told>| {
                told.0.push(left.reason.to_string());
            });
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut until = |done: fn(&App) -> bool| {
        while !apps.iter().all(done) {
            assert!(
                Instant::now() < deadline,
                "{:?}",
                apps.each_ref().map(|app| &app.world().resource::<Told>().0)
            );
            apps.iter_mut().for_each(App::update);
            std::thread::yield_now();
        }
        apps[0].world_mut().query::<&Lobby>().iter(apps[0].world()).next().map(|lobby| lobby.code)
    };
    let code = until(|app| heard(app) > 0).expect("they are in a lobby");
    let answer =
        delete(server.admin_addr().expect("it was asked for"), &format!("/lobbies/{code}"));
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    until(|app| app.world().resource::<Told>().0.len() == 2);
}

/// What the server answers to `DELETE`.
fn delete(server: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("it listens");
    write!(stream, "DELETE {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")
        .expect("the socket lives");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the socket lives");
    answer
}

fn network_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("netplay-io")).count()
}
