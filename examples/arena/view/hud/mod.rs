//! What is written on the screen: lobby, links, scores, talk, keys.

mod layout;
mod rates;

use bevy::prelude::*;
use bevy::window::PrimaryWindow;
use bevy_netplay::prelude::*;
use bevy_netplay::{LobbyConnection, PeerStats};
use netplay_examples::Phase;

use crate::game::{ChatLog, Controls, Scores};

use super::colors::Colors;
use layout::{Area, DIM, GOOD, PLAIN, Row, WARM};
use rates::Rates;

/// Numbers that change all the time are shown this often, in seconds.
const REFRESH: f32 = 0.25;
/// The window for which the letters' sizes are made.
const MADE_FOR: Vec2 = Vec2::new(960.0, 600.0);

pub fn plugin(app: &mut App) {
    app.add_plugins(rates::plugin).add_systems(Startup, layout::spawn).add_systems(
        Update,
        (
            scale,
            show_lobby,
            show_links.run_if(bevy::time::common_conditions::on_timer(
                std::time::Duration::from_secs_f32(REFRESH),
            )),
            show_scores,
            show_chat,
            show_hint,
            show_title,
        ),
    );
}

/// One row of a list.
struct Entry {
    swatch: Option<Color>,
    text: String,
    color: Color,
}

fn fill(
    area: Area,
    entries: &[Entry],
    rows: &mut Query<(&Row, &mut Node)>,
    texts: &mut Query<(&mut Text, &mut TextColor)>,
    swatches: &mut Query<&mut BackgroundColor>,
) {
    for (row, mut node) in rows.iter_mut().filter(|(row, _)| row.area == area) {
        let entry = entries.get(row.number);
        let display = if entry.is_some() { Display::Flex } else { Display::None };
        if node.display != display {
            node.display = display;
        }
        let (Some(entry), Ok((mut text, mut color))) = (entry, texts.get_mut(row.text)) else {
            continue;
        };
        if text.0 != entry.text {
            text.0.clone_from(&entry.text);
        }
        color.set_if_neq(TextColor(entry.color));
        if let Ok(mut swatch) = swatches.get_mut(row.swatch) {
            swatch.set_if_neq(BackgroundColor(entry.swatch.unwrap_or(Color::NONE)));
        }
    }
}

fn scale(window: Single<&Window, With<PrimaryWindow>>, mut scale: ResMut<UiScale>) {
    let size = Vec2::new(window.width(), window.height()) / MADE_FOR;
    let new = (size.min_element().clamp(0.85, 1.6) * 20.0).round() / 20.0;
    if scale.0 != new {
        scale.0 = new;
    }
}

