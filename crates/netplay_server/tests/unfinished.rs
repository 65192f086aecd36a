//! Messages that never end.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use netplay_protocol::lobby::PATH;
use support::{Client, DEADLINE, Ended, ended, open_at, start};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// A part of a text without anything in it, masked with zeros.
const BEGINNING: [u8; 6] = [0x01, 0x80, 0, 0, 0, 0];
const CONTINUATION: [u8; 6] = [0x00, 0x80, 0, 0, 0, 0];

#[tokio::test]
async fn a_message_of_endless_empty_parts_is_closed_in_the_lobby_and_in_rooms() {
    let server = start(|_| {});
    let mut witness = Client::connect(&server).await;
    for path in [PATH, "/room", "/"] {
        let mut socket = open_at(&server, path, None).await.unwrap();
        socket.get_mut().write_all(&BEGINNING).await.unwrap();
        let parts = CONTINUATION.repeat(100);
        let endless = async {
            // Until the server takes no more: it has closed the socket, and then resets it.
            for _ in 0..100_000 {
                if socket.get_mut().write_all(&parts).await.is_err() {
                    return;
                }
            }
            panic!("{path}: 60 MB of nothing were taken");
        };
        timeout(DEADLINE, endless).await.expect("it is closed in time");
        witness.check().await;
    }
}

#[tokio::test]
async fn who_sends_too_many_parts_is_told_why() {
    let server = start(|_| {});
    for path in [PATH, "/room"] {
        let mut socket = open_at(&server, path, None).await.unwrap();
        let too_many = [&BEGINNING[..], &CONTINUATION.repeat(11_000)].concat();
        socket.get_mut().write_all(&too_many).await.unwrap();
        assert_eq!(ended(&mut socket).await, Ended::Code(1008), "{path}");
    }
}
