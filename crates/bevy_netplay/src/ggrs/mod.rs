//! ggrs sessions over Netplay lobbies (feature `ggrs`): for games that are written with ggrs 0.13 or
//! `bevy_ggrs` 0.22.
//!
//! Add [`NetplayGgrsPlugin`], and have `bevy_ggrs` run between our receiving and our sending, so that
//! inputs leave in the frame in which they are made. Once everybody is there, [`GgrsLobby`] gives
//! the players in an order that is the same on all machines, and the socket.
//!
//! ```
//! # use bevy_app::{App, PreUpdate, Update};
//! # use bevy_ecs::prelude::*;
//! # use bevy_netplay::prelude::*;
//! use bevy_netplay::ggrs::{GgrsLobby, NetplayGgrsPlugin, NetplayGgrsSystems};
//! use ggrs::{Config, GgrsError, P2PSession};
//! # use ggrs::PredictRepeatLast;
//!
//! struct Game;
//!
//! impl Config for Game {
//!     type Address = PeerId;
//!     // As before:
//!     type Input = u8;
//! #   type InputPredictor = PredictRepeatLast;
//! #   type State = u32;
//! }
//!
//! fn start(mut lobby: GgrsLobby) -> Result<Option<P2PSession<Game>>, GgrsError> {
//!     if !lobby.is_full() {
//!         return Ok(None);
//!     }
//!     lobby.session_builder().start_p2p_session(lobby.socket()).map(Some)
//! }
//!
//! # #[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
//! # struct RunGgrsSystems;
//! # let mut app = App::new();
//! app.add_plugins((NetplayPlugins::new("my-game"), NetplayGgrsPlugin))
//!     .configure_sets(PreUpdate, RunGgrsSystems.in_set(NetplayGgrsSystems::Session));
//! ```
//!
//! What changes in a game that was written with `bevy_matchbox`:
//!
//! | before | after |
//! |---|---|
//! | `commands.insert_resource(MatchboxSocket::new_unreliable(url))` | `commands.spawn(JoinLobby::quick(2))` |
//! | `socket.update_peers()`, every frame | nothing: players are entities, and events |
//! | `socket.players().len() < 2` | `!lobby.is_full()` |
//! | `socket.players()`, `add_player` for each | the same with `lobby.players()`, or [`GgrsLobby::session_builder`] |
//! | `start_p2p_session(socket.take_channel(0)?)` | `start_p2p_session(lobby.socket())` |
//!
//! | schedule | set | what happens |
//! |---|---|---|
//! | `PreUpdate`, after [`NetplaySystems::Receive`] | [`NetplayGgrsSystems::Feed`] | sockets get what has arrived |
//! | then | [`NetplayGgrsSystems::Session`] | the game's sessions: put `bevy_ggrs::RunGgrsSystems` here |
//! | then, and in `PostUpdate` before [`NetplaySystems::Send`] | [`NetplayGgrsSystems::Drain`] | what sessions have sent leaves |
//!
//! A Netplay match ([`StartMatch`](crate::StartMatch)) is not needed: ggrs keeps its own time.

mod guard;
mod runs;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

use ::ggrs::{Config, PlayerType, SessionBuilder};
use bevy_app::{App, Plugin, PostUpdate, PreUpdate};
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use netplay_protocol::{Lane, PeerId};

use crate::lobby::{Lobby, LobbySession};
use crate::message::{AddNetMessage, NetWriter, Received};
use crate::peer::{LinkState, Peer, PeerConnected, PeerDisconnected, PeerOf};
use crate::settings::NetplaySettings;
use crate::{NetplaySystems, SendError};

use socket::Wire;
pub use socket::{GgrsCounts, GgrsSocket};
use wire::Packet;

/// ggrs' messages on the unreliable lane. All players of a game have this plugin, or none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetplayGgrsPlugin;

/// Frames by which inputs are delayed if the game does not choose: on a path of 30 ms round trip they
/// arrive when they are needed.
const INPUT_DELAY: usize = 2;

