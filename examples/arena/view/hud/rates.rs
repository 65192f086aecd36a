//! Messages per second of each link, over the last second.

use std::collections::VecDeque;

use bevy::prelude::*;
use bevy_netplay::PeerStats;
use bevy_netplay::prelude::*;

/// Seconds between two samples.
const EVERY: f32 = 0.125;
/// Seconds over which is counted.
const OVER: f32 = 1.0;

struct Sample {
    at: f32,
    sent: u64,
    received: u64,
}

/// The counters of a link as they were, oldest first.
#[derive(Component, Default)]
pub struct Rates(VecDeque<Sample>);

pub fn plugin(app: &mut App) {
    app.register_required_components::<Peer, Rates>().add_systems(PreUpdate, measure);
}

impl Rates {
    fn per_second(&self, count: impl Fn(&Sample) -> u64) -> f32 {
        match (self.0.front(), self.0.back()) {
            (Some(old), Some(new)) if new.at > old.at => {
                count(new).saturating_sub(count(old)) as f32 / (new.at - old.at)
            }
            _ => 0.0,
        }
    }

    /// Messages sent per second.
    pub fn sent(&self) -> f32 {
        self.per_second(|sample| sample.sent)
    }

    /// Messages received per second.
    pub fn received(&self) -> f32 {
        self.per_second(|sample| sample.received)
    }
}

fn measure(mut links: Query<(&PeerStats, &mut Rates)>, time: Res<Time<Real>>) {
    let at = time.elapsed_secs();
    for (stats, mut rates) in &mut links {
        if rates.0.back().is_some_and(|last| at - last.at < EVERY) {
            continue;
        }
        let sample = Sample { at, sent: stats.messages_sent, received: stats.messages_received };
        rates.0.push_back(sample);
        // One sample that is older than the span stays, so that the span is covered.
        while rates.0.get(1).is_some_and(|next| at - next.at >= OVER) {
            rates.0.pop_front();
        }
    }
}
