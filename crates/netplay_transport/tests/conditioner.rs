//! The link conditioner over real WebRTC: connecting under it, changing it while the link lives, what
//! it loses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use netplay_protocol::Lane;
use netplay_protocol::frame::MessageId;
use netplay_transport::{
    Conditions, InterruptReason, JoinRequest, LinkConditioner, LobbyOptions, Network, SessionEvent,
};
use support::{Player, config, connect, no_errors, pair, server, until};

const EVENT: MessageId = MessageId(0);
const STATE: MessageId = MessageId(1);
const SEED: u64 = 0x0BAD_114C;
/// More than any round trip on loopback takes, even on a busy machine.
const QUICK: Duration = Duration::from_millis(30);

fn delay(millis: u64) -> Conditions {
    Conditions::perfect().with_delay(Duration::from_millis(millis))
}

/// Two players who condition what they send from their first packet on.
fn conditioned_pair(network: &Network, server: &str, conditions: &Conditions) -> (Player, Player) {
    let [mut a, mut b] = [SEED, SEED + 1].map(|seed| {
        let mut config = config(server);
        let conditioner = LinkConditioner::outgoing(conditions.clone());
        config.conditioner = Some(conditioner.with_seed(seed));
        let options = LobbyOptions::public(2);
        Player::open(network, &config, JoinRequest::Quick(options))
    });
    connect(&mut [&mut a, &mut b]);
    (a, b)
}

/// One round trip between the network threads.
fn ping(a: &mut Player, b: &mut Player) -> Duration {
    let before = a.events.len();
    a.session.ping(a.peers[0]).unwrap();
    let mut rtt = None;
    until(&mut [a, b], "a pong", |players| {
        rtt = players[0].events[before..].iter().find_map(|event| match event {
            SessionEvent::Pong { rtt, .. } => Some(*rtt),
            _ => None,
        });
        rtt.is_some()
    });
    rtt.unwrap()
}

/// The best of several round trips: what the path costs, without what the machine adds.
fn best_ping(a: &mut Player, b: &mut Player) -> Duration {
    (0..5).map(|_| ping(a, b)).min().unwrap()
}

#[test]
fn a_pair_connects_under_loss_and_delay() {
    let _errors = no_errors();
    println!("seed {SEED:#x}");
    let (server, network) = (server(), Network::start().unwrap());
    let start = Instant::now();
    let conditions = delay(30).with_loss(0.05);
    let (mut a, mut b) = conditioned_pair(&network, &server.url(), &conditions);
    let took = start.elapsed();
    println!("connected after {took:?}");
    // Several round trips of 60 ms; without the conditioner it takes a fraction of that.
    assert!(took > Duration::from_millis(240), "{took:?}");
    let rtt = best_ping(&mut a, &mut b);
    println!("rtt {rtt:?}");
    assert!(rtt >= Duration::from_millis(60) && rtt < Duration::from_millis(60) + QUICK);
    for i in 0..200_u8 {
        a.session.send(a.peers[0], Lane::Reliable, EVENT, &[i]).unwrap();
        a.session.flush();
    }
    until(&mut [&mut a, &mut b], "all reliable messages", |p| p[1].messages.len() == 200);
    let numbers: Vec<u8> = b.messages.iter().map(|(_, _, payload)| payload[0]).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<u8>>());
}

#[test]
fn the_round_trip_follows_conditions_that_change_and_go_while_the_link_lives() {
    let _errors = no_errors();
    let (server, network) = (server(), Network::start().unwrap());
    let (mut a, mut b) = pair(&network, &server.url());
    let mut times = vec![(0, best_ping(&mut a, &mut b))];
    for millis in [40, 100, 15, 0] {
        let conditioner = (millis > 0).then(|| LinkConditioner::new(delay(millis)));
        a.session.condition(a.peers[0], conditioner).unwrap();
        times.push((2 * millis, best_ping(&mut a, &mut b)));
    }
    println!("{times:?}");
    for (expected, measured) in times {
        let expected = Duration::from_millis(expected);
        assert!((expected..expected + QUICK).contains(&measured), "{expected:?}: {measured:?}");
    }
    assert!(a.closed().is_empty() && b.closed().is_empty(), "the link lives on");
}

