//! How a game's own types become bytes.
//!
//! Games derive serde's traits; a [`Codec`] turns values into bytes and back. The codec's id is part
//! of the handshake, so peers with different codecs refuse each other by name.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why a value could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value takes more bytes than its lane carries.
    #[error("the message takes more than the {max} bytes that its lane carries")]
    TooLarge {
        /// The lane's limit in bytes.
        max: usize,
    },
    /// The type's own `Serialize` failed, or the codec cannot express it.
    #[error("the message cannot be serialized: {0}")]
    Serialize(String),
}

/// Why bytes are not a value. The text is for a log; bytes come from a peer and are not trusted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Bytes are left over after the value.
    #[error("{0} bytes are left over after the message")]
    TrailingBytes(usize),
    /// The bytes are no such value.
    #[error("the message cannot be deserialized: {0}")]
    Deserialize(String),
}

/// Turns values into bytes and back.
pub trait Codec: Send + Sync + 'static {
    /// The codec's number in the handshake. 128 to 255 are free for a game's own codecs.
    const ID: u8;

    /// Appends `value` to `out`, taking at most `max` bytes. On an error `out` is as before.
    ///
    /// # Errors
    /// [`EncodeError`] if the value is too large or cannot be serialized.
    fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>, max: usize) -> Result<(), EncodeError>;

    /// Reads one value that takes all of `bytes`. The caller has capped the size of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no such value or more than one.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError>;
}

/// `bincode` 2.0.1 in its standard configuration: little-endian, variable-length integers.
///
/// The crate is unmaintained (RUSTSEC-2025-0141), which is why it stands behind [`Codec`]. Its serde
/// path may reserve up to 1 MiB for a sequence whose length a hostile packet claims, and spends CPU
/// on sequences of zero-sized types such as `Vec<()>`: keep these out of messages. A type that contains
/// itself takes stack for every level, and that much memory at each: keep it out too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bincode;

const CONFIG: bincode::config::Configuration = bincode::config::standard();

/// A writer that refuses what exceeds its room, so that an oversized value stops early.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
    overflow: bool,
}

impl bincode::enc::write::Writer for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        let Some(room) = self.room.checked_sub(bytes.len()) else {
            self.overflow = true;
            return Err(bincode::error::EncodeError::UnexpectedEnd);
        };
        self.room = room;
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

impl Codec for Bincode {
    const ID: u8 = 1;

    fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>, max: usize) -> Result<(), EncodeError> {
        let start = out.len();
        let mut bounded = Bounded { out, room: max, overflow: false };
        let result = bincode::serde::encode_into_writer(value, &mut bounded, CONFIG);
        let overflow = bounded.overflow;
        result.map_err(|error| {
            out.truncate(start);
            if overflow {
                EncodeError::TooLarge { max }
            } else {
                EncodeError::Serialize(error.to_string())
            }
        })
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
        let config = CONFIG.with_limit::<{ crate::limits::BULK_MESSAGE_MAX }>();
        let (value, read) = bincode::serde::decode_from_slice(bytes, config)
            .map_err(|error| DecodeError::Deserialize(error.to_string()))?;
        match bytes.len() - read {
            0 => Ok(value),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Sample {
        Empty,
        Text(String),
        Numbers { small: u8, large: u64, real: f32, list: Vec<i16>, maybe: Option<bool> },
    }

    fn encode(value: &Sample) -> Vec<u8> {
        let mut out = Vec::new();
        Bincode::encode(value, &mut out, 10_000).unwrap();
        out
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(encode(&Sample::Empty), [0]);
        assert_eq!(encode(&Sample::Text("hey".into())), [1, 3, b'h', b'e', b'y']);
        let numbers = Sample::Numbers {
            small: 7,
            large: 1000,
            real: 1.0,
            list: vec![-1, 2],
            maybe: Some(true),
        };
        assert_eq!(encode(&numbers), [2, 7, 251, 232, 3, 0, 0, 128, 63, 2, 1, 4, 1, 1]);
        assert_eq!(Bincode::decode(&encode(&numbers)), Ok(numbers));
    }

    #[test]
    fn a_value_beyond_its_room_is_refused_and_leaves_nothing_behind() {
        let mut out = vec![9];
        let text = Sample::Text("x".repeat(100));
        assert_eq!(Bincode::encode(&text, &mut out, 101), Err(EncodeError::TooLarge { max: 101 }));
        assert_eq!(out, [9]);
        assert_eq!(Bincode::encode(&text, &mut out, 102), Ok(()));
        assert_eq!(out.len(), 103);
    }

    #[test]
    fn left_over_bytes_are_refused() {
        assert_eq!(Bincode::decode::<Sample>(&[0, 0]), Err(DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn a_claimed_length_of_four_billion_is_an_error() {
        let hostile = [1, 252, 0xFF, 0xFF, 0xFF, 0xFF];
        assert!(matches!(Bincode::decode::<Sample>(&hostile), Err(DecodeError::Deserialize(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(Bincode::decode::<Sample>(&bytes));
        }
    }
}
