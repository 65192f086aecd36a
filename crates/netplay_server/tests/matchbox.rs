//! Stock players, `matchbox_socket` 0.15 as its users have it, through this server.
//!
//! They connect over the interfaces of this machine; the library leaves loopback out. No STUN.

#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use core::time::Duration;
use std::collections::BTreeSet;
use std::thread::JoinHandle;

use futures_util::StreamExt;
use futures_util::future::join_all;
use matchbox_socket::{
    ChannelConfig, Packet, PeerId, PeerState, RtcIceServerConfig, WebRtcChannel, WebRtcSocket,
};
use netplay_server::{RoomStats, ServerHandle};
use support::start;
use tokio::time::timeout;

/// Far more than it takes on a busy machine: a connection is 0.6 s.
const DEADLINE: Duration = Duration::from_secs(60);

/// A socket, and its message loop on a thread of its own.
struct Player {
    socket: WebRtcSocket,
    channel: WebRtcChannel,
    thread: JoinHandle<()>,
}

impl Player {
    fn enter(server: &ServerHandle, path: &str) -> Self {
        let no_stun = RtcIceServerConfig { urls: Vec::new(), ..Default::default() };
        let (mut socket, message_loop) = WebRtcSocket::builder(format!("{}{path}", server.url()))
            .ice_server(no_stun)
            .add_channel(ChannelConfig::reliable())
            .build();
        let channel = socket.take_channel(0).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            // It ends when the socket is dropped; how does not matter.
            let _ = runtime.block_on(message_loop);
        });
        Self { socket, channel, thread }
    }

    /// Waits until so many others are connected.
    async fn connected(&mut self, count: usize) -> BTreeSet<PeerId> {
        let mut others = BTreeSet::new();
        while others.len() < count {
            match timeout(DEADLINE, self.socket.next()).await.expect("in time") {
                Some((peer, PeerState::Connected)) => assert!(others.insert(peer)),
                other => panic!("a player is expected, not {other:?}"),
            }
        }
        others
    }

    /// Says this to all.
    fn say(&mut self, others: &BTreeSet<PeerId>, text: String) {
        let packet = Packet::from(text.into_bytes());
        others.iter().for_each(|peer| self.channel.try_send(packet.clone(), *peer).unwrap());
    }

    /// Waits for one message of each.
    async fn hears(&mut self, count: usize) -> BTreeSet<(PeerId, String)> {
        let mut heard = BTreeSet::new();
        for _ in 0..count {
            let message = timeout(DEADLINE, self.channel.next()).await.expect("in time");
            let (peer, packet) = message.expect("the channel is open");
            heard.insert((peer, String::from_utf8(packet.to_vec()).unwrap()));
        }
        heard
    }

    async fn loses(&mut self, peer: PeerId) {
        loop {
            match timeout(DEADLINE, self.socket.next()).await.expect("in time") {
                Some((lost, PeerState::Disconnected)) if lost == peer => return,
                Some(_) => {}
                None => panic!("the socket closed"),
            }
        }
    }

    /// Ends it, with its thread.
    fn leave(self) {
        let Self { socket, channel, thread } = self;
        drop((socket, channel));
        thread.join().unwrap();
    }
}

/// All are connected to all, and what each says reaches every other. Gives their ids.
async fn talk(players: &mut [Player]) -> Vec<PeerId> {
    let count = players.len() - 1;
    let others = join_all(players.iter_mut().map(|player| player.connected(count))).await;
    let ids: Vec<_> = players.iter_mut().map(|player| player.socket.id().unwrap()).collect();
    for ((player, id), others) in players.iter_mut().zip(&ids).zip(&others) {
        let expected: BTreeSet<_> = ids.iter().copied().filter(|other| other != id).collect();
        assert_eq!(*others, expected);
        player.say(others, format!("I am {id}"));
    }
    let heard = join_all(players.iter_mut().map(|player| player.hears(count))).await;
    for (heard, others) in heard.iter().zip(&others) {
        let expected: BTreeSet<_> =
            others.iter().map(|other| (*other, format!("I am {other}"))).collect();
        assert_eq!(*heard, expected);
    }
    ids
}

/// Waits until the server holds this.
async fn holds(server: &ServerHandle, expected: RoomStats) {
    let reached = async {
        while server.room_stats() != expected {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, reached).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_stock_players_of_a_group_talk_and_a_fourth_waits_for_the_next() {
    let server = start(|_| {});
    let mut players: Vec<_> = (0..3).map(|_| Player::enter(&server, "/game?next=3")).collect();
    holds(&server, RoomStats { peers: 3, rooms: 0, groups: 1 }).await;
    let mut fourth = Player::enter(&server, "/game?next=3");
    talk(&mut players).await;
    holds(&server, RoomStats { peers: 4, rooms: 1, groups: 1 }).await;
    assert_eq!(fourth.socket.update_peers(), []);
    fourth.leave();
    players.into_iter().for_each(Player::leave);
    holds(&server, RoomStats::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_stock_players_of_a_room_talk_and_hear_who_leaves() {
    let server = start(|_| {});
    let mut players: Vec<_> = (0..4).map(|_| Player::enter(&server, "/game")).collect();
    let ids = talk(&mut players).await;
    players.remove(1).leave();
    join_all(players.iter_mut().map(|player| player.loses(ids[1]))).await;
    holds(&server, RoomStats { peers: 3, rooms: 1, groups: 0 }).await;
    players.into_iter().for_each(Player::leave);
    holds(&server, RoomStats::default()).await;
}
