//! From the lobby to the summary: who is there, when play begins and ends, and what is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::{LobbyConnection, LobbyOnline};
use serde::{Deserialize, Serialize};

use crate::args::PlayArgs;
use crate::children::{Launcher, end_with_parent};
use crate::report::{Findings, LinkReport, Report, Summary};

/// Everything together may take this much longer than the time in play.
const SLACK: Duration = Duration::from_secs(20);
/// How long reliable messages may take to arrive after the end of play.
const DRAIN: Duration = Duration::from_secs(2);
/// From the last game message to the tally: statistics are a frame behind.
const SETTLE: Duration = Duration::from_millis(50);
/// From our own end to leaving, so that slower players get our last messages.
const LINGER: Duration = Duration::from_millis(300);
/// Between two samples of the round-trip times.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Where the game is.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not everyone is there.
    #[default]
    Gathering,
    /// Play.
    Playing {
        /// Since when.
        since: Instant,
    },
    /// The game has stopped sending; the statistics catch up.
    Settling {
        /// Since when.
        since: Instant,
    },
    /// Everyone has said how much was sent; what is on its way arrives.
    Draining {
        /// Since when.
        since: Instant,
    },
    /// Nothing is missing, or nothing more will come; slower players finish.
    Leaving {
        /// Since when.
        since: Instant,
    },
    /// Over.
    Over,
}

impl Phase {
    /// Whether play is over, though not everyone has left.
    pub const fn is_ending(self) -> bool {
        !matches!(self, Self::Gathering | Self::Playing { .. })
    }
}

/// Run condition: everyone is there and the end has not come.
pub fn playing(phase: Res<Phase>) -> bool {
    matches!(*phase, Phase::Playing { .. })
}

/// The last reliable message that a player sends: so many came before it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
struct Tally {
    reliable: u64,
}

/// Lobby, children, phases, counting and the summary.
pub(crate) struct PlayPlugin {
    args: PlayArgs,
    keeps_time: bool,
    launcher: Mutex<Option<Launcher>>,
}

impl PlayPlugin {
    /// For a game with these flags, which may keep its own time.
    pub(crate) const fn new(args: PlayArgs, launcher: Launcher, keeps_time: bool) -> Self {
        Self { args, keeps_time, launcher: Mutex::new(Some(launcher)) }
    }
}

/// What was counted.
#[derive(Resource, Default)]
struct Counts {
    started: Option<Instant>,
    found: BTreeMap<PeerId, Instant>,
    connect_ms: Vec<f32>,
    rtt_us: Vec<u32>,
    all_connected: bool,
    /// Of peers that are gone.
    sent: u64,
    received: u64,
    /// Links that lived to the end, of peers that have left first.
    ended: Vec<LinkReport>,
    /// Peers whose last reliable message has arrived, and with it all before.
    tallies: BTreeSet<PeerId>,
    sampled: Option<Instant>,
    /// When tick 0 of the match is, by the system's clock.
    tick_zero_us: Option<i64>,
}

/// What the players have to agree on at the end, by name. Games write it.
#[derive(Resource, Default, Debug)]
pub struct Agreed(pub BTreeMap<String, i64>);

#[derive(Resource)]
struct Run {
    args: PlayArgs,
    /// No match is started, and nobody joins later.
    keeps_time: bool,
    /// The others may play already.
    comes_back: bool,
    launcher: Mutex<Launcher>,
    parent_gone: Mutex<Option<Receiver<()>>>,
}

