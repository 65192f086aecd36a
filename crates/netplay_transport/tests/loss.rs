//! Connecting while datagrams are lost: every connect succeeds, and soon.
//!
//! Shown with real sessions, a real lobby server and real WebRTC on loopback, where all datagrams
//! between players pass a forwarder that loses and delays them by a printed seed.

mod support;

#[path = "support/forwarder.rs"]
mod forwarder;

use std::time::{Duration, Instant};

use forwarder::Forwarder;
use netplay_protocol::frame::MessageId;
use netplay_protocol::{GameId, Lane, PeerId};
use netplay_simnet::Conditions;
use netplay_transport::{
    CloseReason, JoinRequest, LobbyOptions, Network, SessionConfig, SessionEvent,
};
use support::{Player, config, no_errors, server, until};

const EVENT: MessageId = MessageId(0);
/// Each way.
const DELAY: Duration = Duration::from_millis(15);
const PAIRS: usize = 50;
/// Threads, each with a network of its own, which connect one pair after another.
const AT_ONCE: usize = 10;

/// How one connect went.
#[derive(Debug)]
struct Connect {
    pair: usize,
    took: Duration,
    attempts: u32,
    opened: bool,
    /// From the first message to both having arrived.
    exchange: Option<Duration>,
}

#[test]
fn fifty_of_fifty_connects_open_at_five_percent_loss() {
    let _errors = no_errors();
    let server = server();
    let seed = seed();
    println!("NETPLAY_TEST_SEED={seed}");
    let conditions = Conditions::perfect().with_delay(DELAY).with_loss(0.05);
    let forwarder = Forwarder::start(&server.url(), conditions, seed);
    let mut connects = connect_all(&forwarder);
    connects.sort_by_key(|connect| connect.took);
    for Connect { pair, took, attempts, opened, exchange } in &connects {
        let end = if *opened { "open" } else { "CLOSED" };
        println!("{took:>9.1?} {end}, attempts: {attempts}, messages: {exchange:.1?}, pair {pair}");
    }
    let took = |part: usize| connects[PAIRS * part / 100 - 1].took;
    println!("p50 {:?}, p90 {:?}, max {:?}", took(50), took(90), took(100));
    let stats = forwarder.stats();
    let lost = stats.lost as f64 / stats.sent as f64;
    println!("{} of {} datagrams lost: {:.1} %", stats.lost, stats.sent, lost * 100.0);
    assert!((0.03..0.07).contains(&lost), "{stats:?}");
    assert!(connects.iter().all(|connect| connect.opened), "seed {seed}");
    assert!(took(90) <= Duration::from_secs(3), "seed {seed}: p90 {:?}", took(90));
    assert!(took(100) <= Duration::from_secs(10), "seed {seed}: max {:?}", took(100));
}

#[test]
fn no_datagram_goes_around_the_forwarder_and_a_connect_without_any_ends() {
    let _errors = no_errors();
    let server = server();
    // What is lost does not depend on the seed.
    let all_lost = Conditions::perfect().with_loss(1.0);
    let forwarder = Forwarder::start(&server.url(), all_lost, 0);
    let network = Network::start().unwrap();
    let (mut a, mut b, start) = meet(&network, &config(&forwarder.url()));
    until(&mut [&mut a, &mut b], "both links end", |players| {
        players.iter().all(|player| !player.closed().is_empty())
    });
    let (took, attempts) = (start.elapsed(), attempts(&forwarder, &a, &b));
    let stats = forwarder.stats();
    println!("ended after {took:.1?} and {attempts} attempts, {stats:?}");
    assert!(stats.sent > 100 && stats.lost == stats.sent, "{stats:?}");
    assert!(attempts > 1, "{attempts} attempts");
    assert!((Duration::from_secs(15)..Duration::from_secs(25)).contains(&took), "{took:?}");
    let ends = [a.closed(), b.closed()].map(|closed| reason(closed[0]).clone());
    println!("{ends:?}");
    // Whoever notices first tells the other.
    assert!(ends.iter().any(|end| matches!(end, CloseReason::ConnectTimeout(_))), "{ends:?}");
    assert!(a.peers.is_empty() && b.peers.is_empty());
}

fn reason(event: &SessionEvent) -> &CloseReason {
    match event {
        SessionEvent::PeerClosed { reason, .. } => reason,
        other => panic!("no end of a link: {other:?}"),
    }
}

/// `NETPLAY_TEST_SEED`, or another one in each run.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let given = std::env::var("NETPLAY_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("a number"));
    given.unwrap_or_else(|| RandomState::new().build_hasher().finish())
}

fn connect_all(forwarder: &Forwarder) -> Vec<Connect> {
    std::thread::scope(|scope| {
        let thread = |first: usize| {
            move || {
                let network = Network::start().expect("the system gives a thread");
                let pairs = (first..PAIRS).step_by(AT_ONCE);
                pairs.map(|pair| connect(&network, forwarder, pair)).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(thread(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no connect panics")).collect()
    })
}

/// One pair meets in a lobby, connects and exchanges a reliable message each way.
fn connect(network: &Network, forwarder: &Forwarder, pair: usize) -> Connect {
    let mut config = config(&forwarder.url());
    // Players of other games never meet, so that quick join leads to the right one.
    config.game = GameId::new(format!("loss-{pair}")).expect("a valid id");
    let (mut a, mut b, start) = meet(network, &config);
    until(&mut [&mut a, &mut b], "both connect, or one gives up", |players| {
        let connected = players.iter().all(|player| player.peers.len() == 1);
        connected || players.iter().any(|player| !player.closed().is_empty())
    });
    let took = start.elapsed();
    let attempts = attempts(forwarder, &a, &b);
    let opened = a.peers.len() == 1 && b.peers.len() == 1;
    let exchange = opened.then(|| exchange(&mut a, &mut b));
    Connect { pair, took, attempts, opened, exchange }
}

/// Two players in one lobby, and since when both are.
fn meet(network: &Network, config: &SessionConfig) -> (Player, Player, Instant) {
    let join = || {
        let options = LobbyOptions::public(2);
        let mut player = Player::open(network, config, JoinRequest::Quick(options));
        until(&mut [&mut player], "a lobby", |players| players[0].code.is_some());
        player
    };
    let (a, b) = (join(), join());
    assert_eq!(a.code, b.code);
    (a, b, Instant::now())
}

/// Sends a reliable message each way, and tells how long both took.
fn exchange(a: &mut Player, b: &mut Player) -> Duration {
    let start = Instant::now();
    for player in [&mut *a, &mut *b] {
        let to: PeerId = player.peers[0];
        player.session.send(to, Lane::Reliable, EVENT, b"hello").expect("a connected player");
    }
    until(&mut [&mut *a, &mut *b], "both messages arrive", |players| {
        players.iter().all(|player| player.messages.len() == 1)
    });
    let hello = |from: &Player| vec![(id(from), Lane::Reliable, b"hello".to_vec())];
    assert_eq!((&a.messages, &b.messages), (&hello(b), &hello(a)));
    start.elapsed()
}

fn id(player: &Player) -> PeerId {
    player.me.expect("who is in a lobby has an id")
}

/// The last attempt that either of them signalled; the forwarder counts from the signals.
fn attempts(forwarder: &Forwarder, a: &Player, b: &Player) -> u32 {
    let of = |player: &Player| forwarder.attempts(id(player));
    of(a).max(of(b))
}
