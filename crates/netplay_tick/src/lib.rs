//! One clock and one tick for all players of a match, as pure machines.
//!
//! | type | what it does |
//! |---|---|
//! | [`OffsetFilter`] | how far another player's clock is ahead of ours, from the packets that the game sends anyway |
//! | [`MeshClock`] | one clock that all players agree on, from all pairs of them |
//! | [`Pacer`] | follows that clock by running a little faster or slower, never backwards |
//! | [`NetTick`], [`TickRate`] | the tick is that clock divided by the tick's length |
//! | [`Timeline`] | the ticks of one match, with the pauses that all agreed on |
//! | [`StartBarrier`] | one instant at which everybody begins with tick 0 |
//! | [`SharedPause`] | a pause that begins and ends at the same tick for everybody |
//! | [`InputDelay`] | the smallest delay with which inputs are seldom late |
//!
//! Guaranteed: no clock is read and nothing random is drawn; the same inputs give the same outputs on
//! every platform (only addition, multiplication, division and comparison of `f64`). No input panics.
//! Not guaranteed, because no exchange of packets can show it: an access link of ours that is slower in
//! one direction than in the other shifts our clock against everybody by half of the difference.

#![forbid(unsafe_code)]

mod barrier;
mod delay;
mod mesh;
mod offset;
mod pacer;
mod pause;
mod tick;
mod timeline;

pub use barrier::{BarrierEvent, StartBarrier, StartError};
pub use delay::{DelayChange, InputDelay, InputDelayConfig};
pub use mesh::{MeshClock, MeshStatus, OutOfSync, PairStatus, founder};
pub use netplay_protocol::MeshTime;
pub use netplay_protocol::control::{Pause, PauseMessage, StartMessage};
pub use offset::{Exchange, OffsetFilter, PathEstimate};
pub use pacer::{Advance, Pacer, PacingProfile};
pub use pause::{PauseEvent, SharedPause};
pub use tick::{NetTick, TickRate};
pub use timeline::Timeline;
