//! The reader of recordings, fed with anything.
//!
//! Bytes that begin like a file are one: as they are, and with checksums that are right, since no
//! mutation gets behind those. Other bytes choose a header and chunks.
//!
//! Asserted: what is read is in order and within its limits; a file that is cut gives the beginning of
//! it; a recorder that is given what was read writes a file that says the same.

use netplay_protocol::{BuildId, GameId, PeerId};
use netplay_rollback::limits::{INPUT_MAX, SNAPSHOT_MAX};
use netplay_rollback::recording::{Ending, Header, Recorder, Recording, ReplayStep, TickInputs};
use netplay_rollback::{Seat, SessionConfig, Tick};
use netplay_tick::TickRate;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::script::Script;

/// Bytes before the first chunk, of a chunk before its contents, and of its checksum.
const PREAMBLE: usize = 10;
const HEAD: usize = 5;
const SUM: usize = 8;

/// A file.
pub fn recording(data: &[u8]) {
    if data.first() == Some(&0x89) {
        check(data);
        let mut sealed = data.to_vec();
        seal(&mut sealed);
        check(&sealed);
    } else if let Some(file) = file(&mut Script::new(data)) {
        check(&file);
    }
}

/// Gives every chunk the checksum that belongs there.
fn seal(file: &mut [u8]) {
    let (mut at, mut before) = (PREAMBLE, 0);
    while let Some(len) = file.get(at + 1..at + HEAD) {
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        let end = at + HEAD + len;
        if file.len() < end + SUM {
            return;
        }
        before = xxh3_64_with_seed(&file[at..end], before);
        file[end..end + SUM].copy_from_slice(&before.to_le_bytes());
        at = end + SUM;
    }
}

/// A header and chunks as they are chosen. `None` if no recorder takes the header.
fn file(script: &mut Script<'_>) -> Option<Vec<u8>> {
    let peer = |of: usize| PeerId::from_u128(of as u128 + 1);
    let peers = 1 + script.below(17);
    let seat = |of| Seat { peer: peer(of), players: 1 };
    let config = SessionConfig::new(1, peer(0), peer(0), (0..peers).map(seat).collect());
    let game = GameId::new("game").expect("a short word");
    let build = BuildId::new("1").expect("a short word");
    let mut header = Header::new(&config, game, build, 0);
    header.rate = TickRate::new(script.u8().into())?;
    header.first_tick = tick(script, 0);
    header.neutral = script.bytes(3).to_vec();
    let mut file = Recorder::new(&header).ok()?.take_bytes();
    let mut next = header.first_tick;
    while !script.is_over() {
        let at = file.len();
        let kind = script.u8();
        file.extend_from_slice(&[kind % 6, 0, 0, 0, 0]);
        file.extend_from_slice(&tick(script, next).to_le_bytes());
        if kind % 6 == 1 {
            let count = u16::from(script.u8());
            file.extend_from_slice(&count.to_le_bytes());
            // So many zeros are players who do nothing.
            let idle = (usize::from(count) * peers).div_ceil(8);
            let bits = script.short();
            file.extend_from_slice(bits);
            file.resize(file.len() + idle.saturating_sub(bits.len()), 0);
            next = next.saturating_add(count.into());
        } else {
            file.extend_from_slice(script.short());
        }
        let len = (file.len() - at - HEAD) as u32;
        file[at + 1..at + HEAD].copy_from_slice(&len.to_le_bytes());
        file.extend_from_slice(&[0; SUM]);
    }
    seal(&mut file);
    Some(file)
}

/// A tick that is likely near this one.
fn tick(script: &mut Script<'_>, near: Tick) -> Tick {
    match script.u8() {
        255 => script.u32() as Tick,
        254 => near.saturating_add(script.u16().into()),
        offset @ 128.. => near.saturating_sub((offset - 128).into()),
        offset => near.saturating_add(offset.into()),
    }
}

fn check(bytes: &[u8]) {
    let Ok(recording) = Recording::read(bytes) else { return };
    let ticks = check_order(&recording, bytes.len());
    check_replay(&recording, &ticks);
    check_cut(&recording, bytes, &ticks);
    check_round_trip(&recording, &ticks);
}

