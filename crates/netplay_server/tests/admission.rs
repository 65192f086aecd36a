//! Who is let in: addresses, those that a proxy passes on, and web pages.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use netplay_protocol::LobbyCode;
use netplay_protocol::lobby::{ClientMessage, ErrorCode, PATH};
use netplay_server::{RateLimit, ServerConfig, ServerHandle};
use support::{Client, DEADLINE, get, open, open_as, refused, start};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;

/// Opens a WebSocket that comes through a proxy, which says so with these words.
async fn through_proxy(
    server: &ServerHandle,
    forwarded_for: &str,
) -> Result<WebSocketStream<TcpStream>, Error> {
    open_as(server, PATH, &[("x-forwarded-for", forwarded_for)]).await
}

/// A server whose proxies are on this machine.
fn behind_proxy(change: impl FnOnce(&mut ServerConfig)) -> ServerHandle {
    start(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.max_per_address = 1;
        change(config);
    })
}

#[tokio::test]
async fn through_a_trusted_proxy_the_limits_hold_for_each_client() {
    let server = behind_proxy(|_| {});
    let first = through_proxy(&server, "192.0.2.1").await.unwrap();
    let _second = through_proxy(&server, "192.0.2.2").await.unwrap();
    assert_eq!(refused(through_proxy(&server, "192.0.2.1").await).0, 429);
    // The client may write what it likes before the address that the proxy saw.
    assert_eq!(refused(through_proxy(&server, "192.0.2.9, 192.0.2.1").await).0, 429);
    // A proxy before the proxy.
    assert_eq!(refused(through_proxy(&server, "192.0.2.1, 127.0.0.9").await).0, 429);
    // Rooms for matchbox count too.
    let header = [("x-forwarded-for", "192.0.2.2")];
    assert_eq!(refused(open_as(&server, "/room", &header).await).0, 429);
    let (mut client, _) = Client::greet(first, None).await;
    client.check().await;
    drop(client);
    let again = async { while through_proxy(&server, "192.0.2.1").await.is_err() {} };
    timeout(DEADLINE, again).await.expect("the seat is free again");
}

#[tokio::test]
async fn what_a_proxy_says_that_cannot_be_understood_counts_as_the_proxy() {
    let server = behind_proxy(|config| config.limit_loopback = true);
    let _first = through_proxy(&server, "unknown").await.unwrap();
    for said in ["192.0.2.1, _hidden", "", "127.0.0.1"] {
        assert_eq!(refused(through_proxy(&server, said).await).0, 429, "{said:?}");
    }
    assert_eq!(refused(open(&server).await).0, 429, "no header");
    through_proxy(&server, "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn what_others_say_about_their_address_is_ignored() {
    let server = start(|config| {
        config.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
        config.max_per_address = 1;
        config.limit_loopback = true;
    });
    let _first = through_proxy(&server, "198.51.100.1").await.unwrap();
    assert_eq!(refused(through_proxy(&server, "198.51.100.2").await).0, 429);
}

#[tokio::test]
async fn who_comes_too_fast_is_told_when_to_come_again_and_then_let_in() {
    let server = start(|config| {
        config.new_per_address = RateLimit { burst: 3, per_second: 1 };
        config.limit_loopback = true;
    });
    for _ in 0..3 {
        open(&server).await.unwrap();
    }
    let (status, retry) = refused(open(&server).await);
    assert_eq!(status, 429);
    assert!(retry.is_some_and(|retry| (1..=2).contains(&retry)), "{retry:?}");
    let health = get(server.local_addr(), "/health").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let again = async { while open(&server).await.is_err() {} };
    timeout(DEADLINE, again).await.expect("it is let in again");
}

#[tokio::test]
async fn who_comes_too_fast_through_a_proxy_holds_up_nobody_else() {
    let server = behind_proxy(|config| {
        config.max_per_address = 100;
        config.new_per_address = RateLimit { burst: 2, per_second: 1 };
    });
    for _ in 0..2 {
        through_proxy(&server, "192.0.2.1").await.unwrap();
    }
    for _ in 0..5 {
        let (status, retry) = refused(through_proxy(&server, "192.0.2.1").await);
        assert!(status == 429 && retry.is_some(), "{status} {retry:?}");
    }
    through_proxy(&server, "192.0.2.2").await.unwrap();
}

#[tokio::test]
async fn web_pages_from_elsewhere_get_403_in_the_lobby_and_in_rooms() {
    let server = start(|config| {
        config.origins = vec!["https://game.example".parse().unwrap()];
    });
    for path in [PATH, "/", "/room", "/health"] {
        let elsewhere = open_as(&server, path, &[("origin", "https://other.example")]).await;
        assert_eq!(refused(elsewhere).0, 403, "{path}");
        open_as(&server, path, &[("origin", "https://game.example")]).await.unwrap();
        open_as(&server, path, &[]).await.expect("a program that is no page");
    }
    let health = get(server.local_addr(), "/health").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    match open_as(&server, PATH, &[("origin", "null")]).await {
        Err(Error::Http(response)) => {
            let text = String::from_utf8(response.into_body().unwrap_or_default()).unwrap();
            assert!(text.contains("--origin"), "{text:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_a_list_all_web_pages_may_connect() {
    let server = start(|_| {});
    open_as(&server, PATH, &[("origin", "https://other.example")]).await.unwrap();
}

#[tokio::test]
async fn who_guesses_codes_through_one_connection_after_the_other_is_slowed_down_and_nobody_else() {
    let server = behind_proxy(|config| {
        config.max_per_address = 100;
        config.lobby.address_guesses = RateLimit { burst: 3, per_second: 1 };
    });
    for (number, address, expected) in [
        (1, "2001:db8::1", ErrorCode::NoSuchLobby),
        (2, "2001:db8::2", ErrorCode::NoSuchLobby),
        (3, "2001:db8::ffff:3", ErrorCode::NoSuchLobby),
        (4, "2001:db8::4", ErrorCode::RateLimited),
        (5, "2001:db8:0:1::1", ErrorCode::NoSuchLobby),
    ] {
        let socket = through_proxy(&server, address).await.unwrap();
        let (mut client, _) = Client::greet(socket, None).await;
        client.say(&ClientMessage::join(1, LobbyCode::from_random(number))).await;
        assert_eq!(client.error().await, expected, "{address}");
    }
}
