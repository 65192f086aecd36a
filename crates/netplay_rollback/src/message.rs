//! What peers of a session tell each other reliably and in order: see [`crate::protocol`].

use netplay_protocol::cursor::{ReadError, Reader};

use crate::input::Tick;
use crate::limits::{HISTORY, MESSAGE_MAX, PEERS_MAX, TAIL_MAX};

/// A peer's place in the roster.
pub(crate) type Slot = usize;

/// Peers, a bit for each slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mask(pub(crate) u16);

impl Mask {
    pub(crate) const fn contains(self, slot: Slot) -> bool {
        slot < PEERS_MAX && self.0 >> slot & 1 != 0
    }

    /// Only this one; nobody for a slot that nobody can have.
    pub(crate) const fn of(slot: Slot) -> Self {
        if slot < PEERS_MAX { Self(1 << slot) } else { Self(0) }
    }

    pub(crate) const fn set(&mut self, slot: Slot, value: bool) {
        if value {
            self.0 |= Self::of(slot).0;
        } else {
            self.0 &= !Self::of(slot).0;
        }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Slot> {
        (0..PEERS_MAX).filter(move |slot| self.contains(*slot))
    }
}

impl FromIterator<Slot> for Mask {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().fold(Self::default(), |mut mask, slot| {
            mask.set(slot, true);
            mask
        })
    }
}

/// A proposal's number: a later round wins, then the higher slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ballot {
    pub(crate) round: u32,
    pub(crate) slot: Slot,
}

/// Consecutive inputs of one peer's players.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) first: Tick,
    pub(crate) count: u16,
    pub(crate) bits: Vec<u8>,
}

impl Tail {
    /// The last tick that it tells.
    pub(crate) const fn last(&self) -> Tick {
        self.first + self.count as Tick - 1
    }
}

/// What a peer holds of one that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) slot: Slot,
    /// The last tick of which it holds the inputs.
    pub(crate) last: Tick,
    /// Those that who asks lacks, as many as fit.
    pub(crate) tail: Tail,
}

/// A peer leaves the match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    pub(crate) slot: Slot,
    /// The last tick at which it played.
    pub(crate) last: Tick,
}

/// A peer plays again from this tick on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) slot: Slot,
    pub(crate) from: Tick,
    /// Which process of the peer.
    pub(crate) epoch: u32,
}

/// How one view follows the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) leaves: Vec<Leave>,
    pub(crate) joins: Vec<Join>,
}

impl Decision {
    pub(crate) fn left(&self) -> Mask {
        self.leaves.iter().map(|leave| leave.slot).collect()
    }

    pub(crate) fn joined(&self) -> Mask {
        self.joins.iter().map(|join| join.slot).collect()
    }
}

/// What was decided in a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) ballot: Ballot,
    /// Who plays then.
    pub(crate) members: Mask,
    pub(crate) decision: Decision,
    /// Which process of each of them plays, if it did not from the start.
    pub(crate) epochs: Vec<(Slot, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Checksum {
        tick: Tick,
        sum: u64,
    },
    Agree {
        view: u32,
        agree: Agree,
    },
    Watch {
        next: Tick,
        delay: u16,
        view: u32,
    },
    Feed {
        first: Tick,
        count: u16,
        bits: Vec<u8>,
    },
    Fed {
        next: Tick,
    },
    Leave,
    Delay {
        at: Tick,
        delay: u8,
    },
    /// An answer to [`Self::Watch`]: I do not play either.
    Absent,
}

/// What the peers of one view say to agree on the next; see [`crate::agreement`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Agree {
    Report {
        lost: Mask,
    },
    Propose {
        ballot: Ballot,
        joins: Mask,
        leaves: Vec<(Slot, Tick)>,
    },
    Promise {
        ballot: Ballot,
        tick: Tick,
        held: Vec<Held>,
        accepted: Option<(Ballot, Decision)>,
    },
    Accept {
        ballot: Ballot,
        decision: Decision,
        /// Inputs of who leaves, after those that the receiver holds; as many as fit.
        tails: Vec<(Slot, Tail)>,
    },
    Accepted {
        ballot: Ballot,
    },
    TooLate {
        ballot: Ballot,
        confirmed: Tick,
    },
    Decided(Outcome),
    Behind,
    Want {
        ready: bool,
        epoch: u32,
    },
}

pub(crate) fn put_tick(out: &mut Vec<u8>, tick: Tick) {
    out.extend_from_slice(&tick.to_le_bytes());
}

fn put_ballot(out: &mut Vec<u8>, ballot: Ballot) {
    out.extend_from_slice(&ballot.round.to_le_bytes());
    out.push(ballot.slot as u8);
}

fn put_tail(out: &mut Vec<u8>, tail: &Tail) {
    put_tick(out, tail.first);
    out.extend_from_slice(&tail.count.to_le_bytes());
    out.extend_from_slice(&(tail.bits.len() as u16).to_le_bytes());
    out.extend_from_slice(&tail.bits);
}