impl Plugin for PlayPlugin {
    fn build(&self, app: &mut App) {
        let launcher = self.launcher.lock().ok().and_then(|mut launcher| launcher.take());
        let Some(launcher) = launcher else { return };
        let parent_gone = self.args.child.map(|_| end_with_parent());
        app.insert_resource(Run {
            comes_back: self.args.comes_back(),
            args: self.args.clone(),
            keeps_time: self.keeps_time,
            launcher: Mutex::new(launcher),
            parent_gone: Mutex::new(parent_gone),
        })
        .init_resource::<Phase>()
        .init_resource::<Counts>()
        .init_resource::<Agreed>()
        .init_resource::<Findings>()
        .add_net_message::<Tally>(Lane::Reliable)
        .add_systems(Update, (sample, watch_parent, advance).chain())
        .add_observer(begins)
        .add_observer(offline)
        .add_observer(online)
        .add_observer(found)
        .add_observer(connected)
        .add_observer(away)
        .add_observer(back)
        .add_observer(disconnected);
        if self.args.menu {
            app.add_systems(Startup, open_others);
        } else {
            app.add_systems(Startup, join).add_observer(joined).add_observer(failed);
        }
    }
}

/// Players of one lobby: who comes later finds a seat.
const SEATS: u8 = 8;
/// Players of a game that nobody joins later, if nothing else is said.
const SEATS_FIXED: u8 = 2;

fn join(mut commands: Commands, run: Res<Run>, mut counts: ResMut<Counts>) {
    counts.started = Some(Instant::now());
    let fixed = run.keeps_time.then(|| run.args.expected().unwrap_or(SEATS_FIXED));
    commands.spawn(match run.args.join {
        Some(code) => JoinLobby::code(code),
        // Taken up by its resume file, it is in its lobby already.
        None => JoinLobby::create_private(fixed.unwrap_or(SEATS)),
    });
}

/// With a menu, players find each other.
fn open_others(run: Res<Run>, mut counts: ResMut<Counts>, mut exit: MessageWriter<AppExit>) {
    counts.started = Some(Instant::now());
    let Ok(mut launcher) = run.launcher.lock() else { return };
    if let Err(error) = launcher.open(None) {
        eprintln!("The other players cannot be opened: {error}");
        exit.write(AppExit::error());
    }
}

fn joined(
    event: On<LobbyJoined>,
    lobbies: Query<&Lobby>,
    run: Res<Run>,
    mut exit: MessageWriter<AppExit>,
) {
    let (Ok(lobby), Ok(mut launcher)) = (lobbies.get(event.entity), run.launcher.lock()) else {
        return;
    };
    if run.args.child.is_none() && run.args.join.is_none() {
        eprintln!("lobby {}", lobby.code);
        if run.args.players() == 1 {
            eprintln!("Others join with: --server {} --join {}", launcher.server(), lobby.code);
        }
    }
    if let Err(error) = launcher.open(Some(lobby.code)) {
        eprintln!("The other players cannot be opened: {error}");
        exit.write(AppExit::error());
    }
}

fn begins(
    event: On<MatchBegins>,
    matches: Query<&Match>,
    mut counts: ResMut<Counts>,
    mut phase: ResMut<Phase>,
) {
    let Ok(of) = matches.get(event.entity) else { return };
    // The time in play begins with tick 0.
    if let Phase::Playing { since } = &mut *phase {
        *since = (*since).max(of.begins);
    }
    let (instant, system) = (Instant::now(), SystemTime::now());
    let ahead = of.begins.saturating_duration_since(instant).as_micros() as i64
        - instant.saturating_duration_since(of.begins).as_micros() as i64;
    let system = system.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    counts.tick_zero_us = Some(system.as_micros() as i64 + ahead);
}

fn failed(event: On<LobbyFailed>, mut exit: MessageWriter<AppExit>) {
    eprintln!("No lobby: {}", event.error);
    exit.write(AppExit::error());
}

fn offline(event: On<LobbyOffline>, phase: Res<Phase>) {
    if *phase == Phase::Gathering {
        eprintln!("{}; trying again in {:.1} s", event.why, event.retry_in.as_secs_f32());
    }
}

fn online(event: On<LobbyOnline>, lobbies: Query<(&Lobby, &LobbyConnection)>) {
    if lobbies.get(event.entity).is_ok() {
        eprintln!("the lobby server is back");
    }
}

fn found(event: On<Add, Peer>, peers: Query<&Peer>, mut counts: ResMut<Counts>) {
    if let Ok(peer) = peers.get(event.entity) {
        counts.found.insert(peer.id, Instant::now());
    }
}

