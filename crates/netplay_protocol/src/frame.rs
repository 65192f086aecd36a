//! Game messages inside a packet.
//!
//! A *frame* is `tag 1 · message id (varint) · key (varint, if the tag says so) · length (varint) ·
//! payload`. The tag is the lane's number, plus 16 if there is a key. A frame without its tag is a
//! *body*; blocks of datagrams hold bodies (see [`crate::block`]), packets of channel 2 hold frames.
//!
//! The message id is the message's place in the [`crate::schema::Schema`]. Payload bytes belong to
//! the codec.

use crate::cursor::{ReadError, Reader, put_varint, varint_len};
use crate::lane::Lane;
use crate::limits::{BULK_MESSAGE_MAX, SCHEMA_ENTRIES_MAX};

/// The most bytes that a body adds to its payload: id, key and length.
pub const BODY_OVERHEAD_MAX: usize = 2 + 3 + 3;

/// The tag's bit for a key.
pub(crate) const KEYED: u8 = 0x10;
/// The tag's bits of the lane.
pub(crate) const LANE_BITS: u8 = 0x0F;

/// A game message's number: its place in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u16);

/// One message in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its lane.
    pub lane: Lane,
    /// What it says.
    pub body: Body<'a>,
}

/// A message without its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// Which message type.
    pub id: MessageId,
    /// Of which thing of the game it tells, on lanes where the newest of each key wins.
    pub key: Option<u16>,
    /// The encoded message.
    pub payload: &'a [u8],
}

impl<'a> Body<'a> {
    /// The bytes that it takes.
    pub const fn wire_len(&self) -> usize {
        let key = match self.key {
            Some(key) => varint_len(key as u32),
            None => 0,
        };
        let payload = self.payload.len();
        varint_len(self.id.0 as u32) + key + varint_len(payload as u32) + payload
    }

    /// Appends it.
    ///
    /// # Panics
    /// If the payload exceeds [`BULK_MESSAGE_MAX`]; senders check the size of their lane first.
    pub fn put(&self, out: &mut Vec<u8>) {
        assert!(self.payload.len() <= BULK_MESSAGE_MAX, "senders check the size first");
        put_varint(out, self.id.0.into());
        if let Some(key) = self.key {
            put_varint(out, key.into());
        }
        put_varint(out, self.payload.len() as u32);
        out.extend_from_slice(self.payload);
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ReadError`] for an id beyond any schema, a key beyond 65535, or a length beyond what there
    /// is.
    pub fn read(reader: &mut Reader<'a>, keyed: bool) -> Result<Self, ReadError> {
        let id = reader.varint()?;
        if id as usize >= SCHEMA_ENTRIES_MAX {
            return Err(ReadError::Unknown { what: "message id", value: id });
        }
        let key = if keyed {
            let key = reader.varint()?;
            let unknown = ReadError::Unknown { what: "key", value: key };
            Some(u16::try_from(key).map_err(|_| unknown)?)
        } else {
            None
        };
        let len = reader.varint()? as usize;
        if len > BULK_MESSAGE_MAX {
            return Err(ReadError::TooLong { len, max: BULK_MESSAGE_MAX });
        }
        Ok(Body { id: MessageId(id as u16), key, payload: reader.bytes(len)? })
    }
}

impl Frame<'_> {
    /// The bytes that it takes.
    pub const fn wire_len(&self) -> usize {
        1 + self.body.wire_len()
    }

    /// Appends it.
    ///
    /// # Panics
    /// As [`Body::put`].
    pub fn put(&self, out: &mut Vec<u8>) {
        let keyed = if self.body.key.is_some() { KEYED } else { 0 };
        out.push(self.lane.id() | keyed);
        self.body.put(out);
    }
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
        let tag = self.reader.u8()?;
        let unknown = ReadError::Unknown { what: "frame tag", value: tag.into() };
        if tag & !(LANE_BITS | KEYED) != 0 {
            return Err(unknown);
        }
        let lane = Lane::from_id(tag & LANE_BITS).ok_or(unknown)?;
        Ok(Frame { lane, body: Body::read(&mut self.reader, tag & KEYED != 0)? })
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

    fn frame(lane: Lane, id: u16, key: Option<u16>, payload: &[u8]) -> Frame<'_> {
        Frame { lane, body: Body { id: MessageId(id), key, payload } }
    }

    #[test]
    fn golden_bytes_of_two_frames() {
        let frames =
            [frame(Lane::Reliable, 5, None, b"hi"), frame(Lane::Sequenced, 200, Some(300), b"")];
        let mut out = Vec::new();
        for frame in &frames {
            frame.put(&mut out);
        }
        assert_eq!(out, [2, 5, 2, b'h', b'i', 0x11, 0xC8, 0x01, 0xAC, 0x02, 0]);
        let read: Vec<_> = Frames::new(&out).map(Result::unwrap).collect();
        assert_eq!(read, frames);
        assert_eq!(frames[0].wire_len() + frames[1].wire_len(), out.len());
    }

    #[test]
    fn a_frame_that_claims_more_than_there_is_ends_the_packet() {
        let mut frames = Frames::new(&[0, 1, 5, 0, 0]);
        assert_eq!(frames.next(), Some(Err(ReadError::Truncated)));
        assert_eq!(frames.next(), None);
    }

    proptest! {
        #[test]
        fn frames_survive_a_round_trip(
            messages in prop::collection::vec(
                (0..16_u8, 0..SCHEMA_ENTRIES_MAX as u16, any::<Option<u16>>(),
                 prop::collection::vec(any::<u8>(), 0..300)), 0..20)
        ) {
            let mut out = Vec::new();
            for (lane, id, key, payload) in &messages {
                frame(Lane::from_id(*lane).unwrap(), *id, *key, payload).put(&mut out);
            }
            let read: Vec<_> = Frames::new(&out)
                .map(|frame| frame.map(|f| {
                    (f.lane.id(), f.body.id.0, f.body.key, f.body.payload.to_vec())
                }))
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
