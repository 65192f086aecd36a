//! One clock that all players of a match agree on.
//!
//! Each player keeps its own copy, a line over its own clock, and tells the others a few times a second
//! where it stands. With the pairs' offsets every report becomes a *candidate*: what our copy would
//! have to show to agree with that player's. A copy runs at the median of all players' clock rates and
//! leans towards the median of all candidates, its own among them.
//!
//! So no player leads. Whoever leaves, or lies, is one voice: with three or more players the median
//! stays between what the honest ones say. A pair whose path is slower in one direction disagrees with
//! everybody else about one candidate, which shows as that pair's residual and moves nobody.
//!
//! The clock is founded by the player with the lowest id among those who have none; others adopt it.
//!
//! Guaranteed: never backwards while playing, and never faster or slower than its rate by more than
//! [`SLEW_MAX_PPM`], unless this player's clock was set or stood still: then it jumps once. What a liar
//! among two says of the clock moves the other no faster than that. Not guaranteed: that it follows true
//! time; it follows the players' clocks. And one of two who is told that the other's clock was set
//! cannot know whose was.

use core::time::Duration;
use std::collections::BTreeMap;

use netplay_protocol::datagram::{ClockLine, ClockNote, Departure};
use netplay_protocol::{Now, PeerId};

use crate::MeshTime;
use crate::offset::{Exchange, OffsetFilter, PathEstimate};

/// How much faster or slower than its rate the clock runs to agree with the others, while playing.
pub const SLEW_MAX_PPM: f64 = 2_000.0;
/// How often a copy is corrected.
const UPDATE_EVERY: Duration = Duration::from_millis(50);
/// A correction that nothing follows ends after this.
const CORRECTION_US: f64 = 200_000.0;
/// The share of the disagreement that goes in a second, while playing and before. A report is a
/// round trip old at worst, and more would make two players swing around each other.
const GAIN_PLAYING: f64 = 0.5;
const GAIN_BEFORE: f64 = 2.0;
/// A report counts for so long.
const REPORT_AGE: Duration = Duration::from_secs(3);
/// How long a player without a clock waits for the first words of the others.
const FOUND_AFTER: Duration = Duration::from_secs(1);
/// Datagrams that have to be answered before a pair counts.
const ECHOES: u32 = 2;
/// A disagreement in microseconds that no path explains: a clock was set, or stood still.
const BROKEN_US: f64 = 100_000.0;
/// A clock that was set or stood still has been noticed this recently.
const RESTART_AGE: Duration = Duration::from_secs(10);
/// No mesh clock is so far from where it began: 142 years.
const MESH_MAX_US: u64 = 1 << 52;
/// A pair's residual beyond this (in microseconds) and four times its uncertainty is told.
const RESIDUAL_US: f64 = 3_000.0;
/// How long, before it is told.
const RESIDUAL_FOR: Duration = Duration::from_secs(1);
/// What counts as in sync.
const UNCERTAIN: Duration = Duration::from_millis(25);
const APART_US: f64 = 5_000.0;
/// No crystal is worse.
const RATE_MAX: f64 = 1e-3;

/// What is known of one other player.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairStatus {
    /// The path to it and its clock.
    pub path: PathEstimate,
    /// By how much its word and our measurement of its clock disagree with everybody else's, in
    /// microseconds, smoothed over a second. Of three players on it shows an asymmetric path between
    /// the two, or a clock that lies; which of the two cannot be told.
    pub residual_us: f64,
    /// Whether that is more than noise explains, for a second by now.
    pub disagrees: bool,
}

/// How well we are in sync.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeshStatus {
    /// Who founded the clock; see [`founder`].
    pub founder: u64,
    /// How far our copy is behind the median of all, in microseconds.
    pub error_us: f64,
    /// The largest uncertainty among the pairs that count.
    pub uncertainty: Duration,
    /// How much faster than our own clock it runs, in parts per million.
    pub rate_ppm: f64,
    /// How many other players agree on this clock.
    pub peers: usize,
}

/// Why a player is not in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfSync {
    /// The other clocks are not known well enough yet.
    Uncertain,
    /// Our copy is on its way to where the others are.
    Apart,
}

