//! Links that lose their path and go on, over real WebRTC.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use netplay_protocol::Lane;
use netplay_protocol::frame::MessageId;
use netplay_simnet::Conditions;
use netplay_transport::{LinkConditioner, Network, SessionEvent};
use support::{Player, connect, no_errors, server, until};

const EVENT: MessageId = MessageId(0);
const WORLD: MessageId = MessageId(2);
const TICK: Duration = Duration::from_millis(16);

/// Sends a number on both reliable lanes to the other player; gives what was sent.
fn send(player: &mut Player, number: &mut u32) {
    let (peer, payload) = (player.peers[0], number.to_le_bytes());
    player.session.send(peer, Lane::Reliable, EVENT, &payload).unwrap();
    player.session.send(peer, Lane::Bulk, WORLD, &payload).unwrap();
    player.session.flush();
    *number += 1;
}

fn numbers(player: &Player, lane: Lane) -> Vec<u32> {
    let messages = player.messages.iter().filter(|(_, of, _)| *of == lane);
    messages.map(|(_, _, payload)| u32::from_le_bytes(payload[..].try_into().unwrap())).collect()
}

/// Both send in every tick; until when or what.
fn play(
    players: &mut [Player; 2],
    sent: &mut [u32; 2],
    mut done: impl FnMut(&[Player; 2]) -> bool,
) {
    let deadline = Instant::now() + support::DEADLINE;
    while !done(players) {
        assert!(Instant::now() < deadline, "{:?}", players.each_ref().map(|p| &p.events));
        let tick = Instant::now() + TICK;
        for (player, number) in players.iter_mut().zip(&mut *sent) {
            send(player, number);
        }
        while Instant::now() < tick {
            players[0].session.wait(tick.saturating_duration_since(Instant::now()) / 2);
            players.iter_mut().for_each(Player::poll);
        }
    }
}

fn for_time(duration: Duration) -> impl FnMut(&[Player; 2]) -> bool {
    let until = Instant::now() + duration;
    move |_| Instant::now() >= until
}

#[test]
fn an_outage_of_five_seconds_costs_no_link_and_no_reliable_message() {
    let _errors = no_errors();
    let (server, network) = (server(), Network::start().unwrap());
    let url = server.url();
    let mut players = [(); 2].map(|()| Player::quick(&network, &url, 2));
    let [a, b] = &mut players;
    connect(&mut [a, b]);
    let mut sent = [0; 2];
    play(&mut players, &mut sent, for_time(Duration::from_secs(1)));
    let dead = LinkConditioner::new(Conditions::perfect().with_loss(1.0));
    for player in &players {
        player.session.condition(player.peers[0], Some(dead.clone())).unwrap();
    }
    play(&mut players, &mut sent, for_time(Duration::from_secs(5)));
    for player in &players {
        player.session.condition(player.peers[0], None).unwrap();
    }
    let over = Instant::now();
    let newest = sent;
    play(&mut players, &mut sent, |players| {
        let heard = |of: usize, from: usize| {
            numbers(&players[of], Lane::Reliable).last().is_some_and(|last| *last > newest[from])
        };
        heard(0, 1) && heard(1, 0)
    });
    let took = over.elapsed();
    play(&mut players, &mut sent, for_time(Duration::from_secs(2)));
    let [a, b] = &mut players;
    until(&mut [a, b], "everything arrives", |players| {
        let all =
            |of: usize, from: usize, lane| numbers(players[of], lane).len() as u32 >= sent[from];
        [Lane::Reliable, Lane::Bulk].into_iter().all(|lane| all(0, 1, lane) && all(1, 0, lane))
    });
    for (of, from) in [(0, 1), (1, 0)] {
        for lane in [Lane::Reliable, Lane::Bulk] {
            let expected = 0..sent[from];
            assert!(numbers(&players[of], lane).into_iter().eq(expected), "once and in order");
        }
        assert!(players[of].closed().is_empty());
        let resumed = players[of].events.iter().find_map(|event| match event {
            SessionEvent::PeerResumed { silence, .. } => Some(*silence),
            _ => None,
        });
        let stats = players[of].session.stats(players[of].peers[0]).unwrap();
        println!("silence {resumed:?}, {} moves", stats.moves);
        assert!(resumed.unwrap() >= Duration::from_secs(4));
        assert_eq!(stats.moves, 1);
    }
    println!("heard {took:?} after the outage");
    assert!(took <= Duration::from_secs(1), "{took:?}");
}
