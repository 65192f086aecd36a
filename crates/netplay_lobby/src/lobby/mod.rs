//! One lobby: who is in it, who may come, and what goes on.

mod all;
mod leading;
mod search;
mod start;

use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::lobby::{
    Changes, Entry, LeaveReason, LobbyData, LobbyOptions, LobbyState, LobbySummary, Member,
    MemberData, Rejoin, Tier, Visibility, apply,
};
use netplay_protocol::{AccountId, BuildId, DataKey, GameId, LobbyCode, Now, PeerId};
use serde::{Deserialize, Serialize};

use crate::config::millis;
use crate::io::LobbyView;
use crate::rate::Bucket;
use crate::token::{Moment, Outcast, Seat};

pub(crate) use all::{Lobbies, NewLobby};
pub(crate) use start::Ended;

/// Who is put out and how it may come back, at most: the oldest is forgotten. A host clicks.
const PUT_OUT_MAX: usize = 64;

/// Who is remembered to have left a lobby that came back, at most. Tokens of before are few.
const LEFT_MAX: usize = 256;

/// Invitations that have brought somebody in, and are not over, at most: beyond them, each lets in only whom it is
/// for.
const CLAIMED_MAX: usize = 256;

/// What the newest of them take of a token at most, in bytes, about: with the most that a lobby and a member
/// may say of themselves, and with a login, it still fits into `hello`.
const PUT_OUT_BYTES: usize = 1024;

/// Players see only lobbies of their own game and build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Realm {
    pub(crate) game: GameId,
    #[serde(default)]
    pub(crate) build: Option<BuildId>,
}

/// Somebody who was put out.
#[derive(Clone, Debug)]
pub(crate) struct PutOut {
    pub(crate) peer: PeerId,
    /// Whatever session it comes with.
    pub(crate) account: Option<AccountId>,
    pub(crate) rejoin: Rejoin,
    /// When.
    pub(crate) at: Now,
}

impl PutOut {
    fn is(&self, peer: PeerId, account: Option<&AccountId>) -> bool {
        self.peer == peer || (account.is_some() && self.account.as_ref() == account)
    }
}

/// One lobby. It has a member and at most `options.capacity` players; its host is one of them, unless it
/// is coming back.
#[derive(Clone, Debug)]
pub(crate) struct Lobby {
    /// No other lobby ever has it, whatever its code.
    pub(crate) id: u64,
    pub(crate) realm: Realm,
    pub(crate) options: LobbyOptions,
    /// What its password comes to with the server's key.
    pub(crate) password: Option<String>,
    pub(crate) host: PeerId,
    /// Greater with every other host.
    pub(crate) term: u32,
    /// Until when an offline host leads on.
    host_waits: Option<Now>,
    /// Of a lobby that came back, the least term of the next host: nobody has seen it before.
    least_term: u32,
    /// It is coming back after a restart of the server, until then: only those may enter who were in it,
    /// and the host may not be back.
    pub(crate) returning: Option<Now>,
    /// The server had it before it was restarted.
    pub(crate) came_back: bool,
    /// When it is closed.
    pub(crate) closes: Now,
    /// Its host says that a match runs.
    pub(crate) playing: bool,
    /// When it was decided what follows, in microseconds of Unix time: its options, its password, whether it
    /// plays, for whom seats are kept and who was put out.
    settings: u64,
    /// Who left since it came back: its token of before does not bring it back.
    left: BTreeSet<PeerId>,
    /// How often its values have changed.
    pub(crate) revision: u64,
    pub(crate) data: LobbyData,
    /// Wrong passwords.
    pub(crate) wrong: Option<Bucket>,
    /// What members have been told of.
    pub(crate) told: Option<Bucket>,
    /// For whom seats are kept, and until when.
    reserved: BTreeMap<PeerId, Now>,
    put_out: Vec<PutOut>,
    /// Invitations for somebody with which another session came in its place: for whom, when they were made, and
    /// when they are over, in seconds of Unix time.
    claimed: BTreeMap<(PeerId, Now), u64>,
    ready_check: Option<Now>,
    countdown: Option<Now>,
    /// In the order in which they joined.
    members: Vec<Member>,
    /// The numbers of the members, in the same order.
    numbers: Vec<u32>,
    next_number: u32,
    /// Who was reported lost, and by whom.
    reports: BTreeSet<(PeerId, PeerId)>,
    /// Older lobbies have smaller numbers.
    created: u64,
    listed: all::Listed,
}

