//! A menu before the game: who one is, which lobbies there are, making one, joining one, getting ready. By keyboard
//! or mouse.

mod input;
mod page;
mod rows;

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use bevy_netplay::{DataKey, LobbyChanged, LobbySummary, Value, Visibility as LobbyVisibility};

use crate::play::Phase;

/// What members call themselves, among their values.
const NAME: &str = "name";
/// Lines of chat that are kept.
const CHAT_LINES: usize = 5;
/// From the host's start to the match.
const COUNTDOWN: Duration = Duration::from_secs(3);

/// Where one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Screen {
    /// Before a lobby.
    #[default]
    Main,
    /// The server is asked.
    Joining,
    /// In one.
    Lobby,
    /// In its match.
    Away,
}

/// What a row does when it is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Quick,
    Create,
    CreatePrivate,
    JoinByCode,
    Join(String),
    Back,
    Ready,
    Start,
    Say,
}

/// What can be typed into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Code,
    Chat,
}

/// The menu.
#[derive(Resource, Default)]
struct Menu {
    screen: Screen,
    seats: u8,
    name: String,
    code: String,
    chat: String,
    said: Vec<String>,
    found: Vec<LobbySummary>,
    /// What went wrong, or what happens now.
    note: String,
    /// Why nothing is found, if that is so.
    trouble: String,
    countdown: Option<Instant>,
    /// The row that Enter chooses, by its place among those that can be.
    focus: usize,
}

impl Menu {
    fn field(&mut self, field: Field) -> &mut String {
        match field {
            Field::Name => &mut self.name,
            Field::Code => &mut self.code,
            Field::Chat => &mut self.chat,
        }
    }

    fn text(&self, field: Field) -> &str {
        match field {
            Field::Name => &self.name,
            Field::Code => &self.code,
            Field::Chat => &self.chat,
        }
    }

    fn go(&mut self, screen: Screen) {
        if self.screen != screen {
            (self.screen, self.focus) = (screen, 0);
        }
    }
}

/// The menu of a game whose lobbies have so many seats.
pub(crate) struct MenuPlugin {
    pub(crate) seats: u8,
    pub(crate) name: String,
}

impl Plugin for MenuPlugin {
    fn build(&self, app: &mut App) {
        let Self { seats, name } = self;
        app.insert_resource(Menu { seats: *seats, name: name.clone(), ..default() })
            .add_plugins((rows::plugin, input::plugin));
        what_it_does(app);
    }
}

/// All but what is on the screen.
fn what_it_does(app: &mut App) {
    app.add_message::<Chosen>()
        .add_systems(Startup, browse)
        .add_systems(Update, (look_around, count_down, act).chain())
        .add_observer(joined)
        .add_observer(changed)
        .add_observer(failed)
        .add_observer(chat)
        .add_observer(start)
        .add_observer(start_for_another)
        .add_observer(refused)
        .add_observer(begins);
}

/// A row was chosen.
#[derive(Message, Clone, Debug)]
struct Chosen(Act);

fn browse(mut commands: Commands) {
    commands.spawn(BrowseLobbies::new(LobbySearch::all()));
}

/// What is found, while nobody is in a lobby.
fn look_around(mut menu: ResMut<Menu>, found: Query<&FoundLobbies, Changed<FoundLobbies>>) {
    if let Some(found) = found.iter().next() {
        menu.found.clone_from(&found.lobbies);
        let trouble = found.trouble.clone().unwrap_or_default();
        // What the note says of a lobby stays while all is well.
        if trouble != menu.trouble {
            menu.note.clone_from(&trouble);
            menu.trouble = trouble;
        }
    }
}

fn count_down(mut menu: ResMut<Menu>) {
    let left = menu.countdown.map(|until| until.saturating_duration_since(Instant::now()));
    if let Some(left) = left {
        let note = format!("the match begins in {:.0} s", left.as_secs_f32().ceil());
        if menu.note != note {
            menu.note = note;
        }
    }
}

/// The lobby that was asked for, and what is known of it.
type Asked<'w, 's> =
    Query<'w, 's, (Entity, Option<(&'static Lobby, &'static LobbyDetails)>), With<JoinLobby>>;

