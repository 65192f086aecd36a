//! What one player has seen, and the sum over all players.

use std::collections::BTreeMap;

use bevy::prelude::Resource;
use serde::{Deserialize, Serialize};

/// One link as one side of it saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkReport {
    /// The other side.
    pub peer: String,
    /// Reliable messages sent to it.
    pub reliable_sent: u64,
    /// Reliable messages received from it.
    pub reliable_received: u64,
}

/// What one player has seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Who.
    pub me: String,
    /// Whether everyone expected was connected at one time.
    pub all_connected: bool,
    /// Game messages sent, each receiver counted.
    pub messages_sent: u64,
    /// Game messages received.
    pub messages_received: u64,
    /// Links that lived to the end.
    pub links: Vec<LinkReport>,
    /// Round-trip times in microseconds, ten a second and peer.
    pub rtt_us: Vec<u32>,
    /// From finding each peer to being connected to it, in milliseconds.
    pub connect_ms: Vec<f32>,
    /// When tick 0 of the match was, by the system's clock in microseconds; nothing if there was none.
    pub tick_zero_us: Option<i64>,
    /// What the players have to agree on, by name.
    pub agreed: BTreeMap<String, i64>,
    /// What a game that all players simulate has found.
    pub findings: Findings,
}

/// What a game that all players simulate says of that simulation. Games write it.
#[derive(Resource, Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// A checksum of the state at some frames, by frame: at those that other players have too, it has to
    /// be the same.
    pub checksums: BTreeMap<u32, u64>,
    /// The game has seen itself that players do not agree.
    pub differ: bool,
    /// What was counted, by name; the summary has the sums over all players.
    pub counted: BTreeMap<String, u64>,
    /// The same, but the summary has the smallest of all players.
    pub least: BTreeMap<String, u64>,
    /// The largest.
    pub most: BTreeMap<String, u64>,
    /// The mean.
    pub mean: BTreeMap<String, f64>,
}

impl Report {
    /// Reads what a child printed.
    pub fn from_json(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// The sum over all players.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Players that were expected.
    pub players: usize,
    /// Whether everyone was connected to everyone at one time.
    pub all_connected: bool,
    /// Whether the players agree at the end.
    pub agreed: bool,
    /// Game messages sent, each receiver counted, over all players.
    pub messages_sent: u64,
    /// Game messages received, over all players.
    pub messages_received: u64,
    /// Reliable messages sent on links that lived to the end.
    pub reliable_sent: u64,
    /// Of these, the ones that had not arrived after the drain.
    pub reliable_lost: u64,
    /// Median round-trip time between network threads, in microseconds.
    pub rtt_p50_us: Option<u32>,
    /// Median time from finding a player to being connected to it, in milliseconds.
    pub connect_ms: Option<f32>,
    /// How far the players' ideas of the instant of tick 0 are apart, in milliseconds; nothing if not
    /// all of them were in the match.
    pub tick_zero_apart_ms: Option<f32>,
    /// The newest frame whose state was compared; nothing if the players do not simulate one game.
    pub compared_frame: Option<u32>,
    /// Whether all checksums that were compared are equal; nothing if none was.
    pub checksums_equal: Option<bool>,
    /// What else was counted, over all players.
    #[serde(flatten)]
    pub counted: BTreeMap<String, u64>,
    /// What else was measured, as a mean of all players.
    #[serde(flatten)]
    pub mean: BTreeMap<String, f64>,
}

impl Summary {
    /// Sums up. A missing report is a player that did not get to the end.
    pub fn of(players: usize, reports: &[Option<Report>]) -> Self {
        let present: Vec<&Report> = reports.iter().flatten().collect();
        let linked = |a: &Report, b: &Report| a.links.iter().any(|link| link.peer == b.me);
        let complete = present.len() == reports.len()
            && present.len() >= players
            && present.iter().all(|a| present.iter().all(|b| a.me == b.me || linked(a, b)));
        let (mut sent, mut lost) = (0, 0);
        for report in &present {
            for link in &report.links {
                let other = present.iter().find(|other| other.me == link.peer);
                let back =
                    other.and_then(|other| other.links.iter().find(|link| link.peer == report.me));
                if let Some(back) = back {
                    sent += link.reliable_sent;
                    lost += link.reliable_sent.saturating_sub(back.reliable_received);
                }
            }
        }
        let first = present.first();
        let (compared_frame, same) = compare(&present);
        let has_sums = |findings: &Findings| findings.differ || !findings.checksums.is_empty();
        let simulated = present.iter().any(|report| has_sums(&report.findings));
        let mut counted = BTreeMap::new();
        for (name, count) in present.iter().flat_map(|report| &report.findings.counted) {
            *counted.entry(name.clone()).or_default() += count;
        }
        for (name, count) in present.iter().flat_map(|report| &report.findings.least) {
            let least = counted.entry(name.clone()).or_insert(*count);
            *least = (*least).min(*count);
        }
        for (name, count) in present.iter().flat_map(|report| &report.findings.most) {
            let most = counted.entry(name.clone()).or_insert(*count);
            *most = (*most).max(*count);
        }
        let mut mean = BTreeMap::new();
        for (name, value) in present.iter().flat_map(|report| &report.findings.mean) {
            *mean.entry(name.clone()).or_default() += value / present.len() as f64;
        }
        Self {
            players,
            all_connected: complete && present.iter().all(|report| report.all_connected),
            agreed: complete
                && same
                && present.iter().all(|r| Some(&r.agreed) == first.map(|f| &f.agreed)),
            messages_sent: present.iter().map(|report| report.messages_sent).sum(),
            messages_received: present.iter().map(|report| report.messages_received).sum(),
            reliable_sent: sent,
            reliable_lost: lost,
            rtt_p50_us: median(present.iter().flat_map(|r| r.rtt_us.iter().copied()).collect()),
            connect_ms: median(present.iter().flat_map(|r| r.connect_ms.iter().copied()).collect()),
            tick_zero_apart_ms: apart_ms(present.iter().map(|report| report.tick_zero_us)),
            compared_frame,
            checksums_equal: simulated.then_some(same),
            counted,
            mean,
        }
    }

