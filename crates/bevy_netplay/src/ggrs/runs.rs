//! How ggrs packs inputs, checked before ggrs unpacks them.
//!
//! The inputs of consecutive frames, each a length of two bytes and its bytes (as differences to those of
//! the frame before), are one string of bytes. That string is cut into runs. Each run begins with a number,
//! seven bits a byte and the lowest first: an odd one stands for so many zeros or (with the second bit set)
//! ones, an even one says how many bytes follow as they are.
//!
//! ggrs 0.13 and the crate that it uses for this take the numbers as they come: one that is cut off, or
//! larger than the rest, ends the process.

/// Bytes of all inputs of one message, unpacked. ggrs sends 129 frames at most: 500 bytes for each.
pub(super) const UNPACKED_MAX: usize = 64 * 1024;

/// How many frames have their inputs in these bytes. `None` if ggrs could not unpack them, or they
/// unpack to more than [`UNPACKED_MAX`] bytes. `unpacked` is room to work in.
pub(super) fn frames(packed: &[u8], unpacked: &mut Vec<u8>) -> Option<usize> {
    unpacked.clear();
    let mut rest = packed;
    while !rest.is_empty() {
        let number = take_number(&mut rest)?;
        let is_run = number & 1 == 1;
        let len = usize::try_from(if is_run { number >> 2 } else { number >> 1 }).ok()?;
        if len > UNPACKED_MAX - unpacked.len() {
            return None;
        }
        if is_run {
            let value = if number & 2 == 2 { 0xFF } else { 0 };
            unpacked.resize(unpacked.len() + len, value);
        } else {
            unpacked.extend_from_slice(rest.split_off(..len)?);
        }
    }
    count(unpacked)
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    // Five bytes are 35 bits: far more than any length that is allowed.
    for shift in [0, 7, 14, 21, 28] {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn count(mut inputs: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !inputs.is_empty() {
        let len = inputs.split_off(..2)?;
        let len = u16::from_le_bytes([len[0], len[1]]);
        inputs.split_off(..usize::from(len))?;
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(packed: &[u8]) -> Option<usize> {
        frames(packed, &mut Vec::new())
    }

    #[test]
    fn inputs_are_counted() {
        assert_eq!(of(&[]), Some(0));
        // Six bytes as they are: two inputs of one byte.
        assert_eq!(of(&[12, 1, 0, 7, 1, 0, 9]), Some(2));
        // One byte, then a run of three zeros, twice: two inputs of two bytes that have not changed.
        assert_eq!(of(&[2, 2, 0x0D, 2, 2, 0x0D]), Some(2));
        // A run of 255s is the length of a very long input.
        assert_eq!(of(&[0x0B]), None);
    }

    #[test]
    fn what_ends_ggrs_is_refused() {
        for packed in [
            &[0x80_u8][..],                  // a number that is cut off
            &[12, 1],                        // more bytes than follow
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F], // a run of a gigabyte
            &[0xFD, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], // of four exabytes
            &[0xFF; 40],                     // a number of 280 bits
            &[2, 9, 5],                      // half a length
            &[6, 9, 0, 1],                   // half an input
        ] {
            assert_eq!(of(packed), None, "{packed:02x?}");
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let run = |zeros: u32| {
            let number = zeros << 2 | 1;
            [number as u8 & 0x7F | 0x80, (number >> 7) as u8 & 0x7F | 0x80, (number >> 14) as u8]
        };
        // Two zeros are an input of no bytes.
        assert_eq!(of(&run(64 * 1024)), Some(32 * 1024));
        assert_eq!(of(&run(64 * 1024 + 2)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_counted_or_refused(packed in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut unpacked = Vec::new();
            frames(&packed, &mut unpacked);
            prop_assert!(unpacked.len() <= UNPACKED_MAX);
        }
    }
}
