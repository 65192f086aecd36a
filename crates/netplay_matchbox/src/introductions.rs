//! Who is told of whom: a pure machine between the events of our lobby and those that matchbox expects.
//!
//! | the lobby says | matchbox hears |
//! |---|---|
//! | joined, for the first time | `IdAssigned`: first, and once, as a second one makes the socket panic |
//! | who is in the lobby that we joined, or find again | nothing: they were told of us, and make the offer |
//! | a member joined | `NewPeer`: we make the offer; not of somebody we knew before |
//! | a member is offline, or back | nothing |
//! | a member left | `PeerLeft` |
//! | a signal | `Signal`, if a matchbox player said it |
//! | another id; refused; put out | `PeerLeft` of all if we are put out, then the end |

use std::collections::{BTreeSet, VecDeque};

use matchbox_socket::PeerEvent;
use netplay_peer::lobby_client::LobbyEvent;
use netplay_protocol::PeerId;
use netplay_protocol::limits::{LOBBY_MEMBERS_MAX, LOBBY_SPECTATORS_MAX};

use crate::handle::LobbyError;
use crate::translate::{matchbox_id, to_matchbox};

/// Members at a time.
const PRESENT_MAX: usize = (LOBBY_MEMBERS_MAX + LOBBY_SPECTATORS_MAX) as usize;
/// Members of earlier times that are remembered, so that nobody is met twice. Who was forgotten and comes
/// again, after so many others, is offered a second connection.
const MET_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Introductions {
    me: Option<PeerId>,
    /// Matchbox knows our id.
    assigned: bool,
    present: BTreeSet<PeerId>,
    /// The oldest first.
    met: VecDeque<PeerId>,
}

impl Introductions {
    /// Takes one event of the lobby; adds to `told` what matchbox has to hear.
    ///
    /// # Errors
    /// Nobody new can be met any more.
    pub(crate) fn take(
        &mut self,
        event: LobbyEvent,
        told: &mut VecDeque<PeerEvent>,
    ) -> Result<(), LobbyError> {
        match event {
            LobbyEvent::Online { me } => {
                if self.assigned && self.me != Some(me) {
                    return Err(LobbyError::SessionLost);
                }
                self.me = Some(me);
            }
            LobbyEvent::Joined(lobby) | LobbyEvent::Restored(lobby) => {
                let Some(me) = self.me else { return Ok(()) };
                if !core::mem::replace(&mut self.assigned, true) {
                    told.push_back(PeerEvent::IdAssigned(matchbox_id(me)));
                }
                for member in lobby.members.iter().filter(|member| member.peer != me) {
                    self.meet(member.peer);
                }
            }
            LobbyEvent::MemberJoined(peer, _) => {
                if self.meet(peer) {
                    told.push_back(PeerEvent::NewPeer(matchbox_id(peer)));
                }
            }
            LobbyEvent::MemberLeft(peer, _) => {
                if self.present.remove(&peer) {
                    told.push_back(PeerEvent::PeerLeft(matchbox_id(peer)));
                }
            }
            LobbyEvent::Signal(peer, signal) => {
                if self.present.contains(&peer)
                    && let Some(data) = to_matchbox(signal)
                {
                    told.push_back(PeerEvent::Signal { sender: matchbox_id(peer), data });
                }
            }
            LobbyEvent::Removed(reason) => {
                let all = core::mem::take(&mut self.present);
                told.extend(all.into_iter().map(|peer| PeerEvent::PeerLeft(matchbox_id(peer))));
                return Err(LobbyError::Removed(reason));
            }
            LobbyEvent::JoinRefused { code, text } => {
                return Err(LobbyError::Refused { code, text });
            }
            // The lobby client asks for it by its code, and tells what comes of that.
            LobbyEvent::LobbyGone
            | LobbyEvent::Offline { .. }
            | LobbyEvent::Saved(_)
            | LobbyEvent::Lobbies { .. }
            | LobbyEvent::Changed(_)
            | LobbyEvent::News(_)
            | LobbyEvent::MemberOffline(_)
            | LobbyEvent::MemberOnline(..)
            | LobbyEvent::HostChanged(_) => {}
        }
        Ok(())
    }

