//! How long inputs wait before they count: as long as keeps most of them in time, for all players alike.
//!
//! Each machine measures how many ticks the inputs of the others take to where the simulation needs them,
//! and tells the host how many it wants; the host decides, by the rules of [`netplay_tick::InputDelay`]:
//! one change in ten seconds at most.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::prelude::*;
use netplay_protocol::{Now, PeerId};
use netplay_rollback::Input;
use netplay_tick::{DelayChange, InputDelay, InputDelayConfig, NetTick, TickRate};

use super::RollbackPlugin;
use super::session::Play;
use super::wire::{self, Told};
use crate::lobby::Lobby;

/// How often a wish is told, and a change considered.
const EVERY: Duration = Duration::from_secs(1);

/// Chooses the input delay of a match.
pub(crate) struct Chooser {
    of_all: InputDelay,
    /// What every machine begins with.
    first: u8,
    rate: TickRate,
    /// The newest input tick that came from each peer.
    newest: BTreeMap<PeerId, i32>,
    next: Option<Now>,
}

impl Chooser {
    /// `None` if the delay stays as it is.
    pub(crate) fn new(settings: &RollbackPlugin, rate: TickRate) -> Option<Self> {
        let config = InputDelayConfig {
            min: settings.delay,
            max: settings.delay_max,
            ..InputDelayConfig::default()
        };
        (config.max > config.min).then(|| Self {
            of_all: InputDelay::new(config, rate, settings.delay),
            first: settings.delay,
            rate,
            newest: BTreeMap::new(),
            next: None,
        })
    }

    /// Inputs up to this tick came, which were read `delay` ticks before it; `tick` is the last that ran.
    pub(crate) fn note(&mut self, now: Now, from: PeerId, newest: u16, tick: i32, delay: i32) {
        let newest = tick + i32::from((newest.wrapping_sub(tick as u16)).cast_signed());
        let known = self.newest.entry(from).or_insert(newest - 1);
        let lost = newest - *known - 1;
        if lost < 0 {
            return;
        }
        *known = newest;
        // The next tick runs with them if they were read this much earlier.
        let took = (tick + 1 - (newest - delay)).max(0) as u32;
        // In the middle of the tick: how far into it they came, the frame does not say.
        let took = (self.rate.tick_len() * took).saturating_sub(self.rate.tick_len() / 2);
        self.of_all.note(now, from, took, lost as u32);
    }

    /// A peer wants so many ticks.
    pub(crate) fn heard(&mut self, peer: PeerId, wants: u8) {
        self.of_all.heard(peer, wants);
    }

    /// There is no link to a peer any more.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.newest.remove(&peer);
        self.of_all.remove(peer);
    }

    /// A change was told.
    pub(crate) fn follow(&mut self, now: Now, at: i32, delay: u8) {
        self.of_all.follow(now, DelayChange { at: NetTick::ZERO.plus(at), delay });
    }
}

/// Somebody has come into the match, and does not know what the delay is by now: the host says it again.
pub(crate) fn tell_again(world: &World, play: &mut Play, now: Now) {
    let is_host = world.get::<Lobby>(play.lobby).is_some_and(Lobby::is_host);
    let changed = play.delay.as_ref().map(|chooser| (chooser.of_all.delay(), chooser.first));
    if let Some((delay, _)) = changed.filter(|(delay, first)| is_host && delay != first) {
        play.session.handle(now, Input::Delay(delay));
    }
}

/// Tells the host what we want; as the host, decides.
pub(crate) fn step(world: &World, play: &mut Play, now: Now) {
    let Some(host) = world.get::<Lobby>(play.lobby).map(|lobby| lobby.host) else { return };
    let (me, plays) = (play.me, play.session.is_playing());
    let tick = NetTick::ZERO.plus(play.session.tick());
    let Some(chooser) = play.delay.as_mut().filter(|_| plays) else { return };
    if chooser.next.is_some_and(|next| now < next) {
        return;
    }
    chooser.next = Some(now + EVERY);
    if me != host {
        let wants = Told::Delay(chooser.of_all.wants());
        wire::say(world, play.lobby, host, &wants);
    } else if let Some(change) = chooser.of_all.decide(now, tick, 0) {
        play.session.handle(now, Input::Delay(change.delay));
    }
}
