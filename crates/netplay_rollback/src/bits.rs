//! Single bits in bytes, low bits first.

/// Appends bits to bytes.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    used: usize,
}

impl<'a> BitWriter<'a> {
    /// A writer that continues in `bytes` at the next whole byte.
    pub(crate) const fn after(bytes: &'a mut Vec<u8>) -> Self {
        let used = bytes.len() * 8;
        Self { bytes, used }
    }

    pub(crate) fn bit(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if bit {
            self.bytes[self.used / 8] |= 1 << (self.used % 8);
        }
        self.used += 1;
    }

    /// The `count` low bits of `value`.
    pub(crate) fn bits(&mut self, value: u8, count: u32) {
        for i in 0..count {
            self.bit(value >> i & 1 != 0);
        }
    }

    /// Where the writer stands, in bits.
    pub(crate) const fn position(&self) -> usize {
        self.used
    }

    /// Goes back to an earlier [`Self::position`].
    pub(crate) fn truncate(&mut self, position: usize) {
        debug_assert!(position <= self.used);
        self.bytes.truncate(position.div_ceil(8));
        if !position.is_multiple_of(8)
            && let Some(last) = self.bytes.last_mut()
        {
            *last &= (1 << (position % 8)) - 1;
        }
        self.used = position;
    }
}

/// Reads what a [`BitWriter`] wrote; `None` at the end.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    pub(crate) fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.used / 8)?;
        let bit = byte >> (self.used % 8) & 1 != 0;
        self.used += 1;
        Some(bit)
    }

    pub(crate) fn bits(&mut self, count: u32) -> Option<u8> {
        let mut value = 0;
        for i in 0..count {
            value |= u8::from(self.bit()?) << i;
        }
        Some(value)
    }

    /// Whether nothing but the zero bits that fill up the last byte is left.
    pub(crate) fn is_finished(&self) -> bool {
        let whole = self.used.div_ceil(8);
        let rest = self.bytes.get(self.used / 8).map_or(0, |byte| {
            if self.used.is_multiple_of(8) { 0 } else { byte >> (self.used % 8) }
        });
        whole == self.bytes.len() && rest == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_and_can_be_taken_back() {
        let mut bytes = vec![0xAA];
        let mut writer = BitWriter::after(&mut bytes);
        writer.bits(0b101, 3);
        let position = writer.position();
        writer.bits(0xFF, 8);
        writer.truncate(position);
        writer.bits(0x21, 6);
        assert_eq!(bytes, [0xAA, 0b0000_1101, 0b1]);
        let mut reader = BitReader::new(&bytes[1..]);
        assert_eq!(reader.bits(3), Some(0b101));
        assert_eq!(reader.bits(6), Some(0x21));
        assert!(reader.is_finished());
        assert_eq!(reader.bits(8), None);
        let mut reader = BitReader::new(&[0xFF]);
        reader.bits(4);
        assert!(!reader.is_finished());
    }
}
