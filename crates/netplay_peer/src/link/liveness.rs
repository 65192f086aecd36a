//! Is the other side still there?
//!
//! Silence makes a peer `Interrupted`, longer silence makes it `Lost`; much sooner if the lobby
//! server saw its socket close, which a killed process does at once. Time in which *we* did not run
//! (a stopped process, a suspended machine) does not count as the other side's silence.

use core::time::Duration;

use netplay_protocol::Now;

/// A gap between two calls beyond which we assume that we did not run. An established link has
/// something to do every tenth of a second.
const SUSPENDED: Duration = Duration::from_millis(800);

/// How long silence may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessConfig {
    /// Silence after which the peer is interrupted.
    pub interrupted_after: Duration,
    /// Silence after which it is lost.
    pub lost_after: Duration,
    /// Silence after which it is lost if the lobby server has no connection to it either.
    pub lost_after_offline: Duration,
}

impl Default for LivenessConfig {
    /// 1 s, 15 s and 2 s.
    fn default() -> Self {
        Self {
            interrupted_after: Duration::from_secs(1),
            lost_after: Duration::from_secs(15),
            lost_after_offline: Duration::from_secs(2),
        }
    }
}

/// What silence has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing heard for a while.
    Interrupted,
    /// Heard again.
    Resumed,
    /// Given up.
    Lost,
}

/// Watches one established link.
#[derive(Debug)]
pub struct Liveness {
    config: LivenessConfig,
    heard: Now,
    driven: Now,
    offline_since: Option<Now>,
    interrupted: bool,
}

impl Liveness {
    /// Starts watching; the peer was heard just now.
    pub const fn new(config: LivenessConfig, now: Now) -> Self {
        Self { config, heard: now, driven: now, offline_since: None, interrupted: false }
    }

    /// When the other side was last heard.
    pub const fn heard_at(&self) -> Now {
        self.heard
    }

    /// For how long it has been silent.
    pub const fn silence(&self, now: Now) -> Duration {
        now.since(self.heard)
    }

    /// A valid packet arrived.
    pub fn heard(&mut self, now: Now) -> Option<Change> {
        self.heard = self.heard.max(now);
        core::mem::take(&mut self.interrupted).then_some(Change::Resumed)
    }

    /// The lobby server lost or regained its connection to the peer.
    pub fn set_offline(&mut self, now: Now, offline: bool) {
        self.offline_since = offline.then(|| self.offline_since.unwrap_or(now));
    }

    /// To be called before anything else happens at `now`: leaves out the time we did not run. Whether
    /// there was such a time.
    pub fn driven(&mut self, now: Now) -> bool {
        let gap = now.since(self.driven);
        let suspended = gap > SUSPENDED;
        if suspended {
            self.heard = (self.heard + gap).min(now);
            self.offline_since = self.offline_since.map(|since| (since + gap).min(now));
        }
        self.driven = self.driven.max(now);
        suspended
    }

    /// What time has led to.
    pub fn tick(&mut self, now: Now) -> Option<Change> {
        if now >= self.lost_at() {
            return Some(Change::Lost);
        }
        if !self.interrupted && now >= self.heard + self.config.interrupted_after {
            self.interrupted = true;
            return Some(Change::Interrupted);
        }
        None
    }

    /// When [`Self::tick`] has something to say, if nothing is heard until then.
    pub fn next_deadline(&self) -> Now {
        if self.interrupted {
            self.lost_at()
        } else {
            self.lost_at().min(self.heard + self.config.interrupted_after)
        }
    }

    fn lost_at(&self) -> Now {
        let silent = self.heard + self.config.lost_after;
        match self.offline_since {
            Some(since) => silent.min(self.heard.max(since) + self.config.lost_after_offline),
            None => silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now::from_millis(ms)
    }

    /// Drives a watcher every 100 ms, as an established link does, and collects what it says.
    fn run(live: &mut Liveness, from: u64, to: u64) -> Vec<(u64, Change)> {
        let mut changes = Vec::new();
        for ms in (from..=to).step_by(100) {
            live.driven(at(ms));
            if let Some(change) = live.tick(at(ms)) {
                changes.push((ms, change));
                if change == Change::Lost {
                    break;
                }
            }
        }
        changes
    }

    #[test]
    fn silence_interrupts_after_one_second_and_loses_after_fifteen() {
        let mut live = Liveness::new(LivenessConfig::default(), at(0));
        assert_eq!(
            run(&mut live, 0, 20_000),
            [(1000, Change::Interrupted), (15_000, Change::Lost)]
        );
    }

    #[test]
    fn a_packet_just_before_the_limit_keeps_the_peer() {
        let mut live = Liveness::new(LivenessConfig::default(), at(0));
        run(&mut live, 0, 14_900);
        assert_eq!(live.heard(at(14_999)), Some(Change::Resumed));
        assert_eq!(live.heard(at(15_000)), None);
        assert_eq!(run(&mut live, 15_000, 15_900), []);
    }

    #[test]
    fn a_peer_whose_socket_closed_is_lost_two_seconds_later() {
        let mut live = Liveness::new(LivenessConfig::default(), at(0));
        run(&mut live, 0, 500);
        live.set_offline(at(500), true);
        assert_eq!(run(&mut live, 500, 5000), [(1000, Change::Interrupted), (2500, Change::Lost)]);
    }

    #[test]
    fn a_peer_without_lobby_connection_that_still_sends_is_kept() {
        let mut live = Liveness::new(LivenessConfig::default(), at(0));
        live.set_offline(at(0), true);
        for ms in (0..20_000).step_by(500) {
            live.driven(at(ms));
            assert_eq!(live.heard(at(ms)), None);
            assert_eq!(live.tick(at(ms)), None);
        }
    }

    #[test]
    fn time_in_which_we_did_not_run_is_not_the_peers_silence() {
        let mut live = Liveness::new(LivenessConfig::default(), at(0));
        run(&mut live, 0, 400);
        live.driven(at(60_400));
        assert_eq!(live.tick(at(60_400)), None);
        assert_eq!(run(&mut live, 60_500, 61_400), [(61_000, Change::Interrupted)]);
    }
}
