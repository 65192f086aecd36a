//! One instant at which everybody begins with tick 0.
//!
//! | the one who starts | the others |
//! |---|---|
//! | proposes an instant on the mesh clock | are ready if they are in sync with it; else say so |
//! | commits to it once all are ready and it is far enough away; else proposes a later one | hold tick 0 until it, and confirm |
//! | repeats what is not answered | answer again |
//!
//! Who comes while the others play is told when they began, and begins with the tick of the moment as
//! soon as it is in sync.
//!
//! Guaranteed: all who begin, begin at the same instant of the mesh clock; whoever starts hears within
//! [`DEADLINE`] that it begins, or who was not ready. Messages may be lost, doubled and reordered.
//! Not guaranteed: that a player whom the commit does not reach in time begins with tick 0; it begins
//! late, with the tick of the moment.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use netplay_protocol::control::StartMessage;
use netplay_protocol::{MeshTime, Now, PeerId};

/// How long everybody may take to get ready.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// What is not answered is said again.
const REPEAT: Duration = Duration::from_millis(100);
/// The instant is so far away when it is proposed, and two round trips more.
const LEAD: Duration = Duration::from_millis(500);
/// A commit leaves at least so long before the instant, and one way more: it can be said three times.
const COMMIT_LEAD: Duration = Duration::from_millis(200);

/// Why a match does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// These players were not in sync in time, or did not answer.
    NotReady(Vec<PeerId>),
    /// We have no common clock with anybody, or lost it.
    NoClock,
    /// Another start is under way, or a match.
    Busy,
    /// Only the host of the lobby starts a match.
    NotHost,
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotReady(peers) => {
                write!(f, "{} players were not in sync after {} s", peers.len(), DEADLINE.as_secs())
            }
            Self::NoClock => f.write_str("there is no clock that the players share"),
            Self::Busy => f.write_str("a match starts or runs already"),
            Self::NotHost => f.write_str("only the host starts a match"),
        }
    }
}

impl core::error::Error for StartError {}

/// Whether a match may begin at this instant: nobody proposes one further away, nor repeats one for
/// longer.
fn is_near(mesh: MeshTime, start: MeshTime) -> bool {
    start.since(mesh) <= DEADLINE * 8 && mesh.since(start) <= DEADLINE
}

/// What a barrier wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BarrierEvent {
    /// Tell this to a player.
    Send(PeerId, StartMessage),
    /// A match begins.
    Begins {
        /// Tick 0 is at this instant.
        start: MeshTime,
        /// The others play already, without us.
        running: bool,
    },
    /// The match that we wanted to start does not begin.
    Failed(StartError),
}

#[derive(Debug)]
enum State {
    Idle,
    /// We want to ask these, but are not in sync ourselves.
    Waiting {
        ready: BTreeMap<PeerId, bool>,
        until: Now,
        again_at: Now,
    },
    /// We asked; true for who is ready.
    Proposing {
        start: MeshTime,
        ready: BTreeMap<PeerId, bool>,
        until: Now,
        repeat_at: Now,
    },
    /// Everybody is ready; these have not confirmed.
    Committed {
        start: MeshTime,
        missing: Vec<PeerId>,
        until: Now,
        repeat_at: Now,
    },
    /// The others play, and we wait until we are in sync.
    Joining {
        round: u32,
        start: MeshTime,
        again_at: Now,
    },
    /// Another player has committed.
    Following {
        round: u32,
        start: MeshTime,
    },
}

/// The machine of one player.
#[derive(Debug)]
pub struct StartBarrier {
    state: State,
    round: u32,
    /// The round that we said we are ready for.
    readied: Option<u32>,
    outputs: VecDeque<BarrierEvent>,
}

impl Default for StartBarrier {
    fn default() -> Self {
        Self { state: State::Idle, round: 0, readied: None, outputs: VecDeque::new() }
    }
}

impl StartBarrier {
    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<BarrierEvent> {
        self.outputs.pop_front()
    }

