//! How rollback fares, on the screen: how deep each rollback was over the last seconds, inputs that came
//! late, how far our tick is off, and how long inputs wait.

use std::collections::VecDeque;

use bevy::prelude::*;
use bevy::sprite::Anchor;
use bevy_netplay::SyncStatus;
use bevy_netplay::prelude::*;
use bevy_netplay::rollback::RollbackStatus;
use netplay_examples::canvas::{Canvas, Paint};
use netplay_examples::{PALETTE, Phase};

use crate::game::Fighter;
use crate::view::VIEW;

const PLAIN: Color = Color::srgb(0.84, 0.87, 0.96);
/// Frames that the graph shows.
const SHOWN: usize = 240;
/// What one tick is high in it, and one frame wide.
const TICK: f32 = 3.0;
const FRAME: f32 = 1.0;

#[derive(Component)]
struct StatusText;

#[derive(Component)]
struct GraphText;

#[derive(Component)]
struct ScoreText;

/// Of the last frames: ticks that were run again, and players whose inputs were late.
#[derive(Resource, Default)]
struct History {
    frames: VecDeque<(u32, u8)>,
    again: u64,
}

pub fn plugin(app: &mut App) {
    app.init_resource::<History>()
        .add_plugins(scores_plugin)
        .add_systems(Startup, write)
        .add_systems(Update, (remember, status))
        .add_systems(PostUpdate, graph.in_set(Paint));
}

/// The scores only.
pub fn scores_plugin(app: &mut App) {
    app.add_systems(Startup, write_scores).add_systems(Update, scores);
}

fn corner() -> Vec2 {
    Vec2::new(-VIEW.x / 2.0 + 18.0, VIEW.y / 2.0 - 16.0)
}

/// A line of text from here on.
pub fn line(size: f32, at: Vec2) -> impl Bundle {
    let font = TextFont::from_font_size(size);
    let at = Transform::from_translation(at.extend(3.0));
    (Text2d::new(""), TextColor(PLAIN), font, Anchor::TOP_LEFT, at)
}

/// Where the line under the scores is.
pub fn under_scores() -> Vec2 {
    corner() - Vec2::new(0.0, 34.0)
}

fn graph_at() -> Vec2 {
    Vec2::new(VIEW.x / 2.0 - SHOWN as f32 * FRAME - 18.0, VIEW.y / 2.0 - 78.0)
}

fn write(mut commands: Commands) {
    commands.spawn((StatusText, line(15.0, under_scores())));
    let right = graph_at() + Vec2::new(SHOWN as f32 * FRAME + 4.0, -8.0);
    commands.spawn(line(13.0, right)).insert((GraphText, Anchor::TOP_RIGHT));
}

fn write_scores(mut commands: Commands) {
    commands.spawn((ScoreText, line(22.0, corner())));
}

fn remember(status: Option<Single<&RollbackStatus>>, mut history: ResMut<History>) {
    let Some(status) = status else { return };
    let again = status.stats.resimulated;
    let depth = again.saturating_sub(history.again) as u32;
    history.again = again;
    history.frames.push_back((depth, status.late));
    while history.frames.len() > SHOWN {
        history.frames.pop_front();
    }
}

fn graph(mut canvas: ResMut<Canvas>, history: Res<History>) {
    let (at, wide) = (graph_at(), SHOWN as f32 * FRAME);
    let base = LinearRgba::rgb(0.10, 0.14, 0.30);
    canvas.rectangle(at - 4.0, at + Vec2::new(wide + 4.0, 64.0), base.with_alpha(0.25));
    for ticks in [8.0, 16.0] {
        let y = at + Vec2::new(0.0, ticks * TICK);
        canvas.line(y, y + Vec2::new(wide, 0.0), 1.0, [base; 2]);
    }
    for (index, (depth, late)) in history.frames.iter().enumerate() {
        let foot = at + Vec2::new(index as f32 * FRAME, 0.0);
        let high = (*depth as f32 * TICK).min(62.0);
        let color = if *late > 0 {
            LinearRgba::rgb(1.0, 0.30, 0.20)
        } else {
            LinearRgba::rgb(0.25, 0.75, 0.95)
        };
        if high > 0.0 || *late > 0 {
            canvas.rectangle(foot, foot + Vec2::new(FRAME, high.max(1.5)), color);
        }
    }
}

fn status(
    phase: Res<Phase>,
    lobby: Option<Single<&Lobby>>,
    of: Option<Single<(&RollbackStatus, &SyncStatus)>>,
    peers: Query<&PeerStats>,
    history: Res<History>,
    mut text: Single<&mut Text2d, With<StatusText>>,
    mut graph: Single<&mut Text2d, (With<GraphText>, Without<StatusText>)>,
) {
    let Some((status, sync)) = of.map(|of| *of) else {
        let code = lobby.map(|lobby| format!("lobby {}: ", lobby.code));
        text.0 = format!("{}waiting for players", code.unwrap_or_default());
        return;
    };
    let rtts: Vec<_> = peers.iter().filter_map(PeerStats::rtt).collect();
    let rtts: Vec<_> = rtts.iter().map(|rtt| format!("{} ms", rtt.as_millis())).collect();
    let what = match (phase.is_ending(), status.playing, status.stalled) {
        (true, ..) => "the end".to_owned(),
        (_, false, _) => "watching".to_owned(),
        (.., true) => "waiting for inputs".to_owned(),
        _ => format!("round trip {}", rtts.join(", ")),
    };
    text.0 = format!(
        "tick {}   {} guessed   input delay {}   tick error {:+.1} ms   {what}",
        status.simulated,
        (status.simulated - 1 - status.confirmed).max(0),
        status.delay,
        sync.tick_error_ms,
    );
    let late: u32 = history.frames.iter().map(|(_, late)| u32::from(*late)).sum();
    graph.0 = format!(
        "rollback depth: most {}, {late} late",
        history.frames.iter().map(|(depth, _)| *depth).max().unwrap_or(0)
    );
}

/// Wins of each player, in its colour.
fn scores(
    mut commands: Commands,
    fighters: Query<&Fighter>,
    mut text: Single<(Entity, &mut Text2d), With<ScoreText>>,
    spans: Query<Entity, With<TextSpan>>,
    mut shown: Local<Vec<(u8, u16)>>,
) {
    let mut now: Vec<_> = fighters.iter().map(|fighter| (fighter.player, fighter.wins)).collect();
    now.sort_unstable();
    if *shown == now {
        return;
    }
    spans.iter().for_each(|span| commands.entity(span).despawn());
    text.1.0.clear();
    for (player, wins) in &now {
        let color = TextColor(PALETTE[usize::from(*player) % PALETTE.len()].into());
        let font = TextFont::from_font_size(22.0);
        let span = (TextSpan::new(format!("player {}: {wins}    ", player + 1)), color, font);
        commands.entity(text.0).with_child(span);
    }
    *shown = now;
}
