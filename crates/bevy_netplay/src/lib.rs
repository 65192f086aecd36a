//! Peer-to-peer multiplayer for Bevy: players who find each other, and typed messages between them.
//!
//! ```no_run
//! # use bevy::prelude::*;
//! # use bevy_netplay::prelude::*;
//! # use serde::{Deserialize, Serialize};
//! #[derive(Serialize, Deserialize)]
//! struct Shout(String);
//!
//! App::new()
//!     .add_plugins((MinimalPlugins, NetplayPlugins::new("my-game")))
//!     .add_net_message::<Shout>(Lane::Reliable)
//!     .add_systems(Startup, |mut commands: Commands| { commands.spawn(JoinLobby::quick(2)); })
//!     .add_systems(Update, hear)
//!     .add_observer(|_: On<PeerConnected>, mut out: NetWriter<Shout>| {
//!         out.to_all(Shout("hey".into()));
//!     })
//!     .run();
//!
//! fn hear(mut inbox: MessageReader<Received<Shout>>) {
//!     for shout in inbox.read() { info!("{}: {}", shout.from, shout.message.0); }
//! }
//! ```
//!
//! A lobby is an entity: spawn [`JoinLobby`], and despawn it to leave. Each other player is an entity
//! related to it by [`PeerOf`], with [`Peer`], [`LinkState`] and [`PeerStats`]. What happens to them
//! is an entity event, observed with `On<…>`; what players send is a message, read with
//! `MessageReader<Received<M>>`.
//!
//! | event | on | means |
//! |---|---|---|
//! | [`LobbyJoined`] | lobby | we are in; its code is in [`Lobby`] |
//! | [`LobbyFailed`] | lobby | we are not, for this reason; the plugin does not try again |
//! | [`LobbyOffline`], [`LobbyOnline`] | lobby | the server is away or back; a match goes on meanwhile |
//! | [`HostChanged`] | lobby | another player leads |
//! | [`StartMatch`], [`EndMatch`] | lobby | you trigger these: the host starts a match; it is over for us |
//! | [`PauseMatch`], [`ResumeMatch`] | lobby | you trigger these: a pause for all players, and its end |
//! | [`MatchHeld`], [`MatchGoesOn`] | lobby | a pause, or its end, was agreed on |
//! | [`MatchBegins`], [`StartFailed`] | lobby | tick 0 is at one instant for all, soon; or why not |
//! | [`PeerConnected`] | peer | messages flow |
//! | [`PeerInterrupted`], [`PeerResumed`] | peer | silence for a second, and why as far as is known; it is back, after so long |
//! | [`PeerLost`], [`PeerRejoined`] | peer | the link is over, and the player's seat is kept; it is back |
//! | [`PeerDisconnected`] | peer | the player is gone, for this reason; the entity goes |
//!
//! Games that are written with ggrs or `bevy_ggrs` play over these lobbies with the feature `ggrs`.
//!
//! [`LinkConditioner`] on a peer makes its link worse than it is, for trying a game.
//!
//! The network runs on a thread of its own, which answers pings and keeps links alive whatever the
//! game does. The game's side is three places in the frame:
//!
//! | schedule | set | what happens |
//! |---|---|---|
//! | `PreUpdate` | [`NetplaySystems::Receive`] | events are triggered, messages written |
//! | `FixedLast`, in a match | [`NetplaySystems::Send`] | what was written up to the end of this tick leaves, one packet per peer if it fits |
//! | `PostUpdate` | [`NetplaySystems::Send`] | what the frame's systems wrote leaves, unless a tick of a match begins within 8 ms: then it leaves with that tick |
//!
//! In a match, `FixedUpdate` runs on one clock that all players share: [`MatchTick`] is the tick it is in,
//! [`Match`] and [`SyncStatus`] are on the lobby, and [`Pacing`] says how much the speed may differ. A local
//! pause or speed changes what is shown, and no tick; [`PauseMatch`] pauses the game of all.
//!
//! A game that everybody simulates, with rollback, is one with an input type: see [`rollback`], and its guide
//! [`guide::rollback`]; [`guide::from_bevy_ggrs`] for who comes from there.
//!
//! Which lane a message belongs on is in [`guide::which_lane`].
//!
//! Guaranteed: reliable messages arrive once and in order while the link lives; every queue is
//! bounded; no error of the network reaches Bevy's panic handler. Not guaranteed: that a reliable
//! message sent just before a link ends arrives.

