//! How much one address may send.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::time::Duration;
use std::time::Instant;

use netplay_protocol::lobby::{ErrorCode, PATH};
use netplay_server::{RateLimit, ServerHandle};
use support::{Client, open_as, start};
use tokio_tungstenite::tungstenite::Message;

/// 5 KB that are no message.
async fn say_much(client: &mut Client) {
    client.say_raw(Message::text("x".repeat(5000))).await;
}

async fn from(server: &ServerHandle, address: &str) -> Client {
    let socket = open_as(server, PATH, &[("x-forwarded-for", address)]).await.unwrap();
    Client::greet(socket, None).await.0
}

#[tokio::test]
async fn who_sends_too_much_is_heard_later_and_so_is_nobody_elsewhere() {
    let server = start(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.address_bytes = RateLimit { burst: 10_000, per_second: 5000 };
    });
    let mut much = from(&server, "2001:db8::1").await;
    let begin = Instant::now();
    for _ in 0..5 {
        say_much(&mut much).await;
    }
    for _ in 0..2 {
        assert_eq!(much.error().await, ErrorCode::Malformed);
    }
    // Behind the same address, and elsewhere: what they say first is heard at once.
    from(&server, "2001:db8::2").await.check().await;
    from(&server, "2001:db8:0:1::1").await.check().await;
    for _ in 0..3 {
        assert_eq!(much.error().await, ErrorCode::Malformed);
    }
    // The last one is heard when those before it are paid for: 20 000 bytes less the burst.
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(1900), "{took:?}");
    much.check().await;
}

#[tokio::test]
async fn on_the_same_machine_nobody_pays() {
    let server = start(|config| {
        config.address_bytes = RateLimit { burst: 1, per_second: 1 };
    });
    let mut client = Client::connect(&server).await;
    for _ in 0..5 {
        say_much(&mut client).await;
        assert_eq!(client.error().await, ErrorCode::Malformed);
    }
}
