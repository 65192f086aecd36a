//! Shared by the example games.
