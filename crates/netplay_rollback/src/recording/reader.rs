//! Reads a recording.

use core::fmt;
use core::ops::Range;

use netplay_protocol::cursor::{ReadError, Reader};
use thiserror::Error;

use super::chunk::{self, Broken, Chunk, Chunks, MAGIC};
use super::{FORMAT_VERSION, Header, HeaderError, Replay};
use crate::input::{Cell, InputBytes, InputStatus, Player, Tick};
use crate::limits::{RECORDING_CHUNK_TICKS, RECORDING_TICKS_END};
use crate::message::read_tick;
use crate::run;
use crate::session::PlayerInput;

/// Bytes of a checksum and its tick.
const SUM: usize = 12;

/// Nothing of a file can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// It begins like something else.
    #[error("not a recording")]
    NotARecording,
    /// It is of another version.
    #[error("a recording of version {0}; this is version {FORMAT_VERSION}")]
    Version(u16),
    /// It ends before its header does.
    #[error("the recording ends within its header")]
    Cut,
    /// Its header is not what was written.
    #[error("the header of the recording is damaged")]
    Damaged,
    /// No recorder writes such a header.
    #[error("the header of the recording is malformed")]
    Malformed(#[from] ReadError),
    /// No recorder writes a header with these values.
    #[error("the header of the recording is not valid")]
    Header(#[from] HeaderError),
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// [`Recorder::finish`](super::Recorder::finish) was called, and everything is here.
    Finished,
    /// The file ends early: the process died, or is still recording. What is before this byte is used.
    Cut {
        /// In bytes from the start of the file.
        at: usize,
    },
    /// The chunk at this byte is not what a recorder writes there. What is before it is used.
    Damaged {
        /// In bytes from the start of the file.
        at: usize,
    },
}

/// A state that was recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Snapshot<'a> {
    /// The tick that runs next.
    pub tick: Tick,
    /// What the game gave.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot(tick {}, {} bytes)", self.tick, self.bytes.len())
    }
}

/// A recorded match.
///
/// All of it that can be read was checked when it was opened; what it holds besides the bytes of the
/// file does not grow with them. Finding a tick or a snapshot walks over the heads of all chunks
/// before it.
#[derive(Clone)]
pub struct Recording<'a> {
    header: Header,
    players: usize,
    neutral: InputBytes,
    /// The chunks after the header that were checked.
    chunks: &'a [u8],
    end: Tick,
    ending: Ending,
    skipped: u32,
}

impl fmt::Debug for Recording<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Recording");
        out.field("header", &self.header).field("end", &self.end).field("ending", &self.ending);
        out.finish_non_exhaustive()
    }
}

