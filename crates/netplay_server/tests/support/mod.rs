//! A lobby client that is scripted by hand, with a deadline on everything.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod tls;

use core::net::SocketAddr;
use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{FutureExt, SinkExt, StreamExt};
use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, LobbyOptions, LobbyState, PATH, Resume, ResumeToken, ServerFrame,
    ServerMessage, SessionKind, Signal, SignalBody,
};
use netplay_protocol::{GameId, LobbyCode, PeerId};
use netplay_server::{Server, ServerConfig, ServerHandle};
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Far more than anything here takes.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub fn start(change: impl FnOnce(&mut ServerConfig)) -> ServerHandle {
    let mut config = ServerConfig::default();
    change(&mut config);
    Server::spawn(&tokio::runtime::Handle::current(), config).unwrap()
}

pub fn signal(sdp: &str) -> Signal {
    Signal { attempt: 1, body: SignalBody::Offer { sdp: sdp.into() } }
}

/// A JWT with these claims, signed with this secret.
pub fn jwt(claims: &Value, secret: &[u8]) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(&json!({"alg": "HS256"})), part(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    pub me: PeerId,
    token: ResumeToken,
    pub seen: u64,
}

/// Why a WebSocket ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Code(u16),
    Cut,
}

pub async fn open(server: &ServerHandle) -> Result<WebSocketStream<TcpStream>, Error> {
    open_with(server, None).await
}

/// Opens a WebSocket whose system takes this many unread bytes.
pub async fn open_with(
    server: &ServerHandle,
    receive_buffer: Option<u32>,
) -> Result<WebSocketStream<TcpStream>, Error> {
    open_at(server, PATH, receive_buffer).await
}

/// Opens a WebSocket at a path.
pub async fn open_at(
    server: &ServerHandle,
    path: &str,
    receive_buffer: Option<u32>,
) -> Result<WebSocketStream<TcpStream>, Error> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = timeout(DEADLINE, socket.connect(server.local_addr())).await.unwrap()?;
    let url = format!("{}{path}", server.url());
    Ok(timeout(DEADLINE, client_async(url, stream)).await.expect("in time")?.0)
}

/// The status and the body of what the admin address answers; a body follows the request's first line.
pub async fn ask(server: &ServerHandle, request: &str, token: Option<&str>) -> (u16, String) {
    ask_at(server.admin_addr().unwrap(), request, token).await
}

/// The same of a server whose admin address is this.
pub async fn ask_at(address: SocketAddr, request: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let token = token.unwrap_or_default();
    let (request, body) = request.split_once('\n').unwrap_or((request, ""));
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}{kind}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Opens a WebSocket at a path, with these headers besides its own.
pub async fn open_as(
    server: &ServerHandle,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, Error> {
    let stream = timeout(DEADLINE, TcpStream::connect(server.local_addr())).await.unwrap()?;
    let mut request = format!("{}{path}", server.url()).into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
    }
    Ok(timeout(DEADLINE, client_async(request, stream)).await.expect("in time")?.0)
}

/// With what status, and when to come again, no WebSocket was opened.
pub fn refused(opened: Result<WebSocketStream<TcpStream>, Error>) -> (u16, Option<u64>) {
    match opened {
        Err(Error::Http(response)) => {
            let retry = response.headers().get("retry-after");
            let retry = retry.map(|retry| retry.to_str().unwrap().parse().unwrap());
            (response.status().as_u16(), retry)
        }
        other => panic!("a refusal is expected, not {other:?}"),
    }
}

/// What plain HTTP answers, head and body.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
    answer
}