fn act(
    mut chosen: MessageReader<Chosen>,
    mut menu: ResMut<Menu>,
    lobbies: Asked,
    browsing: Query<Entity, With<BrowseLobbies>>,
    requests: LobbyRequests,
    mut commands: Commands,
) -> Result {
    for Chosen(act) in chosen.read() {
        let here = lobbies.iter().next();
        let join = match act {
            Act::Quick => Some(JoinLobby::quick(menu.seats)),
            Act::Create => Some(JoinLobby::create(menu.seats).named(&lobby_name(&menu))),
            Act::CreatePrivate => Some(JoinLobby::create_private(menu.seats)),
            Act::JoinByCode => by_code(&menu.code.clone(), &mut menu),
            Act::Join(code) => by_code(code, &mut menu),
            Act::Back | Act::Ready | Act::Start | Act::Say => None,
        };
        // Chosen twice within a frame, once is enough.
        let join = join.filter(|_| menu.screen == Screen::Main);
        if let Some(join) = join {
            let name: String = menu.name.chars().take(24).collect();
            commands.spawn(join.about_me(DataKey::new(NAME)?, Value::from(name.as_str())));
            browsing.iter().for_each(|entity| commands.entity(entity).despawn());
            menu.go(Screen::Joining);
            continue;
        }
        let Some((entity, joined)) = here else { continue };
        match (act, joined) {
            (Act::Back, _) => {
                commands.entity(entity).despawn();
                back(&mut menu, &mut commands, String::new());
            }
            (Act::Ready, Some((lobby, details))) => {
                let ready = details.member(lobby.me).is_some_and(|member| member.ready);
                requests.ready(entity, !ready)?;
            }
            (Act::Start, Some(_)) => drop(requests.countdown(entity, COUNTDOWN)?),
            (Act::Say, Some(_)) if !menu.chat.trim().is_empty() => {
                requests.chat(entity, std::mem::take(&mut menu.chat))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn lobby_name(menu: &Menu) -> String {
    format!("{}'s game", menu.name)
}

fn by_code(code: &str, menu: &mut Menu) -> Option<JoinLobby> {
    match code.parse::<LobbyCode>() {
        Ok(code) => Some(JoinLobby::code(code)),
        Err(error) => {
            menu.note = error.to_string();
            None
        }
    }
}

/// Out of a lobby, or not let in.
fn back(menu: &mut Menu, commands: &mut Commands, note: String) {
    menu.go(Screen::Main);
    menu.said.clear();
    (menu.note, menu.countdown) = (note, None);
    commands.spawn(BrowseLobbies::new(LobbySearch::all()));
}

fn joined(event: On<LobbyJoined>, lobbies: Query<&Lobby>, mut menu: ResMut<Menu>) {
    if let Ok(lobby) = lobbies.get(event.entity) {
        menu.note.clear();
        menu.code = lobby.code.to_string();
        menu.go(Screen::Lobby);
    }
}

/// Redraws: who is there, and who is ready.
fn changed(_: On<LobbyChanged>, mut menu: ResMut<Menu>) {
    menu.set_changed();
}

fn failed(event: On<LobbyFailed>, mut menu: ResMut<Menu>, mut commands: Commands) {
    commands.entity(event.entity).despawn();
    back(&mut menu, &mut commands, event.error.to_string());
}

fn chat(event: On<LobbyChat>, details: Query<&LobbyDetails>, mut menu: ResMut<Menu>) {
    let who = details.get(event.entity).ok().and_then(|lobby| lobby.member(event.from));
    let name = who.and_then(|member| LobbyDetails::says(member, NAME)).unwrap_or("somebody");
    menu.said.push(format!("{name}: {}", event.text));
    if menu.said.len() > CHAT_LINES {
        menu.said.remove(0);
    }
}

fn start(
    event: On<LobbyStart>,
    lobbies: Query<&Lobby>,
    mut menu: ResMut<Menu>,
    mut commands: Commands,
) {
    match event.step {
        StartStep::Countdown(time) => menu.countdown = Some(Instant::now() + time),
        StartStep::Cancelled => {
            menu.countdown = None;
            menu.note = "somebody left, is away or is not ready any more".into();
        }
        StartStep::Playing => {
            menu.countdown = None;
            let entity = event.entity;
            if lobbies.get(entity).is_ok_and(Lobby::is_host) {
                commands.trigger(StartMatch { entity });
            }
        }
        _ => {}
    }
}

/// Who was to begin the match has gone before it did.
fn start_for_another(
    event: On<HostChanged>,
    lobbies: Query<(&Lobby, &LobbyDetails), Without<Match>>,
    mut commands: Commands,
) {
    let entity = event.entity;
    if lobbies.get(entity).is_ok_and(|(lobby, details)| lobby.is_host() && details.playing) {
        commands.trigger(StartMatch { entity });
    }
}

fn refused(event: On<LobbyAnswered>, mut menu: ResMut<Menu>) {
    if let Err(refused) = &event.result {
        menu.note = refused.to_string();
    }
}

/// The game is on the screen from now on.
fn begins(
    event: On<MatchBegins>,
    matches: Query<&Match>,
    mut menu: ResMut<Menu>,
    mut phase: ResMut<Phase>,
) {
    if let Ok(of) = matches.get(event.entity) {
        menu.go(Screen::Away);
        if *phase == Phase::Gathering {
            *phase = Phase::Playing { since: of.begins };
        }
    }
}

/// How a lobby of a list looks.
fn listed(lobby: &LobbySummary) -> String {
    let name = if lobby.name.is_empty() { "a game" } else { lobby.name.as_str() };
    let playing = if lobby.playing { ", playing" } else { "" };
    format!("{name}   {}/{}{playing}", lobby.members, lobby.capacity)
}

/// How visible a lobby is, in a word.
fn visible(visibility: LobbyVisibility) -> &'static str {
    match visibility {
        LobbyVisibility::Public => "public",
        LobbyVisibility::Private => "by code only",
        LobbyVisibility::Hidden => "by invitation only",
    }
}

#[cfg(test)]
mod tests;
