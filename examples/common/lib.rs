//! What the example games share: their flags, their windows, the other players as child processes, and
//! the summary at the end. A game is an [`Example`] and looks at [`Phase`]; the rest is its own.

mod args;
pub mod canvas;
mod children;
mod colors;
mod example;
mod menu;
mod play;
mod report;
mod tiling;

pub use args::{Mode, PlayArgs};
pub use colors::PALETTE;
pub use example::Example;
pub use play::{Agreed, Phase, playing};
pub use report::{Findings, LinkReport, Report, Summary};

/// The example of the README, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
