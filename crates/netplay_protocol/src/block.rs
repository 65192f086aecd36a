//! What a datagram carries after its header: blocks, repeated to the end.
//!
//! A block is a run of messages of one lane with consecutive numbers, one fragment of a large
//! message, or the news that a message will not come. All begin with a tag: the lane's number, plus
//! 16 if bodies have keys, 32 for a fragment, 64 for a void message.
//!
//! | offset | bytes | messages | fragment | void message |
//! |---|---|---|---|---|
//! | 0 | 1 | tag | tag | tag |
//! | 1 | 3 | number of the first | number of the message | its number |
//! | 4 | | how many 1, from 1 | index of the fragment 1 | length of its body (varint) |
//! | 5 | | bodies (see [`crate::frame`]) | fragments in all 1, length (varint), bytes | |
//!
//! Every fragment but the last of its message has [`FRAGMENT_LEN`] bytes; what they make up is one
//! body.
//!
//! In front of all blocks may stand one of inputs for a rollback session, which has neither lane nor
//! number: tag 128, or 129 for the second copy; length (varint); bytes that only the session knows.

use crate::cursor::{ReadError, Reader, put_varint, varint_len};
use crate::frame::{Body, KEYED, LANE_BITS};
use crate::lane::Lane;
use crate::limits::{FRAGMENT_LEN, FRAGMENTS_MAX, INPUTS_MAX};

const FRAGMENT: u8 = 0x20;
const VOID: u8 = 0x40;

const INPUTS: u8 = 0x80;
const AGAIN: u8 = 0x01;

/// Bytes of a block of messages without the bodies.
pub const HEADER_LEN: usize = 5;

/// A message's number in its lane, 24 bits, wrapping. Order is only defined between two that are less
/// than half the range apart: at ten thousand messages a second that is 13 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number(u32);

impl Number {
    const BITS: u32 = 24;

    /// The number with these low bits.
    pub const fn new(low: u32) -> Self {
        Self(low & ((1 << Self::BITS) - 1))
    }

    /// The number so many further on.
    #[must_use]
    pub const fn after(self, count: u32) -> Self {
        Self::new(self.0.wrapping_add(count))
    }

    /// How far `self` is ahead of `other`; negative if behind.
    pub const fn ahead_of(self, other: Self) -> i32 {
        let shift = u32::BITS - Self::BITS;
        (self.0.wrapping_sub(other.0) << shift) as i32 >> shift
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes()[..3]);
    }
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The lane.
    pub lane: Lane,
    /// The number of its (first) message.
    pub number: Number,
    /// What it holds.
    pub content: Content<'a>,
}

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Messages with consecutive numbers.
    Messages(Bodies<'a>),
    /// A part of one message.
    Fragment(Fragment<'a>),
    /// The message will not come. Its body had so many bytes; they count against the window as if it
    /// had come and been read.
    Void(u32),
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Whether the message has a key.
    pub keyed: bool,
    /// Which part, from 0.
    pub index: u8,
    /// How many parts there are.
    pub count: u8,
    /// The part.
    pub bytes: &'a [u8],
}

/// The bodies of a block, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bodies<'a> {
    bytes: &'a [u8],
    left: u8,
    keyed: bool,
}

impl<'a> Iterator for Bodies<'a> {
    type Item = Body<'a>;

    fn next(&mut self) -> Option<Body<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut reader = Reader::new(self.bytes);
        let body = Body::read(&mut reader, self.keyed).ok();
        self.bytes = reader.rest();
        body
    }
}

/// Begins a block of messages; gives the place of its count, to be raised with each further body.
pub fn begin_messages(out: &mut Vec<u8>, lane: Lane, keyed: bool, number: Number) -> usize {
    out.push(lane.id() | if keyed { KEYED } else { 0 });
    number.put(out);
    out.push(1);
    out.len() - 1
}

/// The inputs of a rollback session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs<'a> {
    /// Whether another datagram had them too.
    pub again: bool,
    /// What only the session knows.
    pub bytes: &'a [u8],
}

impl Inputs<'_> {
    /// The bytes that they take in a datagram.
    pub const fn len(&self) -> usize {
        1 + varint_len(self.bytes.len() as u32) + self.bytes.len()
    }

    /// Whether there are no inputs.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends them, before any block.
    ///
    /// # Panics
    /// If they exceed [`INPUTS_MAX`]; sessions make smaller ones.
    pub fn put(&self, out: &mut Vec<u8>) {
        assert!(self.bytes.len() <= INPUTS_MAX, "sessions make smaller blocks of inputs");
        out.push(INPUTS | if self.again { AGAIN } else { 0 });
        put_varint(out, self.bytes.len() as u32);
        out.extend_from_slice(self.bytes);
    }
}

