//! All lobbies of a node, with the indexes by which players find the open ones.

use core::cmp::Reverse;
use core::ops::Bound;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::lobby::{Filter, LobbyOptions, LobbySummary, Search, Tier, Value};
use netplay_protocol::{AccountId, DataKey, LobbyCode, Now, PeerId};

use super::search::Found;
use super::{Lobby, Newcomer, Realm, Returning};
use crate::token::{Moment, Seat};

/// Order of open lobbies: without a password, by capacity, then fullest, then oldest.
type Place = (bool, u8, Reverse<u8>, u64);

/// Order of found lobbies: fullest, then oldest.
pub(super) type Rank = (Reverse<u8>, u64);

const fn rank_of((_, _, members, created): Place) -> Rank {
    (members, created)
}

/// Open lobbies that one quick join or search looks at, at most: of those that come first by its order, if an
/// index has that order, and else of the fullest and oldest.
pub(super) const LOOKED_AT_MAX: usize = 20_000;

/// The open lobbies of one realm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    places: BTreeMap<Place, LobbyCode>,
    /// As searches show them that ask for no order.
    pub(super) ranks: BTreeMap<Rank, LobbyCode>,
    /// By public value. Nothing in it is empty.
    pub(super) values: BTreeMap<DataKey, BTreeMap<Value, BTreeSet<LobbyCode>>>,
}

/// All lobbies of a node. None of them is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lobbies {
    all: BTreeMap<LobbyCode, Lobby>,
    open: BTreeMap<Realm, Open>,
    created: u64,
    /// Those of before that ended since, by their ids: no token brings them back.
    ended: BTreeSet<u64>,
}

/// Lobbies of before that ended, at most, any of them being forgotten beyond that: each had a player of before, and
/// comes back once.
const ENDED_MAX: usize = 65_536;

/// What the indexes have of a lobby.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    place: Option<Place>,
    values: Vec<(DataKey, Value)>,
    /// As of which revision.
    revision: u64,
}

/// What a new lobby is.
pub(crate) struct NewLobby {
    pub(crate) id: u64,
    pub(crate) realm: Realm,
    pub(crate) options: LobbyOptions,
    pub(crate) password: Option<String>,
    pub(crate) closes: Now,
}

impl Lobby {
    fn place(&self) -> Option<Place> {
        let (password, capacity) = (self.password.is_some(), self.options.capacity);
        let found = self.is_open() && !self.members.is_empty();
        found.then_some((password, capacity, Reverse(self.len()), self.created))
    }

    fn public_values(&self) -> Vec<(DataKey, Value)> {
        let public = self.data.iter().filter(|(_, entry)| entry.tier == Tier::Public);
        public.map(|(key, entry)| (key.clone(), entry.value.clone())).collect()
    }
}

impl Open {
    /// Takes a lobby as it is now.
    fn list(&mut self, code: LobbyCode, lobby: &mut Lobby) {
        let place = lobby.place();
        let listed = core::mem::take(&mut lobby.listed);
        if place != listed.place {
            if let Some(place) = listed.place {
                self.places.remove(&place);
                self.ranks.remove(&rank_of(place));
            }
            if let Some(place) = place {
                self.places.insert(place, code);
                self.ranks.insert(rank_of(place), code);
            }
        }
        // A member that comes or goes changes no values.
        let same = place.is_some() == listed.place.is_some() && lobby.revision == listed.revision;
        let values = if same {
            listed.values
        } else {
            listed.values.into_iter().for_each(|value| self.forget_value(code, value));
            let values = place.map(|_| lobby.public_values()).unwrap_or_default();
            values.iter().cloned().for_each(|value| self.add_value(code, value));
            values
        };
        lobby.listed = Listed { place, values, revision: lobby.revision };
    }

    fn add_value(&mut self, code: LobbyCode, (key, value): (DataKey, Value)) {
        self.values.entry(key).or_default().entry(value).or_default().insert(code);
    }

    fn forget_value(&mut self, code: LobbyCode, (key, value): (DataKey, Value)) {
        let Entry::Occupied(mut values) = self.values.entry(key) else { return };
        if let Entry::Occupied(mut codes) = values.get_mut().entry(value) {
            codes.get_mut().remove(&code);
            if codes.get().is_empty() {
                codes.remove();
            }
        }
        if values.get().is_empty() {
            values.remove();
        }
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.values.is_empty()
    }
}

impl Lobbies {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether the lobby with this id came back, and ended.
    pub(crate) fn has_ended(&self, id: u64) -> bool {
        self.ended.contains(&id)
    }

    pub(crate) fn get(&self, code: LobbyCode) -> Option<&Lobby> {
        self.all.get(&code)
    }

    /// All from after this code on.
    pub(crate) fn after(
        &self,
        code: Option<LobbyCode>,
    ) -> impl Iterator<Item = (LobbyCode, &Lobby)> {
        let from = code.map_or(Bound::Unbounded, Bound::Excluded);
        self.all.range((from, Bound::Unbounded)).map(|(code, lobby)| (*code, lobby))
    }

