//! Logins, join tickets, and what counts for an account and not for a session.

use core::time::Duration;

use netplay_protocol::lobby::{
    ClientMessage, ErrorCode, JoinTicket, Jwt, LobbyOptions, Login, Rejoin, Resume, ServerMessage,
    SessionKind, Visibility,
};
use netplay_protocol::{AccountId, GameId, LobbyCode};

use super::node::{Node, options};
use crate::{ConnectionId, Input, RateLimit, TicketFor};

const SECOND: Duration = Duration::from_secs(1);

fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

impl Node {
    fn ticket(&mut self, name: &str, lobby: Option<LobbyCode>) -> JoinTicket {
        let game = GameId::new("game").unwrap();
        let ticket = TicketFor { account: account(name), game, lobby, secs: None };
        self.directory.issue_ticket(self.now, ticket)
    }

    /// Connects and greets with this; why it is refused, if it is.
    fn log_in(&mut self, connection: u64, login: Option<Login>) -> Option<ErrorCode> {
        self.connect(connection);
        let ClientMessage::Hello { protocol, game, build, resume, .. } =
            ClientMessage::hello(GameId::new("game").unwrap(), None)
        else {
            unreachable!("that is what it makes");
        };
        self.say(connection, ClientMessage::Hello { protocol, game, build, resume, login });
        let refused = self.closed(connection);
        if refused.is_none() {
            self.welcomed(connection);
        }
        refused
    }

    fn log_in_by(&mut self, connection: u64, ticket: JoinTicket) -> Option<ErrorCode> {
        self.log_in(connection, Some(Login::Ticket(ticket)))
    }

    /// Connects and greets as this account.
    fn log_in_as(&mut self, connection: u64, name: &str) -> Option<ErrorCode> {
        let ticket = self.ticket(name, None);
        self.log_in_by(connection, ticket)
    }

    fn resume(&mut self, old: u64, new: u64) -> Option<ErrorCode> {
        let (peer, token) = self.session(old);
        self.connect(new);
        self.say_hello(new, Some(Resume { peer, token, seen: 0, restart: false }));
        self.closed(new)
    }
}

#[test]
fn where_logins_are_required_nobody_gets_in_without_and_a_session_needs_it_once() {
    let mut node = Node::with(|config| config.login_required = true);
    assert_eq!(node.log_in(1, None), Some(ErrorCode::Unauthorized));
    assert_eq!(node.log_in_as(2, "ann"), None);
    let lobby = node.create(2, options(2));
    assert_eq!(lobby.members[0].account, Some(account("ann")), "members see who it is");
    node.disconnect(2);
    assert_eq!(node.resume(2, 3), None);
    assert_eq!(node.welcomed(3).1, SessionKind::Continued);
    node.restart_server();
    assert_eq!(node.resume(3, 4), None, "its token says who it is");
    assert_eq!(node.welcomed(4).1, SessionKind::Restored);
    let back = node.lobby(4).expect("it is in its lobby");
    assert_eq!(back.members[0].account, Some(account("ann")));
}

#[test]
fn a_ticket_is_good_once_for_its_game_on_its_server_and_for_its_time() {
    let mut node = Node::new();
    let ticket = node.ticket("ann", None);
    assert_eq!(node.log_in_by(1, ticket.clone()), None);
    assert_eq!(node.log_in_by(2, ticket), Some(ErrorCode::Unauthorized), "it was used");

    let old = node.ticket("ann", None);
    node.wait(600 * SECOND);
    assert_eq!(node.log_in_by(3, old), Some(ErrorCode::Unauthorized), "it is too old");

    let game = GameId::new("another").unwrap();
    let ticket = TicketFor { account: account("ann"), game, lobby: None, secs: Some(u64::MAX) };
    let other = node.directory.issue_ticket(node.now, ticket);
    assert_eq!(node.log_in_by(4, other), Some(ErrorCode::Unauthorized), "it is for another game");

    let before = node.ticket("ann", None);
    node.restart_server();
    assert_eq!(
        node.log_in_by(5, before),
        Some(ErrorCode::Unauthorized),
        "nobody knows whether it was used"
    );

    let forged = JoinTicket("e30.AAAA".into());
    assert_eq!(node.log_in_by(6, forged), Some(ErrorCode::Unauthorized));
}

#[test]
fn tickets_that_were_used_are_forgotten_when_they_are_over_and_before_that_bounded() {
    let mut node = Node::with(|config| config.max_used_tickets = 2);
    let ticket = node.ticket("a", None);
    assert_eq!(node.log_in_by(1, ticket), None);
    assert_eq!(node.log_in_as(2, "b"), None);
    assert_eq!(node.log_in_as(3, "c"), Some(ErrorCode::ServerFull));
    node.wait(601 * SECOND);
    assert_eq!(node.log_in_as(4, "c"), None);
}

