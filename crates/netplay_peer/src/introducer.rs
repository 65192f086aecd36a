//! Who introduces a player to the others: a lobby server, or a room of a matchbox server. One at a time.

use netplay_protocol::lobby::Login;
use netplay_protocol::matchbox::Room;
use netplay_protocol::{BuildId, GameId, Now, PeerId};

use crate::lobby_client::{JoinRequest, LobbyClient, LobbyInput, LobbyOutput, SavedSession};
use crate::room_client::RoomClient;

/// Which WebSocket of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketTarget {
    /// The one of the lobbies.
    Lobbies,
    /// The one of a room, on a server that speaks matchbox's protocol.
    Room(Room),
}

/// The two clients, of which one at most is not idle.
#[derive(Debug)]
pub(crate) struct Introducer {
    lobby: LobbyClient,
    room: RoomClient,
}

impl Introducer {
    pub(crate) fn new(game: GameId, build: BuildId, seed: u64) -> Self {
        Self {
            lobby: LobbyClient::new(game, Some(build), seed),
            room: RoomClient::new(seed ^ 0x726f_6f6d),
        }
    }

    pub(crate) fn resume(&mut self, saved: SavedSession) {
        self.lobby.resume(saved);
    }

    pub(crate) fn log_in(&mut self, login: Login) {
        self.lobby.log_in(login);
    }

    pub(crate) fn handle(&mut self, now: Now, input: LobbyInput) {
        let into_room = matches!(input, LobbyInput::Join(JoinRequest::Room(_)));
        if !self.room.is_idle() || (into_room && self.lobby.is_idle()) {
            self.room.handle(now, input);
        } else {
            self.lobby.handle(now, input);
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<LobbyOutput> {
        self.lobby.poll_output().or_else(|| self.room.poll_output())
    }

    pub(crate) fn next_deadline(&self) -> Option<Now> {
        self.lobby.next_deadline().or_else(|| self.room.next_deadline())
    }

    /// Which WebSocket an [`LobbyOutput::OpenSocket`] asks for.
    pub(crate) fn target(&self) -> SocketTarget {
        self.room.room().map_or(SocketTarget::Lobbies, |room| SocketTarget::Room(room.clone()))
    }

    /// Of the two sides of a link exactly one makes the first offer. In a room that is who was there first:
    /// the other one knows of nobody.
    pub(crate) fn offers_first(&self, me: PeerId, peer: PeerId) -> bool {
        if self.room.is_idle() { me < peer } else { self.room.came_after_us(peer) }
    }
}