impl<'a> Recording<'a> {
    /// Reads the bytes of a file and checks all of them. Reads up to the end of the last chunk that is
    /// whole, wherever the file was cut or damaged; see [`Self::ending`].
    ///
    /// # Errors
    /// [`RecordingError`], if not even the header can be read.
    pub fn read(bytes: &'a [u8]) -> Result<Self, RecordingError> {
        let magic = bytes.len().min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] {
            return Err(RecordingError::NotARecording);
        }
        let mut reader = Reader::new(bytes);
        reader.bytes(MAGIC.len()).map_err(|_| RecordingError::Cut)?;
        let version = reader.u16().map_err(|_| RecordingError::Cut)?;
        if version != FORMAT_VERSION {
            return Err(RecordingError::Version(version));
        }
        let (head, rest) = Chunk::read(reader.rest()).map_err(|broken| match broken {
            Broken::Cut => RecordingError::Cut,
            Broken::Damaged => RecordingError::Damaged,
        })?;
        if head.kind != chunk::HEADER || !head.is_whole(0) {
            return Err(RecordingError::Damaged);
        }
        let header = Header::read(head.contents)?;
        let (players, neutral) = header.check()?;
        let mut check = Check::new(header.first_tick, players, &neutral);
        let (left, broken) = check.all(rest, head.sum);
        let at = bytes.len() - left.len();
        let ending = match broken {
            None if check.finished => Ending::Finished,
            None | Some(Broken::Cut) => Ending::Cut { at },
            Some(Broken::Damaged) => Ending::Damaged { at },
        };
        let (end, skipped) = (check.end, check.skipped);
        let chunks = &rest[..rest.len() - left.len()];
        Ok(Self { header, players, neutral, chunks, end, ending, skipped })
    }

    /// All but the chunks, and where these are in the bytes that were read.
    pub(super) fn without_chunks(&self, bytes: &[u8]) -> (Recording<'static>, Range<usize>) {
        // The chunks that were checked end where the rest, which was not taken, begins.
        let end = match self.ending {
            Ending::Finished => bytes.len(),
            Ending::Cut { at } | Ending::Damaged { at } => at,
        };
        let header = self.header.clone();
        let (players, neutral) = (self.players, self.neutral.clone());
        let (end_tick, ending, skipped) = (self.end, self.ending, self.skipped);
        let parts =
            Recording { header, players, neutral, chunks: &[], end: end_tick, ending, skipped };
        (parts, end - self.chunks.len()..end)
    }

    /// The same with these chunks, which were checked.
    pub(super) fn with_chunks<'b>(&self, chunks: &'b [u8]) -> Recording<'b>
    where
        'a: 'b,
    {
        Recording { chunks, ..self.clone() }
    }

    /// What was played, and by whom.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The first tick that is recorded, if any is.
    pub const fn first_tick(&self) -> Tick {
        self.header.first_tick
    }

    /// The tick after the last one that is recorded.
    pub const fn end_tick(&self) -> Tick {
        self.end
    }

    /// Whether the end is here.
    pub const fn ending(&self) -> Ending {
        self.ending
    }

    /// How many chunks are of a kind that this version does not know. They were skipped.
    pub const fn skipped(&self) -> u32 {
        self.skipped
    }

    /// The inputs of all ticks.
    pub fn ticks(&self) -> Ticks<'a> {
        self.ticks_from(Tick::MIN)
    }

    /// The inputs of all ticks from this one on.
    pub fn ticks_from(&self, tick: Tick) -> Ticks<'a> {
        Ticks {
            chunks: Chunks(self.chunks),
            from: tick,
            next: self.header.first_tick,
            players: self.players,
            neutral: self.neutral.clone(),
            cells: Vec::new().into_iter(),
        }
    }

    /// All snapshots, in order.
    pub fn snapshots(&self) -> impl Iterator<Item = Snapshot<'a>> + use<'a> {
        let chunks = Chunks(self.chunks).filter(|chunk| chunk.kind == chunk::SNAPSHOT);
        chunks.filter_map(|chunk| read_snapshot(chunk.contents))
    }

    /// The last snapshot of the state before `tick` or an earlier one. Without one, a replay begins
    /// with the state before [`Self::first_tick`].
    pub fn snapshot_before(&self, tick: Tick) -> Option<Snapshot<'a>> {
        self.snapshots().take_while(|snapshot| snapshot.tick <= tick).last()
    }

    /// All checksums, in order: of the state before which tick, and what.
    pub fn checksums(&self) -> Checksums<'a> {
        Checksums { chunks: Chunks(self.chunks), rest: &[] }
    }

    /// Plays it again from the start.
    pub fn replay(&self) -> Replay<'a> {
        Replay::new(self, self.header.first_tick)
    }

    /// Plays it again from this tick on; its state has to be there, for example from
    /// [`Self::snapshot_before`]. `None` if the tick is not between [`Self::first_tick`] and
    /// [`Self::end_tick`].
    pub fn replay_from(&self, tick: Tick) -> Option<Replay<'a>> {
        let recorded = (self.header.first_tick..=self.end).contains(&tick);
        recorded.then(|| Replay::new(self, tick))
    }
}

