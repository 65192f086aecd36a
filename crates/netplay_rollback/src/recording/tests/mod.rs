//! What is recorded comes back, and of damaged files what is not damaged.

mod hostile;

use netplay_protocol::{BuildId, GameId, PeerId};
use netplay_tick::TickRate;
use proptest::prelude::*;
use proptest::sample::Index;

use super::chunk::{self, Chunk, MAGIC};
use super::*;
use crate::input::{InputStatus, Tick};
use crate::limits::*;
use crate::session::{Seat, SessionConfig};

/// Bytes before the first chunk.
const PREAMBLE: usize = 10;

type Row = Vec<Option<Vec<u8>>>;

fn header(rate: u16, players: u8) -> Header {
    let me = PeerId::from_u128(1 << 120 | 0xAB);
    let mut config = SessionConfig::new(0x77, me, me, vec![Seat { peer: me, players }]);
    config.rate = TickRate::new(rate).unwrap();
    (config.neutral, config.checksum_every) = (vec![0x10], 30);
    Header::new(&config, GameId::new("game").unwrap(), BuildId::new("b1").unwrap(), 0xC0FFEE)
}

fn record(recorder: &mut Recorder, tick: Tick, row: &[Option<Vec<u8>>]) {
    recorder.record(tick, row.iter().map(Option::as_deref)).unwrap();
}

/// What can be read of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    ticks: Vec<(Tick, Row)>,
    sums: Vec<(Tick, u64)>,
    snapshots: Vec<(Tick, Vec<u8>)>,
}

impl Contents {
    fn of(recording: &Recording<'_>) -> Self {
        let row = |tick: &TickInputs| {
            tick.final_inputs().map(|input| input.map(<[u8]>::to_vec)).collect()
        };
        Self {
            ticks: recording.ticks().map(|tick| (tick.tick(), row(&tick))).collect(),
            sums: recording.checksums().collect(),
            snapshots: recording.snapshots().map(|s| (s.tick, s.bytes.to_vec())).collect(),
        }
    }

    fn begins(&self, whole: &Self) -> bool {
        whole.ticks.starts_with(&self.ticks)
            && whole.sums.starts_with(&self.sums)
            && whole.snapshots.starts_with(&self.snapshots)
    }
}

/// A small file with a chunk of every kind, and where its chunks end.
fn sample() -> (Vec<u8>, Vec<usize>) {
    let mut header = header(10, 2);
    (header.unix_seconds, header.note) = (1_700_000_000, "map é".into());
    let mut recorder = Recorder::new(&header).unwrap();
    for tick in 0..25 {
        let second = (tick < 12).then(|| vec![9, 9, tick as u8 / 8]);
        record(&mut recorder, tick, &[Some(vec![tick as u8 / 4]), second]);
        if tick % 10 == 4 {
            recorder.checksum(tick, 0x1000 + tick as u64).unwrap();
        }
        if tick == 16 {
            recorder.snapshot(17, b"state").unwrap();
        }
    }
    let file = recorder.finish();
    let (mut ends, mut rest) = (Vec::new(), &file[PREAMBLE..]);
    while !rest.is_empty() {
        rest = Chunk::read(rest).unwrap().1;
        ends.push(file.len() - rest.len());
    }
    (file, ends)
}

#[test]
fn golden_bytes() {
    let mut header = header(10, 2);
    (header.protocol, header.first_tick) = (0x0102, 5);
    (header.unix_seconds, header.note) = (0x0304, "hi".into());
    let mut recorder = Recorder::new(&header).unwrap();
    record(&mut recorder, 5, &[Some(vec![0x10]), None]);
    record(&mut recorder, 6, &[Some(vec![0x14]), Some(vec![1, 2])]);
    recorder.checksum(7, 0x0102_0304_0506_0708).unwrap();
    recorder.snapshot(7, b"state").unwrap();
    let file = recorder.finish();
    let text: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "894e50520d0a1a0a_0100
        00_42000000_0201_0467616d65_026231_eeffc00000000000_7700000000000000_0a00_1e00_05000000
            _0403000000000000_01_ab000000000000000000000000000001_02_0110_02006869_8cda786b06d1db69
        01_0b000000_05000000_0200_165d204000_fc516083f827a4c4
        02_0c000000_07000000_0807060504030201_0fa7226ffa1467c6
        03_09000000_07000000_7374617465_755e99dab3928a89
        04_04000000_07000000_befbc687512af9c8";
    assert_eq!(text, expected.replace(['_', ' ', '\n'], ""));
    let recording = Recording::read(&file).unwrap();
    assert_eq!((recording.header(), recording.ending()), (&header, Ending::Finished));
    let contents = Contents::of(&recording);
    let given = |bytes: &[u8]| Some(bytes.to_vec());
    let rows = vec![(5, vec![given(&[0x10]), None]), (6, vec![given(&[0x14]), given(&[1, 2])])];
    assert_eq!(contents.ticks, rows);
    assert_eq!(contents.sums, [(7, 0x0102_0304_0506_0708)]);
    assert_eq!(contents.snapshots, [(7, b"state".to_vec())]);
}

