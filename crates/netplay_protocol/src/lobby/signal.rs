//! What two players tell each other to connect.

use serde::{Deserialize, Serialize};

use super::MessageError;
use crate::ids::PeerId;
use crate::limits::{CANDIDATE_MAX, LOBBY_MESSAGE_MAX, SDP_MAX};

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
                    || mid.as_ref().is_some_and(|mid| mid.len() > 64) =>
            {
                Err(MessageError::Range { field: "candidate" })
            }
            _ => Ok(()),
        }
    }
}

/// What a message must begin with to be read in the short way.
const BEGIN: &str = r#"{"type":"signal""#;

/// A signal's message as it is written, field by field. The type is one of them, so that two are refused.
#[derive(Deserialize)]
struct Plain {
    #[serde(rename = "type")]
    _type: Type,
    to: PeerId,
    signal: PlainSignal,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    Signal,
}

#[derive(Deserialize)]
struct PlainSignal {
    attempt: u32,
    body: PlainBody,
}

/// All fields of all bodies.
#[derive(Deserialize)]
struct PlainBody {
    kind: Kind,
    sdp: Option<String>,
    candidate: Option<String>,
    mid: Option<String>,
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

/// Reads the message of a signal: nearly all that players say are signals, and the general way, which looks
/// for the type first and keeps everything else until it has it, takes three times as long. Gives nothing if
/// the general way has to say what it is.
pub(super) fn read_plain(text: &str) -> Option<(PeerId, Signal)> {
    if text.len() > LOBBY_MESSAGE_MAX || !text.starts_with(BEGIN) {
        return None;
    }
    let Plain { to, signal: PlainSignal { attempt, body }, .. } =
        serde_json::from_str(text).ok()?;
    let PlainBody { kind, sdp, candidate, mid, mline } = body;
    let body = match kind {
        Kind::Offer => SignalBody::Offer { sdp: sdp? },
        Kind::Answer => SignalBody::Answer { sdp: sdp? },
        Kind::Candidate => SignalBody::Candidate { candidate: candidate?, mid, mline },
        Kind::Bye => SignalBody::Bye,
        Kind::Lost => SignalBody::Lost,
        Kind::Withdraw => SignalBody::Withdraw,
    };
    Some((to, Signal { attempt, body }))
}
