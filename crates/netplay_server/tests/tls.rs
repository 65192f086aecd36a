//! TLS by certificates in files.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::time::Duration;

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::GameId;
use netplay_protocol::lobby::{ClientMessage, PATH, ServerFrame, ServerMessage};
use netplay_server::{BindError, Server, ServerConfig, ServerHandle, TlsError, TlsFiles};
use support::tls::{Files, connect};
use support::{DEADLINE, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

fn encrypted(files: &Files) -> ServerHandle {
    start(|config| config.tls = Some(files.both()))
}

async fn open(server: &ServerHandle, trusted: &CertificateDer<'static>) -> Socket {
    let stream = connect(server.local_addr(), trusted).await.unwrap();
    let url = format!("{}{PATH}", server.url());
    timeout(DEADLINE, client_async(url, stream)).await.expect("in time").unwrap().0
}

async fn next(socket: &mut Socket) -> Message {
    timeout(DEADLINE, socket.next()).await.expect("in time").unwrap().unwrap()
}

/// The server says welcome.
async fn greet(socket: &mut Socket) {
    let hello = ClientMessage::hello(GameId::new("game").unwrap(), None);
    socket.send(Message::text(hello.to_json())).await.unwrap();
    let Message::Text(text) = next(socket).await else { panic!("text is expected") };
    let frame = ServerFrame::from_json(text.as_str()).unwrap();
    assert!(matches!(frame.message, ServerMessage::Welcome { .. }), "{frame:?}");
}

#[tokio::test]
async fn players_are_served_by_tls_until_the_server_stops() {
    let files = Files::new("served");
    let trusted = files.renew();
    let server = encrypted(&files);
    assert_eq!(server.url(), format!("wss://{}", server.local_addr()));
    let mut socket = open(&server, &trusted).await;
    let (_, tls) = socket.get_ref().get_ref();
    assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    greet(&mut socket).await;
    let stopping = tokio::spawn(server.shutdown());
    let Message::Close(Some(frame)) = next(&mut socket).await else { panic!("a word is expected") };
    assert_eq!(u16::from(frame.code), 1001);
    timeout(DEADLINE, stopping).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn plain_http_inside_tls_is_answered_and_outside_it_is_not() {
    let files = Files::new("plain");
    let trusted = files.renew();
    let server = encrypted(&files);
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut plain = TcpStream::connect(server.local_addr()).await.unwrap();
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good.
    let _ = timeout(DEADLINE, plain.read_to_end(&mut answer)).await.expect("it ends");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let mut stream = connect(server.local_addr(), &trusted).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("it ends").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut() {
    let files = Files::new("cut");
    files.renew();
    let server = start(|config| {
        config.tls = Some(files.both());
        config.handshake_timeout = Duration::from_millis(200);
    });
    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, silent.read_to_end(&mut rest)).await.expect("it is cut");
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn new_files_are_taken_when_asked_for_and_bad_ones_are_not() {
    let files = Files::new("again");
    let old = files.renew();
    let server = encrypted(&files);
    let mut before = open(&server, &old).await;
    let new = files.renew();
    assert!(connect(server.local_addr(), &new).await.is_err(), "nobody asked yet");
    server.reload().certificate().unwrap().unwrap();
    assert!(connect(server.local_addr(), &old).await.is_err());
    greet(&mut open(&server, &new).await).await;
    // Who was there before stays.
    greet(&mut before).await;
    std::fs::write(files.key(), "no key").unwrap();
    let error = server.reload().certificate().unwrap().unwrap_err();
    assert!(matches!(&error, TlsError::Malformed { path, .. } if *path == files.key()), "{error}");
    greet(&mut open(&server, &new).await).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_when_the_server_starts() {
    let (files, others) = (Files::new("wrong"), Files::new("others"));
    files.renew();
    others.renew();
    let missing = files.directory().join("missing");
    let (certificate, key) = (files.certificate(), files.key());
    for (tls, path, word) in [
        (TlsFiles { certificate: missing.clone(), key: key.clone() }, &missing, "cannot be read"),
        (TlsFiles { certificate: certificate.clone(), key: missing.clone() }, &missing, "read"),
        (TlsFiles { certificate: key.clone(), key: key.clone() }, &key, "BEGIN CERTIFICATE"),
        (
            TlsFiles { certificate: certificate.clone(), key: certificate.clone() },
            &certificate,
            "BEGIN PRIVATE KEY",
        ),
        (TlsFiles { key: others.key(), ..files.both() }, &others.key(), "made together"),
    ] {
        let config = ServerConfig { tls: Some(tls), ..ServerConfig::default() };
        let Some(BindError::Tls(error)) = Server::bind(config).await.err() else {
            panic!("{} is refused", path.display())
        };
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains(word), "{text}");
    }
}
