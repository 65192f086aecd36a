//! Which ticks are run, saved and run again.

use std::collections::VecDeque;

use crate::agreement::Ledger;
use crate::input::{Cell, InputBytes, InputStatus, Player, Tick};
use crate::predict::{History, Predictor};
use crate::session::inputs::Inputs;
use crate::session::{Output, PlayerInput};

/// Ticks that may be run at one call to catch up with the clock.
const CATCH_UP: Tick = 4;

/// One tick that was run.
#[derive(Debug)]
struct Row {
    inputs: Vec<(InputBytes, InputStatus)>,
    /// The owner has the state before it.
    saved: bool,
}

/// The ticks that were run and are not final.
#[derive(Debug)]
pub(crate) struct Simulation {
    /// The tick to be run next.
    current: Tick,
    /// The first tick in `rows`.
    first: Tick,
    rows: VecDeque<Row>,
    /// Up to here what was run is final.
    done: Tick,
    /// For reuse.
    spare: Vec<Row>,
    prediction: Tick,
    /// What the owner allows of it.
    pub(crate) limit: Tick,
    checksum_every: Tick,
    /// The next tick of which the checksum is asked for.
    next_checksum: Tick,
    predictor: Box<dyn Predictor>,
    /// Somebody waits for a snapshot.
    pub(crate) snapshot_wanted: bool,
}

/// What one call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Ticks that were run again.
    pub(crate) rolled_back: u32,
    /// Ticks that were run for the first time.
    pub(crate) advanced: u32,
    /// A state that is final and saved, for who waits for one.
    pub(crate) snapshot: Option<Tick>,
}

impl Simulation {
    pub(crate) fn new(prediction: u8, checksum_every: u16, predictor: Box<dyn Predictor>) -> Self {
        Self {
            current: 0,
            first: 0,
            rows: VecDeque::new(),
            done: -1,
            spare: Vec::new(),
            prediction: prediction.into(),
            limit: prediction.into(),
            checksum_every: checksum_every.into(),
            next_checksum: checksum_every.into(),
            predictor,
            snapshot_wanted: false,
        }
    }

    pub(crate) const fn current(&self) -> Tick {
        self.current
    }

    /// The last tick that was run with what is final.
    pub(crate) fn settled(&self) -> Tick {
        self.done.min(self.current - 1)
    }

    /// Begins anew before this tick.
    pub(crate) fn restart(&mut self, tick: Tick) {
        (self.current, self.first, self.done) = (tick, tick, tick - 1);
        self.spare.extend(self.rows.drain(..));
        if self.checksum_every > 0 {
            let every = self.checksum_every;
            self.next_checksum = (tick.max(1) + every - 1) / every * every;
        }
    }