/// What was read so far, while a file is checked.
struct Check<'n> {
    first: Tick,
    end: Tick,
    next_sum: Tick,
    next_snapshot: Tick,
    finished: bool,
    skipped: u32,
    neutral: &'n InputBytes,
    /// For reuse.
    before: Vec<Cell>,
}

impl<'n> Check<'n> {
    fn new(first: Tick, players: usize, neutral: &'n InputBytes) -> Self {
        Self {
            first,
            end: first,
            next_sum: first,
            next_snapshot: first,
            finished: false,
            skipped: 0,
            neutral,
            before: vec![Cell::Absent; players],
        }
    }

    /// Reads all chunks that are whole; gives what is left, and why.
    fn all<'a>(&mut self, bytes: &'a [u8], mut before: u64) -> (&'a [u8], Option<Broken>) {
        let mut left = bytes;
        while !left.is_empty() {
            let (chunk, rest) = match Chunk::read(left) {
                Ok(found) => found,
                Err(broken) => return (left, Some(broken)),
            };
            if !chunk.is_whole(before) || self.take(chunk).is_none() {
                return (left, Some(Broken::Damaged));
            }
            (left, before) = (rest, chunk.sum);
        }
        (left, None)
    }

    /// `None` if no recorder writes such a chunk here.
    fn take(&mut self, chunk: Chunk<'_>) -> Option<()> {
        // Nothing follows the end.
        if self.finished {
            return None;
        }
        match chunk.kind {
            chunk::HEADER => return None,
            chunk::INPUTS => {
                let inputs = Inputs::read(chunk.contents)?;
                let end = inputs.first.checked_add(inputs.count as Tick)?;
                if inputs.first != self.end || end > RECORDING_TICKS_END {
                    return None;
                }
                inputs.each(self.neutral, &mut self.before, |_| ())?;
                self.end = end;
            }
            chunk::CHECKSUMS => {
                let sums = chunk.contents.chunks_exact(SUM);
                let count = sums.len();
                if count * SUM != chunk.contents.len()
                    || !(1..=RECORDING_CHUNK_TICKS).contains(&count)
                {
                    return None;
                }
                for sum in sums {
                    let (tick, _) = read_sum(sum)?;
                    self.next_sum = self.state(tick, self.next_sum)?;
                }
            }
            chunk::SNAPSHOT => {
                let snapshot = read_snapshot(chunk.contents)?;
                self.next_snapshot = self.state(snapshot.tick, self.next_snapshot)?;
            }
            chunk::END => {
                let end = read_tick(&mut Reader::new(chunk.contents)).ok()?;
                if end != self.end || chunk.contents.len() != 4 {
                    return None;
                }
                self.finished = true;
            }
            _ => self.skipped = self.skipped.saturating_add(1),
        }
        Some(())
    }

    /// The state before this tick can be told here; gives the first that can be told after it.
    fn state(&self, tick: Tick, first: Tick) -> Option<Tick> {
        debug_assert!(first >= self.first);
        (first..=self.end).contains(&tick).then(|| tick + 1)
    }
}

/// A chunk of inputs.
struct Inputs<'a> {
    first: Tick,
    count: usize,
    bits: &'a [u8],
}

impl<'a> Inputs<'a> {
    fn read(contents: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(contents);
        let first = read_tick(&mut reader).ok()?;
        let count = usize::from(reader.u16().ok()?);
        let allowed = (1..=RECORDING_CHUNK_TICKS).contains(&count);
        allowed.then_some(Self { first, count, bits: reader.rest() })
    }

    /// Gives each cell of each tick to `each`. `None` if the bits are anything else.
    fn each(
        &self,
        neutral: &InputBytes,
        before: &mut [Cell],
        mut each: impl FnMut(&Cell),
    ) -> Option<()> {
        before.fill(Cell::Given(neutral.clone()));
        run::read(self.bits, self.count, before, |_, _, cell| each(cell))
    }
}