    /// Adds a lobby under a code that no other has.
    pub(crate) fn create(
        &mut self,
        code: LobbyCode,
        new: NewLobby,
        host: PeerId,
        newcomer: Newcomer,
    ) {
        let mut lobby = self.empty(new, host);
        lobby.add(host, newcomer);
        self.put(code, lobby);
    }

    /// Makes a lobby anew that the server had before it was restarted, for the first of its members that
    /// is back.
    pub(crate) fn bring_back(
        &mut self,
        seat: &Seat,
        realm: Realm,
        (peer, returning): (PeerId, Returning),
        (until, closes): (Now, Now),
        moment: Moment,
    ) {
        let (options, password) = (seat.options.clone(), seat.password.clone());
        let new = NewLobby { id: seat.lobby, realm, options, password, closes };
        let mut lobby = self.empty(new, seat.host);
        // Nobody is there yet who would lose a seat.
        lobby.take_settings(seat, moment);
        (lobby.term, lobby.returning, lobby.came_back) = (seat.term, Some(until), true);
        // Hosts do not change every second: no term of before is as large.
        lobby.least_term = u32::try_from(moment.unix_secs()).unwrap_or(u32::MAX);
        lobby.put_back(peer, returning, seat, moment);
        self.put(seat.code, lobby);
    }

    fn empty(&mut self, new: NewLobby, host: PeerId) -> Lobby {
        self.created += 1;
        let NewLobby { id, realm, options, password, closes } = new;
        Lobby {
            id,
            realm,
            options,
            password,
            host,
            closes,
            term: 0,
            least_term: 0,
            returning: None,
            host_waits: None,
            came_back: false,
            left: BTreeSet::new(),
            playing: false,
            settings: 0,
            revision: 0,
            data: BTreeMap::new(),
            wrong: None,
            told: None,
            reserved: BTreeMap::new(),
            put_out: Vec::new(),
            claimed: BTreeMap::new(),
            ready_check: None,
            countdown: None,
            members: Vec::new(),
            numbers: Vec::new(),
            next_number: 0,
            reports: BTreeSet::new(),
            created: self.created,
            listed: Listed::default(),
        }
    }

    /// Changes a lobby, keeps the indexes right, and frees the lobby if nobody is left.
    pub(crate) fn change<R>(
        &mut self,
        code: LobbyCode,
        change: impl FnOnce(&mut Lobby) -> R,
    ) -> Option<R> {
        let lobby = self.all.get_mut(&code)?;
        let result = change(lobby);
        Self::list(&mut self.open, code, lobby);
        if lobby.members.is_empty() {
            self.ended.extend(lobby.came_back.then_some(lobby.id));
            self.all.remove(&code);
        }
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_first();
        }
        Some(result)
    }

    fn put(&mut self, code: LobbyCode, mut lobby: Lobby) {
        Self::list(&mut self.open, code, &mut lobby);
        self.all.insert(code, lobby);
    }

    fn list(open: &mut BTreeMap<Realm, Open>, code: LobbyCode, lobby: &mut Lobby) {
        // Most changes change nothing that others see.
        if lobby.place() == lobby.listed.place && lobby.revision == lobby.listed.revision {
            return;
        }
        let realm = lobby.realm.clone();
        let of_realm = open.entry(realm.clone()).or_default();
        of_realm.list(code, lobby);
        if of_realm.is_empty() {
            open.remove(&realm);
        }
    }

    /// The open lobby that a quick join takes: the fullest, then the oldest of those that fit and that
    /// do not keep this player out.
    pub(crate) fn find(
        &self,
        realm: &Realm,
        capacity: u8,
        filters: &[Filter],
        who: (PeerId, Option<&AccountId>),
    ) -> Option<LobbyCode> {
        let open = self.open.get(realm)?;
        let first = (false, capacity, Reverse(u8::MAX), 0);
        let last = (false, capacity, Reverse(0), u64::MAX);
        let mut places = open.places.range(first..=last).take(LOOKED_AT_MAX);
        let fits = |lobby: &Lobby| lobby.was_put_out(who.0, who.1).is_none() && lobby.fits(filters);
        places.find(|(_, code)| self.get(**code).is_some_and(fits)).map(|(_, code)| *code)
    }

    /// A page of the open lobbies that fit, of at most `max`, and whether others come after it.
    pub(crate) fn search(
        &self,
        realm: &Realm,
        search: &Search,
        max: usize,
    ) -> (Vec<LobbySummary>, bool) {
        let Some(open) = self.open.get(realm) else { return (Vec::new(), false) };
        let mut found = Found::new(self, search, max);
        found.look_through(open);
        found.page()
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LobbyCode, &Lobby)> {
        self.all.iter().map(|(code, lobby)| (*code, lobby))
    }

    /// Whether the indexes hold exactly what they should.
    #[cfg(test)]
    pub(crate) fn index_is_right(&self) -> bool {
        let mut expected: BTreeMap<Realm, Open> = BTreeMap::new();
        for (code, lobby) in &self.all {
            let Some(place) = lobby.place() else { continue };
            let open = expected.entry(lobby.realm.clone()).or_default();
            open.places.insert(place, *code);
            open.ranks.insert(rank_of(place), *code);
            for value in lobby.public_values() {
                open.add_value(*code, value);
            }
        }
        expected == self.open
    }
}