/// Reads until the end.
pub async fn ended(socket: &mut WebSocketStream<TcpStream>) -> Ended {
    loop {
        match timeout(DEADLINE, socket.next()).await.expect("the socket ends") {
            Some(Ok(Message::Close(Some(frame)))) => return Ended::Code(frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Ended::Cut,
        }
    }
}

impl Client {
    pub async fn connect(server: &ServerHandle) -> Self {
        Self::greet(open(server).await.unwrap(), None).await.0
    }

    /// Says hello. Gives whether a session goes on.
    pub async fn greet(socket: WebSocketStream<TcpStream>, resume: Option<Resume>) -> (Self, bool) {
        let seen = resume.as_ref().map_or(0, |resume| resume.seen);
        let (me, token) = (PeerId::from_u128(0), ResumeToken(String::new()));
        let mut client = Self { socket, me, token, seen };
        let game = GameId::new("game").unwrap();
        client.say(&ClientMessage::hello(game, resume)).await;
        let frame = client.frame().await;
        let ServerMessage::Welcome { peer, token, session, .. } = frame.message else {
            panic!("{frame:?} is no welcome");
        };
        assert_eq!(frame.seq, 0);
        (client.me, client.token) = (peer, token);
        (client, session != SessionKind::New)
    }

    /// Says this hello. If it is refused, gives how the socket is closed.
    pub async fn log_in(
        socket: WebSocketStream<TcpStream>,
        hello: &ClientMessage,
    ) -> Result<Self, Ended> {
        let (me, token) = (PeerId::from_u128(0), ResumeToken(String::new()));
        let mut client = Self { socket, me, token, seen: 0 };
        client.say(hello).await;
        let ServerMessage::Welcome { peer, token, .. } = client.frame().await.message else {
            return Err(ended(&mut client.socket).await);
        };
        (client.me, client.token) = (peer, token);
        Ok(client)
    }

    /// Drops the socket without a word, and gives what a resume needs.
    pub fn cut(self) -> Resume {
        Resume { peer: self.me, token: self.token, seen: self.seen, restart: false }
    }

    /// Like [`Self::cut`], but the socket stays open.
    pub fn leave_behind(self) -> (WebSocketStream<TcpStream>, Resume) {
        let resume = Resume { peer: self.me, token: self.token, seen: self.seen, restart: false };
        (self.socket, resume)
    }

    pub async fn say(&mut self, message: &ClientMessage) {
        self.say_raw(Message::text(message.to_json())).await;
    }

    pub async fn say_raw(&mut self, message: Message) {
        timeout(DEADLINE, self.socket.send(message)).await.expect("in time").unwrap();
    }

    /// The next frame, tokens excepted.
    pub async fn frame(&mut self) -> ServerFrame {
        loop {
            match timeout(DEADLINE, self.socket.next()).await.expect("a frame in time") {
                Some(Ok(Message::Text(text))) => {
                    let frame = self.take(&text);
                    if !matches!(frame.message, ServerMessage::Token { .. }) {
                        return frame;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a frame is expected, not {other:?}"),
            }
        }
    }

    /// A frame, if one has arrived.
    pub fn try_frame(&mut self) -> Option<ServerFrame> {
        match self.socket.next().now_or_never()?? {
            Ok(Message::Text(text)) => Some(self.take(&text)),
            other => panic!("a frame is expected, not {other:?}"),
        }
    }

    fn take(&mut self, text: &str) -> ServerFrame {
        let frame = ServerFrame::from_json(text).unwrap();
        if frame.seq > 0 {
            self.seen += 1;
            assert_eq!(frame.seq, self.seen, "no frame is missed or repeated");
        }
        if let ServerMessage::Token { token } = &frame.message {
            self.token = token.clone();
        }
        frame
    }

    pub async fn message(&mut self) -> ServerMessage {
        self.frame().await.message
    }

    pub async fn error(&mut self) -> ErrorCode {
        match self.message().await {
            ServerMessage::Error { code, .. } => code,
            other => panic!("an error is expected, not {other:?}"),
        }
    }

    async fn joined(&mut self) -> LobbyState {
        match self.message().await {
            ServerMessage::Joined { lobby, .. } => lobby,
            other => panic!("a lobby is expected, not {other:?}"),
        }
    }

    pub async fn create(&mut self, capacity: u8) -> LobbyState {
        let options = LobbyOptions::public(capacity);
        self.say(&ClientMessage::create(1, options)).await;
        self.joined().await
    }

    pub async fn join(&mut self, code: LobbyCode) -> LobbyState {
        self.say(&ClientMessage::join(2, code)).await;
        self.joined().await
    }

    pub async fn signal(&mut self, to: PeerId, sdp: &str) {
        self.say(&ClientMessage::Signal { to, signal: signal(sdp) }).await;
    }

    /// The server answers: the connection works.
    pub async fn check(&mut self) {
        self.say(&ClientMessage::search(9)).await;
        let answer = self.message().await;
        assert!(matches!(answer, ServerMessage::Lobbies { request: 9, .. }), "{answer:?}");
    }
}
