//! Signaling may stop or lose a message at any point, and both players may offer at once.
//!
//! Property: a link that was started is established on both sides, or over on a side with exactly
//! one reason, within the link's deadline and the handshake's; nothing panics, nothing happens after
//! an end, no deadline stays. Where only one message is lost, a fresh attempt repairs it. Where both
//! offer at once, one connection comes of it.
//!
//! Shown by running two players with a real lobby directory on virtual time, once for every message
//! and every kind of cut, and once for every order of the first crossing events.

mod support {
    pub mod config;
    pub mod world;
}

use core::time::Duration;

use netplay_peer::MeshInput;
use netplay_peer::link::{CloseReason, LinkInput};
use netplay_protocol::Now;
use support::world::{Fault, LINK_LIMIT, Lane, LinkLife, World};

/// Longer than a link may take, than a lost peer's silence, and than the server's grace.
const LONG: Duration = Duration::from_secs(100);

/// Socket texts of a connect without faults, until nothing more is said: how many, and which of
/// them were signals.
fn texts_of_a_connect() -> Vec<bool> {
    let mut world = World::new(Fault::None);
    world.join();
    world.run(Duration::from_secs(2));
    assert!(world.is_established(0) && world.is_established(1));
    world.signals
}

fn is_in_time(link: &LinkLife, world: &World) -> bool {
    let settled = link.established.or(link.ended.as_ref().map(|(at, _)| *at));
    settled.unwrap_or(world.now).since(link.started) <= LINK_LIMIT
}

/// After a long time: every link was settled in time, both players see it alike, and when they
/// leave, nothing stays behind.
fn check_the_end(world: &mut World, case: &str) {
    for player in &world.players {
        assert!(
            player.links.iter().all(|link| is_in_time(link, world)),
            "{case}: {:?}",
            player.links
        );
    }
    assert_eq!(world.is_established(0), world.is_established(1), "{case}");
    for player in 0..2 {
        world.input(player, MeshInput::Leave);
    }
    world.run(Duration::from_secs(1));
    for player in &world.players {
        assert!(player.links.iter().all(|link| link.ended.is_some()), "{case}: {:?}", player.links);
        assert!(
            player.mesh.is_idle(),
            "{case}: a deadline stays: {:?}",
            player.mesh.next_deadline()
        );
    }
}

fn run_cut(fault: Fault) {
    let case = format!("{fault:?}");
    let mut world = World::new(fault);
    world.join();
    world.run(LONG);
    check_the_end(&mut world, &case);
}

#[test]
fn a_connect_takes_the_expected_messages() {
    let texts = texts_of_a_connect();
    let signals = texts.iter().filter(|signal| **signal).count();
    // Offer, answer and two candidates a side, each in two hops.
    assert_eq!(signals, 2 * (2 + 4));
    // Each side's hello, welcome, request, answer, token; and one news of a member.
    assert_eq!(texts.len() - signals, 11);
}

#[test]
fn closed_sockets_after_any_message_end_or_establish_every_link() {
    for after in 0..=texts_of_a_connect().len() {
        run_cut(Fault::CutClosed(after));
    }
}

#[test]
fn a_silent_server_after_any_message_ends_or_establishes_every_link() {
    for after in 0..=texts_of_a_connect().len() {
        run_cut(Fault::CutSilent(after));
    }
}

#[test]
fn one_dead_direction_after_any_message_ends_or_establishes_every_link() {
    for after in 0..=texts_of_a_connect().len() {
        for player in 0..2 {
            run_cut(Fault::CutLane(after, Lane::ToServer(player)));
            run_cut(Fault::CutLane(after, Lane::ToPlayer(player)));
        }
    }
}

/// Runs until both are established, which has to be in time, and stays so.
fn run_repaired(fault: Fault) -> Duration {
    let case = format!("{fault:?}");
    let mut world = World::new(fault);
    world.join();
    world.run_until_established(LONG);
    let took = [0, 1].map(|player| {
        assert!(world.is_established(player), "{case}: {:?}", world.players[player].links);
        let links = &world.players[player].links;
        world.now.since(links.first().expect("a link").started)
    });
    assert!(took.iter().all(|took| *took <= LINK_LIMIT), "{case}: {took:?}");
    world.run(LONG);
    assert!(world.is_established(0) && world.is_established(1), "{case}: not for long");
    check_the_end(&mut world, &case);
    took[0].max(took[1])
}

#[test]
fn any_one_lost_signal_is_repaired() {
    let mut slowest = Duration::ZERO;
    for (lost, signal) in texts_of_a_connect().iter().enumerate() {
        if *signal {
            slowest = slowest.max(run_repaired(Fault::Drop(lost)));
        }
    }
    println!("slowest repair of one lost signal: {slowest:?}");
}

#[test]
fn any_one_message_lost_with_its_socket_is_repaired() {
    let mut slowest = Duration::ZERO;
    for lost in 0..texts_of_a_connect().len() {
        slowest = slowest.max(run_repaired(Fault::DropWithSocket(lost)));
    }
    println!("slowest repair of one lost socket: {slowest:?}");
}

