//! Every size and count that a session or a recording enforces, each with its reason.

/// Peers of one match: as many as a lobby has members.
pub const PEERS_MAX: usize = 16;

/// Players of one match, over all peers.
pub const PLAYERS_MAX: usize = 16;

/// Bytes of one player's input for one tick. Buttons and two sticks take 6; a mouse and a text key 20.
/// One tick of all players, if they sit at one peer, fits a datagram.
pub const INPUT_MAX: usize = 64;

/// Ticks that may run on predictions. At 60 Hz that is half a second, which nobody wants to see
/// rewound.
pub const PREDICTION_MAX: u8 = 32;

/// Ticks that an input may wait before it counts.
pub const DELAY_MAX: u8 = 60;

/// Ticks whose inputs are kept: a silent player is given up after 15 s, which is 3600 ticks at 240 Hz,
/// and whoever holds more of its inputs then has to tell the others.
pub const HISTORY: i32 = 4096;

/// So many ticks before its inputs would be forgotten, a peer that tells none counts as lost: a second
/// at 240 Hz to agree on that.
pub const SILENT_BEFORE: i32 = 256;

/// Ticks that an input may be ahead of us: the input delay, and a second at the highest rate for clocks
/// that disagree.
pub const AHEAD_MAX: i32 = 300;

/// Bytes of the inputs of an input block, unless a single tick has more: what congestion control lets
/// through at every tick.
pub const BLOCK_BUDGET: usize = 290;

/// Bytes of an input block; a datagram takes 1134.
pub const BLOCK_MAX: usize = 1100;

/// Ticks in one input block.
pub const BLOCK_TICKS_MAX: usize = 512;

/// Bytes of one session message; the reliable lane takes 64 KiB.
pub const MESSAGE_MAX: usize = 48 * 1024;

/// Bytes of the inputs of dropped players in one message; what does not fit follows in others.
pub const TAIL_MAX: usize = 24 * 1024;

/// Bytes of a snapshot: a megabyte is usual, a big world has ten.
pub const SNAPSHOT_MAX: usize = 16 * 1024 * 1024;

/// Bytes of one part of a snapshot on the bulk lane.
pub const SNAPSHOT_PART: usize = 64 * 1024;

/// Parts of a snapshot that are handed over before the first is confirmed.
pub const SNAPSHOT_PARTS_AHEAD: usize = 8;

/// Spectators and returning players that one peer serves.
pub const WATCHERS_MAX: usize = 16;

/// Ticks between two requests of one watcher: it asks again after three seconds.
pub const WATCH_EVERY: i32 = 60;

/// Ticks that a spectator may be behind: as long as inputs are kept, but for those on their way.
pub const WATCH_DELAY_MAX: u16 = (HISTORY - FEED_AHEAD) as u16;

/// Ticks of a feed that are on their way to one watcher.
pub const FEED_AHEAD: i32 = 512;

/// Checksums that wait for those of the others.
pub const CHECKSUMS_MAX: usize = 32;

/// Decisions that are kept for who missed them.
pub const DECISIONS_MAX: usize = 16;

/// Ticks that a recording can hold, from tick 0: 207 days at 60 Hz. Far from the end of the numbers, so
/// that no sum of ticks overflows.
pub const RECORDING_TICKS_END: i32 = i32::MAX / 2;

/// Ticks in one chunk of inputs, and checksums in one chunk of them: a second at the highest rate. A
/// process that dies loses no more.
pub const RECORDING_CHUNK_TICKS: usize = 240;

/// Bytes of the contents of a chunk: a snapshot and its tick.
pub const RECORDING_CHUNK_MAX: usize = SNAPSHOT_MAX + 4;

/// Bytes of the note in the header of a recording: the settings of a match, not its assets.
pub const RECORDING_NOTE_MAX: usize = 4096;

/// Bytes that a recorder holds for who writes the file, besides the chunk that is under way: a large
/// snapshot, and minutes of inputs while a disk is slow.
pub const RECORDING_BUFFER: usize = 2 * SNAPSHOT_MAX;

/// How many ballots a proposal may skip: as many as somebody may have missed.
pub const BALLOTS_AHEAD: u32 = 1024;

// However many leave at once, a message takes a tick of each.
const _: () = assert!(TAIL_MAX / PEERS_MAX >= PLAYERS_MAX * (INPUT_MAX + 2));
