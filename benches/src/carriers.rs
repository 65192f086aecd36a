//! `carriers`: which part of WebRTC carries datagrams best.

use serde::Serialize;

use crate::Result;
use crate::cells::{self, Amount, Cell, Measured, Outcome, Pattern, Thin};
use crate::delivery::Way;
use crate::report::{self, Row};
use crate::stats::rounded;

const WAYS: [Way; 4] =
    [Way::DcNoRetransmits, Way::DcLifetime40, Way::DcLifetime40Mtu4000, Way::Rtp];
const SIZES: [usize; 4] = [100, 200, 400, 1100];
const LOSSES_PCT: [u32; 6] = [0, 1, 2, 5, 10, 20];
const RTTS_MS: [u32; 3] = [30, 120, 250];
const THIN: Thin = Thin { kbit_per_s: 256, queue_ms: 250 };

/// One carrier on one link.
#[derive(Serialize)]
pub struct CarrierRow {
    carrier: &'static str,
    size: usize,
    copies: u32,
    loss_pct: u32,
    pattern: &'static str,
    rtt_ms: u32,
    rate_kbit: Option<u32>,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
    delivered_pct: f64,
    worst_gap: u64,
    udp_packets_per_msg: f64,
}

impl Row for CarrierRow {
    const COLUMNS: &'static [&'static str] = &[
        "carrier",
        "size",
        "copies",
        "loss_pct",
        "pattern",
        "rtt_ms",
        "rate_kbit",
        "p50_ms",
        "p90_ms",
        "p99_ms",
        "delivered_pct",
        "worst_gap",
        "udp_packets_per_msg",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.carrier.to_owned(),
            self.size.to_string(),
            self.copies.to_string(),
            self.loss_pct.to_string(),
            self.pattern.to_owned(),
            self.rtt_ms.to_string(),
            self.rate_kbit.map_or_else(|| "-".to_owned(), |rate| rate.to_string()),
            report::optional(self.p50_ms, 1),
            report::optional(self.p90_ms, 1),
            report::optional(self.p99_ms, 1),
            format!("{:.1}", self.delivered_pct),
            self.worst_gap.to_string(),
            format!("{:.2}", self.udp_packets_per_msg),
        ]
    }
}

impl From<(Cell, Outcome)> for CarrierRow {
    fn from((cell, outcome): (Cell, Outcome)) -> Self {
        Self {
            carrier: cell.way.name(),
            size: cell.size,
            copies: cell.copies,
            loss_pct: cell.loss_pct,
            pattern: cell.pattern.name(),
            rtt_ms: cell.rtt_ms,
            rate_kbit: cell.thin.map(|thin| thin.kbit_per_s),
            p50_ms: outcome.p50_ms,
            p90_ms: outcome.p90_ms,
            p99_ms: outcome.p99_ms,
            delivered_pct: outcome.delivered_pct(),
            worst_gap: outcome.worst_gap,
            udp_packets_per_msg: rounded(outcome.udp_packets as f64 / outcome.sent as f64),
        }
    }
}

/// Measures all carriers and prints them.
///
/// # Errors
///
/// If a cell failed; the table has the others.
pub fn run(quick: bool, json: bool, amount: Amount) -> Result<()> {
    let links = if quick { quick_links() } else { all_links() };
    // The carriers of one link are neighbours, so that they are measured at the same time.
    let all: Vec<Cell> = links
        .into_iter()
        .flat_map(|link| WAYS.into_iter().map(move |way| Cell { way, ..link }))
        .collect();
    let Measured { rows, result } = cells::run(&all, amount)?;
    let rows: Vec<CarrierRow> = rows.into_iter().map(CarrierRow::from).collect();
    report::print("carriers", &rows, json)?;
    result
}

/// The carrier is filled in later.
fn link(size: usize, loss_pct: u32, pattern: Pattern, rtt_ms: u32) -> Cell {
    Cell { way: Way::Rtp, size, copies: 1, loss_pct, pattern, rtt_ms, thin: None, repeat: 0 }
}

/// What tells most within two minutes.
fn quick_links() -> Vec<Cell> {
    let mut links = Vec::new();
    for size in [200, 1100] {
        for (loss_pct, rtt_ms) in [(0, 30), (5, 30), (2, 120), (5, 120)] {
            links.push(link(size, loss_pct, Pattern::Random, rtt_ms));
        }
        links.push(link(size, 5, Pattern::Burst, 120));
    }
    links.push(link(400, 5, Pattern::Random, 120));
    links.push(Cell { thin: Some(THIN), ..link(400, 0, Pattern::Random, 30) });
    links.push(Cell { copies: 2, ..link(200, 5, Pattern::Random, 30) });
    links
}

fn all_links() -> Vec<Cell> {
    let mut links = Vec::new();
    for rtt_ms in RTTS_MS {
        for size in SIZES {
            for loss_pct in LOSSES_PCT {
                links.push(link(size, loss_pct, Pattern::Random, rtt_ms));
                if loss_pct > 0 {
                    links.push(link(size, loss_pct, Pattern::Burst, rtt_ms));
                }
            }
        }
    }
    for rtt_ms in [30, 120] {
        for size in SIZES {
            for loss_pct in [0, 2] {
                let thin = Some(THIN);
                links.push(Cell { thin, ..link(size, loss_pct, Pattern::Random, rtt_ms) });
            }
        }
        // Two messages of 1100 B fit into no packet.
        for size in [100, 200, 400] {
            for loss_pct in [5, 10, 20] {
                for pattern in [Pattern::Random, Pattern::Burst] {
                    links.push(Cell { copies: 2, ..link(size, loss_pct, pattern, rtt_ms) });
                }
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_measured_twice() {
        for links in [quick_links(), all_links()] {
            let mut seen: Vec<String> = links.iter().map(|link| format!("{link:?}")).collect();
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), links.len());
        }
    }
}
