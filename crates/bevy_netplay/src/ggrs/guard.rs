//! What ggrs may see of the messages of other players.
//!
//! ggrs 0.13 trusts them: it panics on packed inputs that are malformed ([`runs`]), on frames far from its
//! own, on a claim that a player was lost long ago or just now, on checksums while it compares none, and (in
//! debug builds) on numbers that overflow. The guard follows what ggrs does from what it sends and receives,
//! and refuses what an honest player's ggrs does not send at that point.
//!
//! | ggrs | the guard |
//! |---|---|
//! | greets: five requests of its own have to be answered | counts the answers; lets nothing but greetings through, and keeps the newest input for later |
//! | plays, with the one session of the other side that answered | refuses messages of another session |
//! | is told that a third player is lost | strips that, see below |
//!
//! A claim that a third player is lost reaches no session that plays: where the claimant had less of that
//! player's inputs than we have, ggrs 0.13 goes back to that frame again and again until it is out of its
//! reach, and then panics. Each session notices by itself who is lost.

use std::collections::{BTreeMap, VecDeque};

use netplay_protocol::PeerId;

use super::runs;
use super::wire::{Body, Input, Packet};

/// How far a player's inputs may be ahead of our own. ggrs has room for 128 frames, of which it needs the
/// prediction window and the input delay twice; an honest player is ahead by these, once, at most.
pub(super) const AHEAD_MAX: i32 = 64;
/// How many frames a checksum may be behind our own inputs: 17 seconds at 60 frames a second.
const BEHIND_MAX: i32 = 1024;
/// A session does not last longer: 103 days at 60 frames a second. ggrs' sums stay below an overflow.
const FRAME_MAX: i32 = 1 << 29;
/// Answers after which ggrs plays.
const ANSWERS: u8 = 5;
/// Requests that may still be answered: ggrs sends five a second.
const REQUESTS_MAX: usize = 64;
/// Echoes of times that may still come: ggrs sends five a second.
const PINGS_MAX: usize = 64;
/// Checksums that wait until we send some.
const REPORTS_MAX: usize = 4;
/// Looks into the socket without a new input of ours, after which a session stands still because it has to
/// wait for inputs: a quarter of a second, as ggrs looks twice in each tick.
const STILL: u32 = 30;

/// What is known of one other player, or spectator.
#[derive(Debug, Default)]
struct Remote {
    /// Whether it only watches.
    watches: bool,
    requests: VecDeque<u32>,
    answers: u8,
    /// Its session, once ours has been greeted by it.
    session: Option<u16>,
    /// The newest input that came before.
    early: Option<Packet>,
    pings: VecDeque<u128>,
    /// Checksums that came before our own session sent one.
    reports: VecDeque<Packet>,
    /// The newest frame of its inputs that our session was given, and has acknowledged.
    given: i32,
    newest: Option<i32>,
    departure: Departure,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Departure {
    #[default]
    None,
    /// It has left the lobby, and our session does not know.
    Due,
    Told,
}

/// Stands between the lane and one ggrs session.
#[derive(Debug)]
pub(super) struct Guard {
    remotes: BTreeMap<PeerId, Remote>,
    /// Our session watches; it has no inputs of its own.
    watches: bool,
    /// The first frame of our inputs, which is their delay, and the newest.
    own: Option<(i32, i32)>,
    /// Looks into the socket since our newest input.
    still: u32,
    /// How many players our session counts.
    statuses: Option<usize>,
    /// Our session compares checksums.
    compares: bool,
    unpacked: Vec<u8>,
}

impl Guard {
    pub(super) fn new(players: impl IntoIterator<Item = PeerId>) -> Self {
        Self {
            remotes: players.into_iter().map(|peer| (peer, Remote::default())).collect(),
            watches: false,
            own: None,
            still: 0,
            statuses: None,
            compares: false,
            unpacked: Vec::new(),
        }
    }

    /// This player only watches: nothing that it sends is an input.
    pub(super) fn add_spectator(&mut self, peer: PeerId) {
        self.remotes.entry(peer).or_default().watches = true;
    }

    /// Our session only watches.
    pub(super) const fn watch(&mut self) {
        self.watches = true;
    }

    /// This player has left the lobby, or is back.
    pub(super) fn departed(&mut self, peer: PeerId, departed: bool) {
        if let Some(remote) = self.remotes.get_mut(&peer) {
            remote.departure = match (remote.departure, departed) {
                (Departure::Told, _) => Departure::Told,
                (_, true) => Departure::Due,
                (_, false) => Departure::None,
            };
        }
    }

    /// Our session sends this.
    pub(super) fn sent(&mut self, to: PeerId, packet: &Packet) {
        let Some(remote) = self.remotes.get_mut(&to) else { return };
        match &packet.body {
            Body::SyncRequest { random } => push(&mut remote.requests, *random, REQUESTS_MAX),
            Body::QualityReport { ping, .. } => push(&mut remote.pings, *ping, PINGS_MAX),
            Body::InputAck { ack_frame } => remote.newest = Some(*ack_frame),
            Body::ChecksumReport { .. } => self.compares = true,
            Body::Input(input) => {
                remote.newest = Some(input.ack_frame);
                self.statuses = Some(input.statuses.len());
                let frames = runs::frames(&input.bytes, &mut self.unpacked).unwrap_or(0);
                let newest = input.start_frame.saturating_add(frames as i32 - 1);
                let (first, before) = self.own.unwrap_or((input.start_frame, -1));
                if newest > before {
                    self.own = Some((first, newest));
                    self.still = 0;
                }
            }
            Body::SyncReply { .. } | Body::QualityReply { .. } | Body::KeepAlive => {}
        }
    }

