//! One conditioned socket on loopback, and a plain one that hears it or speaks to it.

use std::net::UdpSocket;

use netplay_simnet::Conditions;
use webrtc::runtime::{Runtime, TokioRuntime};

use super::*;

const LOOPBACK: &str = "127.0.0.1:0";
/// Any single step takes less than this.
const DEADLINE: Duration = Duration::from_secs(10);
const SEED: u64 = 0xC0_4D17;
const PEER: PeerId = PeerId::from_u128(1);

fn slow(millis: u64) -> LinkConditioner {
    LinkConditioner::new(Conditions::perfect().with_delay(Duration::from_millis(millis)))
}

fn lossy() -> LinkConditioner {
    LinkConditioner::new(Conditions::perfect().with_bursts(0.2, 0.3)).with_seed(SEED)
}

/// A conditioned socket, and a plain one.
struct Pair {
    conditioners: Conditioners,
    line: Arc<Line>,
    socket: Conditioned,
    plain: UdpSocket,
}

impl Pair {
    fn new(default: Option<LinkConditioner>) -> Self {
        let mut conditioners = Conditioners::new(default);
        let line = conditioners.line(PEER, ConnectionId(1));
        let socket = UdpSocket::bind(LOOPBACK).expect("loopback has a free port");
        socket.set_nonblocking(true).unwrap();
        let socket = line.wrap(TokioRuntime.wrap_udp_socket(socket).unwrap());
        let plain = UdpSocket::bind(LOOPBACK).expect("loopback has a free port");
        plain.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { conditioners, line, socket, plain }
    }

    async fn send(&self, byte: u8) {
        let to = self.plain.local_addr().unwrap();
        assert_eq!(self.socket.send_to(&[byte], to).await.unwrap(), 1);
    }

