//! The program `netplay-server` under players, with its options at their ends.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::net::SocketAddr;
use core::time::Duration;
use std::process::Stdio;

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use netplay_protocol::GameId;
use netplay_protocol::limits::SDP_MAX;
use netplay_protocol::lobby::{ClientMessage, ErrorCode, LobbyOptions, PATH, ServerMessage};
use serde_json::{Value, json};
use socket2::SockRef;
use support::tls::Files;
use support::{Client, DEADLINE, Ended, ask_at, ended, get, jwt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<TcpStream>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_netplay-server");
const ELSEWHERE: &str = "192.0.2.1";

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("in time")
}

/// A running program.
struct Program {
    child: Child,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    stderr: JoinHandle<String>,
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).args(["--bind", "127.0.0.1:0"]);
    command
}

impl Program {
    /// Starts it. If it ends before its first line, gives its exit code and what it said on stderr.
    async fn start(command: &mut Command) -> Result<Self, (Option<i32>, String)> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let Some(first) = soon(stdout.next_line()).await.unwrap() else {
            soon(stderr.read_to_string(&mut said)).await.unwrap();
            return Err((soon(child.wait()).await.unwrap().code(), said));
        };
        let address = first.strip_prefix("listening on ws://").expect("as documented");
        let mut admin = None;
        while admin.is_none() && command.as_std().get_args().any(|given| given == "--admin") {
            let more = soon(stderr.read_line(&mut said)).await.unwrap();
            assert!(more > 0, "it says where the admin address is: {said}");
            let url = said.split_once("http://").and_then(|(_, url)| url.split('"').next());
            admin = url.map(|url| url.parse().unwrap());
        }
        let stderr = tokio::spawn(async move {
            stderr.read_to_string(&mut said).await.unwrap();
            said
        });
        Ok(Self { child, address: address.parse().unwrap(), admin, stderr })
    }

    /// Stops it as systemd does, and gives what it said on stderr.
    async fn stop(mut self) -> String {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let (status, said) = (soon(self.child.wait()).await, soon(self.stderr).await.unwrap());
        assert!(status.unwrap().success() && !said.contains("panicked"), "{said}");
        said
    }

    /// Opens a WebSocket, which a proxy passes on for somebody else if it is one that is believed.
    async fn open(&self, from: TcpSocket, path: &str) -> Result<Socket, Error> {
        let stream = soon(from.connect(self.address)).await.unwrap();
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        request.headers_mut().append("x-forwarded-for", HeaderValue::from_static(ELSEWHERE));
        Ok(soon(client_async(request, stream)).await?.0)
    }

    async fn health(&self) -> Value {
        let answer = get(self.address, "/health").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

fn anywhere() -> TcpSocket {
    TcpSocket::new_v4().unwrap()
}

/// As little as the system keeps for who does not read: 100 KB instead of several MB.
fn narrow() -> TcpSocket {
    let socket = anywhere();
    socket.set_recv_buffer_size(4096).unwrap();
    SockRef::from(&socket).set_tcp_mss(536).unwrap();
    socket
}

#[tokio::test]
async fn who_does_not_read_is_closed_after_the_write_timeout_that_is_given() {
    let mut command = program(&["--key", "none", "--write-timeout", "0.3"]);
    let server = Program::start(&mut command).await.unwrap();
    let mut witness = Client::greet(server.open(anywhere(), PATH).await.unwrap(), None).await.0;
    let lobby = witness.create(2).await;
    let mut slow = Client::greet(server.open(narrow(), PATH).await.unwrap(), None).await.0;
    slow.join(lobby.code).await;
    assert!(matches!(witness.message().await, ServerMessage::MemberJoined { .. }));
    let begin = Instant::now();
    // Fewer bytes than may wait: it is not for them that it is closed.
    for _ in 0..16 {
        witness.signal(slow.me, &"x".repeat(SDP_MAX)).await;
    }
    assert_eq!(witness.message().await, ServerMessage::MemberOffline { peer: slow.me });
    let took = begin.elapsed();
    // The default is 10 s.
    assert!((Duration::from_millis(300)..Duration::from_secs(9)).contains(&took), "{took:?}");
    ended(&mut slow.socket).await;
    witness.check().await;
    assert_eq!(server.health().await["connections"], 1);
    server.stop().await;
}

#[tokio::test]
async fn it_raises_its_limit_of_open_files_to_the_hard_one() {
    use rustix::process::{Resource, getrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    if hard.is_some_and(|hard| hard < 1024) {
        return eprintln!("skipped: the hard limit of open files is {hard:?}, 1024 are needed");
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 64; exec \"$0\" \"$@\"", PROGRAM]);
    command.args(["--bind", "127.0.0.1:0", "--key", "none", "--handshake-timeout", "60"]);
    let server = Program::start(&mut command).await.unwrap();
    let _players = join_all((0..200).map(async |room| {
        let mut player = server.open(anywhere(), &format!("/{room}")).await.unwrap();
        assert!(matches!(soon(player.next()).await, Some(Ok(Message::Text(_)))));
        player
    }))
    .await;
    assert_eq!(server.health().await["matchbox_peers"], 200);
    server.stop().await;
}

const ADMIN_TOKEN: &str = "admin-token-76f2c1";
const JWT_SECRET: &str = "jwt-secret-0b5a9d-0b5a9d-0b5a9d-0b5a9d";
const PASSWORD: &str = "password-e41f70";
const WRONG: &str = "wrong-93d2ab";
const CHAT: &str = "chat-5c8e16";
const HOME: &str = "127.0.0.9";

/// Says hello with this login, from where the players are.
async fn log_in(server: &Program, login: &Value) -> Result<Client, Ended> {
    let hello = json!({"type": "hello", "protocol": 1, "game": "game", "login": login});
    let hello = ClientMessage::from_json(&hello.to_string()).unwrap();
    Client::log_in(server.open(at_home(), PATH).await.unwrap(), &hello).await
}

fn at_home() -> TcpSocket {
    let socket = anywhere();
    socket.bind(format!("{HOME}:0").parse().unwrap()).unwrap();
    socket
}

async fn say(client: &mut Client, message: &Value) -> ServerMessage {
    client.say_raw(Message::text(message.to_string())).await;
    client.message().await
}

/// Players come, do what they may and what they may not, and go. Gives what is secret of it.
async fn play(server: &Program) -> Vec<String> {
    let admin = server.admin.unwrap();
    let claims = json!({"sub": "ann", "exp": 10_000_000_000_u64});
    let [token, forged] = [JWT_SECRET.as_bytes(), &[7; 32]].map(|secret| jwt(&claims, secret));
    let refused = log_in(server, &json!({"jwt": forged})).await;
    assert_eq!(refused.err(), Some(Ended::Code(4004)));
    let mut ann = log_in(server, &json!({"jwt": token})).await.unwrap();
    let request = "POST /tickets\n{\"account\":\"bob\",\"game\":\"game\"}";
    assert_eq!(ask_at(admin, request, Some(WRONG)).await.0, 401);
    let (_, login) = ask_at(admin, request, Some(ADMIN_TOKEN)).await;
    let login: Value = serde_json::from_str(&login).unwrap();
    let mut bob = log_in(server, &login).await.unwrap();

    let options = LobbyOptions::public(2);
    let create = json!({"type": "create", "request": 1, "options": options, "password": PASSWORD});
    let lobby = say(&mut ann, &create).await;
    let ServerMessage::Joined { lobby, .. } = lobby else { panic!("{lobby:?}") };
    let mut join = json!({"type": "join", "request": 2, "code": lobby.code, "password": WRONG});
    let refused = say(&mut bob, &join).await;
    assert!(matches!(refused, ServerMessage::Error { code: ErrorCode::WrongPassword, .. }));
    join["password"] = PASSWORD.into();
    assert!(matches!(say(&mut bob, &join).await, ServerMessage::Joined { .. }));
    assert!(matches!(ann.message().await, ServerMessage::MemberJoined { .. }));
    let invite = say(&mut ann, &json!({"type": "invite", "request": 3, "secs": 60})).await;
    let ServerMessage::Invitation { invite, .. } = invite else { panic!("{invite:?}") };
    ann.say(&ClientMessage::Chat { request: 4, text: CHAT.to_owned() }).await;
    assert_eq!(bob.message().await, ServerMessage::Chat { from: ann.me, text: CHAT.to_owned() });
    let malformed = say(&mut bob, &json!({"type": CHAT, "password": PASSWORD})).await;
    assert!(matches!(malformed, ServerMessage::Error { code: ErrorCode::Malformed, .. }));

    let resume = bob.cut();
    let first = resume.token.0.clone();
    let socket = server.open(at_home(), PATH).await.unwrap();
    let (mut bob, resumed) = Client::greet(socket, Some(resume)).await;
    assert!(resumed);
    assert_eq!(ask_at(admin, "PUT /bans/bob?secs=60", Some(ADMIN_TOKEN)).await.0, 204);
    assert_eq!(ended(&mut bob.socket).await, Ended::Code(4006));
    let ticket = login["ticket"].as_str().unwrap().to_owned();
    vec![token, forged, ticket, invite.0, first, ann.cut().token.0]
}

#[tokio::test]
async fn its_log_has_no_secret_and_no_address_of_a_player() {
    let files = Files::new("log");
    let file = |name: &str| files.directory().join(name).to_str().unwrap().to_owned();
    let [key, admin_token, jwt_secret] = ["key", "token", "secret"].map(file);
    std::fs::write(&admin_token, ADMIN_TOKEN).unwrap();
    std::fs::write(&jwt_secret, JWT_SECRET).unwrap();
    let mut command = program(&["--key", &key, "--jwt-secret", &jwt_secret]);
    command.args(["--admin", "127.0.0.1:0", "--admin-token", &admin_token]).env_remove("RUST_LOG");
    let server = Program::start(&mut command).await.unwrap();
    let (secrets, key) = (play(&server).await, std::fs::read_to_string(&key).unwrap());
    let stderr = server.stop().await;
    for word in ["started", "banned", "stopped"] {
        assert!(stderr.contains(word), "{word} is not in\n{stderr}");
    }
    let known = [ADMIN_TOKEN, JWT_SECRET, PASSWORD, WRONG, CHAT, HOME, ELSEWHERE, key.trim()];
    for secret in known.into_iter().chain(secrets.iter().map(String::as_str)) {
        assert!(!secret.is_empty() && !stderr.contains(secret), "{secret:?} is in\n{stderr}");
    }
}

/// With these arguments it serves whoever comes, or does not start, and names the first.
async fn starts_or_says_why_not(arguments: &[&str]) {
    let mut command = program(&["--key", "none", "--trust-proxy", "127.0.0.1"]);
    let server = match Program::start(command.args(arguments)).await {
        Ok(server) => server,
        Err((code, said)) => {
            let lines = said.lines().filter(|line| line.contains(arguments[0])).count();
            return assert!(matches!(code, Some(1 | 2)) && lines == 1, "{arguments:?}: {said}");
        }
    };
    for path in [PATH, "/room"] {
        match server.open(anywhere(), path).await {
            Ok(mut socket) => {
                let hello = ClientMessage::hello(GameId::new("game").unwrap(), None);
                // The server may have closed it already.
                let _ = socket.send(Message::text(hello.to_json())).await;
                let heard = soon(socket.next()).await;
                assert!(matches!(heard, Some(Ok(_))), "{arguments:?}: {heard:?}");
            }
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 429, "{arguments:?}"),
            Err(other) => panic!("{arguments:?}: {other}"),
        }
        assert_eq!(server.health().await["status"], "ok", "{arguments:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn with_each_number_at_its_ends_it_serves_or_names_the_option() {
    let (count, size, time) = (u32::MAX.to_string(), usize::MAX.to_string(), f64::MAX.to_string());
    let help = soon(program(&["--help"]).output()).await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options = help.lines().filter_map(|line| match line.trim().split_once(' ')? {
        (name, "<N>") => Some((name, ["0", &count, &size])),
        (name, "<SECONDS>") => Some((name, ["0", "86400", &time])),
        _ => None,
    });
    let options: Vec<_> = options.collect();
    assert!(options.len() >= 14, "{help}");
    for (name, values) in &options {
        for value in values {
            starts_or_says_why_not(&[name, value]).await;
        }
    }
    // The least and the most that each can be, all together.
    let least = options.iter().filter(|(_, values)| values[1] == count);
    let least: Vec<_> = least.flat_map(|(name, values)| [*name, values[0]]).collect();
    let most: Vec<_> = options.iter().flat_map(|(name, values)| [*name, values[1]]).collect();
    starts_or_says_why_not(&least).await;
    starts_or_says_why_not(&most).await;
}
