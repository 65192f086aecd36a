//! Whether all players simulate the same game, and at what cost: for the summary.

use std::time::Instant;

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::RollbackStatus;
use netplay_examples::{Findings, playing};

/// What was counted when play began.
#[derive(Resource, Default)]
struct Start(Option<(Instant, u64, u64)>);

pub fn plugin(app: &mut App) {
    app.init_resource::<Start>().add_systems(Update, note.run_if(playing));
}

fn note(
    status: Single<&RollbackStatus>,
    peers: Query<&PeerStats>,
    mut start: ResMut<Start>,
    mut findings: ResMut<Findings>,
) {
    if let Some((tick, checksum)) = status.checksum {
        findings.checksums.insert(tick.unsigned_abs(), checksum);
    }
    let stats = status.stats;
    let (counted, most) = (&mut findings.counted, [("max_rollback", u64::from(stats.deepest))]);
    for (name, count) in [
        ("rollbacks", stats.rollbacks),
        ("ticks_again", stats.resimulated),
        ("ticks_waited", stats.stalled),
        ("inputs_refused", stats.refused.total()),
    ] {
        counted.insert(name.into(), count);
    }
    findings.most.extend(most.map(|(name, count)| (name.to_owned(), count)));
    let confirmed = u64::try_from(status.confirmed + 1).unwrap_or(0);
    findings.least.insert("confirmed_ticks".into(), confirmed);

    let datagrams: u64 = peers.iter().map(|peer| peer.link.datagrams_sent).sum();
    let (since, datagrams_before, bytes_before) =
        *start.0.get_or_insert((Instant::now(), datagrams, stats.block_bytes));
    let per = since.elapsed().as_secs_f64() * peers.iter().count() as f64;
    if per > 0.0 {
        let packets = datagrams.saturating_sub(datagrams_before) as f64 / per;
        let bytes = (stats.block_bytes - bytes_before) as f64 / per;
        findings.mean.insert("packets_per_s".into(), packets);
        findings.mean.insert("input_bytes_per_s".into(), bytes);
    }
}
