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
