//! Several sessions on a simulated network and one clock, with an oracle that sees all of them.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]
#![allow(dead_code, reason = "each binary of tests uses a part of it")]

pub mod forge;
pub mod game;
pub mod malice;
pub mod node;
pub mod plan;
pub mod single;
pub mod world;