#[test]
fn unreliable_messages_are_lost_as_often_as_asked() {
    const SENT: u32 = 1000;
    let _errors = no_errors();
    println!("seed {SEED:#x}");
    let (server, network) = (server(), Network::start().unwrap());
    let (mut a, mut b) = pair(&network, &server.url());
    let conditions = Conditions::perfect().with_loss(0.2);
    let conditioner = LinkConditioner::outgoing(conditions).with_seed(SEED);
    a.session.condition(a.peers[0], Some(conditioner)).unwrap();
    for i in 0..SENT {
        a.session.send(a.peers[0], Lane::Unreliable, STATE, &i.to_le_bytes()).unwrap();
        a.session.flush();
        // Each in a datagram of its own.
        b.session.wait(Duration::from_millis(2));
        b.poll();
    }
    a.session.condition(a.peers[0], None).unwrap();
    a.session.send(a.peers[0], Lane::Reliable, EVENT, b"end").unwrap();
    until(&mut [&mut a, &mut b], "the end", |players| {
        players[1].messages.iter().any(|(_, lane, _)| *lane == Lane::Reliable)
    });
    let arrived = b.messages.iter().filter(|(_, lane, _)| *lane == Lane::Unreliable).count();
    println!("{arrived} of {SENT} arrived");
    // A small message rides in two datagrams and is lost with both: 4 %. The deviation is 6; messages
    // that share datagrams make it larger.
    assert!((915..995).contains(&arrived), "{arrived} of {SENT} at 20 % loss");
}

#[test]
fn a_link_that_loses_everything_is_interrupted_and_resumes_without_conditions() {
    let _errors = no_errors();
    let (server, network) = (server(), Network::start().unwrap());
    let (mut a, mut b) = pair(&network, &server.url());
    let (to_b, to_a) = (a.peers[0], b.peers[0]);
    let all_lost = LinkConditioner::outgoing(Conditions::perfect().with_loss(1.0));
    a.session.condition(to_b, Some(all_lost)).unwrap();
    until(&mut [&mut a, &mut b], "b hears nothing", |players| {
        players[1].events.iter().any(|event| {
            let SessionEvent::PeerInterrupted { peer, reason, silence } = event else {
                return false;
            };
            assert_eq!((*peer, *reason), (to_a, InterruptReason::Silence));
            *silence >= Duration::from_secs(1)
        })
    });
    a.session.condition(to_b, None).unwrap();
    until(&mut [&mut a, &mut b], "b hears again", |players| {
        players[1]
            .events
            .iter()
            .any(|event| matches!(event, SessionEvent::PeerResumed { peer, .. } if *peer == to_a))
    });
    assert!(a.closed().is_empty() && b.closed().is_empty(), "the link lives on");
}

#[test]
fn conditions_set_before_the_peer_is_found_hold_for_its_connection() {
    let _errors = no_errors();
    let (server, network) = (server(), Network::start().unwrap());
    let mut a = Player::quick(&network, &server.url(), 2);
    let mut b = Player::quick(&network, &server.url(), 2);
    until(&mut [&mut a, &mut b], "both have ids", |players| {
        players.iter().all(|player| player.me.is_some())
    });
    let b_id = b.me.unwrap();
    a.session.condition(b_id, Some(LinkConditioner::new(delay(25)))).unwrap();
    connect(&mut [&mut a, &mut b]);
    let rtt = best_ping(&mut a, &mut b);
    let expected = Duration::from_millis(50);
    assert!((expected..expected + QUICK).contains(&rtt), "{rtt:?}");
}

#[test]
fn a_narrow_link_passes_its_rate_and_drops_the_rest() {
    let _errors = no_errors();
    let (server, network) = (server(), Network::start().unwrap());
    let (mut a, mut b) = pair(&network, &server.url());
    let conditions: Conditions = "delay=5ms,rate=200kB/20kB".parse().unwrap();
    a.session.condition(a.peers[0], Some(LinkConditioner::outgoing(conditions))).unwrap();
    let start = Instant::now();
    let mut sent = 0;
    let end = start + Duration::from_secs(2);
    while Instant::now() < end {
        for _ in 0..4 {
            a.session.send(a.peers[0], Lane::Unreliable, STATE, &[0; 1000]).unwrap();
            a.session.flush();
            sent += 1000_u64;
        }
        b.session.wait(Duration::from_millis(2));
        b.poll();
        a.poll();
    }
    let arrived: usize = b.messages.iter().map(|(_, _, payload)| payload.len()).sum();
    println!("{arrived} of {sent} bytes arrived");
    // 200 kB a second with headers, and what the queue holds.
    assert!(arrived < 430_000 && (arrived as u64) < sent, "{arrived} bytes");
    assert!(arrived > 50_000, "{arrived} bytes");
    assert!(a.closed().is_empty() && b.closed().is_empty(), "the link lives on");
}
