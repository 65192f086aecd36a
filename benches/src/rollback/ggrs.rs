//! ggrs 0.13 on the same simulated network. It reads the system's clock, so it plays in real time: all
//! matches side by side.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ggrs::{
    Config, GgrsRequest, Message, NonBlockingSocket, P2PSession, PlayerType, PredictRepeatLast,
    SessionBuilder, SessionState,
};
use netplay_protocol::Now;
use netplay_protocol::codec::{Bincode, Codec};
use netplay_simnet::{Conditions, Network};

use super::Match;
use super::links::Sent;
use crate::Result;

const TICK: Duration = Duration::from_nanos(16_666_667);
/// What any message of ggrs fits in.
const MESSAGE_MAX: usize = 64 * 1024;

struct Bench;

impl Config for Bench {
    type Input = u8;
    type InputPredictor = PredictRepeatLast;
    type State = ();
    type Address = usize;
}

/// All players' packets.
struct Wire {
    network: Network<usize, Vec<u8>>,
    inboxes: Vec<VecDeque<(usize, Message)>>,
    started: Instant,
    sent: Sent,
}

impl Wire {
    fn now(&self) -> Now {
        Now::from_micros(self.started.elapsed().as_micros() as u64)
    }

    fn deliver(&mut self) {
        let now = self.now();
        while let Some(arrived) = self.network.poll(now) {
            if let Ok(message) = Bincode::decode(&arrived.item) {
                self.inboxes[arrived.to].push_back((arrived.from, message));
            }
        }
    }
}

struct Socket {
    me: usize,
    wire: Arc<Mutex<Wire>>,
}

impl NonBlockingSocket<usize> for Socket {
    fn send_to(&mut self, message: &Message, to: &usize) {
        let mut bytes = Vec::new();
        // The encoding of matchbox: bincode 2 with its standard settings.
        if Bincode::encode(message, &mut bytes, MESSAGE_MAX).is_err() {
            return;
        }
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.sent.datagrams += 1;
        wire.sent.bytes += bytes.len() as u64;
        let now = wire.now();
        wire.network.send(now, self.me, *to, bytes.len(), bytes);
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, Message)> {
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.deliver();
        wire.inboxes[self.me].drain(..).collect()
    }
}

struct Play {
    game: Match,
    wire: Arc<Mutex<Wire>>,
    sessions: Vec<P2PSession<Bench>>,
    frames: Vec<u32>,
}

impl Play {
    fn new(game: &Match, conditions: &Conditions, seed: u64) -> Result<Self> {
        let players = game.players;
        let wire = Arc::new(Mutex::new(Wire {
            network: Network::new(conditions.clone(), seed, |player| player as u64),
            inboxes: vec![VecDeque::new(); players],
            started: Instant::now(),
            sent: Sent::default(),
        }));
        let start = |me: usize| {
            let mut builder = SessionBuilder::<Bench>::new().with_num_players(players)?;
            for of in 0..players {
                let kind = if of == me { PlayerType::Local } else { PlayerType::Remote(of) };
                builder = builder.add_player(kind, of)?;
            }
            builder.start_p2p_session(Socket { me, wire: Arc::clone(&wire) })
        };
        let sessions = (0..players).map(start).collect::<std::result::Result<_, _>>()?;
        Ok(Self { game: game.clone(), wire, sessions, frames: vec![0; players] })
    }

    /// One frame of every player.
    fn frame(&mut self) {
        for (me, session) in self.sessions.iter_mut().enumerate() {
            session.poll_remote_clients();
            if session.current_state() != SessionState::Running {
                continue;
            }
            let input = self.game.input(self.frames[me], me)[0];
            if session.add_local_input(me, input).is_err() {
                continue;
            }
            let Ok(requests) = session.advance_frame() else { continue };
            for request in requests {
                match request {
                    GgrsRequest::SaveGameState { cell, frame } => cell.save(frame, Some(()), None),
                    GgrsRequest::LoadGameState { .. } => {}
                    GgrsRequest::AdvanceFrame { .. } => self.frames[me] += 1,
                }
            }
        }
    }

    fn sent(&self) -> Sent {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner).sent
    }
}

/// Plays all matches for so long, after three seconds that are not counted: what each sent.
///
/// # Errors
/// If ggrs refuses the settings.
pub fn play(matches: &[(Match, Conditions)], seconds: u64) -> Result<Vec<Sent>> {
    let plays = matches.iter().enumerate();
    let plays = plays.map(|(seed, (game, conditions))| Play::new(game, conditions, seed as u64));
    let mut plays = plays.collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let warm = 3 * 60;
    let mut before = Vec::new();
    for frame in 0..warm + seconds as u32 * 60 {
        std::thread::sleep((start + TICK * frame).saturating_duration_since(Instant::now()));
        if frame == warm {
            before = plays.iter().map(Play::sent).collect();
        }
        plays.iter_mut().for_each(Play::frame);
    }
    let sent = plays.iter().zip(before).map(|(play, before)| Sent {
        datagrams: play.sent().datagrams - before.datagrams,
        bytes: play.sent().bytes - before.bytes,
    });
    Ok(sent.collect())
}
