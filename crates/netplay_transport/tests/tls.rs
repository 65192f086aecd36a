//! The lobby server by TLS: with a certificate that is trusted, and with one that is not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use netplay_protocol::Lane;
use netplay_protocol::frame::MessageId;
use netplay_server::{ServerConfig, ServerThread, TlsFiles};
use netplay_transport::{JoinRequest, LobbyOptions, Network, OpenError, SessionEvent};
use support::{Player, config, connect, no_errors, server, until};

/// A certificate for the loopback address, in a directory that is deleted with it.
struct Certificate {
    directory: PathBuf,
    pem: Vec<u8>,
}

impl Certificate {
    fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let directory =
            std::env::temp_dir().join(format!("netplay-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let pem = made.cert.pem().into_bytes();
        std::fs::write(directory.join("certificate"), &pem).unwrap();
        std::fs::write(directory.join("key"), made.signing_key.serialize_pem()).unwrap();
        Self { directory, pem }
    }

    fn server(&self) -> ServerThread {
        let tls = TlsFiles {
            certificate: self.directory.join("certificate"),
            key: self.directory.join("key"),
        };
        ServerThread::start(ServerConfig { tls: Some(tls), ..ServerConfig::default() }).unwrap()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn player(network: &Network, server: &str, trusted: Option<&[u8]>) -> Player {
    let mut config = config(server);
    config.trusted_certificates = trusted.map(<[u8]>::to_vec);
    Player::open(network, &config, JoinRequest::Quick(LobbyOptions::public(2)))
}

/// Why the server is not reached.
fn refusal(server: &str, trusted: Option<&[u8]>) -> String {
    let network = Network::start().unwrap();
    let mut player = player(&network, server, trusted);
    let mut said = None;
    until(&mut [&mut player], "it says why", |players| {
        said = players[0].events.iter().find_map(|event| match event {
            SessionEvent::Offline { why, .. } => Some(why.clone()),
            _ => None,
        });
        said.is_some()
    });
    assert_eq!(player.me, None);
    said.unwrap()
}

#[test]
fn two_players_meet_through_a_server_with_tls() {
    let _errors = no_errors();
    let certificate = Certificate::new("meet");
    let (server, network) = (certificate.server(), Network::start().unwrap());
    assert!(server.url().starts_with("wss://127.0.0.1:"), "{}", server.url());
    let mut a = player(&network, &server.url(), Some(&certificate.pem));
    let mut b = player(&network, &server.url(), Some(&certificate.pem));
    connect(&mut [&mut a, &mut b]);
    a.session.send(a.peers[0], Lane::Reliable, MessageId(0), b"hello").unwrap();
    until(&mut [&mut a, &mut b], "the message arrives", |players| players[1].messages.len() == 1);
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused_and_the_error_says_so() {
    let _errors = no_errors();
    let (certificate, other) = (Certificate::new("own"), Certificate::new("other"));
    let server = certificate.server();
    for trusted in [None, Some(&other.pem[..])] {
        let why = refusal(&server.url(), trusted);
        assert!(why.contains("certificate") && why.contains("not trusted"), "{why}");
    }
    let by_name = server.url().replace("127.0.0.1", "localhost");
    let why = refusal(&by_name, Some(&certificate.pem));
    assert!(why.contains("another name"), "{why}");
}

#[test]
fn a_server_without_tls_is_named_as_such() {
    let _errors = no_errors();
    let server = server();
    let why = refusal(&server.url().replace("ws://", "wss://"), None);
    assert!(why.contains("ws://"), "{why}");
}

#[test]
fn a_server_that_is_not_there_is_no_matter_of_certificates() {
    let _errors = no_errors();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let why = refusal(&format!("wss://{address}"), None);
    assert!(!why.contains("certificate"), "{why}");
}

#[test]
fn what_is_no_certificate_is_refused_at_once() {
    let _errors = no_errors();
    let network = Network::start().unwrap();
    let mut config = config("wss://127.0.0.1");
    config.trusted_certificates = Some(b"no PEM".to_vec());
    assert!(matches!(network.open(&config), Err(OpenError::Certificate(_))));
}
