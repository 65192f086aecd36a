//! Every limit and time of a [`Directory`](crate::Directory) and of [`Rooms`](crate::matchbox::Rooms),
//! each with its reason.

use core::time::Duration;

/// How fast something may happen: a bucket of `burst` tokens that refills at `per_second`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Tokens of a full bucket. A client that goes on until it owes as many again is closed.
    pub burst: u32,
    /// Tokens that come back in a second. Zero counts as one.
    pub per_second: u32,
}

/// Limits and times of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a connection may take to say `hello`. A player on a bad mobile link needs about a
    /// second; more only helps those who hold sockets open.
    pub hello_timeout: Duration,
    /// How often a client is asked to speak at least. Home routers forget an idle TCP connection
    /// after minutes, so this is about noticing a dead player soon.
    pub keep_alive: Duration,
    /// After how many missed keep-alives a connection counts as dead: one may be late, two may meet
    /// a Wi-Fi roam, three are silence.
    pub keep_alives_missed: u32,
    /// How long a session outlives its connection, and how long a host leads on whose seat is kept for
    /// longer: a phone that changes networks or a laptop that wakes up is back within seconds.
    pub grace: Duration,
    /// How long a seat may be kept at most, whatever a lobby wants: it holds a session.
    pub seat_max: Duration,
    /// After a restart, how long a lobby waits for its members before others may enter: they come back
    /// within 7.5 s.
    pub returning: Duration,
    /// How long a resume token is good for. Longer than anybody plays.
    pub token_lifetime: Duration,
    /// Connections at most, those without a session included.
    pub max_connections: usize,
    /// Sessions at most. More than connections, because a session outlives its connection.
    pub max_sessions: usize,
    /// Sessions without a connection that are kept for one address; of more, the one ends that has been offline
    /// longest. Whoever opens connections and drops them would fill the node.
    pub offline_per_address: usize,
    /// Lobbies at most. Each has a session, so more than sessions is no limit at all.
    pub max_lobbies: usize,
    /// Frames that one session's log keeps. Joining a full lobby of 16 is about 15 × 22 signals.
    pub log_frames: usize,
    /// Bytes of JSON that one session's log keeps: the same join with 4 KiB an offer is 130 KiB.
    pub log_bytes: usize,
    /// Bytes of JSON that all logs keep together. It bounds a node whose every client never
    /// confirms a frame. A session that would exceed it loses its log, and with it the resume.
    pub log_bytes_total: usize,
    /// Messages of one connection, signals excepted. Players click; programs that do more are
    /// broken or hostile. Keep-alives count.
    pub messages: RateLimit,
    /// Signals of one connection. Connecting to 15 others at once is about 330.
    pub signals: RateLimit,
    /// Joins by code of one connection: nobody types faster.
    pub joins: RateLimit,
    /// Codes of one address that no lobby has: guessing 39 bits must stay hopeless for who opens connections
    /// without end. A school mistypes less.
    pub address_guesses: RateLimit,
    /// Searches and quick joins of one connection: a list that is refreshed every two seconds, and a player who
    /// changes what it shows. One looks at 20 000 lobbies at most, which takes milliseconds.
    pub searches: RateLimit,
    /// The same of all connections of one address together: a hundred players behind it who look at the list.
    pub address_searches: RateLimit,
    /// Wrong passwords for one lobby, of everybody together: who has many addresses would guess faster. Who
    /// uses it up keeps the next ones from entering by password, not by invitation.
    pub passwords: RateLimit,
    /// Lines of chat of one connection.
    pub chat: RateLimit,
    /// Invitations of one connection: each is shown to somebody.
    pub invites: RateLimit,
    /// How long a lobby lives at most. Longer than anybody plays, and a lobby that was forgotten goes.
    pub lobby_lifetime: Duration,
    /// Whether only players get in who show who they are, by a JWT or a join ticket.
    pub login_required: bool,
    /// How long a join ticket is good for at most: from the operator's backend to the player's game.
    pub ticket_lifetime: Duration,
    /// Tickets that were used and are not over, at most: as many new players as come within
    /// `ticket_lifetime`.
    pub max_used_tickets: usize,
    /// Sessions of one account at most: a computer, a phone, and one that has just lost its connection.
    pub sessions_per_account: u32,
    /// Messages of all connections of an account together, signals excepted: so that several do not make a
    /// faster one.
    pub account_messages: RateLimit,
    /// Messages for one lobby of all its members together that every member is told of: sixteen who all
    /// turn a knob.
    pub lobby_messages: RateLimit,
    /// New sessions of the whole server; those that are taken up again are not counted. Twice what a game of a
    /// million players has at its peak.
    pub new_sessions: RateLimit,
    /// Accounts that are banned at most. Who has more keeps them where tokens are issued.
    pub max_bans: usize,
    /// When a client that met a full server may try again.
    pub full_retry: Duration,
    /// Limits of matchbox's players, who are beside the connections above.
    pub rooms: RoomLimits,
}

