//! What the example games share: their flags, the other players as child processes, and the summary
//! at the end. A game adds [`PlayPlugin`] and looks at [`Phase`]; the rest is its own.

mod args;
mod children;
mod play;
mod report;

pub use args::{Mode, PlayArgs};
pub use children::Launcher;
pub use play::{Agreed, Phase, PlayPlugin, playing};
pub use report::{LinkReport, Report, Summary};

/// The example of the README, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
