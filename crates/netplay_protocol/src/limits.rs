//! Every limit of the wire, in one place, each with its reason.
//!
//! A reader refuses what exceeds these before it allocates for it. A writer refuses first, with a
//! typed error, so that a limit is never met by surprise on the other side.

/// Largest datagram on channel 1, header included: one UDP packet under DTLS, SCTP and IPv6 on any
/// path with the usual 1280-byte minimum MTU.
pub const DATAGRAM_MAX: usize = 1150;

/// Room for blocks in one datagram.
pub const DATAGRAM_BLOCKS_MAX: usize = DATAGRAM_MAX - crate::datagram::HEADER_LEN;

/// Bytes of the inputs of a rollback session in one datagram: with the header and a clock note they
/// still fit.
pub const INPUTS_MAX: usize = 1100;

/// Bytes of a fragment; every fragment but the last of its message has this many. A datagram holds
/// one besides smaller things.
pub const FRAGMENT_LEN: usize = 1024;

/// Fragments of one message: a bit each in a 64-bit word.
pub const FRAGMENTS_MAX: usize = 64;

/// Largest packet on channel 2: what every browser takes in one message without trouble.
pub const STREAM_PACKET_MAX: usize = 16 * 1024;

/// Largest message of an unreliable or sequenced lane, encoded: 16 fragments. At 5 % loss 16
/// datagrams arrive together in 44 of 100 cases; larger ones would hardly ever.
pub const UNRELIABLE_MESSAGE_MAX: usize = 16 * FRAGMENT_LEN - crate::frame::BODY_OVERHEAD_MAX;

/// Largest message of a reliable lane, encoded. Larger things belong to a bulk lane.
pub const RELIABLE_MESSAGE_MAX: usize =
    FRAGMENTS_MAX * FRAGMENT_LEN - crate::frame::BODY_OVERHEAD_MAX;

/// Largest message of a bulk lane, encoded: half the window, so that one may be on its way while
/// another is read.
pub const BULK_MESSAGE_MAX: usize = 256 * 1024;

/// Messages of one reliable lane that may be on their way: a receiver keeps no more that came too
/// early. A burst of a thousand needs no further round trip.
pub const RELIABLE_WINDOW_MESSAGES: u16 = 1024;

/// How many bytes of reliable messages in datagrams may be on their way or unread by the other game,
/// all lanes together. It bounds the memory of a receiver that never reads.
pub const RELIABLE_WINDOW: u64 = 256 * 1024;

/// What each reliable message counts against [`RELIABLE_WINDOW`] beyond its bytes.
pub const RELIABLE_MESSAGE_COST: u64 = 64;

/// Keys of one sequenced lane that a receiver remembers the newest number of.
pub const SEQUENCED_KEYS_MAX: usize = 1024;

/// Messages of one unreliable or sequenced lane of which fragments wait for the rest.
pub const PARTIALS_MAX: usize = 4;

/// How many bytes of channel 2 may be on their way or unread by the other game. It bounds the
/// memory of a receiver that never reads; a peer that exceeds it is dropped.
pub const STREAM_WINDOW: u64 = 512 * 1024;

/// What each packet of channel 2 counts against [`STREAM_WINDOW`] beyond its bytes, so that a flood
/// of tiny packets is bounded too: at most 1020 packets wait for a game that does not read.
pub const STREAM_PACKET_COST: u64 = 512;

/// Largest message on channel 0. A full schema is the largest that a well-behaved peer sends.
pub const CONTROL_MAX: usize = 48 * 1024;

/// Registered message types of one game. Two bytes on the wire at most.
pub const SCHEMA_ENTRIES_MAX: usize = 512;

/// Bytes of a message type's name.
pub const TYPE_NAME_MAX: usize = 200;

/// Bytes of an account's name. OpenID Connect allows 255; those in use have 10 to 60.
pub const ACCOUNT_MAX: usize = 128;

/// Bytes of a login: a JWT with a few claims and the largest usual signature (RSA 4096: 0.7 KiB).
pub const LOGIN_MAX: usize = 4096;

/// Bytes of a game id or build id.
pub const ID_MAX: usize = 64;

/// Lanes of one game: four bits on the wire.
pub const LANES_MAX: usize = 16;

/// Bytes of a refusal's explanation.
pub const REFUSAL_TEXT_MAX: usize = 255;

/// Members of one lobby. A full mesh of 16 is 15 links a player, what a home uplink carries.
pub const LOBBY_MEMBERS_MAX: u8 = 16;

/// Bytes of a lobby's name.
pub const LOBBY_NAME_MAX: usize = 64;

/// Lobbies in one answer to `search`.
pub const LOBBY_LIST_MAX: usize = 50;

/// Members of one lobby who only watch. Each is a link of a player.
pub const LOBBY_SPECTATORS_MAX: u8 = 16;

/// Bytes of a lobby's password.
pub const PASSWORD_MAX: usize = 64;

/// Values of a lobby, and their bytes together: a map, a mode, a region, a few rules.
pub const DATA_KEYS_MAX: usize = 24;
/// See [`DATA_KEYS_MAX`].
pub const DATA_BYTES_MAX: usize = 2048;

/// Values of a member, and their bytes together: a name, a colour, a character.
pub const MEMBER_DATA_KEYS_MAX: usize = 8;
/// See [`MEMBER_DATA_KEYS_MAX`].
pub const MEMBER_DATA_BYTES_MAX: usize = 512;

/// Bytes of one text among these values.
pub const DATA_TEXT_MAX: usize = 256;

/// How far a number among them may be from zero: what JavaScript reads exactly.
pub const DATA_NUMBER_MAX: i64 = (1 << 53) - 1;

/// Things that must hold in one search, and orders of its results.
pub const FILTERS_MAX: usize = 8;
/// See [`FILTERS_MAX`].
pub const SORTS_MAX: usize = 3;

/// How many results of a search may be left out: twenty pages. Who looks further has to ask for less.
pub const SEARCH_SKIP_MAX: u16 = 1000;

/// Bytes of one line of chat.
pub const CHAT_MAX: usize = 500;

/// Teams of a lobby, numbered from 0.
pub const TEAMS_MAX: u8 = 16;

/// The longest ready check, in seconds, and the longest countdown: nobody looks at one for longer.
pub const READY_CHECK_MAX: u16 = 120;
/// In milliseconds. See [`READY_CHECK_MAX`].
pub const COUNTDOWN_MAX: u32 = 60_000;

/// How long a seat may be reserved, and an invitation be good, in seconds.
pub const RESERVATION_MAX: u16 = 3600;

/// Bytes of one JSON message of the server. A lobby with 32 members whose values are as large as they may
/// be has 46 KiB.
pub const LOBBY_FRAME_MAX: usize = 64 * 1024;

/// Bytes of one JSON message of a player, and of the signals that are passed on. An SDP with many candidates is
/// about 4 KiB.
pub const LOBBY_MESSAGE_MAX: usize = 16 * 1024;

/// Bytes of an SDP inside a signal; leaves room for JSON escapes in [`LOBBY_MESSAGE_MAX`].
pub const SDP_MAX: usize = 12 * 1024;

/// Bytes of one ICE candidate line.
pub const CANDIDATE_MAX: usize = 512;

/// Candidates that one side may send for one attempt. A machine with many interfaces has about 20;
/// forged floods are cut here.
pub const CANDIDATES_MAX: usize = 64;