    /// A member is there. Whether it is news.
    fn meet(&mut self, peer: PeerId) -> bool {
        if self.present.contains(&peer) || self.present.len() >= PRESENT_MAX {
            return false;
        }
        self.present.insert(peer);
        let news = !self.met.contains(&peer);
        if news {
            if self.met.len() == MET_MAX {
                self.met.pop_front();
            }
            self.met.push_back(peer);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use netplay_protocol::LobbyCode;
    use netplay_protocol::lobby::{
        ErrorCode, LeaveReason, LobbyOptions, LobbyState, Member, Signal, SignalBody,
    };

    use super::*;

    const ME: PeerId = PeerId::from_u128(1);
    const A: PeerId = PeerId::from_u128(2);
    const B: PeerId = PeerId::from_u128(3);

    fn lobby(members: &[PeerId]) -> LobbyState {
        let members = members.iter().map(|peer| Member::new(*peer, 0)).collect();
        LobbyState::new(LobbyCode::from_random(1), LobbyOptions::public(4), ME, members)
    }

    fn tell(machine: &mut Introductions, event: LobbyEvent) -> Vec<PeerEvent> {
        let mut told = VecDeque::new();
        machine.take(event, &mut told).unwrap();
        told.into()
    }

    /// A machine that has joined a lobby with these.
    fn joined(members: &[PeerId]) -> Introductions {
        let mut machine = Introductions::default();
        assert_eq!(tell(&mut machine, LobbyEvent::Online { me: ME }), []);
        let told = tell(&mut machine, LobbyEvent::Joined(lobby(members)));
        assert_eq!(told, [PeerEvent::IdAssigned(matchbox_id(ME))], "those there make the offer");
        machine
    }

    #[test]
    fn who_comes_after_us_is_offered_a_connection_once() {
        let mut machine = joined(&[A, ME]);
        let told = tell(&mut machine, LobbyEvent::MemberJoined(B, 0));
        assert_eq!(told, [PeerEvent::NewPeer(matchbox_id(B))]);
        for known in [A, B] {
            assert_eq!(tell(&mut machine, LobbyEvent::MemberJoined(known, 0)), []);
        }
    }

    #[test]
    fn a_server_started_anew_is_no_news_and_neither_is_who_comes_back_to_it() {
        let mut machine = joined(&[A, ME]);
        tell(&mut machine, LobbyEvent::MemberJoined(B, 0));
        assert_eq!(tell(&mut machine, LobbyEvent::Online { me: ME }), []);
        assert_eq!(tell(&mut machine, LobbyEvent::Restored(lobby(&[ME]))), []);
        assert_eq!(tell(&mut machine, LobbyEvent::MemberJoined(B, 0)), []);
        assert_eq!(tell(&mut machine, LobbyEvent::MemberJoined(A, 0)), []);
    }

    #[test]
    fn who_came_while_we_were_away_makes_the_offer() {
        let mut machine = joined(&[A, ME]);
        assert_eq!(tell(&mut machine, LobbyEvent::Restored(lobby(&[A, B, ME]))), []);
        assert_eq!(tell(&mut machine, LobbyEvent::MemberJoined(B, 0)), []);
        let body = SignalBody::Offer { sdp: "v=0".into() };
        let offer = LobbyEvent::Signal(B, Signal { attempt: 1, body });
        assert!(matches!(tell(&mut machine, offer)[..], [PeerEvent::Signal { .. }]));
    }

    #[test]
    fn a_member_that_is_away_is_no_news_and_one_that_left_is_once() {
        let mut machine = joined(&[A, ME]);
        assert_eq!(tell(&mut machine, LobbyEvent::MemberOffline(A)), []);
        assert_eq!(tell(&mut machine, LobbyEvent::MemberOnline(A, 0)), []);
        let left = || LobbyEvent::MemberLeft(A, LeaveReason::TimedOut);
        assert_eq!(tell(&mut machine, left()), [PeerEvent::PeerLeft(matchbox_id(A))]);
        assert_eq!(tell(&mut machine, left()), []);
    }

    #[test]
    fn another_id_ends_it_once_matchbox_knows_ours() {
        let mut machine = Introductions::default();
        tell(&mut machine, LobbyEvent::Online { me: A });
        let mut machine_joined = joined(&[ME]);
        assert_eq!(tell(&mut machine, LobbyEvent::Online { me: ME }), [], "not in a lobby yet");
        let other = machine_joined.take(LobbyEvent::Online { me: A }, &mut VecDeque::new());
        assert_eq!(other, Err(LobbyError::SessionLost));
    }

    #[test]
    fn who_is_put_out_loses_all_and_who_is_refused_hears_why() {
        let mut machine = joined(&[A, ME]);
        let mut told = VecDeque::new();
        let removed = machine.take(LobbyEvent::Removed(LeaveReason::Kicked), &mut told);
        assert_eq!(removed, Err(LobbyError::Removed(LeaveReason::Kicked)));
        assert_eq!(told, [PeerEvent::PeerLeft(matchbox_id(A))]);
        let (code, text) = (ErrorCode::NoSuchLobby, "no".to_owned());
        let refused = LobbyEvent::JoinRefused { code, text: text.clone() };
        let refused = Introductions::default().take(refused, &mut told);
        assert_eq!(refused, Err(LobbyError::Refused { code, text }));
    }

    #[test]
    fn nothing_grows_with_what_the_server_says() {
        let mut machine = joined(&[ME]);
        for i in 10..10_000 {
            tell(&mut machine, LobbyEvent::MemberJoined(PeerId::from_u128(i), 0));
        }
        assert_eq!(machine.present.len(), PRESENT_MAX);
        for i in 10..10_000 {
            let peer = PeerId::from_u128(i);
            tell(&mut machine, LobbyEvent::MemberLeft(peer, LeaveReason::Left));
            tell(&mut machine, LobbyEvent::MemberJoined(PeerId::from_u128(i + 10_000), 0));
        }
        assert!(machine.met.len() <= MET_MAX && machine.present.len() <= PRESENT_MAX);
    }
}