fn connected(event: On<PeerConnected>, mut counts: ResMut<Counts>) {
    if let Some(found) = counts.found.remove(&event.id) {
        counts.connect_ms.push(found.elapsed().as_secs_f32() * 1000.0);
    }
    eprintln!("player {} is here", event.id.short());
}

fn away(event: On<PeerLost>, mut counts: ResMut<Counts>) {
    counts.tallies.remove(&event.id);
    eprintln!("player {} is away: {}", event.id.short(), event.reason);
}

fn back(event: On<PeerRejoined>) {
    eprintln!("player {} is back after {:.1} s", event.id.short(), event.away.as_secs_f32());
}

fn disconnected(
    event: On<PeerDisconnected>,
    stats: Query<&PeerStats>,
    mut counts: ResMut<Counts>,
    phase: Res<Phase>,
) {
    if let Ok(stats) = stats.get(event.entity) {
        counts.sent += stats.messages_sent;
        counts.received += stats.messages_received;
        if phase.is_ending() {
            counts.ended.push(link_report(event.id, stats));
        }
    }
    counts.tallies.remove(&event.id);
    counts.found.remove(&event.id);
    if !phase.is_ending() {
        eprintln!("player {} is gone: {}", event.id.short(), event.reason);
    }
}

fn link_report(peer: PeerId, stats: &PeerStats) -> LinkReport {
    LinkReport {
        peer: peer.to_string(),
        reliable_sent: stats.reliable_sent,
        reliable_received: stats.reliable_received,
    }
}

