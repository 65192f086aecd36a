//! Everything that fuzzing has found worth keeping, through its target: `corpus` reaches what there is
//! to reach, and `regressions` holds what once broke a promise.

#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]
#![expect(clippy::print_stdout, reason = "a failing test shows which file it was")]

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a directory, in order; none if there is no such directory.
fn files(of: &str, target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(of).join(target);
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let target = netplay_fuzz::find(name).unwrap();
    let corpus = files("corpus", name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for file in corpus.into_iter().chain(files("regressions", name)) {
        println!("{}", file.display());
        (target.run)(&fs::read(&file).unwrap());
    }
}

macro_rules! replays {
    ($($test:ident: $target:literal,)*) => {
        $(#[test]
        fn $test() {
            replay($target);
        })*

        #[test]
        fn every_target_is_replayed_and_every_directory_has_one() {
            let replayed = [$($target),*];
            assert!(netplay_fuzz::TARGETS.iter().map(|target| target.name).eq(replayed));
            for of in ["corpus", "regressions"] {
                for directory in files(of, "") {
                    let name = directory.file_name().unwrap().to_str().unwrap();
                    assert!(replayed.contains(&name), "{of} has a directory {name}");
                }
            }
        }
    };
}

replays! {
    no_corpus_input_is_a_datagram_that_is_written_otherwise: "datagram",
    no_corpus_input_is_blocks_that_are_written_otherwise: "blocks",
    no_corpus_input_is_frames_that_are_written_otherwise: "frames",
    no_corpus_input_is_a_stream_packet_that_is_written_otherwise: "stream",
    no_corpus_input_is_a_control_message_that_is_written_otherwise: "control",
    no_corpus_input_is_a_schema_that_is_written_otherwise: "schema",
    no_corpus_input_is_a_client_message_that_is_written_otherwise: "client_message",
    no_corpus_input_is_a_server_frame_that_is_written_otherwise: "server_frame",
    no_corpus_input_is_an_id_that_is_written_otherwise: "ids",
    no_corpus_input_is_a_game_message_that_is_written_otherwise: "codec",
    no_corpus_input_of_a_lobby_breaks_its_promises: "lobby",
    no_corpus_input_of_rooms_breaks_their_promises: "rooms",
    no_corpus_input_of_a_room_makes_its_player_break_promises: "room_client",
    no_corpus_input_is_a_recording_that_is_written_otherwise: "recording",
    no_corpus_input_of_a_session_breaks_its_promises: "session",
    no_corpus_input_of_a_schedule_makes_sessions_disagree: "schedule",
}
