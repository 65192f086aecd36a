//! The program with fewer files than players: those beyond are turned away, those inside are served.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use core::net::SocketAddr;
use core::time::Duration;
use std::process::Stdio;

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::GameId;
use netplay_protocol::lobby::{ClientMessage, PATH, ServerFrame, ServerMessage};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const DEADLINE: Duration = Duration::from_secs(10);

/// Open files of the program.
const FILES: usize = 100;

type Socket = WebSocketStream<TcpStream>;

/// Starts it with so many files used up already.
async fn started(used: usize) -> (Child, SocketAddr) {
    let script = format!(
        "ulimit -n {FILES}; for i in $(seq 20 $((19 + {used}))); do eval \"exec $i</dev/null\"; done; \
         exec \"$0\" --bind 127.0.0.1:0 --key none"
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_netplay-server")]).kill_on_drop(true);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.expect("a line in time").unwrap();
    let line = line.expect("a first line");
    let address = line.strip_prefix("listening on ws://").expect("as documented");
    (child, address.parse().unwrap())
}

/// A player who is greeted; an error if the server closes the socket before.
async fn enter(server: SocketAddr) -> Option<Socket> {
    let enter = async {
        let stream = TcpStream::connect(server).await.ok()?;
        let (mut socket, _) = client_async(format!("ws://{server}{PATH}"), stream).await.ok()?;
        let hello = ClientMessage::hello(GameId::new("game").unwrap(), None);
        say(&mut socket, &hello).await.ok()?;
        assert!(matches!(message(&mut socket).await, ServerMessage::Welcome { .. }));
        Some(socket)
    };
    timeout(DEADLINE, enter).await.expect("it is let in or turned away, and does not wait")
}

async fn say(socket: &mut Socket, message: &ClientMessage) -> Result<(), tungstenite::Error> {
    socket.send(Message::text(message.to_json())).await
}

async fn message(socket: &mut Socket) -> ServerMessage {
    match timeout(DEADLINE, socket.next()).await.expect("an answer in time") {
        Some(Ok(Message::Text(text))) => ServerFrame::from_json(&text).unwrap().message,
        other => panic!("a message is expected, not {other:?}"),
    }
}

async fn is_served(socket: &mut Socket) {
    say(socket, &ClientMessage::KeepAlive { seen: 0 }).await.unwrap();
    assert_eq!(message(socket).await, ServerMessage::Alive);
}

/// With so many files used up by something else.
async fn sheds_and_recovers(used: usize) {
    let (_child, server) = started(used).await;
    let mut inside = Vec::new();
    while let Some(socket) = enter(server).await {
        inside.push(socket);
        assert!(inside.len() < FILES, "there are no more files");
    }
    assert!(inside.len() >= 5, "{} players are inside", inside.len());
    for _ in 0..3 * FILES {
        assert!(enter(server).await.is_none(), "there is no file for it");
    }
    for socket in &mut inside {
        is_served(socket).await;
    }
    let half = inside.len() / 2;
    inside.truncate(half);
    let again = async {
        while inside.len() < 2 * half {
            inside.extend(enter(server).await);
        }
    };
    timeout(DEADLINE, again).await.expect("there is room for others again");
    for socket in &mut inside {
        is_served(socket).await;
    }
}

#[tokio::test]
async fn beyond_the_limit_of_files_players_are_turned_away_and_those_inside_are_served() {
    sheds_and_recovers(0).await;
}

/// More than the server leaves for what is no player, so that the system refuses it a socket.
#[tokio::test]
async fn with_no_file_left_players_are_turned_away_and_those_inside_are_served() {
    sheds_and_recovers(70).await;
}
