//! What the processes of the lab do: a server, a player, a crowd of players.

use std::error::Error;
use std::fs;
use std::io::{Write as _, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netplay_protocol::{LobbyCode, PeerId};
use netplay_server::{Server, ServerConfig, key_file};
use netplay_transport::{
    JoinRequest, LobbyOptions, Network, ResumeToken, SavedSession, SessionConfig,
};
use serde::{Deserialize, Serialize};

use crate::game::{Player, TICK, config};

type Result = std::result::Result<(), Box<dyn Error>>;

/// Runs the lobby server of the library until it is killed. Its first line says where.
pub fn server(bind: SocketAddr, key: &Path) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let key = Some(key_file::load_or_create(key)?);
        let server = Server::bind(ServerConfig { key, ..ServerConfig::at(bind) }).await?;
        writeln!(stdout(), "{}", server.local_addr().port())?;
        server.run_until(std::future::pending()).await;
        Ok(())
    })
}

fn lobby(join: Option<LobbyCode>) -> JoinRequest {
    match join {
        Some(code) => JoinRequest::Code(code),
        None => JoinRequest::Create(LobbyOptions::private(4).keep_seats(60)),
    }
}

fn read_saved(path: &Path) -> Option<SavedSession> {
    let text = fs::read_to_string(path).ok()?;
    let (peer, token) = text.split_once(' ')?;
    let peer = PeerId::from_u128(u128::from_str_radix(peer, 16).ok()?);
    Some(SavedSession { peer, token: ResumeToken(token.to_owned()) })
}

/// Plays until it is killed; tells what happens in lines of JSON.
pub fn player(server: &str, join: Option<LobbyCode>, resume: Option<PathBuf>) -> Result {
    let mut config: SessionConfig = config(server)?;
    config.resume = resume.as_deref().and_then(read_saved);
    let network = Network::start()?;
    let mut player = Player::open(&network, &config, lobby(join))?;
    loop {
        let tick = Instant::now() + TICK;
        player.send();
        while let Some(left) = tick.checked_duration_since(Instant::now()) {
            player.wait(left);
            player.poll();
        }
        if let (Some(saved), Some(path)) = (player.saved.take(), &resume) {
            let new = path.with_extension("new");
            fs::write(&new, format!("{:x} {}", saved.peer.as_u128(), saved.token.0))?;
            fs::rename(&new, path)?;
        }
        for line in player.lines.drain(..) {
            writeln!(stdout(), "{}", serde_json::to_string(&line)?)?;
        }
    }
}

/// How a crowd is, ten times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdState {
    /// Players who are online.
    pub online: usize,
    /// Players who are in a lobby.
    pub joined: usize,
    /// Links that live, counted at both ends.
    pub links: usize,
    /// Links that were interrupted or lost, and anything else that must not happen.
    pub noticed: usize,
}

/// Plays many matches of four in one process, a message a tick of a fifth of a second.
pub fn crowd(server: &str, matches: usize) -> Result {
    const CROWD_TICK: Duration = Duration::from_millis(200);
    /// A tick that is so much late, and for how long links show it.
    const PAUSE: Duration = Duration::from_millis(250);
    const PAUSE_FELT: Duration = Duration::from_secs(5);
    use crate::game::Event;
    let network = Network::start()?;
    let config = config(server)?;
    let request = || JoinRequest::Quick(LobbyOptions::public(4));
    let mut players = Vec::new();
    let (mut state, mut online) = (CrowdState::default(), Vec::new());
    let (mut due, mut paused) = (Instant::now(), None);
    loop {
        // A machine that pauses interrupts all links of a process, whatever the server does.
        if due.elapsed() > PAUSE {
            paused = Some(Instant::now());
        }
        let was_paused = paused.is_some_and(|at: Instant| at.elapsed() < PAUSE_FELT);
        // Not all at once: a thousand connections take their time on one core.
        if players.len() < 4 * matches && state.links == 3 * players.len() / 4 * 4 {
            for _ in 0..4 {
                players.push(Player::open(&network, &config, request())?);
                online.push(false);
            }
        }
        let tick = Instant::now() + CROWD_TICK;
        for (player, online) in players.iter_mut().zip(&mut online) {
            player.poll();
            player.send();
            for line in player.lines.drain(..) {
                match line.event {
                    Event::Online => *online = true,
                    Event::Offline => *online = false,
                    Event::Joined { .. } => state.joined += 1,
                    Event::Connected | Event::Again { .. } | Event::Beat { .. } => {}
                    Event::Interrupted | Event::Resumed if was_paused => {}
                    Event::Interrupted
                    | Event::Resumed
                    | Event::Closed { .. }
                    | Event::Wrong { .. } => state.noticed += 1,
                }
            }
        }
        state.online = online.iter().filter(|online| **online).count();
        state.links = players.iter().map(Player::links).sum();
        writeln!(stdout(), "{}", serde_json::to_string(&state)?)?;
        std::thread::sleep(tick.saturating_duration_since(Instant::now()));
        due = tick;
    }
}
