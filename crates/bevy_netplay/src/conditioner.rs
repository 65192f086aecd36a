//! Bad network conditions for a peer, as a component.

use bevy_ecs::prelude::*;
use netplay_transport::Conditions;

use crate::lobby::LobbySession;
use crate::peer::{Peer, PeerOf};

/// Makes the link to a peer worse than it is: insert it on a [`Peer`] entity, change it, remove it;
/// each acts at the end of the frame, and the link lives on. For trying a game at home under the
/// conditions of its players.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::prelude::*;
/// fn as_on_a_phone(event: On<PeerConnected>, mut commands: Commands) {
///     let conditioner = LinkConditioner::new(Conditions::mobile());
///     commands.entity(event.entity).insert(conditioner);
/// }
/// fn and_worse(mut conditioners: Query<&mut LinkConditioner>) {
///     for mut conditioner in &mut conditioners {
///         conditioner.outgoing = Conditions::mobile().with_loss(0.2);
///     }
/// }
/// fn from_a_flag(text: &str, mut commands: Commands, peer: Entity) -> Result {
///     let conditions = text.parse()?; // "bad-hotel", or "delay=40ms,jitter=10ms,loss=5%"
///     commands.entity(peer).insert(LinkConditioner::new(conditions));
///     Ok(())
/// }
/// ```
///
/// To condition all peers, connecting included, see
/// [`NetplaySettings::conditioner`](crate::NetplaySettings); they have this component then.
///
/// It works on the packets below encryption, and on top of what the real path does: where both
/// players condition both directions, every packet suffers twice. Times are released by a timer of
/// whole milliseconds. A link without this component pays nothing.
#[derive(Component, Clone, Debug, Default, PartialEq)]
pub struct LinkConditioner {
    /// What happens to packets that we send.
    pub outgoing: Conditions,
    /// What happens to packets that we receive.
    pub incoming: Conditions,
    /// Where the random numbers come from; each link and direction gets its own from this. It counts
    /// when the component is inserted; a change of it alone changes nothing.
    pub seed: u64,
}

impl LinkConditioner {
    /// The same conditions in both directions: a round trip pays every delay twice.
    pub fn new(conditions: Conditions) -> Self {
        Self { outgoing: conditions.clone(), incoming: conditions, seed: 0 }
    }

    /// For what we send only. Where all players do so, every packet suffers once.
    pub fn outgoing(conditions: Conditions) -> Self {
        Self { outgoing: conditions, ..Self::default() }
    }

    /// With another seed than 0.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

impl From<LinkConditioner> for netplay_transport::LinkConditioner {
    fn from(conditioner: LinkConditioner) -> Self {
        let LinkConditioner { outgoing, incoming, seed } = conditioner;
        Self { outgoing, incoming, seed }
    }
}

/// What the network thread was last told about a peer; `None` before it was told anything.
#[derive(Component, Debug, Default)]
pub(crate) struct ToldConditioner(Option<Option<LinkConditioner>>);

/// Tells the network thread what has changed.
pub(crate) fn condition(
    lobbies: Query<&LobbySession>,
    mut peers: Query<(&Peer, &PeerOf, Option<&LinkConditioner>, &mut ToldConditioner)>,
) {
    for (peer, lobby, wanted, mut told) in &mut peers {
        if told.0.as_ref().is_some_and(|told| told.as_ref() == wanted) {
            continue;
        }
        let Ok(session) = lobbies.get(lobby.0) else {
            continue;
        };
        match session.lock().condition(peer.id, wanted.cloned().map(Into::into)) {
            Ok(()) => told.0 = Some(wanted.cloned()),
            // The next frame tries again.
            Err(error) => tracing::debug!(peer = ?peer.id, %error, "a link was not conditioned"),
        }
    }
}