/// Where the plugin does its work.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetplayGgrsSystems {
    /// In `PreUpdate`, after [`NetplaySystems::Receive`]: sockets get what has arrived.
    Feed,
    /// In `PreUpdate`, between the others: the game's sessions.
    Session,
    /// In `PreUpdate`, and in `PostUpdate` before [`NetplaySystems::Send`]: what sessions have sent leaves.
    Drain,
}

impl Plugin for NetplayGgrsPlugin {
    fn build(&self, app: &mut App) {
        use NetplayGgrsSystems::{Drain, Feed, Session};
        app.add_net_message::<Packet>(Lane::Unreliable)
            .init_resource::<GgrsSockets>()
            .add_observer(|left: On<PeerDisconnected>, sockets: Res<GgrsSockets>| {
                sockets.depart(left.id, true);
            })
            .add_observer(|back: On<PeerConnected>, sockets: Res<GgrsSockets>| {
                sockets.depart(back.id, false);
            })
            .configure_sets(PreUpdate, (NetplaySystems::Receive, Feed, Session, Drain).chain())
            .configure_sets(PostUpdate, Drain.before(NetplaySystems::Send))
            .add_systems(PreUpdate, (feed.in_set(Feed), drain.in_set(Drain), hint.after(Drain)))
            .add_systems(PostUpdate, drain.in_set(Drain));
    }
}

/// The open sockets, and what was counted.
#[derive(Resource, Default)]
pub struct GgrsSockets {
    open: Vec<OpenSocket>,
    counts: GgrsCounts,
}

struct OpenSocket {
    lobby: Entity,
    wire: Wire,
    /// How often its session had looked when it was last fed.
    looks: u64,
}

impl GgrsSockets {
    /// What went through the sockets since the start of the app, up to the end of the last frame.
    pub const fn counts(&self) -> GgrsCounts {
        self.counts
    }

    fn depart(&self, peer: PeerId, departed: bool) {
        self.open.iter().for_each(|socket| socket.wire.lock().depart(peer, departed));
    }
}

