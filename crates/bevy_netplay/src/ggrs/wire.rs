//! What ggrs' messages look like inside. Its own type has no public fields; this one has the same bytes,
//! so that a message can be looked at before ggrs sees it.

use std::fmt;
use std::marker::PhantomData;

use ::ggrs::Message;
use netplay_protocol::codec::{Bincode, Codec};
use netplay_protocol::limits::UNRELIABLE_MESSAGE_MAX;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Handles of one session, spectators included: more than any lobby has, a few for each of its members.
pub(super) const HANDLES_MAX: usize = 64;

/// A message of ggrs, on our lane as it would be on ggrs' own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packet {
    /// Which session of the sender's it is from.
    pub magic: u16,
    pub body: Body,
}

/// In the order of ggrs' own: the place is the tag on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Body {
    SyncRequest { random: u32 },
    SyncReply { random: u32 },
    Input(Input),
    InputAck { ack_frame: i32 },
    QualityReport { frame_advantage: i16, ping: u128 },
    QualityReply { pong: u128 },
    ChecksumReport { checksum: u128, frame: i32 },
    KeepAlive,
}

/// The inputs of some frames, and what the sender knows of all players.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    #[serde(deserialize_with = "at_most::<_, _, HANDLES_MAX>")]
    pub statuses: Vec<Status>,
    /// ggrs 0.13 never sends it set.
    pub disconnect_requested: bool,
    pub start_frame: i32,
    pub ack_frame: i32,
    /// See [`runs`](super::runs).
    #[serde(deserialize_with = "at_most::<_, _, UNRELIABLE_MESSAGE_MAX>")]
    pub bytes: Vec<u8>,
}

/// Whether a player takes part, and the newest frame of which the sender has its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub disconnected: bool,
    pub last_frame: i32,
}

impl Packet {
    /// What is in a message of ggrs. `None` if it is too large for our lane, or ggrs has another format
    /// than this was written for.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        translate(message)
    }

    /// As ggrs takes it.
    pub(crate) fn message(&self) -> Option<Message> {
        translate(self)
    }
}

fn translate<A: Serialize, B: for<'de> Deserialize<'de>>(from: &A) -> Option<B> {
    let mut bytes = Vec::new();
    Bincode::encode(from, &mut bytes, UNRELIABLE_MESSAGE_MAX).ok()?;
    Bincode::decode(&bytes).ok()
}

/// Reads a list that claims no more items than allowed: serde itself would reserve up to a megabyte for
/// what a small packet claims.
fn at_most<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(AtMost::<T, MAX>(PhantomData))
}

struct AtMost<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let claimed = items.size_hint().unwrap_or(0);
        if claimed > MAX {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(packet: &Packet) -> Vec<u8> {
        let mut bytes = Vec::new();
        Bincode::encode(packet, &mut bytes, UNRELIABLE_MESSAGE_MAX).unwrap();
        bytes
    }

    fn golden() -> [(Body, &'static [u8]); 8] {
        let status = Status { disconnected: true, last_frame: -1 };
        let input = Input {
            statuses: vec![status, Status { disconnected: false, last_frame: 7 }],
            disconnect_requested: false,
            start_frame: 8,
            ack_frame: 6,
            bytes: vec![5, 9],
        };
        [
            (Body::SyncRequest { random: 3 }, &[5, 0, 3]),
            (Body::SyncReply { random: 300 }, &[5, 1, 251, 44, 1]),
            (Body::Input(input), &[5, 2, 2, 1, 1, 0, 14, 0, 16, 12, 2, 5, 9]),
            (Body::InputAck { ack_frame: -1 }, &[5, 3, 1]),
            (Body::QualityReport { frame_advantage: -2, ping: 9 }, &[5, 4, 3, 9]),
            (Body::QualityReply { pong: 9 }, &[5, 5, 9]),
            (Body::ChecksumReport { checksum: 8, frame: 60 }, &[5, 6, 8, 120]),
            (Body::KeepAlive, &[5, 7]),
        ]
    }

    #[test]
    fn the_bytes_are_golden_and_those_of_ggrs() {
        for (body, bytes) in golden() {
            let packet = Packet { magic: 5, body };
            assert_eq!(encode(&packet), bytes, "{packet:?}");
            let message: Message = Bincode::decode(bytes).expect("ggrs reads the same bytes");
            assert_eq!(packet.message(), Some(message.clone()));
            assert_eq!(Packet::of(&message), Some(packet));
        }
    }

    #[test]
    fn a_list_that_claims_too_much_is_refused_before_anything_is_reserved() {
        // An Input whose list of statuses claims four billion items.
        let bytes = [5, 2, 252, 0xFF, 0xFF, 0xFF, 0xFF];
        let error = Bincode::decode::<Packet>(&bytes).unwrap_err();
        assert!(error.to_string().contains("at most 64 items"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(packet) = Bincode::decode::<Packet>(&bytes) {
                prop_assert!(packet.message().is_some());
            }
        }
    }
}
