//! One rollback session, whose peers and lobby server say anything.
//!
//! What an owner has to assert anyway stands in `owner`: here nobody is honest, so it is all there is.

use netplay_protocol::Now;
use netplay_rollback::limits::SNAPSHOT_PART;
use netplay_rollback::{Input, Role, Seat, SessionConfig, Tick};
use netplay_tick::TickRate;

use crate::owner::{Owner, Sent, index, is_valid, peer};
use crate::script::Script;
use crate::wire::{Known, SESSION};

/// Microseconds of a tick: a slow clock, so that half a second is few ticks.
const TICK_US: u64 = 62_500;
/// Ticks in a row that one choice runs, and that all choices of an input run together.
const RUN_MAX: usize = 32;
const TICKS_MAX: usize = 1200;
/// The clock does not come near the end of the numbers, where sessions end.
const LAST_TICK: Tick = 1 << 29;
/// The kind of a message that asks to watch.
const WATCH: u8 = 10;

struct Match {
    owner: Owner,
    now: Now,
    tick: Tick,
    me: usize,
    slots: usize,
    each: usize,
    delay: Tick,
    /// Whom the session asked last to be fed.
    feeder: usize,
    ticks_left: usize,
}

/// A session among liars.
pub fn session(data: &[u8]) {
    let mut script = Script::new(data);
    let mut game = Match::new(&mut script);
    while !script.is_over() && !game.owner.is_out {
        game.step(&mut script);
    }
    // What has ended stays so.
    for input in [Input::Tick(game.tick + 1), Input::Deadline] {
        game.give(input);
    }
}

/// The settings of the peer `me` among so many.
pub(crate) fn config(peers: usize, each: u8, me: usize, host: usize) -> SessionConfig {
    let roster = (0..peers).map(|of| Seat { peer: peer(of), players: each }).collect();
    let mut config = SessionConfig::new(SESSION, peer(me), peer(host), roster);
    config.rate = TickRate::new(16).expect("a rate that games use");
    config.validate = is_valid;
    config
}

impl Match {
    fn new(script: &mut Script<'_>) -> Self {
        let (kind, sizes, rest) = (script.u8(), script.u8(), script.u8());
        let slots = 1 + usize::from(sizes % 5);
        let each = 1 + usize::from(sizes >> 7);
        let role = match kind % 4 {
            0 | 1 => Role::Player,
            2 => Role::Returning,
            _ => Role::Spectator { delay: (kind >> 4).into(), from_start: kind & 8 != 0 },
        };
        let me = if kind % 4 == 3 { slots } else { usize::from(sizes >> 3 & 7) % slots };
        let mut config = config(slots, each as u8, me, usize::from(rest & 7) % slots);
        config.role = role;
        config.epoch = 7;
        config.prediction = [8, 0, 1, 12][usize::from(rest >> 3 & 3)];
        config.delay = [0, 0, 1, 4, 0, 0, 2, 60][usize::from(rest >> 5)];
        config.checksum_every = [16, 5, 0, 16][usize::from(kind >> 2 & 3)];
        let delay = config.delay.into();
        let mut owner = Owner::new(config);
        owner.prompt = kind & 64 == 0;
        owner.ballast = if kind & 128 == 0 { 0 } else { SNAPSHOT_PART };
        let now = Now::ZERO;
        Self { owner, now, tick: -1, me, slots, each, delay, feeder: 0, ticks_left: TICKS_MAX }
    }

    fn give(&mut self, input: Input<'_>) {
        self.owner.handle(self.now, input);
        for (to, sent) in &self.owner.sent {
            if matches!(sent, Sent::Message(bytes) if bytes[0] == WATCH) {
                self.feeder = index(*to);
            }
        }
    }

    fn known(&self, from: usize) -> Known {
        let (tick, confirmed) = (self.tick, self.owner.session.confirmed());
        let (slots, each) = (self.slots, self.each);
        Known { tick, confirmed, from, slots, each, last: confirmed }
    }

