//! Seats for who comes while a match runs.
//!
//! The host gives free seats, and those of players who have left the lobby, and tells all; each who plays
//! then tells the new one so itself. That one takes its seat when all have: who had not heard of it would
//! take it for lost. Of two hosts that give a seat to different peers, as a host is lost in the middle of
//! it, the one who had given more counts; the other peer watches until there is a seat for it.

use std::collections::BTreeSet;
use std::time::Duration;

use bevy_ecs::prelude::*;
use netplay_protocol::{Now, PeerId};
use netplay_rollback::Input;

use super::RollbackSettings;
use super::record;
use super::seating::{Seating, Seats, TakenSeat, nobody, play, with};
use super::session::{Play, Playing, leave};
use super::wire::{self, Told};
use crate::lobby::Lobby;
use crate::match_time::Match;

/// Who comes waits so long for a seat before it watches, and for the word of a player who says nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// What we wait for before we play.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// Since when we know of a match, or of a seat in it.
    since: Option<Now>,
    /// Who says that we have a seat.
    told: BTreeSet<PeerId>,
}

/// A peer says who has which seat; of what we know since longer, the latest counts.
pub(super) fn note(world: &mut World, lobby: Entity, from: PeerId, told: &Seating) {
    let Some((me, _)) = us(world, lobby) else { return };
    with(world, lobby, |seats| {
        let Some((_, seating)) = &seats.seating else { return };
        let same = seating.id() == told.id() && seating.seats.len() == told.seats.len();
        if !same || !seating.is_listed(from) {
            return;
        }
        if told.is_listed(me) {
            seats.claim.told.insert(from);
        }
        let fits = |(ours, theirs): &(&TakenSeat, &TakenSeat)| ours.players == theirs.players;
        let all = seating.seats.iter().zip(&told.seats);
        if all.clone().all(|pair| fits(&pair)) {
            seats.news.resize(told.seats.len(), TakenSeat::default());
            for (known, told) in seats.news.iter_mut().zip(&told.seats) {
                *known = (*known).max(*told);
            }
        }
    });
    take_news(world, lobby);
}

/// Takes over what is newer than what we play by; who has a seat now hears it from us, if we play.
fn take_news(world: &mut World, lobby: Entity) {
    let Some((me, now)) = us(world, lobby) else { return };
    world.resource_scope(|world, mut playing: Mut<'_, Playing>| {
        let mut taken = Vec::new();
        let running = playing.play.as_mut().filter(|play| play.lobby == lobby);
        with(world, lobby, |seats| {
            let Some((_, seating)) = &mut seats.seating else { return };
            taken = take(now, &mut seating.seats, &seats.news, running);
            if taken.contains(&me) {
                seats.claim.since = Some(now);
            }
        });
        let plays = playing.play.as_ref().is_some_and(|play| play.session.is_playing());
        for peer in taken.into_iter().filter(|peer| *peer != me && plays) {
            tell(world, lobby, peer);
        }
    });
}

/// Takes over what is newer; gives who got a seat. One whose player is still in the match follows later.
fn take(
    now: Now,
    ours: &mut [TakenSeat],
    theirs: &[TakenSeat],
    mut play: Option<&mut Play>,
) -> Vec<PeerId> {
    let mut taken = Vec::new();
    for (index, (ours, theirs)) in ours.iter_mut().zip(theirs).enumerate() {
        let Some(peer) = theirs.peer.filter(|_| *theirs > *ours) else { continue };
        let of = ours.peer.unwrap_or(nobody(index));
        if let Some(play) = &mut play {
            // Who watches is not told of views.
            if play.is_member(of) && !play.watches {
                continue;
            }
            play.session.handle(now, Input::Seat { of, peer });
            play.seats[index].peer = peer;
        }
        *ours = *theirs;
        taken.push(peer);
    }
    taken
}

fn us(world: &mut World, lobby: Entity) -> Option<(PeerId, Now)> {
    let me = world.get::<Lobby>(lobby)?.me;
    Some((me, wire::now(world, lobby)?))
}

fn tell(world: &mut World, lobby: Entity, peer: PeerId) {
    let seating = world.get::<Seats>(lobby).and_then(|seats| seats.seating.clone());
    if let Some((_, seating)) = seating {
        wire::say(world, lobby, peer, &Told::Seating(seating));
    }
}

