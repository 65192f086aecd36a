//! Writes a recording.

use thiserror::Error;

use super::chunk::{self, MAGIC};
use super::{FORMAT_VERSION, Header, HeaderError};
use crate::input::{Cell, InputBytes, Tick};
use crate::limits::{
    INPUT_MAX, PLAYERS_MAX, RECORDING_BUFFER, RECORDING_CHUNK_MAX, RECORDING_CHUNK_TICKS,
    RECORDING_TICKS_END, SNAPSHOT_MAX,
};
use crate::message::put_tick;
use crate::run;
use crate::session::Session;

/// Bytes that the inputs of a chunk have at most.
const INPUTS_MAX: usize = RECORDING_CHUNK_TICKS * PLAYERS_MAX * (3 + 8 + INPUT_MAX * 8) / 8;

const _: () = assert!(INPUTS_MAX + 6 <= RECORDING_CHUNK_MAX);
const _: () = assert!(RECORDING_CHUNK_TICKS >= netplay_tick::TickRate::MAX as usize);

/// Something was not recorded. The recording is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Ticks are recorded in order and without a gap.
    #[error("tick {found} cannot follow: tick {expected} is the next one")]
    NotNext {
        /// The tick that was given.
        found: Tick,
        /// The tick that is to be recorded.
        expected: Tick,
    },
    /// The session has forgotten a tick that is not recorded: [`Recorder::follow`] was not called for
    /// [`HISTORY`](crate::limits::HISTORY) ticks, or the header names another first tick than that of
    /// the session's state. Begin another recording, with a snapshot.
    #[error("the inputs of tick {0} are no longer kept")]
    Gap(Tick),
    /// As many inputs as the roster has players.
    #[error("{found} inputs for {expected} players")]
    Players {
        /// So many were given, counted up to one too many.
        found: usize,
        /// So many are needed.
        expected: usize,
    },
    /// An input is too long.
    #[error("an input of {0} bytes; {INPUT_MAX} are the most")]
    Input(usize),
    /// A snapshot is empty or too long.
    #[error("a snapshot of {0} bytes; it has 1 to {SNAPSHOT_MAX}")]
    Snapshot(usize),
    /// A state is final when the inputs of all ticks before it are recorded.
    #[error("the state before tick {tick} is not final: tick {next} is the next to be recorded")]
    NotFinal {
        /// The tick after the state.
        tick: Tick,
        /// The tick that is to be recorded.
        next: Tick,
    },
    /// Checksums are recorded in order, and so are snapshots; none is from before the recording.
    #[error("the state before tick {tick} is too old: {first} is the first that can be recorded")]
    TooOld {
        /// The tick after the state.
        tick: Tick,
        /// The first that is possible.
        first: Tick,
    },
    /// What was recorded is not fetched with [`Recorder::take_bytes`]. Fetch it and try again.
    #[error("{RECORDING_BUFFER} bytes wait to be written")]
    Full,
    /// No recording is that long.
    #[error("a recording ends before tick {RECORDING_TICKS_END}")]
    TooLong,
}

/// Turns a match into the bytes of a file, as it is played.
///
/// Nothing is written here: append what [`Self::take_bytes`] gives to a file. It has whole chunks only,
/// so that what is on disk can be read at any time. Inputs come out about once a second. If nobody
/// fetches the bytes, at most [`RECORDING_BUFFER`] of them wait; then [`RecordError::Full`] says so, and
/// nothing is lost as long as the inputs come again: [`Self::follow`] sees to that by itself.
///
/// A recorder that is dropped without [`Self::finish`] leaves a file that can be read, and says that it
/// was cut.
#[derive(Clone, Debug)]
pub struct Recorder {
    out: Vec<u8>,
    /// The checksum of the last chunk.
    seal: u64,
    players: usize,
    /// Ticks of a chunk.
    chunk_ticks: usize,
    /// Told from here, every chunk begins.
    neutral: Cell,
    /// The first tick in `cells`.
    first: Tick,
    /// The inputs of the chunk that is under way, all players of each tick.
    cells: Vec<Cell>,
    /// The checksums of the chunk that is under way.
    sums: Vec<(Tick, u64)>,
    /// The first state whose checksum may follow.
    next_sum: Tick,
    next_snapshot: Tick,
}