    /// One of the others, or somebody who is not in the roster, or the feeder; nobody has our name.
    fn from(&self, script: &mut Script<'_>) -> usize {
        let from = match script.u8() {
            0..128 => self.feeder,
            who => usize::from(who) % (self.slots + 2),
        };
        if from == self.me { self.slots + 2 } else { from }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.below(20) {
            0 => self.tick_to(self.tick.saturating_add(1)),
            1 => {
                self.owner.act(script.short());
                self.tick_to(self.tick.saturating_add(1));
            }
            2 | 3 => self.run(script),
            4 => {
                let ahead = match script.u8() {
                    255 => script.u32() as Tick & LAST_TICK,
                    ticks => Tick::from(ticks) * 24,
                };
                self.tick_to(self.tick.saturating_add(ahead));
            }
            5 | 6 => {
                let from = self.from(script);
                let (tick, bytes) = self.known(from).block(script);
                self.block(from, tick, &bytes);
            }
            7..=11 => {
                let from = self.from(script);
                let kind = script.u8() % 16;
                self.message(script, from, kind);
            }
            12 => {
                let from = self.from(script);
                let bytes = script.short();
                self.give(Input::Message { from: peer(from), bytes });
            }
            13 => self.snapshot(script),
            14 => {
                let from = self.from(script);
                let place = script.u8().into();
                let bytes = Known::part(place, &vec![1; script.u8().into()]);
                self.give(Input::Bulk { from: peer(from), bytes: &bytes });
            }
            15 | 16 => {
                let who = script.u8();
                let (other, up) = (peer(usize::from(who & 7)), who & 8 != 0);
                self.give(Input::Link { peer: other, up });
            }
            17 => self.lobby(script),
            18 => self.own(script),
            _ => {
                let micros = self.now.as_micros() + u64::from(script.u8()) * 4096;
                self.now = Now::from_micros(micros);
                self.give(Input::Deadline);
            }
        }
    }

    fn tick_to(&mut self, tick: Tick) {
        if self.ticks_left == 0 || tick > LAST_TICK {
            return;
        }
        self.ticks_left -= 1;
        self.tick = self.tick.max(tick);
        let shown = Now::from_micros(self.tick.max(0) as u64 * TICK_US);
        self.now = self.now.max(shown);
        self.give(Input::Tick(tick));
        if self.owner.session.next_deadline().is_some_and(|at| at <= self.now) {
            self.give(Input::Deadline);
        }
    }

    fn block(&mut self, from: usize, tick: u16, bytes: &[u8]) {
        self.give(Input::Block { from: peer(from), tick, bytes, again: false });
    }

    fn message(&mut self, script: &mut Script<'_>, from: usize, kind: u8) {
        let bytes = self.known(from).message(script, kind);
        self.give(Input::Message { from: peer(from), bytes: &bytes });
    }

    /// Some ticks in which some of the others tell what they do, as honest peers would.
    fn run(&mut self, script: &mut Script<'_>) {
        let (count, who, how) = (script.below(RUN_MAX), script.u8(), script.u8());
        let (ahead, told) = (Tick::from(how & 3), 1 + usize::from(how >> 2 & 31));
        let me = self.me;
        let others = (0..self.slots).filter(|from| who >> from & 1 != 0 && *from != me);
        for _ in 0..=count {
            if self.owner.is_out {
                return;
            }
            self.tick_to(self.tick + 1);
            for from in others.clone() {
                let newest = self.tick + ahead;
                // More than it can have heard, if the script wants it.
                let known = if how & 128 == 0 { self.tick + self.delay } else { newest };
                let (tick, bytes) = self.known(from).honest_block(newest, known, told);
                self.block(from, tick, &bytes);
            }
        }
    }

    fn snapshot(&mut self, script: &mut Script<'_>) {
        let from = self.from(script);
        for bytes in self.known(from).snapshot(script) {
            self.give(Input::Bulk { from: peer(from), bytes: &bytes });
        }
    }

    /// What the lobby server says.
    fn lobby(&mut self, script: &mut Script<'_>) {
        let who = script.u8();
        let other = peer(usize::from(who & 7));
        self.give(if who & 8 == 0 { Input::Gone(other) } else { Input::Host(other) });
    }

    /// What its own game does.
    fn own(&mut self, script: &mut Script<'_>) {
        match script.u8() {
            0..128 => self.owner.give_snapshots(self.now),
            delay @ 128..240 => {
                // Its later inputs would be ahead of those that are claimed to be known: harmless.
                self.give(Input::Delay(delay - 128));
            }
            240..248 => {
                let input = Input::Snapshot { tick: self.tick, bytes: script.short() };
                self.give(input);
            }
            _ => self.give(Input::Leave),
        }
    }
}
