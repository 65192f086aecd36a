//! Who is let in.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use netplay_server::RateLimit;
use support::{DEADLINE, get, open, refused, start};
use tokio::time::timeout;

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
