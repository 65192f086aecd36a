//! Recordings: a match as a file of inputs, checksums and snapshots, and how to play it again.
//!
//! A [`Recorder`] turns what is final in a [`Session`](crate::Session) into bytes; a [`Recording`] reads
//! them; a [`Replay`] gives them to the same function that ran the ticks, and compares the checksums.
//! Files are read and written by the caller.
//!
//! Guaranteed: no bytes panic or take more memory than a second of inputs; what is read is what was
//! written, up to a chance of 2⁻⁶⁴ for each damage; a file that was cut anywhere gives everything up to
//! its last whole chunk, and says so. Not guaranteed: who wrote it. A checksum is no signature; what a
//! file says is as true as its author is honest. Of one who was dropped from a match, the last ticks may
//! be others than those on which the others agreed.
//!
//! # Format
//!
//! Version 1. Numbers are little-endian; a tick has 4 bytes, never negative.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `89 4e 50 52 0d 0a 1a 0a` |
//! | 8 | 2 | version of the format; a reader refuses others |
//! | 10 | | chunks, to the end of the file: a header, then any others |
//!
//! A chunk:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | kind; unknown ones are skipped |
//! | 4 | bytes of the contents |
//! | | contents |
//! | 8 | xxh3 (64 bits) of all this, with the xxh3 of the chunk before as its seed; 0 for the first |
//!
//! Through the seeds a chunk counts only after those that it was written after. So nothing is missing,
//! doubled or from another file.
//!
//! | kind | chunk | contents |
//! |---|---|---|
//! | 0 | header | protocol version 2, game (length 1, text), build (length 1, text), schema hash 8, session 8, ticks per second 2, ticks between checksums 2, first tick, seconds since 1970 8, count of peers 1, of each: its id 16 and players 1, neutral input (length 1, bytes), note (length 2, UTF-8) |
//! | 1 | inputs | first tick, ticks 2, bits: the inputs of all players, told from the neutral one |
//! | 2 | checksums | of each: the tick after the state, checksum 8 |
//! | 3 | snapshot | the tick after the state, the state |
//! | 4 | end | the tick after the last one |
//!
//! - The bits of inputs are those of the session's feeds: for each tick and player, its difference from
//!   the tick before. `0`: none. `1 0`: of the same length; then for each byte `0` for no difference, `1
//!   0` and 3 bits for which bit flips, or `1 1` and 8 bits for which ones flip; an input of a single
//!   byte leaves out the first of these bits. `1 1 0`: not in the match. `1 1 1`: 8 bits for the length,
//!   and the bytes. Low bits first; zeros fill up the last byte.
//! - Chunks of inputs follow each other without a gap, each as long as the ticks of a second, or shorter
//!   before a snapshot and at the end. Each can be read by itself.
//! - Checksums are in order, and so are snapshots. The inputs that lead to a state are before it.
//! - Nothing follows the end. Without it, the recorder did not finish.
//!
//! Two players at 60 Hz, each with ten changes of an input a second, need 75 bytes a second with their
//! checksums: 270 kB an hour, besides snapshots.
//!
//! # Examples
//!
//! ```
//! use netplay_protocol::{BuildId, GameId, Now, PeerId};
//! use netplay_rollback::recording::{Ending, Header, Recorder, Recording};
//! use netplay_rollback::{Input, Output, Player, Seat, Session, SessionConfig};
//!
//! // The game: a sum of all inputs.
//! let me = PeerId::from_u128(1);
//! let config = SessionConfig::new(7, me, me, vec![Seat { peer: me, players: 1 }]);
//! let header = Header::new(&config, GameId::new("sum")?, BuildId::new("1")?, 0);
//! let mut recorder = Recorder::new(&header)?;
//! let mut session = Session::new(config)?;
//! let (mut sum, mut kept, mut file) = (0, 0, Vec::new());
//! for tick in 0..200 {
//!     session.add_local_input(Player(0), &[tick as u8])?;
//!     session.handle(Now::ZERO, Input::Tick(tick));
//!     while let Some(output) = session.poll_output() {
//!         match output {
//!             Output::Advance(tick) => {
//!                 sum += session.inputs(tick).map(|input| u64::from(input.bytes[0])).sum::<u64>();
//!             }
//!             Output::Save(_) => kept = sum,
//!             Output::Checksum(tick) => {
//!                 session.handle(Now::ZERO, Input::Checksum { tick, sum: kept });
//!             }
//!             _ => {}
//!         }
//!     }
//!     recorder.follow(&session)?;
//!     file.extend(recorder.take_bytes());
//! }
//! recorder.snapshot(200, &sum.to_le_bytes())?;
//! file.extend(recorder.finish());
//!
//! let recording = Recording::read(&file)?;
//! assert_eq!((recording.end_tick(), recording.ending()), (200, Ending::Finished));
//! let mut again = 0;
//! let compared = recording.replay().verify(
//!     &mut again,
//!     |sum, tick| *sum += tick.inputs().map(|input| u64::from(input.bytes[0])).sum::<u64>(),
//!     |sum| *sum,
//! )?;
//! assert_eq!((again, compared), (sum, 3));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod chunk;
mod file;
mod header;
mod reader;
mod replay;
#[cfg(test)]
mod tests;
mod writer;

pub use file::RecordingFile;
pub use header::{Header, HeaderError};
pub use reader::{Checksums, Ending, Recording, RecordingError, Snapshot, TickInputs, Ticks};
pub use replay::{Difference, Replay, ReplayStep};
pub use writer::{RecordError, Recorder};

/// The version of the format that is written and read here.
pub const FORMAT_VERSION: u16 = 1;
