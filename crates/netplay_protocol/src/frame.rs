//! Game messages inside a packet: `message id (varint) · length (varint) · payload`, repeated.
//!
//! The message id is the message's place in the [`crate::schema::Schema`]. Payload bytes belong to
//! the codec.

use crate::cursor::{ReadError, Reader, put_varint, varint_len};
use crate::limits::{RELIABLE_MESSAGE_MAX, SCHEMA_ENTRIES_MAX};

/// The most bytes that a frame adds to its payload.
pub const OVERHEAD_MAX: usize = 2 + 3;

/// A game message's number: its place in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u16);

/// One message in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which message type.
    pub id: MessageId,
    /// The encoded message.
    pub payload: &'a [u8],
}

/// The bytes that a frame with a payload of `len` bytes takes.
pub const fn frame_len(id: MessageId, len: usize) -> usize {
    varint_len(id.0 as u32) + varint_len(len as u32) + len
}

/// Appends a frame.
///
/// # Panics
/// If the payload exceeds [`RELIABLE_MESSAGE_MAX`]; senders check the size of their lane first.
pub fn put_frame(out: &mut Vec<u8>, id: MessageId, payload: &[u8]) {
    assert!(payload.len() <= RELIABLE_MESSAGE_MAX, "senders check the size first");
    put_varint(out, id.0.into());
    put_varint(out, payload.len() as u32);
    out.extend_from_slice(payload);
}

/// Iterates over the frames of a packet; stops after the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    reader: Reader<'a>,
}

impl<'a> Frames<'a> {
    /// The frames in `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes) }
    }

    /// Checks all frames without looking at their payloads.
    ///
    /// # Errors
    /// The first [`ReadError`].
    pub fn check(bytes: &'a [u8]) -> Result<(), ReadError> {
        Self::new(bytes).try_for_each(|frame| frame.map(drop))
    }

    fn read(&mut self) -> Result<Frame<'a>, ReadError> {
        let id = self.reader.varint()?;
        if id as usize >= SCHEMA_ENTRIES_MAX {
            return Err(ReadError::Unknown { what: "message id", value: id });
        }
        let len = self.reader.varint()? as usize;
        if len > RELIABLE_MESSAGE_MAX {
            return Err(ReadError::TooLong { len, max: RELIABLE_MESSAGE_MAX });
        }
        Ok(Frame { id: MessageId(id as u16), payload: self.reader.bytes(len)? })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let frame = self.read();
        if frame.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes_of_two_frames() {
        let mut out = Vec::new();
        put_frame(&mut out, MessageId(5), b"hi");
        put_frame(&mut out, MessageId(200), b"");
        assert_eq!(out, [5, 2, b'h', b'i', 0xC8, 0x01, 0]);
        let frames: Vec<_> = Frames::new(&out).map(Result::unwrap).collect();
        assert_eq!(
            frames,
            [
                Frame { id: MessageId(5), payload: b"hi" },
                Frame { id: MessageId(200), payload: b"" }
            ]
        );
        assert_eq!(frame_len(MessageId(5), 2) + frame_len(MessageId(200), 0), out.len());
    }

    #[test]
    fn a_frame_that_claims_more_than_there_is_ends_the_packet() {
        let mut frames = Frames::new(&[1, 5, 0, 0]);
        assert_eq!(frames.next(), Some(Err(ReadError::Truncated)));
        assert_eq!(frames.next(), None);
    }

    proptest! {
        #[test]
        fn frames_survive_a_round_trip(
            messages in prop::collection::vec(
                (0..SCHEMA_ENTRIES_MAX as u16, prop::collection::vec(any::<u8>(), 0..300)), 0..20)
        ) {
            let mut out = Vec::new();
            for (id, payload) in &messages {
                put_frame(&mut out, MessageId(*id), payload);
            }
            let read: Vec<_> = Frames::new(&out)
                .map(|frame| frame.map(|f| (f.id.0, f.payload.to_vec())))
                .collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for frame in Frames::new(&bytes) {
                let _ = frame;
            }
        }
    }
}