    /// Whether no match runs or starts, nor one that we are coming to.
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle | State::Joining { .. })
    }

    /// When to call [`Self::tick`].
    pub fn next_deadline(&self) -> Option<Now> {
        match &self.state {
            State::Waiting { again_at, .. } | State::Joining { again_at, .. } => Some(*again_at),
            State::Proposing { until, repeat_at, .. } => Some((*until).min(*repeat_at)),
            State::Committed { repeat_at, missing, .. } if !missing.is_empty() => Some(*repeat_at),
            _ => None,
        }
    }

    /// Starts a match with these players, once we are in sync. `mesh` is the clock at `now` if we are,
    /// `delay` the longest one-way delay to any of them.
    pub fn start(
        &mut self,
        now: Now,
        mesh: Option<MeshTime>,
        delay: Duration,
        peers: impl IntoIterator<Item = PeerId>,
    ) {
        if !matches!(self.state, State::Idle) {
            return self.outputs.push_back(BarrierEvent::Failed(StartError::Busy));
        }
        let ready = peers.into_iter().map(|peer| (peer, false)).collect();
        self.state = State::Waiting { ready, until: now + DEADLINE, again_at: now };
        self.go_on(now, mesh, delay);
    }

    fn propose(
        &mut self,
        mesh: MeshTime,
        delay: Duration,
        ready: BTreeMap<PeerId, bool>,
        until: Now,
        repeat_at: Now,
    ) {
        self.round = self.round.wrapping_add(1);
        let start = mesh.plus(LEAD + delay.min(DEADLINE) * 4);
        self.state = State::Proposing { start, ready, until, repeat_at };
    }

    /// Takes a player's message. `mesh` is the clock at `now` if we are in sync.
    pub fn message(
        &mut self,
        now: Now,
        mesh: Option<MeshTime>,
        delay: Duration,
        from: PeerId,
        message: StartMessage,
    ) {
        match message {
            StartMessage::Propose { round, .. } => {
                let free = match &self.state {
                    State::Idle => true,
                    State::Following { round: ours, .. } => *ours != round,
                    // Only the host starts; another who does finds us busy.
                    State::Waiting { .. }
                    | State::Proposing { .. }
                    | State::Joining { .. }
                    | State::Committed { .. } => false,
                };
                let answer = if mesh.is_some() && free {
                    self.readied = Some(round);
                    StartMessage::Ready { round }
                } else {
                    StartMessage::NotReady { round }
                };
                self.send(from, answer);
            }
            StartMessage::Commit { start, .. }
                if !mesh.is_some_and(|mesh| is_near(mesh, start)) => {}
            StartMessage::Commit { round, start } => {
                self.send(from, StartMessage::Committed { round });
                let known =
                    matches!(&self.state, State::Following { round: ours, .. } if *ours == round);
                let ours = matches!(&self.state, State::Committed { .. });
                if !known && !ours {
                    self.state = State::Following { round, start };
                    self.outputs.push_back(BarrierEvent::Begins { start, running: false });
                }
            }
            StartMessage::Running { round, start } => {
                if matches!(self.state, State::Idle) {
                    self.state = State::Joining { round, start, again_at: now };
                    self.go_on(now, mesh, delay);
                }
            }
            StartMessage::Ready { round } if round == self.round => {
                if let State::Proposing { ready, .. } = &mut self.state
                    && let Some(entry) = ready.get_mut(&from)
                {
                    *entry = true;
                }
                self.go_on(now, mesh, delay);
            }
            StartMessage::Committed { round } if round == self.round => {
                if let State::Committed { missing, .. } = &mut self.state {
                    missing.retain(|peer| *peer != from);
                }
            }
            StartMessage::Ready { .. }
            | StartMessage::NotReady { .. }
            | StartMessage::Committed { .. } => {}
        }
    }

    /// A player is gone: nobody waits for it.
    pub fn remove(&mut self, now: Now, mesh: Option<MeshTime>, delay: Duration, peer: PeerId) {
        match &mut self.state {
            State::Waiting { ready, .. } | State::Proposing { ready, .. } => {
                ready.remove(&peer);
            }
            State::Committed { missing, .. } => missing.retain(|other| *other != peer),
            State::Idle | State::Joining { .. } | State::Following { .. } => {}
        }
        self.go_on(now, mesh, delay);
    }

    /// A player comes: if we play, it is told since when.
    pub fn add(&mut self, peer: PeerId) {
        if let State::Committed { start, .. } | State::Following { start, .. } = self.state {
            let round = match self.state {
                State::Following { round, .. } => round,
                _ => self.round,
            };
            self.send(peer, StartMessage::Running { round, start });
        }
    }

    /// The match is over; another may start.
    pub fn end(&mut self) {
        (self.state, self.readied) = (State::Idle, None);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now, mesh: Option<MeshTime>, delay: Duration) {
        self.go_on(now, mesh, delay);
    }

    fn send(&mut self, to: PeerId, message: StartMessage) {
        self.outputs.push_back(BarrierEvent::Send(to, message));
    }

    fn go_on(&mut self, now: Now, mesh: Option<MeshTime>, delay: Duration) {
        match &mut self.state {
            State::Waiting { ready, until, again_at } => {
                let until = *until;
                if let Some(mesh) = mesh {
                    let ready = core::mem::take(ready);
                    self.propose(mesh, delay, ready, until, now);
                    self.go_on(now, Some(mesh), delay);
                } else if now >= until {
                    self.fail(StartError::NoClock);
                } else {
                    *again_at = now + REPEAT;
                }
            }
            State::Proposing { start, ready, until, repeat_at } => {
                let (start, until) = (*start, *until);
                let Some(mesh) = mesh else {
                    if now >= until {
                        self.fail(StartError::NoClock);
                    } else {
                        *repeat_at = now + REPEAT;
                    }
                    return;
                };
                let all = ready.values().all(|ready| *ready);
                let left = start.since(mesh);
                if all && left >= COMMIT_LEAD + delay {
                    let missing = ready.keys().copied().collect();
                    self.state = State::Committed { start, missing, until, repeat_at: now };
                    self.outputs.push_back(BarrierEvent::Begins { start, running: false });
                    self.repeat(now);
                } else if now >= until {
                    let late = ready.iter().filter(|(_, ready)| !**ready).map(|(peer, _)| *peer);
                    let late = late.collect();
                    self.fail(StartError::NotReady(late));
                } else if left < COMMIT_LEAD + delay {
                    // Too near by now: who is ready is asked again about a later one.
                    let ready = ready.keys().map(|peer| (*peer, false)).collect();
                    self.propose(mesh, delay, ready, until, now);
                    self.repeat(now);
                } else {
                    self.repeat(now);
                }
            }
            State::Joining { round, start, again_at } => {
                if mesh.is_some() {
                    let (round, start) = (*round, *start);
                    self.state = State::Following { round, start };
                    // Somebody else may have heard of the commit before us.
                    let running = self.readied != Some(round);
                    self.outputs.push_back(BarrierEvent::Begins { start, running });
                } else {
                    *again_at = now + REPEAT;
                }
            }
            State::Committed { .. } => self.repeat(now),
            State::Idle | State::Following { .. } => {}
        }
    }

    /// Says again what was not answered, if it is time.
    fn repeat(&mut self, now: Now) {
        let round = self.round;
        match &mut self.state {
            State::Proposing { start, ready, repeat_at, .. } if now >= *repeat_at => {
                *repeat_at = now + REPEAT;
                let message = StartMessage::Propose { round, start: *start };
                let waiting = ready.iter().filter(|(_, ready)| !**ready);
                let events = waiting.map(|(peer, _)| BarrierEvent::Send(*peer, message));
                self.outputs.extend(events);
            }
            State::Committed { start, missing, until, repeat_at } if now >= *repeat_at => {
                *repeat_at = now + REPEAT;
                if now >= *until {
                    // Their links are as good as lost, which is not for us to say.
                    missing.clear();
                }
                let message = StartMessage::Commit { round, start: *start };
                let events = missing.iter().map(|peer| BarrierEvent::Send(*peer, message));
                self.outputs.extend(events);
            }
            _ => {}
        }
    }

    fn fail(&mut self, error: StartError) {
        self.state = State::Idle;
        self.outputs.push_back(BarrierEvent::Failed(error));
    }
}
