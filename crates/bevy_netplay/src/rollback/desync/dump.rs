//! What a machine writes down when its state differs: to be read, and to be compared with the file of the
//! other machine.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use netplay_protocol::PeerId;

use super::super::events::StateDifference;
use super::super::session::Play;
use super::super::types::StateTypes;
use super::inquiry::Inquiry;

/// Ticks of inputs that lead to the state.
const TICKS: i32 = 60;

/// What there is to write.
pub(super) struct Report<'a> {
    pub(super) play: &'a Play,
    pub(super) peer: PeerId,
    pub(super) of: (u64, u64),
    pub(super) inquiry: &'a Inquiry,
    pub(super) types: &'a StateTypes,
}

/// Writes a file in this folder.
///
/// # Errors
/// Those of the file system.
pub(super) fn write(
    folder: &Path,
    report: &Report<'_>,
    differences: &[StateDifference],
) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let (tick, me, peer) = (report.inquiry.state().tick, report.play.me, report.peer);
    let file = folder.join(format!("tick-{tick}-of-{}-and-{}.txt", me.short(), peer.short()));
    fs::write(&file, text(report, differences))?;
    Ok(file)
}

fn text(report: &Report<'_>, differences: &[StateDifference]) -> String {
    let Report { play, peer, of: (ours, theirs), inquiry, .. } = report;
    let tick = inquiry.state().tick;
    let mut out = format!(
        "Two players came to different states before tick {tick}.\n\n\
         here   {}  checksum {ours:016x}\n\
         there  {}  checksum {theirs:016x}\n\n# Differences\n\n",
        play.me.short(),
        peer.short()
    );
    if differences.is_empty() {
        out.push_str("The other machine has not told what it has.\n");
    }
    for difference in differences {
        let _ = writeln!(out, "{difference}");
    }
    put_inputs(&mut out, play, tick);
    put_state(&mut out, report);
    out
}

/// The final inputs of the last ticks before it, as far as they are still kept.
fn put_inputs(out: &mut String, play: &Play, tick: i32) {
    out.push_str("\n# Inputs, of each player, as they are encoded\n\n");
    for before in tick - TICKS..tick {
        let mut inputs = play.session.final_inputs(before).peekable();
        if inputs.peek().is_none() {
            continue;
        }
        let _ = write!(out, "{before}:");
        for input in inputs {
            out.push(' ');
            match input {
                None => out.push_str("absent"),
                Some(bytes) => bytes.iter().for_each(|byte| _ = write!(out, "{byte:02x}")),
            }
        }
        out.push('\n');
    }
}

/// All values, in the same order on both machines.
fn put_state(out: &mut String, report: &Report<'_>) {
    let state = report.inquiry.state();
    out.push_str("\n# The state here\n");
    for (place, sum) in state.sums().enumerate() {
        let Some(of) = report.types.get(place) else { continue };
        let mark =
            if report.inquiry.types().any(|other| other == place) { ", differs" } else { "" };
        let _ = writeln!(out, "\n## {} ({sum:016x}{mark})\n", of.name());
        for value in state.values(place) {
            let text = state.bytes(value).map(|bytes| of.show(bytes));
            let text = text.unwrap_or_else(|| format!("hash {:016x}", value.hash));
            let _ = writeln!(out, "{}: {text}", value.id.get());
        }
    }
}
