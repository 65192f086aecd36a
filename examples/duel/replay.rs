//! A recorded match: to be looked at, or to be compared with what this build of the game does.

use std::path::Path;

use bevy::prelude::*;
use bevy_netplay::rollback::{
    RecordingEnding, Replay, ReplayDifference, ReplayFailed, ReplayStatus, RollbackPlugin,
};
use netplay_examples::{Example, Mode, PlayArgs};
use serde::Serialize;

use crate::session::Touched;
use crate::{game, hud, view};

/// The fastest.
const SPEED_MAX: f32 = 8.0;
/// How far the arrows go, in seconds.
const STEP: f64 = 5.0;
/// Ticks of a frame that nobody looks at.
const AT_ONCE: u32 = 600;

/// Reads the flag.
pub fn speed(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(speed) if (0.0..=SPEED_MAX).contains(&speed) => Ok(speed),
        _ => Err(format!("a number from 0 to {SPEED_MAX}")),
    }
}

/// What a replay without a window has found.
#[derive(Serialize)]
struct Found {
    replay: bool,
    /// Ticks that were run.
    ticks: i32,
    checksums_compared: u32,
    /// Whether all states are those that were recorded.
    equal: bool,
    /// Whether the file has its end.
    complete: bool,
    /// The first state that is another is the one before this tick.
    differs_at: Option<i32>,
}

/// How to report.
#[derive(Resource, Clone, Copy)]
struct Reports {
    json: bool,
    seek: Option<i32>,
}

#[derive(Component)]
struct ReplayText;

/// Plays the file.
pub fn run(play: PlayArgs, file: &Path, seek: Option<i32>, speed: Option<f32>) -> AppExit {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{} cannot be read: {error}", file.display());
            return AppExit::error();
        }
    };
    let mut replay = match Replay::open(bytes) {
        Ok(replay) => replay,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return AppExit::error();
        }
    };
    // Another build is just what is to be compared.
    replay.any_build = true;
    replay.speed = speed.unwrap_or(1.0);
    if let Some(tick) = seek {
        replay.seek(tick);
    }
    let reports = Reports { json: play.json, seek };
    Example::new("duel", play).run_alone(move |app, mode| {
        app.add_plugins((game::plugin, RollbackPlugin::default()))
            .insert_resource(Touched(true))
            .insert_resource(reports)
            .add_observer(failed);
        match mode {
            Mode::Headless => {
                (replay.speed, replay.ticks_per_frame) = (f32::INFINITY, AT_ONCE);
                app.add_systems(Update, report);
            }
            Mode::Window => {
                app.add_plugins((view::plugin, hud::scores_plugin))
                    .add_systems(Startup, write)
                    .add_systems(Update, (steer, show).chain());
            }
        }
        app.world_mut().spawn(replay);
    })
}

fn failed(failed: On<ReplayFailed>, mut exit: MessageWriter<AppExit>) {
    eprintln!("no replay: {}", failed.error);
    exit.write(AppExit::error());
}

/// What is wrong with the end of a file, and whether that is no accident of a game that was killed.
const fn wrong(ending: RecordingEnding) -> Option<(&'static str, usize, bool)> {
    match ending {
        RecordingEnding::Finished => None,
        RecordingEnding::Damaged { at } => Some(("damaged", at, true)),
        RecordingEnding::Cut { at } => Some(("cut", at, false)),
        _ => Some(("unreadable", 0, true)),
    }
}

/// Says how it went, when it is over or differs.
#[expect(clippy::print_stdout, reason = "the summary is what the program is asked for")]
fn report(status: Single<&ReplayStatus>, reports: Res<Reports>, mut exit: MessageWriter<AppExit>) {
    if !status.ended && status.difference.is_none() {
        return;
    }
    let mut good = true;
    if let Some(ReplayDifference { tick, recorded, computed, .. }) = status.difference {
        eprintln!(
            "the replay differs: before tick {tick} its checksum is {computed:016x}, recorded was {recorded:016x}"
        );
        good = false;
    }
    if status.verified == 0 && good {
        eprintln!("the recording has no checksum here: nothing was compared");
        good = false;
    }
    let wrong = status.ending.and_then(wrong);
    if let Some((what, at, bad)) = wrong {
        eprintln!("the file is {what} at byte {at}: it was played up to tick {}", status.end);
        good &= !bad;
    }
    let first = reports.seek.unwrap_or(status.first).clamp(status.first, status.end);
    let found = Found {
        replay: true,
        ticks: status.tick - first,
        checksums_compared: status.verified + u32::from(status.difference.is_some()),
        equal: status.difference.is_none(),
        complete: wrong.is_none(),
        differs_at: status.difference.map(|difference| difference.tick),
    };
    if reports.json {
        println!("{}", serde_json::to_string(&found).unwrap_or_default());
    } else {
        println!("ticks               {}", found.ticks);
        println!("checksums compared  {}", found.checksums_compared);
        println!("equal               {}", if found.equal { "yes" } else { "NO" });
        println!("complete            {}", if found.complete { "yes" } else { "NO" });
    }
    exit.write(if good { AppExit::Success } else { AppExit::error() });
}

fn write(mut commands: Commands) {
    commands.spawn((ReplayText, hud::line(15.0, hud::under_scores())));
}

fn steer(keys: Res<ButtonInput<KeyCode>>, replay: Option<Single<(&mut Replay, &ReplayStatus)>>) {
    let Some((mut replay, status)) = replay.map(Single::into_inner) else { return };
    if keys.just_pressed(KeyCode::Space) {
        replay.paused = !replay.paused;
    }
    let rate = f64::from(replay.header().rate.per_second());
    let step = (STEP * rate) as i32;
    let from = status.seeking.unwrap_or(status.tick);
    if keys.just_pressed(KeyCode::ArrowLeft) {
        replay.seek(from - step);
    }
    if keys.just_pressed(KeyCode::ArrowRight) {
        replay.seek(from + step);
    }
    if keys.just_pressed(KeyCode::ArrowUp) {
        replay.speed = (replay.speed * 2.0).clamp(0.25, SPEED_MAX);
    }
    if keys.just_pressed(KeyCode::ArrowDown) {
        replay.speed = (replay.speed / 2.0).max(0.25);
    }
}

fn show(
    replay: Option<Single<(&Replay, &ReplayStatus)>>,
    mut text: Single<&mut Text2d, With<ReplayText>>,
) {
    let Some((replay, status)) = replay.map(Single::into_inner) else { return };
    let rate = f64::from(replay.header().rate.per_second());
    let time = |tick: i32| format!("{:.1} s", f64::from(tick) / rate);
    let doing = match (status.seeking, status.ended, status.paused) {
        (Some(tick), ..) => format!("going to {}", time(tick)),
        (None, true, _) => match status.ending.and_then(wrong) {
            Some((what, ..)) => format!("the end: the file is {what} here"),
            None => "the end".to_owned(),
        },
        (None, false, true) => "paused".to_owned(),
        (None, false, false) => format!("{} x", status.speed),
    };
    let compared = match status.difference {
        Some(difference) => format!("DIFFERS before tick {}", difference.tick),
        None => format!("{} checksums equal", status.verified),
    };
    let new = format!(
        "replay   tick {} of {}   {} of {}   {doing}   {compared}   (Space, arrows)",
        status.tick,
        status.end,
        time(status.tick),
        time(status.end),
    );
    if text.0 != new {
        text.0 = new;
    }
}