/// Limits of [`Rooms`](crate::matchbox::Rooms).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomLimits {
    /// Players at most, all rooms together. As many as connections of the other kind, and counted apart, so
    /// that neither kind crowds out the other.
    pub max_peers: usize,
    /// Rooms at most, and groups that are complete. Each has a player, so more than players is no limit
    /// at all.
    pub max_rooms: usize,
    /// Players of one room, and the largest `next`. A full mesh of 64 is 63 links a player, beyond any
    /// home uplink; and who comes and goes costs the server a frame for each of the others.
    pub max_room_peers: usize,
    /// Bytes of a room's name: a game, its version and a UUID, or a few more words.
    pub name_max: usize,
    /// Frames of one player, whatever they are. When 63 others come at once, each is about 22 signals:
    /// 1400.
    pub signals: RateLimit,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            max_peers: 20_000,
            max_rooms: 20_000,
            max_room_peers: 64,
            name_max: 128,
            signals: RateLimit { burst: 1500, per_second: 200 },
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(5),
            keep_alives_missed: 3,
            grace: Duration::from_secs(30),
            seat_max: Duration::from_secs(3600),
            returning: Duration::from_secs(10),
            token_lifetime: Duration::from_secs(24 * 3600),
            max_connections: 20_000,
            max_sessions: 40_000,
            offline_per_address: 512,
            max_lobbies: 40_000,
            log_frames: 1024,
            log_bytes: 256 * 1024,
            log_bytes_total: 256 * 1024 * 1024,
            messages: RateLimit { burst: 60, per_second: 10 },
            signals: RateLimit { burst: 600, per_second: 100 },
            joins: RateLimit { burst: 10, per_second: 1 },
            address_guesses: RateLimit { burst: 60, per_second: 1 },
            searches: RateLimit { burst: 30, per_second: 2 },
            address_searches: RateLimit { burst: 200, per_second: 50 },
            passwords: RateLimit { burst: 30, per_second: 1 },
            chat: RateLimit { burst: 5, per_second: 1 },
            invites: RateLimit { burst: 10, per_second: 1 },
            lobby_lifetime: Duration::from_secs(24 * 3600),
            login_required: false,
            ticket_lifetime: Duration::from_secs(600),
            max_used_tickets: 1_000_000,
            sessions_per_account: 4,
            account_messages: RateLimit { burst: 120, per_second: 20 },
            lobby_messages: RateLimit { burst: 240, per_second: 60 },
            new_sessions: RateLimit { burst: 20_000, per_second: 2000 },
            max_bans: 10_000,
            full_retry: Duration::from_secs(5),
            rooms: RoomLimits::default(),
        }
    }
}

impl Config {
    /// The longest silence of a connection that counts as alive.
    pub fn silence(&self) -> Duration {
        self.keep_alive.saturating_mul(self.keep_alives_missed)
    }
}

/// Whole milliseconds as the wire carries them.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
