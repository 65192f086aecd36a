//! The server over real sockets of the loopback address.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::time::Duration;
use std::io::{Read, Write};

use futures_util::SinkExt;
use netplay_protocol::PeerId;
use netplay_protocol::limits::{LOBBY_MESSAGE_MAX, SDP_MAX};
use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, Member, ServerMessage, Signal, SignalBody,
};
use netplay_server::{BindError, RateLimit, Server, ServerConfig, ServerThread};
use support::{Client, DEADLINE, Ended, ended, get, open, open_with, signal, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test]
async fn two_players_meet_and_signal() {
    let server = start(|_| {});
    let mut a = Client::connect(&server).await;
    let mut b = Client::connect(&server).await;
    let lobby = a.create(2).await;
    let seen = b.join(lobby.code).await;
    assert_eq!(seen.host, a.me);
    assert_eq!(a.message().await, joins(b.me));
    a.signal(b.me, "v=0 offer").await;
    let signal = signal("v=0 offer");
    assert_eq!(b.message().await, ServerMessage::Signal { from: a.me, signal });
    server.shutdown().await;
}

#[tokio::test]
async fn a_signal_to_another_lobby_is_refused() {
    let server = start(|_| {});
    let mut a = Client::connect(&server).await;
    let mut b = Client::connect(&server).await;
    a.create(2).await;
    b.create(2).await;
    a.signal(b.me, "v=0").await;
    assert_eq!(a.error().await, ErrorCode::NoSuchMember);
    b.check().await;
}