fn sample(
    mut counts: ResMut<Counts>,
    stats: Query<&PeerStats>,
    mut tallies: MessageReader<Received<Tally>>,
) {
    let now = Instant::now();
    for tally in tallies.read() {
        counts.tallies.insert(tally.peer);
        debug!(peer = ?tally.peer, sent = tally.message.reliable, "a player has ended");
    }
    if counts.sampled.is_none_or(|at| now - at >= SAMPLE_EVERY) {
        counts.sampled = Some(now);
        let rtts = stats.iter().filter_map(PeerStats::rtt);
        let rtts = rtts.map(|rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
        counts.rtt_us.extend(rtts);
    }
}

fn watch_parent(run: Res<Run>, mut exit: MessageWriter<AppExit>) {
    if let Ok(gone) = run.parent_gone.lock()
        && let Some(gone) = &*gone
        && !matches!(gone.try_recv(), Err(TryRecvError::Empty))
    {
        exit.write(AppExit::Success);
    }
}

type Peers<'w, 's> = Query<'w, 's, (Entity, &'static Peer, &'static LinkState, &'static PeerStats)>;

fn is_connected(state: LinkState) -> bool {
    state.is_open()
}

#[expect(clippy::too_many_arguments, reason = "a Bevy system: each argument is a thing it reads")]
fn advance(
    run: Res<Run>,
    mut phase: ResMut<Phase>,
    mut counts: ResMut<Counts>,
    peers: Peers,
    lobbies: Query<(Entity, &Lobby)>,
    (agreed, findings): (Res<Agreed>, Res<Findings>),
    mut tally: NetWriter<Tally>,
    mut exit: MessageWriter<AppExit>,
    mut commands: Commands,
) {
    let now = Instant::now();
    let seconds = run.args.seconds.map(Duration::from_secs_f32);
    let started = counts.started.unwrap_or(now);
    let late = seconds.is_some_and(|s| now - started > s + SLACK - DRAIN - 2 * LINGER);
    match *phase {
        // The menu says when it begins.
        Phase::Gathering if run.args.menu => {}
        Phase::Gathering => {
            let lobby = lobbies.iter().next().filter(|_| run.keeps_time);
            let seats = lobby.map(|(_, lobby)| lobby.capacity);
            let wanted = usize::from(seats.or(run.args.expected()).unwrap_or(2)) - 1;
            let connected = peers.iter().filter(|(_, _, state, _)| is_connected(**state)).count();
            counts.all_connected = connected >= wanted;
            if counts.all_connected {
                eprintln!("the game begins");
                // From here on the ticks of all are on one clock.
                let host = lobbies.iter().find(|(_, lobby)| lobby.is_host());
                if let Some((entity, _)) = host.filter(|_| !run.comes_back && !run.keeps_time) {
                    commands.trigger(StartMatch { entity });
                }
                *phase = Phase::Playing { since: now };
            } else if late {
                *phase = Phase::Settling { since: now };
            }
        }
        Phase::Playing { since } => {
            let played = now.saturating_duration_since(since);
            if late || seconds.is_some_and(|seconds| played >= seconds) {
                *phase = Phase::Settling { since: now };
            }
        }
        Phase::Settling { since } => {
            if now - since >= SETTLE {
                tell_tallies(&peers, &mut tally);
                *phase = Phase::Draining { since: now };
            }
        }
        Phase::Draining { since } => {
            let complete = peers.iter().all(|(_, peer, state, _)| {
                !is_connected(*state) || counts.tallies.contains(&peer.id)
            });
            if complete || now - since >= DRAIN {
                *phase = Phase::Leaving { since: now };
            }
        }
        Phase::Leaving { since } => {
            if now - since >= LINGER {
                let lobby = lobbies.iter().next().map(|(_, lobby)| lobby);
                let agreed = (agreed.0.clone(), findings.clone());
                let report = report(&counts, agreed, lobby, &peers);
                exit.write(finish(&run, report, started));
                *phase = Phase::Over;
            }
        }
        Phase::Over => {}
    }
}

fn tell_tallies(peers: &Peers, tally: &mut NetWriter<Tally>) {
    for (entity, _, state, stats) in peers {
        let message = Tally { reliable: stats.reliable_sent };
        if is_connected(*state)
            && let Err(error) = tally.to(entity, message)
        {
            warn!("a player cannot be told the end: {error}");
        }
    }
}

fn report(
    counts: &Counts,
    (agreed, findings): (BTreeMap<String, i64>, Findings),
    lobby: Option<&Lobby>,
    peers: &Peers,
) -> Report {
    let live = peers.iter().filter(|(_, _, state, _)| is_connected(**state));
    let links = live.map(|(_, peer, _, stats)| link_report(peer.id, stats));
    let links = links.chain(counts.ended.iter().cloned());
    Report {
        me: lobby.map(|lobby| lobby.me.to_string()).unwrap_or_default(),
        all_connected: counts.all_connected,
        messages_sent: counts.sent
            + peers.iter().map(|(.., stats)| stats.messages_sent).sum::<u64>(),
        messages_received: counts.received
            + peers.iter().map(|(.., stats)| stats.messages_received).sum::<u64>(),
        links: links.collect(),
        rtt_us: counts.rtt_us.clone(),
        connect_ms: counts.connect_ms.clone(),
        tick_zero_us: counts.tick_zero_us,
        agreed,
        findings,
    }
}

/// Prints what this process has to print, and says how it ends.
#[expect(clippy::print_stdout, reason = "the summary is what the program is asked for")]
fn finish(run: &Run, report: Report, started: Instant) -> AppExit {
    if run.args.child.is_some() {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
        return AppExit::Success;
    }
    let mut reports = vec![Some(report)];
    if let Ok(mut launcher) = run.launcher.lock() {
        // Slower ones have until the limit for everything; one that has died is known at once.
        let seconds = run.args.seconds.map(Duration::from_secs_f32).unwrap_or_default();
        let until = started + seconds + SLACK;
        reports.extend(launcher.collect(until.saturating_duration_since(Instant::now())));
    }
    let summary = Summary::of(usize::from(run.args.players()), &reports);
    if run.args.json {
        println!("{}", serde_json::to_string(&summary).unwrap_or_default());
    } else {
        println!("{}", summary.table());
    }
    if summary.is_good() { AppExit::Success } else { AppExit::error() }
}
