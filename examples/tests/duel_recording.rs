//! `duel` records a match in a file, and plays it again: the same, or it says where not.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Program, STEP, duel, limit};

const BAD: &str = "delay=40ms,jitter=10ms,loss=5%";

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("netplay-duel-recording-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for recordings");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }

    /// Another file with these bytes.
    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let file = self.file(name);
        std::fs::write(&file, bytes).expect("the folder can be written to");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn replay(file: &str, more: &[&str]) -> Program {
    let mut arguments = vec!["--replay", file, "--headless", "--json"];
    arguments.extend(more);
    duel(&arguments)
}

fn number(summary: &Value, name: &str) -> u64 {
    summary[name].as_u64().expect("a number")
}

#[test]
fn a_match_that_is_recorded_is_played_again_the_same() {
    let folder = Folder::new("same");
    let file = folder.file("match.npr");
    let arguments = ["--headless", "--seconds", "6", "--json", "--conditions", BAD];
    let mut game = duel(&[&arguments[..], &["--record", &file]].concat());
    let played = game.succeeds(limit(6));
    assert!(played.stderr.contains("are recorded in"), "it says where");
    // The other player has the flags of the first, but for this one.
    assert!(!Path::new(&folder.file("match-2.npr")).exists());
    let confirmed = number(&played.summary(), "confirmed_ticks");

    let summary = replay(&file, &[]).succeeds(STEP).summary();
    assert_eq!((&summary["replay"], &summary["equal"]), (&true.into(), &true.into()), "{summary}");
    assert_eq!(summary["complete"], true, "{summary}");
    // The least of all players was confirmed; the first may have been further.
    assert!(number(&summary, "ticks") + 30 >= confirmed, "{summary}, {confirmed} confirmed");
    assert!(number(&summary, "checksums_compared") >= 4, "{summary}");

    let later = replay(&file, &["--seek", "100"]).succeeds(STEP).summary();
    assert_eq!(number(&later, "ticks") + 100, number(&summary, "ticks"), "{later}");

    let whole = std::fs::read(&file).expect("it was just read");
    let mut bytes = whole.clone();
    bytes[whole.len() * 2 / 3] ^= 1;
    let damaged = replay(&folder.write("damaged.npr", &bytes), &[]);
    let ended = { damaged }.refuses(STEP, "the file is damaged at byte");
    assert_eq!(ended.summary()["equal"], true);
    assert_eq!(ended.summary()["complete"], false);
    bytes[20] ^= 1;
    let header = folder.write("header.npr", &bytes);
    replay(&header, &[]).refuses(STEP, "the header of the recording is damaged");
    let cut = folder.write("cut.npr", &whole[..whole.len() * 2 / 3]);
    let ended = replay(&cut, &[]).succeeds(STEP);
    assert!(ended.stderr.contains("the file is cut at byte"), "{}", ended.stderr);
    assert_eq!(ended.summary()["complete"], false);
    replay(&folder.file("nothing.npr"), &[]).refuses(STEP, "cannot be read");
    replay(&folder.write("text.npr", b"no recording"), &[]).refuses(STEP, "not a recording");
}

#[test]
fn a_machine_that_changed_its_state_is_found_by_its_recording() {
    let folder = Folder::new("cheat");
    let file = folder.file("match.npr");
    let arguments = ["--headless", "--seconds", "4", "--json", "--desync-at", "100"];
    let mut game = duel(&[&arguments[..], &["--record", &file]].concat());
    assert_ne!(game.end(limit(4)).status.code(), Some(0));
    let ended = replay(&file, &[]).refuses(STEP, "the replay differs: before tick 120");
    let summary = ended.summary();
    assert_eq!((&summary["equal"], &summary["differs_at"]), (&false.into(), &120.into()));
}
