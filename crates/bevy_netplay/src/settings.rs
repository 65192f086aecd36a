//! What the plugin is told about the game, and where its sessions run.

use std::path::PathBuf;
use std::time::Duration;

use bevy_ecs::prelude::*;
use netplay_protocol::{BuildId, GameId};
use netplay_transport::memory::MemoryNetwork;
use netplay_transport::{Addresses, LOCAL_SERVER, Network, OpenError, Session, SessionConfig};
use tokio::runtime::Handle;

use crate::conditioner::LinkConditioner;
use crate::error::LobbyError;
use crate::message::MessageRegistry;
use crate::resume::ResumeFile;

/// What the plugin is told about the game. Change it before spawning a
/// [`JoinLobby`](crate::JoinLobby); a lobby that is joined keeps what it was joined with.
#[derive(Resource, Clone, Debug)]
pub struct NetplaySettings {
    /// Which game: players of different games never meet. ASCII letters, digits, `-_.+`.
    pub game: String,
    /// Which build: players of different builds do not see each other's lobbies, and a code of one says which
    /// build it is for. `"0"` by default.
    pub build: String,
    /// The lobby server: `ws://HOST[:PORT]`, or `wss://HOST[:PORT]` by TLS. By default a `netplay-server` on this
    /// machine.
    pub server: String,
    /// Certificates to trust besides those of the authorities that browsers know, in PEM; `None` by default. See
    /// [`NetplayPlugins::trust_certificate`](crate::NetplayPlugins::trust_certificate).
    pub trusted_certificates: Option<Vec<u8>>,
    /// Which of this machine's addresses other players may connect to.
    pub addresses: Addresses,
    /// Silence after which a peer is [`LinkState::Interrupted`](crate::LinkState); 1 s by default.
    pub interrupted_after: Duration,
    /// Silence after which a peer is lost; 15 s by default.
    pub lost_after: Duration,
    /// Silence after which a peer is lost whose connection to the lobby server closed too; 2 s by
    /// default.
    pub lost_after_offline: Duration,
    /// Where the secret is kept with which this game, killed and started again, is back in its seat; `None`
    /// by default. One file for each player on a machine.
    pub resume_file: Option<PathBuf>,
    /// Bad conditions for the links to all peers, connecting included; none by default. Peers begin
    /// with this component.
    pub conditioner: Option<LinkConditioner>,
}

impl NetplaySettings {
    /// The defaults, for a game with this name.
    pub fn new(game: impl Into<String>) -> Self {
        Self {
            game: game.into(),
            build: "0".into(),
            server: LOCAL_SERVER.into(),
            trusted_certificates: None,
            addresses: Addresses::default(),
            interrupted_after: Duration::from_secs(1),
            lost_after: Duration::from_secs(15),
            lost_after_offline: Duration::from_secs(2),
            resume_file: None,
            conditioner: None,
        }
    }

    pub(crate) fn session_config(
        &self,
        registry: &MessageRegistry,
        server: Option<&str>,
    ) -> Result<SessionConfig, LobbyError> {
        let game = GameId::new(self.game.as_str())?;
        let build = BuildId::new(self.build.as_str())?;
        let mut config = SessionConfig::new(game, build, registry.schema()?);
        config.server = server.unwrap_or(&self.server).to_owned();
        config.trusted_certificates = self.trusted_certificates.clone();
        config.lanes = registry.lanes()?;
        config.addresses = self.addresses;
        config.interrupted_after = self.interrupted_after;
        config.lost_after = self.lost_after;
        config.lost_after_offline = self.lost_after_offline;
        config.conditioner = self.conditioner.clone().map(Into::into);
        Ok(config)
    }
}

impl NetplaySettings {
    /// The resume file of a lobby on this server.
    pub(crate) fn resume_file(&self, server: Option<&str>) -> Option<ResumeFile> {
        let path = self.resume_file.as_ref()?;
        Some(ResumeFile::new(path, server.unwrap_or(&self.server), &self.game))
    }
}

/// Where sessions run. Insert one before adding the plugins to choose; otherwise the plugin starts a
/// background runtime of its own with the first lobby.
#[derive(Resource, Clone, Debug)]
pub enum NetplayNetwork {
    /// A background runtime, over WebRTC.
    Native(Network),
    /// In memory, stepped by hand: for tests.
    Memory(MemoryNetwork),
}

impl From<Network> for NetplayNetwork {
    fn from(network: Network) -> Self {
        Self::Native(network)
    }
}

/// Bring your own tokio runtime; it needs its I/O and time drivers.
impl From<Handle> for NetplayNetwork {
    fn from(handle: Handle) -> Self {
        Self::Native(Network::on(handle))
    }
}

impl From<MemoryNetwork> for NetplayNetwork {
    fn from(network: MemoryNetwork) -> Self {
        Self::Memory(network)
    }
}

impl NetplayNetwork {
    pub(crate) fn open(&self, config: &SessionConfig) -> Result<Session, OpenError> {
        match self {
            Self::Native(network) => network.open(config),
            Self::Memory(network) => network.open(config),
        }
    }
}