#[test]
fn a_file_that_is_cut_anywhere_gives_its_whole_chunks() {
    let (file, ends) = sample();
    let whole = Contents::of(&Recording::read(&file).unwrap());
    assert_eq!((whole.ticks.len(), whole.sums.len(), whole.snapshots.len()), (25, 3, 1));
    for len in 0..file.len() {
        let Ok(recording) = Recording::read(&file[..len]) else {
            assert_eq!(Recording::read(&file[..len]).unwrap_err(), RecordingError::Cut);
            assert!(len < ends[0], "cut to {len}");
            continue;
        };
        let at = *ends.iter().filter(|end| **end <= len).max().unwrap();
        assert_eq!(recording.ending(), Ending::Cut { at }, "cut to {len}");
        let contents = Contents::of(&recording);
        assert!(contents.begins(&whole), "cut to {len}: {contents:?}");
        assert_eq!(recording.end_tick(), contents.ticks.len() as Tick);
        let states = contents.sums.iter().map(|(tick, _)| *tick).chain([0]);
        assert!(states.max() <= Some(recording.end_tick()), "cut to {len}: {contents:?}");
    }
}

#[test]
fn a_file_with_any_bit_flipped_gives_nothing_that_is_wrong() {
    let (file, ends) = sample();
    let whole = Contents::of(&Recording::read(&file).unwrap());
    for bit in 0..file.len() * 8 {
        let mut file = file.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        match Recording::read(&file) {
            Err(_) => assert!(bit / 8 < ends[0], "bit {bit}"),
            Ok(recording) => {
                let (Ending::Cut { at } | Ending::Damaged { at }) = recording.ending() else {
                    panic!("bit {bit} is not missed");
                };
                assert!(at <= bit / 8, "bit {bit} is in what was used");
                assert!(Contents::of(&recording).begins(&whole), "bit {bit}");
            }
        }
    }
}

#[test]
fn a_file_that_is_kept_is_read_as_its_bytes_are() {
    let (file, ends) = sample();
    let mut damaged = file.clone();
    damaged[ends[2] + 7] ^= 1;
    for bytes in [file.clone(), file[..ends[1] + 3].to_vec(), damaged] {
        let kept = RecordingFile::read(bytes.clone()).unwrap();
        let (ours, read) = (kept.recording(), Recording::read(&bytes).unwrap());
        assert_eq!((ours.header(), ours.ending()), (read.header(), read.ending()));
        assert_eq!((ours.first_tick(), ours.end_tick()), (read.first_tick(), read.end_tick()));
        assert_eq!(Contents::of(&ours), Contents::of(&read));
        assert_eq!(kept.bytes(), bytes);
    }
    let none = RecordingFile::read(b"#!".to_vec());
    assert_eq!(none.map(|_| ()), Err(RecordingError::NotARecording));
}

#[test]
fn what_is_no_recording_is_told_apart() {
    let (mut file, _) = sample();
    let read = |file: &[u8]| Recording::read(file).map(|_| ()).unwrap_err();
    assert_eq!(read(b""), RecordingError::Cut);
    assert_eq!(read(b"#!"), RecordingError::NotARecording);
    assert_eq!(read(b"\x89PNG\r\n\x1a\n1234"), RecordingError::NotARecording);
    file[PREAMBLE + 20] ^= 1;
    assert_eq!(read(&file), RecordingError::Damaged);
    file[8] = 2;
    assert_eq!(read(&file), RecordingError::Version(2));
}

