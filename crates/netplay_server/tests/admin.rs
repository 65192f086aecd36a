//! The address for who runs the server.
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::net::SocketAddr;

use netplay_protocol::lobby::{ClientMessage, ErrorCode, LeaveReason, ServerMessage};
use netplay_server::{AdminConfig, BindError, Server, ServerConfig, ServerHandle};
use support::{Client, ask, start};

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
