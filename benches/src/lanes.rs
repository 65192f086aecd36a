//! `lanes`: what a stream of small messages meets on a bad link.

use netplay_protocol::Lane;
use serde::Serialize;

use crate::Result;
use crate::cells::{self, Amount, Cell, Measured, Outcome, Pattern};
use crate::delivery::Way;
use crate::report::{self, Row};
use crate::stats::{median, rounded};

const WAYS: [Way; 8] = [
    Way::Netplay(Lane::Reliable),
    Way::Netplay(Lane::Unreliable),
    Way::Netplay(Lane::Sequenced),
    Way::Netplay(Lane::Bulk),
    Way::WebrtcReliable,
    Way::WebrtcUnreliable,
    Way::MatchboxReliable,
    Way::QuinnStream,
];
const SIZE: usize = 200;

/// One stack on one link: medians over the repeats.
#[derive(Serialize)]
pub struct LaneRow {
    stack: &'static str,
    loss_pct: u32,
    pattern: &'static str,
    rtt_ms: u32,
    size: usize,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    delivered_pct: f64,
    lost: u64,
    udp_packets_per_s: f64,
    wire_bytes_per_s: f64,
    repeats: usize,
}

impl Row for LaneRow {
    const COLUMNS: &'static [&'static str] = &[
        "stack",
        "loss_pct",
        "pattern",
        "rtt_ms",
        "size",
        "p50_ms",
        "p99_ms",
        "delivered_pct",
        "lost",
        "udp_packets_per_s",
        "wire_bytes_per_s",
        "repeats",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stack.to_owned(),
            self.loss_pct.to_string(),
            self.pattern.to_owned(),
            self.rtt_ms.to_string(),
            self.size.to_string(),
            report::optional(self.p50_ms, 1),
            report::optional(self.p99_ms, 1),
            format!("{:.2}", self.delivered_pct),
            self.lost.to_string(),
            format!("{:.1}", self.udp_packets_per_s),
            format!("{:.0}", self.wire_bytes_per_s),
            self.repeats.to_string(),
        ]
    }
}

impl LaneRow {
    fn new(cell: &Cell, outcomes: &[&Outcome]) -> Self {
        let of = |value: &dyn Fn(&Outcome) -> f64| {
            median(outcomes.iter().map(|outcome| value(outcome))).map_or(0.0, rounded)
        };
        let delay = |value: &dyn Fn(&Outcome) -> Option<f64>| {
            median(outcomes.iter().filter_map(|outcome| value(outcome))).map(rounded)
        };
        // The counters are of both directions.
        let per_s = |outcome: &Outcome, count: u64| count as f64 / 2.0 / outcome.seconds();
        Self {
            stack: cell.way.name(),
            loss_pct: cell.loss_pct,
            pattern: cell.pattern.name(),
            rtt_ms: cell.rtt_ms,
            size: cell.size,
            p50_ms: delay(&|outcome| outcome.p50_ms),
            p99_ms: delay(&|outcome| outcome.p99_ms),
            delivered_pct: of(&Outcome::delivered_pct),
            lost: outcomes.iter().map(|outcome| outcome.lost).sum(),
            udp_packets_per_s: of(&|outcome| per_s(outcome, outcome.udp_packets)),
            wire_bytes_per_s: of(&|outcome| per_s(outcome, outcome.wire_bytes)),
            repeats: outcomes.len(),
        }
    }
}

/// Measures all stacks and prints them.
///
/// # Errors
///
/// If a cell failed; the table has the others.
pub fn run(quick: bool, json: bool, repeats: u32, amount: Amount) -> Result<()> {
    let links = if quick { quick_links() } else { all_links() };
    let cells: Vec<Cell> = links
        .into_iter()
        .flat_map(|(loss_pct, pattern, rtt_ms)| {
            let link = Cell {
                way: Way::QuinnStream,
                size: SIZE,
                copies: 1,
                loss_pct,
                pattern,
                rtt_ms,
                thin: None,
                repeat: 0,
            };
            WAYS.into_iter().map(move |way| Cell { way, ..link })
        })
        .collect();
    // The stacks of one link are neighbours, so that they are measured at the same time.
    let all: Vec<Cell> = (0..repeats)
        .flat_map(|repeat| cells.iter().map(move |cell| Cell { repeat, ..*cell }))
        .collect();
    let Measured { rows: measured, result } = cells::run(&all, amount)?;
    let rows = cells.iter().filter_map(|cell| {
        let of_cell = |(other, _): &&(Cell, Outcome)| Cell { repeat: 0, ..*other } == *cell;
        let outcomes: Vec<_> =
            measured.iter().filter(of_cell).map(|(_, outcome)| outcome).collect();
        (!outcomes.is_empty()).then(|| LaneRow::new(cell, &outcomes))
    });
    report::print("lanes", &rows.collect::<Vec<_>>(), json)?;
    result
}

fn quick_links() -> Vec<(u32, Pattern, u32)> {
    [0, 5, 10].map(|loss_pct| (loss_pct, Pattern::Random, 30)).to_vec()
}

fn all_links() -> Vec<(u32, Pattern, u32)> {
    let mut links = Vec::new();
    for rtt_ms in [30, 120] {
        for loss_pct in [0, 2, 5, 10] {
            links.push((loss_pct, Pattern::Random, rtt_ms));
            if loss_pct > 0 {
                links.push((loss_pct, Pattern::Burst, rtt_ms));
            }
        }
    }
    links
}