#[test]
fn what_is_refused_leaves_the_recording_as_it_was() {
    let mut recorder = Recorder::new(&header(10, 2)).unwrap();
    let row = [Some(&[1][..]), None];
    let long = [0; INPUT_MAX + 1];
    recorder.record(0, row.into_iter()).unwrap();
    let found = |tick, inputs: &[Option<&[u8]>], recorder: &mut Recorder| {
        recorder.record(tick, inputs.iter().copied()).unwrap_err()
    };
    assert_eq!(found(2, &row, &mut recorder), RecordError::NotNext { found: 2, expected: 1 });
    assert_eq!(found(0, &row, &mut recorder), RecordError::NotNext { found: 0, expected: 1 });
    let players = |found| RecordError::Players { found, expected: 2 };
    assert_eq!(found(1, &row[..1], &mut recorder), players(1));
    assert_eq!(found(1, &[None; 9], &mut recorder), players(3));
    let input = RecordError::Input(INPUT_MAX + 1);
    assert_eq!(found(1, &[None, Some(&long)], &mut recorder), input);
    assert_eq!(recorder.snapshot(1, b""), Err(RecordError::Snapshot(0)));
    let large = vec![0; SNAPSHOT_MAX + 1];
    assert_eq!(recorder.snapshot(1, &large), Err(RecordError::Snapshot(SNAPSHOT_MAX + 1)));
    assert_eq!(recorder.snapshot(2, b"x"), Err(RecordError::NotFinal { tick: 2, next: 1 }));
    assert_eq!(recorder.checksum(2, 0), Err(RecordError::NotFinal { tick: 2, next: 1 }));
    recorder.checksum(1, 7).unwrap();
    assert_eq!(recorder.checksum(1, 7), Err(RecordError::TooOld { tick: 1, first: 2 }));
    recorder.snapshot(0, b"x").unwrap();
    assert_eq!(recorder.snapshot(0, b"x"), Err(RecordError::TooOld { tick: 0, first: 1 }));
    recorder.record(1, [None, None].into_iter()).unwrap();
    let file = recorder.finish();
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.ending(), Ending::Finished);
    let contents = Contents::of(&recording);
    assert_eq!(contents.ticks, [(0, vec![Some(vec![1]), None]), (1, vec![None, None])]);
    assert_eq!(contents.sums, [(1, 7)]);
    assert_eq!(contents.snapshots, [(0, b"x".to_vec())]);
}

#[test]
fn a_recorder_that_nobody_fetches_from_is_full_and_goes_on_when_somebody_does() {
    let mut recorder = Recorder::new(&header(240, 16)).unwrap();
    let state = vec![0xEE; SNAPSHOT_MAX];
    let noise = |tick: Tick, player: usize| {
        core::array::from_fn::<u8, INPUT_MAX, _>(|i| {
            ((tick as usize * 37) ^ (player * 91) ^ (i * 57)).wrapping_mul(0x9E37) as u8
        })
    };
    let row = |tick: Tick| core::array::from_fn::<_, 16, _>(|player| noise(tick, player));
    recorder.snapshot(0, &state).unwrap();
    let mut tick = 0;
    let mut record = |recorder: &mut Recorder| {
        let inputs = row(tick);
        let done = recorder.record(tick, inputs.iter().map(|input| Some(&input[..])));
        tick += Tick::from(done.is_ok());
        done
    };
    record(&mut recorder).unwrap();
    assert_eq!(recorder.snapshot(1, &state), Err(RecordError::Full));
    recorder.snapshot(1, &state[..SNAPSHOT_MAX - 500_000]).unwrap();
    while record(&mut recorder) != Err(RecordError::Full) {}
    assert!(recorder.waiting() < RECORDING_BUFFER + 300_000, "{}", recorder.waiting());
    assert_eq!(recorder.checksum(1, 7), Err(RecordError::Full));
    let mut file = recorder.take_bytes();
    assert_eq!(recorder.waiting(), 0);
    record(&mut recorder).unwrap();
    recorder.checksum(1, 7).unwrap();
    let end = recorder.next_tick();
    recorder.snapshot(end, b"state").unwrap();
    file.extend(recorder.finish());
    let recording = Recording::read(&file).unwrap();
    assert_eq!((recording.ending(), recording.end_tick()), (Ending::Finished, end));
    for tick in recording.ticks() {
        let expected = row(tick.tick());
        assert!(tick.final_inputs().eq(expected.iter().map(|input| Some(&input[..]))));
    }
}

#[test]
fn many_checksums_at_once_come_in_chunks() {
    let mut recorder = Recorder::new(&header(10, 1)).unwrap();
    (0..1005).for_each(|tick| record(&mut recorder, tick, &[None]));
    (0..1006).for_each(|tick| recorder.checksum(tick, tick as u64).unwrap());
    let file = recorder.finish();
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.ending(), Ending::Finished);
    assert!(recording.checksums().eq((0..1006).map(|tick| (tick, tick as u64))));
}

#[test]
fn an_hour_of_two_players_has_some_270_kb() {
    let mut recorder = Recorder::new(&header(60, 2)).unwrap();
    let (mut inputs, mut random) = ([[0_u8]; 2], 1_u32);
    for tick in 0..216_000 {
        for input in &mut inputs {
            random = random.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            // A button is pressed or let go ten times a second.
            if (random >> 16) % 6 == 0 {
                input[0] ^= 1 << ((random >> 8) % 8);
            }
        }
        recorder.record(tick, inputs.iter().map(|input| Some(&input[..]))).unwrap();
        if tick % 60 == 0 {
            recorder.checksum(tick, tick as u64).unwrap();
        }
    }
    let file = recorder.finish();
    assert!((250_000..290_000).contains(&file.len()), "{}", file.len());
    assert_eq!(Recording::read(&file).unwrap().ticks().count(), 216_000);
}

