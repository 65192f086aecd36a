//! A colour for each player, the same on all machines.

use std::collections::{BTreeMap, BTreeSet};

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use netplay_examples::PALETTE;

/// Which player has which colour.
#[derive(Resource, Default)]
pub struct Colors(BTreeMap<PeerId, Srgba>);

pub fn plugin(app: &mut App) {
    app.init_resource::<Colors>().add_systems(PreUpdate, assign.after(NetplaySystems::Receive));
}

impl Colors {
    /// This player's colour.
    pub fn of(&self, id: PeerId) -> Srgba {
        self.0.get(&id).copied().unwrap_or(PALETTE[wanted(id)])
    }
}

fn wanted(id: PeerId) -> usize {
    (id.as_u128() % PALETTE.len() as u128) as usize
}

fn assign(lobbies: Query<&Lobby>, peers: Query<&Peer>, mut colors: ResMut<Colors>) {
    let all = lobbies.iter().map(|lobby| lobby.me).chain(peers.iter().map(|peer| peer.id));
    let all: BTreeSet<PeerId> = all.collect();
    if all.iter().eq(colors.0.keys()) {
        return;
    }
    // In the order of the ids, so that everyone comes to the same result.
    let mut taken = [false; PALETTE.len()];
    colors.0.clear();
    for id in all {
        let slots = (0..PALETTE.len()).map(|step| (wanted(id) + step) % PALETTE.len());
        let slot = slots.clone().find(|slot| !taken[*slot]).unwrap_or(wanted(id));
        taken[slot] = true;
        colors.0.insert(id, PALETTE[slot]);
    }
}
