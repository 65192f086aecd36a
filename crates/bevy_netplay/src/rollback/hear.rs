//! What a rollback session hears of its links.

use bevy_app::App;
use bevy_ecs::prelude::*;
use netplay_protocol::codec::DecodeError;
use netplay_protocol::{Lane, PeerId};
use netplay_rollback::Input;
use netplay_transport::{CloseReason, InboundInputs, SessionEvent};

use super::desync::Tell;
use super::seating;
use super::session::{Play, Playing};
use super::wire::{self, Bulk, Carrier, Machine, Told};
use crate::message::{add_own_message, decode};
use crate::peer::PeerOf;

/// Registers the messages that sessions send each other.
pub(crate) fn add_messages(app: &mut App) {
    add_own_message::<Told>(app, Lane::Reliable, told);
    add_own_message::<Machine>(app, Lane::Reliable, |world, from, peer, payload| {
        message(world, from, peer, Carrier::Reliable, decode::<Machine>(payload)?.0);
        Ok(())
    });
    add_own_message::<Tell>(app, Lane::Reliable, |world, from, peer, payload| {
        let tell = decode::<Tell>(payload)?;
        let lobby = world.get::<PeerOf>(from).map(|of| of.0);
        if let Some(play) = lobby.and_then(|lobby| play(world, lobby)) {
            play.hear(peer, tell);
        }
        Ok(())
    });
    add_own_message::<Bulk>(app, Lane::Bulk, |world, from, peer, payload| {
        message(world, from, peer, Carrier::Bulk, decode::<Bulk>(payload)?.0);
        Ok(())
    });
}

/// The match in this lobby, if it is played.
fn play(world: &mut World, lobby: Entity) -> Option<&mut Play> {
    let playing = world.get_resource_mut::<Playing>()?.into_inner();
    playing.play.as_mut().filter(|play| play.lobby == lobby)
}

fn told(world: &mut World, from: Entity, peer: PeerId, payload: &[u8]) -> Result<(), DecodeError> {
    let told = decode::<Told>(payload)?;
    if let Some(lobby) = world.get::<PeerOf>(from).map(|of| of.0) {
        match told {
            Told::Players(players) => seating::note_players(world, lobby, peer, players),
            Told::Seating(seats) => seating::note_seating(world, lobby, peer, seats),
            Told::Delay(wants) => {
                let chooser = play(world, lobby).and_then(|play| play.delay.as_mut());
                chooser.into_iter().for_each(|chooser| chooser.heard(peer, wants));
            }
        }
    }
    Ok(())
}

fn message(world: &mut World, from: Entity, peer: PeerId, carrier: Carrier, bytes: Vec<u8>) {
    let Some(lobby) = world.get::<PeerOf>(from).map(|of| of.0) else { return };
    let Some(now) = wire::now(world, lobby) else { return };
    match play(world, lobby) {
        Some(play) => play.message(now, peer, carrier, &bytes),
        None => seating::keep_early(world, lobby, peer, carrier, bytes),
    }
}

/// Inputs came.
pub(crate) fn take_inputs(world: &mut World, lobby: Entity, inputs: &InboundInputs) {
    let Some(now) = wire::now(world, lobby) else { return };
    if let Some(play) = play(world, lobby) {
        play.block(now, inputs.from(), inputs.tick(), inputs.bytes(), inputs.again());
    }
}

/// Something happened in a lobby.
pub(crate) fn note(world: &mut World, lobby: Entity, event: &SessionEvent) {
    if !world.contains_resource::<Playing>() {
        return;
    }
    let Some(now) = wire::now(world, lobby) else { return };
    match event {
        SessionEvent::PeerConnected(peer) => {
            seating::greet(world, lobby, *peer);
            if let Some(play) = play(world, lobby) {
                play.session.handle(now, Input::Link { peer: *peer, up: true });
            }
        }
        SessionEvent::PeerClosed { peer, reason } => {
            seating::forget(world, lobby, *peer);
            if let Some(play) = play(world, lobby) {
                play.desyncs.forget(*peer);
                play.delay.iter_mut().for_each(|chooser| chooser.forget(*peer));
                play.session.handle(now, Input::Link { peer: *peer, up: false });
                let ended = matches!(reason, CloseReason::Left | CloseReason::Restarted);
                if ended || (*reason == CloseReason::Lost && play.is_offline(*peer)) {
                    play.session.handle(now, Input::Gone(*peer));
                }
            }
        }
        SessionEvent::PeerLeft { peer, .. } => {
            seating::note_left(world, lobby, *peer);
            if let Some(play) = play(world, lobby) {
                play.session.handle(now, Input::Gone(*peer));
            }
        }
        SessionEvent::PeerOffline(peer) => set_offline(world, lobby, *peer, true),
        SessionEvent::PeerOnline(peer) => set_offline(world, lobby, *peer, false),
        SessionEvent::HostChanged(host) => host_changed(world, lobby, *host),
        SessionEvent::Restored(state) => host_changed(world, lobby, state.host),
        _ => {}
    }
}

fn set_offline(world: &mut World, lobby: Entity, peer: PeerId, offline: bool) {
    let Some(now) = wire::now(world, lobby) else { return };
    if let Some(play) = play(world, lobby) {
        play.set_offline(now, peer, offline);
    }
}

fn host_changed(world: &mut World, lobby: Entity, host: PeerId) {
    seating::note_host(world, lobby);
    seating::tell_seating(world, lobby, host);
    let Some(now) = wire::now(world, lobby) else { return };
    if let Some(play) = play(world, lobby) {
        play.session.handle(now, Input::Host(host));
    }
}
