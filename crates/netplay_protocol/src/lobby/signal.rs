//! What two players tell each other to connect.

use std::io::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::MessageError;
use crate::ids::PeerId;
use crate::limits::{CANDIDATE_MAX, LOBBY_MESSAGE_MAX, SDP_MAX};

/// Bytes of a media section's name: browsers and libraries number them.
const MID_MAX: usize = 64;

/// What two peers tell each other through the server to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Which attempt to connect; counts up from 1.
    pub attempt: u32,
    /// What.
    pub body: SignalBody,
}

/// The content of a [`Signal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SignalBody {
    /// An SDP offer.
    Offer {
        /// The session description.
        sdp: String,
    },
    /// An SDP answer.
    Answer {
        /// The session description.
        sdp: String,
    },
    /// One ICE candidate.
    Candidate {
        /// The candidate line, as RFC 8839 writes it.
        candidate: String,
        /// The media section it belongs to, by name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mid: Option<String>,
        /// The media section it belongs to, by place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mline: Option<u16>,
    },
    /// I end the link. The number is that of the last attempt that I know of.
    Bye,
    /// I have given up the link: nothing was heard for too long. The number is as in `Bye`.
    Lost,
    /// I end this attempt; the link lives on.
    Withdraw,
}

impl Signal {
    /// Checks the sizes of SDP and candidate.
    ///
    /// # Errors
    /// [`MessageError::Range`].
    pub fn check(&self) -> Result<(), MessageError> {
        match &self.body {
            SignalBody::Offer { sdp } | SignalBody::Answer { sdp } if sdp.len() > SDP_MAX => {
                Err(MessageError::Range { field: "sdp" })
            }
            SignalBody::Candidate { candidate, mid, .. }
                if candidate.len() > CANDIDATE_MAX
                    || mid.as_ref().is_some_and(|mid| mid.len() > MID_MAX) =>
            {
                Err(MessageError::Range { field: "candidate" })
            }
            _ => Ok(()),
        }
    }
}

/// A signal that a server passes on as it came. Nearly all that players say are signals, and to make values of
/// them and text of those again takes most of what relaying one costs.
///
/// Guaranteed: its JSON is that of a [`Signal`] within its limits, and the receiver's frame with it is not too
/// long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSignal<'a>(&'a str);

/// How clients write a signal's message: around the id of the receiver, 36 characters, and the signal.
const BEGIN: &str = r#"{"type":"signal","to":""#;
const TO: usize = 36;
const MIDDLE: &str = r#"","signal":"#;
const END: &str = "}";

/// Bytes of the receiver's frame around a signal, at most.
const AROUND: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(rename = "attempt")]
    _attempt: u32,
    #[serde(borrow)]
    body: Body<'a>,
}

/// All fields of all bodies.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    kind: Kind,
    #[serde(borrow)]
    sdp: Option<&'a RawValue>,
    #[serde(borrow)]
    candidate: Option<&'a RawValue>,
    #[serde(borrow)]
    mid: Option<&'a RawValue>,
    mline: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Offer,
    Answer,
    Candidate,
    Bye,
    Lost,
    Withdraw,
}

impl<'a> RawSignal<'a> {
    /// Reads the message of a signal, and for whom it is. Gives nothing if it is not written as our clients write
    /// it, or is none: [`ClientMessage::from_json`](super::ClientMessage::from_json) says what it is then.
    pub fn read(text: &'a str) -> Option<(PeerId, Self)> {
        let (to, rest) = text.strip_prefix(BEGIN)?.split_at_checked(TO)?;
        let to = PeerId::from_hyphenated(to)?;
        let json = rest.strip_prefix(MIDDLE)?.strip_suffix(END)?;
        // Half a character may be written as a number, and nobody who reads that would take it.
        if json.len() + AROUND > LOBBY_MESSAGE_MAX || json.contains("\\u") {
            return None;
        }
        let Fields { body, .. } = serde_json::from_str(json).ok()?;
        body.fits().then_some((to, Self(json)))
    }

    /// Appends the frame by which its receiver gets it. It reads as a
    /// [`ServerMessage::Signal`](super::ServerMessage::Signal).
    pub fn write_frame(self, seq: u64, from: PeerId, text: &mut Vec<u8>) {
        let Self(signal) = self;
        text.reserve(signal.len() + AROUND);
        write!(
            text,
            r#"{{"seq":{seq},"message":{{"type":"signal","from":"{from}","signal":{signal}}}}}"#
        )
        .expect("a vector takes everything");
    }
}

impl Body<'_> {
    /// Whether it has what its kind has, and nothing is too long.
    fn fits(&self) -> bool {
        let text =
            |raw: &RawValue, max: usize| raw.get().starts_with('"') && raw.get().len() <= max + 2;
        let Self { kind, sdp, candidate, mid, mline } = self;
        match (kind, sdp, candidate) {
            (Kind::Offer | Kind::Answer, Some(sdp), None) => {
                text(sdp, SDP_MAX) && mid.is_none() && mline.is_none()
            }
            (Kind::Candidate, None, Some(candidate)) => {
                text(candidate, CANDIDATE_MAX) && mid.is_none_or(|mid| text(mid, MID_MAX))
            }
            (Kind::Bye | Kind::Lost | Kind::Withdraw, None, None) => {
                mid.is_none() && mline.is_none()
            }
            _ => false,
        }
    }
}
