//! What the game sees of the lobby, which matchbox's traits have no words for.

use netplay_protocol::lobby::{ErrorCode, LeaveReason};
use netplay_protocol::{InvalidAddress, LobbyCode};
use netplay_socket::ServerError;
use thiserror::Error;
use tokio::sync::watch;

/// Where a socket's lobby stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LobbyStatus {
    /// Not in a lobby yet; or no socket was built yet.
    Joining,
    /// In the lobby.
    Joined {
        /// By which others join.
        code: LobbyCode,
        /// Whether the server can be reached now. If not, it is tried again, and nobody else notices.
        online: bool,
    },
    /// Nobody new is met any more; who is connected stays.
    Ended(LobbyError),
}

/// Why a socket is in no lobby.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LobbyError {
    /// The URL that the socket was given is no server's.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// By `wss` the server cannot be reached so, whatever the network does.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server was tried as often as the socket's `reconnect_attempts` say.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What the last attempt came to, for people.
        why: String,
    },
    /// The server does not let us in.
    #[error("not let into the lobby: {text}")]
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: String,
    },
    /// We are put out of the lobby, or it is closed.
    #[error("not in the lobby any more ({0:?})")]
    Removed(LeaveReason),
    /// The server does not know us any more, and has given us another id, which a socket cannot take: it
    /// was started anew without the key of the one before, or we were away for too long.
    #[error("the server does not know this player any more")]
    SessionLost,
    /// The socket's message loop was not polled for so long that events would pile up.
    #[error("the message loop of the socket is not polled")]
    NotPolled,
    /// The system gave no thread.
    #[error("no thread for the lobby: {0}")]
    Thread(String),
    /// The socket is dropped, or its message loop is.
    #[error("the socket is closed")]
    Closed,
}

/// Shows where the lobby of a socket stands. Clones show the same.
#[derive(Clone, Debug)]
pub struct LobbyHandle {
    status: watch::Receiver<Versioned>,
}

impl LobbyHandle {
    /// Where it stands now.
    pub fn status(&self) -> LobbyStatus {
        self.status.borrow().status.clone()
    }

    /// By which others join, if we are in a lobby.
    pub fn code(&self) -> Option<LobbyCode> {
        match self.status.borrow().status {
            LobbyStatus::Joined { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Why we are in no lobby, if that is settled.
    pub fn error(&self) -> Option<LobbyError> {
        match &self.status.borrow().status {
            LobbyStatus::Ended(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Waits until we are in a lobby, and gives its code. It needs no runtime of a certain kind.
    ///
    /// # Errors
    /// [`LobbyError`], when it is settled that we are in none. [`LobbyError::Closed`] too if the signaller is dropped
    /// before a socket was built with it.
    pub async fn joined(&self) -> Result<LobbyCode, LobbyError> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|now| now.status != LobbyStatus::Joining).await;
        match settled.as_deref() {
            Ok(Versioned { status: LobbyStatus::Joined { code, .. }, .. }) => Ok(*code),
            Ok(Versioned { status: LobbyStatus::Ended(error), .. }) => Err(error.clone()),
            Ok(Versioned { status: LobbyStatus::Joining, .. }) | Err(_) => Err(LobbyError::Closed),
        }
    }
}

/// A status, and of which of the sockets that were built with one signaller it is.
#[derive(Debug)]
struct Versioned {
    socket: u64,
    status: LobbyStatus,
}

/// Writes what handles show.
#[derive(Debug)]
pub(crate) struct Board {
    status: watch::Sender<Versioned>,
}

impl Default for Board {
    fn default() -> Self {
        Self { status: watch::Sender::new(Versioned { socket: 0, status: LobbyStatus::Joining }) }
    }
}

impl Board {
    pub(crate) fn handle(&self) -> LobbyHandle {
        LobbyHandle { status: self.status.subscribe() }
    }

    /// Another socket is built: from now on the handles show its lobby.
    pub(crate) fn begin(&self) -> Reporter {
        let mut number = 0;
        self.status.send_modify(|now| {
            now.socket += 1;
            now.status = LobbyStatus::Joining;
            number = now.socket;
        });
        Reporter { socket: number, status: self.status.clone() }
    }
}

/// Writes what handles show, for one socket.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    socket: u64,
    status: watch::Sender<Versioned>,
}

impl Reporter {
    fn change(&self, change: impl FnOnce(&mut LobbyStatus)) {
        self.status.send_if_modified(|now| {
            let ours = now.socket == self.socket;
            if ours {
                change(&mut now.status);
            }
            ours
        });
    }

    pub(crate) fn joined(&self, code: LobbyCode) {
        self.change(|status| *status = LobbyStatus::Joined { code, online: true });
    }

    pub(crate) fn set_online(&self, now: bool) {
        self.change(|status| {
            if let LobbyStatus::Joined { online, .. } = status {
                *online = now;
            }
        });
    }

    /// It is over, for this reason unless there is one already.
    pub(crate) fn ended(&self, error: LobbyError) {
        self.change(|status| {
            if !matches!(status, LobbyStatus::Ended(_)) {
                *status = LobbyStatus::Ended(error);
            }
        });
    }

    /// Why it is over.
    pub(crate) fn error(&self) -> LobbyError {
        match &self.status.borrow().status {
            LobbyStatus::Ended(error) => error.clone(),
            _ => LobbyError::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_socket_of_a_signaller_is_what_its_handles_show() {
        let board = Board::default();
        let handle = board.handle();
        let (older, newer) = (board.begin(), board.begin());
        let code = LobbyCode::from_random(7);
        newer.joined(code);
        older.ended(LobbyError::Closed);
        assert_eq!(handle.status(), LobbyStatus::Joined { code, online: true });
        newer.set_online(false);
        assert_eq!(handle.status(), LobbyStatus::Joined { code, online: false });
        assert_eq!(handle.code(), Some(code));
    }

    #[test]
    fn the_first_reason_stays() {
        let board = Board::default();
        let reporter = board.begin();
        reporter.ended(LobbyError::SessionLost);
        reporter.ended(LobbyError::Closed);
        assert_eq!(board.handle().error(), Some(LobbyError::SessionLost));
        assert_eq!(reporter.error(), LobbyError::SessionLost);
    }
}
