//! Ships, shots and scores. Each player simulates its own ship and decides whether it was hit; where
//! it is goes out on the unreliable lane, what happened on the reliable one.

use std::collections::{BTreeMap, VecDeque};

use bevy::prelude::*;
use bevy_netplay::prelude::*;
use netplay_examples::{Agreed, Phase, playing};
use serde::{Deserialize, Serialize};

use crate::bot;

/// Half the arena, in world units.
pub const HALF: Vec2 = Vec2::new(480.0, 270.0);
/// A ship's radius.
pub const SHIP_RADIUS: f32 = 12.0;
const THRUST: f32 = 260.0;
const TURN: f32 = 3.8;
const DRAG: f32 = 0.5;
const SHOT_SPEED: f32 = 420.0;
const SHOT_LIFE: f32 = 1.1;
const SHOT_RADIUS: f32 = 3.0;
const RELOAD: f32 = 0.28;
/// How long a ship that was hit cannot be hit again.
const SHIELD: f32 = 1.5;
/// Chat lines that are kept.
const CHAT_LINES: usize = 6;
/// Bytes of one chat line.
const CHAT_MAX: usize = 80;

/// Where a ship is: sent every tick, the newest counts.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub struct ShipState {
    tick: u32,
    position: Vec2,
    velocity: Vec2,
    heading: f32,
    thrusting: bool,
    shielded: bool,
}

/// A shot was fired.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub struct Fired {
    position: Vec2,
    velocity: Vec2,
}

/// The sender's ship was hit by this player.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub struct WasHit {
    by: PeerId,
}

/// The sender's score, said after every change and to everyone who joins.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub struct Score {
    points: u32,
}

/// Something said.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Chat(pub String);

/// A ship, ours or another player's.
#[derive(Component, Clone, Copy, Debug, Default)]
pub struct Ship {
    /// Where it is.
    pub position: Vec2,
    /// Where it goes, per second.
    pub velocity: Vec2,
    /// Where it points, in radians from the x axis.
    pub heading: f32,
    /// Whether its engine burns.
    pub thrusting: bool,
    /// Whether it cannot be hit.
    pub shielded: bool,
}

/// Our own ship.
#[derive(Component, Default)]
pub struct OwnShip {
    tick: u32,
    reload: f32,
    shield: f32,
}

/// The ship of this peer entity.
#[derive(Component)]
pub struct ShipOf {
    /// The peer entity.
    pub peer: Entity,
    /// The newest state shown; older ones are dropped.
    tick: u32,
}

/// Whose ship, for its colour and name.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pilot(pub Option<PeerId>);

/// A shot in flight.
#[derive(Component, Clone, Copy, Debug)]
pub struct Shot {
    /// Where it is.
    pub position: Vec2,
    /// Where it goes, per second.
    pub velocity: Vec2,
    /// Seconds left.
    pub life: f32,
    /// Who fired it.
    pub by: PeerId,
}

/// A ship was hit here: for sparks.
#[derive(Message, Clone, Copy, Debug)]
pub struct Burst {
    /// Where.
    pub position: Vec2,
    /// Whose ship.
    pub pilot: PeerId,
}

/// What the keys (or the bot) want of our ship.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct Controls {
    /// -1 right, 1 left.
    pub turn: f32,
    /// Engine on.
    pub thrust: bool,
    /// Fire.
    pub fire: bool,
    /// Whether someone is at the keys; until then a bot plays.
    pub human: bool,
}

/// Who has how many points.
#[derive(Resource, Clone, Debug, Default)]
pub struct Scores(pub BTreeMap<PeerId, u32>);

/// What was said lately, oldest first.
#[derive(Resource, Clone, Debug, Default)]
pub struct ChatLog(pub VecDeque<(PeerId, String)>);

/// What we want to say.
#[derive(Message, Clone, Debug)]
pub struct Say(pub String);

/// The arena without its looks.
pub struct GamePlugin;

impl Plugin for GamePlugin {
    fn build(&self, app: &mut App) {
        app.add_net_message::<ShipState>(Lane::Sequenced)
            .add_net_message::<Fired>(Lane::Reliable)
            .add_net_message::<WasHit>(Lane::Reliable)
            .add_net_message::<Score>(Lane::Reliable)
            .add_net_message::<Chat>(Lane::Reliable)
            .add_message::<Burst>()
            .add_message::<Say>()
            .init_resource::<Controls>()
            .init_resource::<Scores>()
            .init_resource::<ChatLog>()
            .insert_resource(Time::<Fixed>::from_hz(60.0))
            .add_observer(enter)
            .add_observer(welcome)
            .add_observer(welcome_back)
            .add_observer(remove)
            .add_systems(Update, (hear_states, hear_events, agree).chain())
            .add_systems(
                FixedUpdate,
                (
                    bot::steer.run_if(playing),
                    fly,
                    move_shots,
                    be_hit.run_if(playing),
                    (send_state, fire, talk).run_if(playing),
                )
                    .chain(),
            );
    }
}

