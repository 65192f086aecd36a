//! Pauses of a match that begin and end at the same tick for everybody.
//!
//! Anybody asks; the host of the lobby names an instant far enough away for everybody to hear of it, and
//! tells all. There is one change at a time: what is asked for before the last one has come into effect
//! is decided then, so that asking often does no more than asking once. What the host tells is the whole
//! state, and a new host tells it again, so that players who missed a word of the old one agree in the
//! end.
//!
//! Guaranteed: players whom the host's words reach in time stop and go on at the same tick. Not
//! guaranteed: that a player whom they reach late has not run further; it waits for the others then.
//! The messages are carried by something reliable and in order.

use core::time::Duration;
use std::collections::VecDeque;

use netplay_protocol::control::{Pause, PauseMessage};
use netplay_protocol::{MeshTime, Now};

/// A change comes into effect so long after the host's word, and two round trips more.
const LEAD: Duration = Duration::from_millis(250);
/// What a delay is taken to be at most.
const DELAY_MAX: Duration = Duration::from_secs(2);

/// What a shared pause wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseEvent {
    /// Tell this to the host.
    TellHost(PauseMessage),
    /// Tell this to all players.
    TellAll(PauseMessage),
    /// This is the latest pause.
    Agreed(Pause),
}

/// The machine of one player.
#[derive(Debug, Default)]
pub struct SharedPause {
    playing: bool,
    hosting: bool,
    /// As the host: what was asked for last.
    wanted: bool,
    agreed: Option<Pause>,
    /// Told to us before our match began.
    early: Option<Pause>,
    /// As the host: no other change before this.
    next_at: Now,
    outputs: VecDeque<PauseEvent>,
}

impl SharedPause {
    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<PauseEvent> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::tick`].
    pub fn next_deadline(&self) -> Option<Now> {
        (self.hosting && self.playing && self.wanted != self.is_held()).then_some(self.next_at)
    }

    /// A match begins, or we come to one that was told of by who told us of its pauses.
    pub fn begin(&mut self) {
        let early = self.early.take();
        *self = Self { playing: true, hosting: self.hosting, ..Self::default() };
        if let Some(pause) = early {
            self.agree(pause);
            self.wanted = self.is_held();
        }
    }

    /// A player comes: what it has to know of pauses.
    pub const fn latest(&self) -> Option<Pause> {
        self.agreed
    }

    /// The match is over.
    pub fn end(&mut self) {
        *self = Self { hosting: self.hosting, ..Self::default() };
    }

    /// Whether we are the host.
    pub fn set_hosting(&mut self, hosting: bool) {
        let before = core::mem::replace(&mut self.hosting, hosting);
        if hosting
            && !before
            && let Some(pause) = self.agreed
        {
            self.wanted = self.is_held();
            self.outputs.push_back(PauseEvent::TellAll(PauseMessage::Agreed(pause)));
        }
    }

    /// Our game wants a pause, or its end. `mesh` is the clock at `now`, `delay` the longest one-way
    /// delay to any player.
    pub fn ask(&mut self, now: Now, mesh: Option<MeshTime>, delay: Duration, hold: bool) {
        if self.hosting {
            self.wanted = hold;
            self.tick(now, mesh, delay);
        } else if self.playing {
            let ask = if hold { PauseMessage::AskHold } else { PauseMessage::AskGo };
            self.outputs.push_back(PauseEvent::TellHost(ask));
        }
    }

    /// Takes a player's message.
    pub fn message(
        &mut self,
        now: Now,
        mesh: Option<MeshTime>,
        delay: Duration,
        from_host: bool,
        message: PauseMessage,
    ) {
        match message {
            PauseMessage::AskHold | PauseMessage::AskGo if self.hosting => {
                self.ask(now, mesh, delay, message == PauseMessage::AskHold);
            }
            PauseMessage::Agreed(pause) if from_host => self.agree(pause),
            _ => {}
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now, mesh: Option<MeshTime>, delay: Duration) {
        if self.next_deadline().is_none_or(|at| now < at) {
            return;
        }
        let Some(mesh) = mesh else {
            self.next_at = now + LEAD;
            return;
        };
        let lead = LEAD + 4 * delay.min(DELAY_MAX);
        let at = mesh.plus(lead);
        let pause = match self.agreed {
            Some(pause) if pause.until.is_none() => Pause { until: Some(at), ..pause },
            last => Pause { before: last.map(total).unwrap_or_default(), from: at, until: None },
        };
        self.next_at = now + lead;
        self.outputs.push_back(PauseEvent::TellAll(PauseMessage::Agreed(pause)));
        self.agree(pause);
    }

    fn agree(&mut self, pause: Pause) {
        if !self.playing {
            self.early = Some(pause);
        } else if self.agreed != Some(pause) {
            self.agreed = Some(pause);
            self.outputs.push_back(PauseEvent::Agreed(pause));
        }
    }

    fn is_held(&self) -> bool {
        self.agreed.is_some_and(|pause| pause.until.is_none())
    }
}

/// How long all pauses up to this one were.
fn total(pause: Pause) -> Duration {
    let this = pause.until.map(|until| until.since(pause.from)).unwrap_or_default();
    pause.before.saturating_add(this)
}
