//! Whether all players simulate the same game: checksums of what is certain, for the summary.

use std::collections::BTreeMap;

use bevy::prelude::*;
use bevy_ggrs::prelude::*;
use bevy_ggrs::{
    AdvanceWorld, ChecksumPlugin, ConfirmedFrameCount, LoadWorld, RollbackFrameCount, SaveWorld,
};
use bevy_netplay::ggrs::GgrsSockets;
use netplay_examples::{Findings, playing};

/// Frames between two that are compared.
const EVERY: i32 = 30;

/// Checksums of frames that may still be played again, and what was counted.
#[derive(Resource, Default)]
pub struct Ledger {
    open: BTreeMap<i32, u64>,
    pub rollbacks: u64,
    advanced: u64,
}

pub fn plugin(app: &mut App) {
    app.init_resource::<Ledger>()
        .add_systems(
            SaveWorld,
            note.after(ChecksumPlugin::update).after(SaveWorldSystems::Checksum),
        )
        .add_systems(LoadWorld, |mut ledger: ResMut<Ledger>| ledger.rollbacks += 1)
        .add_systems(AdvanceWorld, |mut ledger: ResMut<Ledger>| ledger.advanced += 1)
        .add_systems(Update, settle.run_if(playing));
}

/// The world is saved: at the beginning of this frame, as far as is known.
fn note(frame: Res<RollbackFrameCount>, checksum: Res<Checksum>, mut ledger: ResMut<Ledger>) {
    if frame.0 % EVERY == 0 {
        ledger.open.insert(frame.0, checksum.0 as u64);
    }
}

/// What all inputs are there for is certain.
fn settle(
    confirmed: Res<ConfirmedFrameCount>,
    frame: Res<RollbackFrameCount>,
    sockets: Res<GgrsSockets>,
    mut ledger: ResMut<Ledger>,
    mut findings: ResMut<Findings>,
) {
    let certain = confirmed.0.min(frame.0);
    while let Some(first) = ledger.open.first_entry().filter(|first| *first.key() <= certain) {
        let (frame, checksum) = first.remove_entry();
        findings.checksums.insert(frame.unsigned_abs(), checksum);
    }
    let counts = sockets.counts();
    let frames = u64::from(frame.0.unsigned_abs());
    for (name, count) in [
        ("frames", frames),
        ("rollbacks", ledger.rollbacks),
        ("frames_again", ledger.advanced.saturating_sub(frames)),
        ("ggrs_dropped", counts.dropped),
        ("ggrs_refused", counts.refused),
    ] {
        findings.counted.insert(name.into(), count);
    }
}