impl Recorder {
    /// Begins a recording.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn new(header: &Header) -> Result<Self, HeaderError> {
        let (players, neutral) = header.check()?;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let seal = chunk::put(&mut out, 0, chunk::HEADER, |out| header.put(out));
        Ok(Self {
            out,
            seal,
            players,
            chunk_ticks: header.rate.per_second().into(),
            neutral: Cell::Given(neutral),
            first: header.first_tick,
            cells: Vec::new(),
            sums: Vec::new(),
            next_sum: header.first_tick,
            next_snapshot: header.first_tick,
        })
    }

    /// The tick that is to be recorded next.
    pub fn next_tick(&self) -> Tick {
        self.first + (self.cells.len() / self.players) as Tick
    }

    /// Bytes that wait for [`Self::take_bytes`].
    pub const fn waiting(&self) -> usize {
        self.out.len()
    }

    /// The final inputs of the next tick, of all players: `None` for who was not in the match. What
    /// [`Session::final_inputs`] gives.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing of the tick is recorded.
    pub fn record<'a>(
        &mut self,
        tick: Tick,
        inputs: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<(), RecordError> {
        let expected = self.next_tick();
        if tick != expected {
            return Err(RecordError::NotNext { found: tick, expected });
        }
        if tick >= RECORDING_TICKS_END {
            return Err(RecordError::TooLong);
        }
        self.check_room(0)?;
        let before = self.cells.len();
        let pushed = self.push(inputs);
        if pushed.is_err() {
            self.cells.truncate(before);
        } else if self.cells.len() >= self.chunk_ticks * self.players {
            self.close();
        }
        pushed
    }

    fn push<'a>(
        &mut self,
        inputs: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<(), RecordError> {
        let (expected, mut found) = (self.players, 0);
        for input in inputs.take(expected + 1) {
            found += 1;
            self.cells.push(match input {
                None => Cell::Absent,
                Some(bytes) => {
                    Cell::Given(InputBytes::new(bytes).ok_or(RecordError::Input(bytes.len()))?)
                }
            });
        }
        if found == expected { Ok(()) } else { Err(RecordError::Players { found, expected }) }
    }

    /// Records what has become final in a session since the last call: inputs and checksums. Call it
    /// after every [`Input::Tick`](crate::Input::Tick), when all outputs are done. Gives how many ticks
    /// were recorded.
    ///
    /// The header has to be that of the session: of its match, with its roster, from tick 0 on or from
    /// the tick of its [`Output::Restore`](crate::Output::Restore).
    ///
    /// # Errors
    /// [`RecordError::Full`], [`RecordError::Gap`] or [`RecordError::Players`]; what was recorded before
    /// stays, and another call goes on from there.
    pub fn follow(&mut self, session: &Session) -> Result<u32, RecordError> {
        let mut count = 0;
        while self.next_tick() <= session.confirmed() {
            let tick = self.next_tick();
            let mut inputs = session.final_inputs(tick).peekable();
            if inputs.peek().is_none() {
                return Err(RecordError::Gap(tick));
            }
            self.record(tick, inputs)?;
            count += 1;
        }
        for (tick, sum) in session.final_checksums() {
            if (self.next_sum..=self.next_tick()).contains(&tick) {
                self.checksum(tick, sum)?;
            }
        }
        Ok(count)
    }

    /// The checksum of the final state before a tick that is recorded, or is the next one.
    ///
    /// # Errors
    /// [`RecordError::NotFinal`], [`RecordError::TooOld`] or [`RecordError::Full`].
    pub fn checksum(&mut self, tick: Tick, sum: u64) -> Result<(), RecordError> {
        self.check_state(tick, self.next_sum)?;
        self.check_room(0)?;
        if self.sums.len() >= RECORDING_CHUNK_TICKS {
            self.close();
        }
        self.sums.push((tick, sum));
        self.next_sum = tick + 1;
        Ok(())
    }

    /// The final state before a tick that is recorded, or is the next one. Every snapshot is a place
    /// from which a replay can begin; one in some minutes is enough.
    ///
    /// A state that a session had saved is final when no tick before it is run again: when it is of a
    /// tick up to [`Session::confirmed`] + 1, and the outputs of the last
    /// [`Input::Tick`](crate::Input::Tick) are done.
    ///
    /// # Errors
    /// [`RecordError::Snapshot`], [`RecordError::NotFinal`], [`RecordError::TooOld`] or
    /// [`RecordError::Full`].
    pub fn snapshot(&mut self, tick: Tick, bytes: &[u8]) -> Result<(), RecordError> {
        if bytes.is_empty() || bytes.len() > SNAPSHOT_MAX {
            return Err(RecordError::Snapshot(bytes.len()));
        }
        self.check_state(tick, self.next_snapshot)?;
        self.check_room(bytes.len())?;
        // First the inputs that lead to it: a file that is cut after it has them.
        self.close();
        self.put(chunk::SNAPSHOT, |out| {
            put_tick(out, tick);
            out.extend_from_slice(bytes);
        });
        self.next_snapshot = tick + 1;
        Ok(())
    }

    /// All whole chunks that were not fetched yet. Append them to the file.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.out)
    }

    /// Ends the recording; gives the bytes that were not fetched yet.
    pub fn finish(mut self) -> Vec<u8> {
        self.close();
        let end = self.first;
        self.put(chunk::END, |out| put_tick(out, end));
        self.out
    }

    fn check_state(&self, tick: Tick, first: Tick) -> Result<(), RecordError> {
        let next = self.next_tick();
        if tick > next {
            return Err(RecordError::NotFinal { tick, next });
        }
        if tick < first { Err(RecordError::TooOld { tick, first }) } else { Ok(()) }
    }

    const fn check_room(&self, bytes: usize) -> Result<(), RecordError> {
        let fits = self.out.len() + bytes <= RECORDING_BUFFER;
        if fits { Ok(()) } else { Err(RecordError::Full) }
    }

    fn put(&mut self, kind: u8, contents: impl FnOnce(&mut Vec<u8>)) {
        self.seal = chunk::put(&mut self.out, self.seal, kind, contents);
    }

    /// Writes what is under way.
    fn close(&mut self) {
        if !self.cells.is_empty() {
            self.put_inputs();
        }
        let mut sums = core::mem::take(&mut self.sums);
        if !sums.is_empty() {
            self.put(chunk::CHECKSUMS, |out| {
                for (tick, sum) in sums.drain(..) {
                    put_tick(out, tick);
                    out.extend_from_slice(&sum.to_le_bytes());
                }
            });
        }
        self.sums = sums;
    }

    fn put_inputs(&mut self) {
        let (first, next, players) = (self.first, self.next_tick(), self.players);
        let cells = core::mem::take(&mut self.cells);
        let neutral = self.neutral.clone();
        let cell = |tick: Tick, player: usize| {
            let index = usize::try_from(tick - first).ok();
            index.and_then(|index| cells.get(index * players + player)).unwrap_or(&neutral)
        };
        self.put(chunk::INPUTS, |out| {
            put_tick(out, first);
            out.extend_from_slice(&((next - first) as u16).to_le_bytes());
            let max = out.len() + INPUTS_MAX;
            let range = (first, next - 1);
            let count = run::put(out, max, range, players, cell);
            debug_assert_eq!(count as Tick, next - first, "the limit has room for any inputs");
        });
        (self.first, self.cells) = (next, cells);
        self.cells.clear();
    }
}