/// Reads the inputs in front of the blocks, if there are any.
///
/// # Errors
/// [`ReadError`] for anything that no sender writes.
pub fn read_inputs<'a>(reader: &mut Reader<'a>) -> Result<Option<Inputs<'a>>, ReadError> {
    match reader.rest().first() {
        Some(tag) if tag & INPUTS != 0 => {}
        _ => return Ok(None),
    }
    let tag = reader.u8()?;
    if tag & !(INPUTS | AGAIN) != 0 {
        return Err(ReadError::Unknown { what: "block tag", value: tag.into() });
    }
    let len = reader.varint()? as usize;
    if len > INPUTS_MAX {
        return Err(ReadError::TooLong { len, max: INPUTS_MAX });
    }
    Ok(Some(Inputs { again: tag & AGAIN != 0, bytes: reader.bytes(len)? }))
}

/// The bytes that a fragment's block takes.
pub const fn fragment_len(len: usize) -> usize {
    HEADER_LEN + 1 + varint_len(len as u32) + len
}

/// Appends a fragment.
///
/// # Panics
/// If the part is longer than [`FRAGMENT_LEN`]; senders cut it.
pub fn put_fragment(out: &mut Vec<u8>, lane: Lane, number: Number, fragment: Fragment<'_>) {
    assert!(fragment.bytes.len() <= FRAGMENT_LEN, "senders cut messages into parts of this length");
    out.push(lane.id() | FRAGMENT | if fragment.keyed { KEYED } else { 0 });
    number.put(out);
    out.extend_from_slice(&[fragment.index, fragment.count]);
    put_varint(out, fragment.bytes.len() as u32);
    out.extend_from_slice(fragment.bytes);
}

/// The most bytes that a void message takes.
pub const VOID_LEN: usize = 4 + 3;

/// Appends a void message whose body had `len` bytes.
///
/// # Panics
/// If `len` exceeds what a varint holds; reliable messages are shorter.
pub fn put_void(out: &mut Vec<u8>, lane: Lane, number: Number, len: u32) {
    out.push(lane.id() | VOID);
    number.put(out);
    put_varint(out, len);
}

/// Reads the next block; `None` at the end.
///
/// # Errors
/// [`ReadError`] for anything that no sender writes.
pub fn read<'a>(reader: &mut Reader<'a>) -> Result<Option<Block<'a>>, ReadError> {
    if reader.is_empty() {
        return Ok(None);
    }
    let tag = reader.u8()?;
    let unknown = ReadError::Unknown { what: "block tag", value: tag.into() };
    let lane = Lane::from_id(tag & LANE_BITS).ok_or(unknown)?;
    let number = Number(reader.u24()?);
    let keyed = tag & KEYED != 0;
    let content = match tag & !(LANE_BITS | KEYED) {
        0 => Content::Messages(read_bodies(reader, keyed)?),
        FRAGMENT => Content::Fragment(read_fragment(reader, keyed)?),
        VOID if !keyed => Content::Void(reader.varint()?),
        _ => return Err(unknown),
    };
    Ok(Some(Block { lane, number, content }))
}

fn read_bodies<'a>(reader: &mut Reader<'a>, keyed: bool) -> Result<Bodies<'a>, ReadError> {
    let count = reader.u8()?;
    if count == 0 {
        return Err(ReadError::Unknown { what: "message count", value: 0 });
    }
    let bytes = reader.rest();
    for _ in 0..count {
        Body::read(reader, keyed)?;
    }
    Ok(Bodies { bytes, left: count, keyed })
}

fn read_fragment<'a>(reader: &mut Reader<'a>, keyed: bool) -> Result<Fragment<'a>, ReadError> {
    let index = reader.u8()?;
    let count = reader.u8()?;
    let len = reader.varint()? as usize;
    let bytes = reader.bytes(len)?;
    let last = index.checked_add(1) == Some(count);
    let fits = if last { (1..=FRAGMENT_LEN).contains(&len) } else { len == FRAGMENT_LEN };
    if count < 2 || index >= count || usize::from(count) > FRAGMENTS_MAX || !fits {
        return Err(ReadError::Unknown { what: "fragment", value: index.into() });
    }
    Ok(Fragment { keyed, index, count, bytes })
}