/// Keeps a position inside the arena by letting it come back on the other side.
pub fn wrap(position: Vec2) -> Vec2 {
    let wrap = |value: f32, half: f32| (value + half).rem_euclid(2.0 * half) - half;
    Vec2::new(wrap(position.x, HALF.x), wrap(position.y, HALF.y))
}

/// The shortest way from one place to another, over the edges if that is shorter.
pub fn toward(from: Vec2, to: Vec2) -> Vec2 {
    wrap(to - from)
}

/// A place to start that differs between players.
fn start(id: PeerId) -> (Vec2, f32) {
    let bits = id.as_u128();
    let angle = (bits % 6283) as f32 / 1000.0;
    (Vec2::from_angle(angle) * Vec2::new(HALF.x * 0.7, HALF.y * 0.7), angle + 2.0)
}

fn enter(
    event: On<LobbyJoined>,
    lobbies: Query<&Lobby>,
    own: Query<(), With<OwnShip>>,
    mut commands: Commands,
) {
    let Ok(lobby) = lobbies.get(event.entity) else { return };
    if own.is_empty() {
        let (position, heading) = start(lobby.me);
        let ship = Ship { position, heading, ..default() };
        commands.spawn((ship, OwnShip::default(), Pilot(Some(lobby.me))));
    }
}

fn me(lobbies: &Query<&Lobby>) -> Option<PeerId> {
    lobbies.iter().next().map(|lobby| lobby.me)
}

fn welcome(
    event: On<PeerConnected>,
    mut commands: Commands,
    lobbies: Query<&Lobby>,
    scores: Res<Scores>,
    mut out: NetWriter<Score>,
) {
    let (position, heading) = start(event.id);
    let ship = Ship { position, heading, ..default() };
    commands.spawn((ship, ShipOf { peer: event.entity, tick: 0 }, Pilot(Some(event.id))));
    tell_score(event.entity, &lobbies, &scores, &mut out);
}

/// A player is back, perhaps with a game that was started anew: it counts its ticks from zero, and does
/// not know the score.
fn welcome_back(
    event: On<PeerRejoined>,
    mut ships: Query<&mut ShipOf>,
    lobbies: Query<&Lobby>,
    scores: Res<Scores>,
    mut out: NetWriter<Score>,
) {
    if let Some(mut ship) = ships.iter_mut().find(|ship| ship.peer == event.entity) {
        ship.tick = 0;
    }
    tell_score(event.entity, &lobbies, &scores, &mut out);
}

fn tell_score(to: Entity, lobbies: &Query<&Lobby>, scores: &Scores, out: &mut NetWriter<Score>) {
    let points = me(lobbies).and_then(|me| scores.0.get(&me).copied()).unwrap_or(0);
    if let Err(error) = out.to(to, Score { points }) {
        warn!("the score could not be told: {error}");
    }
}

fn remove(
    event: On<PeerDisconnected>,
    ships: Query<(Entity, &ShipOf)>,
    mut scores: ResMut<Scores>,
    phase: Res<Phase>,
    mut commands: Commands,
) {
    // Players leave at the end, some earlier than others; the result stands by then.
    if !phase.is_ending() {
        scores.0.remove(&event.id);
    }
    for (entity, ship) in &ships {
        if ship.peer == event.entity {
            commands.entity(entity).despawn();
        }
    }
}

fn hear_states(
    mut states: MessageReader<Received<ShipState>>,
    mut ships: Query<(&mut Ship, &mut ShipOf)>,
) {
    for state in states.read() {
        let Some((mut ship, mut of)) = ships.iter_mut().find(|(_, of)| of.peer == state.from)
        else {
            continue;
        };
        let new = &state.message;
        // Unreliable messages may overtake each other. Numbers that are no numbers stay outside.
        let sane = new.position.is_finite() && new.velocity.is_finite() && new.heading.is_finite();
        if new.tick <= of.tick || !sane {
            continue;
        }
        of.tick = new.tick;
        *ship = Ship {
            position: wrap(new.position),
            velocity: new.velocity.clamp_length_max(2000.0),
            heading: new.heading,
            thrusting: new.thrusting,
            shielded: new.shielded,
        };
    }
}

#[expect(clippy::too_many_arguments, reason = "one reader per message type")]
fn hear_events(
    mut shots: MessageReader<Received<Fired>>,
    mut hits: MessageReader<Received<WasHit>>,
    mut scored: MessageReader<Received<Score>>,
    mut chats: MessageReader<Received<Chat>>,
    ships: Query<(&Ship, &ShipOf)>,
    lobbies: Query<&Lobby>,
    mut scores: ResMut<Scores>,
    mut log: ResMut<ChatLog>,
    mut bursts: MessageWriter<Burst>,
    mut out: NetWriter<Score>,
    mut commands: Commands,
) {
    for shot in shots.read() {
        let Fired { position, velocity } = shot.message;
        if position.is_finite() && velocity.is_finite() {
            let (position, velocity) = (wrap(position), velocity.clamp_length_max(2000.0));
            commands.spawn(Shot { position, velocity, life: SHOT_LIFE, by: shot.peer });
        }
    }
    for hit in hits.read() {
        if let Some((ship, _)) = ships.iter().find(|(_, of)| of.peer == hit.from) {
            bursts.write(Burst { position: ship.position, pilot: hit.peer });
        }
        if let Some(me) = me(&lobbies).filter(|me| *me == hit.message.by) {
            let points = scores.0.entry(me).or_default();
            *points += 1;
            out.to_all(Score { points: *points });
        }
    }
    for score in scored.read() {
        scores.0.insert(score.peer, score.message.points);
    }
    for chat in chats.read() {
        remember(&mut log, chat.peer, &chat.message.0);
    }
}

