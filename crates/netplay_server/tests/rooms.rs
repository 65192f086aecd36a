//! matchbox's protocol over real sockets of the loopback address, with players that are scripted by
//! hand. What stock players make of it is in `matchbox.rs`.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::time::Duration;

use futures_util::{SinkExt, StreamExt};
use netplay_protocol::PeerId;
use netplay_protocol::limits::LOBBY_MESSAGE_MAX;
use netplay_protocol::matchbox::Event;
use netplay_server::{RateLimit, RoomStats, ServerHandle};
use support::{Client, DEADLINE, Ended, ended, get, open, open_at, start};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

struct Player {
    socket: WebSocketStream<TcpStream>,
    me: PeerId,
}

impl Player {
    async fn enter(server: &ServerHandle, path: &str) -> Self {
        Self::enter_with(server, path, None).await
    }

    async fn enter_with(server: &ServerHandle, path: &str, receive_buffer: Option<u32>) -> Self {
        let socket = open_at(server, path, receive_buffer).await.unwrap();
        let mut player = Self { socket, me: PeerId::from_u128(0) };
        match player.event().await {
            Event::IdAssigned(me) => player.me = me,
            other => panic!("an id comes first, not {other:?}"),
        }
        player
    }

    async fn text(&mut self) -> String {
        match timeout(DEADLINE, self.socket.next()).await.expect("an event in time") {
            Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
            other => panic!("text is expected, not {other:?}"),
        }
    }

    async fn event(&mut self) -> Event {
        Event::from_json(&self.text().await).unwrap()
    }

    async fn say(&mut self, message: Message) {
        timeout(DEADLINE, self.socket.send(message)).await.expect("in time").unwrap();
    }

    async fn signal(&mut self, to: PeerId, data: &str) {
        self.say(Message::text(request(to, data))).await;
    }
}