    /// Whether the players connected, lost nothing reliable, and agree.
    pub const fn is_good(&self) -> bool {
        self.all_connected && self.agreed && self.reliable_lost == 0
    }

    /// The summary for people.
    pub fn table(&self) -> String {
        let yes = |b: bool| if b { "yes" } else { "NO" };
        let rtt = self.rtt_p50_us.map_or("-".into(), |us| format!("{:.2} ms", us as f32 / 1000.0));
        let apart = self.tick_zero_apart_ms.map_or("-".into(), |ms| format!("{ms:.2} ms"));
        let connect = self.connect_ms.map_or("-".into(), |ms| format!("{ms:.1} ms"));
        let mut table = format!(
            "players             {}\n\
             all connected       {}\n\
             players agree       {}\n\
             messages sent       {}\n\
             messages received   {}\n\
             reliable sent       {}\n\
             reliable lost       {}\n\
             round trip, median  {rtt}\n\
             connect, median     {connect}\n\
             tick 0 apart        {apart}",
            self.players,
            yes(self.all_connected),
            yes(self.agreed),
            self.messages_sent,
            self.messages_received,
            self.reliable_sent,
            self.reliable_lost,
        );
        let compared = self.compared_frame.map(|frame| ("compared frame", frame.into()));
        let counted = self.counted.iter().map(|(name, count)| (name.as_str(), *count));
        for (name, count) in compared.into_iter().chain(counted) {
            let name = name.replace('_', " ");
            table.push_str(&format!("\n{name:<20}{count}"));
        }
        for (name, value) in &self.mean {
            let name = name.replace('_', " ");
            table.push_str(&format!("\n{name:<20}{value:.1}"));
        }
        table
    }
}

/// The newest frame that all players have, if any has one; and whether they have the same at all of those.
fn compare(reports: &[&Report]) -> (Option<u32>, bool) {
    let findings = || reports.iter().map(|report| &report.findings);
    if findings().any(|findings| findings.differ) {
        return (None, false);
    }
    let Some(first) = findings().next().filter(|_| findings().any(|f| !f.checksums.is_empty()))
    else {
        return (None, true);
    };
    let of_all = |frame: &u32| findings().all(|findings| findings.checksums.contains_key(frame));
    let common: Vec<u32> = first.checksums.keys().copied().filter(of_all).collect();
    let same = |frame: &u32| findings().all(|f| f.checksums[frame] == first.checksums[frame]);
    (common.last().copied(), !common.is_empty() && common.iter().all(same))
}

/// How far the times are apart, if all are known.
fn apart_ms(times_us: impl Iterator<Item = Option<i64>>) -> Option<f32> {
    let times: Option<Vec<i64>> = times_us.collect();
    let times = times?;
    Some((times.iter().max()? - times.iter().min()?) as f32 / 1e3)
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(me: &str, peer: &str, sent: u64, received: u64, score: i64) -> Report {
        let link =
            LinkReport { peer: peer.into(), reliable_sent: sent, reliable_received: received };
        Report {
            me: me.into(),
            all_connected: true,
            links: vec![link],
            agreed: [("a".to_owned(), score)].into(),
            ..Report::default()
        }
    }

    #[test]
    fn what_one_side_sent_and_the_other_did_not_receive_is_lost() {
        let reports = [Some(report("a", "b", 10, 7, 1)), Some(report("b", "a", 7, 8, 1))];
        let summary = Summary::of(2, &reports);
        assert_eq!((summary.reliable_sent, summary.reliable_lost), (17, 2));
        assert!(!summary.is_good());
    }

    #[test]
    fn a_missing_player_or_another_score_is_no_success() {
        let a = Some(report("a", "b", 1, 1, 1));
        assert!(Summary::of(2, &[a.clone(), Some(report("b", "a", 1, 1, 1))]).is_good());
        assert!(!Summary::of(2, &[a.clone(), Some(report("b", "a", 1, 1, 2))]).is_good());
        assert!(!Summary::of(2, &[a, None]).is_good());
    }

    #[test]
    fn the_frames_that_all_have_must_be_the_same_and_there_must_be_one() {
        let with = |me: &str, peer: &str, checksums: &[(u32, u64)]| {
            let mut report = report(me, peer, 1, 1, 1);
            report.findings.checksums = checksums.iter().copied().collect();
            report.findings.counted = [("rollbacks".to_owned(), 3)].into();
            Some(report)
        };
        let a = with("a", "b", &[(30, 1), (60, 2), (90, 3)]);
        let summary = Summary::of(2, &[a.clone(), with("b", "a", &[(60, 2), (90, 3), (120, 4)])]);
        assert!(summary.is_good());
        assert_eq!((summary.compared_frame, summary.counted["rollbacks"]), (Some(90), 6));
        assert!(summary.table().ends_with("compared frame      90\nrollbacks           6"));
        for other in [&[(60, 2), (90, 7)][..], &[(120, 4)], &[]] {
            assert!(!Summary::of(2, &[a.clone(), with("b", "a", other)]).is_good());
        }
        let mut unhappy = with("b", "a", &[(60, 2)]);
        unhappy.iter_mut().for_each(|report| report.findings.differ = true);
        assert!(!Summary::of(2, &[a, unhappy]).is_good());
    }
}
