//! Spare buffers, so that the steady state allocates nothing.

use netplay_protocol::limits::DATAGRAM_MAX;

/// Empty buffers for later use.
#[derive(Debug)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
    kept: usize,
    capacity: usize,
}

impl Spare {
    /// Keeps at most so many, of at least this capacity.
    pub(crate) const fn new(kept: usize, capacity: usize) -> Self {
        Self { buffers: Vec::new(), kept, capacity }
    }

    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(self.capacity))
    }

    /// Takes a buffer back; frees it if it is too small, hands it on if there are enough or if it is
    /// outsized.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        let capacity = buffer.capacity();
        if capacity == 0 || capacity < self.capacity {
            return None;
        }
        buffer.clear();
        if self.buffers.len() < self.kept && capacity <= 2 * DATAGRAM_MAX {
            self.buffers.push(buffer);
            return None;
        }
        Some(buffer)
    }
}
