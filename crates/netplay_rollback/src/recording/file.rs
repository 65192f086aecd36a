//! A recording with the bytes of its file.

use core::fmt;
use core::ops::Range;

use super::{Header, Recording, RecordingError};

/// A recording that owns the bytes of its file: they are checked once, and may be looked at for as long
/// as it is kept.
#[derive(Clone)]
pub struct RecordingFile {
    bytes: Vec<u8>,
    /// All but its chunks.
    recording: Recording<'static>,
    /// Where they are.
    chunks: Range<usize>,
}

impl fmt::Debug for RecordingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordingFile").field(&self.recording()).finish()
    }
}

impl RecordingFile {
    /// Reads the bytes of a file and checks all of them, as [`Recording::read`] does.
    ///
    /// # Errors
    /// [`RecordingError`], if not even the header can be read.
    pub fn read(bytes: Vec<u8>) -> Result<Self, RecordingError> {
        let read = Recording::read(&bytes)?;
        let (recording, chunks) = read.without_chunks(&bytes);
        Ok(Self { bytes, recording, chunks })
    }

    /// What was played, and by whom.
    pub const fn header(&self) -> &Header {
        self.recording.header()
    }

    /// The recording.
    pub fn recording(&self) -> Recording<'_> {
        self.recording.with_chunks(&self.bytes[self.chunks.clone()])
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
