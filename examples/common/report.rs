//! What one player has seen, and the sum over all players.

use std::collections::BTreeMap;

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
        Self {
            players,
            all_connected: complete && present.iter().all(|report| report.all_connected),
            agreed: complete && present.iter().all(|r| Some(&r.agreed) == first.map(|f| &f.agreed)),
            messages_sent: present.iter().map(|report| report.messages_sent).sum(),
            messages_received: present.iter().map(|report| report.messages_received).sum(),
            reliable_sent: sent,
            reliable_lost: lost,
            rtt_p50_us: median(present.iter().flat_map(|r| r.rtt_us.iter().copied()).collect()),
            connect_ms: median(present.iter().flat_map(|r| r.connect_ms.iter().copied()).collect()),
            tick_zero_apart_ms: apart_ms(present.iter().map(|report| report.tick_zero_us)),
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
        format!(
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
        )
    }
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
}
