//! Channel 2: reliable, ordered messages with credit.
//!
//! The channel itself never stops taking data, because a stalled reader would throttle the other
//! channels of the connection too. Instead the *game* gives credit: a sender may have at most
//! [`STREAM_WINDOW`] bytes on their way or unread. So a game that stops reading stops its senders,
//! who get a typed error, and nobody's memory grows.
//!
//! A sender keeps what is not consumed, at most a window of it: on another connection it goes again
//! from where the other side says that it has received everything.

use std::collections::VecDeque;

use netplay_protocol::cursor::ReadError;
use netplay_protocol::limits::STREAM_WINDOW;
use netplay_protocol::stream::{StreamPacket, cost};

/// Consumed bytes after which credit is announced: small enough that a sender never runs dry.
const ANNOUNCE_EVERY: u64 = STREAM_WINDOW / 8;

/// Why a packet of channel 2 ends the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// Malformed.
    Read(ReadError),
    /// More than the window.
    Overrun,
    /// A piece without a beginning, a beginning within a frame, or a frame longer than announced.
    Pieces,
}

/// A packet's frames, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    /// Holds the frames.
    pub packet: Vec<u8>,
    /// Where the frames begin.
    pub offset: usize,
    /// What the game gives back as credit once it has consumed them.
    pub cost: u64,
}

/// Both directions of channel 2 of one link.
#[derive(Debug, Default)]
pub struct StreamFlow {
    sent: u64,
    /// Packets that are not consumed, each with what was sent up to its end.
    kept: VecDeque<(u64, Vec<u8>)>,
    their_consumed: u64,
    received: u64,
    consumed: u64,
    announced: u64,
    pieces: Option<Pieces>,
}

#[derive(Debug)]
struct Pieces {
    bytes: Vec<u8>,
    total: usize,
    cost: u64,
}

impl StreamFlow {
    /// Whether a packet of `len` bytes fits the other side's window now.
    pub const fn can_send(&self, len: usize) -> bool {
        self.sent - self.their_consumed + cost(len) <= STREAM_WINDOW
    }

    /// Notes a packet that goes out.
    pub fn note_sent(&mut self, packet: &[u8]) {
        self.sent += cost(packet.len());
        self.kept.push_back((self.sent, packet.to_vec()));
    }

    /// What we have received since the link was made.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// The packets after what the other side has received; `None` if it cannot have received that.
    pub fn after(&self, received: u64) -> Option<impl Iterator<Item = &[u8]>> {
        let possible =
            received == self.their_consumed || self.kept.iter().any(|(end, _)| *end == received);
        let after = self.kept.iter().filter(move |(end, _)| *end > received);
        possible.then(|| after.map(|(_, packet)| &packet[..]))
    }

    /// Takes the other side's credit; false if it claims what was never sent.
    #[must_use]
    pub fn credit(&mut self, consumed: u64) -> bool {
        if consumed > self.sent || consumed < self.their_consumed {
            return false;
        }
        self.their_consumed = consumed;
        while self.kept.front().is_some_and(|(end, _)| *end <= consumed) {
            self.kept.pop_front();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        true
    }

    /// Our game has consumed `consumed` in all since the link opened; the credit to announce, if
    /// it is worth a message.
    pub fn consumed(&mut self, consumed: u64) -> Option<u64> {
        self.consumed = consumed.min(self.received);
        if self.consumed.saturating_sub(self.announced) < ANNOUNCE_EVERY {
            return None;
        }
        self.announced = self.consumed;
        Some(self.announced)
    }

    /// How much has come of the message that is being received in pieces: bytes, and bytes in all.
    pub fn progress(&self) -> Option<(usize, usize)> {
        self.pieces.as_ref().map(|pieces| (pieces.bytes.len(), pieces.total))
    }

    /// What was announced last.
    pub const fn announced(&self) -> u64 {
        self.announced
    }

    /// Takes a packet; gives frames when they are complete.
    ///
    /// # Errors
    /// [`StreamError`]: the other side broke the protocol.
    pub fn receive(&mut self, packet: Vec<u8>) -> Result<Option<Complete>, StreamError> {
        self.received += cost(packet.len());
        if self.received - self.announced > STREAM_WINDOW {
            return Err(StreamError::Overrun);
        }
        let cost = cost(packet.len());
        match StreamPacket::read(&packet).map_err(StreamError::Read)? {
            StreamPacket::Whole(frames) => {
                if self.pieces.is_some() {
                    return Err(StreamError::Pieces);
                }
                let offset = packet.len() - frames.len();
                Ok(Some(Complete { offset, cost, packet }))
            }
            StreamPacket::First { total, piece } => {
                if self.pieces.is_some() {
                    return Err(StreamError::Pieces);
                }
                self.pieces = Some(Pieces { bytes: Vec::new(), total, cost: 0 });
                self.piece(piece, cost)
            }
            StreamPacket::Next(piece) => self.piece(piece, cost),
        }
    }

    fn piece(&mut self, piece: &[u8], cost: u64) -> Result<Option<Complete>, StreamError> {
        let Some(pieces) = &mut self.pieces else {
            return Err(StreamError::Pieces);
        };
        pieces.bytes.extend_from_slice(piece);
        pieces.cost += cost;
        if pieces.bytes.len() < pieces.total {
            return Ok(None);
        }
        let Some(Pieces { bytes, total, cost }) = self.pieces.take() else {
            return Err(StreamError::Pieces);
        };
        if bytes.len() > total {
            return Err(StreamError::Pieces);
        }
        netplay_protocol::frame::Frames::check(&bytes).map_err(StreamError::Read)?;
        Ok(Some(Complete { packet: bytes, offset: 0, cost }))
    }
}

#[cfg(test)]
mod tests {
    use netplay_protocol::Lane;
    use netplay_protocol::frame::{Body, Frame, MessageId};
    use netplay_protocol::limits::STREAM_PACKET_MAX;
    use netplay_protocol::stream::{split, start_whole};

