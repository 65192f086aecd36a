//! Signals from member to member.

use netplay_protocol::limits::LOBBY_MESSAGE_MAX;
use netplay_protocol::lobby::{
    ErrorCode, MessageError, ServerFrame, ServerMessage, Signal, SignalBody,
};
use netplay_protocol::{Now, PeerId};

use super::rates::Kind;
use super::{Directory, Phase, Refusal, malformed};
use crate::io::ConnectionId;

impl Directory {
    /// Hands a signal on.
    pub(super) fn signal(
        &mut self,
        now: Now,
        connection: ConnectionId,
        to: PeerId,
        signal: Signal,
    ) {
        if let Some(from) = self.sender(now, connection, to) {
            match fitting(from, signal) {
                Ok(message) => self.tell(to, message),
                Err(refusal) => self.refuse(connection, None, &refusal),
            }
        }
    }

    /// Who says something to this player on this connection. If that may not be, nobody, and it is told why.
    pub(super) fn sender(
        &mut self,
        now: Now,
        connection: ConnectionId,
        to: PeerId,
    ) -> Option<PeerId> {
        let from = match self.admit(now, connection, Kind::Signal, None)? {
            Phase::Open(from) => from,
            Phase::Greeting => {
                self.too_early(now, connection);
                return None;
            }
        };
        let checked = self.check_partner(from, to);
        checked.map_err(|refusal| self.refuse(connection, None, &refusal)).ok().map(|()| from)
    }

    fn check_partner(&self, from: PeerId, to: PeerId) -> Result<(), Refusal> {
        let code = self.lobby_of(from)?;
        if to == from || self.lobby_of(to).ok() != Some(code) {
            let text = format!("{to} is no other member of this lobby");
            return Err(Refusal::new(ErrorCode::NoSuchMember, text));
        }
        Ok(())
    }
}

/// The message that hands on a signal. What the server adds must not push it over the receiver's
/// limit: the receiver would close its connection, resume, and be sent the same frame again.
fn fitting(from: PeerId, signal: Signal) -> Result<ServerMessage, Refusal> {
    // Who drives us may have made it without reading it.
    signal.check().map_err(malformed)?;
    // JSON makes of a byte six at most, and about 300 bytes are not text of the client.
    const SURELY: usize = (LOBBY_MESSAGE_MAX - 300) / 6;
    let text = match &signal.body {
        SignalBody::Offer { sdp } | SignalBody::Answer { sdp } => sdp.len(),
        SignalBody::Candidate { candidate, mid, .. } => {
            candidate.len() + mid.as_ref().map_or(0, String::len)
        }
        SignalBody::Bye | SignalBody::Lost | SignalBody::Withdraw => 0,
    };
    let message = ServerMessage::Signal { from, signal };
    if text <= SURELY {
        return Ok(message);
    }
    let frame = ServerFrame { seq: u64::MAX, message };
    match frame.to_json().len() {
        0..=LOBBY_MESSAGE_MAX => Ok(frame.message),
        len => Err(malformed(MessageError::TooLarge(len))),
    }
}
