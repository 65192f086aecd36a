//! One message on its way out.

use netplay_protocol::Now;
use netplay_protocol::block::{self, Fragment, Number, put_fragment};
use netplay_protocol::lane::Lane;
use netplay_protocol::limits::{DATAGRAM_BLOCKS_MAX, FRAGMENT_LEN};

/// Small enough to ride twice while the path loses packets.
const REPEATED_MAX: usize = 256;

/// An encoded message that waits, or that is on its way and not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) number: Number,
    /// The encoded body; empty once void.
    pub(super) body: Vec<u8>,
    pub(super) keyed: bool,
    /// Bytes of the body, also once it is void.
    pub(super) len: u32,
    /// Not worth sending after this.
    pub(super) expires: Option<Now>,
    /// Parts that have to go out (again).
    pub(super) unsent: u64,
    /// Parts that have arrived.
    pub(super) acked: u64,
    /// How many datagrams with the whole message have no verdict; of a cut message none are counted.
    pub(super) copies: u8,
    /// Rides once more, in another datagram than `serial`.
    pub(super) repeat: bool,
    /// The datagram that carried it last.
    pub(super) serial: u32,
    /// Whether any part has been sent: then it counts against the window.
    pub(super) charged: bool,
    /// It will not come; the other side has to be told.
    pub(super) void: bool,
    /// Nothing is left to do for it.
    pub(super) done: bool,
    /// A newer state that waits until this one, which is cut and partly sent, is sent.
    pub(super) newer: Option<Box<Entry>>,
}

impl Entry {
    pub(super) fn new(number: Number, body: Vec<u8>, keyed: bool, expires: Option<Now>) -> Self {
        let len = body.len() as u32;
        let mut entry = Self { number, body, keyed, len, expires, ..Self::default() };
        entry.unsent = entry.all();
        entry
    }

    /// Parts in all: one if the message fits a datagram.
    pub(super) const fn parts(&self) -> u8 {
        if self.body.len() + block::HEADER_LEN <= DATAGRAM_BLOCKS_MAX {
            1
        } else {
            self.body.len().div_ceil(FRAGMENT_LEN) as u8
        }
    }

    /// A bit for each part.
    pub(super) const fn all(&self) -> u64 {
        u64::MAX >> (64 - self.parts() as u32)
    }

    /// Whether it rides twice while there is loss.
    pub(super) const fn is_small(&self) -> bool {
        self.body.len() <= REPEATED_MAX
    }

    /// Whether it should go into the datagram with this serial.
    pub(super) const fn is_due(&self, serial: u32) -> bool {
        !self.done && (self.unsent != 0 || (self.repeat && self.serial != serial))
    }

    /// Whether some parts are sent and some are not.
    pub(super) const fn is_begun(&self) -> bool {
        !self.done && self.unsent != 0 && self.unsent != self.all()
    }

    /// Begins anew under another number.
    pub(super) const fn renumber(&mut self, number: Number) {
        (self.number, self.acked, self.unsent, self.copies) = (number, 0, self.all(), 0);
    }

    pub(super) fn is_late(&self, now: Now) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Appends one part of a cut message.
    pub(super) fn put_part(&self, lane: Lane, index: u8, out: &mut Vec<u8>) {
        put_fragment(out, lane, self.number, self.part(index));
    }

    /// The bytes that this part's block takes.
    pub(super) fn part_len(&self, index: u8) -> usize {
        block::fragment_len(self.part(index).bytes.len())
    }

    fn part(&self, index: u8) -> Fragment<'_> {
        let start = usize::from(index) * FRAGMENT_LEN;
        let end = self.body.len().min(start + FRAGMENT_LEN);
        let bytes = &self.body[start..end];
        Fragment { keyed: self.keyed, index, count: self.parts(), bytes }
    }
}
