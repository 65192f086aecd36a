//! A bounded reader and the matching writers: the only code that touches packet bytes.

use thiserror::Error;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The packet ended before the value did.
    #[error("the packet ends in the middle of a value")]
    Truncated,
    /// Bytes are left over after the last value.
    #[error("{0} bytes are left over after the last value")]
    TrailingBytes(usize),
    /// A length or count exceeds its limit.
    #[error("a length of {len} exceeds its limit of {max}")]
    TooLong {
        /// The length found.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A number is written in a longer form than needed, or does not fit its type.
    #[error("a number is not written in its shortest form")]
    Overlong,
    /// A tag, flag or enum value has no meaning.
    #[error("{value} is no known {what}")]
    Unknown {
        /// What was being read.
        what: &'static str,
        /// The value found.
        value: u32,
    },
    /// Text that is not UTF-8, or an id that breaks its rules.
    #[error("text is malformed")]
    Text,
}

/// Reads values from the front of a byte slice. All numbers are little-endian.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] if there are fewer.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], ReadError> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or(ReadError::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (head, tail) = self.bytes.split_first_chunk::<N>().ok_or(ReadError::Truncated)?;
        self.bytes = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] at the end of the packet; so do the other fixed widths.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`ReadError::Truncated`].
    pub fn u16(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Three bytes.
    ///
    /// # Errors
    /// [`ReadError::Truncated`].
    pub fn u24(&mut self) -> Result<u32, ReadError> {
        let [a, b, c] = self.array()?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`ReadError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`ReadError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of up to 21 bits in one to three bytes, seven bits each, low bits first.
    ///
    /// # Errors
    /// [`ReadError::Truncated`], or [`ReadError::Overlong`] if it has a fourth byte or a useless
    /// last one.
    pub fn varint(&mut self) -> Result<u32, ReadError> {
        let mut value = 0;
        for shift in [0, 7, 14] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(ReadError::Overlong) } else { Ok(value) };
            }
        }
        Err(ReadError::Overlong)
    }

    /// A text with a one-byte length of at most `max`.
    ///
    /// # Errors
    /// [`ReadError::TooLong`], [`ReadError::Truncated`] or [`ReadError::Text`].
    pub fn text(&mut self, max: usize) -> Result<&'a str, ReadError> {
        let len = usize::from(self.u8()?);
        if len > max {
            return Err(ReadError::TooLong { len, max });
        }
        core::str::from_utf8(self.bytes(len)?).map_err(|_| ReadError::Text)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`ReadError::TrailingBytes`].
    pub fn finish(self) -> Result<(), ReadError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(ReadError::TrailingBytes(left)),
        }
    }
}

/// The largest number that [`put_varint`] writes.
pub const VARINT_MAX: u32 = (1 << 21) - 1;

/// The bytes that [`put_varint`] writes for `value`.
pub const fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        _ => 3,
    }
}

/// Writes what [`Reader::varint`] reads.
///
/// # Panics
/// If `value` exceeds [`VARINT_MAX`]; callers write lengths that they have checked.
pub fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    assert!(value <= VARINT_MAX, "{value} does not fit a varint");
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes what [`Reader::text`] reads.
///
/// # Panics
/// If `text` has more than 255 bytes; callers write texts whose limit is lower.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("texts on the wire have at most 255 bytes"));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_survive_a_round_trip(value in 0..=VARINT_MAX) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_varint_has_one_spelling() {
        assert_eq!(Reader::new(&[0x80, 0x00]).varint(), Err(ReadError::Overlong));
        assert_eq!(Reader::new(&[0xFF, 0xFF, 0xFF, 0x01]).varint(), Err(ReadError::Overlong));
        assert_eq!(Reader::new(&[0xFF]).varint(), Err(ReadError::Truncated));
        assert_eq!(Reader::new(&[0x00]).varint(), Ok(0));
    }

    #[test]
    fn texts_are_bounded_and_utf8() {
        assert_eq!(Reader::new(b"\x03abc").text(3), Ok("abc"));
        assert_eq!(Reader::new(b"\x03abc").text(2), Err(ReadError::TooLong { len: 3, max: 2 }));
        assert_eq!(Reader::new(b"\x03ab").text(3), Err(ReadError::Truncated));
        assert_eq!(Reader::new(b"\x01\xFF").text(3), Err(ReadError::Text));
    }
}
