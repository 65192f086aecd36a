//! Who players are beyond one session: logins, join tickets, bans, and what an account may do.

use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::lobby::{ErrorCode, JoinTicket, LeaveReason, Login};
use netplay_protocol::{AccountId, GameId, LobbyCode, Now, PeerId};
use rand_core::Rng;

use super::{Directory, Refusal};
use crate::config::Config;
use crate::io::{ConnectionId, TicketFor};
use crate::rate::{Buckets, Verdict};
use crate::token::Ticket;

/// Accounts that have sessions, and those that are banned.
pub(super) struct Accounts {
    /// How many sessions each has.
    here: BTreeMap<AccountId, u32>,
    /// Beyond its sessions: to end one and to begin another makes nobody faster.
    messages: Buckets<AccountId>,
    /// Until when, in seconds of Unix time.
    banned: BTreeMap<AccountId, u64>,
    used: BTreeSet<UsedTicket>,
}

/// What a login has shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) account: Option<AccountId>,
    /// The lobby that its ticket opens.
    pub(super) opens: Option<LobbyCode>,
    /// The ticket, which is used once its session begins.
    ticket: Option<UsedTicket>,
}

/// When it is over, in seconds of Unix time, and its number.
type UsedTicket = (u64, u64);

impl Shown {
    /// Without a ticket.
    pub(super) fn of(account: Option<AccountId>) -> Self {
        Self { account, ..Self::default() }
    }
}

impl Accounts {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            here: BTreeMap::new(),
            // Who has ended its sessions is remembered for a few seconds more.
            messages: Buckets::new(config.account_messages, config.max_sessions.saturating_mul(2)),
            banned: BTreeMap::new(),
            used: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.here.len()
    }

    /// A session ended.
    pub(super) fn left(&mut self, account: &AccountId) {
        if let Some(sessions) = self.here.get_mut(account) {
            *sessions -= 1;
            if *sessions == 0 {
                self.here.remove(account);
            }
        }
    }
}

fn unauthorized(text: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::Unauthorized, text)
}

impl Directory {
    /// Makes a join ticket: whoever brings it first is this account, in one session.
    pub fn issue_ticket(&mut self, now: Now, ticket: TicketFor) -> JoinTicket {
        self.now = self.now.max(now);
        let TicketFor { account, game, lobby, secs } = ticket;
        let most = self.config.ticket_lifetime.as_secs();
        let expires = self.unix_secs().saturating_add(secs.unwrap_or(most).min(most));
        let (id, boot) = (self.rng.next_u64(), self.boot);
        self.key.ticket(&Ticket { id, boot, account, game, lobby, expires })
    }

    /// Accounts that are banned, in the order of their names, and until which Unix time.
    pub fn bans(&self) -> impl Iterator<Item = (&AccountId, u64)> {
        self.accounts.banned.iter().map(|(account, until)| (account, *until))
    }

    /// Who a new player is.
    pub(super) fn log_in(
        &mut self,
        connection: ConnectionId,
        game: &GameId,
        login: Option<Login>,
    ) -> Result<Shown, Refusal> {
        match login {
            None if self.config.login_required => Err(unauthorized("this server needs a login")),
            None => Ok(Shown::default()),
            Some(Login::Ticket(ticket)) => self.check_ticket(game, &ticket),
            Some(Login::Jwt(_)) => {
                let state = self.connections.get_mut(&connection);
                let found = state.and_then(|state| state.logged_in.take());
                let found = found.unwrap_or_else(|| Err("this server takes no JWT".to_owned()));
                let account = found.map_err(unauthorized)?;
                Ok(Shown::of(Some(account)))
            }
        }
    }

    fn check_ticket(&mut self, game: &GameId, ticket: &JoinTicket) -> Result<Shown, Refusal> {
        let now = self.unix_secs();
        let read = self.key.read_ticket(ticket).filter(|read| read.boot == self.boot);
        let Some(Ticket { id, account, game: of, lobby, expires, .. }) = read else {
            return Err(unauthorized("the ticket is none of this server's"));
        };
        if of != *game {
            return Err(unauthorized("the ticket is for another game"));
        }
        if expires <= now {
            return Err(unauthorized("the ticket is too old"));
        }
        let used = &mut self.accounts.used;
        while used.first().is_some_and(|(over, _)| *over <= now) {
            used.pop_first();
        }
        let ticket = (expires, id);
        if used.contains(&ticket) {
            return Err(unauthorized("the ticket was used before"));
        }
        if used.len() >= self.config.max_used_tickets {
            return Err(self.full());
        }
        Ok(Shown { account: Some(account), opens: lobby, ticket: Some(ticket) })
    }

    /// Whether who has shown this may have another session. Then it has, and its ticket is used.
    pub(super) fn use_login(&mut self, shown: &Shown) -> Result<(), Refusal> {
        shown.account.as_ref().map_or(Ok(()), |account| self.admit_account(account))?;
        self.accounts.used.extend(shown.ticket);
        Ok(())
    }

    /// Whether another session may be this account. Then it is.
    fn admit_account(&mut self, account: &AccountId) -> Result<(), Refusal> {
        self.check_ban(account)?;
        let sessions = self.accounts.here.entry(account.clone()).or_default();
        if *sessions >= self.config.sessions_per_account.max(1) {
            return Err(Refusal::plain(ErrorCode::AccountInUse));
        }
        *sessions += 1;
        Ok(())
    }

    pub(super) fn check_ban(&mut self, account: &AccountId) -> Result<(), Refusal> {
        let now = self.unix_secs();
        match self.accounts.banned.get(account) {
            Some(until) if *until > now => {
                Err(Refusal::new(ErrorCode::Banned, "banned from this server"))
            }
            Some(_) => {
                self.accounts.banned.remove(account);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes a message of the account of this player, if it has one.
    pub(super) fn account_message(&mut self, peer: PeerId) -> Verdict {
        let account = self.sessions.get(&peer).and_then(|session| session.account.as_ref());
        let Some(account) = account else { return Verdict::Go };
        self.accounts.messages.take(account, self.now).map_or_else(Verdict::Wait, |()| Verdict::Go)
    }

    /// Beyond what is kept, the ban that is over first is forgotten.
    pub(super) fn ban(&mut self, account: AccountId, until: u64) {
        let banned = &mut self.accounts.banned;
        if banned.len() >= self.config.max_bans.max(1) && !banned.contains_key(&account) {
            let first = banned.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(account, _)| account.clone()) {
                banned.remove(&first);
            }
        }
        let its = |session: &super::Session| session.account.as_ref() == Some(&account);
        let sessions = self.sessions.iter().filter(|(_, session)| its(session));
        let peers: Vec<PeerId> = sessions.map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.dismiss(peer, Refusal::new(ErrorCode::Banned, "banned from this server"));
            self.end(peer, LeaveReason::Banned);
        }
        self.accounts.banned.insert(account, until);
    }

    pub(super) fn unban_account(&mut self, account: &AccountId) {
        self.accounts.banned.remove(account);
    }
}