fn remember(log: &mut ChatLog, who: PeerId, text: &str) {
    let text: String = text.chars().filter(|c| !c.is_control()).take(CHAT_MAX).collect();
    log.0.push_back((who, text));
    while log.0.len() > CHAT_LINES {
        log.0.pop_front();
    }
}

/// The scores are what all players have to agree on in the end.
fn agree(scores: Res<Scores>, lobbies: Query<&Lobby>, mut agreed: ResMut<Agreed>) {
    if let Some(me) = me(&lobbies) {
        let mine = scores.0.get(&me).copied().unwrap_or(0);
        agreed.0 = scores.0.iter().map(|(id, points)| (id.to_string(), (*points).into())).collect();
        agreed.0.insert(me.to_string(), mine.into());
    }
}

fn fly(
    mut ships: Query<(&mut Ship, Option<&mut OwnShip>)>,
    controls: Res<Controls>,
    time: Res<Time>,
) {
    let dt = time.delta_secs();
    for (mut ship, own) in &mut ships {
        if let Some(mut own) = own {
            own.tick += 1;
            own.reload = (own.reload - dt).max(0.0);
            own.shield = (own.shield - dt).max(0.0);
            ship.shielded = own.shield > 0.0;
            ship.thrusting = controls.thrust;
            ship.heading += controls.turn.clamp(-1.0, 1.0) * TURN * dt;
            if controls.thrust {
                let push = Vec2::from_angle(ship.heading) * THRUST * dt;
                ship.velocity += push;
            }
            ship.velocity *= 1.0 - DRAG * dt;
        }
        // Others fly on as they last said, until the next state arrives.
        ship.position = wrap(ship.position + ship.velocity * dt);
    }
}

fn move_shots(mut shots: Query<(Entity, &mut Shot)>, time: Res<Time>, mut commands: Commands) {
    let dt = time.delta_secs();
    for (entity, mut shot) in &mut shots {
        shot.life -= dt;
        shot.position = wrap(shot.position + shot.velocity * dt);
        if shot.life <= 0.0 {
            commands.entity(entity).despawn();
        }
    }
}

/// Whoever is hit says so: its own view of its own ship decides.
fn be_hit(
    mut own: Query<(&Ship, &mut OwnShip, &Pilot)>,
    shots: Query<(Entity, &Shot)>,
    mut bursts: MessageWriter<Burst>,
    mut out: NetWriter<WasHit>,
    mut commands: Commands,
) {
    let Ok((ship, mut own, Pilot(Some(me)))) = own.single_mut() else { return };
    if own.shield > 0.0 {
        return;
    }
    let reach = SHIP_RADIUS + SHOT_RADIUS;
    let hit = shots
        .iter()
        .find(|(_, shot)| shot.by != *me && toward(ship.position, shot.position).length() < reach);
    if let Some((entity, shot)) = hit {
        own.shield = SHIELD;
        commands.entity(entity).despawn();
        bursts.write(Burst { position: ship.position, pilot: *me });
        out.to_all(WasHit { by: shot.by });
    }
}

fn send_state(own: Query<(&Ship, &OwnShip)>, mut out: NetWriter<ShipState>) {
    let Ok((ship, own)) = own.single() else { return };
    out.to_all(ShipState {
        tick: own.tick,
        position: ship.position,
        velocity: ship.velocity,
        heading: ship.heading,
        thrusting: ship.thrusting,
        shielded: ship.shielded,
    });
}

fn fire(
    mut own: Query<(&Ship, &mut OwnShip, &Pilot)>,
    controls: Res<Controls>,
    mut out: NetWriter<Fired>,
    mut commands: Commands,
) {
    let Ok((ship, mut own, Pilot(Some(me)))) = own.single_mut() else { return };
    if !controls.fire || own.reload > 0.0 {
        return;
    }
    own.reload = RELOAD;
    let ahead = Vec2::from_angle(ship.heading);
    let position = wrap(ship.position + ahead * SHIP_RADIUS);
    let velocity = ship.velocity + ahead * SHOT_SPEED;
    commands.spawn(Shot { position, velocity, life: SHOT_LIFE, by: *me });
    out.to_all(Fired { position, velocity });
}

fn talk(
    mut say: MessageReader<Say>,
    lobbies: Query<&Lobby>,
    mut log: ResMut<ChatLog>,
    mut out: NetWriter<Chat>,
) {
    for Say(text) in say.read() {
        if let Some(me) = me(&lobbies) {
            remember(&mut log, me, text);
            out.to_all(Chat(text.clone()));
        }
    }
}