fn request(to: PeerId, data: &str) -> String {
    format!(r#"{{"Signal":{{"receiver":"{to}","data":{data}}}}}"#)
}

fn signal(from: PeerId, data: &str) -> String {
    format!(r#"{{"Signal":{{"sender":"{from}","data":{data}}}}}"#)
}

async fn status(server: &ServerHandle, path: &str) -> u16 {
    match open_at(server, path, None).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("a refusal is expected, not {other:?}"),
    }
}

/// Waits until the server holds this.
async fn holds(server: &ServerHandle, expected: RoomStats) {
    let reached = async {
        while server.room_stats() != expected {
            tokio::task::yield_now().await;
        }
    };
    let in_time = timeout(DEADLINE, reached).await;
    assert!(in_time.is_ok(), "{:?} is not {expected:?}", server.room_stats());
}

#[tokio::test]
async fn those_who_are_there_hear_of_a_newcomer_and_signals_pass_to_the_byte() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/room").await;
    let mut b = Player::enter(&server, "/room").await;
    assert_eq!(a.text().await, format!(r#"{{"NewPeer":"{}"}}"#, b.me));
    let offer = r#"{ "Offer" : "v=0\r\n\u00e9" , "n":1.50}"#;
    a.signal(b.me, offer).await;
    // The first thing that the newcomer hears after its id.
    assert_eq!(b.text().await, signal(a.me, offer));
    b.signal(a.me, r#"{"Answer":"v=0"}"#).await;
    assert_eq!(a.text().await, signal(b.me, r#"{"Answer":"v=0"}"#));
    let left = b.me;
    drop(b);
    assert_eq!(a.text().await, format!(r#"{{"PeerLeft":"{left}"}}"#));
}

#[tokio::test]
async fn signals_to_other_rooms_reach_nobody() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/r").await;
    for path in ["/s", "/r?next=3", "/"] {
        let mut other = Player::enter(&server, path).await;
        a.signal(other.me, "1").await;
        let mut witness = Player::enter(&server, "/r").await;
        assert_eq!(a.event().await, Event::NewPeer(witness.me));
        a.signal(witness.me, "2").await;
        // Then the server has taken the first one too.
        assert_eq!(witness.text().await, signal(a.me, "2"));
        let friend = Player::enter(&server, path).await;
        assert_eq!(other.event().await, Event::NewPeer(friend.me), "and nothing before it");
        let left = witness.me;
        drop(witness);
        assert_eq!(a.event().await, Event::PeerLeft(left));
    }
}

#[tokio::test]
async fn who_says_that_a_signal_is_of_somebody_else_is_named_all_the_same() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/room").await;
    let mut b = Player::enter(&server, "/room").await;
    let c = Player::enter(&server, "/room").await;
    b.text().await;
    let (to, forged) = (b.me, c.me);
    for text in [
        format!(r#"{{"Signal":{{"receiver":"{to}","sender":"{forged}","data":1}}}}"#),
        format!(r#"{{"Signal":{{"sender":"{forged}","receiver":"{to}","data":1}}}}"#),
    ] {
        a.say(Message::text(text)).await;
        assert_eq!(b.text().await, signal(a.me, "1"));
    }
    // An event of the server is no request.
    a.say(Message::text(signal(forged, "2"))).await;
    a.signal(to, "3").await;
    assert_eq!(b.text().await, signal(a.me, "3"));
}

#[tokio::test]
async fn next_makes_groups_whose_members_hear_who_leaves() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/r?next=2").await;
    let b = Player::enter(&server, "/r?next=2").await;
    let mut c = Player::enter(&server, "/r?next=2").await;
    let d = Player::enter(&server, "/r?next=2").await;
    assert_eq!(a.event().await, Event::NewPeer(b.me));
    assert_eq!(c.event().await, Event::NewPeer(d.me));
    holds(&server, RoomStats { peers: 4, rooms: 0, groups: 2 }).await;
    let left = b.me;
    drop(b);
    assert_eq!(a.event().await, Event::PeerLeft(left));
}

#[tokio::test]
async fn who_leaves_an_incomplete_group_frees_its_place() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/r?next=3").await;
    let b = Player::enter(&server, "/r?next=3").await;
    assert_eq!(a.event().await, Event::NewPeer(b.me));
    let left = b.me;
    drop(b);
    assert_eq!(a.event().await, Event::PeerLeft(left));
    let c = Player::enter(&server, "/r?next=3").await;
    let d = Player::enter(&server, "/r?next=3").await;
    assert_eq!((a.event().await, a.event().await), (Event::NewPeer(c.me), Event::NewPeer(d.me)));
    holds(&server, RoomStats { peers: 3, rooms: 0, groups: 1 }).await;
}

#[tokio::test]
async fn groups_of_nobody_are_refused_and_the_server_goes_on() {
    let server = start(|_| {});
    assert_eq!(status(&server, "/r?next=0").await, 400);
    assert_eq!(status(&server, "/?next=0").await, 400);
    assert_eq!(status(&server, "/health?next=0").await, 400);
    assert_eq!(status(&server, "/r?next=65").await, 400, "such a group can never be complete");
    let mut a = Player::enter(&server, "/r?next=2").await;
    let b = Player::enter(&server, "/r?next=2").await;
    assert_eq!(a.event().await, Event::NewPeer(b.me));
}

#[tokio::test]
async fn a_next_that_is_no_number_is_none() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/r").await;
    let b = Player::enter(&server, "/r?next=many").await;
    assert_eq!(a.event().await, Event::NewPeer(b.me));
}

#[tokio::test]
async fn every_single_segment_is_a_room_even_where_plain_http_has_a_page() {
    let server = start(|_| {});
    let paths = ["/", "/health", "/metrics", "/ready", "/netplay", "/a%20b", "/a%2Fb", "/%C3%A9"];
    for path in paths {
        let mut a = Player::enter(&server, path).await;
        let b = Player::enter(&server, path).await;
        assert_eq!(a.event().await, Event::NewPeer(b.me), "{path}");
    }
    for path in ["/a/b", "/a/", "/netplay/v2"] {
        assert_eq!(status(&server, path).await, 404, "{path}");
    }
    for path in ["/", "/room", "/room?next=0"] {
        let plain = get(server.local_addr(), path).await;
        assert!(plain.starts_with("HTTP/1.1 404") && plain.contains("/ROOM?next=N"), "{plain}");
    }
    assert_eq!(status(&server, &format!("/{}", "x".repeat(129))).await, 400);
    assert_eq!(status(&server, "/%FF").await, 400);
}

#[tokio::test]
async fn rooms_are_gone_with_their_last_player_and_health_says_so() {
    let server = start(|_| {});
    let mut players = Vec::new();
    for path in ["/a", "/a", "/b", "/c?next=2", "/c?next=2", "/c?next=2"] {
        players.push(Player::enter(&server, path).await);
    }
    assert_eq!(server.room_stats(), RoomStats { peers: 6, rooms: 3, groups: 1 });
    let health = get(server.local_addr(), "/health").await;
    let body: serde_json::Value =
        serde_json::from_str(health.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let expected = serde_json::json!({
        "status": "ok", "connections": 0, "sessions": 0, "lobbies": 0,
        "matchbox_peers": 6, "rooms": 3, "groups": 1,
    });
    assert_eq!(body, expected);
    drop(players);
    holds(&server, RoomStats::default()).await;
}

#[tokio::test]
async fn binary_and_malformed_frames_are_skipped_and_keep_alives_are_not_answered() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/r").await;
    let mut b = Player::enter(&server, "/r").await;
    assert_eq!(a.event().await, Event::NewPeer(b.me));
    let deep = "[".repeat(10_000);
    for text in ["", "{", "null", r#"{"Fly":1}"#, r#"{"Signal":{}}"#, &deep, r#""KeepAlive""#] {
        a.say(Message::text(text)).await;
    }
    a.say(Message::binary(vec![1, 2, 3])).await;
    a.signal(b.me, "1").await;
    assert_eq!(b.text().await, signal(a.me, "1"));
    b.signal(a.me, "2").await;
    assert_eq!(a.text().await, signal(b.me, "2"), "and nothing before it");
}

#[tokio::test]
async fn frames_that_are_skipped_count_and_a_flood_is_closed() {
    let server = start(|config| {
        config.lobby.rooms.signals = RateLimit { burst: 5, per_second: 1 };
    });
    for message in
        [Message::text("nonsense"), Message::binary(vec![0]), Message::text("\"KeepAlive\"")]
    {
        let mut player = Player::enter(&server, "/r").await;
        for _ in 0..20 {
            // The server closes in the middle of the flood.
            let _ = player.socket.send(message.clone()).await;
        }
        assert_eq!(ended(&mut player.socket).await, Ended::Code(1008), "{message}");
    }
}

#[tokio::test]
async fn silence_and_pings_of_the_server_are_for_lobby_connections_only() {
    let server = start(|config| {
        config.lobby.hello_timeout = Duration::from_millis(100);
        config.lobby.keep_alive = Duration::from_millis(100);
    });
    let mut a = Player::enter(&server, "/r").await;
    let mut b = Player::enter(&server, "/r").await;
    let mut client = Client::connect(&server).await;
    let mut silent = open(&server).await.unwrap();
    assert_eq!(ended(&mut client.socket).await, Ended::Code(4003));
    assert_eq!(ended(&mut silent).await, Ended::Code(1002));
    // Anything but text would fail these.
    assert_eq!(a.event().await, Event::NewPeer(b.me));
    a.signal(b.me, "1").await;
    assert_eq!(b.text().await, signal(a.me, "1"));
}

#[tokio::test]
async fn the_largest_message_passes_and_a_larger_one_closes() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/r").await;
    let mut b = Player::enter(&server, "/r").await;
    assert_eq!(a.event().await, Event::NewPeer(b.me));
    let room = LOBBY_MESSAGE_MAX - request(b.me, r#""""#).len();
    let largest = format!(r#""{}""#, "x".repeat(room));
    a.signal(b.me, &largest).await;
    assert_eq!(b.text().await, signal(a.me, &largest));
    let larger = format!(r#""{}""#, "x".repeat(room + 1));
    a.signal(b.me, &larger).await;
    assert_eq!(ended(&mut a.socket).await, Ended::Code(1009));
    assert_eq!(b.event().await, Event::PeerLeft(a.me));
}

#[tokio::test]
async fn a_reader_that_never_reads_is_dropped_and_others_go_on() {
    let server = start(|config| {
        config.lobby.rooms.signals = RateLimit { burst: 100_000, per_second: 100_000 };
    });
    let mut a = Player::enter(&server, "/r").await;
    let mut b = Player::enter(&server, "/r").await;
    let slow = Player::enter_with(&server, "/r", Some(4096)).await;
    assert_eq!((a.event().await, a.event().await), (Event::NewPeer(b.me), Event::NewPeer(slow.me)));
    assert_eq!(b.event().await, Event::NewPeer(slow.me));
    let large = format!(r#""{}""#, "x".repeat(12 * 1024));
    // Sends until somebody is closed: the outbox takes 512 KiB, and the system a few MiB.
    for _ in 0..5000 {
        a.signal(slow.me, &large).await;
        if server.room_stats().peers == 2 {
            break;
        }
    }
    assert_eq!(a.event().await, Event::PeerLeft(slow.me));
    a.signal(b.me, "1").await;
    assert_eq!(b.event().await, Event::PeerLeft(slow.me));
    assert_eq!(b.text().await, signal(a.me, "1"));
}

#[tokio::test]
async fn the_last_of_a_full_room_connects_to_all_at_once_within_the_limits() {
    const SIGNALS: usize = 22;
    let server = start(|_| {});
    let mut players = Vec::new();
    for _ in 0..63 {
        players.push(Player::enter(&server, "/r").await);
    }
    // It reads nothing until all is sent.
    let mut last = Player::enter_with(&server, "/r", Some(4096)).await;
    let data = format!(r#""{}""#, "x".repeat(150));
    for player in &mut players {
        for _ in 0..SIGNALS {
            player.signal(last.me, &data).await;
            last.signal(player.me, &data).await;
        }
    }
    for _ in 0..players.len() * SIGNALS {
        assert!(matches!(last.event().await, Event::Signal { .. }));
    }
    for player in &mut players {
        while !matches!(player.event().await, Event::Signal { .. }) {}
        for _ in 1..SIGNALS {
            assert!(matches!(player.event().await, Event::Signal { .. }));
        }
    }
    let mut too_many = open_at(&server, "/r", None).await.unwrap();
    assert_eq!(ended(&mut too_many).await, Ended::Code(1013));
}

#[tokio::test]
async fn a_full_room_and_a_full_server_say_so() {
    let server = start(|config| {
        (config.lobby.rooms.max_room_peers, config.lobby.rooms.max_rooms) = (1, 2);
    });
    let _a = Player::enter(&server, "/r").await;
    let mut second = open_at(&server, "/r", None).await.unwrap();
    assert_eq!(ended(&mut second).await, Ended::Code(1013));
    let _b = Player::enter(&server, "/s").await;
    let mut third_room = open_at(&server, "/t", None).await.unwrap();
    assert_eq!(ended(&mut third_room).await, Ended::Code(1013));
    holds(&server, RoomStats { peers: 2, rooms: 2, groups: 0 }).await;
}

#[tokio::test]
async fn an_address_has_one_limit_for_both_kinds_of_players() {
    let server = start(|config| {
        config.max_per_address = 2;
        config.limit_loopback = true;
    });
    let _lobby = open(&server).await.unwrap();
    let _a = Player::enter(&server, "/r").await;
    assert_eq!(status(&server, "/r").await, 429);
}

#[tokio::test]
async fn shutdown_closes_players_and_leaves_no_task() {
    let server = start(|_| {});
    let mut a = Player::enter(&server, "/r").await;
    let metrics = tokio::runtime::Handle::current().metrics();
    timeout(Duration::from_millis(1500), server.shutdown()).await.expect("within a second");
    assert_eq!(metrics.num_alive_tasks(), 0);
    assert_eq!(ended(&mut a.socket).await, Ended::Code(1001));
}