/// A member that comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Newcomer {
    pub(crate) epoch: u32,
    pub(crate) account: Option<AccountId>,
    pub(crate) spectates: bool,
    pub(crate) data: MemberData,
}

/// A member that comes back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Returning {
    pub(crate) epoch: u32,
    pub(crate) account: Option<AccountId>,
}

impl Lobby {
    /// Players.
    pub(crate) fn len(&self) -> u8 {
        let players = self.members.iter().filter(|member| member.slot.is_some()).count();
        u8::try_from(players).unwrap_or(u8::MAX)
    }

    pub(crate) fn spectators(&self) -> u8 {
        u8::try_from(self.members.len()).unwrap_or(u8::MAX) - self.len()
    }

    /// Seats that nobody has, and that are kept for nobody else.
    pub(crate) fn free_for(&self, peer: Option<PeerId>) -> u8 {
        let kept = self.reserved.keys().filter(|of| Some(**of) != peer).count();
        let kept = u8::try_from(kept).unwrap_or(u8::MAX);
        self.options.capacity.saturating_sub(self.len()).saturating_sub(kept)
    }

    pub(crate) fn has(&self, peer: PeerId) -> bool {
        self.members.iter().any(|member| member.peer == peer)
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(crate) fn member(&self, peer: PeerId) -> Option<&Member> {
        self.members.iter().find(|member| member.peer == peer)
    }

    pub(crate) fn member_mut(&mut self, peer: PeerId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.peer == peer)
    }

    /// Seats a newcomer; [`Self::free_for`] it there must be one.
    pub(crate) fn add(&mut self, peer: PeerId, newcomer: Newcomer) {
        self.reserved.remove(&peer);
        let slot = if newcomer.spectates { None } else { self.free_slot() };
        let Newcomer { epoch, account, data, .. } = newcomer;
        let member = Member { slot, account, data, ..Member::new(peer, epoch) };
        self.put(member, self.next_number);
    }

    /// Something is decided that all members have in their tokens.
    pub(crate) fn decided(&mut self, moment: Moment) {
        self.settings = moment.unix_micros().max(self.settings.saturating_add(1));
    }

    /// Whether a token says what was decided after all that is known here.
    pub(crate) const fn is_news(&self, seat: &Seat) -> bool {
        seat.settings > self.settings
    }

    /// Takes what a newer token says of the lobby. Who sits where its bearer sat, or where no seat is any more, has
    /// none for now: these are given back. Who was put out has none for good.
    fn take_settings(&mut self, seat: &Seat, moment: Moment) -> Vec<PeerId> {
        (self.options, self.password) = (seat.options.clone(), seat.password.clone());
        (self.playing, self.settings) = (seat.playing, seat.settings);
        let reserved = seat.reserved.iter().map(|(peer, until)| (*peer, moment.at_unix(*until)));
        self.reserved = reserved.collect();
        // Invitations of before the restart count as made when the server started: none of them counts.
        let at = moment.now.max(Now::from_micros(1));
        let out = |outcast: &Outcast| {
            let Outcast { peer, account, rejoin } = outcast.clone();
            PutOut { peer, account, rejoin, at }
        };
        self.put_out = seat.put_out.iter().take(PUT_OUT_MAX).map(out).collect();
        let mut displaced = Vec::new();
        for member in &mut self.members {
            let is_out =
                self.put_out.iter().any(|out| out.is(member.peer, member.account.as_ref()));
            let taken = member.slot.is_some()
                && (member.slot >= Some(self.options.capacity) || member.slot == seat.slot);
            if is_out || taken {
                member.slot = None;
                displaced.extend((!is_out).then_some(member.peer));
            }
        }
        displaced
    }