fn read_snapshot(contents: &[u8]) -> Option<Snapshot<'_>> {
    let mut reader = Reader::new(contents);
    let tick = read_tick(&mut reader).ok()?;
    let bytes = reader.rest();
    (!bytes.is_empty()).then_some(Snapshot { tick, bytes })
}

fn read_sum(bytes: &[u8]) -> Option<(Tick, u64)> {
    let mut reader = Reader::new(bytes);
    Some((read_tick(&mut reader).ok()?, reader.u64().ok()?))
}

/// The checksums of a recording.
#[derive(Clone, Debug)]
pub struct Checksums<'a> {
    chunks: Chunks<'a>,
    rest: &'a [u8],
}

impl Iterator for Checksums<'_> {
    type Item = (Tick, u64);

    fn next(&mut self) -> Option<(Tick, u64)> {
        if self.rest.is_empty() {
            self.rest = self.chunks.find(|chunk| chunk.kind == chunk::CHECKSUMS)?.contents;
        }
        let (sum, rest) = self.rest.split_at_checked(SUM)?;
        self.rest = rest;
        read_sum(sum)
    }
}

/// The ticks of a recording.
#[derive(Clone, Debug)]
pub struct Ticks<'a> {
    chunks: Chunks<'a>,
    /// What is before is left out.
    from: Tick,
    /// The tick of the next cells.
    next: Tick,
    players: usize,
    neutral: InputBytes,
    /// What is left of a chunk.
    cells: std::vec::IntoIter<Cell>,
}

impl Ticks<'_> {
    /// Reads the next chunk of which something is wanted.
    fn refill(&mut self) -> Option<()> {
        loop {
            let chunk = self.chunks.find(|chunk| chunk.kind == chunk::INPUTS)?;
            let inputs = Inputs::read(chunk.contents)?;
            let end = inputs.first + inputs.count as Tick;
            if end <= self.from {
                continue;
            }
            let mut before = vec![Cell::Absent; self.players];
            let mut cells = Vec::with_capacity(inputs.count * self.players);
            inputs.each(&self.neutral, &mut before, |cell| cells.push(cell.clone()))?;
            let skip = (self.from.max(inputs.first) - inputs.first) as usize;
            cells.drain(..skip * self.players);
            self.next = inputs.first + skip as Tick;
            self.cells = cells.into_iter();
            return Some(());
        }
    }
}

impl Iterator for Ticks<'_> {
    type Item = TickInputs;

    fn next(&mut self) -> Option<TickInputs> {
        if self.cells.len() == 0 {
            self.refill()?;
        }
        let tick = self.next;
        self.next += 1;
        let cells = self.cells.by_ref().take(self.players).collect();
        Some(TickInputs { tick, neutral: self.neutral.clone(), cells })
    }
}

/// What all players did at one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickInputs {
    tick: Tick,
    neutral: InputBytes,
    cells: Vec<Cell>,
}

impl TickInputs {
    /// The tick.
    pub const fn tick(&self) -> Tick {
        self.tick
    }

    /// As a simulation is to see it, like [`Session::inputs`](crate::Session::inputs): what is recorded
    /// is [`InputStatus::Confirmed`], and of who was not in the match the neutral input is
    /// [`InputStatus::Absent`].
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = PlayerInput<'_>> {
        self.cells.iter().enumerate().map(|(index, cell)| {
            let (input, status) = match cell {
                Cell::Given(input) => (input, InputStatus::Confirmed),
                Cell::Absent | Cell::Missing => (&self.neutral, InputStatus::Absent),
            };
            PlayerInput { player: Player(index as u8), bytes: input.as_slice(), status }
        })
    }

    /// As it was recorded, like [`Session::final_inputs`](crate::Session::final_inputs): `None` for who
    /// was not in the match.
    pub fn final_inputs(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        self.cells.iter().map(|cell| match cell {
            Cell::Given(input) => Some(input.as_slice()),
            Cell::Absent | Cell::Missing => None,
        })
    }
}
