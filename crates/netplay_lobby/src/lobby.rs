//! One lobby, and all lobbies of a node with the index of those that players may find.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::lobby::{LobbyOptions, LobbyState, LobbySummary, Member};
use netplay_protocol::{GameId, LobbyCode, PeerId};

/// One lobby. It has a member and at most `options.capacity`; its host is one of them.
#[derive(Clone, Debug)]
pub(crate) struct Lobby {
    pub(crate) game: GameId,
    pub(crate) options: LobbyOptions,
    pub(crate) host: PeerId,
    members: Vec<Member>,
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

    pub(crate) fn add(&mut self, peer: PeerId) {
        self.members.push(Member { peer, online: true });
    }

    /// Removes a member. If it was the host, gives the new one: whoever is here longest, if
    /// possible among those that are online.
    pub(crate) fn remove(&mut self, peer: PeerId) -> Option<PeerId> {
        self.members.retain(|member| member.peer != peer);
        self.reports.retain(|(lost, by)| *lost != peer && *by != peer);
        if self.host != peer {
            return None;
        }
        let host = self.members.iter().find(|member| member.online).or(self.members.first())?;
        self.host = host.peer;
        Some(self.host)
    }

    /// A member that comes back is lost to nobody.
    pub(crate) fn set_online(&mut self, peer: PeerId, online: bool) {
        if let Some(member) = self.members.iter_mut().find(|member| member.peer == peer) {
            member.online = online;
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

    /// An offline member that every online member has lost; nobody online means nobody knows.
    pub(crate) fn lost(&self) -> Option<PeerId> {
        if !self.members.iter().any(|member| member.online) {
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
        game: GameId,
        options: LobbyOptions,
        host: PeerId,
    ) {
        self.created += 1;
        let members = vec![Member { peer: host, online: true }];
        let reports = BTreeSet::new();
        let lobby = Lobby { game, options, host, members, reports, created: self.created };
        self.put(code, lobby);
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
