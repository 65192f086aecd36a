//! The numbered frames of one session that its client has not confirmed.
//!
//! Guaranteed: frames are numbered 1, 2, 3, … without a gap; the newest are kept within the limits.
//! Not guaranteed: that old ones are kept. [`FrameLog::after`] tells when they are not.

use std::collections::VecDeque;
use std::sync::Arc;

use netplay_protocol::lobby::{Member, MemberData, ServerFrame, ServerMessage, SignalBody, Value};

/// Frames whose room is kept: to make it anew for every signal takes longer than to log one.
const KEPT: usize = 8;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameLog {
    frames: VecDeque<Arc<ServerFrame>>,
    bytes: usize,
    last: u64,
}

impl FrameLog {
    /// Numbers a message and keeps it; drops the oldest while over a limit.
    pub(crate) fn push(
        &mut self,
        message: ServerMessage,
        max_frames: usize,
        max_bytes: usize,
    ) -> Arc<ServerFrame> {
        self.last += 1;
        let frame = Arc::new(ServerFrame { seq: self.last, message });
        self.bytes += weight(&frame);
        self.frames.push_back(frame.clone());
        while self.frames.len() > max_frames || self.bytes > max_bytes {
            self.drop_oldest();
        }
        frame
    }

    /// Forgets what the client has.
    pub(crate) fn confirm(&mut self, seen: u64) {
        while self.frames.front().is_some_and(|frame| frame.seq <= seen) {
            self.drop_oldest();
        }
        // An idle session must be small: give back what a burst of signals needed.
        if self.frames.is_empty() && self.frames.capacity() > KEPT {
            self.frames = VecDeque::new();
        }
    }

    /// The frames after `seen`; `None` if they are not all here, or `seen` was never sent.
    pub(crate) fn after(&self, seen: u64) -> Option<impl Iterator<Item = &Arc<ServerFrame>>> {
        let missed = usize::try_from(self.last.checked_sub(seen)?).ok()?;
        let skip = self.frames.len().checked_sub(missed)?;
        Some(self.frames.iter().skip(skip))
    }

    /// What the log weighs, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_oldest(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= weight(&frame);
        }
    }
}

/// What a frame weighs in memory and as JSON, about. Exactness would cost an encoding.
fn weight(frame: &ServerFrame) -> usize {
    let content = match &frame.message {
        ServerMessage::Signal { signal, .. } => match &signal.body {
            SignalBody::Offer { sdp } | SignalBody::Answer { sdp } => sdp.len(),
            SignalBody::Candidate { candidate, mid, .. } => {
                candidate.len() + mid.as_ref().map_or(0, String::len)
            }
            SignalBody::Bye | SignalBody::Lost | SignalBody::Withdraw => 0,
        },
        ServerMessage::Relayed { signal, .. } => signal.json().len(),
        ServerMessage::Joined { lobby, .. } => {
            let members = lobby.members.iter().map(|member| 64 + member_bytes(member));
            members.sum::<usize>() + lobby.options.name.len() + lobby.data.len() * 64
        }
        ServerMessage::MemberJoined { member } | ServerMessage::MemberChanged { member } => {
            member_bytes(member)
        }
        ServerMessage::DataChanged { changes, .. } => changes
            .iter()
            .map(|(key, entry)| {
                64 + key.as_str().len() + entry.as_ref().map_or(0, |e| bytes(&e.value))
            })
            .sum(),
        ServerMessage::Lobbies { lobbies, .. } => {
            lobbies.iter().map(|lobby| 128 + values_bytes(&lobby.data)).sum()
        }
        ServerMessage::Invited { lobby, invite, .. } => values_bytes(&lobby.data) + invite.0.len(),
        ServerMessage::Invitation { invite, .. } => invite.0.len(),
        ServerMessage::Chat { text, .. } | ServerMessage::Error { text, .. } => text.len(),
        ServerMessage::ReadyCheckEnds { missing, .. } => missing.len() * 40,
        ServerMessage::Token { token } => token.0.len(),
        _ => 0,
    };
    content + 192
}

fn member_bytes(member: &Member) -> usize {
    values_bytes(&member.data) + member.role.as_ref().map_or(0, |role| role.as_str().len())
}

fn values_bytes(data: &MemberData) -> usize {
    data.iter().map(|(key, value)| 64 + key.as_str().len() + bytes(value)).sum()
}

fn bytes(value: &Value) -> usize {
    match value {
        Value::Number(_) => 8,
        Value::Text(text) => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(log: &mut FrameLog, request: u32) -> Arc<ServerFrame> {
        log.push(ServerMessage::Left { request }, 3, usize::MAX)
    }

    fn numbers(log: &FrameLog, seen: u64) -> Option<Vec<u64>> {
        Some(log.after(seen)?.map(|frame| frame.seq).collect())
    }

    #[test]
    fn a_resume_gets_exactly_what_it_has_not_seen() {
        let mut log = FrameLog::default();
        assert_eq!(numbers(&log, 0), Some(vec![]));
        for request in 0..3 {
            left(&mut log, request);
        }
        assert_eq!(numbers(&log, 0), Some(vec![1, 2, 3]));
        assert_eq!(numbers(&log, 2), Some(vec![3]));
        assert_eq!(numbers(&log, 3), Some(vec![]));
    }

    #[test]
    fn a_log_that_does_not_reach_back_says_so() {
        let mut log = FrameLog::default();
        for request in 0..5 {
            left(&mut log, request);
        }
        assert_eq!(numbers(&log, 1), None, "frame 2 was dropped");
        assert_eq!(numbers(&log, 2), Some(vec![3, 4, 5]));
        assert_eq!(numbers(&log, 6), None, "frame 6 was never sent");
        assert_eq!(numbers(&log, u64::MAX), None);
    }

    #[test]
    fn what_the_client_has_weighs_nothing() {
        let mut log = FrameLog::default();
        left(&mut log, 1);
        left(&mut log, 2);
        log.confirm(1);
        assert_eq!(numbers(&log, 0), None);
        assert_eq!(numbers(&log, 1), Some(vec![2]));
        log.confirm(u64::MAX);
        assert_eq!(log.bytes(), 0);
        assert_eq!(left(&mut log, 3).seq, 3, "confirming the future changes no number");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut log = FrameLog::default();
        for request in 0..100 {
            log.push(ServerMessage::Left { request }, usize::MAX, 1000);
        }
        assert!(log.bytes() <= 1000);
        assert_eq!(numbers(&log, 99), Some(vec![100]));
    }
}