fn put_decision(out: &mut Vec<u8>, decision: &Decision) {
    out.push(decision.leaves.len() as u8);
    for leave in &decision.leaves {
        out.push(leave.slot as u8);
        put_tick(out, leave.last);
    }
    out.push(decision.joins.len() as u8);
    for join in &decision.joins {
        out.push(join.slot as u8);
        put_tick(out, join.from);
        out.extend_from_slice(&join.epoch.to_le_bytes());
    }
}

impl Agree {
    const fn kind(&self) -> u8 {
        match self {
            Self::Report { .. } => 1,
            Self::Propose { .. } => 2,
            Self::Promise { .. } => 3,
            Self::Accept { .. } => 4,
            Self::Accepted { .. } => 5,
            Self::TooLate { .. } => 6,
            Self::Decided(_) => 7,
            Self::Behind => 8,
            Self::Want { .. } => 9,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Report { lost } => out.extend_from_slice(&lost.0.to_le_bytes()),
            Self::Propose { ballot, joins, leaves } => {
                put_ballot(out, *ballot);
                out.extend_from_slice(&joins.0.to_le_bytes());
                out.push(leaves.len() as u8);
                for (slot, held) in leaves {
                    out.push(*slot as u8);
                    put_tick(out, *held);
                }
            }
            Self::Promise { ballot, tick, held, accepted } => {
                put_ballot(out, *ballot);
                put_tick(out, *tick);
                out.push(held.len() as u8);
                for held in held {
                    out.push(held.slot as u8);
                    put_tick(out, held.last);
                    put_tail(out, &held.tail);
                }
                out.push(u8::from(accepted.is_some()));
                if let Some((ballot, decision)) = accepted {
                    put_ballot(out, *ballot);
                    put_decision(out, decision);
                }
            }
            Self::Accept { ballot, decision, tails } => {
                put_ballot(out, *ballot);
                put_decision(out, decision);
                out.push(tails.len() as u8);
                for (slot, tail) in tails {
                    out.push(*slot as u8);
                    put_tail(out, tail);
                }
            }
            Self::Accepted { ballot } => put_ballot(out, *ballot),
            Self::TooLate { ballot, confirmed } => {
                put_ballot(out, *ballot);
                put_tick(out, *confirmed);
            }
            Self::Decided(Outcome { ballot, members, decision, epochs }) => {
                put_ballot(out, *ballot);
                out.extend_from_slice(&members.0.to_le_bytes());
                put_decision(out, decision);
                out.push(epochs.len() as u8);
                for (slot, epoch) in epochs {
                    out.push(*slot as u8);
                    out.extend_from_slice(&epoch.to_le_bytes());
                }
            }
            Self::Behind => {}
            Self::Want { ready, epoch } => {
                out.push(u8::from(*ready));
                out.extend_from_slice(&epoch.to_le_bytes());
            }
        }
    }

    fn read(kind: u8, reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(match kind {
            1 => Self::Report { lost: Mask(reader.u16()?) },
            2 => {
                let (ballot, joins) = (read_ballot(reader)?, Mask(reader.u16()?));
                let leaves =
                    read_list(reader, |reader| Ok((read_slot(reader)?, read_tick(reader)?)))?;
                Self::Propose { ballot, joins, leaves }
            }
            3 => {
                let (ballot, tick) = (read_ballot(reader)?, read_tick(reader)?);
                let held = read_list(reader, |reader| {
                    let (slot, last) = (read_slot(reader)?, read_tick(reader)?);
                    Ok(Held { slot, last, tail: read_tail(reader)? })
                })?;
                let accepted = match read_bool(reader)? {
                    false => None,
                    true => Some((read_ballot(reader)?, read_decision(reader)?)),
                };
                Self::Promise { ballot, tick, held, accepted }
            }
            4 => {
                let (ballot, decision) = (read_ballot(reader)?, read_decision(reader)?);
                let tails =
                    read_list(reader, |reader| Ok((read_slot(reader)?, read_tail(reader)?)))?;
                Self::Accept { ballot, decision, tails }
            }
            5 => Self::Accepted { ballot: read_ballot(reader)? },
            6 => Self::TooLate { ballot: read_ballot(reader)?, confirmed: read_tick(reader)? },
            7 => {
                let (ballot, members) = (read_ballot(reader)?, Mask(reader.u16()?));
                let decision = read_decision(reader)?;
                let epochs = read_list(reader, |reader| Ok((read_slot(reader)?, reader.u32()?)))?;
                Self::Decided(Outcome { ballot, members, decision, epochs })
            }
            8 => Self::Behind,
            9 => Self::Want { ready: read_bool(reader)?, epoch: reader.u32()? },
            _ => return Err(ReadError::Unknown { what: "session message", value: kind.into() }),
        })
    }
}

pub(crate) fn read_tick(reader: &mut Reader<'_>) -> Result<Tick, ReadError> {
    let tick = reader.u32()? as Tick;
    // Far from the ends, so that no sum of ticks overflows.
    if (-HISTORY..Tick::MAX / 2).contains(&tick) {
        Ok(tick)
    } else {
        Err(ReadError::Unknown { what: "tick", value: tick as u32 })
    }
}