#[test]
fn ticks_end_before_their_numbers_do() {
    let mut header = header(10, 1);
    header.first_tick = RECORDING_TICKS_END - 1;
    let mut recorder = Recorder::new(&header).unwrap();
    record(&mut recorder, RECORDING_TICKS_END - 1, &[None]);
    let last = recorder.record(RECORDING_TICKS_END, [None].into_iter());
    assert_eq!(last, Err(RecordError::TooLong));
    let file = recorder.finish();
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.ticks().count(), 1, "{recording:?}");
}

/// One thing that is recorded.
#[derive(Clone, Debug)]
enum Op {
    Ticks(Vec<[Option<Vec<u8>>; 3]>),
    Checksum(u64),
    Snapshot(Vec<u8>),
    Fetch,
}

fn any_op() -> impl Strategy<Value = Op> {
    let input = prop_oneof![
        1 => Just(None),
        6 => (0..4_u8).prop_map(|byte| Some(vec![byte])),
        1 => prop::collection::vec(any::<u8>(), 0..=INPUT_MAX).prop_map(Some),
    ];
    let row = [input.clone(), input.clone(), input];
    prop_oneof![
        4 => prop::collection::vec(row, 1..30).prop_map(Op::Ticks),
        2 => any::<u64>().prop_map(Op::Checksum),
        1 => prop::collection::vec(any::<u8>(), 1..50).prop_map(Op::Snapshot),
        1 => Just(Op::Fetch),
    ]
}

/// Records all this; gives the file and what should be in it.
fn recorded(header: &Header, ops: &[Op]) -> (Vec<u8>, Contents) {
    let mut recorder = Recorder::new(header).unwrap();
    let (mut file, mut given) = (Vec::new(), Contents::default());
    for op in ops {
        let next = recorder.next_tick();
        match op {
            Op::Ticks(rows) => {
                for (tick, row) in (next..).zip(rows) {
                    record(&mut recorder, tick, row);
                    given.ticks.push((tick, row.to_vec()));
                }
            }
            Op::Checksum(sum) => {
                if recorder.checksum(next, *sum).is_ok() {
                    given.sums.push((next, *sum));
                }
            }
            Op::Snapshot(bytes) => {
                if recorder.snapshot(next, bytes).is_ok() {
                    given.snapshots.push((next, bytes.clone()));
                }
            }
            Op::Fetch => file.extend(recorder.take_bytes()),
        }
    }
    file.extend(recorder.finish());
    (file, given)
}

proptest! {
    #[test]
    fn everything_recorded_comes_back(
        ops in prop::collection::vec(any_op(), 0..30), rate in 10..100_u16, first in 0..1000, seek in any::<Index>()
    ) {
        let mut header = header(rate, 3);
        header.first_tick = first;
        let (file, given) = recorded(&header, &ops);
        let recording = Recording::read(&file).unwrap();
        prop_assert_eq!((recording.header(), recording.ending()), (&header, Ending::Finished));
        prop_assert_eq!(recording.end_tick() - first, given.ticks.len() as Tick);
        prop_assert_eq!(&Contents::of(&recording), &given);

        let tick = first + seek.index(given.ticks.len() + 1) as Tick;
        let rest: Vec<_> = recording.ticks_from(tick).map(|inputs| inputs.tick()).collect();
        prop_assert_eq!(rest, (tick..recording.end_tick()).collect::<Vec<_>>());
        let before = given.snapshots.iter().rev().find(|(at, _)| *at <= tick);
        let found = recording.snapshot_before(tick).map(|found| (found.tick, found.bytes.to_vec()));
        prop_assert_eq!(found.as_ref(), before);

        let mut at = tick;
        let mut sums = Vec::new();
        for step in recording.replay_from(tick).unwrap() {
            match step {
                ReplayStep::Advance(inputs) => {
                    prop_assert_eq!(inputs.tick(), at);
                    at += 1;
                    for input in inputs.inputs() {
                        let absent = input.status == InputStatus::Absent;
                        prop_assert!(!absent || input.bytes == header.neutral);
                    }
                }
                ReplayStep::Checksum { tick, sum } => {
                    prop_assert_eq!(tick, at);
                    sums.push((tick, sum));
                }
            }
        }
        prop_assert_eq!(at, recording.end_tick());
        let given: Vec<_> = given.sums.into_iter().filter(|(of, _)| *of >= tick).collect();
        prop_assert_eq!(sums, given);
        prop_assert!(recording.replay_from(first - 1).is_none());
        prop_assert!(recording.replay_from(recording.end_tick() + 1).is_none());
    }
}
