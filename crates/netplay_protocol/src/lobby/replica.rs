//! A lobby as a member knows it: what it was told when it came, and every change since.

use super::{LobbyState, Member, ServerMessage, Tier, apply};
use crate::ids::PeerId;
use crate::limits::{LOBBY_MEMBERS_MAX, LOBBY_SPECTATORS_MAX};

impl LobbyState {
    /// Who this is, if it is a member.
    pub fn member(&self, peer: PeerId) -> Option<&Member> {
        self.members.iter().find(|member| member.peer == peer)
    }

    fn member_mut(&mut self, peer: PeerId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.peer == peer)
    }

    /// Takes what the server has told `me` of it. Whether it is another now; what says nothing of the lobby,
    /// or of members that are not there, changes nothing.
    ///
    /// A member that applies every message has the lobby as the server has it, as far as it may see it. The
    /// times that are left (`ready_check_ms`, `countdown_ms`) are those of when they were told.
    pub fn apply(&mut self, me: PeerId, message: &ServerMessage) -> bool {
        match message {
            ServerMessage::MemberJoined { member } => return self.joined(member),
            ServerMessage::MemberChanged { member } => {
                let Some(known) = self.member_mut(member.peer) else { return false };
                *known = member.clone();
            }
            ServerMessage::MemberLeft { peer, .. } => {
                let before = self.members.len();
                self.members.retain(|member| member.peer != *peer);
                return self.members.len() < before;
            }
            ServerMessage::MemberOffline { peer } => {
                let Some(known) = self.member_mut(*peer) else { return false };
                known.online = false;
            }
            ServerMessage::MemberOnline { peer, epoch } => {
                let Some(known) = self.member_mut(*peer) else { return false };
                (known.online, known.epoch) = (true, *epoch);
            }
            ServerMessage::MemberReady { peer, ready } => {
                let Some(known) = self.member_mut(*peer) else { return false };
                known.ready = *ready;
            }
            ServerMessage::HostChanged { host, term } => {
                (self.host, self.term) = (*host, *term);
                if *host != me {
                    self.data.retain(|_, entry| entry.tier != Tier::Host);
                }
            }
            ServerMessage::OptionsChanged { options, password } => {
                (self.options, self.password) = (options.clone(), *password);
            }
            ServerMessage::DataChanged { revision, changes } => {
                self.revision = *revision;
                apply(&mut self.data, changes);
            }
            ServerMessage::ReadyCheckBegins { ms } => {
                self.ready_check_ms = Some(*ms);
                self.members.iter_mut().for_each(|member| member.ready = false);
            }
            ServerMessage::ReadyCheckEnds { .. } => self.ready_check_ms = None,
            ServerMessage::CountdownBegins { ms } => self.countdown_ms = Some(*ms),
            ServerMessage::CountdownCancelled => self.countdown_ms = None,
            ServerMessage::Playing { playing } => {
                (self.playing, self.countdown_ms) = (*playing, None);
            }
            _ => return false,
        }
        true
    }

    fn joined(&mut self, member: &Member) -> bool {
        let room = usize::from(LOBBY_MEMBERS_MAX) + usize::from(LOBBY_SPECTATORS_MAX);
        let fits = self.members.len() < room && self.member(member.peer).is_none();
        if fits {
            self.members.push(member.clone());
        }
        fits
    }
}
