//! What two players tell each other to connect.

use serde::{Deserialize, Serialize};

use super::MessageError;
use crate::limits::{CANDIDATE_MAX, SDP_MAX};

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