    /// Puts a member where it was before, if that seat is still there and free.
    pub(crate) fn put_back(
        &mut self,
        peer: PeerId,
        returning: Returning,
        seat: &Seat,
        moment: Moment,
    ) {
        let displaced = match self.is_news(seat) {
            true => self.take_settings(seat, moment),
            false => Vec::new(),
        };
        let Returning { epoch, account } = returning;
        let slot = seat
            .slot
            .and_then(|slot| if self.is_free(slot) { Some(slot) } else { self.free_slot() });
        let Seat { team, role, data, .. } = seat.clone();
        let member = Member { slot, account, team, role, data, ..Member::new(peer, epoch) };
        self.put(member, seat.number);
        for peer in displaced {
            let slot = self.free_slot();
            self.member_mut(peer).into_iter().for_each(|member| member.slot = slot);
        }
        // Who comes later finds another host, and what that has said.
        let returns = self.returning.is_some();
        if seat.term > self.term {
            if returns {
                (self.term, self.host) = (seat.term, seat.host);
            } else {
                // It has seen this term, with another host.
                self.promote(self.host);
            }
        }
        if returns && seat.revision > self.revision {
            self.revision = seat.revision;
            self.data = seat.lobby_data.clone();
        }
    }

    fn put(&mut self, member: Member, number: u32) {
        let place = self.numbers.partition_point(|other| *other <= number);
        self.members.insert(place, member);
        self.numbers.insert(place, number);
        self.next_number = self.next_number.max(number.saturating_add(1));
    }

    fn free_slot(&self) -> Option<u8> {
        (0..self.options.capacity).find(|slot| self.is_free(*slot))
    }

    /// Whether this seat exists, and nobody has it.
    pub(crate) fn is_free(&self, slot: u8) -> bool {
        let taken = self.members.iter().any(|member| member.slot == Some(slot));
        slot < self.options.capacity && !taken
    }

    /// What a member's token says of its place.
    pub(crate) fn seat(&self, code: LobbyCode, peer: PeerId, moment: Moment) -> Option<Seat> {
        let place = self.members.iter().position(|member| member.peer == peer)?;
        let member = &self.members[place];
        // One that knows all of them is enough, and its token is renewed when they change.
        let is_host = peer == self.host;
        Some(Seat {
            lobby: self.id,
            code,
            options: self.options.clone(),
            password: self.password.clone(),
            playing: self.playing,
            put_out: self.newest_outcasts(),
            reserved: self
                .reserved
                .iter()
                .map(|(peer, until)| (*peer, moment.unix_of(*until)))
                .collect(),
            settings: self.settings,
            closes: Some(moment.unix_of(self.closes)),
            number: self.numbers[place],
            slot: member.slot,
            team: member.team,
            role: member.role.clone(),
            data: member.data.clone(),
            host: self.host,
            term: self.term,
            revision: if is_host { self.revision } else { 0 },
            lobby_data: if is_host { self.data.clone() } else { LobbyData::new() },
        })
    }

    /// Of those who were put out, as many as a token has room for, the oldest of them first.
    fn newest_outcasts(&self) -> Vec<Outcast> {
        let mut bytes = 0;
        let fits = |out: &&PutOut| {
            // In a token a byte may take two.
            bytes += 80 + 2 * out.account.as_ref().map_or(0, |account| account.as_str().len());
            bytes <= PUT_OUT_BYTES
        };
        let newest = self.put_out.iter().rev().take_while(fits).count();
        let outcast = |out: &PutOut| {
            let PutOut { peer, account, rejoin, .. } = out.clone();
            Outcast { peer, account, rejoin }
        };
        self.put_out[self.put_out.len() - newest..].iter().map(outcast).collect()
    }