/// The number of a view, far from the end too.
pub(crate) fn read_view(reader: &mut Reader<'_>) -> Result<u32, ReadError> {
    match reader.u32()? {
        view if view <= u32::MAX / 2 => Ok(view),
        value => Err(ReadError::Unknown { what: "view", value }),
    }
}

fn read_bool(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(ReadError::Unknown { what: "yes or no", value: value.into() }),
    }
}

fn read_slot(reader: &mut Reader<'_>) -> Result<Slot, ReadError> {
    let slot = reader.u8()?;
    if usize::from(slot) < PEERS_MAX {
        Ok(slot.into())
    } else {
        Err(ReadError::Unknown { what: "slot", value: slot.into() })
    }
}

fn read_ballot(reader: &mut Reader<'_>) -> Result<Ballot, ReadError> {
    Ok(Ballot { round: reader.u32()?, slot: read_slot(reader)? })
}

/// A list of at most one entry for each slot.
fn read_list<T>(
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, ReadError>,
) -> Result<Vec<T>, ReadError> {
    let len = usize::from(reader.u8()?);
    if len > PEERS_MAX {
        return Err(ReadError::TooLong { len, max: PEERS_MAX });
    }
    (0..len).map(|_| read(reader)).collect()
}

fn read_tail(reader: &mut Reader<'_>) -> Result<Tail, ReadError> {
    let (first, count) = (read_tick(reader)?, reader.u16()?);
    let len = usize::from(reader.u16()?);
    if len > TAIL_MAX || Tick::from(count) > HISTORY {
        return Err(ReadError::TooLong { len, max: TAIL_MAX });
    }
    Ok(Tail { first, count, bits: reader.bytes(len)?.to_vec() })
}

fn read_decision(reader: &mut Reader<'_>) -> Result<Decision, ReadError> {
    let leaves = read_list(reader, |reader| {
        Ok(Leave { slot: read_slot(reader)?, last: read_tick(reader)? })
    })?;
    let joins = read_list(reader, |reader| {
        Ok(Join { slot: read_slot(reader)?, from: read_tick(reader)?, epoch: reader.u32()? })
    })?;
    Ok(Decision { leaves, joins })
}

impl Message {
    /// The bytes, for this session.
    pub(crate) fn encode(&self, session: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(match self {
            Self::Checksum { .. } => 0,
            Self::Agree { agree, .. } => agree.kind(),
            Self::Watch { .. } => 10,
            Self::Feed { .. } => 11,
            Self::Fed { .. } => 12,
            Self::Leave => 13,
            Self::Delay { .. } => 14,
            Self::Absent => 15,
        });
        out.extend_from_slice(&(session as u32).to_le_bytes());
        match self {
            Self::Checksum { tick, sum } => {
                put_tick(&mut out, *tick);
                out.extend_from_slice(&sum.to_le_bytes());
            }
            Self::Agree { view, agree } => {
                out.extend_from_slice(&view.to_le_bytes());
                agree.put(&mut out);
            }
            Self::Watch { next, delay, view } => {
                put_tick(&mut out, *next);
                out.extend_from_slice(&delay.to_le_bytes());
                out.extend_from_slice(&view.to_le_bytes());
            }
            Self::Feed { first, count, bits } => {
                put_tick(&mut out, *first);
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(bits);
            }
            Self::Fed { next } => put_tick(&mut out, *next),
            Self::Leave | Self::Absent => {}
            Self::Delay { at, delay } => {
                put_tick(&mut out, *at);
                out.push(*delay);
            }
        }
        out
    }

    /// Reads a message; `None` if it is of another session.
    ///
    /// # Errors
    /// [`ReadError`] for anything that no peer writes.
    pub(crate) fn decode(bytes: &[u8], session: u64) -> Result<Option<Self>, ReadError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(ReadError::TooLong { len: bytes.len(), max: MESSAGE_MAX });
        }
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        if reader.u32()? != session as u32 {
            return Ok(None);
        }
        let message = match kind {
            0 => Self::Checksum { tick: read_tick(&mut reader)?, sum: reader.u64()? },
            10 => {
                let (next, delay) = (read_tick(&mut reader)?, reader.u16()?);
                Self::Watch { next, delay, view: read_view(&mut reader)? }
            }
            11 => {
                let (first, count) = (read_tick(&mut reader)?, reader.u16()?);
                let bits = reader.bytes(reader.rest().len())?.to_vec();
                Self::Feed { first, count, bits }
            }
            12 => Self::Fed { next: read_tick(&mut reader)? },
            13 => Self::Leave,
            14 => Self::Delay { at: read_tick(&mut reader)?, delay: reader.u8()? },
            15 => Self::Absent,
            kind => {
                let view = read_view(&mut reader)?;
                Self::Agree { view, agree: Agree::read(kind, &mut reader)? }
            }
        };
        reader.finish()?;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests;
