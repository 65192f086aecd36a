//! The lobby server: introduces players to each other.
