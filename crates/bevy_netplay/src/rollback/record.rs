//! Recording: what is final of a match, as a file.
//!
//! | when | what is written |
//! |---|---|
//! | the match begins, or its state has come from another player | a header, and this state |
//! | about once a second | the inputs and checksums that have become final |
//! | every ten seconds, or as is set | a final state, for who wants to go there in a replay |
//! | the match or the game ends | the end |
//!
//! Guaranteed: a file that is cut anywhere can be played up to there; a failure to write ends the recording,
//! and nothing else. Not guaranteed: that of one who is dropped from a match, the last ticks are those on
//! which the others agreed.

use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bevy_ecs::prelude::*;
use netplay_protocol::ids::InvalidId;
use netplay_rollback::Session;
use netplay_rollback::limits::SNAPSHOT_MAX;
use netplay_rollback::recording::{Header, HeaderError, RecordError, Recorder};
use thiserror::Error;

use super::encoded::EncodedState;
use super::events::trigger;
use super::seating;
use super::session::{Play, Playing};
use super::snapshot;
use super::types::StateTypes;

/// Where a recording is written to: a file, or memory in a browser. It is given a few kilobytes about once
/// a second, and whole states now and then.
pub type RecordingSink = Box<dyn Write + Send + Sync>;

type Open = dyn FnMut(&mut Header) -> io::Result<RecordingSink> + Send + Sync;

/// Records matches. Insert it before they begin; each is one recording, and who is dropped from a match and
/// comes back begins another one. [`RecordingEnded`] says when one is complete.
///
/// ```
/// # use bevy_app::App;
/// # use bevy_netplay::rollback::*;
/// # let mut app = App::new();
/// app.insert_resource(RecordMatches::to_file("match.npr"));
/// ```
///
/// A recording begins with the state before its first tick, after the observers of
/// [`SimulationBegins`](super::SimulationBegins), or of [`SimulationRestored`](super::SimulationRestored)
/// for who comes late. A state of more than 16 MiB is not recorded.
///
/// A past state costs the ticks since, which are run again, as for a player who joins.
#[derive(Resource)]
pub struct RecordMatches {
    to: To,
    snapshot_every: Duration,
}

enum To {
    #[cfg(not(target_arch = "wasm32"))]
    File {
        path: PathBuf,
        begun: u32,
    },
    Sink(Box<Open>),
}

impl RecordMatches {
    /// Writes to what `open` gives for each recording. It is shown the header before it is written:
    /// `note` and `unix_seconds` are its own to fill in, all else is what the replay needs.
    pub fn new(
        open: impl FnMut(&mut Header) -> io::Result<RecordingSink> + Send + Sync + 'static,
    ) -> Self {
        Self { to: To::Sink(Box::new(open)), snapshot_every: Self::SNAPSHOT_EVERY }
    }

    /// Writes to this file, in place of what was in it. Recordings after the first have their number in
    /// the name: `match.npr`, `match-2.npr`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_file(path: impl Into<PathBuf>) -> Self {
        let to = To::File { path: path.into(), begun: 0 };
        Self { to, snapshot_every: Self::SNAPSHOT_EVERY }
    }

    const SNAPSHOT_EVERY: Duration = Duration::from_secs(10);

    /// Records a state so often, besides the first: going to any tick of a replay then runs no more than
    /// the ticks of this time. 10 s by default; zero for no others.
    #[must_use]
    pub const fn snapshot_every(mut self, time: Duration) -> Self {
        self.snapshot_every = time;
        self
    }

    fn open(&mut self, header: &mut Header) -> io::Result<(RecordingSink, Option<PathBuf>)> {
        match &mut self.to {
            #[cfg(not(target_arch = "wasm32"))]
            To::File { path, begun } => {
                *begun += 1;
                let path = numbered(path, *begun);
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                header.unix_seconds = since.unwrap_or_default().as_secs();
                Ok((Box::new(std::fs::File::create(&path)?), Some(path)))
            }
            To::Sink(open) => Ok((open(header)?, None)),
        }
    }
}