/// Everything is in order; gives all ticks.
fn check_order(recording: &Recording<'_>, len: usize) -> Vec<TickInputs> {
    let (first, end) = (recording.first_tick(), recording.end_tick());
    let players: usize =
        recording.header().roster.iter().map(|seat| usize::from(seat.players)).sum();
    assert!(0 <= first && first <= end);
    match recording.ending() {
        Ending::Cut { at } | Ending::Damaged { at } => assert!(at <= len),
        _ => {}
    }
    let ticks: Vec<TickInputs> = recording.ticks().collect();
    assert!(ticks.iter().map(TickInputs::tick).eq(first..end));
    for tick in &ticks {
        assert_eq!(tick.inputs().len(), players);
        assert!(tick.inputs().all(|input| input.bytes.len() <= INPUT_MAX));
    }
    let middle = first + (end - first) / 2;
    let later = recording.ticks_from(middle);
    assert!(later.eq(ticks[(middle - first) as usize..].iter().cloned()));

    let states = |ticks: &[Tick]| {
        assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{ticks:?}");
        assert!(ticks.iter().all(|tick| (first..=end).contains(tick)), "{ticks:?}");
    };
    states(&recording.checksums().map(|(tick, _)| tick).collect::<Vec<_>>());
    states(&recording.snapshots().map(|snapshot| snapshot.tick).collect::<Vec<_>>());
    for snapshot in recording.snapshots() {
        assert!((1..=SNAPSHOT_MAX).contains(&snapshot.bytes.len()));
        assert_eq!(recording.snapshot_before(snapshot.tick), Some(snapshot));
    }
    ticks
}

/// A replay gives all ticks and checksums, from the start and from every snapshot.
fn check_replay(recording: &Recording<'_>, ticks: &[TickInputs]) {
    let (mut advanced, mut compared) = (0, 0);
    for step in recording.replay() {
        match step {
            ReplayStep::Advance(inputs) => {
                assert_eq!(inputs, ticks[advanced]);
                advanced += 1;
            }
            ReplayStep::Checksum { tick, .. } => {
                assert_eq!(tick, recording.first_tick() + advanced as Tick);
                compared += 1;
            }
        }
    }
    assert_eq!((advanced, compared), (ticks.len(), recording.checksums().count()));
    for snapshot in recording.snapshots() {
        let replay = recording.replay_from(snapshot.tick).expect("a state within the recording");
        let steps = |step: &ReplayStep| matches!(step, ReplayStep::Advance(_));
        let left = (recording.end_tick() - snapshot.tick) as usize;
        assert_eq!(replay.filter(steps).count(), left);
    }
    assert!(recording.replay_from(recording.end_tick()).is_some());
    assert!(recording.replay_from(recording.end_tick() + 1).is_none());
    // A game that is wrong from the start differs at the first checksum, unless that happens to fit.
    let result = recording.replay().verify(&mut 0_u64, |sum, _| *sum += 1, |sum| *sum);
    if let Err(difference) = result {
        assert_ne!(difference.recorded, difference.computed);
    }
}

/// A file that is cut is the beginning of the whole one.
fn check_cut(recording: &Recording<'_>, bytes: &[u8], ticks: &[TickInputs]) {
    let Ok(cut) = Recording::read(&bytes[..bytes.len() / 2]) else { return };
    assert_eq!(cut.header(), recording.header());
    assert!(cut.end_tick() <= recording.end_tick());
    assert!(cut.ticks().eq(ticks[..(cut.end_tick() - cut.first_tick()) as usize].iter().cloned()));
    assert!(cut.checksums().zip(recording.checksums()).all(|(cut, whole)| cut == whole));
}

/// What was read can be written, and says the same.
fn check_round_trip(recording: &Recording<'_>, ticks: &[TickInputs]) {
    let mut recorder = Recorder::new(recording.header()).expect("a header that was read is valid");
    for tick in ticks {
        let inputs = tick.final_inputs();
        recorder.record(tick.tick(), inputs).expect("the ticks are in order");
    }
    for (tick, sum) in recording.checksums() {
        recorder.checksum(tick, sum).expect("the checksums are in order");
    }
    for snapshot in recording.snapshots() {
        recorder.snapshot(snapshot.tick, snapshot.bytes).expect("the snapshots are in order");
    }
    let file = recorder.finish();
    let again = Recording::read(&file).expect("a recorder wrote it");
    assert_eq!((again.ending(), again.skipped()), (Ending::Finished, 0));
    assert_eq!(again.header(), recording.header());
    assert!(again.ticks().eq(ticks.iter().cloned()));
    assert!(again.checksums().eq(recording.checksums()));
    assert!(again.snapshots().eq(recording.snapshots()));
}