#[tokio::test]
async fn who_says_that_a_signal_is_of_somebody_else_is_named_all_the_same() {
    let server = start(|_| {});
    let mut a = Client::connect(&server).await;
    let mut b = Client::connect(&server).await;
    let mut c = Client::connect(&server).await;
    let lobby = a.create(3).await;
    b.join(lobby.code).await;
    c.join(lobby.code).await;
    for _ in 0..2 {
        a.message().await;
    }
    b.message().await;
    let (to, from, signal) = (b.me, c.me, r#""signal":{"attempt":1,"body":{"kind":"bye"}}"#);
    let forged = [
        format!(r#"{{"type":"signal","to":"{to}","from":"{from}",{signal}}}"#),
        format!(r#"{{"type":"signal","from":"{from}","to":"{to}",{signal}}}"#),
        format!(r#"{{"from":"{from}","type":"signal","to":"{to}",{signal}}}"#),
    ];
    for text in &forged {
        a.say_raw(Message::text(text.as_str())).await;
        let signal = Signal { attempt: 1, body: SignalBody::Bye };
        assert_eq!(b.message().await, ServerMessage::Signal { from: a.me, signal }, "{text}");
    }
    // What only the server says, and a receiver named twice.
    for text in [
        format!(r#"{{"type":"signal","from":"{from}",{signal}}}"#),
        format!(r#"{{"type":"signal","to":"{to}","to":"{from}",{signal}}}"#),
    ] {
        a.say_raw(Message::text(text.as_str())).await;
        assert_eq!(a.error().await, ErrorCode::Malformed, "{text}");
    }
    b.check().await;
}

#[tokio::test]
async fn a_resumed_session_keeps_its_peer_and_misses_no_frame() {
    let server = start(|_| {});
    let mut a = Client::connect(&server).await;
    let mut b = Client::connect(&server).await;
    let lobby = a.create(2).await;
    b.join(lobby.code).await;
    let peer = b.me;
    assert_eq!(a.message().await, joins(peer));
    let resume = b.cut();
    assert_eq!(a.message().await, ServerMessage::MemberOffline { peer });
    // More than the queue of a connection holds: a replay is bounded by the log alone.
    for number in 0..100 {
        a.signal(peer, &format!("offer {number}")).await;
    }
    a.check().await;
    let (mut b, resumed) = Client::greet(open(&server).await.unwrap(), Some(resume)).await;
    assert!(resumed);
    assert_eq!(b.me, peer);
    for number in 0..100 {
        let signal = signal(&format!("offer {number}"));
        assert_eq!(b.message().await, ServerMessage::Signal { from: a.me, signal });
    }
    assert_eq!(a.message().await, ServerMessage::MemberOnline { peer, epoch: 0 });
}

#[tokio::test]
async fn a_newer_connection_supersedes_the_older_one() {
    let server = start(|_| {});
    let old = Client::connect(&server).await;
    let (mut left_behind, resume) = old.leave_behind();
    let (mut new, resumed) = Client::greet(open(&server).await.unwrap(), Some(resume)).await;
    assert!(resumed);
    assert_eq!(ended(&mut left_behind).await, Ended::Code(4002));
    new.check().await;
}

#[tokio::test]
async fn an_oversize_message_closes_with_1009() {
    let server = start(|_| {});
    for len in [LOBBY_MESSAGE_MAX + 1, 900_000] {
        let mut client = Client::connect(&server).await;
        // The server may close before all is sent.
        let _ = client.socket.send(Message::text("x".repeat(len))).await;
        assert_eq!(ended(&mut client.socket).await, Ended::Code(1009), "{len} bytes");
    }
}

#[tokio::test]
async fn the_largest_message_passes() {
    let server = start(|_| {});
    let mut a = Client::connect(&server).await;
    let mut b = Client::connect(&server).await;
    let lobby = a.create(2).await;
    b.join(lobby.code).await;
    let sdp = "x".repeat(SDP_MAX);
    a.signal(b.me, &sdp).await;
    let signal = signal(&sdp);
    assert_eq!(b.message().await, ServerMessage::Signal { from: a.me, signal });
}

#[tokio::test]
async fn malformed_and_binary_frames_are_answered_and_the_connection_stays() {
    let server = start(|_| {});
    let mut client = Client::connect(&server).await;
    let nested = "[".repeat(10_000);
    for text in ["", "{", "null", r#"{"type":"fly"}"#, r#"{"type":"join","request":1,"code":"?"}"#]
    {
        client.say_raw(Message::text(text)).await;
        assert_eq!(client.error().await, ErrorCode::Malformed, "{text}");
    }
    client.say_raw(Message::text(nested)).await;
    assert_eq!(client.error().await, ErrorCode::Malformed);
    client.say_raw(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(client.error().await, ErrorCode::Malformed);
    client.check().await;
}

#[tokio::test]
async fn who_begins_with_what_is_no_message_is_closed() {
    let server = start(|_| {});
    for first in [Message::text("hello"), Message::binary(vec![1, 2, 3])] {
        let mut socket = open(&server).await.unwrap();
        socket.send(first).await.unwrap();
        let code = ErrorCode::Malformed.close_code();
        assert_eq!(ended(&mut socket).await, Ended::Code(code));
    }
}

#[tokio::test]
async fn who_does_not_greet_is_closed() {
    let server = start(|config| config.lobby.hello_timeout = Duration::from_millis(200));
    let mut socket = open(&server).await.unwrap();
    assert_eq!(ended(&mut socket).await, Ended::Code(1002));
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut() {
    let server = start(|config| config.handshake_timeout = Duration::from_millis(200));
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it is cut");
    assert_eq!(server.stats().connections, 0);
}

#[tokio::test]
async fn silence_closes_a_connection() {
    let server = start(|config| config.lobby.keep_alive = Duration::from_millis(100));
    let mut client = Client::connect(&server).await;
    assert_eq!(ended(&mut client.socket).await, Ended::Code(4003));
}

#[tokio::test]
async fn a_flood_is_told_and_closed() {
    let server = start(|config| {
        config.lobby.messages = RateLimit { burst: 5, per_second: 1 };
    });
    let mut client = Client::connect(&server).await;
    for request in 0..20 {
        let list = ClientMessage::search(request).to_json();
        // The server closes in the middle of the flood.
        let _ = client.socket.send(Message::text(list)).await;
    }
    assert_eq!(ended(&mut client.socket).await, Ended::Code(1008));
}

#[tokio::test]
async fn a_flood_of_pings_is_closed() {
    let server = start(|_| {});
    let mut client = Client::connect(&server).await;
    for _ in 0..150 {
        let ping = Message::Ping(vec![0; 8].into());
        // The server closes in the middle of the flood.
        let _ = client.socket.send(ping).await;
    }
    assert_eq!(ended(&mut client.socket).await, Ended::Code(1008));
}

#[tokio::test]
async fn a_reader_that_never_reads_is_dropped_and_others_go_on() {
    let server = start(|config| {
        config.lobby.signals = RateLimit { burst: 100_000, per_second: 100_000 };
    });
    let mut a = Client::connect(&server).await;
    let mut b = Client::connect(&server).await;
    let socket = open_with(&server, Some(4096)).await.unwrap();
    let (mut slow, _) = Client::greet(socket, None).await;
    let lobby = a.create(3).await;
    b.join(lobby.code).await;
    slow.join(lobby.code).await;
    let sdp = "x".repeat(SDP_MAX);
    let offline = ServerMessage::MemberOffline { peer: slow.me };
    let mut dropped = false;
    for _ in 0..5000 {
        a.signal(slow.me, &sdp).await;
        if a.try_frame().is_some_and(|frame| frame.message == offline) {
            dropped = true;
            break;
        }
    }
    while !dropped {
        dropped = a.message().await == offline;
    }
    a.signal(b.me, "v=0").await;
    let signal = signal("v=0");
    while b.message().await != (ServerMessage::Signal { from: a.me, signal: signal.clone() }) {}
}

#[tokio::test]
async fn an_address_has_a_limit_and_gets_its_seats_back() {
    let server = start(|config| {
        config.max_per_address = 2;
        config.limit_loopback = true;
    });
    let a = open(&server).await.unwrap();
    let _b = open(&server).await.unwrap();
    match open(&server).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 429),
        other => panic!("{other:?}"),
    }
    drop(a);
    let again = async { while open(&server).await.is_err() {} };
    timeout(DEADLINE, again).await.expect("the seat is free again");
}

#[tokio::test]
async fn a_full_server_says_so() {
    let server = start(|config| config.lobby.max_connections = 1);
    let mut first = Client::connect(&server).await;
    let mut second = open(&server).await.unwrap();
    assert_eq!(ended(&mut second).await, Ended::Code(1013));
    first.check().await;
}

#[tokio::test]
async fn plain_http_gets_health_or_a_helpful_word() {
    let server = start(|_| {});
    let mut client = Client::connect(&server).await;
    client.create(2).await;
    let health = get(server.local_addr(), "/health").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let body: serde_json::Value =
        serde_json::from_str(health.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let expected = serde_json::json!({
        "status": "ok", "connections": 1, "sessions": 1, "lobbies": 1,
        "matchbox_peers": 0, "rooms": 0, "groups": 0,
    });
    assert_eq!(body, expected);
    let ready = get(server.local_addr(), "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let lost = get(server.local_addr(), "/nothing").await;
    assert!(lost.starts_with("HTTP/1.1 404") && lost.contains("/netplay/v1"), "{lost}");
    let plain = get(server.local_addr(), "/netplay/v1").await;
    assert!(plain.starts_with("HTTP/1.1 426") && plain.contains("ws://"), "{plain}");
}

#[tokio::test]
async fn shutdown_closes_everybody_and_frees_the_port() {
    let server = start(|_| {});
    let address = server.local_addr();
    let mut client = Client::connect(&server).await;
    let silent = open(&server).await.unwrap();
    let _idle = TcpStream::connect(address).await.unwrap();
    timeout(Duration::from_millis(1500), server.shutdown()).await.expect("within a second");
    assert_eq!(ended(&mut client.socket).await, Ended::Code(1001));
    drop((client, silent));
    let again = start(|config| config.bind = address);
    Client::connect(&again).await;
}

#[tokio::test]
async fn a_server_that_stops_closes_its_connections_one_after_the_other() {
    const CLIENTS: u32 = 12;
    // All of them within 0.6 s.
    let server = start(|config| config.back_per_second = 20);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&server).await);
    }
    let begin = Instant::now();
    let ends = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            assert_eq!(ended(&mut client.socket).await, Ended::Code(1001));
            begin.elapsed()
        })
    });
    let ends: Vec<_> = ends.collect();
    timeout(DEADLINE, server.shutdown()).await.expect("it ends");
    let mut times = Vec::new();
    for end in ends {
        times.push(end.await.unwrap());
    }
    times.sort_unstable();
    // A busy machine is late with some, and early with none.
    let spread = times[times.len() - 1].saturating_sub(times[0]);
    assert!(spread > Duration::from_millis(300), "{times:?}");
}

#[tokio::test]
async fn a_server_that_stops_closes_the_members_of_a_lobby_together() {
    const LOBBIES: usize = 6;
    // All of them within 1.2 s, so that two who are closed in their own turns are far from each other.
    let server = start(|config| config.back_per_second = 10);
    let (mut hosts, mut guests) = (Vec::new(), Vec::new());
    for _ in 0..LOBBIES {
        let mut host = Client::connect(&server).await;
        let lobby = host.create(2).await;
        hosts.push((host, lobby.code));
    }
    for (_, code) in &hosts {
        let mut guest = Client::connect(&server).await;
        guest.join(*code).await;
        guests.push(guest);
    }
    let begin = Instant::now();
    let ends = hosts.into_iter().map(|(host, _)| host).zip(guests).map(|(mut host, mut guest)| {
        tokio::spawn(async move {
            let end = async |client: &mut Client| {
                assert_eq!(ended(&mut client.socket).await, Ended::Code(1001));
                begin.elapsed()
            };
            tokio::join!(end(&mut host), end(&mut guest))
        })
    });
    let ends: Vec<_> = ends.collect();
    timeout(DEADLINE, server.shutdown()).await.expect("it ends");
    let mut times = Vec::new();
    for end in ends {
        times.push(end.await.unwrap());
    }
    let apart = times.iter().map(|(host, guest)| host.abs_diff(*guest));
    // A busy machine is late with one of them now and then.
    let together = apart.filter(|apart| *apart < Duration::from_millis(100)).count();
    assert!(together >= LOBBIES - 1, "{times:?}");
    let last = times.iter().map(|(host, _)| *host).max().unwrap_or_default();
    let first = times.iter().map(|(host, _)| *host).min().unwrap_or_default();
    assert!(last.saturating_sub(first) > Duration::from_millis(200), "{times:?}");
}

#[tokio::test]
async fn a_server_that_stops_closes_whom_it_never_finds_silent() {
    let server = start(|config| {
        config.lobby.signals = RateLimit { burst: u32::MAX, per_second: u32::MAX };
    });
    let mut a = Client::connect(&server).await;
    let mut b = Client::connect(&server).await;
    let code = a.create(2).await.code;
    b.join(code).await;
    a.message().await;
    let to = b.me;
    drop(b);
    a.message().await;
    // Nothing answers a signal. It has a mask, as RFC 6455 wants it of a client, that changes nothing.
    let text = ClientMessage::Signal { to, signal: signal(&"x".repeat(300)) }.to_json();
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    let frame = [&[0x81, 0xfe], &length[..], &[0; 4], text.as_bytes()].concat();
    let mut writer = a.socket.into_inner().into_std().unwrap();
    writer.set_nonblocking(false).unwrap();
    writer.set_write_timeout(Some(DEADLINE)).unwrap();
    writer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut reader = writer.try_clone().unwrap();
    let (goes_on, is_going_on) = tokio::sync::oneshot::channel();
    let talk = std::thread::spawn(move || {
        let many = frame.repeat(10_000);
        writer.write_all(&many).unwrap();
        goes_on.send(()).unwrap();
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until && writer.write_all(&many).is_ok() {}
    });
    timeout(DEADLINE, is_going_on).await.expect("it is taken").unwrap();
    timeout(DEADLINE, server.shutdown()).await.expect("it ends");
    tokio::task::spawn_blocking(|| talk.join()).await.unwrap().unwrap();
    let mut heard = Vec::new();
    // A reset may follow: the talking does not stop for what is said.
    let _ = reader.read_to_end(&mut heard);
    assert!(heard.ends_with(b"the server stops"), "{}", String::from_utf8_lossy(&heard));
}

#[tokio::test]
async fn no_task_outlives_the_server() {
    let server = start(|_| {});
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&server).await);
    }
    let metrics = tokio::runtime::Handle::current().metrics();
    assert!(metrics.num_alive_tasks() > 20);
    server.shutdown().await;
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[tokio::test]
async fn a_port_in_use_is_a_typed_error() {
    let server = start(|_| {});
    let address = server.local_addr();
    let error = Server::bind(ServerConfig::at(address)).await.err();
    assert_eq!(error, Some(BindError::InUse(address)));
    assert!(error.unwrap().to_string().contains("another port"));
}

#[test]
fn a_server_thread_serves_and_stops_when_dropped() {
    let server = ServerThread::start(ServerConfig::default()).unwrap();
    let address = server.local_addr();
    assert_eq!(server.url(), format!("ws://{address}"));
    let idle = std::net::TcpStream::connect(address).unwrap();
    let begin = Instant::now();
    drop(server);
    assert!(begin.elapsed() < Duration::from_millis(1500));
    drop(idle);
    ServerThread::start(ServerConfig::at(address)).unwrap();
}

/// A second player joins.
fn joins(peer: PeerId) -> ServerMessage {
    ServerMessage::MemberJoined { member: Member { slot: Some(1), ..Member::new(peer, 0) } }
}

#[tokio::test]
async fn a_full_server_is_not_ready() {
    let server = start(|config| config.lobby.max_connections = 1);
    let client = Client::connect(&server).await;
    let ready = get(server.local_addr(), "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("retry-after"), "{ready}");
    drop(client);
}
