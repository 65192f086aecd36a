//! One lobby, and all lobbies of a node with the index of those that players may find.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::lobby::{LobbyOptions, LobbyState, LobbySummary, Member};
use netplay_protocol::{GameId, LobbyCode, PeerId};

use crate::token::Seat;

/// One lobby. It has a member and at most `options.capacity`; its host is one of them, unless it is
/// coming back.
#[derive(Clone, Debug)]
pub(crate) struct Lobby {
    /// No other lobby ever has it, whatever its code.
    pub(crate) id: u64,
    pub(crate) game: GameId,
    pub(crate) options: LobbyOptions,
    pub(crate) host: PeerId,
    /// How often the host has changed.
    pub(crate) term: u32,
    /// It is coming back after a restart of the server: only those may enter who were in it, and the
    /// host may not be back.
    pub(crate) returning: bool,
    /// In the order in which they joined.
    members: Vec<Member>,
    /// The numbers of the members, in the same order.
    numbers: Vec<u32>,
    next_number: u32,
    /// Who was reported lost, and by whom.
    reports: BTreeSet<(PeerId, PeerId)>,
    /// Older lobbies have smaller numbers.
    created: u64,
}

impl Lobby {
    fn len(&self) -> u8 {
        u8::try_from(self.members.len()).unwrap_or(u8::MAX)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.options.capacity
    }

    pub(crate) fn has(&self, peer: PeerId) -> bool {
        self.members.iter().any(|member| member.peer == peer)
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(crate) fn add(&mut self, peer: PeerId, epoch: u32) {
        self.put(peer, epoch, self.next_number);
    }

    /// Puts a member where it was before.
    pub(crate) fn put_back(&mut self, peer: PeerId, epoch: u32, seat: &Seat) {
        self.put(peer, epoch, seat.number);
        if seat.term > self.term {
            (self.term, self.host) = (seat.term, seat.host);
        }
    }

    fn put(&mut self, peer: PeerId, epoch: u32, number: u32) {
        let place = self.numbers.partition_point(|other| *other <= number);
        self.members.insert(place, Member { peer, online: true, epoch });
        self.numbers.insert(place, number);
        self.next_number = self.next_number.max(number.saturating_add(1));
    }

    /// What a member's token says of its place.
    pub(crate) fn seat(&self, code: LobbyCode, peer: PeerId) -> Option<Seat> {
        let place = self.members.iter().position(|member| member.peer == peer)?;
        Some(Seat {
            lobby: self.id,
            code,
            options: self.options.clone(),
            number: self.numbers[place],
            host: self.host,
            term: self.term,
        })
    }

    /// The lobby is back as far as it will be. Gives the new host if the old one is missing.
    pub(crate) fn returned(&mut self) -> Option<PeerId> {
        self.returning = false;
        if self.has(self.host) { None } else { self.elect() }
    }

    /// Whoever is here longest leads, if possible among those that are online.
    fn elect(&mut self) -> Option<PeerId> {
        let host = self.members.iter().find(|member| member.online).or(self.members.first())?;
        self.host = host.peer;
        self.term = self.term.saturating_add(1);
        Some(self.host)
    }

    /// Removes a member. If it was the host, gives the new one.
    pub(crate) fn remove(&mut self, peer: PeerId) -> Option<PeerId> {
        if let Some(place) = self.members.iter().position(|member| member.peer == peer) {
            self.members.remove(place);
            self.numbers.remove(place);
        }
        self.reports.retain(|(lost, by)| *lost != peer && *by != peer);
        if self.host == peer { self.elect() } else { None }
    }

    /// A member that comes back is lost to nobody.
    pub(crate) fn set_online(&mut self, peer: PeerId, online: bool, epoch: u32) {
        if let Some(member) = self.members.iter_mut().find(|member| member.peer == peer) {
            (member.online, member.epoch) = (online, epoch);
        }
        if online {
            self.reports.retain(|(lost, _)| *lost != peer);
        }
    }

    pub(crate) fn report(&mut self, lost: PeerId, by: PeerId) {
        if lost != by && self.has(lost) {
            self.reports.insert((lost, by));
        }
    }

    /// An offline member that every online member has lost, unless its seat is kept; nobody online
    /// means nobody knows.
    pub(crate) fn lost(&self) -> Option<PeerId> {
        if self.options.seat_secs > 0 || !self.members.iter().any(|member| member.online) {
            return None;
        }
        let lost_to_all = |lost: PeerId| {
            let mut others = self.members.iter().filter(|member| member.online);
            others.all(|other| self.reports.contains(&(lost, other.peer)))
        };
        let mut offline = self.members.iter().filter(|member| !member.online);
        offline.find(|member| lost_to_all(member.peer)).map(|member| member.peer)
    }

    pub(crate) fn state(&self, code: LobbyCode) -> LobbyState {
        LobbyState {
            code,
            options: self.options.clone(),
            host: self.host,
            members: self.members.clone(),
        }
    }

    /// Where quick join and lists find it: public, with a free seat, and with somebody there. A
    /// lobby of players that all dropped would keep the next ones from meeting.
    fn place(&self) -> Option<Place> {
        let found = self.options.public
            && !self.returning
            && !self.is_full()
            && self.members.iter().any(|member| member.online);
        found.then_some((self.options.capacity, Reverse(self.len()), self.created))
    }
}

/// Order of open lobbies: by capacity, then fullest, then oldest.
type Place = (u8, Reverse<u8>, u64);

/// All lobbies of a node. None of them is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lobbies {
    all: BTreeMap<LobbyCode, Lobby>,
    open: BTreeMap<GameId, BTreeMap<Place, LobbyCode>>,
    created: u64,
}

