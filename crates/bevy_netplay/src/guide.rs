//! Guides: what to choose, and what it costs.

#[doc = include_str!("guide/which_lane.md")]
pub mod which_lane {}