/// Both players have just been told to make their first offer, at once. Gives the player whose
/// offer stands in a glare too.
fn glare() -> (World, usize) {
    let mut world = World::new(Fault::None);
    world.join();
    while world.players.iter().any(|player| player.me.is_none()) {
        world.run(Duration::from_millis(1));
    }
    let first = usize::from(world.players[0].me > world.players[1].me);
    // The other one waits for an offer in vain, and offers itself.
    world.held.insert(Lane::ToPlayer(first));
    while world.players[1 - first].offers == 0 {
        world.run(Duration::from_millis(1));
        world.held.insert(Lane::Driver(1 - first));
    }
    for player in 0..2 {
        world.held.insert(Lane::Driver(player));
        world.held.insert(Lane::ToPlayer(player));
    }
    while world.players[first].offers == 0 {
        assert!(world.deliver(Lane::ToPlayer(first)), "it learns of the other one");
    }
    assert_eq!([world.players[0].offers, world.players[1].offers], [1, 1]);
    (world, first)
}

/// One thing that may happen next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Choice {
    Deliver(Lane),
    /// Nothing arrives until somebody's patience ends.
    Wait,
}

const CHOICES: [Choice; 5] = [
    Choice::Deliver(Lane::Driver(0)),
    Choice::Deliver(Lane::Driver(1)),
    Choice::Deliver(Lane::ToPlayer(0)),
    Choice::Deliver(Lane::ToPlayer(1)),
    Choice::Wait,
];

/// Runs one order of events from the glare on; `None` if the last choice cannot happen there.
fn replay(order: &[Choice]) -> Option<World> {
    let (mut world, _) = glare();
    for choice in order {
        match choice {
            Choice::Deliver(lane) => {
                if !world.deliver(*lane) {
                    return None;
                }
            }
            Choice::Wait => world.wait(),
        }
        // What reaches the server first makes no difference to either receiver.
        for player in 0..2 {
            while world.deliver(Lane::ToServer(player)) {}
        }
    }
    Some(world)
}

fn explore(order: &mut Vec<Choice>, depth: usize, runs: &mut usize) {
    if depth == 0 {
        return;
    }
    for choice in CHOICES {
        let waits = order.iter().filter(|choice| **choice == Choice::Wait).count();
        if choice == Choice::Wait && waits == 2 {
            continue;
        }
        order.push(choice);
        if let Some(mut world) = replay(order) {
            settle_glare(&mut world, &format!("{order:?}"));
            *runs += 1;
            explore(order, depth - 1, runs);
        }
        order.pop();
    }
}

/// Lets everything go on as usual, and checks what comes of it.
fn settle_glare(world: &mut World, case: &str) {
    world.held.clear();
    world.run_until_established(LINK_LIMIT);
    world.run(Duration::from_secs(4));
    for player in 0..2 {
        let links = &world.players[player].links;
        assert!(world.is_established(player), "{case}: {links:?}");
        assert!(is_in_time(&links[0], world), "{case}: {links:?}");
        assert_eq!(links.len(), 1, "{case}: {links:?}");
        assert_eq!(world.connections(player), 1, "{case}");
    }
}

#[test]
fn when_both_offer_at_once_any_order_of_events_gives_one_link() {
    let mut runs = 0;
    explore(&mut Vec::new(), 6, &mut runs);
    println!("orders of events: {runs}");
    assert!(runs > 1000);
}

#[test]
fn when_both_offer_at_once_the_offer_of_the_lower_id_stands() {
    let (mut world, first) = glare();
    settle_glare(&mut world, "in order");
    assert_eq!((world.players[first].offers, world.players[1 - first].offers), (1, 1));
}

#[test]
fn a_link_goes_on_whose_other_end_never_knew_that_it_was_established() {
    let mut world = World::new(Fault::None);
    world.join();
    while !world.is_established(0) && !world.is_established(1) {
        world.run(Duration::from_millis(1));
    }
    // The path stalls just before the other one's handshake is complete: that one offers again.
    let stuck = usize::from(world.is_established(0));
    assert!(!world.is_established(stuck));
    world.held.extend([Lane::Path(0), Lane::Path(1)]);
    while world.players[stuck].offers == 1 {
        world.run(Duration::from_millis(1));
    }
    world.held.clear();
    world.run(Duration::from_millis(500));
    for player in &world.players {
        assert_eq!(player.links.len(), 1, "{:?}", player.links);
    }
    assert!(world.is_established(0) && world.is_established(1));
    world.run(Duration::from_secs(5));
    assert!([0, 1].map(|player| world.connections(player)) == [1, 1], "one is left");
}

/// One player ends the link while the path carries nothing. Gives the first text that is then said, and
/// what the other player's link came to.
fn end_without_a_path(fault: Fault) -> (World, usize) {
    let mut world = World::new(fault);
    world.join();
    world.run(Duration::from_secs(2));
    assert!(world.is_established(0) && world.is_established(1));
    world.held.extend([Lane::Path(0), Lane::Path(1)]);
    let first = world.texts;
    let peer = world.players[1].me.expect("it is online");
    let input = LinkInput::Close(CloseReason::Ended);
    world.input(0, MeshInput::Link { peer, input });
    world.run(Duration::from_secs(3));
    (world, first)
}

#[test]
fn who_does_not_hear_a_goodbye_at_all_is_told_when_it_tries_another_connection() {
    let (world, first) = end_without_a_path(Fault::None);
    let goodbye = (first..).find(|text| world.signals[*text]).expect("a goodbye");
    for lost in goodbye..goodbye + 2 {
        let (mut world, _) = end_without_a_path(Fault::Drop(lost));
        world.run(LONG);
        for (player, reason) in [(0, CloseReason::Ended), (1, CloseReason::Left)] {
            let [LinkLife { ended: Some((at, why)), .. }] = &world.players[player].links[..] else {
                panic!("{lost}: {:?}", world.players[player].links);
            };
            assert_eq!(*why, reason, "{lost}");
            assert!(*at <= Now::from_millis(5000), "{lost}: {at}");
        }
    }
}