#![forbid(unsafe_code)]

mod away;
mod conditioner;
mod diagnostics;
mod error;
#[cfg(feature = "ggrs")]
pub mod ggrs;
pub mod guide;
mod lifecycle;
mod lobby;
mod match_time;
mod message;
mod peer;
mod receive;
mod resume;
pub mod rollback;
mod settings;
pub mod test_kit;

use std::path::PathBuf;

use bevy_app::{
    App, FixedFirst, FixedLast, Plugin, PluginGroup, PluginGroupBuilder, PostUpdate, PreUpdate,
    RunFixedMainLoop, RunFixedMainLoopSystems,
};
use bevy_ecs::prelude::*;
use bevy_time::{Fixed, Time};

pub use away::PauseWhileAway;
pub use conditioner::LinkConditioner;
pub use diagnostics::{
    CLOCK_ERROR, CLOCK_UNCERTAINTY, JITTER, LOSS, MESSAGES_RECEIVED, MESSAGES_SENT,
    NetplayDiagnosticsPlugin, PEERS, PREDICTED, ROLLBACK_DEPTH, RTT, TICK_ERROR,
};
pub use error::LobbyError;
pub use lobby::browse::{BrowseLobbies, FoundLobbies, LobbiesFound};
pub use lobby::request::{
    LobbyAnswered, LobbyChat, LobbyInvitation, LobbyInvited, LobbyRequests, LobbyStart,
    RequestError, RequestId, StartStep,
};
pub use lobby::{
    HostChanged, JoinLobby, Lobby, LobbyChanged, LobbyConnection, LobbyDetails, LobbyFailed,
    LobbyJoined, LobbyOffline, LobbyOnline,
};
pub use match_time::{
    EndMatch, Match, MatchBegins, MatchGoesOn, MatchHeld, MatchTick, Pacing, PauseMatch,
    ResumeMatch, StartFailed, StartMatch, SyncState, SyncStatus,
};
pub use message::{AddNetMessage, NetMessage, NetWriter, Received, SendError, SentTo};
/// What lobbies are made of, on the wire and here.
pub use netplay_protocol::lobby::{
    ClientMessage, Compare, Entry, Field, Filter, InviteToken, JoinTicket, Jwt, LeaveReason,
    LobbyOptions, LobbyState, LobbySummary, Login, Member, OptionsChange, Order, PlaceChange,
    Rejoin, Search as LobbySearch, Sort, Tier, Value, Visibility,
};
pub use netplay_protocol::{AccountId, DataKey, RoleId};
pub use netplay_protocol::{Lane, LaneConfig, LaneKind, LobbyCode, MeshTime, PeerId, RoomId};
pub use netplay_tick::{NetTick, PacingProfile, StartError, TickRate, Timeline};
pub use netplay_transport::{
    Addresses, CloseReason, Conditions, EndReason, ErrorCode, InterruptReason, InvalidConditions,
    Jitter, LaneStats, LinkStats, Loss, Network, Rate, Refused, Reorder, SendError as QueueError,
};
pub use peer::{
    LinkState, LobbyPeers, Peer, PeerConnected, PeerDisconnected, PeerInterrupted, PeerLost,
    PeerOf, PeerRejoined, PeerResumed, PeerStats,
};
pub use settings::{NetplayNetwork, NetplaySettings};

/// What most games need.
pub mod prelude {
    pub use crate::{
        AddNetMessage, BrowseLobbies, Conditions, EndMatch, FoundLobbies, HostChanged, JoinLobby,
        Lane, LaneConfig, LaneKind, LinkConditioner, LinkState, Lobby, LobbyAnswered, LobbyChat,
        LobbyCode, LobbyDetails, LobbyFailed, LobbyInvited, LobbyJoined, LobbyOffline, LobbyPeers,
        LobbyRequests, LobbySearch, LobbyStart, Match, MatchBegins, MatchGoesOn, MatchHeld,
        MatchTick, NetTick, NetWriter, NetplayPlugins, NetplaySettings, NetplaySystems, PauseMatch,
        Peer, PeerConnected, PeerDisconnected, PeerId, PeerInterrupted, PeerLost, PeerOf,
        PeerRejoined, PeerResumed, PeerStats, Received, ResumeMatch, StartFailed, StartMatch,
        StartStep, SyncState, SyncStatus,
    };
}

