//! Guides: what to choose, what it costs, and how to move over.

#[doc = include_str!("guide/which_lane.md")]
pub mod which_lane {}

#[doc = include_str!("guide/rollback.md")]
pub mod rollback {}

#[doc = include_str!("guide/from_bevy_ggrs.md")]
pub mod from_bevy_ggrs {}
