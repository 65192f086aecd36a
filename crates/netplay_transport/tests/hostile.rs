//! A member of the lobby that signals nonsense: bad descriptions and candidates, over a real server
//! and real WebRTC. The honest players log no error, stay connected, and the link to it ends with a reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::TcpStream;

use netplay_protocol::frame::MessageId;
use netplay_protocol::limits::{CANDIDATE_MAX, SDP_MAX};
use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, LobbyOptions, PATH, ServerFrame, ServerMessage, Signal, SignalBody,
};
use netplay_protocol::{BuildId, GameId, Lane, PROTOCOL_VERSION, PeerId};
use netplay_transport::{Network, SessionEvent};
use support::{DEADLINE, Player, no_errors, server, until};
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{Message, WebSocket, connect};

/// A lobby client that says what it is told to.
struct Hostile {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    me: PeerId,
}

impl Hostile {
    /// Joins the lobby of three that the honest players are in.
    fn join(server: &str) -> Self {
        let socket = connect(format!("{server}{PATH}")).unwrap().0;
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        let mut this = Self { socket, me: PeerId::from_u128(0) };
        let game = GameId::new("test").unwrap();
        let (protocol, build, resume) = (PROTOCOL_VERSION, BuildId::new("1").ok(), None);
        this.say(&ClientMessage::Hello { protocol, game, build, resume, login: None });
        let options = LobbyOptions::public(3);
        this.say(&ClientMessage::quick_join(1, options));
        this.me = this.hear(|message| match message {
            ServerMessage::Welcome { peer, .. } => Some(peer),
            _ => None,
        });
        this.hear(|message| matches!(message, ServerMessage::Joined { .. }).then_some(()));
        this
    }

    fn say(&mut self, message: &ClientMessage) {
        self.socket.send(Message::text(message.to_json())).unwrap();
    }

    fn signal(&mut self, to: PeerId, attempt: u32, body: SignalBody) {
        self.say(&ClientMessage::Signal { to, signal: Signal { attempt, body } });
    }

    /// The first message that `find` takes.
    fn hear<T>(&mut self, find: impl Fn(ServerMessage) -> Option<T>) -> T {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap()
                && let Some(found) = find(ServerFrame::from_json(&text).unwrap().message)
            {
                return found;
            }
        }
    }

    fn offer_from(&mut self, peer: PeerId) -> (u32, String) {
        self.hear(|message| match message {
            ServerMessage::Signal { from, signal } if from == peer => match signal.body {
                SignalBody::Offer { sdp } => Some((signal.attempt, sdp)),
                _ => None,
            },
            _ => None,
        })
    }
}

fn candidate(text: &str) -> SignalBody {
    SignalBody::Candidate { candidate: text.into(), mid: Some("0".into()), mline: Some(0) }
}

/// A description that a parser accepts and that leads nowhere, and worse ones.
fn bad_descriptions(good: &str) -> Vec<String> {
    let mut bad: Vec<String> =
        ["", "v=0", "v=0\r\n", "nonsense", "{\"sdp\":1}", "\u{0}\u{1}\u{ffff}"]
            .into_iter()
            .map(str::to_owned)
            .collect();
    bad.push("v=0\r\n".repeat(2000));
    bad.push(format!("m=application 9 {}\r\n", "a".repeat(11_000)));
    // Truncated in the middle, without its keys, with a fingerprint of nobody, with another protocol.
    bad.push(good[..good.len() / 2].to_owned());
    let without = |what: &str| {
        good.lines().filter(|line| !line.contains(what)).collect::<Vec<_>>().join("\r\n")
    };
    bad.push(without("fingerprint"));
    bad.push(without("ice-ufrag"));
    bad.push(good.replace("sha-256 ", "sha-256 00:"));
    bad.push(good.replace("UDP/DTLS/SCTP", "RTP/AVP"));
    bad
}