/// Whether we, who come into a match that runs, are to wait: for a seat, or until all know that it is ours.
pub(super) fn waits(world: &mut World, lobby: Entity, me: PeerId) -> bool {
    let Some(now) = wire::now(world, lobby) else { return false };
    let connected = wire::peers(world, lobby);
    let ours = world.resource::<RollbackSettings>().0.local_players;
    let mut waits = false;
    with(world, lobby, |seats| {
        let Some((_, seating)) = &seats.seating else { return };
        let since = *seats.claim.since.get_or_insert(now);
        let late = now.since(since) >= PATIENCE;
        waits = !late
            && match seating.seats.iter().find(|seat| seat.peer == Some(me)) {
                Some(seat) if seat.given == 0 => false,
                Some(_) => !all_told(seating, &seats.claim, &connected),
                None => {
                    seating.seats.iter().any(|seat| seat.peer.is_none() && seat.players == ours)
                }
            };
    });
    waits
}

/// Whether all who play, and are connected to us, have said that we have a seat.
fn all_told(seating: &Seating, claim: &Claim, connected: &[PeerId]) -> bool {
    let mut seated = connected.iter().filter(|peer| seating.is_listed(**peer));
    seated.all(|peer| claim.told.contains(peer))
}

/// Gives seats, as the host; as who watches and was given one, takes it.
pub(crate) fn step(world: &mut World) {
    let Some(lobby) = world.resource::<Playing>().play.as_ref().map(|play| play.lobby) else {
        return;
    };
    let Some(&Lobby { me, host, .. }) = world.get::<Lobby>(lobby) else { return };
    let Some(of) = world.get::<Match>(lobby).copied() else { return };
    take_news(world, lobby);
    let Some(play) = &world.resource::<Playing>().play else { return };
    if me == host && play.session.is_playing() {
        give(world, lobby, me);
    } else if play.watches && is_seated(world, lobby, me) && !waits(world, lobby, me) {
        sit_down(world, lobby, (me, host), of);
    }
}

fn is_seated(world: &World, lobby: Entity, me: PeerId) -> bool {
    let seats = world.get::<Seats>(lobby);
    let seating = seats.and_then(|seats| seats.seating.as_ref());
    seating.is_some_and(|(_, seating)| seating.is_listed(me))
}

/// Whether there is somebody without a seat, and a seat without anybody.
fn may_give(seats: &Seats) -> bool {
    let Some((_, seating)) = &seats.seating else { return false };
    let mut told = seats.told.iter();
    let free = |seat: &TakenSeat| seat.peer.is_none_or(|of| seats.left.contains(&of));
    told.any(|(peer, players)| *players > 0 && !seating.is_listed(*peer))
        && seating.seats.iter().any(free)
}

/// Gives a seat to each who has none.
fn give(world: &mut World, lobby: Entity, me: PeerId) {
    let Some(play) = &world.resource::<Playing>().play else { return };
    let Some(seats) = world.get::<Seats>(lobby).filter(|seats| may_give(seats)) else { return };
    let Some((_, seating)) = &seats.seating else { return };
    let mut told = seating.clone();
    for (peer, players) in seats.told.iter().filter(|(peer, _)| !seating.is_listed(**peer)) {
        let left = |of: PeerId| seats.left.contains(&of) && !play.is_member(of);
        let fits = |seat: &&mut TakenSeat| seat.players == *players && seat.peer.is_none_or(left);
        if let Some(seat) = told.seats.iter_mut().find(fits) {
            (seat.peer, seat.given) = (Some(*peer), seat.given.saturating_add(1));
        }
    }
    if told != *seating {
        note(world, lobby, me, &told);
        wire::peers(world, lobby).into_iter().for_each(|peer| tell(world, lobby, peer));
    }
}

/// Ends to watch, and comes as a player.
fn sit_down(world: &mut World, lobby: Entity, ids: (PeerId, PeerId), mut of: Match) {
    let Some(mut watched) = world.resource_mut::<Playing>().play.take() else { return };
    let Some(now) = wire::now(world, lobby) else { return };
    leave(world, &mut watched, now);
    record::end(world, &mut watched);
    let seating = world.get::<Seats>(lobby).and_then(|seats| seats.seating.clone());
    if let Some((_, seating)) = seating {
        of.running = true;
        play(world, lobby, ids, &of, &seating);
    }
}
