//! What is refused on an open connection: what it hears, and with which close code it ends.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::time::Duration;

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::limits::{LOBBY_MESSAGE_MAX, SDP_MAX};
use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, JoinTicket, Jwt, Login, ServerFrame, ServerMessage,
};
use netplay_protocol::matchbox::Event;
use netplay_protocol::{GameId, PROTOCOL_VERSION, PeerId};
use netplay_server::{AdminConfig, JwtConfig, JwtKeys, RateLimit, ServerConfig, ServerHandle};
use serde_json::{Value, json};
use support::{Client, DEADLINE, Ended, ask, ended, jwt, open, open_at, open_with, signal, start};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

type Socket = WebSocketStream<TcpStream>;

const TEXT: u8 = 0x1;
const LAST: u8 = 0x80;

/// A frame as a client sends it, masked. The first byte is its opcode and its bits.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let len = u16::try_from(payload.len()).unwrap();
    let mut bytes = vec![first, 0x80 | len.min(126) as u8];
    if len > 125 {
        bytes.extend(len.to_be_bytes());
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Sends bytes below the WebSocket, which would not let them through.
async fn say_bytes(socket: &mut Socket, bytes: &[u8]) {
    timeout(DEADLINE, socket.get_mut().write_all(bytes)).await.expect("in time").unwrap();
}

async fn text(socket: &mut Socket) -> String {
    match timeout(DEADLINE, socket.next()).await.expect("a text in time") {
        Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
        other => panic!("text is expected, not {other:?}"),
    }
}

async fn event(player: &mut Socket) -> Event {
    Event::from_json(&text(player).await).unwrap()
}

/// It hears this, maybe after others who were there before it left.
async fn hears(player: &mut Socket, expected: &Event) {
    while event(player).await != *expected {}
}

/// Enters a room. Gives the player's id too.
async fn enter(server: &ServerHandle, receive_buffer: Option<u32>) -> (Socket, PeerId) {
    let mut socket = open_at(server, "/room", receive_buffer).await.unwrap();
    match event(&mut socket).await {
        Event::IdAssigned(me) => (socket, me),
        other => panic!("an id comes first, not {other:?}"),
    }
}

/// How the connection is closed, after which nothing follows.
async fn closed(socket: &mut Socket) -> Ended {
    let how = ended(socket).await;
    assert_eq!(ended(socket).await, Ended::Cut, "the socket is closed after the last frame");
    how
}

/// Two players of one lobby.
async fn pair(server: &ServerHandle) -> (Client, Client) {
    let (mut host, mut guest) = (Client::connect(server).await, Client::connect(server).await);
    let lobby = host.create(2).await;
    guest.join(lobby.code).await;
    assert!(matches!(host.message().await, ServerMessage::MemberJoined { .. }));
    (host, guest)
}

/// How connections end that send these bytes: in the lobby before hello and after it, and in a room. Others
/// hear that they are gone, and are served on.
async fn answers(server: &ServerHandle, bytes: &[u8]) -> [Ended; 3] {
    let mut stranger = open(server).await.unwrap();
    say_bytes(&mut stranger, bytes).await;
    let before_hello = closed(&mut stranger).await;
    let (mut witness, mut client) = pair(server).await;
    say_bytes(&mut client.socket, bytes).await;
    let in_lobby = closed(&mut client.socket).await;
    assert_eq!(witness.message().await, ServerMessage::MemberOffline { peer: client.me });
    witness.check().await;
    let (mut witness, _) = enter(server, None).await;
    let (mut player, me) = enter(server, None).await;
    hears(&mut witness, &Event::NewPeer(me)).await;
    say_bytes(&mut player, bytes).await;
    let in_room = closed(&mut player).await;
    hears(&mut witness, &Event::PeerLeft(me)).await;
    let (_next, next) = enter(server, None).await;
    hears(&mut witness, &Event::NewPeer(next)).await;
    [before_hello, in_lobby, in_room]
}

/// For each of these bytes, all three connections end so.
async fn all_end_with(code: u16, cases: &[(&str, Vec<u8>)]) {
    let server = start(|_| {});
    for (name, bytes) in cases {
        let answers = answers(&server, bytes).await;
        assert!(answers.iter().all(|how| *how == Ended::Code(code)), "{name}: {answers:?}");
    }
}

#[tokio::test]
async fn frames_made_by_hand_are_understood_in_fragments_too() {
    let server = start(|_| {});
    let mut client = Client::connect(&server).await;
    let text = r#"{"type":"chat","request":5,"text":"é"}"#.as_bytes();
    let (first, rest) = text.split_at(text.len() - 3);
    let parts = [frame(TEXT, first), frame(LAST | 0x9, b"ping"), frame(LAST, rest)].concat();
    for bytes in [frame(LAST | TEXT, text), parts] {
        say_bytes(&mut client.socket, &bytes).await;
        assert_eq!(client.error().await, ErrorCode::NotInLobby);
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let in_parts = [frame(TEXT, b"\xC3"), frame(LAST, b"\"")].concat();
    let cases = [
        ("no byte of UTF-8", frame(LAST | TEXT, b"\"\xFF\"")),
        ("a letter without its end", frame(LAST | TEXT, b"\xE2\x82")),
        ("a letter without its end, in fragments", in_parts),
        ("a reason to close", frame(LAST | 0x8, b"\x03\xE8\xFF")),
    ];
    all_end_with(1007, &cases).await;
}

#[tokio::test]
async fn broken_frames_close_with_1002() {
    let two_texts = [frame(TEXT, b"{"), frame(LAST | TEXT, b"}")].concat();
    let much_after_it = [frame(LAST | 0x3, b"hi"), frame(LAST | TEXT, &[b'x'; 60_000])].concat();
    let cases = [
        ("no mask", vec![LAST | TEXT, 2, b'{', b'}']),
        ("a reserved opcode", frame(LAST | 0x3, b"hi")),
        ("a reserved opcode of control frames", frame(LAST | 0xB, b"hi")),
        ("the first reserved bit, which says compressed", frame(LAST | 0x40 | TEXT, b"{}")),
        ("the second reserved bit", frame(LAST | 0x20 | TEXT, b"{}")),
        ("the third reserved bit", frame(LAST | 0x10 | 0x9, b"")),
        ("a continuation without a beginning", frame(LAST, b"{}")),
        ("a beginning within a message", two_texts),
        ("a ping that is too long", frame(LAST | 0x9, &[0; 126])),
        ("a ping in fragments", frame(0x9, b"hi")),
        ("half of a close code", frame(LAST | 0x8, &[3])),
        ("a close code that is never sent", frame(LAST | 0x8, &1005_u16.to_be_bytes())),
        ("much that nobody reads", much_after_it),
    ];
    all_end_with(1002, &cases).await;
}

#[tokio::test]
async fn messages_that_are_too_long_close_with_1009() {
    let half = vec![b'x'; LOBBY_MESSAGE_MAX / 2 + 1];
    // What is announced never comes.
    let announced = |len: u64| [&[LAST | TEXT, 0xFF], &len.to_be_bytes()[..], &[0; 4]].concat();
    let cases = [
        ("text", frame(LAST | TEXT, &[b'x'; LOBBY_MESSAGE_MAX + 1])),
        ("in fragments", [frame(TEXT, &half), frame(LAST, &half)].concat()),
        ("without an end", [frame(TEXT, &half), frame(0, &half)].concat()),
        ("a byte too much is announced", announced(LOBBY_MESSAGE_MAX as u64 + 1)),
        ("all memory is announced", announced(i64::MAX as u64)),
        ("more than there can be is announced", announced(u64::MAX)),
    ];
    all_end_with(1009, &cases).await;
}

/// The error that comes before the end, which belongs to the connection and not to a session.
async fn last_error(socket: &mut Socket) -> (ErrorCode, String) {
    match ServerFrame::from_json(&text(socket).await).unwrap() {
        ServerFrame { seq: 0, message: ServerMessage::Error { code, text, .. } } => (code, text),
        other => panic!("a last error is expected, not {other:?}"),
    }
}

/// What a newcomer hears who says this, and how its connection ends.
async fn refusal(server: &ServerHandle, hello: &str) -> (ErrorCode, String, Ended) {
    let mut socket = open(server).await.unwrap();
    timeout(DEADLINE, socket.send(Message::text(hello))).await.expect("in time").unwrap();
    let (code, text) = last_error(&mut socket).await;
    (code, text, closed(&mut socket).await)
}

#[tokio::test]
async fn another_protocol_version_is_told_and_closed_with_4001() {
    let server = start(|_| {});
    for version in [0, PROTOCOL_VERSION + 1, u16::MAX] {
        // What a later version has besides is no reason to say anything else.
        let hello = json!({"type": "hello", "protocol": version, "game": "game", "colour": [1]});
        let (code, text, how) = refusal(&server, &hello.to_string()).await;
        assert_eq!((code, how), (ErrorCode::Version, Ended::Code(4001)));
        assert!(text.contains(&format!("version {version} ")), "{text}");
    }
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn with_logins(change: impl FnOnce(&mut ServerConfig)) -> ServerHandle {
    start(|config| {
        let keys = JwtKeys::Secret(SECRET.to_vec());
        config.jwt = Some(JwtConfig { keys, issuer: None, audience: None });
        config.admin = Some(AdminConfig { bind: ([127, 0, 0, 1], 0).into(), token: None });
        config.lobby.login_required = true;
        change(config);
    })
}

fn hello(login: Option<Login>) -> ClientMessage {
    let (protocol, game) = (PROTOCOL_VERSION, GameId::new("game").unwrap());
    ClientMessage::Hello { protocol, game, build: None, resume: None, login }
}

fn by_jwt(account: &str, secret: &[u8]) -> ClientMessage {
    let claims = json!({"sub": account, "exp": 10_000_000_000_u64});
    hello(Some(Login::Jwt(Jwt(jwt(&claims, secret)))))
}

async fn by_ticket(server: &ServerHandle, account: &str) -> ClientMessage {
    let body = json!({"account": account, "game": "game"});
    let (_, answer) = ask(server, &format!("POST /tickets\n{body}"), None).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    hello(Some(Login::Ticket(JoinTicket(answer["ticket"].as_str().unwrap().to_owned()))))
}

async fn log_in(server: &ServerHandle, hello: &ClientMessage) -> Client {
    Client::log_in(open(server).await.unwrap(), hello).await.unwrap()
}

#[tokio::test]
async fn who_does_not_show_who_it_is_is_closed_with_4004() {
    let server = with_logins(|_| {});
    let of_nobody = hello(Some(Login::Ticket(JoinTicket("of nobody".to_owned()))));
    for hello in [hello(None), of_nobody, by_jwt("ann", &[7; 32])] {
        let (code, _, how) = refusal(&server, &hello.to_json()).await;
        assert_eq!((code, how), (ErrorCode::Unauthorized, Ended::Code(4004)), "{hello:?}");
    }
    log_in(&server, &by_jwt("ann", SECRET)).await.check().await;
}

#[tokio::test]
async fn one_session_too_many_of_an_account_is_closed_with_4005() {
    let server = with_logins(|config| config.lobby.sessions_per_account = 2);
    let mut first = log_in(&server, &by_jwt("ann", SECRET)).await;
    let mut second = log_in(&server, &by_ticket(&server, "ann").await).await;
    let by_ticket = by_ticket(&server, "ann").await;
    for hello in [&by_jwt("ann", SECRET), &by_ticket] {
        let (code, _, how) = refusal(&server, &hello.to_json()).await;
        assert_eq!((code, how), (ErrorCode::AccountInUse, Ended::Code(4005)));
    }
    log_in(&server, &by_jwt("bob", SECRET)).await.check().await;
    first.check().await;
    second.say(&ClientMessage::Goodbye).await;
    assert_eq!(closed(&mut second.socket).await, Ended::Code(1000));
    // The ticket was refused, and so it is not used.
    log_in(&server, &by_ticket).await.check().await;
}

#[tokio::test]
async fn who_is_banned_is_told_and_closed_with_4006() {
    let server = with_logins(|_| {});
    let mut ann = log_in(&server, &by_jwt("ann", SECRET)).await;
    assert_eq!(ask(&server, "PUT /bans/ann", None).await.0, 204);
    assert_eq!(last_error(&mut ann.socket).await.0, ErrorCode::Banned);
    assert_eq!(closed(&mut ann.socket).await, Ended::Code(4006));
    for hello in [by_jwt("ann", SECRET), by_ticket(&server, "ann").await] {
        let (code, _, how) = refusal(&server, &hello.to_json()).await;
        assert_eq!((code, how), (ErrorCode::Banned, Ended::Code(4006)));
    }
}

#[tokio::test]
async fn an_older_connection_of_a_session_is_told_and_closed_with_4002_and_nobody_else_notices() {
    let server = start(|_| {});
    let (mut witness, mut client) = pair(&server).await;
    client.check().await;
    let (mut older, resume) = client.leave_behind();
    let (mut newer, resumed) = Client::greet(open(&server).await.unwrap(), Some(resume)).await;
    assert!(resumed);
    assert_eq!(last_error(&mut older).await.0, ErrorCode::Superseded);
    assert_eq!(closed(&mut older).await, Ended::Code(4002));
    newer.check().await;
    witness.check().await;
}

#[tokio::test]
async fn a_second_hello_closes_with_1002_and_the_session_can_be_taken_up() {
    let server = start(|_| {});
    let mut client = Client::connect(&server).await;
    client.say(&hello(None)).await;
    assert_eq!(last_error(&mut client.socket).await.0, ErrorCode::Order);
    assert_eq!(closed(&mut client.socket).await, Ended::Code(1002));
    let (me, resume) = (client.me, client.cut());
    let (mut client, resumed) = Client::greet(open(&server).await.unwrap(), Some(resume)).await;
    assert!(resumed && client.me == me);
    client.check().await;
}

#[tokio::test]
async fn too_many_messages_are_told_and_then_closed_with_1008() {
    let server = start(|config| config.lobby.messages = RateLimit { burst: 5, per_second: 1 });
    let mut client = Client::connect(&server).await;
    let search = frame(LAST | TEXT, ClientMessage::search(1).to_json().as_bytes());
    say_bytes(&mut client.socket, &search.repeat(40)).await;
    while matches!(client.message().await, ServerMessage::Lobbies { .. }) {}
    let last = loop {
        let frame = client.frame().await;
        match frame.message {
            ServerMessage::Error { code, retry_after_ms: None, .. } => break (frame.seq, code),
            ServerMessage::Error { code: ErrorCode::RateLimited, .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last, (0, ErrorCode::RateLimited));
    assert_eq!(closed(&mut client.socket).await, Ended::Code(1008));
}

#[tokio::test]
async fn binary_is_malformed_and_the_connection_goes_on() {
    let server = start(|_| {});
    let mut client = Client::connect(&server).await;
    let parts = [frame(0x2, &[0xFF]), frame(LAST, &[0xFF])].concat();
    for bytes in [frame(LAST | 0x2, b"{}"), parts] {
        say_bytes(&mut client.socket, &bytes).await;
        assert_eq!(client.error().await, ErrorCode::Malformed);
    }
    client.check().await;
}

/// Somebody who has much to say, somebody who does not read, and what the one says to the other.
async fn before_a_flood(server: &ServerHandle, in_room: bool) -> (Socket, Socket, String) {
    let sdp = "x".repeat(SDP_MAX);
    if in_room {
        let (mut from, _) = enter(server, None).await;
        let (to, peer) = enter(server, Some(4096)).await;
        hears(&mut from, &Event::NewPeer(peer)).await;
        return (from, to, json!({"Signal": {"receiver": peer, "data": sdp}}).to_string());
    }
    let mut from = Client::connect(server).await;
    let lobby = from.create(2).await;
    let (mut to, _) = Client::greet(open_with(server, Some(4096)).await.unwrap(), None).await;
    to.join(lobby.code).await;
    assert!(matches!(from.message().await, ServerMessage::MemberJoined { .. }));
    let signal = ClientMessage::Signal { to: to.me, signal: signal(&sdp) };
    (from.socket, to.socket, signal.to_json())
}

/// Sends this until the sender hears that nobody is there. Gives since when that may be.
async fn flood(from: &mut Socket, signal: &str) -> Instant {
    let mut begins = [Instant::now(); 2];
    loop {
        begins = [begins[1], Instant::now()];
        // Fewer than may wait: if somebody reads them, all are gone before the next ones come.
        for _ in 0..8 {
            from.send(Message::text(signal)).await.unwrap();
        }
        from.send(Message::Ping(Vec::new().into())).await.unwrap();
        match timeout(DEADLINE, from.next()).await.expect("an answer") {
            Some(Ok(Message::Pong(_))) => {}
            Some(Ok(Message::Text(_))) => return begins[0],
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_did_not_read_finds_4003_when_it_reads_again_at_once() {
    let generous = |config: &mut ServerConfig| {
        config.lobby.signals = RateLimit { burst: 100_000, per_second: 100_000 };
        config.lobby.rooms.signals = config.lobby.signals;
    };
    for in_room in [false, true] {
        loop {
            let server = start(generous);
            let (mut from, mut slow, signal) = before_a_flood(&server, in_room).await;
            let begin = flood(&mut from, &signal).await;
            let how = closed(&mut slow).await;
            Client::connect(&server).await.check().await;
            if how == Ended::Code(4003) {
                break;
            }
            // Last words have half a second. A machine that stands still for as long shows nothing.
            assert!(begin.elapsed() > Duration::from_millis(450), "{how:?}, in a room: {in_room}");
        }
    }
}
