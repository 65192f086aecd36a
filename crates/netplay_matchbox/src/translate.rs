//! Between matchbox's signals and ours.
//!
//! | matchbox | here |
//! |---|---|
//! | `Offer`, `Answer` | the same; attempt 1, as a matchbox player makes no second |
//! | `IceCandidate`, JSON of an `RTCIceCandidateInit` | a candidate with its line and its media section |
//! | `IceCandidate`, the text `null` | a candidate with an empty line: there are no more |
//!
//! Of a candidate, `usernameFragment` and `url` do not travel: native players leave them empty, and
//! nobody reads them.

use matchbox_socket::{PeerId as MatchboxId, PeerSignal};
use netplay_protocol::PeerId;
use netplay_protocol::lobby::{MessageError, Signal, SignalBody};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The only attempt to connect that a matchbox player makes.
const ATTEMPT: u32 = 1;
/// In place of a candidate: there are no more.
const NO_MORE: &str = "null";

/// A candidate, as browsers and the WebRTC library write it.
#[derive(Serialize, Deserialize)]
struct CandidateInit {
    candidate: String,
    #[serde(rename = "sdpMid", default)]
    mid: Option<String>,
    #[serde(rename = "sdpMLineIndex", default)]
    mline: Option<u16>,
    /// The library wants it to be there.
    #[serde(rename = "usernameFragment", default)]
    fragment: Option<String>,
}

pub(crate) fn matchbox_id(peer: PeerId) -> MatchboxId {
    MatchboxId(Uuid::from_u128(peer.as_u128()))
}

pub(crate) const fn our_id(peer: MatchboxId) -> PeerId {
    PeerId::from_u128(peer.0.as_u128())
}

/// What a matchbox player says, for the lobby.
///
/// # Errors
/// If it is no candidate, or larger than the server passes on.
pub(crate) fn to_lobby(signal: PeerSignal) -> Result<Signal, MessageError> {
    let body = match signal {
        PeerSignal::Offer(sdp) => SignalBody::Offer { sdp },
        PeerSignal::Answer(sdp) => SignalBody::Answer { sdp },
        PeerSignal::IceCandidate(text) if text == NO_MORE => {
            SignalBody::Candidate { candidate: String::new(), mid: None, mline: None }
        }
        PeerSignal::IceCandidate(text) => {
            let init: CandidateInit = serde_json::from_str(&text)
                .map_err(|error| MessageError::Json(error.to_string()))?;
            SignalBody::Candidate { candidate: init.candidate, mid: init.mid, mline: init.mline }
        }
    };
    let signal = Signal { attempt: ATTEMPT, body };
    signal.check()?;
    Ok(signal)
}

/// What the lobby brings, for a matchbox player; `None`: no matchbox player says so.
pub(crate) fn to_matchbox(signal: Signal) -> Option<PeerSignal> {
    if signal.attempt != ATTEMPT {
        return None;
    }
    match signal.body {
        SignalBody::Offer { sdp } => Some(PeerSignal::Offer(sdp)),
        SignalBody::Answer { sdp } => Some(PeerSignal::Answer(sdp)),
        SignalBody::Candidate { candidate, mid: None, mline: None } if candidate.is_empty() => {
            Some(PeerSignal::IceCandidate(NO_MORE.to_owned()))
        }
        SignalBody::Candidate { candidate, mid, mline } => {
            let init = CandidateInit { candidate, mid, mline, fragment: None };
            serde_json::to_string(&init).ok().map(PeerSignal::IceCandidate)
        }
        SignalBody::Bye | SignalBody::Lost | SignalBody::Withdraw => None,
    }
}

#[cfg(test)]
mod tests {
    use netplay_protocol::limits::{CANDIDATE_MAX, SDP_MAX};

    use super::*;

    fn there_and_back(signal: PeerSignal) -> PeerSignal {
        to_matchbox(to_lobby(signal).unwrap()).unwrap()
    }

    #[test]
    fn signals_arrive_as_they_were_sent() {
        // As native players write it.
        let candidate = r#"{"candidate":"candidate:1 1 udp 2 10.0.0.1 9 typ host","sdpMid":"","sdpMLineIndex":0,"usernameFragment":null}"#;
        for signal in [
            PeerSignal::Offer("v=0\r\n".into()),
            PeerSignal::Answer("v=0\r\n".into()),
            PeerSignal::IceCandidate(candidate.into()),
            PeerSignal::IceCandidate("null".into()),
        ] {
            assert_eq!(there_and_back(signal.clone()), signal);
        }
    }

    #[test]
    fn a_candidate_travels_as_ours_do() {
        let text = r#"{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":3,"usernameFragment":"x","url":"stun:a"}"#;
        let signal = to_lobby(PeerSignal::IceCandidate(text.into())).unwrap();
        let (candidate, mid) = ("candidate:1".to_owned(), Some("0".to_owned()));
        let body = SignalBody::Candidate { candidate, mid, mline: Some(3) };
        assert_eq!(signal, Signal { attempt: 1, body });
    }

    #[test]
    fn what_is_no_candidate_or_too_large_is_refused() {
        let no_candidate = to_lobby(PeerSignal::IceCandidate("{}".into()));
        assert!(matches!(no_candidate, Err(MessageError::Json(_))), "{no_candidate:?}");
        let sdp = "x".repeat(SDP_MAX + 1);
        let large = to_lobby(PeerSignal::Offer(sdp));
        assert_eq!(large, Err(MessageError::Range { field: "sdp" }));
        let line = format!(r#"{{"candidate":"{}"}}"#, "x".repeat(CANDIDATE_MAX + 1));
        let large = to_lobby(PeerSignal::IceCandidate(line));
        assert_eq!(large, Err(MessageError::Range { field: "candidate" }));
    }

    #[test]
    fn what_only_netplays_own_players_say_is_nothing_for_matchbox() {
        let sdp = "v=0\r\n".to_owned();
        let again = Signal { attempt: 2, body: SignalBody::Offer { sdp } };
        assert_eq!(to_matchbox(again), None);
        for body in [SignalBody::Bye, SignalBody::Lost, SignalBody::Withdraw] {
            assert_eq!(to_matchbox(Signal { attempt: 1, body }), None);
        }
    }

    #[test]
    fn ids_are_the_same_in_both_worlds() {
        let peer = PeerId::from_u128(0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF);
        assert_eq!(matchbox_id(peer).to_string(), peer.to_string());
        assert_eq!(our_id(matchbox_id(peer)), peer);
    }
}