    /// Members who are none, as a newer token says: they were put out, or there is no seat for them any more.
    pub(crate) fn no_members(&self) -> Vec<(PeerId, LeaveReason)> {
        let mut watch = 0;
        let why = |member: &Member| {
            watch += u8::from(member.slot.is_none());
            let out = self.was_put_out(member.peer, member.account.as_ref());
            match out.map(|out| out.rejoin) {
                Some(Rejoin::Never) => Some((member.peer, LeaveReason::Banned)),
                Some(_) => Some((member.peer, LeaveReason::Kicked)),
                None if member.slot.is_none() && watch > self.options.spectators => {
                    Some((member.peer, LeaveReason::Left))
                }
                None => None,
            }
        };
        self.members.iter().filter_map(why).collect()
    }

    /// Whether this player left since the lobby came back.
    pub(crate) fn has_left(&self, peer: PeerId) -> bool {
        self.left.contains(&peer)
    }

    /// Who was put out has been let in again.
    pub(crate) fn pardon(&mut self, peer: PeerId, account: Option<&AccountId>) {
        self.put_out.retain(|other| !other.is(peer, account));
    }

    /// The lobby is back as far as it will be. Gives the new host if the old one is missing.
    pub(crate) fn returned(&mut self) -> Option<PeerId> {
        self.returning = None;
        if self.has(self.host) { None } else { self.elect() }
    }

    /// Removes a member. If it was the host, gives the new one.
    pub(crate) fn remove(&mut self, peer: PeerId) -> Option<PeerId> {
        if let Some(place) = self.members.iter().position(|member| member.peer == peer) {
            self.members.remove(place);
            self.numbers.remove(place);
            if self.came_back && self.left.len() < LEFT_MAX {
                self.left.insert(peer);
            }
        }
        self.reports.retain(|(lost, by)| *lost != peer && *by != peer);
        if self.host == peer { self.elect() } else { None }
    }

    /// A member that comes back is lost to nobody.
    pub(crate) fn set_online(&mut self, peer: PeerId, online: bool, epoch: u32) {
        if let Some(member) = self.member_mut(peer) {
            (member.online, member.epoch) = (online, epoch);
        }
        if online {
            self.reports.retain(|(lost, _)| *lost != peer);
        }
    }

    /// Keeps seats for these, and no others, until then.
    pub(crate) fn reserve(&mut self, peers: &BTreeSet<PeerId>, until: Now) {
        self.reserved = peers.iter().map(|peer| (*peer, until)).collect();
    }

    /// Whether an invitation has brought somebody in already who stands for this player.
    pub(crate) fn is_claimed(&self, of: PeerId, made: Now, unix_secs: u64) -> bool {
        let open = self.claimed.values().filter(|expires| **expires > unix_secs).count();
        self.claimed.contains_key(&(of, made)) || open >= CLAIMED_MAX
    }

    /// Somebody has come who stands for this player: nobody else does, and the seat that was kept is its.
    pub(crate) fn claim(&mut self, of: PeerId, made: Now, expires: u64, unix_secs: u64) {
        self.claimed.retain(|_, expires| *expires > unix_secs);
        self.claimed.insert((of, made), expires);
        self.reserved.remove(&of);
    }

    pub(crate) fn is_reserved(&self, peer: PeerId) -> bool {
        self.reserved.contains_key(&peer)
    }

    /// Forgets reservations that are over.
    pub(crate) fn expire_reservations(&mut self, now: Now) {
        self.reserved.retain(|_, until| *until > now);
    }

    /// Remembers how somebody who was put out may come back.
    pub(crate) fn put_out(&mut self, out: PutOut) {
        let PutOut { peer, account, rejoin, .. } = &out;
        self.put_out.retain(|other| !other.is(*peer, account.as_ref()));
        if *rejoin == Rejoin::Free {
            return;
        }
        if self.put_out.len() == PUT_OUT_MAX {
            self.put_out.remove(0);
        }
        self.put_out.push(out);
    }

    pub(crate) fn was_put_out(&self, peer: PeerId, account: Option<&AccountId>) -> Option<&PutOut> {
        self.put_out.iter().find(|other| other.is(peer, account))
    }