    /// Our session looks what has arrived: what it may see of that goes to `pass`. Gives how many
    /// messages were refused.
    pub(super) fn look(
        &mut self,
        arrived: impl IntoIterator<Item = (PeerId, Packet)>,
        mut pass: impl FnMut(PeerId, Packet),
    ) -> u64 {
        self.still = self.still.saturating_add(1);
        let mut refused = 0;
        for (from, packet) in arrived {
            refused += u64::from(self.admit(from, packet, &mut pass).is_err());
        }
        if self.compares {
            for (peer, remote) in &mut self.remotes {
                remote.reports.drain(..).for_each(|packet| pass(*peer, packet));
            }
        }
        if let Some((peer, packet)) = self.farewell() {
            pass(peer, packet);
        }
        refused
    }

    fn admit(
        &mut self,
        from: PeerId,
        packet: Packet,
        pass: &mut impl FnMut(PeerId, Packet),
    ) -> Result<(), Refused> {
        let remote = self.remotes.get_mut(&from).ok_or(Refused)?;
        let Some(session) = remote.session else {
            return self.admit_early(from, packet, pass);
        };
        if packet.magic != session {
            return Err(Refused);
        }
        match &packet.body {
            Body::Input(_) => return self.admit_input(from, packet, pass),
            Body::QualityReply { pong } if !remote.pings.contains(pong) => return Err(Refused),
            Body::ChecksumReport { frame, .. } => {
                let own = self.own.map_or(-1, |(_, newest)| newest);
                if *frame < 0 || !(own - BEHIND_MAX..=own + AHEAD_MAX).contains(frame) {
                    return Err(Refused);
                }
                if !self.compares {
                    push(&mut remote.reports, packet, REPORTS_MAX);
                    return Ok(());
                }
            }
            Body::SyncRequest { .. }
            | Body::SyncReply { .. }
            | Body::InputAck { .. }
            | Body::QualityReport { .. }
            | Body::QualityReply { .. }
            | Body::KeepAlive => {}
        }
        pass(from, packet);
        Ok(())
    }

    /// Before our session has been greeted. An honest player whose own session has been may play already:
    /// what it sends then is no offence, and comes again.
    fn admit_early(
        &mut self,
        from: PeerId,
        packet: Packet,
        pass: &mut impl FnMut(PeerId, Packet),
    ) -> Result<(), Refused> {
        let remote = self.remotes.get_mut(&from).ok_or(Refused)?;
        match packet.body {
            Body::SyncRequest { .. } => pass(from, packet),
            Body::SyncReply { random } => {
                let asked = remote.requests.iter().position(|request| *request == random);
                remote.requests.remove(asked.ok_or(Refused)?);
                remote.answers += 1;
                if remote.answers == ANSWERS {
                    remote.session = Some(packet.magic);
                }
                let early = remote.early.take_if(|_| remote.answers == ANSWERS);
                pass(from, packet);
                if let Some(early) = early {
                    return self.admit(from, early, pass);
                }
            }
            Body::Input(_) => remote.early = Some(packet),
            _ => {}
        }
        Ok(())
    }

    fn admit_input(
        &mut self,
        from: PeerId,
        mut packet: Packet,
        pass: &mut impl FnMut(PeerId, Packet),
    ) -> Result<(), Refused> {
        let remote = self.remotes.get_mut(&from).ok_or(Refused)?;
        let Body::Input(input) = &mut packet.body else { return Err(Refused) };
        let frames = runs::frames(&input.bytes, &mut self.unpacked).ok_or(Refused)?;
        let newest = input.start_frame.saturating_add(frames as i32 - 1);
        // A player cannot get far ahead of what it has of our inputs. One that says otherwise would have ggrs
        // keep ours until it takes the player for lost, at a frame on which it panics.
        let own = self.own.map_or(-1, |(_, newest)| newest).min(input.ack_frame);
        let last_allowed = if self.watches { FRAME_MAX } else { own.saturating_add(AHEAD_MAX) };
        let is_honest = !remote.watches
            && !input.disconnect_requested
            && frames > 0
            && input.start_frame >= 0
            && newest <= last_allowed.min(FRAME_MAX)
            && self.statuses.is_none_or(|count| count == input.statuses.len());
        if !is_honest {
            return Err(Refused);
        }
        remote.given = remote.given.max(newest);
        if !self.watches {
            input.statuses.iter_mut().for_each(|status| status.disconnected = false);
        }
        pass(from, packet);
        Ok(())
    }

    /// Tells our session that a player has left, as that player would: ggrs waits for its timeout otherwise.
    /// ggrs 0.13 panics on it while it has the player's input for the frame before the one that is next,
    /// so that this comes when the session stands still, and waits for this player.
    fn farewell(&mut self) -> Option<(PeerId, Packet)> {
        let (delay, own) = self.own.filter(|_| !self.watches && self.still >= STILL)?;
        let plays = |remote: &&Remote| {
            remote.departure != Departure::Told && remote.session.is_some() && !remote.watches
        };
        let waits_for = self.remotes.values().filter(plays).map(|remote| remote.newest).min()??;
        if waits_for < 0 || waits_for + 1 >= own - delay {
            return None;
        }
        let (peer, remote) = self.remotes.iter_mut().find(|(_, remote)| {
            plays(&&**remote)
                && remote.departure == Departure::Due
                && (remote.newest, remote.given) == (Some(waits_for), waits_for)
        })?;
        remote.departure = Departure::Told;
        let input = Input {
            statuses: Vec::new(),
            disconnect_requested: true,
            start_frame: 0,
            ack_frame: -1,
            bytes: Vec::new(),
        };
        Some((*peer, Packet { magic: remote.session?, body: Body::Input(input) }))
    }
}

/// No honest player's ggrs sends this now.
struct Refused;

fn push<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(item);
}
