//! `netplay-bench lobby --soak`: whether the server grows while lobbies come and go.

use std::time::{Duration, Instant};

use crate::report::{self, Row, count, name, number, progress};
use crate::run::JOINS_AT_ONCE;
use crate::serve::Limits;
use crate::team::{Processors, Team};
use crate::worker::Command;
use crate::{Kind, Options, Result};

/// Clients, if nothing else is asked for: so many may join 5000 times a second within the server's limits.
const CONNECTIONS: usize = 5000;

/// Parts of a run, after each of which memory is read.
const PARTS: u64 = 20;

/// Before them, at least one for each connection.
const WARM_UP_PARTS: u64 = 4;

/// No part takes longer than this and this for each cycle, however slow the machine; few clients have to wait
/// for each other.
const PART_MAX: Duration = Duration::from_secs(60);
const CYCLE_MAX: Duration = Duration::from_millis(20);

/// By how many per cent memory may grow after the warm-up, in so many cycles: pages that the allocator keeps. In
/// a million it was none, and 6 % when clients confirmed their frames every 5 s only.
const DRIFT_MAX: f64 = 10.0;
const DRIFT_FROM: u64 = 100_000;

pub(crate) fn run(options: &Options, cycles: u64) -> Result<()> {
    let began = Instant::now();
    let connections = options.connections.map_or(CONNECTIONS, |connections| connections as usize);
    let mut team = Team::start(Kind::Netplay, Processors::choose(), Limits::Default)?;
    team.open(connections)?;
    let mut rows: Vec<Row> = Vec::new();
    let mut first = None;
    let (mut troubles, mut drift) = (0, 0.0);
    for part in 0..=PARTS {
        // The warm-up is longer: what sessions keep until their next keep-alive has its full size then.
        let parts = if part == 0 { WARM_UP_PARTS } else { 1 };
        let cycles = (cycles / PARTS * parts).max(connections as u64);
        let time = PART_MAX + CYCLE_MAX * u32::try_from(cycles).unwrap_or(u32::MAX);
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let at_once = JOINS_AT_ONCE;
        let reply = team.ask(&Command::Joins { at_once, cycles, ms }, time)?.reply;
        if let Some(why) = &reply.last_failure {
            progress(began, &format!("trouble: {why}"));
        }
        let usage = team.usage();
        let base = *first.get_or_insert(usage.rss_kib);
        drift = (usage.rss_kib / base - 1.0) * 100.0;
        troubles += reply.refused + reply.lost;
        progress(began, &format!("part {part} of {PARTS}: {:.0} KiB", usage.rss_kib));
        rows.push(vec![
            ("part", name(if part == 0 { "warm_up".to_owned() } else { part.to_string() })),
            ("cycles", count(reply.count)),
            ("joins_per_s", number(Some(reply.count as f64 / reply.secs))),
            ("held_up_s", number(Some(reply.held_up_secs))),
            ("rss_kib", number(Some(usage.rss_kib))),
            ("files", count(usage.files)),
            ("drift_pct", number(Some(drift))),
            ("refused", count(reply.refused)),
            ("lost", count(reply.lost)),
        ]);
    }
    report::print("lobby_soak", &[("rows", rows)], options.json)?;
    if troubles > 0 {
        return Err(format!("{troubles} requests were refused or lost").into());
    }
    if cycles >= DRIFT_FROM && drift > DRIFT_MAX {
        return Err(format!("memory grew by {drift:.1} %, more than {DRIFT_MAX} %").into());
    }
    Ok(())
}
