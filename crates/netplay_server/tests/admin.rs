//! The address for who runs the server.
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::net::SocketAddr;

use futures_util::SinkExt;
use netplay_protocol::limits::LOBBY_MESSAGE_MAX;
use netplay_protocol::lobby::{ClientMessage, ErrorCode, LeaveReason, ServerMessage};
use netplay_server::{AdminConfig, BindError, Server, ServerConfig, ServerHandle};
use support::{Client, DEADLINE, Ended, ask, ended, open, open_at, refused, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn with_admin(token: Option<&str>) -> ServerHandle {
    let token = token.map(str::to_owned);
    start(|config| config.admin = Some(AdminConfig { bind: SocketAddr::from(LOOPBACK), token }))
}

#[tokio::test]
async fn counts_are_shown_as_prometheus_reads_them() {
    let server = with_admin(None);
    let mut client = Client::connect(&server).await;
    let lobby = client.create(2).await;
    client.say(&ClientMessage::join(1, lobby.code)).await;
    assert_eq!(client.error().await, ErrorCode::AlreadyInLobby);
    let (status, text) = ask(&server, "GET /metrics", None).await;
    assert_eq!(status, 200);
    for line in [
        "netplay_connections 1",
        "netplay_lobbies 1",
        "netplay_connections_opened_total 1",
        "netplay_messages_received_total 3",
        "netplay_refused_total{code=\"already_in_lobby\"} 1",
        "netplay_matchbox_rooms 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|of| of == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn what_becomes_of_sockets_is_counted_for_both_kinds_of_players() {
    let server = start(|config| {
        config.admin = Some(AdminConfig { bind: SocketAddr::from(LOOPBACK), token: None });
        (config.max_per_address, config.limit_loopback) = (2, true);
    });
    let mut client = Client::connect(&server).await;
    let mut room = open_at(&server, "/room", None).await.unwrap();
    assert_eq!(refused(open(&server).await).0, 429);
    for socket in [&mut client.socket, &mut room] {
        socket.send(Message::text("x".repeat(LOBBY_MESSAGE_MAX + 1))).await.unwrap();
        assert_eq!(ended(socket).await, Ended::Code(1009));
    }
    let (_, text) = ask(&server, "GET /metrics", None).await;
    for line in [
        "netplay_websockets_closed_total{close_code=\"1009\"} 2",
        "netplay_sockets_refused_total{why=\"address_full\"} 1",
    ] {
        assert!(text.lines().any(|of| of == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_web_page_cannot_ask_for_anything() {
    let server = with_admin(None);
    let mut stream = TcpStream::connect(server.admin_addr().unwrap()).await.unwrap();
    let drain = b"POST /drain HTTP/1.1\r\nHost: x\r\nOrigin: https://other.example\r\nConnection: close\r\n\r\n";
    stream.write_all(drain).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(ask(&server, "GET /ready", None).await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn lobbies_are_listed_looked_into_and_closed_and_members_put_out() {
    let server = with_admin(None);
    let (mut host, mut guest) = (Client::connect(&server).await, Client::connect(&server).await);
    let lobby = host.create(2).await;
    guest.join(lobby.code).await;
    let (_, list) = ask(&server, "GET /lobbies", None).await;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["code"], lobby.code.to_string());
    assert_eq!(list[0]["members"].as_array().unwrap().len(), 2);
    let path = format!("/lobbies/{}", lobby.code);
    let (status, one) = ask(&server, &format!("GET {path}"), None).await;
    assert!(status == 200 && one.contains("\"game\""), "{one}");
    let (status, none) = ask(&server, &format!("GET /lobbies?after={}", lobby.code), None).await;
    assert_eq!((status, none.as_str()), (200, "[]"));
    let member = format!("DELETE {path}/members/{}?ban=true", guest.me);
    assert_eq!(ask(&server, &member, None).await.0, 204);
    let removed = |reason| ServerMessage::Removed { reason };
    assert_eq!(guest.message().await, removed(LeaveReason::Banned));
    let stranger = format!("DELETE {path}/members/{}", guest.me);
    assert_eq!(ask(&server, &stranger, None).await.0, 404);
    assert_eq!(ask(&server, &format!("DELETE {path}"), None).await.0, 204);
    while host.message().await != removed(LeaveReason::Closed) {}
    for request in ["GET", "DELETE"] {
        assert_eq!(ask(&server, &format!("{request} {path}"), None).await.0, 404);
    }
    assert_eq!(ask(&server, "GET /lobbies/nonsense", None).await.0, 400);
}

#[tokio::test]
async fn without_the_token_nothing_is_told_or_done() {
    let server = with_admin(Some("secret"));
    let mut client = Client::connect(&server).await;
    let lobby = client.create(2).await;
    let close = format!("DELETE /lobbies/{}", lobby.code);
    for token in [None, Some("Secret"), Some("")] {
        assert_eq!(ask(&server, "GET /metrics", token).await.0, 401);
        assert_eq!(ask(&server, &close, token).await.0, 401);
    }
    assert_eq!(server.stats().lobbies, 1);
    assert_eq!(ask(&server, &close, Some("secret")).await.0, 204);
    assert_eq!(server.stats().lobbies, 0);
}

#[tokio::test]
async fn other_machines_need_a_token() {
    let bind = SocketAddr::from(([0, 0, 0, 0], 0));
    let admin = Some(AdminConfig { bind, token: None });
    let error = Server::bind(ServerConfig { admin, ..ServerConfig::default() }).await.err();
    assert_eq!(error, Some(BindError::AdminWithoutToken(bind)));
    let shown = format!("{:?}", AdminConfig { bind, token: Some("secret".into()) });
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_drain_is_answered_then_everybody_is_closed_in_turn_and_nobody_is_ready_any_more() {
    let server = start(|config| {
        config.admin = Some(AdminConfig { bind: SocketAddr::from(LOOPBACK), token: None });
        // Three seconds for three clients.
        config.back_per_second = 1;
    });
    assert_eq!(ask(&server, "GET /ready", None).await, (200, "ready\n".to_owned()));
    assert_eq!(ask(&server, "GET /drain", None).await.0, 405);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(&server).await);
    }
    // It comes before the drain, and asks after it.
    let mut early = TcpStream::connect(server.local_addr()).await.unwrap();
    // The server has taken it when it has answered the next one.
    support::get(server.local_addr(), "/health").await;
    assert_eq!(ask(&server, "POST /drain", None).await.0, 202);
    let stopping = async { while TcpStream::connect(server.local_addr()).await.is_ok() {} };
    timeout(DEADLINE, stopping).await.expect("it listens no more");
    assert_eq!(ask(&server, "GET /ready", None).await, (503, "stopping\n".to_owned()));
    assert_eq!(ask(&server, "POST /drain", None).await.0, 202, "again");
    early.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, early.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("stopping\n"), "{answer}");
    for mut client in clients {
        assert_eq!(ended(&mut client.socket).await, Ended::Code(1001));
    }
    timeout(DEADLINE, server.shutdown()).await.expect("it has ended");
}

#[tokio::test]
async fn a_drain_of_an_empty_server_is_answered_too() {
    for _ in 0..10 {
        let server = with_admin(Some("secret"));
        assert_eq!(ask(&server, "POST /drain", None).await.0, 401);
        assert_eq!(ask(&server, "POST /drain", Some("secret")).await.0, 202);
        timeout(DEADLINE, server.shutdown()).await.expect("it has ended");
    }
}