impl MeshStatus {
    /// Why we are not in sync; `None` if we are: within 5 ms of the median, and the clocks known to
    /// 25 ms.
    pub fn out_of_sync(&self) -> Option<OutOfSync> {
        if self.uncertainty > UNCERTAIN {
            Some(OutOfSync::Uncertain)
        } else if self.error_us.abs() > APART_US {
            Some(OutOfSync::Apart)
        } else {
            None
        }
    }
}

/// Our copy: a line over our own clock, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Copy {
    founder: u64,
    at: f64,
    mesh: f64,
    rate: f64,
    correction: f64,
    error: f64,
}

impl Copy {
    fn show(&self, now: f64) -> f64 {
        let passed = now - self.at;
        let corrected = passed.clamp(0.0, CORRECTION_US);
        self.mesh + passed * (1.0 + self.rate) + corrected * self.correction
    }
}

/// A report, in the count of the pair's filter.
#[derive(Clone, Copy, Debug)]
struct Heard {
    theirs: f64,
    report: ClockNote,
    at: Now,
}

#[derive(Debug, Default)]
struct Peer {
    filter: OffsetFilter,
    echoes: u32,
    heard: Option<Heard>,
    /// It has said that it has no clock.
    has_none: bool,
    residual: f64,
    disagrees_since: Option<Now>,
    /// When its filter last began anew: a clock was set or stood still, ours or theirs.
    restarted: Option<Now>,
}

/// A peer that counts: what our copy would have to show to agree with its.
#[derive(Debug)]
struct Candidate {
    peer: PeerId,
    mesh: f64,
    drift: f64,
    uncertainty: f64,
}

/// One player's copy of the clock.
#[derive(Debug)]
pub struct MeshClock {
    me: PeerId,
    peers: BTreeMap<PeerId, Peer>,
    copy: Option<Copy>,
    updated: Option<Now>,
    /// Since when there has been somebody to agree with, and no clock.
    waiting_since: Option<Now>,
    playing: bool,
    jumps: u32,
    /// The candidates of the latest update, and room for their medians; kept for their memory.
    found: Vec<Candidate>,
    values: Vec<f64>,
}

