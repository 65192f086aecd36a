//! The numbered frames of one session that its client has not confirmed.
//!
//! Guaranteed: frames are numbered 1, 2, 3, … without a gap; the newest are kept within the limits.
//! Not guaranteed: that old ones are kept. [`FrameLog::after`] tells when they are not.

use std::collections::{VecDeque, vec_deque};

/// Bytes of room that a log keeps for what comes next: to give it back and ask for it again with every few signals
/// takes longer than to log them. An empty log has none.
const KEPT: usize = 4096;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameLog {
    /// The frames as they were sent, one after another, the oldest first.
    texts: VecDeque<u8>,
    lengths: VecDeque<usize>,
    /// The number of the newest frame there has been.
    last: u64,
}

impl FrameLog {
    /// The number of the frame that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.last + 1
    }

    /// Keeps the next frame; drops the oldest while over a limit.
    pub(crate) fn push(&mut self, text: &[u8], max_frames: usize, max_bytes: usize) {
        self.last += 1;
        self.texts.extend(text);
        self.lengths.push_back(text.len());
        let (mut frames, mut bytes) = (0, 0);
        while self.lengths.len() - frames > max_frames || self.texts.len() - bytes > max_bytes {
            bytes += self.lengths[frames];
            frames += 1;
        }
        self.drop_oldest(frames, bytes);
    }

    /// Forgets what the client has.
    pub(crate) fn confirm(&mut self, seen: u64) {
        let unseen = self.last.saturating_sub(seen);
        let unseen = usize::try_from(unseen).unwrap_or(usize::MAX);
        let frames = self.lengths.len().saturating_sub(unseen);
        self.drop_oldest(frames, self.lengths.range(..frames).sum());
        self.give_back();
    }

    /// The bytes of each frame after `seen`; `None` if they are not all here, or `seen` was never sent.
    pub(crate) fn after(&self, seen: u64) -> Option<impl Iterator<Item = vec_deque::Iter<'_, u8>>> {
        let missed = usize::try_from(self.last.checked_sub(seen)?).ok()?;
        let skip = self.lengths.len().checked_sub(missed)?;
        let mut end: usize = self.lengths.range(..skip).sum();
        Some(self.lengths.range(skip..).map(move |length| {
            let begin = end;
            end += length;
            self.texts.range(begin..end)
        }))
    }

    /// How long the frames are together.
    pub(crate) fn bytes(&self) -> usize {
        self.texts.len()
    }

    fn drop_oldest(&mut self, frames: usize, bytes: usize) {
        self.lengths.drain(..frames);
        self.texts.drain(..bytes);
    }

    /// An idle session must be small, and nobody may have room for a burst by leaving one frame of it.
    fn give_back(&mut self) {
        if self.lengths.is_empty() {
            (self.texts, self.lengths) = (VecDeque::new(), VecDeque::new());
        } else if self.texts.capacity() > KEPT.max(4 * self.texts.len()) {
            self.texts.shrink_to(2 * self.texts.len());
            self.lengths.shrink_to(2 * self.lengths.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of each frame here.
    const FRAME: usize = 10;

    fn logged(frames: usize, max_frames: usize, max_bytes: usize) -> FrameLog {
        let mut log = FrameLog::default();
        for _ in 0..frames {
            push(&mut log, max_frames, max_bytes);
        }
        log
    }

    /// A frame that says its number.
    fn push(log: &mut FrameLog, max_frames: usize, max_bytes: usize) {
        let text = format!("frame {:04}", log.next());
        log.push(text.as_bytes(), max_frames, max_bytes);
    }

    fn numbers(log: &FrameLog, seen: u64) -> Option<Vec<u64>> {
        let number = |frame: vec_deque::Iter<'_, u8>| {
            let text = String::from_utf8(frame.copied().collect()).expect("as it was written");
            text.strip_prefix("frame ").and_then(|number| number.parse().ok()).expect("a frame")
        };
        Some(log.after(seen)?.map(number).collect())
    }

    #[test]
    fn a_resume_gets_exactly_what_it_has_not_seen() {
        assert_eq!(numbers(&FrameLog::default(), 0), Some(vec![]));
        let log = logged(3, 3, usize::MAX);
        assert_eq!(numbers(&log, 0), Some(vec![1, 2, 3]));
        assert_eq!(numbers(&log, 2), Some(vec![3]));
        assert_eq!(numbers(&log, 3), Some(vec![]));
    }

    #[test]
    fn a_log_that_does_not_reach_back_says_so() {
        let log = logged(5, 3, usize::MAX);
        assert_eq!(numbers(&log, 1), None, "frame 2 was dropped");
        assert_eq!(numbers(&log, 2), Some(vec![3, 4, 5]));
        assert_eq!(numbers(&log, 6), None, "frame 6 was never sent");
        assert_eq!(numbers(&log, u64::MAX), None);
    }

    #[test]
    fn what_the_client_has_weighs_nothing() {
        let mut log = logged(2, 3, usize::MAX);
        log.confirm(1);
        assert_eq!(numbers(&log, 0), None);
        assert_eq!(numbers(&log, 1), Some(vec![2]));
        log.confirm(0);
        assert_eq!(numbers(&log, 1), Some(vec![2]), "nothing comes back");
        log.confirm(u64::MAX);
        assert_eq!(log.bytes(), 0);
        assert_eq!(log.next(), 3, "confirming the future changes no number");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let log = logged(100, usize::MAX, 10 * FRAME + 9);
        assert_eq!(log.bytes(), 10 * FRAME);
        assert_eq!(numbers(&log, 90), Some((91..=100).collect()));
        let mut log = logged(3, usize::MAX, 100);
        log.push(&[b'x'; 101], usize::MAX, 100);
        assert_eq!((log.bytes(), numbers(&log, 3), numbers(&log, 4)), (0, None, Some(vec![])));
    }

    #[test]
    fn a_log_gives_back_its_room_but_for_what_is_left_of_it() {
        let mut log = logged(10_000, usize::MAX, usize::MAX);
        let mut seen = 0;
        while seen < 10_000 {
            seen += 7;
            log.confirm(seen);
            assert!(log.texts.capacity() <= KEPT.max(4 * log.bytes()), "{seen}");
            assert!(log.lengths.capacity() <= log.texts.capacity().max(KEPT), "{seen}");
            if seen < 10_000 {
                assert_eq!(numbers(&log, seen).map(|left| left[0]), Some(seen + 1));
            }
        }
        assert_eq!((log.texts.capacity(), log.lengths.capacity()), (0, 0));
    }
}
