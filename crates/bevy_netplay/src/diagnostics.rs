//! The links' statistics in Bevy's own diagnostics, for its overlay and its log.

use bevy_app::{App, Plugin, PostUpdate};
use bevy_diagnostic::{Diagnostic, DiagnosticPath, Diagnostics, RegisterDiagnostic};
use bevy_ecs::prelude::*;

use crate::NetplaySystems;
use crate::match_time::{Match, SyncState, SyncStatus};
use crate::peer::{LinkState, Peer, PeerStats};
use crate::rollback::RollbackStatus;

/// Smoothed round-trip time in milliseconds, mean over all peers.
pub const RTT: DiagnosticPath = DiagnosticPath::const_new("netplay/rtt");
/// Jitter of the round-trip time in milliseconds, mean over all peers.
pub const JITTER: DiagnosticPath = DiagnosticPath::const_new("netplay/jitter");
/// Loss in percent, mean over all peers.
pub const LOSS: DiagnosticPath = DiagnosticPath::const_new("netplay/loss");
/// Connected peers.
pub const PEERS: DiagnosticPath = DiagnosticPath::const_new("netplay/peers");
/// Game messages sent since the start, to peers that are still there.
pub const MESSAGES_SENT: DiagnosticPath = DiagnosticPath::const_new("netplay/messages_sent");
/// Game messages received since the start, from peers that are still there.
pub const MESSAGES_RECEIVED: DiagnosticPath =
    DiagnosticPath::const_new("netplay/messages_received");

/// How far our copy of the shared clock is behind the median of all, in milliseconds.
pub const CLOCK_ERROR: DiagnosticPath = DiagnosticPath::const_new("netplay/clock_error");
/// About how well the other players' clocks are known, in milliseconds.
pub const CLOCK_UNCERTAINTY: DiagnosticPath =
    DiagnosticPath::const_new("netplay/clock_uncertainty");
/// In a match: how far our game is behind the shared clock, in milliseconds.
pub const TICK_ERROR: DiagnosticPath = DiagnosticPath::const_new("netplay/tick_error");
/// In a rolled-back match: ticks that were run again in the frame.
pub const ROLLBACK_DEPTH: DiagnosticPath = DiagnosticPath::const_new("netplay/rollback_depth");
/// In a rolled-back match: ticks that ran on guesses and are not final.
pub const PREDICTED: DiagnosticPath = DiagnosticPath::const_new("netplay/predicted_ticks");

/// Measures [`RTT`], [`JITTER`], [`LOSS`], [`PEERS`], [`MESSAGES_SENT`], [`MESSAGES_RECEIVED`],
/// [`CLOCK_ERROR`], [`CLOCK_UNCERTAINTY`], [`TICK_ERROR`], [`ROLLBACK_DEPTH`] and [`PREDICTED`] every frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetplayDiagnosticsPlugin;

impl Plugin for NetplayDiagnosticsPlugin {
    fn build(&self, app: &mut App) {
        app.register_diagnostic(Diagnostic::new(RTT).with_suffix(" ms"))
            .register_diagnostic(Diagnostic::new(JITTER).with_suffix(" ms"))
            .register_diagnostic(Diagnostic::new(LOSS).with_suffix(" %"))
            .register_diagnostic(Diagnostic::new(PEERS))
            .register_diagnostic(Diagnostic::new(MESSAGES_SENT))
            .register_diagnostic(Diagnostic::new(MESSAGES_RECEIVED))
            .register_diagnostic(Diagnostic::new(CLOCK_ERROR).with_suffix(" ms"))
            .register_diagnostic(Diagnostic::new(CLOCK_UNCERTAINTY).with_suffix(" ms"))
            .register_diagnostic(Diagnostic::new(TICK_ERROR).with_suffix(" ms"))
            .register_diagnostic(Diagnostic::new(ROLLBACK_DEPTH).with_suffix(" ticks"))
            .register_diagnostic(Diagnostic::new(PREDICTED).with_suffix(" ticks"))
            .add_systems(
                PostUpdate,
                (measure, measure_clock, measure_rollback).after(NetplaySystems::Send),
            );
    }
}

fn measure_clock(mut diagnostics: Diagnostics, lobbies: Query<(&SyncStatus, Has<Match>)>) {
    let Some((status, in_match)) = lobbies.iter().next() else { return };
    if status.state == SyncState::NoClock {
        return;
    }
    diagnostics.add_measurement(&CLOCK_ERROR, || status.clock_error_ms.into());
    diagnostics.add_measurement(&CLOCK_UNCERTAINTY, || status.uncertainty.as_secs_f64() * 1000.0);
    if in_match {
        diagnostics.add_measurement(&TICK_ERROR, || status.tick_error_ms.into());
    }
}

fn measure_rollback(
    mut diagnostics: Diagnostics,
    lobbies: Query<&RollbackStatus>,
    mut before: Local<u64>,
) {
    let Some(status) = lobbies.iter().next() else { return };
    let again = status.stats.resimulated;
    let depth = again.saturating_sub(core::mem::replace(&mut *before, again));
    diagnostics.add_measurement(&ROLLBACK_DEPTH, || depth as f64);
    let predicted = status.simulated - 1 - status.confirmed;
    diagnostics.add_measurement(&PREDICTED, || predicted.max(0).into());
}

fn measure(mut diagnostics: Diagnostics, peers: Query<(&PeerStats, &LinkState), With<Peer>>) {
    let mut count = 0_u32;
    let (mut rtt, mut jitter, mut loss, mut sent, mut received) = (0.0, 0.0, 0.0, 0, 0);
    for (stats, state) in &peers {
        if !state.is_open() {
            continue;
        }
        count += 1;
        rtt += stats.rtt().unwrap_or_default().as_secs_f64() * 1000.0;
        jitter += stats.link.jitter.as_secs_f64() * 1000.0;
        loss += f64::from(stats.link.loss) * 100.0;
        sent += stats.messages_sent;
        received += stats.messages_received;
    }
    diagnostics.add_measurement(&PEERS, || count.into());
    if count == 0 {
        return;
    }
    let mean = |sum: f64| sum / f64::from(count);
    diagnostics.add_measurement(&RTT, || mean(rtt));
    diagnostics.add_measurement(&JITTER, || mean(jitter));
    diagnostics.add_measurement(&LOSS, || mean(loss));
    diagnostics.add_measurement(&MESSAGES_SENT, || sent as f64);
    diagnostics.add_measurement(&MESSAGES_RECEIVED, || received as f64);
}
