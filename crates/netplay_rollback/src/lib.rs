//! Rollback: what every player did at every tick, agreed by all; as a pure machine.
//!
//! | module | what it does |
//! |---|---|
//! | `session` | one peer's part in a match: [`Session`] |
//! | `input`, `queue`, `predict` | what is known of each player, and what is guessed |
//! | [`protocol`] | how inputs and agreements travel, and who plays: byte tables and the state table |
//! | [`recording`] | a match as a file: what was played, and whether it is played again the same |
//! | [`limits`] | every size and count that is enforced |
//!
//! A [`Session`] asks its owner to save, load and run ticks; it never touches the game's state.
//!
//! Guaranteed: peers that go on run every confirmed tick with the same inputs and the same players, over
//! any loss, reordering and doubling of blocks, any deaths and returns; nothing that another peer sends
//! panics or grows memory beyond [`limits`]. Not guaranteed: that a peer who gives *different* inputs
//! to different peers is found before the checksums differ; nor that a spectator was shown what counts, if
//! its feeder and another peer die at once.

#![forbid(unsafe_code)]

mod agreement;
mod bits;
mod block;
mod input;
pub mod limits;
mod message;
mod predict;
#[doc = include_str!("protocol.md")]
pub mod protocol {}
mod queue;
pub mod recording;
mod run;
mod session;

pub use input::{InputBytes, InputStatus, Player, Tick};
pub use predict::{History, Predictor, RepeatLast};
pub use session::{
    ConfigError, Event, Input, LocalInputError, Output, PlayerInput, Refusals, Role, Seat, Session,
    SessionConfig, Stats,
};