type Lobbies<'w, 's> = Query<
    'w,
    's,
    (&'static LobbyConnection, Option<(&'static Lobby, &'static SyncStatus)>, Has<Match>),
>;

fn show_lobby(
    lobbies: Lobbies,
    mut rows: Query<(&Row, &mut Node)>,
    mut texts: Query<(&mut Text, &mut TextColor)>,
    mut swatches: Query<&mut BackgroundColor>,
) {
    let Some((connection, joined, in_match)) = lobbies.iter().next() else { return };
    let lobby = joined.map(|(lobby, _)| lobby);
    let code = lobby.map_or("no lobby yet".into(), |lobby| format!("lobby {}", lobby.code));
    let (state, color) = match connection {
        LobbyConnection::Connecting => ("asking the lobby server", WARM),
        LobbyConnection::Online => ("online", GOOD),
        LobbyConnection::Offline if lobby.is_some() => {
            ("lobby server away, the game goes on", WARM)
        }
        LobbyConnection::Offline => ("lobby server away, trying again", WARM),
        LobbyConnection::Failed => ("lobby failed", WARM),
    };
    // One line for the server and the clock, in the colour of the worse.
    let (clock, clock_color) = match joined {
        Some((_, sync)) => describe_sync(sync, in_match),
        None => (String::new(), GOOD),
    };
    let color = if color == GOOD { clock_color } else { color };
    let separator = if clock.is_empty() { "" } else { " | " };
    let text = format!("{state}{separator}{clock}");
    let entries = [
        Entry { swatch: None, text: code, color: PLAIN },
        Entry { swatch: Some(color), text, color },
    ];
    fill(Area::Lobby, &entries, &mut rows, &mut texts, &mut swatches);
}

/// How well we are in sync, in a line.
fn describe_sync(sync: &SyncStatus, in_match: bool) -> (String, Color) {
    let (state, color) = match sync.state {
        SyncState::NoClock => return ("no shared clock yet".into(), PLAIN),
        SyncState::Uncertain => ("clock uncertain", WARM),
        SyncState::Apart | SyncState::CatchingUp => ("catching up", WARM),
        SyncState::InSync => ("in sync", GOOD),
        SyncState::Held => ("paused for all", WARM),
    };
    let known = sync.uncertainty.as_secs_f32() * 1e3;
    let tick =
        if in_match { format!(", tick {:+.1} ms", sync.tick_error_ms) } else { String::new() };
    let clock = sync.clock_error_ms;
    (format!("{state}: clock {clock:+.1} ms, known to {known:.1}{tick}"), color)
}

fn show_links(
    peers: Query<(&Peer, &LinkState, &PeerStats, &Rates)>,
    colors: Res<Colors>,
    mut rows: Query<(&Row, &mut Node)>,
    mut texts: Query<(&mut Text, &mut TextColor)>,
    mut swatches: Query<&mut BackgroundColor>,
) {
    let mut peers: Vec<_> = peers.iter().collect();
    peers.sort_by_key(|(peer, ..)| peer.id);
    let mut entries = Vec::new();
    if !peers.is_empty() {
        let text = "player   link         rtt ms jitter  loss  in/s out/s".into();
        entries.push(Entry { swatch: None, text, color: DIM });
    }
    for (peer, state, stats, rates) in peers {
        let (link, color) = match state {
            LinkState::Connecting => ("connecting", WARM),
            LinkState::Connected => ("ok", PLAIN),
            LinkState::Interrupted => ("interrupted", WARM),
            LinkState::Lost => ("away", WARM),
        };
        let rtt = stats.rtt().map_or("-".into(), |rtt| format!("{:.1}", rtt.as_secs_f32() * 1e3));
        let text = format!(
            "{} {link:11} {rtt:>7} {:>6.1} {:>4.0}% {:>5.0} {:>5.0}",
            peer.id.short(),
            stats.link.jitter.as_secs_f32() * 1e3,
            stats.link.loss * 100.0,
            rates.received(),
            rates.sent(),
        );
        entries.push(Entry { swatch: Some(colors.of(peer.id).into()), text, color });
    }
    fill(Area::Links, &entries, &mut rows, &mut texts, &mut swatches);
}

fn show_scores(
    lobbies: Query<&Lobby>,
    peers: Query<(&Peer, &LinkState)>,
    scores: Res<Scores>,
    colors: Res<Colors>,
    mut rows: Query<(&Row, &mut Node)>,
    mut texts: Query<(&mut Text, &mut TextColor)>,
    mut swatches: Query<&mut BackgroundColor>,
) {
    let me = lobbies.iter().next().map(|lobby| lobby.me);
    let there = peers.iter().filter(|(_, state)| state.is_open());
    let all = me.into_iter().chain(there.map(|(peer, _)| peer.id));
    let mut all: Vec<_> = all.map(|id| (scores.0.get(&id).copied().unwrap_or(0), id)).collect();
    all.sort_by_key(|(points, id)| (std::cmp::Reverse(*points), *id));
    let entries: Vec<_> = all
        .into_iter()
        .map(|(points, id)| {
            let own = Some(id) == me;
            let name = if own { "you".into() } else { id.short() };
            Entry {
                swatch: Some(colors.of(id).into()),
                text: format!("{name:8} {points:>4}"),
                color: if own { Color::WHITE } else { PLAIN },
            }
        })
        .collect();
    fill(Area::Scores, &entries, &mut rows, &mut texts, &mut swatches);
}

fn show_chat(
    log: Res<ChatLog>,
    lobbies: Query<&Lobby>,
    colors: Res<Colors>,
    mut rows: Query<(&Row, &mut Node)>,
    mut texts: Query<(&mut Text, &mut TextColor)>,
    mut swatches: Query<&mut BackgroundColor>,
) {
    if !log.is_changed() {
        return;
    }
    let me = lobbies.iter().next().map(|lobby| lobby.me);
    let lines = log.0.iter().skip(log.0.len().saturating_sub(layout::CHAT_ROWS));
    let entries: Vec<_> = lines
        .map(|(id, said)| {
            let name = if Some(*id) == me { "you".into() } else { id.short() };
            let swatch = Some(colors.of(*id).into());
            Entry { swatch, text: format!("{name}: {said}"), color: PLAIN }
        })
        .collect();
    fill(Area::Chat, &entries, &mut rows, &mut texts, &mut swatches);
}

fn show_hint(
    controls: Res<Controls>,
    phase: Res<Phase>,
    mut rows: Query<(&Row, &mut Node)>,
    mut texts: Query<(&mut Text, &mut TextColor)>,
    mut swatches: Query<&mut BackgroundColor>,
) {
    let keys = "arrows or WASD fly | Space shoots | T talks | P pauses | Esc quits";
    let mut entries = vec![Entry { swatch: None, text: keys.into(), color: DIM }];
    if !controls.human && matches!(*phase, Phase::Playing { .. }) {
        let text = "a bot is flying - press a key to take over".into();
        entries.insert(0, Entry { swatch: None, text, color: WARM });
    }
    fill(Area::Hint, &entries, &mut rows, &mut texts, &mut swatches);
}

fn show_title(
    phase: Res<Phase>,
    lobbies: Query<&Lobby>,
    peers: Query<&LinkState, With<Peer>>,
    mut panel: Single<&mut Visibility, With<layout::Title>>,
    mut rows: Query<(&Row, &mut Node)>,
    mut texts: Query<(&mut Text, &mut TextColor)>,
    mut swatches: Query<&mut BackgroundColor>,
) {
    let line = |text: &str, color| Entry { swatch: None, text: text.into(), color };
    let entries = match *phase {
        Phase::Playing { .. } => Vec::new(),
        Phase::Gathering => {
            let there = peers.iter().filter(|state| state.is_open()).count();
            let code = lobbies.iter().next().map(|lobby| format!("code {}", lobby.code));
            let others = match there {
                0 => "nobody else is here yet".into(),
                1 => "1 other is here".into(),
                _ => format!("{there} others are here"),
            };
            vec![
                line("waiting for players ...", Color::WHITE),
                line(code.as_deref().unwrap_or("asking for a lobby"), WARM),
                line(&others, PLAIN),
            ]
        }
        _ => vec![line("time is up", Color::WHITE)],
    };
    let visibility = if entries.is_empty() { Visibility::Hidden } else { Visibility::Inherited };
    panel.set_if_neq(visibility);
    fill(Area::Title, &entries, &mut rows, &mut texts, &mut swatches);
}