impl MeshClock {
    /// A player without a clock.
    pub const fn new(me: PeerId) -> Self {
        Self {
            me,
            peers: BTreeMap::new(),
            copy: None,
            updated: None,
            waiting_since: None,
            playing: false,
            jumps: 0,
            found: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Whether a match runs: then the clock is smooth. Before, it agrees as fast as it can.
    pub const fn set_playing(&mut self, playing: bool) {
        self.playing = playing;
    }

    /// The clock at `now`; `None` before there is one.
    pub fn show(&self, now: Now) -> Option<MeshTime> {
        let mesh = self.copy?.show(now.as_micros() as f64);
        Some(MeshTime::from_micros(mesh as i64))
    }

    /// Seconds of the clock in a second of ours, as of late.
    pub fn rate(&self) -> f64 {
        self.copy.map_or(1.0, |copy| 1.0 + copy.rate)
    }

    /// Begins a clock if there is none and nobody to agree with.
    pub fn found_alone(&mut self, now: Now) {
        if self.copy.is_none() && self.peers.is_empty() {
            self.found(now);
        }
    }

    /// What to tell the others in a datagram that leaves at `now`; `None`: that there is no clock.
    pub fn report(&self, now: Now) -> Option<ClockNote> {
        Some(self.line()?.show(now))
    }

    /// A player is there.
    pub fn add(&mut self, peer: PeerId) {
        self.peers.entry(peer).or_default();
    }

    /// A player is gone; the clock goes on.
    pub fn remove(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// Takes what a datagram of a player tells about the path; gives that datagram's one-way delay as
    /// far as it is known.
    pub fn exchange(&mut self, peer: PeerId, exchange: &Exchange) -> Option<Duration> {
        let entry = self.peers.get_mut(&peer)?;
        entry.echoes = entry.echoes.saturating_add(u32::from(exchange.echo.is_some()));
        let restarts = entry.filter.restarts();
        let delay = entry.filter.take(exchange);
        if entry.filter.restarts() != restarts {
            entry.restarted = Some(exchange.arrived);
        }
        self.update(exchange.arrived);
        delay
    }

    /// Takes a player's report, which came with a datagram that left at `departure`.
    pub fn reported(
        &mut self,
        now: Now,
        peer: PeerId,
        departure: Departure,
        report: Option<ClockNote>,
    ) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.has_none = report.is_none();
        let report = report.filter(|report| report.mesh.unsigned_abs() < MESH_MAX_US);
        let theirs = entry.filter.peer_time(now, departure) as f64;
        entry.heard = report.map(|report| Heard { theirs, report, at: now });
        self.update(now);
    }

    /// Our copy as a line over our own clock, good until the next update.
    pub fn line(&self) -> Option<ClockLine> {
        let copy = self.copy?;
        let rate = ClockNote::rate_of((copy.rate + copy.correction) * 1e6);
        let note = ClockNote { founder: copy.founder, mesh: copy.mesh as i64, rate };
        Some(ClockLine { note, at: Now::from_micros(copy.at as u64) })
    }

    /// What is known of a player, once a datagram was answered.
    pub fn pair(&self, now: Now, peer: PeerId) -> Option<PairStatus> {
        let peer = self.peers.get(&peer)?;
        let path = peer.filter.estimate(now)?;
        let long = |since: Now| now.since(since) >= RESIDUAL_FOR;
        let disagrees = peer.disagrees_since.is_some_and(long);
        Some(PairStatus { path, residual_us: peer.residual, disagrees })
    }

    /// How well we are in sync; `None` before there is a clock.
    pub fn status(&self, now: Now) -> Option<MeshStatus> {
        let copy = self.copy?;
        let (mut peers, mut worst) = (0, 0.0_f64);
        for candidate in self.candidates(now, copy.founder) {
            peers += 1;
            worst = worst.max(candidate.uncertainty);
        }
        Some(MeshStatus {
            founder: copy.founder,
            error_us: copy.error,
            uncertainty: Duration::from_micros(worst as u64),
            rate_ppm: copy.rate * 1e6,
            peers,
        })
    }

    /// How often the clock jumped because our own was set or stood still, or to join another.
    pub const fn jumps(&self) -> u32 {
        self.jumps
    }

    /// Corrects our copy, if it is time. Also done by whatever arrives.
    pub fn update(&mut self, now: Now) {
        if self.updated.is_some_and(|at| now.since(at) < UPDATE_EVERY) {
            return;
        }
        self.updated = Some(now);
        match self.copy {
            None => self.get_one(now),
            Some(copy) => {
                let senior = self.reports(now).map(|report| report.founder).min();
                match senior.filter(|founder| *founder < copy.founder && !self.playing) {
                    Some(founder) => self.adopt(now, founder),
                    None => self.agree(now, copy),
                }
            }
        }
    }

    fn reports(&self, now: Now) -> impl Iterator<Item = ClockNote> {
        let heard = self.peers.values().filter_map(|peer| peer.heard);
        heard.filter(move |heard| now.since(heard.at) < REPORT_AGE).map(|heard| heard.report)
    }

    /// We have no clock: takes that of the others, or founds one.
    fn get_one(&mut self, now: Now) {
        if let Some(founder) = self.reports(now).map(|report| report.founder).min() {
            return self.adopt(now, founder);
        }
        let known = self.peers.values().any(|peer| peer.echoes >= ECHOES);
        if !known {
            return;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let heard_all = self.peers.values().all(|peer| peer.has_none);
        let lowest = self.peers.keys().all(|peer| self.me < *peer);
        if lowest && (heard_all || now.since(since) >= FOUND_AFTER) {
            self.found(now);
        }
    }

    fn found(&mut self, now: Now) {
        let at = now.as_micros() as f64;
        let copy = Copy {
            founder: founder(self.me),
            at,
            mesh: at,
            rate: 0.0,
            correction: 0.0,
            error: 0.0,
        };
        self.copy = Some(copy);
    }

    fn adopt(&mut self, now: Now, founder: u64) {
        self.find_candidates(now, founder);
        let Some(mesh) = self.median(None) else { return };
        self.jumps += u32::from(self.copy.is_some());
        let rate = self.copy.map_or(0.0, |copy| copy.rate);
        let at = now.as_micros() as f64;
        self.copy = Some(Copy { founder, at, mesh, rate, correction: 0.0, error: 0.0 });
        self.waiting_since = None;
    }

    fn agree(&mut self, now: Now, copy: Copy) {
        let at = now.as_micros() as f64;
        let seconds = ((at - copy.at) / 1e6).clamp(0.0, 1.0);
        let mine = copy.show(at);
        self.find_candidates(now, copy.founder);
        if self.is_broken(now, mine) {
            let mesh = self.median(None).unwrap_or(mine);
            self.jumps += 1;
            self.copy = Some(Copy { at, mesh, correction: 0.0, error: 0.0, ..copy });
            return;
        }
        let middle = self.median(Some(mine)).unwrap_or(mine);
        let error = middle - mine;
        self.note_residuals(now, middle, seconds);
        self.values.clear();
        self.values.extend(self.found.iter().map(|candidate| candidate.drift).chain([0.0]));
        let rate = median(&mut self.values).unwrap_or(0.0).clamp(-RATE_MAX, RATE_MAX);
        let (gain, most) = if self.playing {
            (GAIN_PLAYING, SLEW_MAX_PPM / 1e6)
        } else {
            (GAIN_BEFORE, f64::INFINITY)
        };
        let correction = (error * gain / 1e6).clamp(-most, most);
        self.copy = Some(Copy { at, mesh: mine, rate, correction, error, ..copy });
    }

    /// The median of what the candidates show, and of `own`.
    fn median(&mut self, own: Option<f64>) -> Option<f64> {
        self.values.clear();
        self.values.extend(self.found.iter().map(|candidate| candidate.mesh).chain(own));
        median(&mut self.values)
    }

    /// Whether our own clock is the one that was set or stood still: everybody else agrees on another
    /// time. With one other player it is the one that has not founded the clock, or has the higher id.
    fn is_broken(&self, now: Now, mine: f64) -> bool {
        let apart = |candidate: &&Candidate| (candidate.mesh - mine).abs() > BROKEN_US;
        let far = self.found.iter().filter(apart).count();
        match &self.found[..] {
            [] => false,
            [other] => {
                let founded = self.copy.map(|copy| copy.founder);
                let has = |peer| founded == Some(founder(peer));
                let holds = has(self.me) || (!has(other.peer) && self.me < other.peer);
                far == 1 && !holds && self.has_restarted(now, other.peer)
            }
            found => 2 * far > found.len() + 1,
        }
    }

    fn has_restarted(&self, now: Now, peer: PeerId) -> bool {
        let restarted = self.peers.get(&peer).and_then(|peer| peer.restarted);
        restarted.is_some_and(|at| now.since(at) < RESTART_AGE)
    }

    fn note_residuals(&mut self, now: Now, middle: f64, seconds: f64) {
        for candidate in &self.found {
            let Some(peer) = self.peers.get_mut(&candidate.peer) else { continue };
            let residual = candidate.mesh - middle;
            peer.residual += (residual - peer.residual) * seconds.min(1.0);
            let most = RESIDUAL_US + 4.0 * candidate.uncertainty;
            if peer.residual.abs() <= most {
                peer.disagrees_since = None;
            } else {
                peer.disagrees_since.get_or_insert(now);
            }
        }
    }

    /// Looks for the peers that count, into `found`.
    fn find_candidates(&mut self, now: Now, founder: u64) {
        let mut found = core::mem::take(&mut self.found);
        found.clear();
        found.extend(self.candidates(now, founder));
        self.found = found;
    }

    fn candidates(&self, now: Now, founder: u64) -> impl Iterator<Item = Candidate> {
        let local = now.as_micros() as f64;
        let peers = self.peers.iter().filter(|(_, peer)| peer.echoes >= ECHOES);
        peers.filter_map(move |(id, peer)| {
            let heard = peer.heard.filter(|heard| {
                heard.report.founder == founder && now.since(heard.at) < REPORT_AGE
            })?;
            let path = peer.filter.estimate(now)?;
            let passed = local + path.offset_us - heard.theirs;
            let rate = heard.report.rate_ppm() / 1e6;
            Some(Candidate {
                peer: *id,
                mesh: heard.report.mesh as f64 + passed * (1.0 + rate),
                drift: f64::from(path.drift_ppm) / 1e6,
                uncertainty: path.uncertainty.as_micros() as f64,
            })
        })
    }
}

/// The short form of a player's id that names the clock it founded; never zero.
pub const fn founder(peer: PeerId) -> u64 {
    let bits = peer.as_u128();
    let short = (bits >> 64) as u64 ^ bits as u64;
    if short == 0 { 1 } else { short }
}

/// The middle value, or the mean of the middle two. Sorts the values.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[values.len() / 2 - 1], upper))
}