    /// Changes values. Gives what members see of it, and what the host sees of it.
    pub(crate) fn set_data(
        &mut self,
        changes: &Changes<Entry>,
    ) -> (Changes<Entry>, Changes<Entry>) {
        let old = self.data.clone();
        apply(&mut self.data, changes);
        self.revision = self.revision.saturating_add(1);
        let seen = |most| self.changes(changes.keys(), &old, most);
        (seen(Tier::Members), seen(Tier::Host))
    }

    /// How these values changed for who sees so much.
    fn changes<'k>(
        &self,
        keys: impl Iterator<Item = &'k DataKey>,
        old: &LobbyData,
        most: Tier,
    ) -> Changes<Entry> {
        let change = |key: &DataKey| {
            let new = self.data.get(key).filter(|entry| entry.tier <= most).cloned();
            let was = old.get(key).is_some_and(|entry| entry.tier <= most);
            (new.is_some() || was).then(|| (key.clone(), new))
        };
        keys.filter_map(change).collect()
    }

    /// How all values changed since they were these, for this member.
    pub(crate) fn changes_since(&self, old: &LobbyData, of: PeerId) -> Changes<Entry> {
        let most = if of == self.host { Tier::Host } else { Tier::Members };
        self.changes(old.keys().chain(self.data.keys()), old, most)
    }

    /// The values that only the host sees.
    pub(crate) fn secrets(&self) -> Changes<Entry> {
        let secrets = self.data.iter().filter(|(_, entry)| entry.tier == Tier::Host);
        secrets.map(|(key, entry)| (key.clone(), Some(entry.clone()))).collect()
    }

    /// The lobby as this member sees it.
    pub(crate) fn state(&self, code: LobbyCode, now: Now, of: PeerId) -> LobbyState {
        let most = if of == self.host { Tier::Host } else { Tier::Members };
        let data = self.data.iter().filter(|(_, entry)| entry.tier <= most);
        let left = |until: Option<Now>| until.map(|until| millis(until.since(now)));
        LobbyState {
            code,
            options: self.options.clone(),
            password: self.password.is_some(),
            host: self.host,
            term: self.term,
            members: self.members.clone(),
            playing: self.playing,
            revision: self.revision,
            data: data.map(|(key, entry)| (key.clone(), entry.clone())).collect(),
            ready_check_ms: left(self.ready_check),
            countdown_ms: left(self.countdown),
        }
    }

    /// The lobby as who runs the server sees it.
    pub(crate) fn view(&self, code: LobbyCode, now: Now) -> LobbyView {
        let Realm { game, build } = self.realm.clone();
        LobbyView { game, build, state: self.state(code, now, self.host) }
    }

    /// The lobby as everybody sees it who finds it.
    pub(crate) fn summary(&self, code: LobbyCode) -> LobbySummary {
        let public = self.data.iter().filter(|(_, entry)| entry.tier == Tier::Public);
        LobbySummary {
            code,
            name: self.options.name.clone(),
            members: self.len(),
            capacity: self.options.capacity,
            password: self.password.is_some(),
            playing: self.playing,
            data: public.map(|(key, entry)| (key.clone(), entry.value.clone())).collect(),
        }
    }

    /// Where quick join and searches find it: public and open, with a free seat, and with somebody there.
    /// A lobby of players that all dropped would keep the next ones from meeting.
    fn is_open(&self) -> bool {
        self.options.visibility == Visibility::Public
            && !self.options.locked
            && !(self.playing && self.options.no_late_join)
            && self.returning.is_none()
            && self.free_for(None) > 0
            && self.members.iter().any(|member| member.online)
    }

    /// When something is due by itself.
    pub(crate) fn deadline(&self) -> Now {
        let others = [self.returning, self.host_waits, self.ready_check, self.countdown];
        let reserved = self.reserved.values().copied();
        others.into_iter().flatten().chain(reserved).fold(self.closes, Ord::min)
    }
}
