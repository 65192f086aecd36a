//! WebSocket frames of a client, as few bytes as they are.
//!
//! Of our own, because the generator shares a machine with what it measures, and a library would take as
//! much of it as the server does. It takes what servers send here: whole text frames, pings, closes.

/// What a server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a str),
    Ping(&'a [u8]),
    /// With its code, 1005 if there is none.
    Close(u16),
    /// Something that nobody waits for here.
    Other,
}

/// Bytes that are no frame which a server may send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

const TEXT: u8 = 1;
const PONG: u8 = 10;

/// Appends a frame with this opcode. Its mask is zero, with which the server does the same work.
fn push(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    head(out, opcode, payload.len() as u64);
    out.extend_from_slice(payload);
}

fn head(out: &mut Vec<u8>, opcode: u8, len: u64) {
    const FINAL: u8 = 0x80;
    const MASKED: u8 = 0x80;
    out.push(FINAL | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => out.push(MASKED | len),
        (_, Ok(len)) => {
            out.push(MASKED | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
}

/// Appends a text frame.
pub(crate) fn text(out: &mut Vec<u8>, text: &[u8]) {
    push(out, TEXT, text);
}

/// Appends the answer to a ping.
pub(crate) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    push(out, PONG, payload);
}

/// Appends the head of a text frame of this length, which does not follow.
pub(crate) fn text_head(out: &mut Vec<u8>, len: u64) {
    head(out, TEXT, len);
}

/// The first frame and how many bytes it has; `None` if it is not all here.
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Broken> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (len, rest) = match second {
        0..=125 => (u64::from(*second), rest),
        126 => match rest.split_first_chunk() {
            Some((len, rest)) => (u16::from_be_bytes(*len).into(), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((len, rest)) => (u64::from_be_bytes(*len), rest),
            None => return Ok(None),
        },
        // Servers do not mask.
        _ => return Err(Broken),
    };
    let len = usize::try_from(len).map_err(|_| Broken)?;
    let Some(payload) = rest.get(..len) else { return Ok(None) };
    let frame = match first {
        0x81 => Frame::Text(core::str::from_utf8(payload).map_err(|_| Broken)?),
        0x88 => Frame::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
        0x89 => Frame::Ping(payload),
        _ => Frame::Other,
    };
    Ok(Some((frame, bytes.len() - rest.len() + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server would send it.
    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        push(&mut masked, opcode, payload);
        let head = masked.len() - payload.len() - 4;
        masked.drain(head..head + 4);
        masked[1] &= 0x7f;
        masked
    }

    #[test]
    fn frames_of_every_length_are_read_when_they_are_whole() {
        for len in [0, 1, 125, 126, 300, 65_535, 65_536, 70_000] {
            let said = "x".repeat(len);
            let frame = unmasked(TEXT, said.as_bytes());
            for cut in (0..frame.len()).step_by(frame.len() / 7 + 1) {
                assert_eq!(next(&frame[..cut]), Ok(None), "{len} bytes, cut at {cut}");
            }
            let mut two = frame.clone();
            two.extend_from_slice(b"\x81");
            assert_eq!(next(&two), Ok(Some((Frame::Text(&said), frame.len()))));
        }
    }

    #[test]
    fn control_frames_and_what_is_broken_are_told_apart() {
        assert_eq!(next(&unmasked(9, b"hi")), Ok(Some((Frame::Ping(b"hi"), 4))));
        assert_eq!(next(&unmasked(8, &[3, 233])), Ok(Some((Frame::Close(1001), 4))));
        assert_eq!(next(&unmasked(8, &[])), Ok(Some((Frame::Close(1005), 2))));
        let mut ours = Vec::new();
        text(&mut ours, b"masked");
        assert_eq!(next(&ours), Err(Broken));
        assert_eq!(next(&[0x81, 1, 0xff]), Err(Broken));
    }
}
