//! Stock matchbox players in lobbies of our server.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::{fs, process, thread};

use netplay_matchbox::{
    ErrorCode, JoinTicket, LobbyCode, LobbyError, LobbyStatus, Login, NetplaySignaller, ServerError,
};
use netplay_server::{Key, ServerConfig, ServerThread, TlsFiles};
use support::{Player, game, talk, until};

fn server() -> ServerThread {
    ServerThread::start(ServerConfig::default()).unwrap()
}

#[test]
fn two_players_meet_by_quick_join_and_talk() {
    let server = server();
    let quick = || NetplaySignaller::quick(game(), 2);
    let mut a = Player::enter(&server.url(), quick());
    let mut b = Player::enter(&server.url(), quick());
    talk(&mut [&mut a, &mut b], "hello");
    assert_eq!(a.code(), b.code());
    // The lobby is full: the next one gets another.
    let c = Player::enter(&server.url(), quick());
    assert_ne!(c.code(), a.code());
    assert_eq!([a.leave(), b.leave(), c.leave()], [const { Ok(()) }; 3]);
}

#[test]
fn three_players_meet_by_code_in_a_full_mesh_and_hear_who_leaves() {
    let server = server();
    let mut a = Player::enter(&server.url(), NetplaySignaller::create_private(game(), 4));
    let code = a.code();
    let join = || Player::enter(&server.url(), NetplaySignaller::code(game(), code));
    let (mut b, mut c) = (join(), join());
    let ids = talk(&mut [&mut a, &mut b, &mut c], "hello");
    assert_eq!(b.leave(), Ok(()));
    until("the others hear that one left", || {
        [&mut a, &mut c].into_iter().all(|player| {
            player.poll();
            player.lost(ids[1])
        })
    });
    assert!(!a.lost(ids[2]) && !c.lost(ids[0]));
    a.say(ids[2], "still here");
    until("the others talk on", || {
        c.poll();
        c.heard.contains(&(ids[0], "still here".to_owned()))
    });
    assert_eq!([a.leave(), c.leave()], [const { Ok(()) }; 2]);
}