/// Where the plugin does its work.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetplaySystems {
    /// In `PreUpdate`: events are triggered, messages written.
    Receive,
    /// In `PostUpdate`, and in a match in `FixedLast` too: what was written leaves.
    Send,
}

/// Everything a game needs: [`NetplayPlugin`] and [`NetplayDiagnosticsPlugin`].
#[derive(Clone, Debug)]
pub struct NetplayPlugins {
    settings: NetplaySettings,
}

impl NetplayPlugins {
    /// For the game with this name; players of different games never meet.
    pub fn new(game: impl Into<String>) -> Self {
        Self { settings: NetplaySettings::new(game) }
    }

    /// The build that all players of a match must share.
    #[must_use]
    pub fn build_id(mut self, build: impl Into<String>) -> Self {
        self.settings.build = build.into();
        self
    }

    /// The lobby server, `ws://HOST[:PORT]`, or `wss://HOST[:PORT]` by TLS.
    #[must_use]
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.settings.server = server.into();
        self
    }

    /// A certificate (PEM) that a `wss://` server may have besides those of the authorities that browsers know: the
    /// server's own, or that of an authority of yours. The last one given counts; it may hold several.
    #[must_use]
    pub fn trust_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.trusted_certificates = Some(pem.into());
        self
    }

    /// Where the secret is kept with which this game, killed and started again, is back in its seat.
    #[must_use]
    pub fn resume_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.resume_file = Some(path.into());
        self
    }

    /// All players run on this machine.
    #[must_use]
    pub const fn on_this_machine(mut self) -> Self {
        self.settings.addresses = Addresses::Loopback;
        self
    }

    /// Bad conditions for the links to all peers, connecting included.
    #[must_use]
    pub fn conditioner(mut self, conditioner: LinkConditioner) -> Self {
        self.settings.conditioner = Some(conditioner);
        self
    }
}

impl PluginGroup for NetplayPlugins {
    fn build(self) -> PluginGroupBuilder {
        PluginGroupBuilder::start::<Self>()
            .add(NetplayPlugin { settings: self.settings })
            .add(NetplayDiagnosticsPlugin)
    }
}

/// Lobbies, links and messages.
#[derive(Clone, Debug)]
pub struct NetplayPlugin {
    settings: NetplaySettings,
}

impl Plugin for NetplayPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(self.settings.clone())
            .init_resource::<message::MessageRegistry>()
            .init_resource::<message::SendCounts>()
            .register_type::<LinkState>()
            .register_type::<LobbyConnection>()
            .init_resource::<MatchTick>()
            .init_resource::<match_time::FixedLoop>()
            .register_type::<SyncStatus>()
            .add_observer(match_time::start_match)
            .add_observer(match_time::end_match)
            .add_observer(match_time::pause_match)
            .add_observer(match_time::resume_match)
            .add_observer(lifecycle::peer_despawned)
            .add_systems(
                PreUpdate,
                (
                    receive::open_sessions,
                    lobby::browse::browse,
                    receive::receive,
                    match_time::refresh_status,
                    away::pause_while_away,
                )
                    .chain()
                    .in_set(NetplaySystems::Receive),
            )
            .add_systems(
                RunFixedMainLoop,
                (
                    match_time::drive.in_set(RunFixedMainLoopSystems::BeforeFixedMainLoop),
                    match_time::restore.in_set(RunFixedMainLoopSystems::AfterFixedMainLoop),
                )
                    .run_if(resource_exists::<Time<Fixed>>),
            )
            .add_systems(FixedFirst, match_time::count_tick.run_if(match_time::in_tick))
            .add_systems(
                FixedLast,
                receive::flush_tick.in_set(NetplaySystems::Send).run_if(match_time::in_tick),
            )
            .add_systems(
                PostUpdate,
                (conditioner::condition, receive::flush_frame, receive::refresh_stats)
                    .chain()
                    .in_set(NetplaySystems::Send),
            );
    }

    fn finish(&self, app: &mut App) {
        app.world_mut().resource_mut::<message::MessageRegistry>().number();
    }
}