/// The lobby that we are in, for ggrs. With several lobbies it is one of them.
#[derive(SystemParam)]
pub struct GgrsLobby<'w, 's> {
    lobbies: Query<'w, 's, (Entity, &'static Lobby)>,
    peers: Query<'w, 's, (&'static Peer, &'static PeerOf, &'static LinkState)>,
    settings: Res<'w, NetplaySettings>,
    sockets: ResMut<'w, GgrsSockets>,
}

impl GgrsLobby<'_, '_> {
    /// Ourselves and the players that we are connected to, in the order of their ids: it is the same on all
    /// machines. A player's place is its handle. Empty before we are in a lobby.
    pub fn players(&self) -> Vec<PlayerType<PeerId>> {
        let Some((entity, lobby)) = self.lobbies.iter().next() else { return Vec::new() };
        let mut ids: Vec<_> = self.connected(entity).chain([lobby.me]).collect();
        ids.sort_unstable();
        let player = |id| if id == lobby.me { PlayerType::Local } else { PlayerType::Remote(id) };
        ids.into_iter().map(player).collect()
    }

    /// Whether every seat of the lobby has a player that we are connected to. It is then full on the other
    /// players' machines too, or soon.
    pub fn is_full(&self) -> bool {
        let lobby = self.lobbies.iter().next();
        lobby.is_some_and(|(_, lobby)| self.players().len() == usize::from(lobby.capacity))
    }

    /// A session with [these players](Self::players), an input delay of two frames, and the silence after which
    /// a player is interrupted or lost from [`NetplaySettings`]; everything else is as ggrs has it, and all of
    /// it can be changed.
    ///
    /// Prediction window and input delay together may be 60 frames at most. With `bevy_ggrs` 0.22 no player
    /// may do without a delay: if its first input comes when the prediction window is over, `bevy_ggrs` has
    /// to go back to the first frame, which it no longer has, and panics.
    pub fn session_builder<C: Config<Address = PeerId>>(&self) -> SessionBuilder<C> {
        let players = self.players();
        let with_players = |mut builder: SessionBuilder<C>| {
            builder = builder.with_num_players(players.len().max(1))?;
            players
                .iter()
                .cloned()
                .enumerate()
                .try_fold(builder, |builder, (handle, player)| builder.add_player(player, handle))
        };
        with_players(SessionBuilder::new())
            .expect("the handles are those of so many players, each once")
            .with_input_delay(INPUT_DELAY)
            .with_disconnect_timeout(self.settings.lost_after)
            .with_disconnect_notify_delay(self.settings.interrupted_after)
    }

    /// A socket to [these players](Self::players). The lobby has one at a time: the one before falls silent.
    pub fn socket(&mut self) -> GgrsSocket {
        let players: Vec<_> = match self.lobbies.iter().next() {
            Some((lobby, _)) => self.connected(lobby).collect(),
            None => Vec::new(),
        };
        let wire = Wire::new(players.iter().copied());
        if let Some((lobby, _)) = self.lobbies.iter().next() {
            self.sockets.open.retain(|socket| socket.lobby != lobby);
            self.sockets.open.push(OpenSocket { lobby, wire: wire.clone(), looks: 0 });
        }
        GgrsSocket::new(wire, players)
    }

    fn connected(&self, lobby: Entity) -> impl Iterator<Item = PeerId> {
        let here =
            move |(_, of, state): &(&Peer, &PeerOf, &LinkState)| of.0 == lobby && state.is_open();
        self.peers.iter().filter(here).map(|(peer, ..)| peer.id)
    }
}

/// Gives the sockets what has arrived.
fn feed(mut arrived: MessageReader<Received<Packet>>, mut sockets: ResMut<GgrsSockets>) {
    for received in arrived.read() {
        for socket in &sockets.open {
            socket.wire.lock().arrive(received.peer, received.message.clone());
        }
    }
    for socket in &mut sockets.open {
        socket.looks = socket.wire.lock().looks;
    }
}

/// Sends what sessions have sent.
fn drain(
    mut sockets: ResMut<GgrsSockets>,
    mut out: NetWriter<Packet>,
    peers: Query<(Entity, &Peer, &PeerOf)>,
    lobbies: Query<&LobbySession>,
) {
    let GgrsSockets { open, counts } = &mut *sockets;
    for socket in open.iter() {
        let mut shared = socket.wire.lock();
        let mut any = false;
        while let Some((id, packet)) = shared.leave() {
            let peer = peers.iter().find(|(_, peer, of)| peer.id == id && of.0 == socket.lobby);
            let sent = match peer {
                Some((entity, ..)) => out.to(entity, packet),
                None => Err(SendError::NotAPeer(socket.lobby)),
            };
            any |= sent.is_ok();
            if let Err(error) = sent {
                shared.lose();
                tracing::debug!(peer = ?id, %error, "a message of ggrs is not sent");
            }
        }
        counts.add(shared.take_counts());
        // At once: the next tick of a match, or the end of the frame, is later than it has to be.
        if any && let Ok(session) = lobbies.get(socket.lobby) {
            session.lock().flush();
        }
    }
    // Sessions end by being dropped.
    open.retain(|socket| !socket.wire.is_alone());
}

/// Says once if sessions run outside of their set: then every message waits for a frame more than it has to.
fn hint(sockets: Res<GgrsSockets>, mut before: Local<Option<u64>>, mut said: Local<bool>) {
    let Some(socket) = sockets.open.first() else { return };
    let looks = socket.wire.lock().looks;
    let looked_earlier = before.is_some_and(|before| socket.looks > before);
    if !*said && looks == socket.looks && looked_earlier {
        *said = true;
        tracing::warn!(
            "the ggrs session does not run in NetplayGgrsSystems::Session, which costs a frame; with \
             bevy_ggrs: app.configure_sets(PreUpdate, RunGgrsSystems.in_set(NetplayGgrsSystems::Session))"
        );
    }
    *before = Some(looks);
}
