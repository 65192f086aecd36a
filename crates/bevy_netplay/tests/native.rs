//! Whole apps over real WebRTC: the plugin starts its own runtime, and nothing of it is left when the
//! app is gone.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::{ErrorCode, LobbyError, RoomId};
use matchbox_signaling::SignalingServer;
use netplay_protocol::lobby::{JoinTicket, Jwt, Login};
use netplay_server::{AdminConfig, JwtConfig, JwtKeys, ServerConfig, ServerThread};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

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
fn two_apps_meet_in_a_room_of_our_server_and_it_is_a_lobby() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = ServerThread::start(ServerConfig::default()).unwrap();
    meet_in_a_room(&server.url());
}

#[test]
fn two_apps_meet_in_a_room_of_a_stock_matchbox_server_and_it_is_a_lobby() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let mut server = SignalingServer::full_mesh_builder((Ipv4Addr::LOCALHOST, 0)).build();
    let url = format!("ws://{}", server.bind().unwrap());
    runtime.spawn(server.serve());
    drop(entered);
    meet_in_a_room(&url);
    runtime.shutdown_timeout(Duration::from_secs(1));
}

fn meet_in_a_room(url: &str) {
    let app = || {
        let url = url.to_owned();
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

/// The secret of a server, and JWTs that are signed with it: of `ann` and of `bob`, until the year 2286.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const JWTS: [&str; 2] = [
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjEwMDAwMDAwMDAwfQ.eu1v6HuCrSHx-ljCxgNyk466yLjwyywzkOdCmqx6v24",
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IiLCJleHAiOjEwMDAwMDAwMDAwfQ.9IkcG4FhWE4-ufcRcoTwFntjxXraSlSb2tN4djuaJCA",
];

#[test]
fn who_shows_a_jwt_or_a_ticket_is_let_in_under_its_account() {
    #[derive(Resource)]
    struct Refused(ErrorCode);

    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let admin = AdminConfig { bind: ([127, 0, 0, 1], 0).into(), token: None };
    let keys = JwtKeys::Secret(SECRET.to_vec());
    let jwt = Some(JwtConfig { keys, issuer: None, audience: None });
    let mut config = ServerConfig { admin: Some(admin), jwt, ..ServerConfig::default() };
    config.lobby.login_required = true;
    let server = ServerThread::start(config).unwrap();
    let admin = server.admin_addr().expect("it was asked for");
    let ticket = ask(admin, "POST", "/tickets", r#"{"account":"cid","game":"native"}"#);
    let ticket = ticket.split('"').nth(3).expect("its only text").to_owned();
    let [ann, bob] = JWTS.map(|jwt| Login::Jwt(Jwt(jwt.into())));
    let cid = Login::Ticket(JoinTicket(ticket));
    let joins =
        |login: Login| app_with(&server.url(), move || JoinLobby::quick(4).login(login.clone()));
    let mut apps = [joins(ann.clone()), joins(bob), joins(cid), app(&server.url())];
    apps[3].add_observer(|failed: On<LobbyFailed>, mut commands: Commands| {
        if let LobbyError::Refused { code, .. } = &failed.error {
            commands.insert_resource(Refused(*code));
        }
    });
    let browse = apps[3]
        .world_mut()
        .spawn(BrowseLobbies::new(LobbySearch::all()).on(server.url()).login(ann))
        .id();
    let deadline = Instant::now() + Duration::from_secs(30);
    let found = |app: &App| app.world().get::<FoundLobbies>(browse).map_or(0, |f| f.lobbies.len());
    while apps[..3].iter().any(|app| heard(app) < 2)
        || found(&apps[3]) == 0
        || !apps[3].world().contains_resource::<Refused>()
    {
        let met = apps.each_ref().map(heard);
        assert!(Instant::now() < deadline, "{met:?}, found {}", found(&apps[3]));
        apps.iter_mut().for_each(App::update);
        std::thread::yield_now();
    }
    assert_eq!(apps[3].world().resource::<Refused>().0, ErrorCode::Unauthorized);
    let world = apps[0].world_mut();
    let details = world.query::<&LobbyDetails>().single(world).expect("one lobby");
    let accounts = details.members.iter().map(|member| member.account.as_ref());
    let mut accounts: Vec<_> = accounts.flatten().map(ToString::to_string).collect();
    accounts.sort_unstable();
    assert_eq!(accounts, ["ann", "bob", "cid"]);
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
    let admin = server.admin_addr().expect("it was asked for");
    let answer = ask(admin, "DELETE", &format!("/lobbies/{code}"), "");
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    until(|app| app.world().resource::<Told>().0.len() == 2);
}

/// What the server answers to this.
fn ask(server: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("it listens");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
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