fn bad_candidates() -> Vec<SignalBody> {
    [
        "",
        "candidate:",
        "nonsense",
        "candidate:1 1 udp 4294967296 127.0.0.1 9 typ host",
        "candidate:1 1 udp 1 999.1.1.1 9 typ host",
        "candidate:1 1 udp 1 127.0.0.1 99999 typ host",
        "candidate:1 1 tcp 1 127.0.0.1 9 typ host tcptype active",
        "candidate:1 1 udp 1 nobody.local 9 typ host",
        "candidate:1 1 udp 1 127.0.0.1 9 typ warp",
        "\u{0}",
    ]
    .into_iter()
    .map(candidate)
    .chain([SignalBody::Candidate {
        candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host".into(),
        mid: Some("no such mid".into()),
        mline: Some(u16::MAX),
    }])
    .collect()
}

/// Two honest players in a lobby of three.
fn honest(network: &Network, server: &str) -> (Player, Player) {
    let mut a = Player::quick(network, server, 3);
    let mut b = Player::quick(network, server, 3);
    support::connect(&mut [&mut a, &mut b]);
    (a, b)
}

/// The honest players still hear each other.
fn check_honest(a: &mut Player, b: &mut Player) {
    let (to_b, to_a) = (b.me.unwrap(), a.me.unwrap());
    let before = (a.messages.len(), b.messages.len());
    a.session.send(to_b, Lane::Reliable, MessageId(0), b"still here").unwrap();
    b.session.send(to_a, Lane::Reliable, MessageId(0), b"still here").unwrap();
    until(&mut [a, b], "the honest players hear each other", |players| {
        players[0].messages.len() > before.0 && players[1].messages.len() > before.1
    });
}

#[test]
fn bad_descriptions_and_candidates_hurt_nobody_else_and_end_with_a_reason() {
    let _errors = no_errors();
    let (server, network) = (server(), Network::start().unwrap());
    let (mut a, mut b) = honest(&network, &server.url());
    let victims = [a.me.unwrap(), b.me.unwrap()];

    let mut hostile = Hostile::join(&server.url());
    // Whoever of the two has the lower id offers by itself; the other after three seconds.
    let offers = victims.map(|victim| (victim, hostile.offer_from(victim)));
    for (victim, (attempt, good)) in offers {
        // Answers to its own offer: each but the first meets a link that makes a fresh attempt.
        for sdp in bad_descriptions(&good) {
            hostile.signal(victim, attempt, SignalBody::Answer { sdp });
        }
        for body in bad_candidates() {
            hostile.signal(victim, attempt, body);
        }
        // Offers with ever higher numbers, each followed by candidates.
        for (i, sdp) in (attempt + 1..).zip(bad_descriptions(&good)) {
            hostile.signal(victim, i, SignalBody::Offer { sdp });
            for body in bad_candidates().into_iter().take(3) {
                hostile.signal(victim, i, body);
            }
        }
        check_honest(&mut a, &mut b);
    }
    let me = hostile.me;
    let told = |player: &Player| {
        let closed = |event: &&SessionEvent| matches!(event, SessionEvent::PeerClosed { peer, .. } if *peer == me);
        player.events.iter().filter(closed).count()
    };
    until(&mut [&mut a, &mut b], "the links to the hostile member end", |players| {
        players.iter().all(|player| told(player) > 0)
    });
    check_honest(&mut a, &mut b);
    for player in [&a, &b] {
        assert_eq!(told(player), 1, "once: {:?}", player.events);
    }
}

#[test]
fn oversized_signals_are_refused_by_the_server_by_name() {
    let _errors = no_errors();
    let (server, network) = (server(), Network::start().unwrap());
    let (mut a, mut b) = honest(&network, &server.url());
    let mut hostile = Hostile::join(&server.url());
    let to = a.me.unwrap();
    for body in [
        SignalBody::Offer { sdp: "x".repeat(SDP_MAX + 1) },
        candidate(&"x".repeat(CANDIDATE_MAX + 1)),
    ] {
        hostile.signal(to, 1, body);
        let code = hostile.hear(|message| match message {
            ServerMessage::Error { code, .. } => Some(code),
            _ => None,
        });
        assert_eq!(code, ErrorCode::Malformed);
    }
    check_honest(&mut a, &mut b);
}
