//! Files that no recorder wrote, or not like this.

use netplay_protocol::cursor::ReadError;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::session::ConfigError;

/// A file of these chunks, each with the checksum that belongs there.
fn file_of<'a>(chunks: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    let mut seal = 0;
    for (kind, contents) in chunks {
        seal = chunk::put(&mut file, seal, kind, |out| out.extend_from_slice(contents));
    }
    file
}

fn header_bytes(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.put(&mut bytes);
    bytes
}

/// How a file ends that begins with ten ticks of one idle player, a checksum and a snapshot before tick
/// 5, and goes on like this; relative to its whole length.
fn ending_after(kind: u8, contents: &[u8]) -> (Ending, u32) {
    let header = header_bytes(&header(10, 1));
    let chunks = [
        (chunk::HEADER, &header[..]),
        (chunk::INPUTS, &[0, 0, 0, 0, 10, 0, 0, 0]),
        (chunk::CHECKSUMS, &[5, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (chunk::SNAPSHOT, &[5, 0, 0, 0, 1]),
        (kind, contents),
    ];
    let file = file_of(chunks);
    let recording = Recording::read(&file).unwrap();
    let at = match recording.ending() {
        Ending::Damaged { at } => {
            assert_eq!(at, file.len() - contents.len() - 13);
            Ending::Damaged { at: 0 }
        }
        Ending::Cut { at } => {
            assert_eq!(at, file.len());
            Ending::Cut { at: 0 }
        }
        Ending::Finished => Ending::Finished,
    };
    (at, recording.skipped())
}

#[test]
fn chunks_of_unknown_kinds_are_skipped() {
    assert_eq!(ending_after(5, b""), (Ending::Cut { at: 0 }, 1));
    assert_eq!(ending_after(255, b"whatever"), (Ending::Cut { at: 0 }, 1));
}

#[test]
fn chunks_that_no_recorder_writes_are_damage() {
    let cut = (Ending::Cut { at: 0 }, 0);
    let inputs = |first: u32, count: u16, bits: usize| {
        [&first.to_le_bytes()[..], &count.to_le_bytes(), &vec![0; bits]].concat()
    };
    let sum = |tick: u32| [&tick.to_le_bytes()[..], &[7; 8]].concat();
    let state = |tick: u32| [&tick.to_le_bytes()[..], b"state"].concat();
    let fine = [
        (chunk::INPUTS, inputs(10, 2, 1)),
        (chunk::INPUTS, inputs(10, 240, 30)),
        (chunk::CHECKSUMS, [sum(6), sum(10)].concat()),
        (chunk::SNAPSHOT, state(10)),
    ];
    for (kind, contents) in fine {
        assert_eq!(ending_after(kind, &contents), cut, "{kind} {contents:?}");
    }
    assert_eq!(ending_after(chunk::END, &[10, 0, 0, 0]), (Ending::Finished, 0));
    let wrong = [
        (chunk::HEADER, header_bytes(&header(10, 1))),
        (chunk::INPUTS, inputs(10, 0, 0)),
        (chunk::INPUTS, inputs(10, 241, 31)),
        (chunk::INPUTS, inputs(9, 2, 1)),
        (chunk::INPUTS, inputs(11, 2, 1)),
        (chunk::INPUTS, inputs(u32::MAX, 2, 1)),
        (chunk::INPUTS, inputs(10, 2, 2)),
        (chunk::INPUTS, inputs(10, 9, 1)),
        (chunk::INPUTS, [inputs(10, 2, 0), vec![0b100]].concat()),
        // A length of more than an input has.
        (chunk::INPUTS, [inputs(10, 1, 0), vec![0xFF; 80]].concat()),
        (chunk::INPUTS, vec![10, 0, 0, 0]),
        (chunk::CHECKSUMS, Vec::new()),
        (chunk::CHECKSUMS, sum(6)[..11].to_vec()),
        (chunk::CHECKSUMS, [sum(6), vec![0]].concat()),
        (chunk::CHECKSUMS, sum(5)),
        (chunk::CHECKSUMS, sum(11)),
        (chunk::CHECKSUMS, [sum(7), sum(7)].concat()),
        (chunk::SNAPSHOT, state(5)),
        (chunk::SNAPSHOT, state(11)),
        (chunk::SNAPSHOT, state(7)[..4].to_vec()),
        (chunk::SNAPSHOT, state(7)[..2].to_vec()),
        (chunk::END, vec![9, 0, 0, 0]),
        (chunk::END, vec![10, 0, 0, 0, 0]),
        (chunk::END, Vec::new()),
    ];
    for (kind, contents) in wrong {
        let ending = ending_after(kind, &contents);
        assert_eq!(ending, (Ending::Damaged { at: 0 }, 0), "{kind} {contents:?}");
    }
}

#[test]
fn nothing_follows_the_end_and_nothing_comes_from_another_file() {
    let (file, ends) = sample();
    let damaged = |file: &[u8]| Recording::read(file).unwrap().ending();
    assert_eq!(damaged(&[&file[..], &[0; 50]].concat()), Ending::Damaged { at: file.len() });
    assert_eq!(damaged(&[&file[..], &[0]].concat()), Ending::Cut { at: file.len() });
    let doubled = [&file[..ends[2]], &file[ends[1]..]].concat();
    assert_eq!(damaged(&doubled), Ending::Damaged { at: ends[2] });
    let missing = [&file[..ends[1]], &file[ends[2]..]].concat();
    assert_eq!(damaged(&missing), Ending::Damaged { at: ends[1] });
    let mut other = header(10, 2);
    other.session += 1;
    let other = file_of([(chunk::HEADER, &header_bytes(&other)[..])]);
    let at = other.len();
    assert_eq!(damaged(&[&other[..], &file[ends[0]..]].concat()), Ending::Damaged { at });
}

#[test]
fn a_chunk_longer_than_any_is_damage_and_not_a_cut() {
    let (mut file, ends) = sample();
    file[ends[0] + 4] = 0x10;
    let ending = |file: &[u8]| Recording::read(file).unwrap().ending();
    assert_eq!(ending(&file), Ending::Damaged { at: ends[0] });
    let most = RECORDING_CHUNK_MAX as u32;
    file[ends[0] + 1..ends[0] + 5].copy_from_slice(&most.to_le_bytes());
    assert_eq!(ending(&file), Ending::Cut { at: ends[0] });
}

#[test]
fn headers_that_no_session_has_are_refused_by_both_sides() {
    let read = |header: &Header| {
        let bytes = header_bytes(header);
        Recording::read(&file_of([(chunk::HEADER, &bytes[..])])).map(|_| ())
    };
    let refused = |change: fn(&mut Header), error: HeaderError| {
        let mut header = header(60, 2);
        change(&mut header);
        assert_eq!(Recorder::new(&header).map(|_| ()), Err(error));
        read(&header).unwrap_err()
    };
    assert_eq!(read(&header(60, 2)), Ok(()));
    let error = HeaderError::Roster(ConfigError::Roster);
    let twice = |header: &mut Header| header.roster = vec![header.roster[0]; 2];
    assert_eq!(refused(twice, error), RecordingError::Header(error));
    let error = HeaderError::Roster(ConfigError::Players(0));
    let nobody = |header: &mut Header| header.roster = Vec::new();
    assert_eq!(refused(nobody, error), RecordingError::Header(error));
    let error = HeaderError::Roster(ConfigError::Players(17));
    let many = |header: &mut Header| header.roster[0].players = 17;
    assert_eq!(refused(many, error), RecordingError::Header(error));
    let long = |header: &mut Header| header.neutral = vec![0; 65];
    let too_long = RecordingError::Malformed(ReadError::TooLong { len: 65, max: 64 });
    assert_eq!(refused(long, HeaderError::Neutral), too_long);
    let long = |header: &mut Header| header.note = "x".repeat(4097);
    let too_long = RecordingError::Malformed(ReadError::TooLong { len: 4097, max: 4096 });
    assert_eq!(refused(long, HeaderError::Note(4097)), too_long);
    let error = HeaderError::FirstTick(-1);
    assert_eq!(refused(|header| header.first_tick = -1, error), RecordingError::Header(error));
    let late = HeaderError::FirstTick(RECORDING_TICKS_END);
    refused(|header| header.first_tick = RECORDING_TICKS_END, late);
}

/// Reads all that a reader can give; nothing of it panics, and what it says fits together.
fn read_all(bytes: &[u8]) {
    let Ok(recording) = Recording::read(bytes) else { return };
    let contents = Contents::of(&recording);
    let ticks = recording.first_tick()..recording.end_tick();
    assert!(contents.ticks.iter().map(|(tick, _)| *tick).eq(ticks.clone()));
    for (tick, row) in &contents.ticks {
        let players: u8 = recording.header().roster.iter().map(|seat| seat.players).sum();
        assert_eq!(row.len(), usize::from(players), "tick {tick}");
    }
    assert!(contents.sums.is_sorted_by(|a, b| a.0 < b.0));
    assert!(contents.snapshots.is_sorted_by(|a, b| a.0 < b.0));
    let states = contents.sums.iter().map(|(tick, _)| *tick);
    let states = states.chain(contents.snapshots.iter().map(|(tick, _)| *tick));
    for tick in states {
        assert!(ticks.start <= tick && tick <= ticks.end);
    }
    let steps = recording.replay().count();
    assert_eq!(steps, contents.ticks.len() + contents.sums.len());
    let (Ending::Cut { at } | Ending::Damaged { at }) = recording.ending() else { return };
    assert!(at <= bytes.len());
}

/// Gives the chunks of a file the checksums that belong there.
fn seal(file: &mut [u8]) {
    let (mut at, mut before) = (PREAMBLE, 0);
    while let Some(len) = file.get(at + 1..at + 5) {
        let len = u32::from_le_bytes(len.try_into().unwrap()) as usize;
        let end = at + 5 + len;
        if file.len() < end + 8 {
            return;
        }
        before = xxhash_rust::xxh3::xxh3_64_with_seed(&file[at..end], before);
        file[end..end + 8].copy_from_slice(&before.to_le_bytes());
        at = end + 8;
    }
}

/// The files of `tests/corpus/recording`, by name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/recording");
    let files = std::fs::read_dir(folder).unwrap().map(|file| {
        let file = file.unwrap();
        (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[test]
fn the_corpus_is_read_as_it_is_and_with_right_checksums() {
    let files = corpus();
    assert!(files.len() >= 6, "{}", files.len());
    for (name, mut bytes) in files {
        println!("{name}");
        read_all(&bytes);
        seal(&mut bytes);
        read_all(&bytes);
    }
}

#[test]
fn files_of_version_1_can_be_read_for_ever() {
    let files = corpus();
    let (_, file) = files.iter().find(|(name, _)| name == "finished-1").unwrap();
    assert_eq!(*file, sample().0);
    assert_eq!(Recording::read(file).unwrap().ending(), Ending::Finished);
}

proptest! {
    #[test]
    fn any_bytes_are_a_recording_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
        read_all(&[&MAGIC[..], &[1, 0], &bytes].concat());
        read_all(&file_of([(chunk::HEADER, &bytes[..])]));
    }

    #[test]
    fn any_chunks_are_a_recording_or_an_error(
        players in 1..17_u8,
        chunks in prop::collection::vec((0..6_u8, prop::collection::vec(any::<u8>(), 0..60)), 0..9)
    ) {
        let header = header_bytes(&header(60, players));
        let made_up = chunks.iter().map(|(kind, contents)| (*kind, &contents[..]));
        read_all(&file_of([(chunk::HEADER, &header[..])].into_iter().chain(made_up)));
    }

    /// Behind checksums that are right, where damage does not get by itself.
    #[test]
    fn files_of_the_corpus_may_be_changed_in_any_way(
        file in any::<Index>(),
        edits in prop::collection::vec((any::<Index>(), 0..4_u8, any::<u8>()), 0..6)
    ) {
        let corpus = corpus();
        let mut bytes = file.get(&corpus).1.clone();
        for (at, what, value) in edits {
            let at = at.index(bytes.len() + 1);
            match what {
                0 => bytes.insert(at, value),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(PREAMBLE)),
                _ if at < bytes.len() => bytes[at] ^= value,
                _ => {}
            }
        }
        read_all(&bytes);
        seal(&mut bytes);
        read_all(&bytes);
    }
}
