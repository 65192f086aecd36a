//! Whether all players simulate the same game, and at what cost: for the summary.

use std::collections::BTreeMap;

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::RollbackStatus;
use netplay_examples::{Findings, playing};

/// What was sent while play lasted.
#[derive(Resource, Default)]
struct Sent {
    /// What each link has counted. To a peer that comes back there is another one, which counts from zero.
    of_links: BTreeMap<Entity, u64>,
    datagrams: u64,
    /// The sum of the times that the links were open.
    link_seconds: f64,
    /// Bytes of inputs when play began.
    bytes_before: Option<u64>,
}

pub fn plugin(app: &mut App) {
    app.init_resource::<Sent>().add_systems(Update, note.run_if(playing));
}

fn note(
    status: Single<&RollbackStatus>,
    links: Query<(Entity, &LinkState, &PeerStats)>,
    time: Res<Time<Real>>,
    mut sent: ResMut<Sent>,
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

    for (peer, link, of) in &links {
        let now = of.link.datagrams_sent;
        let before = sent.of_links.insert(peer, now).unwrap_or(now);
        sent.datagrams += now.checked_sub(before).unwrap_or(now);
        if link.is_open() {
            sent.link_seconds += time.delta_secs_f64();
        }
    }
    let bytes_before = *sent.bytes_before.get_or_insert(stats.block_bytes);
    if sent.link_seconds > 0.0 {
        let packets = sent.datagrams as f64 / sent.link_seconds;
        let bytes = (stats.block_bytes - bytes_before) as f64 / sent.link_seconds;
        findings.mean.insert("packets_per_s".into(), packets);
        findings.mean.insert("input_bytes_per_s".into(), bytes);
    }
}
