//! `netplay-bench lobby --hostile`: what honest players notice of those that mean harm.

use std::time::Instant;

use crate::report::{self, count, name, number, progress};
use crate::run::Plan;
use crate::serve::Limits;
use crate::stats::{Histogram, median};
use crate::team::{Processors, Team};
use crate::worker::{AttackCount, Command, Reply};
use crate::{Kind, Options, Result, half};

/// Acts of attackers for each signal of an honest player.
const SHARE: f64 = 0.25;

/// Fewer honest clients than these need more than the server's default of signals.
const MANY: usize = 1000;

/// What each of them sends in a second at most: less than a server allows, 50 of them behind one address included.
const EACH_PER_SECOND: f64 = 80.0;

/// Honest connections, if nothing else is asked for.
const CONNECTIONS: usize = 2000;

#[derive(Default)]
struct Side {
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    second_p99_ms: Vec<f64>,
    late: Histogram,
    refused: u64,
    lost: u64,
    missing: u64,
}

impl Side {
    fn add(&mut self, reply: &Reply) {
        self.p50_ms.extend(reply.latency.percentile_ms(50.0));
        self.p99_ms.extend(reply.latency.percentile_ms(99.0));
        self.second_p99_ms.extend(reply.second_p99_ms);
        self.late.merge(&reply.late);
        self.refused += reply.refused;
        self.lost += reply.lost;
        self.missing += reply.missing;
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut plan = Plan::new(options);
    let default = if options.quick { plan.connections } else { CONNECTIONS };
    plan.connections = options.connections.map_or(default, |connections| connections as usize);
    let (began, clients) = (Instant::now(), plan.talking(Kind::Netplay));
    // Attackers meet the limits of every server, if the honest are enough to keep within them.
    let limits = if clients < MANY { Limits::Raised } else { Limits::Default };
    let mut team = Team::start(Kind::Netplay, Processors::choose(), limits)?;
    team.open(plan.connections)?;
    team.ask(&Command::Pair { clients }, plan.time)?;
    let per_second = half::find(&mut team, clients)?.unwrap_or(f64::INFINITY);
    let per_second = per_second.min(clients as f64 * EACH_PER_SECOND);
    let acts = per_second * SHARE;
    progress(began, &format!("{per_second:.0} honest signals/s; attackers: {acts:.0} acts/s"));
    let (mut without, mut with) = (Side::default(), Side::default());
    let mut attacks: Vec<AttackCount> = Vec::new();
    let paced = Command::Paced { clients, per_second, ms: plan.ms() };
    for round in 1..=plan.rounds {
        progress(began, &format!("round {round} of {}", plan.rounds));
        without.add(&team.ask(&paced, plan.time)?.reply);
        team.ask(&Command::Attack { per_second: acts }, plan.time)?;
        let reply = team.ask(&paced, plan.time)?.reply;
        if let Some(why) = &reply.last_failure {
            progress(began, &format!("  trouble of an honest player: {why}"));
        }
        with.add(&reply);
        add(&mut attacks, team.ask(&Command::Peace, plan.time)?.reply.attacks);
    }
    // Rounds are compared each for itself: this machine is another one in the next.
    let worse = with.p99_ms.iter().zip(&without.p99_ms).map(|(with, without)| with / without);
    let worse = median(worse);
    let sides = [("without", without, 0.0, None), ("with", with, acts, worse)];
    let rows = sides.map(|(side, values, acts, worse)| {
        vec![
            ("attackers", name(side)),
            ("honest_per_s", number(Some(per_second))),
            ("attacks_per_s", number(Some(acts))),
            ("p50_ms", number(median(values.p50_ms))),
            ("p99_ms", number(median(values.p99_ms))),
            ("x_without", number(worse)),
            ("second_p99_ms", number(median(values.second_p99_ms))),
            ("late_p99_ms", number(values.late.percentile_ms(99.0))),
            ("refused", count(values.refused)),
            ("lost", count(values.lost)),
            ("missing", count(values.missing)),
        ]
    });
    let attacks = attacks.into_iter().map(|attack| {
        vec![
            ("attack", name(attack.attack)),
            ("connections", count(attack.connections)),
            ("messages", count(attack.messages)),
            ("refused", count(attack.refused)),
            ("closed", count(attack.closed)),
            ("harmed", count(attack.harmed)),
        ]
    });
    let tables = [("rows", rows.to_vec()), ("attacks", attacks.collect())];
    report::print("lobby_hostile", &tables, options.json)
}

fn add(all: &mut Vec<AttackCount>, more: Vec<AttackCount>) {
    if all.is_empty() {
        *all = more;
        return;
    }
    for (all, more) in all.iter_mut().zip(more) {
        all.connections += more.connections;
        all.messages += more.messages;
        all.refused += more.refused;
        all.closed += more.closed;
        all.harmed += more.harmed;
    }
}
