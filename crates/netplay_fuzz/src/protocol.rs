//! Every decoder of the wire format, fed with anything.
//!
//! Asserted: what is read is written as the same bytes wherever a value has one spelling, and else as
//! bytes that say the same.

use core::fmt::Debug;

use netplay_protocol::block::{self, Content};
use netplay_protocol::codec::{Bincode, Codec};
use netplay_protocol::control::Control;
use netplay_protocol::cursor::Reader;
use netplay_protocol::datagram::{CLOCK_NOTE_LEN, ClockNote, HEADER_LEN, Header};
use netplay_protocol::frame::{Body, Frame, Frames, MessageId};
use netplay_protocol::limits::{CONTROL_MAX, STREAM_PACKET_MAX};
use netplay_protocol::lobby::{ClientMessage, RawSignal, ServerFrame, ServerMessage};
use netplay_protocol::schema::Schema;
use netplay_protocol::stream::{self, StreamPacket};
use netplay_protocol::{BuildId, GameId, Lane, LobbyCode, PeerId};
use serde::{Deserialize, Serialize};

/// A datagram: header, clock note, and the blocks behind them.
pub fn datagram(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(header) = Header::read(&mut reader) else { return };
    let mut written = [0; HEADER_LEN];
    header.write(&mut written);
    assert_eq!(written, data[..HEADER_LEN], "{header:?}");
    if header.clock {
        let rest = reader.rest();
        let Ok(note) = ClockNote::read(&mut reader) else { return };
        let mut written = [0; CLOCK_NOTE_LEN];
        ClockNote::write(note.as_ref(), &mut written);
        assert_eq!(written, rest[..CLOCK_NOTE_LEN], "{note:?}");
    }
    blocks(reader.rest());
}

/// What a datagram carries after its header.
pub fn blocks(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut written = Vec::new();
    let whole = match block::read_inputs(&mut reader) {
        Ok(inputs) => {
            if let Some(inputs) = inputs {
                inputs.put(&mut written);
                assert_eq!(inputs.len(), written.len());
            }
            read_blocks(&mut reader, &mut written)
        }
        Err(_) => false,
    };
    assert_eq!(written, data[..written.len()]);
    assert_eq!(whole, written.len() == data.len());
    assert_eq!(whole, block::check(data).is_ok());
}

