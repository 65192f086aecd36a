//! Every limit of the wire, in one place, each with its reason.
//!
//! A reader refuses what exceeds these before it allocates for it. A writer refuses first, with a
//! typed error, so that a limit is never met by surprise on the other side.

/// Largest datagram on channel 1, header included: one UDP packet under DTLS, SCTP and IPv6 on any
/// path with the usual 1280-byte minimum MTU.
pub const DATAGRAM_MAX: usize = 1150;

/// Room for frames in one datagram.
pub const DATAGRAM_FRAMES_MAX: usize = DATAGRAM_MAX - crate::datagram::HEADER_LEN;

/// Largest packet on channel 2: what every browser takes in one message without trouble.
pub const STREAM_PACKET_MAX: usize = 16 * 1024;

/// Largest reliable message, encoded: 256 KiB. Larger things belong to a bulk lane.
pub const RELIABLE_MESSAGE_MAX: usize = 256 * 1024;

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

/// Bytes of a game id or build id.
pub const ID_MAX: usize = 64;

/// Lanes of one game.
pub const LANES_MAX: usize = 32;

/// Bytes of a refusal's explanation.
pub const REFUSAL_TEXT_MAX: usize = 255;

/// Members of one lobby. A full mesh of 16 is 15 links a player, what a home uplink carries.
pub const LOBBY_MEMBERS_MAX: u8 = 16;

/// Bytes of a lobby's name.
pub const LOBBY_NAME_MAX: usize = 64;

/// Lobbies in one answer to `list`.
pub const LOBBY_LIST_MAX: usize = 50;

/// Bytes of one JSON message between player and lobby server. An SDP with many candidates is
/// about 4 KiB.
pub const LOBBY_MESSAGE_MAX: usize = 16 * 1024;

/// Bytes of an SDP inside a signal; leaves room for JSON escapes in [`LOBBY_MESSAGE_MAX`].
pub const SDP_MAX: usize = 12 * 1024;

/// Bytes of one ICE candidate line.
pub const CANDIDATE_MAX: usize = 512;

/// Candidates that one side may send for one attempt. A machine with many interfaces has about 20;
/// forged floods are cut here.
pub const CANDIDATES_MAX: usize = 64;
