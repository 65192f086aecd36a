//! Ready checks, countdowns, and what is due in a lobby by itself.

use core::time::Duration;

use netplay_protocol::lobby::{ClientMessage, ErrorCode, ServerMessage};
use netplay_protocol::{LobbyCode, PeerId};

use super::{Directory, Refusal};
use crate::config::millis;
use crate::lobby::{Ended, Lobby};

impl Directory {
    /// Gives the request that is done, if the message has one.
    pub(super) fn start_command(
        &mut self,
        peer: PeerId,
        code: LobbyCode,
        message: &ClientMessage,
    ) -> Result<Option<u32>, Refusal> {
        match message {
            ClientMessage::Ready { ready } => {
                self.ready(peer, code, *ready);
                Ok(None)
            }
            ClientMessage::ReadyCheck { request, secs } => {
                self.check_host(peer, code)?;
                self.check_idle(code)?;
                let time = Duration::from_secs((*secs).into());
                let until = self.now + time;
                self.change(code, |lobby| lobby.check_ready(until));
                self.tell_all(code, &ServerMessage::ReadyCheckBegins { ms: millis(time) });
                Ok(Some(*request))
            }
            ClientMessage::Countdown { request, ms } => {
                self.check_host(peer, code)?;
                self.check_idle(code)?;
                let until = self.now + Duration::from_millis((*ms).into());
                self.change(code, |lobby| lobby.count_down(until));
                self.tell_all(code, &ServerMessage::CountdownBegins { ms: *ms });
                Ok(Some(*request))
            }
            ClientMessage::CancelCountdown { request } => {
                self.check_host(peer, code)?;
                if self.change(code, Lobby::cancel) != Some(true) {
                    return Err(Refusal::new(ErrorCode::NotNow, "no countdown runs"));
                }
                self.tell_ended(code, Some(Ended::Cancelled));
                Ok(Some(*request))
            }
            ClientMessage::SetPlaying { request, playing } => {
                self.check_host(peer, code)?;
                if self.lobbies.get(code).is_some_and(Lobby::is_starting) {
                    return Err(Refusal::new(
                        ErrorCode::NotNow,
                        "a ready check or a countdown runs",
                    ));
                }
                self.decide(code, |lobby| lobby.playing = *playing);
                self.tell_all(code, &ServerMessage::Playing { playing: *playing });
                self.renew_tokens(code);
                Ok(Some(*request))
            }
            // All others have been handled before.
            _ => Ok(None),
        }
    }

    fn check_idle(&self, code: LobbyCode) -> Result<(), Refusal> {
        match self.lobbies.get(code) {
            Some(lobby) if lobby.playing => {
                Err(Refusal::new(ErrorCode::NotNow, "a match runs already"))
            }
            Some(lobby) if lobby.is_starting() => {
                Err(Refusal::new(ErrorCode::NotNow, "a ready check or a countdown runs already"))
            }
            _ => Ok(()),
        }
    }

    fn ready(&mut self, peer: PeerId, code: LobbyCode, ready: bool) {
        let Some((is_new, ended)) = self.change(code, |lobby| lobby.set_ready(peer, ready)) else {
            return;
        };
        if is_new {
            self.tell_all(code, &ServerMessage::MemberReady { peer, ready });
        }
        self.tell_ended(code, ended);
    }

    /// A player is offline: nothing begins without it.
    pub(super) fn interrupt(&mut self, code: LobbyCode, peer: PeerId) {
        let plays = self.lobbies.get(code).and_then(|lobby| lobby.member(peer)?.slot).is_some();
        if plays && self.change(code, Lobby::cancel) == Some(true) {
            self.tell_ended(code, Some(Ended::Cancelled));
        }
    }

    pub(super) fn tell_ended(&mut self, code: LobbyCode, ended: Option<Ended>) {
        let begins = ended == Some(Ended::Countdown);
        let message = match ended {
            Some(Ended::ReadyCheck { missing }) => {
                ServerMessage::ReadyCheckEnds { passed: missing.is_empty(), missing }
            }
            Some(Ended::Countdown) => ServerMessage::Playing { playing: true },
            Some(Ended::Cancelled) => ServerMessage::CountdownCancelled,
            None => return,
        };
        self.tell_all(code, &message);
        if begins {
            self.decide(code, |_| {});
            self.renew_tokens(code);
        }
    }

    /// Something is due in a lobby. Its timer is gone.
    pub(super) fn lobby_due(&mut self, code: LobbyCode) {
        let now = self.now;
        let Some(lobby) = self.lobbies.get(code) else { return };
        if lobby.closes <= now {
            return self.close_lobby(code);
        }
        if lobby.returning.is_some_and(|until| until <= now) {
            self.follow_host(code, Lobby::returned);
        }
        self.follow_host(code, |lobby| lobby.replace_absent_host(now));
        self.change(code, |lobby| lobby.expire_reservations(now));
        let ended = self.change(code, |lobby| lobby.start_due(now)).flatten();
        self.tell_ended(code, ended);
        self.arm(code);
    }
}
