//! What is on the menu's page, row by row.

use bevy_netplay::prelude::*;
use bevy_netplay::{Member, Visibility};

use super::{Act, Field, Menu, NAME, Screen, listed, visible};

/// Lobbies that are shown.
const LOBBIES: usize = 6;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Large.
    Title(String),
    /// To read.
    Text(String),
    /// To choose.
    Button(String, Act),
    /// To type into; Enter chooses.
    Field(&'static str, Field, Option<Act>),
}

impl Item {
    pub(super) const fn can_be_chosen(&self) -> bool {
        matches!(self, Self::Button(..) | Self::Field(..))
    }
}

pub(super) fn page(menu: &Menu, lobby: Option<(&Lobby, &LobbyDetails)>) -> Vec<Item> {
    match (&menu.screen, lobby) {
        (Screen::Main, _) => main(menu),
        (Screen::Joining, _) | (Screen::Lobby, None) => vec![
            Item::Title("asking the lobby server".into()),
            Item::Button("back".into(), Act::Back),
        ],
        (Screen::Lobby, Some((lobby, details))) => in_lobby(menu, lobby, details),
        (Screen::Away, _) => Vec::new(),
    }
}

fn main(menu: &Menu) -> Vec<Item> {
    let mut items = vec![
        Item::Title("Who plays?".into()),
        Item::Field("your name", Field::Name, None),
        Item::Button("quick match".into(), Act::Quick),
        Item::Button("make a lobby".into(), Act::Create),
        Item::Button("make a private lobby".into(), Act::CreatePrivate),
        Item::Field("join by code", Field::Code, Some(Act::JoinByCode)),
    ];
    let none = menu.found.is_empty();
    items.push(Item::Text(if none { "no open lobbies".into() } else { "open lobbies".into() }));
    for lobby in menu.found.iter().take(LOBBIES) {
        items.push(Item::Button(listed(lobby), Act::Join(lobby.code.to_string())));
    }
    items.push(Item::Text(menu.note.clone()));
    items
}

fn in_lobby(menu: &Menu, lobby: &Lobby, details: &LobbyDetails) -> Vec<Item> {
    let (visibility, count) = (details.options.visibility, details.members.len());
    let visibility: Visibility = visibility;
    let mut items = vec![
        Item::Title(format!("lobby {}", lobby.code)),
        Item::Text(format!("{}, {count} of {} here", visible(visibility), lobby.capacity)),
    ];
    items.extend(details.members.iter().map(|member| Item::Text(described(member, lobby))));
    let ready = details.member(lobby.me).is_some_and(|member| member.ready);
    let ready = if ready { "not ready any more" } else { "ready" };
    items.push(Item::Button(ready.into(), Act::Ready));
    if lobby.is_host() {
        let waits = details.members.iter().filter(|member| !member.ready).count();
        let text = match waits {
            0 => "begin the match".to_owned(),
            waits => format!("begin the match ({waits} not ready)"),
        };
        items.push(Item::Button(text, Act::Start));
    }
    items.push(Item::Field("say", Field::Chat, Some(Act::Say)));
    items.extend(menu.said.iter().map(|line| Item::Text(line.clone())));
    items.push(Item::Text(menu.note.clone()));
    items.push(Item::Button("leave".into(), Act::Back));
    items
}

fn described(member: &Member, lobby: &Lobby) -> String {
    let name = LobbyDetails::says(member, NAME).unwrap_or("somebody");
    let you = if member.peer == lobby.me { " (you)" } else { "" };
    let host = if member.peer == lobby.host { ", host" } else { "" };
    let state = match (member.online, member.ready) {
        (false, _) => "away",
        (true, true) => "ready",
        (true, false) => "not ready",
    };
    format!("{name}{you}{host}: {state}")
}

#[cfg(test)]
mod tests {
    use bevy_netplay::{LobbyState, PeerId};

    use super::*;

    const ME: PeerId = PeerId::from_u128(1);
    const OTHER: PeerId = PeerId::from_u128(2);

    fn lobby(host: PeerId) -> (Lobby, LobbyDetails) {
        let code: LobbyCode = "7K4Q-M2XA".parse().unwrap();
        let options = bevy_netplay::LobbyOptions::public(4);
        let members = [ME, OTHER].map(|peer| Member::new(peer, 0)).to_vec();
        let lobby = Lobby {
            code,
            name: String::new(),
            capacity: 4,
            public: true,
            me: ME,
            host,
            seats_kept: std::time::Duration::ZERO,
        };
        (lobby, LobbyDetails(LobbyState::new(code, options, host, members)))
    }

    fn can_begin(host: PeerId) -> bool {
        let (lobby, details) = lobby(host);
        let menu = Menu { screen: Screen::Lobby, ..Menu::default() };
        let items = page(&menu, Some((&lobby, &details)));
        items.iter().any(|item| matches!(item, Item::Button(_, Act::Start)))
    }

    #[test]
    fn only_the_host_begins_the_match() {
        assert!(can_begin(ME) && !can_begin(OTHER));
    }

    #[test]
    fn while_the_game_is_on_the_screen_the_menu_is_not() {
        let menu = Menu { screen: Screen::Away, ..Menu::default() };
        assert_eq!(page(&menu, None), []);
    }
}
