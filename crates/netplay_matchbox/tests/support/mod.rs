//! Stock players, `matchbox_socket` 0.15 as its users have it, but for the signaller. Each has a message loop on
//! a thread of its own, in a runtime without I/O and clock: ours must not need that of its caller.
//!
//! They connect over the interfaces of this machine; the library leaves loopback out. No STUN.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use matchbox_socket::{
    ChannelConfig, Packet, PeerId, PeerState, RtcIceServerConfig, WebRtcChannel, WebRtcSocket,
};
use netplay_matchbox::{
    BuildId, GameId, LobbyCode, LobbyError, LobbyHandle, LobbySignaller, LobbyStatus,
    NetplaySignaller,
};

/// Far more than it takes on a busy machine: a connection is 0.6 s.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn game() -> GameId {
    GameId::new("game").unwrap()
}

pub fn built(signaller: NetplaySignaller) -> Arc<LobbySignaller> {
    signaller.build(BuildId::new("1").unwrap())
}

/// Looks again and again until it is so.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub struct Player {
    pub socket: WebRtcSocket,
    pub lobby: LobbyHandle,
    channel: WebRtcChannel,
    thread: JoinHandle<Result<(), String>>,
    /// Everything that was heard of others.
    pub states: Vec<(PeerId, PeerState)>,
    pub heard: BTreeSet<(PeerId, String)>,
}

impl Player {
    pub fn enter(url: &str, signaller: NetplaySignaller) -> Self {
        let signaller = built(signaller);
        let lobby = signaller.lobby();
        let no_stun = RtcIceServerConfig { urls: Vec::new(), ..Default::default() };
        let (mut socket, message_loop) = WebRtcSocket::builder(url)
            .ice_server(no_stun)
            .add_channel(ChannelConfig::reliable())
            .signaller_builder(signaller)
            .build();
        let channel = socket.take_channel(0).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(message_loop).map_err(|error| format!("{error:?}"))
        });
        Self { socket, lobby, channel, thread, states: Vec::new(), heard: BTreeSet::new() }
    }

    /// The lobby's code, once we are in it.
    pub fn code(&self) -> LobbyCode {
        until("a lobby", || self.lobby.status() != LobbyStatus::Joining);
        self.lobby.code().expect("let in")
    }

    pub fn is_online(&self) -> bool {
        matches!(self.lobby.status(), LobbyStatus::Joined { online: true, .. })
    }

    /// Why it is not in the lobby, if it never was.
    fn refused(&self) -> Option<LobbyError> {
        self.lobby.error().filter(|error| *error != LobbyError::SessionLost)
    }

    pub fn id(&mut self) -> PeerId {
        self.socket.id().expect("in a lobby")
    }

    /// Takes what has happened.
    pub fn poll(&mut self) {
        if let Ok(states) = self.socket.try_update_peers() {
            self.states.extend(states);
        }
        for (peer, packet) in self.channel.receive() {
            self.heard.insert((peer, String::from_utf8(packet.to_vec()).unwrap()));
        }
    }

    /// Who was ever connected, in the order of that.
    pub fn connected(&self) -> Vec<PeerId> {
        let connected =
            |(peer, state): &(PeerId, PeerState)| (*state == PeerState::Connected).then_some(*peer);
        self.states.iter().filter_map(connected).collect()
    }

    pub fn lost(&self, peer: PeerId) -> bool {
        self.states.contains(&(peer, PeerState::Disconnected))
    }

    pub fn say(&mut self, peer: PeerId, text: &str) {
        let packet = Packet::from(text.as_bytes().to_vec());
        self.channel.try_send(packet, peer).unwrap();
    }

    /// Drops the socket. Gives what the message loop came to.
    pub fn leave(self) -> Result<(), String> {
        let Self { socket, channel, thread, .. } = self;
        drop((socket, channel));
        thread.join().unwrap()
    }

    /// Waits for the end of the message loop.
    pub fn end(self) -> Result<(), String> {
        until("the end of the message loop", || self.thread.is_finished());
        self.thread.join().unwrap()
    }
}

/// All become connected to all, each pair once, and what each says reaches every other. Gives their ids.
pub fn talk(players: &mut [&mut Player], text: &str) -> Vec<PeerId> {
    let count = players.len() - 1;
    until("all are connected to all", || {
        players.iter_mut().for_each(|player| player.poll());
        let refused = players.iter().find_map(|player| player.refused());
        assert_eq!(refused, None);
        players.iter().all(|player| player.connected().len() >= count)
    });
    let ids: Vec<_> = players.iter_mut().map(|player| player.id()).collect();
    for (player, id) in players.iter_mut().zip(&ids) {
        let others: Vec<_> = ids.iter().copied().filter(|other| other != id).collect();
        let met: BTreeSet<_> = player.connected().into_iter().collect();
        assert_eq!(met.len(), player.connected().len(), "nobody is met twice");
        for other in others {
            assert!(met.contains(&other), "{id} has not met {other}");
            player.say(other, &format!("{text} from {id}"));
        }
    }
    until("all hear all", || {
        players.iter_mut().for_each(|player| player.poll());
        players.iter().zip(&ids).all(|(player, id)| {
            let mut others = ids.iter().filter(|other| *other != id);
            others.all(|other| player.heard.contains(&(*other, format!("{text} from {other}"))))
        })
    });
    ids
}
