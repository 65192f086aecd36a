//! Packets of channel 2, which is reliable and ordered.
//!
//! | first byte | then |
//! |---|---|
//! | 0 | whole frames (see [`crate::frame`]) |
//! | 1 | the first piece of one large frame: its total length in 4 bytes, then bytes |
//! | 2 | the next piece of it |
//!
//! The channel keeps order, so pieces need no number. No other packet may stand between the pieces
//! of one frame.

use crate::cursor::{ReadError, Reader};
use crate::frame::{BODY_OVERHEAD_MAX, Frames};
use crate::limits::{BULK_MESSAGE_MAX, STREAM_PACKET_COST, STREAM_PACKET_MAX};

const WHOLE: u8 = 0;
const FIRST: u8 = 1;
const NEXT: u8 = 2;

/// Bytes before the frames of a packet of whole frames.
pub const WHOLE_HEADER_LEN: usize = 1;

/// The largest total length that a first piece may announce.
pub const TOTAL_MAX: usize = BULK_MESSAGE_MAX + 1 + BODY_OVERHEAD_MAX;

/// What a packet counts against the receiver's window.
pub const fn cost(packet_len: usize) -> u64 {
    packet_len as u64 + STREAM_PACKET_COST
}

/// Starts a packet of whole frames in an empty buffer.
pub fn start_whole(out: &mut Vec<u8>) {
    out.push(WHOLE);
}

/// Cuts one large frame into packets and hands each to `emit` in an empty buffer from `buffer`.
pub fn split(frame: &[u8], mut buffer: impl FnMut() -> Vec<u8>, mut emit: impl FnMut(Vec<u8>)) {
    let total = frame.len() as u32;
    let mut first = true;
    let mut rest = frame;
    while first || !rest.is_empty() {
        let mut out = buffer();
        if first {
            out.push(FIRST);
            out.extend_from_slice(&total.to_le_bytes());
        } else {
            out.push(NEXT);
        }
        first = false;
        let (piece, tail) = rest.split_at(rest.len().min(STREAM_PACKET_MAX - out.len()));
        out.extend_from_slice(piece);
        rest = tail;
        emit(out);
    }
}

/// A packet of channel 2, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamPacket<'a> {
    /// Frames, checked.
    Whole(&'a [u8]),
    /// The start of a large frame.
    First {
        /// Length of the whole frame.
        total: usize,
        /// Its first bytes.
        piece: &'a [u8],
    },
    /// More of it.
    Next(&'a [u8]),
}

impl<'a> StreamPacket<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`ReadError`] for an unknown kind, a total beyond [`TOTAL_MAX`], an empty piece, or whole
    /// frames that do not parse.
    pub fn read(packet: &'a [u8]) -> Result<Self, ReadError> {
        if packet.len() > STREAM_PACKET_MAX {
            return Err(ReadError::TooLong { len: packet.len(), max: STREAM_PACKET_MAX });
        }
        let mut reader = Reader::new(packet);
        match reader.u8()? {
            WHOLE => {
                Frames::check(reader.rest())?;
                Ok(Self::Whole(reader.rest()))
            }
            FIRST => {
                let total = reader.u32()? as usize;
                if total > TOTAL_MAX {
                    return Err(ReadError::TooLong { len: total, max: TOTAL_MAX });
                }
                if reader.is_empty() {
                    return Err(ReadError::Truncated);
                }
                Ok(Self::First { total, piece: reader.rest() })
            }
            NEXT if reader.is_empty() => Err(ReadError::Truncated),
            NEXT => Ok(Self::Next(reader.rest())),
            kind => Err(ReadError::Unknown { what: "stream packet", value: kind.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Lane;
    use crate::frame::{Body, Frame, MessageId};

    #[test]
    fn golden_bytes_of_each_kind() {
        let mut whole = Vec::new();
        start_whole(&mut whole);
        let body = Body { id: MessageId(1), key: None, payload: b"x" };
        Frame { lane: Lane::Bulk, body }.put(&mut whole);
        assert_eq!(whole, [0, 3, 1, 1, b'x']);
        assert_eq!(StreamPacket::read(&whole), Ok(StreamPacket::Whole(&[3, 1, 1, b'x'])));

        let mut packets = Vec::new();
        split(&vec![7; STREAM_PACKET_MAX], Vec::new, |packet| packets.push(packet));
        assert_eq!(packets.len(), 2);
        assert_eq!(packets[0][..6], [1, 0x00, 0x40, 0, 0, 7]);
        assert_eq!(packets[1][..], [2, 7, 7, 7, 7, 7]);
    }

    #[test]
    fn malformed_packets_are_refused() {
        for bytes in [&[][..], &[0, 1], &[1, 0, 0, 0], &[1, 1, 0, 0, 0], &[2], &[3, 1]] {
            assert!(StreamPacket::read(bytes).is_err(), "{bytes:?}");
        }
        let huge = [1, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        assert!(matches!(StreamPacket::read(&huge), Err(ReadError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn pieces_rebuild_the_frame(len in 1..60_000_usize) {
            let frame: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut packets = Vec::new();
            split(&frame, Vec::new, |packet| packets.push(packet));
            let mut rebuilt = Vec::new();
            for packet in &packets {
                prop_assert!(packet.len() <= STREAM_PACKET_MAX);
                match StreamPacket::read(packet).unwrap() {
                    StreamPacket::First { total, piece } => {
                        prop_assert_eq!(total, len);
                        rebuilt.extend_from_slice(piece);
                    }
                    StreamPacket::Next(piece) => rebuilt.extend_from_slice(piece),
                    StreamPacket::Whole(_) => prop_assert!(false, "pieces only"),
                }
            }
            prop_assert_eq!(rebuilt, frame);
        }

        #[test]
        fn any_bytes_are_a_packet_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = StreamPacket::read(&bytes);
        }
    }
}