    /// What a tick was last run with; `None` if that is forgotten.
    pub(crate) fn inputs(
        &self,
        tick: Tick,
    ) -> Option<impl ExactSizeIterator<Item = PlayerInput<'_>>> {
        let row = self.rows.get(usize::try_from(tick - self.first).ok()?)?;
        let inputs = row.inputs.iter().enumerate();
        Some(inputs.map(|(index, (bytes, status))| PlayerInput {
            player: Player(index as u8),
            bytes: bytes.as_slice(),
            status: *status,
        }))
    }

    /// Runs what can be run up to `target`; `predict` is whether it may run ahead of what is known.
    pub(crate) fn run(
        &mut self,
        inputs: &Inputs,
        target: Tick,
        predict: bool,
        late: &[bool],
        out: &mut VecDeque<Output>,
    ) -> Ran {
        let mut ran = Ran::default();
        // The owner has done what it was told the last time.
        self.forget();
        let confirmed = inputs.confirmed();
        if let Some(wrong) = self.first_wrong(inputs) {
            let end = core::mem::replace(&mut self.current, wrong);
            self.ask_checksums(confirmed, out);
            out.push_back(Output::Load(wrong));
            ran.rolled_back = (end - wrong) as u32;
            while self.current < end {
                self.step(inputs, late, wrong, out);
            }
        }
        self.ask_checksums(confirmed, out);
        let window = if predict { self.window() } else { 0 };
        let last = target.min(confirmed.saturating_add(window)).min(self.current - 1 + CATCH_UP);
        while self.current <= last {
            ran.advanced += 1;
            self.step(inputs, late, Tick::MIN, out);
            self.ask_checksums(confirmed, out);
        }
        self.done = confirmed;
        if self.snapshot_wanted {
            ran.snapshot = self.final_state(confirmed, out);
            self.snapshot_wanted = ran.snapshot.is_none();
        }
        ran
    }

    /// The first tick that was run with something else than what is known now.
    fn first_wrong(&mut self, inputs: &Inputs) -> Option<Tick> {
        let players = 0..inputs.queues.len();
        for (index, row) in self.rows.iter_mut().enumerate() {
            let tick = self.first + index as Tick;
            if tick >= self.current {
                return None;
            }
            for player in players.clone() {
                let (used, status) = &mut row.inputs[player];
                match inputs.queues[player].get(tick) {
                    Cell::Missing => {}
                    Cell::Given(input) if used == input && *status != InputStatus::Absent => {
                        *status = InputStatus::Confirmed;
                    }
                    Cell::Absent if *status == InputStatus::Absent => {}
                    Cell::Given(_) | Cell::Absent => return Some(tick),
                }
            }
        }
        None
    }

    /// Runs one tick. The state before `loaded` is what was loaded: it needs no saving.
    fn step(&mut self, inputs: &Inputs, late: &[bool], loaded: Tick, out: &mut VecDeque<Output>) {
        let tick = self.current;
        let index = (tick - self.first) as usize;
        if index == self.rows.len() {
            let row = self.spare.pop();
            self.rows.push_back(row.unwrap_or(Row { inputs: Vec::new(), saved: false }));
        }
        let row = &mut self.rows[index];
        row.inputs.clear();
        let mut sure = tick <= inputs.confirmed();
        for (player, queue) in inputs.queues.iter().enumerate() {
            row.inputs.push(match queue.get(tick) {
                Cell::Given(input) => (input.clone(), InputStatus::Confirmed),
                Cell::Absent => (inputs.neutral.clone(), InputStatus::Absent),
                Cell::Missing => {
                    sure = false;
                    let history = History::new(queue, tick, &inputs.neutral);
                    let guess = self.predictor.predict(tick, Player(player as u8), &history);
                    let valid = inputs.is_valid(&Cell::Given(guess.clone()));
                    let guess = if valid { guess } else { inputs.neutral.clone() };
                    let late = late.get(player).copied().unwrap_or(false);
                    (guess, if late { InputStatus::Late } else { InputStatus::Predicted })
                }
            });
        }
        let checksum = self.checksum_every > 0
            && tick >= self.next_checksum
            && (tick - self.next_checksum) % self.checksum_every == 0;
        row.saved = !sure || checksum || row.saved && tick == loaded;
        if row.saved && tick != loaded {
            out.push_back(Output::Save(tick));
        }
        out.push_back(Output::Advance(tick));
        self.current += 1;
    }

    /// Asks for the checksums of states that were kept and are final now, while the owner still has them.
    fn ask_checksums(&mut self, confirmed: Tick, out: &mut VecDeque<Output>) {
        let kept_and_final = self.current.min(confirmed.saturating_add(2));
        while self.checksum_every > 0 && self.next_checksum < kept_and_final {
            out.push_back(Output::Checksum(self.next_checksum));
            self.next_checksum += self.checksum_every;
        }
    }

    /// Ticks that may run on predictions now.
    fn window(&self) -> Tick {
        self.prediction.min(self.limit)
    }

    /// Whether the next tick cannot be run, because too little is known.
    pub(crate) fn waits(&self, inputs: &Inputs) -> bool {
        self.current > inputs.confirmed().saturating_add(self.window())
    }

    /// Rows of final ticks are not needed; the last one stays for who asks what was run.
    fn forget(&mut self) {
        while self.first < self.done && self.first < self.current - 1 {
            let Some(mut row) = self.rows.pop_front() else { break };
            row.saved = false;
            self.spare.push(row);
            self.first += 1;
        }
    }

    /// A saved state that is final. Saves the current one if that is.
    fn final_state(&self, confirmed: Tick, out: &mut VecDeque<Output>) -> Option<Tick> {
        if self.current <= confirmed.saturating_add(1) {
            out.push_back(Output::Save(self.current));
            return Some(self.current);
        }
        let newest = (self.first..=confirmed + 1).rev();
        newest.filter(|tick| *tick < self.current).find(|tick| {
            usize::try_from(tick - self.first)
                .ok()
                .and_then(|index| self.rows.get(index))
                .is_some_and(|row| row.saved)
        })
    }
}