#[test]
fn a_ticket_opens_the_lobby_that_it_names() {
    let mut node = Node::new();
    let hidden = LobbyOptions { visibility: Visibility::Hidden, ..options(4) };
    let (code, _) = node.lobby_of(1, hidden);
    assert_eq!(node.log_in_as(2, "ann"), None);
    assert_eq!(node.refused(2, ClientMessage::join(1, code)), ErrorCode::NotInvited);
    let ticket = node.ticket("bob", Some(code));
    assert_eq!(node.log_in_by(3, ticket), None);
    node.join(3, code);
}

#[test]
fn who_is_put_out_until_it_is_invited_is_not_let_in_by_the_ticket_it_came_with() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, options(4));
    let ticket = node.ticket("bob", Some(code));
    assert_eq!(node.log_in_by(2, ticket), None);
    let bob = node.join(2, code).members[1].peer;
    node.wait(SECOND);
    node.take(1);
    node.done(1, ClientMessage::Kick { request: 1, peer: bob, rejoin: Rejoin::Invited });
    node.take(2);
    assert_eq!(node.refused(2, ClientMessage::join(1, code)), ErrorCode::NotInvited);
    let invited_anew = node.ticket("bob", Some(code));
    assert_eq!(node.log_in_by(3, invited_anew), None);
    node.join(3, code);
}

#[test]
fn who_said_nothing_of_itself_before_logins_were_required_has_to_say_it_now() {
    let mut node = Node::new();
    node.hello(1);
    node.take(1);
    node.require_logins();
    node.restart_server();
    assert_eq!(node.resume(1, 2), Some(ErrorCode::Unauthorized));
}

#[test]
fn a_jwt_counts_for_what_the_shell_has_found_in_it() {
    let mut node = Node::new();
    let jwt = || Some(Login::Jwt(Jwt("a.b.c".into())));
    assert_eq!(node.log_in(1, jwt()), Some(ErrorCode::Unauthorized), "nobody reads it");
    for (connection, found, refused) in [
        (2, Ok(account("ann")), None),
        (3, Err("it is too old".to_owned()), Some(ErrorCode::Unauthorized)),
    ] {
        node.connect(connection);
        node.input(Input::LoggedIn { connection: ConnectionId(connection), account: found });
        let game = GameId::new("game").unwrap();
        let ClientMessage::Hello { protocol, game, build, resume, .. } =
            ClientMessage::hello(game, None)
        else {
            unreachable!("that is what it makes");
        };
        let login = jwt();
        node.say(connection, ClientMessage::Hello { protocol, game, build, resume, login });
        assert_eq!(node.closed(connection), refused);
    }
    node.welcomed(2);
    assert_eq!(node.create(2, options(2)).members[0].account, Some(account("ann")));
}

#[test]
fn an_account_has_a_few_sessions_and_those_that_end_make_room() {
    let mut node = Node::with(|config| config.sessions_per_account = 2);
    assert_eq!(node.log_in_as(1, "ann"), None);
    assert_eq!(node.log_in_as(2, "ann"), None);
    assert_eq!(node.log_in_as(3, "ann"), Some(ErrorCode::AccountInUse));
    assert_eq!(node.log_in_as(4, "bob"), None);
    node.say(1, ClientMessage::Goodbye);
    assert_eq!(node.log_in_as(5, "ann"), None);
    for connection in [2, 4, 5] {
        node.say(connection, ClientMessage::Goodbye);
    }
    assert_eq!(node.directory.stats().accounts, 0);
}

#[test]
fn connections_of_one_account_share_its_messages() {
    let mut node = Node::with(|config| {
        config.account_messages = RateLimit { burst: 4, per_second: 1 };
    });
    assert_eq!(node.log_in_as(1, "ann"), None);
    assert_eq!(node.log_in_as(2, "ann"), None);
    for request in 0..2 {
        node.say(1, ClientMessage::search(request));
        node.say(2, ClientMessage::search(request));
    }
    (1..=2).for_each(|of| drop(node.take(of)));
    assert_eq!(node.refused(1, ClientMessage::search(9)), ErrorCode::RateLimited);
    assert_eq!(node.refused(2, ClientMessage::search(9)), ErrorCode::RateLimited);
}