    use super::*;

    fn put(out: &mut Vec<u8>, payload: &[u8]) {
        Frame { lane: Lane::Bulk, body: Body { id: MessageId(0), key: None, payload } }.put(out);
    }

    fn whole(len: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        start_whole(&mut packet);
        put(&mut packet, &vec![7; len]);
        packet
    }

    #[test]
    fn a_receiver_that_never_reads_stops_the_sender_at_the_window() {
        let (mut a, mut b) = (StreamFlow::default(), StreamFlow::default());
        let packet = whole(1000);
        let mut held = 0;
        while a.can_send(packet.len()) {
            a.note_sent(&packet);
            held += b.receive(packet.clone()).unwrap().unwrap().packet.len();
        }
        assert!(held as u64 <= STREAM_WINDOW, "{held}");
        assert_eq!(b.consumed(0), None);

        let consumed = b.consumed(200_000).unwrap();
        assert!(a.credit(consumed));
        assert!(a.can_send(packet.len()));
    }

    #[test]
    fn a_sender_that_ignores_the_window_is_an_overrun() {
        let mut b = StreamFlow::default();
        let packet = whole(STREAM_PACKET_MAX - 10);
        let result = (0..40).map(|_| b.receive(packet.clone())).find(Result::is_err);
        assert_eq!(result, Some(Err(StreamError::Overrun)));
    }

    #[test]
    fn a_flood_of_tiny_packets_is_an_overrun_too() {
        let mut b = StreamFlow::default();
        let count = (0..).take_while(|_| b.receive(whole(0)).is_ok()).count();
        assert!(count < 1_100, "{count}");
    }

    #[test]
    fn pieces_make_one_large_frame() {
        let mut frame = Vec::new();
        put(&mut frame, &vec![9; 100_000]);
        let mut packets = Vec::new();
        split(&frame, Vec::new, |packet| packets.push(packet));
        let mut flow = StreamFlow::default();
        let last = packets.pop().unwrap();
        for packet in packets {
            assert_eq!(flow.receive(packet), Ok(None));
        }
        let complete = flow.receive(last).unwrap().unwrap();
        assert_eq!(&complete.packet[complete.offset..], frame);
        assert!(complete.cost > 100_000);
    }

    #[test]
    fn pieces_out_of_place_are_refused() {
        let next = vec![2, 1];
        let first = vec![1, 9, 0, 0, 0, 1];
        assert_eq!(StreamFlow::default().receive(next), Err(StreamError::Pieces));
        for second in [first.clone(), whole(1), vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            let mut flow = StreamFlow::default();
            assert_eq!(flow.receive(first.clone()), Ok(None));
            assert_eq!(flow.receive(second), Err(StreamError::Pieces));
        }
    }

    #[test]
    fn credit_for_what_was_never_sent_is_refused() {
        let mut flow = StreamFlow::default();
        flow.note_sent(&[0; 100]);
        assert!(!flow.credit(1000));
        assert!(flow.credit(100));
        assert!(!flow.credit(50), "credit never shrinks");
    }

    #[test]
    fn another_connection_goes_on_behind_what_was_received() {
        let mut flow = StreamFlow::default();
        let packets: Vec<_> = (0..4).map(|i| whole(100 * i)).collect();
        packets.iter().for_each(|packet| flow.note_sent(packet));
        let ends: Vec<u64> = packets
            .iter()
            .scan(0, |sum, packet| {
                *sum += cost(packet.len());
                Some(*sum)
            })
            .collect();
        let after = |flow: &StreamFlow, received| {
            flow.after(received).map(|packets| packets.map(<[u8]>::len).collect::<Vec<_>>())
        };
        let lens: Vec<_> = packets.iter().map(Vec::len).collect();
        assert_eq!(after(&flow, 0), Some(lens.clone()));
        assert_eq!(after(&flow, ends[1]), Some(lens[2..].to_vec()));
        assert_eq!(after(&flow, ends[3]), Some(vec![]));
        assert_eq!(after(&flow, ends[1] + 1), None, "no packet ends there");
        assert!(flow.credit(ends[2]));
        assert_eq!(after(&flow, ends[2]), Some(lens[3..].to_vec()));
        assert_eq!(after(&flow, ends[1]), None, "it said itself that it has more");
    }
}
