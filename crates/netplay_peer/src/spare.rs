//! Spare buffers, so that the steady state allocates nothing.

use netplay_protocol::limits::DATAGRAM_MAX;

/// Empty buffers for later use.
#[derive(Debug)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
    kept: usize,
}

impl Spare {
    /// Keeps at most so many.
    pub(crate) const fn new(kept: usize) -> Self {
        Self { buffers: Vec::new(), kept }
    }

    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back; hands it on if there are enough, and frees it if it is outsized.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        if buffer.capacity() == 0 || buffer.capacity() > 2 * DATAGRAM_MAX {
            return None;
        }
        buffer.clear();
        if self.buffers.len() < self.kept {
            self.buffers.push(buffer);
            return None;
        }
        Some(buffer)
    }
}