/// Checks all blocks of a datagram.
///
/// # Errors
/// The first [`ReadError`].
pub fn check(bytes: &[u8]) -> Result<(), ReadError> {
    let mut reader = Reader::new(bytes);
    read_inputs(&mut reader)?;
    while read(&mut reader)?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::MessageId;

    fn body(id: u16, key: Option<u16>, payload: &[u8]) -> Body<'_> {
        Body { id: MessageId(id), key, payload }
    }

    #[test]
    fn golden_bytes_of_every_block() {
        let mut out = Vec::new();
        let count = begin_messages(&mut out, Lane::Sequenced, true, Number::new(0x01_0203));
        body(5, Some(7), b"hi").put(&mut out);
        body(6, Some(7), b"").put(&mut out);
        out[count] += 1;
        let part = Fragment { keyed: false, index: 1, count: 2, bytes: b"end" };
        put_fragment(&mut out, Lane::Reliable, Number::new(3), part);
        put_void(&mut out, Lane::Reliable, Number::new(4), 9);
        assert_eq!(
            out,
            [
                0x11, 0x03, 0x02, 0x01, 2, 5, 7, 2, b'h', b'i', 6, 7, 0, // messages
                0x22, 3, 0, 0, 1, 2, 3, b'e', b'n', b'd', // fragment
                0x42, 4, 0, 0, 9, // void
            ]
        );
        let mut reader = Reader::new(&out);
        let Some(Block { lane: Lane::Sequenced, number, content: Content::Messages(bodies) }) =
            read(&mut reader).unwrap()
        else {
            panic!("messages first")
        };
        assert_eq!(number, Number::new(0x01_0203));
        let bodies: Vec<_> = bodies.collect();
        assert_eq!(bodies, [body(5, Some(7), b"hi"), body(6, Some(7), b"")]);
        let block = Block {
            lane: Lane::Reliable,
            number: Number::new(3),
            content: Content::Fragment(part),
        };
        assert_eq!(read(&mut reader), Ok(Some(block)));
        let block =
            Block { lane: Lane::Reliable, number: Number::new(4), content: Content::Void(9) };
        assert_eq!(read(&mut reader), Ok(Some(block)));
        assert_eq!(read(&mut reader), Ok(None));
        assert_eq!(fragment_len(3), 10);
    }

    #[test]
    fn what_no_sender_writes_is_refused() {
        for bytes in [
            &[0x80, 0, 0, 0, 1][..],          // unknown bit
            &[0x60, 0, 0, 0, 1],              // fragment and void
            &[0x00, 0, 0, 0, 0],              // no messages
            &[0x02, 0, 0, 0, 2, 1, 0],        // fewer messages than it says
            &[0x42, 0, 0, 0],                 // void without length
            &[0x52, 0, 0, 0, 1],              // void with keys
            &[0x22, 0, 0, 0, 0, 1, 1, 9],     // one fragment of one
            &[0x22, 0, 0, 0, 2, 2, 1, 9],     // beyond the last
            &[0x22, 0, 0, 0, 0, 2, 1, 9],     // a short one that is not the last
            &[0x22, 0, 0, 0, 1, 2, 0],        // an empty last one
            &[0x22, 0, 0, 0, 254, 255, 1, 9], // more than the limit
            &[0x00, 0, 0],
        ] {
            assert!(check(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn inputs_stand_before_all_blocks() {
        let mut out = Vec::new();
        let inputs = Inputs { again: true, bytes: b"in" };
        inputs.put(&mut out);
        assert_eq!((&out[..], inputs.len()), (&[0x81, 2, b'i', b'n'][..], 4));
        begin_messages(&mut out, Lane::Unreliable, false, Number::new(0));
        body(1, None, b"").put(&mut out);
        let mut reader = Reader::new(&out);
        assert_eq!(read_inputs(&mut reader), Ok(Some(inputs)));
        assert_eq!(read_inputs(&mut reader), Ok(None));
        assert!(matches!(read(&mut reader), Ok(Some(_))));
        for bytes in [&[0x80, 1][..], &[0x82, 0], &[0x80, 0, 0x80, 0]] {
            assert!(check(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn numbers_keep_their_order_over_the_wrap() {
        let last = Number::new(u32::MAX);
        assert_eq!(last.after(1), Number::new(0));
        assert_eq!(Number::new(2).ahead_of(last), 3);
        assert_eq!(last.ahead_of(Number::new(2)), -3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_blocks_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            let _ = read_inputs(&mut reader);
            while let Ok(Some(block)) = read(&mut reader) {
                if let Content::Messages(bodies) = block.content {
                    prop_assert_eq!(bodies.clone().count(), usize::from(bodies.left));
                }
            }
        }
    }
}