#[test]
fn members_share_what_all_of_them_are_told_and_nobody_is_closed_for_it() {
    let mut node = Node::with(|config| {
        config.lobby_messages = RateLimit { burst: 3, per_second: 1 };
    });
    node.lobby_of(2, options(2));
    for _ in 0..3 {
        node.say(1, ClientMessage::Ready { ready: true });
    }
    node.take(2);
    let set = ClientMessage::SetMemberData { request: 5, changes: Default::default() };
    for _ in 0..20 {
        assert_eq!(node.refused(2, set.clone()), ErrorCode::RateLimited);
    }
    // Who does not listen does not make it longer for the others.
    node.wait(SECOND);
    node.take(2);
    node.done(2, set);
}

#[test]
fn a_ticket_whose_session_was_refused_is_good_until_one_begins() {
    let mut node = Node::with(|config| config.sessions_per_account = 1);
    assert_eq!(node.log_in_as(1, "ann"), None);
    let ticket = node.ticket("ann", None);
    assert_eq!(node.log_in_by(2, ticket.clone()), Some(ErrorCode::AccountInUse));
    node.disconnect(1);
    node.wait(31 * SECOND);
    assert_eq!(node.log_in_by(3, ticket.clone()), None);
    assert_eq!(node.log_in_by(4, ticket), Some(ErrorCode::Unauthorized), "it was used");
}

#[test]
fn who_is_put_out_of_a_lobby_does_not_come_back_as_another_session() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, options(4));
    assert_eq!(node.log_in_as(2, "ann"), None);
    node.join(2, code);
    node.take(1);
    let peer = node.session(2).0;
    node.done(1, ClientMessage::Kick { request: 1, peer, rejoin: Rejoin::Never });
    assert_eq!(node.log_in_as(3, "ann"), None);
    assert_eq!(node.refused(3, ClientMessage::join(1, code)), ErrorCode::Banned);
    assert_ne!(node.quick(3, options(4)).code, code);
    assert_eq!(node.log_in_as(4, "bob"), None);
    node.join(4, code);
}

#[test]
fn a_ban_of_the_server_ends_sessions_and_lets_none_in_until_it_is_over() {
    let mut node = Node::new();
    let (code, _) = node.lobby_of(1, options(4));
    assert_eq!(node.log_in_as(2, "ann"), None);
    node.join(2, code);
    node.take(1);
    let until = node.directory.unix_secs() + 60;
    node.input(Input::Ban { account: account("ann"), until });
    assert_eq!(node.closed(2), Some(ErrorCode::Banned));
    assert!(matches!(node.take(1)[..], [ServerMessage::MemberLeft { .. }]));
    assert_eq!(node.resume(2, 3), Some(ErrorCode::Banned));
    assert_eq!(node.log_in_as(4, "ann"), Some(ErrorCode::Banned));
    assert_eq!(node.directory.bans().count(), 1);
    node.wait(61 * SECOND);
    assert_eq!(node.log_in_as(5, "ann"), None);
    node.input(Input::Ban { account: account("ann"), until: u64::MAX });
    node.input(Input::Unban { account: account("ann") });
    assert_eq!(node.log_in_as(6, "ann"), None);
}

#[test]
fn beyond_what_is_kept_the_ban_that_is_over_first_is_forgotten() {
    let mut node = Node::with(|config| config.max_bans = 2);
    for (name, until) in [("a", 9_000_000), ("b", 8_000_000), ("c", 9_000_000)] {
        node.input(Input::Ban { account: account(name), until });
    }
    let banned: Vec<_> = node.directory.bans().map(|(account, _)| account.as_str()).collect();
    assert_eq!(banned, ["a", "c"]);
}

#[test]
fn new_sessions_are_limited_and_those_that_are_taken_up_are_not() {
    let mut node = Node::with(|config| {
        config.new_sessions = RateLimit { burst: 2, per_second: 1 };
    });
    node.hello(1);
    node.hello(2);
    for connection in 10..30 {
        assert_eq!(node.log_in(connection, None), Some(ErrorCode::ServerFull), "however many come");
    }
    node.disconnect(1);
    assert_eq!(node.resume(1, 4), None);
    node.wait(3 * SECOND);
    node.hello(5);
}

#[test]
fn logins_that_count_for_nothing_take_no_place_of_those_that_do() {
    let mut node = Node::with(|config| {
        config.login_required = true;
        config.new_sessions = RateLimit { burst: 1, per_second: 1 };
    });
    for connection in 1..=10 {
        assert_eq!(node.log_in(connection, None), Some(ErrorCode::Unauthorized));
    }
    assert_eq!(node.log_in_as(11, "ann"), None);
    let ticket = node.ticket("bob", None);
    assert_eq!(node.log_in_by(12, ticket.clone()), Some(ErrorCode::ServerFull));
    node.wait(SECOND);
    assert_eq!(node.log_in_by(13, ticket), None, "a ticket that did not help is good still");
}