/// Writes all blocks anew; `false` if one cannot be read.
fn read_blocks(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> bool {
    loop {
        let block = match block::read(reader) {
            Ok(Some(block)) => block,
            Ok(None) => return true,
            Err(_) => return false,
        };
        let (lane, number) = (block.lane, block.number);
        match block.content {
            Content::Messages(bodies) => {
                let bodies: Vec<Body<'_>> = bodies.collect();
                let keyed = bodies.iter().any(|body| body.key.is_some());
                let count = block::begin_messages(out, lane, keyed, number);
                out[count] = u8::try_from(bodies.len()).expect("the count has one byte");
                bodies.iter().for_each(|body| put_body(body, out));
            }
            Content::Fragment(fragment) => {
                let before = out.len();
                block::put_fragment(out, lane, number, fragment);
                assert_eq!(out.len() - before, block::fragment_len(fragment.bytes.len()));
            }
            Content::Void(len) => {
                let before = out.len();
                block::put_void(out, lane, number, len);
                assert!(out.len() - before <= block::VOID_LEN);
            }
        }
    }
}

fn put_body(body: &Body<'_>, out: &mut Vec<u8>) {
    let before = out.len();
    body.put(out);
    assert_eq!(out.len() - before, body.wire_len(), "{body:?}");
}

/// Frames, as they stand in packets of channel 2.
pub fn frames(data: &[u8]) {
    let mut written = Vec::new();
    let mut whole = true;
    for frame in Frames::new(data) {
        match frame {
            Ok(frame) => {
                let before = written.len();
                frame.put(&mut written);
                assert_eq!(written.len() - before, frame.wire_len(), "{frame:?}");
            }
            Err(_) => whole = false,
        }
    }
    assert_eq!(written, data[..written.len()]);
    assert_eq!(whole, written.len() == data.len());
    assert_eq!(whole, Frames::check(data).is_ok());
}

/// A packet of channel 2, and any bytes as a large frame that is cut into packets.
pub fn stream(data: &[u8]) {
    match StreamPacket::read(data) {
        Ok(StreamPacket::Whole(bytes)) => {
            let mut written = Vec::new();
            stream::start_whole(&mut written);
            for frame in Frames::new(bytes) {
                frame.expect("whole frames are checked").put(&mut written);
            }
            assert_eq!(written, data);
        }
        Ok(StreamPacket::First { total, piece }) => {
            assert!(total <= stream::TOTAL_MAX && !piece.is_empty());
        }
        Ok(StreamPacket::Next(piece)) => assert!(!piece.is_empty()),
        Err(_) => {}
    }
    // Longer than what one packet takes, whatever the longest input is.
    let payload = data.repeat(STREAM_PACKET_MAX / data.len().max(1) + 2);
    let mut frame = Vec::new();
    let body = Body { id: MessageId(0), key: None, payload: &payload };
    Frame { lane: Lane::Bulk, body }.put(&mut frame);
    let mut rebuilt = Vec::new();
    stream::split(&frame, Vec::new, |packet| {
        match StreamPacket::read(&packet).expect("a piece can be read") {
            StreamPacket::First { total, piece } => {
                assert_eq!((total, rebuilt.len()), (frame.len(), 0));
                rebuilt.extend_from_slice(piece);
            }
            StreamPacket::Next(piece) => rebuilt.extend_from_slice(piece),
            StreamPacket::Whole(_) => panic!("a piece is no whole frame"),
        }
    });
    assert_eq!(rebuilt, frame);
}

/// A message of channel 0.
pub fn control(data: &[u8]) {
    let Ok(message) = Control::read(data) else { return };
    let mut written = Vec::new();
    message.write(&mut written);
    assert!(written.len() <= CONTROL_MAX);
    assert_eq!(Control::read(&written).as_ref(), Ok(&message));
    if let Control::Hello(hello) = &message {
        assert_eq!(hello.mismatch(hello), None);
    }
}

/// A table of message types, and its difference from a fixed one.
pub fn schema(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(schema) = Schema::read(&mut reader) else { return };
    let mut written = Vec::new();
    schema.write(&mut written);
    assert_eq!(written, data[..data.len() - reader.rest().len()]);
    assert_eq!(schema.difference(&schema), None);
    for (place, entry) in schema.entries().iter().enumerate() {
        let id = schema.id_of(&entry.name).expect("it is in the table");
        assert_eq!(usize::from(id.0), place);
        assert_eq!(schema.entry(id), Some(entry));
    }
    let fixed = Schema::read(&mut Reader::new(&[2, 0, 1, b'a', 0, 1, b'b', 2]));
    let fixed = fixed.expect("two types, sorted");
    match fixed.difference(&schema) {
        Some(difference) => {
            assert!(!difference.to_string().is_empty());
            assert_ne!(fixed, schema);
        }
        None => assert_eq!(fixed.hash(), schema.hash()),
    }
}

fn same<T: PartialEq + Debug, E: Debug>(text: &str, value: &T, again: Result<T, E>) {
    match again {
        Ok(again) => assert_eq!(again, *value, "{text}"),
        Err(error) => panic!("{value:?} was written as {text}, and that is {error:?}"),
    }
}

/// What a player says to the lobby server.
pub fn client_message(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Ok(message) = ClientMessage::from_json(text) {
        let written = message.to_json();
        same(&written, &message, ClientMessage::from_json(&written));
    }
    // What is passed on as it came is read as what was sent.
    if let Some((to, raw)) = RawSignal::read(text) {
        let from = PeerId::from_u128(9);
        let mut written = Vec::new();
        raw.write_frame(1, from, &mut written);
        let written = core::str::from_utf8(&written).expect("JSON is UTF-8");
        let read = ServerFrame::from_json(written).map(|frame| frame.message);
        let Ok(ClientMessage::Signal { to: sent_to, signal }) = ClientMessage::from_json(text)
        else {
            panic!("{text} is passed on and is no signal")
        };
        assert_eq!((sent_to, read), (to, Ok(ServerMessage::Signal { from, signal })), "{text}");
    }
}

/// What the lobby server says.
pub fn server_frame(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Ok(frame) = ServerFrame::from_json(text) {
        let written = frame.to_json();
        same(&written, &frame, ServerFrame::from_json(&written));
    }
}

/// Codes that players type, and names of games and builds.
pub fn ids(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Ok(code) = text.parse::<LobbyCode>() {
        same(text, &code, code.to_string().parse());
    }
    if let Ok(game) = GameId::new(text) {
        assert_eq!(game.as_str(), text);
        assert_eq!(BuildId::new(text).map(String::from), Ok(String::from(game)));
    }
}

/// A game's message with one of everything that serde knows, except itself: each level of a type that
/// holds itself may reserve a megabyte, and takes stack.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Sample {
    Empty,
    Text(String),
    Numbers { small: u8, large: i64, list: Vec<i16>, maybe: Option<bool> },
    Nested(Vec<Vec<String>>),
    Pairs(std::collections::BTreeMap<char, [u32; 3]>),
    Real(f32, f64),
}

/// The codec of a game's own types. Numbers have several spellings here, so values are compared; NaN is
/// not equal to itself, so they are compared as bytes.
pub fn codec(data: &[u8]) {
    let Ok(value) = Bincode::decode::<Sample>(data) else { return };
    let mut written = Vec::new();
    let room = data.len();
    let fits = Bincode::encode(&value, &mut written, room);
    assert_eq!(fits, Ok(()), "{value:?} takes more than the {room} bytes it came from");
    let again = Bincode::decode::<Sample>(&written).expect("what was written can be read");
    let mut twice = Vec::new();
    assert_eq!(Bincode::encode(&again, &mut twice, room), Ok(()));
    assert_eq!(written, twice, "{value:?}");
}
