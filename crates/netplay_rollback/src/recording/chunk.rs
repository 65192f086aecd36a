//! The chunks of a recording, whatever they hold.

use netplay_protocol::cursor::Reader;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::limits::RECORDING_CHUNK_MAX;

/// What a file begins with. As in a PNG: no text, and changed by whoever takes it for one.
pub(super) const MAGIC: [u8; 8] = *b"\x89NPR\r\n\x1a\n";

pub(super) const HEADER: u8 = 0;
pub(super) const INPUTS: u8 = 1;
pub(super) const CHECKSUMS: u8 = 2;
pub(super) const SNAPSHOT: u8 = 3;
pub(super) const END: u8 = 4;

/// Bytes of a chunk before its contents.
const HEAD: usize = 5;

/// Appends a chunk after one with the checksum `before`; gives its own.
pub(super) fn put(
    out: &mut Vec<u8>,
    before: u64,
    kind: u8,
    contents: impl FnOnce(&mut Vec<u8>),
) -> u64 {
    let start = out.len();
    out.push(kind);
    out.extend_from_slice(&[0; 4]);
    contents(out);
    let len = out.len() - start - HEAD;
    debug_assert!(len <= RECORDING_CHUNK_MAX, "every kind of contents has a limit below");
    out[start + 1..start + HEAD].copy_from_slice(&(len as u32).to_le_bytes());
    let sum = xxh3_64_with_seed(&out[start..], before);
    out.extend_from_slice(&sum.to_le_bytes());
    sum
}

/// One chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) kind: u8,
    pub(super) contents: &'a [u8],
    /// What the checksum is of.
    summed: &'a [u8],
    pub(super) sum: u64,
}

/// Why there is no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The bytes end in it.
    Cut,
    /// It is longer than any.
    Damaged,
}

impl<'a> Chunk<'a> {
    /// The first chunk of some bytes, which are not empty, and what follows it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Broken> {
        let mut reader = Reader::new(bytes);
        let mut head = || Ok((reader.u8()?, reader.u32()? as usize));
        let (kind, len) = head().map_err(|_: netplay_protocol::cursor::ReadError| Broken::Cut)?;
        if len > RECORDING_CHUNK_MAX {
            return Err(Broken::Damaged);
        }
        let contents = reader.bytes(len).map_err(|_| Broken::Cut)?;
        let sum = reader.u64().map_err(|_| Broken::Cut)?;
        Ok((Self { kind, contents, summed: &bytes[..HEAD + len], sum }, reader.rest()))
    }

    /// Whether it is what was written after a chunk with the checksum `before`.
    pub(super) fn is_whole(&self, before: u64) -> bool {
        xxh3_64_with_seed(self.summed, before) == self.sum
    }
}

/// The chunks of bytes that were checked.
#[derive(Clone, Debug)]
pub(super) struct Chunks<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (chunk, rest) = Chunk::read(self.0).ok()?;
        self.0 = rest;
        Some(chunk)
    }
}