/// The name of a recording of this number, from 1 on.
#[cfg(not(target_arch = "wasm32"))]
fn numbered(path: &std::path::Path, number: u32) -> PathBuf {
    if number <= 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// A recording is over: the match is, or nothing more can be written.
#[derive(EntityEvent, Clone, Debug)]
pub struct RecordingEnded {
    /// The lobby; it may be gone.
    pub entity: Entity,
    /// The file, of [`RecordMatches::to_file`].
    pub path: Option<PathBuf>,
    /// The ticks that were recorded.
    pub ticks: Range<i32>,
    /// Bytes that were written.
    pub bytes: u64,
    /// Why it ended early. What was written before can be played.
    pub error: Option<RecordingFailed>,
}

/// Why a match is not recorded, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordingFailed {
    /// Nothing can be written.
    #[error("the recording cannot be written: {text}")]
    Write {
        /// Why, for programs.
        kind: io::ErrorKind,
        /// Why, for people.
        text: String,
    },
    /// The game id or build id in [`NetplaySettings`](crate::NetplaySettings) breaks its rules.
    #[error("in NetplaySettings: {0}")]
    Settings(#[from] InvalidId),
    /// No recording has such a header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Something was not recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<io::Error> for RecordingFailed {
    fn from(error: io::Error) -> Self {
        Self::Write { kind: error.kind(), text: error.to_string() }
    }
}

/// A recording that is under way.
pub(crate) struct Recording {
    recorder: Recorder,
    sink: RecordingSink,
    path: Option<PathBuf>,
    first: i32,
    bytes: u64,
    /// Ticks between two states; 0 for none.
    snapshot_every: i32,
    /// When the next one is due.
    next_snapshot: i32,
}

impl Recording {
    fn write(&mut self) -> Result<(), RecordingFailed> {
        if self.recorder.waiting() > 0 {
            let bytes = self.recorder.take_bytes();
            self.sink.write_all(&bytes)?;
            self.sink.flush()?;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// Records what has become final.
    fn follow(&mut self, session: &Session) -> Result<(), RecordingFailed> {
        self.recorder.follow(session)?;
        self.write()
    }

    /// Whether a state is due, which is then asked for once.
    fn take_due(&mut self) -> bool {
        let next = self.recorder.next_tick();
        let due = self.snapshot_every > 0 && next >= self.next_snapshot;
        if due {
            self.next_snapshot = next.saturating_add(self.snapshot_every);
        }
        due
    }

    fn snapshot(
        &mut self,
        session: &Session,
        tick: i32,
        bytes: &[u8],
    ) -> Result<(), RecordingFailed> {
        self.follow(session)?;
        match self.recorder.snapshot(tick, bytes) {
            // Who joins was given the same one.
            Ok(()) | Err(RecordError::TooOld { .. }) => {}
            Err(error @ RecordError::Snapshot(_)) => {
                tracing::warn!(%error, "no more states are recorded");
                self.snapshot_every = 0;
            }
            Err(error) => return Err(error.into()),
        }
        self.write()
    }

    fn finish(mut self) -> Result<u64, (RecordingFailed, u64)> {
        let bytes = self.recorder.finish();
        let written = self.sink.write_all(&bytes).and_then(|()| self.sink.flush());
        match written {
            Ok(()) => Ok(self.bytes + bytes.len() as u64),
            Err(error) => Err((error.into(), self.bytes)),
        }
    }
}

/// The match begins: its recording does too, if the game wants one. The state is the one before tick 0.
pub(crate) fn begin_match(world: &mut World) {
    if !world.contains_resource::<RecordMatches>() {
        return;
    }
    // What the observers of the beginning have spawned belongs to it.
    world.flush();
    let Some(mut play) = world.resource_mut::<Playing>().play.take() else { return };
    let state = world.resource_scope(|world, mut types: Mut<'_, StateTypes>| {
        EncodedState::now(world, &mut types, 0)
    });
    begin(world, &mut play, 0, &snapshot::write(&state));
    world.resource_mut::<Playing>().play = Some(play);
}

/// Begins a recording with this state, before this tick, if the game wants one.
pub(crate) fn begin(world: &mut World, play: &mut Play, tick: i32, bytes: &[u8]) {
    // Another state has come in place of what was recorded so far.
    end(world, play);
    if !world.contains_resource::<RecordMatches>() {
        return;
    }
    match open(world, play, tick, bytes) {
        Ok(recording) => play.recording = Some(recording),
        Err(error) => {
            let (entity, path) = (play.lobby, None);
            failed(
                world,
                RecordingEnded { entity, path, ticks: tick..tick, bytes: 0, error: None },
                error,
            );
        }
    }
}

fn open(
    world: &mut World,
    play: &Play,
    tick: i32,
    bytes: &[u8],
) -> Result<Recording, RecordingFailed> {
    let mut header = seating::header(world, play.lobby)?;
    header.first_tick = tick;
    if bytes.len() > SNAPSHOT_MAX {
        return Err(RecordError::Snapshot(bytes.len()).into());
    }
    let mut to = world.resource_mut::<RecordMatches>();
    let every = to.snapshot_every.as_secs_f64() * f64::from(header.rate.per_second());
    let (sink, path) = to.open(&mut header)?;
    let mut recorder = Recorder::new(&header)?;
    recorder.snapshot(tick, bytes)?;
    let snapshot_every = every.ceil() as i32;
    let next_snapshot = tick.saturating_add(snapshot_every);
    let mut recording =
        Recording { recorder, sink, path, first: tick, bytes: 0, snapshot_every, next_snapshot };
    recording.write()?;
    Ok(recording)
}

/// Records what has become final in this frame.
pub(crate) fn follow(world: &mut World, play: &mut Play) {
    let Some(recording) = &mut play.recording else { return };
    match recording.follow(&play.session) {
        Ok(()) if recording.take_due() => play.session.want_snapshot(),
        Ok(()) => {}
        Err(error) => fail(world, play, error),
    }
}

/// The final state before this tick is known.
pub(crate) fn note_state(world: &mut World, play: &mut Play, tick: i32, bytes: &[u8]) {
    let Some(recording) = &mut play.recording else { return };
    if let Err(error) = recording.snapshot(&play.session, tick, bytes) {
        fail(world, play, error);
    }
}

/// The match is over for us: so is its recording.
pub(crate) fn end(world: &mut World, play: &mut Play) {
    let Some(mut recording) = play.recording.take() else { return };
    // What the session has forgotten is the end of it.
    if let Err(error @ RecordingFailed::Write { .. }) = recording.follow(&play.session) {
        return failed(world, ended(play.lobby, &recording), error);
    }
    let mut ended = ended(play.lobby, &recording);
    match recording.finish() {
        Ok(bytes) => {
            ended.bytes = bytes;
            tracing::info!(ticks = ?ended.ticks, bytes, "the match is recorded");
            trigger(world, ended);
        }
        Err((error, bytes)) => {
            ended.bytes = bytes;
            failed(world, ended, error);
        }
    }
}

/// The game ends.
pub(crate) fn end_with_game(world: &mut World) {
    if let Some(mut play) = world.resource_mut::<Playing>().play.take() {
        end(world, &mut play);
        world.resource_mut::<Playing>().play = Some(play);
    }
}

/// The match goes on without its recording. What is there stays as a file that was cut.
fn fail(world: &mut World, play: &mut Play, error: RecordingFailed) {
    if let Some(recording) = play.recording.take() {
        failed(world, ended(play.lobby, &recording), error);
    }
}

fn ended(entity: Entity, recording: &Recording) -> RecordingEnded {
    let Recording { recorder, path, first, bytes, .. } = recording;
    let ticks = *first..recorder.next_tick();
    RecordingEnded { entity, path: path.clone(), ticks, bytes: *bytes, error: None }
}

fn failed(world: &mut World, mut ended: RecordingEnded, error: RecordingFailed) {
    tracing::warn!(%error, "the match is not recorded any more");
    ended.error = Some(error);
    trigger(world, ended);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_recordings_have_their_number_in_the_name() {
        let name = |path: &str, number| numbered(std::path::Path::new(path), number);
        assert_eq!(name("a/match.npr", 1), PathBuf::from("a/match.npr"));
        assert_eq!(name("a/match.npr", 2), PathBuf::from("a/match-2.npr"));
        assert_eq!(name("match", 3), PathBuf::from("match-3"));
    }
}