impl Lobbies {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, code: LobbyCode) -> Option<&Lobby> {
        self.all.get(&code)
    }

    /// Adds a lobby under a code that no other has.
    pub(crate) fn create(
        &mut self,
        code: LobbyCode,
        id: u64,
        game: GameId,
        options: LobbyOptions,
        host: PeerId,
        epoch: u32,
    ) {
        let mut lobby = self.empty(id, game, options, host);
        lobby.add(host, epoch);
        self.put(code, lobby);
    }

    /// Makes a lobby anew that the server had before it was restarted, for the first of its members that
    /// is back.
    pub(crate) fn bring_back(&mut self, game: GameId, seat: &Seat, peer: PeerId, epoch: u32) {
        let mut lobby = self.empty(seat.lobby, game, seat.options.clone(), seat.host);
        lobby.term = seat.term;
        lobby.returning = true;
        lobby.put_back(peer, epoch, seat);
        self.put(seat.code, lobby);
    }

    fn empty(&mut self, id: u64, game: GameId, options: LobbyOptions, host: PeerId) -> Lobby {
        self.created += 1;
        Lobby {
            id,
            game,
            options,
            host,
            term: 0,
            returning: false,
            members: Vec::new(),
            numbers: Vec::new(),
            next_number: 0,
            reports: BTreeSet::new(),
            created: self.created,
        }
    }

    /// Changes a lobby, keeps the index right, and frees the lobby if nobody is left.
    pub(crate) fn change<R>(
        &mut self,
        code: LobbyCode,
        change: impl FnOnce(&mut Lobby) -> R,
    ) -> Option<R> {
        let mut lobby = self.all.remove(&code)?;
        if let Some(place) = lobby.place()
            && let Some(open) = self.open.get_mut(&lobby.game)
        {
            open.remove(&place);
            if open.is_empty() {
                self.open.remove(&lobby.game);
            }
        }
        let result = change(&mut lobby);
        if !lobby.members.is_empty() {
            self.put(code, lobby);
        }
        Some(result)
    }

    fn put(&mut self, code: LobbyCode, lobby: Lobby) {
        if let Some(place) = lobby.place() {
            self.open.entry(lobby.game.clone()).or_default().insert(place, code);
        }
        self.all.insert(code, lobby);
    }

    /// The open lobby that a quick join takes.
    pub(crate) fn find(&self, game: &GameId, capacity: u8) -> Option<LobbyCode> {
        self.open_of(game, capacity).next().map(|(_, code)| *code)
    }

    /// Open lobbies of a game, fullest first, then oldest.
    pub(crate) fn list(&self, game: &GameId, max: usize) -> Vec<LobbySummary> {
        // The index is sorted within a capacity, so the first `max` of each are enough.
        let capacities = 1..=netplay_protocol::limits::LOBBY_MEMBERS_MAX;
        let mut found: Vec<(Place, LobbyCode)> = capacities
            .flat_map(|capacity| self.open_of(game, capacity).take(max))
            .map(|(place, code)| (*place, *code))
            .collect();
        found.sort_unstable_by_key(|((_, members, created), _)| (*members, *created));
        let summary = |(_, code)| {
            let lobby = self.all.get(&code)?;
            let name = lobby.options.name.clone();
            let (members, capacity) = (lobby.len(), lobby.options.capacity);
            Some(LobbySummary { code, name, members, capacity })
        };
        found.into_iter().take(max).filter_map(summary).collect()
    }

    fn open_of(&self, game: &GameId, capacity: u8) -> impl Iterator<Item = (&Place, &LobbyCode)> {
        let first = (capacity, Reverse(u8::MAX), 0);
        let last = (capacity, Reverse(0), u64::MAX);
        self.open.get(game).into_iter().flat_map(move |open| open.range(first..=last))
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LobbyCode, &Lobby)> {
        self.all.iter().map(|(code, lobby)| (*code, lobby))
    }

    /// Whether the index holds exactly what it should.
    #[cfg(test)]
    pub(crate) fn index_is_right(&self) -> bool {
        let mut expected: BTreeMap<GameId, BTreeMap<Place, LobbyCode>> = BTreeMap::new();
        for (code, lobby) in &self.all {
            if let Some(place) = lobby.place() {
                expected.entry(lobby.game.clone()).or_default().insert(place, *code);
            }
        }
        expected == self.open
    }
}