/// A server with a certificate that nobody knows, and that certificate.
fn server_with_tls() -> (ServerThread, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let directory = std::env::temp_dir().join(format!("netplay-matchbox-tls-{}", process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (certificate, key) = (directory.join("certificate"), directory.join("key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Some(TlsFiles { certificate, key });
    let server = ServerThread::start(ServerConfig { tls, ..ServerConfig::default() }).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    (server, made.cert.pem().into_bytes())
}

#[test]
fn by_wss_players_meet_if_they_trust_the_certificate_and_only_then() {
    let (server, certificate) = server_with_tls();
    assert!(server.url().starts_with("wss://"), "{}", server.url());
    let quick = || NetplaySignaller::quick(game(), 2);
    let mut a = Player::enter(&server.url(), quick().trusting(certificate.clone()));
    let mut b = Player::enter(&server.url(), quick().trusting(certificate));
    talk(&mut [&mut a, &mut b], "hello");
    assert_eq!([a.leave(), b.leave()], [const { Ok(()) }; 2]);

    let player = Player::enter(&server.url(), quick());
    until("three attempts", || player.lobby.status() != LobbyStatus::Joining);
    let error = player.lobby.error().unwrap();
    let LobbyError::Unreachable { why, .. } = &error else { panic!("{error:?}") };
    assert!(why.contains("certificate"), "{why}");
    player.end().unwrap_err();

    let player = Player::enter(&server.url(), quick().trusting(b"none".to_vec()));
    until("a look at the certificate", || player.lobby.status() != LobbyStatus::Joining);
    assert!(matches!(player.lobby.error(), Some(LobbyError::Server(ServerError::Certificate(_)))));
    player.end().unwrap_err();
}

#[test]
fn a_login_that_is_none_is_refused() {
    let server = server();
    let login = Login::Ticket(JoinTicket("e30.AAAA".to_owned()));
    let player = Player::enter(&server.url(), NetplaySignaller::quick(game(), 2).login(login));
    until("the server's answer", || player.lobby.status() != LobbyStatus::Joining);
    let refused = player.lobby.error();
    assert!(
        matches!(refused, Some(LobbyError::Refused { code: ErrorCode::Unauthorized, .. })),
        "{refused:?}"
    );
    player.end().unwrap_err();
}

#[test]
fn a_wrong_code_is_a_typed_error_and_ends_the_message_loop() {
    let server = server();
    let code = LobbyCode::from_random(7);
    let player = Player::enter(&server.url(), NetplaySignaller::code(game(), code));
    until("the server's answer", || player.lobby.status() != LobbyStatus::Joining);
    let error = player.lobby.error().unwrap();
    let LobbyError::Refused { code: ErrorCode::NoSuchLobby, .. } = &error else {
        panic!("{error:?}");
    };
    let end = player.end().unwrap_err();
    assert!(end.contains("ConnectionFailed") && end.contains(&error.to_string()), "{end}");
}

#[test]
fn what_is_no_server_is_a_typed_error() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let player = Player::enter(&url, NetplaySignaller::quick(game(), 2));
    until("three attempts", || player.lobby.status() != LobbyStatus::Joining);
    let error = player.lobby.error().unwrap();
    assert!(matches!(&error, LobbyError::Unreachable { server, .. } if *server == url), "{error}");
    player.end().unwrap_err();
    let player = Player::enter("ws://127.0.0.1:3536/room", NetplaySignaller::quick(game(), 2));
    until("a look at the URL", || player.lobby.status() != LobbyStatus::Joining);
    assert!(matches!(player.lobby.error(), Some(LobbyError::Address(_))));
    player.end().unwrap_err();
}

#[test]
fn players_of_another_build_do_not_meet() {
    let server = server();
    let a = Player::enter(&server.url(), NetplaySignaller::create(game(), 2));
    let code = a.code();
    let other = NetplaySignaller::code(game(), code).build("2".to_owned().try_into().unwrap());
    let lobby = other.lobby();
    let (_socket, message_loop) = matchbox_socket::WebRtcSocket::builder(server.url())
        .add_reliable_channel()
        .signaller_builder(other)
        .build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(message_loop).unwrap_err();
    let joined = runtime.block_on(lobby.joined());
    assert!(matches!(joined, Err(LobbyError::Refused { code: ErrorCode::WrongBuild, .. })));
    a.leave().unwrap();
}

#[test]
fn a_player_who_joins_after_a_restart_of_the_server_meets_those_from_before() {
    let config = ServerConfig { key: Some(Key([7; 32])), ..ServerConfig::default() };
    let first = ServerThread::start(config.clone()).unwrap();
    let (url, bind) = (first.url(), first.local_addr());
    let mut a = Player::enter(&url, NetplaySignaller::create(game(), 3));
    let code = a.code();
    let mut b = Player::enter(&url, NetplaySignaller::code(game(), code));
    let before = talk(&mut [&mut a, &mut b], "before");
    drop(first);
    until("the players miss the server", || !a.is_online() && !b.is_online());
    let _second = ServerThread::start(ServerConfig { bind, ..config }).unwrap();
    // The new server knows the lobby from who was in it.
    until("the players are back", || a.is_online() && b.is_online());
    let mut c = Player::enter(&url, NetplaySignaller::code(game(), code));
    let after = talk(&mut [&mut a, &mut b, &mut c], "after");
    assert_eq!(after[..2], before);
    assert!(a.is_online() && b.is_online() && c.is_online());
    assert!(!a.lost(before[1]) && !b.lost(before[0]), "the match did not notice");
    assert_eq!([a.leave(), b.leave(), c.leave()], [const { Ok(()) }; 3]);
}

#[test]
fn a_player_without_its_session_meets_nobody_new_and_keeps_whom_it_has() {
    let first = server();
    let (url, bind) = (first.url(), first.local_addr());
    let quick = || NetplaySignaller::quick(game(), 2);
    let mut a = Player::enter(&url, quick());
    let mut b = Player::enter(&url, quick());
    let ids = talk(&mut [&mut a, &mut b], "before");
    drop(first);
    let _stranger = ServerThread::start(ServerConfig::at(bind)).unwrap();
    until("the server does not know them", || {
        [&a, &b].iter().all(|player| player.lobby.error() == Some(LobbyError::SessionLost))
    });
    talk(&mut [&mut a, &mut b], "after");
    assert!(!a.lost(ids[1]) && !b.lost(ids[0]));
    drop((a.leave(), b.leave()));
}

/// Stands between a player and the server, and can cut what goes through it.
struct Proxy {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Arc::new(Mutex::new(Vec::new()));
        let kept = streams.clone();
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let mut ends = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        // How it ends does not matter.
                        let _ = io::copy(&mut ends.0, &mut ends.1);
                        let _ = ends.1.shutdown(std::net::Shutdown::Both);
                    });
                }
                kept.lock().unwrap().extend([client, server]);
            }
        });
        Self { address, streams }
    }

    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[test]
fn a_cut_websocket_is_taken_up_again_and_nobody_notices() {
    let server = server();
    let proxy = Proxy::before(server.local_addr());
    let url = format!("ws://{}", proxy.address);
    let mut a = Player::enter(&url, NetplaySignaller::create(game(), 3));
    let code = a.code();
    let mut b = Player::enter(&server.url(), NetplaySignaller::code(game(), code));
    let ids = talk(&mut [&mut a, &mut b], "before");
    proxy.cut();
    // It joins while `a` is away, or as soon as it is back: `a` makes the offer either way.
    let mut c = Player::enter(&server.url(), NetplaySignaller::code(game(), code));
    talk(&mut [&mut a, &mut b, &mut c], "after");
    assert!(!a.lost(ids[1]) && !b.lost(ids[0]), "nobody noticed");
    assert!(!proxy.streams.lock().unwrap().is_empty(), "it came back through the proxy");
    assert_eq!([a.leave(), b.leave(), c.leave()], [const { Ok(()) }; 3]);
}
