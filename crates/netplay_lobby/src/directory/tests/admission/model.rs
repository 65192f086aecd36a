//! Who may be in a lobby, as simply as it can be said. What happened later has larger numbers.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::lobby::{InviteToken, LobbyOptions, Rejoin, ResumeToken, Visibility};
use netplay_protocol::{Now, PeerId};

use super::SECOND;
use super::steps::Hosting;

pub(super) type Text = Option<&'static str>;

/// What a lobby is like, and who is kept out of it.
#[derive(Clone, Debug)]
pub(super) struct Lobby {
    pub(super) realm: usize,
    pub(super) options: LobbyOptions,
    pub(super) password: String,
    pub(super) playing: bool,
    pub(super) closes: Now,
    pub(super) out: BTreeMap<PeerId, (Rejoin, u64)>,
    pub(super) reserved: BTreeMap<PeerId, Now>,
    /// Invitations for somebody with which another session came, by whom they are for and when they were made.
    pub(super) claimed: BTreeSet<(PeerId, u64)>,
    pub(super) changed: u64,
}

/// A resume token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) resume: ResumeToken,
    pub(super) peer: PeerId,
    pub(super) given: u64,
    /// In seconds.
    pub(super) expires: u64,
    /// The lobby of its player, as it was then.
    pub(super) seat: Option<(u64, Lobby)>,
}

#[derive(Clone, Debug)]
pub(super) struct Invite {
    pub(super) token: InviteToken,
    pub(super) lobby: u64,
    pub(super) to: Option<PeerId>,
    pub(super) made: u64,
    /// By which start of the server.
    pub(super) boot: u32,
    /// In seconds.
    pub(super) expires: u64,
}

/// How somebody may have got in.
pub(super) enum Way {
    Not,
    New(Lobby),
    Quick(Lobby),
    Code(Text, Option<Invite>),
    Place { host: bool },
    Back(Token),
}

impl Invite {
    pub(super) fn counts(&self, lobby: u64, secs: u64) -> bool {
        self.lobby == lobby && self.expires > secs
    }
}

impl Lobby {
    /// By what somebody gets in who has a code, or why it must not.
    pub(super) fn lets_in(
        &self,
        (peer, stands_for): (PeerId, PeerId),
        plays: bool,
        (password, invited): (Text, Option<u64>),
        now: Now,
    ) -> Result<&'static str, &'static str> {
        let hidden = self.options.visibility == Visibility::Hidden;
        let late = plays && self.is_late();
        let wrong = !self.password.is_empty() && password != Some(&*self.password);
        let out = self.out.get(&peer).or_else(|| self.out.get(&stands_for));
        match out {
            Some((Rejoin::Never, _)) => return Err("it is banned"),
            Some((_, at)) if invited.is_none_or(|made| made < *at) => {
                return Err("no invitation was made since it was put out");
            }
            _ => {}
        }
        let mut kept = [peer, stands_for].into_iter().filter_map(|of| self.reserved.get(&of));
        if kept.any(|until| *until > now) {
            let needed = self.options.locked || late || hidden || wrong;
            return Ok(if needed { "reservation" } else { "code" });
        }
        match () {
            () if self.options.locked => Err("the lobby is locked"),
            () if late => Err("the match runs"),
            () if invited.is_some() && (hidden || wrong || out.is_some()) => Ok("invitation"),
            () if invited.is_some() => Ok("code"),
            () if hidden => Err("the lobby is hidden"),
            () if wrong => Err("the password is wrong"),
            () if !self.password.is_empty() => Ok("password"),
            () => Ok("code"),
        }
    }

    /// Whether a match runs that nobody may join.
    pub(super) fn is_late(&self) -> bool {
        self.playing && self.options.no_late_join
    }

    /// Whether who has a place of this number was put out of it later.
    pub(super) fn put_out_since(&self, peer: PeerId, number: u64) -> bool {
        self.out.get(&peer).is_some_and(|(_, at)| *at > number)
    }

    pub(super) fn bans(&self, peer: PeerId) -> bool {
        matches!(self.out.get(&peer), Some((Rejoin::Never, _)))
    }

    /// Whether so many may play, or watch.
    pub(super) fn has_room(&self, plays: bool, count: usize) -> bool {
        let most = if plays { self.options.capacity } else { self.options.spectators };
        count <= most.into()
    }

    /// As it is when a token brings it back, in which times are whole seconds.
    pub(super) fn brought_back(&self) -> Self {
        let reserved = self.reserved.iter().map(|(peer, until)| (*peer, *until + SECOND));
        let (reserved, claimed) = (reserved.collect(), BTreeSet::new());
        Self { reserved, claimed, closes: self.closes + SECOND, ..self.clone() }
    }

    /// Its host has done this to somebody.
    pub(super) fn change(&mut self, what: &Hosting, whom: PeerId, is_in: bool, now: Now) {
        match what {
            Hosting::Kick(Rejoin::Free) | Hosting::Unban => drop(self.out.remove(&whom)),
            Hosting::Kick(rejoin) => drop(self.out.insert(whom, (*rejoin, self.changed))),
            Hosting::Promote => {}
            Hosting::Reserve { secs } => {
                let until = now + Duration::from_secs((*secs).into());
                self.reserved = (!is_in).then_some((whom, until)).into_iter().collect();
            }
            Hosting::Update(change) => {
                self.options = change.applied(&self.options).expect("the server took it");
                if let Some(password) = &change.password {
                    self.password.clone_from(&password.0);
                }
            }
            Hosting::Countdown => self.playing = true,
            Hosting::Playing(playing) => self.playing = *playing,
        }
    }
}