    /// Lets go what may go, until `spoken` datagrams were read; gives those that came through.
    async fn settle(&self, spoken: u64) -> Vec<u8> {
        let mut heard = Vec::new();
        let settled = poll_fn(|cx| {
            let (mut buffer, mut meta) = ([0; 16], [RecvMeta::default()]);
            loop {
                let mut bufs = [IoSliceMut::new(&mut buffer)];
                if self.socket.poll_recv(cx, &mut bufs, &mut meta).is_pending() {
                    break;
                }
                heard.push(buffer[0]);
            }
            let pipes = lock(&self.socket.pipes);
            let pipes = pipes.as_ref().expect("there are conditions");
            if pipes.outgoing.is_empty() && pipes.incoming.stats().sent == spoken {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tokio::time::timeout(DEADLINE, settled).await.expect("in time");
        heard
    }

    /// What the plain socket has heard so far, with the help of another one.
    fn heard(&self) -> Vec<u8> {
        const END: u8 = 255;
        let other = UdpSocket::bind(LOOPBACK).expect("loopback has a free port");
        other.send_to(&[END], self.plain.local_addr().unwrap()).unwrap();
        let mut byte = [0];
        let mut hear = || self.plain.recv(&mut byte).map(|_| byte[0]).expect("the end comes");
        std::iter::from_fn(|| Some(hear()).filter(|byte| *byte != END)).collect()
    }

    async fn hear(&self) -> u8 {
        let mut buffer = [0; 16];
        let heard = tokio::time::timeout(DEADLINE, self.socket.recv_from(&mut buffer)).await;
        heard.expect("something arrives in time").unwrap();
        buffer[0]
    }

    fn speak(&self, byte: u8) {
        self.plain.send_to(&[byte], self.socket.local_addr().unwrap()).unwrap();
    }

    fn has_pipes(&self) -> bool {
        lock(&self.socket.pipes).is_some()
    }
}

#[tokio::test]
async fn without_conditions_nothing_is_held_and_nothing_is_made() {
    let pair = Pair::new(None);
    pair.send(1).await;
    pair.speak(2);
    assert_eq!(pair.hear().await, 2);
    let mut byte = [0];
    pair.plain.recv(&mut byte).unwrap();
    assert_eq!(byte, [1]);
    assert!(!pair.has_pipes() && pair.socket.is_open());
}

#[tokio::test]
async fn the_same_seed_loses_the_same_datagrams_and_another_seed_others() {
    let lost = async |conditioner: LinkConditioner| {
        let pair = Pair::new(Some(conditioner));
        for byte in 0..200 {
            pair.send(byte).await;
        }
        pair.settle(0).await;
        pair.heard()
    };
    println!("seed {SEED:#x}");
    let first = lost(lossy()).await;
    assert!((40..160).contains(&first.len()), "{} of 200", first.len());
    assert_eq!(first, lost(lossy()).await);
    assert_ne!(first, lost(lossy().with_seed(SEED + 1)).await);
}

#[tokio::test]
async fn both_directions_have_their_own_luck() {
    println!("seed {SEED:#x}");
    let pair = Pair::new(Some(lossy()));
    for byte in 0..200 {
        pair.speak(byte);
        pair.send(byte).await;
    }
    let (incoming, outgoing) = (pair.settle(200).await, pair.heard());
    assert!((40..160).contains(&incoming.len()), "{} of 200", incoming.len());
    assert!((40..160).contains(&outgoing.len()), "{} of 200", outgoing.len());
    assert_ne!(incoming, outgoing);
}

#[tokio::test]
async fn datagrams_arrive_after_the_delay_in_both_directions() {
    let pair = Pair::new(Some(slow(40)));
    let start = Instant::now();
    pair.speak(1);
    assert_eq!(pair.hear().await, 1);
    assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
    let start = Instant::now();
    pair.send(2).await;
    assert_eq!(lock(&pair.socket.pipes).as_ref().unwrap().outgoing.pipe.in_flight(), 1);
    // The driver polls for datagrams all the time; here, until the plain socket answers.
    pair.plain.set_nonblocking(true).unwrap();
    let mut byte = [0];
    let heard = async {
        while pair.plain.recv(&mut byte).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = pair.hear() => unreachable!("nobody speaks"),
        () = heard => {}
    }
    assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
    assert_eq!(byte, [2]);
}

#[tokio::test]
async fn a_receiver_that_waits_is_woken_for_what_is_sent_meanwhile() {
    let pair = Pair::new(Some(slow(10)));
    let plain = tokio::net::UdpSocket::from_std({
        let plain = pair.plain.try_clone().unwrap();
        plain.set_nonblocking(true).unwrap();
        plain
    });
    let (plain, mut byte) = (plain.unwrap(), [0]);
    let send = async {
        // After the receiver has begun to wait, with nothing under way.
        tokio::task::yield_now().await;
        pair.send(3).await;
        tokio::time::timeout(DEADLINE, plain.recv(&mut byte)).await.expect("it leaves").unwrap();
    };
    tokio::select! {
        biased;
        _ = pair.hear() => unreachable!("nobody speaks"),
        () = send => {}
    }
    assert_eq!(byte, [3]);
}

#[tokio::test]
async fn several_datagrams_of_one_buffer_have_each_their_own_fate() {
    let pair = Pair::new(Some(lossy()));
    let all: Vec<u8> = (0..100).collect();
    let transmit = Transmit {
        destination: pair.plain.local_addr().unwrap(),
        ecn: None,
        contents: &all,
        segment_size: Some(1),
        src_ip: None,
    };
    assert_eq!(poll_fn(|cx| pair.socket.poll_send(cx, &transmit)).await.unwrap(), 100);
    pair.settle(0).await;
    let stats = lock(&pair.socket.pipes).as_ref().unwrap().outgoing.pipe.stats();
    assert_eq!(stats.sent, 100);
    let heard = pair.heard();
    assert_eq!(heard.len() as u64, stats.delivered);
    assert!((1..100).contains(&heard.len()), "{heard:?}");
}

#[tokio::test]
async fn what_is_under_way_when_the_conditions_go_arrives_and_then_nothing_is_left() {
    let mut pair = Pair::new(None);
    pair.conditioners.set(PEER, Some(slow(30)));
    pair.speak(1);
    // Reads it into the pipe.
    let mut buffer = [0; 16];
    let timeout =
        tokio::time::timeout(Duration::from_millis(5), pair.socket.recv_from(&mut buffer));
    assert!(timeout.await.is_err(), "it is late");
    pair.conditioners.set(PEER, None);
    pair.speak(2);
    assert_eq!(pair.hear().await, 2, "new ones pass at once");
    assert_eq!(pair.hear().await, 1);
    pair.send(3).await;
    assert!(!pair.has_pipes() && pair.socket.is_open());
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted() {
    let rate = Conditions::perfect().with_rate(1000, 100);
    let pair = Pair::new(Some(LinkConditioner::outgoing(rate)));
    let to = pair.plain.local_addr().unwrap();
    for _ in 0..10 {
        pair.socket.send_to(&[0; 100], to).await.unwrap();
    }
    let stats = lock(&pair.socket.pipes).as_ref().unwrap().outgoing.pipe.stats();
    assert_eq!((stats.sent, stats.overflowed, stats.in_flight()), (10, 9, 1));
}

#[tokio::test]
async fn the_last_words_of_a_connection_leave_after_it_and_hold_nothing_up_for_long() {
    let Pair { line, socket, plain, .. } = Pair::new(Some(slow(50)));
    let to = plain.local_addr().unwrap();
    socket.send_to(&[9], to).await.unwrap();
    // The library drops its socket a moment after the connection is closed.
    let end = async { drop(tokio::task::spawn_blocking(move || drop(socket)).await) };
    tokio::join!(line.finish(), end);
    let mut byte = [0];
    plain.recv(&mut byte).unwrap();
    assert_eq!(byte, [9]);
    assert!(lock(&line.ends).left.is_empty());

    let Pair { line, socket, plain, .. } = Pair::new(Some(slow(60_000)));
    socket.send_to(&[9], plain.local_addr().unwrap()).await.unwrap();
    drop(socket);
    let start = Instant::now();
    line.finish().await;
    assert!((LINGER..2 * LINGER).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(lock(&line.ends).left.is_empty());
}

#[test]
fn so_many_peers_are_remembered_and_no_more() {
    let mut conditioners = Conditioners::new(None);
    let alive = conditioners.line(PEER, ConnectionId(1));
    for number in 2..10 * REMEMBERED as u128 {
        conditioners.set(PeerId::from_u128(number), Some(slow(1)));
    }
    assert!(conditioners.peers.len() <= REMEMBERED);
    conditioners.set(PEER, Some(slow(7)));
    assert!(alive.wanted.any.load(Ordering::Relaxed), "the peer of a live connection is known");
}
