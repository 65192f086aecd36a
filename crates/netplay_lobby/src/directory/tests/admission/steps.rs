//! What players do who want in, and what hosts do about them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use netplay_protocol::LobbyCode;
use netplay_protocol::lobby::{
    ClientMessage, CreateWith, JoinWith, LobbyOptions, OptionsChange, Password, PlaceChange,
    Rejoin, ServerMessage, Visibility,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::model::{Invite, Lobby, Text, Way};
use super::{CLIENTS, LOBBY_LIFETIME, World, realm};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Create(LobbyOptions, Text),
    Quick(LobbyOptions),
    Join {
        lobby: usize,
        invite: Option<usize>,
        password: Text,
        spectate: bool,
    },
    Place(Option<u8>),
    Leave,
    Goodbye,
    Drop,
    ConnectAfresh,
    /// With a token of so long ago.
    Resume {
        age: usize,
        restart: bool,
    },
    /// These come back, each with a token of so long ago.
    ServerRestart(Vec<(usize, usize)>),
    /// A host invites somebody, or anybody.
    Invite {
        to: Option<usize>,
        secs: u16,
    },
    /// A host does this to somebody.
    Hosting(Hosting, usize),
    Wait {
        millis: u64,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Hosting {
    Kick(Rejoin),
    Unban,
    Promote,
    Reserve {
        secs: u16,
    },
    Update(OptionsChange),
    /// The match begins at once.
    Countdown,
    Playing(bool),
}

fn visibility() -> impl Strategy<Value = Visibility> {
    prop_oneof![
        4 => Just(Visibility::Public),
        1 => Just(Visibility::Private),
        1 => Just(Visibility::Hidden),
    ]
}

fn options() -> impl Strategy<Value = LobbyOptions> {
    let capacity = prop_oneof![1..5u8, 2..4u8];
    let lobby = (visibility(), capacity, 0..3u8, prop::bool::weighted(0.1), any::<bool>());
    lobby.prop_map(|(visibility, capacity, spectators, locked, no_late_join)| {
        let public = LobbyOptions::public(capacity);
        LobbyOptions { visibility, spectators, locked, no_late_join, ..public }
    })
}

fn password() -> impl Strategy<Value = Text> {
    prop_oneof![2 => Just(None), 1 => Just(Some("open")), 1 => Just(Some("sesame"))]
}

fn change() -> impl Strategy<Value = OptionsChange> {
    let room = (of(1..5u8), of(0..3u8));
    let entry = (of(visibility()), of(any::<bool>()), of(any::<bool>()), of(password()));
    (room, entry).prop_map(|((capacity, spectators), entry)| {
        let (visibility, locked, no_late_join, password) = entry;
        let password = password.map(|text| Password(text.unwrap_or_default().into()));
        let same = OptionsChange::default();
        OptionsChange { capacity, spectators, visibility, locked, no_late_join, password, ..same }
    })
}

fn hosting() -> impl Strategy<Value = Hosting> {
    let rejoin = prop_oneof![Just(Rejoin::Free), Just(Rejoin::Invited), Just(Rejoin::Never)];
    prop_oneof![
        4 => rejoin.prop_map(Hosting::Kick),
        1 => Just(Hosting::Unban),
        1 => Just(Hosting::Promote),
        2 => (1..9u16).prop_map(|secs| Hosting::Reserve { secs }),
        4 => change().prop_map(Hosting::Update),
        1 => Just(Hosting::Countdown),
        2 => any::<bool>().prop_map(Hosting::Playing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    // Those who see each other.
    let whom = 0..4usize;
    let age = prop_oneof![3 => Just(0), 2 => 0..8usize, 1 => 0..30usize];
    let join = (0..20usize, of(0..8usize), password(), prop::bool::weighted(0.3));
    prop_oneof![
        2 => (options(), password()).prop_map(|(options, password)| Step::Create(options, password)),
        2 => options().prop_map(Step::Quick),
        28 => join.prop_map(|(lobby, invite, password, spectate)| {
            Step::Join { lobby, invite, password, spectate }
        }),
        2 => of(0..4u8).prop_map(Step::Place),
        2 => Just(Step::Leave),
        1 => Just(Step::Goodbye),
        2 => Just(Step::Drop),
        1 => Just(Step::ConnectAfresh),
        8 => (age.clone(), any::<bool>()).prop_map(|(age, restart)| Step::Resume { age, restart }),
        3 => vec((whom.clone(), age), 1..8).prop_map(Step::ServerRestart),
        10 => (of(whom.clone()), 1..9u16).prop_map(|(to, secs)| Step::Invite { to, secs }),
        24 => (hosting(), whom).prop_map(|(what, whom)| Step::Hosting(what, whom)),
        2 => (0..3000u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    vec((prop_oneof![8 => 0..4usize, 1 => 4..CLIENTS], step()), 0..250)
}

impl World {
    fn lobby(&self, who: usize, options: &LobbyOptions, password: Text) -> Lobby {
        Lobby {
            realm: realm(who),
            options: options.clone(),
            password: password.unwrap_or_default().to_owned(),
            playing: false,
            closes: self.node.now + LOBBY_LIFETIME,
            out: BTreeMap::new(),
            reserved: BTreeMap::new(),
            claimed: BTreeSet::new(),
            changed: 0,
        }
    }

    pub(super) fn step(&mut self, who: usize, step: &Step) {
        self.wait(Duration::from_millis(20));
        let request = 1;
        match step.clone() {
            Step::Create(options, password) => {
                let who = self.comer(who);
                let way = Way::New(self.lobby(who, &options, password));
                let password = password.map(|text| Password(text.into()));
                let with = CreateWith { password, ..CreateWith::default() };
                self.say(who, ClientMessage::Create { request, options, with }, &way);
            }
            Step::Quick(options) => {
                let who = self.comer(who);
                let way = Way::Quick(self.lobby(who, &options, None));
                self.say(who, ClientMessage::quick_join(request, options), &way);
            }
            Step::Join { lobby, invite, password, spectate } => {
                let who = self.comer(who);
                let with = JoinWith { spectate, ..JoinWith::default() };
                self.join(who, lobby, invite, password, with);
            }
            Step::Place(slot) => {
                let Some(peer) = self.clients[who].peer else { return };
                let change = PlaceChange { slot: Some(slot), ..PlaceChange::default() };
                let way = Way::Place { host: self.host(who) == who };
                self.say(who, ClientMessage::Place { request, peer, change }, &way);
            }
            Step::Leave => drop(self.say(who, ClientMessage::Leave { request }, &Way::Not)),
            Step::Goodbye => drop(self.say(who, ClientMessage::Goodbye, &Way::Not)),
            Step::Drop => self.drop_connection(who),
            Step::ConnectAfresh => self.connect(who, None),
            Step::Resume { age, restart } => self.resume(who, age, restart),
            Step::ServerRestart(back) => self.restart_server(&back),
            Step::Invite { to, secs } => self.invite(self.host(who), to, secs),
            Step::Hosting(what, whom) => self.hosting(self.host(who), &what, whom),
            Step::Wait { millis } => self.wait(Duration::from_millis(millis)),
        }
        self.remember();
    }

    /// This player, or one like it who is in no lobby.
    fn comer(&mut self, who: usize) -> usize {
        let free = |of: &usize| realm(*of) == realm(who) && self.lobby_of(*of).is_none();
        let comer = (who..who + CLIENTS).map(|of| of % CLIENTS).find(free).unwrap_or(who);
        if self.clients[comer].connection.is_none() {
            self.connect(comer, None);
        }
        comer
    }

    fn join(
        &mut self,
        who: usize,
        lobby: usize,
        invite: Option<usize>,
        password: Text,
        with: JoinWith,
    ) {
        // Mostly one that it can see.
        let sees = |id: u64| lobby == 0 || self.lobbies[&id].realm == realm(who);
        let all = self.node.directory.lobbies.iter().map(|(code, of)| (code, of.id));
        let all: Vec<_> = all.filter(|(_, id)| lobby != 1 && sees(*id)).collect();
        let none = (LobbyCode::from_random(1), 0);
        let (code, id) = all.get(lobby % all.len().max(1)).copied().unwrap_or(none);
        if lobby.is_multiple_of(2) && self.lobby_of(who).is_some_and(|of| of != id) {
            self.say(who, ClientMessage::Leave { request: 1 }, &Way::Not);
        }
        // Every second one may be for another lobby.
        let fits = |of: &&Invite| of.lobby == id || invite.is_some_and(|number| number % 2 == 1);
        let mut fitting = self.invites.iter().rev().filter(fits);
        let invite = invite.and_then(|number| fitting.nth(number / 2)).cloned();
        let token = invite.as_ref().map(|invite| invite.token.clone());
        let text = password.map(|text| Password(text.into()));
        let with = JoinWith { invite: token, password: text, ..with };
        let way = Way::Code(password, invite);
        self.say(who, ClientMessage::Join { request: 1, code, with }, &way);
    }

    fn invite(&mut self, who: usize, to: Option<usize>, secs: u16) {
        let to = to.and_then(|to| self.clients[to].peer);
        let Some(lobby) = self.lobby_of(who) else { return };
        let answer = self.say(who, ClientMessage::Invite { request: 1, to, secs }, &Way::Not);
        if let Some(ServerMessage::Invitation { invite: token, .. }) = answer {
            let (made, expires) = (self.inputs, self.secs() + u64::from(secs));
            let boot = self.boots;
            self.invites.push(Invite { token, lobby, to, made, boot, expires });
        }
    }

    fn hosting(&mut self, who: usize, what: &Hosting, whom: usize) {
        let (Some(id), Some(peer)) = (self.lobby_of(who), self.clients[whom].peer) else { return };
        let is_in = self.lobby_of(whom) == Some(id);
        let request = 1;
        let message = match what.clone() {
            Hosting::Kick(rejoin) => ClientMessage::Kick { request, peer, rejoin },
            Hosting::Unban => ClientMessage::Unban { request, peer },
            Hosting::Promote => ClientMessage::Promote { request, peer },
            Hosting::Reserve { secs } => {
                ClientMessage::Reserve { request, peers: vec![peer], secs }
            }
            Hosting::Update(change) => ClientMessage::Update { request, change },
            Hosting::Countdown => ClientMessage::Countdown { request, ms: 0 },
            Hosting::Playing(playing) => ClientMessage::SetPlaying { request, playing },
        };
        let answer = self.say(who, message, &Way::Not);
        if let Some(ServerMessage::Done { .. }) = answer
            && !matches!(what, Hosting::Promote)
        {
            self.node.wait(Duration::ZERO);
            self.look(None, &Way::Not);
            let lobby = self.lobbies.get_mut(&id).expect("its host is there");
            lobby.changed = self.inputs;
            lobby.change(what, peer, is_in, self.node.now);
            self.told = Some(id);
        }
    }
}
